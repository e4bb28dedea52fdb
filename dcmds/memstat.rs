//! What memory is used for: `::memstat`.
//!
//! ```console
//! > ::memstat ! head -n 4
//! KIND               PAGES MB   %TOT
//! Boot               10499 41.0 42%
//! Slab                3793 14.8 15%
//! Slab (reclaimable)  2143 8.3  8%
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    memuse::{self, Kind, Usage},
    total::Total,
};

/// Show what memory is used for, by the kernel's counters.
///
/// With -v these are held against a look at every page. What is allocated by kmalloc() and too large for a slab is counted
/// as slab, but its pages cannot be told from others of the kernel's. Pages on their way, as in a CPU's batch, are another
/// reason for small differences.
///
/// `Boot` was never the page allocator's: the kernel's image, the struct pages, what was allocated before it. `Other
/// kernel` is what no counter knows of: the rest.
#[derive(Args)]
pub struct Memstat {
    /// check the counters by a look at every page, in groups that a page can be told to belong to
    #[arg(short = 'v')]
    verify: bool,
}

/// A kind of memory.
#[derive(Row)]
struct KindRow {
    /// what it is used for
    kind: &'static str,
    /// pages
    pages: u64,
    /// the same in MiB
    mb: String,
    /// the share of all
    #[heading("%TOT")]
    share: String,
}

/// A group of kinds, counted and seen.
#[derive(Row)]
struct CheckRow {
    /// what it is used for
    kind: String,
    /// pages, by the counters
    counted: u64,
    /// pages, by their struct pages
    walked: u64,
    /// how many more were seen than are counted
    more: i64,
}

impl Memstat {
    fn row(cx: &Cx<'_>, kind: &'static str, pages: u64, total: u64) -> KindRow {
        let tenths = pages.saturating_mul(cx.target.page_size()) / ((1 << 20) / 10);
        let share = (pages.saturating_mul(100)).checked_div(total).unwrap_or(0);
        KindRow { kind, pages, mb: format!("{}.{}", tenths / 10, tenths % 10), share: format!("{share}%") }
    }

    fn check(counted: &Usage, walked: &Usage, out: &mut Out<'_>) -> Result<()> {
        let groups =
            [Kind::Boot, Kind::Slab, Kind::Tables, Kind::Kernel, Kind::Anon, Kind::Cache, Kind::Free, Kind::FreeCpu];
        for group in groups {
            let members: Vec<(&Kind, &u64)> = counted
                .pages
                .iter()
                .filter(|(kind, pages)| kind.group() == group && (**pages > 0 || **kind == group))
                .collect();
            let names: Vec<&str> = members.iter().map(|(kind, _)| kind.name()).collect();
            // holes are marked like what was set aside at boot
            let holes = if group == Kind::Boot { walked.total.saturating_sub(counted.total) } else { 0 };
            let told: u64 = members.iter().map(|(_, n)| **n).total().saturating_add(holes);
            let seen = walked.pages.get(&group).copied().unwrap_or(0);
            out.row(CheckRow {
                kind: names.join(", "),
                counted: told,
                walked: seen,
                more: seen.wrapping_sub(told) as i64,
            })?;
        }
        let (told, seen) = (counted.total.max(walked.total), walked.pages.values().copied().total());
        out.row(CheckRow { kind: "Total".into(), counted: told, walked: seen, more: seen.wrapping_sub(told) as i64 })
    }
}

impl Dcmd for Memstat {
    const NAME: &'static str = "memstat";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[KindRow::SCHEMA, CheckRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let counted = memuse::counted(cx)?;
        if counted.excess > 0 {
            cx.notes.add(0, format!("the counters add up to {} pages more than there are", counted.excess));
        }
        if self.verify {
            return Memstat::check(&counted, &memuse::walked(cx)?, out);
        }
        // what a machine does not have is not worth a line; what every machine has is, even if it has none
        let rare = [Kind::SwapCache, Kind::Hugetlb, Kind::Balloon];
        for (kind, pages) in counted.pages.iter().filter(|(kind, pages)| **pages > 0 || !rare.contains(kind)) {
            out.row(Memstat::row(cx, kind.name(), *pages, counted.total))?;
        }
        out.row(Memstat::row(cx, "Total", counted.total, counted.total))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Memstat>()];
