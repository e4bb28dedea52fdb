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
        // What is missing is not touched: zeros that nobody touches take no memory, however long the range claims to be.
        let mut page = [0; PAGE as usize];
        let mut at = 0usize;
        while at < len {
            let here = addr.wrapping_add(at as u64);
            let step = ((PAGE - here % PAGE) as usize).min(len - at);
            match reader.read(here, &mut page[..step]) {
                Ok(()) => bytes[at..at + step].copy_from_slice(&page[..step]),
                Err(_) => holes.push(at..at + step),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Four pages from 0x1000 on, each full of its own number; the third is missing.
    struct Pages;

    impl Reader for Pages {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
            for (byte, at) in buf.iter_mut().zip(addr..) {
                *byte = match at / PAGE {
                    page @ (1 | 2 | 4) => page as u8,
                    _ => return Err(format!("{at:x} is missing")),
                };
            }
            Ok(())
        }
    }

    #[test]
    fn missing_pages_read_as_zero() {
        let whole = Patchy::read(&Pages, 0x1800, 0x1000).unwrap();
        assert_eq!((whole.bytes[0], whole.bytes[0x800], whole.holes.is_empty()), (1, 2, true));
        let holed = Patchy::read(&Pages, 0x2ff0, 0x1020).unwrap();
        assert_eq!(holed.holes.ranges(), std::slice::from_ref(&(0x10..0x1010)));
        assert_eq!((holed.bytes[0xf], holed.bytes[0x10], holed.bytes[0x1010]), (2, 0, 4));
        assert!(Patchy::read(&Pages, 0x3000, 0x800).is_err());
        assert!(Patchy::read(&Pages, u64::MAX - 8, 64).is_err());
    }

    #[test]
    fn ranges_are_joined_cut_and_met() {
        let holes = Holes::new(vec![30..40, 10..20, 20..25, 50..50]);
        assert_eq!(holes.ranges(), [10..25, 30..40]);
        let hit = |range| holes.hit(range);
        assert_eq!(
            [hit(0..10), hit(9..11), hit(25..30), hit(24..25), hit(39..99), hit(40..50), hit(12..12)],
            [false, true, false, true, true, false, false]
        );
        assert_eq!(holes.slice(20..35).ranges(), [0..5, 10..15]);
    }
}
