//! Allocations of whole pages, told by `struct page`: which frames belong together, and which look like `kmalloc()`'s.
//!
//! `kmalloc()` takes what is larger than its largest slab cache straight from the page allocator. Newer kernels mark such
//! pages (`PGTY_large_kmalloc`). In older ones nothing tells them from other compound pages that the kernel allocated: so
//! all those are taken for such that have as many pages as the smallest of them would.

use super::nodes::Found;
use crate::{
    frame::{self, Frames},
    page::{PageKind, PageMap, word},
    search::{merged, subtract},
};
use engine::prelude::*;
use std::ops::Range;

/// `KMALLOC_MAX_CACHE_SIZE` is two pages; what is larger has the next power of two of them (include/linux/slab.h).
const SMALLEST_LARGE: u64 = 4;

/// Pages that belong together, found in one stretch of `struct page`s.
struct Piece {
    frames: Range<u64>,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// a compound page
    Compound,
    /// marked as `kmalloc()`'s
    Kmalloc,
    /// a page without a reference count that is not free
    Behind,
}

/// Where the members are.
struct Shape {
    size: usize,
    head: usize,
    flags: usize,
    refcount: usize,
    page_type: usize,
    private: usize,
    lru: u64,
    buddy: PageKind,
    slab: PageKind,
    kmalloc: Option<PageKind>,
    reserved: u64,
}

impl Shape {
    fn of(session: &Session, map: &PageMap) -> Result<Shape> {
        let at = |member: &str| session.offset("page", member).map(|at| at as usize);
        let reserved = session.enumerator("PG_reserved").and_then(|bit| 1u64.checked_shl(bit as u32));
        Ok(Shape {
            size: map.page_struct as usize,
            // another name since Linux 7.1 (d50569612c29)
            head: at("compound_head").or_else(|_| at("compound_info"))?,
            flags: at("flags")?,
            refcount: at("_refcount")?,
            page_type: at("page_type")?,
            private: at("private")?,
            lru: at("lru")? as u64,
            buddy: PageKind::of(session, "buddy")?,
            slab: PageKind::of(session, "slab")?,
            kmalloc: PageKind::of(session, "large_kmalloc").ok(),
            reserved: reserved.unwrap_or(0),
        })
    }

    fn pieces(&self, session: &Session, map: &PageMap, first: u64, bytes: &[u8], out: &mut Vec<Piece>) {
        // what follows a free page is not behind one in use
        let (mut free_until, mut behind_free) = (first, true);
        for (frame, page) in (first..).zip(bytes.chunks_exact(self.size)) {
            if let Some(head) = map.head(map.page(frame), word(page, self.head)).and_then(|head| map.frame(head)) {
                match out.last_mut() {
                    Some(last) if last.frames.start == head && last.what != What::Behind => last.frames.end = frame + 1,
                    _ => {}
                }
                continue;
            }
            if frame < free_until {
                continue;
            }
            if self.buddy.is(page) && !self.slab.is(page) {
                /// `MAX_ORDER` is 10, and may be larger on other architectures
                const MAX_BLOCK: u64 = 14;
                (free_until, behind_free) = (frame + (1 << word(page, self.private).min(MAX_BLOCK)), true);
                continue;
            }
            let what = match self.idle(session, map.page(frame), page) {
                _ if self.kmalloc.as_ref().is_some_and(|kind| kind.is(page)) => What::Kmalloc,
                None => What::Compound,
                Some(listed) if listed || behind_free => {
                    behind_free = true;
                    continue;
                }
                Some(_) => What::Behind,
            };
            behind_free = false;
            match out.last_mut() {
                // one that nothing lies behind
                Some(last) if last.what == What::Compound && last.frames.end - last.frames.start == 1 => {
                    (last.frames, last.what) = (frame..frame + 1, what);
                }
                Some(last) if last.what == What::Behind && what == What::Behind && last.frames.end == frame => {
                    last.frames.end = frame + 1;
                }
                _ => out.push(Piece { frames: frame..frame + 1, what }),
            }
        }
        out.pop_if(|last| last.what == What::Compound && last.frames.end - last.frames.start == 1);
    }

    /// Of a page of which nothing is said, whether it is on a list.
    fn idle(&self, session: &Session, at: Option<u64>, page: &[u8]) -> Option<bool> {
        let flags = word(page, self.flags);
        let used = word(page, self.refcount) as u32 != 0 || word(page, self.page_type) as u32 != u32::MAX;
        if used || flags == u64::MAX || flags & self.reserved != 0 || self.slab.is(page) {
            return None;
        }
        let link = at.unwrap_or_default().wrapping_add(self.lru);
        let next = word(page, self.lru as usize);
        // one that points to itself was never on a list
        Some(next != link && session.u64(next.wrapping_add(8)).is_ok_and(|back| back == link))
    }
}

/// All of the kernel's own allocations of pages, but for the frames of `hidden`.
pub(super) fn find(session: &Session, frames: &Frames, hidden: &[Range<u64>]) -> Result<Found> {
    let map = PageMap::of(session)?;
    let shape = Shape::of(session, &map)?;
    let scan = map.scan(session, |first, bytes, out| shape.pieces(session, &map, first, bytes, out))?;
    let kernel = frames.runs.iter().filter(|run| run.kind == frame::Kind::Kernel).map(|run| run.frames.clone());
    let behind = scan.found.iter().filter(|piece| piece.what == What::Behind).map(|piece| piece.frames.clone());
    let kernel = subtract(&merged(kernel.chain(behind).collect()), hidden);
    let is_kernel = |frames: &Range<u64>| {
        let next = kernel.partition_point(|run| run.end <= frames.start);
        kernel.get(next).is_some_and(|run| run.start <= frames.start && frames.end <= run.end)
    };
    let looks_so = |piece: &Piece| match shape.kmalloc {
        Some(_) => piece.what == What::Kmalloc,
        None => piece.frames.end - piece.frames.start >= SMALLEST_LARGE,
    };
    let large = scan.found.iter().filter(|piece| piece.what != What::Behind && is_kernel(&piece.frames));
    let large: Vec<(Range<u64>, bool)> = large.map(|piece| (piece.frames.clone(), looks_so(piece))).collect();
    let taken: Vec<Range<u64>> = large.iter().map(|(frames, _)| frames.clone()).collect();
    Ok(Found { kernel: subtract(&kernel, &taken), large })
}
