//! What memory is used for, twice: by the kernel's counters, and by a look at every page.
//!
//! The counters are cheap however large the machine is, but some pages are in none of them: what the kernel allocated for
//! no purpose that it counts is the rest. The look at every page knows each page's kind, and none is left over. What the
//! two disagree on is either a page on its way, or wrong.
//!
//! ```console
//! > ::memstat ! head -n 4
//! KIND               PAGES MB   %TOT
//! Boot               10499 41.0 42%
//! Slab                3793 14.8 15%
//! Slab (reclaimable)  2143 8.3  8%
//! ```

use crate::{
    buddy,
    frame::{self, Frames},
    meminfo::Meminfo,
    page::PageMap,
    total::Total,
    vmstat::Counters,
    zone::{Memory, Zone},
};
use engine::{ViewEntry, prelude::*};
use std::{collections::BTreeMap, ops::Range};

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// never the allocator's: the kernel's image, its `struct page`s, what was allocated before it
    Boot,
    /// slabs that cannot be reclaimed
    Slab,
    /// slabs that can be
    SlabReclaimable,
    /// tasks' kernel stacks
    Stacks,
    /// page tables
    Tables,
    /// what vmalloc() allocated, but stacks
    Vmalloc,
    /// the per-CPU allocator's
    Percpu,
    /// what else the kernel allocated
    Kernel,
    /// anonymous memory of processes
    Anon,
    /// shared memory and tmpfs
    Shared,
    /// files' pages
    Cache,
    /// block devices' pages
    Buffers,
    /// what is in memory and in swap
    SwapCache,
    /// pools of huge pages
    Hugetlb,
    /// given back to the host
    Balloon,
    /// free
    Free,
    /// free, kept by CPUs
    FreeCpu,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boot => "Boot",
            Kind::Slab => "Slab",
            Kind::SlabReclaimable => "Slab (reclaimable)",
            Kind::Stacks => "Kernel stacks",
            Kind::Tables => "Page tables",
            Kind::Vmalloc => "vmalloc",
            Kind::Percpu => "Per-CPU",
            Kind::Kernel => "Other kernel",
            Kind::Anon => "Anonymous",
            Kind::Shared => "Shared memory",
            Kind::Cache => "Page cache",
            Kind::Buffers => "Buffers",
            Kind::SwapCache => "Swap cache",
            Kind::Hugetlb => "HugeTLB",
            Kind::Balloon => "Balloon",
            Kind::Free => "Free",
            Kind::FreeCpu => "Free (CPUs)",
        }
    }

    /// What a look at a page can tell apart: of several kinds the one that stands for all.
    pub fn group(self) -> Kind {
        match self {
            Kind::SlabReclaimable => Kind::Slab,
            Kind::Shared | Kind::Buffers | Kind::SwapCache => Kind::Cache,
            Kind::Hugetlb => Kind::Anon,
            // the first chunk of the per-CPU allocator is set aside at boot
            Kind::Kernel | Kind::Percpu | Kind::Vmalloc | Kind::Stacks | Kind::Balloon => Kind::Kernel,
            kind => kind,
        }
    }
}

/// Memory by kind.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// pages of each kind
    pub pages: BTreeMap<Kind, u64>,
    /// pages of RAM
    pub total: u64,
    /// pages that are counted in more than one kind: if not 0, the counters are wrong
    pub excess: u64,
}

/// A chunk of the per-CPU allocator: `struct pcpu_chunk`.
#[derive(View)]
#[ctype("pcpu_chunk")]
struct Chunk {
    nr_populated: i32,
}

/// Pages of the per-CPU allocator that are not in its first chunk, which is never the page allocator's.
fn percpu(session: &Session, meminfo: &Meminfo<'_>) -> Result<u64> {
    let first = match session.kernel_symbol("pcpu_first_chunk") {
        Some(at) => session.view::<Chunk>(session.u64(at)?)?.nr_populated,
        None => 0,
    };
    let units = session.symbol("pcpu_nr_units").and_then(|at| session.u32(at))?;
    let first = u64::try_from(first).unwrap_or(0).saturating_mul(units.into());
    Ok(meminfo.percpu()?.saturating_sub(first))
}

/// What cannot be read counts as nothing, and is noted.
fn or_zero(session: &Session, kind: Kind, pages: Result<u64>) -> Result<u64> {
    match pages {
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(0, format!("{}: {}", kind.name(), e.kind()));
            Ok(0)
        }
        pages => pages,
    }
}

/// By the counters.
pub fn counted(session: &Session) -> Result<Usage> {
    let (memory, counters, meminfo) = (Memory::of(session)?, Counters::of(session)?, Meminfo::of(session)?);
    let get = |name: &str| counters.exact(session, name).unwrap_or(0);
    let page_kib = (session.target.page_size() >> 10).max(1);
    let stacks = get("NR_KERNEL_STACK_KB").saturating_add(get("NR_KERNEL_SCS_KB")) / page_kib;
    let total: u64 = memory.zones.iter().map(|zone| zone.present).total();
    let managed: u64 = memory.zones.iter().map(|zone| zone.managed).total();
    let zero = |kind, pages| or_zero(session, kind, pages);
    let (buffers, swap) = (zero(Kind::Buffers, meminfo.buffers())?, zero(Kind::SwapCache, meminfo.swap_cache())?);
    let vmalloc = zero(Kind::Vmalloc, meminfo.vmalloc())?;
    // stacks are vmalloc()'s with CONFIG_VMAP_STACK
    let mapped = session.has_member("task_struct", "stack_vm_area");
    let mut held = 0u64;
    for zone in memory.zones.iter().filter(|zone| zone.is_populated()) {
        held = held.saturating_add(zone.pages_held(session)?);
    }
    let mut pages = BTreeMap::from([
        (Kind::Boot, total.saturating_sub(managed)),
        (Kind::Slab, get("NR_SLAB_UNRECLAIMABLE_B")),
        (Kind::SlabReclaimable, get("NR_SLAB_RECLAIMABLE_B")),
        (Kind::Stacks, stacks),
        (Kind::Tables, get("NR_PAGETABLE").saturating_add(get("NR_SECONDARY_PAGETABLE"))),
        (Kind::Vmalloc, if mapped { vmalloc.saturating_sub(stacks) } else { vmalloc }),
        (Kind::Percpu, zero(Kind::Percpu, percpu(session, &meminfo))?),
        (Kind::Anon, get("NR_ANON_MAPPED")),
        (Kind::Shared, get("NR_SHMEM")),
        (Kind::Cache, get("NR_FILE_PAGES").saturating_sub([get("NR_SHMEM"), buffers, swap].into_iter().total())),
        (Kind::Buffers, buffers),
        (Kind::SwapCache, swap),
        (Kind::Hugetlb, zero(Kind::Hugetlb, meminfo.hugetlb())?),
        (Kind::Balloon, get("NR_BALLOON_PAGES")),
        (Kind::Free, get("NR_FREE_PAGES")),
        (Kind::FreeCpu, held),
    ]);
    let sum = pages.values().copied().total();
    pages.insert(Kind::Kernel, total.saturating_sub(sum));
    Ok(Usage { pages, total, excess: sum.saturating_sub(total) })
}

/// By a look at every page. The kinds are groups (see [`Kind::group`]); `total` counts holes too: frames without RAM that
/// have a `struct page`, which is marked as set aside at boot.
pub fn walked(session: &Session) -> Result<Usage> {
    let memory = Memory::of(session)?;
    let (frames, spans) = (Frames::by_struct(session)?, spans(&memory));
    let mut pages: BTreeMap<Kind, u64> = BTreeMap::new();
    for run in &frames.runs {
        let kind = match run.kind {
            frame::Kind::Slab => Kind::Slab,
            frame::Kind::Table => Kind::Tables,
            frame::Kind::Cache | frame::Kind::PrivateCache => Kind::Cache,
            frame::Kind::User => Kind::Anon,
            frame::Kind::Free => Kind::Free,
            frame::Kind::Reserved => Kind::Boot,
            _ => Kind::Kernel,
        };
        *pages.entry(kind).or_default() += spans.iter().map(|span| overlap(span, &run.frames)).total();
    }
    let mut held = 0u64;
    for zone in memory.zones.iter().filter(|zone| zone.is_populated()) {
        let filled = buddy::count(session, zone)?;
        held = filled.iter().filter(|f| f.list.cpu.is_some()).map(buddy::Filled::pages).fold(held, u64::saturating_add);
    }
    pages.insert(Kind::FreeCpu, held);
    let map = PageMap::of(session)?;
    let total: u64 = map.sections().iter().map(|s| spans.iter().map(|span| overlap(span, &s.frames)).total()).total();
    // of several pages that are allocated at once, and are no large page, only the first has a user
    let seen = pages.values().copied().total();
    *pages.entry(Kind::Kernel).or_default() += total.saturating_sub(seen).saturating_sub(frames.unknown);
    if frames.unknown > 0 {
        let what = "struct pages are not in the dump: what they describe is not counted";
        session.notes.add(0, format!("{} {what}", frames.unknown));
    }
    Ok(Usage { pages, total, excess: 0 })
}

/// The frames of all zones, by number. Those of one zone may lie among another's.
fn spans(memory: &Memory) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = memory.zones.iter().filter(|zone| zone.is_populated()).map(Zone::frames).collect();
    all.sort_by_key(|span| span.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for span in all {
        match out.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => out.push(span),
        }
    }
    out
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Chunk>()];
