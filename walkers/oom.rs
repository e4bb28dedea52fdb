//! Whom the OOM killer would take, as it reckons itself (`oom_badness()`, mm/oom_kill.c): who has most memory, shifted by
//! what it or its parents wished (`oom_score_adj`).

use crate::{
    meminfo::{Meminfo, PercpuCounter},
    task::{self, Task},
};
use engine::{ViewEntry, prelude::*};

/// `OOM_SCORE_ADJ_MIN`: never.
const NEVER: i64 = -1000;
/// `MMF_OOM_SKIP`: its memory has been taken already, or cannot be; a macro of this value in all kernels that have it.
const SKIP: u64 = 1 << 21;

/// What of a process counts: of its `struct mm_struct`.
#[derive(View)]
#[ctype("mm_struct")]
struct Memory {
    total_vm: u64,
    pgtables_bytes: u64,
    flags: u64,
}

/// What of it counts in its `struct signal_struct`.
#[derive(View)]
#[ctype("signal_struct")]
struct Wishes {
    #[field("oom_score_adj")]
    adjust: u16,
    /// the memory of a process that was chosen
    oom_mm: u64,
}

/// Pages of a process by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// files'
    pub file: u64,
    /// anonymous
    pub anon: u64,
    /// shared memory
    pub shared: u64,
    /// swapped out
    pub swap: u64,
}

impl Resident {
    /// In memory.
    pub fn sum(&self) -> u64 {
        self.file.saturating_add(self.anon).saturating_add(self.shared)
    }

    /// Of the `struct mm_struct` at an address. An array of counters for each CPU since Linux 6.2 (f1a7941243c1), of
    /// plain ones before.
    pub fn of(session: &Session, mm: u64) -> Result<Resident> {
        let member = mm.wrapping_add(session.offset("mm_struct", "rss_stat")?);
        let plain = session.has_member("mm_struct", "rss_stat.count");
        let stride = if plain { 8 } else { session.size_of("percpu_counter")? };
        let count = |name: &str, usual: i64| -> Result<u64> {
            let number = session.enumerator(name).unwrap_or(usual) as u64;
            let at = member.wrapping_add(number.wrapping_mul(stride));
            let sum = if plain { session.u64(at)? as i64 } else { PercpuCounter::sum(session, at)? };
            Ok(u64::try_from(sum).unwrap_or(0))
        };
        Ok(Resident {
            file: count("MM_FILEPAGES", 0)?,
            anon: count("MM_ANONPAGES", 1)?,
            swap: count("MM_SWAPENTS", 2)?,
            shared: count("MM_SHMEMPAGES", 3)?,
        })
    }
}

/// A process with memory.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// its leader
    pub task: Task,
    /// pages it has addresses for
    pub total: u64,
    /// pages it has
    pub resident: Resident,
    /// bytes of its page tables
    pub tables: u64,
    /// −1000 to 1000: how much sooner it is to be taken, in thousandths of all memory
    pub adjust: i64,
    /// how many pages it counts for; `None` if it cannot be taken
    pub points: Option<i64>,
    /// whether it has been chosen
    pub chosen: bool,
}

/// Every process that has memory, who would be taken first in front.
pub fn candidates(session: &Session) -> Result<Vec<Candidate>> {
    let meminfo = Meminfo::of(session)?;
    let all = meminfo.total()?.saturating_add(meminfo.swap_space().map_or(0, |(total, _)| total));
    let mut out = Vec::new();
    task::leaders(session, &mut |at| {
        let task: Task = session.view(at)?;
        match memory_of(session, &task)? {
            Some(mm) if !task.is_kernel_thread() => match candidate(session, task, mm, all) {
                Ok(candidate) => out.push(candidate),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("memory of a process: {}", e.kind())),
            },
            _ => {}
        }
        Ok(())
    })?;
    out.sort_by_key(|c| (std::cmp::Reverse(c.points), c.task.pid));
    Ok(out)
}

/// The memory of a process: of its leader or, if that has gone, of another thread.
fn memory_of(session: &Session, leader: &Task) -> Result<Option<u64>> {
    let mut found = Some(leader.mm).filter(|mm| *mm != 0);
    if found.is_none() && !leader.is_kernel_thread() {
        task::threads_of(session, leader.addr, &mut |at| {
            let mm = session.view::<Task>(at)?.mm;
            found = found.or(Some(mm).filter(|mm| *mm != 0));
            Ok(())
        })?;
    }
    Ok(found)
}

fn candidate(session: &Session, task: Task, mm: u64, all: u64) -> Result<Candidate> {
    let (memory, wishes): (Memory, Wishes) = (session.view(mm)?, session.view(task.signal)?);
    let resident = Resident::of(session, mm)?;
    let adjust = i64::from(wishes.adjust as i16);
    let tables = memory.pgtables_bytes / session.target.page_size();
    let pages = resident.sum().saturating_add(resident.swap).saturating_add(tables);
    let pages = i64::try_from(pages).unwrap_or(i64::MAX);
    let shift = adjust.saturating_mul(i64::try_from(all / 1000).unwrap_or(0));
    // the first process is never taken
    let exempt = adjust == NEVER || memory.flags & SKIP != 0 || task.tgid == 1;
    Ok(Candidate {
        total: memory.total_vm,
        resident,
        tables: memory.pgtables_bytes,
        adjust,
        points: (!exempt).then(|| pages.saturating_add(shift)),
        chosen: wishes.oom_mm != 0,
        task,
    })
}

/// Processes that were chosen and have not gone yet, and whether the machine panics instead; as far as that is known.
pub fn state(session: &Session) -> (Option<u32>, Option<u32>) {
    let read = |name: &str| session.kernel_symbol(name).and_then(|at| session.u32(at).ok());
    (read("oom_victims"), read("sysctl_panic_on_oom"))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Memory>(), ViewEntry::of::<Wishes>()];
