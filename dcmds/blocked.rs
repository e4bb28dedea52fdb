//! Who waits for what, and who has it: `::blocked`, `::wchaninfo`, `::deadlocks`.
//!
//! ```console
//! > ::blocked
//! THREAD           PID S SECS SOBJ  OBJECT           WHERE           HOLDER   HOLDER_NAME NAME
//! ff2ae1f042f2af00  91 D  129 mutex ffffffffc0651100 crasher`mutex_b      92 crash_ba    crash_ab
//! ff2ae1f042f2e400  92 D  129 mutex ffffffffc0651120 crasher`mutex_a      91 crash_ab    crash_ba
//! > ::deadlocks
//! THREAD           COUNT RING
//! ff2ae1f042f2af00     2 91 crash_ab, 92 crash_ba
//!                  91 crash_ab waits for mutex ffffffffc0651100 (crasher`mutex_b), held by 92 crash_ba
//!                  92 crash_ba waits for mutex ffffffffc0651120 (crasher`mutex_a), held by 91 crash_ab
//! ```
//!
//! The locks are found by the structs that waiting tasks have on their stacks, so that no debug options are needed; OBJECT is
//! empty where a task sleeps on nothing that names it. A `?` behind a holder's name marks what the lock does not say for sure.

use engine::prelude::*;
use std::collections::BTreeMap;
use walkers::{
    blocked::{Object as Target, Wait, Waits, clock_error},
    clock::Clocks,
    locks::Kind,
    task::{Pids, Task},
};

/// The id and the name of a task.
pub(crate) fn who(cx: &Cx<'_>, task: u64) -> String {
    match cx.view::<Task>(task) {
        Ok(view) => format!("{} {}", view.pid, view.name(cx)),
        Err(_) => format!("{task:x}, which is no task that can be read"),
    }
}

/// What is wrong with the holder that a lock names.
enum Doubt {
    /// It is none of the tasks there are, or dead: it will give nothing back.
    Ended,
    /// It was born after the wait began: it may be in the memory of one that has ended.
    Younger,
    /// The lock does not say for sure.
    Unsure,
}

fn doubt(cx: &Cx<'_>, wait: &Wait, holder: u64) -> Option<Doubt> {
    let task = cx.view::<Task>(holder).ok();
    if task.as_ref().is_some_and(|task| matches!(task.state(), 'Z' | 'X'))
        || Pids::of(cx).is_ok_and(|pids| !pids.lives(holder))
    {
        return Some(Doubt::Ended);
    }
    /// what the clocks of birth and of sleep differ by at least and at most, in nanoseconds: some ticks, much more where
    /// CPUs disagree
    const LEAST: u64 = 20_000_000;
    const MOST: u64 = 2_000_000_000;
    let error = clock_error(cx).unwrap_or(MOST);
    let margin = error.saturating_mul(2).saturating_add(LEAST).min(MOST);
    let age = Clocks::of(cx).ok().zip(task).map(|(clocks, task)| clocks.updated.saturating_sub(task.start_time));
    let is_lock = wait.on.is_some_and(|on| on.kind != Kind::Completion);
    if is_lock && age.zip(wait.since).is_some_and(|(age, since)| age.saturating_add(margin) < since) {
        return Some(Doubt::Younger);
    }
    wait.on.is_none_or(|on| !on.sure).then_some(Doubt::Unsure)
}

/// Whether the holder that a lock names can be it: it lives, and is no younger than the wait.
pub(crate) fn holder_lives(cx: &Cx<'_>, wait: &Wait) -> bool {
    let holder = wait.on.and_then(|on| on.holder);
    holder.is_some_and(|holder| !matches!(doubt(cx, wait, holder), Some(Doubt::Ended | Doubt::Younger)))
}

/// Rings of tasks that wait for each other, but for those in which one is only in the place of a holder that has ended.
pub(crate) fn rings<'a>(cx: &Cx<'_>, waits: &'a Waits) -> Vec<Vec<&'a Wait>> {
    waits.cycles().into_iter().filter(|ring| ring.iter().all(|wait| holder_lives(cx, wait))).collect()
}

/// Whether the holder that a lock names is there, and has it.
pub(crate) fn holder_is_sure(cx: &Cx<'_>, wait: &Wait) -> bool {
    wait.on.and_then(|on| on.holder).is_some_and(|holder| doubt(cx, wait, holder).is_none())
}

/// What is waited for, as an object that has a type where there is one.
pub(crate) fn typed(cx: &Cx<'_>, on: &Target) -> Object {
    on.kind.ctype().map_or_else(|| Object::untyped(on.addr), |ctype| cx.object(ctype, on.addr))
}

/// The symbol that an object is or is in; futexes are in user memory.
pub(crate) fn place(cx: &Cx<'_>, on: &Target) -> Option<String> {
    if on.kind == Kind::Futex { None } else { cx.symbolize(on.addr) }
}

/// A wait in a sentence.
pub(crate) fn sentence(cx: &Cx<'_>, wait: &Wait) -> String {
    let mut text = who(cx, wait.task);
    let Some(on) = &wait.on else {
        let what = wait.sobj.unwrap_or("something");
        return format!("{text} waits for {what}");
    };
    let how = match on.exclusive {
        Some(true) => " to write",
        Some(false) => " to read",
        None => "",
    };
    text.push_str(&format!(" waits for {} {:x}{how}", on.kind.name(), on.addr));
    if let Some(place) = place(cx, on) {
        text.push_str(&format!(" ({place})"));
    }
    if let Some(holder) = on.holder {
        let doubt = doubt(cx, wait, holder);
        let how = match (on.kind, &doubt) {
            (Kind::Completion, None | Some(Doubt::Ended)) => "which ends when it is told by",
            (Kind::Completion, _) => "which ends no sooner than what is done by",
            (_, Some(Doubt::Unsure)) => "probably held by",
            _ => "held by",
        };
        text.push_str(&format!(", {how} {}", who(cx, holder)));
        text.push_str(match doubt {
            Some(Doubt::Ended) => ", which has ended",
            Some(Doubt::Younger) => ", which was born since: in its place, one that has ended may be meant",
            Some(Doubt::Unsure) if holder == wait.task => ": itself, or one that has ended and left it its place",
            _ => "",
        });
    }
    text
}

/// Whether somebody should look at it: it cannot be interrupted, or it waits for a lock.
pub(crate) fn is_blocked(cx: &Cx<'_>, wait: &Wait) -> bool {
    let lock = |on: &Target| {
        matches!(on.kind, Kind::Mutex | Kind::Rwsem | Kind::RtMutex | Kind::Semaphore | Kind::PercpuRwsem)
            || on.holder.is_some()
    };
    cx.view::<Task>(wait.task).is_ok_and(|task| task.state() == 'D') || wait.on.as_ref().is_some_and(lock)
}

/// Show which tasks wait for what, and who holds it.
///
/// Those that wait for a lock, and those whose sleep cannot be interrupted; at an address only that task, or those that
/// wait for what is there.
#[derive(Args)]
pub struct Blocked {
    /// every task that sleeps, also for work, timers and events
    #[arg(short = 'a')]
    all: bool,
}

/// A task that waits.
#[derive(Row)]
struct BlockedRow {
    /// the task
    thread: Object,
    /// its thread id
    pid: i32,
    /// its state
    s: String,
    /// seconds since it last ran
    secs: Option<u64>,
    /// what kind of thing it waits for
    sobj: Option<&'static str>,
    /// where that is
    object: Option<Addr>,
    /// the symbol there
    #[heading("WHERE")]
    symbol: Option<String>,
    /// wants it to read or to write
    #[hidden]
    mode: Option<&'static str>,
    /// thread id of who holds it
    holder: Option<i32>,
    /// its name; `?`: probably; `(ended)`: it is no more
    holder_name: Option<String>,
    /// its task
    #[hidden]
    holder_thread: Option<Addr>,
    /// name of the task that waits
    name: String,
}

fn row(cx: &Cx<'_>, wait: &Wait) -> Result<BlockedRow> {
    let task: Task = cx.view(wait.task)?;
    let on = wait.on.as_ref();
    let holder = on.and_then(|on| on.holder);
    let holding = holder.and_then(|task| cx.view::<Task>(task).ok());
    let mark = match holder.and_then(|holder| doubt(cx, wait, holder)) {
        Some(Doubt::Ended) => " (ended)",
        Some(Doubt::Younger | Doubt::Unsure) => " ?",
        None => "",
    };
    Ok(BlockedRow {
        thread: cx.object("task_struct", wait.task),
        pid: task.pid,
        s: task.state().to_string(),
        secs: wait.since.map(|ns| ns / 1_000_000_000),
        sobj: wait.sobj.or(on.map(|on| on.kind.name())),
        object: on.map(|on| Addr(on.addr)),
        symbol: on.and_then(|on| place(cx, on)),
        mode: on.and_then(|on| on.exclusive).map(|exclusive| if exclusive { "write" } else { "read" }),
        holder: holding.as_ref().map(|task| task.pid),
        holder_name: holding.map(|task| task.name(cx) + mark),
        holder_thread: holder.map(Addr),
        name: task.name(cx),
    })
}

impl Dcmd for Blocked {
    const NAME: &'static str = "blocked";
    const ROWS: &'static [&'static engine::Schema] = &[BlockedRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let waits = Waits::of(cx)?;
        let mut shown: Vec<&Wait> = match at {
            Some(at) => {
                let about = |wait: &&Wait| wait.task == at.addr || wait.on.is_some_and(|on| on.addr == at.addr);
                waits.iter().filter(about).collect()
            }
            None => waits.iter().filter(|wait| self.all || is_blocked(cx, wait)).collect(),
        };
        shown.sort_by_key(|wait| std::cmp::Reverse(wait.since));
        shown.into_iter().try_for_each(|wait| out.row(row(cx, wait)?))
    }
}

/// Show what is waited for, and how many tasks wait for it.
///
/// At an address only what is there.
#[derive(Args)]
pub struct Wchaninfo {
    /// show each task that waits
    #[arg(short = 'v')]
    verbose: bool,
}

/// Something that tasks wait for.
#[derive(Row)]
struct WchanRow {
    /// where it is
    addr: Object,
    /// what it is
    #[heading("TYPE")]
    kind: &'static str,
    /// tasks that wait for it
    nwaiters: u64,
    /// who holds it
    holder: Option<Addr>,
    /// name of that task
    holder_name: Option<String>,
    /// the symbol there
    #[heading("WHERE")]
    symbol: Option<String>,
    /// the tasks
    #[detail]
    waiters: Vec<String>,
}

impl Dcmd for Wchaninfo {
    const NAME: &'static str = "wchaninfo";
    const ROWS: &'static [&'static engine::Schema] = &[WchanRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let waits = Waits::of(cx)?;
        let mut things: BTreeMap<(Kind, u64), Vec<&Wait>> = BTreeMap::new();
        for wait in waits.iter() {
            if let Some(on) = wait.on.filter(|on| at.is_none_or(|at| at.addr == on.addr)) {
                things.entry((on.kind, on.addr)).or_default().push(wait);
            }
        }
        let mut things: Vec<_> = things.into_values().collect();
        things.sort_by_key(|waits| std::cmp::Reverse(waits.len()));
        for waits in things {
            let Some(on) = waits.first().and_then(|wait| wait.on) else { continue };
            let line = |wait: &&Wait| format!("{:016x} {}", wait.task, who(cx, wait.task));
            out.row(WchanRow {
                addr: typed(cx, &on),
                kind: on.kind.name(),
                nwaiters: waits.len() as u64,
                holder: on.holder.map(Addr),
                holder_name: on.holder.and_then(|task| cx.view::<Task>(task).ok()).map(|task| task.name(cx)),
                symbol: place(cx, &on),
                waiters: if self.verbose { waits.iter().map(line).collect() } else { Vec::new() },
            })?;
        }
        Ok(())
    }
}

/// Show tasks that wait for each other in a ring.
///
/// If there are any, kmdb's exit status is 1.
#[derive(Args)]
pub struct Deadlocks {}

/// Tasks that wait for each other.
#[derive(Row)]
struct DeadlockRow {
    /// one of them
    thread: Object,
    /// how many they are
    count: u64,
    /// their ids and names, each waiting for what the next one holds
    ring: String,
    /// all of them
    #[hidden]
    threads: Vec<Addr>,
    /// what each waits for
    #[detail]
    waits: Vec<String>,
}

impl Dcmd for Deadlocks {
    const NAME: &'static str = "deadlocks";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[DeadlockRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for ring in rings(cx, &*Waits::of(cx)?) {
            let Some(first) = ring.first() else { continue };
            cx.env.found();
            out.row(DeadlockRow {
                thread: cx.object("task_struct", first.task),
                count: ring.len() as u64,
                ring: ring.iter().map(|wait| who(cx, wait.task)).collect::<Vec<_>>().join(", "),
                threads: ring.iter().map(|wait| Addr(wait.task)).collect(),
                waits: ring.iter().map(|wait| sentence(cx, wait)).collect(),
            })?;
        }
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Blocked>(), DcmdEntry::of::<Wchaninfo>(), DcmdEntry::of::<Deadlocks>()];
