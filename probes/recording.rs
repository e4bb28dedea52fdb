//! Probes that are set, and what comes from them.
//!
//! Events of all CPUs come out in the order of time: what was written before a moment is in the rings when they are
//! read after it, so whatever is older than the moment reading began can be handed out.

use crate::{
    Error, Result,
    attach::{Attach, Attached, Loaded},
    emit::Tables,
    family::{Born, Family},
    perf::{Attr, Event, Scope, kind, online_cpus, sample, software},
    program::{Action, Counters, HEADER, Join, Spec, room},
    ring::{Record, Ring, wait},
    sampled::Sampled,
    source::Source,
    tasks::Change,
};
use bpf::{Shape, Table};
use std::time::Duration;

/// How much room, and whose hits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// of each CPU's ring, in bytes
    pub ring: usize,
    /// that a table holds
    pub keys: usize,
    /// the process, where the kernel can tell; everybody's if none
    pub pid: Option<i32>,
    /// how processes are told that the one begins, if they count as it
    pub family: Option<Born>,
    /// whether what processes map is told ([`Recording::changes`]) even if no stack of theirs is asked for
    pub maps: bool,
    /// whether some of several probes may be missing: those of a pattern, of which the kernel refuses one or other
    pub some: bool,
    /// bytes of a key that a table of the kernel's has whole; of longer ones it has digests, which are made faster
    /// than the kernel hashes and compares all that room
    pub longest_key: usize,
    /// where the kernel tells how far a user's stack reaches
    pub reach: Option<Reach>,
    /// whether BPF may be used; if not, or where it is refused, perf's samples are looked at here
    pub bpf: bool,
}

/// Where the kernel tells how far the stack of a thread reaches, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// of `mm` in a `struct task_struct`
    pub mm: i32,
    /// of `start_stack` in a `struct mm_struct`
    pub start_stack: i32,
    /// of the register in a `struct task_struct` that points to what a thread has of its own, which C libraries lay above
    /// its stack
    pub thread: Option<i32>,
    /// whether a program is told where a task's registers are ([`TaskPtRegs`](bpf::Helper::TaskPtRegs)), who is not at a
    /// place in the task's own code
    pub registers: bool,
}

/// Copies of stacks in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stacks {
    /// none
    None,
    /// made by programs, and the registers by perf
    Ours,
    /// made by perf, all of one length
    Perfs,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            ring: 4 << 20,
            keys: 16384,
            pid: None,
            family: None,
            maps: false,
            some: false,
            longest_key: 48,
            reach: None,
            bpf: true,
        }
    }
}

impl Limits {
    /// The process that the kernel itself is to bind probes to.
    pub(crate) fn bound(&self) -> Option<i32> {
        self.pid.filter(|_| self.family.is_none())
    }
}

/// A hit that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// of which probe
    pub id: u64,
    /// CLOCK_MONOTONIC in ns
    pub time: u64,
    /// CPU
    pub cpu: u32,
    /// process id
    pub pid: u32,
    /// thread id
    pub tid: u32,
    /// a bit for each value that could not be read
    pub unreadable: u64,
    /// the values, one behind the other
    pub values: Vec<u8>,
    /// what the process was doing, if that was asked for and it was no kernel thread
    pub user: Option<UserState>,
}

/// Where a process was when it entered the kernel, or when the probe was hit in its own code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserState {
    /// registers, in the order of [`REGISTERS`](crate::source::USER_REGISTERS)
    pub registers: Vec<u64>,
    /// its stack, from the stack pointer on, as much as was asked for and could be read
    pub stack: Vec<u8>,
}

/// Bytes of a user's stack that are copied at a hit.
pub const STACK_COPY: u32 = 16 << 10;
/// A ring that takes copies of stacks is larger, but all of them together take no more than so many bytes.
const MOST_RINGS: usize = 256 << 20;
const LARGE_RING: usize = 16 << 20;
pub(crate) const MOST_CHANGES: usize = 1 << 16;

/// Probes that are set. Dropping it takes them away.
pub struct Recording {
    attached: Attached,
    /// keeps the processes of a command in mind
    family: Option<Family>,
    rings: Option<Rings>,
    pending: Vec<Hit>,
    changes: Vec<Change>,
    /// events that found no room in a ring
    lost: u64,
    /// hits that found no room, by probe
    lost_of: Option<Table>,
    /// what does it all where BPF may not
    sampled: Option<Box<Sampled>>,
}

/// One ring for each CPU; the events of all probes go there.
pub struct Rings {
    table: Table,
    rings: Vec<(u32, Event, Ring)>,
}

impl Rings {
    /// Opens them, of so many bytes each.
    pub(crate) fn new(bytes: usize, stacks: Stacks) -> Result<Rings> {
        let cpus = online_cpus().map_err(Error::refused("which CPUs are online"))?;
        let bytes = match stacks {
            Stacks::None => bytes,
            _ => (MOST_RINGS / cpus.len().max(1)).clamp(bytes.min(1 << 20), LARGE_RING),
        };
        let most = cpus.iter().max().map_or(1, |cpu| *cpu as usize + 1);
        let table =
            Table::new(Shape::PerfEventArray, 4, 4, most).map_err(Error::refused("BPF needs CAP_BPF or root"))?;
        let refused = || Error::refused("a ring of events needs CAP_PERFMON or root");
        // a reader that is woken for each event costs more than the event
        let mut attr = Attr::new(kind::SOFTWARE, software::BPF_OUTPUT)
            .period(1)
            .sample(sample::TIME | sample::RAW)
            .watermark((bytes / 8) as u32)
            .tasks();
        let registers = crate::source::USER_REGISTERS;
        attr = match stacks {
            Stacks::None => attr,
            Stacks::Ours => attr.sample(sample::REGS_USER).stacks(0, registers, 0),
            Stacks::Perfs => attr.sample(sample::REGS_USER | sample::STACK_USER).stacks(0, registers, STACK_COPY),
        };
        let mut rings = Vec::new();
        for cpu in cpus {
            let event = attr.open(Scope::Cpu(cpu)).map_err(refused())?;
            let ring = Ring::new(&event, bytes).map_err(refused())?;
            table.set(&cpu.to_ne_bytes(), &(event.fd() as u32).to_ne_bytes()).map_err(refused())?;
            event.enable().map_err(refused())?;
            rings.push((cpu, event, ring));
        }
        Ok(Rings { table, rings })
    }

    /// What programs emit to.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Waits until something comes, or so long.
    fn wait(&self, timeout: Duration) {
        wait(self.rings.iter().map(|(_, event, _)| event.fd()), timeout);
    }
}

impl Recording {
    /// Sets probes. Each has its source and what is done there.
    pub fn start(probes: &[(Source, Spec)], limits: Limits) -> Result<Recording> {
        if !limits.bpf {
            return Recording::sample(probes, limits);
        }
        match Recording::load(probes, limits) {
            Err(refused) if refused.is_refusal() => {
                Recording::sample(probes, limits).map_err(|other| refused.and(other))
            }
            result => result,
        }
    }

    /// Sets them without BPF.
    fn sample(probes: &[(Source, Spec)], limits: Limits) -> Result<Recording> {
        let sampled = Some(Box::new(Sampled::start(probes, limits)?));
        let (attached, pending, changes) = Default::default();
        Ok(Recording { attached, family: None, rings: None, pending, changes, lost: 0, lost_of: None, sampled })
    }

    /// What the samples of perf that stand in for BPF cannot tell; none if it is BPF that tells.
    pub fn without_bpf(&self) -> Option<&[&'static str]> {
        self.sampled.as_ref().map(|sampled| sampled.missing())
    }

    /// Sets them with BPF.
    fn load(probes: &[(Source, Spec)], limits: Limits) -> Result<Recording> {
        let emits = probes.iter().any(|(_, spec)| matches!(spec.action, Action::Emit(_)));
        let reach = Recording::reach(probes, &limits);
        let stacks = match probes.iter().any(|(_, spec)| spec.action.copies_stacks()) {
            false => Stacks::None,
            true if reach.is_some() => Stacks::Ours,
            true => Stacks::Perfs,
        };
        // stacks that are keys need to know what was mapped
        let named = limits.maps || probes.iter().any(|(_, spec)| spec.has_user_stacks());
        let rings = (emits || named).then(|| Rings::new(limits.ring, stacks)).transpose()?;
        let family = Family::of(&limits)?;
        let fd = |table: Option<&Table>| table.map_or(-1, Table::fd);
        let refused = Error::refused("BPF needs CAP_BPF or root");
        let lost_of = Table::new(Shape::PerCpuArray, 4, 8, probes.len().max(1)).map_err(refused)?;
        let tables = Tables {
            rings: fd(rings.as_ref().map(|r| &r.table)),
            left: -1,
            family: fd(family.as_ref().map(|f| &f.members)),
            reach,
            lost: lost_of.fd(),
        };
        let attached = Attach { probes, limits, tables, done: Attached::default() }.all()?;
        let (pending, changes, sampled) = (Vec::new(), Vec::new(), None);
        Ok(Recording { attached, family, rings, pending, changes, lost: 0, lost_of: Some(lost_of), sampled })
    }

    /// How far stacks reach, if the programs of all these probes can copy them: where a process is in its own code they
    /// have its stack pointer, elsewhere they have to ask.
    pub(crate) fn reach(probes: &[(Source, Spec)], limits: &Limits) -> Option<Reach> {
        /// Bytes of an event that leave room for the copy in what a program may have on a CPU.
        const MOST: usize = 4096;
        let can = |(_, spec): &(Source, Spec)| {
            let left = spec.join.as_ref().map_or(0, |join| room(&join.key) + join.room);
            spec.action.room() + left <= MOST
        };
        let mut copying = probes.iter().filter(|(_, spec)| spec.action.copies_stacks());
        let in_own_code = copying.clone().all(|(source, _)| matches!(source, Source::User { .. }));
        let reach = limits.reach.filter(|reach| in_own_code || reach.registers)?;
        copying.all(can).then_some(Reach { registers: !in_own_code, ..reach })
    }

    /// Waits for events, at most so long, and hands out those that nothing older can come behind any more.
    pub fn poll(&mut self, timeout: Duration, visit: &mut dyn FnMut(Hit)) {
        if let Some(sampled) = &mut self.sampled {
            return sampled.poll(timeout, visit);
        }
        match &self.rings {
            Some(rings) => rings.wait(timeout),
            None => std::thread::sleep(timeout),
        }
        self.hand_out(monotonic(), visit);
    }

    /// Hands out all that is left.
    pub fn finish(&mut self, visit: &mut dyn FnMut(Hit)) {
        if let Some(sampled) = &mut self.sampled {
            return sampled.finish(visit);
        }
        self.hand_out(u64::MAX, visit);
    }

    fn hand_out(&mut self, now: u64, visit: &mut dyn FnMut(Hit)) {
        /// Between taking its time and being in the ring an event may be so old, in ns.
        const UNDER_WAY: u64 = 1_000_000;
        let Some(rings) = &mut self.rings else { return };
        for (cpu, _, ring) in &mut rings.rings {
            ring.drain(|record| match record {
                Record::Sample(body) => self.pending.extend(hit(*cpu, body)),
                Record::Lost(n) => self.lost += n,
                // whoever does not ask for them does not pay for them without end
                Record::Other(..) if self.changes.len() >= MOST_CHANGES => {}
                Record::Other(kind, flags, body) => self.changes.extend(Change::parse(kind, flags, body)),
            });
        }
        self.pending.sort_by_key(|hit| hit.time);
        let ready = self.pending.partition_point(|hit| hit.time < now.saturating_sub(UNDER_WAY));
        self.pending.drain(..ready).for_each(visit);
    }

    /// The programs, each with the probes that it stands at.
    pub fn programs(&self) -> &[Loaded] {
        &self.attached.programs
    }

    /// What processes mapped, and which began, since this was asked for: to be known before the hits that came
    /// meanwhile are looked at.
    pub fn changes(&mut self) -> Vec<Change> {
        match &mut self.sampled {
            Some(sampled) => sampled.changes(),
            None => std::mem::take(&mut self.changes),
        }
    }

    /// Whether processes that a command begins are not seen, though they should be.
    pub fn is_alone(&self) -> bool {
        self.family.as_ref().is_some_and(Family::is_alone)
    }

    /// Why probes are missing that could not be set.
    pub fn missing(&self) -> &[Error] {
        &self.attached.missing
    }

    /// What the programs counted, all together.
    pub fn counters(&self) -> Result<Counters> {
        if let Some(sampled) = &self.sampled {
            return Ok(sampled.counters());
        }
        let mut all = Counters::default();
        for Loaded { program, .. } in &self.attached.programs {
            all.add(&program.counters().map_err(Error::refused("counters"))?);
        }
        for program in &self.attached.begins {
            let begun = program.counters().map_err(Error::refused("counters"))?;
            all.lost += begun.lost;
            all.missed += begun.missed;
        }
        Ok(all)
    }

    /// How many hits of a probe, by the number that it has, passed and found no room.
    pub fn lost_of(&self, probe: usize) -> u64 {
        if let Some(sampled) = &self.sampled {
            return sampled.lost_of(probe);
        }
        let key = u32::try_from(probe).unwrap_or(u32::MAX).to_ne_bytes();
        let value = self.lost_of.as_ref().and_then(|table| table.get(&key).ok().flatten()).unwrap_or_default();
        value.as_chunks::<8>().0.iter().fold(0, |sum, cpu| sum.wrapping_add(u64::from_ne_bytes(*cpu)))
    }

    /// Visits every key of every table with what its probe keeps: number, sum, least and most, of all CPUs together.
    pub fn entries(&self, mut visit: impl FnMut(usize, &[u8], Entry)) -> Result<()> {
        if let Some(sampled) = &self.sampled {
            sampled.entries(&mut visit);
        }
        for Loaded { program, members, shared, .. } in &self.attached.programs {
            program.entries(|key, cpus| {
                let entries = cpus.chunks(crate::program::ENTRY).filter_map(Entry::parse);
                let Some(all) = entries.reduce(Entry::and) else { return };
                // which of several it was is the first word
                match (shared, key.split_first_chunk(), members.first()) {
                    (false, _, Some(only)) => visit(*only, key, all),
                    (true, Some((probe, key)), _) => visit(u64::from_ne_bytes(*probe) as usize, key, all),
                    _ => {}
                }
            })?;
        }
        Ok(())
    }
}

/// Where hits leave something for later ones. What nobody fetches makes room in time.
pub fn left(join: &Join, keys: usize) -> Result<Table> {
    let refused = Error::refused(format!("a table of {keys} calls under way"));
    Table::new(Shape::LruHash, room(&join.key), join.room, keys).map_err(refused)
}

/// What is kept of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// hits
    pub count: u64,
    /// of their values
    pub sum: i64,
    /// of their values
    pub least: i64,
    /// of their values
    pub most: i64,
}

impl Entry {
    /// One CPU's; none if it saw no hit.
    fn parse(bytes: &[u8]) -> Option<Entry> {
        let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at * 8..)?.first_chunk()?));
        let entry = Entry { count: word(0)?, sum: word(1)? as i64, least: word(2)? as i64, most: word(3)? as i64 };
        (entry.count > 0).then_some(entry)
    }

    /// Both together.
    pub fn and(self, other: Entry) -> Entry {
        Entry {
            count: self.count.wrapping_add(other.count),
            sum: self.sum.wrapping_add(other.sum),
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }
}

/// A sample of a ring: the time, a length, what the program emitted, and perhaps the user's registers and stack.
fn hit(cpu: u32, body: &[u8]) -> Option<Hit> {
    let (_, body) = body.split_at_checked(8)?;
    let (len, rest) = body.split_first_chunk()?;
    let (record, rest) = rest.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
    let word = |at: usize| Some(u64::from_ne_bytes(*record.get(at * 8..)?.first_chunk()?));
    let who = word(2)?;
    // behind them there is padding, which holds anything
    let values = record.get(HEADER..)?.as_chunks::<8>().0.as_flattened();
    let (values, copy) = values.split_at_checked(values.len().checked_sub((word(0)? >> 32) as usize)?)?;
    let mut user = UserState::parse(rest);
    if let (Some(user), false) = (&mut user, copy.is_empty()) {
        user.stack = copy.to_vec();
    }
    Some(Hit {
        id: word(0)? & u64::from(u32::MAX),
        time: word(1)?,
        cpu,
        pid: (who >> 32) as u32,
        tid: who as u32,
        unreadable: word(3)?,
        values: values.to_vec(),
        user,
    })
}

impl UserState {
    /// An ABI, registers and, if perf copies the stack, the size of what was to be copied, that much, and how much of it is good.
    pub(crate) fn parse(bytes: &[u8]) -> Option<UserState> {
        let (abi, mut rest) = bytes.split_first_chunk()?;
        if u64::from_ne_bytes(*abi) == 0 {
            return None;
        }
        let mut registers = Vec::new();
        for _ in 0..crate::source::USER_REGISTERS.count_ones() {
            let (register, behind) = rest.split_first_chunk()?;
            registers.push(u64::from_ne_bytes(*register));
            rest = behind;
        }
        let Some((size, rest)) = rest.split_first_chunk() else {
            return Some(UserState { registers, stack: Vec::new() });
        };
        let (stack, rest) = rest.split_at_checked(usize::try_from(u64::from_ne_bytes(*size)).ok()?)?;
        let good = rest.first_chunk().map_or(0, |good| u64::from_ne_bytes(*good));
        let stack = stack.get(..usize::try_from(good).ok()?.min(stack.len()))?.to_vec();
        Some(UserState { registers, stack })
    }
}

/// CLOCK_MONOTONIC in ns, by which hits have their time.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is written, and only during the call.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now)
    };
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}
