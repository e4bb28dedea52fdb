//! What of a `struct page` contradicts itself: counts below zero, and pages that are on the lists of free ones and in use.

use super::{Finding, Kind, World};
use crate::page::{PageKind, PageMap, word};
use engine::prelude::*;

/// Flags that no free page has (`PAGE_FLAGS_CHECK_AT_FREE` in include/linux/page-flags.h), as far as all kernels agree.
const IN_USE: &[&str] = &["PG_lru", "PG_active", "PG_writeback", "PG_unevictable"];
/// `_mapcount` is one less than how often a page is mapped. Numbers further below are kinds of pages (`PAGE_MAPCOUNT_RESERVE`
/// in include/linux/page-flags.h).
const UNMAPPED: std::ops::Range<i32> = -128..-1;

/// Where in a `struct page` that is.
struct Shape {
    count: usize,
    flags: usize,
    mapped: usize,
    in_use: u64,
    free: PageKind,
}

impl Shape {
    fn of(session: &Session) -> Result<Shape> {
        let at = |member: &str| session.offset("page", member).map(|at| at as usize);
        let bit = |name: &&str| session.enumerator(name).and_then(|bit| 1u64.checked_shl(u32::try_from(bit).ok()?));
        Ok(Shape {
            count: at("_refcount")?,
            flags: at("flags")?,
            mapped: at("_mapcount")?,
            in_use: IN_USE.iter().filter_map(bit).fold(0, |all, bit| all | bit),
            free: PageKind::of(session, "buddy")?,
        })
    }

    /// The member that is wrong, and why.
    fn wrong(&self, page: &[u8]) -> Option<(usize, String)> {
        let (count, flags) = (word(page, self.count) as u32 as i32, word(page, self.flags));
        let mapped = word(page, self.mapped) as u32 as i32;
        // one that was never initialised is all ones (PAGE_POISON_PATTERN)
        if flags == u64::MAX {
            return None;
        }
        if count < 0 {
            return Some((
                self.count,
                format!("the reference count of page frame # is {count}: put too often, or written over"),
            ));
        }
        if self.free.is(page) {
            if count > 0 {
                return Some((
                    self.count,
                    format!("page frame # is marked as free, and its reference count is {count}"),
                ));
            }
            let odd = flags & self.in_use;
            return (odd != 0).then(|| {
                (
                    self.flags,
                    format!("page frame # is marked as free, and has flags of one in use, {odd:#x}: written over"),
                )
            });
        }
        (count > 0 && UNMAPPED.contains(&mapped)).then(|| {
            let times = mapped + 1;
            (
                self.mapped,
                format!("page frame # is in use and mapped {times} times: unmapped too often, or written over"),
            )
        })
    }
}

/// The pages that contradict themselves.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let (map, shape) = match PageMap::of(session).and_then(|map| Ok((map, Shape::of(session)?))) {
        Ok(both) => both,
        Err(e) if e.is_control() => return Err(e),
        // a kernel that describes its memory in another way is not damaged
        Err(_) => return Ok(Vec::new()),
    };
    let scan = map.scan(session, |first, bytes, found| {
        for (frame, page) in (first..).zip(bytes.chunks_exact(map.page_struct as usize)) {
            found.extend(shape.wrong(page).map(|(member, what)| (frame, member, what)));
        }
    })?;
    let finding = |(frame, member, what): (u64, usize, String)| {
        let at = map.page(frame)?.wrapping_add(member as u64);
        let verdict = what.replace('#', &format!("{frame:#x}"));
        Some(Finding { kind: Kind::Page, at, verdict, freed: None })
    };
    Ok(scan.found.into_iter().filter_map(finding).collect())
}
