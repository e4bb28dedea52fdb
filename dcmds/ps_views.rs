//! Other columns of `::ps`: arguments, memory, time, scheduling, containers.
//!
//! ```console
//! > ::ps -m | ::sort -r rss | ::head -2
//! S PID  VSZ  RSS ANON FILE SHMEM SWAP %MEM ADDR             NAME
//! S   1 2260 1852  120    4  1728    0  3.4 ff2ee9c204218000 init
//! > 0t1::pid2task | ::ps -T
//! S PID START   RAN   USER SYSTEM LAST  ADDR             NAME
//! S   1 0.730 1.302  0.068  1.230 0.004 ff2ee9c204218000 init
//! ```

use engine::{IntoRow, Schema, prelude::*};
use walkers::{
    cgroup::{self, Cgroup},
    clock::Clocks,
    ns,
    process::{Memory, Usage},
    system,
    task::Task,
    user,
};

/// Which columns.
#[derive(Clone, Copy)]
pub(crate) enum View {
    Full,
    Memory,
    Time,
    Policy,
    Zone,
}

/// The columns of all of them.
pub(crate) const SCHEMAS: [&Schema; 5] =
    [FullRow::SCHEMA, MemoryRow::SCHEMA, TimeRow::SCHEMA, PolicyRow::SCHEMA, ZoneRow::SCHEMA];

/// A process and its arguments.
#[derive(Row)]
pub(crate) struct FullRow {
    /// what it is doing
    s: String,
    /// process id; of a thread its own
    pid: i32,
    /// its parent's
    ppid: Result<i32>,
    /// user id that it acts as
    uid: Result<u32>,
    /// address of its task
    addr: Object,
    /// its arguments; in brackets its name, where it has none
    args: String,
}

/// Memory of a process, in KiB.
#[derive(Row)]
pub(crate) struct MemoryRow {
    /// what it is doing
    s: String,
    /// process id
    pid: i32,
    /// mapped
    vsz: Result<Option<u64>>,
    /// in memory
    rss: Option<u64>,
    /// of that, without a name
    anon: Option<u64>,
    /// of files
    file: Option<u64>,
    /// shared, and of tmpfs
    shmem: Option<u64>,
    /// swapped out
    swap: Option<u64>,
    /// how much of all memory RSS is
    #[heading("%MEM")]
    share: Option<String>,
    /// address of its task
    addr: Object,
    /// name in full
    name: String,
}

/// Time of a process, or of a thread, in seconds.
#[derive(Row)]
pub(crate) struct TimeRow {
    /// what it is doing
    s: String,
    /// process id; of a thread its own
    pid: i32,
    /// when it was born, from the start of the system
    start: String,
    /// on a CPU, as the scheduler counts
    ran: String,
    /// in user mode, by ticks of the clock
    user: String,
    /// in the kernel
    system: String,
    /// how long ago one of its threads last came onto a CPU
    last: Option<String>,
    /// how often it waited
    #[hidden]
    voluntary: u64,
    /// how often it was made to wait
    #[hidden]
    involuntary: u64,
    /// address of its task
    addr: Object,
    /// name in full
    name: String,
}

/// How a task is scheduled.
#[derive(Row)]
pub(crate) struct PolicyRow {
    /// what it is doing
    s: String,
    /// process id; of a thread its own
    pid: i32,
    /// as chrt has it
    policy: &'static str,
    /// the kernel's: below 100 real time
    prio: i32,
    /// -20 to 19
    nice: i32,
    /// 1 to 99, of real-time tasks
    rtprio: Option<u32>,
    /// CPU that it runs on, or ran on last
    cpu: u32,
    /// address of its task
    addr: Object,
    /// name in full
    name: String,
}

/// The container that a task is in.
#[derive(Row)]
pub(crate) struct ZoneRow {
    /// what it is doing
    s: String,
    /// process id; of a thread its own
    pid: i32,
    /// number of its pid namespace
    pidns: Result<u32>,
    /// its id there
    nspid: Result<i32>,
    /// its control group of version 2
    cgroup: Result<String>,
    /// address of its task
    addr: Object,
    /// name in full
    name: String,
}

/// Emits the row of a task. Time is that of the process, unless threads are shown.
pub(crate) fn show(cx: &Cx<'_>, task: &Task, view: View, threads: bool, out: &mut Out<'_>) -> Result<()> {
    match view {
        View::Full => out.row(full(cx, task)?),
        View::Memory => out.row(memory(cx, task)?),
        View::Time => out.row(time(cx, task, threads)?),
        View::Policy => out.row(policy(cx, task)?),
        View::Zone => out.row(zone(cx, task)),
    }
}

fn letter(task: &Task) -> String {
    task.state().to_string()
}

fn full(cx: &Cx<'_>, task: &Task) -> Result<FullRow> {
    let args = match user::arguments(cx, task.addr) {
        Ok((arguments, whole)) if !arguments.is_empty() => arguments.join(" ") + if whole { "" } else { " …" },
        Err(e) if e.is_control() => return Err(e),
        _ => format!("[{}]", task.name(cx)),
    };
    let (s, pid, addr) = (letter(task), task.pid, cx.object("task_struct", task.addr));
    Ok(FullRow { s, pid, ppid: task.parent(cx), uid: task.uid(cx), addr, args })
}

fn memory(cx: &Cx<'_>, task: &Task) -> Result<MemoryRow> {
    let counted = match Memory::of(cx, task.addr) {
        Err(e) if e.is_control() => return Err(e),
        result => result,
    };
    let known = counted.as_ref().ok().copied().flatten();
    let kib = |what: fn(&Memory) -> u64| known.as_ref().map(|m| what(m) >> 10);
    let all = system::total_memory(cx)?;
    let share = |m: Memory| all.filter(|all| *all > 0).map(|all| tenths(m.resident, all));
    Ok(MemoryRow {
        s: letter(task),
        pid: task.pid,
        vsz: counted.map(|m| m.map(|m| m.virt >> 10)),
        rss: kib(|m| m.resident),
        anon: kib(|m| m.anonymous),
        file: kib(|m| m.file),
        shmem: kib(|m| m.shared),
        swap: kib(|m| m.swap),
        share: known.and_then(share),
        addr: cx.object("task_struct", task.addr),
        name: task.name(cx),
    })
}

/// A share in percent, with one digit behind the point.
fn tenths(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1_000_000_000, nanoseconds / 1_000_000 % 1000)
}

fn time(cx: &Cx<'_>, task: &Task, thread: bool) -> Result<TimeRow> {
    let usage = match thread {
        true => Usage::of_thread(cx, task.addr)?,
        false => Usage::of_process(cx, task.addr)?,
    };
    let clocks = Clocks::of(cx)?;
    // the run queue's clock is sched_clock(), which every CPU that schedules reads
    let now = clocks.local_offset().map(|offset| clocks.updated.wrapping_add_signed(offset));
    let last = usage.last_arrival.filter(|at| *at != 0).zip(now).map(|(at, now)| seconds(now.saturating_sub(at)));
    Ok(TimeRow {
        s: letter(task),
        pid: task.pid,
        start: seconds(usage.start_boottime),
        ran: seconds(usage.ran),
        user: seconds(usage.user),
        system: seconds(usage.system),
        last,
        voluntary: usage.voluntary,
        involuntary: usage.involuntary,
        addr: cx.object("task_struct", task.addr),
        name: task.name(cx),
    })
}

fn policy(cx: &Cx<'_>, task: &Task) -> Result<PolicyRow> {
    let usage = Usage::of_thread(cx, task.addr)?;
    Ok(PolicyRow {
        s: letter(task),
        pid: task.pid,
        policy: usage.policy_name(),
        prio: usage.prio,
        nice: task.nice(),
        rtprio: Some(usage.rt_priority).filter(|p| *p != 0),
        cpu: task.cpu,
        addr: cx.object("task_struct", task.addr),
        name: task.name(cx),
    })
}

fn zone(cx: &Cx<'_>, task: &Task) -> ZoneRow {
    let numbers = ns::numbers(cx, task.addr);
    let own = || match &numbers {
        Ok(numbers) => numbers.last().copied().ok_or_else(|| Error::Unavailable("it was reaped".into())),
        Err(e) => Err(Error::Unavailable(e.kind())),
    };
    let group = cgroup::of_task(cx, task.addr).and_then(|groups| match groups.last() {
        Some(group) => cx.view::<Cgroup>(*group)?.path(cx),
        None => Ok(String::new()),
    });
    ZoneRow {
        s: letter(task),
        pid: task.pid,
        pidns: own().and_then(|(_, addr)| ns::Namespace { kind: ns::Kind::Pid, addr }.number(cx)),
        nspid: own().map(|(id, _)| id),
        cgroup: group,
        addr: cx.object("task_struct", task.addr),
        name: task.name(cx),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(tenths(1, 3), "33.3");
        assert_eq!(tenths(u64::MAX, u64::MAX), "100.0");
        assert_eq!(seconds(1_002_999_999), "1.002");
    }
}
