//! RCU and softirqs: `::rcu`, `::softirqs`.
//!
//! ```console
//! > ::rcu
//! ADDR             CPU GP_SEQ NEEDED CALLBACKS TICKS HOLDS_UP RUNNING
//! ff3a288ddf236d00   0   3752   3752         0     2          swapper/0 (pid 0)
//! ff3a288ddf336d00   1   3752   3752         0     8          swapper/1 (pid 0)
//! ```

use crate::{probe, words::cpu_list};
use engine::{IntoRow, pipeline::run_into, prelude::*};
use std::time::Duration;
use walkers::{
    clock::Clocks,
    cpu,
    rcu::{self, Data, Node, State},
    task::Task,
};

/// Show RCU's state: what each CPU has heard of grace periods, how many callbacks it holds, and who holds up the grace
/// period that runs.
///
/// With -s the grace period itself: its number, how long it has run, whether it is a stall, whom it waits for. An address
/// is that of a `struct rcu_data`.
#[derive(Args)]
pub struct Rcu {
    /// the grace period, instead of the CPUs
    #[arg(short = 's')]
    state: bool,
}

/// What a CPU knows.
#[derive(Row)]
struct CpuRow {
    /// address of its struct rcu_data
    addr: Object,
    /// the CPU
    cpu: u32,
    /// number of the grace period that it has heard of
    gp_seq: i64,
    /// the furthest one that its callbacks need
    needed: i64,
    /// callbacks that wait
    callbacks: i64,
    /// callbacks that were called
    #[hidden]
    invoked: Option<u64>,
    /// ticks since it heard of a grace period and was not quiet
    ticks: u64,
    /// the grace period (gp), or the expedited one (exp), that waits for it
    #[heading("HOLDS_UP")]
    holds: String,
    /// what runs on it
    running: Result<String>,
}

/// The grace period.
#[derive(Row)]
struct StateRow {
    /// address of rcu_state
    addr: Object,
    /// its number, with two bits of state at its end
    gp_seq: i64,
    /// whether one runs
    running: bool,
    /// what the thread does that drives it
    state: Cell,
    /// seconds since it began
    since: Option<String>,
    /// seconds since the thread last did something
    idle: Option<String>,
    /// whether it has run for so long that the kernel complains, or is about to
    stall: Option<bool>,
    /// CPUs that it waits for
    cpus: Result<String>,
    /// tasks that it waits for, preempted while they read
    tasks: Result<String>,
    /// whether an expedited one runs
    expedited: bool,
    /// CPUs that the expedited one waits for
    expedited_cpus: Result<String>,
    /// callbacks that wait, on all CPUs
    callbacks: Result<i64>,
    /// how often CPUs were urged
    #[hidden]
    forced: u64,
}

fn holding(leaves: &[Node], mask: impl Fn(&Node) -> u64) -> Vec<u32> {
    leaves.iter().flat_map(|node| node.cpus(mask(node))).collect()
}

fn seconds(clocks: &Clocks, ticks: u64) -> String {
    let ms = ticks.saturating_mul(clocks.tick) / 1_000_000;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn task(cx: &Cx<'_>, at: u64) -> Result<String> {
    let task: Task = cx.view(at)?;
    Ok(format!("{} (pid {})", task.comm, task.pid))
}

impl Rcu {
    fn cpu(cx: &Cx<'_>, cpu: u32, data: &Data, leaves: &[Node], out: &mut Out<'_>) -> Result<()> {
        let holds = [("gp", holding(leaves, |n| n.qsmask)), ("exp", holding(leaves, |n| n.expmask))];
        out.row(CpuRow {
            addr: cx.object("rcu_data", data.addr),
            cpu,
            gp_seq: data.gp_seq as i64,
            needed: data.gp_seq_needed as i64,
            callbacks: data.callbacks,
            invoked: data.invoked,
            ticks: data.ticks_this_gp,
            holds: holds.iter().filter(|h| h.1.contains(&cpu)).map(|h| h.0).collect::<Vec<_>>().join(","),
            running: cpu::current(cx, cpu).and_then(|at| task(cx, at)),
        })
    }
}

fn state_row(cx: &Cx<'_>) -> Result<StateRow> {
    let state = State::of(cx)?;
    let leaves = rcu::leaves(cx);
    let why = |e: &Error| Error::Unavailable(e.kind());
    let cpus = |mask: &dyn Fn(&Node) -> u64| leaves.as_ref().map(|l| cpu_list(&holding(l, mask))).map_err(why);
    let tasks = || -> Result<String> {
        let mut names = Vec::new();
        for leaf in leaves.as_ref().map_err(why)? {
            for (at, waits) in leaf.readers(cx)? {
                if waits {
                    names.push(task(cx, at)?);
                }
            }
        }
        Ok(names.join(", "))
    };
    let clocks = Clocks::of(cx).ok();
    let ago = |then: u64| clocks.as_ref().map(|c| seconds(c, c.jiffies.wrapping_sub(then)));
    let running = state.running();
    Ok(StateRow {
        addr: cx.object("rcu_state", state.addr),
        gp_seq: state.gp_seq as i64,
        running,
        state: match usize::try_from(state.gp_state).ok().and_then(|i| rcu::STATES.get(i)) {
            Some(name) => Cell::Str((*name).to_owned()),
            None => Cell::Int(state.gp_state.into()),
        },
        since: ago(state.gp_start).filter(|_| running),
        idle: ago(state.gp_activity),
        stall: clocks.as_ref().map(|c| state.stalled(cx, c.jiffies, c.hz())),
        cpus: cpus(&|node| node.qsmask),
        tasks: tasks(),
        expedited: state.expediting(),
        expedited_cpus: cpus(&|node| node.expmask),
        callbacks: rcu::data(cx)
            .map(|all| all.iter().fold(0, |sum: i64, (_, data)| sum.saturating_add(data.callbacks))),
        forced: state.n_force_qs,
    })
}

impl Dcmd for Rcu {
    const NAME: &'static str = "rcu";
    const ROWS: &'static [&'static engine::Schema] = &[CpuRow::SCHEMA, StateRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.state {
            return out.row(state_row(cx)?);
        }
        let leaves = rcu::leaves(cx)?;
        for (cpu, data) in rcu::data(cx)? {
            if at.is_none_or(|o| o.addr == data.addr) {
                Self::cpu(cx, cpu, &data, &leaves, out)?;
            }
        }
        Ok(())
    }
}

/// Show softirqs: how often each ran, as /proc/softirqs has it, and where one has yet to.
///
/// With -d or -i, on a running kernel, it is `::softirqtime`: how long each takes.
#[derive(Args)]
pub struct Softirqs {
    /// measure for so long: `10s`
    #[arg(short = 'd', value_name = "TIME", value_parser = probe::duration)]
    time: Option<Duration>,
    /// measure, and show every so often what came: `1s`
    #[arg(short = 'i', value_name = "TIME", value_parser = probe::duration)]
    interval: Option<Duration>,
}

/// A softirq.
#[derive(Row)]
struct SoftirqRow {
    /// its name
    name: String,
    /// how often it ran, on all CPUs
    count: u64,
    /// how often, for each CPU
    #[hidden]
    counts: Vec<u64>,
    /// the CPUs where it has yet to run
    pending: String,
    /// what it calls
    action: String,
}

impl Dcmd for Softirqs {
    const NAME: &'static str = "softirqs";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[SoftirqRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.time.is_some() || self.interval.is_some() {
            let option = |letter, time: Option<Duration>| {
                time.map_or_else(String::new, |time| format!(" -{letter} {}ms", time.as_millis()))
            };
            return run_into(
                cx,
                &format!("::softirqtime{}{}", option('d', self.time), option('i', self.interval)),
                out,
            );
        }
        rcu::softirqs(cx)?.into_iter().try_for_each(|one| {
            out.row(SoftirqRow {
                name: one.name,
                count: one.counts.iter().sum(),
                counts: one.counts,
                pending: cpu_list(&one.pending),
                action: if one.action == 0 { String::new() } else { cx.sym(one.action) },
            })
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Rcu>(), DcmdEntry::of::<Softirqs>()];
