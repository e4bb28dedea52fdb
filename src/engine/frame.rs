//! A place in code as a person reads it: `vfs_write+0xf8`, and where debug information is at hand, its file and line and
//! the functions that the compiler put there.
//!
//! ```console
//! vfs_write+0xf8 (fs/read_write.c:684)
//! ```

use crate::session::Session;
use debuginfo::dwarf::Frame;

/// The lines of one frame of a call stack: the functions inlined at the place first, the function itself last.
///
/// `returned` says that `pc` is a return address: the call that it belongs to is the instruction before.
pub fn frame(session: &Session, pc: u64, returned: bool) -> Vec<String> {
    let here = session.sym(pc);
    let at = if returned { pc.wrapping_sub(1) } else { pc };
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
