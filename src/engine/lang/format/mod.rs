//! The verbs `/ \ @ ? =`: data printed by format letters.
//!
//! ```console
//! > jiffies_64/JY
//! jiffies_64:
//! jiffies_64:     fffee7a1        2003 Feb 11 09:12:01
//! > 0t1024=X
//!                 400
//! ```
//!
//! A heading line `sym:` comes first if the address is a symbol's, then the address, then the items from column 16 on;
//! lines wrap between items at the terminal's width and begin at column 16 again. `=` prints dot itself and reads nothing.
//! The heading appears once, however many times the list is repeated and however many addresses a pipe brings.
//!
//! Deviations from mdb: nothing is written to a target; the first datum that cannot be read ends the run; a search steps
//! over holes; `i` and `I` need memory, so `=i` is refused; an address that fills the margin has a blank after it; a string ends at [`MAX_STRING`] bytes.

mod letters;
mod search;
mod show;

pub use letters::formats;
pub(super) use letters::{prints, searches, takes_values};

use self::letters::{Action, Letter};
use super::{
    ast::{FormatCount, FormatItem},
    column::Lines,
    eval::{EvalError, Scope, eval},
    printf::{Names, Spec},
};

/// The column that items begin at.
pub const MARGIN: usize = 16;

/// The longest string that `s` and `S` follow.
pub const MAX_STRING: usize = 1 << 20;

/// The most blanks that one `r` or `t` writes.
const MAX_BLANKS: u64 = 1024;

/// What a format list asks of the target and tells its user.
pub trait FormatIo: Names {
    /// fills `buf` from `addr` in the verb's space, all of it or an error
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), String>;
    /// the instruction at `addr` and its length in bytes
    fn instruction(&mut self, addr: u64) -> Result<(String, u64), String>;
    /// the lowest mapped address that is not below `addr`, for searches
    fn next_mapped(&mut self, addr: u64) -> Option<u64>;
    /// where lines wrap; none never wraps
    fn width(&self) -> Option<usize>;
    /// shall the run stop?
    fn interrupted(&self) -> bool;
    /// a finished line, without its newline
    fn line(&mut self, line: String);
    /// a value that a letter read: what a pipe passes on
    fn value(&mut self, _value: u64) {}
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// the expression of a count or a value
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// no write was or will be done
    #[error("the target is read-only")]
    ReadOnly,
    /// a letter that has no place here
    #[error("invalid format character -- '{letter}'")]
    Letter {
        /// which
        letter: char,
    },
    /// `=i`
    #[error("'{letter}' disassembles memory: use / instead of =")]
    NeedsMemory {
        /// which
        letter: char,
    },
    /// memory
    #[error("failed to read data from target at {addr:#x}: {reason}")]
    Read {
        /// of the datum
        addr: u64,
        /// why not
        reason: String,
    },
    /// the user asked
    #[error("interrupted")]
    Interrupted,
}

/// Where a run left off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// dot: the start of the last repeat, or the place that a search found
    pub dot: u64,
    /// how far the last repeat went: `+` is dot plus this
    pub increment: u64,
    /// the last value printed: `<0`; of a search the address that was found, none if nothing matched
    pub value: Option<u64>,
    /// what ended the run early
    pub error: Option<FormatError>,
}

/// An item, its expressions evaluated.
enum Item {
    Letter { entry: &'static Letter, spec: Option<Spec>, count: u64 },
    Text(String),
}

/// What a verb does.
enum Task {
    Print(Vec<Item>),
    Search { size: u8, value: u64, mask: u64 },
}

/// A verb with its format list, ready to be run at one address after another.
pub struct FormatRun {
    verb: char,
    task: Task,
    heading: Heading,
    lines: Lines,
}

/// What stands before the first item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heading {
    /// `sym:` on a line, then the address
    Full,
    /// the address alone, for a list that begins `ia`
    Address,
    /// the address on a line, for a list that begins `ai`
    AddressLine,
    /// nothing (any more)
    None,
}

impl FormatRun {
    /// Evaluates the list's counts and values. With `piped` there is no heading.
    pub fn new(verb: char, format: &[FormatItem], piped: bool, scope: &dyn Scope) -> Result<FormatRun, FormatError> {
        let task = match format.first() {
            Some(&FormatItem::Letter { letter, .. }) if verb != '=' && takes_values(letter) => {
                valued(letter, &format[1..], scope)?
            }
            None => Task::Print(default_items()),
            Some(_) => Task::Print(format.iter().map(|item| compile(item, scope)).collect::<Result<_, _>>()?),
        };
        let heading = match &task {
            _ if piped || verb == '=' => Heading::None,
            Task::Search { .. } => Heading::None,
            Task::Print(items) => heading(items),
        };
        Ok(FormatRun { verb, task, heading, lines: Lines::default() })
    }

    /// Runs the list `count` times from `dot` on; `increment` is what the last command left (for a leading `^`).
    pub fn at(&mut self, io: &mut dyn FormatIo, dot: u64, increment: u64, count: u64) -> Outcome {
        let mut outcome = Outcome { dot, increment, value: None, error: None };
        if count == 0 {
            return outcome;
        }
        let result = match self.task {
            Task::Search { size, value, mask } => self.search(io, &mut outcome, (size, value, mask)),
            Task::Print(_) => self.repeat(io, &mut outcome, count),
        };
        outcome.error = result.err();
        if outcome.error.is_some() {
            // what was printed before is worth seeing, and nothing follows it
            self.lines.finish();
        }
        self.flush(io);
        outcome
    }

    /// Ends the last line.
    pub fn finish(&mut self, io: &mut dyn FormatIo) {
        self.lines.finish();
        self.flush(io);
    }

    fn flush(&mut self, io: &mut dyn FormatIo) {
        self.lines.done.drain(..).for_each(|line| io.line(line));
    }

    /// mdb ignores the count of a search.
    fn search(
        &mut self,
        io: &mut dyn FormatIo,
        outcome: &mut Outcome,
        (size, value, mask): (u8, u64, u64),
    ) -> Result<(), FormatError> {
        outcome.increment = 0;
        if let Some(addr) = search::search(io, outcome.dot, size, value, mask)? {
            outcome.dot = addr;
            outcome.value = Some(addr);
            io.value(addr);
            self.lines.text(&super::printf::address(addr, &*io));
            self.lines.newline();
        }
        Ok(())
    }

    fn repeat(&mut self, io: &mut dyn FormatIo, outcome: &mut Outcome, count: u64) -> Result<(), FormatError> {
        for round in 0..count {
            if round > 0 {
                outcome.dot = outcome.dot.wrapping_add(outcome.increment);
            }
            self.head(io, outcome.dot);
            self.lines.set_margin(MARGIN);
            let result = self.row(io, outcome);
            self.lines.set_margin(0);
            self.flush(io);
            result?;
        }
        Ok(())
    }

    /// The heading, once.
    fn head(&mut self, io: &mut dyn FormatIo, addr: u64) {
        let heading = std::mem::replace(&mut self.heading, Heading::None);
        if heading == Heading::None {
            return;
        }
        let symbolic = self.verb != '\\' && self.verb != '@';
        if let (Heading::Full, true, Some((name, 0))) = (heading, symbolic, io.symbol(addr)) {
            self.lines.text(&format!("{name}:"));
            self.lines.newline();
        }
        show::address(&mut self.lines, io, addr, symbolic);
        if heading == Heading::AddressLine {
            self.lines.newline();
        }
    }

    /// The list once, from dot on.
    fn row(&mut self, io: &mut dyn FormatIo, outcome: &mut Outcome) -> Result<(), FormatError> {
        let FormatRun { verb, task: Task::Print(items), lines, .. } = self else { return Ok(()) };
        let start = outcome.dot;
        let mut row = show::Row {
            io,
            lines,
            value_space: *verb == '=',
            symbolic: !matches!(verb, '\\' | '@'),
            addr: start,
            increment: outcome.increment,
            value: outcome.value,
        };
        let result = items.iter().try_for_each(|item| row.item(item));
        outcome.value = row.value;
        match self.verb {
            '=' => (outcome.dot, outcome.increment) = (row.addr, 0),
            _ => outcome.increment = row.addr.wrapping_sub(start),
        }
        result
    }
}

/// A search, or the refusal of a write.
fn valued(letter: char, values: &[FormatItem], scope: &dyn Scope) -> Result<Task, FormatError> {
    if !searches(letter) {
        return Err(FormatError::ReadOnly);
    }
    let mut numbers = Vec::new();
    for item in values {
        match item {
            FormatItem::Value(expr) => numbers.push(eval(&expr.node, scope)?),
            _ => return Err(FormatError::Letter { letter }),
        }
    }
    let size = letters::letter(letter).map_or(8, |entry| entry.size);
    match numbers[..] {
        [value] => Ok(Task::Search { size, value, mask: u64::MAX }),
        [value, mask] => Ok(Task::Search { size, value, mask }),
        _ => Err(FormatError::Letter { letter }),
    }
}

fn compile(item: &FormatItem, scope: &dyn Scope) -> Result<Item, FormatError> {
    match item {
        FormatItem::Text(text) => Ok(Item::Text(text.clone())),
        FormatItem::Value(expr) => Ok(Item::Text(eval(&expr.node, scope)?.to_string())),
        FormatItem::Letter { letter, count, .. } => {
            let count = match count {
                FormatCount::One => 1,
                FormatCount::Number(count) => *count,
                FormatCount::Computed(expr) => eval(expr, scope)?,
            };
            match letters::letter(*letter).filter(|_| prints(*letter)) {
                Some(entry) => Ok(letter_item(entry, count)),
                None => Err(FormatError::Letter { letter: *letter }),
            }
        }
    }
}

fn letter_item(entry: &'static Letter, count: u64) -> Item {
    let spec = match entry.action {
        Action::Printf(format) | Action::Swapped(format) => letters::spec(format),
        _ => None,
    };
    Item::Letter { entry, spec, count }
}

/// A verb without a list: `X^"= "i`, adb's.
fn default_items() -> Vec<Item> {
    let letter = |c| letters::letter(c).map(|entry| letter_item(entry, 1));
    [letter('X'), letter('^'), Some(Item::Text("= ".into())), letter('i')].into_iter().flatten().collect()
}

/// adb's rule: a list that begins with a disassembly has no `sym:` line and no margin.
fn heading(items: &[Item]) -> Heading {
    let plain = |index: usize| match items.get(index) {
        Some(Item::Letter { entry, count: 1, .. }) => Some(entry.letter),
        _ => None,
    };
    match (plain(0), plain(1)) {
        (Some('a'), Some('i')) => Heading::AddressLine,
        (Some('i'), Some('a')) => Heading::Address,
        _ => Heading::Full,
    }
}

#[cfg(test)]
mod tests;
