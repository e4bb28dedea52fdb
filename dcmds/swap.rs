//! Swap areas and pools of huge pages: `::swap`, `::hugetlb`.
//!
//! ```console
//! > ::hugetlb
//! ADDR             SIZE TOTAL FREE RSVD SURP OVERCOMMIT
//! ffffffff8db74180 1G       0    0    0    0          0
//! ffffffff8db7c218 2M       0    0    0    0          0
//! ```

use engine::{Schema, prelude::*};
use walkers::{hugetlb, swap};

/// `2M`, `1G`, `64K`
fn size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Show the swap areas, as /proc/swaps does.
#[derive(Args)]
pub struct Swap {}

/// A swap area.
#[derive(Row)]
struct SwapRow {
    /// address of its struct swap_info_struct
    addr: Object,
    /// the file or device
    name: Result<String>,
    /// `partition` or `file`
    #[heading("TYPE")]
    kind: Result<&'static str>,
    /// KiB that can be swapped out to it
    size: u64,
    /// KiB that are
    used: u64,
    /// areas of higher priority are used first
    #[heading("PRIO")]
    priority: i32,
    /// whether pages may be swapped out to it
    #[hidden]
    on: bool,
}

impl Dcmd for Swap {
    const NAME: &'static str = "swap";
    const ALIASES: &'static [&'static str] = &["swapinfo"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[SwapRow::SCHEMA];
    const PASSES: &'static str = "struct swap_info_struct";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let kib = |pages: u64| pages.saturating_mul(cx.target.page_size()) >> 10;
        for area in swap::all(cx)? {
            out.row(SwapRow {
                addr: cx.object("swap_info_struct", area.addr),
                name: area.path(cx),
                kind: area.kind(cx),
                size: kib(area.pages.into()),
                used: kib(area.used()),
                priority: area.priority().into(),
                on: area.is_on(),
            })?;
        }
        Ok(())
    }
}

/// Show the pools of huge pages for hugetlbfs.
#[derive(Args)]
pub struct Hugetlb {}

/// A pool.
#[derive(Row)]
struct PoolRow {
    /// address of its struct hstate
    addr: Object,
    /// size of a huge page
    size: String,
    /// huge pages
    total: u64,
    /// those that nobody uses
    free: u64,
    /// of these those that are promised
    #[heading("RSVD")]
    reserved: u64,
    /// those beyond what the pool should have
    #[heading("SURP")]
    surplus: u64,
    /// how many such there may be
    overcommit: u64,
}

impl Dcmd for Hugetlb {
    const NAME: &'static str = "hugetlb";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[PoolRow::SCHEMA];
    const PASSES: &'static str = "struct hstate";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for pool in hugetlb::all(cx)? {
            out.row(PoolRow {
                addr: cx.object("hstate", pool.addr),
                size: size(pool.bytes(cx)),
                total: pool.total,
                free: pool.free,
                reserved: pool.reserved,
                surplus: pool.surplus,
                overcommit: pool.overcommit,
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Swap>(), DcmdEntry::of::<Hugetlb>()];
