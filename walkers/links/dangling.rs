//! Variables of modules that point to slab objects that are free.
//!
//! A variable of a function's own (`data.27`) is left out: what it held when the function ended nobody will use, as in
//! `fw_cfg_write_vmcoreinfo()`, which frees what its `static` pointer points to.

use super::{Finding, Kind, World, is_pointer, module_data};
use engine::prelude::*;

/// Words of one module that are looked at: 64 MiB.
const MAX_WORDS: u64 = 1 << 23;

/// The variables that outlive what they point to.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    for (module, range) in module_data(world.session)? {
        let len = (range.end - range.start).min(MAX_WORDS * 8);
        let Some(memory) = world.memory(range.start, len)? else { continue };
        for (at, bytes) in (range.start..).step_by(8).zip(memory.chunks_exact(8)) {
            let word = bytes.try_into().map_or(0, u64::from_le_bytes);
            if !is_pointer(word) {
                continue;
            }
            if let Some(freed) = world.freed(word)?
                && !is_local(world.session, at)
            {
                let verdict = format!("a variable of {module} points to {word:x}, which was freed");
                out.push(Finding { kind: Kind::Dangling, at, verdict, freed: Some(freed) });
            }
        }
    }
    Ok(out)
}

/// Whether the variable at an address is a function's own: the compiler puts a number behind its name.
fn is_local(session: &Session, at: u64) -> bool {
    let name = session.symbols.by_addr(session, at).map(|symbol| symbol.name.to_string());
    let number = name.as_deref().and_then(|name| name.rsplit_once('.'));
    number.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
