//! Probes without BPF: each hit becomes a sample in a ring of perf, and what a program would do in the kernel is done here.
//!
//! The answers are the same, but for memory, of which only what single pointers lead to from a function's arguments is read
//! at the hit ([`Fetched`]); they cost more, and rings that fill up lose hits, which are counted. Conditions on a tracepoint's fields become a filter that the kernel itself tests.
//!
//! One ring for each CPU takes the samples of all probes, and the names that threads take on, so that everything can be
//! looked at in the order of time.

use crate::{
    Error, Result,
    expr::{Binary, Int, Test, Value},
    fetch::{self, Fetched},
    interpret::{Moment, Reach, obstacle, obstacle_of, obstacle_of_text},
    perf::{self, Attr, Event, Scope, kind, online_cpus, sample, software},
    program::{Action, Counters, Join, Spec},
    recording::{Entry, Hit, Limits, MOST_CHANGES, STACK_COPY, UserState, monotonic},
    registers,
    ring::{Record, Ring, wait},
    source::Source,
    tasks::Change,
    tracefs::Tracepoint,
};
use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::Arc,
    time::Duration,
};

/// Between taking its time and being in the ring a sample may be so old, in ns.
const UNDER_WAY: u64 = 1_000_000;
/// What every sample holds, at least.
const BASE: u64 = sample::IDENTIFIER | sample::TID | sample::TIME | sample::CPU;
/// Kinds of records beside samples (`enum perf_event_type`).
const COMM: u32 = 3;
const FORK: u32 = 7;
/// Marks in call chains (`enum perf_callchain_context`): what follows is of the kernel, or of the process.
const OF_KERNEL: u64 = -128i64 as u64;
const OF_USER: u64 = -512i64 as u64;
const MARKS: u64 = -4095i64 as u64;

/// Probes that are set by perf alone.
pub struct Sampled {
    probes: Vec<(Source, Spec)>,
    rings: Vec<(Event, Ring)>,
    /// kept open: closing them detaches
    _events: Vec<Event>,
    /// what reads memory at hits; gone once no event is open
    fetched: Vec<Arc<Fetched>>,
    /// which probe an event belongs to, by the number that the kernel gave it
    taps: HashMap<u64, Tap>,
    /// samples and names that something older may still come in front of
    waiting: Vec<Waiting>,
    comms: HashMap<u32, Vec<u8>>,
    /// the processes of a command
    family: HashSet<u32>,
    /// of each probe: what it counted of itself, its keys, and what earlier hits left
    counters: Vec<Counters>,
    tables: Vec<HashMap<Vec<u8>, Entry>>,
    left: Vec<HashMap<Vec<u8>, Vec<u8>>>,
    /// what processes mapped, and which began
    changes: Vec<Change>,
    limits: Limits,
    lost: u64,
    /// what could not be had
    missing: Vec<&'static str>,
}

/// What an event is for.
#[derive(Clone, Copy)]
struct Tap {
    probe: usize,
    /// which of the hits that come first, if it is one
    begin: Option<usize>,
    holds: Holds,
    parts: u64,
    /// what read memory, of those that do
    fetched: Option<usize>,
    /// a function's entry: the word on top of the stack is who called it
    entry: bool,
}

/// What a sample holds beside who was there.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    /// a tracepoint's record
    Record,
    /// registers
    Registers,
    /// the record of the tracepoint that all system calls pass, at their beginning
    Enter,
    /// at their end
    Exit,
    /// nothing
    Nothing,
}

/// Something that came out of a ring.
struct Waiting {
    time: u64,
    what: What,
}

enum What {
    Hit(Tap, Box<Moment>),
    /// a thread is called that
    Named(u32, Vec<u8>),
    /// a thread begins with its parent's name: process and thread of the parent, and its own
    Forked([u32; 2], [u32; 2]),
}

impl Sampled {
    /// Sets probes.
    pub fn start(probes: &[(Source, Spec)], limits: Limits) -> Result<Sampled> {
        let mut missing = Vec::new();
        for (source, spec) in probes {
            check(source, spec, &mut missing)?;
        }
        let mut sampled = Sampled {
            probes: probes.to_vec(),
            rings: Vec::new(),
            _events: Vec::new(),
            fetched: Vec::new(),
            taps: HashMap::new(),
            waiting: Vec::new(),
            comms: HashMap::new(),
            family: limits.pid.map(i32::unsigned_abs).into_iter().collect(),
            counters: vec![Counters::default(); probes.len()],
            tables: vec![HashMap::new(); probes.len()],
            left: vec![HashMap::new(); probes.len()],
            changes: Vec::new(),
            limits,
            lost: 0,
            missing,
        };
        for cpu in online_cpus().map_err(Error::refused("which CPUs are online"))? {
            sampled.ring(cpu, limits.ring)?;
        }
        sampled.comms = names();
        for (i, (source, spec)) in probes.iter().enumerate() {
            for (n, (source, spec)) in spec.join.iter().flat_map(|join| &join.begins).enumerate() {
                sampled.tap(source, spec, i, Some(n))?;
            }
            sampled.tap(source, spec, i, None)?;
        }
        Ok(sampled)
    }

    /// What processes mapped, and which began, since this was asked for.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What no value can tell without BPF.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// A CPU's ring, which begins with the names that threads take on there.
    fn ring(&mut self, cpu: u32, bytes: usize) -> Result<()> {
        let refused = || Error::refused(format!("a ring of samples needs CAP_PERFMON or root ({})", perf::paranoid()));
        let attr = Attr::new(kind::SOFTWARE, software::DUMMY).sample(BASE).tasks().watermark((bytes / 8) as u32);
        let event = attr.open(Scope::Cpu(cpu)).map_err(refused())?;
        let ring = Ring::new(&event, bytes).map_err(refused())?;
        event.enable().map_err(refused())?;
        self.rings.push((event, ring));
        Ok(())
    }

    /// Opens the events of a source, which go to the rings.
    fn tap(&mut self, source: &Source, spec: &Spec, probe: usize, begin: Option<usize>) -> Result<()> {
        let tracepoint;
        let (source, holds) = match source {
            Source::Raw { name } if name == "sys_enter" => {
                tracepoint = Source::Tracepoint(Tracepoint::find("raw_syscalls", "sys_enter")?);
                (&tracepoint, Holds::Enter)
            }
            Source::Syscall { .. } => {
                tracepoint = Source::Tracepoint(Tracepoint::find("raw_syscalls", "sys_exit")?);
                (&tracepoint, Holds::Exit)
            }
            Source::Tracepoint(_) => (source, Holds::Record),
            Source::Kernel { .. } | Source::User { .. } => (source, Holds::Registers),
            _ => (source, Holds::Nothing),
        };
        let mut parts = BASE;
        let chain = |v: &Value| matches!(v, Value::KernelStack(1..) | Value::UserStack(1..) | Value::UserFrames { .. });
        if spec.action.values().iter().any(chain) {
            parts |= sample::CALLCHAIN;
        }
        let copies = spec.action.copies_stacks();
        let entry = !copies && spec.action.values().iter().any(lacks_caller);
        if copies || entry {
            parts |= sample::REGS_USER | sample::STACK_USER;
        }
        let stack = if copies { STACK_COPY } else { 8 };
        parts |= match holds {
            Holds::Record | Holds::Enter | Holds::Exit => sample::RAW,
            Holds::Registers => sample::REGS_INTR,
            Holds::Nothing => 0,
        };
        let fetched = Fetched::define(source, spec)?.map(Arc::new);
        let events = match &fetched {
            Some(fetched) => {
                parts |= sample::RAW;
                fetched.source().sample(parts, stack)?
            }
            None => source.sample(parts, stack)?,
        };
        let fetched = fetched.map(|fetched| {
            self.fetched.push(fetched);
            self.fetched.len() - 1
        });
        for ((ring, _), event) in self.rings.iter().zip(events) {
            let refused = || Error::refused(source.name());
            event.redirect(ring).map_err(refused())?;
            if let (Source::Tracepoint(point), Some(test)) = (source, &spec.test)
                && holds == Holds::Record
                && let Some(filter) = filter(point, test)
            {
                // a filter only spares work: what it would refuse is refused here as well
                let _ = event.filter(&filter);
            }
            self.taps.insert(event.id().map_err(refused())?, Tap { probe, begin, holds, parts, fetched, entry });
            event.enable().map_err(refused())?;
            self._events.push(event);
        }
        Ok(())
    }

    /// Waits for samples, at most so long, and hands out what comes of those that nothing older can come behind.
    pub fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Hit)) {
        wait(self.rings.iter().map(|(event, _)| event.fd()), timeout);
        self.hand_out(monotonic(), visit);
    }

    /// Hands out all that is left.
    pub fn finish(&mut self, visit: &mut dyn FnMut(Hit)) {
        self.hand_out(u64::MAX, visit);
    }

    fn hand_out(&mut self, now: u64, visit: &mut dyn FnMut(Hit)) {
        let (taps, waiting, lost, changes) = (&self.taps, &mut self.waiting, &mut self.lost, &mut self.changes);
        for (_, ring) in &mut self.rings {
            ring.drain(|record| match record {
                Record::Sample(body) => waiting.extend(read(taps, body)),
                Record::Lost(n) => *lost += n,
                Record::Other(kind, flags, body) => {
                    waiting.extend(name(kind, body));
                    if changes.len() < MOST_CHANGES {
                        changes.extend(change(kind, flags, body));
                    }
                }
            });
        }
        self.waiting.sort_by_key(|one| one.time);
        let ready = self.waiting.partition_point(|one| one.time < now.saturating_sub(UNDER_WAY));
        let rest = self.waiting.split_off(ready);
        for one in std::mem::replace(&mut self.waiting, rest) {
            match one.what {
                What::Named(tid, name) => {
                    self.comms.insert(tid, name);
                }
                What::Forked([parent, thread], [pid, tid]) => {
                    if self.family.contains(&parent) {
                        self.family.insert(pid);
                    }
                    let name = self.comms.get(&thread).cloned().unwrap_or_default();
                    self.comms.insert(tid, name);
                }
                What::Hit(tap, moment) => {
                    if let Some(hit) = self.hit(tap, *moment) {
                        visit(hit);
                    }
                }
            }
        }
    }

    /// What a program would do.
    fn hit(&mut self, tap: Tap, mut moment: Moment) -> Option<Hit> {
        let (source, spec) = self.probes.get(tap.probe)?;
        let (counters, table) = (self.counters.get_mut(tap.probe)?, self.tables.get_mut(tap.probe)?);
        let left = self.left.get_mut(tap.probe)?;
        // the kernel binds nothing here, for it would bind to one thread
        let bound = source.binds() && spec.join.as_ref().is_none_or(|join| join.who.is_none());
        if bound && self.limits.bound().is_some_and(|pid| pid as u32 != moment.pid) {
            return None;
        }
        moment.in_family = self.family.contains(&moment.pid);
        moment.comm = self.comms.get(&moment.tid).cloned().unwrap_or_default();
        let fetched = tap.fetched.and_then(|fetched| self.fetched.get(fetched));
        moment.fetched = fetched.map(|fetched| (fetched.clone(), std::mem::take(&mut moment.record)));
        if let Some((_, spec)) = tap.begin.and_then(|n| spec.join.as_ref()?.begins.get(n)) {
            leave(&moment, spec, left, self.limits.keys, counters);
            return None;
        }
        counters.hits += 1;
        let mut who = (moment.pid, moment.tid);
        if let Some(join) = &spec.join {
            let Some(saved) = left.remove(&moment.values(&join.key).0) else {
                counters.alone += 1;
                return None;
            };
            moment.saved = saved;
            who = beginner(&moment, join).unwrap_or(who);
        }
        if !passes(&moment, spec, counters) {
            return None;
        }
        match &spec.action {
            Action::Emit(values) => {
                let (values, unreadable) = moment.values(values);
                let (time, cpu, id) = (moment.time, moment.cpu, spec.id);
                return Some(Hit { id, time, cpu, pid: who.0, tid: who.1, unreadable, values, user: moment.stack });
            }
            Action::Aggregate { key, of } => {
                let marked = key.iter().any(Value::may_fail);
                let (mut key, missing) = moment.values(key);
                if marked {
                    key.extend(missing.to_ne_bytes());
                }
                key.resize(key.len().max(8), 0);
                let value = of.as_ref().map_or(0, |of| moment.int(of).unwrap_or(0));
                let one = Entry { count: 1, sum: value, least: value, most: value };
                let full = table.len() >= self.limits.keys;
                match table.get_mut(&key) {
                    Some(entry) => *entry = entry.and(one),
                    None if full => counters.lost += 1,
                    None => {
                        table.insert(key, one);
                    }
                }
            }
            Action::Leave { .. } => {}
        }
        None
    }

    /// How many hits of a probe found no room in its table.
    pub fn lost_of(&self, probe: usize) -> u64 {
        self.counters.get(probe).map_or(0, |counters| counters.lost)
    }

    /// What was counted, all together.
    pub fn counters(&self) -> Counters {
        let mut all = Counters { lost: self.lost, hits: self.lost, passed: self.lost, ..Counters::default() };
        for one in &self.counters {
            all.add(one);
        }
        all
    }

    /// Visits every key of every probe with what is kept of it.
    pub fn entries(&self, visit: &mut dyn FnMut(usize, &[u8], Entry)) {
        for (i, table) in self.tables.iter().enumerate() {
            table.iter().for_each(|(key, entry)| visit(i, key, *entry));
        }
    }
}

/// Whether the condition holds.
fn passes(moment: &Moment, spec: &Spec, counters: &mut Counters) -> bool {
    match spec.test.as_ref().map_or(Some(true), |test| moment.test(test)) {
        Some(true) => {
            counters.passed += 1;
            true
        }
        Some(false) => false,
        None => {
            counters.unknown += 1;
            false
        }
    }
}

/// Leaves something for a later hit.
fn leave(moment: &Moment, spec: &Spec, left: &mut HashMap<Vec<u8>, Vec<u8>>, most: usize, counters: &mut Counters) {
    let Action::Leave { key, what } = &spec.action else { return };
    if spec.test.as_ref().is_some_and(|test| moment.test(test) != Some(true)) {
        return;
    }
    let key = moment.values(key).0;
    if left.len() >= most && !left.contains_key(&key) {
        counters.lost += 1;
        return;
    }
    left.insert(key, moment.values(what).0);
}

/// Process and thread of the earlier hit.
fn beginner(moment: &Moment, join: &Join) -> Option<(u32, u32)> {
    let word = moment.int(&Int::saved(join.who?, 8, false))? as u64;
    Some(((word >> 32) as u32, word as u32))
}

/// Whether it is a chain of frames that begins where a function does, before that has a frame of its own: kernels before Linux
/// 6.11 (cfa7f3d2c526) leave out who called it. On arm64 no stack says who did.
fn lacks_caller(value: &Value) -> bool {
    cfg!(target_arch = "x86_64") && matches!(value, Value::UserFrames { entry: true, .. })
}

/// Refuses what has no meaning without BPF; notes values that will be missing.
fn check(source: &Source, spec: &Spec, missing: &mut Vec<&'static str>) -> Result<()> {
    let begins = spec.join.iter().flat_map(|join| &join.begins);
    for (source, spec) in begins.chain([&(source.clone(), spec.clone())]) {
        if matches!(source, Source::Raw { name } if name != "sys_enter") {
            return Err(needs(source, "what a raw tracepoint hands over"));
        }
        let reach = Reach { int: &|int| fetch::can_int(source, int), text: &|text| fetch::can_text(source, text) };
        let why = |value: &Value| match value {
            Value::Int(int) => obstacle(int, &reach),
            Value::Text(text, _) => obstacle_of_text(text, &reach),
            Value::Path(_) => Some("memory at the hit"),
            Value::KernelStack(_) | Value::UserStack(_) | Value::UserFrames { .. } | Value::SavedStack { .. } => None,
        };
        let (shown, required, of): (&[Value], &[Value], _) = match &spec.action {
            Action::Emit(values) => (values, &[], None),
            Action::Aggregate { key, of } => (&[], key, of.as_ref()),
            Action::Leave { key, .. } => (&[], key, None),
        };
        let of = of.and_then(|of| obstacle(of, &reach));
        let test = || spec.test.as_ref().and_then(|test| obstacle_of(test, &reach));
        if let Some(why) = of.or_else(test).or_else(|| required.iter().find_map(why)) {
            return Err(needs(source, why));
        }
        missing.extend(shown.iter().filter_map(why));
    }
    missing.dedup();
    Ok(())
}

fn needs(source: &Source, what: &str) -> Error {
    Error::Wrong(format!("{}: {what} is seen by BPF only, and this runs without it", source.name()))
}

/// The parts of a condition that the kernel's filters know: fields against numbers and plain texts.
fn filter(point: &Tracepoint, test: &Test) -> Option<String> {
    match test {
        Test::All(of) => {
            let known: Vec<_> = of.iter().filter_map(|test| filter(point, test)).collect();
            (!known.is_empty()).then(|| known.join(" && "))
        }
        Test::Int(Int::Binary(op, left, right)) => {
            let (Int::Context { offset, size, signed }, Int::Const(number)) = (&**left, &**right) else { return None };
            let field = point.fields.iter().find(|f| (f.offset, f.size) == (*offset, u16::from(*size)))?;
            let same = field.signed == *signed;
            let op = match op {
                Binary::Eq if same => "==",
                Binary::Ne if same => "!=",
                Binary::Lt { signed } if signed == &field.signed => "<",
                Binary::Le { signed } if signed == &field.signed => "<=",
                Binary::Gt { signed } if signed == &field.signed => ">",
                Binary::Ge { signed } if signed == &field.signed => ">=",
                _ => return None,
            };
            Some(format!("{} {op} {number}", field.name))
        }
        _ => None,
    }
}

/// A sample, taken apart.
fn read(taps: &HashMap<u64, Tap>, body: &[u8]) -> Option<Waiting> {
    let mut rest = body;
    let tap = *taps.get(&take(&mut rest)?)?;
    let (who, time, cpu) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)? as u32);
    let mut moment = Moment { pid: who as u32, tid: (who >> 32) as u32, cpu, time, ..Moment::default() };
    if tap.parts & sample::CALLCHAIN != 0 {
        let mut of_user = false;
        for _ in 0..take(&mut rest)? {
            match take(&mut rest)? {
                OF_KERNEL => of_user = false,
                OF_USER => of_user = true,
                mark if mark >= MARKS => break,
                pc if of_user => moment.user.push(pc),
                pc => moment.kernel.push(pc),
            }
        }
    }
    match tap.holds {
        Holds::Record | Holds::Enter | Holds::Exit => {
            let (len, behind) = rest.split_first_chunk()?;
            let (record, behind) = behind.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
            rest = behind;
            match tap.holds {
                Holds::Record => moment.context = record.to_vec(),
                holds => syscall(&mut moment, record, holds == Holds::Enter)?,
            }
        }
        Holds::Registers => {
            if tap.parts & sample::RAW != 0 {
                let (len, behind) = rest.split_first_chunk()?;
                let (record, behind) = behind.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
                (moment.record, rest) = (record.to_vec(), behind);
            }
            let words = registers::MASK.count_ones() as usize;
            let (before, registers) = rest.split_at_checked(rest.len().checked_sub(words * 8)?)?;
            let words: Vec<u64> = registers.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
            moment.context = registers::as_pt_regs(&words);
            rest = before;
        }
        Holds::Nothing => {}
    }
    if tap.parts & sample::STACK_USER != 0 {
        moment.stack = UserState::parse(rest);
    }
    if tap.entry
        && let Some(caller) = moment.stack.take().and_then(|user| Some(u64::from_ne_bytes(*user.stack.first_chunk()?)))
        && !moment.user.is_empty()
        && moment.user.get(1) != Some(&caller)
    {
        moment.user.insert(1, caller);
    }
    Some(Waiting { time, what: What::Hit(tap, Box::new(moment)) })
}

/// From the record of a system call's tracepoint to what the raw one hands over: registers and number, or result.
fn syscall(moment: &mut Moment, record: &[u8], enters: bool) -> Option<()> {
    let number: &[u8; 8] = record.get(8..)?.first_chunk()?;
    let second: &[u8; 8] = record.get(16..)?.first_chunk()?;
    moment.context = [[0; 8], if enters { *number } else { *second }].concat();
    if enters {
        let arguments = record.get(16..)?.as_chunks::<8>().0;
        moment.registers = registers::of_syscall(arguments);
    }
    Some(())
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let (word, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_ne_bytes(*word))
}

/// What a record says of a thread's name. Behind each are the parts of [`BASE`]: thread, time, CPU, identifier.
fn name(kind: u32, body: &[u8]) -> Option<Waiting> {
    let half = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let behind = body.len().checked_sub(32)?;
    let time = u64::from_ne_bytes(*body.get(behind + 8..)?.first_chunk()?);
    let what = match kind {
        COMM => What::Named(half(4)?, body.get(8..behind)?.split(|b| *b == 0).next()?.to_vec()),
        FORK => What::Forked([half(4)?, half(12)?], [half(0)?, half(8)?]),
        _ => return None,
    };
    Some(Waiting { time, what })
}

/// What a record says of a process. Behind it is only the time that [`Change`] expects.
fn change(kind: u32, flags: u16, body: &[u8]) -> Option<Change> {
    let (body, behind) = body.split_at_checked(body.len().checked_sub(32)?)?;
    Change::parse(kind, flags, &[body, behind.get(8..16)?].concat())
}

/// What threads are called now.
fn names() -> HashMap<u32, Vec<u8>> {
    let numbers = |path: &str| -> Vec<u32> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    let mut names = HashMap::new();
    for pid in numbers("/proc") {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            if let Ok(name) = fs::read(format!("/proc/{pid}/task/{tid}/comm")) {
                names.insert(tid, name.trim_ascii_end().to_vec());
            }
        }
    }
    names
}
