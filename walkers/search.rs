//! Searching memory: every page once, at the address that says most about it.
//!
//! All of memory is in the direct map, but a page of a module, of a task's stack or of the kernel's own data has a second
//! address, by which people and symbols know it. So the kernel's other mappings are searched at their own addresses, and
//! of the direct map what no other mapping shows. Pieces are searched on all CPUs and answered in the order of their
//! addresses, piece by piece, so that whoever has enough can stop.

use crate::{page::PageMap, resource, total::Total};
use engine::prelude::*;
use rayon::prelude::*;
use std::{
    ops::{ControlFlow, Range, RangeInclusive},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// A run of mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// virtual address
    pub va: u64,
    /// physical address
    pub pa: u64,
    /// bytes
    pub len: u64,
}

/// What to search: runs, in the order of their virtual addresses, and for a physical search of their physical ones.
#[derive(Debug)]
pub struct Area {
    runs: Vec<Run>,
    /// RAM that the dump lacks and that would be searched at these addresses
    absent: Vec<Range<u64>>,
    /// whose addresses the runs' `va` are
    space: Space,
    /// page tables that are not in the dump
    pub lost_tables: u64,
}

/// The kernel's half.
const KERNEL: u64 = 1 << 63;
/// The image is mapped by pages of this size: the last one shows what is behind it, too.
const LARGE_PAGE: u64 = 2 << 20;
/// Bytes of a piece: it is copied and then looked at, which a CPU's second cache should hold.
const PIECE: u64 = 256 << 10;
/// Pieces that are searched before the first of them is answered, at most: the CPUs wait for each other at the end of
/// each batch.
const BATCH: usize = 4096;
/// Pieces that one CPU takes at a time, at least: it has one room for them.
const RUN: usize = 8;
/// A batch ends early at so many places.
const MANY: usize = 1 << 18;

impl Area {
    /// All memory that the kernel maps, each page once.
    pub fn mapped(session: &Session) -> Result<Arc<Area>> {
        session.once(|| Area::read(session))
    }

    fn read(session: &Session) -> Result<Area> {
        let target = &session.target;
        let top = target.ranges().last().map_or(0, |range| range.end);
        let first = target.ranges().first().map_or(0, |range| range.start);
        let direct = target.phys_to_direct(first).map(|va| va.wrapping_sub(first));
        let mut runs: Vec<Run> = Vec::new();
        let mut lost_tables = 0;
        let around: Vec<RangeInclusive<u64>> = match direct {
            Some(base) if base > KERNEL => vec![KERNEL..=base - 1, base.saturating_add(top)..=u64::MAX],
            _ => vec![KERNEL..=u64::MAX],
        };
        for range in around {
            let outcome = target
                .each_mapping(Space::Kernel, range, &|| !session.interrupt.is_set(), &mut |mapping| {
                    runs.push(Run { va: mapping.va, pa: mapping.pa, len: mapping.len });
                    ControlFlow::Continue(())
                })
                .map_err(|reason| Error::Unavailable(format!("the kernel's page tables: {reason}")))?;
            session.interrupt.check()?;
            lost_tables += outcome.unreadable;
        }
        runs = of_memory(session, runs)?;
        let mut absent = Vec::new();
        if let Some(base) = direct {
            let known = merged(runs.iter().map(|run| run.pa..run.pa.saturating_add(run.len)).collect());
            let rest = subtract(target.ranges(), &known);
            let shift = |pa: Range<u64>| base.saturating_add(pa.start)..base.saturating_add(pa.end);
            absent = subtract(&absent_ram(session)?, &known).into_iter().map(shift).collect();
            let at_base =
                |pa: Range<u64>| Run { va: base.wrapping_add(pa.start), pa: pa.start, len: pa.end - pa.start };
            // a firmware's ROM is in QEMU's dumps, but the kernel does not map it
            runs.extend(of_memory(session, rest.into_iter().map(at_base).collect())?);
        }
        runs.sort_unstable_by_key(|run| run.va);
        Ok(Area { runs, absent, space: Space::Kernel, lost_tables })
    }

    /// All physical memory, at its physical addresses.
    pub fn physical(session: &Session) -> Result<Area> {
        let run = |range: &Range<u64>| Run { va: range.start, pa: range.start, len: range.end - range.start };
        let runs = session.target.ranges().iter().map(run).collect();
        Ok(Area { runs, absent: absent_ram(session)?, space: Space::Phys, lost_tables: 0 })
    }

    /// What it consists of.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The pieces of it that lie in a range of addresses.
    fn pieces(&self, range: &RangeInclusive<u64>) -> Vec<Run> {
        let mut pieces = Vec::new();
        for run in &self.runs {
            let last = run.va.saturating_add(run.len - 1);
            let (from, to) = (run.va.max(*range.start()), last.min(*range.end()));
            let mut va = from;
            while va <= to {
                let len = PIECE.min(to - va + 1);
                pieces.push(Run { va, pa: run.pa + (va - run.va), len });
                let Some(next) = va.checked_add(len) else { break };
                va = next;
            }
        }
        pieces
    }
}

/// RAM of which the dump has nothing.
fn absent_ram(session: &Session) -> Result<Vec<Range<u64>>> {
    Ok(subtract(&resource::ram(session)?, session.target.ranges()))
}

/// Bytes of sorted, disjoint ranges that lie in another.
fn within(sorted: &[Range<u64>], range: &RangeInclusive<u64>) -> u64 {
    let part = |one: &Range<u64>| {
        let (from, last) = (one.start.max(*range.start()), (one.end - 1).min(*range.end()));
        if from <= last { last - from + 1 } else { 0 }
    };
    sorted.iter().filter(|one| !one.is_empty()).map(part).total()
}

/// What of the mappings is memory, and known by their addresses: no device's registers, which have no `struct page`, and
/// nothing that the kernel's image gave back to the allocator when it had booted (its init section, and the gaps between
/// sections), whose pages have had other users since and are searched where those have them.
fn of_memory(session: &Session, runs: Vec<Run>) -> Result<Vec<Run>> {
    let pages = PageMap::of(session).map(Some).or_else(|e| if e.is_control() { Err(e) } else { Ok(None) })?;
    let memory = match &pages {
        Some(pages) => merged(pages.sections().iter().map(|section| physical(&section.frames, pages.shift)).collect()),
        None => session.target.ranges().to_vec(),
    };
    let image = session.kernel_symbol("_text").zip(session.kernel_symbol("_end"));
    let image = image.map_or(0..0, |(start, end)| start..end.checked_next_multiple_of(LARGE_PAGE).unwrap_or(end));
    let mut kept = Vec::new();
    for run in runs {
        let whole = run.pa..run.pa.saturating_add(run.len);
        let mut gone = subtract(std::slice::from_ref(&whole), &memory);
        if let Some(pages) = pages.as_ref().filter(|_| image.start <= run.va && run.va < image.end) {
            gone.extend(given_back(session, pages, &whole)?);
            gone = merged(gone);
        }
        let part = |pa: Range<u64>| Run { va: run.va + (pa.start - run.pa), pa: pa.start, len: pa.end - pa.start };
        kept.extend(subtract(std::slice::from_ref(&whole), &gone).into_iter().map(part));
    }
    Ok(kept)
}

/// Addresses of page frames.
fn physical(frames: &Range<u64>, shift: u32) -> Range<u64> {
    frames.start << shift..frames.end << shift
}

/// What of a part of the kernel's image the page allocator has: it reserves the rest (`PG_reserved`).
fn given_back(session: &Session, pages: &PageMap, part: &Range<u64>) -> Result<Vec<Range<u64>>> {
    let Some(reserved) = session.enumerator("PG_reserved").and_then(|bit| 1u64.checked_shl(bit as u32)) else {
        return Ok(Vec::new());
    };
    let flags = session.offset("page", "flags")?;
    let mut gone = Vec::new();
    for frame in part.start >> pages.shift..part.end.saturating_add((1 << pages.shift) - 1) >> pages.shift {
        session.interrupt.check()?;
        let Some(page) = pages.page(frame) else { continue };
        // one that is not in the dump may be the kernel's as well as not
        if session.u64(page.wrapping_add(flags)).is_ok_and(|flags| flags & reserved == 0) {
            gone.push(physical(&(frame..frame + 1), pages.shift));
        }
    }
    Ok(gone)
}

/// Sorted and disjoint.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// Whether one of sorted, disjoint ranges has something in common with another range.
pub(crate) fn overlaps(sorted: &[Range<u64>], range: &Range<u64>) -> bool {
    let next = sorted.partition_point(|other| other.end <= range.start);
    sorted.get(next).is_some_and(|other| other.start < range.end)
}

/// What of sorted ranges other sorted ranges do not cover.
pub(crate) fn subtract(from: &[Range<u64>], what: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    for range in from {
        let mut start = range.start;
        let next = what.partition_point(|hole| hole.end <= start);
        for hole in what.get(next..).unwrap_or_default() {
            if hole.start >= range.end {
                break;
            }
            if hole.start > start {
                out.push(start..hole.start);
            }
            start = start.max(hole.end);
        }
        if start < range.end {
            out.push(start..range.end);
        }
    }
    out
}

/// What is looked for in a piece of memory.
pub trait Pattern: Sync {
    /// Finds what begins in the first `len` bytes of `bytes`, and says where, counted from their start. What follows
    /// them belongs to the next piece, and is there for what reaches into it.
    fn find(&self, bytes: &[u8], len: usize, found: &mut Vec<usize>);
    /// Most bytes that one may reach into the next piece.
    fn overlap(&self) -> usize {
        0
    }
}

/// What was searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// bytes that were looked at
    pub bytes: u64,
    /// bytes of pages that could not be read
    pub missing: u64,
}

/// Searches an area, and shows the address of each finding to `visit`.
pub fn search(
    session: &Session,
    area: &Area,
    range: &RangeInclusive<u64>,
    pattern: &dyn Pattern,
    visit: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Searched> {
    let mut searched = Searched { bytes: 0, missing: within(&area.absent, range) };
    let pieces = area.pieces(range);
    // what is everywhere fills memory with its places: no more of them at a time than need be
    let (mut left, mut batch) = (pieces.as_slice(), 1);
    while !left.is_empty() {
        let places = AtomicUsize::new(0);
        let look = |room: &mut Vec<u8>, piece: &Run| {
            let answer = (places.load(Relaxed) < MANY).then(|| one(session, area.space, *piece, pattern, room));
            let found = answer.as_ref().and_then(|answer| answer.as_ref().ok()).map_or(0, |(found, _)| found.len());
            places.fetch_add(found, Relaxed);
            answer
        };
        let now = left.get(..batch).unwrap_or(left);
        let answers: Vec<Option<_>> = now.par_iter().with_min_len(RUN).map_init(Vec::new, look).collect();
        let mut done = 0;
        for answer in answers.into_iter().map_while(|answer| answer) {
            let (found, part): (Vec<u64>, Searched) = answer?;
            searched.bytes += part.bytes;
            searched.missing += part.missing;
            found.into_iter().try_for_each(&mut *visit)?;
            done += 1;
        }
        batch = if done < now.len() { 1 } else { (batch * 2).min(BATCH) };
        left = left.get(done..).unwrap_or_default();
    }
    Ok(searched)
}

/// Searches a piece. It is copied to `room`: to look at each page but once, mapping it would cost more.
fn one(
    session: &Session,
    space: Space,
    piece: Run,
    pattern: &dyn Pattern,
    room: &mut Vec<u8>,
) -> Result<(Vec<u64>, Searched)> {
    session.interrupt.check()?;
    let mut found = Vec::new();
    let target = &session.target;
    room.resize(piece.len as usize, 0);
    if target.read(Space::Phys, piece.pa, room).is_ok() {
        piecewise(session, space, piece.va, room, pattern, &mut found);
        return Ok((found, Searched { bytes: piece.len, missing: 0 }));
    }
    // some page of it is not there
    let page = target.page_size().max(1);
    let (mut at, mut searched) = (0, Searched::default());
    while at < piece.len {
        let step = (page - (piece.pa + at) % page).min(piece.len - at);
        match target.bytes(Space::Phys, piece.pa + at, step as usize) {
            Ok(bytes) => {
                piecewise(session, space, piece.va.wrapping_add(at), &bytes, pattern, &mut found);
                searched.bytes += step;
            }
            Err(_) => searched.missing += step,
        }
        at += step;
    }
    Ok((found, searched))
}

/// Finds what begins in `bytes`, which are at `addr`. What reaches beyond them is looked for in their end and in what
/// follows by address, for in physical memory the next page may be anybody's.
fn piecewise(session: &Session, space: Space, addr: u64, bytes: &[u8], pattern: &dyn Pattern, places: &mut Vec<u64>) {
    let overlap = pattern.overlap().min(bytes.len());
    let end = bytes.len() - overlap;
    let mut found = Vec::new();
    pattern.find(bytes, end, &mut found);
    places.extend(found.iter().map(|at| addr.wrapping_add(*at as u64)));
    if overlap == 0 {
        return;
    }
    // a byte before it tells whether a word begins there
    let context = end.min(1);
    let mut joint = bytes.get(end - context..).unwrap_or_default().to_vec();
    joint.extend(behind(session, space, addr.wrapping_add(bytes.len() as u64), pattern.overlap()));
    found.clear();
    pattern.find(&joint, context + overlap, &mut found);
    let from = addr.wrapping_add((end - context) as u64);
    places.extend(found.iter().filter(|at| **at >= context).map(|at| from.wrapping_add(*at as u64)));
}

/// The bytes from an address on, as many as are there.
fn behind(session: &Session, space: Space, addr: u64, most: usize) -> Vec<u8> {
    let page = session.target.page_size().max(1);
    let (mut bytes, mut at) = (Vec::new(), addr);
    while bytes.len() < most {
        let step = (page - at % page).min((most - bytes.len()) as u64);
        let Ok(part) = session.target.bytes(space, at, step as usize) else { break };
        bytes.extend_from_slice(&part);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_subtracted() {
        assert_eq!(merged(vec![5..9, 1..3, 3..4, 20..20, 8..12]), [1..4, 5..12]);
        let from = [0..10, 20..30, 40..50];
        assert_eq!(subtract(&from, &[2..4, 8..22, 29..60]), [0..2, 4..8, 22..29]);
        assert_eq!(subtract(&from, &[]), from);
        assert!(subtract(&from, std::slice::from_ref(&(0..100))).is_empty());
    }

    #[test]
    fn pieces_keep_to_the_range() {
        let area = Area {
            runs: vec![Run { va: 0x1000, pa: 0x9000, len: PIECE + 0x1000 }],
            absent: vec![0xa000..0xb000, 0xc000..0xd000],
            space: Space::Kernel,
            lost_tables: 0,
        };
        assert_eq!(within(&area.absent, &(0xa800..=0xc7ff)), 0x1000);
        assert_eq!(within(&area.absent, &(0..=u64::MAX)), 0x2000);
        let pieces = area.pieces(&(0x2000..=u64::MAX));
        assert_eq!(pieces, [Run { va: 0x2000, pa: 0xa000, len: PIECE }]);
        assert_eq!(area.pieces(&(0..=0x10ff)), [Run { va: 0x1000, pa: 0x9000, len: 0x100 }]);
        assert!(area.pieces(&(0..=0xfff)).is_empty());
        let end = Area { runs: vec![Run { va: u64::MAX - 0xfff, pa: 0, len: 0x1000 }], ..area };
        assert_eq!(end.pieces(&(0..=u64::MAX)).len(), 1);
    }
}
