//! What a sleeping task waits for, and who could end that.
//!
//! The kernel keeps no such record, but for rt_mutexes (`pi_blocked_on`) and since Linux 6.17 mutexes (`blocked_on`). What
//! there always is: to wait, a task puts a struct on its own stack that names the task, and hangs it into the lock's list.
//! So the live part of its stack is looked through for words that are its own address; a struct counts if its neighbours
//! in the list point back at it. From there the list leads to the lock. Where locks keep no list head (`first_waiter`,
//! Linux 7.2), the stack has the lock's address too: the word that points at what points at the waiter.
//!
//! Who holds the lock it says itself. Of a futex, which has no owner, glibc's mutex says it: its third word is the
//! thread's id.

use crate::{
    completer::Completers,
    locks::{self, Kind, Lock, WaiterType},
    mm,
    percpu::Percpu,
    task::{Pids, Task},
    task_stack::{Stack, Stacks},
    unwind::{self, Trace, sobj},
};
use engine::{ViewEntry, prelude::*};
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// A task that waits.
#[derive(Clone, Debug)]
pub struct Wait {
    /// the `struct task_struct`
    pub task: u64,
    /// what kind of thing it waits for, told by the functions it sleeps in: finer than `on`, and there without it
    pub sobj: Option<&'static str>,
    /// what it waits for
    pub on: Option<Object>,
    /// nanoseconds since it last ran
    pub since: Option<u64>,
}

/// A thing that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// what it is
    pub kind: Kind,
    /// where; of a futex the user address
    pub addr: u64,
    /// whoever holds it, if that is known
    pub holder: Option<u64>,
    /// Whether the holder is known for sure. Of a lock that is held by readers, it is the last that came; of a futex it is
    /// what glibc wrote.
    pub sure: bool,
    /// wants it for itself alone; `None` where there is no such choice
    pub exclusive: Option<bool>,
}

/// What of a task tells since when it sleeps, and on what.
#[derive(View)]
#[ctype("task_struct")]
struct Sleeper {
    #[field("sched_info.last_arrival")]
    arrived: Option<u64>,
    #[field("se.exec_start")]
    ran: Option<u64>,
    pi_blocked_on: Option<u64>,
    /// of another type before: what waits on the lock, with CONFIG_DEBUG_MUTEXES
    blocked_on: Option<u64>,
}

/// `struct rt_mutex_waiter`.
#[derive(View)]
#[ctype("rt_mutex_waiter")]
struct RtWaiter {
    task: u64,
    lock: u64,
}

/// `struct futex_q` (kernel/futex/futex.h).
#[derive(View)]
#[ctype("futex_q")]
struct FutexQueued {
    task: u64,
    #[field("key.both.word")]
    word: u64,
    #[field("key.both.offset")]
    offset: u32,
    pi_state: u64,
}

/// `struct wait_queue_entry`.
#[derive(View)]
#[ctype("wait_queue_entry")]
struct WaitEntry {
    #[field("private")]
    task: u64,
    func: u64,
}

/// When it is at the end, by the clock of the run queues, in nanoseconds: as the queues have it, and by the last tick.
fn ends(session: &Session) -> (Option<u64>, Option<u64>) {
    let queued = || {
        let (queues, clock) = (session.kernel_symbol("runqueues")?, session.offset("rq", "clock").ok()?);
        let cpus = Percpu::of(session).ok()?;
        cpus.copies(queues).filter_map(|(_, rq)| session.u64(rq.wrapping_add(clock)).ok()).max()
    };
    let clocks = crate::clock::Clocks::of(session).ok();
    let ticked = clocks.and_then(|clocks| clocks.updated.checked_add_signed(clocks.local_offset()?));
    (queued(), ticked)
}

fn now(session: &Session) -> Option<u64> {
    // the clocks of idle CPUs stand still
    let (queued, ticked) = ends(session);
    queued.into_iter().chain(ticked).max()
}

/// By how many nanoseconds the clock of the run queues may be wrong, set against the monotonic one.
pub fn clock_error(session: &Session) -> Option<u64> {
    let (queued, ticked) = ends(session);
    queued.zip(ticked).map(|(queued, ticked)| queued.abs_diff(ticked))
}

/// Nanoseconds since a task last ran.
pub fn since(session: &Session, task: u64) -> Option<u64> {
    let now = session.once(|| Ok(Now(now(session)))).ok()?.0?;
    let sleeper: Sleeper = session.view(task).ok()?;
    let last = sleeper.arrived.unwrap_or(0).max(sleeper.ran.unwrap_or(0));
    // the clocks of CPUs may disagree, but nobody has slept for longer than he lives
    let born = session.view::<Task>(task).ok()?.start_time;
    let age = crate::clock::Clocks::of(session).ok()?.updated.saturating_sub(born);
    (last != 0).then(|| now.saturating_sub(last).min(age))
}

struct Now(Option<u64>);

/// The words of a stack from where it ends now to the bottom, with their addresses.
struct Words {
    at: u64,
    bytes: Vec<u8>,
}

impl Words {
    fn of(session: &Session, stack: &Stack, sp: u64) -> Result<Words> {
        let at = sp.max(stack.range.start) & !7;
        let mut bytes = vec![0; stack.range.end.saturating_sub(at) as usize];
        session.read(at, &mut bytes)?;
        Ok(Words { at, bytes })
    }

    fn each(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        self.bytes.chunks_exact(8).enumerate().map(move |(i, bytes)| (self.at + i as u64 * 8, word(bytes)))
    }
}

/// Longest list of waiters that is followed to its head.
const MAX_WAITERS: usize = 1 << 16;

/// A task whose stack is looked through.
struct Search<'a> {
    session: &'a Session,
    stacks: &'a Stacks,
    task: u64,
    words: Words,
}

impl Search<'_> {
    /// Structs of that type on the stack that name the task and hang in a list, innermost first.
    fn waiters(&self, of: &WaiterType) -> Result<Vec<u64>> {
        let Ok((link, task)) = of.places(self.session) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (at, _) in self.words.each().filter(|(_, word)| *word == self.task) {
            let waiter = at.wrapping_sub(task);
            if self.hangs(waiter.wrapping_add(link))? {
                found.push(waiter);
            }
        }
        Ok(found)
    }

    /// Whether a list entry's neighbours point back at it.
    fn hangs(&self, link: u64) -> Result<bool> {
        let word = |at: u64| match self.session.u64(at) {
            Err(e) if e.is_control() => Err(e),
            value => Ok(value.unwrap_or(0)),
        };
        let (next, prev) = (word(link)?, word(link.wrapping_add(8))?);
        let kernel = |at: u64| at >> 63 == 1 && at.is_multiple_of(8);
        Ok(kernel(next) && kernel(prev) && word(next.wrapping_add(8))? == link && word(prev)? == link)
    }

    /// The list entries of the ring that `link` is in, and its head: the one that is no entry. Without a head, none.
    fn ring(&self, link: u64, is_entry: &dyn Fn(u64) -> bool) -> Result<(Vec<u64>, Option<u64>)> {
        let (mut at, mut entries, mut seen) = (link, Vec::new(), HashSet::new());
        while seen.insert(at) && entries.len() < MAX_WAITERS {
            if at != link && !is_entry(at) {
                return Ok((entries, Some(at)));
            }
            entries.push(at);
            at = self.session.u64(at)?;
        }
        Ok((entries, None))
    }

    /// Whether a list entry belongs to a struct of that type on the stack of the task that it names.
    fn is_on_own_stack(&self, of: &WaiterType, entry: u64) -> bool {
        let Ok((link, task)) = of.places(self.session) else { return false };
        let named = self.session.u64(entry.wrapping_sub(link).wrapping_add(task));
        named.is_ok_and(|task| self.stacks.at(entry).is_some_and(|stack| stack.task == task))
    }

    /// The lock that a waiter hangs on: around the head of its list, or what on the stack points at a waiter.
    fn lock(&self, of: &WaiterType, waiter: u64, ctype: &str, head: &str) -> Result<Option<u64>> {
        let (link, _) = of.places(self.session)?;
        let (entries, found) = self.ring(waiter.wrapping_add(link), &|at| self.is_on_own_stack(of, at))?;
        if let (Some(found), Ok(offset)) = (found, self.session.offset(ctype, head)) {
            return Ok(Some(found.wrapping_sub(offset)));
        }
        let Ok(first) = self.session.offset(ctype, "first_waiter") else { return Ok(None) };
        let entries: HashSet<u64> = entries.into_iter().map(|entry| entry.wrapping_sub(link)).collect();
        let points = |word: u64| {
            word >> 63 == 1 && self.session.u64(word.wrapping_add(first)).is_ok_and(|at| entries.contains(&at))
        };
        Ok(self.words.each().map(|(_, word)| word).find(|word| word.is_multiple_of(8) && points(*word)))
    }

    /// The first of the locks that structs of that type lead to.
    fn listed(&self, of: &WaiterType, kind: Kind, head: &str) -> Result<Option<Object>> {
        let Some(ctype) = kind.ctype() else { return Ok(None) };
        for waiter in self.waiters(of)? {
            if let Some(addr) = self.lock(of, waiter, ctype, head)? {
                return Ok(Some(self.held(kind, addr, self.mode(kind, waiter))));
            }
        }
        Ok(None)
    }

    /// Whether a waiter of a lock for readers wants it for itself alone: `RWSEM_WAITING_FOR_WRITE` is 0.
    fn mode(&self, kind: Kind, waiter: u64) -> Option<bool> {
        if kind != Kind::Rwsem {
            return None;
        }
        let at = waiter.wrapping_add(self.session.offset("rwsem_waiter", "type").ok()?);
        self.session.u32(at).ok().map(|wants| wants == 0)
    }

    fn held(&self, kind: Kind, addr: u64, exclusive: Option<bool>) -> Object {
        let lock = locks::at(self.session, kind, addr).ok();
        if kind == Kind::Completion {
            let known = Completers::of(self.session).ok().and_then(|all| all.get(addr));
            let (holder, sure) = known.map_or((None, true), |(task, sure)| (Some(task), sure));
            return Object { kind, addr, holder, sure, exclusive };
        }
        let holder = lock.as_ref().and_then(|lock| lock.holder);
        let sure = !matches!(lock, Some(Lock { held: locks::Held::Shared(_), .. }));
        Object { kind, addr, holder, sure, exclusive }
    }

    fn rt_mutex(&self, waiter: u64) -> Result<Option<Object>> {
        let waiter: RtWaiter = self.session.view(waiter)?;
        Ok((waiter.task == self.task).then(|| self.held(Kind::RtMutex, waiter.lock, None)))
    }

    /// A wait queue, or what is waited for by means of one: a bit, a page, a lock that counts readers per CPU.
    fn wait_queue(&self) -> Result<Option<Object>> {
        let (link, _) = locks::WAIT_ENTRY.places(self.session)?;
        let func = self.session.offset("wait_queue_entry", "func")?;
        let is_entry = |at: u64| {
            let wakes = self.session.u64(at.wrapping_sub(link).wrapping_add(func));
            wakes.is_ok_and(|wakes| wakes >> 63 == 1 && self.session.symbols.by_addr(self.session, wakes).is_some())
        };
        let plain = |kind, addr| Some(Object { kind, addr, holder: None, sure: true, exclusive: None });
        for waiter in self.waiters(&locks::WAIT_ENTRY)? {
            let entry: WaitEntry = self.session.view(waiter)?;
            if entry.task != self.task || !is_entry(waiter.wrapping_add(link)) {
                continue;
            }
            let woken_by = self.session.symbols.by_addr(self.session, entry.func).map(|s| s.name.to_string());
            let woken_by = woken_by.unwrap_or_default();
            if woken_by.starts_with("wake_bit_function") || woken_by.starts_with("var_wake_function") {
                let key = waiter.wrapping_sub(self.session.offset("wait_bit_queue_entry", "wq_entry")?);
                let word =
                    self.session.u64(key.wrapping_add(self.session.offset("wait_bit_queue_entry", "key.flags")?))?;
                return Ok(plain(Kind::Bit, word));
            }
            if woken_by.starts_with("wake_page_function") {
                let outer = waiter.wrapping_sub(self.session.offset("wait_page_queue", "wait")?);
                let page = ["folio", "page"].iter().find_map(|m| self.session.offset("wait_page_queue", m).ok());
                let page = self.session.u64(outer.wrapping_add(page.unwrap_or(0)))?;
                return Ok(plain(Kind::Page, page));
            }
            let (_, head) = self.ring(waiter.wrapping_add(link), &is_entry)?;
            let Some(head) = head else { continue };
            let queue = head.wrapping_sub(self.session.offset("wait_queue_head", "head")?);
            if woken_by.starts_with("percpu_rwsem_wake_function")
                && let Ok(offset) = self.session.offset("percpu_rw_semaphore", "waiters")
            {
                // who waits in the queue comes after the writer that waits for the readers
                let addr = queue.wrapping_sub(offset);
                let holder = locks::percpu_writer(self.session, addr).unwrap_or(None);
                return Ok(Some(Object { kind: Kind::PercpuRwsem, addr, holder, sure: false, exclusive: None }));
            }
            return Ok(plain(Kind::WaitQueue, queue));
        }
        Ok(None)
    }

    /// A lock that counts readers per CPU, and names the writer that waits for the last of them.
    fn percpu_writer(&self) -> Result<Option<Object>> {
        let Ok(writer) = self.session.offset("percpu_rw_semaphore", "writer.task") else { return Ok(None) };
        let names = |word: u64| self.session.u64(word.wrapping_add(writer)).is_ok_and(|task| task == self.task);
        let kernel = |word: &u64| word >> 63 == 1 && word.is_multiple_of(8);
        // a word may well point at another that names the task: then the lock's own members must fit
        let fits = |addr: u64| locks::at(self.session, Kind::PercpuRwsem, addr).is_ok();
        let found = self.words.each().map(|(_, word)| word).filter(kernel).find(|word| names(*word) && fits(*word));
        Ok(found.map(|addr| Object { kind: Kind::PercpuRwsem, addr, holder: None, sure: true, exclusive: Some(true) }))
    }

    fn futex(&self) -> Result<Option<Object>> {
        let Ok(task) = self.session.offset("futex_q", "task") else { return Ok(None) };
        for (at, _) in self.words.each().filter(|(_, word)| *word == self.task) {
            let Ok(queued) = self.session.view::<FutexQueued>(at.wrapping_sub(task)) else { continue };
            /// low bits of the offset: the futex is in a file, in shared memory (include/linux/futex.h)
            const SHARED: u32 = 3;
            let offset = queued.offset & !SHARED;
            if offset > 0xfff || (queued.pi_state != 0 && queued.pi_state >> 63 != 1) || queued.task != self.task {
                continue;
            }
            if queued.pi_state != 0 {
                let owner = self.session.offset("futex_pi_state", "owner")?;
                let holder = self.session.u64(queued.pi_state.wrapping_add(owner)).ok().filter(|owner| *owner != 0);
                let addr = queued.word.wrapping_add(offset.into());
                return Ok(Some(Object { kind: Kind::Futex, addr, holder, sure: true, exclusive: None }));
            }
            if queued.offset & SHARED != 0 || queued.word >> 63 == 1 || !queued.word.is_multiple_of(4096) {
                continue;
            }
            let addr = queued.word.wrapping_add(offset.into());
            let holder = self.glibc_owner(addr);
            return Ok(Some(Object { kind: Kind::Futex, addr, holder, sure: false, exclusive: None }));
        }
        Ok(None)
    }

    /// The thread whose id glibc keeps behind the lock word of a mutex (`__owner` of `struct __pthread_mutex_s`), if it is
    /// one of the same process and the word says that the mutex is held.
    fn glibc_owner(&self, addr: u64) -> Option<u64> {
        let space = mm::space_of(self.session, self.task).ok()??;
        let mut words = [0; 12];
        self.session.read_in(space, addr, &mut words).ok()?;
        let word = |i: usize| words.get(i..i + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (held, owner) = (word(0), word(8));
        let holder = Pids::of(self.session).ok()?.get(owner as i32).filter(|_| held != 0 && held < 3 && owner != 0)?;
        let group = |task: u64| self.session.view::<Task>(task).ok().map(|task| task.tgid);
        (group(holder) == group(self.task)).then_some(holder)
    }

    /// What the task waits for: what its kind of sleep suggests is looked for first.
    fn find(&self, sobj: Option<&str>) -> Result<Option<Object>> {
        let sleeper: Sleeper = self.session.view(self.task)?;
        if let Some(waiter) = sleeper.pi_blocked_on.filter(|waiter| *waiter != 0)
            && let Some(found) = self.rt_mutex(waiter)?
        {
            return Ok(Some(found));
        }
        let found = match sobj {
            Some("mutex") => self.listed(&locks::MUTEX_WAITER, Kind::Mutex, "wait_list")?,
            Some("rwsem") => match self.listed(&locks::RWSEM_WAITER, Kind::Rwsem, "wait_list")? {
                None => self.percpu_writer()?,
                found => found,
            },
            Some("sema") => self.listed(&locks::SEMAPHORE_WAITER, Kind::Semaphore, "wait_list")?,
            Some("completion" | "rcu") => self.listed(&locks::SWAIT, Kind::Completion, "wait.task_list")?,
            Some("futex") => self.futex()?,
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
        // a lock that knows its waiters but not the other way round
        let lock = sleeper.blocked_on.filter(|lock| *lock != 0 && sobj == Some("mutex"));
        if let Some(lock) = lock.filter(|lock| self.stacks.at(*lock).is_none()) {
            return Ok(Some(self.held(Kind::Mutex, lock, None)));
        }
        self.wait_queue()
    }
}

/// What a task waits for, given its call stack.
pub fn of_trace(session: &Session, task: u64, trace: &Trace) -> Result<Wait> {
    let sobj = sobj::of(session, trace);
    let stacks = Stacks::of(session)?;
    let mut on = None;
    if let Some(stack) = stacks.at(trace.frames.first().map_or(0, |frame| frame.sp)).filter(|s| s.task == task) {
        let words = Words::of(session, stack, stack.sp.unwrap_or(stack.range.start))?;
        on = match (Search { session, stacks: &stacks, task, words }.find(sobj)) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) if e.is_unreadable() => {
                session.notes.add(task, format!("what a task waits for: {}", e.kind()));
                None
            }
            // a kernel that lacks one of these structs
            found => found.unwrap_or(None),
        };
    }
    Ok(Wait { task, sobj, on, since: since(session, task) })
}

/// Every task that sleeps, and what it waits for.
#[derive(Debug, Default)]
pub struct Waits(BTreeMap<u64, Wait>);

impl Waits {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Waits>> {
        session.once(|| session.settle(|| Waits::read(session)))
    }

    fn read(session: &Session) -> Result<Waits> {
        let traces = unwind::Traces::of(session)?;
        let traces: Vec<_> = traces.iter().collect();
        let found =
            traces.par_iter().map(|(task, trace)| Self::one(session, *task, trace)).collect::<Result<Vec<_>>>()?;
        Ok(Waits(found.into_iter().flatten().map(|wait| (wait.task, wait)).collect()))
    }

    fn one(session: &Session, addr: u64, trace: &Trace) -> Result<Option<Wait>> {
        let sleeping = |task: &Task| !matches!(task.state(), 'R' | 'Z' | 'X' | 'P');
        match session.view::<Task>(addr) {
            Ok(task) if sleeping(&task) && unwind::running_on(session, &task).unwrap_or(None).is_none() => {
                of_trace(session, addr, trace).map(Some)
            }
            Err(e) if e.is_control() => Err(e),
            _ => Ok(None),
        }
    }

    /// Those that sleep, by the address of their task.
    pub fn iter(&self) -> impl Iterator<Item = &Wait> {
        self.0.values()
    }

    /// That of a task, if it sleeps.
    pub fn get(&self, task: u64) -> Option<&Wait> {
        self.0.get(&task)
    }

    /// What a task waits for, then what the holder of that waits for, and so on; ends where somebody does not wait, or
    /// where nobody is known to hold it, or where the chain comes back to a task in it.
    pub fn chain(&self, task: u64) -> Vec<&Wait> {
        let (mut chain, mut seen, mut next) = (Vec::new(), BTreeSet::new(), Some(task));
        while let Some(wait) = next.filter(|task| seen.insert(*task)).and_then(|task| self.get(task)) {
            chain.push(wait);
            next = wait.on.and_then(|on| on.holder);
        }
        chain
    }

    /// Deadlocks: rings of tasks each of which waits for what the next one holds. Each once, from its lowest address on. A
    /// lock held by readers names the last that came, in whose place another task may have been born: that one waits for
    /// itself is believed of sure holders only.
    pub fn cycles(&self) -> Vec<Vec<&Wait>> {
        let mut found = BTreeMap::new();
        let mut over = BTreeSet::new();
        for start in self.0.keys() {
            let (mut path, mut at) = (Vec::new(), Some(*start));
            while let Some(task) = at.filter(|task| !over.contains(task)) {
                if let Some(from) = path.iter().position(|seen| *seen == task) {
                    let ring: Vec<u64> = path.split_off(from);
                    over.extend(ring.iter().copied());
                    let lowest = ring.iter().copied().min().unwrap_or(task);
                    let ring = self.chain(lowest);
                    if ring.len() > 1 || ring.iter().all(|wait| wait.on.is_some_and(|on| on.sure)) {
                        found.insert(lowest, ring);
                    }
                    break;
                }
                path.push(task);
                at = self.get(task).and_then(|wait| wait.on).and_then(|on| on.holder);
            }
            over.extend(path);
        }
        found.into_values().collect()
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Sleeper>(),
    ViewEntry::of::<RtWaiter>(),
    ViewEntry::of::<FutexQueued>(),
    ViewEntry::of::<WaitEntry>(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_may_not_be_the_holder_is_in_no_ring_with_itself() {
        let mut waits = waits(&[(1, 1)]);
        assert_eq!(waits.cycles().len(), 1);
        if let Some(on) = waits.0.get_mut(&1).and_then(|wait| wait.on.as_mut()) {
            on.sure = false;
        }
        assert!(waits.cycles().is_empty());
    }

    fn waits(edges: &[(u64, u64)]) -> Waits {
        let on = |holder| Object { kind: Kind::Mutex, addr: 0, holder: Some(holder), sure: true, exclusive: None };
        let wait =
            |(task, holder): &(u64, u64)| (*task, Wait { task: *task, sobj: None, on: Some(on(*holder)), since: None });
        Waits(edges.iter().map(wait).collect())
    }

    fn rings(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
        waits(edges).cycles().into_iter().map(|ring| ring.iter().map(|wait| wait.task).collect()).collect()
    }

    #[test]
    fn cycles_are_found_once_and_chains_into_them_are_none() {
        assert_eq!(rings(&[(1, 2), (2, 1)]), [[1, 2]]);
        assert_eq!(rings(&[(3, 2), (1, 2), (2, 1), (9, 3)]), [[1, 2]]);
        assert_eq!(rings(&[(5, 7), (7, 6), (6, 5), (1, 1)]), [vec![1], vec![5, 7, 6]]);
        assert!(rings(&[(1, 2), (2, 3)]).is_empty());
        assert_eq!(waits(&[(1, 2), (2, 3)]).chain(1).len(), 2);
        assert_eq!(waits(&[(1, 2), (2, 1)]).chain(1).len(), 2);
    }
}
