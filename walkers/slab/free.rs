//! Which objects of a cache are free.
//!
//! A free object is in one of these places:
//!
//! * the slab's own list, `slab.freelist`, linked through the objects themselves;
//! * the list of the CPU that works on the slab, `kmem_cache_cpu.freelist`, which the slab counts as in use
//!   (up to Linux 6.19);
//! * a sheaf, an array of pointers to objects that their slabs count as in use (since Linux 6.18): each CPU has a main
//!   and a spare one, each node's barn full ones. Objects in a CPU's `rcu_free` sheaf wait for the end of a grace
//!   period: they are neither allocated nor free.
//!
//! A link lies in the middle of the object, is mixed with a secret of the cache and with the address where it lies
//! (CONFIG_SLAB_FREELIST_HARDENED), and may be damaged or missing from the dump. Where a list breaks off before the
//! slab's counter says that it ends, the other objects of that slab are of unknown state, which is what they are
//! reported as.

use super::{
    cache::{Cache, Node},
    scan::{self, Slab},
};
use crate::{list, percpu::Percpu};
use engine::ViewEntry;
use engine::prelude::*;

/// What becomes of an object's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// in use
    Allocated,
    /// free
    Free,
    /// freed with `kfree_rcu()`, and waits for readers that may still see it
    RcuPending,
    /// the lists that would say so are damaged or not in the dump
    Unknown,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            State::Allocated => "allocated",
            State::Free => "freed",
            State::RcuPending => "rcu",
            State::Unknown => "unknown",
        }
    }
}

/// What is wrong with a list of free objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// address of the `struct slab`; 0 if it is not known which
    pub slab: u64,
    /// where the bad pointer is
    pub at: u64,
    /// what it is
    pub kind: FaultKind,
}

/// Kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// points to no object of the slab
    Wild(u64),
    /// points to an object that has been met before
    Again(u64),
    /// points into no slab that was found
    Homeless(u64),
    /// lies in memory that cannot be read
    Unreadable(String),
    /// the slab's counter says that this many objects are free, its list has so many
    Count {
        /// by the counter
        counted: u32,
        /// in the list
        listed: u32,
    },
}

impl FaultKind {
    /// In words, without places, so that equal ones can be counted together.
    pub fn text(&self) -> String {
        match self {
            FaultKind::Wild(_) => "free list with a pointer to no object of its slab".into(),
            FaultKind::Homeless(_) => "free object of a CPU or a sheaf whose slab was not found".into(),
            FaultKind::Again(_) => "free list with an object that is free already".into(),
            FaultKind::Unreadable(reason) => format!("free list with an object that cannot be read ({reason})"),
            FaultKind::Count { .. } => "free list that is longer or shorter than the slab's counter says".into(),
        }
    }
}

/// Counts of a cache's objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// all
    pub total: u64,
    /// certainly in use
    pub allocated: u64,
    /// certainly free
    pub free: u64,
    /// waiting for a grace period
    pub rcu_pending: u64,
    /// of unknown state
    pub unknown: u64,
    /// in use as the counters have it, which are right also where lists cannot be followed
    pub in_use: u64,
}

/// The state of every object of a cache's slabs.
#[derive(Debug, Default)]
pub struct FreeMap {
    /// for each slab, where its bits start: a slab starts with a new word
    start: Vec<usize>,
    free: Vec<u64>,
    /// like `free`; empty where nothing waits
    waiting: Vec<u64>,
    /// for each slab, whether its other objects are of unknown state
    unknown: Vec<bool>,
    /// sheaves of free objects, in the hands of CPUs and nodes: each also has pointers to objects that it had before
    pub sheaves: Vec<u64>,
    /// whether free objects that CPUs and nodes have at hand are not in the dump: those look allocated
    pub lost: bool,
    /// what was wrong
    pub faults: Vec<Fault>,
    /// how many
    pub counts: Counts,
}

/// Faults that are kept for one cache; the rest is only counted.
const MAX_FAULTS: usize = 10_000;

impl FreeMap {
    /// Follows all free lists of `cache`, whose slabs are `slabs`, by address. On a running kernel the lists change
    /// between the look at a slab and the walk along its list: then both are done again, a few times, and the calmest
    /// moment counts.
    pub fn build(session: &Session, cache: &Cache, slabs: &[Slab]) -> Result<FreeMap> {
        const TRIES: u32 = 4;
        let mut best = FreeMap::follow_all(session, cache, slabs, &[])?;
        for _ in 1..TRIES {
            if best.faults.is_empty() || !session.is_live() {
                break;
            }
            session.target.refresh();
            let again = scan::Again::of(session)?;
            let now: Vec<Option<Slab>> =
                slabs.iter().map(|slab| again.look(session, cache, slab)).collect::<Result<_>>()?;
            let gone: Vec<bool> = now.iter().map(Option::is_none).collect();
            // what is no slab any more has no list
            let ended = |old: &Slab| Slab { freelist: 0, inuse: old.objects, ..*old };
            let now: Vec<Slab> =
                now.into_iter().zip(slabs).map(|(new, old)| new.unwrap_or_else(|| ended(old))).collect();
            let map = FreeMap::follow_all(session, cache, &now, &gone)?;
            if map.faults.len() < best.faults.len() {
                best = map;
            }
        }
        Ok(best)
    }

    /// Follows the lists once. The state of objects of slabs that are `gone` is unknown.
    fn follow_all(session: &Session, cache: &Cache, slabs: &[Slab], gone: &[bool]) -> Result<FreeMap> {
        let mut map = FreeMap::default();
        let mut words = 0;
        for slab in slabs {
            map.start.push(words);
            words += slab.objects.div_ceil(64) as usize;
        }
        map.free = vec![0; words];
        map.unknown = (0..slabs.len()).map(|i| gone.get(i) == Some(&true)).collect();
        let mut lists = Lists { session, cache, slabs, map, handed_out: 0 };
        for (i, slab) in slabs.iter().enumerate() {
            session.interrupt.check()?;
            lists.slab(i, slab)?;
        }
        lists.cpus()?;
        lists.sheaves()?;
        let (mut map, handed_out) = (lists.map, lists.handed_out);
        map.count(slabs, handed_out);
        Ok(map)
    }

    /// The state of object `index` of the cache's slab number `slab`.
    pub fn state(&self, slab: usize, index: u32) -> State {
        let Some(word) = self.start.get(slab).map(|start| start + index as usize / 64) else { return State::Unknown };
        let bit = |words: &[u64]| words.get(word).is_some_and(|w| w >> (index % 64) & 1 == 1);
        match self.unknown.get(slab) {
            _ if bit(&self.waiting) => State::RcuPending,
            _ if bit(&self.free) => State::Free,
            Some(false) => State::Allocated,
            _ => State::Unknown,
        }
    }

    /// Hands the numbers of the objects of slab number `slab` that are in `state` to `visit`, lowest first.
    pub fn each(
        &self,
        slab: usize,
        objects: u32,
        state: State,
        visit: &mut dyn FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let Some(start) = self.start.get(slab) else { return Ok(()) };
        let unknown = self.unknown.get(slab) == Some(&true);
        for i in 0..objects.div_ceil(64) {
            let free = self.free.get(start + i as usize).copied().unwrap_or(0);
            let waiting = self.waiting.get(start + i as usize).copied().unwrap_or(0);
            let other = !(free | waiting);
            let mut bits = match state {
                State::Free => free & !waiting,
                State::RcuPending => waiting,
                State::Allocated if !unknown => other,
                State::Unknown if unknown => other,
                _ => 0,
            };
            let left = objects - i * 64;
            if left < 64 {
                bits &= (1 << left) - 1;
            }
            while bits != 0 {
                visit(i * 64 + bits.trailing_zeros())?;
                bits &= bits - 1;
            }
        }
        Ok(())
    }

    fn count(&mut self, slabs: &[Slab], handed_out: u64) {
        let ones = |words: &[u64]| words.iter().map(|w| u64::from(w.count_ones())).sum::<u64>();
        let mut counts = Counts { total: slabs.iter().map(|s| u64::from(s.objects)).sum(), ..Counts::default() };
        counts.rcu_pending = ones(&self.waiting);
        counts.free = ones(&self.free) - counts.rcu_pending.min(ones(&self.free));
        for (i, slab) in slabs.iter().enumerate().filter(|(i, _)| self.unknown.get(*i) == Some(&true)) {
            let start = self.start.get(i).copied().unwrap_or(0);
            let words = self.free.get(start..start + slab.objects.div_ceil(64) as usize).unwrap_or_default();
            counts.unknown += u64::from(slab.objects).saturating_sub(ones(words));
        }
        let sure = counts.free + counts.rcu_pending + counts.unknown;
        counts.allocated = counts.total.saturating_sub(sure);
        let inuse: u64 = slabs.iter().map(|s| u64::from(s.inuse)).sum();
        counts.in_use = inuse.saturating_sub(handed_out);
        self.counts = counts;
    }

    fn fault(&mut self, slab: u64, at: u64, kind: FaultKind) {
        self.lost |= slab == 0 && matches!(kind, FaultKind::Unreadable(_));
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { slab, at, kind });
        }
    }

    /// Marks an object free; false if it was.
    fn mark(&mut self, slab: usize, index: u32) -> bool {
        let word = self.start.get(slab).and_then(|start| self.free.get_mut(start + index as usize / 64));
        word.is_some_and(|word| {
            let bit = 1 << (index % 64);
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    /// Marks an object, which is marked free, as waiting.
    fn mark_waiting(&mut self, slab: usize, index: u32) {
        if self.waiting.is_empty() {
            self.waiting = vec![0; self.free.len()];
        }
        let word = self.start.get(slab).and_then(|start| self.waiting.get_mut(start + index as usize / 64));
        if let Some(word) = word {
            *word |= 1 << (index % 64);
        }
    }
}

/// Follows the lists of one cache.
struct Lists<'a> {
    session: &'a Session,
    cache: &'a Cache,
    slabs: &'a [Slab],
    map: FreeMap,
    /// free objects that their slabs count as in use
    handed_out: u64,
}

/// How many objects a list had, and whether it ended as lists do.
struct Followed {
    length: u32,
    whole: bool,
}

impl Lists<'_> {
    fn slab(&mut self, number: usize, slab: &Slab) -> Result<()> {
        let counted = slab.objects.saturating_sub(slab.inuse);
        let followed = self.follow(number, slab, slab.freelist, slab.addr)?;
        if !followed.whole {
            // all free objects may have been found, and the damage lie behind the last
            self.unknown(number, followed.length < counted);
        } else if followed.length != counted {
            self.map.fault(slab.addr, slab.addr, FaultKind::Count { counted, listed: followed.length });
        }
        Ok(())
    }

    fn unknown(&mut self, number: usize, yes: bool) {
        if let Some(unknown) = self.map.unknown.get_mut(number) {
            *unknown |= yes;
        }
    }

    /// Marks the objects of a list that starts with `first`, a pointer that stands at `from`.
    fn follow(&mut self, number: usize, slab: &Slab, first: u64, from: u64) -> Result<Followed> {
        let mut length = 0;
        if first == 0 {
            return Ok(Followed { length, whole: true });
        }
        let memory = match self.session.bytes(slab.base, slab.bytes as usize) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.is_control() => return Err(e),
            // some page of it is missing, but perhaps none that the list touches
            Err(_) => None,
        };
        let (mut object, mut at) = (first, from);
        while object != 0 {
            let kind = match self.index(slab, object) {
                None => Some(FaultKind::Wild(object)),
                Some(index) if !self.map.mark(number, index) => Some(FaultKind::Again(object)),
                Some(_) => None,
            };
            if let Some(kind) = kind {
                self.map.fault(slab.addr, at, kind);
                return Ok(Followed { length, whole: false });
            }
            length += 1;
            at = object.wrapping_add(self.cache.offset.into());
            let stored = match &memory {
                Some(bytes) => word(bytes, at.wrapping_sub(slab.base)),
                None => match self.session.u64(at) {
                    Ok(word) => word,
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => {
                        self.map.fault(slab.addr, at, FaultKind::Unreadable(e.kind()));
                        return Ok(Followed { length, whole: false });
                    }
                },
            };
            object = self.cache.next_free(stored, at);
        }
        Ok(Followed { length, whole: true })
    }

    /// The number of the object at exactly this address.
    fn index(&self, slab: &Slab, object: u64) -> Option<u32> {
        let inside = object.checked_sub(slab.base)?.checked_sub(self.cache.left_pad())?;
        let inside = u32::try_from(inside).ok()?;
        let index = inside / self.cache.size;
        (inside % self.cache.size == 0 && index < slab.objects).then_some(index)
    }

    /// The slab of the cache that an address lies in.
    fn slab_at(&self, addr: u64) -> Option<(usize, &Slab)> {
        let next = self.slabs.partition_point(|s| s.base <= addr);
        let number = next.checked_sub(1)?;
        self.slabs.get(number).filter(|s| addr < s.end()).map(|s| (number, s))
    }

    /// The lists that CPUs took from their slabs.
    fn cpus(&mut self) -> Result<()> {
        let Some(variable) = self.cache.cpu_slab else { return Ok(()) };
        let session = self.session;
        for (_, at) in Percpu::of(session)?.copies(variable) {
            let cpu: CpuSlab = match session.view(at) {
                Ok(cpu) => cpu,
                Err(e) if e.is_unreadable() => {
                    self.map.fault(0, at, FaultKind::Unreadable(e.kind()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            if cpu.freelist == 0 {
                continue;
            }
            match self.slab_at(cpu.freelist).map(|(number, slab)| (number, *slab)) {
                Some((number, slab)) => {
                    let followed = self.follow(number, &slab, cpu.freelist, at)?;
                    self.handed_out += u64::from(followed.length);
                    self.unknown(number, !followed.whole);
                }
                None => self.map.fault(cpu.slab, at, FaultKind::Homeless(cpu.freelist)),
            }
        }
        Ok(())
    }

    /// The objects in sheaves. A cache without sheaves of its own has an empty one that all such caches share.
    fn sheaves(&mut self) -> Result<()> {
        let (Some(variable), Some(capacity @ 1..)) = (self.cache.cpu_sheaves, self.cache.sheaf_capacity) else {
            return Ok(());
        };
        let session = self.session;
        for (_, at) in Percpu::of(session)?.copies(variable) {
            match session.view::<CpuSheaves>(at) {
                Ok(cpu) => {
                    self.sheaf(cpu.main, capacity, false)?;
                    self.sheaf(cpu.spare, capacity, false)?;
                    self.sheaf(cpu.rcu_free, capacity, true)?;
                }
                Err(e) if e.is_unreadable() => self.map.fault(0, at, FaultKind::Unreadable(e.kind())),
                Err(e) => return Err(e),
            }
        }
        let link = session.offset("slab_sheaf", "barn_list")?;
        let nodes: Vec<Node> = self.cache.nodes(session)?;
        for barn in nodes.iter().filter_map(|n| n.barn).filter(|barn| *barn != 0) {
            for member in ["sheaves_full", "sheaves_empty"] {
                let head = barn.wrapping_add(session.offset("node_barn", member)?);
                for sheaf in list::entries(session, head, link)? {
                    self.sheaf(sheaf, capacity, false)?;
                }
            }
        }
        Ok(())
    }

    fn sheaf(&mut self, sheaf: u64, capacity: u32, waits: bool) -> Result<()> {
        if sheaf == 0 {
            return Ok(());
        }
        self.map.sheaves.push(sheaf);
        let objects = match self.session.view::<Sheaf>(sheaf) {
            Ok(view) if view.size <= capacity => self.session.bytes(view.objects.0, view.size as usize * 8),
            Ok(view) => {
                self.map.fault(0, sheaf, FaultKind::Wild(view.size.into()));
                return Ok(());
            }
            Err(e) => Err(e),
        };
        let objects = match objects {
            Ok(objects) => objects,
            Err(e) if e.is_unreadable() => {
                self.map.fault(0, sheaf, FaultKind::Unreadable(e.kind()));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for i in 0..objects.len() / 8 {
            let object = word(&objects, i as u64 * 8);
            let place = self.slab_at(object).and_then(|(n, slab)| Some((n, slab.addr, self.index(slab, object)?)));
            match place {
                None => self.map.fault(0, sheaf, FaultKind::Homeless(object)),
                Some((number, slab, index)) if !self.map.mark(number, index) => {
                    self.map.fault(slab, sheaf, FaultKind::Again(object));
                }
                Some((number, _, index)) => {
                    self.handed_out += 1;
                    if waits {
                        self.map.mark_waiting(number, index);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Eight bytes; zero outside. Callers have checked that they are inside.
fn word(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let eight = at.checked_add(8).and_then(|end| bytes.get(at..end));
    eight.and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// What a CPU has taken of a cache: `struct kmem_cache_cpu`.
#[derive(View)]
#[ctype("kmem_cache_cpu")]
struct CpuSlab {
    freelist: u64,
    /// `page` before Linux 5.17 (bb192ed9aa71)
    #[field("slab", "page")]
    slab: u64,
}

/// A CPU's sheaves.
#[derive(View)]
#[ctype("slub_percpu_sheaves")]
struct CpuSheaves {
    main: u64,
    spare: u64,
    rcu_free: u64,
}

/// An array of free objects.
#[derive(View)]
#[ctype("slab_sheaf")]
struct Sheaf {
    size: u32,
    objects: At,
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<CpuSlab>(), ViewEntry::of::<CpuSheaves>(), ViewEntry::of::<Sheaf>()];
