//! Tables of which pages are missing.
//!
//! A dump may lack a page in the middle of a table. A decoder then gets the table with the missing bytes as zeros, and
//! the list of where they are, so that it loses what lay there and nothing else.

use std::ops::Range;

use bytes::Bytes;

use crate::Reader;

/// Granularity in which missing memory is looked for: the smallest page size.
const PAGE: u64 = 4096;

/// The missing parts of a byte string: ordered, disjoint ranges of positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holes(Vec<Range<usize>>);

impl Holes {
    /// From ranges in any order, which may touch or overlap.
    pub fn new(mut ranges: Vec<Range<usize>>) -> Holes {
        ranges.retain(|r| !r.is_empty());
        ranges.sort_by_key(|r| r.start);
        let mut out: Vec<Range<usize>> = Vec::new();
        for r in ranges {
            match out.last_mut() {
                Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
                _ => out.push(r),
            }
        }
        Holes(out)
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The missing ranges.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }

    /// Whether any byte of `range` is missing.
    pub fn hit(&self, range: Range<usize>) -> bool {
        if self.0.is_empty() || range.is_empty() {
            return false;
        }
        let next = self.0.partition_point(|h| h.end <= range.start);
        self.0.get(next).is_some_and(|h| h.start < range.end)
    }

    /// The holes of the part `range`, counted from its start.
    pub fn slice(&self, range: Range<usize>) -> Holes {
        let inside = self.0.iter().filter(|h| h.start < range.end && h.end > range.start);
        Holes(inside.map(|h| h.start.max(range.start) - range.start..h.end.min(range.end) - range.start).collect())
    }
}

/// Bytes of which some may be missing; those read as zero.
#[derive(Clone, Debug, Default)]
pub struct Patchy {
    /// the bytes
    pub bytes: Bytes,
    /// which of them are not real
    pub holes: Holes,
}

impl Patchy {
    /// Reads `len` bytes at `addr`, without a copy if they are all there. An error if none of them is.
    pub fn read(reader: &dyn Reader, addr: u64, len: usize) -> Result<Patchy, String> {
        let reason = match reader.bytes(addr, len) {
            Ok(bytes) => return Ok(bytes.into()),
            Err(reason) => reason,
        };
        let mut bytes = vec![0u8; len];
        let mut holes = Vec::new();
        let mut at = 0usize;
        while at < len {
            let here = addr.wrapping_add(at as u64);
            let step = ((PAGE - here % PAGE) as usize).min(len - at);
            let page = &mut bytes[at..at + step];
            if reader.read(here, page).is_err() {
                page.fill(0);
                holes.push(at..at + step);
            }
            at += step;
        }
        let holes = Holes::new(holes);
        match holes.ranges() {
            [all] if *all == (0..len) => Err(reason),
            _ => Ok(Patchy { bytes: bytes.into(), holes }),
        }
    }
}

impl From<Bytes> for Patchy {
    fn from(bytes: Bytes) -> Patchy {
        Patchy { bytes, holes: Holes::default() }
    }
}
