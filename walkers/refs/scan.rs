//! Reading memory for references: roots, objects, `struct page`s.

use super::{
    book::Book,
    nodes::{Block, Kind, Nodes},
    percpu::Percpus,
    roots::Root,
};
use crate::page::{PageKind, PageMap, word};
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// Words after which mapped pages may be too many.
const BREATH: u64 = 1 << 21;

/// Reads, and counts what was read.
pub(super) struct Scanner<'a> {
    pub session: &'a Session,
    pub nodes: &'a Nodes,
    pub book: &'a Book,
    /// what of per-CPU memory is referred to is noticed, if it is asked
    pub percpu: Option<&'a Percpus>,
    /// words that were looked at
    pub words: AtomicU64,
    /// bytes that are not in the dump
    pub missing: AtomicU64,
}

impl<'a> Scanner<'a> {
    pub fn new(session: &'a Session, nodes: &'a Nodes, book: &'a Book) -> Scanner<'a> {
        Scanner { session, nodes, book, percpu: None, words: AtomicU64::new(0), missing: AtomicU64::new(0) }
    }

    /// Whether a reference to an object, which lies at `at`, keeps it alive.
    #[inline]
    pub fn counts(&self, node: u32, at: u64) -> bool {
        !self.book.is_special(node) || self.book.counts(self.session, self.nodes, node, at)
    }

    /// Shows `hit` every reference in a root: the object's number, and the address of the word.
    pub fn root(&self, root: &Root, hit: &mut impl FnMut(u32, u64)) -> Result<()> {
        self.memory(Space::Phys, root.pa, root.va, root.len, hit)
    }

    /// Likewise, in some objects of a block.
    pub fn block(&self, block: &Block, nodes: &[u32], hit: &mut impl FnMut(u32, u64)) -> Result<()> {
        if !self.book.is_scanned(block) {
            return Ok(());
        }
        if block.kind == Kind::Area {
            return self.memory(Space::Kernel, block.base, block.base, block.size, hit);
        }
        let Some(pa) = self.nodes.physical(block.base) else { return Ok(()) };
        let whole = u64::from(block.count.saturating_sub(1)).saturating_mul(block.stride).saturating_add(block.size);
        // all of a slab, if more than one of its objects is wanted
        let bytes = match nodes {
            [_, _, ..] if whole <= PIECE => self.session.target.bytes(Space::Phys, pa, whole as usize).ok(),
            _ => None,
        };
        for node in nodes {
            let offset = u64::from(node - block.first).saturating_mul(block.stride);
            let part = bytes.as_ref().and_then(|b| b.get(offset as usize..offset.checked_add(block.size)? as usize));
            match part {
                Some(bytes) => self.scan(bytes, block.base.wrapping_add(offset), hit),
                None => {
                    let (pa, va) = (pa.wrapping_add(offset), block.base.wrapping_add(offset));
                    self.memory(Space::Phys, pa, va, block.size, hit)?;
                }
            }
        }
        Ok(())
    }

    /// Likewise, in the `struct page`s of memory in use: the buffers of a page of the page cache, the address space it is
    /// of, its memory cgroup, …. Of a slab's it is the memory cgroups of its objects.
    pub fn page_structs<R: Send>(&self, hit: impl Fn(u32, u64, &mut Vec<R>) + Sync) -> Result<Vec<R>> {
        let (session, nodes) = (self.session, self.nodes);
        let map = PageMap::of(session)?;
        let size = map.page_struct as usize;
        let slab = PageKind::of(session, "slab")?;
        let refcount = session.offset("page", "_refcount")? as usize;
        let places = [("slab", "obj_exts"), ("slab", "memcg_data"), ("page", "memcg_data"), ("page", "obj_cgroups")];
        let of_slab = places.iter().find_map(|(ctype, member)| session.place(ctype, member));
        let of_slab = of_slab.map_or(usize::MAX, |field| (field.bit_offset / 8) as usize);
        let scan = map.scan(session, |first, bytes, found: &mut Vec<R>| {
            for (frame, page) in (first..).zip(bytes.chunks_exact(size)) {
                let at = map.page(frame).unwrap_or_default();
                if slab.is(page) {
                    let to = nodes.at(word(page, of_slab));
                    to.into_iter().for_each(|node| hit(node, at.wrapping_add(of_slab as u64), found));
                } else if word(page, refcount) as u32 as i32 > 0 {
                    // a page does not keep itself
                    let own = map.address(frame).and_then(|addr| nodes.at(addr));
                    for (i, word) in page.as_chunks::<8>().0.iter().enumerate() {
                        let to = nodes.at(u64::from_le_bytes(*word)).filter(|node| Some(*node) != own);
                        to.into_iter().for_each(|node| hit(node, at.wrapping_add(i as u64 * 8), found));
                    }
                }
            }
        })?;
        Ok(scan.found)
    }

    /// A piece of memory that is read at `at` and known as `va`.
    fn memory(&self, space: Space, at: u64, va: u64, len: u64, hit: &mut impl FnMut(u32, u64)) -> Result<()> {
        let (target, mut done) = (&self.session.target, 0);
        while done < len {
            self.session.interrupt.check()?;
            let piece = PIECE.min(len - done);
            let (from, va) = (at.wrapping_add(done), va.wrapping_add(done));
            match target.bytes(space, from, piece as usize) {
                Ok(bytes) => self.scan(&bytes, va, hit),
                Err(_) => {
                    let mut bytes = vec![0; piece as usize];
                    for hole in target.read_lossy(space, from, &mut bytes) {
                        // what is not mapped, such as a guard page, is not missing
                        if hole.reason != Reason::NotMapped {
                            self.missing.fetch_add(hole.range.end - hole.range.start, Relaxed);
                        }
                    }
                    self.scan(&bytes, va, hit);
                }
            }
            done += piece;
        }
        Ok(())
    }

    #[inline]
    fn scan(&self, bytes: &[u8], va: u64, hit: &mut impl FnMut(u32, u64)) {
        let (words, _) = bytes.as_chunks::<8>();
        let before = self.words.fetch_add(words.len() as u64, Relaxed);
        if before / BREATH != (before + words.len() as u64) / BREATH {
            self.session.target.let_go();
        }
        let lowest = self.nodes.lowest();
        for (i, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            self.percpu.into_iter().for_each(|percpu| percpu.look(word));
            if word >= lowest
                && let Some(node) = self.nodes.at(word)
                && !self.book.is_mark(self.nodes, node, word)
            {
                hit(node, va.wrapping_add(i as u64 * 8));
            }
        }
    }
}
