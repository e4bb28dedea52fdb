//! Workqueues (kernel/workqueue.c): queues that works are put on, pools of workers that do them, and the works themselves.
//!
//! A `struct workqueue_struct` has a `struct pool_workqueue` for each pool it uses, and every pool serves many queues. A
//! work waits on its pool's `worklist`, or, while its queue has too many at work already, on the pool_workqueue's
//! `inactive_works`; then a worker has it as its `current_work`, and perhaps more on its own list, `scheduled`.
//!
//! ```console
//! > ::walk workqueue | ::print struct workqueue_struct name | ::head -n 2
//! name = [ "events" ]
//! name = [ "events" ]
//! ```

use crate::{container, list};
use engine::{ViewEntry, prelude::*};
use std::collections::HashMap;

/// `struct workqueue_struct`.
#[derive(View, Clone, Debug)]
#[ctype("workqueue_struct")]
pub struct Queue {
    /// its address
    #[addr]
    pub addr: u64,
    /// its name
    pub name: String,
    /// `WQ_…`
    pub flags: u32,
    /// works that may run at once; in its pool_workqueues before Linux 6.9 (a045a272d887)
    #[field("max_active", "saved_max_active")]
    pub max_active: i32,
    /// the worker that steps in when memory is short; 0 if there is none
    pub rescuer: u64,
}

/// `struct pool_workqueue`.
#[derive(View, Clone, Debug)]
#[ctype("pool_workqueue")]
pub struct PoolQueue {
    /// its address
    #[addr]
    pub addr: u64,
    /// its `struct worker_pool`
    pub pool: u64,
    /// its `struct workqueue_struct`
    #[field("wq")]
    pub queue: u64,
    /// works that run, or may
    pub nr_active: i32,
    /// references to it
    pub refcnt: i32,
    /// works that wait until fewer run; `delayed_works` before Linux 5.14 (f97a4a1a3f87)
    #[field("inactive_works", "delayed_works")]
    inactive: At,
}

/// `struct worker_pool`.
#[derive(View, Clone, Debug)]
#[ctype("worker_pool")]
pub struct Pool {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    pub id: i32,
    /// the CPU it is of; −1 if it is of none
    pub cpu: i32,
    /// the node it is of; −1 if of none
    pub node: i32,
    /// `POOL_…`
    pub flags: u32,
    /// the tick at which it last took up a work
    #[field("last_progress_ts", "watchdog_ts")]
    pub progress: u64,
    /// workers that are not asleep
    pub nr_running: i32,
    /// its workers
    pub nr_workers: i32,
    /// those with nothing to do
    pub nr_idle: i32,
    /// `struct workqueue_attrs`
    pub attrs: u64,
    worklist: At,
    workers: At,
}

impl Pool {
    /// Of a pool's attributes, the nice value of its workers.
    pub fn nice(&self, session: &Session) -> Result<i32> {
        Ok(session.u32(self.attrs.wrapping_add(session.offset("workqueue_attrs", "nice")?))? as i32)
    }
}

/// `struct worker` (kernel/workqueue_internal.h).
#[derive(View, Clone, Debug)]
#[ctype("worker")]
pub struct Worker {
    /// its address
    #[addr]
    pub addr: u64,
    /// the work that it does; 0 if none
    pub current_work: u64,
    /// that work's function, which stays known when the work is freed
    #[field("current_func")]
    pub function: u64,
    /// the pool_workqueue of that work
    pub current_pwq: u64,
    /// CPU time of the task when it began, in nanoseconds; since Linux 6.5 (616db8779b1e)
    pub current_at: Option<u64>,
    /// the tick when it began; since Linux 7.1
    pub current_start: Option<u64>,
    /// its task
    pub task: u64,
    /// its pool; 0 of a rescuer with nothing to do
    pub pool: u64,
    /// its number
    pub id: i32,
    /// the tick at which it last had something to do
    pub last_active: u64,
    /// `WORKER_…`
    pub flags: u32,
    scheduled: At,
}

/// `struct work_struct`.
#[derive(View, Clone, Debug)]
#[ctype("work_struct")]
pub struct Work {
    /// its address
    #[addr]
    pub addr: u64,
    /// where it is queued, and how
    data: u64,
    /// its function
    #[field("func")]
    pub function: u64,
}

impl Work {
    /// The pool_workqueue it is queued on, if it is (`WORK_STRUCT_PWQ`).
    pub fn queue(&self, session: &Session) -> Option<u64> {
        let bit = session.enumerator("WORK_STRUCT_PWQ_BIT").unwrap_or(2);
        let shift = session.enumerator("WORK_STRUCT_PWQ_SHIFT").or_else(|| session.enumerator("WORK_STRUCT_FLAG_BITS"));
        (self.data >> bit & 1 == 1).then(|| self.data & u64::MAX << shift.unwrap_or(8).clamp(0, 32))
    }
}

/// Visits every workqueue.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    list::list(session, session.symbol("workqueues")?, session.offset("workqueue_struct", "list")?, visit)
}

/// The pool_workqueues of a queue.
pub fn pool_queues(session: &Session, queue: u64) -> Result<Vec<u64>> {
    let head = queue.wrapping_add(session.offset("workqueue_struct", "pwqs")?);
    list::entries(session, head, session.offset("pool_workqueue", "pwqs_node")?)
}

/// Visits every pool of workers, by number.
pub fn pools(session: &Session, visit: Visit<'_>) -> Result<()> {
    container::idr(session, session.symbol("worker_pool_idr")?, &mut |_, pool| visit(pool))
}

/// Visits the workers of a pool.
pub fn workers(session: &Session, pool: &Pool, visit: Visit<'_>) -> Result<()> {
    list::list(session, pool.workers.0, session.offset("worker", "node")?, visit)
}

/// What a work waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// it runs
    Running,
    /// for the worker that has it on its own list
    Scheduled,
    /// for a worker of its pool
    Pending,
    /// for others of its queue to be done
    Inactive,
}

/// A work, and where it is.
#[derive(Clone, Debug)]
pub struct Queued {
    /// the `struct work_struct`, which may be freed if it runs
    pub work: u64,
    /// its function
    pub function: Result<u64, String>,
    /// what it waits for
    pub state: State,
    /// the pool_workqueue; 0 if that is not known
    pub pool_queue: u64,
    /// the pool
    pub pool: u64,
    /// who does it, or will
    pub worker: Option<Worker>,
}

/// Shows every work of a pool to `visit`: what runs, what waits.
pub fn works(session: &Session, pool: &Pool, visit: &mut dyn FnMut(Queued) -> Result<()>) -> Result<()> {
    workers(session, pool, &mut |at| match session.view::<Worker>(at) {
        Ok(worker) => worker_works(session, pool.addr, &worker, visit),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(at, format!("worker: {}", e.kind()));
            Ok(())
        }
    })?;
    each_on(session, pool.worklist.0, &mut |work| {
        let queued = waiting(session, work, State::Pending, pool.addr)?;
        visit(queued)
    })
}

/// Shows what a worker does, and what waits for it.
pub fn worker_works(
    session: &Session,
    pool: u64,
    worker: &Worker,
    visit: &mut dyn FnMut(Queued) -> Result<()>,
) -> Result<()> {
    if worker.current_work != 0 {
        visit(Queued {
            work: worker.current_work,
            function: Ok(worker.function),
            state: State::Running,
            pool_queue: worker.current_pwq,
            pool,
            worker: Some(worker.clone()),
        })?;
    }
    each_on(session, worker.scheduled.0, &mut |work| {
        let queued = waiting(session, work, State::Scheduled, pool)?;
        visit(Queued { worker: Some(worker.clone()), ..queued })
    })
}

/// Shows the works of a pool_workqueue that wait for others to be done.
pub fn inactive(session: &Session, queue: &PoolQueue, visit: &mut dyn FnMut(Queued) -> Result<()>) -> Result<()> {
    each_on(session, queue.inactive.0, &mut |work| {
        let queued = waiting(session, work, State::Inactive, queue.pool)?;
        visit(Queued { pool_queue: queue.addr, ..queued })
    })
}

fn each_on(session: &Session, head: u64, visit: Visit<'_>) -> Result<()> {
    list::list(session, head, session.offset("work_struct", "entry")?, visit)
}

fn waiting(session: &Session, at: u64, state: State, pool: u64) -> Result<Queued> {
    let (function, pool_queue) = match session.view::<Work>(at) {
        Ok(work) => (Ok(work.function), work.queue(session).unwrap_or(0)),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => (Err(e.kind()), 0),
    };
    Ok(Queued { work: at, function, state, pool_queue, pool, worker: None })
}

/// Names of queues by their pool_workqueues.
pub fn names(session: &Session) -> Result<HashMap<u64, (u64, String)>> {
    let mut found = HashMap::new();
    each(session, &mut |at| {
        let name = match session.view::<Queue>(at) {
            Ok(queue) => queue.name,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(at, format!("workqueue: {}", e.kind()));
                return Ok(());
            }
        };
        for pool_queue in pool_queues(session, at)? {
            found.insert(pool_queue, (at, name.clone()));
        }
        Ok(())
    })?;
    Ok(found)
}

fn each_pool(session: &Session, visit: &mut dyn FnMut(Pool) -> Result<()>) -> Result<()> {
    pools(session, &mut |at| match session.view::<Pool>(at) {
        Ok(pool) => visit(pool),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(at, format!("worker pool: {}", e.kind()));
            Ok(())
        }
    })
}

/// Shows every work of the system that is queued or runs.
pub fn each_work(session: &Session, visit: &mut dyn FnMut(Queued) -> Result<()>) -> Result<()> {
    each_pool(session, &mut |pool| works(session, &pool, visit))?;
    each(session, &mut |queue| {
        let rescuer = session.view::<Queue>(queue)?.rescuer;
        if rescuer != 0 {
            let rescuer: Worker = session.view(rescuer)?;
            // one at work is among its pool's workers
            if rescuer.pool == 0 {
                worker_works(session, 0, &rescuer, visit)?;
            }
        }
        pool_queues(session, queue)?.into_iter().try_for_each(|at| inactive(session, &session.view(at)?, visit))
    })
}

/// Walks queues, pools, workers and works.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "workqueue",
        doc: "walk the workqueues",
        item: "struct workqueue_struct",
        address: Address::None,
        walk: |cx, _, visit| each(cx, visit),
    },
    WalkerEntry {
        name: "pool_workqueue",
        doc: "walk the pool_workqueues of the struct workqueue_struct at the address",
        item: "struct pool_workqueue",
        address: Address::Required,
        walk: |cx, at, visit| pool_queues(cx, at.map_or(0, |o| o.addr))?.into_iter().try_for_each(visit),
    },
    WalkerEntry {
        name: "worker_pool",
        doc: "walk the pools of workers, by number",
        item: "struct worker_pool",
        address: Address::None,
        walk: |cx, _, visit| pools(cx, visit),
    },
    WalkerEntry {
        name: "worker",
        doc: "walk the workers of workqueues, or those of the struct worker_pool at the address",
        item: "struct worker",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(pool) => workers(cx, &cx.view(pool.addr)?, visit),
            None => each_pool(cx, &mut |pool| workers(cx, &pool, &mut *visit)),
        },
    },
    WalkerEntry {
        name: "work",
        doc: "walk the works that run or wait, or those of the struct worker_pool at the address",
        item: "struct work_struct",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(pool) => works(cx, &cx.view(pool.addr)?, &mut |queued| visit(queued.work)),
            None => each_work(cx, &mut |queued| visit(queued.work)),
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Queue>(),
    ViewEntry::of::<PoolQueue>(),
    ViewEntry::of::<Pool>(),
    ViewEntry::of::<Worker>(),
    ViewEntry::of::<Work>(),
];
