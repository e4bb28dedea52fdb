//! How far a write went, and what follows from what.
//!
//! One overflow damages a red zone, the records behind it, padding, the red zone of the next object, and so on. What one
//! write can have done, without a fence in between that it left whole, is one finding, which says how far it is seen to
//! have gone. Likewise a free list that was written over leaves free objects behind on which no list has them, and a
//! counter that fits no list.

use super::{Finding, Kind, fences::Slot, verdict};
use crate::slab::{State, track};
use std::collections::HashMap;

/// Bytes of a write that may, by chance, be what a fence holds.
const SLACK: u64 = 2;
/// Bytes of one value that are a fill.
const MIN_FILL: usize = 4;

/// Whether a finding is of bytes that were written over.
fn is_write(kind: Kind) -> bool {
    use Kind::{LeftRedzone, Padding, Poison, RightRedzone, SlabPadding, Tail, Track};
    matches!(kind, LeftRedzone | RightRedzone | Tail | Poison | Padding | SlabPadding | Track)
}

/// Puts together the findings in the memory of a slab that are of one write. `state` tells what the objects are.
pub(super) fn join(slot: &Slot<'_>, mut findings: Vec<Finding>, state: &dyn Fn(u32) -> State) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.at);
    let mut out: Vec<Finding> = Vec::new();
    for finding in findings {
        let goes_on = |last: &&mut Finding| {
            is_write(last.kind) && is_write(finding.kind) && slot.whole(last.end, finding.at, state) <= SLACK
        };
        match out.last_mut().filter(goes_on) {
            Some(last) => {
                last.end = last.end.max(finding.end);
                last.follows.push(finding);
            }
            None => out.push(finding),
        }
        out.last_mut().into_iter().for_each(|last| slot.over_records(last));
    }
    out.iter_mut().for_each(|finding| slot.tell(finding, state));
    out
}

/// Findings of a cache with those under them that follow from others, sorted.
pub(super) fn gather(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|f| (f.slab, f.at, f.kind));
    let mut out: Vec<Finding> = Vec::new();
    for finding in findings {
        // the link to the next free object, or its record, in the middle of what was written over
        let inside = |last: &&mut Finding| {
            last.slab == finding.slab && is_write(last.kind) && (last.at..last.end).contains(&finding.at)
        };
        match out.last_mut().filter(inside) {
            // text that runs on from the object in front
            Some(last) if last.kind == Kind::Poison && finding.suspect.is_some() => {
                let poison = std::mem::replace(last, finding);
                last.follows.push(poison);
            }
            Some(last) => last.follows.push(finding),
            None => out.push(finding),
        }
    }
    out = behind_lists(out);
    out.sort_by_key(|f| (f.slab, f.object, f.at));
    out
}

/// Puts under a free list that was written over what it left behind in its slab: free objects on no list, and a counter;
/// and under a counter, where the list merely ends early, those objects.
fn behind_lists(findings: Vec<Finding>) -> Vec<Finding> {
    let rank = |finding: &Finding| match finding.kind {
        Kind::FreeList => 3,
        Kind::Count => 2,
        Kind::State if finding.state != Some(State::Free) => 1,
        _ => 0,
    };
    let of = |finding: &Finding| finding.follows.iter().map(rank).max().unwrap_or(0).max(rank(finding));
    let mut best: HashMap<u64, (u8, usize)> = HashMap::new();
    for (number, finding) in findings.iter().enumerate().filter(|(_, finding)| finding.slab != 0) {
        let root = best.entry(finding.slab).or_insert((0, number));
        if of(finding) > root.0 {
            *root = (of(finding), number);
        }
    }
    let (mut out, mut behind) = (Vec::new(), Vec::new());
    for (number, finding) in findings.into_iter().enumerate() {
        match best.get(&finding.slab) {
            Some((rank_of, root))
                if *root != number && matches!(rank(&finding), 1 | 2) && rank(&finding) < *rank_of =>
            {
                behind.push((*root, finding));
            }
            _ => out.push((number, finding)),
        }
    }
    for (root, finding) in behind {
        out.iter_mut().filter(|(number, _)| *number == root).for_each(|(_, root)| root.follows.push(finding.clone()));
    }
    out.into_iter().map(|(_, finding)| finding).collect()
}

impl Slot<'_> {
    /// How many bytes of fences between two addresses of the slab are as they should be.
    fn whole(&self, from: u64, to: u64, state: &dyn Fn(u32) -> State) -> u64 {
        let (from, to) = (from.wrapping_sub(self.slab.base), to.wrapping_sub(self.slab.base));
        if from >= to {
            return 0;
        }
        let size = u64::from(self.cache.size).max(1);
        let count = |range: std::ops::Range<u64>, value: u8| {
            let (start, end) = (range.start.max(from), range.end.min(to));
            let bytes = self.memory.get(start as usize..end.max(start) as usize).unwrap_or_default();
            bytes.iter().filter(|byte| **byte == value).count() as u64
        };
        let mut whole = 0;
        for index in (from / size)..=(to / size).min(u64::from(self.slab.objects).saturating_sub(1)) {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let (start, state) = (self.start(index), state(index));
            for zone in self.red_value(start, state).into_iter().flat_map(|red| self.zones(start, red)) {
                whole += count(zone.base + zone.range.start..zone.base + zone.range.end, zone.value);
            }
            if let Some((fill, _)) = self.fill(state) {
                whole += count(start..start + u64::from(self.cache.object_size), fill);
            }
        }
        whole
    }

    /// The object whose share of the slab an address lies in: its start, in the slab, and its number.
    fn owner(&self, at: u64) -> Option<(u64, u32)> {
        let index = at.checked_sub(self.slab.base)? / u64::from(self.cache.size);
        let index = u32::try_from(index).ok().filter(|index| *index < self.slab.objects)?;
        Some((self.start(index), index))
    }

    /// Follows a write that has reached the end of an object's red zone over the records behind it.
    fn over_records(&self, finding: &mut Finding) {
        let last = finding.follows.last().unwrap_or(finding);
        let is_at_end = matches!(last.kind, Kind::RightRedzone | Kind::Tail | Kind::Track);
        let Some((start, _)) = self.owner(finding.at.max(finding.end.saturating_sub(1))).filter(|_| is_at_end) else {
            return;
        };
        let object = self.slab.base.wrapping_add(start);
        let (fence, records) = (object + u64::from(self.cache.inuse), object + self.cache.info_end());
        if finding.end + SLACK < fence || finding.end >= object + self.plan.records_end() {
            return;
        }
        // an object in use has there what it had as a free one
        let link = self.cache.next_free(self.session.u64(fence).unwrap_or(0), fence);
        let is_link = link == 0 || (self.slab.base..self.slab.end()).contains(&link);
        if records > fence && !is_link {
            finding.end = finding.end.max(records);
        }
        if let Ok(Some(end)) = track::spoilt(self.session, self.number, object) {
            finding.end = finding.end.max(object.wrapping_add(end));
        }
    }

    /// Whether a byte is one of a fence.
    fn is_fenced(&self, at: u64, state: &dyn Fn(u32) -> State) -> bool {
        let Some((start, index)) = self.owner(at) else { return true };
        let (inside, state) = (at.wrapping_sub(self.slab.base), state(index));
        let body = start..start + u64::from(self.cache.object_size);
        let red = self.red_value(start, state).ok();
        self.fill(state).is_some() && body.contains(&inside)
            || red
                .into_iter()
                .flat_map(|red| self.zones(start, red))
                .any(|zone| (zone.base + zone.range.start..zone.base + zone.range.end).contains(&inside))
    }

    /// How many bytes from an address on are more of a fill or a text that ends there.
    fn more(&self, end: u64) -> u64 {
        let at = end.wrapping_sub(self.slab.base) as usize;
        let (Some(before), Some(behind)) = (self.memory.get(at.saturating_sub(MIN_FILL)..at), self.memory.get(at..))
        else {
            return 0;
        };
        let is_text = |byte: &u8| (0x20..0x7f).contains(byte);
        let count = match before.first() {
            Some(fill) if before.iter().all(|byte| byte == fill) => {
                behind.iter().take_while(|byte| *byte == fill).count()
            }
            Some(_) if before.iter().all(is_text) => behind.iter().take_while(|byte| is_text(byte)).count(),
            _ => 0,
        };
        count as u64
    }

    /// Says of a write that went on behind its first fence how far it did.
    fn tell(&self, finding: &mut Finding, state: &dyn Fn(u32) -> State) {
        let fence_end = finding.at.wrapping_add(finding.found.len() as u64);
        let grew = finding.end > fence_end;
        let open = is_write(finding.kind) && !self.is_fenced(finding.end, state);
        let more = if open { self.more(finding.end) } else { 0 };
        if !is_write(finding.kind) || finding.kind == Kind::Track || !(grew || more > 0) {
            return;
        }
        finding.end += more;
        let records = self.owner(finding.end.wrapping_sub(1)).is_some_and(|(start, _)| {
            let own = self.slab.base.wrapping_add(start);
            (own + u64::from(self.cache.inuse)..own + self.plan.records_end()).contains(&finding.end.wrapping_sub(1))
        });
        let total = finding.end.wrapping_sub(finding.at);
        let least = match more {
            0 if open && !records => "at least ",
            0 => "",
            // what follows may look alike by chance
            _ => "about ",
        };
        let place = self.place(finding);
        finding.verdict = verdict::reach(self.session, finding, &format!("{least}{total} bytes"), &place);
    }

    /// Where a write ended, in words.
    fn place(&self, finding: &Finding) -> String {
        let size = u64::from(self.cache.size);
        let (Some((first, _)), Some((last, _))) = (self.owner(finding.at), self.owner(finding.end.wrapping_sub(1)))
        else {
            return ", as far as the padding behind the slab's last object".into();
        };
        let own = self.slab.base.wrapping_add(last);
        match (last.wrapping_sub(first) / size, finding.end.checked_sub(own)) {
            (0, Some(end)) if end > self.cache.inuse.into() => ", as far as what SLUB keeps behind it".into(),
            (0, _) => String::new(),
            (_, None) | (_, Some(0)) => format!(", as far as the red zone in front of {own:x}, the next object"),
            (1, Some(into)) => format!(", {into} bytes of them into the next object, {own:x}"),
            (2, Some(into)) => format!(", over a whole object and {into} bytes into {own:x}"),
            (passed, Some(into)) => format!(", over {} objects and {into} bytes into {own:x}", passed - 1),
        }
    }
}
