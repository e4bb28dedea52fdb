//! What can be referred to: every object, numbered, and the way from a word of memory to the one it points into.
//!
//! Almost every pointer leads into the direct map, so a table by page frame names the *block* that a frame belongs to: a
//! slab, a large allocation, a run of other pages of the kernel. A block is a row of objects of one size; one division
//! says which. Areas of vmalloc memory are few, and are looked up among their sorted ranges. A pointer to a
//! `struct page` means the page, if that is not part of a slab.
//!
//! A pointer to anywhere in an object counts. That takes care of list heads, of red-black and maple trees, and of all
//! flags that the kernel keeps in the low bits of pointers.

use super::areas::Area;
use crate::{kfence, page::PageMap, slab::Slabs};
use engine::prelude::*;
use std::{ops::Range, sync::Arc};

/// What a block's objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// objects of the slab cache of this number
    Slab(u32),
    /// objects that KFENCE holds
    Kfence,
    /// an allocation of whole pages; `true` if it is known to be `kmalloc()`'s, or to look like that
    Pages(bool),
    /// other pages that the kernel allocated, each by itself
    Kernel,
    /// an area of vmalloc memory
    Area,
    /// memory of `alloc_percpu()`, which has no number: it is referred to by something else than its address
    Percpu,
}

/// A row of objects of one size.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// address of the first object
    pub base: u64,
    /// bytes from one object to the next
    pub stride: u64,
    /// bytes of each that are its user's
    pub size: u64,
    /// how many there are
    pub count: u32,
    /// number of the first one
    pub first: u32,
    /// what they are
    pub kind: Kind,
}

impl Block {
    /// Address of an object, by its number.
    pub fn object(&self, node: u32) -> u64 {
        self.base.wrapping_add(u64::from(node.wrapping_sub(self.first)).wrapping_mul(self.stride))
    }

    /// The number behind its last one's.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.count)
    }

    fn at(&self, addr: u64) -> Option<u32> {
        let index = addr.checked_sub(self.base)? / self.stride;
        (index < u64::from(self.count)).then(|| self.first + index as u32)
    }
}

/// Frames that the second level of the table covers.
const LEAF: usize = 1 << 12;
/// Frames beyond 2^34 (64 TiB of small pages) are no memory of any machine.
const MAX_FRAME: u64 = 1 << 34;

/// For each page frame its block's number plus one, or 0.
#[derive(Default)]
struct Table(Vec<Option<Box<[u32]>>>);

impl Table {
    fn set(&mut self, frame: u64, block: u32) {
        if frame >= MAX_FRAME {
            return;
        }
        let (top, low) = (frame as usize / LEAF, frame as usize % LEAF);
        if self.0.len() <= top {
            self.0.resize(top + 1, None);
        }
        let leaf = self.0.get_mut(top).map(|leaf| leaf.get_or_insert_with(|| vec![0; LEAF].into()));
        if let Some(entry) = leaf.and_then(|leaf| leaf.get_mut(low)) {
            *entry = block + 1;
        }
    }

    #[inline]
    fn get(&self, frame: u64) -> Option<u32> {
        let leaf = self.0.get(frame as usize / LEAF)?.as_ref()?;
        leaf.get(frame as usize % LEAF)?.checked_sub(1)
    }
}

/// Every object.
pub struct Nodes {
    blocks: Vec<Block>,
    table: Table,
    /// blocks of areas, by address
    areas: Vec<(Range<u64>, u32)>,
    map: Arc<PageMap>,
    /// addresses of the direct map
    direct: Range<u64>,
    /// physical address of its start
    direct_pa: u64,
    /// where `struct page`s are
    pages: Range<u64>,
    /// no address below this is one of any of these
    lowest: u64,
    count: u32,
}

/// Allocations of whole pages, as [`super::pages`] finds them.
pub struct Found {
    /// frames of each large allocation, and whether it is or looks like `kmalloc()`'s
    pub large: Vec<(Range<u64>, bool)>,
    /// frames of other pages of the kernel
    pub kernel: Vec<Range<u64>>,
}

impl Nodes {
    /// Numbers all objects.
    pub(super) fn build(session: &Session, slabs: &Slabs, found: &Found, areas: &[Area]) -> Result<Nodes> {
        let map = PageMap::of(session)?;
        let none = || Error::Unavailable("where the direct map lies is not known".into());
        let (first, last) = map.sections().first().zip(map.sections().last()).ok_or_else(none)?;
        let (start, end) = (first.frames.start, last.frames.end);
        let base = map.address(start).ok_or_else(none)?;
        let bytes = (end - start).checked_shl(map.shift).unwrap_or(0);
        let struct_bytes = |frames: &Range<u64>| (frames.end - frames.start).saturating_mul(map.page_struct);
        let pages = map.sections().iter().map(|s| s.map..s.map.saturating_add(struct_bytes(&s.frames)));
        let pages = pages.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        let direct = base..base.saturating_add(bytes);
        let mut nodes = Nodes {
            blocks: Vec::new(),
            table: Table::default(),
            areas: Vec::new(),
            direct_pa: start << map.shift,
            lowest: direct.start.min(pages.start),
            map,
            direct,
            pages,
            count: 0,
        };
        nodes.add_pages(found)?;
        nodes.add_slabs(slabs)?;
        nodes.add_kfence(session)?;
        for area in areas.iter().filter(|area| area.is_alloc()) {
            let len = area.range.end.saturating_sub(area.range.start);
            let mapped = area.made.as_ref().map_or(0, |made| made.nr_pages.saturating_mul(1 << nodes.map.shift));
            let block = nodes.add(area.range.start, (len, if mapped > 0 { mapped } else { len }), 1, Kind::Area)?;
            nodes.areas.push((area.range.clone(), block));
            nodes.lowest = nodes.lowest.min(area.range.start);
        }
        Ok(nodes)
    }

    fn add_pages(&mut self, found: &Found) -> Result<()> {
        let page = 1u64 << self.map.shift;
        for frames in &found.kernel {
            let count = u32::try_from(frames.end - frames.start).unwrap_or(u32::MAX);
            let Some(base) = self.map.address(frames.start) else { continue };
            let block = self.add(base, (page, page), count, Kind::Kernel)?;
            frames.clone().for_each(|frame| self.table.set(frame, block));
        }
        for (frames, kmalloc) in &found.large {
            let size = (frames.end - frames.start) << self.map.shift;
            let Some(base) = self.map.address(frames.start) else { continue };
            let block = self.add(base, (size, size), 1, Kind::Pages(*kmalloc))?;
            frames.clone().for_each(|frame| self.table.set(frame, block));
        }
        Ok(())
    }

    fn add_slabs(&mut self, slabs: &Slabs) -> Result<()> {
        for slab in slabs.all() {
            let Some(cache) = slabs.caches.get(slab.cache as usize) else { continue };
            let base = slab.base.wrapping_add(cache.left_pad());
            let size = u64::from(cache.object_size.min(cache.size));
            let block = self.add(base, (cache.size.into(), size), slab.objects, Kind::Slab(slab.cache))?;
            let frames = slab.bytes >> self.map.shift;
            if let Some(first) = self.map.frame_of_direct(slab.base) {
                (first..first + u64::from(frames)).for_each(|frame| self.table.set(frame, block));
            }
        }
        Ok(())
    }

    fn add_kfence(&mut self, session: &Session) -> Result<()> {
        let Some(pool) = kfence::Pool::of(session)? else { return Ok(()) };
        // an object is somewhere on its page; the guard page behind it nobody may touch
        let base = pool.base.saturating_add(pool.share);
        let count = u32::try_from(pool.count).unwrap_or(u32::MAX);
        let block = self.add(base, (pool.share, pool.share / 2), count, Kind::Kfence)?;
        if let Some(first) = self.map.frame_of_direct(base) {
            let frames = (pool.count * pool.share) >> self.map.shift;
            (first..first + frames).for_each(|frame| self.table.set(frame, block));
        }
        Ok(())
    }

    fn add(&mut self, base: u64, (stride, size): (u64, u64), count: u32, kind: Kind) -> Result<u32> {
        let first = self.count;
        let many =
            || Error::Unavailable("more objects than can be numbered: the slabs cannot be what they seem".into());
        self.count = self.count.checked_add(count).ok_or_else(many)?;
        self.blocks.push(Block { base, stride: stride.max(1), size: size.min(stride), count, first, kind });
        Ok(self.blocks.len() as u32 - 1)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All blocks, by the numbers of their objects.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block of an object.
    pub fn block(&self, node: u32) -> Option<&Block> {
        let next = self.blocks.partition_point(|block| block.first <= node);
        // those without objects share the number of the next one
        self.blocks.get(next.checked_sub(1)?).filter(|block| node < block.end())
    }

    /// Physical address of one of the direct map.
    pub fn physical(&self, addr: u64) -> Option<u64> {
        self.direct.contains(&addr).then(|| self.direct_pa + (addr - self.direct.start))
    }

    /// Where `struct page`s are.
    pub fn page_structs(&self) -> &Range<u64> {
        &self.pages
    }

    /// No word below this refers to anything.
    pub fn lowest(&self) -> u64 {
        self.lowest
    }

    /// The object that a word points into, or to whose `struct page` it points.
    #[inline]
    pub fn at(&self, word: u64) -> Option<u32> {
        if self.direct.contains(&word) {
            let frame = (self.direct_pa + (word - self.direct.start)) >> self.map.shift;
            return self.blocks.get(self.table.get(frame)? as usize)?.at(word);
        }
        if self.pages.contains(&word) {
            return self.of_page(word);
        }
        let next = self.areas.partition_point(|(range, _)| range.start <= word);
        let (range, block) = self.areas.get(next.checked_sub(1)?)?;
        if range.contains(&word) { self.blocks.get(*block as usize).map(|block| block.first) } else { None }
    }

    /// The allocation of pages that a `struct page` is part of. That of a slab says nothing of its objects.
    fn of_page(&self, word: u64) -> Option<u32> {
        let frame = self.map.frame(word)?;
        let block = self.blocks.get(self.table.get(frame)? as usize)?;
        match block.kind {
            Kind::Pages(_) | Kind::Kernel => block.at(self.map.address(frame)?),
            _ => None,
        }
    }
}
