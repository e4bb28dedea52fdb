//! From the bytes that a program laid out to cells.

use super::{
    compile::Looks,
    plan::FRAMES,
    users::{Seen, Users, When},
};
use engine::{Type, cprint::enums, debuginfo::EnumValue, prelude::*};
use probes::{
    expr::Value,
    recording::{Hit, STACK_COPY, UserState},
    tasks::Change,
};
use std::cell::RefCell;

/// How one value of an event or a key is laid out and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Whose values are shown, and what came with them.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// the process, and when
    pub when: When,
    /// a bit for each value that could not be read
    pub unreadable: u64,
    /// its registers and its stack
    pub user: Option<&'a UserState>,
    /// its frames, if they are known already
    pub frames: Option<&'a [u64]>,
}

impl<'a> Who<'a> {
    /// That of a hit.
    pub fn of(hit: &'a Hit) -> Who<'a> {
        let when = When { pid: hit.pid, time: hit.time };
        Who { when, unreadable: hit.unreadable, user: hit.user.as_ref(), frames: None }
    }

    /// A process of which no more is known.
    pub fn process(pid: u32) -> Who<'a> {
        Who { when: When { pid, time: u64::MAX }, unreadable: 0, user: None, frames: None }
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
        let seen = cx.once(|| Ok(Seen::default())).unwrap_or_default();
        Shower { cx, users: RefCell::new(Users::new(seen)) }
    }

    /// The cells of values, in order.
    pub fn cells(&self, parts: &[Part], bytes: &[u8], who: Who<'_>) -> Vec<Cell> {
        let mut rest = bytes;
        let mut cells = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let (value, behind) = rest.split_at_checked(part.room).unwrap_or((rest, &[]));
            rest = behind;
            cells.push(match who.unreadable >> i.min(63) & 1 {
                // nobody was in the kernel
                1 if part.looks == Looks::KernelStack => Cell::List(Vec::new()),
                1 if i < 64 => Cell::Unreadable("not readable at the hit".into()),
                _ => self.cell(part, value, who),
            });
        }
        cells
    }

    /// The addresses of a stack's frames. One that fills its room may be deeper.
    fn addresses(&self, bytes: &[u8]) -> impl Iterator<Item = u64> {
        let words = bytes.as_chunks::<8>().0;
        if words.len() == usize::from(FRAMES) && words.last().is_some_and(|pc| *pc != [0; 8]) {
            self.cx.notes.once(0, format!("stacks are shown up to {FRAMES} frames, and some are that deep"));
        }
        words.iter().map(|word| u64::from_ne_bytes(*word)).take_while(|pc| *pc != 0)
    }

    fn cell(&self, part: &Part, bytes: &[u8], who: Who<'_>) -> Cell {
        let word = bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        match part.looks {
            Looks::Number => Cell::Uint(word),
            Looks::Signed => Cell::Int(word as i64),
            Looks::Pointer(_) => Cell::Addr(word),
            Looks::Enum(ctype) => match self.cx.shape(ctype).as_deref() {
                Some(Type::Enum { values, signed, .. }) => enumerator(values, word, *signed),
                _ => Cell::Uint(word),
            },
            Looks::Fraction(4) => Cell::Str(f32::from_bits(word as u32).to_string()),
            Looks::Fraction(_) => Cell::Str(f64::from_bits(word).to_string()),
            Looks::Address => Cell::Addr(word),
            Looks::Symbol => Cell::Str(engine::frame::name(self.cx, word, false)),
            // as a number of the kernel's (include/linux/kdev_t.h): MINORBITS is 20
            Looks::Device => Cell::Str(format!("{}:{}", word >> 20, word & 0xf_ffff)),
            Looks::Network => Cell::Str(std::net::Ipv4Addr::from((word as u32).to_ne_bytes()).to_string()),
            Looks::Text => text(bytes, part.max),
            Looks::Path => Cell::Str(super::path::shown(bytes)),
            Looks::KernelCode => Cell::Str(engine::frame::name(self.cx, word, true)),
            Looks::UserCode => {
                let names = self.users.borrow_mut().names(who.when, word, true);
                Cell::Str(names.last().cloned().unwrap_or_else(|| format!("{word:#x}")))
            }
            Looks::Syscall => Cell::Str(super::syscalls::name(self.cx, word)),
            Looks::KernelStack => {
                let frame = |(i, pc)| engine::frame::name(self.cx, pc, i > 0);
                let frames: Vec<_> = self.addresses(bytes).enumerate().map(frame).collect();
                let ours = own_frames(frames.iter().map(String::as_str));
                Cell::List(frames.into_iter().skip(ours).map(Cell::Str).collect())
            }
            Looks::UserStack => {
                let frames = match (who.frames, who.user) {
                    (Some(frames), _) => frames.to_vec(),
                    (None, Some(user)) => self.unwind(who.when, user),
                    (None, None) => self.addresses(bytes).collect(),
                };
                let mut users = self.users.borrow_mut();
                let names = frames.into_iter().enumerate().flat_map(|(i, pc)| users.names(who.when, pc, i > 0));
                Cell::List(names.map(Cell::Str).collect())
            }
        }
    }

    /// Where a process was, and where its functions go on.
    pub fn unwind(&self, when: When, user: &UserState) -> Vec<u64> {
        self.users.borrow_mut().unwind(when, user)
    }

    /// Takes note of what the kernel says of processes.
    pub fn changes(&self, changes: Vec<Change>) {
        let mut users = self.users.borrow_mut();
        changes.into_iter().for_each(|change| users.change(change));
    }

    /// Looks at a process while it is still there.
    pub fn meet(&self, pid: u32) {
        self.users.borrow_mut().meet(pid);
    }

    /// What could not be shown whole.
    pub fn sum_up(&self) {
        let users = self.users.borrow();
        if users.cut > 0 {
            let cut = users.cut;
            self.cx.notes.once(0, format!("{cut} user stacks are deeper than the {STACK_COPY} bytes that were copied"));
        }
        if let Some(pid) = users.nameless.first() {
            let more = match users.nameless.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            self.cx.notes.once(
                0,
                format!(
                    "code that process {pid}{more} made as it ran has no names: there is no /tmp/perf-{pid}.map, which \
                     `node --perf-basic-prof` and, of Java, `jcmd {pid} Compiler.perfmap` write"
                ),
            );
        }
    }
}

/// How many frames in front are those of a raw tracepoint's program and of who calls it, which are no part of the story.
pub fn own_frames<N: AsRef<str>>(names: impl Iterator<Item = N>) -> usize {
    const CALLERS: [&str; 3] = ["bpf_trace_run", "__bpf_trace_", "__traceiter_"];
    let is_caller = |name: &N| CALLERS.iter().any(|caller| name.as_ref().starts_with(caller));
    names.take(8).enumerate().filter(|(_, name)| is_caller(name)).last().map_or(0, |(at, _)| at + 1)
}

/// A value by its name, if it has one.
fn enumerator(values: &[EnumValue], word: u64, signed: bool) -> Cell {
    let number = if signed { Cell::Int(word as i64) } else { Cell::Uint(word) };
    enums::name(values, word as i64).map_or(number, Cell::Str)
}

/// A text up to its NUL; one that was cut says so.
fn text(bytes: &[u8], max: usize) -> Cell {
    let bytes = bytes.get(..max).unwrap_or(bytes);
    let end = bytes.iter().position(|b| *b == 0);
    let text = String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default()).into_owned();
    // the helper puts a NUL at the end of what it cut
    Cell::Str(if end == Some(max.saturating_sub(1)) && max > 16 { text + "…" } else { text })
}
