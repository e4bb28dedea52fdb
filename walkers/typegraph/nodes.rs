//! The things that have a type: every object of every slab, and every global variable.
//!
//! A node is a number. Objects come first, slab by slab, so that an object's number follows from its address and back
//! without a table of objects; globals follow.

use crate::{
    page::PageMap,
    percpu::{Percpu, Variables},
    slab::{Cache, Slabs, State},
};
use engine::{TypeId, debuginfo::SymbolKind, prelude::*};
use rayon::prelude::*;
use std::{ops::RangeInclusive, sync::Arc};

/// The number of a node.
pub type Node = u32;

/// A global variable of known type.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    /// where it is
    pub addr: u64,
    /// bytes
    pub size: u64,
    /// its declared type
    pub ctype: TypeId,
}

/// How well a structure's size explains that of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// it is larger
    No,
    /// it is smaller than what the allocator would have given out for it
    Loose,
    /// the allocator gives out such an object for it
    Good,
}

/// All nodes.
pub struct Nodes {
    slabs: Arc<Slabs>,
    /// the first object of each slab; behind them the number of objects
    first: Vec<Node>,
    /// by page frame, counted from the first of a slab: the number of the slab, or [`NONE`]
    by_page: Vec<u32>,
    base: u64,
    shift: u32,
    /// a bit for each object: it is allocated
    used: Vec<u64>,
    /// allocated objects
    pub live: u64,
    /// by address
    globals: Vec<Global>,
    /// object sizes that kmalloc() has caches for
    classes: Vec<u64>,
}

const NONE: u32 = u32::MAX;
/// Page frames between the first and the last slab: 16 TB.
const MAX_PAGES: u64 = 1 << 32;
/// How much larger than asked for an object may be whose cache was merged with another.
const MERGED: u64 = 64;

impl Nodes {
    /// All of them.
    pub fn build(session: &Session) -> Result<Nodes> {
        let slabs = Slabs::of(session)?;
        slabs.free_all(session)?;
        slabs.note(session, 0..slabs.caches.len())?;
        let shift = PageMap::of(session)?.shift;
        let (mut first, mut count) = (Vec::with_capacity(slabs.all().len() + 1), 0u32);
        for slab in slabs.all() {
            first.push(count);
            count = count
                .checked_add(slab.objects)
                .ok_or_else(|| Error::Unavailable("there are more than four thousand million objects".into()))?;
        }
        first.push(count);
        let base = slabs.all().iter().map(|s| s.base).min().unwrap_or(0) >> shift << shift;
        let end = slabs.all().iter().map(|s| s.end()).max().unwrap_or(0);
        let pages = (end.wrapping_sub(base) >> shift) + 1;
        if pages > MAX_PAGES {
            return Err(Error::Unavailable("slabs lie too far apart".into()));
        }
        let mut by_page = vec![NONE; pages as usize];
        for (slab, number) in slabs.all().iter().zip(0..) {
            let at = (slab.base.wrapping_sub(base) >> shift) as usize;
            let pages = (u64::from(slab.bytes) >> shift) as usize;
            by_page.get_mut(at..at + pages).into_iter().flatten().for_each(|page| *page = number);
        }
        let classes = classes(&slabs);
        let mut nodes = Nodes {
            slabs,
            first,
            by_page,
            base,
            shift,
            used: vec![0; (count as usize).div_ceil(64)],
            live: 0,
            globals: globals(session)?,
            classes,
        };
        nodes.mark(session)?;
        Ok(nodes)
    }

    /// Marks the objects in use.
    fn mark(&mut self, session: &Session) -> Result<()> {
        let slabs = self.slabs.clone();
        let mut number = 0;
        for cache in 0..slabs.caches.len() {
            let free = slabs.free(session, cache)?;
            for (i, slab) in slabs.of_cache(cache).iter().enumerate() {
                session.interrupt.check()?;
                let first = self.first.get(number).copied().unwrap_or(0);
                number += 1;
                free.each(i, slab.objects, State::Allocated, &mut |index| {
                    let node = (first + index) as usize;
                    if let Some(word) = self.used.get_mut(node / 64) {
                        *word |= 1 << (node % 64);
                        self.live += 1;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Number of objects, allocated or not: nodes from here on are globals.
    pub fn objects(&self) -> Node {
        self.first.last().copied().unwrap_or(0)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.objects() as usize + self.globals.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slabs.
    pub fn slabs(&self) -> &Slabs {
        &self.slabs
    }

    /// The global that a node is.
    pub fn global(&self, node: Node) -> Option<&Global> {
        self.globals.get(node.checked_sub(self.objects())? as usize)
    }

    /// All globals, with their nodes.
    pub fn globals(&self) -> impl Iterator<Item = (Node, &Global)> {
        (self.objects()..).zip(&self.globals)
    }

    /// Whether a node is a global or an allocated object.
    pub fn is_live(&self, node: Node) -> bool {
        let at = node as usize;
        node >= self.objects() || self.used.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The number of an object's slab, and that of the object in it.
    fn place(&self, node: Node) -> Option<(usize, u32)> {
        let slab = self.first.partition_point(|first| *first <= node).checked_sub(1)?;
        Some((slab, node - self.first.get(slab)?))
    }

    /// Where a node is, and its bytes: of an object those that its cache was made for.
    pub fn range(&self, node: Node) -> Option<(u64, u64)> {
        if let Some(global) = self.global(node) {
            return Some((global.addr, global.size));
        }
        let (slab, index) = self.place(node)?;
        let slab = self.slabs.all().get(slab)?;
        let size = self.slabs.caches.get(slab.cache as usize)?.object_size;
        Some((self.slabs.object(slab, index), size.into()))
    }

    /// The number of an object's cache.
    pub fn cache(&self, node: Node) -> Option<usize> {
        let (slab, _) = self.place(node).filter(|_| node < self.objects())?;
        Some(self.slabs.all().get(slab)?.cache as usize)
    }

    /// The allocated object or global that an address lies in, and how far behind its start.
    pub fn at(&self, addr: u64) -> Option<(Node, u64)> {
        self.any_at(addr).filter(|(node, _)| self.is_live(*node))
    }

    /// Likewise, with objects that are free.
    pub fn any_at(&self, addr: u64) -> Option<(Node, u64)> {
        // pointers to neither are by far the most
        if addr >> 63 == 0 {
            return None;
        }
        let page = addr.wrapping_sub(self.base) >> self.shift;
        if let Some(number) = self.by_page.get(page as usize).filter(|number| **number != NONE) {
            let slab = self.slabs.all().get(*number as usize).filter(|s| (s.base..s.end()).contains(&addr))?;
            let cache = self.slabs.caches.get(slab.cache as usize)?;
            let inside = addr.checked_sub(slab.base)?.checked_sub(cache.left_pad())?;
            let (index, offset) = (inside / u64::from(cache.size), inside % u64::from(cache.size));
            let ok = index < slab.objects.into() && offset < cache.object_size.into();
            return ok.then_some((self.first.get(*number as usize)? + index as u32, offset));
        }
        let next = self.globals.partition_point(|global| global.addr <= addr);
        let number = next.checked_sub(1)?;
        let global = self.globals.get(number).filter(|global| addr - global.addr < global.size)?;
        Some((self.objects() + number as u32, addr - global.addr))
    }

    /// The allocated objects of a slab, as nodes.
    pub fn of_slab(&self, number: usize) -> impl Iterator<Item = Node> + '_ {
        let first = self.first.get(number).copied().unwrap_or(0);
        let end = self.first.get(number + 1).copied().unwrap_or(first);
        (first..end).filter(|node| self.is_live(*node))
    }

    /// The sizes that a structure may have whose objects are of this cache. Merged caches and those of kmalloc() round up;
    /// others are made for one structure.
    pub fn sizes(&self, cache: usize) -> RangeInclusive<u64> {
        let Some(cache) = self.slabs.caches.get(cache) else { return RangeInclusive::new(1, 0) };
        let room = u64::from(cache.object_size);
        let least = match () {
            () if is_general(cache) => {
                let below = self.classes.partition_point(|class| *class < room);
                below.checked_sub(1).and_then(|i| self.classes.get(i)).map_or(0, |class| class + 1)
            }
            () if cache.refcount > 1 => room.saturating_sub(MERGED),
            () => room.saturating_sub(7),
        };
        least..=room
    }

    /// How well a structure of so many bytes explains the size of a cache's objects; a flexible one may have a tail of any
    /// length.
    pub fn fit(&self, cache: usize, size: u64, flexible: bool) -> Fit {
        let sizes = self.sizes(cache);
        match size {
            size if size > *sizes.end() => Fit::No,
            size if size < *sizes.start() && !flexible => Fit::Loose,
            _ => Fit::Good,
        }
    }

    /// Whether the objects of a cache may be of any type.
    pub fn is_general(&self, cache: usize) -> bool {
        self.slabs.caches.get(cache).is_some_and(is_general)
    }
}

fn is_general(cache: &Cache) -> bool {
    cache.name().contains("kmalloc-")
}

/// The sizes of kmalloc()'s caches, smallest first.
fn classes(slabs: &Slabs) -> Vec<u64> {
    let mut classes: Vec<u64> =
        slabs.caches.iter().filter(|c| is_general(c)).map(|c| u64::from(c.object_size)).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Every global variable whose type is known: the kernel's, those of modules, and the copies of per-CPU ones.
fn globals(session: &Session) -> Result<Vec<Global>> {
    let mut symbols = Vec::new();
    if let Some(kernel) = session.symbols.kernel() {
        kernel.each(&mut |symbol| {
            if symbol.kind == SymbolKind::Data {
                symbols.push(symbol);
            }
            !session.interrupt.is_set()
        });
    }
    for table in session.symbols.modules(session).iter().filter_map(|m| m.symbols.as_ref()) {
        table.each(&mut |symbol| {
            if symbol.kind == SymbolKind::Data {
                symbols.push(symbol);
            }
            !session.interrupt.is_set()
        });
    }
    session.interrupt.check()?;
    let mut found: Vec<Global> = symbols
        .into_par_iter()
        .filter_map(|symbol| {
            let ctype = session.type_of_symbol(&symbol)?;
            let size = session.types.size_of(ctype).filter(|size| *size >= 8)?;
            Some(Global { addr: symbol.addr, size, ctype })
        })
        .collect();
    let percpu = Percpu::of(session)?;
    for symbol in Variables::of(session)?.all() {
        let Some(ctype) = session.type_of_global(&symbol.name) else { continue };
        let Some(size) = session.types.size_of(ctype).filter(|size| *size >= 8) else { continue };
        found.extend(percpu.copies(symbol.addr).map(|(_, addr)| Global { addr, size, ctype }));
    }
    found.sort_by_key(|global| global.addr);
    // two names of one thing; and no type reaches into what follows
    found.dedup_by_key(|global| global.addr);
    let starts: Vec<u64> = found.iter().skip(1).map(|global| global.addr).collect();
    found.iter_mut().zip(starts).for_each(|(global, next)| global.size = global.size.min(next - global.addr));
    Ok(found)
}
