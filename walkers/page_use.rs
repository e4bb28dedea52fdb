//! What a page holds, and whose it is: its flags by name, the file and the offset of page cache, the processes that map
//! an anonymous page.

use crate::{
    dentry::{Dentry, Paths},
    frame::{self, Kind},
    page::PageMap,
    rbtree,
    spaces::{PageTables, TableOf, UserSpaces},
    vma::Vma,
};
use engine::{Tag, Type, ViewEntry, prelude::*};
use std::sync::Arc;

/// What the kernel says of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// address of the `struct page`, or of the first one's of the larger page that it is part of
    pub head: u64,
    /// what it is used for; `None`: nobody uses it
    pub kind: Option<Kind>,
    /// the larger page has two to this power pages
    pub order: u32,
    /// `PG_…` that are set, in their order
    pub flags: Vec<Arc<str>>,
    /// references
    pub users: i32,
    /// whose it is
    pub owner: Option<Owner>,
}

/// Whose a page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// a part of a file
    File {
        /// its `struct inode`
        inode: u64,
        /// its path in its file system; `None` of an inode without a name, such as a disk's
        path: Option<String>,
        /// where in the file it begins, in bytes
        offset: u64,
    },
    /// memory of processes
    Anon {
        /// tasks, and where each has it
        users: Vec<(u64, u64)>,
    },
    /// a page table
    Table(TableOf),
}

/// What of `struct address_space` says whose it is.
#[derive(View)]
#[ctype("address_space")]
struct Mapping {
    host: u64,
}

/// What of `struct inode` leads to its names.
#[derive(View)]
#[ctype("inode")]
struct Inode {
    #[field("i_dentry.first")]
    first: u64,
}

/// What links a mapping with the pages that were first touched in it, or in that of a parent (include/linux/rmap.h).
#[derive(View)]
#[ctype("anon_vma_chain")]
struct Chain {
    vma: u64,
}

/// What is read of a mapping for reverse lookups.
#[derive(View)]
#[ctype("vm_area_struct")]
struct Linear {
    #[field("vm_pgoff")]
    first: u64,
}

/// `PAGE_MAPPING_FLAGS` (include/linux/page-flags.h): the lowest bits of `mapping`.
const MAPPING_FLAGS: u64 = 3;
const MAPPING_ANON: u64 = 1;
/// More processes than anybody wants to read of.
const MAX_USERS: usize = 64;
/// Orders of larger pages: that of a gigabyte is 18.
const MAX_ORDER: u32 = 20;

/// The names of the bits of `flags`, by number.
struct Names(Vec<Arc<str>>);

impl Names {
    fn of(session: &Session) -> Result<Arc<Names>> {
        session.once(|| {
            let mut names = Vec::new();
            let values = session.types.find_own(Tag::Enum, "pageflags").into_iter().find_map(|id| session.shape(id));
            if let Some(Type::Enum { values, .. }) = values.as_deref() {
                let count = session.enumerator("__NR_PAGEFLAGS").unwrap_or(64);
                for value in values.iter().filter(|v| (0..count.min(64)).contains(&v.value)) {
                    let at = value.value as usize;
                    // several names have one value: the first is the common one
                    if at == names.len() {
                        names.push(value.name.strip_prefix("PG_").unwrap_or(&value.name).into());
                    }
                }
            }
            Ok(Names(names))
        })
    }
}

/// The names of the flags that are set in a page's `flags`, in their order.
pub fn flag_names(session: &Session, flags: u64) -> Result<Vec<Arc<str>>> {
    let names = Names::of(session)?;
    let set = names.0.iter().zip(0u32..).filter(|(_, bit)| flags >> bit & 1 == 1);
    Ok(set.map(|(name, _)| name.clone()).collect())
}

/// What a page frame holds.
pub fn of_frame(session: &Session, map: &PageMap, frame: u64) -> Result<PageUse> {
    let page = map.page(frame).ok_or_else(|| Error::Unavailable("the page frame has no struct page".into()))?;
    let (head, kind) = frame::one(session, map, frame)?;
    let size = map.page_struct as usize;
    let bytes = session.bytes(head, size)?;
    let at = |member: &str| session.offset("page", member).map(|at| at as usize);
    let flags = crate::page::word(&bytes, at("flags")?);
    let users = crate::page::word(&bytes, at("_refcount")?) as u32 as i32;
    let mut found = PageUse { head, kind, order: 0, flags: flag_names(session, flags)?, users, owner: None };
    if found.flags.iter().any(|name| &**name == "head") || head != page {
        found.order = order(session, map, head)?;
    }
    let mapping = crate::page::word(&bytes, at("mapping")?);
    // `index` is `__folio_index` in newest kernels, where only folios have one
    let index = session.place("folio", "index").map(|p| (p.bit_offset / 8) as usize).map_or_else(|| at("index"), Ok);
    let index = index.map_or(0, |at| crate::page::word(&bytes, at));
    let inside = frame.saturating_sub(map.frame(head).unwrap_or(frame));
    found.owner = match kind {
        Some(Kind::Cache | Kind::PrivateCache) => file(session, mapping, index.wrapping_add(inside))?,
        Some(Kind::User) if mapping & MAPPING_FLAGS == MAPPING_ANON => {
            let users = anonymous(session, mapping & !MAPPING_FLAGS, index.wrapping_add(inside), frame)?;
            Some(Owner::Anon { users })
        }
        Some(Kind::Table) => PageTables::of(session)?.at(frame).map(Owner::Table),
        _ => None,
    };
    Ok(found)
}

/// The order of a larger page: in its second `struct page`.
pub fn order(session: &Session, map: &PageMap, head: u64) -> Result<u32> {
    let second = head.wrapping_add(map.page_struct);
    let order = match (session.place("page", "compound_order"), session.place("folio", "_folio_order")) {
        (Some(place), _) => session.u8(second.wrapping_add(place.bit_offset / 8))?,
        (None, Some(place)) => session.u8(head.wrapping_add(place.bit_offset / 8))?,
        // the lowest byte of the second page's flags since Linux 6.6 (ebc1baf5c9b4)
        (None, None) => session.u8(second.wrapping_add(session.offset("page", "flags")?))?,
    };
    Ok(u32::from(order).min(MAX_ORDER))
}

fn file(session: &Session, mapping: u64, index: u64) -> Result<Option<Owner>> {
    if mapping & MAPPING_FLAGS != 0 || mapping == 0 {
        return Ok(None);
    }
    let inode = match session.view::<Mapping>(mapping) {
        Ok(Mapping { host: 0 }) => return Ok(None),
        Ok(Mapping { host }) => host,
        Err(e) if e.is_unreadable() => return Ok(None),
        Err(e) => return Err(e),
    };
    let path = match path(session, inode) {
        Err(e) if e.is_control() => return Err(e),
        path => path.ok().flatten(),
    };
    Ok(Some(Owner::File { inode, path, offset: index.wrapping_mul(session.target.page_size()) }))
}

/// A path of an inode in its file system: of one of its dentries.
pub fn path(session: &Session, inode: u64) -> Result<Option<String>> {
    let Inode { first } = session.view(inode)?;
    if first == 0 {
        return Ok(None);
    }
    let link = session.offset("dentry", "d_u.d_alias").or_else(|_| session.offset("dentry", "d_alias"))?;
    let dentry: Dentry = session.view(first.wrapping_sub(link))?;
    if dentry.inode != inode {
        return Ok(None);
    }
    Paths::of(session)?.path(session, &dentry).map(Some)
}

/// The processes that map an anonymous page, and where: those of its `struct anon_vma` whose page tables have it there.
fn anonymous(session: &Session, anon: u64, index: u64, frame: u64) -> Result<Vec<(u64, u64)>> {
    let spaces = UserSpaces::of(session)?;
    let root = anon.wrapping_add(session.offset("anon_vma", "rb_root.rb_root")?);
    let node = session.offset("anon_vma_chain", "rb")?;
    let page = session.target.page_size().max(1);
    let mut users = Vec::new();
    let walked = rbtree::each(session, root, &mut |at| {
        let Chain { vma } = session.view(at.wrapping_sub(node))?;
        let (area, Linear { first }): (Vma, _) = (session.view(vma)?, session.view(vma)?);
        let va = area.start.wrapping_add(index.wrapping_sub(first).wrapping_mul(page));
        let Some(space) = spaces.of_mm(area.mm).filter(|_| (area.start..area.end).contains(&va)) else { return Ok(()) };
        let tables = crate::mm::space(session, area.mm)?;
        if session.target.translate(tables, va).is_ok_and(|to| to.pa / page == frame) {
            users.push((space.task, va));
        }
        if users.len() < MAX_USERS { Ok(()) } else { Err(Error::Stop) }
    });
    match walked {
        Ok(()) | Err(Error::Stop) => Ok(users),
        Err(e) if e.is_unreadable() => {
            session.notes.add(anon, format!("processes of a page: {}", e.kind()));
            Ok(users)
        }
        Err(e) => Err(e),
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Mapping>(), ViewEntry::of::<Inode>(), ViewEntry::of::<Chain>(), ViewEntry::of::<Linear>()];
