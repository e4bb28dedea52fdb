//! The transaction log: every allocation and every freeing of slab memory that left a trace, newest first.
//!
//! Solaris keeps such a log; Linux scatters it. Gathered here are
//!
//! * **tracks**: with `slub_debug=U` each object knows its last allocation and its last freeing, with CPU, thread, call
//!   stack, and a time in ticks;
//! * **ftrace**: if the `kmem` events were on, the ring has every call of the allocator for as far back as it reaches,
//!   in nanoseconds, with the caller and the sizes;
//! * **KFENCE**: the objects it samples, with call stack and nanoseconds.
//!
//! Of the running kernel it is what `::kmem_record` recorded last ([`recorded`]), if anything.
//!
//! One transaction, one record: what a track (or KFENCE) and the ring both saw is joined, with the ring's time and sizes
//! and the track's stack. A record's address is the track's, if it has one, else the event's; either is understood.
//!
//! **Times** are nanoseconds of one clock: the ring's if it has `kmem` events, so that they are those of ftrace's text;
//! else `local_clock()`, as in dmesg. A track that only ticks tells about gets the start of its tick.
//!
//! **What is missing.** `kfree_rcu()` and bulk calls emit no event. A track outlives only until the next transaction of
//! its kind on the object. The ring reaches back to a different moment on each CPU, and not past a time when tracing
//! was off.
//!
//! ```console
//! > ::walk kmem_log | ::bufctl -c lab_open | ::head -2
//! ADDR             BUFADDR          TIMESTAMP THREAD OP    WITNESS      CALLER
//! ff2b352c10570550 ff2b352c10570520 1c82aa925    281 alloc track+ftrace labmod`lab_open+0x2d
//! ff2b352c10570f50 ff2b352c10570f20 1c82a6d36    281 alloc track+ftrace labmod`lab_alloc_node+0x5e
//! ```

pub mod caller;
mod gather;
mod join;
pub mod recorded;

pub use gather::seen_by_ring;

use crate::{clock::Clocks, ftrace::Window, kfence, slab, task::Pids};
use engine::prelude::*;
use std::{cmp::Reverse, sync::Arc};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// memory was handed out
    Alloc,
    /// memory was given back
    Free,
}

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// the object's own record
    Track,
    /// ftrace's ring
    Ftrace,
    /// KFENCE
    Kfence,
    /// both the object's record and the ring
    TrackAndFtrace,
    /// both KFENCE and the ring
    KfenceAndFtrace,
    /// a probe of the running kernel
    Probe,
}

impl Witness {
    /// `track+ftrace`
    pub fn name(self) -> &'static str {
        match self {
            Witness::Track => "track",
            Witness::Ftrace => "ftrace",
            Witness::Kfence => "kfence",
            Witness::TrackAndFtrace => "track+ftrace",
            Witness::KfenceAndFtrace => "kfence+ftrace",
            Witness::Probe => "probe",
        }
    }
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// address of its record: a `struct track`, `struct kfence_track` or `struct ring_buffer_event`
    pub addr: u64,
    /// address of the ring's event, if the ring saw it; then maybe the same as `addr`
    pub event: Option<u64>,
    /// the memory
    pub buffer: u64,
    /// nanoseconds
    pub time: u64,
    /// who called the allocator, as the record says: mostly a function of the caller's
    pub site: u64,
    /// thread that ran
    pub pid: u32,
    /// CPU it ran on, where that is known
    pub cpu: Option<u32>,
    /// bytes asked for and bytes handed out, of an allocation that the ring saw
    pub bytes: Option<(u64, u64)>,
    /// number of the slab cache, where the record says
    cache: Option<u32>,
    /// what happened
    pub kind: Kind,
    /// who saw it
    pub witness: Witness,
}

impl Transaction {
    /// The call stack, innermost first; empty if only the ring saw the transaction.
    pub fn stack(&self, session: &Session) -> Result<Vec<u64>> {
        match self.witness {
            Witness::Ftrace => Ok(Vec::new()),
            Witness::Probe => Ok(recorded::Recorded::stack(self.addr)),
            Witness::Track | Witness::TrackAndFtrace => {
                let which = match self.kind {
                    Kind::Alloc => slab::Which::Alloc,
                    Kind::Free => slab::Which::Free,
                };
                let cache = self.cache.map_or(usize::MAX, |c| c as usize);
                match slab::track(session, cache, self.buffer, which)? {
                    Some(track) => track.stack(session),
                    None => Ok(Vec::new()),
                }
            }
            Witness::Kfence | Witness::KfenceAndFtrace => {
                let Some(pool) = kfence::Pool::of(session)? else { return Ok(Vec::new()) };
                let Some(index) = pool.index(self.buffer) else { return Ok(Vec::new()) };
                let record = pool.record(session, index)?;
                Ok(match self.kind {
                    Kind::Alloc => record.allocated_by(session)?.stack,
                    Kind::Free => record.freed_by(session)?.map(|t| t.stack).unwrap_or_default(),
                })
            }
        }
    }

    /// The C type of what `addr` points at.
    pub fn ctype(&self) -> &'static str {
        match self.witness {
            Witness::Track | Witness::TrackAndFtrace => "track",
            Witness::Kfence | Witness::KfenceAndFtrace => "kfence_track",
            Witness::Ftrace => "ring_buffer_event",
            // a number, and no address of anything
            Witness::Probe => "void",
        }
    }

    /// Name of the slab cache: as the record says, else of the slab that the memory is in now.
    pub fn cache(&self, session: &Session) -> Result<Option<String>> {
        let number = match self.cache {
            Some(number) => Some(number as usize),
            None => slab::find(session, self.buffer)?.filter(|f| f.offset == 0).map(|found| found.cache),
        };
        let caches = slab::Caches::of(session)?;
        Ok(number.and_then(|n| caches.get(n)).map(|cache| cache.name().to_owned()))
    }
}

/// Every transaction that is known.
pub struct Log {
    /// newest first
    records: Vec<Transaction>,
    /// places in `records`, by address of record and of event
    by_addr: Vec<(u64, u32)>,
    /// places in `records`, by buffer, newest first
    by_buffer: Vec<(u64, u32)>,
    callers: caller::Callers,
    /// what the ring covers on each CPU; empty if it has no kmem events
    pub windows: Vec<Window>,
    /// nanoseconds in which a track's time may be off: a tick
    pub tick: u64,
    /// what the log's time is ahead of monotonic time, if known
    monotonic: Option<i64>,
    /// what probes of the running kernel recorded, if that is what it is
    recorded: Option<Arc<recorded::Recorded>>,
}

impl Log {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Log>> {
        if let Some(recorded) = recorded::Recorded::last().filter(|_| session.is_live()) {
            return session.once(|| Ok(recorded.log()));
        }
        session.once(|| gather::gather(session))
    }

    fn new(mut records: Vec<(Transaction, u32)>, windows: Vec<Window>, tick: u64, monotonic: Option<i64>) -> Log {
        // at equal times the rank decides, then anything that is the same in every run
        records.sort_by_key(|(t, rank)| (Reverse((t.time, *rank)), t.addr));
        let records: Vec<Transaction> = records.into_iter().map(|(t, _)| t).collect();
        let places = || (0u32..).zip(&records);
        let mut by_addr: Vec<(u64, u32)> = places()
            .flat_map(|(i, t)| [Some((t.addr, i)), t.event.filter(|e| *e != t.addr).map(|e| (e, i))])
            .flatten()
            .collect();
        let mut by_buffer: Vec<(u64, u32)> = places().map(|(i, t)| (t.buffer, i)).collect();
        by_addr.sort_unstable();
        by_buffer.sort_unstable();
        Log {
            records,
            by_addr,
            by_buffer,
            callers: caller::Callers::default(),
            windows,
            tick,
            monotonic,
            recorded: None,
        }
    }

    /// All of them, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Transaction> {
        self.records.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The transaction whose record, or whose event, is at an address.
    pub fn at(&self, addr: u64) -> Option<&Transaction> {
        let place = self.by_addr.partition_point(|(a, _)| *a < addr);
        self.by_addr.get(place).filter(|(a, _)| *a == addr).and_then(|(_, i)| self.records.get(*i as usize))
    }

    /// [`at`](Self::at), or the reason why there is none.
    pub fn expect(&self, addr: u64) -> Result<&Transaction> {
        self.at(addr).ok_or_else(|| {
            Error::Usage(format!("{addr:#x} is no record of the transaction log"))
                .hint("`::walk kmem_log` has them all, `BUFFER::walk bufctl` those of a buffer")
        })
    }

    /// The transactions on a buffer that starts at an address, newest first.
    pub fn on(&self, buffer: u64) -> impl Iterator<Item = &Transaction> {
        let start = self.by_buffer.partition_point(|(b, _)| *b < buffer);
        let rest = self.by_buffer.get(start..).unwrap_or_default();
        rest.iter().take_while(move |(b, _)| *b == buffer).filter_map(|(_, i)| self.records.get(*i as usize))
    }

    /// The start of the buffer that an address lies in: of the slab object, else of the nearest buffer below that the
    /// ring says was large enough.
    pub fn buffer_around(&self, session: &Session, addr: u64) -> Result<Option<u64>> {
        if let Some(found) = slab::find(session, addr)?
            && found.offset >= 0
        {
            return Ok(Some(found.object));
        }
        let end = self.by_buffer.partition_point(|(b, _)| *b <= addr);
        let Some((buffer, _)) = end.checked_sub(1).and_then(|i| self.by_buffer.get(i)) else { return Ok(None) };
        let large = |t: &Transaction| t.bytes.is_some_and(|(_, bytes)| addr - buffer < bytes);
        Ok((*buffer == addr || self.on(*buffer).any(large)).then_some(*buffer))
    }

    /// The last transaction on each buffer.
    pub fn last(&self) -> impl Iterator<Item = &Transaction> {
        // chunks start with the newest
        self.by_buffer.chunk_by(|a, b| a.0 == b.0).filter_map(|same| self.records.get(same.first()?.1 as usize))
    }

    /// Whether a buffer is still what its last known transaction made it: a later one may have left no trace.
    fn holds(&self, session: &Session, t: &Transaction) -> Result<bool> {
        let found = slab::find(session, t.buffer)?.filter(|f| f.offset == 0);
        Ok(match (found.map(|f| f.state), t.kind) {
            (Some(slab::State::Allocated), kind) => kind == Kind::Alloc,
            (Some(slab::State::Free | slab::State::RcuPending), kind) => kind == Kind::Free,
            (Some(slab::State::Unknown), _) => true,
            // no object starts there now: a large kmalloc(), or a slab that was given back
            (None, kind) => kind == Kind::Free || t.bytes.is_some_and(|(_, bytes)| bytes > LARGEST_OBJECT),
        })
    }

    /// The last transaction of each buffer that is allocated.
    pub fn allocated<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = Result<&'a Transaction>> {
        let allocations = self.last().filter(|t| t.kind == Kind::Alloc);
        allocations.filter_map(|t| self.holds(session, t).map(|holds| holds.then_some(t)).transpose())
    }

    /// The code that a transaction was made for: the first frame outside of the allocator, or what the ring has.
    pub fn caller(&self, session: &Session, t: &Transaction) -> Result<u64> {
        let stack = t.stack(session)?;
        Ok(self.callers.first(session, &stack).unwrap_or(t.site))
    }

    /// When a transaction happened, by the clock of the kernel's log.
    pub fn local_time(&self, session: &Session, t: &Transaction) -> u64 {
        let local = Clocks::of(session).ok().and_then(|clocks| clocks.local_offset());
        match (self.monotonic, local) {
            (Some(ahead), Some(local)) => t.time.saturating_add_signed(local.wrapping_sub(ahead)),
            _ => t.time,
        }
    }

    /// The first frame of a stack that is outside of the allocator.
    pub fn outside(&self, session: &Session, stack: &[u64]) -> Option<u64> {
        self.callers.first(session, stack)
    }

    /// The task that made a transaction, if the thread with that number still lives and was born before it. Numbers
    /// are used again: a task that is younger is another one.
    pub fn task(&self, session: &Session, t: &Transaction) -> Result<Option<u64>> {
        let pids = Pids::of(session)?;
        if t.pid == 0 {
            return Ok(t.cpu.and_then(|cpu| pids.idle(cpu)));
        }
        Ok(match self.monotonic {
            Some(ahead) => pids.get_at(t.pid as i32, t.time.wrapping_sub(ahead as u64).saturating_add(self.tick)),
            None => pids.get(t.pid as i32),
        })
    }

    /// The transactions of a thread, given by its task or its number, that were the last on their buffer.
    pub fn last_by(&self, session: &Session, thread: u64, kind: Kind) -> Result<Vec<&Transaction>> {
        let is_task = thread >> 63 == 1;
        let pid = match is_task {
            true => session.u32(thread.wrapping_add(session.offset("task_struct", "pid")?))?,
            false => u32::try_from(thread).unwrap_or(u32::MAX),
        };
        let mut found = Vec::new();
        for t in self.last().filter(|t| t.kind == kind && t.pid == pid) {
            if (!is_task || self.task(session, t)? == Some(thread)) && self.holds(session, t)? {
                found.push(t);
            }
        }
        found.sort_by_key(|t| (Reverse(t.time), t.addr));
        Ok(found)
    }

    /// The transactions on a transaction's buffer from it on back, itself first.
    pub fn history<'a>(&'a self, of: &'a Transaction) -> impl Iterator<Item = &'a Transaction> {
        self.on(of.buffer).skip_while(|t| t.addr != of.addr)
    }

    /// What the log does not say, for people, once a command.
    pub fn caveats(&self, session: &Session) {
        if let Some(recorded) = &self.recorded {
            session.notes.add(0, recorded.caveat());
            return;
        }
        if self.windows.is_empty() {
            session.notes.add(
                0,
                "the log has the last allocation and the last freeing of each object: ftrace recorded no kmem events",
            );
            return;
        }
        let s = |ns: u64| ns as f64 / 1e9;
        let spans: Vec<(u32, u64, u64)> =
            self.windows.iter().filter_map(|w| w.span.map(|(first, last)| (w.cpu, first, last))).collect();
        let text = match &spans[..] {
            few if few.len() <= 4 => {
                let one =
                    |(cpu, first, last): &(u32, u64, u64)| format!("{:.3}-{:.3} s on CPU {cpu}", s(*first), s(*last));
                few.iter().map(one).collect::<Vec<_>>().join(", ")
            }
            many => {
                let first = many.iter().map(|w| w.1);
                let (all, any) = (first.clone().max().unwrap_or(0), first.min().unwrap_or(0));
                let last = many.iter().map(|w| w.2).max().unwrap_or(0);
                format!("{:.3}-{:.3} s on some CPU, from {:.3} s on all {}", s(any), s(last), s(all), many.len())
            }
        };
        session.notes.add(0, format!("ftrace's events cover {text}; kfree_rcu() and bulk calls leave no event"));
    }
}

/// `KMALLOC_MAX_CACHE_SIZE`: larger ones are pages, not objects.
const LARGEST_OBJECT: u64 = 8192;

fn needed(at: Option<Object>, what: &str) -> Result<u64> {
    at.map(|o| o.addr).ok_or_else(|| Error::Usage(format!("this walk starts from {what}")))
}

fn walk_log(cx: &Cx<'_>, _: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let log = Log::of(cx)?;
    if log.is_empty() {
        return Err(Error::Unavailable("no kmem transaction log: no tracks, no kmem events, no KFENCE objects".into())
            .hint("boot with `slub_debug=U`, or turn on tracefs' events/kmem, to have one; of the running kernel, `::kmem_record` makes one"));
    }
    log.caveats(cx);
    log.iter().try_for_each(|t| visit(t.addr))
}

/// Records of a buffer; without one, or of a cache, those of allocated buffers that made them so.
fn walk_bufctl(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let log = Log::of(cx)?;
    let Some(at) = at else { return log.allocated(cx).try_for_each(|t| visit(t?.addr)) };
    if let Some(cache) = slab::Caches::of(cx)?.at(at.addr) {
        return log.allocated(cx).try_for_each(|t| {
            let t = t?;
            let found = slab::find(cx, t.buffer)?;
            if found.is_some_and(|f| f.cache == cache) { visit(t.addr) } else { Ok(()) }
        });
    }
    match log.buffer_around(cx, at.addr)? {
        Some(buffer) => log.on(buffer).try_for_each(|t| visit(t.addr)),
        None => Ok(()),
    }
}

fn walk_history(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let log = Log::of(cx)?;
    let record = log.expect(needed(at, "a record, as `::walk kmem_log` has them")?)?;
    log.history(record).try_for_each(|t| visit(t.addr))
}

fn walk_by(cx: &Cx<'_>, at: Option<Object>, kind: Kind, visit: Visit<'_>) -> Result<()> {
    let log = Log::of(cx)?;
    let thread = needed(at, "a task's address or a thread's number")?;
    log.last_by(cx, thread, kind)?.iter().try_for_each(|t| visit(t.addr))
}

/// Walks the log.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "kmem_log",
        doc: "walk the records of all known allocations and freeings of slab memory, newest first",
        item: "",
        address: Address::None,
        walk: walk_log,
    },
    WalkerEntry {
        name: "bufctl",
        doc: "walk the records of the buffer at the address; of the allocated buffers of a cache, or of all",
        item: "",
        address: Address::Optional,
        walk: walk_bufctl,
    },
    WalkerEntry {
        name: "bufctl_history",
        doc: "walk from a record back through the earlier ones of its buffer",
        item: "",
        address: Address::Required,
        walk: walk_history,
    },
    WalkerEntry {
        name: "allocdby",
        doc: "walk the records of buffers that a thread allocated and that are allocated still",
        item: "",
        address: Address::Required,
        walk: |cx, at, visit| walk_by(cx, at, Kind::Alloc, visit),
    },
    WalkerEntry {
        name: "freedby",
        doc: "walk the records of buffers that a thread freed and that are free still",
        item: "",
        address: Address::Required,
        walk: |cx, at, visit| walk_by(cx, at, Kind::Free, visit),
    },
];
