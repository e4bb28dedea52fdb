//! Static keys: switches that are jumps in the code (`struct static_key`, include/linux/jump_label.h).
//!
//! The linker makes a table of `struct jump_entry`, one for each place, that lead to the place and to the key by their
//! distance (CONFIG_HAVE_ARCH_JUMP_LABEL_RELATIVE) or by address. The two lowest bits of what leads to the key tell of the
//! place.
//!
//! ```console
//! > ::walk static_key | ::print struct static_key enabled.counter ! head -n 1
//! enabled.counter = 0
//! ```

use engine::{Type, prelude::*};
use std::collections::BTreeMap;

/// More places than any kernel has.
const MAX: u64 = 1 << 20;

/// A key, and the places in the code that it switches.
#[derive(Clone, Debug)]
pub struct Key {
    /// its address
    pub addr: u64,
    /// how often it is switched on; negative while that changes
    pub enabled: Result<i32, String>,
    /// the places
    pub sites: u64,
}

/// The keys of the kernel proper, by address.
pub fn keys(session: &Session) -> Result<Vec<Key>> {
    let ends = session.kernel_symbol("__start___jump_table").zip(session.kernel_symbol("__stop___jump_table"));
    let (start, end) = ends.ok_or_else(|| Error::Unavailable("no symbol `__start___jump_table`".into()))?;
    let size = session.size_of("jump_entry")?.max(1);
    let key = session.place("jump_entry", "key").ok_or_else(|| Error::NoType("struct jump_entry".into()))?;
    // places by distance: the first member is then a signed number of 32 bits
    let code = session.place("jump_entry", "code").and_then(|f| session.shape(f.ctype));
    let relative = matches!(code.as_deref(), Some(Type::Int { signed: true, size: 4, .. }));
    let mut sites: BTreeMap<u64, u64> = BTreeMap::new();
    for i in 0..(end.saturating_sub(start) / size).min(MAX) {
        let at = start.wrapping_add(i * size).wrapping_add(key.bit_offset / 8);
        let held = match session.u64(at) {
            Ok(held) => held,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(at, format!("table of static keys: {}", e.kind()));
                continue;
            }
        };
        let addr = if relative { at.wrapping_add(held & !3) } else { held & !3 };
        *sites.entry(addr).or_default() += 1;
    }
    let enabled = |addr: u64| session.u32(addr).map(|n| n as i32).map_err(|e| e.kind());
    Ok(sites.into_iter().map(|(addr, sites)| Key { addr, enabled: enabled(addr), sites }).collect())
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "static_key",
    doc: "walk the static keys of the kernel, by address",
    item: "struct static_key",
    address: Address::None,
    walk: |cx, _, visit| keys(cx)?.into_iter().try_for_each(|key| visit(key.addr)),
}];
