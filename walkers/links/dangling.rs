//! Variables of modules that point to slab objects that are free, to areas of vmalloc memory that were given back, and to
//! stacks that no task has any more; and the kernel's own heads of lists whose only entry lies there.
//!
//! A variable of a function's own (`data.27`) is left out: what it held when the function ended nobody will use, as in
//! `fw_cfg_write_vmcoreinfo()`, which frees what its `static` pointer points to.

use super::{Finding, Kind, World, is_pointer, kernel_data, module_data};
use crate::{module, page::word};
use engine::prelude::*;
use std::ops::Range;

/// Words of one module that are looked at: 64 MiB.
const MAX_WORDS: u64 = 1 << 23;

/// The variables that outlive what they point to.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    // what the kernel itself keeps of a module has the addresses of its init part, which is given back
    let own = own(world.session)?;
    for (module, range) in module_data(world.session)? {
        let len = (range.end - range.start).min(MAX_WORDS * 8);
        let Some(memory) = world.memory(range.start, len)? else { continue };
        for (at, bytes) in (range.start..).step_by(8).zip(memory.chunks_exact(8)) {
            let value = bytes.try_into().map_or(0, u64::from_le_bytes);
            if !is_pointer(value) {
                continue;
            }
            let freed = world.freed(value)?;
            let next = memory.get((at - range.start) as usize + 8..).map_or(0, |rest| word(rest, 0));
            let what = match (freed, world.left(value)) {
                (Some(_), _) => "which was freed",
                (None, Some(0)) => "on the stack of a task that has ended",
                (None, Some(_)) => "on a stack, in a part that is not in use: its function returned",
                (None, None) => match world.deserted.what(world, at, value, next == value)? {
                    Some(_) if own.iter().any(|own| own.contains(&at)) => continue,
                    Some(what) => what,
                    None => continue,
                },
            };
            if !is_local(world.session, at) {
                let verdict = format!("a variable of {module} points to {value:x}, {what}");
                out.push(Finding { kind: Kind::Dangling, at, verdict, freed });
            }
        }
    }
    for range in kernel_data(world.session) {
        heads(world, range, &mut out)?;
    }
    Ok(out)
}

/// Heads of wait queues among the kernel's variables whose only entry is none any more: a lock that nobody has in front,
/// and two pointers to one place.
fn heads(world: &World<'_>, range: Range<u64>, out: &mut Vec<Finding>) -> Result<()> {
    let Some(memory) = world.memory(range.start, (range.end - range.start).min(MAX_WORDS * 8))? else { return Ok(()) };
    for (at, words) in (range.start.saturating_add(8)..).step_by(8).zip(memory.windows(24).step_by(8)) {
        let [lock, next, prev] = [0, 8, 16].map(|from| word(words, from));
        if lock != 0 || next != prev || next == at || !is_pointer(next) || world.left(next).is_some() {
            continue;
        }
        if let Some(what) = world.deserted.what(world, at, next, true)?.filter(|_| !is_local(world.session, at)) {
            let verdict = format!("a variable of the kernel's points to {next:x}, {what}");
            out.push(Finding { kind: Kind::Dangling, at, verdict, freed: None });
        }
    }
    Ok(())
}

/// The `struct module`s.
fn own(session: &Session) -> Result<Vec<Range<u64>>> {
    let (size, mut found) = (session.size_of("module").unwrap_or(0), Vec::new());
    if session.kernel_symbol("modules").is_some() {
        module::each(session, &mut |at| {
            found.push(at..at.saturating_add(size));
            Ok(())
        })?;
    }
    Ok(found)
}

/// Whether the variable at an address is a function's own: the compiler puts a number behind its name.
fn is_local(session: &Session, at: u64) -> bool {
    let name = session.symbols.by_addr(session, at).map(|symbol| symbol.name.to_string());
    let number = name.as_deref().and_then(|name| name.rsplit_once('.'));
    number.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
