//! Slab caches and what they hold: `::kmem_cache`, `::kmastat`, `::kmem_slabs`.
//!
//! ```console
//! > ::kmem_cache -n lab_
//! ADDR             NAME      FLAG OBJSIZE BUFSIZE INUSE BUFTOTL
//! ff386d1d857461c0 lab_node 21087     104     200     7      20
//! > ::kmastat -k ! tail -4
//! kmalloc-96                  224  2703  2718 604K   -
//! kmem_cache_node             256   250   256 64K    -
//! kmem_cache                  384   250   250 100K   -
//! Total                         - 57751 59169 22576K -
//! > ::kmem_slabs -N lsm_inode_cache -v
//! CACHE           SLABS PARTIAL BUFFERS UNUSED WASTE
//! lsm_inode_cache   376       2    8272     14 0.1%
//!                  374 complete, 2 partial (22): 20 10
//! ```
//!
//! To walk the objects themselves, see `::walkers kmem` and the walkers that bear the caches' names: `::walk dentry`.

use engine::{IntoRow, Schema, prelude::*};
use std::collections::BTreeMap;
use walkers::{
    kfence,
    slab::{self, Aliases, Cache, Caches, Slabs, State, cache},
};

/// The caches to look at: the one at `at`, or those of which a name passes, be it that of one merged into them.
/// `wanted` is what was asked for, if a name was: no cache of such a name is a mistake in the question.
fn chosen(
    cx: &Cx<'_>,
    caches: &Caches,
    at: Option<Object>,
    wanted: Option<&str>,
    passes: impl Fn(&str) -> bool,
) -> Result<Vec<usize>> {
    if let Some(object) = at {
        return Ok(vec![caches.expect(object.addr)?]);
    }
    let aliases = Aliases::of(cx)?;
    let passes = |(i, cache): &(usize, &Cache)| passes(cache.name()) || aliases.names(*i).any(&passes);
    let chosen: Vec<usize> = caches.iter().enumerate().filter(passes).map(|(i, _)| i).collect();
    match wanted.filter(|_| chosen.is_empty()) {
        Some(name) => Err(Error::Usage(format!("no slab cache is named `{name}`")).hint("`::kmem_cache` lists them")),
        None => Ok(chosen),
    }
}

/// Tells if slabs that the kernel counts were not found, as in a dump that lacks pages.
fn check_counters(cx: &Cx<'_>, slabs: &Slabs, number: usize, cache: &Cache) -> Result<()> {
    let nodes = cache.nodes(cx)?;
    let counted = nodes.iter().try_fold(0u64, |sum, node| Some(sum.saturating_add(node.nr_slabs?)));
    let found = slabs.of_cache(number).len() as u64;
    if let Some(counted) = counted.filter(|counted| *counted != found) {
        cx.notes.add(cache.addr, format!("{}: {counted} slabs by the kernel's count, {found} found", cache.name()));
    }
    Ok(())
}

// ---- ::kmem_cache -----------------------------------------------------------------------------------------------

/// Show slab caches: all, or the one at the address.
#[derive(Args)]
pub struct KmemCache {
    /// only caches whose name, or that of a cache merged into them, contains this
    #[arg(short = 'n', value_name = "CACHE")]
    name: Option<String>,
}

/// A slab cache.
#[derive(Row)]
pub struct CacheRow {
    /// address of its struct kmem_cache
    addr: Object,
    /// its name
    name: String,
    /// its SLAB_… flags; what the bits mean differs between kernels, so see the names of the flags in JSON
    flag: Hex,
    /// the names of its flags
    #[hidden]
    flags: Vec<&'static str>,
    /// bytes that its user asked for
    objsize: u32,
    /// bytes from one object to the next, with all that the allocator keeps beside it
    bufsize: u32,
    /// objects in use; those of KFENCE are not counted
    #[heading("INUSE")]
    in_use: u64,
    /// objects, free ones too
    #[heading("BUFTOTL")]
    total: u64,
    /// objects that were freed and wait for the end of a grace period: neither in use nor free
    #[hidden]
    rcu_pending: u64,
    /// objects whose state the dump does not tell
    #[hidden]
    unknown: u64,
    /// other caches that the kernel merged into this one
    #[hidden]
    merged: Vec<String>,
    /// its constructor
    #[hidden]
    ctor: Option<String>,
    /// C type of its objects, if its name tells
    #[hidden]
    ctype: Option<String>,
}

impl Dcmd for KmemCache {
    const NAME: &'static str = "kmem_cache";
    const ROWS: &'static [&'static Schema] = &[CacheRow::SCHEMA];
    const PASSES: &'static str = "struct kmem_cache";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let slabs = Slabs::of(cx)?;
        let aliases = Aliases::of(cx)?;
        let wanted = self.name.as_deref().unwrap_or_default();
        for number in chosen(cx, &slabs.caches, at, self.name.as_deref(), |name| name.contains(wanted))? {
            let Some(cache) = slabs.caches.get(number) else { continue };
            let counts = slabs.free(cx, number)?.counts;
            out.row(CacheRow {
                addr: cx.object("kmem_cache", cache.addr),
                name: cache.name().to_owned(),
                flag: Hex(cache.flags.into()),
                flags: cache::flag_names(cx, cache.flags),
                objsize: cache.object_size,
                bufsize: cache.size,
                in_use: counts.in_use,
                total: counts.total,
                rcu_pending: counts.rcu_pending,
                unknown: counts.unknown,
                merged: aliases.names(number).map(str::to_owned).collect(),
                ctor: (cache.ctor != 0).then(|| cx.sym(cache.ctor)),
                ctype: slab::names::object_type(cx, cache).map(|t| cx.types.spell(t)),
            })?;
        }
        Ok(())
    }
}

// ---- ::kmastat --------------------------------------------------------------------------------------------------

/// Show how much memory each slab cache has, and how much of it is in use.
///
/// Sizes are in bytes. What KFENCE holds for its caches is a row of its own. The number of allocations is known if the
/// kernel counts them (CONFIG_SLUB_STATS).
#[derive(Args)]
pub struct Kmastat {
    /// memory in kilobytes
    #[arg(short = 'k', group = "unit")]
    kilo: bool,
    /// memory in megabytes
    #[arg(short = 'm', group = "unit")]
    mega: bool,
    /// memory in gigabytes
    #[arg(short = 'g', group = "unit")]
    giga: bool,
}

/// A cache's memory.
#[derive(Row)]
pub struct StatRow {
    /// address of the struct kmem_cache
    #[hidden]
    addr: Option<Object>,
    /// its name
    cache: String,
    /// bytes from one object to the next
    #[heading("BUFSIZE")]
    size: Option<u64>,
    /// objects in use
    #[heading("INUSE")]
    in_use: u64,
    /// objects, free ones too
    total: u64,
    /// memory of its slabs
    memory: String,
    /// that memory in bytes
    #[hidden]
    bytes: u64,
    /// allocations since boot
    alloc: Option<Result<u64>>,
}

impl Kmastat {
    fn memory(&self, bytes: u64) -> String {
        match () {
            () if self.kilo => format!("{}K", bytes >> 10),
            () if self.mega => format!("{}M", bytes >> 20),
            () if self.giga => format!("{}G", bytes >> 30),
            () => format!("{bytes}B"),
        }
    }

    fn row(&self, cx: &Cx<'_>, slabs: &Slabs, number: usize, cache: &Cache) -> Result<StatRow> {
        let counts = slabs.free(cx, number)?.counts;
        let bytes = slabs.of_cache(number).iter().map(|s| u64::from(s.bytes)).sum();
        let alloc = match cache.allocations(cx) {
            Err(e) if e.is_control() => return Err(e),
            alloc => alloc.transpose(),
        };
        Ok(StatRow {
            addr: Some(cx.object("kmem_cache", cache.addr)),
            cache: cache.name().to_owned(),
            size: Some(cache.size.into()),
            in_use: counts.in_use,
            total: counts.total,
            memory: self.memory(bytes),
            bytes,
            alloc,
        })
    }

    /// KFENCE's share, which is in no slab.
    fn kfence(&self, cx: &Cx<'_>) -> Result<Option<StatRow>> {
        let Some(pool) = kfence::Pool::of(cx)? else { return Ok(None) };
        let mut in_use = 0;
        pool.each(cx, &mut |record| {
            in_use += u64::from(record.state(cx) == kfence::State::Allocated);
            Ok(())
        })?;
        let bytes = pool.range().end - pool.range().start;
        Ok(Some(StatRow {
            addr: None,
            cache: "[kfence]".into(),
            size: Some(cx.target.page_size()),
            in_use,
            total: pool.count,
            memory: self.memory(bytes),
            bytes,
            alloc: None,
        }))
    }
}

impl Dcmd for Kmastat {
    const NAME: &'static str = "kmastat";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[StatRow::SCHEMA];
    const PASSES: &'static str = "struct kmem_cache";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let slabs = Slabs::of(cx)?;
        slabs.free_all(cx)?;
        let (mut in_use, mut total, mut bytes, mut alloc) = (0, 0, 0, None);
        let mut add = |row: StatRow, out: &mut Out<'_>| {
            in_use += row.in_use;
            total += row.total;
            bytes += row.bytes;
            if let Some(Ok(n)) = row.alloc {
                alloc = Some(alloc.unwrap_or(0) + n);
            }
            out.row(row)
        };
        for (number, cache) in slabs.caches.iter().enumerate() {
            check_counters(cx, &slabs, number, cache)?;
            add(self.row(cx, &slabs, number, cache)?, out)?;
        }
        if let Some(row) = self.kfence(cx)? {
            add(row, out)?;
        }
        if out.piped {
            return Ok(());
        }
        out.row(StatRow {
            addr: None,
            cache: "Total".into(),
            size: None,
            in_use,
            total,
            memory: self.memory(bytes),
            bytes,
            alloc: alloc.map(Ok),
        })
    }
}

// ---- ::kmem_slabs -----------------------------------------------------------------------------------------------

/// Show how well the slabs of each cache are filled.
///
/// Memory that free objects hold back is wasted: a slab can be given back only when all of its objects are free.
#[derive(Args)]
pub struct KmemSlabs {
    /// how many slabs are full, and how many objects each partly filled one has in use, fullest first
    #[arg(short = 'v')]
    verbose: bool,
    /// over how many objects in use the slabs are distributed, in at most so many bins
    #[arg(short = 'b', value_name = "MAXBINS", value_parser = clap::value_parser!(u32).range(1..))]
    bins: Option<u32>,
    /// likewise, each bin being so many objects wide at least
    #[arg(short = 'B', value_name = "MINSIZE", value_parser = clap::value_parser!(u32).range(1..))]
    width: Option<u32>,
    /// only caches whose name contains this
    #[arg(short = 'n', value_name = "CACHE", conflicts_with = "exact")]
    name: Option<String>,
    /// only the cache of this name
    #[arg(short = 'N', value_name = "CACHE")]
    exact: Option<String>,
}

/// A cache's slabs.
#[derive(Row)]
pub struct SlabsRow {
    /// address of the struct kmem_cache
    #[hidden]
    addr: Object,
    /// its name
    cache: String,
    /// its slabs
    slabs: u64,
    /// of them those that have both free and used objects
    partial: u64,
    /// objects of all slabs
    buffers: u64,
    /// of them those not in use
    unused: u64,
    /// the share of them
    waste: String,
    /// full and partly filled slabs, and how many slabs have how many objects in use
    #[detail]
    fill: Vec<String>,
}

impl KmemSlabs {
    /// `10 complete, 3 partial (8): 7 3 1`, as mdb has it: objects of a slab in parentheses, then those in use.
    fn fill(&self, complete: u64, empty: u64, objects: u32, mut partial: Vec<u32>) -> Vec<String> {
        if !self.verbose {
            return Vec::new();
        }
        partial.sort_unstable_by(|a, b| b.cmp(a));
        let mut text = format!("{complete} complete, {} partial ({objects})", partial.len());
        for (i, used) in partial.iter().enumerate() {
            text.push_str(if i == 0 { ": " } else { " " });
            text.push_str(&used.to_string());
        }
        if empty > 0 {
            text.push_str(&format!(", {empty} empty"));
        }
        vec![text]
    }
}

/// How many slabs have how many objects in use: `1-5 @@@@ 12`, in bins of `width` objects.
fn distribution(used: &BTreeMap<u32, u64>, objects: u32, width: u32) -> Vec<String> {
    /// of the longest bar
    const BAR: u64 = 40;
    let mut bins: BTreeMap<u32, u64> = BTreeMap::new();
    for (used, slabs) in used {
        // those that are full go into the last bin, not into one of their own
        *bins.entry((*used).min(objects.saturating_sub(1)) / width).or_default() += slabs;
    }
    let most = bins.values().copied().max().unwrap_or(1).max(1);
    let line = |(bin, slabs): (&u32, &u64)| {
        let (first, last) = (bin * width, ((bin + 1) * width).min(objects.max(1)) - 1);
        let last = if last + 1 >= objects { objects } else { last };
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        format!("{range:>9} {:BAR$} {slabs}", "@".repeat((slabs * BAR).div_ceil(most) as usize), BAR = BAR as usize)
    };
    bins.iter().map(line).collect()
}

impl Dcmd for KmemSlabs {
    const NAME: &'static str = "kmem_slabs";
    const ROWS: &'static [&'static Schema] = &[SlabsRow::SCHEMA];
    const PASSES: &'static str = "struct kmem_cache";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let slabs = Slabs::of(cx)?;
        let passes = |name: &str| match (&self.name, &self.exact) {
            (Some(part), _) => name.contains(part.as_str()),
            (None, Some(exact)) => name == exact,
            (None, None) => true,
        };
        let wanted = self.name.as_deref().or(self.exact.as_deref());
        for number in chosen(cx, &slabs.caches, at, wanted, passes)? {
            let Some(cache) = slabs.caches.get(number) else { continue };
            let free = slabs.free(cx, number)?;
            let (mut complete, mut empty, mut objects, mut partial) = (0, 0, 0, Vec::new());
            let mut used: BTreeMap<u32, u64> = BTreeMap::new();
            for (i, slab) in slabs.of_cache(number).iter().enumerate() {
                let mut unused = 0;
                free.each(i, slab.objects, State::Free, &mut |_| {
                    unused += 1;
                    Ok(())
                })?;
                objects = objects.max(slab.objects);
                *used.entry(slab.objects - unused).or_default() += 1;
                match slab.objects - unused {
                    used if used == slab.objects => complete += 1,
                    0 => empty += 1,
                    used => partial.push(used),
                }
            }
            let counts = free.counts;
            let unused = counts.total - counts.in_use.min(counts.total);
            let mut fill = self.fill(complete, empty, objects, partial.clone());
            if self.bins.is_some() || self.width.is_some() {
                let wide = objects.div_ceil(self.bins.unwrap_or(u32::MAX)).max(self.width.unwrap_or(1)).max(1);
                fill.extend(distribution(&used, objects, wide));
            }
            let waste = (unused * 1000).checked_div(counts.total).unwrap_or(0);
            out.row(SlabsRow {
                addr: cx.object("kmem_cache", cache.addr),
                cache: cache.name().to_owned(),
                slabs: slabs.of_cache(number).len() as u64,
                partial: partial.len() as u64,
                buffers: counts.total,
                unused,
                waste: format!("{}.{}%", waste / 10, waste % 10),
                fill,
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<KmemCache>(), DcmdEntry::of::<Kmastat>(), DcmdEntry::of::<KmemSlabs>()];
