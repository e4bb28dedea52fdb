//! Nodes and zones of physical memory: `struct pglist_data`, `struct zone` (include/linux/mmzone.h).
//!
//! A node is memory that is equally far from all CPUs; a machine without NUMA has one. It has a few zones, by what
//! devices can reach (`DMA`, `DMA32`) and by what can be moved. Zones without memory exist too; those with some are
//! *populated*.
//!
//! Each zone's free pages are in the buddy allocator's lists (`walkers/buddy.rs`) and, a few, in the hands of each CPU.
//!
//! ```console
//! > ::zone
//! ADDR             NODE NAME  START SPANNED PRESENT MANAGED FREE MIN LOW HIGH PCP
//! ff386d1d85dd2680    0 DMA       1    4095    3998    3840 2201  71  88  105   2
//! ff386d1d85dd2c80    0 DMA32  1000   20445   20445   10104  690 655 690  725 123
//! ```

use crate::{percpu::Percpu, total::Total};
use engine::{ViewEntry, prelude::*};
use std::{ops::Range, sync::Arc};

/// `MAX_NUMNODES` is at most this (`CONFIG_NODES_SHIFT` ends at 10).
const MAX_NODES: u64 = 1024;
/// More zones than a node can have (`__MAX_NR_ZONES`).
const MAX_ZONES: u64 = 8;
/// CPUs keep blocks up to this order, and huge pages (`PAGE_ALLOC_COSTLY_ORDER`).
const COSTLY_ORDER: u32 = 3;

/// A node: `struct pglist_data`.
#[derive(View, Clone, Debug)]
#[ctype("pglist_data")]
pub struct Node {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    #[field("node_id")]
    pub id: i32,
    #[field("node_zones")]
    zones: At,
    /// its first page frame
    #[field("node_start_pfn")]
    pub start: u64,
    /// page frames that are RAM
    #[field("node_present_pages")]
    pub present: u64,
    /// page frames from its first to its last
    #[field("node_spanned_pages")]
    pub spanned: u64,
    /// pages that are no use to applications: watermarks and reserves
    #[field("totalreserve_pages")]
    pub reserve: u64,
    /// the thread that reclaims its memory
    pub kswapd: u64,
    /// how often that failed in a row
    #[field("kswapd_failures")]
    pub failures: i32,
    /// its counters
    #[field("vm_stat")]
    pub(crate) counters: At,
    /// what each CPU did not add to them yet: `struct per_cpu_nodestat`
    #[field("per_cpu_nodestats")]
    pub(crate) pending: u64,
}

/// A zone: `struct zone`.
#[derive(View, Debug)]
#[ctype("zone")]
pub struct Zone {
    /// its address
    #[addr]
    pub addr: u64,
    /// `Normal`
    pub name: Result<String>,
    /// its node
    #[field("zone_pgdat")]
    pub node: u64,
    /// its first page frame
    #[field("zone_start_pfn")]
    pub start: u64,
    /// page frames from its first to its last
    #[field("spanned_pages")]
    pub spanned: u64,
    /// those that are RAM
    #[field("present_pages")]
    pub present: u64,
    /// those that the buddy allocator has or had
    #[field("managed_pages")]
    pub managed: u64,
    #[field("_watermark")]
    watermark: [u64; 3],
    /// added to each watermark for a while after memory became fragmented
    #[field("watermark_boost")]
    boost: u64,
    /// pages kept for urgent needs of higher orders
    #[field("nr_reserved_highatomic")]
    pub highatomic: u64,
    /// the free lists, `struct free_area[]`
    #[field("free_area")]
    pub(crate) free_area: At,
    /// what each CPU holds: `struct per_cpu_pages` since Linux 5.14 (28f836b6777b), in front of other things before
    #[field("per_cpu_pageset", "pageset")]
    pub(crate) pageset: u64,
    /// its counters
    #[field("vm_stat")]
    pub(crate) counters: At,
    /// counters of NUMA's hits and misses; since Linux 5.14 (f19298b9516c) as events
    #[field("vm_numa_event", "vm_numa_stat")]
    pub(crate) numa: Option<At>,
    /// what each CPU did not add yet: `struct per_cpu_zonestat`, a part of `pageset` before 5.14
    #[field("per_cpu_zonestats")]
    pub(crate) zonestats: Option<u64>,
}

impl Zone {
    /// Whether it has any memory.
    pub fn is_populated(&self) -> bool {
        self.present != 0
    }

    /// The watermarks `min`, `low` and `high`, in pages, as the allocator takes them.
    pub fn watermarks(&self) -> [u64; 3] {
        self.watermark.map(|mark| mark.saturating_add(self.boost))
    }

    /// Its page frames, those of holes in it too.
    pub fn frames(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.spanned)
    }

    /// How many pages the CPUs hold together.
    pub fn pages_held(&self, session: &Session) -> Result<u64> {
        Ok(self.held(session)?.iter().map(|held| u64::try_from(held.pages.count).unwrap_or(0)).total())
    }

    /// The pages that each CPU holds.
    pub fn held(&self, session: &Session) -> Result<Vec<Held>> {
        // the variable of a zone that has never been set up is a small static one
        let inside = session.offset("per_cpu_pageset", "pcp").unwrap_or(0);
        let cpus = Percpu::of(session)?;
        let mut out = Vec::new();
        for (cpu, at) in cpus.copies(self.pageset.wrapping_add(inside)) {
            match session.view::<PerCpuPages>(at) {
                Ok(pages) => out.push(Held { cpu, pages }),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("pages that a CPU holds: {}", e.kind())),
            }
        }
        Ok(out)
    }
}

/// What a CPU holds of a zone.
#[derive(Clone, Debug)]
pub struct Held {
    /// the CPU
    pub cpu: u32,
    /// its pages
    pub pages: PerCpuPages,
}

/// Free pages in the hands of a CPU: `struct per_cpu_pages`.
#[derive(View, Clone, Debug)]
#[ctype("per_cpu_pages")]
pub struct PerCpuPages {
    /// its address
    #[addr]
    pub addr: u64,
    /// pages
    pub count: i32,
    /// pages above which it gives some back
    pub high: i32,
    /// pages that it takes or gives back at once
    pub batch: i32,
    lists: At,
}

/// A list of free blocks that a CPU holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuList {
    /// its head
    pub head: u64,
    /// its blocks have two to this power pages
    pub order: u32,
    /// what they are for: a value of `enum migratetype`
    pub migratetype: u32,
}

impl PerCpuPages {
    /// Its lists: one for each migrate type; since Linux 5.14 (44042b449872) for each order up to a limit, and then for
    /// huge pages.
    pub fn lists(&self, session: &Session) -> Vec<CpuList> {
        let bytes = session.place("per_cpu_pages", "lists").map_or(0, |field| field.bits / 8);
        let types = session.enumerator("MIGRATE_PCPTYPES").map_or(3, |n| (n as u32).clamp(1, 16));
        let low = types * (COSTLY_ORDER + 1);
        // one entry of a page table maps this many pages
        let huge = session.target.page_size().trailing_zeros().saturating_sub(3);
        let list = |i: u32| CpuList {
            head: self.lists.0.wrapping_add(u64::from(i) * 16),
            order: if i < low { i / types } else { huge },
            // of huge pages movable ones have a list, or one of two (bf14ed81f571)
            migratetype: if i < low { i % types } else { 1 },
        };
        (0..(bytes / 16).min(64) as u32).map(list).collect()
    }
}

/// The memory of the machine.
#[derive(Debug)]
pub struct Memory {
    /// nodes that are online, by number
    pub nodes: Vec<Node>,
    /// their zones, in order, those without memory too
    pub zones: Vec<Zone>,
}

impl Memory {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Memory>> {
        session.once(|| session.settle(|| Memory::read(session)))
    }

    fn read(session: &Session) -> Result<Memory> {
        let mut memory = Memory { nodes: Vec::new(), zones: Vec::new() };
        for at in nodes(session)? {
            match session.view::<Node>(at) {
                Ok(node) => {
                    memory.add_zones(session, &node)?;
                    memory.nodes.push(node);
                }
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("memory node: {}", e.kind())),
            }
        }
        if memory.zones.is_empty() {
            return Err(Error::Unavailable("the kernel's memory zones were not found".into()));
        }
        Ok(memory)
    }

    fn add_zones(&mut self, session: &Session, node: &Node) -> Result<()> {
        let size = session.size_of("zone")?;
        // all that the array has room for, as /proc/zoneinfo
        let room = session.place("pglist_data", "node_zones").map_or(0, |field| field.bits / 8 / size.max(1));
        for number in 0..room.min(MAX_ZONES) {
            let at = node.zones.0.wrapping_add(number * size);
            match session.view::<Zone>(at) {
                Ok(zone) => self.zones.push(zone),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("memory zone: {}", e.kind())),
            }
        }
        Ok(())
    }

    /// The zone at an address.
    pub fn zone(&self, addr: u64) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.addr == addr)
    }

    /// The zone of a page frame. Zones of different nodes may interleave; then the page's own flags decide, which hold
    /// the numbers of node and zone in their highest bits (`page_zone()`).
    pub fn zone_of(&self, session: &Session, frame: u64, flags: u64) -> Option<&Zone> {
        let mut fitting = self.zones.iter().filter(|zone| zone.is_populated() && zone.frames().contains(&frame));
        let (first, second) = (fitting.next()?, fitting.next());
        if second.is_none() {
            return Some(first);
        }
        let zones = session.enumerator("__MAX_NR_ZONES").map_or(4, |n| n.clamp(1, 8) as u64);
        let zone_bits = zones.next_power_of_two().trailing_zeros();
        // a zone list has an entry for each zone of each node, and one at its end
        let entries = session.place("zonelist", "_zonerefs").map_or(0, |field| field.bits / 128);
        let node_bits = (entries / zones).next_power_of_two().trailing_zeros().min(10);
        let field = |shift: u32, bits: u32| flags >> (shift & 63) & ((1 << bits) - 1);
        let (node, zone) = (field(64 - node_bits, node_bits), field(64 - node_bits - zone_bits, zone_bits));
        let node = self.nodes.iter().find(|n| n.id as u64 == node && node_bits > 0)?;
        let at = node.zones.0.wrapping_add(zone.wrapping_mul(session.size_of("zone").ok()?));
        self.zone(at).filter(|zone| zone.frames().contains(&frame)).or(Some(first))
    }

    /// The node whose `struct pglist_data` is at an address.
    pub fn node(&self, addr: u64) -> Option<&Node> {
        self.nodes.iter().find(|node| node.addr == addr)
    }
}

/// The addresses of the nodes that are online: `node_data[]`, or the one node of a kernel without NUMA.
fn nodes(session: &Session) -> Result<Vec<u64>> {
    if let Some(only) = session.kernel_symbol("contig_page_data") {
        return Ok(vec![only]);
    }
    let table = session.symbol("node_data").doing(|| "looking for the nodes of memory".into())?;
    let size = session.symbols.kernel().and_then(|k| k.by_name("node_data").first().map(|s| s.size)).unwrap_or(0);
    let room = if size == 0 { MAX_NODES } else { (size / 8).min(MAX_NODES) };
    let online = online(session);
    let mut out = Vec::new();
    for number in 0..room {
        let at = session.u64(table.wrapping_add(number * 8))?;
        let known = at >> 63 == 1
            && session.u32(at.wrapping_add(session.offset("pglist_data", "node_id")?)).ok() == Some(number as u32);
        match &online {
            Some(mask) if mask.get(number as usize / 64).is_some_and(|w| w >> (number % 64) & 1 == 1) => out.push(at),
            Some(_) => {}
            // the table's end is not known, but an entry that is no node is behind it
            None if known => out.push(at),
            None => break,
        }
    }
    Ok(out)
}

/// `node_states[N_ONLINE]`.
fn online(session: &Session) -> Option<Vec<u64>> {
    let states = session.kernel_symbol("node_states")?;
    let count =
        session.enumerator("NR_NODE_STATES").and_then(|n| u64::try_from(n).ok()).filter(|n| (2..32).contains(n))?;
    let symbol = session.symbols.kernel()?.by_name("node_states").into_iter().next()?;
    let mask = (symbol.size / count).clamp(8, MAX_NODES / 8) / 8 * 8;
    let at = states.wrapping_add(mask * session.enumerator("N_ONLINE")? as u64);
    let bytes = session.bytes(at, mask as usize).ok()?;
    let words: Vec<u64> = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes)).collect();
    words.iter().any(|w| *w != 0).then_some(words)
}

/// Walks nodes and zones.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "pgdat",
        doc: "walk the nodes of memory that are online",
        item: "struct pglist_data",
        address: Address::None,
        walk: |cx, _, visit| Memory::of(cx)?.nodes.iter().try_for_each(|node| visit(node.addr)),
    },
    WalkerEntry {
        name: "zone",
        doc: "walk the zones that have memory",
        item: "struct zone",
        address: Address::None,
        walk: |cx, _, visit| {
            let memory = Memory::of(cx)?;
            memory.zones.iter().filter(|zone| zone.is_populated()).try_for_each(|zone| visit(zone.addr))
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Node>(), ViewEntry::of::<Zone>(), ViewEntry::of::<PerCpuPages>()];
