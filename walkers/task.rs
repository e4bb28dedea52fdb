//! Tasks: every process, every thread, and who has a pid.
//!
//! Thread-group leaders hang on `init_task.tasks`, the threads of a group on `signal->thread_head`. The idle task of
//! each CPU is on neither list: `idle_threads` has it.
//!
//! ```console
//! > ::walk task | ::count
//! COUNT
//!    96
//! > ::walk thread | ::count
//! COUNT
//!   104
//! ```

use crate::{list, percpu::Percpu, slab};
use engine::ViewEntry;
use engine::prelude::*;
use std::{collections::HashSet, sync::Arc};

/// A thread: `struct task_struct` (include/linux/sched.h).
#[derive(View, Clone, Debug)]
#[ctype("task_struct")]
pub struct Task {
    /// its address
    #[addr]
    pub addr: u64,
    /// the thread's own id
    pub pid: i32,
    /// the process's id
    pub tgid: i32,
    /// the name of the thread
    pub comm: String,
    /// run state bits; `state` before Linux 5.14 (2f064a59a11f)
    #[field("__state", "state")]
    run_state: u32,
    exit_state: u32,
    /// `PF_…`
    pub flags: u32,
    /// the CPU it runs on, or ran on last; in `thread_info` since Linux 5.16 (bcf9033e5449) on x86
    #[field("cpu", "thread_info.cpu")]
    pub cpu: u32,
    /// the process it was born to, or init
    pub real_parent: u64,
    /// its `struct signal_struct`, which all threads of the process share
    pub signal: u64,
    /// its user address space; 0 for kernel threads
    pub mm: u64,
    /// its credentials, `struct cred`
    pub cred: u64,
    static_prio: i32,
    /// monotonic nanoseconds at which it was born
    pub start_time: u64,
    /// of kernel threads: `struct kthread`, under this name since Linux 5.17 (e32cf5dfbe22)
    #[field("worker_private", "set_child_tid")]
    kthread: u64,
}

/// `PF_WQ_WORKER`, `PF_KTHREAD` (include/linux/sched.h): macros, and as they are since Linux 3.10 and 2.6.27.
const PF_WQ_WORKER: u32 = 0x20;
const PF_KTHREAD: u32 = 0x20_0000;

/// `TASK_UNINTERRUPTIBLE`, `TASK_WAKEKILL`, `TASK_NOLOAD`: macros, and as they are since Linux 4.14.
const UNINTERRUPTIBLE: u32 = 2;
const WAKEKILL: u32 = 0x100;
const NOLOAD: u32 = 0x400;

impl Task {
    /// Whether it is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it is in a sleep that nothing but what it waits for ends: what the kernel's hung task detector looks for
    /// (`check_hung_uninterruptible_tasks`). One that a fatal signal ends, or that is how a thread idles, is none.
    pub fn cannot_be_woken(&self) -> bool {
        self.run_state & (UNINTERRUPTIBLE | WAKEKILL | NOLOAD) == UNINTERRUPTIBLE
    }

    /// Of a thread of the kernel, its `struct kthread`.
    pub fn kthread(&self) -> Option<u64> {
        Some(self.kthread).filter(|at| *at != 0 && self.is_kernel_thread())
    }

    /// Whether it leads its thread group: it is the process.
    pub fn is_leader(&self) -> bool {
        self.pid == self.tgid
    }

    /// The letter that /proc shows for its state: `R`unning, `S`leeping, `D`isk sleep, `T`stopped, `t`raced, `X` dead,
    /// `Z`ombie, `P`arked, `I`dle (`task_state_index` in include/linux/sched.h).
    pub fn state(&self) -> char {
        /// the bits that are told, from TASK_INTERRUPTIBLE to TASK_PARKED
        const REPORT: u32 = 0x7f;
        const RTLOCK_WAIT: u32 = 0x1000;
        let letter = |bits: u32| "RSDTtXZP".chars().nth(32 - bits.leading_zeros() as usize).unwrap_or('?');
        if self.run_state & (UNINTERRUPTIBLE | NOLOAD) == UNINTERRUPTIBLE | NOLOAD {
            return 'I';
        }
        if self.run_state & RTLOCK_WAIT != 0 {
            return 'D';
        }
        letter((self.run_state | self.exit_state) & REPORT)
    }

    /// -20 to 19.
    pub fn nice(&self) -> i32 {
        /// NICE_TO_PRIO(0)
        const DEFAULT_PRIO: i32 = 120;
        self.static_prio.wrapping_sub(DEFAULT_PRIO)
    }

    /// Process id of its parent; 0 if it has none.
    pub fn parent(&self, session: &Session) -> Result<i32> {
        if self.real_parent == 0 {
            return Ok(0);
        }
        Ok(session.u32(self.real_parent.wrapping_add(session.offset("task_struct", "tgid")?))? as i32)
    }

    /// User id it acts as: `cred->euid`, as the owner of /proc/PID shows it.
    pub fn uid(&self, session: &Session) -> Result<u32> {
        session.u32(self.cred.wrapping_add(session.offset("cred", "euid.val")?))
    }

    /// Id of its process group.
    pub fn group(&self, session: &Session) -> Result<i32> {
        self.shared_pid(session, "PIDTYPE_PGID", 2)
    }

    /// Id of its login session.
    pub fn login(&self, session: &Session) -> Result<i32> {
        self.shared_pid(session, "PIDTYPE_SID", 3)
    }

    fn shared_pid(&self, session: &Session, which: &str, default: i64) -> Result<i32> {
        let which = session.enumerator(which).unwrap_or(default);
        let pids = self.signal.wrapping_add(session.offset("signal_struct", &format!("pids[{which}]"))?);
        let pid = session.u64(pids)?;
        if pid == 0 {
            return Ok(0);
        }
        Ok(session.u32(pid.wrapping_add(session.offset("pid", "numbers[0].nr")?))? as i32)
    }

    /// The name that ps shows. Kernel threads have one longer than `comm` has room for (`kthread.full_name`, since
    /// Linux 5.17, d6986ce24fc0); a workqueue's worker has what it does behind its name, `+` while it does it
    /// (`wq_worker_comm` in kernel/workqueue.c).
    pub fn name(&self, session: &Session) -> String {
        if !self.is_kernel_thread() || self.kthread == 0 {
            return self.comm.clone();
        }
        let decorated =
            if self.flags & PF_WQ_WORKER != 0 { self.worker_name(session) } else { self.full_name(session) };
        decorated.unwrap_or_else(|| self.comm.clone())
    }

    fn full_name(&self, session: &Session) -> Option<String> {
        let at = self.kthread.wrapping_add(session.offset("kthread", "full_name").ok()?);
        let name = session.u64(at).ok().filter(|name| *name != 0)?;
        session.cstr(name, 64).ok()
    }

    fn worker_name(&self, session: &Session) -> Option<String> {
        let worker = session.u64(self.kthread.wrapping_add(session.offset("kthread", "data").ok()?)).ok()?;
        let worker: Worker = session.view(worker).ok()?;
        let mut name = self.comm.clone();
        // a rescuer's comm has its workqueue's name cut short, since Linux 6.11 (2a1b02bcba78)
        if worker.rescue_wq != 0 && name.starts_with(RESCUER) {
            let queue = worker.rescue_wq.wrapping_add(session.offset("workqueue_struct", "name").ok()?);
            name = format!("{RESCUER}{}", session.cstr(queue, 64).ok()?);
        }
        if worker.pool != 0 && !worker.desc.is_empty() {
            name.push(if worker.current_work == 0 { '-' } else { '+' });
            name.push_str(&worker.desc);
        }
        Some(name)
    }
}

/// `struct worker` (kernel/workqueue_internal.h).
#[derive(View)]
#[ctype("worker")]
struct Worker {
    current_work: u64,
    pool: u64,
    rescue_wq: u64,
    desc: String,
}

/// What the names of rescuers start with.
const RESCUER: &str = "kworker/R-";

/// Visits every thread-group leader, in the order of their birth, without the idle tasks. If the kernel counted more
/// threads than the list leads to, because pages of it are missing, the rest is taken from the slab cache of tasks.
pub fn leaders(session: &Session, visit: Visit<'_>) -> Result<()> {
    let init = session.symbol("init_task")?;
    let link = session.offset("task_struct", "tasks")?;
    let (mut seen, mut threads) = (HashSet::new(), 0);
    list::list(session, init.wrapping_add(link), link, &mut |leader| {
        seen.insert(leader);
        // one that cannot be read counts as lost, which only costs a look at the slabs
        threads += thread_count(session, leader).unwrap_or(0);
        visit(leader)
    })?;
    let counted = session.kernel_symbol("nr_threads").and_then(|addr| session.u32(addr).ok()).unwrap_or(0);
    if u64::from(counted) <= threads {
        return Ok(());
    }
    match lost_leaders(session, &seen) {
        Ok(lost) => {
            if let Some(first) = lost.first() {
                session
                    .notes
                    .add(*first, format!("{} processes are on no list: found in their slab cache", lost.len()));
            }
            lost.into_iter().try_for_each(visit)
        }
        Err(e) if e.is_control() => Err(e),
        // a kernel whose slabs cannot be looked through
        Err(_) => Ok(()),
    }
}

/// Threads of a process, as its `signal_struct` counts them.
fn thread_count(session: &Session, task: u64) -> Result<u64> {
    let signal = session.u64(task.wrapping_add(session.offset("task_struct", "signal")?))?;
    Ok(session.u32(signal.wrapping_add(session.offset("signal_struct", "nr_threads")?))?.into())
}

/// Thread-group leaders among the allocated objects of the cache `task_struct` that are not in `seen`. A task that was
/// reaped, and is only kept by somebody's reference, has no `sighand` any more.
fn lost_leaders(session: &Session, seen: &HashSet<u64>) -> Result<Vec<u64>> {
    let slabs = slab::Slabs::of(session)?;
    let sighand = session.offset("task_struct", "sighand")?;
    let mut lost = Vec::new();
    for cache in slabs.caches.named("task_struct") {
        slabs.each(session, cache, slab::State::Allocated, &mut |addr| {
            if seen.contains(&addr) {
                return Ok(());
            }
            let Ok(task) = session.view::<Task>(addr) else { return Ok(()) };
            let lives = session.u64(addr.wrapping_add(sighand)).is_ok_and(|sighand| sighand != 0);
            if task.pid > 0 && task.is_leader() && lives {
                lost.push((task.pid, addr));
            }
            Ok(())
        })?;
    }
    lost.sort_unstable();
    Ok(lost.into_iter().map(|(_, addr)| addr).collect())
}

/// Visits every thread of a process, given any of its threads, leader first.
pub fn threads_of(session: &Session, task: u64, visit: Visit<'_>) -> Result<()> {
    let signal = session.u64(task.wrapping_add(session.offset("task_struct", "signal")?))?;
    let head = signal.wrapping_add(session.offset("signal_struct", "thread_head")?);
    list::list(session, head, session.offset("task_struct", "thread_node")?, visit)
}

/// Visits every thread: the idle task of each CPU, then each process's threads.
pub fn threads(session: &Session, visit: Visit<'_>) -> Result<()> {
    idle(session)?.iter().try_for_each(|(_, task)| visit(*task))?;
    leaders(session, &mut |leader| match threads_of(session, leader, visit) {
        Err(e) if e.is_unreadable() => {
            session.notes.add(leader, format!("threads of a process: {}", e.kind()));
            visit(leader)
        }
        result => result,
    })
}

/// The idle task of each CPU that has one.
pub fn idle(session: &Session) -> Result<Vec<(u32, u64)>> {
    let Some(variable) = session.kernel_symbol("idle_threads") else {
        return Ok(session.kernel_symbol("init_task").map(|task| (0, task)).into_iter().collect());
    };
    let cpus = Percpu::of(session)?;
    let mut found = Vec::new();
    for (cpu, at) in cpus.copies(variable) {
        match session.u64(at) {
            Ok(0) => {}
            Ok(task) => found.push((cpu, task)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("idle task of a CPU: {}", e.kind())),
        }
    }
    Ok(found)
}

/// What a thread is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    pid: i32,
    task: u64,
    /// monotonic nanoseconds
    born: u64,
}

/// Every thread by its id.
#[derive(Debug, Default)]
pub struct Pids {
    /// sorted
    by_pid: Vec<Thread>,
    idle: Vec<(u32, u64)>,
}

impl Pids {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Pids>> {
        session.once(|| session.settle(|| Pids::read(session)))
    }

    fn read(session: &Session) -> Result<Pids> {
        let pid = session.offset("task_struct", "pid")?;
        let born = session.offset("task_struct", "start_time")?;
        let mut pids = Pids { by_pid: Vec::new(), idle: idle(session)? };
        threads(session, &mut |task| {
            let both = session.u32(task.wrapping_add(pid)).and_then(|p| Ok((p, session.u64(task.wrapping_add(born))?)));
            match both {
                // the idle tasks share number 0
                Ok((0, _)) => {}
                Ok((pid, born)) => pids.by_pid.push(Thread { pid: pid as i32, task, born }),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(task, format!("task: {}", e.kind())),
            }
            Ok(())
        })?;
        pids.by_pid.sort_unstable();
        Ok(pids)
    }

    fn find(&self, pid: i32) -> Option<&Thread> {
        self.by_pid.get(self.by_pid.binary_search_by_key(&pid, |t| t.pid).ok()?)
    }

    /// The thread with that id.
    pub fn get(&self, pid: i32) -> Option<u64> {
        self.find(pid).map(|t| t.task)
    }

    /// The thread that had that id at a monotonic time, if it still lives: one born later is another.
    pub fn get_at(&self, pid: i32, time: u64) -> Option<u64> {
        self.find(pid).filter(|t| t.born <= time).map(|t| t.task)
    }

    /// Whether that is one of the threads there are: what a lock says of its holder may be older.
    pub fn lives(&self, task: u64) -> bool {
        self.by_pid.iter().any(|thread| thread.task == task) || self.idle.iter().any(|(_, idle)| *idle == task)
    }

    /// The idle task of a CPU.
    pub fn idle(&self, cpu: u32) -> Option<u64> {
        self.idle.iter().find(|(c, _)| *c == cpu).map(|(_, task)| *task)
    }
}

/// Walks tasks.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "task",
        doc: "walk all processes (thread-group leaders)",
        item: "struct task_struct",
        address: Address::None,
        walk: |cx, _, visit| leaders(cx, visit),
    },
    WalkerEntry {
        name: "thread",
        doc: "walk all threads, idle tasks first, or those of the process whose task is at the address",
        item: "struct task_struct",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(task) => threads_of(cx, task.addr, visit),
            None => threads(cx, visit),
        },
    },
];

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Task>(), ViewEntry::of::<Worker>()];

#[cfg(test)]
mod tests {
    use super::*;

    fn task(run_state: u32, exit_state: u32) -> Task {
        Task {
            addr: 0,
            pid: 1,
            tgid: 1,
            comm: "x".into(),
            run_state,
            exit_state,
            flags: 0,
            cpu: 0,
            real_parent: 0,
            signal: 0,
            mm: 0,
            cred: 0,
            static_prio: 100,
            start_time: 0,
            kthread: 0,
        }
    }

    #[test]
    fn states_have_the_letters_of_proc() {
        for (run, exit, letter) in [
            (0, 0, 'R'),
            (1, 0, 'S'),
            (2, 0, 'D'),
            (0x402, 0, 'I'),
            (4, 0, 'T'),
            (8, 0, 't'),
            (0x80, 0x10, 'X'),
            (0x80, 0x20, 'Z'),
            (0x40, 0, 'P'),
            (0x1000, 0, 'D'),
            (0x2001, 0, 'S'),
        ] {
            assert_eq!(task(run, exit).state(), letter, "{run:#x} {exit:#x}");
        }
        assert_eq!(task(0, 0).nice(), -20);
    }

    #[test]
    fn sleeps_that_a_fatal_signal_ends_are_no_hangs() {
        let hangs = [2, 0x102, 0x402, 1, 0, 0x8002].map(|bits| task(bits, 0).cannot_be_woken());
        assert_eq!(hangs, [true, false, false, false, false, true]);
    }
}
