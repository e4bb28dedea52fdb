//! Damage in slab memory: what SLUB's own checks would find, and what its lists and counters contradict.
//!
//! With `slub_debug` every object is surrounded by patterns (`check_object` in mm/slub.c): red zones that say whether it
//! is allocated, poison in free ones, padding. Each byte that differs was written by somebody who had no right to.
//! Without it, free lists, counters and lists of slabs remain. What cannot be read is noted, and is no finding.

mod canaries;
mod constructed;
mod extent;
mod fences;
mod lists;
mod reports;
mod stolen;
pub(crate) mod verdict;

pub(crate) use fences::is_zeroed;
pub use fences::{Fences, OrigSize};
pub use stolen::{gather as gather_stolen, is_of_slabs};

use super::{Cache, FaultKind, Slab, Slabs, State};
use engine::prelude::*;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// the red zone in front of an object
    LeftRedzone,
    /// the red zone behind an object
    RightRedzone,
    /// the bytes of a `kmalloc()` object behind those that were asked for
    Tail,
    /// the memory of a free object
    Poison,
    /// the space behind an object's records
    Padding,
    /// the space behind a slab's last object
    SlabPadding,
    /// an object's red zones contradict the free lists
    State,
    /// an object's record of its allocation cannot be true
    Track,
    /// a list of free objects
    FreeList,
    /// a slab's counter contradicts its list
    Count,
    /// a cache's lists of slabs, or their counters
    Node,
    /// the `struct kmem_cache` itself
    Cache,
    /// a free object of a cache with a constructor is not as that leaves it
    Constructed,
    /// what the kernel said in its log, and may have mended
    Reported,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::LeftRedzone => "redzone-left",
            Kind::RightRedzone => "redzone-right",
            Kind::Tail => "redzone-kmalloc",
            Kind::Poison => "poison",
            Kind::Padding => "padding",
            Kind::SlabPadding => "slab-padding",
            Kind::State => "state",
            Kind::Track => "track",
            Kind::FreeList => "freelist",
            Kind::Count => "counter",
            Kind::Node => "node",
            Kind::Cache => "cache",
            Kind::Constructed => "constructed",
            Kind::Reported => "reported",
        }
    }
}

/// Damage at one place.
#[derive(Clone, Debug)]
pub struct Finding {
    /// what is damaged
    pub kind: Kind,
    /// number of the cache
    pub cache: usize,
    /// address of the `struct slab`; 0 if it is about the whole cache
    pub slab: u64,
    /// the object, if it is about one
    pub object: Option<u64>,
    /// what the free lists say of it
    pub state: Option<State>,
    /// the first bad byte
    pub at: u64,
    /// what should be there, in words: `0xcc`
    pub expected: String,
    /// the bytes that are there, from the first bad one to the last, at most [`MAX_SHOWN`]
    pub found: Vec<u8>,
    /// how many bytes differ
    pub differ: usize,
    /// behind the last byte that the same write is seen to have reached; `at` if it was none
    pub end: u64,
    /// what else is wrong by the same cause
    pub follows: Vec<Finding>,
    /// number of the other cache that it is about, if it is about two: which has the slab, or lacks it
    pub other: Option<usize>,
    /// in plain words what probably happened
    pub verdict: String,
    /// the object in whose favour, or by whose owner, the damage was probably done: the neighbour of an overflow
    pub suspect: Option<u64>,
}

/// Bytes that a finding keeps.
pub const MAX_SHOWN: usize = 64;
/// Findings of one cache that are kept; more say nothing new.
const MAX_FINDINGS: usize = 10_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// slabs whose memory was compared
    pub slabs: u64,
    /// objects in them
    pub objects: u64,
    /// slabs whose memory is not in the dump
    pub missing: u64,
}

/// Notes how many slabs could not be looked into.
pub fn note_missing(session: &Session, missing: u64) {
    if missing > 0 {
        let what = format!("{missing} slabs are not in the dump, or not whole: their memory was not checked");
        session.notes.once(0, what);
    }
}

/// Everything that is wrong with cache number `number`.
pub fn verify(session: &Session, slabs: &Slabs, fences: &Fences, number: usize) -> Result<(Vec<Finding>, Seen)> {
    let Some(cache) = slabs.caches.get(number) else { return Ok(Default::default()) };
    let mut findings = lists::cache(session, slabs, number, cache)?;
    reports::of_cache(session, slabs, number, &mut findings)?;
    // nothing in its slabs can be told by sizes that are wrong
    if findings.iter().any(|finding| finding.kind == Kind::Cache)
        || !cache.sound()
        || !cache.fits(session.target.page_size())
    {
        return Ok((findings, Seen::default()));
    }
    let free = slabs.free(session, number)?;
    // a damaged dump has thousands of faults, and of slabs
    let named: HashSet<u64> = free.faults.iter().map(|fault| fault.slab).collect();
    let by_addr: HashMap<u64, &Slab> =
        slabs.of_cache(number).iter().filter(|slab| named.contains(&slab.addr)).map(|slab| (slab.addr, slab)).collect();
    for fault in &free.faults {
        let slab = by_addr.get(&fault.slab).copied();
        match &fault.kind {
            // not in the dump, which is noted where the lists are followed
            FaultKind::Unreadable(_) => {}
            kind => findings.push(lists::fault(session, slabs, (number, cache), slab, fault.at, kind)),
        }
    }
    let plan = fences.plan(cache);
    let parts: Vec<_> = slabs
        .of_cache(number)
        .par_iter()
        .enumerate()
        .map(|(i, slab)| {
            session.interrupt.check()?;
            one(session, slabs, (number, cache), (i, slab), &plan)
        })
        .collect::<Result<_>>()?;
    let mut seen = Seen::default();
    for (found, looked) in parts {
        seen.slabs += looked.slabs;
        seen.objects += looked.objects;
        seen.missing += looked.missing;
        let room = MAX_FINDINGS.saturating_sub(findings.len());
        findings.extend(found.into_iter().take(room));
    }
    findings.extend(canaries::look(session, number, cache)?);
    if cache.ctor != 0 {
        findings.extend(constructed::look(session, slabs, number, cache)?);
    }
    Ok((extent::gather(findings), seen))
}

/// The memory of one slab.
fn one(
    session: &Session,
    slabs: &Slabs,
    (number, cache): (usize, &Cache),
    (index, slab): (usize, &Slab),
    plan: &fences::Plan,
) -> Result<(Vec<Finding>, Seen)> {
    let objects = slab.objects.into();
    if !plan.any() {
        return Ok((Vec::new(), Seen { objects, ..Seen::default() }));
    }
    let memory = match session.bytes(slab.base, slab.bytes as usize) {
        Ok(memory) => memory,
        Err(e) if e.is_unreadable() => return Ok((Vec::new(), Seen { missing: 1, ..Seen::default() })),
        Err(e) => return Err(e),
    };
    let free = slabs.free(session, number)?;
    let extensions = fences::Extensions::of(session, cache, slab);
    let slot = fences::Slot { session, cache, number, slab, memory: &memory, plan, extensions };
    let mut findings = Vec::new();
    for i in 0..slab.objects {
        slot.object(i, free.state(index, i), &mut findings);
    }
    slot.end(&mut findings);
    let findings =
        if findings.is_empty() { findings } else { extent::join(&slot, findings, &|i| free.state(index, i)) };
    Ok((findings, Seen { slabs: 1, objects, missing: 0 }))
}
