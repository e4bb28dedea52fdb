//! Bookkeeping: words that refer to an object and do not keep it alive.
//!
//! The kernel knows every area of vmalloc memory, by trees of `struct vmap_area`s, each with the bounds of an area in use,
//! of one that will be given back, or of a free one: an area is in use by somebody only if something else refers to it, or
//! to its `struct vm_struct`. That one and its array of pages are the area's own, and count as reached whatever becomes
//! of the area.
//!
//! The areas of modules, stacks and per-CPU memory are looked at as roots, by what is in them, and not as a whole.

use super::{
    areas::Area,
    mark::Marks,
    nodes::{Block, Kind, Nodes},
};
use crate::{
    module,
    percpu::{self, Areas as PercpuAreas, Percpu},
    search::{merged, overlaps},
    slab::Slabs,
    task_stack::Stacks,
};
use engine::prelude::*;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::OnceLock,
};

/// Caches whose objects are records of other objects, which they do not keep alive.
const RECORDS: &[&str] = &["kmemleak_object", "kmemleak_scan_area", "debug_objects_cache"];

/// The words of a `struct vm_struct` that matter.
struct Words {
    /// where its `struct vmap_area` points to it
    pointer: u64,
    /// where it says which area it is about
    area: u64,
}

/// What it says.
pub(super) struct Book {
    /// numbers of the caches that `struct vmap_area`s come from
    caches: Vec<u32>,
    /// where its bounds are in one, and the pointer to the `struct vm_struct`
    members: [u64; 3],
    /// by number of the object
    structs: HashMap<u32, Words>,
    /// numbers of areas
    areas: Range<u32>,
    /// addresses of areas that are looked at in another way
    others: Vec<Range<u64>>,
    /// numbers of caches that are not looked at
    records: Vec<u32>,
    /// numbers of the caches that tasks come from
    tasks: Vec<u32>,
    /// words of `struct vm_struct`s that only the kernel's list of areas refers to
    own: OnceLock<HashSet<u64>>,
}

/// Stacks that no task has now, and those of interrupts: what is there is old. `cached_stacks` has them by their
/// `struct vm_struct`, and arm64's `irq_stack_ptr` by their address.
pub(super) fn unused_stacks(session: &Session, areas: &[Area]) -> Result<Vec<Range<u64>>> {
    let mut pointers = Vec::new();
    for name in ["cached_stacks", "irq_stack_ptr"] {
        let Some(variable) = session.kernel_symbol(name) else { continue };
        let words = percpu::extent(session, name).unwrap_or(8).min(64) / 8;
        for (_, at) in Percpu::of(session)?.copies(variable) {
            pointers.extend((0..words).filter_map(|i| session.u64(at.wrapping_add(i * 8)).ok()).filter(|p| *p != 0));
        }
    }
    pointers.sort_unstable();
    let has = |at: u64| pointers.binary_search(&at).is_ok();
    let is_meant = |area: &&Area| has(area.range.start) || area.made.as_ref().is_some_and(|made| has(made.addr));
    let in_use =
        |area: &Area| session.target.cpus().iter().filter_map(|cpu| cpu.sp()).any(|sp| area.range.contains(&sp));
    Ok(areas.iter().filter(is_meant).filter(|area| !in_use(area)).map(|area| area.range.clone()).collect())
}

impl Book {
    pub fn of(session: &Session, nodes: &Nodes, slabs: &Slabs, areas: &[Area]) -> Result<Book> {
        let mut structs = HashMap::new();
        if !areas.is_empty() {
            let (pointer, own) = (session.offset("vmap_area", "vm")?, session.offset("vm_struct", "addr")?);
            for (area, vm) in areas.iter().filter_map(|area| Some((area.addr, area.made.as_ref()?.addr))) {
                let words = Words { pointer: area.wrapping_add(pointer), area: vm.wrapping_add(own) };
                structs.extend(nodes.at(vm).map(|node| (node, words)));
            }
        }
        let numbers = nodes.blocks().iter().filter(|block| block.kind == Kind::Area);
        let numbers = numbers.map(|block| block.first..block.end()).reduce(|a, b| a.start..b.end).unwrap_or(0..0);
        let mut others: Vec<Range<u64>> = Stacks::of(session)?.ranges().collect();
        others.extend(PercpuAreas::of(session).map_or_else(|_| Vec::new(), |areas| areas.ranges()));
        others.extend(module::memory(session)?.into_iter().map(|(_, range)| range));
        others.extend(unused_stacks(session, areas)?);
        let cache = |area: &Area| match nodes.block(nodes.at(area.addr)?)?.kind {
            Kind::Slab(cache) => Some(cache),
            _ => None,
        };
        let mut caches: Vec<u32> = areas.iter().filter_map(cache).collect();
        caches.sort_unstable();
        caches.dedup();
        let member = |member| session.offset("vmap_area", member).unwrap_or(u64::MAX);
        Ok(Book {
            caches,
            members: ["va_start", "va_end", "vm"].map(member),
            structs,
            areas: numbers,
            others: merged(others),
            records: RECORDS.iter().flat_map(|name| slabs.caches.named(name)).map(|cache| cache as u32).collect(),
            tasks: slabs.caches.named("task_struct").map(|cache| cache as u32).collect(),
            own: OnceLock::new(),
        })
    }

    /// What is left when all else has been reached: the `struct vm_struct`s that only the list of areas refers to, with
    /// the place where it does. From now on they do not refer to their areas.
    pub fn left(&self, marks: &Marks<'_>) -> Vec<(u32, u64)> {
        let left = || self.structs.iter().filter(|(node, _)| !marks.is_done(**node));
        self.own.get_or_init(|| left().map(|(_, words)| words.area).collect());
        left().map(|(node, words)| (*node, words.pointer)).collect()
    }

    /// Whether a word is a mark and no reference: whoever was last to read under a `struct rw_semaphore` stays its owner,
    /// with the lowest bits set, long after it has gone (`RWSEM_READER_OWNED` in kernel/locking/rwsem.c).
    #[inline]
    pub fn is_mark(&self, nodes: &Nodes, node: u32, word: u64) -> bool {
        let is_task = || {
            nodes
                .block(node)
                .is_some_and(|block| matches!(block.kind, Kind::Slab(cache) if self.tasks.contains(&cache)))
        };
        word & 7 != 0 && is_task()
    }

    /// Whether references to an object have to be asked about.
    pub fn is_special(&self, node: u32) -> bool {
        self.areas.contains(&node) || self.structs.contains_key(&node)
    }

    /// Whether a reference to such an object, which lies at `at`, keeps it alive.
    pub fn counts(&self, session: &Session, nodes: &Nodes, node: u32, at: u64) -> bool {
        match self.own.get() {
            Some(own) if self.areas.contains(&node) && own.contains(&at) => false,
            Some(_) if !self.areas.contains(&node) => true,
            _ => !self.is_of_entry(session, nodes, at),
        }
    }

    /// Whether a word is one of a `struct vmap_area` that names an area: its bounds, or the `struct vm_struct`. Also of one
    /// that is given back or free, where they are old. The cache of those may have been merged with others: so the
    /// bounds must be such.
    fn is_of_entry(&self, session: &Session, nodes: &Nodes, at: u64) -> bool {
        let Some((node, block)) = nodes.at(at).and_then(|node| Some((node, nodes.block(node)?))) else { return false };
        if !matches!(block.kind, Kind::Slab(cache) if self.caches.contains(&cache)) {
            return false;
        }
        let entry = block.object(node);
        let word = |offset| session.u64(entry.wrapping_add(offset)).ok();
        let [start, end, _] = self.members;
        let whole = |bound: u64| bound.is_multiple_of(session.target.page_size());
        let sound = word(start).zip(word(end)).is_some_and(|(from, to)| from < to && whole(from) && whole(to));
        sound && self.members.contains(&at.wrapping_sub(entry))
    }

    /// Whether the memory of an object's block holds references that count.
    pub fn is_scanned(&self, block: &Block) -> bool {
        match block.kind {
            Kind::Area => !overlaps(&self.others, &(block.base..block.base.saturating_add(block.size))),
            _ => !self.is_record(block),
        }
    }

    /// Whether its objects are records of others. They hang on each other, and are not looked into: so nothing can be said
    /// of what reaches them.
    pub fn is_record(&self, block: &Block) -> bool {
        matches!(block.kind, Kind::Slab(cache) if self.records.contains(&cache))
    }
}
