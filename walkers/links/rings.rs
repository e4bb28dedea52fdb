//! Links of lists: two words, `next` and `prev`, each of which leads to an entry that leads back.
//!
//! An hlist's `next` and `pprev` are the same to anybody who looks at one entry: `pprev` leads to the word that leads
//! here. Only its ends differ, where there is a null, or a small odd number (`hlist_nulls`).
//!
//! Where one side of an entry fits and is confirmed by the entry behind that, and the other side does not, the ring is
//! broken there. One damaged word breaks it for two entries, of which the one tells what should stand there.

use super::{Finding, Kind, World, front, gaps, is_pointer};
use crate::slab::{self, verify::verdict};
use engine::prelude::*;
use std::collections::HashSet;

/// A ring that is broken on one side of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    /// the entry
    at: u64,
    /// where it leads on that side
    to: u64,
    /// it is `next` that does not fit, and not `prev`
    forward: bool,
    /// both sides fit, but this one is free
    freed: bool,
}

/// `LIST_POISON1` and `LIST_POISON2`, which a taken off entry leads to (include/linux/poison.h), with
/// CONFIG_ILLEGAL_POINTER_VALUE as on x86-64 and arm64.
const POISON: [u64; 2] = [0xdead_0000_0000_0100, 0xdead_0000_0000_0122];
/// Odd numbers up to here end an hlist_nulls: twice a slot's number, and one.
const MAX_NULLS: u64 = 1 << 33;
/// Entries that are followed to see whether a list comes back.
pub(super) const MAX_STEPS: usize = 1 << 20;

/// Whether a word ends a list.
fn ends(word: u64) -> bool {
    word == 0 || (word & 1 == 1 && word < MAX_NULLS)
}

/// A word, and what is where it leads.
type Side = (u64, Option<[u64; 2]>);

/// Holds the link at `at`, a `next` and a `prev`, against the entries that it leads to. True if it is one.
pub fn look(world: &World<'_>, at: u64, link: [Side; 2], out: &mut Vec<Break>) -> Result<bool> {
    let [(next, ahead), (prev, behind)] = link;
    if next == at || prev == at {
        return Ok(false);
    }
    let fits_ahead = ahead.is_some_and(|[_, back]| back == at);
    let fits_behind = behind.is_some_and(|[forth, _]| forth == at);
    match (fits_ahead, fits_behind, ahead, behind) {
        (true, true, Some(ahead), Some(behind)) => {
            if is_gone(world, next)? && confirmed(world, prev, behind, at, false)? {
                out.push(Break { at, to: next, forward: true, freed: true });
            } else if is_gone(world, prev)? && confirmed(world, next, ahead, at, true)? {
                out.push(Break { at, to: prev, forward: false, freed: true });
            }
            Ok(true)
        }
        (false, true, _, Some(behind)) if !marked(world, at, next)? => {
            let poisoned = ahead == Some(POISON);
            if !ends(next) && (poisoned || confirmed(world, prev, behind, at, false)?) {
                out.push(Break { at, to: next, forward: true, freed: false });
            }
            Ok(false)
        }
        (true, false, Some(ahead), _) => {
            if !ends(prev) && confirmed(world, next, ahead, at, true)? {
                out.push(Break { at, to: prev, forward: false, freed: false });
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Whether an entry lies in an object that was freed, or on a stack whose function has returned.
fn is_gone(world: &World<'_>, entry: u64) -> Result<bool> {
    Ok(world.left(entry).is_some() || world.freed(entry)?.is_some())
}

/// Whether the lowest bits of a `next` are a mark, and the rest leads to an entry that leads back: ftrace's ring of pages
/// marks its head so (`RB_PAGE_HEAD`).
fn marked(world: &World<'_>, at: u64, next: u64) -> Result<bool> {
    let to = next & !3;
    Ok(to != next && is_pointer(to) && world.read::<2>(to)?.is_some_and(|[_, back]| back == at))
}

/// Whether the entry that leads to `at` is itself one of a list, and both it and the one behind it are in use.
fn confirmed(world: &World<'_>, entry: u64, [next, prev]: [u64; 2], at: u64, ahead: bool) -> Result<bool> {
    let beyond = if ahead { next } else { prev };
    if !is_pointer(beyond) || world.freed(entry)?.is_some() {
        return Ok(false);
    }
    if beyond == at {
        return Ok(true);
    }
    let Some([forth, back]) = world.read::<2>(beyond)? else { return Ok(false) };
    let answers = if ahead { back } else { forth };
    Ok(answers == entry && world.freed(beyond)?.is_none())
}

/// Puts together what belongs to one damaged word, and says what it is.
pub fn judge(world: &World<'_>, breaks: Vec<Break>) -> Result<Vec<Finding>> {
    let (forward, backward): (Vec<Break>, Vec<Break>) = breaks.into_iter().partition(|b| b.forward);
    let mut out = Vec::new();
    let mut left: HashSet<u64> = backward.iter().filter(|b| !b.freed).map(|b| b.at).collect();
    for one in &forward {
        let other = backward.iter().find(|b| b.at == one.to || b.to == one.at || b.to == one.to);
        let found = match other {
            None if !one.freed && is_pointer(one.to) => gaps::between(world, one.at, one.to, &left)?,
            _ => None,
        };
        other.inspect(|other| _ = left.remove(&other.at));
        match found {
            Some(found) => out.push(found),
            None => out.extend(next_of(world, one, other)?),
        }
    }
    for one in backward.iter().filter(|b| left.contains(&b.at)) {
        out.extend(gaps::head(world, one.at, one.to)?);
    }
    // a prev that does not fit proves nothing alone: the head of an hlist has none, and what is behind it is anything
    for one in backward.iter().filter(|b| b.freed) {
        out.extend(dead(world, one.at, one.to)?);
    }
    // a freed entry has two neighbours
    let mut told = HashSet::new();
    out.retain(|finding| finding.freed.is_none_or(|freed| told.insert(freed)));
    Ok(out)
}

/// A `next` that does not fit, and the `prev` that it breaks as well.
fn next_of(world: &World<'_>, one: &Break, other: Option<&Break>) -> Result<Option<Finding>> {
    let (at, to) = (one.at, one.to);
    let finding = |kind, at, verdict| Ok(Some(Finding { kind, at, verdict, freed: None }));
    // a pointer of which a bit is wrong leads anywhere, also into what is free; two entries may differ in one bit as well
    let gone = dead(world, at, to)?;
    let poisoned = gone.as_ref().is_some_and(|finding| finding.kind == Kind::Poisoned);
    let front = match other.filter(|other| other.to == at && !poisoned) {
        Some(other) => front::overflow(world, at, to, other.at)?,
        None => None,
    };
    if let Some(what) = front {
        let should = other.map_or(0, |other| other.at);
        return finding(Kind::Overwritten, at, format!("next should be {should:x}, {what}"));
    }
    let flipped = !poisoned
        && other.is_some_and(|other| other.to == at && (other.at ^ to).is_power_of_two())
        && !comes_back(world, to, at)?;
    if !flipped && gone.is_some() {
        return Ok(gone);
    }
    match other {
        Some(other) if other.at == to => {
            let (kind, what) = found(world, other.to, Some(at));
            finding(kind, to.wrapping_add(8), format!("prev should be {at:x}, {what}"))
        }
        Some(other) if other.to == at => {
            if !flipped && comes_back(world, to, at)? {
                let verdict = format!("next leads back to {to:x}, not on to {:x}: the list never ends", other.at);
                return finding(Kind::Cycle, at, verdict);
            }
            let (kind, what) = found(world, to, Some(other.at));
            finding(kind, at, format!("next should be {:x}, {what}", other.at))
        }
        Some(_) => {
            let words = world.read::<2>(to)?.unwrap_or_default();
            let mut what = match again(world, to, words)? {
                Some(what) => what,
                None => found(world, words[0], None).1,
            };
            what.extend(verdict::from_front(world.session, to).map(|front| format!(", {}", front.text())));
            let verdict = format!("both neighbours lead here, and it leads to neither: {what}");
            finding(Kind::Overwritten, to, verdict)
        }
        None if is_pointer(to) => alone(world, at, to),
        None => {
            let (kind, what) = found(world, to, None);
            finding(kind, at, format!("next leads to no entry that leads back: {what}"))
        }
    }
}

/// What became of an entry that leads to neither of its neighbours, if it is still one: of itself, or of another list.
fn again(world: &World<'_>, entry: u64, [next, prev]: [u64; 2]) -> Result<Option<String>> {
    if next == entry && prev == entry {
        return Ok(Some("it leads to itself, initialised again while on the list".into()));
    }
    let Some([_, twin]) = (if is_pointer(next) { world.read::<2>(next)? } else { None }) else { return Ok(None) };
    let is_copy = twin != entry && is_pointer(twin) && world.read::<2>(twin)? == Some([next, prev]);
    Ok(is_copy.then(|| format!("it has the links of {twin:x}, which was copied over it")))
}

/// A `next` whose entry leads back elsewhere, and no more witnesses. Only if the list comes back is it known to be one.
fn alone(world: &World<'_>, at: u64, to: u64) -> Result<Option<Finding>> {
    let Some([next, back]) = world.read::<2>(to)?.filter(|[next, _]| *next != to) else { return Ok(None) };
    let two_lead_here = is_pointer(back) && world.read::<1>(back)?.is_some_and(|[next]| next == to);
    // an entry that ends in a null is none that comes back, but the one behind it may know it
    let is_known =
        |next| Ok::<_, Error>(is_pointer(next) && world.read::<2>(next)?.is_some_and(|[_, back]| back == to));
    let comes_back = comes_back(world, to, at)?;
    if two_lead_here && !comes_back && are_alike(world, at, to)? {
        let verdict = format!(
            "{at:x} leads here, and {back:x} does as well: one entry in two chains, it was added again without being taken \
             out"
        );
        return Ok(Some(Finding { kind: Kind::Torn, at: to.wrapping_add(8), verdict, freed: None }));
    }
    if !comes_back && (two_lead_here || !is_pointer(back) || !is_known(next)?) {
        return Ok(None);
    }
    Ok(Some(if two_lead_here {
        let verdict = format!("next leads back to {to:x}, where {back:x} leads as well: the list never ends");
        Finding { kind: Kind::Cycle, at, verdict, freed: None }
    } else {
        let (kind, what) = found(world, back, Some(at));
        let verdict = format!("prev should be {at:x}, {what}");
        Finding { kind, at: to.wrapping_add(8), verdict, freed: None }
    }))
}

/// Whether two entries are the same member of two objects of one cache: entries of lists of one kind.
fn are_alike(world: &World<'_>, one: u64, other: u64) -> Result<bool> {
    let (Some(one), Some(other)) = (slab::find(world.session, one)?, slab::find(world.session, other)?) else {
        return Ok(false);
    };
    Ok(one.cache == other.cache && one.offset == other.offset && one.object != other.object)
}

/// An entry that somebody leads to and that is no longer one.
fn dead(world: &World<'_>, at: u64, to: u64) -> Result<Option<Finding>> {
    if !is_pointer(to) {
        return Ok(None);
    }
    if let Some(task) = world.left(to) {
        let verdict = match task {
            0 => format!("leads to {to:x}, on the stack of a task that has ended"),
            _ => format!(
                "leads to {to:x}, on the stack of task {task:x}, in a part that is not in use: its function returned"
            ),
        };
        return Ok(Some(Finding { kind: Kind::Freed, at, verdict, freed: None }));
    }
    if let Some(freed) = world.freed(to)? {
        let verdict = format!("leads to {to:x}, in an object that was freed while on the list");
        return Ok(Some(Finding { kind: Kind::Freed, at, verdict, freed: Some(freed) }));
    }
    let poisoned = world.read::<2>(to)?.is_some_and(|[next, prev]| next == POISON[0] || prev == POISON[1]);
    Ok(poisoned.then(|| Finding {
        kind: Kind::Poisoned,
        at,
        verdict: format!("leads to {to:x}, which was taken off its list (LIST_POISON)"),
        freed: None,
    }))
}

/// What stands where a link should.
fn found(world: &World<'_>, word: u64, should: Option<u64>) -> (Kind, String) {
    if let Some(bit) = should.map(|should| should ^ word).filter(|wrong| wrong.is_power_of_two()) {
        return (Kind::Overwritten, format!("a bit flip: only bit {} is wrong", bit.trailing_zeros()));
    }
    if POISON.contains(&word) {
        return (Kind::Poisoned, "it is LIST_POISON: taken off its list".into());
    }
    match verdict::describe(world.session, word) {
        Some(what) if is_pointer(word) => (Kind::Torn, format!("it is {what}")),
        Some(what) => (Kind::Overwritten, format!("it is {what}")),
        None if is_pointer(word) => (Kind::Torn, format!("it is {word:x}")),
        None => (Kind::Overwritten, format!("it is {word:#x}")),
    }
}

/// Whether the list from `first` on comes to `at`, without an end.
pub(super) fn comes_back(world: &World<'_>, first: u64, at: u64) -> Result<bool> {
    let mut entry = first;
    for _ in 0..MAX_STEPS {
        if entry == at {
            return Ok(true);
        }
        match world.read::<1>(entry)? {
            Some([next]) if is_pointer(next) && next != first => entry = next,
            _ => return Ok(false),
        }
    }
    Ok(false)
}
