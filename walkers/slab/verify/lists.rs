//! Free lists, counters, and lists of slabs: what can be held against each other also where no debugging was on.

use super::{Finding, Kind, verdict};
use crate::slab::{Cache, FaultKind, Slab, Slabs};
use engine::prelude::*;

/// A finding about a whole cache.
fn about(cache: usize, kind: Kind, at: u64, expected: String, verdict: String) -> Finding {
    Finding {
        kind,
        cache,
        slab: 0,
        object: None,
        state: None,
        at,
        expected,
        found: Vec::new(),
        differ: 0,
        verdict,
        suspect: None,
    }
}

/// The cache itself and what its nodes count.
pub(super) fn cache(session: &Session, slabs: &Slabs, number: usize, cache: &Cache) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    if !cache.sound() || !cache.fits(session.target.page_size()) {
        let text = format!(
            "size {:#x}, object_size {:#x}, inuse {:#x}, offset {:#x} do not go together, or not with the size of a slab: the structure was written over",
            cache.size, cache.object_size, cache.inuse, cache.offset
        );
        out.push(about(number, Kind::Cache, cache.addr, "sizes that fit".into(), text));
        return Ok(out);
    }
    let (mut counted, mut objects, mut known) = (0u64, 0u64, true);
    for node in cache.nodes(session)? {
        match (node.nr_slabs, node.total_objects) {
            (Some(slabs), Some(total)) => {
                (counted, objects) = (counted.wrapping_add(slabs), objects.wrapping_add(total))
            }
            _ => known = false,
        }
        match partial(session, node.partial.0)? {
            Partial::Broken { at, verdict } => {
                out.push(about(number, Kind::Node, at, "a link that is answered".into(), verdict));
            }
            Partial::Whole(listed) if listed != node.nr_partial => out.push(about(
                number,
                Kind::Node,
                node.addr,
                format!("{} slabs", node.nr_partial),
                format!("the node counts {} partial slabs, its list has {listed}", node.nr_partial),
            )),
            Partial::Whole(_) | Partial::Missing => {}
        }
    }
    let here = slabs.of_cache(number);
    let total: u64 = here.iter().map(|slab| u64::from(slab.objects)).sum();
    // with some of the page map missing, slabs are missing too, and that is no damage
    if known && slabs.is_complete() && (counted, objects) != (here.len() as u64, total) {
        out.push(about(
            number,
            Kind::Node,
            cache.addr,
            format!("{counted} slabs, {objects} objects"),
            format!(
                "its nodes count {counted} slabs with {objects} objects, there are {} with {total}: a damaged counter, or \
                 slabs whose struct page was written over",
                here.len()
            ),
        ));
    }
    Ok(out)
}

/// A node's list of slabs that have free objects.
enum Partial {
    /// so many slabs, each link answered by one back
    Whole(u64),
    /// the word that does not fit
    Broken { at: u64, verdict: String },
    /// not all of it is in the dump, or it is being changed
    Missing,
}

/// More slabs than memory can have.
const MAX_SLABS: u64 = 1 << 32;

/// Follows the list whose head is at `head`. It needs no memory of where it was: as long as all links are answered no
/// slab can come twice.
fn partial(session: &Session, head: u64) -> Result<Partial> {
    let (mut at, mut count) = (head, 0);
    while count < MAX_SLABS {
        let next = match session.u64(at) {
            Ok(next) => next,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(Partial::Missing),
        };
        let back = match session.u64(next.wrapping_add(8)) {
            Ok(back) => back,
            Err(e) if e.is_control() => return Err(e),
            Err(_) if next >> 63 == 1 && next.is_multiple_of(8) => return Ok(Partial::Missing),
            Err(_) => return Ok(broken(session, at, next, "the next of a list of slabs is")),
        };
        if back != at {
            let what = format!("the prev of a list of slabs should be {at:x}, it is");
            return Ok(if session.is_live() {
                Partial::Missing
            } else {
                broken(session, next.wrapping_add(8), back, &what)
            });
        }
        if next == head {
            return Ok(Partial::Whole(count));
        }
        (at, count) = (next, count + 1);
    }
    Ok(Partial::Missing)
}

fn broken(session: &Session, at: u64, word: u64, what: &str) -> Partial {
    let is = verdict::describe(session, word).unwrap_or_else(|| format!("{word:#x}"));
    Partial::Broken { at, verdict: format!("{what} {is}: written over") }
}

/// A fault of a free list.
pub(super) fn fault(
    session: &Session,
    slabs: &Slabs,
    (number, cache): (usize, &Cache),
    slab: Option<&Slab>,
    at: u64,
    kind: &FaultKind,
) -> Finding {
    let place = slabs.at(at).map(|(_, slab)| slab).or(slab);
    let object = place.filter(|slab| (slab.base..slab.end()).contains(&at)).and_then(|slab| {
        let index = at.checked_sub(slab.base)?.checked_sub(cache.left_pad())? / u64::from(cache.size);
        Some(slabs.object(slab, u32::try_from(index).ok()?))
    });
    let stored = session.u64(at).ok();
    let (kind, expected, verdict) = match kind {
        FaultKind::Wild(pointer) => {
            (Kind::FreeList, "an object of the slab", wild(session, slabs, cache, place, at, *pointer, stored))
        }
        FaultKind::Homeless(pointer) => (
            Kind::FreeList,
            "an object of the cache",
            format!("a CPU or sheaf holds {pointer:x}, which is in no slab of the cache"),
        ),
        FaultKind::Again(pointer) => (
            Kind::FreeList,
            "an object that is not free yet",
            format!("{pointer:x} is free twice: a double free, or a list that leads in a circle"),
        ),
        FaultKind::Count { counted, listed } => {
            (Kind::Count, "as many as listed", format!("the slab counts {counted} free objects, its list has {listed}"))
        }
        FaultKind::Unreadable(why) => (Kind::FreeList, "memory", why.clone()),
    };
    let front = object.filter(|_| kind == Kind::FreeList).and_then(|_| verdict::from_front(session, at));
    let verdict = match &front {
        Some(front) => format!("{verdict}, {}", front.text()),
        None => verdict,
    };
    Finding {
        slab: place.map_or(0, |slab| slab.addr),
        object,
        suspect: front.map(|front| front.object),
        found: if kind == Kind::FreeList {
            stored.map(u64::to_le_bytes).unwrap_or_default().to_vec()
        } else {
            Vec::new()
        },
        ..about(number, kind, at, expected.into(), verdict)
    }
}

/// What stands where the link to the next free object should.
fn wild(
    session: &Session,
    slabs: &Slabs,
    cache: &Cache,
    slab: Option<&Slab>,
    at: u64,
    pointer: u64,
    stored: Option<u64>,
) -> String {
    let Some(stored) = stored else { return format!("the list leads to {pointer:x}, which is no object of the slab") };
    let bytes = stored.to_le_bytes();
    if let Some(slab) = slab {
        let is_object =
            |candidate: u64| candidate == 0 || (0..slab.objects).any(|i| slabs.object(slab, i) == candidate);
        if let Some(bit) = (0..64).find(|bit| is_object(pointer ^ (1 << bit))) {
            return format!("bit flip: with bit {bit} the other way round the link is right");
        }
    }
    if let Some((_, home)) = slabs.at(pointer)
        && let Some(other) = slabs.caches.get(home.cache as usize).filter(|other| other.addr != cache.addr)
        && (0..home.objects).any(|i| slabs.object(home, i) == pointer)
    {
        return format!(
            "the list leads to {pointer:x}, an object of {}: it was freed to the wrong cache",
            other.name()
        );
    }
    // the head of a list is kept as it is, a link is mixed with a secret
    let in_object = slab.is_some_and(|slab| (slab.base..slab.end()).contains(&at));
    let text = verdict::text(&bytes).map(|text| format!("text {text:?}")).or_else(|| verdict::pointer(session, stored));
    match text {
        Some(text) if in_object => {
            format!("the link to the next free object was overwritten with {text}: written after it was freed")
        }
        Some(text) => format!("the head of the list was overwritten with {text}"),
        None if in_object && cache.random.is_some() => {
            format!("the link to the next free object was overwritten ({stored:#x}): use after free")
        }
        None => format!("the list leads to {pointer:x}, which is no object of the slab"),
    }
}
