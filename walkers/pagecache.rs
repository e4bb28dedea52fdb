//! What of a file is in memory: the `struct address_space` (include/linux/fs.h) of its inode, an xarray of pages, or of
//! folios of several.
//!
//! ```console
//! > ff2ee9c204c4c968::walk pagecache | ::count
//! COUNT
//!   218
//! ```

use crate::{
    inode::{self, Inode},
    page::PageMap,
    xarray,
};
use engine::{ViewEntry, prelude::*};
use std::sync::Arc;

/// What is read of a file's `struct address_space`.
#[derive(View, Clone, Debug)]
#[ctype("address_space")]
pub struct Mapping {
    /// its address
    #[addr]
    pub addr: u64,
    /// the inode it is of; 0 of swap
    pub host: u64,
    /// pages there are
    #[field("nrpages")]
    pub pages: u64,
    #[field("i_pages")]
    array: At,
}

/// What is read of the first page of a folio.
#[derive(View)]
#[ctype("page")]
struct Page {
    flags: u64,
    /// `index`, under this name since Linux 6.16 (acc53a0b4c15)
    #[field("__folio_index", "index")]
    index: u64,
    mapping: u64,
}

/// A piece of a file that is in memory in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// where in the file it begins, in pages
    pub index: u64,
    /// how many pages it has
    pub pages: u64,
    /// the `struct page` of the first, which is the `struct folio`
    pub page: u64,
    /// the flags that say what is the matter with it
    pub flags: u64,
}

/// How this kernel says how large a folio is.
#[derive(Debug)]
enum Order {
    /// the lowest eight bits of `_flags_1`, since Linux 6.6 (ebc1baf5c9b4)
    Flags(u64),
    /// a byte of the second page
    Byte(u64),
    /// there are none of several pages
    Never,
}

/// Where the bits of `flags` are.
#[derive(Debug)]
struct Shape {
    head: Option<u32>,
    order: Order,
    names: Vec<(u32, &'static str)>,
}

/// Larger folios than any: 2^20 pages.
const MAX_ORDER: u64 = 20;

impl Shape {
    fn of(session: &Session) -> Result<Arc<Shape>> {
        session.once(|| {
            let bit = |name: &str| session.enumerator(name).and_then(|bit| u32::try_from(bit).ok()).filter(|b| *b < 64);
            let known = [
                ("PG_locked", "locked"),
                ("PG_uptodate", "uptodate"),
                ("PG_dirty", "dirty"),
                ("PG_writeback", "writeback"),
                ("PG_referenced", "referenced"),
                ("PG_lru", "lru"),
                ("PG_active", "active"),
                ("PG_workingset", "workingset"),
                ("PG_private", "private"),
                ("PG_reclaim", "reclaim"),
                ("PG_swapbacked", "swapbacked"),
                ("PG_error", "error"),
                ("PG_hwpoison", "hwpoison"),
            ];
            let at = |ctype, member| session.place(ctype, member).map(|field| field.bit_offset / 8);
            let order = if let Some(at) = at("folio", "_folio_order") {
                Order::Byte(at)
            } else if let Some(at) = at("folio", "_flags_1") {
                Order::Flags(at)
            } else if let (Some(at), Ok(page)) = (at("page", "compound_order"), session.size_of("page")) {
                Order::Byte(page + at)
            } else {
                Order::Never
            };
            let names = known.iter().filter_map(|(name, word)| Some((bit(name)?, *word))).collect();
            Ok(Shape { head: bit("PG_head"), order, names })
        })
    }

    fn pages(&self, session: &Session, page: u64, flags: u64) -> Result<u64> {
        if self.head.is_none_or(|bit| flags >> bit & 1 == 0) {
            return Ok(1);
        }
        let order = match self.order {
            Order::Flags(at) | Order::Byte(at) => u64::from(session.u8(page.wrapping_add(at))?),
            Order::Never => 0,
        };
        Ok(if order <= MAX_ORDER { 1 << order } else { 1 })
    }
}

impl Cached {
    /// Its flags by name.
    pub fn flag_names(&self, session: &Session) -> Result<Vec<&'static str>> {
        let shape = Shape::of(session)?;
        Ok(shape.names.iter().filter(|(bit, _)| self.flags >> bit & 1 == 1).map(|(_, name)| *name).collect())
    }
}

/// What is in the array of a file's pages, and says that it is not of that file, or not there.
#[derive(Clone, Copy, Debug)]
pub struct Odd {
    /// where in the file it is, in pages
    pub index: u64,
    /// the `struct page`
    pub page: u64,
    /// the `struct address_space` that it says it is of
    pub mapping: u64,
    /// where it says that it is
    pub at: u64,
}

/// Visits what is in memory of a file, in its order, given its `struct address_space`. What was swapped out, or was there
/// once, is left out.
pub fn each(session: &Session, mapping: u64, visit: &mut dyn FnMut(Cached) -> Result<()>) -> Result<()> {
    let mut odd = |odd: Odd| session.notes.add(odd.page, "page that is not of the file that has it");
    each_or_odd(session, mapping, visit, &mut odd)
}

/// Likewise, and shows `odd` what is not of the file.
pub fn each_or_odd(
    session: &Session,
    mapping: u64,
    visit: &mut dyn FnMut(Cached) -> Result<()>,
    odd: &mut dyn FnMut(Odd),
) -> Result<()> {
    let view: Mapping = session.view(mapping)?;
    let shape = Shape::of(session)?;
    let mut behind = 0;
    xarray::each(session, view.array.0, &mut |index, entry| {
        // a value: where in the swap it is, or a shadow of what was evicted
        if entry & 1 == 1 || index < behind {
            return Ok(());
        }
        let page: Page = match session.view(entry) {
            Ok(page) => page,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(entry, format!("page of a file: {}", e.kind()));
                return Ok(());
            }
        };
        let pages = shape.pages(session, entry, page.flags)?;
        if page.mapping != mapping || index < page.index || index - page.index >= pages {
            odd(Odd { index, page: entry, mapping: page.mapping, at: page.index });
            return Ok(());
        }
        behind = page.index.saturating_add(pages);
        visit(Cached { index: page.index, pages, page: entry, flags: page.flags })
    })
}

/// Reads a file out of memory, piece by piece: `visit` gets where in the file, and the bytes; nothing for holes. The
/// pages that are in memory but not in the dump are noted.
pub fn read(session: &Session, inode: &Inode, visit: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let map = PageMap::of(session)?;
    let size = session.target.page_size();
    let end = inode.size.max(0) as u64;
    each(session, inode.mapping, &mut |cached| {
        let first = map.frame(cached.page).ok_or_else(|| Error::Corrupt {
            addr: cached.page,
            what: "page of a file that is no page of the machine".into(),
        })?;
        for i in 0..cached.pages {
            let Some(at) = cached.index.checked_add(i).and_then(|index| index.checked_mul(size)) else { break };
            if at >= end {
                break;
            }
            let mut bytes = vec![0; size.min(end - at) as usize];
            match session.read_in(Space::Phys, (first + i).wrapping_mul(size), &mut bytes) {
                Ok(()) => visit(at, &bytes)?,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(cached.page, format!("content of a file: {}", e.kind())),
            }
        }
        Ok(())
    })
}

/// Walks pages of files.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "pagecache",
    doc: "walk the pages in memory of the file whose struct inode, file, dentry or address_space is at the address",
    item: "struct page",
    address: Address::Required,
    walk: |cx, at, visit| {
        let at = at.ok_or_else(|| Error::Usage("pages are walked from a file".into()))?;
        let inode: Inode = cx.view(inode::chosen(cx, at)?)?;
        each(cx, inode.mapping, &mut |cached| visit(cached.page))
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Mapping>(), ViewEntry::of::<Page>()];
