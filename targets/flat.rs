//! makedumpfile's flattened format: a dump that was written through a pipe (`makedumpfile -F`, QEMU's `kdump-*`).
//!
//! A stream of records, each "these bytes belong at that offset", big-endian; the file they make is what a seek and
//! a write of each, in order, would give. An index of the records stands in for that file, so nothing is copied.

use std::ops::Range;

use bytes::Bytes;

use crate::cover;
use crate::error::Reason;
use crate::source::Source;

pub(crate) const MAGIC: &[u8] = b"makedumpfile\0\0\0\0";
/// `struct makedumpfile_header` is padded to this size.
const HEADER: u64 = 4096;
/// Offset and size of the record that ends the stream.
const END: u64 = u64::MAX;

/// What stands in a hole: as much as is looked at in one go.
static ZEROS: [u8; 4 << 20] = [0; 4 << 20];

/// The file that a stream describes.
pub(crate) struct Flat {
    stream: Source,
    /// offsets in the described file, and where in the stream their bytes start; disjoint and sorted
    pieces: Vec<(Range<u64>, u64)>,
    /// The stream breaks off: what no record wrote may have been meant to be written.
    cut: bool,
}

impl Flat {
    /// Reads the records' heads. What follows a damaged one is lost, as if the stream broke off there.
    pub fn index(stream: Source) -> Flat {
        let mut claims: Vec<(Range<u64>, u64)> = Vec::new();
        let mut at = HEADER;
        let mut cut = true;
        let mut head = [0; 16];
        while stream.read(at, &mut head).is_ok() {
            let [off, len] = [0, 8].map(|i| head[i..i + 8].try_into().map_or(0, u64::from_be_bytes));
            if off == END {
                cut = false;
                break;
            }
            at += 16;
            let there = len.min(stream.len() - at);
            // Offsets and sizes are signed in makedumpfile: one that is negative is damaged.
            let Some(end) = off.checked_add(there).filter(|&end| end <= i64::MAX as u64) else { break };
            claims.push((off..end, at));
            if there < len {
                break;
            }
            at += there;
        }
        // What comes later in the stream wins, and the place in the stream is the rank that says so.
        let pieces = cover::disjoint(&claims).into_iter().map(|(range, i)| {
            let (claim, at) = &claims[i];
            let at = at + (range.start - claim.start);
            (range, at)
        });
        Flat { pieces: pieces.collect(), stream, cut }
    }

    /// The stream itself.
    pub fn stream(&self) -> &Source {
        &self.stream
    }

    /// Whether the stream has no end.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes of the described file.
    pub fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |(range, _)| range.end)
    }

    /// Fills `buf` from `off`. A place that no record wrote is a hole of the described file, hence zeros.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> Result<(), Reason> {
        let end = off.checked_add(buf.len() as u64).filter(|&end| end <= self.len()).ok_or(Reason::Truncated)?;
        let mut done = off;
        let first = self.pieces.partition_point(|(range, _)| range.end <= off);
        for (range, at) in self.pieces.iter().skip(first).take_while(|(range, _)| range.start < end) {
            let (from, to) = (range.start.max(off), range.end.min(end));
            self.hole(done, from)?;
            buf[(done - off) as usize..(from - off) as usize].fill(0);
            self.stream.read(at + (from - range.start), &mut buf[(from - off) as usize..(to - off) as usize])?;
            done = to;
        }
        self.hole(done, end)?;
        buf[(done - off) as usize..].fill(0);
        Ok(())
    }

    fn hole(&self, from: u64, to: u64) -> Result<(), Reason> {
        if from < to && self.cut { Err(Reason::Truncated) } else { Ok(()) }
    }

    /// `len` bytes at `off`, without a copy where one record has them all, or none has any.
    pub fn slice(&self, off: u64, len: u64) -> Result<Bytes, Reason> {
        let end = off.checked_add(len).filter(|&end| end <= self.len()).ok_or(Reason::Truncated)?;
        let first = self.pieces.partition_point(|(range, _)| range.end <= off);
        if let Some((range, at)) = self.pieces.get(first)
            && range.start <= off
            && end <= range.end
        {
            return self.stream.slice(at + (off - range.start), len);
        }
        // A few kilobytes of stream may describe terabytes of zeros, and somebody looks through them.
        let is_hole = self.pieces.get(first).is_none_or(|(range, _)| range.start >= end);
        if let (true, false, Some(zeros)) = (is_hole, self.cut, ZEROS.get(..len as usize)) {
            return Ok(Bytes::from_static(zeros));
        }
        // The stream has all the bytes that are not holes, so nobody needs more of them at once.
        if len > self.stream.len() {
            return Err(Reason::TooLong);
        }
        let mut copy = vec![0; len as usize];
        self.read(off, &mut copy)?;
        Ok(copy.into())
    }
}
