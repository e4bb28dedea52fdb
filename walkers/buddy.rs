//! The buddy allocator's free memory (mm/page_alloc.c): blocks of two to some power pages, in lists by zone, order and
//! migrate type, and what each CPU keeps of them.
//!
//! Everything is told twice: a list by its length and its `nr_free`, a block by its place in a list and by its
//! `struct page`, all of them by the zone's counter. What does not agree is noted: that is damage, or the machine was
//! stopped in between.
//!
//! ```console
//! > ::walk free_page | ::head -n 2 | ::page
//! ADDR             FRAME ORDER REFS MAPS USE  FLAGS
//! fff787ed40006940   1a5     0    0    0 free
//! fff787ed40005b80   16e     0    0    0 free
//! ```

use crate::{
    list,
    page::{PageKind, PageMap, word},
    total::Total,
    zone::{CpuList, Memory, Zone},
};
use engine::{ViewEntry, prelude::*};

/// Orders of blocks that any kernel has.
const MAX_ORDERS: u64 = 32;
/// Migrate types that any kernel has.
const MAX_TYPES: u64 = 16;

/// The free blocks of one order: `struct free_area`.
#[derive(View)]
#[ctype("free_area")]
struct FreeArea {
    free_list: At,
    nr_free: u64,
}

/// A list of free blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeList {
    /// address of the zone
    pub zone: u64,
    /// its head
    pub head: u64,
    /// its blocks have two to this power pages
    pub order: u32,
    /// what they are for: a value of `enum migratetype`
    pub migratetype: u32,
    /// whose it is, if a CPU's
    pub cpu: Option<u32>,
}

/// What a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// the list
    pub list: FreeList,
    /// blocks on it
    pub blocks: u64,
}

impl Filled {
    /// Pages on it.
    pub fn pages(&self) -> u64 {
        self.blocks << self.list.order.min(32)
    }
}

/// The lists of the buddy allocator in a zone, by order, and the number of blocks that each order is said to have.
pub fn lists(session: &Session, zone: &Zone) -> Result<(Vec<FreeList>, Vec<u64>)> {
    let size = session.size_of("free_area")?.max(1);
    let orders = session.place("zone", "free_area").map_or(0, |field| field.bits / 8 / size).min(MAX_ORDERS);
    let types = session.place("free_area", "free_list").map_or(0, |field| field.bits / 128).min(MAX_TYPES);
    let (mut lists, mut counts) = (Vec::new(), Vec::new());
    for order in 0..orders {
        let area: FreeArea = session.view(zone.free_area.0.wrapping_add(order * size))?;
        counts.push(area.nr_free);
        lists.extend((0..types).map(|kind| FreeList {
            zone: zone.addr,
            head: area.free_list.0.wrapping_add(kind * 16),
            order: order as u32,
            migratetype: kind as u32,
            cpu: None,
        }));
    }
    Ok((lists, counts))
}

/// The lists that CPUs hold of a zone.
pub fn cpu_lists(session: &Session, zone: &Zone) -> Result<Vec<FreeList>> {
    let mut out = Vec::new();
    for held in zone.held(session)? {
        let list = |CpuList { head, order, migratetype }| FreeList {
            zone: zone.addr,
            head,
            order,
            migratetype,
            cpu: Some(held.cpu),
        };
        out.extend(held.pages.lists(session).into_iter().map(list));
    }
    Ok(out)
}

/// Reads blocks on lists.
pub struct Blocks {
    link: u64,
    private: usize,
    page_struct: usize,
    buddy: PageKind,
    map: std::sync::Arc<PageMap>,
}

impl Blocks {
    /// For this session's kernel.
    pub fn of(session: &Session) -> Result<Blocks> {
        let map = PageMap::of(session)?;
        Ok(Blocks {
            // its other names, buddy_list and pcp_list (bf75f200569d), are for the same place
            link: session.offset("page", "lru")?,
            private: session.offset("page", "private")? as usize,
            page_struct: map.page_struct as usize,
            buddy: PageKind::of(session, "buddy")?,
            map,
        })
    }

    /// Shows the first `struct page` of each block on a list to `visit`.
    pub fn each(&self, session: &Session, of: &FreeList, visit: Visit<'_>) -> Result<()> {
        list::list(session, of.head, self.link, &mut |page| {
            self.check(session, of, page)?;
            visit(page)
        })
    }

    /// Notes a block that does not belong on its list.
    fn check(&self, session: &Session, of: &FreeList, page: u64) -> Result<()> {
        let Some(frame) = self.map.frame(page) else {
            session.notes.add(page, "free block that is no struct page");
            return Ok(());
        };
        let bytes = match session.bytes(page, self.page_struct) {
            Ok(bytes) => bytes,
            // the list's own walk says so
            Err(e) if !e.is_control() => return Ok(()),
            Err(e) => return Err(e),
        };
        if of.cpu.is_none() {
            if !self.buddy.is(&bytes) {
                session.notes.add(page, "free block whose page is not marked as free");
            } else if word(&bytes, self.private) != u64::from(of.order) {
                session.notes.add(page, "free block on the list of another order");
            }
            if !frame.is_multiple_of(1 << of.order.min(32)) {
                session.notes.add(page, "free block that is not aligned");
            }
        }
        Ok(())
    }

    /// Counts a list.
    pub fn count(&self, session: &Session, of: FreeList) -> Result<Filled> {
        let mut blocks = 0;
        self.each(session, &of, &mut |_| {
            blocks += 1;
            Ok(())
        })?;
        Ok(Filled { list: of, blocks })
    }
}

/// Counts the lists of a zone: the allocator's and those of CPUs. What disagrees with the counts is noted.
pub fn count(session: &Session, zone: &Zone) -> Result<Vec<Filled>> {
    let blocks = Blocks::of(session)?;
    let (lists, counts) = lists(session, zone)?;
    let mut out = Vec::new();
    for list in lists {
        out.push(blocks.count(session, list)?);
    }
    for (order, told) in counts.iter().enumerate() {
        let found: u64 = out.iter().filter(|f| f.list.order as usize == order).map(|f| f.blocks).total();
        if found != *told {
            session
                .notes
                .add(zone.addr, format!("free blocks of order {order}: {told} by the count, {found} on the lists"));
        }
    }
    for held in zone.held(session)? {
        let mut pages = 0;
        for CpuList { head, order, migratetype } in held.pages.lists(session) {
            let list = FreeList { zone: zone.addr, head, order, migratetype, cpu: Some(held.cpu) };
            let filled = blocks.count(session, list)?;
            pages += filled.pages();
            out.push(filled);
        }
        if i64::try_from(pages) != Ok(held.pages.count.into()) {
            let told = held.pages.count;
            session
                .notes
                .add(held.pages.addr, format!("free pages of a CPU: {told} by the count, {pages} on the lists"));
        }
    }
    Ok(out)
}

/// What the kernel calls a migrate type: `movable`.
pub fn type_name(session: &Session, migratetype: u32) -> String {
    let values = session.enumerators("migratetype");
    let real = |name: &str| name.starts_with("MIGRATE_") && !matches!(name, "MIGRATE_PCPTYPES" | "MIGRATE_TYPES");
    let found = values.iter().find(|v| v.value == i64::from(migratetype) && real(&v.name));
    found.map_or_else(|| migratetype.to_string(), |v| v.name.trim_start_matches("MIGRATE_").to_lowercase())
}

/// Whether blocks of a migrate type are counted as free: those that are being isolated are not (`account_freepages()`).
pub fn is_counted(session: &Session, migratetype: u32) -> bool {
    session.enumerator("MIGRATE_ISOLATE") != Some(i64::from(migratetype))
}

/// The populated zones, or the one at an address.
pub fn chosen(memory: &Memory, at: Option<Object>) -> Result<Vec<&Zone>> {
    match at {
        None => Ok(memory.zones.iter().filter(|zone| zone.is_populated()).collect()),
        Some(at) => match (memory.zone(at.addr), memory.node(at.addr)) {
            (Some(zone), _) => Ok(vec![zone]),
            (None, Some(node)) => {
                Ok(memory.zones.iter().filter(|zone| zone.is_populated() && zone.node == node.addr).collect())
            }
            (None, None) => {
                Err(Error::Usage(format!("{:#x} is neither a struct zone nor a struct pglist_data", at.addr))
                    .hint("`::zone` and `::numa` list them"))
            }
        },
    }
}

fn walk(cx: &Cx<'_>, at: Option<Object>, cpus: bool, visit: Visit<'_>) -> Result<()> {
    let (memory, blocks) = (Memory::of(cx)?, Blocks::of(cx)?);
    for zone in chosen(&memory, at)? {
        let lists = if cpus { cpu_lists(cx, zone)? } else { lists(cx, zone)?.0 };
        lists.iter().try_for_each(|list| blocks.each(cx, list, visit))?;
    }
    Ok(())
}

/// Walks free blocks.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "free_page",
        doc: "walk the first struct page of each free block of the buddy allocator, of a zone or of all",
        item: "struct page",
        address: Address::Optional,
        walk: |cx, at, visit| walk(cx, at, false, visit),
    },
    WalkerEntry {
        name: "pcp_page",
        doc: "walk the first struct page of each free block that a CPU keeps, of a zone or of all",
        item: "struct page",
        address: Address::Optional,
        walk: |cx, at, visit| walk(cx, at, true, visit),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<FreeArea>()];
