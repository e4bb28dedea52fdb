//! The kernel's own mappings between the end of the direct map and its image: vmalloc(), ioremap(), vmap(), stacks,
//! modules (mm/vmalloc.c).
//!
//! Every range is a `struct vmap_area`; what was made by more than vm_map_ram() has a `struct vm_struct` too, which knows
//! who made it. A range is *busy* (in use), *lazy* (given back, but CPUs may still have it in their TLBs) or free; since
//! Linux 6.9 (d093602919ad) also kept for the next one of its size.
//!
//! ```console
//! > ::vmem ! head -n 3
//! ADDR             START            END                   SIZE PAGES TYPE                      CALLER
//! ff386d1d8404cb30 ff7e41a080000000 ff7e41a080005000     20480     - vmap                      irq_init_percpu_irqstack+0xf4
//! ff386d1d8404ca88 ff7e41a080005000 ff7e41a080007000      8192     - ioremap                   acpi_os_map_iomem+0x1a9
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};
use std::sync::Arc;

/// More nodes than there can be (`vmap_init_nodes()` makes at most 128).
const MAX_NODES: u64 = 1024;

/// A range of addresses: `struct vmap_area`.
#[derive(View, Clone, Debug)]
#[ctype("vmap_area")]
pub struct Area {
    /// its address
    #[addr]
    pub addr: u64,
    /// first address
    #[field("va_start")]
    pub start: u64,
    /// the one behind the last, of a guard page too
    #[field("va_end")]
    pub end: u64,
    /// what was made there, if anything knows: `struct vm_struct`. Of a range that is not busy something else
    pub vm: u64,
}

/// What was made of a range: `struct vm_struct`.
#[derive(View, Clone, Debug)]
#[ctype("vm_struct")]
pub struct Made {
    /// its address
    #[addr]
    pub addr: u64,
    /// first address
    #[field("addr")]
    pub start: u64,
    /// bytes, with the guard page
    pub size: u64,
    flags: u64,
    /// pages that were allocated for it
    pub nr_pages: u64,
    /// where it leads, of ioremap()
    pub phys_addr: u64,
    /// who called
    pub caller: u64,
    /// where its pages are listed: `struct page *[]`
    pub pages: u64,
}

/// `VM_…` (include/linux/vmalloc.h), as /proc/vmallocinfo calls them or, where it has no word, as the kernel does.
const FLAGS: [(u64, &str); 13] = [
    (0x1, "ioremap"),
    (0x2, "vmalloc"),
    (0x4, "vmap"),
    (0x8, "user"),
    (0x10, "dma-coherent"),
    (0x20, "uninitialized"),
    (0x40, "no-guard"),
    (0x80, "kasan"),
    (0x100, "flush-reset-perms"),
    (0x200, "map-put-pages"),
    (0x400, "allow-huge"),
    (0x800, "defer-kmemleak"),
    (0x1000, "sparse"),
];
/// `VM_UNINITIALIZED`: its fields are being set.
const UNINITIALIZED: u64 = 0x20;
/// `VM_NO_GUARD`: no page behind it is left out.
const NO_GUARD: u64 = 0x40;

impl Made {
    /// What its flags say.
    pub fn flags(&self) -> Vec<&'static str> {
        FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| *name).collect()
    }

    /// Whether the allocator is still working on it.
    pub fn is_unfinished(&self) -> bool {
        self.flags & UNINITIALIZED != 0
    }

    /// Bytes without the guard page behind it: `get_vm_area_size()`.
    pub fn bytes(&self, session: &Session) -> u64 {
        let guard = if self.flags & NO_GUARD == 0 { session.target.page_size() } else { 0 };
        self.size.saturating_sub(guard)
    }
}

/// What becomes of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// in use
    Busy,
    /// given back, not flushed from TLBs yet
    Lazy,
    /// kept for the next of its size
    Pooled,
    /// nobody's
    Free,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            State::Busy => "busy",
            State::Lazy => "lazy",
            State::Pooled => "pooled",
            State::Free => "free",
        }
    }
}

/// All ranges, by address.
#[derive(Debug)]
pub struct Areas(Vec<(Area, State)>);

impl Areas {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Areas>> {
        session.once(|| session.settle(|| Areas::read(session)))
    }

    fn read(session: &Session) -> Result<Areas> {
        let mut areas = Areas(Vec::new());
        if session.has_struct("vmap_node") {
            areas.add_nodes(session)?;
        } else {
            let head = session.symbol("vmap_area_list").doing(|| "looking for the kernel's mappings".into())?;
            areas.add_list(session, head, State::Busy)?;
            areas.add_lazy(session)?;
        }
        if let Some(head) = session.kernel_symbol("free_vmap_area_list") {
            areas.add_list(session, head, State::Free)?;
        }
        areas.0.sort_by_key(|(area, state)| (area.start, *state));
        Ok(areas)
    }

    fn add(&mut self, session: &Session, at: u64, state: State) -> Result<()> {
        match session.view::<Area>(at) {
            Ok(area) if area.start >= area.end => session.notes.add(at, "kernel mapping that ends before it starts"),
            Ok(area) => self.0.push((area, state)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("kernel mapping: {}", e.kind())),
        }
        Ok(())
    }

    fn add_list(&mut self, session: &Session, head: u64, state: State) -> Result<()> {
        let link = session.offset("vmap_area", "list")?;
        list::list(session, head, link, &mut |at| self.add(session, at, state))
    }

    /// Since Linux 6.9.
    fn add_nodes(&mut self, session: &Session) -> Result<()> {
        let first = session.u64(session.symbol("vmap_nodes").doing(|| "looking for the kernel's mappings".into())?)?;
        let told = session.kernel_symbol("nr_vmap_nodes").map(|at| session.u32(at)).transpose()?;
        let size = session.size_of("vmap_node")?;
        let member = |name: &str| session.offset("vmap_node", name);
        let (busy, lazy, pool) = (member("busy.head")?, member("lazy.head")?, member("pool")?);
        let pool_size = session.size_of("vmap_pool")?.max(16);
        let pools = session.place("vmap_node", "pool").map_or(0, |field| field.bits / 8 / pool_size);
        for number in 0..told.map_or(MAX_NODES, u64::from).min(MAX_NODES) {
            let node = first.wrapping_add(number * size);
            // where their number is not known, what is behind the last one looks like none
            if told.is_none()
                && !(is_head(session, node.wrapping_add(busy)) && is_head(session, node.wrapping_add(lazy)))
            {
                break;
            }
            self.add_list(session, node.wrapping_add(busy), State::Busy)?;
            self.add_list(session, node.wrapping_add(lazy), State::Lazy)?;
            for number in 0..pools.min(MAX_NODES) {
                self.add_list(session, node.wrapping_add(pool + number * pool_size), State::Pooled)?;
            }
        }
        Ok(())
    }

    /// Ranges that wait to be flushed: on a list since Linux 5.13 (96e2db456135), on a lockless one before.
    fn add_lazy(&mut self, session: &Session) -> Result<()> {
        if let Some(head) = session.kernel_symbol("purge_vmap_area_list") {
            return self.add_list(session, head, State::Lazy);
        }
        match (session.kernel_symbol("vmap_purge_list"), session.offset("vmap_area", "purge_list")) {
            (Some(head), Ok(link)) => {
                let first = session.u64(head)?;
                list::chain(session, first, 0, &mut |entry| self.add(session, entry.wrapping_sub(link), State::Lazy))
            }
            _ => Ok(()),
        }
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = &(Area, State)> {
        self.0.iter()
    }

    /// Those in use.
    pub fn busy(&self) -> impl Iterator<Item = &Area> {
        self.0.iter().filter(|(_, state)| *state == State::Busy).map(|(area, _)| area)
    }

    /// The busy range that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&Area> {
        let next = self.0.partition_point(|(area, _)| area.start <= addr);
        let before = self.0.get(..next)?;
        // a range may be in two lists for a moment, but never more
        before.iter().rev().take(2).find(|(area, state)| *state == State::Busy && addr < area.end).map(|(area, _)| area)
    }
}

/// Whether what lies at an address is the head of a list: its first entry points back.
fn is_head(session: &Session, at: u64) -> bool {
    session.u64(at).and_then(|first| session.u64(first.wrapping_add(8))).is_ok_and(|back| back == at)
}

impl Area {
    /// What was made there; `None` if it was made by vm_map_ram(), which keeps no record.
    pub fn made(&self, session: &Session) -> Result<Option<Made>> {
        match self.vm {
            0 => Ok(None),
            at => session.view(at).map(Some),
        }
    }
}

fn walk(cx: &Cx<'_>, states: &[State], visit: Visit<'_>) -> Result<()> {
    Areas::of(cx)?.iter().filter(|(_, state)| states.contains(state)).try_for_each(|(area, _)| visit(area.addr))
}

/// Walks ranges.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "vmem",
        doc: "walk all ranges of the kernel's own mappings, those not in use too, by address",
        item: "struct vmap_area",
        address: Address::None,
        walk: |cx, _, visit| walk(cx, &[State::Busy, State::Lazy, State::Pooled, State::Free], visit),
    },
    WalkerEntry {
        name: "vmem_alloc",
        doc: "walk the ranges of the kernel's own mappings that are in use, by address",
        item: "struct vmap_area",
        address: Address::None,
        walk: |cx, _, visit| walk(cx, &[State::Busy], visit),
    },
    WalkerEntry {
        name: "vmem_free",
        doc: "walk the ranges that the kernel's own mappings leave free, by address",
        item: "struct vmap_area",
        address: Address::None,
        walk: |cx, _, visit| walk(cx, &[State::Free], visit),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Area>(), ViewEntry::of::<Made>()];
