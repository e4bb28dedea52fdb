//! Slab memory: caches, slabs, and every object in them, allocated or free (SLUB, mm/slub.c).
//!
//! Nothing in the kernel lists the objects of a cache. kmdb scans all `struct page`s for slabs, which takes about a
//! millisecond for 512 MB, and follows the free lists of a cache when its objects are first asked for.
//!
//! ```console
//! > ::walk lab_node | ::count
//! COUNT
//!     7
//! > ::kmem_cache -n lab_node | ::walk freemem | ::count
//! COUNT
//!    13
//! > ::walk kmem_slab | ::head -1 | ::print inuse objects frozen
//! inuse = 0x7
//! objects = 0x14
//! frozen = 0
//! ```
//!
//! **Invariant:** an object is called allocated or free only if the lists that say so could be followed; otherwise it
//! is of unknown state, and a note counts it.

pub mod alias;
mod by_addr;
pub mod cache;
pub mod free;
pub mod names;
mod scan;
pub mod track;
pub mod verify;

pub use alias::Aliases;
pub use cache::{Cache, Caches, Flags, Node};
pub use free::{Counts, Fault, FaultKind, FreeMap, State};
pub use scan::Slab;
pub use track::{Track, Which, each_track, each_track_of, object_of_track, track};

use crate::{kfence, list};
use engine::{DynamicWalker, DynamicWalkers, prelude::*};
use rayon::prelude::*;
use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

/// Every slab of the session.
pub struct Slabs {
    /// their caches
    pub caches: Arc<Caches>,
    /// by cache, then by address
    slabs: Vec<Slab>,
    /// each cache's part of `slabs`
    ranges: Vec<Range<usize>>,
    by_addr: by_addr::ByAddr,
    /// each cache's free lists, followed when first needed
    free: Vec<OnceLock<FreeMap>>,
    /// `struct page`s that are not in the dump
    missing: u64,
    damaged: Vec<(u64, u32)>,
    strangers: Vec<u64>,
    gave_up: bool,
}

impl Slabs {
    /// The session's. What the scan could not see is noted for every command that asks.
    pub fn of(session: &Session) -> Result<Arc<Slabs>> {
        let slabs = session.once(|| Slabs::build(session))?;
        if slabs.missing > 0 {
            let what = "struct pages are not in the dump; slabs that they describe are not seen";
            session.notes.once(0, format!("{} {what}", slabs.missing));
        }
        if let Some((first, _)) = slabs.damaged.first() {
            let what = "struct pages are marked as slabs and cannot be ones; they are left out";
            session.notes.once(*first, format!("{} {what}", slabs.damaged.len()));
        }
        if let Some(first) = slabs.strangers.first() {
            let what = "slabs belong to caches that are not in `slab_caches`, or not in the dump; they are left out";
            session.notes.once(*first, format!("{} {what}", slabs.strangers.len()));
        }
        if slabs.gave_up {
            session.notes.once(0, "the kernel's page map is larger than the dump; it was not scanned to its end");
        }
        Ok(slabs)
    }

    fn build(session: &Session) -> Result<Slabs> {
        let caches = Caches::of(session)?;
        let found = scan::scan(session, &caches).doing(|| "looking for slabs".into())?;
        let ranges = scan::ranges(&found.slabs, caches.len());
        let by_addr = by_addr::ByAddr::of(found.slabs.iter().map(|slab| slab.base));
        let free = (0..caches.len()).map(|_| OnceLock::new()).collect();
        let scan::Found { slabs, missing, damaged, strangers, gave_up } = found;
        Ok(Slabs { caches, slabs, ranges, by_addr, free, missing, damaged, strangers, gave_up })
    }

    /// Whether every `struct page` could be looked at, so that no slab is missing here but damaged ones.
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && !self.gave_up
    }

    /// The `struct page`s that name cache number `cache` and cannot be slabs of it.
    pub fn damaged_of(&self, cache: usize) -> impl Iterator<Item = u64> + '_ {
        self.damaged.iter().filter(move |(_, of)| *of as usize == cache).map(|(addr, _)| *addr)
    }

    /// The slabs whose cache is none that is known.
    pub fn strangers(&self) -> &[u64] {
        &self.strangers
    }

    /// All slabs, by cache.
    pub fn all(&self) -> &[Slab] {
        &self.slabs
    }

    /// The slabs of cache number `cache`, by address.
    pub fn of_cache(&self, cache: usize) -> &[Slab] {
        self.ranges.get(cache).and_then(|range| self.slabs.get(range.clone())).unwrap_or_default()
    }

    /// The slab that an address lies in, and its number among its cache's slabs.
    pub fn at(&self, addr: u64) -> Option<(usize, &Slab)> {
        let index = self.by_addr.last(addr)? as usize;
        let found = self.slabs.get(index).filter(|slab| addr < slab.end())?;
        let start = self.ranges.get(found.cache as usize)?.start;
        Some((index - start, found))
    }

    /// The object that an address lies in or, with the space around it, belongs to: its slab with the number of that among its
    /// cache's, its own number there, and where it starts.
    pub fn belongs(&self, addr: u64) -> Option<(usize, &Slab, u32, u64)> {
        let (number, slab) = self.at(addr)?;
        let size = self.caches.get(slab.cache as usize)?.size.max(1);
        let index = u32::try_from((addr - slab.base) / u64::from(size)).ok().filter(|index| *index < slab.objects)?;
        Some((number, slab, index, self.object(slab, index)))
    }

    /// Address of an object of a slab.
    pub fn object(&self, slab: &Slab, index: u32) -> u64 {
        let Some(cache) = self.caches.get(slab.cache as usize) else { return 0 };
        slab.base.wrapping_add(cache.left_pad()).wrapping_add(u64::from(index) * u64::from(cache.size))
    }

    /// What the free lists of cache number `cache` say.
    pub fn free(&self, session: &Session, cache: usize) -> Result<&FreeMap> {
        let (Some(slot), Some(view)) = (self.free.get(cache), self.caches.get(cache)) else {
            return Err(Error::Usage(format!("there is no slab cache number {cache}")));
        };
        let found = match slot.get() {
            Some(found) => found,
            None => {
                let made = FreeMap::build(session, view, self.of_cache(cache));
                let made = made.doing(|| format!("following the free lists of {}", view.name()))?;
                slot.get_or_init(|| made)
            }
        };
        if found.lost {
            session
                .notes
                .name("free objects at hand of CPUs and nodes are not in the dump and look allocated", view.name());
        }
        Ok(found)
    }

    /// Follows the free lists of all caches, several at a time.
    pub fn free_all(&self, session: &Session) -> Result<()> {
        (0..self.caches.len()).into_par_iter().try_for_each(|cache| self.free(session, cache).map(|_| ()))
    }

    /// Tells the running command what was wrong with the free lists of these caches.
    pub fn note(&self, session: &Session, caches: impl Iterator<Item = usize>) -> Result<()> {
        let (mut unknown, mut restless) = (0, 0);
        for cache in caches {
            let free = self.free(session, cache)?;
            unknown += free.counts.unknown;
            if session.is_live() {
                restless += free.faults.len();
            } else {
                free.faults.iter().for_each(|fault| session.notes.add(fault.at, fault.kind.text()));
            }
        }
        if restless > 0 {
            let what = "did not hold still while they were followed: a few objects may be shown in a wrong state";
            session.notes.once(0, format!("{restless} free lists {what}"));
        }
        if unknown > 0 {
            let what = "their slabs' free lists cannot be followed (`::walk kmem_unknown` shows them)";
            session.notes.once(0, format!("state of {unknown} objects is unknown: {what}"));
        }
        Ok(())
    }

    /// Shows the objects of cache number `cache` that are in `state` to `visit`: those in slabs by address, then those
    /// that KFENCE holds.
    pub fn each(&self, session: &Session, cache: usize, state: State, visit: Visit<'_>) -> Result<()> {
        let free = self.free(session, cache)?;
        let Some(view) = self.caches.get(cache) else { return Ok(()) };
        let (size, pad) = (u64::from(view.size), view.left_pad());
        for (number, slab) in self.of_cache(cache).iter().enumerate() {
            session.interrupt.check()?;
            let first = slab.base.wrapping_add(pad);
            free.each(number, slab.objects, state, &mut |i| visit(first.wrapping_add(u64::from(i) * size)))?;
        }
        let held = kfence::Held::of(session)?;
        let here = held.of_cache(view.addr).iter().filter(|(_, s)| of_kfence(*s) == state);
        here.map(|(addr, _)| *addr).try_for_each(visit)
    }
}

fn of_kfence(state: kfence::State) -> State {
    match state {
        kfence::State::Allocated => State::Allocated,
        kfence::State::RcuFreeing => State::RcuPending,
        kfence::State::Unused | kfence::State::Freed => State::Free,
        kfence::State::Damaged => State::Unknown,
    }
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// in a slab
    Slab {
        /// address of the `struct slab`
        addr: u64,
        /// number of the object in it
        index: u32,
    },
    /// in KFENCE's pool
    Kfence {
        /// address of the object's `struct kfence_metadata`
        record: u64,
    },
}

/// The object that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// number of its cache
    pub cache: usize,
    /// where it starts
    pub object: u64,
    /// how far behind that the address is; negative in the red zone before the object
    pub offset: i64,
    /// what becomes of it
    pub state: State,
    /// where it lies
    pub home: Home,
}

/// The object of any cache that an address lies in or, with the space around it, belongs to.
pub fn find(session: &Session, addr: u64) -> Result<Option<Found>> {
    if let Some(pool) = kfence::Pool::of(session)?
        && pool.range().contains(&addr)
    {
        return find_in_pool(session, &pool, addr);
    }
    let slabs = Slabs::of(session)?;
    let Some((number, slab, index, object)) = slabs.belongs(addr) else { return Ok(None) };
    let cache = slab.cache as usize;
    let state = slabs.free(session, cache)?.state(number, index);
    let offset = addr.wrapping_sub(object) as i64;
    Ok(Some(Found { cache, object, offset, state, home: Home::Slab { addr: slab.addr, index } }))
}

fn find_in_pool(session: &Session, pool: &kfence::Pool, addr: u64) -> Result<Option<Found>> {
    let Some(index) = pool.index(addr) else { return Ok(None) };
    let record = pool.record(session, index)?;
    let Some(cache) = Caches::of(session)?.at(record.cache) else { return Ok(None) };
    let state = of_kfence(record.state(session));
    let offset = addr.wrapping_sub(record.addr) as i64;
    Ok(Some(Found { cache, object: record.addr, offset, state, home: Home::Kfence { record: record.at } }))
}

// ---- walkers ----------------------------------------------------------------------------------------------------

/// The cache that a walker was given, or all.
fn chosen(caches: &Caches, at: Option<Object>) -> Result<Range<usize>> {
    match at {
        Some(object) => caches.expect(object.addr).map(|i| i..i + 1),
        None => Ok(0..caches.len()),
    }
}

fn objects(cx: &Cx<'_>, at: Option<Object>, state: State, visit: Visit<'_>) -> Result<()> {
    let slabs = Slabs::of(cx)?;
    let mut caches = chosen(&slabs.caches, at)?;
    if caches.len() > 1 {
        slabs.free_all(cx)?;
    }
    slabs.note(cx, caches.clone())?;
    caches.try_for_each(|cache| slabs.each(cx, cache, state, visit))
}

fn slabs(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let slabs = Slabs::of(cx)?;
    chosen(&slabs.caches, at)?.try_for_each(|c| slabs.of_cache(c).iter().try_for_each(|slab| visit(slab.addr)))
}

/// Where, in a `struct slab`, its link is.
fn link(session: &Session) -> Result<u64> {
    // slab_list since Linux 5.2 (916ac0527837), an alias of lru before
    let links = [("slab", "slab_list"), ("page", "slab_list"), ("page", "lru")];
    let link = links.iter().find_map(|(ctype, member)| session.place(ctype, member)).map(|f| f.bit_offset / 8);
    link.ok_or_else(|| Error::NoMember { ctype: "struct slab".into(), members: vec!["slab_list".into()] })
}

/// The nodes' lists of slabs that have both free and allocated objects, in the order in which they will be used.
fn partial(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let (caches, link) = (Caches::of(cx)?, link(cx)?);
    for cache in chosen(&caches, at)?.filter_map(|i| caches.get(i)) {
        for node in cache.nodes(cx)? {
            list::list(cx, node.partial.0, link, visit)?;
        }
    }
    Ok(())
}

/// Walks caches, slabs and objects.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "kmem_cache",
        doc: "walk all slab caches",
        item: "struct kmem_cache",
        address: Address::None,
        walk: |cx, _, visit| Caches::of(cx)?.iter().try_for_each(|cache| visit(cache.addr)),
    },
    WalkerEntry {
        name: "kmem_slab",
        doc: "walk all slabs of a cache, or of all caches",
        // the latter before Linux 5.17 (d122019bf061)
        item: "struct slab, struct page",
        address: Address::Optional,
        walk: slabs,
    },
    WalkerEntry {
        name: "kmem_slab_partial",
        doc: "walk the slabs of a cache, or of all, that wait for more allocations",
        item: "struct slab, struct page",
        address: Address::Optional,
        walk: partial,
    },
    WalkerEntry {
        name: "kmem",
        doc: "walk the allocated objects of a cache, or of all caches",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| objects(cx, at, State::Allocated, visit),
    },
    WalkerEntry {
        name: "freemem",
        doc: "walk the free objects of a cache, or of all caches",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| objects(cx, at, State::Free, visit),
    },
    WalkerEntry {
        name: "kmem_rcu",
        doc: "walk the objects of a cache, or of all, that were freed and wait for the end of a grace period",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| objects(cx, at, State::RcuPending, visit),
    },
    WalkerEntry {
        name: "kmem_unknown",
        doc: "walk the objects of a cache, or of all, whose state the dump does not tell",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| objects(cx, at, State::Unknown, visit),
    },
];

/// One walker for each cache, of that cache's name: it walks the allocated objects. The names of caches that the kernel
/// merged into others are walkers too.
pub const DYNAMIC: DynamicWalkers = DynamicWalkers {
    find: |session, name| {
        let caches = Caches::of(session)?;
        if let Some(cache) = caches.named(name).next().and_then(|i| caches.get(i)) {
            return Ok(Some(dynamic(session, cache)));
        }
        let cache = Aliases::of(session)?.get(name).and_then(|i| caches.get(i));
        Ok(cache.map(|cache| merged(name, cache)))
    },
    all: |session| {
        let (caches, aliases) = (Caches::of(session)?, Aliases::of(session)?);
        let own = caches.iter().map(|cache| dynamic(session, cache));
        let others = aliases.iter().filter_map(|(name, i)| Some(merged(name, caches.get(i)?)));
        Ok(own.chain(others).collect())
    },
    walk: |cx, key, visit| {
        let slabs = Slabs::of(cx)?;
        let Some(number) = slabs.caches.at(key) else { return Ok(()) };
        let Some(cache) = slabs.caches.get(number) else { return Ok(()) };
        if cache.refcount > 1 {
            let aliases = Aliases::of(cx)?;
            let names: Vec<&str> = std::iter::once(cache.name()).chain(aliases.names(number)).collect();
            cx.notes.once(key, format!("one cache has the objects of all these: {}", names.join(", ")));
        }
        // two caches may have one name: both are meant
        slabs.note(cx, slabs.caches.named(cache.name()))?;
        slabs.caches.named(cache.name()).try_for_each(|i| slabs.each(cx, i, State::Allocated, visit))
    },
    objects: |session, key| {
        let caches = Caches::of(session).ok()?;
        names::object_type(session, caches.get(caches.at(key)?)?)
    },
};

fn dynamic(session: &Session, cache: &Cache) -> DynamicWalker {
    DynamicWalker {
        name: cache.name().to_owned(),
        doc: format!("walk the {} cache", cache.name()),
        ctype: names::object_type(session, cache),
        key: cache.addr,
    }
}

fn merged(name: &str, cache: &Cache) -> DynamicWalker {
    DynamicWalker {
        name: name.to_owned(),
        doc: format!("walk the {} cache, which {name} is merged into", cache.name()),
        ctype: None,
        key: cache.addr,
    }
}
