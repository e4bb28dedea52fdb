//! `struct page`: from page frame numbers to addresses and back, and a scan over all of them.
//!
//! Memory is described in sections (`SPARSEMEM`, include/linux/mmzone.h). A present section names where the array of
//! its `struct page`s lies, in a form that makes page frame `pfn`'s entry `section_mem_map + pfn * sizeof(struct
//! page)`; with `SPARSEMEM_VMEMMAP` that base is the same for all, `vmemmap`. Sections are asked, not the bounds of
//! RAM, because they alone say for which frames there is a `struct page` at all.
//!
//! ```console
//! > ::walk page | ::head -1 | ::print _refcount
//! _refcount = {
//!     _refcount.counter = 0x1
//! }
//! ```

use crate::total::Total;
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use rayon::prelude::*;
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// `SECTION_SIZE_BITS`, for dumps that do not tell: the same on x86-64 and, since Linux 5.12, on arm64, but
/// for 64 KiB pages.
const SECTION_BITS: u64 = 27;
const SECTION_BITS_64K: u64 = 29;
/// No architecture has more physical address bits.
const MAX_PHYS_BITS: u64 = 52;
/// `SECTION_HAS_MEM_MAP`: the section's `struct page`s exist.
const HAS_MEM_MAP: u64 = 1 << 1;
/// The flags share the word with a page-aligned address.
const FLAGS: u64 = 0xfff;
/// Page frames that are scanned in one go: their structs are 2 MiB, what one entry of `vmemmap`'s tables maps.
const PART: u64 = 1 << 15;
/// Unreadable bytes of `struct page`s that a scan puts up with: a terabyte's.
const PATIENCE: u64 = 1 << 34;

/// A section of memory that has `struct page`s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// its page frames
    pub frames: Range<u64>,
    /// address of its first frame's `struct page`
    pub map: u64,
    /// address of its `struct mem_section`; 0 if it has none
    pub addr: u64,
}

/// Where every `struct page` is.
#[derive(Debug)]
pub struct PageMap {
    /// by frame
    sections: Vec<Section>,
    /// indices into `sections`, by address of the map
    by_map: Vec<u32>,
    /// `sizeof(struct page)`
    pub page_struct: u64,
    /// bits of a page's offset
    pub shift: u32,
    /// where the direct map starts, if known
    direct_map: Option<u64>,
}

impl PageMap {
    /// The session's. Fails with [`Error::Unavailable`] if the kernel describes its memory in another way.
    pub fn of(session: &Session) -> Result<Arc<PageMap>> {
        session.once(|| PageMap::read(session))
    }

    fn read(session: &Session) -> Result<PageMap> {
        let page_struct = session.size_of("page")?;
        if page_struct < 16 {
            return Err(Error::Unavailable("the types know no complete `struct page`".into()));
        }
        let shift = session.target.page_size().trailing_zeros();
        let sections = sections(session, page_struct, shift)?;
        let mut by_map: Vec<u32> = (0..sections.len() as u32).collect();
        by_map.sort_by_key(|i| sections.get(*i as usize).map(|s| s.map));
        Ok(PageMap { sections, by_map, page_struct, shift, direct_map: direct_map(session) })
    }

    /// The sections, by page frame.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Number of page frames that have a `struct page`.
    pub fn frames(&self) -> u64 {
        self.sections.iter().map(|s| s.frames.end - s.frames.start).total()
    }

    /// The section that a frame is in.
    pub fn section(&self, frame: u64) -> Option<&Section> {
        let next = self.sections.partition_point(|s| s.frames.start <= frame);
        self.sections.get(next.checked_sub(1)?).filter(|section| section.frames.contains(&frame))
    }

    /// Address of a frame's `struct page`.
    pub fn page(&self, frame: u64) -> Option<u64> {
        let section = self.section(frame)?;
        let index = frame - section.frames.start;
        Some(section.map.wrapping_add(index.wrapping_mul(self.page_struct)))
    }

    /// The frame whose `struct page` covers an address.
    pub fn frame(&self, page: u64) -> Option<u64> {
        let section = |i: &u32| self.sections.get(*i as usize);
        let next = self.by_map.partition_point(|i| section(i).is_some_and(|s| s.map <= page));
        let section = self.by_map.get(next.checked_sub(1)?).and_then(section)?;
        let frame = section.frames.start.checked_add((page - section.map) / self.page_struct)?;
        section.frames.contains(&frame).then_some(frame)
    }

    /// The first page of the larger one that a page, whose `compound_head` or `compound_info` is `info`, is behind of.
    /// Since Linux 7.1 (d50569612c29) there may be a mask for the address instead of the address.
    pub fn head(&self, page: Option<u64>, info: u64) -> Option<u64> {
        if info & 1 == 0 {
            return None;
        }
        let head = match self.frame(info - 1) {
            Some(_) => info - 1,
            None => page? & (info - 1),
        };
        (Some(head) != page && self.frame(head).is_some()).then_some(head)
    }

    /// Where the direct map has a frame: `page_address()`.
    pub fn address(&self, frame: u64) -> Option<u64> {
        self.direct_map?.checked_add(frame.checked_mul(1 << self.shift)?)
    }

    /// The frame behind an address of the direct map that has a `struct page`.
    pub fn frame_of_direct(&self, addr: u64) -> Option<u64> {
        let frame = addr.checked_sub(self.direct_map?)? >> self.shift;
        self.page(frame).map(|_| frame)
    }

    /// The frame behind any mapped address of the kernel.
    pub fn frame_of(&self, session: &Session, addr: u64) -> Option<u64> {
        let to = session.target.translate(Space::Kernel, addr).ok()?;
        Some(to.pa >> self.shift)
    }

    /// Hands every `struct page` that can be read to `work`, a stretch at a time and several in parallel. `work` gets
    /// the first frame and the bytes of the structs, and its finds come back in order.
    pub fn scan<R: Send>(&self, session: &Session, work: impl Fn(u64, &[u8], &mut Vec<R>) + Sync) -> Result<Scan<R>> {
        let budget = Budget::new(session);
        let each = |part: Section| {
            let mut found = Vec::new();
            self.scan_part(session, &part, &budget, &mut |frame, bytes| work(frame, bytes, &mut found))?;
            Ok(found)
        };
        let parts: Vec<Section> = self.sections.iter().flat_map(|s| self.parts(s)).collect();
        // waking a thread pool costs more than scanning a few parts
        let found: Result<Vec<Vec<R>>> = if parts.len() > 16 {
            parts.into_par_iter().map(each).collect()
        } else {
            parts.into_iter().map(each).collect()
        };
        Ok(Scan {
            found: found?.into_iter().flatten().collect(),
            missing: budget.missing.into_inner() / self.page_struct,
            gave_up: budget.over.into_inner(),
        })
    }

    /// A section in parts of [`PART`] frames.
    fn parts(&self, section: &Section) -> impl Iterator<Item = Section> {
        let (frames, map, size) = (section.frames.clone(), section.map, self.page_struct);
        (0..(frames.end - frames.start).div_ceil(PART)).map(move |i| {
            let start = frames.start + i * PART;
            let map = map.wrapping_add(i.wrapping_mul(PART).wrapping_mul(size));
            Section { frames: start..frames.end.min(start + PART), map, addr: 0 }
        })
    }

    fn scan_part(
        &self,
        session: &Session,
        part: &Section,
        budget: &Budget,
        work: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<()> {
        let len = ((part.frames.end - part.frames.start) * self.page_struct) as usize;
        if !budget.take(len as u64) {
            return Ok(());
        }
        match session.bytes(part.map, len) {
            Ok(bytes) => work(part.frames.start, &bytes),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {
                let mut bytes = vec![0; len];
                let mut done = 0;
                for hole in session.target.read_lossy(Space::Kernel, part.map, &mut bytes) {
                    let start = hole.range.start.wrapping_sub(part.map) as usize;
                    let end = hole.range.end.wrapping_sub(part.map) as usize;
                    self.stretch(part, &bytes, done..start, work);
                    budget.unreadable((end - start) as u64, len as u64, &hole.reason);
                    done = end;
                }
                self.stretch(part, &bytes, done..len, work);
            }
        }
        Ok(())
    }

    /// Shows `work` the whole structs among the bytes of `range`.
    fn stretch(&self, part: &Section, bytes: &[u8], range: Range<usize>, work: &mut dyn FnMut(u64, &[u8])) {
        let size = self.page_struct as usize;
        let (first, last) = (range.start.div_ceil(size), range.end / size);
        if let Some(bytes) = bytes.get(first * size..last * size).filter(|b| !b.is_empty()) {
            work(part.frames.start + first as u64, bytes);
        }
    }
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan<R> {
    /// by page frame
    pub found: Vec<R>,
    /// `struct page`s that the dump should have and has not
    pub missing: u64,
    /// the page map described more than the dump can hold, and was not followed to its end
    pub gave_up: bool,
}

/// Bounds the work of a scan: no more bytes than the dump has, since each is there once; and not too many failures.
struct Budget {
    left: AtomicU64,
    patience: AtomicU64,
    missing: AtomicU64,
    over: AtomicBool,
}

impl Budget {
    fn new(session: &Session) -> Budget {
        let present: u64 = session.target.ranges().iter().map(|r| r.end - r.start).sum();
        Budget {
            left: AtomicU64::new(present),
            patience: AtomicU64::new(PATIENCE),
            missing: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Whether so many bytes may still be read.
    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        let patient = self.patience.load(Relaxed) > 0;
        let ok = patient && self.left.fetch_update(Relaxed, Relaxed, less).is_ok();
        if !ok {
            self.over.store(true, Relaxed);
        }
        ok
    }

    /// Gives bytes that could not be read, of a part of `part` bytes, back, and loses patience instead.
    fn unreadable(&self, bytes: u64, part: u64, reason: &Reason) {
        self.left.fetch_add(bytes, Relaxed);
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let _ = self.patience.fetch_update(Relaxed, Relaxed, less);
        // a section may have no memory in places, whose structs are not mapped; but some it has
        if *reason != Reason::NotMapped || bytes == part {
            self.missing.fetch_add(bytes, Relaxed);
        }
    }
}

/// Start of the direct map: `page_offset_base`, or what the page tables say.
fn direct_map(session: &Session) -> Option<u64> {
    let told = session.kernel_symbol("page_offset_base").and_then(|at| session.u64(at).ok());
    told.or_else(|| session.target.kernel_layout().ok()?.direct_map)
}

/// Where the kernel says that there are `struct page`s.
fn sections(session: &Session, page_struct: u64, shift: u32) -> Result<Vec<Section>> {
    let bits = session.target.vmcoreinfo().and_then(|v| v.number("SECTION_SIZE_BITS"));
    let bits = bits.and_then(|b| u64::try_from(b).ok()).filter(|b| (u64::from(shift) + 1..40).contains(b));
    let usual = if shift == 16 { SECTION_BITS_64K } else { SECTION_BITS };
    let frames = 1 << (bits.unwrap_or(usual) - u64::from(shift));
    let found = match roots(session)? {
        Some(roots) => sparse(session, roots, frames, page_struct, shift)?,
        None => flat(session, frames, page_struct, shift)?,
    };
    if found.is_empty() {
        return Err(Error::Unavailable("the kernel does not say where its `struct page`s are".into()));
    }
    Ok(distinct(session, found, page_struct))
}

/// `mem_section`: what it holds or points to, and whether that is pointers (to pages of sections). With
/// SPARSEMEM_EXTREME it is a pointer to pointers, since Linux 4.15 (83e3c48729d9); without, it holds the sections
/// themselves.
fn roots(session: &Session) -> Result<Option<(u64, bool)>> {
    if let Some(table) = session.kernel_symbol("mem_section") {
        let extreme = symbol_size(session, "mem_section").is_none_or(|size| size <= 64);
        let roots = if extreme { session.u64(table).doing(|| "reading mem_section".into())? } else { table };
        return Ok(Some((roots, extreme)));
    }
    // VMCOREINFO has not the address of that pointer, but the pointer (VMCOREINFO_SYMBOL_ARRAY), and how many there are
    let info = session.target.vmcoreinfo();
    let told = info.and_then(|info| Some((info.symbol("mem_section")?, info.length("mem_section").unwrap_or(0) > 1)));
    Ok(told.filter(|_| session.size_of("mem_section").is_ok()))
}

/// Reads all sections.
fn sparse(
    session: &Session,
    (roots, extreme): (u64, bool),
    frames: u64,
    page_struct: u64,
    shift: u32,
) -> Result<Vec<Section>> {
    let size = session.size_of("mem_section")?.max(8);
    let member = session.offset("mem_section", "section_mem_map")?;
    let per_root = ((1u64 << shift) / size).max(1);
    let highest = highest_section(session, frames, shift)?;
    let mut out = Vec::new();
    for root in 0..=highest / per_root {
        let at = match extreme {
            true => session.u64(roots.wrapping_add(root * 8)),
            false => Ok(roots.wrapping_add(root * per_root * size)),
        };
        let at = match at {
            Ok(0) => continue,
            Ok(at) => at,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(roots.wrapping_add(root * 8), format!("memory sections: {}", e.kind()));
                break;
            }
        };
        for number in (root * per_root..(root + 1) * per_root).take_while(|n| *n <= highest) {
            let addr = at.wrapping_add(number % per_root * size);
            let word = match session.u64(addr.wrapping_add(member)) {
                Ok(word) => word,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    session.notes.add(at, format!("memory sections: {}", e.kind()));
                    break;
                }
            };
            if word & HAS_MEM_MAP != 0 {
                out.push(Section { addr, ..section(number * frames, frames, word & !FLAGS, page_struct) });
            }
        }
    }
    Ok(out)
}

/// A section whose `struct page`s are counted from frame 0 at `base`.
fn section(first: u64, frames: u64, base: u64, page_struct: u64) -> Section {
    Section { frames: first..first + frames, map: base.wrapping_add(first.wrapping_mul(page_struct)), addr: 0 }
}

/// Without `mem_section`: one array for all frames, of which there are as many as the dump's memory has.
fn flat(session: &Session, frames: u64, page_struct: u64, shift: u32) -> Result<Vec<Section>> {
    // FLATMEM has a pointer to it; a dump whose symbols are incomplete may still know vmemmap
    let pointer = ["mem_map", "vmemmap_base"].iter().find_map(|name| session.kernel_symbol(name));
    let base = match pointer {
        Some(at) => session.u64(at).doing(|| "reading where the struct pages are".into())?,
        None => session.target.vmcoreinfo().and_then(|v| v.symbol("vmemmap")).unwrap_or(0),
    };
    let bytes = frames << shift;
    let mut numbers: Vec<u64> = Vec::new();
    for range in session.target.ranges().iter().filter(|_| base != 0) {
        numbers.extend(range.start / bytes..range.end.div_ceil(bytes));
    }
    numbers.dedup();
    Ok(numbers.into_iter().map(|n| section(n * frames, frames, base, page_struct)).collect())
}

/// Number of the last section, bounded by what an address can have.
fn highest_section(session: &Session, frames: u64, shift: u32) -> Result<u64> {
    let most = (1u64 << MAX_PHYS_BITS >> shift) / frames;
    let name = "__highest_present_section_nr";
    let Some(at) = session.kernel_symbol(name) else {
        let end = session.target.ranges().last().map_or(0, |r| r.end);
        return Ok(((end >> shift) / frames).min(most));
    };
    // an int before Linux 4.20
    let bytes = if symbol_size(session, name) == Some(4) { 4 } else { 8 };
    Ok(session.uint(at, bytes).doing(|| format!("reading {name}"))?.min(most))
}

/// Bytes from a symbol to the next.
fn symbol_size(session: &Session, name: &str) -> Option<u64> {
    session.symbols.kernel()?.by_name(name).first().map(|s| s.size).filter(|size| *size > 0)
}

/// Drops sections whose `struct page`s would lie where another's do: only damage makes such.
fn distinct(session: &Session, mut sections: Vec<Section>, page_struct: u64) -> Vec<Section> {
    sections.sort_by_key(|s| s.map);
    let mut end = 0u64;
    sections.retain(|s| {
        let fits = s.map >= end;
        if fits {
            end = s.map.saturating_add((s.frames.end - s.frames.start) * page_struct);
        } else {
            session.notes.add(s.map, "memory sections that overlap");
        }
        fits
    });
    sections.sort_by_key(|s| s.frames.start);
    sections
}

/// How a `struct page` says what its page is used for.
#[derive(Debug)]
pub enum PageKind {
    /// a bit of `flags`
    Flag {
        /// offset of the word
        at: usize,
        /// number of the bit
        bit: u32,
    },
    /// the masked `page_type` has this value
    Type {
        /// offset of the word
        at: usize,
        /// the bits that count
        mask: u32,
        /// what they must be
        value: u32,
    },
}

impl PageKind {
    /// The mark of a kind that has one: `slab`, `buddy` (free), `table`, `offline`, `guard`, `hugetlb`.
    pub fn of(session: &Session, kind: &str) -> Result<PageKind> {
        let at = || Ok::<_, Error>(session.offset("page", "page_type")? as usize);
        let base = session.enumerator("PAGE_TYPE_BASE").map_or(0xf000_0000, |v| v as u32);
        match (session.enumerator(&format!("PGTY_{kind}")), session.enumerator(&format!("PG_{kind}"))) {
            // a number in the highest byte since Linux 6.12 (4ffca5a96678)
            (Some(value), _) => Ok(PageKind::Type { at: at()?, mask: 0xff << 24, value: (value as u32) << 24 }),
            // a flag: PG_slab up to Linux 6.9
            (None, Some(bit @ 0..64)) => {
                Ok(PageKind::Flag { at: session.offset("page", "flags")? as usize, bit: bit as u32 })
            }
            // a bit that is *zero*: an enumerator in Linux 6.11 (ff202303c398)
            (None, Some(bit)) => Ok(PageKind::Type { at: at()?, mask: base | bit as u32, value: base }),
            // before that a macro; PG_slab is one of them in 6.10 only (46df8e73a4a3)
            (None, None) => {
                // up to Linux 5.10 pages charged to a group had a bit among them (18b2db3b0385), and a pointer to it
                let shift = u32::from(session.has_member("page", "mem_cgroup"));
                let bit = match kind {
                    "buddy" => 0x80,
                    "offline" => 0x100,
                    "table" => 0x200 << shift,
                    "guard" => 0x400 << shift,
                    "hugetlb" => 0x800,
                    "slab" => 0x1000,
                    _ => return Err(Error::Unavailable(format!("the kernel does not mark {kind} pages"))),
                };
                Ok(PageKind::Type { at: at()?, mask: base | bit, value: base })
            }
        }
    }

    /// Whether a page, given by the bytes of its struct, is of this kind.
    #[inline]
    pub fn is(&self, page: &[u8]) -> bool {
        match self {
            PageKind::Flag { at, bit } => word(page, *at) >> bit & 1 == 1,
            PageKind::Type { at, mask, value } => word(page, *at) as u32 & mask == *value,
        }
    }
}

/// Eight bytes of a struct, as far as it has them.
#[inline]
pub(crate) fn word(page: &[u8], at: usize) -> u64 {
    match page.get(at..at.saturating_add(8)) {
        Some(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
        None => {
            let mut last = [0; 8];
            for (to, from) in last.iter_mut().zip(page.get(at..).unwrap_or_default()) {
                *to = *from;
            }
            u64::from_le_bytes(last)
        }
    }
}

/// What a page frame is used for, as far as its `struct page` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// in a free block of this order
    Free {
        /// the block has two to this power frames
        order: u32,
    },
    /// behind the first page of a larger one
    Tail {
        /// address of the first one's `struct page`
        head: u64,
    },
    /// in use by so many
    Used {
        /// `_refcount`
        users: i32,
    },
    /// nobody uses it, nor is it in the allocator's lists: a CPU keeps it, or it is on its way
    Idle,
}

/// Orders of free blocks: `MAX_ORDER` is 10, and may be larger on other architectures.
const MAX_BLOCK: u32 = 14;

impl PageMap {
    /// What a frame is used for.
    pub fn used(&self, session: &Session, frame: u64) -> Result<Use> {
        let buddy = PageKind::of(session, "buddy")?;
        let private = session.offset("page", "private")? as usize;
        // only the first page of a free block is marked; a block is aligned as it is large
        for order in 0..=MAX_BLOCK {
            let Some(first) = self.page(frame >> order << order) else { break };
            let page = session.bytes(first, self.page_struct as usize)?;
            let block = word(&page, private);
            if buddy.is(&page) && (u64::from(order)..=MAX_BLOCK.into()).contains(&block) {
                return Ok(Use::Free { order: block as u32 });
            }
        }
        let page = self.page(frame).ok_or_else(|| Error::Unavailable("the page frame has no struct page".into()))?;
        // compound_info since Linux 7.1 (d50569612c29); in both the lowest bit marks a tail
        let head = session.place("page", "compound_head").or_else(|| session.place("page", "compound_info"));
        let head = head.map_or(Ok(0), |field| session.u64(page.wrapping_add(field.bit_offset / 8)))?;
        if head & 1 == 1 {
            return Ok(Use::Tail { head: head - 1 });
        }
        match session.u32(page.wrapping_add(session.offset("page", "_refcount")?))? as i32 {
            0 => Ok(Use::Idle),
            users => Ok(Use::Used { users }),
        }
    }
}

/// Walks page frames.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "page",
    doc: "walk the struct page of every page frame",
    item: "struct page",
    address: Address::None,
    walk: |cx, _, visit| {
        let map = PageMap::of(cx)?;
        map.sections().iter().flat_map(|s| s.frames.clone()).try_for_each(|f| visit(map.page(f).unwrap_or_default()))
    },
}];
