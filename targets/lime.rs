//! LiME and AVML images: ranges of physical memory, each behind a header of its own.
//!
//! The header is the same in both (LiME's doc/README.md, "The lime format"): magic, version, first and last address, eight
//! reserved bytes. LiME (`format=lime`, version 1) has the range's bytes behind it. AVML by default (version 2) has them as
//! a stream of snappy frames (google/snappy, framing_format.txt) and the size of that stream. A frame holds up to 64 KiB
//! and says so before its data, hence frames are found without decompressing any.
//!
//! There are no registers in such an image, nor a description of the kernel: that is found in memory.

use std::io::Read;
use std::ops::Range;

use bytes::{Buf, Bytes};
use quick_cache::sync::Cache;

use crate::error::Reason;
use crate::image::{Fault, Image, Kind, Missing, Piece, Pieces, copied};
use crate::kernel;
use crate::open::Opened;
use crate::source::Source;

/// Magics, as the bytes in which they are written.
const LIME: &[u8] = b"EMiL";
const AVML: &[u8] = b"AVML";
const HEADER: u64 = 32;

/// Whether a file begins as such an image does.
pub(crate) fn is_image(head: &[u8]) -> bool {
    head.starts_with(LIME) || head.starts_with(AVML)
}

/// A range's header.
struct Header {
    version: u32,
    start: u64,
    /// bytes of memory
    len: u64,
}

fn header(source: &Source, off: u64) -> Result<Header, String> {
    let mut bytes = source.slice(off, HEADER).map_err(|_| format!("the file ends within the header at {off:#x}"))?;
    if !is_image(&bytes) {
        return Err(format!("no range of memory starts at {off:#x} of the file, where one should"));
    }
    bytes.advance(4);
    let version = bytes.get_u32_le();
    let (first, last) = (bytes.get_u64_le(), bytes.get_u64_le());
    match last.checked_sub(first).and_then(|len| len.checked_add(1)) {
        Some(len) if last < u64::MAX => Ok(Header { version, start: first, len }),
        _ => Err(format!("the header at {off:#x} of the file speaks of memory from {first:#x} to {last:#x}")),
    }
}

/// Opens an image; the error is what to tell the user.
pub(crate) fn open(source: &Source) -> Result<Opened, String> {
    let first = header(source, 0)?;
    match first.version {
        1 => plain(source),
        2 => compressed(source),
        version => Err(format!("a LiME image of version {version}; kmdb knows 1 and 2 (AVML's)")),
    }
}

fn opened(format: &str, image: impl Image + 'static, damage: Vec<String>) -> Opened {
    let arch = kernel::arch_of_memory(&image);
    let mut opened = Opened::new(format.into(), arch, Box::new(image), Vec::new());
    opened.damage = damage;
    opened
}

fn plain(source: &Source) -> Result<Opened, String> {
    let (mut claims, mut damage) = (Vec::new(), Vec::new());
    let mut off = 0;
    while off < source.len() {
        let header = match header(source, off) {
            Ok(header) if header.version == 1 => header,
            Ok(header) => {
                damage.push(format!("a range of version {} among ranges of version 1", header.version));
                break;
            }
            Err(why) => {
                damage.push(why);
                break;
            }
        };
        off += HEADER;
        let there = header.len.min(source.len() - off);
        let (start, end) = (header.start, header.start + header.len);
        claims.push(Piece { start, end: start + there, kind: Kind::File(off) });
        claims.push(Piece { start: start + there, end, kind: Kind::Truncated });
        off += there;
    }
    claims.retain(|piece| piece.start < piece.end);
    Ok(opened("LiME image", Pieces::new(source.clone(), claims), damage))
}

/// What stands in a frame.
#[derive(Clone, Copy)]
enum Body {
    /// offset of the frame in the file, and its bytes
    Frame(u64, u64),
    /// the file ends before it
    Cut,
}

/// A piece of memory of at most 64 KiB, or a stretch of it that is cut off.
struct Chunk {
    start: u64,
    end: u64,
    body: Body,
}

/// Memory in snappy frames.
struct Frames {
    source: Source,
    /// by address, disjoint
    chunks: Vec<Chunk>,
    ranges: Vec<Range<u64>>,
    /// by offset; a frame that is damaged is not tried again and again
    cache: Cache<u64, Result<Bytes, Reason>>,
}

/// Frames that are kept decompressed: 64 MiB of them.
const CACHED: usize = 1 << 10;
/// Most bytes that a frame may hold.
const FRAME: u64 = 1 << 16;
/// The frame with which a stream starts.
const STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

fn compressed(source: &Source) -> Result<Opened, String> {
    let (mut chunks, mut damage) = (Vec::new(), Vec::new());
    let mut off = 0;
    while off < source.len() {
        let header = match header(source, off) {
            Ok(header) if header.version == 2 => header,
            Ok(_) => {
                damage.push("an uncompressed range among compressed ones".into());
                break;
            }
            Err(why) => {
                damage.push(why);
                break;
            }
        };
        off += HEADER;
        let begin = off;
        match frames(source, &mut off, &header, &mut chunks) {
            Ok(()) => {}
            Err((at, why)) => {
                damage.push(why);
                chunks.push(Chunk { start: at, end: header.start + header.len, body: Body::Cut });
                break;
            }
        }
        let size = off - begin;
        match source.slice(off, 8).map(|mut size| size.get_u64_le()) {
            Ok(told) if told == size => off += 8,
            Ok(told) => {
                damage.push(format!("a range of {size} compressed bytes that ends by saying {told}"));
                break;
            }
            Err(_) => {
                damage.push("the file ends within the size of its last range".into());
                break;
            }
        }
    }
    chunks.retain(|chunk: &Chunk| chunk.start < chunk.end);
    chunks.sort_by_key(|chunk| chunk.start);
    let before = chunks.len();
    let mut reached = 0;
    chunks.retain(|chunk| {
        let fits = chunk.start >= reached;
        if fits {
            reached = chunk.end;
        }
        fits
    });
    if chunks.len() < before {
        damage.push(format!("{} pieces of memory are there twice; the first counts", before - chunks.len()));
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for chunk in chunks.iter().filter(|chunk| matches!(chunk.body, Body::Frame(..))) {
        match ranges.last_mut() {
            Some(last) if last.end == chunk.start => last.end = chunk.end,
            _ => ranges.push(chunk.start..chunk.end),
        }
    }
    let image = Frames { source: source.clone(), chunks, ranges, cache: Cache::new(CACHED) };
    Ok(opened("AVML image (snappy)", image, damage))
}

/// Lists the frames of a range from `off` on, and moves it behind them. The error has the address from which on memory is
/// lost.
fn frames(source: &Source, off: &mut u64, header: &Header, out: &mut Vec<Chunk>) -> Result<(), (u64, String)> {
    let (mut at, end) = (header.start, header.start + header.len);
    while at < end {
        let lost = |why: String| (at, why);
        let mut head = source.slice(*off, 4).map_err(|_| lost("the file ends within a range".into()))?;
        let head = head.get_u32_le();
        let (kind, len) = (head & 0xff, u64::from(head >> 8));
        let next = off.saturating_add(4 + len);
        if next > source.len() {
            return Err(lost("the file ends within a range".into()));
        }
        let size = match kind {
            // a checksum of four bytes, then the data
            0 => match source.slice(*off + 8, len.saturating_sub(4).min(5)).ok().and_then(|b| varint(&b)) {
                Some(size) => size,
                None => return Err(lost(format!("a damaged frame at {off:#x} of the file"))),
            },
            1 => len.saturating_sub(4),
            // the stream's head, padding, and what a later version may add
            0x80..=0xff => {
                *off = next;
                continue;
            }
            kind => return Err(lost(format!("a frame of unknown kind {kind} at {off:#x} of the file"))),
        };
        if size == 0 || size > FRAME || size > end - at {
            return Err(lost(format!("a frame of {size} bytes at {off:#x} of the file")));
        }
        out.push(Chunk { start: at, end: at + size, body: Body::Frame(*off, 4 + len) });
        *off = next;
        at += size;
    }
    Ok(())
}

/// A little-endian base-128 number: how snappy's data begins.
fn varint(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    Some(bytes.iter().take(end + 1).rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
}

impl Frames {
    /// The chunk that holds `pa`, or how far it is to the next one.
    fn at(&self, pa: u64) -> Result<&Chunk, u64> {
        let next = self.chunks.partition_point(|chunk| chunk.start <= pa);
        match next.checked_sub(1).and_then(|i| self.chunks.get(i)) {
            Some(chunk) if pa < chunk.end => Ok(chunk),
            _ => Err(self.chunks.get(next).map_or(u64::MAX - pa, |chunk| chunk.start - pa).max(1)),
        }
    }

    /// The memory around `pa` as decompressed, and where in it `pa` is.
    fn chunk(&self, pa: u64, keep: bool) -> Result<(Bytes, usize), Fault> {
        let fail = |reason| Fault { pa, reason };
        let chunk = self.at(pa).map_err(|_| fail(Reason::NotInDump))?;
        let Body::Frame(off, len) = chunk.body else { return Err(fail(Reason::Truncated)) };
        let inside = (pa - chunk.start) as usize;
        let bytes = match self.cache.get(&off) {
            Some(known) => known,
            None => {
                let bytes = self.decompress(off, len, (chunk.end - chunk.start) as usize);
                if keep || bytes.is_err() {
                    self.cache.insert(off, bytes.clone());
                }
                bytes
            }
        };
        bytes.map(|bytes| (bytes, inside)).map_err(fail)
    }

    fn decompress(&self, off: u64, len: u64, size: usize) -> Result<Bytes, Reason> {
        let frame = self.source.slice(off, len)?;
        let mut bytes = vec![0; size];
        let mut stream = snap::read::FrameDecoder::new(Read::chain(STREAM, &frame[..]));
        stream.read_exact(&mut bytes).map_err(|e| Reason::Decompress(format!("snappy: {e}")))?;
        Ok(bytes.into())
    }
}

impl Image for Frames {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        // a scan would only flush the cache
        let keep = (buf.len() as u64) < 2 * FRAME;
        while !buf.is_empty() {
            let (bytes, inside) = self.chunk(pa, keep)?;
            let piece = &bytes[inside..];
            let (now, rest) = buf.split_at_mut(buf.len().min(piece.len()));
            now.copy_from_slice(&piece[..now.len()]);
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }

    fn bytes(&self, pa: u64, len: usize) -> Result<Bytes, Fault> {
        let fits = self.at(pa).is_ok_and(|chunk| len as u64 <= chunk.end - pa);
        if !fits {
            return copied(self, pa, len);
        }
        let (bytes, inside) = self.chunk(pa, true)?;
        Ok(bytes.slice(inside..inside + len))
    }

    fn state(&self, pa: u64) -> (Option<Reason>, u64) {
        match self.at(pa) {
            Err(gap) => (Some(Reason::NotInDump), gap),
            Ok(Chunk { body: Body::Cut, end, .. }) => (Some(Reason::Truncated), end - pa),
            // neighbouring frames are one range
            Ok(chunk) => {
                let next = self.ranges.partition_point(|range| range.end <= pa);
                (None, self.ranges.get(next).map_or(chunk.end, |range| range.end) - pa)
            }
        }
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn missing(&self) -> Missing {
        let cut = self.chunks.iter().filter(|chunk| matches!(chunk.body, Body::Cut));
        Missing { truncated: cut.map(|chunk| chunk.end - chunk.start).sum(), excluded: None }
    }
}
