//! Where BUG() and WARN() stand in the source: the kernel's own table of them (lib/bug.c), which is in memory.
//!
//! ```console
//! > ::panicinfo | ::where what == "source"
//! WHAT   VALUE
//! source lib/list_debug.c:59
//! ```

use crate::module;
use engine::{ViewEntry, prelude::*};

/// `struct bug_entry` (include/asm-generic/bug.h); its pointers are relative to themselves.
#[derive(View)]
#[ctype("bug_entry")]
struct Entry {
    #[field("bug_addr_disp")]
    addr: Option<i32>,
    #[field("file_disp")]
    file: Option<i32>,
    line: Option<u32>,
}

/// `struct module`.
#[derive(View)]
#[ctype("module")]
struct Owner {
    num_bugs: Option<u32>,
    bug_table: Option<u64>,
}

/// More entries than any table has; a module's number may be damaged.
const MAX_ENTRIES: u64 = 1 << 20;

/// A BUG() or WARN().
#[derive(Clone, Debug)]
pub struct Bug {
    /// file and line, if the kernel keeps them (CONFIG_DEBUG_BUGVERBOSE)
    pub source: Option<(String, u32)>,
}

/// The BUG() or WARN() whose trap is at an address; none: another trap.
pub fn find(session: &Session, addr: u64) -> Result<Option<Bug>> {
    let size = session.size_of("bug_entry")?;
    let mut tables = Vec::new();
    if let (Some(start), Some(stop)) =
        (session.kernel_symbol("__start___bug_table"), session.kernel_symbol("__stop___bug_table"))
    {
        tables.push((start, stop.saturating_sub(start).checked_div(size).unwrap_or(0)));
    }
    module::each(session, &mut |module| {
        let owner: Owner = session.view(module)?;
        if let (Some(count), Some(table)) = (owner.num_bugs, owner.bug_table) {
            tables.push((table, count.into()));
        }
        Ok(())
    })?;
    for (table, count) in tables {
        if let Some(found) = look_up(session, table, count.min(MAX_ENTRIES), size, addr)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn look_up(session: &Session, table: u64, count: u64, size: u64, addr: u64) -> Result<Option<Bug>> {
    // the trap's place is the first member: looked for in the bytes
    let bytes = session.bytes(table, count.saturating_mul(size) as usize)?;
    for (i, entry) in bytes.chunks_exact(size.max(4) as usize).enumerate() {
        let at = table.wrapping_add(i as u64 * size);
        let first = entry.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes);
        if at.wrapping_add_signed(first.into()) != addr {
            continue;
        }
        let entry: Entry = session.view(at)?;
        let (Some(_), Some(file), Some(line)) = (entry.addr, entry.file, entry.line) else {
            return Ok(Some(Bug { source: None }));
        };
        let name = at.wrapping_add(session.offset("bug_entry", "file_disp")?).wrapping_add_signed(file.into());
        return Ok(Some(Bug { source: Some((session.cstr(name, 256)?, line)) }));
    }
    Ok(None)
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Entry>(), ViewEntry::of::<Owner>()];
