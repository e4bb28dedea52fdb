//! Page frames, each by what it is used for: what should be in a dump, and what a filter may leave out.
//!
//! `struct page` tells most; what it does not tell (which kernel page belongs to what) the kernel's virtual addresses do.
//! The rules for what is free, page cache or user memory are those by which makedumpfile filters (its
//! `__exclude_unnecessary_pages()`), except that a slab is known by its mark and never by `mapping`, which a `struct slab`
//! uses for something else. A makedumpfile that is older than the kernel takes slabs for user memory there.

use crate::{
    module,
    page::{PageKind, PageMap, word},
    percpu,
    slab::Slabs,
    task_stack::Stacks,
};
use engine::{prelude::*, targets::Space};
use std::{collections::BTreeMap, ops::ControlFlow, ops::Range};

/// What a page frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// the kernel's code
    Text,
    /// its constants
    Rodata,
    /// its variables, also those that start as zeros
    Data,
    /// the copies of each CPU's variables
    Percpu,
    /// memory of modules
    Module,
    /// tasks' kernel stacks
    Stack,
    /// page tables
    Table,
    /// the `struct page`s
    PageStruct,
    /// slabs
    Slab,
    /// other memory that is mapped piece by piece
    Vmalloc,
    /// set aside at boot
    Reserved,
    /// whatever else the kernel allocated
    Kernel,
    /// page cache
    Cache,
    /// page cache with private data, such as buffer heads
    PrivateCache,
    /// anonymous memory of processes, and huge pages
    User,
    /// free
    Free,
}

impl Kind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "kernel text",
            Kind::Rodata => "kernel rodata",
            Kind::Data => "kernel data",
            Kind::Percpu => "per-CPU",
            Kind::Module => "modules",
            Kind::Stack => "stacks",
            Kind::Table => "page tables",
            Kind::PageStruct => "struct pages",
            Kind::Slab => "slab",
            Kind::Vmalloc => "vmalloc",
            Kind::Reserved => "reserved",
            Kind::Kernel => "other kernel",
            Kind::Cache => "page cache",
            Kind::PrivateCache => "private cache",
            Kind::User => "user",
            Kind::Free => "free",
        }
    }

    /// The levels of makedumpfile (`-d`), any of which leaves such pages out; 0 if none does.
    pub fn levels(self) -> u32 {
        match self {
            Kind::Cache => 2 | 4,
            Kind::PrivateCache => 4,
            Kind::User => 8,
            Kind::Free => 16,
            _ => 0,
        }
    }
}

/// Frames of one kind, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// the frames
    pub frames: Range<u64>,
    /// what they are used for
    pub kind: Kind,
}

/// Every frame that has a `struct page` in use.
#[derive(Debug, Default)]
pub struct Frames {
    /// by frame; those that nobody uses and no list has are left out
    pub runs: Vec<Run>,
    /// `struct page`s that are not in the dump: what their frames are is not known
    pub unknown: u64,
    /// frames of kernel memory whose mapping could not be followed: page tables that are not in the dump
    pub lost_tables: u64,
}

impl Frames {
    /// Looks at every `struct page`, and at what the kernel maps.
    pub fn of(session: &Session) -> Result<Frames> {
        let mut frames = Frames::by_struct(session)?;
        let mut special = Special::default();
        special.find(session, &*PageMap::of(session)?)?;
        for run in std::mem::take(&mut frames.runs) {
            special.split(run, &mut |run| frames.add(run));
        }
        frames.lost_tables = special.lost_tables;
        Ok(frames)
    }

    /// Looks at every `struct page`, and at nothing else: of kernel memory no more is known than that it is that.
    pub fn by_struct(session: &Session) -> Result<Frames> {
        let map = PageMap::of(session)?;
        let shape = Shape::of(session)?;
        let scan =
            map.scan(session, |first, bytes, found: &mut Vec<Run>| shape.runs(session, &map, first, bytes, found))?;
        let mut frames = Frames { unknown: scan.missing, ..Frames::default() };
        scan.found.into_iter().for_each(|run| frames.add(run));
        Ok(frames)
    }

    fn add(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.kind == run.kind && last.frames.end == run.frames.start => {
                last.frames.end = run.frames.end;
            }
            _ => self.runs.push(run),
        }
    }
}

/// Where the members are that tell what a page is.
struct Shape {
    size: usize,
    flags: usize,
    mapping: usize,
    refcount: usize,
    head: usize,
    private: usize,
    slab: PageKind,
    buddy: PageKind,
    table: Option<PageKind>,
    kmalloc: Option<PageKind>,
    user: Vec<PageKind>,
    free: Vec<PageKind>,
    lru: u64,
    reserved: u64,
    has_private: u64,
    poisoned: u64,
}

impl Shape {
    fn of(session: &Session) -> Result<Shape> {
        let at = |member: &str| session.offset("page", member).map(|at| at as usize);
        let bit = |name: &str| match session.enumerator(name) {
            Some(bit @ 0..64) => 1u64 << bit,
            _ => 0,
        };
        let marked = |kind: &str| PageKind::of(session, kind).ok();
        Ok(Shape {
            size: session.size_of("page")? as usize,
            flags: at("flags")?,
            mapping: at("mapping")?,
            refcount: at("_refcount")?,
            // see PageMap::used
            head: at("compound_head").or_else(|_| at("compound_info"))?,
            private: at("private")?,
            slab: PageKind::of(session, "slab")?,
            buddy: PageKind::of(session, "buddy")?,
            table: marked("table"),
            // of an allocation larger than any slab, in newer kernels; its pages may have no reference count
            kmalloc: marked("large_kmalloc"),
            user: marked("hugetlb").into_iter().collect(),
            free: marked("offline").into_iter().collect(),
            lru: bit("PG_lru") | bit("PG_swapcache"),
            reserved: bit("PG_reserved"),
            has_private: bit("PG_private"),
            poisoned: bit("PG_hwpoison"),
        })
    }

    fn runs(&self, session: &Session, map: &PageMap, first: u64, bytes: &[u8], out: &mut Vec<Run>) {
        let page = |index: u64| bytes.get(index as usize * self.size..(index as usize + 1) * self.size);
        let count = (bytes.len() / self.size.max(1)) as u64;
        let mut add = |frames: Range<u64>, kind: Kind| match out.last_mut() {
            Some(last) if last.kind == kind && last.frames.end == frames.start => last.frames.end = frames.end,
            _ => out.push(Run { frames, kind }),
        };
        let mut last_head = (0, None);
        let mut at = 0;
        while let Some(this) = (at < count).then(|| page(at)).flatten() {
            let mut next = at + 1;
            let kind = match map.head(map.page(first + at), word(this, self.head)) {
                Some(head) if head != last_head.0 => {
                    let kind = session.bytes(head, self.size).ok().and_then(|head| self.kind(&head));
                    last_head = (head, kind);
                    kind
                }
                Some(_) => last_head.1,
                None if self.buddy.is(this) && !self.slab.is(this) => {
                    /// see PageMap::used
                    const MAX_BLOCK: u64 = 14;
                    next = at + (1 << word(this, self.private).min(MAX_BLOCK));
                    Some(Kind::Free)
                }
                None => self.kind(this),
            };
            next = next.min(count);
            if let Some(kind) = kind {
                add(first + at..first + next, kind);
            }
            at = next;
        }
    }

    /// What a page is by itself; `None` if it is nobody's.
    fn kind(&self, page: &[u8]) -> Option<Kind> {
        let (flags, mapping) = (word(page, self.flags), word(page, self.mapping));
        let any = |kinds: &[PageKind]| kinds.iter().any(|kind| kind.is(page));
        /// `PAGE_MAPPING_ANON` (`FOLIO_MAPPING_ANON`)
        const ANON: u64 = 1;
        match () {
            // never set up
            () if flags == u64::MAX => None,
            () if self.slab.is(page) => Some(Kind::Slab),
            () if any(&self.free) => Some(Kind::Free),
            () if any(&self.user) => Some(Kind::User),
            () if self.table.as_ref().is_some_and(|kind| kind.is(page)) => Some(Kind::Table),
            () if self.kmalloc.as_ref().is_some_and(|kind| kind.is(page)) => Some(Kind::Kernel),
            () if flags & self.poisoned != 0 => Some(Kind::Free),
            () if flags & self.reserved != 0 => Some(Kind::Reserved),
            () if word(page, self.refcount) as u32 as i32 <= 0 => None,
            () if mapping & ANON != 0 => Some(Kind::User),
            () if flags & self.lru != 0 || mapping != 0 => {
                Some(if flags & self.has_private != 0 { Kind::PrivateCache } else { Kind::Cache })
            }
            () => Some(Kind::Kernel),
        }
    }
}

/// The `struct page` that speaks for a frame, that of the larger page it is part of, and what it says of the frame's use.
pub fn one(session: &Session, map: &PageMap, frame: u64) -> Result<(u64, Option<Kind>)> {
    struct Kept(Shape);
    let shape = &session.once(|| Ok(Kept(Shape::of(session)?)))?.0;
    let page = map.page(frame).ok_or_else(|| Error::Unavailable("the page frame has no struct page".into()))?;
    let bytes = session.bytes(page, shape.size)?;
    match map.head(Some(page), word(&bytes, shape.head)) {
        Some(head) => Ok((head, shape.kind(&session.bytes(head, shape.size)?))),
        None if shape.buddy.is(&bytes) && !shape.slab.is(&bytes) => Ok((page, Some(Kind::Free))),
        None => Ok((page, shape.kind(&bytes))),
    }
}

/// Frames whose use the kernel's addresses tell.
#[derive(Default)]
struct Special {
    /// by first frame, disjoint
    runs: BTreeMap<u64, (u64, Kind)>,
    lost_tables: u64,
}

impl Special {
    fn find(&mut self, session: &Session, map: &PageMap) -> Result<()> {
        let symbol = |name| session.kernel_symbol(name);
        for (start, end, kind) in [
            ("_stext", "_etext", Kind::Text),
            ("__start_rodata", "__end_rodata", Kind::Rodata),
            ("_sdata", "_edata", Kind::Data),
            ("__bss_start", "__bss_stop", Kind::Data),
            // the gaps between them
            ("_text", "_end", Kind::Data),
        ] {
            if let Some((start, end)) = symbol(start).zip(symbol(end)) {
                self.mapped(session, map, start..end, kind)?;
            }
        }
        for section in map.sections() {
            let len = (section.frames.end - section.frames.start).saturating_mul(map.page_struct);
            self.mapped(session, map, section.map..section.map.saturating_add(len), Kind::PageStruct)?;
        }
        module::each(session, &mut |at| {
            let ranges = session.view::<module::Module>(at).and_then(|module| module.memory(session));
            for (_, range) in ranges.or_else(unreadable)? {
                self.mapped(session, map, range, Kind::Module)?;
            }
            Ok(())
        })
        .or_else(unreadable)?;
        for stack in Stacks::of(session)?.ranges() {
            self.mapped(session, map, stack, Kind::Stack)?;
        }
        for area in percpu::Areas::of(session).map_or_else(|_| Vec::new(), |areas| areas.ranges()) {
            self.mapped(session, map, area, Kind::Percpu)?;
        }
        self.rest(session, map)
    }

    /// All of the kernel's half that is not the direct map: vmalloc.
    fn rest(&mut self, session: &Session, map: &PageMap) -> Result<()> {
        let direct = session.target.kernel_layout().ok().and_then(|layout| layout.direct_map);
        let keep_going = || session.interrupt.check().is_ok();
        let outcome = session.target.each_mapping(Space::Kernel, 1 << 63..=u64::MAX, &keep_going, &mut |m| {
            if direct.is_none_or(|base| m.va.wrapping_sub(base) != m.pa) {
                self.add(map, m.pa, m.len, Kind::Vmalloc);
            }
            ControlFlow::Continue(())
        });
        session.interrupt.check()?;
        if let Ok(outcome) = outcome {
            self.lost_tables = outcome.unreadable;
        }
        Ok(())
    }

    /// A range of virtual addresses is of this kind, as far as it is mapped.
    fn mapped(&mut self, session: &Session, map: &PageMap, range: Range<u64>, kind: Kind) -> Result<()> {
        let last = range.end.saturating_sub(1);
        if range.is_empty() {
            return Ok(());
        }
        let keep_going = || session.interrupt.check().is_ok();
        let done = session.target.each_mapping(Space::Kernel, range.start..=last, &keep_going, &mut |m| {
            self.add(map, m.pa, m.len, kind);
            ControlFlow::Continue(())
        });
        session.interrupt.check()?;
        // without page tables nothing is known
        let _ = done;
        Ok(())
    }

    /// Frames are of this kind, unless they are known to be of another.
    fn add(&mut self, map: &PageMap, pa: u64, len: u64, kind: Kind) {
        let (start, end) = (pa >> map.shift, pa.saturating_add(len).div_ceil(1 << map.shift));
        let mut at = start;
        while at < end {
            let before = self.runs.range(..=at).next_back().map(|(_, (end, _))| *end);
            if let Some(behind) = before.filter(|behind| *behind > at) {
                at = behind;
                continue;
            }
            let next = self.runs.range(at..).next().map_or(end, |(start, _)| (*start).min(end));
            if at < next {
                self.runs.insert(at, (next, kind));
            }
            at = next;
        }
    }

    /// Splits a run where the addresses know more: of pages of which `struct page` does not know more than that they are
    /// the kernel's.
    fn split(&self, run: Run, out: &mut dyn FnMut(Run)) {
        if !matches!(run.kind, Kind::Kernel | Kind::Reserved) {
            return out(run);
        }
        let mut at = run.frames.start;
        while at < run.frames.end {
            let here = self.runs.range(..=at).next_back().filter(|(_, (end, _))| *end > at);
            let (end, kind) = match here {
                // what the firmware has is mapped there when it is looked at
                Some((_, (end, Kind::Vmalloc))) if run.kind == Kind::Reserved => (*end, run.kind),
                Some((_, (end, kind))) => (*end, *kind),
                None => (self.runs.range(at..).next().map_or(u64::MAX, |(start, _)| *start), run.kind),
            };
            let end = end.min(run.frames.end);
            out(Run { frames: at..end, kind });
            at = end;
        }
    }
}

fn unreadable<T: Default>(error: Error) -> Result<T> {
    if error.is_unreadable() { Ok(T::default()) } else { Err(error) }
}

/// The name of the cache that a frame of a slab belongs to.
pub fn cache_of<'a>(slabs: &'a Slabs, map: &PageMap, frame: u64) -> Option<&'a str> {
    let (_, slab) = slabs.at(map.address(frame)?)?;
    slabs.caches.get(slab.cache as usize).map(|cache| cache.name())
}
