//! What a process uses: time, memory, and how much it may.
//!
//! ```console
//! > init_task::print se.sum_exec_runtime start_time
//! se.sum_exec_runtime = 0
//! start_time = 0
//! ```

use crate::{percpu::Percpu, task};
use engine::{ViewEntry, prelude::*};

/// What of a thread is about time and scheduling.
#[derive(View, Clone, Debug)]
#[ctype("task_struct")]
pub struct Usage {
    /// nanoseconds in user mode, by the clock's ticks
    #[field("utime")]
    pub user: u64,
    /// in the kernel
    #[field("stime")]
    pub system: u64,
    /// nanoseconds on a CPU, as the scheduler counts them
    #[field("se.sum_exec_runtime")]
    pub ran: u64,
    /// when it last came onto a CPU, by the scheduler's clock
    #[field("sched_info.last_arrival")]
    pub last_arrival: Option<u64>,
    /// it waited
    #[field("nvcsw")]
    pub voluntary: u64,
    /// it was made to wait
    #[field("nivcsw")]
    pub involuntary: u64,
    /// monotonic nanoseconds at which it was born
    pub start_time: u64,
    /// the same, the time that the machine slept included
    pub start_boottime: u64,
    /// `SCHED_…`
    pub policy: u32,
    /// the kernel's: 0 to 99 real time, from 100 on others; -1 deadline
    pub prio: i32,
    /// 1 to 99 of real-time tasks
    pub rt_priority: u32,
    signal: u64,
    mm: u64,
}

/// What of a process is about time: of threads that have exited.
#[derive(View)]
#[ctype("signal_struct")]
struct Gone {
    utime: u64,
    stime: u64,
    sum_sched_runtime: u64,
    nvcsw: u64,
    nivcsw: u64,
}

impl Usage {
    /// Of one thread.
    pub fn of_thread(session: &Session, task: u64) -> Result<Usage> {
        session.view(task)
    }

    /// Of a whole process: its threads, and those that it had.
    pub fn of_process(session: &Session, leader: u64) -> Result<Usage> {
        let mut sum: Usage = session.view(leader)?;
        let gone: Gone = session.view(sum.signal)?;
        (sum.user, sum.system, sum.ran) = (gone.utime, gone.stime, gone.sum_sched_runtime);
        (sum.voluntary, sum.involuntary) = (gone.nvcsw, gone.nivcsw);
        task::threads_of(session, leader, &mut |thread| {
            let one: Usage = session.view(thread)?;
            sum.user = sum.user.saturating_add(one.user);
            sum.system = sum.system.saturating_add(one.system);
            sum.ran = sum.ran.saturating_add(one.ran);
            sum.voluntary = sum.voluntary.saturating_add(one.voluntary);
            sum.involuntary = sum.involuntary.saturating_add(one.involuntary);
            sum.last_arrival = sum.last_arrival.max(one.last_arrival);
            Ok(())
        })?;
        Ok(sum)
    }

    /// Its scheduling policy, as chrt has it.
    pub fn policy_name(&self) -> &'static str {
        match self.policy {
            0 => "other",
            1 => "fifo",
            2 => "rr",
            3 => "batch",
            5 => "idle",
            6 => "deadline",
            7 => "ext",
            _ => "?",
        }
    }
}

// ---- memory -----------------------------------------------------------------------------------------------------

/// What of an address space is counted, in pages.
#[derive(View)]
#[ctype("mm_struct")]
struct Counted {
    total_vm: u64,
    rss_stat: At,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// mapped
    pub virt: u64,
    /// in memory: of files, without a name, and shared
    pub resident: u64,
    /// of that, of files
    pub file: u64,
    /// without a name
    pub anonymous: u64,
    /// shared, and of tmpfs
    pub shared: u64,
    /// swapped out
    pub swap: u64,
}

/// `MM_FILEPAGES` and its neighbours, where they are no enumerators.
const COUNTERS: [(&str, usize); 4] =
    [("MM_FILEPAGES", 0), ("MM_ANONPAGES", 1), ("MM_SWAPENTS", 2), ("MM_SHMEMPAGES", 3)];

impl Memory {
    /// That of a task's process; `None` of kernel threads.
    pub fn of(session: &Session, task: u64) -> Result<Option<Memory>> {
        let mm = session.view::<Usage>(task)?.mm;
        if mm == 0 { Ok(None) } else { Memory::of_mm(session, mm).map(Some) }
    }

    /// That of the address space whose `struct mm_struct` is at `mm`.
    pub fn of_mm(session: &Session, mm: u64) -> Result<Memory> {
        let counted: Counted = session.view(mm)?;
        let mut pages = [0; COUNTERS.len()];
        for (value, (name, default)) in pages.iter_mut().zip(COUNTERS) {
            let index = session.enumerator(name).map_or(default as u64, |v| v as u64);
            *value = count(session, counted.rss_stat.0, index)?;
        }
        let bytes = |pages: u64| pages.saturating_mul(session.target.page_size());
        let [file, anonymous, swap, shared] = pages.map(bytes);
        let resident = file.saturating_add(anonymous).saturating_add(shared);
        Ok(Memory { virt: bytes(counted.total_vm), resident, file, anonymous, shared, swap })
    }
}

/// One of the counters at `rss_stat`: plain numbers; since Linux 6.2 (f1a7941243c1) `struct percpu_counter`s, whose CPUs
/// hold a part back. Never less than 0, as the kernel shows them.
fn count(session: &Session, rss_stat: u64, index: u64) -> Result<u64> {
    if session.has_struct("mm_rss_stat") {
        return Ok((session.u64(rss_stat.wrapping_add(8 * index))? as i64).max(0) as u64);
    }
    let at = rss_stat.wrapping_add(session.size_of("percpu_counter")?.wrapping_mul(index));
    let mut sum = session.u64(at.wrapping_add(session.offset("percpu_counter", "count")?))? as i64;
    let held = session.u64(at.wrapping_add(session.offset("percpu_counter", "counters")?))?;
    for (_, at) in Percpu::of(session)?.copies(held) {
        match session.u32(at) {
            Ok(part) => sum = sum.wrapping_add(i64::from(part as i32)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("a CPU's part of a counter: {}", e.kind())),
        }
    }
    Ok(sum.max(0) as u64)
}

// ---- limits -----------------------------------------------------------------------------------------------------

/// A limit of a process: `struct rlimit`.
#[derive(View, Clone, Copy, Debug, PartialEq, Eq)]
#[ctype("rlimit")]
pub struct Limit {
    /// its address
    #[addr]
    pub addr: u64,
    /// the one in force; all ones: none
    #[field("rlim_cur")]
    pub soft: u64,
    /// up to where the process may raise it
    #[field("rlim_max")]
    pub hard: u64,
}

/// `RLIMIT_…` by number (include/uapi/asm-generic/resource.h), and what is counted.
pub const LIMITS: [(&str, &str); 16] = [
    ("CPU", "seconds"),
    ("FSIZE", "bytes"),
    ("DATA", "bytes"),
    ("STACK", "bytes"),
    ("CORE", "bytes"),
    ("RSS", "bytes"),
    ("NPROC", "processes"),
    ("NOFILE", "files"),
    ("MEMLOCK", "bytes"),
    ("AS", "bytes"),
    ("LOCKS", "locks"),
    ("SIGPENDING", "signals"),
    ("MSGQUEUE", "bytes"),
    ("NICE", ""),
    ("RTPRIO", ""),
    ("RTTIME", "us"),
];

/// The limits of a task's process, as [`LIMITS`] orders them.
pub fn limits(session: &Session, task: u64) -> Result<Vec<Limit>> {
    let signal = session.view::<Usage>(task)?.signal;
    let (first, size) = (signal.wrapping_add(session.offset("signal_struct", "rlim")?), session.size_of("rlimit")?);
    (0..LIMITS.len() as u64).map(|i| session.view(first.wrapping_add(i.wrapping_mul(size)))).collect()
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Usage>(), ViewEntry::of::<Gone>(), ViewEntry::of::<Counted>(), ViewEntry::of::<Limit>()];
