//! Free lists, counters, and lists of slabs: what can be held against each other also where no debugging was on.

use super::{Finding, Kind, verdict};
use crate::slab::{Cache, FaultKind, Slab, Slabs, State};
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
        end: at,
        follows: Vec::new(),
        other: None,
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
    // the size, rounded up, and a word of red zone where that left no room for one (calculate_sizes())
    let rounded = u64::from(cache.inuse).checked_sub(cache.object_size.into());
    if rounded.is_none_or(|rounded| rounded > 8) && cache.flags & slabs.caches.flags.kasan == 0 {
        let text = format!(
            "object_size {:#x} and inuse {:#x} do not go together: the structure was written over; its objects are not looked at",
            cache.object_size, cache.inuse
        );
        out.push(about(number, Kind::Cache, cache.addr, "sizes that fit".into(), text));
    }
    for node in cache.nodes(session)? {
        // those without free objects are on a list only where users are recorded
        let full = node.full.filter(|_| cache.flags & slabs.caches.flags.store_user != 0);
        for (head, count) in
            std::iter::once((node.partial.0, Some(node.nr_partial))).chain(full.map(|full| (full.0, None)))
        {
            match list(session, slabs, cache, head)? {
                Listed::Broken { at, verdict, slab } => {
                    let finding = about(number, Kind::Node, at, "a link that is answered".into(), verdict);
                    let (slab, other) = slab.unwrap_or_default();
                    out.push(Finding { slab, other, ..finding });
                }
                Listed::Whole(listed) if count.is_some_and(|count| count != listed) => out.push(about(
                    number,
                    Kind::Node,
                    node.addr,
                    format!("{} slabs", node.nr_partial),
                    format!("the node counts {} partial slabs, its list has {listed}", node.nr_partial),
                )),
                Listed::Whole(_) | Listed::Missing => {}
            }
        }
    }
    out.extend(slabs.damaged_of(number).map(|slab| Finding {
        slab,
        ..about(
            number,
            Kind::Count,
            slab,
            "numbers of objects that a slab of this cache can have".into(),
            "the slab's counters are none of this cache's: its struct page was written over".into(),
        )
    }));
    // with some of the page map missing, slabs are missing too, and that is no damage
    if slabs.is_complete() && !slabs.damaged_of(number).any(|_| true) {
        out.extend(number_of_slabs(session, slabs, number, cache)?);
    }
    Ok(out)
}

/// What a cache's nodes count: slabs, and objects of them. `None` where they do not.
fn counted(session: &Session, cache: &Cache) -> Result<Option<(u64, u64)>> {
    let (mut slabs, mut objects) = (0u64, 0u64);
    for node in cache.nodes(session)? {
        let (Some(own), Some(total)) = (node.nr_slabs, node.total_objects) else { return Ok(None) };
        (slabs, objects) = (slabs.wrapping_add(own), objects.wrapping_add(total));
    }
    Ok(Some((slabs, objects)))
}

/// What there is of a cache's slabs, held against what its nodes count.
fn number_of_slabs(session: &Session, slabs: &Slabs, number: usize, cache: &Cache) -> Result<Option<Finding>> {
    let here = slabs.of_cache(number);
    let total: u64 = here.iter().map(|slab| u64::from(slab.objects)).sum();
    let Some((counted, objects)) = counted(session, cache)?.filter(|counted| *counted != (here.len() as u64, total))
    else {
        return Ok(None);
    };
    let there = here.len() as u64;
    let other = match there == counted {
        true => None,
        false => other_side(session, slabs, number, cache, there.wrapping_sub(counted))?,
    };
    let why = if there == counted {
        "a damaged counter".into()
    } else if let Some((_, other)) = other {
        let (has, lacks) = if there > counted { (cache.name(), other) } else { (other, cache.name()) };
        format!("{lacks} lacks what {has} has too many: the owner of a slab was written over in its struct page")
    } else if there < counted && !slabs.strangers().is_empty() {
        let first = slabs.strangers().first().copied().unwrap_or_default();
        format!("slabs that name no cache that is known, such as {first:x}: their owner was written over")
    } else {
        "a damaged counter, or slabs whose struct page was written over".into()
    };
    let text = format!("its nodes count {counted} slabs with {objects} objects, there are {there} with {total}: {why}");
    let finding = about(number, Kind::Node, cache.addr, format!("{counted} slabs, {objects} objects"), text);
    Ok(Some(Finding { other: other.map(|(other, _)| other), ..finding }))
}

/// Another cache that has as many slabs too few as this one has too many, or the other way round: its number and name.
fn other_side<'a>(
    session: &Session,
    slabs: &'a Slabs,
    number: usize,
    cache: &Cache,
    surplus: u64,
) -> Result<Option<(usize, &'a str)>> {
    for (other, view) in slabs.caches.iter().enumerate().filter(|(other, view)| *other != number && view.sound()) {
        let Some((counted, _)) = counted(session, view)? else { continue };
        let there = slabs.of_cache(other).len() as u64;
        if counted.wrapping_sub(there) == surplus && view.size.abs_diff(cache.size) < cache.size {
            return Ok(Some((other, view.name())));
        }
    }
    Ok(None)
}

/// A node's list of slabs.
enum Listed {
    /// so many slabs, each link answered by one back
    Whole(u64),
    /// the word that does not fit, and the slab there if it is another cache's, with the number of that
    Broken { at: u64, verdict: String, slab: Option<(u64, Option<usize>)> },
    /// not all of it is in the dump, or it is being changed
    Missing,
}

/// More slabs than memory can have.
const MAX_SLABS: u64 = 1 << 32;

/// Follows the list whose head is at `head`. It needs no memory of where it was: as long as all links are answered no
/// slab can come twice.
fn list(session: &Session, slabs: &Slabs, cache: &Cache, head: u64) -> Result<Listed> {
    let owner = Owner::of(session)?;
    let (mut at, mut count) = (head, 0);
    while count < MAX_SLABS {
        let next = match session.u64(at) {
            Ok(next) => next,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(Listed::Missing),
        };
        let back = match session.u64(next.wrapping_add(8)) {
            Ok(back) => back,
            Err(e) if e.is_control() => return Err(e),
            Err(_) if next >> 63 == 1 && next.is_multiple_of(8) => return Ok(Listed::Missing),
            Err(_) => return Ok(broken(session, at, next, "the next of a list of slabs is")),
        };
        if back != at {
            let what = format!("the prev of a list of slabs should be {at:x}, it is");
            return Ok(if session.is_live() {
                Listed::Missing
            } else {
                broken(session, next.wrapping_add(8), back, &what)
            });
        }
        if next == head {
            return Ok(Listed::Whole(count));
        }
        if let Some(broken) = owner.stranger(session, slabs, cache, next)? {
            return Ok(broken);
        }
        (at, count) = (next, count + 1);
    }
    Ok(Listed::Missing)
}

/// Where, in a `struct slab`, its link is and the pointer to its cache.
struct Owner {
    link: u64,
    cache: u64,
}

impl Owner {
    fn of(session: &Session) -> Result<Owner> {
        let slab = if session.has_struct("slab") { "slab" } else { "page" };
        Ok(Owner { link: crate::slab::link(session)?, cache: session.offset(slab, "slab_cache")? })
    }

    /// What is wrong with a slab on the list of a cache that says it is another's.
    fn stranger(&self, session: &Session, slabs: &Slabs, cache: &Cache, link: u64) -> Result<Option<Listed>> {
        let slab = link.wrapping_sub(self.link);
        let owner = match session.u64(slab.wrapping_add(self.cache)) {
            Ok(owner) => owner,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(None),
        };
        if owner == cache.addr || session.is_live() {
            return Ok(None);
        }
        let other = slabs.caches.at(owner);
        let whose = match other.and_then(|number| slabs.caches.get(number)) {
            Some(other) => format!("a slab of {}", other.name()),
            None => format!("a slab whose cache is {owner:x}, which is none"),
        };
        let verdict = format!("{whose}, {slab:x}, is on this cache's list");
        Ok(Some(Listed::Broken { at: link, verdict, slab: Some((slab, other)) }))
    }
}

fn broken(session: &Session, at: u64, word: u64, what: &str) -> Listed {
    let is = verdict::describe(session, word).unwrap_or_else(|| format!("{word:#x}"));
    Listed::Broken { at, verdict: format!("{what} {is}: written over"), slab: None }
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
            format!("a CPU or sheaf holds {pointer:x}, {}", inside(slabs, number, *pointer)),
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
        state: object.map(|_| State::Free).filter(|_| kind == Kind::FreeList),
        suspect: front.map(|front| front.object),
        found: if kind == Kind::FreeList {
            stored.map(u64::to_le_bytes).unwrap_or_default().to_vec()
        } else {
            Vec::new()
        },
        ..about(number, kind, at, expected.into(), verdict)
    }
}

/// The object that an address lies in behind its start, and how far.
fn interior(slabs: &Slabs, cache: &Cache, slab: &Slab, addr: u64) -> Option<(u64, u64)> {
    let inside = addr.checked_sub(slab.base)?.checked_sub(cache.left_pad())?;
    let index = u32::try_from(inside / u64::from(cache.size)).ok().filter(|index| *index < slab.objects)?;
    let offset = inside % u64::from(cache.size);
    (offset > 0).then(|| (slabs.object(slab, index), offset))
}

/// Whether what was freed at an address has a link that leads on, as SLUB has put it there.
fn goes_on(session: &Session, slabs: &Slabs, cache: &Cache, slab: &Slab, addr: u64) -> bool {
    let at = addr.wrapping_add(cache.offset.into());
    let Ok(next) = session.u64(at).map(|stored| cache.next_free(stored, at)) else { return false };
    next == 0 || (0..slab.objects).any(|i| slabs.object(slab, i) == next)
}

/// What a pointer that a CPU or a sheaf holds is, if not an object of the cache.
fn inside(slabs: &Slabs, number: usize, pointer: u64) -> String {
    let Some((_, slab)) = slabs.at(pointer) else { return "which is in no slab of the cache".into() };
    let Some(cache) = slabs.caches.get(slab.cache as usize) else { return "which is in no slab of the cache".into() };
    match interior(slabs, cache, slab, pointer) {
        Some((object, offset)) if slab.cache as usize == number => {
            format!("{offset:#x} bytes into the object {object:x}: the address of a member was freed")
        }
        _ if slab.cache as usize == number => "which is no object of its slab".into(),
        _ => format!("which is of {}: it was freed to the wrong cache", cache.name()),
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
    if let Some(slab) = slab
        && let Some((object, offset)) = interior(slabs, cache, slab, pointer)
        && goes_on(session, slabs, cache, slab, pointer)
    {
        return format!(
            "the list leads to {pointer:x}, {offset:#x} bytes into the object {object:x}: the address of a member was freed"
        );
    }
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
