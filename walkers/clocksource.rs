//! Clock sources: the counters that time is made of (`struct clocksource`, include/linux/clocksource.h), the best first.
//!
//! ```console
//! > ::walk clocksource | ::print struct clocksource rating
//! rating = 0x12c
//! rating = 0xfa
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};

/// `struct clocksource`.
#[derive(View, Clone, Debug)]
#[ctype("clocksource")]
pub struct Clocksource {
    /// its address
    #[addr]
    pub addr: u64,
    /// its name
    pub name: String,
    /// the more, the better
    pub rating: i32,
    /// nanoseconds of a count, shifted left by `shift`
    pub mult: u32,
    /// see `mult`
    pub shift: u32,
    /// the bits that count
    pub mask: u64,
    /// `CLOCK_SOURCE_…`
    pub flags: u64,
}

impl Clocksource {
    /// Counts in a second.
    pub fn frequency(&self) -> Option<u64> {
        let per = 1_000_000_000u128.checked_shl(self.shift)?.checked_div(self.mult.into())?;
        u64::try_from(per).ok()
    }

    /// Whether it was found to be wrong (`CLOCK_SOURCE_UNSTABLE`).
    pub fn unstable(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

/// Visits every clock source.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    list::list(session, session.symbol("clocksource_list")?, session.offset("clocksource", "list")?, visit)
}

/// The one in use.
pub fn current(session: &Session) -> Result<u64> {
    session.u64(session.symbol("curr_clocksource")?)
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "clocksource",
    doc: "walk the clock sources, the best first",
    item: "struct clocksource",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Clocksource>()];
