//! Memory at the hit without BPF: the kernel's own dynamic events read it, if they are told where.
//!
//! Samples of perf hold registers and no memory. An event that is defined in tracefs (Documentation/trace/kprobetrace.rst)
//! reads through pointers, `+8(+104(%di)):u64`, and has what it read in its record. So a probe whose values lie in memory is
//! such an event, which is named for the process that made it: what a process leaves that is killed is taken away by a shell
//! that waits for its end ([`Undo`]), or else when the next one begins.

use crate::{
    Error, Result,
    expr::{Binary, Int, Space, Test, Text, Value},
    program::{Action, Spec},
    registers,
    source::Source,
    tracefs::{self, Field, Shape, Tracepoint},
    undo::Undo,
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Groups of ours are called so, with the number of the process behind.
const GROUP: &str = "kmdb_";
/// Arguments that an event has at most (MAX_TRACE_ARGS).
const MOST: usize = 128;
const LISTS: [&str; 2] = ["kprobe_events", "uprobe_events"];

/// Something in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Int(Int),
    Text(Text),
}

/// An event that reads memory. Dropping it takes it away, once nobody has it open.
#[derive(Debug)]
pub struct Fetched {
    point: Tracepoint,
    list: &'static str,
    /// what is in the fields of its record
    wanted: Vec<(Wanted, Field)>,
}

impl Fetched {
    /// Defines the event for what a spec needs of memory; none if it needs nothing.
    pub fn define(source: &Source, spec: &Spec) -> Result<Option<Fetched>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let wanted = wanted(source, spec);
        if wanted.is_empty() {
            return Ok(None);
        }
        if wanted.len() > MOST {
            return Err(Error::Wrong(format!("{}: more than {MOST} values are read from memory", source.name())));
        }
        let Some((list, place)) = place(source) else { return Ok(None) };
        clean();
        let group = format!("{GROUP}{}", std::process::id());
        watch(&group);
        let name = format!("e{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let arguments = wanted.iter().enumerate().filter_map(|(i, one)| Some(format!(" a{i}={}", spell(one)?)));
        write(list, &format!("p:{group}/{name} {place}{}", arguments.collect::<String>()))
            .map_err(Error::refused(format!("{}: an event that reads memory", source.name())))?;
        let found = Tracepoint::find(&group, &name);
        let point = found.inspect_err(|_| drop(write(list, &format!("-:{group}/{name}"))))?;
        let fields = wanted.into_iter().enumerate();
        let wanted = fields.filter_map(|(i, one)| Some((one, point.field(&format!("a{i}"))?.clone()))).collect();
        Ok(Some(Fetched { point, list, wanted }))
    }

    /// Where its samples come from.
    pub fn source(&self) -> Source {
        Source::Tracepoint(self.point.clone())
    }

    /// A number that was read.
    pub fn int(&self, record: &[u8], int: &Int) -> Option<i64> {
        let (_, field) = self.wanted.iter().find(|(wanted, _)| matches!(wanted, Wanted::Int(i) if i == int))?;
        crate::interpret::word(record, field.offset.into(), u8::try_from(field.size).ok()?, field.signed)
    }

    /// A text that was read; none if it could not be.
    pub fn text<'r>(&self, record: &'r [u8], text: &Text) -> Option<&'r [u8]> {
        let (_, field) = self.wanted.iter().find(|(wanted, _)| matches!(wanted, Wanted::Text(t) if t == text))?;
        let word = crate::interpret::word(record, field.offset.into(), 4, false)? as usize;
        let (at, len) = (word & 0xffff, word >> 16);
        let at = if field.shape == Shape::LocatedBehind { at + usize::from(field.offset) + 4 } else { at };
        record.get(at..at + len).filter(|bytes| !bytes.is_empty())
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let _ = write(self.list, &format!("-:{}/{}", self.point.group, self.point.name));
    }
}

/// Whether a number in memory can be had at that source.
pub fn can_int(source: &Source, int: &Int) -> bool {
    place(source).is_some() && spell(&Wanted::Int(int.clone())).is_some()
}

/// Whether a text can.
pub fn can_text(source: &Source, text: &Text) -> bool {
    place(source).is_some() && spell(&Wanted::Text(text.clone())).is_some()
}

/// The list that an event there stands in, and how the place is written. At a return nothing is known of the call.
fn place(source: &Source) -> Option<(&'static str, String)> {
    match source {
        Source::Kernel { function, at, several, offset, on_return: false, .. } => {
            let base = at.filter(|_| *several).map_or_else(|| function.clone(), |at| format!("{at:#x}"));
            Some(("kprobe_events", if *offset > 0 { format!("{base}+{offset}") } else { base }))
        }
        // a semaphore would have to be counted up, and names with spaces end there
        Source::User { file, site, on_return: false } if site.semaphore.is_none() => {
            let file = file.to_str().filter(|file| !file.contains([' ', ':']))?;
            Some(("uprobe_events", format!("{file}:{:#x}", site.offset)))
        }
        _ => None,
    }
}

/// What of a spec lies in memory, and can be read.
fn wanted(source: &Source, spec: &Spec) -> Vec<Wanted> {
    let mut found = Vec::new();
    let mut see = |one: Wanted| {
        if spell(&one).is_some() && !found.contains(&one) {
            found.push(one);
        }
    };
    if place(source).is_none() {
        return found;
    }
    let (values, more): (Vec<&Value>, _) = match &spec.action {
        Action::Emit(values) => (values.iter().collect(), None),
        Action::Aggregate { key, of } => (key.iter().collect(), of.as_ref()),
        Action::Leave { key, what } => (key.iter().chain(what).collect(), None),
    };
    for value in values {
        match value {
            Value::Int(int) => in_int(int, &mut see),
            Value::Text(text @ Text::Memory { .. }, _) => see(Wanted::Text(text.clone())),
            _ => {}
        }
    }
    more.into_iter().for_each(|int| in_int(int, &mut see));
    spec.test.iter().for_each(|test| in_test(test, &mut see));
    found
}

fn in_test(test: &Test, see: &mut impl FnMut(Wanted)) {
    match test {
        Test::Int(int) => in_int(int, see),
        Test::Text { text: text @ Text::Memory { .. }, .. } => see(Wanted::Text(text.clone())),
        Test::Text { .. } | Test::Family => {}
        Test::Not(of) => in_test(of, see),
        Test::All(of) | Test::Any(of) => of.iter().for_each(|test| in_test(test, see)),
    }
}

fn in_int(int: &Int, see: &mut impl FnMut(Wanted)) {
    match int {
        Int::Load { .. } => see(Wanted::Int(int.clone())),
        Int::Unary(_, of) | Int::Bucket(of) => in_int(of, see),
        Int::Binary(_, left, right) => {
            in_int(left, see);
            in_int(right, see);
        }
        _ => {}
    }
}

/// As tracefs writes it: the place and how it is to be read.
fn spell(wanted: &Wanted) -> Option<String> {
    match wanted {
        Wanted::Int(Int::Load { space, at, offset, size, signed }) => {
            let sign = if *signed { 's' } else { 'u' };
            Some(format!("{}:{sign}{}", through(*space, at, *offset)?, u32::from(*size) * 8))
        }
        Wanted::Text(Text::Memory { space, at }) => {
            let kind = if *space == Space::User { "ustring" } else { "string" };
            Some(format!("{}:{kind}", through(*space, at, 0)?))
        }
        _ => None,
    }
}

/// What lies so far behind an address.
fn through(space: Space, at: &Int, offset: i32) -> Option<String> {
    let user = if space == Space::User { "u" } else { "" };
    match at {
        Int::Binary(Binary::Add, at, by) if matches!(**by, Int::Const(_)) => {
            let Int::Const(by) = **by else { return None };
            through(space, at, offset.checked_add(i32::try_from(by).ok()?)?)
        }
        Int::Context { offset: register, size: 8, .. } => {
            Some(format!("+{user}{offset}(%{})", registers::event_name(*register)?)).filter(|_| offset >= 0)
        }
        Int::Load { space: inner, at, offset: by, size: 8, .. } => {
            Some(format!("+{user}{offset}({})", through(*inner, at, *by)?)).filter(|_| offset >= 0)
        }
        _ => None,
    }
}

fn write(list: &str, line: &str) -> std::io::Result<()> {
    let root = tracefs::root().map_err(std::io::Error::other)?;
    OpenOptions::new().append(true).open(root.join(list))?.write_all(line.as_bytes())
}

/// Has a shell take away the events of our group when this process ends. They can be taken away once their descriptors are
/// closed, which may be a moment later.
fn watch(group: &str) {
    static SHELL: OnceLock<Option<Undo>> = OnceLock::new();
    let Ok(root) = tracefs::root() else { return };
    let root = root.display();
    let commands = format!(
        "for again in 1 2 3 4 5; do left=; for list in {}; do while read -r place rest; do case $place in *:{group}/*) left=1; \
         echo \"-:${{place#*:}}\" >> '{root}/'$list;; esac; done < '{root}/'$list; done; [ $left ] || exit; sleep 1; done",
        LISTS.join(" ")
    );
    SHELL.get_or_init(|| Undo::at_the_end(&commands).ok());
}

/// Takes away what processes left that are no more.
fn clean() {
    let Ok(root) = tracefs::root() else { return };
    for list in LISTS {
        for line in fs::read_to_string(root.join(list)).unwrap_or_default().lines() {
            let name = line.split_ascii_whitespace().next().and_then(|word| word.split_once(':'));
            let pid = name.and_then(|(_, name)| name.strip_prefix(GROUP)?.split('/').next());
            if let (Some((_, name)), Some(pid)) = (name, pid)
                && pid.parse::<u32>().is_ok()
                && !Path::new("/proc").join(pid).exists()
            {
                let _ = write(list, &format!("-:{name}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::source::argument;

    #[test]
    fn pointers_are_followed_in_the_kernels_own_words() {
        let register = registers::event_name(argument(0).unwrap()).unwrap();
        let first = Int::context(argument(0).unwrap(), 8, false);
        let name = Int::load(Space::Kernel, first.clone(), 40, 8, false);
        let text = Text::Memory { space: Space::Kernel, at: name };
        assert_eq!(spell(&Wanted::Text(text)).unwrap(), format!("+0(+40(%{register})):string"));
        let member = Int::binary(Binary::Add, first, Int::Const(8));
        let int = Int::load(Space::User, member, 4, 4, true);
        assert_eq!(spell(&Wanted::Int(int)).unwrap(), format!("+u12(%{register}):s32"));
        let saved = Int::load(Space::Kernel, Int::saved(8, 8, false), 0, 8, false);
        assert_eq!(spell(&Wanted::Int(saved)), None);
    }
}
