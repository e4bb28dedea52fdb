//! Locks: who holds one, who waits for it. Mutexes, rw semaphores, rt_mutexes, semaphores, and what they are built from.
//!
//! A sleeping lock's waiters are structs on the waiters' own stacks. Up to Linux 7.1 they hang on a list whose head is in
//! the lock; since then (`first_waiter`) they form a ring among themselves, to whose first the lock points. With
//! PREEMPT_RT a lock is an rt_mutex inside, whose waiters are in a tree.
//!
//! ```console
//! > crasher`mutex_a::locks
//! ADDR             KIND  STATE      HOLDER           HPID HNAME    WAITERS
//! ffffffffc0651120 mutex held       ff2ae1f042f2af00   91 crash_ab       1
//! ```

use crate::{list, percpu::Percpu, rbtree, task_stack::Stacks};
use engine::{ViewEntry, prelude::*};
use std::collections::BTreeSet;

/// What is slept on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `struct mutex`
    Mutex,
    /// `struct rw_semaphore`
    Rwsem,
    /// `struct rt_mutex_base`, before Linux 5.15 (830e6acc8a1c) `struct rt_mutex`
    RtMutex,
    /// `struct semaphore`
    Semaphore,
    /// `struct completion`
    Completion,
    /// `struct wait_queue_head`
    WaitQueue,
    /// `struct percpu_rw_semaphore`
    PercpuRwsem,
    /// a bit of a word, by its address (kernel/sched/wait_bit.c)
    Bit,
    /// a bit of a page's or folio's flags, by its `struct page`
    Page,
    /// a word of user memory, by its user address
    Futex,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mutex => "mutex",
            Kind::Rwsem => "rwsem",
            Kind::RtMutex => "rtmutex",
            Kind::Semaphore => "sema",
            Kind::Completion => "completion",
            Kind::WaitQueue => "waitq",
            Kind::PercpuRwsem => "percpu_rwsem",
            Kind::Bit => "bit",
            Kind::Page => "page",
            Kind::Futex => "futex",
        }
    }

    /// The C struct, without `struct`; for those that have none of their own, none.
    pub fn ctype(self) -> Option<&'static str> {
        match self {
            Kind::Mutex => Some("mutex"),
            Kind::Rwsem => Some("rw_semaphore"),
            Kind::RtMutex => Some("rt_mutex_base"),
            Kind::Semaphore => Some("semaphore"),
            Kind::Completion => Some("completion"),
            Kind::WaitQueue => Some("wait_queue_head"),
            Kind::PercpuRwsem => Some("percpu_rw_semaphore"),
            Kind::Page => Some("page"),
            Kind::Bit | Kind::Futex => None,
        }
    }

    /// The kind that a C struct is, by its name.
    pub fn of_ctype(name: &str) -> Option<Kind> {
        const ALL: [Kind; 8] = [
            Kind::Mutex,
            Kind::Rwsem,
            Kind::RtMutex,
            Kind::Semaphore,
            Kind::Completion,
            Kind::WaitQueue,
            Kind::PercpuRwsem,
            Kind::Page,
        ];
        let name = if name == "rt_mutex" { "rt_mutex_base" } else { name };
        ALL.into_iter().find(|kind| kind.ctype() == Some(name))
    }
}

/// Whether and how a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// by nobody
    Free,
    /// by one
    Exclusive,
    /// by so many readers
    Shared(u64),
    /// what is left of a semaphore, or the completions nobody has waited for yet
    Count(u64),
}

/// A lock.
#[derive(Clone, Debug)]
pub struct Lock {
    /// where it is
    pub addr: u64,
    /// what it is
    pub kind: Kind,
    /// how it is held
    pub held: Held,
    /// The task that holds it, as the lock itself says. Of a lock that readers hold it is the last that took it, which may
    /// have given it back since; of semaphores and what else has no owner it is none.
    pub holder: Option<u64>,
    /// the tasks that wait, in the order in which they will get it
    pub waiters: Vec<u64>,
}

/// `struct mutex`.
#[derive(View)]
#[ctype("mutex")]
struct Mutex {
    owner: Option<u64>,
    wait_list: Option<At>,
    /// since Linux 7.2
    first_waiter: Option<u64>,
    /// with PREEMPT_RT
    rtmutex: Option<At>,
}

/// `struct rw_semaphore`.
#[derive(View)]
#[ctype("rw_semaphore")]
struct Rwsem {
    count: Option<i64>,
    owner: Option<u64>,
    wait_list: Option<At>,
    /// since Linux 7.2
    first_waiter: Option<u64>,
    /// with PREEMPT_RT
    #[field("rwbase.rtmutex")]
    rtmutex: Option<At>,
    #[field("rwbase.readers")]
    readers: Option<i32>,
}

/// What an rt_mutex is inside.
#[derive(View)]
#[ctype("rt_mutex_base", "rt_mutex")]
struct RtMutex {
    owner: u64,
    /// `struct rb_root_cached`
    waiters: At,
}

/// `struct semaphore`.
#[derive(View)]
#[ctype("semaphore")]
struct Semaphore {
    count: u32,
    wait_list: Option<At>,
    /// since Linux 7.2
    first_waiter: Option<u64>,
}

/// `struct completion`.
#[derive(View)]
#[ctype("completion")]
struct Completion {
    done: u32,
    #[field("wait.task_list")]
    list: At,
}

/// `struct percpu_rw_semaphore`.
#[derive(View)]
#[ctype("percpu_rw_semaphore")]
struct PercpuRwsem {
    block: i32,
    waiters: At,
    /// readers that a CPU let in less those that it let out, which may have come in by another
    read_count: u64,
    /// a writer that waits until the last reader is out
    #[field("writer.task")]
    writer: u64,
}

impl PercpuRwsem {
    fn readers(&self, session: &Session) -> Result<u64> {
        let cpus = Percpu::of(session)?;
        let counts = cpus.copies(self.read_count).map(|(_, at)| session.u32(at));
        let sum = counts.collect::<Result<Vec<_>>>()?.into_iter().fold(0, u32::wrapping_add);
        Ok(u64::try_from(sum as i32).unwrap_or(0))
    }
}

/// The writer that waits for the readers of a `struct percpu_rw_semaphore`, and lets no more in.
pub(crate) fn percpu_writer(session: &Session, addr: u64) -> Result<Option<u64>> {
    let view: PercpuRwsem = session.view(addr)?;
    Ok(Some(view.writer).filter(|task| *task != 0))
}

/// What waits in the list of a lock: the struct, where its list entry is, where it names its task.
pub(crate) struct WaiterType {
    ctype: &'static [&'static str],
    link: &'static str,
    task: &'static str,
}

pub(crate) const MUTEX_WAITER: WaiterType = WaiterType { ctype: &["mutex_waiter"], link: "list", task: "task" };
pub(crate) const RWSEM_WAITER: WaiterType = WaiterType { ctype: &["rwsem_waiter"], link: "list", task: "task" };
pub(crate) const SEMAPHORE_WAITER: WaiterType = WaiterType { ctype: &["semaphore_waiter"], link: "list", task: "task" };
pub(crate) const SWAIT: WaiterType = WaiterType { ctype: &["swait_queue"], link: "task_list", task: "task" };
pub(crate) const WAIT_ENTRY: WaiterType = WaiterType { ctype: &["wait_queue_entry"], link: "entry", task: "private" };

impl WaiterType {
    /// Where the list entry and the task's address are in it.
    pub(crate) fn places(&self, session: &Session) -> Result<(u64, u64)> {
        let ctype = self.ctype.iter().find(|name| session.has_struct(name)).or(self.ctype.first()).unwrap_or(&"");
        Ok((session.offset(ctype, self.link)?, session.offset(ctype, self.task)?))
    }

    /// The tasks of a list that begins at `head`, and of `first`, which may lie outside of it.
    fn tasks(&self, session: &Session, head: u64, first: Option<u64>) -> Result<Vec<u64>> {
        let (link, task) = self.places(session)?;
        let mut found = Vec::new();
        if let Some(first) = first {
            found.push(session.u64(first.wrapping_add(task))?);
        }
        list::list(session, head, link, &mut |waiter| {
            match session.u64(waiter.wrapping_add(task)) {
                Ok(task) => found.push(task),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(waiter, format!("waiter of a lock: {}", e.kind())),
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The tasks of a ring without a head, of which the lock knows the first.
    fn ring(&self, session: &Session, first: u64) -> Result<Vec<u64>> {
        if first == 0 {
            return Ok(Vec::new());
        }
        let (link, _) = self.places(session)?;
        self.tasks(session, first.wrapping_add(link), Some(first))
    }

    fn waiters(&self, session: &Session, list: Option<At>, first: Option<u64>) -> Result<Vec<u64>> {
        match (list, first) {
            (Some(At(head)), _) => self.tasks(session, head, None),
            (None, Some(first)) => self.ring(session, first),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// What the lowest bits of an owner are used for: a task is aligned to more.
const FLAGS: u64 = 7;
/// `RWSEM_READER_OWNED`, `RWSEM_WRITER_LOCKED`, `RWSEM_READER_SHIFT` (kernel/locking/rwsem.c, as they are since Linux 5.3).
const READER_OWNED: u64 = 1;
const WRITER_LOCKED: i64 = 1;
const READER_SHIFT: u32 = 8;

fn task(owner: u64) -> Option<u64> {
    Some(owner & !FLAGS).filter(|task| *task != 0)
}

fn mutex(session: &Session, addr: u64) -> Result<Lock> {
    let view: Mutex = session.view(addr)?;
    if let Some(At(inner)) = view.rtmutex {
        return Ok(Lock { addr, kind: Kind::Mutex, ..rt_mutex(session, inner)? });
    }
    let holder = task(view.owner.unwrap_or(0));
    let waiters = MUTEX_WAITER.waiters(session, view.wait_list, view.first_waiter)?;
    let held = if holder.is_some() { Held::Exclusive } else { Held::Free };
    Ok(Lock { addr, kind: Kind::Mutex, held, holder, waiters })
}

fn rwsem(session: &Session, addr: u64) -> Result<Lock> {
    let view: Rwsem = session.view(addr)?;
    if let Some(At(inner)) = view.rtmutex {
        let lock = rt_mutex(session, inner)?;
        /// `READER_BIAS`, `WRITER_BIAS` (include/linux/rwbase_rt.h): no reader may come in; a writer is in
        const NO_READERS: i32 = i32::MIN;
        const WRITER: i32 = 1 << 30;
        let readers = view.readers.unwrap_or(NO_READERS);
        let held = match readers {
            WRITER => Held::Exclusive,
            _ if readers & !NO_READERS > 0 => Held::Shared((readers & !NO_READERS) as u64),
            _ => Held::Free,
        };
        return Ok(Lock { addr, kind: Kind::Rwsem, held, ..lock });
    }
    let (count, owner) = (view.count.unwrap_or(0), view.owner.unwrap_or(0));
    let readers = (count >> READER_SHIFT).max(0) as u64;
    let held = match () {
        () if count & WRITER_LOCKED != 0 => Held::Exclusive,
        () if readers > 0 => Held::Shared(readers),
        () => Held::Free,
    };
    // the readers leave their mark there when they are gone
    let holder = if held == Held::Free { None } else { task(owner) };
    let holder = holder.filter(|_| (owner & READER_OWNED != 0) == matches!(held, Held::Shared(_)));
    let waiters = RWSEM_WAITER.waiters(session, view.wait_list, view.first_waiter)?;
    Ok(Lock { addr, kind: Kind::Rwsem, held, holder, waiters })
}

fn rt_mutex(session: &Session, addr: u64) -> Result<Lock> {
    let view: RtMutex = session.view(addr)?;
    let holder = task(view.owner);
    // the tree's node was its first member, and is in a struct of its own since Linux 6.7 (f7853c34241807)
    let waiter = session.ctype("rt_mutex_waiter")?;
    let node = session
        .field(waiter, "tree.entry")
        .or_else(|| session.field(waiter, "tree_entry"))
        .map_or(0, |field| field.bit_offset / 8);
    let task = session.offset("rt_mutex_waiter", "task")?;
    let mut waiters = Vec::new();
    rbtree::each(session, view.waiters.0, &mut |at| {
        waiters.push(session.u64(at.wrapping_sub(node).wrapping_add(task))?);
        Ok(())
    })?;
    let held = if holder.is_some() { Held::Exclusive } else { Held::Free };
    Ok(Lock { addr, kind: Kind::RtMutex, held, holder, waiters })
}

/// The tasks in a wait queue; entries that stand for no task, such as those of poll and epoll, are left out.
fn wait_queue(session: &Session, addr: u64) -> Result<Vec<u64>> {
    let head = addr.wrapping_add(session.offset("wait_queue_head", "head")?);
    let stacks = Stacks::of(session)?;
    let (link, task) = WAIT_ENTRY.places(session)?;
    let mut tasks = Vec::new();
    list::list(session, head, link, &mut |entry| {
        let waits = session.u64(entry.wrapping_add(task)).unwrap_or(0);
        if stacks.at(entry).is_some_and(|stack| stack.task == waits) {
            tasks.push(waits);
        }
        Ok(())
    })?;
    Ok(tasks)
}

/// The lock of that kind at an address.
pub fn at(session: &Session, kind: Kind, addr: u64) -> Result<Lock> {
    let without_holder = |held, waiters| Lock { addr, kind, held, holder: None, waiters };
    match kind {
        Kind::Mutex => mutex(session, addr),
        Kind::Rwsem => rwsem(session, addr),
        Kind::RtMutex => rt_mutex(session, addr),
        Kind::Semaphore => {
            let view: Semaphore = session.view(addr)?;
            let waiters = SEMAPHORE_WAITER.waiters(session, view.wait_list, view.first_waiter)?;
            Ok(without_holder(Held::Count(view.count.into()), waiters))
        }
        Kind::Completion => {
            let view: Completion = session.view(addr)?;
            let waiters = SWAIT.tasks(session, view.list.0, None)?;
            Ok(without_holder(Held::Count(view.done.into()), waiters))
        }
        Kind::WaitQueue => Ok(without_holder(Held::Free, wait_queue(session, addr)?)),
        Kind::PercpuRwsem => {
            let view: PercpuRwsem = session.view(addr)?;
            let held = match (view.readers(session)?, view.block) {
                (0, 0) => Held::Free,
                (0, _) => Held::Exclusive,
                (readers, _) => Held::Shared(readers),
            };
            let mut waiters = wait_queue(session, view.waiters.0)?;
            waiters.extend(Some(view.writer).filter(|task| *task != 0));
            Ok(without_holder(held, waiters))
        }
        Kind::Bit | Kind::Page | Kind::Futex => {
            Err(Error::Unavailable(format!("what waits for a {} is in no list of its own", kind.name())))
        }
    }
}

/// Whether what lies at an address looks like a lock of that kind that somebody holds or waits for: tasks that exist.
pub fn plausible(lock: &Lock, tasks: &BTreeSet<u64>) -> bool {
    lock.holder.is_none_or(|task| tasks.contains(&task)) && lock.waiters.iter().all(|task| tasks.contains(task))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Mutex>(),
    ViewEntry::of::<Rwsem>(),
    ViewEntry::of::<RtMutex>(),
    ViewEntry::of::<Semaphore>(),
    ViewEntry::of::<Completion>(),
    ViewEntry::of::<PercpuRwsem>(),
];
