//! Timers that count ticks: `struct timer_list` in the wheels of `struct timer_base` (kernel/time/timer.c).
//!
//! Each CPU has a wheel for those that may go to any CPU, one for those that may wait while the CPU sleeps, and, since
//! Linux 6.9 (83a665dc99a7), one for those that stay. A wheel is an array of lists; on which of them a timer is tells
//! roughly when it runs out, `expires` exactly.
//!
//! ```console
//! > ::walk timer | ::print struct timer_list function | ::head -n 1
//! function = mce_timer_fn
//! ```

use crate::{
    container,
    percpu::{self, Percpu},
};
use engine::{Type, ViewEntry, prelude::*};

/// `struct timer_list` (include/linux/timer_types.h).
#[derive(View, Clone, Debug)]
#[ctype("timer_list")]
pub struct Timer {
    /// its address
    #[addr]
    pub addr: u64,
    /// the tick at which it runs out
    pub expires: u64,
    /// what is called then
    pub function: u64,
    /// `TIMER_…`
    pub flags: u32,
}

impl Timer {
    /// Whether it waits while its CPU sleeps (`TIMER_DEFERRABLE`).
    pub fn deferrable(&self) -> bool {
        self.flags & 0x8_0000 != 0
    }

    /// Whether it stays on its CPU (`TIMER_PINNED`).
    pub fn pinned(&self) -> bool {
        self.flags & 0x10_0000 != 0
    }

    /// Whether it is called with interrupts off (`TIMER_IRQSAFE`).
    pub fn irqsafe(&self) -> bool {
        self.flags & 0x20_0000 != 0
    }

    /// What it is a part of, where the function tells: a work that is queued then, a task that is woken.
    pub fn of(&self, session: &Session) -> Option<Owner> {
        let name = session.symbols.by_addr(session, self.function).filter(|s| s.addr == self.function)?.name;
        let around = |ctype: &str| Some(self.addr.wrapping_sub(session.offset(ctype, "timer").ok()?));
        let read = |ctype: &str, member: &str| {
            session.u64(around(ctype)?.wrapping_add(session.offset(ctype, member).ok()?)).ok()
        };
        match name.as_str() {
            "delayed_work_timer_fn" => Some(Owner::Work(read("delayed_work", "work.func")?)),
            "process_timeout" => Some(Owner::Task(match read("process_timer", "task") {
                Some(task) => task,
                // that type may not be in BTF: the task stands behind the timer (kernel/time/timer.c)
                None => session.u64(self.addr.wrapping_add(session.size_of("timer_list").ok()?)).ok()?,
            })),
            _ => None,
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// the function of a work that is queued
    Work(u64),
    /// a task that is woken
    Task(u64),
}

/// `struct timer_base`.
#[derive(View, Clone, Debug)]
#[ctype("timer_base")]
pub struct Base {
    /// its address
    #[addr]
    pub addr: u64,
    /// the CPU
    pub cpu: u32,
    /// the tick that it has got to
    pub clk: u64,
    /// the timer that is being called; 0 if none is
    pub running_timer: u64,
    vectors: At,
}

/// Wheels of each CPU; kernels have one to three.
const MAX_BASES: u64 = 8;

/// The wheels of all CPUs: the CPU, the number of the wheel, and how many there are of each.
pub fn bases(session: &Session) -> Result<Vec<(u32, u64, u64, u64)>> {
    let symbol = session.symbol("timer_bases")?;
    let size = session.size_of("timer_base")?;
    let ctype = session.type_of_global("timer_bases");
    // the type of the variable may be that of one of them: the larger is right
    let typed = ctype.and_then(|ctype| session.types.size_of(ctype));
    let bytes = typed.max(percpu::extent(session, "timer_bases")).unwrap_or(size);
    let count = (bytes / size.max(1)).clamp(1, MAX_BASES);
    let percpu = Percpu::of(session)?;
    let all = percpu.copies(symbol).flat_map(|(cpu, at)| (0..count).map(move |i| (cpu, i, at.wrapping_add(i * size))));
    Ok(all.map(|(cpu, i, at)| (cpu, i, count, at)).collect())
}

/// Visits the timers of the wheel at `at`.
pub fn each_of(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    let base: Base = session.view(at)?;
    let lists = match session.place("timer_base", "vectors").and_then(|f| session.shape(f.ctype)).as_deref() {
        Some(Type::Array { count: Some(count), .. }) => *count,
        _ => return Err(Error::Unavailable("how many lists a timer wheel has is not known".into())),
    };
    container::hlist_table(session, base.vectors.0, lists, session.offset("timer_list", "entry")?, visit)
}

/// Visits every timer that is set.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    bases(session)?.into_iter().try_for_each(|(.., at)| each_of(session, at, visit))
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "timer",
    doc: "walk the timers that are set, or those in the struct timer_base at the address",
    item: "struct timer_list",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(base) => each_of(cx, base.addr, visit),
        None => each(cx, visit),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Timer>(), ViewEntry::of::<Base>()];
