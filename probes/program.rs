//! What is done at each hit, and the program that does it, loaded with the memory it needs.

use crate::{
    Error, Result,
    counted::Counted,
    emit::{Emit, Tables},
    expr::{Int, Other, Test, Value},
    recording::{Limits, STACK_COPY},
    source::Source,
};
use bpf::{Shape, Table};

/// What becomes of a hit that passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// the values leave the kernel as an event
    Emit(Vec<Value>),
    /// an entry of a table is changed
    Aggregate {
        /// whose values are its key
        key: Vec<Value>,
        /// what it keeps beside the number of hits
        of: Option<Int>,
    },
    /// the values behind the key are left for a later hit elsewhere that has the same key
    Leave {
        /// tells calls, requests or threads apart
        key: Vec<Value>,
        /// what is left
        what: Vec<Value>,
    },
}

impl Action {
    /// Bytes of its values.
    pub fn room(&self) -> usize {
        match self {
            Action::Emit(values) => room(values),
            Action::Aggregate { key, .. } => room(key) + if key.iter().any(Value::may_fail) { 8 } else { 0 },
            Action::Leave { key, what } => room(key) + room(what),
        }
    }

    pub(crate) fn values(&self) -> &[Value] {
        match self {
            Action::Emit(values) => values,
            Action::Aggregate { key, .. } => key,
            Action::Leave { what, .. } => what,
        }
    }

    /// Whether a user's stack is among its values.
    pub fn has_user_stacks(&self) -> bool {
        self.values().iter().any(|value| matches!(value, Value::UserStack(_) | Value::UserFrames { .. }))
    }

    /// Whether events bring a copy of the user's stack along.
    pub fn copies_stacks(&self) -> bool {
        matches!(self, Action::Emit(values) if values.contains(&Value::UserStack(0)))
    }
}

/// Bytes that values take, one behind the other.
pub fn room(values: &[Value]) -> usize {
    values.iter().map(Value::room).sum()
}

/// What earlier hits left for this one: of the function's entry for its return, of a request's issue for its end.
#[derive(Clone, Debug)]
pub struct Join {
    /// where they hit, and what they leave ([`Action::Leave`])
    pub begins: Vec<(Source, Spec)>,
    /// the key by which this hit finds what was left; what it finds is taken away
    pub key: Vec<Value>,
    /// bytes of what is left
    pub room: usize,
    /// where in that the process and thread are that an event is said to be of; else of the moment
    pub who: Option<u16>,
}

/// How many keys there can be of these values, at most so many: where all are the same, or buckets, few. The kernel makes room
/// for all beforehand, which is most of what a probe's start takes.
fn most_keys(key: &[Value], most: usize) -> usize {
    /// Powers of two on both sides of zero, and zero.
    const BUCKETS: usize = 129;
    let of = |value: &Value| match value {
        Value::Int(Int::Const(_)) => Some(1),
        Value::Int(Int::Bucket(of)) if !of.reads() => Some(BUCKETS),
        _ => None,
    };
    let all = key.iter().try_fold(1usize, |all, value| all.checked_mul(of(value)?));
    all.map_or(most, |all| all.min(most))
}

/// What is done at each hit.
#[derive(Clone, Debug)]
pub struct Spec {
    /// tells events of several probes apart
    pub id: u64,
    /// what it looks up first; hits that find nothing are counted and passed over
    pub join: Option<Join>,
    /// who passes; nobody is asked if there is none
    pub test: Option<Test>,
    /// what then
    pub action: Action,
    /// what the program returns: 1 where others that use the same tracepoint would starve otherwise
    pub result: i32,
}

/// What a program is for.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// what it is given
    pub(crate) kind: bpf::prog::Kind,
    /// how it is attached
    pub(crate) way: bpf::prog::Use,
    /// whether it stands at several probes
    pub(crate) shared: bool,
}

impl How {
    /// At one probe.
    pub(crate) fn alone(source: &Source) -> How {
        How { kind: source.program(), way: bpf::prog::Use::Any, shared: false }
    }
}

impl Spec {
    /// Whether it asks where the stack stands, or what lies there.
    pub(crate) fn reads_frame(&self) -> bool {
        let Some(Int::Context { offset, .. }) = crate::source::frame(true) else { return false };
        let is_there = |int: &Int| match int {
            Int::Context { offset: register, .. } if *register == offset => Err(()),
            _ => Ok(None),
        };
        self.with(&is_there).is_err()
    }

    /// The same with other numbers, but for what earlier hits leave and how that is found.
    pub(crate) fn with<E>(&self, other: Other<'_, E>) -> Result<Spec, E> {
        let all = |values: &[Value]| values.iter().map(|value| value.with(other)).collect::<Result<Vec<_>, E>>();
        let action = match &self.action {
            Action::Emit(values) => Action::Emit(all(values)?),
            Action::Aggregate { key, of } => {
                Action::Aggregate { key: all(key)?, of: of.as_ref().map(|of| of.with(other)).transpose()? }
            }
            Action::Leave { key, what } => Action::Leave { key: all(key)?, what: all(what)? },
        };
        let test = self.test.as_ref().map(|test| test.with(other)).transpose()?;
        Ok(Spec { test, action, ..self.clone() })
    }

    /// Whether texts of a process's memory are among its values, or looked at by its condition.
    pub fn reads_users_texts(&self) -> bool {
        let is_users = |value: &Value| matches!(value, Value::Text(text, _) if text.is_users());
        self.action.values().iter().any(is_users) || self.test.as_ref().is_some_and(Test::reads_users_texts)
    }

    /// Whether a user's stack is among its values, or among what earlier hits leave for it.
    pub fn has_user_stacks(&self) -> bool {
        let left = self.join.iter().flat_map(|join| &join.begins).any(|(_, begin)| begin.action.has_user_stacks());
        left || self.action.has_user_stacks()
    }
}

/// Words of a CPU's memory in front of the record.
pub mod counter {
    /// times the program ran
    pub const HITS: usize = 0;
    /// times the condition held
    pub const PASSED: usize = 1;
    /// conditions that needed what could not be read: they did not hold
    pub const UNKNOWN: usize = 2;
    /// hits that passed and found no room in the table, or in the ring
    pub const LOST: usize = 3;
    /// hits for which nothing had been left
    pub const ALONE: usize = 4;
    /// their number
    pub const COUNT: usize = 5;
}

/// Bytes of an event in front of its values: the probe's id, the time, process and thread id, what could not be read.
pub const HEADER: usize = 32;
/// Bytes of an entry of an aggregation: the number of hits and, of what is kept, sum, least and most.
pub const ENTRY: usize = 32;
/// Where a word lies that makes a number of what is more to the verifier.
pub(crate) const PLAIN: usize = counter::COUNT * 8;
pub(crate) const COUNTERS: usize = PLAIN + 8;
/// Room behind the record for texts that are compared.
pub(crate) const MOST_COMPARED: usize = 128;
/// More would not fit what a key or a record may take.
const MOST_RECORD: usize = 8192;

/// A program with the memory it needs, loaded.
pub struct Program {
    /// the program in the kernel
    pub program: bpf::Program,
    /// counters, and where a record is made
    scratch: Table,
    /// what was counted
    counted: Option<Counted>,
    /// how long it is
    pub instructions: usize,
}

/// What a program counted of itself, all CPUs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// times the probe was hit
    pub hits: u64,
    /// times the condition held
    pub passed: u64,
    /// conditions that needed what could not be read
    pub unknown: u64,
    /// hits that passed and for which there was no room
    pub lost: u64,
    /// hits for which no earlier one had left anything
    pub alone: u64,
    /// hits that were not looked at, since a program ran already on that CPU, as far as the kernel counts them
    pub missed: u64,
}

impl Counters {
    /// Adds another's.
    pub fn add(&mut self, other: &Counters) {
        self.hits += other.hits;
        self.passed += other.passed;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.alone += other.alone;
        self.missed += other.missed;
    }
}

impl Program {
    /// Makes and loads a program, to be attached that way.
    pub(crate) fn load(how: How, spec: &Spec, tables: Tables, limits: &Limits) -> Result<Program> {
        let room = spec.action.room();
        if room + HEADER > MOST_RECORD {
            return Err(Error::Wrong(format!(
                "{room} bytes of values are too many for one event: shorten texts or stacks"
            )));
        }
        let joined = spec.join.as_ref().map_or(0, |join| self::room(&join.key) + join.room);
        let memory = Error::refused("BPF needs CAP_BPF or root");
        let copied = tables.reach.filter(|_| spec.action.copies_stacks()).map_or(0, |_| STACK_COPY as usize);
        let compared = COUNTERS + HEADER + room + copied;
        let bytes = compared + MOST_COMPARED + joined;
        let counted = match &spec.action {
            Action::Emit(_) | Action::Leave { .. } => None,
            Action::Aggregate { key, .. } => Some(Counted::new(room, most_keys(key, limits.keys), limits, bytes)?),
        };
        let seats = counted.as_ref().map_or(0, |counted| counted.seats.room());
        let scratch = Table::new(Shape::PerCpuArray, 4, bytes + seats, 1).map_err(memory)?;
        let mut emit = Emit::new(&scratch, compared, tables);
        emit.program(spec, how, counted.as_ref())?;
        let insns = emit.finish()?;
        let program = bpf::Program::load_as(how.way, how.kind, "kmdb_probe", &insns)?;
        if how.kind == bpf::Kind::Tracing && !program.missed().is_ok_and(|missed| missed.is_some()) {
            return Err(Error::Wrong("this kernel lets programs at functions interrupt themselves".into()));
        }
        Ok(Program { program, scratch, counted, instructions: insns.len() })
    }

    /// Visits every key that was counted with its entries.
    pub(crate) fn entries(&self, visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let Some(counted) = &self.counted else { return Ok(()) };
        let (memory, room) = self.memory().map_err(Error::refused("reading what was counted"))?;
        counted.each(memory.chunks(room), visit)
    }

    /// The memory of all CPUs one behind the other, and how many bytes each has.
    fn memory(&self) -> std::io::Result<(Vec<u8>, usize)> {
        let all = self.scratch.get(&0u32.to_ne_bytes())?.unwrap_or_default();
        let room = all.len() / bpf::table::possible_cpus()?.max(1);
        Ok((all, room.max(1)))
    }

    /// The counters as they are now.
    pub fn counters(&self) -> std::io::Result<Counters> {
        let (memory, room) = self.memory()?;
        let sum = |word: usize| {
            let words = memory.chunks(room).filter_map(|cpu| cpu.get(word * 8..)?.first_chunk());
            words.fold(0u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
        };
        Ok(Counters {
            hits: sum(counter::HITS),
            passed: sum(counter::PASSED),
            unknown: sum(counter::UNKNOWN),
            lost: sum(counter::LOST),
            alone: sum(counter::ALONE),
            missed: self.program.missed().ok().flatten().unwrap_or_default(),
        })
    }
}
