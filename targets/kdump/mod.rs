//! kdump-compressed files: what makedumpfile and QEMU's `dump-guest-memory -z` write, and most crash dumps are.
//!
//! Behind the headers stand two bitmaps with a bit for each page frame, "exists" and "is in the dump", then one
//! descriptor for each page that is in the dump, then the pages, each compressed by itself. The descriptor's number is
//! the count of set bits below the page's: nothing needs to be read in advance. Decompressed pages are kept in a
//! cache of fixed size, except those of large reads, which are scans and would only flush it. Large reads, and reads
//! that go on where the last one ended, are decompressed on all cores.

mod ahead;
mod bitmap;
mod header;
mod page;
mod set;

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use quick_cache::sync::Cache;
use rayon::prelude::*;

use crate::error::Reason;
use crate::image::{Fault, Image, Missing, copied};
use crate::mmu::Arch;
use crate::notes;
use crate::open::{self, Opened};
use crate::order::Order;
use crate::source::Source;
use crate::vmcoreinfo::VmCoreInfo;
use ahead::Ahead;
use bitmap::{Bitmap, Ranks};
pub(crate) use header::MAGIC;
use header::{Header, INCOMPLETE, NEWEST};
use page::{DESC, Desc, decompress};
use set::Member;

/// Bytes of pages that are kept decompressed.
const CACHED: u64 = 64 << 20;
/// Reads of this many bytes are scans.
const SCAN: usize = 64 << 10;
/// Pages that one thread decompresses at a time.
const BATCH: usize = 16;

/// One file: all of a dump, or a part of a split one.
struct Part {
    source: Source,
    /// offset of the descriptors
    descs: u64,
    /// page frames whose descriptors these are
    pfns: Range<u64>,
}

struct Kdump {
    /// by page frame, disjoint
    parts: Vec<Part>,
    order: Order,
    page_size: u64,
    /// the page frames that exist; the same bits as `dumped` if the format does not tell
    exists: Option<Bitmap>,
    /// the page frames that are in the dump
    dumped: Bitmap,
    incomplete: bool,
    ranks: OnceLock<Ranks>,
    ranges: OnceLock<Vec<Range<u64>>>,
    truncated: OnceLock<u64>,
    cache: Cache<u64, Bytes>,
    ahead: Ahead,
}

/// Opens a kdump file, or the parts of a split one, each with the name that the user knows it by; the error is what to
/// tell the user.
pub(crate) fn open(files: Vec<(String, Source)>) -> Result<Opened, String> {
    let alone = files.len() == 1;
    let mut members = Vec::new();
    for (name, source) in files {
        let named = |why| if alone { why } else { format!("{name}: {why}") };
        let header = Header::read(&source).map_err(named)?;
        check_size(&header).map_err(named)?;
        if !alone {
            // Or else the parts would be said to differ.
            bitmaps(&source, &header).map_err(named)?;
        }
        members.push(Member { name, source, header });
    }
    set::check(&members)?;
    let Some(Member { source, header, .. }) = members.first() else { return Err("no file".into()) };
    let (dumped, exists) = bitmaps(source, header)?;
    let mut damage = Vec::new();
    if header.version > NEWEST {
        let version = header.version;
        damage.push(format!(
            "the header has version {version}, newer than any known ({NEWEST}): what it adds is not used"
        ));
    }
    let mut parts: Vec<Part> = members.iter().map(|member| part(member, dumped.len())).collect();
    parts.sort_by_key(|part| part.pfns.start);
    damage.extend(missing_parts(&parts, &dumped));

    let mut about = About::default();
    for Member { source, header, .. } in &members {
        about.add(source, header, &mut damage);
    }
    let incomplete = members.iter().any(|m| m.header.status & INCOMPLETE != 0);
    let mut opened = Opened::new(
        format_name(header),
        arch(header, &about),
        Box::new(Kdump {
            parts,
            order: header.order,
            page_size: header.block_size,
            exists,
            dumped,
            incomplete,
            ranks: OnceLock::new(),
            ranges: OnceLock::new(),
            truncated: OnceLock::new(),
            cache: Cache::new((CACHED / header.block_size) as usize),
            ahead: Ahead::default(),
        }),
        about.notes,
    );
    opened.vmcoreinfo = about.vmcoreinfo.or(opened.vmcoreinfo);
    opened.erased = about.erased.or(opened.erased);
    opened.order = header.order;
    opened.uts = Some(header.names());
    opened.dump_time = header.written;
    opened.dump_level = header.dump_level;
    opened.incomplete = incomplete;
    opened.damage = damage;
    Ok(opened)
}

/// QEMU names only a PC's machine; others are "Unknown". Then what only arm64's VMCOREINFO has tells, or the size of
/// `struct elf_prstatus`. (Its blocks have 64 KiB on arm64, whatever pages the kernel has.)
fn arch(header: &Header, about: &About) -> Arch {
    if header.arch != Arch::UNKNOWN {
        return header.arch;
    }
    let vmcoreinfo = about.vmcoreinfo.as_ref().map(|text| VmCoreInfo::parse(text, None));
    let prstatus = about.notes.iter().find(|note| note.kind == 1 && &note.name[..] == b"CORE");
    match prstatus.map(|note| note.desc.len()) {
        _ if vmcoreinfo.is_some_and(|info| info.number("kimage_voffset").is_some()) => Arch::Aarch64,
        Some(392) => Arch::Aarch64,
        Some(336) => Arch::X86_64,
        _ => header.arch,
    }
}

/// Blocks are pages; anything else is damage, and nothing behind it could be found.
fn check_size(header: &Header) -> Result<(), String> {
    let (size, arch) = (header.block_size, header.arch);
    if arch.has_pages_of(size) {
        return Ok(());
    }
    Err(format!("a damaged kdump header: blocks of {size} bytes, which is no page size of {}", arch.name()))
}

fn format_name(header: &Header) -> String {
    let codec = header.codec().map(|codec| format!(" ({codec})")).unwrap_or_default();
    let split = if header.part.is_some() { ", split" } else { "" };
    format!("kdump-compressed{codec}{split}")
}

fn part(member: &Member, frames: u64) -> Part {
    let (start, end) = member.header.part.unwrap_or((0, frames));
    let (off, len) = member.header.bitmaps;
    // Both are products of 32-bit numbers and a page size.
    Part { source: member.source.clone(), descs: off.saturating_add(len), pfns: start..end.min(frames).max(start) }
}

/// What the headers point to, of whichever file has it.
#[derive(Default)]
struct About {
    notes: Vec<notes::Note>,
    vmcoreinfo: Option<Bytes>,
    erased: Option<String>,
}

impl About {
    fn add(&mut self, source: &Source, header: &Header, damage: &mut Vec<String>) {
        let mut get = |what: &str, place: Option<(u64, u64)>| {
            let (off, len) = place?;
            let bytes = source.slice(off, len);
            bytes.map_err(|reason| damage.push(format!("{len} bytes of {what} at offset {off:#x}: {reason}"))).ok()
        };
        if self.notes.is_empty() {
            let bytes = get("notes", header.notes);
            self.notes.extend(bytes.into_iter().flat_map(|bytes| notes::parse_in(bytes, header.order)));
        }
        if self.vmcoreinfo.is_none() {
            self.vmcoreinfo = get("VMCOREINFO", header.vmcoreinfo);
        }
        if self.erased.is_none() {
            self.erased = get("erase information", header.eraseinfo).map(|bytes| open::text(&bytes));
        }
    }
}

/// The bitmap of dumped pages, and that of existing ones if there are two. A bitmap has its own blocks, so two are
/// there if half of the blocks are enough for all page frames.
fn bitmaps(source: &Source, header: &Header) -> Result<(Bitmap, Option<Bitmap>), String> {
    let (off, len) = header.bitmaps;
    let bytes = source.slice(off, len).map_err(|_| {
        let (end, ends) = (off.saturating_add(len), source.len());
        format!(
            "a kdump file cut off within its page bitmaps, which end at {end:#x}, the file at {ends:#x}: \
             no page of memory is in it; copy it again"
        )
    })?;
    let half = bytes.len() / 2;
    if header.max_mapnr <= half as u64 * 8 {
        let (exists, dumped) = (bytes.slice(..half), bytes.slice(half..));
        return Ok((Bitmap::new(dumped, header.max_mapnr), Some(Bitmap::new(exists, header.max_mapnr))));
    }
    Ok((Bitmap::new(bytes, header.max_mapnr), None))
}

/// What to say of page frames that are in the dump, but in no file that was given.
fn missing_parts(parts: &[Part], dumped: &Bitmap) -> Option<String> {
    let gaps = set::gaps(parts.iter().map(|part| part.pfns.clone()), dumped.len());
    let mut lost = gaps.iter().filter(|gap| dumped.get(gap.start) || dumped.run(gap.start) < gap.end - gap.start);
    let (first, more) = (lost.next()?, lost.count());
    let more = if more > 0 { format!(" and {more} other ranges") } else { String::new() };
    Some(format!(
        "parts of the split dump are missing: page frames {:#x} to {:#x}{more} are in none of the files; give all of them",
        first.start,
        first.end - 1
    ))
}

impl Kdump {
    /// Why the page is not in the dump, or nothing if it is.
    fn absent(&self, pfn: u64) -> Option<Reason> {
        match (self.dumped.get(pfn), &self.exists) {
            (true, _) if self.part(pfn).is_some() => None,
            (true, _) => Some(Reason::OtherPart),
            (false, Some(exists)) if exists.get(pfn) => Some(Reason::Excluded),
            (false, _) => Some(Reason::NotInDump),
        }
    }

    /// For how many page frames from `pfn` on, at least one, [`Kdump::absent`] says the same.
    fn alike(&self, pfn: u64) -> u64 {
        let dumped = self.dumped.run(pfn);
        if !self.dumped.get(pfn) {
            return self.exists.as_ref().map_or(dumped, |exists| dumped.min(exists.run(pfn)));
        }
        let edges = self.parts.iter().flat_map(|part| [part.pfns.start, part.pfns.end]);
        edges.filter(|&edge| edge > pfn).map(|edge| edge - pfn).fold(dumped, u64::min)
    }

    /// The file that has the page's descriptor.
    fn part(&self, pfn: u64) -> Option<&Part> {
        let next = self.parts.partition_point(|part| part.pfns.start <= pfn);
        self.parts.get(next.checked_sub(1)?).filter(|part| pfn < part.pfns.end)
    }

    /// The page's file, and where in it its descriptor is. Those of the next pages that are in the dump follow.
    fn place(&self, pfn: u64) -> Result<(&Part, u64), Reason> {
        if let Some(reason) = self.absent(pfn) {
            // The bitmaps are a window on the file, and zeros if it was cut short.
            return Err(if self.trouble().is_some() { Reason::Truncated } else { reason });
        }
        let part = self.part(pfn).ok_or(Reason::OtherPart)?;
        let ranks = self.ranks.get_or_init(|| self.dumped.ranks());
        let number = ranks.below(&self.dumped, pfn) - ranks.below(&self.dumped, part.pfns.start);
        Ok((part, part.descs.saturating_add(number * DESC)))
    }

    /// The descriptor at an offset of its file.
    fn desc(&self, source: &Source, at: u64) -> Result<Desc, Reason> {
        let desc = source.with(at, DESC, |bytes| Desc::parse(bytes, self.order))?.ok_or(Reason::Truncated)?;
        // A dump that ran out of space has descriptors that were never filled in.
        if desc.off == 0 && (self.incomplete || desc.size == 0) {
            return Err(Reason::Truncated);
        }
        if u64::from(desc.size) > self.page_size || (desc.is_raw() && u64::from(desc.size) != self.page_size) {
            let size = desc.size;
            return Err(Reason::Decompress(format!("its descriptor at offset {at:#x} says {size} bytes")));
        }
        Ok(desc)
    }

    /// The page that `desc` describes into `page`.
    fn unpack(&self, source: &Source, desc: Desc, page: &mut [u8]) -> Result<(), Reason> {
        source
            .with(desc.off, u64::from(desc.size), |data| decompress(desc.flags, data, page))?
            .map_err(|why| Reason::Decompress(format!("{why} (data at offset {:#x})", desc.off)))
    }

    /// The page, from the cache or into it.
    fn page(&self, pfn: u64) -> Result<Bytes, Reason> {
        if let Some(page) = self.cache.get(&pfn) {
            return Ok(page);
        }
        let (part, at) = self.place(pfn)?;
        let desc = self.desc(&part.source, at)?;
        if desc.is_raw() {
            return part.source.slice(desc.off, self.page_size);
        }
        let pages = self.ahead.pages(pfn).min(self.alike(pfn));
        if pages as usize >= BATCH / 2
            && let Some(crew) = ahead::crew()
        {
            let others = pfn + 1..pfn + pages;
            let (page, ()) = crew.install(|| {
                rayon::join(
                    || self.fetch(pfn),
                    || {
                        others.into_par_iter().for_each(|pfn| {
                            // It is a guess that somebody will want it; who does is told what is wrong with it.
                            let _ = self.fetch(pfn);
                        })
                    },
                )
            });
            return page;
        }
        self.fetch(pfn)
    }

    /// The page into the cache.
    fn fetch(&self, pfn: u64) -> Result<Bytes, Reason> {
        let (part, at) = self.place(pfn)?;
        let desc = self.desc(&part.source, at)?;
        let mut page = vec![0; self.page_size as usize];
        self.unpack(&part.source, desc, &mut page)?;
        let page = Bytes::from(page);
        self.cache.insert(pfn, page.clone());
        Ok(page)
    }

    /// Whole pages from `pfn` on straight into `buf`, past the cache. They are all in the dump, and in one part. The
    /// error says how many were good.
    fn pages_into(&self, pfn: u64, buf: &mut [u8]) -> Result<(), (usize, Reason)> {
        let size = self.page_size as usize;
        let (part, at) = self.place(pfn).map_err(|reason| (0, reason))?;
        let mut last: Option<Desc> = None;
        for i in 0..buf.len() / size {
            let fail = |reason| (i, reason);
            let desc = self.desc(&part.source, at + i as u64 * DESC).map_err(fail)?;
            if last == Some(desc) {
                // makedumpfile writes pages of zeros once
                buf.copy_within((i - 1) * size..i * size, i * size);
                continue;
            }
            self.unpack(&part.source, desc, &mut buf[i * size..(i + 1) * size]).map_err(fail)?;
            last = Some(desc);
        }
        Ok(())
    }

    /// The same on all cores.
    fn pages_by_all(&self, pfn: u64, buf: &mut [u8]) -> Result<(), (usize, Reason)> {
        let Some(crew) = ahead::crew() else { return self.pages_into(pfn, buf) };
        let batch = BATCH * self.page_size as usize;
        // Nothing behind the first bad page matters.
        let bad = AtomicUsize::new(usize::MAX);
        let work = |(i, buf): (usize, &mut [u8])| {
            let first = i * BATCH;
            if first > bad.load(Ordering::Relaxed) {
                return None;
            }
            let (done, reason) = self.pages_into(pfn + first as u64, buf).err()?;
            bad.fetch_min(first + done, Ordering::Relaxed);
            Some((first + done, reason))
        };
        let errors = || buf.par_chunks_mut(batch).enumerate().filter_map(work).min_by_key(|&(done, _)| done);
        crew.install(errors).map_or(Ok(()), Err)
    }

    /// Page frame, and offset in the page.
    fn split(&self, pa: u64) -> (u64, usize) {
        (pa / self.page_size, (pa % self.page_size) as usize)
    }
}

impl Image for Kdump {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        let scan = buf.len() >= SCAN;
        while !buf.is_empty() {
            let (pfn, inside) = self.split(pa);
            let whole = if scan && inside == 0 { buf.len() as u64 / self.page_size } else { 0 };
            let len = match whole {
                0 => buf.len().min(self.page_size as usize - inside),
                pages => (pages.min(self.alike(pfn)) * self.page_size) as usize,
            };
            let (now, rest) = buf.split_at_mut(len);
            if whole > 0 {
                self.pages_by_all(pfn, now)
                    .map_err(|(done, reason)| Fault { pa: pa + done as u64 * self.page_size, reason })?;
            } else {
                let mut copy = || {
                    let page = self.page(pfn).map_err(|reason| Fault { pa, reason })?;
                    now.copy_from_slice(page.get(inside..inside + len).unwrap_or_default());
                    Ok(())
                };
                copy()?;
                // An uncompressed page is a window on the file, which may have broken under the copy.
                if self.trouble().is_some() {
                    copy()?;
                }
            }
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
        (self.absent(pfn), self.alike(pfn).saturating_mul(self.page_size) - inside as u64)
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.ranges.get_or_init(|| {
            let mut out: Vec<Range<u64>> = Vec::new();
            for run in self.dumped.runs() {
                let first = self.parts.partition_point(|part| part.pfns.end <= run.start);
                for part in self.parts.iter().skip(first).take_while(|part| part.pfns.start < run.end) {
                    let start = run.start.max(part.pfns.start).saturating_mul(self.page_size);
                    let end = run.end.min(part.pfns.end).saturating_mul(self.page_size);
                    match out.last_mut() {
                        Some(last) if last.end >= start => last.end = end.max(last.end),
                        _ => out.push(start..end),
                    }
                }
            }
            out
        })
    }

    fn present(&self) -> u64 {
        let ranks = self.ranks.get_or_init(|| self.dumped.ranks());
        let count = |part: &Part| ranks.below(&self.dumped, part.pfns.end) - ranks.below(&self.dumped, part.pfns.start);
        let promised = self.parts.iter().map(count).sum::<u64>().saturating_mul(self.page_size);
        promised.saturating_sub(self.cut_off())
    }

    fn missing(&self) -> Missing {
        let excluded = self.exists.as_ref().map(|exists| {
            let words = 0..exists.words();
            let pages = words.map(|i| u64::from((exists.word(i) & !self.dumped.word(i)).count_ones())).sum::<u64>();
            pages.saturating_mul(self.page_size)
        });
        Missing { truncated: self.cut_off(), excluded }
    }

    fn trouble(&self) -> Option<String> {
        self.parts.iter().find_map(|part| part.source.trouble())
    }

    fn let_go(&self, most: u64) {
        self.parts.iter().for_each(|part| part.source.let_go(most));
    }
}

impl Kdump {
    /// [`Kdump::truncated`], counted once.
    fn cut_off(&self) -> u64 {
        *self.truncated.get_or_init(|| self.truncated())
    }

    /// Bytes of pages whose data is past the end of the file, or never came. Where the last pages' data is there, so
    /// is all, since makedumpfile writes them in order.
    fn truncated(&self) -> u64 {
        let lost = |source: &Source, at| match self.desc(source, at) {
            Ok(desc) => desc.off.saturating_add(u64::from(desc.size)) > source.len(),
            Err(reason) => reason == Reason::Truncated,
        };
        // The last page alone does not tell: one of zeros has its data where the first one has it.
        const LAST: u64 = 1 << 16;
        let ranks = self.ranks.get_or_init(|| self.dumped.ranks());
        let mut pages = 0;
        for part in &self.parts {
            let count = ranks.below(&self.dumped, part.pfns.end) - ranks.below(&self.dumped, part.pfns.start);
            let at = |number: u64| part.descs.saturating_add(number * DESC);
            let last = count.saturating_sub(LAST)..count;
            if self.incomplete || last.into_iter().any(|number| lost(&part.source, at(number))) {
                pages += (0..count).filter(|&number| lost(&part.source, at(number))).count() as u64;
            }
        }
        pages.saturating_mul(self.page_size)
    }
}
