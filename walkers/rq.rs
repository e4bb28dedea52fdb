//! Run queues: what each CPU runs, and what waits to run on it (`struct rq`, kernel/sched/sched.h).
//!
//! Fair tasks hang on `cfs_tasks` whatever orders them (CFS, EEVDF), real-time ones on an array of lists, deadline ones in a
//! tree, those of a BPF scheduler on `scx.runnable_list`. A task that says it is queued and is on none of them is told too.

use crate::{list, percpu::Percpu, rbtree, task};
use engine::{ViewEntry, prelude::*};
use std::collections::{BTreeSet, HashMap};

/// A CPU's run queue.
#[derive(View, Clone, Debug)]
#[ctype("rq")]
pub struct Rq {
    /// its address
    #[addr]
    pub addr: u64,
    /// tasks that want to run, with the one that does
    pub nr_running: u32,
    /// how often the CPU changed from a task to another
    pub nr_switches: u64,
    /// the task that runs
    #[field("curr")]
    pub current: u64,
    /// the CPU's idle task
    pub idle: u64,
    /// what stops the CPU for others, `migration/N`
    pub stop: u64,
    /// nanoseconds of the scheduler's clock, when last looked at
    pub clock: u64,
    cfs_tasks: Option<At>,
    #[field("cfs.tasks_timeline")]
    cfs_tree: Option<At>,
    #[field("rt.active")]
    rt: At,
    #[field("dl.root")]
    dl: At,
    #[field("scx.runnable_list")]
    scx: Option<At>,
}

/// Which of the scheduler's classes a task is queued by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// above all others
    Stop,
    /// earliest deadline first
    Deadline,
    /// SCHED_FIFO, SCHED_RR
    Realtime,
    /// CFS or EEVDF
    Fair,
    /// a BPF scheduler
    Ext,
    /// what a CPU does that has nothing to do
    Idle,
    /// its task says that it is queued, but it is in no queue
    Lost,
}

impl Class {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Class::Stop => "stop",
            Class::Deadline => "dl",
            Class::Realtime => "rt",
            Class::Fair => "fair",
            Class::Ext => "ext",
            Class::Idle => "idle",
            Class::Lost => "lost?",
        }
    }
}

/// A task on a run queue.
#[derive(View, Clone, Debug)]
#[ctype("task_struct")]
struct Queued {
    on_rq: i32,
    prio: i32,
    #[field("cpu", "thread_info.cpu")]
    cpu: u32,
    #[field("sched_info.last_queued")]
    queued: Option<u64>,
    #[field("sched_info.last_arrival")]
    arrived: Option<u64>,
}

/// A task that runs, or wants to.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// its address
    pub task: u64,
    /// whose queue it is in
    pub class: Class,
    /// the kernel's priority: 100 to 139 fair ones, below it real-time ones, −1 deadline
    pub prio: i32,
    /// when it was queued, in nanoseconds of the queue's clock; 0 of one that runs
    pub queued: u64,
}

/// Every CPU that is online, and its run queue.
pub fn all(session: &Session) -> Result<Vec<(u32, Rq)>> {
    let queues = session.symbol("runqueues")?;
    let cpus = Percpu::of(session)?;
    let mut found = Vec::new();
    for cpu in cpus.online() {
        let at = cpus.address(queues, *cpu)?;
        match session.view(at) {
            Ok(rq) => found.push((*cpu, rq)),
            Err(e) if e.is_unreadable() => session.notes.add(at, format!("run queue of a CPU: {}", e.kind())),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Lists of the real-time array: MAX_RT_PRIO.
const RT_LISTS: u64 = 100;
/// Groups in groups, of real-time tasks.
const MAX_DEPTH: usize = 16;

impl Rq {
    /// The task it runs and those that wait for it, the most urgent first. `strays` are tasks that say they are queued, by
    /// CPU: see [`strays`].
    pub fn entries(&self, session: &Session, cpu: u32, strays: &HashMap<u32, Vec<u64>>) -> Result<Vec<Entry>> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut add = |class, task| {
            if seen.insert(task) {
                match session.view::<Queued>(task) {
                    Ok(q) => found.push(Entry { task, class, prio: q.prio, queued: q.queued.unwrap_or(0) }),
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => session.notes.add(task, format!("a task on a run queue: {}", e.kind())),
                }
            }
            Ok(())
        };
        self.each_rt(session, self.rt.0, 0, &mut |task| add(Class::Realtime, task))?;
        self.each_deadline(session, &mut |task| add(Class::Deadline, task))?;
        self.each_fair(session, &mut |task| add(Class::Fair, task))?;
        if let Some(At(head)) = self.scx {
            let link = session.offset("task_struct", "scx.runnable_node")?;
            list::list(session, head, link, &mut |task| add(Class::Ext, task))?;
        }
        let class = match self.current {
            task if task == self.idle => Class::Idle,
            task if task == self.stop => Class::Stop,
            _ => Class::Lost,
        };
        add(class, self.current)?;
        for task in strays.get(&cpu).into_iter().flatten() {
            add(if *task == self.stop { Class::Stop } else { Class::Lost }, *task)?;
        }
        found.sort_by_key(|entry| (entry.task != self.current, entry.class, entry.prio));
        Ok(found)
    }

    fn each_fair(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        match (&self.cfs_tasks, &self.cfs_tree) {
            (Some(At(head)), _) => list::list(session, *head, session.offset("task_struct", "se.group_node")?, visit),
            // without SMP there is no such list; groups are then not looked into
            (None, Some(At(root))) => {
                let (se, node) = (session.offset("task_struct", "se")?, session.offset("sched_entity", "run_node")?);
                let group = session.offset("sched_entity", "my_q").ok();
                rbtree::each(session, *root, &mut |at| {
                    let entity = at.wrapping_sub(node);
                    let is_group = group.is_some_and(|my_q| session.u64(entity.wrapping_add(my_q)).unwrap_or(0) != 0);
                    if is_group { Ok(()) } else { visit(entity.wrapping_sub(se)) }
                })
            }
            (None, None) => Ok(()),
        }
    }

    fn each_rt(&self, session: &Session, array: u64, depth: usize, visit: Visit<'_>) -> Result<()> {
        let queue = array.wrapping_add(session.offset("rt_prio_array", "queue")?);
        let (rt, link) = (session.offset("task_struct", "rt")?, session.offset("sched_rt_entity", "run_list")?);
        let group = session.offset("sched_rt_entity", "my_q").ok();
        let active = session.offset("rt_rq", "active")?;
        for i in 0..RT_LISTS {
            let head = queue.wrapping_add(i * 16);
            if session.u64(head)? == head {
                continue;
            }
            list::list(session, head, link, &mut |entity| {
                let inner = group.map_or(0, |my_q| session.u64(entity.wrapping_add(my_q)).unwrap_or(0));
                match inner {
                    0 => visit(entity.wrapping_sub(rt)),
                    _ if depth >= MAX_DEPTH => Ok(()),
                    inner => self.each_rt(session, inner.wrapping_add(active), depth + 1, visit),
                }
            })?;
        }
        Ok(())
    }

    fn each_deadline(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        let (dl, node) = (session.offset("task_struct", "dl")?, session.offset("sched_dl_entity", "rb_node")?);
        rbtree::each(session, self.dl.0, &mut |at| {
            let entity = at.wrapping_sub(node);
            // servers for other classes (Linux 6.8, 63ba8422f876) are members of the run queue and no tasks
            let size = session.size_of("rq")?;
            let is_server = (self.addr..self.addr.saturating_add(size)).contains(&entity);
            if is_server { Ok(()) } else { visit(entity.wrapping_sub(dl)) }
        })
    }
}

/// Tasks that say they are on a run queue (`on_rq`), by CPU. The idle tasks say so too, and are left out.
pub fn strays(session: &Session) -> Result<HashMap<u32, Vec<u64>>> {
    let idle: BTreeSet<u64> = task::idle(session)?.into_iter().map(|(_, task)| task).collect();
    let mut found: HashMap<u32, Vec<u64>> = HashMap::new();
    task::threads(session, &mut |task| {
        if !idle.contains(&task)
            && let Ok(queued) = session.view::<Queued>(task)
            && queued.on_rq == 1
        {
            found.entry(queued.cpu).or_default().push(task);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The kernel's priority of a task.
pub fn priority(session: &Session, task: u64) -> Option<i32> {
    session.view::<Queued>(task).ok().map(|queued| queued.prio)
}

/// For how many nanoseconds the task that runs has had the CPU.
pub fn running_since(session: &Session, rq: &Rq) -> Option<u64> {
    let arrived = session.view::<Queued>(rq.current).ok()?.arrived.filter(|at| *at != 0)?;
    Some(rq.clock.saturating_sub(arrived))
}

/// What keeps a CPU from scheduling, counted in its `preempt_count` (include/linux/preempt.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nesting {
    /// preemption was disabled so often
    pub preempt: u32,
    /// softirqs run, or are disabled
    pub softirq: u32,
    /// interrupts are served
    pub hardirq: u32,
    /// NMIs are served
    pub nmi: u32,
}

/// The nesting of a CPU: a per-CPU variable on x86-64 (a member of `pcpu_hot` in Linux 6.2 to 6.14), elsewhere the task's.
pub fn nesting(session: &Session, cpu: u32, current: u64) -> Option<Nesting> {
    let own = |name: &str| crate::percpu::variable(session, name, cpu).ok();
    let at = own("__preempt_count")
        .or_else(|| Some(own("pcpu_hot")?.wrapping_add(session.offset("pcpu_hot", "preempt_count").ok()?)))
        .or_else(|| Some(current.wrapping_add(session.offset("task_struct", "thread_info.preempt_count").ok()?)))?;
    let count = session.u32(at).ok()?;
    let part = |shift: u32, mask: u32| count >> shift & mask;
    Some(Nesting { preempt: part(0, 0xff), softirq: part(8, 0xff), hardirq: part(16, 0xf), nmi: part(20, 0xf) })
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Rq>(), ViewEntry::of::<Queued>()];
