//! Pools of huge pages for hugetlbfs: `struct hstate`, one for each size (mm/hugetlb.c).
//!
//! ```console
//! > ::hugetlb
//! ADDR             SIZE TOTAL FREE RSVD SURP OVERCOMMIT
//! ffffffff8db74180 1G       0    0    0    0          0
//! ffffffff8db7c218 2M       0    0    0    0          0
//! ```

use engine::{ViewEntry, prelude::*};

/// `HUGE_MAX_HSTATE` is at most this.
const MAX_POOLS: u64 = 8;

/// A pool.
#[derive(View, Clone, Debug)]
#[ctype("hstate")]
pub struct Pool {
    /// its address
    #[addr]
    pub addr: u64,
    /// a huge page has two to this power pages
    pub order: u32,
    /// huge pages
    #[field("nr_huge_pages")]
    pub total: u64,
    /// of them those that nobody uses
    #[field("free_huge_pages")]
    pub free: u64,
    /// of the free ones those that are promised to somebody
    #[field("resv_huge_pages")]
    pub reserved: u64,
    /// those beyond what the pool should have
    #[field("surplus_huge_pages")]
    pub surplus: u64,
    /// how many such there may be
    #[field("nr_overcommit_huge_pages")]
    pub overcommit: u64,
}

impl Pool {
    /// Bytes of a huge page.
    pub fn bytes(&self, session: &Session) -> u64 {
        session.target.page_size().checked_shl(self.order).unwrap_or(0)
    }
}

/// The pools.
pub fn all(session: &Session) -> Result<Vec<Pool>> {
    let (Some(first), Some(count)) = (session.kernel_symbol("hstates"), session.kernel_symbol("hugetlb_max_hstate"))
    else {
        // a kernel without huge pages has no such type either
        if session.size_of("hstate").is_ok() {
            session.notes.once(0, "no symbol `hstates`: pools of huge pages are not known");
        }
        return Ok(Vec::new());
    };
    let (count, size) = (u64::from(session.u32(count)?).min(MAX_POOLS), session.size_of("hstate")?);
    (0..count).map(|i| session.view(first.wrapping_add(i * size))).collect()
}

/// The pool of the size that is meant where none is named.
pub fn default(session: &Session) -> Result<Option<Pool>> {
    let pools = all(session)?;
    let number = session.kernel_symbol("default_hstate_idx").map_or(Ok(0), |at| session.u32(at))?;
    Ok(pools.into_iter().nth(number as usize))
}

/// Walks pools.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "hstate",
    doc: "walk the pools of huge pages, one for each size",
    item: "struct hstate",
    address: Address::None,
    walk: |cx, _, visit| all(cx)?.iter().try_for_each(|pool| visit(pool.addr)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Pool>()];
