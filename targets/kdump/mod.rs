//! kdump-compressed files: what makedumpfile and QEMU's `dump-guest-memory -z` write, and most crash dumps are.
//!
//! Behind the headers stand two bitmaps with a bit for each page frame, "exists" and "is in the dump", then one
//! descriptor for each page that is in the dump, then the pages, each compressed by itself. The descriptor's number is
//! the count of set bits below the page's: nothing needs to be read in advance. Decompressed pages are kept in a
//! cache, except those of large reads, which are scans and would only flush it.

mod bitmap;
mod header;
mod page;

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::error::Reason;
use crate::image::{Fault, Image, Missing, copied};
use crate::notes;
use crate::open::Opened;
use crate::source::Source;
use bitmap::{Bitmap, Ranks};
pub(crate) use header::MAGIC;
use header::{Header, INCOMPLETE};
use page::{Codecs, DESC, Desc};

/// Bytes of pages that are kept decompressed.
const CACHED: u64 = 64 << 20;
/// Reads of this many bytes are scans.
const SCAN: usize = 64 << 10;

/// One file: all of a dump, or a part of a split one.
struct Part {
    source: Source,
    /// offset of the descriptors
    descs: u64,
    /// page frames whose descriptors these are
    pfns: Range<u64>,
}

struct Kdump {
    parts: Vec<Part>,
    page_size: u64,
    /// the page frames that exist; the same bits as `dumped` if the format does not tell
    exists: Option<Bitmap>,
    /// the page frames that are in the dump
    dumped: Bitmap,
    incomplete: bool,
    ranks: OnceLock<Ranks>,
    ranges: OnceLock<Vec<Range<u64>>>,
    cache: Cache<u64, Bytes>,
    codecs: Codecs,
}

/// Opens a kdump file, or the parts of a split one; the error is what to tell the user.
pub(crate) fn open(sources: &[Source]) -> Result<Opened, String> {
    let mut headers = Vec::new();
    for source in sources {
        headers.push(Header::read(source)?);
    }
    let (Some(header), Some(source)) = (headers.first(), sources.first()) else { return Err("no file".into()) };
    let mut damage = Vec::new();
    let (dumped, exists) = bitmaps(source, header)?;
    let mut parts = Vec::new();
    for (header, source) in headers.iter().zip(sources) {
        let (start, end) = header.part.unwrap_or((0, dumped.len()));
        let descs = header.bitmaps.0.checked_add(header.bitmaps.1).ok_or("a damaged kdump header")?;
        parts.push(Part { source: source.clone(), descs, pfns: start..end });
    }
    if headers.iter().any(|h| (h.max_mapnr, h.bitmaps) != (header.max_mapnr, header.bitmaps)) {
        return Err("parts of different split dumps".into());
    }
    let split = header.part.is_some();
    if sources.len() > 1 && !split {
        return Err("several files, but they are no parts of a split dump".into());
    }
    if split && missing_part(&parts, dumped.len()) {
        damage.push("parts of the split dump are missing: give all its files".into());
    }

    let mut raw_notes = Vec::new();
    let mut vmcoreinfo = None;
    for (header, source) in headers.iter().zip(sources) {
        if raw_notes.is_empty()
            && let Some((off, len)) = header.notes
        {
            match source.slice(off, len) {
                Ok(bytes) => raw_notes.extend(notes::parse(bytes)),
                Err(reason) => damage.push(format!("notes at {off:#x}: {reason}")),
            }
        }
        if vmcoreinfo.is_none()
            && let Some((off, len)) = header.vmcoreinfo
        {
            match source.slice(off, len) {
                Ok(bytes) => vmcoreinfo = Some(bytes),
                Err(reason) => damage.push(format!("VMCOREINFO at {off:#x}: {reason}")),
            }
        }
    }
    let mut format = String::from("kdump-compressed");
    if let Some(codec) = header.codec() {
        format += &format!(" ({codec})");
    }
    if split {
        format += ", split";
    }
    let incomplete = headers.iter().any(|h| h.status & INCOMPLETE != 0);
    let kdump = Kdump {
        parts,
        page_size: header.block_size,
        exists,
        dumped,
        incomplete,
        ranks: OnceLock::new(),
        ranges: OnceLock::new(),
        cache: Cache::new((CACHED / header.block_size) as usize),
        codecs: Codecs::default(),
    };
    let mut opened = Opened::new(format, header.arch, Box::new(kdump), raw_notes);
    opened.vmcoreinfo = vmcoreinfo.or(opened.vmcoreinfo);
    opened.dump_time = header.written;
    opened.dump_level = header.dump_level;
    opened.incomplete = incomplete;
    opened.damage = damage;
    Ok(opened)
}

/// The bitmap of dumped pages, and that of existing ones if there are two. A bitmap has its own blocks, so two are
/// there if half of the blocks are enough for all page frames.
fn bitmaps(source: &Source, header: &Header) -> Result<(Bitmap, Option<Bitmap>), String> {
    let (off, len) = header.bitmaps;
    let bytes = source.slice(off, len).map_err(|_| "a kdump file cut off within its bitmaps")?;
    let half = bytes.len() / 2;
    if header.max_mapnr <= half as u64 * 8 {
        let (exists, dumped) = (bytes.slice(..half), bytes.slice(half..));
        return Ok((Bitmap::new(dumped, header.max_mapnr), Some(Bitmap::new(exists, header.max_mapnr))));
    }
    Ok((Bitmap::new(bytes, header.max_mapnr), None))
}

/// Whether some page frame is in no part.
fn missing_part(parts: &[Part], end: u64) -> bool {
    let mut ranges: Vec<_> = parts.iter().map(|p| p.pfns.clone()).collect();
    ranges.sort_by_key(|r| r.start);
    let reached = ranges.iter().try_fold(0, |at, r| (r.start <= at).then_some(r.end.max(at)));
    reached.is_none_or(|reached| reached < end)
}

impl Kdump {
    /// Why the page is not in the dump, or nothing if it is.
    fn absent(&self, pfn: u64) -> Option<Reason> {
        match (self.dumped.get(pfn), &self.exists) {
            (true, _) if self.parts.iter().any(|part| part.pfns.contains(&pfn)) => None,
            (true, _) => Some(Reason::OtherPart),
            (false, Some(exists)) if exists.get(pfn) => Some(Reason::Excluded),
            (false, _) => Some(Reason::NotInDump),
        }
    }

    /// The page's descriptor, and the file it is in.
    fn desc(&self, pfn: u64) -> Result<(&Source, Desc), Reason> {
        if let Some(reason) = self.absent(pfn) {
            return Err(reason);
        }
        let part = self.parts.iter().find(|part| part.pfns.contains(&pfn)).ok_or(Reason::OtherPart)?;
        let ranks = self.ranks.get_or_init(|| self.dumped.ranks());
        let number = ranks.below(&self.dumped, pfn) - ranks.below(&self.dumped, part.pfns.start);
        let mut bytes = [0; DESC as usize];
        let at = part.descs.checked_add(number * DESC).ok_or(Reason::Truncated)?;
        part.source.read(at, &mut bytes)?;
        let desc = Desc::parse(&bytes).ok_or(Reason::Truncated)?;
        // A dump that ran out of space has descriptors that were never filled in.
        if desc.off == 0 && self.incomplete {
            return Err(Reason::Truncated);
        }
        if u64::from(desc.size) > self.page_size || (desc.is_raw() && u64::from(desc.size) != self.page_size) {
            return Err(Reason::Decompress(format!("the page's data is {} bytes", desc.size)));
        }
        Ok((&part.source, desc))
    }

    /// The page, from the cache or into it.
    fn page(&self, pfn: u64) -> Result<Bytes, Reason> {
        if let Some(page) = self.cache.get(&pfn) {
            return Ok(page);
        }
        let (source, desc) = self.desc(pfn)?;
        let data = source.slice(desc.off, u64::from(desc.size))?;
        if desc.is_raw() {
            return Ok(data);
        }
        let mut page = vec![0; self.page_size as usize];
        self.codecs.decompress(desc.flags, &data, &mut page)?;
        let page = Bytes::from(page);
        self.cache.insert(pfn, page.clone());
        Ok(page)
    }

    /// The whole page straight into `buf`, past the cache.
    fn page_into(&self, pfn: u64, buf: &mut [u8]) -> Result<(), Reason> {
        let (source, desc) = self.desc(pfn)?;
        if desc.is_raw() {
            return source.read(desc.off, buf);
        }
        let data = source.slice(desc.off, u64::from(desc.size))?;
        self.codecs.decompress(desc.flags, &data, buf)
    }

    fn split(&self, pa: u64) -> (u64, usize) {
        (pa / self.page_size, (pa % self.page_size) as usize)
    }
}

impl Image for Kdump {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        let scan = buf.len() >= SCAN;
        while !buf.is_empty() {
            let (pfn, inside) = self.split(pa);
            let len = buf.len().min(self.page_size as usize - inside);
            let (now, rest) = buf.split_at_mut(len);
            let done = if scan && len as u64 == self.page_size {
                self.page_into(pfn, now)
            } else {
                self.page(pfn).map(|page| now.copy_from_slice(&page[inside..inside + len]))
            };
            done.map_err(|reason| Fault { pa, reason })?;
            pa = pa.wrapping_add(len as u64);
            buf = rest;
        }
        Ok(())
    }

    fn bytes(&self, pa: u64, len: usize) -> Result<Bytes, Fault> {
        let (pfn, inside) = self.split(pa);
        if inside + len > self.page_size as usize {
            return copied(self, pa, len);
        }
        let page = self.page(pfn).map_err(|reason| Fault { pa, reason })?;
        Ok(page.slice(inside..inside + len))
    }

    fn state(&self, pa: u64) -> (Option<Reason>, u64) {
        let (pfn, inside) = self.split(pa);
        (self.absent(pfn), self.page_size - inside as u64)
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.ranges.get_or_init(|| {
            let mut parts: Vec<_> = self.parts.iter().map(|part| part.pfns.clone()).collect();
            parts.sort_by_key(|r| r.start);
            let mut out: Vec<Range<u64>> = Vec::new();
            for run in self.dumped.runs() {
                for part in parts.iter().filter(|part| part.start < run.end && run.start < part.end) {
                    let start = run.start.max(part.start).saturating_mul(self.page_size);
                    let end = run.end.min(part.end).saturating_mul(self.page_size);
                    match out.last_mut() {
                        Some(last) if last.end >= start => last.end = end.max(last.end),
                        _ => out.push(start..end),
                    }
                }
            }
            out
        })
    }

    fn missing(&self) -> Missing {
        let excluded = self.exists.as_ref().map(|exists| {
            let words = 0..exists.words();
            words.map(|i| u64::from((exists.word(i) & !self.dumped.word(i)).count_ones())).sum::<u64>() * self.page_size
        });
        Missing { truncated: self.truncated(), excluded }
    }
}

impl Kdump {
    /// Bytes of pages whose data is past the end of the file, or never came. Where the last page's data is there, so
    /// is all, since makedumpfile writes them in order.
    fn truncated(&self) -> u64 {
        let lost = |pfn| match self.desc(pfn) {
            Ok((source, desc)) => desc.off.saturating_add(u64::from(desc.size)) > source.len(),
            Err(reason) => reason == Reason::Truncated,
        };
        let pages = || self.ranges().iter().flat_map(|r| r.start / self.page_size..r.end / self.page_size);
        let ends = self.parts.iter().filter_map(|part| {
            let last = self.ranges().partition_point(|r| r.start / self.page_size < part.pfns.end).checked_sub(1)?;
            (self.ranges()[last].end / self.page_size).min(part.pfns.end).checked_sub(1)
        });
        if !self.incomplete && !ends.into_iter().any(lost) {
            return 0;
        }
        pages().filter(|&pfn| lost(pfn)).count() as u64 * self.page_size
    }
}
