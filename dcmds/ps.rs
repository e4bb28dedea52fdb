//! Processes and threads: `::ps`, `::pid2task`.
//!
//! ```console
//! > ::ps | ::head -3
//! S PID PPID PGID SID  UID CPU   FLAGS ADDR             NAME
//! S   1    0    0   0    0   0  400100 ff2b352c01348040 init
//! S   2    0    0   0    0   1  208040 ff2b352c0134a1c0 kthreadd
//! S   3    2    0   0    0   0  208040 ff2b352c0134c340 pool_workqueue_release
//! > ::ps | ::where uid != 0
//! S PID PPID PGID SID  UID CPU  FLAGS ADDR             NAME
//! S 263  235  235 235 1235   0 400140 ff2b352c10a621c0 lab_cred
//! > 286::pid2task
//! kmdb: no task has the id 646 (0x286)
//!       286 in decimal is written 0t286: `0t286::pid2task`
//! > 0t286::pid2task | ::ps
//! S PID PPID PGID SID UID CPU  FLAGS ADDR             NAME
//! S 286    2    0   0   0   1 208040 ff2b352c02f94340 lab_holder
//! ```
//!
//! S is the letter that ps has: `R`unning, `S`leeping, `D`isk sleep, `I`dle, `T`stopped, `t`raced, `Z`ombie. ADDR is
//! the `struct task_struct`, so that `::ps | ::print mm` works. Kernel workers show what they work on behind their name.

use engine::prelude::*;
use walkers::task::{self, Pids, Task};

/// Show processes; with an address, only the task there.
#[derive(Args)]
pub struct Ps {
    /// show every thread
    #[arg(short = 't')]
    threads: bool,
}

/// A process.
#[derive(Row)]
struct PsRow {
    /// what it is doing
    s: String,
    /// process id
    pid: i32,
    /// its parent's
    ppid: Result<i32>,
    /// its process group's
    pgid: Result<i32>,
    /// its session's
    sid: Result<i32>,
    /// user id that it acts as
    uid: Result<u32>,
    /// CPU that it runs on, or ran on last
    cpu: u32,
    /// `PF_…` bits
    flags: Hex,
    /// address of its task
    addr: Object,
    /// its name in the task itself, cut off at 15 characters
    #[hidden]
    comm: String,
    /// name in full
    name: String,
}

/// A thread.
#[derive(Row)]
struct ThreadRow {
    /// what it is doing
    s: String,
    /// process id
    pid: i32,
    /// thread id
    tid: i32,
    /// its parent's process id
    ppid: Result<i32>,
    /// user id that it acts as
    uid: Result<u32>,
    /// CPU that it runs on, or ran on last
    cpu: u32,
    /// `PF_…` bits
    flags: Hex,
    /// address of its task
    addr: Object,
    /// its name in the task itself, cut off at 15 characters
    #[hidden]
    comm: String,
    /// name in full
    name: String,
}

impl Ps {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let task: Task = cx.view(addr)?;
        let (s, flags, addr) = (task.state().to_string(), Hex(task.flags.into()), cx.object("task_struct", addr));
        let (ppid, uid, name, comm) = (task.parent(cx), task.uid(cx), task.name(cx), task.comm.clone());
        if self.threads {
            let (pid, tid, cpu) = (task.tgid, task.pid, task.cpu);
            return out.row(ThreadRow { s, pid, tid, ppid, uid, cpu, flags, addr, comm, name });
        }
        let (pid, cpu, pgid, sid) = (task.pid, task.cpu, task.group(cx), task.login(cx));
        out.row(PsRow { s, pid, ppid, pgid, sid, uid, cpu, flags, addr, comm, name })
    }

    /// One that cannot be read is noted, and the others follow.
    fn try_show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        match self.show(cx, addr, out) {
            Err(e) if e.is_unreadable() => {
                cx.notes.add(addr, format!("task: {}", e.kind()));
                Ok(())
            }
            result => result,
        }
    }
}

impl Dcmd for Ps {
    const NAME: &'static str = "ps";
    const ROWS: &'static [&'static engine::Schema] = &[PsRow::SCHEMA, ThreadRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(at) if self.threads => task::threads_of(cx, at.addr, &mut |thread| self.try_show(cx, thread, out)),
            Some(at) => self.show(cx, at.addr, out),
            None => task::leaders(cx, &mut |leader| match self.threads {
                true => task::threads_of(cx, leader, &mut |thread| self.try_show(cx, thread, out)),
                false => self.try_show(cx, leader, out),
            }),
        }
    }
}

/// Find the task with a process or thread id: `PID::pid2task` or `::pid2task PID`.
///
/// Numbers are hex unless marked: `0t4711::pid2task` is decimal.
#[derive(Args)]
pub struct Pid2task {
    /// the number
    pid: Option<ExprArg>,
}

impl Dcmd for Pid2task {
    const NAME: &'static str = "pid2task";
    const ALIASES: &'static [&'static str] = &["pid2proc"];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let pid = match (&self.pid, at) {
            (Some(pid), _) => pid.eval(cx)?,
            (None, Some(at)) => at.addr,
            (None, None) => return Err(Error::Usage("::pid2task needs a number".into())),
        };
        let pids = Pids::of(cx)?;
        let get = |pid: u64| i32::try_from(pid).ok().and_then(|pid| pids.get(pid));
        match get(pid) {
            Some(task) => out.object(cx.object("task_struct", task)),
            None => {
                let none = Error::Usage(format!("no task has the id {pid} ({pid:#x})"));
                // what was typed as decimal was read as hex
                let decimal = format!("{pid:x}").parse().ok().filter(|n| get(*n).is_some());
                Err(match decimal {
                    Some(n) => none.hint(format!("{n} in decimal is written 0t{n}: `0t{n}::pid2task`")),
                    None => none.hint("`::ps -t` shows all"),
                })
            }
        }
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ps>(), DcmdEntry::of::<Pid2task>()];
