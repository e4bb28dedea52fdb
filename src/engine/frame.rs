//! A place in code as a person reads it: `vfs_write+0xf8`, and where debug information is at hand, its file and line and
//! the functions that the compiler put there.
//!
//! ```console
//! vfs_write+0xf8 (fs/read_write.c:684)
//! ```

use crate::{session::Session, symbols::spell};
use debuginfo::dwarf::Frame;

/// The lines of one frame of a call stack: the functions inlined at the place first, the function itself last.
///
/// `returned` says that `pc` is a return address: the call that it belongs to is the instruction before.
pub fn frame(session: &Session, pc: u64, returned: bool) -> Vec<String> {
    let at = if returned { pc.wrapping_sub(1) } else { pc };
    with_inlined(session, session.sym(pc), at)
}

/// The same in a stack that was unwound. A call that does not return may be a function's last instruction, and the
/// address behind it another's first: the name is that of the function with the call, as with the kernel's `%pB`.
pub fn call(session: &Session, pc: u64, returned: bool) -> Vec<String> {
    let at = if returned { pc.wrapping_sub(1) } else { pc };
    with_inlined(session, name(session, pc, returned), at)
}

/// `vfs_write+0xf8`, of a frame whose `pc` is a return address if `returned`.
pub fn name(session: &Session, pc: u64, returned: bool) -> String {
    let Some(before) = pc.checked_sub(1).filter(|_| returned) else { return session.sym(pc) };
    let at = |addr| session.symbols.by_addr(session, addr);
    match at(before) {
        Some(caller) if at(pc).is_none_or(|here| here.addr != caller.addr) => spell(&caller, pc),
        _ => session.sym(pc),
    }
}

/// Where the code at an address comes from: the functions inlined there, the innermost first, and the source line.
/// Empty without debug information.
pub fn source(session: &Session, at: u64) -> Vec<String> {
    let found = session.dwarf_at(at).and_then(|dwarf| dwarf.frames(at).ok()).unwrap_or_default();
    let shown = |f: &Frame| match f.inlined {
        true => format!("{} [inlined]{}", f.function.as_deref().unwrap_or("?"), place(f)),
        false => place(f).trim_start().trim_matches(['(', ')']).to_owned(),
    };
    found.iter().map(shown).filter(|line| !line.is_empty()).collect()
}

fn with_inlined(session: &Session, here: String, at: u64) -> Vec<String> {
    let found = session.dwarf_at(at).and_then(|dwarf| dwarf.frames(at).ok()).unwrap_or_default();
    let Some((outer, inlined)) = found.split_last() else { return vec![here] };
    let mut lines: Vec<String> =
        inlined.iter().map(|f| format!("{} [inlined]{}", f.function.as_deref().unwrap_or("?"), place(f))).collect();
    lines.push(format!("{here}{}", place(outer)));
    lines
}

/// ` (fs/read_write.c:684)`
fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        _ => String::new(),
    }
}
