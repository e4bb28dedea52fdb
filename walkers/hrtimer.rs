//! Timers that count nanoseconds: `struct hrtimer`, in the trees of `hrtimer_bases`, one for each CPU, clock, and for what
//! is called in the interrupt or behind it (kernel/time/hrtimer.c).
//!
//! ```console
//! > ::walk hrtimer | ::print struct hrtimer function | ::head -n 1
//! function = dl_task_timer
//! ```

use crate::{percpu::Percpu, rbtree};
use engine::{Type, ViewEntry, prelude::*};

/// `struct hrtimer` (include/linux/hrtimer_types.h).
#[derive(View, Clone, Debug)]
#[ctype("hrtimer")]
pub struct HrTimer {
    /// its address
    #[addr]
    pub addr: u64,
    /// nanoseconds of its clock from which it may be called
    #[field("_softexpires")]
    pub soft: i64,
    /// nanoseconds of its clock at which it must be
    #[field("node.expires")]
    pub expires: i64,
    /// what is called
    pub function: u64,
}

/// `struct hrtimer_sleeper`.
#[derive(View)]
#[ctype("hrtimer_sleeper")]
struct Sleeper {
    task: u64,
}

impl HrTimer {
    /// The task that it wakes, if that is what it does.
    pub fn sleeper(&self, session: &Session) -> Option<u64> {
        let symbol = session.symbols.by_addr(session, self.function)?;
        let wakes = symbol.addr == self.function && symbol.name == "hrtimer_wakeup";
        let around = self.addr.wrapping_sub(session.offset("hrtimer_sleeper", "timer").ok()?);
        wakes.then(|| session.view::<Sleeper>(around).ok().map(|s| s.task)).flatten()
    }
}

/// `struct hrtimer_clock_base`.
#[derive(View, Clone, Debug)]
#[ctype("hrtimer_clock_base")]
pub struct Base {
    /// its address
    #[addr]
    pub addr: u64,
    /// which of its CPU's bases it is: `enum hrtimer_base_type`
    pub index: u32,
    /// nanoseconds that its clock is ahead of the monotonic one
    pub offset: i64,
    active: At,
}

/// Names of `enum hrtimer_base_type`.
const CLOCKS: &[(&str, &str)] = &[
    ("HRTIMER_BASE_MONOTONIC", "monotonic"),
    ("HRTIMER_BASE_REALTIME", "realtime"),
    ("HRTIMER_BASE_BOOTTIME", "boottime"),
    ("HRTIMER_BASE_TAI", "tai"),
    ("HRTIMER_BASE_MONOTONIC_SOFT", "monotonic, soft"),
    ("HRTIMER_BASE_REALTIME_SOFT", "realtime, soft"),
    ("HRTIMER_BASE_BOOTTIME_SOFT", "boottime, soft"),
    ("HRTIMER_BASE_TAI_SOFT", "tai, soft"),
];

impl Base {
    /// Its clock, and whether its timers are called in the softirq.
    pub fn clock(&self, session: &Session) -> &'static str {
        let is = |(name, _): &&(&str, _)| session.enumerator(name) == Some(self.index.into());
        CLOCKS.iter().find(is).map_or("?", |(_, clock)| clock)
    }

    /// Visits its timers, the next one first.
    pub fn each(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        let link = session.offset("hrtimer", "node")?;
        rbtree::each(session, self.active.0, &mut |node| visit(node.wrapping_sub(link)))
    }
}

/// The bases of every CPU: the CPU, and the base.
pub fn bases(session: &Session) -> Result<Vec<(u32, Base)>> {
    let symbol = session.symbol("hrtimer_bases")?;
    let (field, size) = (session.place("hrtimer_cpu_base", "clock_base"), session.size_of("hrtimer_clock_base")?);
    let first = session.offset("hrtimer_cpu_base", "clock_base")?;
    let count = match field.and_then(|f| session.shape(f.ctype)).as_deref() {
        Some(Type::Array { count: Some(count), .. }) => (*count).min(64),
        _ => 0,
    };
    let mut found = Vec::new();
    for (cpu, at) in Percpu::of(session)?.copies(symbol) {
        for i in 0..count {
            let at = at.wrapping_add(first).wrapping_add(i * size);
            match session.view::<Base>(at) {
                Ok(base) => found.push((cpu, base)),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("hrtimer base: {}", e.kind())),
            }
        }
    }
    Ok(found)
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "hrtimer",
    doc: "walk the high resolution timers that are set, or those of the struct hrtimer_clock_base at the address",
    item: "struct hrtimer",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(base) => cx.view::<Base>(base.addr)?.each(cx, visit),
        None => bases(cx)?.into_iter().try_for_each(|(_, base)| base.each(cx, &mut *visit)),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<HrTimer>(), ViewEntry::of::<Sleeper>(), ViewEntry::of::<Base>()];
