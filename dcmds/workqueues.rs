//! Workqueues: `::workqueues`, `::workers`, `::works`.
//!
//! ```console
//! > ::workqueues | ::head -n 3
//! ADDR             NAME           FLAGS   MAX ACTIVE INACTIVE POOLS RESCUER
//! ff3a288dc112b200 events                 256      0        0     2 -
//! ff3a288dc112d600 events                 256      0        0     2 -
//! ff3a288dc112c400 events_highpri highpri 256      0        0     2 -
//! ```

use engine::{IntoRow, prelude::*};
use std::collections::HashMap;
use walkers::{
    clock::Clocks,
    task::Task,
    workqueue::{self, Pool, PoolQueue, Queue, Queued, State, Worker},
};

/// Show workqueues: how many works may run of each, how many do, how many wait.
#[derive(Args)]
pub struct Workqueues {}

/// A workqueue.
#[derive(Row)]
struct QueueRow {
    /// address of its struct workqueue_struct
    addr: Object,
    /// its name
    name: String,
    /// what kind it is: unbound, freezable, mem_reclaim, highpri, cpu_intensive, power_efficient, ordered, BH, …
    flags: String,
    /// works that may run at once, on each CPU or in all
    #[heading("MAX")]
    max_active: i32,
    /// works that run or are about to
    active: Result<u64>,
    /// works that wait until fewer run
    inactive: Result<u64>,
    /// pools that serve it
    pools: Result<usize>,
    /// address of the worker that steps in when memory is short
    rescuer: Option<Addr>,
}

/// `WQ_…` (include/linux/workqueue.h), an enum without a name: by name where BTF has it, else as they are since Linux 3.9.
const FLAGS: &[(&str, i64, &str)] = &[
    ("WQ_BH", 0, "bh"),
    ("WQ_UNBOUND", 1 << 1, "unbound"),
    ("WQ_FREEZABLE", 1 << 2, "freezable"),
    ("WQ_MEM_RECLAIM", 1 << 3, "mem_reclaim"),
    ("WQ_HIGHPRI", 1 << 4, "highpri"),
    ("WQ_CPU_INTENSIVE", 1 << 5, "cpu_intensive"),
    ("WQ_SYSFS", 1 << 6, "sysfs"),
    ("WQ_POWER_EFFICIENT", 1 << 7, "power_efficient"),
    ("WQ_PERCPU", 0, "percpu"),
    ("__WQ_DESTROYING", 0, "destroying"),
    ("__WQ_DRAINING", 1 << 16, "draining"),
    ("__WQ_ORDERED", 1 << 17, "ordered"),
    ("__WQ_LEGACY", 1 << 18, "legacy"),
];

fn flags(cx: &Cx<'_>, flags: u32) -> String {
    let set = |(name, before, _): &&(&str, i64, &str)| {
        let bit = cx.enumerator(name).unwrap_or(*before);
        bit != 0 && i64::from(flags) & bit == bit
    };
    FLAGS.iter().filter(set).map(|(.., word)| *word).collect::<Vec<_>>().join(",")
}

impl Dcmd for Workqueues {
    const NAME: &'static str = "workqueues";
    const ALIASES: &'static [&'static str] = &["workqueue"];
    const ROWS: &'static [&'static engine::Schema] = &[QueueRow::SCHEMA];
    const PASSES: &'static str = "struct workqueue_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| -> Result<()> {
            let queue: Queue = match cx.view(at) {
                Ok(queue) => queue,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(at, format!("workqueue: {}", e.kind()));
                    return Ok(());
                }
            };
            let pools = workqueue::pool_queues(cx, at);
            let sum = |count: &dyn Fn(&PoolQueue) -> Result<u64>| -> Result<u64> {
                workqueue::pool_queues(cx, at)?.into_iter().map(|at| count(&cx.view(at)?)).sum()
            };
            let waiting = |queue: &PoolQueue| {
                let mut count = 0;
                workqueue::inactive(cx, queue, &mut |_| {
                    count += 1;
                    Ok(())
                })?;
                Ok(count)
            };
            out.row(QueueRow {
                addr: cx.object("workqueue_struct", at),
                name: queue.name,
                flags: flags(cx, queue.flags),
                max_active: queue.max_active,
                active: sum(&|queue| Ok(queue.nr_active.max(0) as u64)),
                inactive: sum(&waiting),
                pools: pools.map(|pools| pools.len()),
                rescuer: (queue.rescuer != 0).then_some(Addr(queue.rescuer)),
            })
        };
        match at {
            Some(queue) => show(queue.addr),
            None => workqueue::each(cx, &mut show),
        }
    }
}

/// Show the workers of workqueues, and what each does.
///
/// With the address of a `struct worker_pool`, those of it; `::walk worker_pool` finds these.
#[derive(Args)]
pub struct Workers {
    /// those too that have nothing to do
    #[arg(short = 'a')]
    all: bool,
}

/// A worker.
#[derive(Row)]
struct WorkerRow {
    /// address of its struct worker
    addr: Object,
    /// number of its pool
    pool: i32,
    /// the pool's CPU
    cpu: Option<i32>,
    /// address of its task; a pool of softirqs has none
    task: Option<Addr>,
    /// the task's id
    pid: Option<Result<i32>>,
    /// how nice the pool's workers are
    nice: Result<i32>,
    /// the function that it calls
    function: Option<String>,
    /// the queue of that work
    queue: Option<String>,
    /// how long it has been at it, in seconds: by the clock where the kernel notes that, else of CPU time
    #[heading("FOR")]
    since: Option<String>,
}

impl Dcmd for Workers {
    const NAME: &'static str = "workers";
    const ROWS: &'static [&'static engine::Schema] = &[WorkerRow::SCHEMA];
    const PASSES: &'static str = "struct worker";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let names = workqueue::names(cx)?;
        let mut pool = |at: u64| {
            let pool: Pool = cx.view(at)?;
            workqueue::workers(cx, &pool, &mut |at| {
                let worker: Worker = cx.view(at)?;
                if worker.current_work == 0 && !self.all {
                    return Ok(());
                }
                let busy = worker.current_work != 0;
                out.row(WorkerRow {
                    addr: cx.object("worker", at),
                    pool: pool.id,
                    cpu: (pool.cpu >= 0).then_some(pool.cpu),
                    task: (worker.task != 0).then_some(Addr(worker.task)),
                    pid: pid(cx, &worker),
                    nice: pool.nice(cx),
                    function: busy.then(|| cx.sym(worker.function)),
                    queue: names.get(&worker.current_pwq).filter(|_| busy).map(|(_, name)| name.clone()),
                    since: since(cx, &worker).filter(|_| busy),
                })
            })
        };
        match at {
            Some(at) => pool(at.addr),
            None => workqueue::pools(cx, &mut pool),
        }
    }
}

/// The id of a worker's task, if it has one.
fn pid(cx: &Cx<'_>, worker: &Worker) -> Option<Result<i32>> {
    (worker.task != 0).then(|| cx.view::<Task>(worker.task).map(|task| task.pid))
}

/// How long a worker has been at its work.
fn since(cx: &Cx<'_>, worker: &Worker) -> Option<String> {
    let ns = match (worker.current_start, worker.current_at) {
        (Some(start), _) => {
            let clocks = Clocks::of(cx).ok()?;
            clocks.jiffies.wrapping_sub(start).saturating_mul(clocks.tick)
        }
        (None, Some(at)) => {
            let runtime = cx.offset("task_struct", "se.sum_exec_runtime").ok()?;
            cx.u64(worker.task.wrapping_add(runtime)).ok()?.wrapping_sub(at)
        }
        (None, None) => return None,
    };
    Some(format!("{}.{:03}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000))
}

/// Show the works that run on workqueues or wait to.
///
/// With the address of a `struct worker_pool` or a `struct workqueue_struct`, those of it.
#[derive(Args)]
pub struct Works {}

/// A work.
#[derive(Row)]
struct WorkRow {
    /// running; scheduled, for the worker that has taken it; pending, for a worker; inactive, for others of its queue to
    /// be done
    state: &'static str,
    /// address of the struct work_struct; if it runs, it may be freed
    work: Object,
    /// its function
    function: Cell,
    /// the queue
    queue: Option<String>,
    /// number of the pool
    pool: Option<i32>,
    /// the pool's CPU
    cpu: Option<i32>,
    /// address of the task that does it
    task: Option<Addr>,
    /// that task's id
    pid: Option<Result<i32>>,
    /// how long that has been at it, in seconds: by the clock where the kernel notes that, else of CPU time
    #[heading("FOR")]
    since: Option<String>,
}

struct Shown<'a> {
    names: HashMap<u64, (u64, String)>,
    cx: &'a Cx<'a>,
    queue: Option<u64>,
}

impl Shown<'_> {
    fn show(&self, queued: Queued, out: &mut Out<'_>) -> Result<()> {
        let cx = self.cx;
        let queue = self.names.get(&queued.pool_queue);
        if self.queue.is_some() && queue.map(|(at, _)| *at) != self.queue {
            return Ok(());
        }
        let pool = (queued.pool != 0).then(|| cx.view::<Pool>(queued.pool).ok()).flatten();
        let running = queued.state == State::Running;
        out.row(WorkRow {
            state: match queued.state {
                State::Running => "running",
                State::Scheduled => "scheduled",
                State::Pending => "pending",
                State::Inactive => "inactive",
            },
            work: cx.object("work_struct", queued.work),
            function: match queued.function {
                Ok(function) => Cell::Str(cx.sym(function)),
                Err(why) => Cell::Unreadable(why),
            },
            queue: queue.map(|(_, name)| name.clone()),
            pool: pool.as_ref().map(|p| p.id),
            cpu: pool.as_ref().map(|p| p.cpu).filter(|cpu| *cpu >= 0),
            task: queued.worker.as_ref().filter(|w| w.task != 0).map(|w| Addr(w.task)),
            pid: queued.worker.as_ref().and_then(|w| pid(cx, w)),
            since: queued.worker.as_ref().filter(|_| running).and_then(|w| since(cx, w)),
        })
    }
}

impl Dcmd for Works {
    const NAME: &'static str = "works";
    const ROWS: &'static [&'static engine::Schema] = &[WorkRow::SCHEMA];
    const PASSES: &'static str = "struct work_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let is_queue = at.is_some_and(|o| o.ctype.is_some() && o.ctype == cx.struct_type("workqueue_struct"));
        let queue = at.filter(|_| is_queue).map(|o| o.addr);
        let shown = Shown { names: workqueue::names(cx)?, cx, queue };
        match at.filter(|_| !is_queue) {
            Some(pool) => workqueue::works(cx, &cx.view(pool.addr)?, &mut |queued| shown.show(queued, out)),
            None => workqueue::each_work(cx, &mut |queued| shown.show(queued, out)),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Workqueues>(), DcmdEntry::of::<Workers>(), DcmdEntry::of::<Works>()];
