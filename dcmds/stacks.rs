//! All threads, grouped by what they do: `::stacks`.
//!
//! ```console
//! > ::stacks -m labmod
//! THREAD           STATE  SOBJ  COUNT
//! ff386d1d83e7c340 DSLEEP mutex     1
//!                  __schedule+0x4e0
//!                  schedule+0x27
//!                  schedule_preempt_disabled+0x15
//!                  __mutex_lock.constprop.0+0x37d
//!                  labmod`lab_waiter+0x15
//!                  kthread+0xd2
//!                  ret_from_fork+0x34
//!                  ret_from_fork_asm+0x1a
//!
//! ff386d1d83e78040 SLEEP  timer     1
//!                  __schedule+0x4e0
//!                  schedule+0x27
//!                  schedule_timeout+0x9e
//!                  msleep_interruptible+0x34
//!                  labmod`lab_holder+0x21
//!                  kthread+0xd2
//!                  ret_from_fork+0x34
//!                  ret_from_fork_asm+0x1a
//! ```
//!
//! Threads whose state, whose kind of sleep and whose call stack are the same are one group. STATE is `ONPROC` (on a
//! CPU), `RUN`, `SLEEP`, `DSLEEP` (cannot be interrupted), `IDLE`, `STOPPED`, `TRACED`, `PARKED`, `ZOMBIE` or `DEAD`; SOBJ is what
//! the innermost sleeping function waits for. The thread that panicked comes first, then the largest groups.

use crate::stack;
use engine::prelude::*;
use std::collections::{BTreeMap, HashSet};
use walkers::{
    cpu,
    task::{self, Task},
    unwind::{self, Trace, sobj},
};

/// Group threads by state and call stack.
///
/// Behind a pipe only the threads that come in. Passed on through a pipe are the threads' addresses, so that conditions
/// add up: `::stacks -c vfs_read | ::stacks -c mutex_lock`.
#[derive(Args)]
pub struct Stacks {
    /// show every thread of a group, not one for all
    #[arg(short = 'a')]
    all: bool,
    /// gather the threads again (they are never kept)
    #[arg(short = 'f')]
    fresh: bool,
    /// only the interesting ones: no light sleep on a wait queue, a timer or for work, nothing idle or dead
    #[arg(short = 'i', conflicts_with_all = ["sobj", "not_sobj", "state", "not_state"])]
    interesting: bool,
    /// say how many threads were looked at
    #[arg(short = 'v')]
    verbose: bool,
    /// only with this function on the stack, or at this place: `FUNC` or `FUNC+OFFSET`
    #[arg(short = 'c', value_name = "FUNC")]
    caller: Option<String>,
    /// only without it
    #[arg(short = 'C', value_name = "FUNC")]
    not_caller: Option<String>,
    /// only with a function of this module on the stack
    #[arg(short = 'm', value_name = "MODULE")]
    module: Option<String>,
    /// only without one
    #[arg(short = 'M', value_name = "MODULE")]
    not_module: Option<String>,
    /// only those that sleep on this: mutex, rwsem, futex, …; ALL for anything that is known
    #[arg(short = 's', value_name = "SOBJ", conflicts_with = "not_sobj")]
    sobj: Option<String>,
    /// only those that do not
    #[arg(short = 'S', value_name = "SOBJ")]
    not_sobj: Option<String>,
    /// only in this state
    #[arg(short = 't', value_name = "STATE", conflicts_with = "not_state")]
    state: Option<String>,
    /// only in another
    #[arg(short = 'T', value_name = "STATE")]
    not_state: Option<String>,
    #[arg(skip)]
    only: Vec<u64>,
    #[arg(skip)]
    typed: bool,
}

/// A group of threads.
#[derive(Row)]
struct StacksRow {
    /// one of them
    thread: Object,
    /// what they are doing
    state: &'static str,
    /// what they sleep on
    sobj: Option<&'static str>,
    /// how many they are
    count: u64,
    /// name of the one
    #[hidden]
    name: String,
    /// its thread id
    #[hidden]
    pid: i32,
    /// all of them
    #[hidden]
    threads: Vec<Addr>,
    /// their call stack
    #[detail]
    stack: Vec<String>,
}

/// What the threads of a group have in common. Their order, after that of the size of groups, is that of the groups.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    state: &'static str,
    sobj: Option<&'static str>,
    stack: Vec<String>,
}

/// States and their names.
const STATES: &[(char, &str)] = &[
    ('R', "RUN"),
    ('S', "SLEEP"),
    ('D', "DSLEEP"),
    ('I', "IDLE"),
    ('T', "STOPPED"),
    ('t', "TRACED"),
    ('P', "PARKED"),
    ('Z', "ZOMBIE"),
    ('X', "DEAD"),
];
const ON_CPU: &str = "ONPROC";
/// What `-i` leaves out.
const DULL_STATES: &[&str] = &["IDLE", "PARKED", "ZOMBIE", "DEAD"];
const DULL_SLEEP: &[&str] = &["waitq", "work", "timer", "poll", "epoll", "child", "signal", "socket", "pipe", "tty"];

/// The name of a state, by the letter that /proc has for it.
pub(crate) fn state(letter: char) -> &'static str {
    STATES.iter().find(|(known, _)| *known == letter).map_or("?", |(_, name)| name)
}

/// A name that the user wrote, as it is spelled; an error that lists the names if there is no such.
fn known(what: &str, word: &str, names: &[&'static str]) -> Result<&'static str> {
    names.iter().find(|name| name.eq_ignore_ascii_case(word)).copied().ok_or_else(|| {
        Error::Usage(format!("::stacks: no {what} `{word}`")).hint(format!("there are {}", names.join(", ")))
    })
}

/// A place in code, as `-c` names it.
struct Place {
    function: String,
    offset: Option<u64>,
}

impl Place {
    fn parse(cx: &Cx<'_>, text: &str) -> Result<Place> {
        let (function, offset) = match text.split_once('+') {
            Some((function, offset)) => (function, Some(engine::pipeline::eval_text(cx, offset)?)),
            None => (text, None),
        };
        let function = function.rsplit('`').next().unwrap_or(function).trim_end_matches("()").to_owned();
        // with debug information it may be one that was inlined everywhere
        if cx.dwarf.is_none() {
            cx.symbol(&function)?;
        }
        Ok(Place { function, offset })
    }

    /// Whether a line of a stack is there: ``module`function.isra.0+0x1c (file:line)``.
    fn is_at(&self, line: &str) -> bool {
        let called = line.split([' ', '(']).next().unwrap_or(line);
        let called = called.rsplit('`').next().unwrap_or(called);
        let (name, offset) = called.split_once('+').map_or((called, None), |(name, offset)| (name, Some(offset)));
        // what compilers append: .isra.0, .constprop.0, .part.0, .cold
        let same = name == self.function || name.split('.').next() == Some(self.function.as_str());
        let offset = offset.map_or(Some(0), |text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        same && self.offset.is_none_or(|wanted| offset == Some(wanted))
    }

    fn is_on(&self, stack: &[String]) -> bool {
        stack.iter().any(|line| self.is_at(line))
    }
}

/// The conditions of one command.
struct Conditions {
    caller: Option<Place>,
    not_caller: Option<Place>,
    module: Option<String>,
    not_module: Option<String>,
    /// the kind, `None` for all; and whether it shall be so
    sobj: Option<(Option<&'static str>, bool)>,
    state: Option<(&'static str, bool)>,
    interesting: bool,
}

impl Conditions {
    fn of(cx: &Cx<'_>, args: &Stacks) -> Result<Conditions> {
        let place = |text: &Option<String>| text.as_deref().map(|text| Place::parse(cx, text)).transpose();
        let module = |name: &Option<String>| -> Result<Option<String>> {
            let Some(name) = name else { return Ok(None) };
            let there = matches!(name.as_str(), "vmlinux" | "kernel")
                || cx.symbols.modules(cx).iter().any(|module| *module.name == **name);
            if !there {
                return Err(
                    Error::Usage(format!("::stacks: no module `{name}` is loaded")).hint("`::modules` lists them")
                );
            }
            Ok(Some(name.clone()))
        };
        let kinds = sobj::kinds();
        let kind = |word: &str| -> Result<Option<&'static str>> {
            if word.eq_ignore_ascii_case("all") { Ok(None) } else { known("kind of sleep", word, &kinds).map(Some) }
        };
        let sobj = match (&args.sobj, &args.not_sobj) {
            (Some(word), _) => Some((kind(word)?, true)),
            (None, Some(word)) => Some((kind(word)?, false)),
            (None, None) => None,
        };
        let states: Vec<_> = STATES.iter().map(|(_, name)| *name).chain([ON_CPU]).collect();
        let state = match (&args.state, &args.not_state) {
            (Some(word), _) => Some((known("state", word, &states)?, true)),
            (None, Some(word)) => Some((known("state", word, &states)?, false)),
            (None, None) => None,
        };
        Ok(Conditions {
            caller: place(&args.caller)?,
            not_caller: place(&args.not_caller)?,
            module: module(&args.module)?,
            not_module: module(&args.not_module)?,
            sobj,
            state,
            interesting: args.interesting,
        })
    }

    fn met(&self, cx: &Cx<'_>, key: &Key, trace: &Trace) -> bool {
        let in_module = |name: &String| {
            let own = matches!(name.as_str(), "vmlinux" | "kernel");
            trace.frames.iter().any(|frame| match cx.symbols.module_at(cx, frame.pc) {
                Some(module) => *module.name == **name,
                None => own && cx.symbolize(frame.pc).is_some(),
            })
        };
        let dull = || match key.state {
            // the idle loop
            ON_CPU | "RUN" => key.stack.iter().any(|line| line.starts_with("cpu_startup_entry")),
            // what sleeps lightly, in no function that is known for it, sleeps on a wait queue
            "SLEEP" => key.sobj.is_none_or(|kind| DULL_SLEEP.contains(&kind)),
            state => DULL_STATES.contains(&state),
        };
        let sleeps = |kind: Option<&'static str>| match kind {
            Some(kind) => key.sobj == Some(kind),
            None => key.sobj.is_some(),
        };
        self.caller.as_ref().is_none_or(|place| place.is_on(&key.stack))
            && !self.not_caller.as_ref().is_some_and(|place| place.is_on(&key.stack))
            && self.module.as_ref().is_none_or(in_module)
            && !self.not_module.as_ref().is_some_and(in_module)
            && self.sobj.is_none_or(|(kind, wanted)| sleeps(kind) == wanted)
            && self.state.is_none_or(|(state, wanted)| (key.state == state) == wanted)
            && !(self.interesting && dull())
    }
}

impl Stacks {
    fn threads(&self, cx: &Cx<'_>, alone: bool) -> Result<Vec<u64>> {
        let mut threads = Vec::new();
        if alone || self.typed {
            task::threads(cx, &mut |thread| {
                threads.push(thread);
                Ok(())
            })?;
        } else {
            let mut seen = HashSet::new();
            threads.extend(self.only.iter().copied().filter(|thread| seen.insert(*thread)));
        }
        Ok(threads)
    }

    fn key(cx: &Cx<'_>, thread: u64) -> Result<(Key, Trace)> {
        let task: Task = cx.view(thread)?;
        let trace = unwind::of_task(cx, thread)?;
        let on_cpu = unwind::running_on(cx, &task).unwrap_or(None).is_some();
        let state = if on_cpu { ON_CPU } else { state(task.state()) };
        let sobj = if on_cpu || state == "RUN" { None } else { sobj::of(cx, &trace) };
        Ok((Key { state, sobj, stack: stack::lines(cx, &trace) }, trace))
    }

    fn show(&self, cx: &Cx<'_>, key: &Key, threads: &[u64], out: &mut Out<'_>) -> Result<()> {
        let shown = if self.all { threads } else { threads.get(..1).unwrap_or_default() };
        for thread in shown {
            let task: Task = cx.view(*thread)?;
            out.row(StacksRow {
                thread: cx.object("task_struct", *thread),
                state: key.state,
                sobj: key.sobj,
                count: threads.len() as u64,
                name: task.name(cx),
                pid: task.pid,
                threads: threads.iter().copied().map(Addr).collect(),
                stack: key.stack.clone(),
            })?;
        }
        Ok(())
    }
}

impl Gather for Stacks {
    const NAME: &'static str = "stacks";
    const ROWS: &'static [&'static engine::Schema] = &[StacksRow::SCHEMA];

    fn take(&mut self, _: &Cx<'_>, at: Object, piped: bool) -> Result<()> {
        self.typed = !piped;
        self.only.push(at.addr);
        Ok(())
    }

    fn answer(&mut self, cx: &Cx<'_>, alone: bool, out: &mut Out<'_>) -> Result<()> {
        let conditions = Conditions::of(cx, self)?;
        let panicked = cpu::panicked(cx).and_then(|cpu| cpu::current(cx, cpu).ok());
        let mut groups: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
        let threads = self.threads(cx, alone)?;
        for thread in &threads {
            match Stacks::key(cx, *thread) {
                Ok((key, trace)) if conditions.met(cx, &key, &trace) => groups.entry(key).or_default().push(*thread),
                Ok(_) => {}
                Err(e) if e.is_unreadable() => cx.notes.add(*thread, format!("a thread: {}", e.kind())),
                Err(e) => return Err(e),
            }
        }
        // a thread that was typed stands for its group
        if let (true, Some(thread)) = (self.typed, self.only.first()) {
            groups.retain(|_, threads| threads.contains(thread));
        }
        if self.verbose {
            cx.notes.add(0, format!("{} threads in {} groups", threads.len(), groups.len()));
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        let is_guilty = |threads: &[u64]| panicked.is_some_and(|thread| threads.contains(&thread));
        groups.sort_by_key(|(_, threads)| (!is_guilty(threads), std::cmp::Reverse(threads.len())));
        for (key, threads) in &groups {
            if out.piped {
                threads.iter().try_for_each(|thread| out.object(cx.object("task_struct", *thread)))?;
            } else {
                self.show(cx, key, threads, out)?;
            }
        }
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::gather::<Stacks>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_the_lines_of_stacks() {
        let place = |function: &str, offset| Place { function: function.into(), offset };
        assert!(place("vfs_write", None).is_at("vfs_write+0xf8 (fs/read_write.c:684)"));
        assert!(place("vfs_write", Some(0xf8)).is_at("vfs_write+0xf8"));
        assert!(!place("vfs_write", Some(0xf7)).is_at("vfs_write+0xf8"));
        assert!(place("lab_open", None).is_at("labmod`lab_open.isra.0+9"));
        assert!(place("new_sync_write", None).is_at("new_sync_write [inlined] (fs/read_write.c:586)"));
        assert!(!place("vfs_write", None).is_at("__vfs_write+1"));
        assert!(place("panic", Some(0)).is_at("panic"));
    }
}
