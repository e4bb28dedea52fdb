//! Whom the OOM killer would take, as it reckons itself (`oom_badness()`, mm/oom_kill.c): who has most memory, shifted by
//! what it or its parents wished (`oom_score_adj`).

use crate::{
    meminfo::Meminfo,
    process,
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
struct Tables {
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

/// A process with memory.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// its leader
    pub task: Task,
    /// what it has, in bytes
    pub memory: process::Memory,
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
    let (memory, wishes): (Tables, Wishes) = (session.view(mm)?, session.view(task.signal)?);
    let counted = process::Memory::of_mm(session, mm)?;
    let adjust = i64::from(wishes.adjust as i16);
    let bytes = counted.resident.saturating_add(counted.swap).saturating_add(memory.pgtables_bytes);
    let pages = bytes / session.target.page_size().max(1);
    let pages = i64::try_from(pages).unwrap_or(i64::MAX);
    let shift = adjust.saturating_mul(i64::try_from(all / 1000).unwrap_or(0));
    // the first process is never taken
    let exempt = adjust == NEVER || memory.flags & SKIP != 0 || task.tgid == 1;
    Ok(Candidate {
        memory: counted,
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
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Tables>(), ViewEntry::of::<Wishes>()];
