//! Call chains out of rows: whatever has a column of frames, `stack` or `ustack`, and perhaps one that counts. Of a task,
//! its stack in the kernel.

use engine::{Row, prelude::*};
use walkers::{task::Task, unwind};

/// A frame of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// the function; of a place in no function, the file in brackets
    pub function: String,
    /// the program, library or module; empty for the kernel itself
    pub object: String,
    /// how far in the function; `None` if that is not known, as of one that was inlined
    pub offset: Option<u64>,
    /// whether it is the kernel's
    pub kernel: bool,
}

/// A call chain, as often as it was seen.
#[derive(Clone, Debug)]
pub struct Chain {
    /// the thread's name, if the row has it
    pub comm: Option<String>,
    /// outermost first
    pub frames: Vec<Frame>,
    /// how often
    pub count: u64,
}

impl Chain {
    /// The chain of an item; an error if it has no stack.
    pub fn of(cx: &Cx<'_>, item: &Item, name: &str) -> Result<Chain> {
        let found = match item {
            Item::Row(row) => Chain::of_row(row),
            _ => None,
        };
        match found {
            Some(chain) => Ok(chain),
            None => Chain::of_task(cx, item)?.ok_or_else(|| Chain::none(name)),
        }
    }

    /// The stack in the kernel of what is a task.
    fn of_task(cx: &Cx<'_>, item: &Item) -> Result<Option<Chain>> {
        let Some(object) = item.object().filter(|o| o.ctype.is_some() && o.ctype == cx.struct_type("task_struct"))
        else {
            return Ok(None);
        };
        let comm = Some(cx.view::<Task>(object.addr)?.name(cx));
        let lines = match unwind::of_task(cx, object.addr) {
            Ok(trace) => crate::stack::lines(cx, &trace),
            Err(e) if e.is_unreadable() => {
                cx.notes.add(object.addr, format!("a thread: {}", e.kind()));
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        let frames = lines.iter().rev().map(|line| Frame::parse(line, true)).collect();
        Ok(Some(Chain { comm, frames, count: 1 }))
    }

    fn of_row(row: &Row) -> Option<Chain> {
        let named = |name: &str| cell(row, name);
        let user = named("ustack").map(|cell| frames(cell, false));
        let kernel = named("stack").or(named("kstack")).map(|cell| frames(cell, true));
        if user.is_none() && kernel.is_none() {
            return None;
        }
        let mut all = user.unwrap_or_default();
        all.extend(kernel.unwrap_or_default());
        let count = match named("count") {
            Some(Cell::Uint(count)) => *count,
            Some(Cell::Int(count)) => u64::try_from(*count).unwrap_or(0),
            _ => 1,
        };
        let comm = match named("comm").or(named("name")) {
            Some(Cell::Str(comm)) => Some(comm.clone()),
            _ => None,
        };
        Some(Chain { comm, frames: all, count })
    }

    /// An error for a pipe that brings no stacks.
    fn none(name: &str) -> Error {
        Error::Usage(format!("::{name} takes rows with a stack, or tasks"))
            .hint(format!("`::probe cpu:997hz -d 5s | ::{name}`, or `::walk task | ::{name}`"))
    }
}

fn cell<'r>(row: &'r Row, name: &str) -> Option<&'r Cell> {
    let at = row.schema.columns.iter().position(|column| column.name == name)?;
    row.cells.get(at)
}

/// The frames of a list, turned round.
fn frames(cell: &Cell, kernel: bool) -> Vec<Frame> {
    let Cell::List(cells) = cell else { return Vec::new() };
    let text = |cell: &Cell| match cell {
        Cell::Str(text) => Some(Frame::parse(text, kernel)),
        _ => None,
    };
    cells.iter().rev().filter_map(text).collect()
}

impl Frame {
    /// From ``libc.so.6`malloc+0x1c``, `vfs_write+0xf8 (fs/read_write.c:684)`, ``a.out`f [inlined]``.
    fn parse(text: &str, kernel: bool) -> Frame {
        // a source line behind it is for people
        let text = text
            .rsplit_once(" (")
            .filter(|(_, line)| line.ends_with(')') && line.contains(':'))
            .map_or(text, |(t, _)| t);
        let (text, inlined) = text.strip_suffix(" [inlined]").map_or((text, false), |text| (text, true));
        let (object, place) = match text.split_once('`') {
            Some((object, place)) if !object.contains([' ', '(', ':']) => (object, place),
            _ => ("", text),
        };
        let offset = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let split = place.rsplit_once('+').and_then(|(function, text)| Some((function, offset(text)?)));
        let (function, offset) = match split {
            Some((function, offset)) => (function.to_owned(), Some(offset)),
            None if place.starts_with("0x") && object.is_empty() => ("[unknown]".to_owned(), None),
            None if place.starts_with("0x") => (format!("[{object}]"), None),
            None => (place.to_owned(), (!inlined).then_some(0)),
        };
        Frame { function, object: object.to_owned(), offset, kernel }
    }

    /// As flame graphs have it: the function, with a mark on those of the kernel.
    pub fn label(&self) -> String {
        if self.kernel { format!("{}_[k]", self.function) } else { self.function.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    #[test]
    fn frames_are_read() {
        let parse = |text| {
            let frame = Frame::parse(text, false);
            (frame.object, frame.function, frame.offset)
        };
        let is = |object: &str, function: &str, offset| (object.to_owned(), function.to_owned(), offset);
        assert_eq!(parse("libc.so.6`malloc+0x1c"), is("libc.so.6", "malloc", Some(0x1c)));
        assert_eq!(parse("libc.so.6`0x1234"), is("libc.so.6", "[libc.so.6]", None));
        assert_eq!(parse("0x7f0012"), is("", "[unknown]", None));
        assert_eq!(parse("vfs_write+0xf8 (fs/read_write.c:684)"), is("", "vfs_write", Some(0xf8)));
        assert_eq!(parse("labmod`lab_open.isra.0+9"), is("labmod", "lab_open.isra.0", Some(9)));
        assert_eq!(parse("a.out`add [inlined]"), is("a.out", "add", None));
        assert_eq!(parse("JS:*hot /t/hot.js:2:22"), is("", "JS:*hot /t/hot.js:2:22", Some(0)));
        assert_eq!(parse("a`std::vector<int>::operator+0x4"), is("a", "std::vector<int>::operator", Some(4)));
    }
}
