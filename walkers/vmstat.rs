//! The memory manager's counters (`include/linux/vmstat.h`): what /proc/vmstat shows, by name.
//!
//! Zones and nodes count pages by what they are used for, and each CPU counts events. To be fast, a CPU keeps small
//! changes of the first to itself and adds them up now and then: /proc shows the sums without these, and so is off by up
//! to 125 for each CPU. Here both are known.
//!
//! The names are the kernel's, from `vmstat_text`; the numbers of those that kmdb reckons with come from the enums.
//!
//! ```console
//! > ::vmstat nr_free_pages
//! NAME          VALUE PENDING
//! nr_free_pages  2891       0
//! ```

use crate::{
    percpu::Percpu,
    zone::{Memory, Node, Zone},
};
use engine::{ViewEntry, debuginfo::EnumValue, prelude::*};
use std::sync::Arc;

/// More counters of one kind than any kernel has.
const MAX_ITEMS: u64 = 512;

/// What a counter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// zones
    Zone,
    /// zones' NUMA statistics
    Numa,
    /// nodes
    Node,
    /// the machine
    System,
    /// events, counted by each CPU
    Event,
}

impl Group {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Group::Zone => "zone",
            Group::Numa => "numa",
            Group::Node => "node",
            Group::System => "system",
            Group::Event => "event",
        }
    }

    fn enum_name(self) -> &'static str {
        match self {
            Group::Zone => "zone_stat_item",
            Group::Numa => "numa_stat_item",
            Group::Node => "node_stat_item",
            Group::System => "vm_stat_item",
            Group::Event => "vm_event_item",
        }
    }
}

/// Counters of one kind, by their numbers: the sums, and what the CPUs did not add to them yet.
#[derive(Clone, Debug, Default)]
struct Sums {
    value: Vec<i64>,
    pending: Vec<i64>,
}

impl Sums {
    fn add(&mut self, values: &[i64], pending: &[i64]) {
        let len = self.value.len().max(values.len());
        self.value.resize(len, 0);
        self.pending.resize(len, 0);
        self.value.iter_mut().zip(values).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
        self.pending.iter_mut().zip(pending).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
    }
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// as in /proc/vmstat
    pub name: String,
    /// what it belongs to
    pub group: Group,
    /// as in /proc/vmstat
    pub value: i64,
    /// what the CPUs did not add to it yet
    pub pending: i64,
}

/// Counters: of the machine, of a node, of a zone.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    zone: Sums,
    numa: Sums,
    node: Sums,
    system: Vec<Option<i64>>,
    events: Vec<i64>,
}

impl Counters {
    /// The machine's.
    pub fn of(session: &Session) -> Result<Arc<Counters>> {
        session.once(|| {
            let memory = Memory::of(session)?;
            let mut all = Counters::default();
            memory.zones.iter().try_for_each(|zone| all.add_zone(session, zone))?;
            memory.nodes.iter().try_for_each(|node| all.add_node(session, node))?;
            all.system = system(session, &all);
            all.events = events(session)?;
            Ok(all)
        })
    }

    /// Those of a zone.
    pub fn of_zone(session: &Session, zone: &Zone) -> Result<Counters> {
        let mut counters = Counters::default();
        counters.add_zone(session, zone)?;
        Ok(counters)
    }

    /// Those of a node, but not of its zones.
    pub fn of_node(session: &Session, node: &Node) -> Result<Counters> {
        let mut counters = Counters::default();
        counters.add_node(session, node)?;
        Ok(counters)
    }

    fn add_zone(&mut self, session: &Session, zone: &Zone) -> Result<()> {
        // zones without memory have counters too, all zero, but may lack the per-CPU ones
        let values = longs(session, zone.counters.0, items(session, "zone", "vm_stat"))?;
        let numa_items = items(session, "zone", "vm_numa_event").max(items(session, "zone", "vm_numa_stat"));
        let numa = zone.numa.map_or(Ok(Vec::new()), |at| longs(session, at.0, numa_items))?;
        let (mut pending, mut numa_pending) = (vec![0; values.len()], vec![0; numa.len()]);
        for (_, at) in Percpu::of(session)?.copies(zone.zonestats.unwrap_or(zone.pageset)) {
            if zone.is_populated() {
                match session.view::<ZoneDiffs>(at) {
                    Ok(diffs) => {
                        add_bytes(session, diffs.zone.0, &mut pending)?;
                        if let Some(at) = diffs.numa {
                            for (sum, more) in numa_pending.iter_mut().zip(longs(session, at.0, numa_items)?) {
                                *sum = i64::saturating_add(*sum, more);
                            }
                        }
                        if let Some(at) = diffs.old_numa {
                            add_shorts(session, at.0, &mut numa_pending)?;
                        }
                    }
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => session.notes.add(at, format!("counters of a CPU: {}", e.kind())),
                }
            }
        }
        self.zone.add(&values, &pending);
        self.numa.add(&numa, &numa_pending);
        Ok(())
    }

    fn add_node(&mut self, session: &Session, node: &Node) -> Result<()> {
        let values = longs(session, node.counters.0, items(session, "pglist_data", "vm_stat"))?;
        let mut pending = vec![0; values.len()];
        let diffs = session.offset("per_cpu_nodestat", "vm_node_stat_diff")?;
        for (_, at) in Percpu::of(session)?.copies(node.pending) {
            match add_bytes(session, at.wrapping_add(diffs), &mut pending) {
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("counters of a CPU: {}", e.kind())),
                Ok(()) => {}
            }
        }
        self.node.add(&values, &pending);
        Ok(())
    }

    /// A counter of zones or nodes by its enumerator, as /proc has it: without what is pending; `None` if this kernel
    /// does not count that. Never below 0, as in the kernel.
    pub fn get(&self, session: &Session, name: &str) -> Option<u64> {
        let (sums, number) = self.find(session, name)?;
        sums.value.get(number).map(|value| u64::try_from(*value).unwrap_or(0))
    }

    /// Likewise, with what is pending.
    pub fn exact(&self, session: &Session, name: &str) -> Option<u64> {
        let (sums, number) = self.find(session, name)?;
        let value = sums.value.get(number)?.wrapping_add(*sums.pending.get(number)?);
        Some(u64::try_from(value).unwrap_or(0))
    }

    fn find(&self, session: &Session, name: &str) -> Option<(&Sums, usize)> {
        let kinds = [(Group::Zone, &self.zone), (Group::Node, &self.node)];
        kinds.into_iter().find_map(|(group, sums)| {
            let values = session.enumerators(group.enum_name());
            let number = values.iter().find(|v| &*v.name == name)?.value;
            Some((sums, usize::try_from(number).ok()?))
        })
    }

    /// All of them, in the order of /proc/vmstat.
    pub fn all(&self, session: &Session) -> Vec<Counter> {
        let names = Names::of(session);
        let huge = huge_items(session);
        let mut out = Vec::new();
        for (group, sums) in [(Group::Zone, &self.zone), (Group::Numa, &self.numa), (Group::Node, &self.node)] {
            for (i, (value, pending)) in sums.value.iter().zip(&sums.pending).enumerate() {
                // the kernel adds these up before it shows them
                let numa = group == Group::Numa;
                let (value, pending) =
                    if numa { (value.saturating_add(*pending), 0) } else { ((*value).max(0), *pending) };
                let divisor = if group == Group::Node && huge.contains(&i) { huge_page(session) } else { 1 };
                let counter =
                    Counter { name: names.name(group, i), group, value: value / divisor, pending: pending / divisor };
                out.push(counter);
            }
        }
        let system = self.system.iter().enumerate().filter_map(|(i, value)| Some((i, (*value)?)));
        let system = system.map(|(i, value)| (Group::System, i, value));
        // sectors of 512 bytes, shown in KiB
        let kib = |i: usize| ["PGPGIN", "PGPGOUT"].iter().any(|name| session.enumerator(name) == Some(i as i64));
        let events = self.events.iter().enumerate();
        let events = events.map(|(i, value)| (Group::Event, i, if kib(i) { *value / 2 } else { *value }));
        out.extend(system.chain(events).map(|(group, i, value)| Counter {
            name: names.name(group, i),
            group,
            value,
            pending: 0,
        }));
        out
    }
}

/// Pages of a huge page that one entry of a page middle directory maps: `HPAGE_PMD_NR`.
pub fn huge_page(session: &Session) -> i64 {
    (session.target.page_size() / 8) as i64
}

/// Whether huge pages are counted by their small ones: since Linux 5.12 (69473e5de873 and those beside it), when the
/// node also began to count the swap cache (b6038942480e).
pub fn huge_in_pages(session: &Session) -> bool {
    session.enumerators("node_stat_item").iter().any(|v| &*v.name == "NR_SWAPCACHE")
}

/// Counters that are in pages and that /proc/vmstat shows in huge pages (`vmstat_item_print_in_thp()`).
fn huge_items(session: &Session) -> Vec<usize> {
    const HUGE: [&str; 5] =
        ["NR_ANON_THPS", "NR_FILE_THPS", "NR_SHMEM_THPS", "NR_SHMEM_PMDMAPPED", "NR_FILE_PMDMAPPED"];
    if !huge_in_pages(session) {
        return Vec::new();
    }
    let values = session.enumerators("node_stat_item");
    values.iter().filter(|v| HUGE.contains(&&*v.name)).filter_map(|v| usize::try_from(v.value).ok()).collect()
}

/// What a CPU did not add to a zone's counters yet.
#[derive(View)]
#[ctype("per_cpu_zonestat", "per_cpu_pageset")]
struct ZoneDiffs {
    #[field("vm_stat_diff")]
    zone: At,
    #[field("vm_numa_event")]
    numa: Option<At>,
    #[field("vm_numa_stat_diff")]
    old_numa: Option<At>,
}

/// Elements of an array of longs in a struct.
fn items(session: &Session, ctype: &str, member: &str) -> u64 {
    session.place(ctype, member).map_or(0, |field| field.bits / 64).min(MAX_ITEMS)
}

fn longs(session: &Session, at: u64, count: u64) -> Result<Vec<i64>> {
    let bytes = session.bytes(at, count.min(MAX_ITEMS) as usize * 8)?;
    Ok(bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, i64::from_le_bytes)).collect())
}

fn add_bytes(session: &Session, at: u64, sums: &mut [i64]) -> Result<()> {
    let bytes = session.bytes(at, sums.len())?;
    sums.iter_mut().zip(bytes.iter()).for_each(|(sum, byte)| *sum += i64::from(*byte as i8));
    Ok(())
}

fn add_shorts(session: &Session, at: u64, sums: &mut [i64]) -> Result<()> {
    let bytes = session.bytes(at, sums.len() * 2)?;
    let shorts = bytes.chunks_exact(2).map(|b| b.try_into().map_or(0, u16::from_le_bytes));
    sums.iter_mut().zip(shorts).for_each(|(sum, more)| *sum += i64::from(more));
    Ok(())
}

/// Counters of the machine: the limits of dirty memory, which are reckoned, and single variables, those of the
/// `struct page`s, since Linux 6.11 (15995a352474). `/proc/vmstat` still ends with `nr_unstable 0`, which counts nothing.
fn system(session: &Session, counters: &Counters) -> Vec<Option<i64>> {
    let read = |v: &EnumValue| match &*v.name {
        "NR_DIRTY_THRESHOLD" => Some(dirty_limits(session, counters)?.1),
        "NR_DIRTY_BG_THRESHOLD" => Some(dirty_limits(session, counters)?.0),
        name => Some(variable(session, &name.to_lowercase(), |at| session.u64(at))? as i64),
    };
    system_items(session).iter().map(read).collect()
}

/// What is counted of the machine; the enum was `writeback_stat_item` until Linux 6.11 (f4cb78af91e3).
fn system_items(session: &Session) -> Vec<EnumValue> {
    let old = session.enumerators("writeback_stat_item");
    let values = if old.is_empty() { session.enumerators(Group::System.enum_name()) } else { old };
    values.into_iter().filter(|v| !is_count(v)).collect()
}

/// What a variable of the kernel holds. That it cannot be read is noted.
fn variable<T>(session: &Session, name: &str, read: impl Fn(u64) -> Result<T>) -> Option<T> {
    let at = session.kernel_symbol(name)?;
    let value = read(at);
    value.inspect_err(|e| session.notes.add(at, format!("`{name}`: {}", e.kind()))).ok()
}

/// Pages that may be dirty before writing begins in the background, and before writers wait (`global_dirty_limits()`),
/// from what is set and from the pages that could become dirty (`global_dirtyable_memory()`).
fn dirty_limits(session: &Session, counters: &Counters) -> Option<(i64, i64)> {
    let page = session.target.page_size().max(1);
    let int = |name| variable(session, name, |at| session.u32(at)).map(u64::from);
    let long = |name| variable(session, name, |at| session.u64(at));
    let count = |name| counters.get(session, name);
    let free = count("NR_FREE_PAGES")?.saturating_sub(long("totalreserve_pages")?);
    let files = count("NR_INACTIVE_FILE")?.saturating_add(count("NR_ACTIVE_FILE")?);
    let available = free.saturating_add(files).saturating_add(1);
    let limit = |bytes: u64, percent: u64| match bytes {
        0 => (percent.saturating_mul(page) / 100).saturating_mul(available) / page,
        bytes => bytes.div_ceil(page),
    };
    let all = limit(long("vm_dirty_bytes")?, int("vm_dirty_ratio")?);
    let background = limit(long("dirty_background_bytes")?, int("dirty_background_ratio")?);
    let background = if background >= all { all / 2 } else { background };
    Some((i64::try_from(background).ok()?, i64::try_from(all).ok()?))
}

/// The events, summed over all CPUs.
fn events(session: &Session) -> Result<Vec<i64>> {
    // a kernel without CONFIG_VM_EVENT_COUNTERS has none
    let Some(variable) = session.kernel_symbol("vm_event_states") else { return Ok(Vec::new()) };
    let count = items(session, "vm_event_state", "event");
    let mut sums = Sums::default();
    for (_, at) in Percpu::of(session)?.copies(variable) {
        match longs(session, at, count) {
            Ok(values) => sums.add(&values, &[]),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("events of a CPU: {}", e.kind())),
        }
    }
    Ok(sums.value)
}

/// Whether an enumerator says how many there are.
fn is_count(value: &EnumValue) -> bool {
    value.name.starts_with("NR_VM_") && value.name.ends_with("_ITEMS") || value.name.starts_with("NR_VM_STAT")
}

/// What the counters are called.
struct Names {
    /// `vmstat_text`, cut by group; if it cannot be
    text: Option<Vec<(Group, Vec<String>)>>,
    enums: Vec<(Group, Vec<EnumValue>)>,
}

impl Names {
    fn of(session: &Session) -> Names {
        let groups = [Group::Zone, Group::Numa, Group::Node, Group::System, Group::Event];
        let enums = groups.iter().map(|group| (*group, session.enumerators(group.enum_name()))).collect();
        Names { text: Names::text(session), enums }
    }

    /// The kernel's own table, if the events begin where they should.
    fn text(session: &Session) -> Option<Vec<(Group, Vec<String>)>> {
        let symbol = session.symbols.kernel()?.by_name("vmstat_text").into_iter().next()?;
        let table = longs(session, symbol.addr, (symbol.size / 8).min(MAX_ITEMS)).ok()?;
        let all: Vec<String> =
            table.iter().map_while(|at| session.cstr(*at as u64, 64).ok().filter(|s| !s.is_empty())).collect();
        let numa = items(session, "zone", "vm_numa_event").max(items(session, "zone", "vm_numa_stat"));
        let sizes = [
            (Group::Zone, items(session, "zone", "vm_stat")),
            (Group::Numa, numa),
            (Group::Node, items(session, "pglist_data", "vm_stat")),
            (Group::System, system_items(session).len() as u64),
        ];
        let mut rest = &all[..];
        let mut out = Vec::new();
        for (group, size) in sizes {
            let (names, behind) = rest.split_at_checked(size as usize)?;
            out.push((group, names.to_vec()));
            rest = behind;
        }
        out.push((Group::Event, rest.to_vec()));
        rest.first().is_some_and(|name| name == "pgpgin").then_some(out)
    }

    fn name(&self, group: Group, number: usize) -> String {
        let told = self.text.iter().flatten().find(|(g, _)| *g == group).and_then(|(_, names)| names.get(number));
        let by_enum = || {
            let values = self.enums.iter().find(|(g, _)| *g == group).map_or(&[][..], |(_, values)| values);
            // of several names the last one is that of the counter, not of a part of the list
            let named = values.iter().rfind(|v| v.value == number as i64 && !is_count(v))?;
            let name = named.name.to_lowercase();
            Some(name.strip_suffix("_b").or(name.strip_suffix("_kb")).unwrap_or(&name).to_owned())
        };
        told.cloned().or_else(by_enum).unwrap_or_else(|| format!("{} {number}", group.name()))
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<ZoneDiffs>()];
