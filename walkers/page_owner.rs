//! Who allocated a page: `struct page_owner`, kept beside each `struct page` with `page_owner=on` (mm/page_owner.c,
//! mm/page_ext.c).
//!
//! What is kept beside a page is a `struct page_ext`, in an array for each section of memory, and behind it what the
//! kernel's debug options asked room for.

use crate::page::PageMap;
use engine::{ViewEntry, prelude::*};
use std::sync::Arc;

/// `PAGE_EXT_INVALID`: the array of a section is being taken away.
const INVALID: u64 = 1;

/// What is beside a page: `struct page_ext`.
#[derive(View)]
#[ctype("page_ext")]
struct PageExt {
    flags: u64,
}

/// Whose a page is: `struct page_owner`.
#[derive(View, Clone, Debug)]
#[ctype("page_owner")]
pub struct Owner {
    /// its address
    #[addr]
    pub addr: u64,
    /// two to this power pages were allocated
    pub order: u16,
    /// `GFP_…` that were asked for
    #[field("gfp_mask")]
    pub gfp: u32,
    /// the stack that allocated, in the stack depot
    pub handle: u32,
    /// the one that freed
    pub free_handle: u32,
    /// when it was allocated, in ns of `local_clock()`; since Linux 5.11 (9cc7e96aa846)
    #[field("ts_nsec")]
    pub time: Option<u64>,
    /// when it was freed
    #[field("free_ts_nsec")]
    pub free_time: Option<u64>,
    /// the thread that allocated
    pub pid: Option<i32>,
    /// its name; since Linux 5.18
    pub comm: Option<String>,
}

/// Reads owners.
#[derive(Debug)]
pub struct Owners {
    map: Arc<PageMap>,
    /// bytes of what is beside each page
    size: u64,
    /// where in it the owner is
    offset: u64,
    /// where a section names its array
    array: u64,
    /// the flag of a page whose owner was recorded, and of one that is allocated
    known: u64,
    allocated: u64,
}

struct Kept(Option<Arc<Owners>>);

impl Owners {
    /// The session's; `None` if the kernel keeps no owners.
    pub fn of(session: &Session) -> Result<Option<Arc<Owners>>> {
        Ok(session.once(|| Ok(Kept(Owners::read(session)?.map(Arc::new))))?.0.clone())
    }

    fn read(session: &Session) -> Result<Option<Owners>> {
        let on =
            session.kernel_symbol("page_owner_inited").is_some_and(|at| session.u32(at).is_ok_and(|n| n as i32 > 0));
        let (Some(array), true) = (session.place("mem_section", "page_ext"), on) else { return Ok(None) };
        let bit = |name: &str| session.enumerator(name).and_then(|bit| 1u64.checked_shl(bit as u32)).unwrap_or(0);
        let operations = session.symbol("page_owner_ops")?;
        Ok(Some(Owners {
            map: PageMap::of(session)?,
            size: session.u64(session.symbol("page_ext_size")?)?,
            offset: session.u64(operations.wrapping_add(session.offset("page_ext_operations", "offset")?))?,
            array: array.bit_offset / 8,
            known: bit("PAGE_EXT_OWNER"),
            allocated: bit("PAGE_EXT_OWNER_ALLOCATED"),
        }))
    }

    /// Whose a page frame is or was, and whether it is allocated; `None` if nothing was recorded.
    pub fn at(&self, session: &Session, frame: u64) -> Result<Option<(Owner, bool)>> {
        let Some(section) = self.map.section(frame).filter(|section| section.addr != 0) else { return Ok(None) };
        let array = session.u64(section.addr.wrapping_add(self.array))?;
        self.read_at(session, array, frame)
    }

    fn read_at(&self, session: &Session, array: u64, frame: u64) -> Result<Option<(Owner, bool)>> {
        if array & !INVALID == 0 || array & INVALID != 0 {
            return Ok(None);
        }
        // the array is counted from frame 0
        let at = array.wrapping_add(frame.wrapping_mul(self.size));
        let flags = session.view::<PageExt>(at)?.flags;
        if flags & self.known == 0 {
            return Ok(None);
        }
        Ok(Some((session.view(at.wrapping_add(self.offset))?, flags & self.allocated != 0)))
    }

    /// Shows the owner of each block of pages that is allocated to `visit`, with its first `struct page`.
    pub fn each(&self, session: &Session, visit: &mut dyn FnMut(u64, Owner) -> Result<()>) -> Result<()> {
        for section in self.map.sections() {
            let array = match session.u64(section.addr.wrapping_add(self.array)) {
                Ok(array) if section.addr != 0 => array,
                Err(e) if e.is_control() => return Err(e),
                _ => continue,
            };
            let mut frame = section.frames.start;
            while frame < section.frames.end {
                let (page, at) = (self.map.page(frame).unwrap_or_default(), frame);
                frame += 1;
                match self.read_at(session, array, at) {
                    // pages behind the first have the same record
                    Ok(Some((owner, true))) if owner.order < 32 && at.is_multiple_of(1 << owner.order) => {
                        frame = at + (1 << owner.order);
                        visit(page, owner)?;
                    }
                    Ok(_) => {}
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => session.notes.add(page, format!("owner of a page: {}", e.kind())),
                }
            }
        }
        Ok(())
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<PageExt>(), ViewEntry::of::<Owner>()];
