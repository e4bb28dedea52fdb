//! What a program allocates and does not free: `::memleak`.
//!
//! ```console
//! > ::memleak -C ./cycle
//! BYTES BLOCKS
//! 24000    500
//!              libc.so.6`malloc
//!              libstdc++.so.6.0.30`operator new+0x1c
//!              cycle`make+0x2e
//!              cycle`main+0x18
//! ```
//!
//! Every call of malloc(3) and its like, and of free(3), is met by a probe; what is left is shown by the stack that it was
//! allocated by. Nothing of the program has to be prepared, and it runs on meanwhile.

use crate::probe::{
    command::{Started, is_gone},
    duration,
    join::reach,
    spec,
    users::{Seen, Users, When},
};
use engine::{IntoRow, prelude::*};
use probes::{
    Recording,
    expr::{Binary, Current, Int, Space, Value},
    program::{Action, Join, Spec, room},
    recording::{Hit, Limits},
    source::{self, Source},
    tasks::{Change, What},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// Show what a process allocates and does not free, by call stack.
///
/// It ends on Ctrl-C, after `-d`, or with the command of `-C`; then the blocks that are left are shown, the most bytes
/// first. Only what is allocated meanwhile is known. A block that is left is no leak yet: `-a` leaves out young ones.
#[derive(Args)]
pub struct Memleak {
    /// the process
    #[arg(short = 'p', value_name = "PID", required_unless_present = "command")]
    pid: Option<ExprArg>,
    /// run this command, and end with it
    #[arg(short = 'C', value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// end after so long: `10s`, `500ms`, `2m`
    #[arg(short = 'd', value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// only blocks that are so old at the end
    #[arg(short = 'a', value_name = "TIME", value_parser = duration)]
    age: Option<Duration>,
    /// the program or library that has malloc
    #[arg(short = 'o', value_name = "FILE", default_value = "libc")]
    object: String,
}

/// Of each CPU's ring, in bytes: programs allocate in bursts.
const RING: usize = 16 << 20;

/// Blocks of one stack.
#[derive(Row)]
struct LeakRow {
    /// of all of them
    bytes: u64,
    /// how many
    blocks: u64,
    /// who allocated them
    #[detail]
    stack: Vec<String>,
}

/// How a function allocates: which argument is the size, which it is multiplied by, which is the block that it replaces, and
/// which says where it puts the block's address, if it does not return that.
struct Allocator {
    name: &'static str,
    size: usize,
    times: Option<usize>,
    old: Option<usize>,
    place: Option<usize>,
}

impl Allocator {
    const fn of(name: &'static str, size: usize) -> Allocator {
        Allocator { name, size, times: None, old: None, place: None }
    }
}

const ALLOCATORS: &[Allocator] = &[
    Allocator::of("malloc", 0),
    Allocator { times: Some(1), ..Allocator::of("calloc", 0) },
    Allocator { old: Some(0), ..Allocator::of("realloc", 1) },
    Allocator { old: Some(0), times: Some(2), ..Allocator::of("reallocarray", 1) },
    Allocator { place: Some(0), ..Allocator::of("posix_memalign", 2) },
    Allocator::of("aligned_alloc", 1),
    Allocator::of("memalign", 1),
    Allocator::of("valloc", 0),
    Allocator::of("pvalloc", 0),
];
const FREE: u64 = ALLOCATORS.len() as u64;
/// Blocks that are kept at once.
const MOST_BLOCKS: usize = 1 << 21;
/// Longest wait before a look at Ctrl-C and at the time.
const ROUND: Duration = Duration::from_millis(20);
/// Events of the two recordings are put into order once they are so old, in ns.
const SETTLED: u64 = 20_000_000;

/// A block that is there.
struct Block {
    size: u64,
    time: u64,
    stack: usize,
}

/// What was met, in the order of time.
enum Event {
    /// a call, with the size and the block that it replaces
    Call {
        which: u64,
        size: u64,
        old: u64,
    },
    /// it came back with a block
    Back {
        which: u64,
        block: u64,
        stack: usize,
    },
    Free {
        block: u64,
    },
    /// the process became another program: all is gone
    Executed,
}

/// The blocks of a run.
#[derive(Default)]
struct Blocks {
    blocks: HashMap<u64, Block>,
    /// calls that have not come back, by thread
    calls: HashMap<u32, Vec<(u64, u64, u64)>>,
    stacks: Vec<Vec<u64>>,
    known: HashMap<Vec<u64>, usize>,
    pending: BTreeMap<(u64, u64), (u32, Event)>,
    number: u64,
    last: u64,
    unkept: u64,
}

impl Dcmd for Memleak {
    const NAME: &'static str = "memleak";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[LeakRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if !cx.is_live() {
            return Err(Error::Usage("programs run on a running kernel, and this is a dump".into())
                .hint("`kmdb -k` opens the running one; `::findleaks` looks for what a kernel leaked"));
        }
        let given = self.pid.as_ref().map(|pid| pid.eval(cx)).transpose()?;
        let given = given.map(|pid| i32::try_from(pid).map_err(|_| Error::Usage(format!("{pid} is no process id"))));
        let mut started = self.command.as_deref().map(Started::new).transpose()?;
        let Some(pid) = given.transpose()?.or(started.as_ref().map(Started::pid)) else { return Ok(()) };
        let (calls, backs) = self.probes(cx, pid)?;
        let limits = Limits { pid: Some(pid), reach: reach(cx, &backs), ring: RING, ..Limits::default() };
        let mut backs = Recording::start(&backs, limits).map_err(spec::wrong)?;
        let mut calls = Recording::start(&calls, limits).map_err(spec::wrong)?;
        if let Some(started) = &mut started {
            started.go(false)?;
        }
        let mut users = Users::new(cx.once(|| Ok(Seen::default()))?);
        let mut blocks = Blocks::default();
        let start = Instant::now();
        loop {
            let left = self.duration.map(|d| d.saturating_sub(start.elapsed()));
            let ended = started.as_mut().is_some_and(Started::has_ended) || is_gone(pid);
            // Ctrl-C is how a run ends, and no reason to withhold what it found
            if ended || left.is_some_and(|left| left.is_zero()) || cx.interrupt.is_set() {
                break;
            }
            let round = left.map_or(ROUND, |left| left.min(ROUND));
            let mut hits = Vec::new();
            backs.poll(round, &mut |hit| hits.push(hit));
            calls.poll(Duration::ZERO, &mut |hit| hits.push(hit));
            backs.changes().into_iter().for_each(|change| blocks.change(change, pid as u32, &mut users));
            calls.changes();
            hits.into_iter().for_each(|hit| blocks.take(hit, &mut users));
            blocks.settle(SETTLED);
        }
        cx.interrupt.clear();
        let mut hits = Vec::new();
        backs.finish(&mut |hit| hits.push(hit));
        calls.finish(&mut |hit| hits.push(hit));
        backs.changes().into_iter().for_each(|change| blocks.change(change, pid as u32, &mut users));
        hits.into_iter().for_each(|hit| blocks.take(hit, &mut users));
        blocks.settle(0);
        let lost = calls.counters().map_err(spec::wrong)?.lost + backs.counters().map_err(spec::wrong)?.lost;
        self.show(cx, &blocks, &mut users, pid as u32, lost, out)
    }
}

impl Memleak {
    /// Probes of calls, and of what they come back with: these bring the stack along.
    #[allow(clippy::type_complexity)]
    fn probes(&self, cx: &Cx<'_>, pid: i32) -> Result<(Vec<(Source, Spec)>, Vec<(Source, Spec)>)> {
        let missing = || Error::Unavailable("arguments of functions are not known on this architecture".into());
        let argument =
            |index: usize| -> Result<Int> { Ok(Int::context(source::argument(index).ok_or_else(missing)?, 8, false)) };
        let (mut calls, mut backs) = (Vec::new(), Vec::new());
        let spec = |id: usize, join, values| {
            let action = Action::Emit(values);
            Spec { id: id as u64, join, test: None, action, result: 0 }
        };
        let find = |kind: &str, name: &str| spec::find(cx, &format!("{kind}:{}:{name}", self.object), Some(pid));
        for (id, allocator) in ALLOCATORS.iter().enumerate() {
            let Ok(found) = find("u", allocator.name) else { continue };
            let mut size = argument(allocator.size)?;
            if let Some(times) = allocator.times {
                size = Int::binary(Binary::Mul, size, argument(times)?);
            }
            let old = allocator.old.map_or(Ok(Int::Const(0)), argument)?;
            let join = allocator.place.map(argument).transpose()?.map(|place| left(&found, place));
            for one in found {
                calls.push((one, spec(id, None, vec![Value::Int(size.clone()), Value::Int(old.clone())])));
            }
            for one in find("ur", allocator.name)? {
                let block = block(join.is_some()).ok_or_else(missing)?;
                backs.push((one, spec(id, join.clone(), vec![Value::Int(block), Value::UserStack(0)])));
            }
        }
        for one in find("u", "free")? {
            calls.push((one, spec(ALLOCATORS.len(), None, vec![Value::Int(argument(0)?)])));
        }
        Ok((calls, backs))
    }

    /// Says what is to be known beside the blocks.
    fn note(&self, cx: &Cx<'_>, blocks: &Blocks, pid: u32, lost: u64) {
        if self.command.is_none() && is_gone(pid as i32) {
            cx.notes.once(0, format!("process {pid} has ended"));
        }
        if blocks.number == 0 {
            cx.notes.once(0, "nothing was allocated or freed meanwhile");
        }
        if lost > 0 {
            let text = format!("{lost} calls lost: the ring was full; blocks may have been freed that are shown");
            cx.notes.once(0, text);
        }
        if blocks.unkept > 0 {
            cx.notes.once(0, format!("{} blocks beyond {MOST_BLOCKS} are not shown", blocks.unkept));
        }
    }

    fn show(
        &self,
        cx: &Cx<'_>,
        blocks: &Blocks,
        users: &mut Users,
        pid: u32,
        lost: u64,
        out: &mut Out<'_>,
    ) -> Result<()> {
        // first: whoever wants a few rows only takes no more than those
        self.note(cx, blocks, pid, lost);
        let young = self.age.map_or(0, |age| age.as_nanos() as u64);
        let mut groups: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for block in blocks.blocks.values().filter(|block| blocks.last.saturating_sub(block.time) >= young) {
            let (bytes, count) = groups.entry(block.stack).or_default();
            (*bytes, *count) = (bytes.saturating_add(block.size), *count + 1);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(stack, (bytes, count))| (std::cmp::Reverse((*bytes, *count)), *stack));
        let when = When { pid, time: u64::MAX };
        for (stack, (bytes, count)) in groups {
            let frames = blocks.stacks.get(stack).cloned().unwrap_or_default();
            // the innermost is where malloc came back to: the call is in front of it
            let stack = frames.into_iter().flat_map(|pc| users.names(when, pc, true)).collect();
            out.row(LeakRow { bytes, blocks: count, stack })?;
        }
        Ok(())
    }
}

/// The address of a block when its function returns: what that returns, or what lies where an argument said, which was left
/// at the call; nothing if it returns an error.
fn block(placed: bool) -> Option<Int> {
    let returned = source::return_value()?;
    if !placed {
        return Some(Int::context(returned, 8, false));
    }
    let fine = Int::context(returned, 4, false).equals(0);
    let there = Int::load(Space::User, Int::saved(0, 8, false), 0, 8, false);
    Some(Int::binary(Binary::Mul, fine, there))
}

/// What a function's calls leave for its return: that argument, by thread.
fn left(calls: &[Source], argument: Int) -> Join {
    let key = vec![Value::Int(Int::Current(Current::Thread))];
    let what = vec![Value::Int(argument)];
    let (begins, room) = (calls.iter().cloned(), room(&what));
    let leaves = Spec { id: 0, join: None, test: None, action: Action::Leave { key: key.clone(), what }, result: 0 };
    Join { begins: begins.map(|call| (call, leaves.clone())).collect(), key, room, who: None }
}

impl Blocks {
    /// Takes a hit, to be looked at in its turn.
    fn take(&mut self, hit: Hit, users: &mut Users) {
        let word =
            |at: usize| hit.values.get(at * 8..).and_then(|v| v.first_chunk()).map_or(0, |w| u64::from_ne_bytes(*w));
        let event = match (hit.id, &hit.user) {
            (FREE, _) => Event::Free { block: word(0) },
            (which, Some(user)) => {
                let frames = users.unwind(When { pid: hit.pid, time: hit.time }, user);
                Event::Back { which, block: word(0), stack: self.stack(frames) }
            }
            (which, None) => Event::Call { which, size: word(0), old: word(1) },
        };
        self.number += 1;
        self.pending.insert((hit.time, self.number), (hit.tid, event));
    }

    /// Takes a change of a process.
    fn change(&mut self, change: Change, pid: u32, users: &mut Users) {
        if change.pid == pid && change.what == What::Executed {
            self.number += 1;
            self.pending.insert((change.time, self.number), (pid, Event::Executed));
        }
        users.change(change);
    }

    fn stack(&mut self, frames: Vec<u64>) -> usize {
        match self.known.get(&frames) {
            Some(&at) => at,
            None => {
                self.stacks.push(frames.clone());
                self.known.insert(frames, self.stacks.len() - 1);
                self.stacks.len() - 1
            }
        }
    }

    /// Looks at what is so much older than the last that came.
    fn settle(&mut self, age: u64) {
        let Some((&(last, _), _)) = self.pending.last_key_value() else { return };
        self.last = self.last.max(last);
        let young = self.pending.split_off(&(last.saturating_sub(age).saturating_add(u64::from(age == 0)), 0));
        let old = std::mem::replace(&mut self.pending, young);
        for ((time, _), (tid, event)) in old {
            self.settled(time, tid, event);
        }
    }

    fn settled(&mut self, time: u64, tid: u32, event: Event) {
        match event {
            Event::Call { which, size, old } => self.calls.entry(tid).or_default().push((which, size, old)),
            Event::Free { block } => {
                self.blocks.remove(&block);
            }
            Event::Executed => {
                self.blocks.clear();
                self.calls.clear();
            }
            Event::Back { which, block, stack } => {
                // calls of which the end was lost are forgotten
                let calls = self.calls.entry(tid).or_default();
                let Some(at) = calls.iter().rposition(|(called, ..)| *called == which) else { return };
                let (_, size, old) = calls[at];
                calls.truncate(at);
                // nothing asked for: realloc() has freed it; else there was no room, and the old block stays
                if block != 0 || size == 0 {
                    self.blocks.remove(&old);
                }
                if block == 0 {
                    return;
                }
                if self.blocks.len() < MOST_BLOCKS {
                    self.blocks.insert(block, Block { size, time, stack });
                } else {
                    self.unkept += 1;
                }
            }
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Memleak>()];
