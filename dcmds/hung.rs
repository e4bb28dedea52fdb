//! Tasks that have slept too long: `::hung`.
//!
//! ```console
//! > ::hung -n 60
//! THREAD           PID SECS SOBJ  NAME     HOLDER
//! ff2ae1f042f2af00  91  129 mutex crash_ab 92 crash_ba
//!                  __schedule+0x505
//!                  schedule+0x27
//!                  …
//! ```
//!
//! What the kernel's own hung task detector would tell (kernel/hung_task.c): tasks in a sleep that cannot be interrupted,
//! not even by a fatal signal, and that is not how a thread idles. SECS is the time since the task last ran.

use crate::{blocked, stack};
use engine::prelude::*;
use walkers::{blocked::Waits, task::Task, unwind};

/// Show tasks in uninterruptible sleep for long.
///
/// If there are any, kmdb's exit status is 1.
#[derive(Args)]
pub struct Hung {
    /// for how long, in seconds, in decimal
    #[arg(short = 'n', value_name = "SECONDS", default_value = "120")]
    seconds: u64,
}

/// A task that hangs.
#[derive(Row)]
struct HungRow {
    /// the task
    thread: Object,
    /// its thread id
    pid: i32,
    /// seconds since it last ran
    secs: u64,
    /// what it waits for
    sobj: Option<&'static str>,
    /// its name
    name: String,
    /// who holds that
    holder: Option<String>,
    /// its call stack
    #[detail]
    stack: Vec<String>,
}

impl Dcmd for Hung {
    const NAME: &'static str = "hung";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[HungRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let waits = Waits::of(cx)?;
        let mut found = Vec::new();
        for wait in waits.iter() {
            let Some(secs) = wait.since.map(|ns| ns / 1_000_000_000).filter(|secs| *secs >= self.seconds) else {
                continue;
            };
            let task: Task = cx.view(wait.task)?;
            if task.cannot_be_woken() {
                found.push((secs, task, wait));
            }
        }
        found.sort_by_key(|(secs, task, _)| (std::cmp::Reverse(*secs), task.pid));
        for (secs, task, wait) in found {
            cx.env.found();
            let trace = unwind::of_task(cx, task.addr)?;
            out.row(HungRow {
                thread: cx.object("task_struct", task.addr),
                pid: task.pid,
                secs,
                sobj: wait.sobj.or(wait.on.map(|on| on.kind.name())),
                name: task.name(cx),
                holder: wait.on.and_then(|on| on.holder).map(|task| blocked::who(cx, task)),
                stack: stack::lines(cx, &trace),
            })?;
        }
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Hung>()];
