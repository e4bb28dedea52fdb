//! Timers: `::timers`, `::hrtimers`.
//!
//! ```console
//! > ::timers | ::head -n 3
//! ADDR             CPU BASE     EXPIRES IN      FUNCTION              FOR
//! ff3a288ddf2208c0   0 local  100000b8a 103.084 mce_timer_fn          -
//! ffffffffbdbe3ce0   0 global  ffffb29d 12.024  delayed_work_timer_fn crng_reseed
//! ff8912e840127e40   0 global  ffffc934 35.156  process_timeout       khungtaskd (pid 35)
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    clock::Clocks,
    hrtimer::{self, HrTimer},
    task::Task,
    timer::{self, Base, Owner, Timer},
};

/// Show the timers that count ticks: when each runs out, and what is called then.
///
/// IN is how many seconds are left; what is negative should have run. With the address of a `struct timer_base`, those
/// of it.
#[derive(Args)]
pub struct Timers {
    /// only this CPU's
    #[arg(short = 'C', value_name = "CPU")]
    cpu: Option<ExprArg>,
}

/// A timer.
#[derive(Row)]
struct TimerRow {
    /// address of its struct timer_list
    addr: Object,
    /// the CPU
    cpu: u32,
    /// which of the CPU's wheels: its own, one for all, or one that waits while it sleeps
    base: &'static str,
    /// the tick at which it runs out
    expires: Hex,
    /// seconds until then
    #[heading("IN")]
    left: Option<String>,
    /// deferrable, pinned, irqsafe
    #[hidden]
    flags: String,
    /// what is called
    function: String,
    /// the work that is queued then, or the task that is woken
    #[heading("FOR")]
    owner: Option<String>,
}

/// `NR_BASES` of kernel/time/timer.c and what its bases are: the last one is for deferrable timers.
fn wheel(index: u64, count: u64) -> &'static str {
    match (count, index) {
        (1, _) => "all",
        (2, 0) => "std",
        (3, 0) => "local",
        (3, 1) => "global",
        (2, 1) | (3, 2) => "def",
        _ => "?",
    }
}

fn task(cx: &Cx<'_>, at: u64) -> String {
    match cx.view::<Task>(at) {
        Ok(task) => format!("{} (pid {})", task.comm, task.pid),
        Err(_) => format!("{at:#x}"),
    }
}

/// Nanoseconds as seconds.
fn seconds(ns: i128) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:03}", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}

impl Timers {
    fn wheel(&self, cx: &Cx<'_>, base: &str, wheel: &'static str, at: u64, out: &mut Out<'_>) -> Result<()> {
        let clocks = Clocks::of(cx).ok();
        let cpu = cx.view::<Base>(at).doing(|| format!("reading {base}"))?.cpu;
        timer::each_of(cx, at, &mut |at| {
            let timer: Timer = match cx.view(at) {
                Ok(timer) => timer,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(at, format!("timer: {}", e.kind()));
                    return Ok(());
                }
            };
            let flags = [(timer.deferrable(), "deferrable"), (timer.pinned(), "pinned"), (timer.irqsafe(), "irqsafe")];
            let left = |c: &std::sync::Arc<Clocks>| {
                seconds(i128::from(timer.expires.wrapping_sub(c.jiffies) as i64) * i128::from(c.tick))
            };
            out.row(TimerRow {
                addr: cx.object("timer_list", at),
                cpu,
                base: wheel,
                expires: Hex(timer.expires),
                left: clocks.as_ref().map(left),
                flags: flags.iter().filter(|f| f.0).map(|f| f.1).collect::<Vec<_>>().join(","),
                function: cx.sym(timer.function),
                owner: timer.of(cx).map(|owner| match owner {
                    Owner::Work(function) => cx.sym(function),
                    Owner::Task(at) => task(cx, at),
                }),
            })
        })
    }
}

impl Dcmd for Timers {
    const NAME: &'static str = "timers";
    const ALIASES: &'static [&'static str] = &["timer"];
    const ROWS: &'static [&'static engine::Schema] = &[TimerRow::SCHEMA];
    const PASSES: &'static str = "struct timer_list";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let only = self.cpu.as_ref().map(|cpu| cpu.eval(cx)).transpose()?;
        let bases = timer::bases(cx)?;
        if let Some(at) = at {
            let known = bases.iter().find(|(.., base)| *base == at.addr);
            let name = known.map_or("?", |(_, index, count, _)| wheel(*index, *count));
            return self.wheel(cx, "a timer wheel", name, at.addr, out);
        }
        for (cpu, index, count, at) in bases {
            if only.is_none_or(|only| only == u64::from(cpu)) {
                self.wheel(cx, "a timer wheel", wheel(index, count), at, out)?;
            }
        }
        Ok(())
    }
}

/// Show the high resolution timers: when each runs out, and what is called then.
///
/// IN is how many seconds of its clock are left since the last tick; what is negative should have run.
#[derive(Args)]
pub struct HrTimers {
    /// only this CPU's
    #[arg(short = 'C', value_name = "CPU")]
    cpu: Option<ExprArg>,
}

/// A high resolution timer.
#[derive(Row)]
struct HrTimerRow {
    /// address of its struct hrtimer
    addr: Object,
    /// the CPU
    cpu: u32,
    /// its clock; `soft` if it is called in the softirq
    clock: &'static str,
    /// nanoseconds of that clock from which it may be called
    #[hidden]
    soft: i64,
    /// nanoseconds of that clock at which it must be
    expires: i64,
    /// seconds until then
    #[heading("IN")]
    left: Option<String>,
    /// what is called
    function: String,
    /// the task that is woken
    #[heading("FOR")]
    owner: Option<String>,
}

impl Dcmd for HrTimers {
    const NAME: &'static str = "hrtimers";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[HrTimerRow::SCHEMA];
    const PASSES: &'static str = "struct hrtimer";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let only = self.cpu.as_ref().map(|cpu| cpu.eval(cx)).transpose()?;
        let now = Clocks::of(cx).ok().map(|c| i128::from(c.updated));
        for (cpu, base) in hrtimer::bases(cx)? {
            if only.is_some_and(|only| only != u64::from(cpu)) {
                continue;
            }
            let clock = base.clock(cx);
            base.each(cx, &mut |at| {
                let timer: HrTimer = match cx.view(at) {
                    Ok(timer) => timer,
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => {
                        cx.notes.add(at, format!("hrtimer: {}", e.kind()));
                        return Ok(());
                    }
                };
                let left = |now: i128| seconds(i128::from(timer.expires) - i128::from(base.offset) - now);
                out.row(HrTimerRow {
                    addr: cx.object("hrtimer", at),
                    cpu,
                    clock,
                    soft: timer.soft,
                    expires: timer.expires,
                    left: now.map(left),
                    function: cx.sym(timer.function),
                    owner: timer.sleeper(cx).filter(|at| *at != 0).map(|at| task(cx, at)),
                })
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Timers>(), DcmdEntry::of::<HrTimers>()];
