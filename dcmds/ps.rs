//! Processes and threads: `::ps`, `::pgrep`, `::pid2task`.
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
//! Other columns, for memory, time, scheduling and containers, are in [`crate::ps_views`].

use crate::ps_views::{self, View};
use engine::prelude::*;
use walkers::task::{self, Pids, Task};

/// Show processes; with an address, only the task there.
#[derive(Args)]
pub struct Ps {
    /// show every thread
    #[arg(short = 't')]
    threads: bool,
    /// arguments instead of the name
    #[arg(short = 'f', group = "view")]
    full: bool,
    /// memory
    #[arg(short = 'm', group = "view")]
    memory: bool,
    /// time: when it was born, how long it ran, how long ago it last came onto a CPU
    #[arg(short = 'T', group = "view")]
    time: bool,
    /// scheduling: policy and priority
    #[arg(short = 'y', group = "view")]
    policy: bool,
    /// containers: its id and the number of the pid namespace it is in, its control group
    #[arg(short = 'z', group = "view")]
    zone: bool,
    /// only threads of the kernel
    #[arg(short = 'k', conflicts_with = "user")]
    kernel: bool,
    /// only processes
    #[arg(short = 'u')]
    user: bool,
    /// only what a CPU runs
    #[arg(short = 'A')]
    active: bool,
    /// only those in one of these states: `-s DR`
    #[arg(short = 's', value_name = "STATES")]
    states: Option<String>,
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

/// Emits the row of a task.
pub(crate) fn show(cx: &Cx<'_>, task: &Task, threads: bool, out: &mut Out<'_>) -> Result<()> {
    let (s, flags, addr) = (task.state().to_string(), Hex(task.flags.into()), cx.object("task_struct", task.addr));
    let (ppid, uid, name, comm) = (task.parent(cx), task.uid(cx), task.name(cx), task.comm.clone());
    if threads {
        let (pid, tid, cpu) = (task.tgid, task.pid, task.cpu);
        return out.row(ThreadRow { s, pid, tid, ppid, uid, cpu, flags, addr, comm, name });
    }
    let (pid, cpu, pgid, sid) = (task.pid, task.cpu, task.group(cx), task.login(cx));
    out.row(PsRow { s, pid, ppid, pgid, sid, uid, cpu, flags, addr, comm, name })
}

impl Ps {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let task: Task = cx.view(addr)?;
        if !self.wanted(cx, &task)? {
            return Ok(());
        }
        let views = [
            (self.full, View::Full),
            (self.memory, View::Memory),
            (self.time, View::Time),
            (self.policy, View::Policy),
            (self.zone, View::Zone),
        ];
        match views.into_iter().find(|(asked, _)| *asked) {
            Some((_, view)) => ps_views::show(cx, &task, view, self.threads, out),
            None => show(cx, &task, self.threads, out),
        }
    }

    fn wanted(&self, cx: &Cx<'_>, task: &Task) -> Result<bool> {
        let kind = if self.kernel { task.is_kernel_thread() } else { !self.user || !task.is_kernel_thread() };
        let state = self.states.as_ref().is_none_or(|states| states.contains(task.state()));
        Ok(kind && state && (!self.active || walkers::unwind::running_on(cx, task)?.is_some()))
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
    const ROWS: &'static [&'static engine::Schema] = &[
        PsRow::SCHEMA,
        ThreadRow::SCHEMA,
        ps_views::SCHEMAS[0],
        ps_views::SCHEMAS[1],
        ps_views::SCHEMAS[2],
        ps_views::SCHEMAS[3],
        ps_views::SCHEMAS[4],
    ];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(at) if self.threads => task::threads_of(cx, at.addr, &mut |thread| self.try_show(cx, thread, out)),
            Some(at) => self.show(cx, at.addr, out),
            // the idle tasks are processes to nobody, but they are what an idle CPU runs
            None if self.active && self.threads => task::threads(cx, &mut |task| self.try_show(cx, task, out)),
            None => task::leaders(cx, &mut |leader| match self.threads {
                true => task::threads_of(cx, leader, &mut |thread| self.try_show(cx, thread, out)),
                false => self.try_show(cx, leader, out),
            }),
        }
    }
}

/// Find processes by name: those whose name has the pattern in it.
#[derive(Args)]
pub struct Pgrep {
    /// the name must be equal to the pattern
    #[arg(short = 'x')]
    exact: bool,
    /// look at the arguments, not at the name
    #[arg(short = 'f')]
    full: bool,
    /// look at every thread
    #[arg(short = 't')]
    threads: bool,
    /// only the one that was born last
    #[arg(short = 'n', conflicts_with = "oldest")]
    newest: bool,
    /// only the one that was born first
    #[arg(short = 'o')]
    oldest: bool,
    /// what to look for, a regular expression
    pattern: String,
}

impl Pgrep {
    fn matches(&self, cx: &Cx<'_>, pattern: &regex::Regex, task: &Task) -> Result<bool> {
        let fits = |text: &str| match self.exact {
            true => text == self.pattern || pattern.find(text).is_some_and(|found| found.len() == text.len()),
            false => pattern.is_match(text),
        };
        if !self.full {
            return Ok(fits(&task.comm) || fits(&task.name(cx)));
        }
        match walkers::user::arguments(cx, task.addr) {
            Ok((arguments, _)) => Ok(fits(&arguments.join(" "))),
            Err(e) if e.is_control() => Err(e),
            Err(e) => {
                cx.notes.add(task.addr, format!("arguments of a process: {}", e.kind()));
                Ok(false)
            }
        }
    }
}

impl Dcmd for Pgrep {
    const NAME: &'static str = "pgrep";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[PsRow::SCHEMA, ThreadRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let pattern = regex::Regex::new(&self.pattern).map_err(|e| Error::Usage(format!("::pgrep: {e}")))?;
        let mut best: Option<Task> = None;
        let mut look = |addr: u64| {
            let task: Task = match cx.view(addr) {
                Ok(task) => task,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(addr, format!("task: {}", e.kind()));
                    return Ok(());
                }
            };
            if !self.matches(cx, &pattern, &task)? {
                return Ok(());
            }
            if !(self.newest || self.oldest) {
                return show(cx, &task, self.threads, out);
            }
            let better = best.as_ref().is_none_or(|best| (task.start_time < best.start_time) == self.oldest);
            if better {
                best = Some(task);
            }
            Ok(())
        };
        match self.threads {
            true => task::threads(cx, &mut look)?,
            false => task::leaders(cx, &mut look)?,
        }
        best.map_or(Ok(()), |task| show(cx, &task, self.threads, out))
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
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ps>(), DcmdEntry::of::<Pgrep>(), DcmdEntry::of::<Pid2task>()];
