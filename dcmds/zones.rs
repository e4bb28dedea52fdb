//! Zones and nodes of physical memory: `::zone`, `::numa`.
//!
//! ```console
//! > ::zone
//! ADDR             NODE NAME  START SPANNED PRESENT MANAGED FREE MIN LOW HIGH PCP
//! ff386d1d85dd2680    0 DMA       1    4095    3998    3840 2201  71  88  105   2
//! ff386d1d85dd2c80    0 DMA32  1000   20445   20445   10104  690 655 690  725 123
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    buddy,
    vmstat::{Counters, Group},
    zone::{Memory, Zone},
};

/// Show the zones of memory: their size, what of it is free, and from where on the kernel gets into trouble.
///
/// With an address: that of one zone, or of a node. All numbers are of pages.
#[derive(Args)]
pub struct ZoneCmd {
    /// what the zone's pages are used for, by its counters
    #[arg(short = 'v')]
    verbose: bool,
}

/// A zone.
#[derive(Row)]
struct ZoneRow {
    /// address of its struct zone
    addr: Object,
    /// number of its node
    node: Option<i32>,
    /// its name
    name: Result<String>,
    /// its first page frame
    start: Hex,
    /// page frames from its first to its last
    spanned: u64,
    /// those that are RAM
    present: u64,
    /// those that the page allocator has or had
    managed: u64,
    /// free pages, without those that CPUs hold
    free: Option<u64>,
    /// below this only urgent needs are met
    min: u64,
    /// below this kswapd starts to reclaim
    low: u64,
    /// up to this it goes on
    high: u64,
    /// free pages that CPUs hold
    pcp: u64,
    /// pages kept for urgent needs of higher orders
    #[hidden]
    highatomic: u64,
    /// counters
    #[detail]
    counters: Vec<String>,
}

impl ZoneCmd {
    fn row(&self, cx: &Cx<'_>, memory: &Memory, zone: Zone) -> Result<ZoneRow> {
        let counters = Counters::of_zone(cx, &zone)?;
        let pcp = zone.pages_held(cx)?;
        let [min, low, high] = zone.watermarks();
        let lines = match self.verbose {
            true => counters
                .all(cx)
                .into_iter()
                .filter(|c| c.group == Group::Zone)
                .map(|c| format!("{} {}", c.name, c.value.saturating_add(c.pending)))
                .collect(),
            false => Vec::new(),
        };
        Ok(ZoneRow {
            addr: cx.object("zone", zone.addr),
            node: memory.node(zone.node).map(|node| node.id),
            start: Hex(zone.start),
            spanned: zone.spanned,
            present: zone.present,
            managed: zone.managed,
            free: counters.exact(cx, "NR_FREE_PAGES"),
            min,
            low,
            high,
            pcp,
            highatomic: zone.highatomic,
            name: zone.name,
            counters: lines,
        })
    }
}

impl Dcmd for ZoneCmd {
    const NAME: &'static str = "zone";
    const ALIASES: &'static [&'static str] = &["zones"];
    const ROWS: &'static [&'static Schema] = &[ZoneRow::SCHEMA];
    const PASSES: &'static str = "struct zone";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let memory = Memory::of(cx)?;
        for zone in buddy::chosen(&memory, at)? {
            out.row(self.row(cx, &memory, cx.view(zone.addr)?)?)?;
        }
        Ok(())
    }
}

/// Show the nodes of memory, of which a machine without NUMA has one.
#[derive(Args)]
pub struct Numa {}

/// A node.
#[derive(Row)]
struct NodeRow {
    /// address of its struct pglist_data
    addr: Object,
    /// its number
    node: i32,
    /// its first page frame
    start: Hex,
    /// page frames from its first to its last
    spanned: u64,
    /// those that are RAM
    present: u64,
    /// free pages of its zones
    free: u64,
    /// the thread that reclaims its memory
    kswapd: Option<Addr>,
    /// how often in a row that thread could reclaim nothing; from 16 on it gives up
    failures: i32,
}

impl Dcmd for Numa {
    const NAME: &'static str = "numa";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[NodeRow::SCHEMA];
    const PASSES: &'static str = "struct pglist_data";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let memory = Memory::of(cx)?;
        for node in &memory.nodes {
            let mut free = 0;
            for zone in memory.zones.iter().filter(|zone| zone.node == node.addr) {
                let of_zone = Counters::of_zone(cx, zone)?.exact(cx, "NR_FREE_PAGES");
                free = u64::saturating_add(free, of_zone.unwrap_or(0));
            }
            out.row(NodeRow {
                addr: cx.object("pglist_data", node.addr),
                node: node.id,
                start: Hex(node.start),
                spanned: node.spanned,
                present: node.present,
                free,
                kswapd: (node.kswapd != 0).then_some(Addr(node.kswapd)),
                failures: node.failures,
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<ZoneCmd>(), DcmdEntry::of::<Numa>()];
