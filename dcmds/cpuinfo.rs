//! CPUs: what each one runs and what waits to: `::cpuinfo`, `::runq`, `::cpustack`.
//!
//! ```console
//! > ::cpuinfo
//! ID ADDR             FLG    NRUN PRI NEST     SWITCH THREAD           PROC
//!  0 ff2ae1f04f034f00 online    0 120 -         0.012 ffffffffb0c0fac0 swapper/0
//!  1 ff2ae1f04f134f00 online    1 120 hardirq   3.204 ff2ae1f0425c0000 victim
//! > ::runq
//! CPU CLASS PRI THREAD           PID WAIT     NAME
//!   1 fair  120 ff2ae1f0425c0000  88 running  victim
//! ```
//!
//! SWITCH is for how many seconds the task has had the CPU, NEST what it was in the middle of: an interrupt, a softirq, an NMI, code
//! that must not be preempted.

use crate::stack;
use engine::prelude::*;
use walkers::{
    cpu,
    rq::{self, Class, Entry, Nesting, Rq},
    task::Task,
    unwind,
};

/// What a CPU was in the middle of, in words.
pub(crate) fn nesting(nesting: Nesting) -> String {
    let mut words = Vec::new();
    for (name, depth) in [("nmi", nesting.nmi), ("hardirq", nesting.hardirq), ("softirq", nesting.softirq)] {
        if depth > 0 {
            words.push(name.to_owned());
        }
    }
    if nesting.preempt > 0 {
        words.push(format!("nopreempt:{}", nesting.preempt));
    }
    if words.is_empty() { "-".into() } else { words.join(",") }
}

/// Seconds with three digits behind the point.
fn seconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}

/// The number that an address in front of a command may be: a CPU's.
fn wanted(at: Option<Object>) -> Option<u32> {
    at.and_then(|at| u32::try_from(at.addr).ok())
}

fn none_such(cpu: u32) -> Error {
    Error::Usage(format!("CPU {cpu} is not online"))
        .hint("`::cpuinfo` lists those that are; numbers are hexadecimal: `0t10` is ten")
}

/// Show what each CPU runs.
///
/// With an address, the CPU of that number.
#[derive(Args)]
pub struct Cpuinfo {
    /// also show what waits to run, and the stack of what runs
    #[arg(short = 'v')]
    verbose: bool,
}

/// A CPU.
#[derive(Row)]
struct CpuinfoRow {
    /// its number
    id: u32,
    /// its `struct rq`
    addr: Object,
    /// panicked: it called panic(); idle
    flg: &'static str,
    /// tasks that want to run on it, with the one that does
    nrun: u32,
    /// the kernel's priority of that task: 100 to 139 fair ones, below it real-time ones
    pri: Option<i32>,
    /// what it is in the middle of
    nest: Option<String>,
    /// for how many seconds the task has had the CPU
    switch: Option<String>,
    /// the task that runs
    thread: Addr,
    /// its name
    proc: Result<String>,
    /// what waits to run
    #[detail]
    queue: Vec<String>,
}

fn line(cx: &Cx<'_>, entry: &Entry) -> String {
    let who = cx.view::<Task>(entry.task).map_or_else(|e| e.to_string(), |t| format!("{} {}", t.pid, t.name(cx)));
    format!("{:016x} {:<5} {:>3} {who}", entry.task, entry.class.name(), entry.prio)
}

impl Dcmd for Cpuinfo {
    const NAME: &'static str = "cpuinfo";
    const ROWS: &'static [&'static engine::Schema] = &[CpuinfoRow::SCHEMA];
    const PASSES: &'static str = "struct rq";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let all = rq::all(cx)?;
        let strays = if self.verbose { rq::strays(cx)? } else { Default::default() };
        let panicked = cpu::panicked(cx);
        let only = wanted(at);
        if let Some(cpu) = only.filter(|cpu| !all.iter().any(|(id, _)| id == cpu)) {
            return Err(none_such(cpu));
        }
        for (id, rq) in all.iter().filter(|(id, _)| only.is_none_or(|cpu| cpu == *id)) {
            let flg = match () {
                () if panicked == Some(*id) => "panicked",
                () if rq.current == rq.idle => "idle",
                () => "runs",
            };
            let mut queue = Vec::new();
            if self.verbose {
                let entries = rq.entries(cx, *id, &strays)?;
                queue.extend(entries.iter().filter(|e| e.task != rq.current).map(|entry| line(cx, entry)));
                queue.extend(
                    stack::lines(cx, &unwind::of_task(cx, rq.current)?).into_iter().map(|l| format!("    {l}")),
                );
            }
            out.row(CpuinfoRow {
                id: *id,
                addr: cx.object("rq", rq.addr),
                flg,
                nrun: rq.nr_running,
                pri: rq::priority(cx, rq.current),
                nest: rq::nesting(cx, *id, rq.current).map(nesting),
                switch: rq::running_since(cx, rq).map(seconds),
                thread: Addr(rq.current),
                proc: cx.view::<Task>(rq.current).map(|task| task.name(cx)),
                queue,
            })?;
        }
        Ok(())
    }
}

/// Show the tasks on the run queues: what runs, and what waits to, the most urgent first.
///
/// With an address, of the CPU of that number.
#[derive(Args)]
pub struct Runq {
    /// idle CPUs too
    #[arg(short = 'a')]
    all: bool,
}

/// A task on a run queue.
#[derive(Row)]
struct RunqRow {
    /// the CPU
    cpu: u32,
    /// the scheduler's class: stop, dl, rt, fair, ext; `lost?`: the task says it is queued, and is in no queue
    class: &'static str,
    /// the kernel's priority
    pri: i32,
    /// the task
    thread: Object,
    /// its thread id
    pid: Result<i32>,
    /// for how many seconds it has waited to run
    wait: String,
    /// its name
    name: Result<String>,
}

impl Dcmd for Runq {
    const NAME: &'static str = "runq";
    const ROWS: &'static [&'static engine::Schema] = &[RunqRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let strays = rq::strays(cx)?;
        let only = wanted(at);
        for (cpu, rq) in rq::all(cx)?.iter().filter(|(id, _)| only.is_none_or(|cpu| cpu == *id)) {
            for entry in rq.entries(cx, *cpu, &strays)? {
                if entry.class == Class::Idle && !self.all {
                    continue;
                }
                let task = cx.view::<Task>(entry.task);
                let wait = match () {
                    () if entry.task == rq.current => "running".into(),
                    () if entry.queued == 0 => "-".into(),
                    () => seconds(waited(rq, entry.queued)),
                };
                out.row(RunqRow {
                    cpu: *cpu,
                    class: entry.class.name(),
                    pri: entry.prio,
                    thread: cx.object("task_struct", entry.task),
                    pid: task.as_ref().map(|task| task.pid).map_err(|e| Error::Unavailable(e.kind())),
                    wait,
                    name: task.map(|task| task.name(cx)),
                })?;
            }
        }
        Ok(())
    }
}

fn waited(rq: &Rq, since: u64) -> u64 {
    rq.clock.saturating_sub(since)
}

/// Show the call stack of what a CPU was running; without an address, of the CPU that panicked.
#[derive(Args)]
pub struct Cpustack {
    /// of this CPU, in decimal
    #[arg(short = 'c', value_name = "CPU")]
    cpu: Option<u32>,
}

/// A frame of a CPU's stack.
#[derive(Row)]
struct CpustackRow {
    /// the CPU
    cpu: u32,
    /// stack pointer of the frame
    sp: Addr,
    /// where the function goes on
    pc: Object,
    /// how the frame was found; `?`: a guess
    how: &'static str,
    /// the function, and how far in it
    function: String,
}

impl Dcmd for Cpustack {
    const NAME: &'static str = "cpustack";
    const ROWS: &'static [&'static engine::Schema] = &[CpustackRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let cpu = self.cpu.or(wanted(at)).or_else(|| cpu::panicked(cx)).unwrap_or(0);
        let task = cpu::current(cx, cpu).map_err(|_| none_such(cpu))?;
        let trace = unwind::of_task(cx, task)?;
        for frame in &trace.frames {
            for function in engine::frame::call(cx, frame.pc, !frame.exact) {
                let how = frame.how.name();
                let (sp, pc) = (Addr(frame.sp), Object::untyped(frame.pc));
                out.row(CpustackRow { cpu, sp, pc, how, function })?;
            }
        }
        if let Some(text) = stack::ending(&trace) {
            cx.notes.add(task, text);
        }
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Cpuinfo>(), DcmdEntry::of::<Runq>(), DcmdEntry::of::<Cpustack>()];
