//! Who will end a wait for a completion, where something says so: a completion has no owner.
//!
//! It does where the waiter waits for a thread to end (`kthread_stop`: the completion is in that thread's
//! `struct kthread`), for a child to let go of its memory (`vfork`: the child points at it), or for a work (`flush_work`:
//! the completion is in a `struct wq_barrier`, which is on the list of the worker that does the work) or all works of a
//! queue (`flush_workqueue`: the queue points at the `struct wq_flusher` that it is in).
//!
//! ```console
//! > ::deadlocks
//! THREAD           COUNT RING
//! ff12334a8296af00     2 32 kworker/1:1, 87 crash_flush
//!                  32 kworker/1:1 waits for mutex ffffffffc04ee5a0 (crasher`mutex_d), held by 87 crash_flush
//!                  87 crash_flush waits for completion ff60b89cc019fc60, which ends when it is told by 32 kworker/1:1
//! ```

use crate::{
    list,
    task::{self, Task},
    workqueue::{self, State},
};
use engine::{ViewEntry, prelude::*};
use std::{collections::HashMap, sync::Arc};

/// Completions by their address: the task that will end the wait, and whether that is sure.
#[derive(Debug, Default)]
pub struct Completers(HashMap<u64, (u64, bool)>);

/// What of a task somebody may wait for.
#[derive(View)]
#[ctype("task_struct")]
struct Awaited {
    /// the completion on which whoever called vfork() waits; 0 if nobody does
    vfork_done: Option<u64>,
}

/// Of a workqueue, who waits for all its works (`flush_workqueue`).
#[derive(View)]
#[ctype("workqueue_struct")]
struct Flushed {
    /// `struct wq_flusher`; 0 if there is none
    first_flusher: Option<u64>,
    flusher_queue: Option<At>,
}

impl Completers {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Completers>> {
        session.once(|| session.settle(|| Completers::read(session)))
    }

    /// The task that will end the wait for the completion there, and whether that is sure.
    pub fn get(&self, completion: u64) -> Option<(u64, bool)> {
        self.0.get(&completion).copied()
    }

    fn read(session: &Session) -> Result<Completers> {
        let mut found = Completers::default();
        let parts = [Completers::threads, Completers::works, Completers::flushes];
        for part in parts {
            match part(&mut found, session) {
                Err(e) if e.is_control() => return Err(e),
                // a kernel without one of these structs, or a dump without one of these pages: the others still help
                Err(e) => session.notes.add(0, format!("who ends waits for completions: {}", e.kind())),
                Ok(()) => {}
            }
        }
        Ok(found)
    }

    fn threads(&mut self, session: &Session) -> Result<()> {
        let exits: Vec<u64> = ["exited", "parked"].iter().filter_map(|m| session.offset("kthread", m).ok()).collect();
        task::threads(session, &mut |addr| {
            match (session.view::<Task>(addr), session.view::<Awaited>(addr)) {
                (Err(e), _) | (_, Err(e)) if e.is_control() => return Err(e),
                (Ok(task), Ok(awaited)) => {
                    // of a thread of the kernel it may be the completion in its own struct kthread
                    if let Some(done) = awaited.vfork_done.filter(|done| *done != 0) {
                        self.0.insert(done, (addr, true));
                    }
                    if let Some(kthread) = task.kthread() {
                        self.0.extend(exits.iter().map(|at| (kthread.wrapping_add(*at), (addr, true))));
                    }
                }
                _ => {}
            }
            Ok(())
        })
    }

    fn works(&mut self, session: &Session) -> Result<()> {
        let (Ok(work), Ok(done)) = (session.offset("wq_barrier", "work"), session.offset("wq_barrier", "done")) else {
            return Ok(());
        };
        workqueue::each_work(session, &mut |queued| {
            if let (State::Scheduled, Some(worker), Ok(function)) = (queued.state, &queued.worker, &queued.function)
                && session.symbols.by_addr(session, *function).is_some_and(|f| f.name.starts_with("wq_barrier_func"))
            {
                self.0.insert(queued.work.wrapping_sub(work).wrapping_add(done), (worker.task, true));
            }
            Ok(())
        })
    }

    fn flushes(&mut self, session: &Session) -> Result<()> {
        let Ok(done) = session.offset("wq_flusher", "done") else { return Ok(()) };
        let link = session.offset("wq_flusher", "list")?;
        let mut waiting = HashMap::new();
        workqueue::each(session, &mut |queue| {
            let flushed: Flushed = session.view(queue)?;
            let mut flushers: Vec<u64> = flushed.first_flusher.filter(|at| *at != 0).into_iter().collect();
            if let (false, Some(At(head))) = (flushers.is_empty(), flushed.flusher_queue) {
                flushers.extend(list::entries(session, head, link)?);
            }
            if !flushers.is_empty() {
                waiting.insert(queue, flushers);
            }
            Ok(())
        })?;
        if waiting.is_empty() {
            return Ok(());
        }
        // of all the works of the queue, one that runs: the wait ends no sooner than it
        workqueue::each_work(session, &mut |queued| {
            if let (State::Running, Some(worker)) = (queued.state, &queued.worker)
                && let Ok(at) = session.view::<workqueue::PoolQueue>(queued.pool_queue)
            {
                for flusher in waiting.remove(&at.queue).unwrap_or_default() {
                    self.0.insert(flusher.wrapping_add(done), (worker.task, false));
                }
            }
            Ok(())
        })
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Awaited>(), ViewEntry::of::<Flushed>()];
