//! From the bytes that a program laid out to cells.

use super::{compile::Looks, users::Users};
use engine::prelude::*;
use probes::expr::Value;
use std::cell::RefCell;

/// How one value of an event or a key is laid out and shown.
#[derive(Clone, Debug)]
pub struct Part {
    /// how it looks
    pub looks: Looks,
    /// bytes it takes
    pub room: usize,
    /// bytes of it that can be told; a text that fills them was cut
    pub max: usize,
}

impl Part {
    /// The parts of these values.
    pub fn of(values: &[Value], looks: &[Looks]) -> Vec<Part> {
        let part = |(value, looks): (&Value, &Looks)| Part {
            looks: *looks,
            room: value.room(),
            max: if let Value::Text(_, max) = value { usize::from(*max) } else { value.room() },
        };
        values.iter().zip(looks).map(part).collect()
    }
}

/// Turns values into cells; remembers what it learns of processes.
pub struct Shower<'a> {
    cx: &'a Cx<'a>,
    users: RefCell<Users>,
}

impl<'a> Shower<'a> {
    /// One for a run.
    pub fn new(cx: &'a Cx<'a>) -> Shower<'a> {
        Shower { cx, users: RefCell::default() }
    }

    /// The cells of values, in order. `unreadable` has a bit for each that could not be read; `pid` is whose addresses
    /// those of a user stack are.
    pub fn cells(&self, parts: &[Part], bytes: &[u8], unreadable: u64, pid: u32) -> Vec<Cell> {
        let mut rest = bytes;
        let mut cells = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let (value, behind) = rest.split_at_checked(part.room).unwrap_or((rest, &[]));
            rest = behind;
            cells.push(match unreadable >> i & 1 {
                1 if i < 64 => Cell::Unreadable("not readable at the hit".into()),
                _ => self.cell(part, value, pid),
            });
        }
        cells
    }

    fn cell(&self, part: &Part, bytes: &[u8], pid: u32) -> Cell {
        let word = bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        match part.looks {
            Looks::Number => Cell::Uint(word),
            Looks::Signed => Cell::Int(word as i64),
            Looks::Pointer(_) => Cell::Addr(word),
            Looks::Text => text(bytes, part.max),
            Looks::KernelStack => {
                let frame = |pc: u64| Cell::Str(engine::frame::name(self.cx, pc, true));
                Cell::List(addresses(bytes).map(frame).collect())
            }
            Looks::UserStack => {
                let mut users = self.users.borrow_mut();
                Cell::List(addresses(bytes).map(|pc| Cell::Str(users.name(pid, pc))).collect())
            }
        }
    }

    /// Looks at a process while it is still there.
    pub fn meet(&self, pid: u32) {
        self.users.borrow_mut().meet(pid);
    }
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).take_while(|pc| *pc != 0)
}

/// A text up to its NUL; one that was cut says so.
fn text(bytes: &[u8], max: usize) -> Cell {
    let bytes = bytes.get(..max).unwrap_or(bytes);
    let end = bytes.iter().position(|b| *b == 0);
    let text = String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default()).into_owned();
    // the helper puts a NUL at the end of what it cut
    Cell::Str(if end == Some(max.saturating_sub(1)) && max > 16 { text + "…" } else { text })
}
