//! The patterns round objects, byte by byte (`init_object`, `check_object`, `slab_pad_check` in mm/slub.c).

use super::{Finding, Kind, MAX_SHOWN, verdict};
use crate::slab::{Cache, Slab, Slabs, State, track};
use engine::prelude::*;
use std::{ops::Range, sync::Arc};

/// include/linux/poison.h
const RED_INACTIVE: u8 = 0xbb;
const RED_ACTIVE: u8 = 0xcc;
const POISON_INUSE: u8 = 0x5a;
const POISON_FREE: u8 = 0x6b;
const POISON_END: u8 = 0xa5;

/// What the kernel keeps of the size that `kmalloc()` was asked for, behind the tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrigSize {
    /// nothing: before Linux 6.1 (6edf2576a6cc)
    None,
    /// the size
    Kept,
    /// the size, and a red zone behind so many bytes: since Linux 6.2 (946fa0dbf2d8)
    Fenced,
}

/// How this kernel fences its objects. The types do not tell what follows the tracks: the objects do.
#[derive(Debug)]
pub struct Fences {
    flags: crate::slab::Flags,
    /// bytes of a `struct track`; 0 if there are none
    track: u64,
    orig: OrigSize,
    /// what is freed is filled with zeros (`init_on_free=1`)
    zeroed: bool,
}

/// Objects that are asked about the size that they keep.
const SAMPLE: usize = 2000;

impl Fences {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Fences>> {
        session.once(|| {
            let slabs = Slabs::of(session)?;
            let track = session.size_of("track").unwrap_or(0);
            let zeroed = is_zeroed(session);
            let mut fences = Fences { flags: slabs.caches.flags, track, orig: OrigSize::None, zeroed };
            fences.orig = fences.sample(session, &slabs)?;
            Ok(fences)
        })
    }

    /// A vote among the allocated objects of kmalloc's caches.
    fn sample(&self, session: &Session, slabs: &Slabs) -> Result<OrigSize> {
        let (mut asked, mut kept, mut fenced, mut could) = (0usize, 0usize, 0usize, 0usize);
        for (number, cache) in slabs.caches.iter().enumerate() {
            let plan = self.plan(cache);
            if !self.is_kmalloc(cache) || plan.tracks == 0 || !plan.red || asked >= SAMPLE {
                continue;
            }
            let (size, at) = (u64::from(cache.object_size), plan.tracks_end);
            if at + 4 > plan.end {
                continue;
            }
            let ended = slabs.each(session, number, State::Allocated, &mut |object| {
                let Ok(orig) = session.u32(object.wrapping_add(at)).map(u64::from) else { return Ok(()) };
                asked += 1;
                kept += usize::from(orig <= size);
                if orig < size && size - orig <= 4096 {
                    could += 1;
                    let tail = session.bytes(object.wrapping_add(orig), (size - orig) as usize);
                    fenced += usize::from(tail.is_ok_and(|tail| tail.iter().all(|byte| *byte == RED_ACTIVE)));
                }
                if asked < SAMPLE { Ok(()) } else { Err(Error::Stop) }
            });
            match ended {
                Ok(()) | Err(Error::Stop) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(match () {
            () if asked == 0 || kept * 10 < asked * 9 => OrigSize::None,
            () if could == 0 || fenced * 10 < could * 9 => OrigSize::Kept,
            () => OrigSize::Fenced,
        })
    }

    /// Whether a cache is one of `kmalloc()`'s own: before Linux 6.1 no flag says so, but there was no size kept either.
    fn is_kmalloc(&self, cache: &Cache) -> bool {
        cache.flags & self.flags.kmalloc != 0 && cache.name().contains("kmalloc")
    }

    /// Where, in the objects of a cache, what lies.
    pub(super) fn plan(&self, cache: &Cache) -> Plan {
        let has = |flag| cache.flags & flag != 0;
        let (red, poison, user) = (has(self.flags.red_zone), has(self.flags.poison), has(self.flags.store_user));
        let tracks = if user && self.track > 0 { 2 } else { 0 };
        let tracks_end = cache.info_end() + tracks * self.track;
        let orig = if user && self.is_kmalloc(cache) { self.orig } else { OrigSize::None };
        Plan {
            red,
            poison,
            object_poison: has(self.flags.object_poison),
            tracks,
            tracks_end,
            // an int, or a long with its upper half: what is behind the half may be padding or zeros
            padding: if orig == OrigSize::None { tracks_end } else { tracks_end + 8 },
            end: u64::from(cache.size).saturating_sub(cache.left_pad()),
            orig,
            // slab_want_init_on_free()
            zeroed: self.zeroed && cache.ctor == 0 && !poison && !has(self.flags.typesafe_by_rcu),
        }
    }
}

/// Where, in an object, what lies: offsets from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    red: bool,
    poison: bool,
    object_poison: bool,
    tracks: u64,
    tracks_end: u64,
    padding: u64,
    end: u64,
    orig: OrigSize,
    zeroed: bool,
}

impl Plan {
    /// Where the records behind an object end.
    pub fn records_end(&self) -> u64 {
        self.padding
    }

    /// Whether there is anything to compare.
    pub fn any(&self) -> bool {
        self.red || self.poison || self.tracks > 0 || self.zeroed
    }
}

/// Bytes round an object that all hold one value.
pub(super) struct Zone {
    /// what is damaged if one does not
    pub kind: Kind,
    /// where, in the slab, the range counts from
    pub base: u64,
    pub range: Range<u64>,
    pub value: u8,
}

/// A slab under comparison.
pub(super) struct Slot<'a> {
    pub session: &'a Session,
    pub cache: &'a Cache,
    pub number: usize,
    pub slab: &'a Slab,
    pub memory: &'a [u8],
    pub plan: &'a Plan,
    pub extensions: Option<Extensions>,
}

/// Where, in a slab's own memory, the kernel keeps what it accounts its objects to (`struct slabobj_ext`): in the
/// padding of objects or behind the last one, since Linux 7.0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extensions {
    /// of the first object's: offset in the slab
    start: u64,
    /// bytes that each has
    size: u64,
    /// they lie in their objects, and not all behind the last one
    inside: bool,
}

impl Extensions {
    /// Those of a slab, if it keeps them itself. Low bits of the pointer say what it is.
    pub fn of(session: &Session, cache: &Cache, slab: &Slab) -> Option<Extensions> {
        let member = session.offset("slab", "obj_exts").ok()?;
        let at = session.u64(slab.addr.wrapping_add(member)).ok()? & !7;
        let start = at.checked_sub(slab.base).filter(|start| *start < slab.bytes.into())?;
        let inside = start < u64::from(slab.objects) * u64::from(cache.size);
        Some(Extensions { start, size: session.size_of("slabobj_ext").unwrap_or(8), inside })
    }

    /// Where in an object its own is.
    fn in_object(&self, cache: &Cache) -> Option<Range<u64>> {
        let from = self.start.checked_sub(cache.left_pad()).filter(|_| self.inside)? % u64::from(cache.size);
        Some(from..from + self.size)
    }

    /// Those behind the last of so many objects.
    fn behind(&self, objects: u32) -> Option<Range<u64>> {
        (!self.inside).then(|| self.start..self.start + self.size * u64::from(objects))
    }
}

/// What is left of a range without another.
fn without(range: Range<u64>, hole: Option<Range<u64>>) -> [Range<u64>; 2] {
    match hole.filter(|hole| hole.start < range.end && range.start < hole.end) {
        Some(hole) => [range.start..hole.start.max(range.start), hole.end.min(range.end)..range.end],
        None => [range, 0..0],
    }
}

/// The bytes of a range that differ from what `expected` gives for their place: first, last and how many.
fn differing(bytes: &[u8], expected: impl Fn(usize) -> u8) -> Option<(usize, usize, usize)> {
    let mut found: Option<(usize, usize, usize)> = None;
    for (i, byte) in bytes.iter().enumerate() {
        if *byte != expected(i) {
            let (first, _, count) = found.unwrap_or((i, i, 0));
            found = Some((first, i, count + 1));
        }
    }
    found
}

impl Slot<'_> {
    fn bytes(&self, start: u64, range: &Range<u64>) -> Option<&[u8]> {
        let from = usize::try_from(start.checked_add(range.start)?).ok()?;
        let to = usize::try_from(start.checked_add(range.end)?).ok()?;
        self.memory.get(from..to).filter(|bytes| !bytes.is_empty())
    }

    /// Compares the surroundings of object number `index`.
    pub fn object(&self, index: u32, state: State, out: &mut Vec<Finding>) {
        let start = self.start(index);
        let red = match self.red_value(start, state) {
            Ok(red) => red,
            Err(finding) => {
                out.push(*finding);
                return;
            }
        };
        let object = Some((start, state));
        for zone in self.zones(start, red) {
            self.compare(zone.kind, zone.base, zone.range, object, zone.value, out);
        }
        if let Some(fill) = self.fill(state) {
            self.poison(start, self.cache.object_size.into(), fill, out);
        }
        if state == State::Allocated && self.plan.tracks > 0 {
            self.track(start, out);
        }
    }

    /// Where, in the slab, object number `index` starts.
    pub fn start(&self, index: u32) -> u64 {
        self.cache.left_pad() + u64::from(index) * u64::from(self.cache.size)
    }

    /// What an object in this state is filled with, and its last byte.
    pub fn fill(&self, state: State) -> Option<(u8, u8)> {
        match state {
            State::Free if self.plan.object_poison => Some((POISON_FREE, POISON_END)),
            State::Free if self.plan.zeroed => Some((0, 0)),
            _ => None,
        }
    }

    /// The fences of the object at `start`, in the order of addresses, if its red zones hold `red`.
    pub fn zones(&self, start: u64, red: u8) -> impl Iterator<Item = Zone> + use<> {
        let (cache, plan) = (self.cache, self.plan);
        let (pad, size, inuse) = (cache.left_pad(), u64::from(cache.object_size), u64::from(cache.inuse));
        let zone = |kind, base, range, value| Some(Zone { kind, base, range, value });
        let mut zones = [const { None }; 5];
        if plan.red {
            let fence = self.tail(start, red).unwrap_or(size);
            zones[0] = zone(Kind::LeftRedzone, start - pad, 0..pad, red);
            zones[1] = zone(Kind::Tail, start, fence..size, red);
            zones[2] = zone(Kind::RightRedzone, start, size..inuse, red);
        } else if plan.poison {
            zones[2] = zone(Kind::Padding, start, size..inuse, POISON_INUSE);
        }
        if plan.poison && plan.padding < plan.end {
            let hole = self.extensions.and_then(|extensions| extensions.in_object(cache));
            let [one, two] = without(plan.padding..plan.end, hole);
            zones[3] = zone(Kind::Padding, start, one, POISON_INUSE);
            zones[4] = zone(Kind::Padding, start, two, POISON_INUSE);
        }
        zones.into_iter().flatten().filter(|zone| !zone.range.is_empty())
    }

    /// What red zones of an object should hold. A state that contradicts all of them is a finding of its own.
    pub fn red_value(&self, start: u64, state: State) -> Result<u8, Box<Finding>> {
        let pad = self.cache.left_pad();
        let zones = [
            self.bytes(start.wrapping_sub(pad), &(0..pad)),
            self.bytes(start, &(self.cache.object_size.into()..self.cache.inuse.into())),
        ];
        let all = |value: u8| {
            let mut bytes = zones.iter().flatten().flat_map(|zone| zone.iter()).peekable();
            bytes.peek().is_some() && bytes.all(|byte| *byte == value)
        };
        let (own, other, text) = match state {
            State::Allocated => (
                RED_ACTIVE,
                RED_INACTIVE,
                "its red zones say that it is free, but it is on no free list: a list that was cut short",
            ),
            State::Free => (
                RED_INACTIVE,
                RED_ACTIVE,
                "it is on a free list, but its red zones say that it is in use: a list that was overwritten",
            ),
            _ => return Ok(if all(RED_INACTIVE) { RED_INACTIVE } else { RED_ACTIVE }),
        };
        if !self.plan.red || !all(other) {
            return Ok(own);
        }
        let at = self.slab.base.wrapping_add(start);
        Err(Box::new(Finding {
            verdict: text.into(),
            ..self.finding(Kind::State, at, Some((start, state)), format!("{own:#x}"), &[other], 0)
        }))
    }

    /// Bytes of an allocated `kmalloc()` object that were asked for, where the rest is fenced.
    fn tail(&self, start: u64, red: u8) -> Option<u64> {
        if self.plan.orig != OrigSize::Fenced || red != RED_ACTIVE {
            return None;
        }
        let at = self.plan.tracks_end;
        let bytes = self.bytes(start, &(at..at + 4))?;
        let size = u64::from(u32::from_le_bytes(bytes.try_into().ok()?));
        (size <= self.cache.object_size.into()).then_some(size)
    }

    /// Compares a free object with what it is filled with: all but its last byte, and that.
    fn poison(&self, start: u64, size: u64, (fill, end): (u8, u8), out: &mut Vec<Finding>) {
        let Some(bytes) = self.bytes(start, &(0..size)) else { return };
        // the link to the next free object, where it lies inside
        let link = self.cache.offset as usize..self.cache.offset as usize + 8;
        let last = bytes.len() - 1;
        let expected = |i: usize| match i {
            i if link.contains(&i) => bytes.get(i).copied().unwrap_or_default(),
            i if i == last => end,
            _ => fill,
        };
        let wanted = |i: usize| if i == last { end } else { fill };
        let Some((first, end, count)) = differing(bytes, expected) else { return };
        let at = self.slab.base.wrapping_add(start).wrapping_add(first as u64);
        let wanted = wanted(first);
        let found = bytes.get(first..=end).unwrap_or_default();
        let mut finding =
            self.finding(Kind::Poison, at, Some((start, State::Free)), format!("{wanted:#x}"), found, count);
        finding.verdict = verdict::poison(self.session, first as u64, found, count, wanted);
        out.push(finding);
    }

    /// Compares a range with one value.
    fn compare(
        &self,
        kind: Kind,
        start: u64,
        range: Range<u64>,
        object: Option<(u64, State)>,
        value: u8,
        out: &mut Vec<Finding>,
    ) {
        let Some(bytes) = self.bytes(start, &range) else { return };
        let Some((first, last, count)) = differing(bytes, |_| value) else { return };
        let at = self.slab.base.wrapping_add(start).wrapping_add(range.start).wrapping_add(first as u64);
        let found = bytes.get(first..=last).unwrap_or_default();
        let mut finding = self.finding(kind, at, object, format!("{value:#x}"), found, count);
        let shape = verdict::Shape { first, last, len: bytes.len(), value };
        let neighbour = object.and_then(|(start, _)| self.neighbour(start));
        (finding.verdict, finding.suspect) = verdict::fence(self.session, kind, &shape, found, count, neighbour);
        out.push(finding);
    }

    /// The object in front of one in the same slab.
    fn neighbour(&self, start: u64) -> Option<u64> {
        let before = start.checked_sub(self.cache.size.into())?;
        Some(self.slab.base.wrapping_add(before))
    }

    fn track(&self, start: u64, out: &mut Vec<Finding>) {
        let object = self.slab.base.wrapping_add(start);
        let Ok(Some(track)) = track::track(self.session, self.number, object, track::Which::Alloc) else { return };
        let Some(what) = track.absurd() else { return };
        let bytes = self.bytes(start, &(self.cache.info_end()..self.cache.info_end() + 8)).unwrap_or_default();
        out.push(Finding {
            verdict: format!("its record of allocation names {what}: written over"),
            ..self.finding(
                Kind::Track,
                track.addr,
                Some((start, State::Allocated)),
                "a caller".into(),
                bytes,
                bytes.len(),
            )
        });
    }

    /// Compares what is behind a slab's last object.
    pub fn end(&self, out: &mut Vec<Finding>) {
        if self.plan.poison {
            let used = u64::from(self.slab.objects) * u64::from(self.cache.size);
            let hole = self.extensions.and_then(|extensions| extensions.behind(self.slab.objects));
            for part in without(used..self.slab.bytes.into(), hole) {
                self.compare(Kind::SlabPadding, 0, part, None, POISON_INUSE, out);
            }
        }
    }

    fn finding(
        &self,
        kind: Kind,
        at: u64,
        object: Option<(u64, State)>,
        expected: String,
        found: &[u8],
        differ: usize,
    ) -> Finding {
        Finding {
            kind,
            cache: self.number,
            slab: self.slab.addr,
            object: object.map(|(start, _)| self.slab.base.wrapping_add(start)),
            state: object.map(|(_, state)| state),
            at,
            expected,
            found: found.iter().copied().take(MAX_SHOWN).collect(),
            differ,
            end: at.wrapping_add(found.len() as u64),
            follows: Vec::new(),
            other: None,
            verdict: String::new(),
            suspect: None,
        }
    }
}

/// Whether the kernel was started with `init_on_free=1`, or is built so (CONFIG_INIT_ON_FREE_DEFAULT_ON).
pub(crate) fn is_zeroed(session: &Session) -> bool {
    // a struct static_key begins with its count
    session.kernel_symbol("init_on_free").and_then(|key| session.u32(key).ok()).is_some_and(|count| count as i32 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut() {
        assert_eq!(without(10..20, None), [10..20, 0..0]);
        assert_eq!(without(10..20, Some(12..14)), [10..12, 14..20]);
        assert_eq!(without(10..20, Some(5..14)), [10..10, 14..20]);
        assert_eq!(without(10..20, Some(18..40)), [10..18, 20..20]);
        assert_eq!(without(10..20, Some(20..40)), [10..20, 0..0]);
    }

    #[test]
    fn what_differs_is_found() {
        assert_eq!(differing(&[1, 1, 1], |_| 1), None);
        assert_eq!(differing(&[1, 2, 1, 3, 1], |_| 1), Some((1, 3, 2)));
        assert_eq!(differing(&[], |_| 1), None);
    }
}
