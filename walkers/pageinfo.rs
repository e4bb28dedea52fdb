//! What a `struct page` says of its page (include/linux/mm_types.h): flags by name, users, what it is mapped from.
//!
//! Large pages, called *folios* when they are in use, are several pages in a row: the first one, the *head*, stands for
//! all; those behind it only point at it.
//!
//! ```console
//! > init_task::page -v
//! ADDR             FRAME ORDER REFS MAPS USE      FLAGS
//! fff787ed400b0400  2c10     0    1    0 reserved reserved
//!                  zone DMA32 of node 0
//! ```

use crate::{
    cgroup::Cgroup,
    page::{PageKind, PageMap},
    page_use, slab,
};
use engine::{ViewEntry, prelude::*};
use std::sync::Arc;

/// What `mapping` points at, in its lowest bits: `PAGE_MAPPING_FLAGS`.
const MAPPING: u64 = 3;
/// Anonymous, movable by its own means, and both: merged by KSM.
const ANON: u64 = 1;
const MOVABLE: u64 = 2;

/// A `struct page`.
#[derive(View, Clone, Debug)]
#[ctype("page")]
pub struct Page {
    /// its address
    #[addr]
    pub addr: u64,
    /// flags; the number of its node and zone, and more
    pub flags: u64,
    mapping: u64,
    /// where in its file or mapping it lies, in pages; `__folio_index` since Linux 6.16 (acc53a0b4c15)
    #[field("index", "__folio_index")]
    pub index: u64,
    /// what its owner wants it to be
    pub private: u64,
    /// how many hold it
    #[field("_refcount")]
    pub refs: i32,
    /// how often page tables map it, less one
    #[field("_mapcount")]
    mapcount: i32,
    /// `compound_info` since Linux 7.1
    #[field("compound_head", "compound_info")]
    compound: u64,
    /// whose memory it is charged to; a pointer of its own before Linux 5.11 (bcfe06bf2622)
    #[field("memcg_data", "mem_cgroup")]
    memcg: Option<u64>,
}

/// What a page is used for, as its `struct page` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// a kind of which the page is marked: `slab`, `free`, `table`, `hugetlb`, `offline`, …
    Marked(&'static str),
    /// never set up
    Poisoned,
    /// set aside at boot
    Reserved,
    /// nobody's: a CPU keeps it
    Idle,
    /// anonymous memory of a process: its `struct anon_vma`
    Anon(u64),
    /// merged by KSM
    Ksm(u64),
    /// of a driver that can move it
    Movable(u64),
    /// of a file, or of the swap cache: its `struct address_space`
    File(u64),
    /// whatever else the kernel allocated
    Kernel,
}

impl Use {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Use::Marked(name) => name,
            Use::Poisoned => "poisoned",
            Use::Reserved => "reserved",
            Use::Idle => "idle",
            Use::Anon(_) => "anon",
            Use::Ksm(_) => "ksm",
            Use::Movable(_) => "movable",
            Use::File(_) => "file",
            Use::Kernel => "kernel",
        }
    }
}

/// Kinds of which pages are marked, and what they are called here.
const MARKS: [(&str, &str); 9] = [
    ("slab", "slab"),
    ("buddy", "free"),
    ("table", "table"),
    ("hugetlb", "hugetlb"),
    ("offline", "offline"),
    ("guard", "guard"),
    ("zsmalloc", "zsmalloc"),
    ("unaccepted", "unaccepted"),
    ("large_kmalloc", "kmalloc"),
];

/// Reads `struct page`s.
pub struct Pages {
    /// where they are
    pub map: Arc<PageMap>,
    marks: Vec<(PageKind, &'static str)>,
    reserved: u64,
    head: u64,
}

impl Pages {
    /// For this session's kernel.
    pub fn of(session: &Session) -> Result<Arc<Pages>> {
        session.once(|| Pages::new(session))
    }

    fn new(session: &Session) -> Result<Pages> {
        let marked = |(kind, name): &(&str, &'static str)| {
            // a mark of a kind that this kernel does not know, or that is a flag with another meaning
            Some((PageKind::of(session, kind).ok()?, *name))
        };
        let bit = |name: &str| match session.enumerator(name) {
            Some(bit @ 0..64) => 1u64 << bit,
            _ => 0,
        };
        let (reserved, head) = (bit("PG_reserved"), bit("PG_head"));
        Ok(Pages { map: PageMap::of(session)?, marks: MARKS.iter().filter_map(marked).collect(), reserved, head })
    }

    /// The page that an address means: itself, if it is a `struct page`, or the one that a kernel address is mapped to.
    pub fn find(&self, session: &Session, addr: u64) -> Option<u64> {
        if self.map.frame(addr).is_some() {
            return Some(addr);
        }
        let frame = self.map.frame_of_direct(addr).or_else(|| self.map.frame_of(session, addr))?;
        self.map.page(frame)
    }

    /// The head of the large page that this one is behind of.
    pub fn head(&self, page: &Page) -> Option<u64> {
        self.map.head(Some(page.addr), page.compound)
    }

    /// What a page is used for; of one behind a head, ask the head.
    pub fn used(&self, session: &Session, page: &Page) -> Result<Use> {
        let bytes = session.bytes(page.addr, self.map.page_struct as usize)?;
        let mark = self.marks.iter().find(|(kind, _)| kind.is(&bytes));
        let target = page.mapping & !MAPPING;
        Ok(match (mark, page.mapping & MAPPING) {
            _ if page.flags == u64::MAX => Use::Poisoned,
            (Some((_, name)), _) => Use::Marked(name),
            _ if page.flags & self.reserved != 0 => Use::Reserved,
            _ if page.refs <= 0 => Use::Idle,
            (None, ANON) => Use::Anon(target),
            (None, MOVABLE) => Use::Movable(target),
            (None, MAPPING) => Use::Ksm(target),
            (None, _) if target >> 63 == 1 => Use::File(target),
            (None, _) => Use::Kernel,
        })
    }

    /// Two to this power is the number of pages of what this page is the first of.
    pub fn order(&self, session: &Session, page: &Page, used: &Use) -> Result<u32> {
        /// `MAX_ORDER` and `MAX_FOLIO_ORDER` are less
        const MOST: u64 = 32;
        if *used == Use::Marked("free") {
            return Ok(page.private.min(MOST) as u32);
        }
        if page.flags & self.head == 0 { Ok(0) } else { page_use::order(session, &self.map, page.addr) }
    }

    /// How often page tables map the page; of a large one, any of its pages where the kernel counts that (since Linux
    /// 6.10), else the whole.
    pub fn mappings(&self, session: &Session, page: &Page, used: &Use) -> Result<i64> {
        if matches!(used, Use::Marked(_) | Use::Poisoned) {
            return Ok(0);
        }
        let member = |name: &str| session.offset("folio", name).ok();
        let large = member("_large_mapcount").or_else(|| member("_entire_mapcount")).or_else(|| {
            // before there were folios in the types, a member of the first page behind the head
            Some(session.offset("page", "compound_mapcount").ok()? + self.map.page_struct)
        });
        let count = match large.filter(|_| page.flags & self.head != 0) {
            Some(offset) => session.u32(page.addr.wrapping_add(offset))? as i32,
            None => page.mapcount,
        };
        Ok(i64::from(count) + 1)
    }

    /// The name of the slab cache that a slab belongs to.
    pub fn cache(&self, session: &Session, page: &Page) -> Result<Option<String>> {
        let caches = slab::Caches::of(session)?;
        let member = session.offset("slab", "slab_cache").or_else(|_| session.offset("page", "slab_cache"))?;
        let cache = session.u64(page.addr.wrapping_add(member))?;
        Ok(caches.at(cache).and_then(|number| caches.get(number)).map(|cache| cache.name().to_owned()))
    }
}

/// The path of the control group whose memory a page is charged to.
pub fn charged_to(session: &Session, page: &Page) -> Result<Option<String>> {
    let Some(group) = memcg(session, page)? else { return Ok(None) };
    let cgroup = session.u64(group.wrapping_add(session.offset("mem_cgroup", "css.cgroup")?))?;
    session.view::<Cgroup>(cgroup)?.path(session).map(Some)
}

/// Its `struct mem_cgroup`.
fn memcg(session: &Session, page: &Page) -> Result<Option<u64>> {
    // MEMCG_DATA_OBJEXTS, MEMCG_DATA_KMEM, and one to spare
    let data = page.memcg.unwrap_or(0);
    let at = data & !7;
    // of a slab, a list of its objects' groups
    if at == 0 || data & 1 != 0 {
        return Ok(None);
    }
    let is_group = |at: u64| -> Result<bool> {
        let subsystem = session.u64(at.wrapping_add(session.offset("mem_cgroup", "css.ss")?))?;
        let name = session.u64(subsystem.wrapping_add(session.offset("cgroup_subsys", "name")?))?;
        Ok(session.cstr(name, 16)? == "memory")
    };
    if is_group(at).unwrap_or(false) {
        return Ok(Some(at));
    }
    // of kernel memory, what stands for the group and outlives it
    let group = session.u64(at.wrapping_add(session.offset("obj_cgroup", "memcg")?))?;
    Ok(is_group(group).unwrap_or(false).then_some(group))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Page>()];
