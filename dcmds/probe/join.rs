//! What two hits make together: a function's return knows what it was called with, and when; a request's end knows when
//! it was issued, and for whom.
//!
//! The earlier hit leaves words under a key, which tells calls or requests apart; the later one finds them there. What
//! is left lies in a fixed order, so that a name at the later hit is a place in it.

use super::{
    command::{Started, is_gone},
    compile::Compiler,
    names::Names,
};
use engine::prelude::*;
use probes::{
    expr::{Current, Int, Space as Whose, Test, Text, Value},
    family::Born,
    program::{Action, Join, Spec, room},
    recording::Reach,
    source::{self, Source},
};

/// Most arguments that are left: as many as come in registers.
pub const ARGUMENTS: usize = 6;
/// Where, in what was left, the time is.
const TIME: u16 = 0;
/// Where the arguments of a call begin.
const FIRST: u16 = 8;
/// Where a system call's number is.
const NUMBER: u16 = FIRST + 8 * ARGUMENTS as u16;
/// Where process and thread of whoever began are, and the thread's name.
const WHO: u16 = 8;
const COMM: u16 = 16;
/// Where stacks of the earlier hit begin.
const STACKS: u16 = 32;

/// An argument of the call, as it was when the call began.
pub fn argument(index: usize) -> Option<Int> {
    (index < ARGUMENTS).then(|| Int::saved(FIRST + 8 * index as u16, 8, false))
}

/// Nanoseconds since the earlier hit.
pub fn elapsed() -> Int {
    Int::binary(probes::expr::Binary::Sub, Int::Current(Current::Time), Int::saved(TIME, 8, false))
}

/// The number of the system call.
pub fn number() -> Int {
    Int::saved(NUMBER, 8, false)
}

/// The process, or the thread, of whoever began. The words are of the machine's order, which is little-endian on all that
/// kmdb knows.
pub fn beginner(thread: bool) -> Int {
    Int::saved(if thread { WHO } else { WHO + 4 }, 4, false)
}

/// The name of the thread that began.
pub fn beginners_name() -> Text {
    Text::Saved { offset: COMM, len: 16 }
}

/// The process whose hits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only {
    /// its number
    pub pid: i32,
    /// how those that it begins are told, if they count as well
    pub family: Option<Born>,
    /// the thread of it whose hits alone count
    pub thread: Option<i32>,
}

impl Only {
    /// The process of that number, or that of a command with those that it begins.
    pub fn of(cx: &Cx<'_>, pid: Option<i32>, started: Option<&Started>) -> Result<Option<Only>> {
        let Some(started) = started else {
            let whole = |number| {
                let gone = || Error::Usage(format!("there is no process {number}"));
                let pid = process_of(number).ok_or_else(gone)?;
                Ok(Only { pid, family: None, thread: Some(number).filter(|number| *number != pid) })
            };
            return pid.map(whole).transpose();
        };
        let at = cx.offset("task_struct", "tgid").ok().and_then(|tgid| i32::try_from(tgid).ok());
        let family = Some(at.map_or(Born::Recorded, Born::At));
        Ok(Some(Only { pid: started.pid(), family, thread: None }))
    }

    /// The process, or the thread of it, if it is one that ran before, and has ended. A command is waited for.
    pub fn gone(self) -> Option<i32> {
        let pid = self.thread.unwrap_or(self.pid);
        (self.family.is_none() && is_gone(pid)).then_some(pid)
    }

    /// The test for it; none if the kernel binds the probe to it.
    pub fn test(self, source: &Source) -> Option<Test> {
        // what the kernel binds it binds to all threads
        (self.family.is_some() || self.thread.is_some() || !source.binds()).then(|| self.always())
    }

    /// The test for it.
    pub fn always(self) -> Test {
        let itself = Test::Int(Int::Current(Current::Pid).equals(self.pid.into()));
        if let Some(thread) = self.thread {
            return Test::Int(Int::Current(Current::Tid).equals(thread.into()));
        }
        match self.family {
            Some(_) => Test::Any(vec![itself, Test::Family]),
            None => itself,
        }
    }
}

/// How far stacks reach, as far as types tell, if any of these probes copies them.
pub fn reach(cx: &Cx<'_>, probes: &[(Source, Spec)]) -> Option<Reach> {
    probes.iter().find(|(_, spec)| spec.action.copies_stacks())?;
    let offset = |of: &str, path: &str| i32::try_from(cx.offset(of, path).ok()?).ok();
    Some(Reach {
        mm: offset("task_struct", "mm")?,
        start_stack: offset("mm_struct", "start_stack")?,
        thread: offset("task_struct", "thread.fsbase").or_else(|| offset("task_struct", "thread.uw.tp_value")),
        registers: cx.enumerator("BPF_FUNC_task_pt_regs").is_some(),
    })
}

/// Joins a return with its entry, where conditions that last are tested.
pub fn call(cx: &Cx<'_>, source: &Source, tests: &[String], only: Option<Only>, text: u16) -> Option<Join> {
    let mut entry = source.clone();
    match &mut entry {
        Source::Kernel { on_return, .. } | Source::User { on_return, .. } => *on_return = false,
        _ => return None,
    }
    let key = |on_return| Some(vec![Value::Int(Int::Current(Current::Thread)), Value::Int(source::frame(on_return)?)]);
    let mut what = vec![Value::Int(Int::Current(Current::Time))];
    what.extend((0..ARGUMENTS).filter_map(|i| Some(Value::Int(Int::context(source::argument(i)?, 8, false)))));
    let names = Names::at(cx, &entry);
    let compiler = Compiler::new(cx, &names, text);
    let lasting = tests.iter().filter_map(|test| compiler.test(test).ok()).filter(Test::lasts);
    let tests: Vec<_> = only.and_then(|only| only.test(&entry)).into_iter().chain(lasting).collect();
    Some(joined(entry, tests, key(false)?, what, key(true)?))
}

/// Joins a system call's return with its entry: the registers that user code came in with hold its arguments.
pub fn syscall(cx: &Cx<'_>, numbers: &[u64], only: Option<Only>) -> Result<Join> {
    let key = || vec![Value::Int(Int::Current(Current::Thread))];
    let number = Int::context(8, 8, false);
    let mut what = vec![Value::Int(Int::Current(Current::Time))];
    let known = walkers::syscall::argument_offsets(cx).ok().map(|offsets| offsets.map(|at| i32::try_from(at).ok()));
    // where the kernel tells nothing of its types
    let offsets = known.unwrap_or_else(|| std::array::from_fn(|i| source::syscall_argument(i).map(i32::from)));
    for offset in offsets.map(Option::unwrap_or_default) {
        what.push(Value::Int(Int::load(Whose::Kernel, Int::context(0, 8, false), offset, 8, false)));
    }
    what.push(Value::Int(number.clone()));
    let any: Vec<_> = numbers.iter().map(|n| Test::Int(number.clone().equals(*n as i64))).collect();
    let mut tests: Vec<_> = only.map(Only::always).into_iter().collect();
    let (offset, mask, compat) = walkers::syscall::told_compat(cx);
    let offset = i32::try_from(offset).unwrap_or_default();
    let mode = Int::load(Whose::Kernel, Int::context(0, 8, false), offset, 8, false);
    let mode = Int::binary(probes::expr::Binary::And, mode, Int::Const(mask as i64));
    tests.push(Test::Not(Box::new(Test::Int(mode.equals(compat as i64)))));
    tests.extend((!any.is_empty()).then_some(Test::Any(any)));
    Ok(joined(Source::Raw { name: "sys_enter".into() }, tests, key(), what, key()))
}

/// What a word of a key is at the earlier hit, and at the later one: `pid:next_pid`, or one name for both.
pub fn sides(word: &str) -> (&str, &str) {
    match word.split_once(':') {
        Some(both) => both,
        None => (word, word),
    }
}

/// A stack of the earlier hit, of so many frames; `before` others were left in front of it.
pub fn stack(before: usize, frames: u16) -> Value {
    Value::SavedStack { offset: STACKS + before as u16 * frames * 8, frames }
}

/// Joins hits of other probes with this one's by what both have; the earlier ones leave these stacks.
pub fn others(
    cx: &Cx<'_>,
    (begins, source): (&[Source], &Source),
    key: &[String],
    stacks: &[Value],
    only: Option<Only>,
    text: u16,
) -> Result<Join> {
    let keys = |source: &Source, begins: bool| {
        let names = Names::at(cx, source);
        let compiler = Compiler::new(cx, &names, text);
        let side = |word| if begins { sides(word).0 } else { sides(word).1 };
        key.iter().map(|word| Ok(compiler.value(side(word.as_str()))?.0)).collect::<Result<Vec<_>>>()
    };
    let mut what = vec![
        Value::Int(Int::Current(Current::Time)),
        Value::Int(Int::Current(Current::Thread)),
        Value::Text(Text::Comm, 16),
    ];
    what.extend_from_slice(stacks);
    let mut join = Join { begins: Vec::new(), key: keys(source, false)?, room: room(&what), who: Some(WHO) };
    for begin in begins {
        let test = only.and_then(|only| only.test(begin));
        let action = Action::Leave { key: keys(begin, true)?, what: what.clone() };
        join.begins.push((begin.clone(), Spec { id: 0, join: None, test, action, result: begin.result() }));
    }
    Ok(join)
}

/// The process that a thread belongs to.
fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

fn joined(begin: Source, tests: Vec<Test>, key: Vec<Value>, what: Vec<Value>, later: Vec<Value>) -> Join {
    let room = room(&what);
    let test = (!tests.is_empty()).then_some(Test::All(tests));
    let result = begin.result();
    let spec = Spec { id: 0, join: None, test, action: Action::Leave { key, what }, result };
    Join { begins: vec![(begin, spec)], key: later, room, who: None }
}
