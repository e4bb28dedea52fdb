//! Physical memory, as a dump holds it: which ranges are there, and what stands in them.

use std::ops::Range;

use bytes::Bytes;

use crate::cover;
use crate::error::Reason;
use crate::source::Source;

/// A physical read that failed: the first bad address, and why.
pub(crate) struct Fault {
    pub pa: u64,
    pub reason: Reason,
}

/// What a dump has not, though its headers speak of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Missing {
    /// Bytes past the end of the file.
    pub truncated: u64,
    /// Bytes left out on purpose, where the format tells.
    pub excluded: Option<u64>,
}

/// Physical memory by address. The page-table walker and everything above it knows dumps through this alone.
pub(crate) trait Image: Send + Sync {
    /// Fills `buf` from `pa`, or says at which address it had to stop.
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// The same without a copy where the format allows it. The caller has bounded `len`.
    fn bytes(&self, pa: u64, len: usize) -> Result<Bytes, Fault> {
        copied(self, pa, len)
    }

    /// Whether the byte at `pa` is there (`None`) or why not, and for how many bytes, at least one, that stays so.
    fn state(&self, pa: u64) -> (Option<Reason>, u64);

    /// The physical ranges that are in the dump: sorted, disjoint, not adjacent.
    fn ranges(&self) -> &[Range<u64>];

    /// What the dump ought to have and has not.
    fn missing(&self) -> Missing;

    /// Bytes that are in the dump.
    fn present(&self) -> u64 {
        self.ranges().iter().map(|r| r.end - r.start).fold(0, u64::saturating_add)
    }

    /// What happened to the files since they were opened.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Lets go of what was mapped of the files, if that is more than `most` bytes.
    fn let_go(&self, _most: u64) {}

    /// Forgets what was read, if memory may have changed since.
    fn forget(&self) {}
}

/// `len` bytes at `pa` as a copy. Grows with what could be read, so that a wild length costs nothing.
pub(crate) fn copied<I: Image + ?Sized>(image: &I, pa: u64, len: usize) -> Result<Bytes, Fault> {
    const STEP: usize = 1 << 20;
    let mut out = Vec::new();
    while out.len() < len {
        let at = out.len();
        out.resize(len.min(at + STEP), 0);
        image.read(pa.wrapping_add(at as u64), &mut out[at..])?;
    }
    Ok(out.into())
}

/// What a piece of the physical space is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Left out by the dump filter.
    Excluded,
    /// The rest of a page of which the dump has a part.
    Zeros,
    /// Promised by the headers, but the file ends before it.
    Truncated,
    /// In the file at this offset.
    File(u64),
}

/// A range of physical addresses of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub start: u64,
    pub end: u64,
    pub kind: Kind,
}

/// Physical memory that stands uncompressed in a file: sorted disjoint pieces.
pub(crate) struct Pieces {
    source: Source,
    pieces: Vec<Piece>,
    ranges: Vec<Range<u64>>,
}

impl Pieces {
    /// Makes the pieces disjoint. Segments of a real `/proc/vmcore` overlap, since the kernel's image is described
    /// again inside its RAM range; of several claims to an address one with bytes in the file wins, then the longest,
    /// because it breaks up the fewest reads.
    pub fn new(source: Source, claims: Vec<Piece>) -> Pieces {
        let pieces = disjoint(&claims);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for piece in pieces.iter().filter(|p| matches!(p.kind, Kind::File(_) | Kind::Zeros)) {
            match ranges.last_mut() {
                Some(last) if last.end == piece.start => last.end = piece.end,
                _ => ranges.push(piece.start..piece.end),
            }
        }
        Pieces { source, pieces, ranges }
    }

    /// The same, where a page of which some bytes are in the file has zeros for those that no range has. RAM that does
    /// not end with a page is described so, and makedumpfile fills such pages with zeros when it writes its own format.
    pub fn padded(source: Source, mut claims: Vec<Piece>) -> Pieces {
        const PAGE: u64 = 4096;
        let mut pads = Vec::new();
        for piece in claims.iter().filter(|p| matches!(p.kind, Kind::File(_))) {
            let (first, last) = (piece.start & !(PAGE - 1), piece.end.saturating_sub(1) & !(PAGE - 1));
            pads.push(Piece { start: first, end: piece.start, kind: Kind::Zeros });
            pads.push(Piece { start: piece.end, end: last.saturating_add(PAGE), kind: Kind::Zeros });
        }
        claims.extend(pads.into_iter().filter(|p| p.start < p.end));
        Pieces::new(source, claims)
    }

    /// The piece that holds `pa`, or how far it is to the next one.
    fn at(&self, pa: u64) -> Result<&Piece, u64> {
        let next = self.pieces.partition_point(|p| p.start <= pa);
        match next.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some(piece) if pa < piece.end => Ok(piece),
            _ => Err(self.pieces.get(next).map_or(u64::MAX - pa, |p| p.start - pa).max(1)),
        }
    }

    /// Where `pa` stands in the file (nowhere, if it is zeros), and how many bytes follow it there.
    fn offset(&self, pa: u64) -> Result<(Option<u64>, u64), Fault> {
        let reason = match self.at(pa) {
            Ok(Piece { kind: Kind::File(off), start, end }) => return Ok((Some(off + (pa - start)), end - pa)),
            Ok(Piece { kind: Kind::Zeros, end, .. }) => return Ok((None, end - pa)),
            Ok(Piece { kind: Kind::Excluded, .. }) => Reason::Excluded,
            Ok(Piece { kind: Kind::Truncated, .. }) => Reason::Truncated,
            Err(_) => Reason::NotInDump,
        };
        Err(Fault { pa, reason })
    }
}

impl Image for Pieces {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        while !buf.is_empty() {
            let (off, left) = self.offset(pa)?;
            let (now, rest) = buf.split_at_mut((buf.len() as u64).min(left) as usize);
            match off {
                Some(off) => self.source.read(off, now).map_err(|reason| Fault { pa, reason })?,
                None => now.fill(0),
            }
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }

    fn bytes(&self, pa: u64, len: usize) -> Result<Bytes, Fault> {
        let (off, left) = self.offset(pa)?;
        if let Some(off) = off
            && len as u64 <= left
        {
            return self.source.slice(off, len as u64).map_err(|reason| Fault { pa, reason });
        }
        copied(self, pa, len)
    }

    fn state(&self, pa: u64) -> (Option<Reason>, u64) {
        match self.at(pa) {
            Err(gap) => (Some(Reason::NotInDump), gap),
            Ok(piece) => {
                let reason = match piece.kind {
                    Kind::File(_) | Kind::Zeros => None,
                    Kind::Excluded => Some(Reason::Excluded),
                    Kind::Truncated => Some(Reason::Truncated),
                };
                (reason, piece.end - pa)
            }
        }
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn trouble(&self) -> Option<String> {
        self.source.trouble()
    }

    fn let_go(&self, most: u64) {
        self.source.let_go(most);
    }

    fn missing(&self) -> Missing {
        let sum = |kind| {
            let pieces = self.pieces.iter().filter(|p| p.kind == kind);
            pieces.map(|p| p.end - p.start).fold(0u64, u64::saturating_add)
        };
        let excluded = sum(Kind::Excluded);
        Missing { truncated: sum(Kind::Truncated), excluded: (excluded > 0).then_some(excluded) }
    }
}

/// Makes the claims disjoint, and one where they follow each other in memory and in the file.
fn disjoint(claims: &[Piece]) -> Vec<Piece> {
    let class = |kind| match kind {
        Kind::File(_) => 3,
        Kind::Truncated => 2,
        Kind::Zeros => 1,
        Kind::Excluded => 0,
    };
    let ranked: Vec<_> = claims.iter().map(|c| (c.start..c.end, (class(c.kind), c.end - c.start))).collect();
    let mut out: Vec<Piece> = Vec::new();
    for (range, winner) in cover::disjoint(&ranked) {
        let kind = match claims[winner].kind {
            Kind::File(off) => Kind::File(off + (range.start - claims[winner].start)),
            kind => kind,
        };
        match out.last_mut() {
            Some(last) if last.end == range.start && follows(last, kind) => last.end = range.end,
            _ => out.push(Piece { start: range.start, end: range.end, kind }),
        }
    }
    out
}

/// Whether bytes of `kind` right after `piece` are the same piece.
fn follows(piece: &Piece, kind: Kind) -> bool {
    match (piece.kind, kind) {
        (Kind::File(a), Kind::File(b)) => a + (piece.end - piece.start) == b,
        (a, b) => a == b,
    }
}
