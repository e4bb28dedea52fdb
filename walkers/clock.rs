//! The kernel's clocks, set against each other: ticks, monotonic time, the scheduler's clock, ftrace's.
//!
//! A SLUB track knows its moment in ticks (`jiffies`), a printk record in nanoseconds of `local_clock()`, a trace event
//! in nanoseconds of whatever clock was chosen for its buffer. To put them in one order, each is turned into
//! nanoseconds of `CLOCK_MONOTONIC` and from there into the other.
//!
//! * Ticks: `last_jiffies_update` (kernel/time/tick-sched.c) is the monotonic time at which `jiffies` got its present
//!   value, so a tick `j` began at `last_jiffies_update - (jiffies - j) * TICK_NSEC`. No epoch enters: ticks that were
//!   lost while the kernel booted make no error.
//! * `sched_clock()`: at a tick, or when the clock source was last watched, the kernel notes both times
//!   (`struct sched_clock_data`: `tick_raw`, `tick_gtod`); kernel/sched/clock.c.
//! * `local_clock()`: monotonic time plus `__gtod_offset`.
//!
//! ```console
//! > ff2b352c10565bc0::walk bufctl | ::kmem_log
//! CPU ADDR             BUFADDR          TIMESTAMP THREAD OP    WITNESS
//!   1 ff2b352c10565c58 ff2b352c10565bc0 1c95922d3    283 free  track+ftrace
//!   1 ff2b352c10565c38 ff2b352c10565bc0 1c6f7a524    279 alloc track+ftrace
//! ```
//!
//! Here a track and an event were known for one transaction because these clocks put them into the same tick.

use crate::percpu::Percpu;
use engine::ViewEntry;
use engine::prelude::*;
use std::sync::Arc;

/// The kernel's clocks.
#[derive(Clone, Debug)]
pub struct Clocks {
    /// nanoseconds of a tick: 10^9 / HZ
    pub tick: u64,
    /// `jiffies` at the end
    pub jiffies: u64,
    /// monotonic time at which it got that value
    pub updated: u64,
    /// `sched_clock()` minus monotonic time
    sched: Option<i64>,
    /// `local_clock()` minus monotonic time
    local: Option<i64>,
}

/// What a CPU noted of both clocks at its last tick: `struct sched_clock_data`.
#[derive(View)]
#[ctype("sched_clock_data")]
struct Noted {
    tick_raw: u64,
    tick_gtod: u64,
}

impl Clocks {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Clocks>> {
        session.once(|| Clocks::read(session))
    }

    fn read(session: &Session) -> Result<Clocks> {
        let value = |name: &str| session.kernel_symbol(name).map(|addr| session.u64(addr)).transpose();
        let tick = tick(session)?;
        let jiffies = match value("jiffies_64")? {
            Some(jiffies) => jiffies,
            None => session.u64(session.symbol("jiffies")?)?,
        };
        // without high resolution timers or NO_HZ there is none; then all ticks since the start were counted
        let updated = value("last_jiffies_update")?.filter(|ns| *ns != 0);
        let updated = updated.unwrap_or_else(|| jiffies.wrapping_sub(initial_jiffies(tick)).wrapping_mul(tick));
        let gtod = value("__gtod_offset")?;
        let raw = value("__sched_clock_offset")?.unwrap_or(0);
        let (sched, local) = match gtod {
            Some(gtod) => {
                let watched = gtod.wrapping_sub(raw) as i64;
                (Some(noted(session).unwrap_or(watched)), Some(gtod as i64))
            }
            // an architecture whose sched_clock() is stable by nature has neither; kernel/time/sched_clock.c starts it
            // with the monotonic clock, within the time of a few calls
            None => (Some(0), Some(0)),
        };
        Ok(Clocks { tick, jiffies, updated, sched, local })
    }

    /// CONFIG_HZ.
    pub fn hz(&self) -> u64 {
        (1_000_000_000 + self.tick / 2).checked_div(self.tick).unwrap_or(0)
    }

    /// Monotonic time at which a tick began; 0 if that was before the clock did.
    pub fn monotonic(&self, jiffies: u64) -> u64 {
        let ago = i128::from(self.jiffies.wrapping_sub(jiffies) as i64) * i128::from(self.tick);
        u64::try_from(i128::from(self.updated) - ago).unwrap_or(0)
    }

    /// What `local_clock()`, which stamps printk's records, is ahead of monotonic time.
    pub fn local_offset(&self) -> Option<i64> {
        self.local
    }

    /// What an ftrace clock, given by its function, is ahead of monotonic time. `None` for clocks that do not count
    /// nanoseconds, or none since boot.
    pub fn offset_of(&self, function: &str) -> Option<i64> {
        match function {
            "trace_clock_local" => self.sched,
            // both are local_clock(), held together over CPUs or not
            "trace_clock" | "trace_clock_global" => self.local,
            "ktime_get_mono_fast_ns" | "ktime_get_raw_fast_ns" => Some(0),
            // `uptime` counts ticks since boot
            "trace_clock_jiffies" => {
                let ticks = self.jiffies.wrapping_sub(initial_jiffies(self.tick)).wrapping_mul(self.tick);
                Some(ticks.wrapping_sub(self.updated) as i64)
            }
            _ => None,
        }
    }
}

/// `INITIAL_JIFFIES`: the counter starts five minutes before it runs over 32 bits, to find those who forget that.
fn initial_jiffies(tick: u64) -> u64 {
    (1u64 << 32).wrapping_sub(300_000_000_000u64.checked_div(tick).unwrap_or(0))
}

/// Nanoseconds of a tick: `tick_nsec` (kernel/time/ntp.c), which Linux 6.13 no longer has as a symbol, or the jiffies
/// clock source, whose multiplier is that number shifted by 8 (`JIFFIES_SHIFT`).
fn tick(session: &Session) -> Result<u64> {
    // HZ is 24 to 1200 on one architecture or another; adjtimex may bend tick_nsec by a few per cent
    let sound = |ns: &u64| (500_000..=50_000_000).contains(ns);
    if let Some(source) = session.kernel_symbol("clocksource_jiffies") {
        let (mult, shift) = (session.offset("clocksource", "mult")?, session.offset("clocksource", "shift")?);
        let (mult, shift) = (session.u32(source.wrapping_add(mult))?, session.u32(source.wrapping_add(shift))?);
        if let Some(ns) = u64::from(mult).checked_shr(shift).filter(sound) {
            return Ok(ns);
        }
    }
    let told = session.kernel_symbol("tick_nsec").map(|addr| session.u64(addr)).transpose()?;
    told.filter(sound).ok_or_else(|| Error::Unavailable("the length of a tick (CONFIG_HZ) is not known".into()))
}

/// `sched_clock()` minus monotonic time, as the CPU that noted both last has it.
fn noted(session: &Session) -> Option<i64> {
    let variable = session.kernel_symbol("sched_clock_data")?;
    let cpus = Percpu::of(session).ok()?;
    let all = cpus.copies(variable).filter_map(|(_, addr)| session.view::<Noted>(addr).ok());
    let last = all.filter(|n| n.tick_gtod != 0).max_by_key(|n| n.tick_gtod)?;
    Some(last.tick_raw.wrapping_sub(last.tick_gtod) as i64)
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Noted>()];

#[cfg(test)]
mod tests {
    use super::*;

    /// 250 Hz, 4314 ticks counted, 91 more that went by unseen while the kernel booted.
    fn clocks() -> Clocks {
        let tick = 4_000_000;
        let jiffies = initial_jiffies(tick) + 4314;
        Clocks { tick, jiffies, updated: 17_620_000_000, sched: Some(249_000_000), local: Some(118_000_000) }
    }

    #[test]
    fn ticks_are_counted_back_from_the_last_one() {
        let c = clocks();
        assert_eq!(c.hz(), 250);
        assert_eq!(c.monotonic(c.jiffies), 17_620_000_000);
        assert_eq!(c.monotonic(c.jiffies - 1000), 13_620_000_000);
        assert_eq!(c.monotonic(c.jiffies - 100_000), 0, "before boot");
        assert_eq!(c.monotonic(0), 0);
    }

    #[test]
    fn each_trace_clock_has_its_distance() {
        let c = clocks();
        assert_eq!(c.offset_of("trace_clock_local"), Some(249_000_000));
        assert_eq!(c.offset_of("trace_clock_global"), Some(118_000_000));
        assert_eq!(c.offset_of("trace_clock_jiffies"), Some(-364_000_000));
        assert_eq!(c.offset_of("trace_clock_x86_tsc"), None);
    }

    #[test]
    fn the_counter_starts_five_minutes_before_it_wraps() {
        assert_eq!(initial_jiffies(4_000_000), 0xfffe_db08, "HZ 250");
    }
}
