//! Slab caches: `struct kmem_cache`, all of them in the list `slab_caches` (mm/slab_common.c).

use crate::{list, percpu::Percpu};
use engine::ViewEntry;
use engine::prelude::*;
use std::{collections::HashMap, sync::Arc};

/// A slab cache: `struct kmem_cache` (mm/slab.h, include/linux/slub_def.h).
#[derive(View, Debug)]
#[ctype("kmem_cache")]
pub struct Cache {
    /// address of the structure
    #[addr]
    pub addr: u64,
    name: Result<String>,
    /// `SLAB_*`; their values differ between kernels: see [`Flags`]
    pub flags: u32,
    /// bytes from one object to the next
    pub size: u32,
    /// bytes that the user of the cache asked for
    pub object_size: u32,
    /// where, in a free object, the pointer to the next free one is
    pub offset: u32,
    /// bytes of an object before its metadata
    pub inuse: u32,
    /// alignment of objects
    pub align: u32,
    /// bytes of red zone before each object
    red_left_pad: Option<u32>,
    #[field("oo.x")]
    oo: u32,
    #[field("min.x")]
    min: u32,
    /// what the pointers to free objects are mixed with (CONFIG_SLAB_FREELIST_HARDENED)
    pub(super) random: Option<u64>,
    /// per-CPU `struct kmem_cache_cpu`; gone in Linux 7.0 (32c894c7274b), and with CONFIG_SLUB_TINY
    pub(super) cpu_slab: Option<u64>,
    /// per-CPU `struct slub_percpu_sheaves`, since Linux 6.18 (2d517aa09bbc)
    pub(super) cpu_sheaves: Option<u64>,
    /// objects that a sheaf holds; 0 if the cache has no sheaves of its own
    pub sheaf_capacity: Option<u32>,
    /// constructor of objects, or 0
    pub ctor: u64,
    /// number of `kmem_cache_create()`s that were answered with this cache
    pub refcount: i32,
}

impl Cache {
    /// The cache's name; `?` if it cannot be read.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("?")
    }

    /// Bytes of red zone before each object.
    pub fn left_pad(&self) -> u64 {
        self.red_left_pad.unwrap_or(0).into()
    }

    /// Where an object's metadata starts (`get_info_end()`): the tracks, if there are any.
    pub fn info_end(&self) -> u64 {
        let pointer = if self.offset >= self.inuse { 8 } else { 0 };
        u64::from(self.inuse) + pointer
    }

    /// The next free object, of a link that lies at `at`: `freelist_ptr_decode()`, with the byte-swapped address since
    /// Linux 5.7 (1ad53d9fa3f6).
    pub(super) fn next_free(&self, stored: u64, at: u64) -> u64 {
        match self.random {
            Some(random) => stored ^ random ^ at.swap_bytes(),
            None => stored,
        }
    }

    /// Whether the numbers are those of a cache: damaged ones must not be computed with.
    pub fn sound(&self) -> bool {
        let size = u64::from(self.size);
        size >= 8
            && u64::from(self.object_size) <= size
            && u64::from(self.inuse) <= size
            && u64::from(self.offset) + 8 <= size
            && self.left_pad() < size
    }

    /// Bytes of a slab with so many objects, a whole number of pages: a slab has the cache's usual order or, if memory
    /// was short, its smallest one. `None` if no slab of the cache can be like this. `page` is the size of a page.
    pub(super) fn slab_bytes(&self, objects: u32, page: u64) -> Option<u64> {
        let need = u64::from(objects).checked_mul(self.size.into())?;
        let order = match objects {
            n if n == self.oo & 0xffff => self.oo >> 16,
            n if n == self.min & 0xffff => self.min >> 16,
            // before Linux 5.9 (32a6f409b693) the order could be changed while there were slabs
            _ => need.div_ceil(page).max(1).next_power_of_two().trailing_zeros(),
        };
        let bytes = page.checked_shl(order).filter(|_| order <= MAX_ORDER)?;
        (objects > 0 && need <= bytes).then_some(bytes)
    }

    /// Whether as many objects as a usual slab is said to have fit into one.
    pub(super) fn fits(&self, page: u64) -> bool {
        self.slab_bytes(self.oo & 0xffff, page).is_some()
    }

    /// How many allocations the cache has answered; `None` unless the kernel counts them (CONFIG_SLUB_STATS).
    pub fn allocations(&self, session: &Session) -> Result<Option<u64>> {
        // a struct of its own since Linux 7.0, as there is no kmem_cache_cpu any more
        let (stats, place) = match (session.place("kmem_cache_cpu", "stat"), session.place("kmem_cache", "cpu_stats")) {
            (Some(place), _) => (self.cpu_slab, place.bit_offset / 8),
            (None, Some(place)) => (session.u64(self.addr.wrapping_add(place.bit_offset / 8)).map(Some)?, 0),
            (None, None) => return Ok(None),
        };
        let Some(stats) = stats else { return Ok(None) };
        let mut sum = 0u64;
        for item in ["ALLOC_FASTPATH", "ALLOC_SLOWPATH", "ALLOC_PCS"] {
            let Some(index) = session.enumerator(item).and_then(|i| u64::try_from(i).ok()) else { continue };
            for (_, at) in Percpu::of(session)?.copies(stats.wrapping_add(place).wrapping_add(index * 4)) {
                sum += u64::from(session.u32(at)?);
            }
        }
        Ok(Some(sum))
    }

    /// The cache's lists on each memory node. Those that cannot be read are noted.
    pub fn nodes(&self, session: &Session) -> Result<Vec<Node>> {
        let count = match session.kernel_symbol("nr_node_ids") {
            Some(at) => session.u32(at)?.clamp(1, MAX_NODES),
            None => 1,
        };
        let (node, stride, barn) = match session.place("kmem_cache", "per_node[0].node") {
            // per_node[] since Linux 7.1 (5ba6bc27b1f9)
            Some(place) => {
                let stride = session.size_of("kmem_cache_per_node_ptrs")?;
                (
                    place.bit_offset / 8,
                    stride,
                    session.place("kmem_cache", "per_node[0].barn").map(|p| p.bit_offset / 8),
                )
            }
            None => (session.offset("kmem_cache", "node")?, 8, None),
        };
        let mut out = Vec::new();
        for i in 0..u64::from(count) {
            let slot = |offset: u64| self.addr.wrapping_add(offset).wrapping_add(i * stride);
            let read = || -> Result<Option<Node>> {
                match session.u64(slot(node))? {
                    0 => Ok(None),
                    at => {
                        let mut node: Node = session.view(at)?;
                        if let Some(barn) = barn {
                            node.barn = Some(session.u64(slot(barn))?);
                        }
                        Ok(Some(node))
                    }
                }
            };
            match read() {
                Ok(node) => out.extend(node),
                Err(e) if e.is_unreadable() => {
                    session.notes.add(slot(node), format!("slab cache's lists of a memory node: {}", e.kind()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }
}

/// Higher orders than any allocation has (`MAX_ORDER` is 10).
const MAX_ORDER: u32 = 15;
/// `MAX_NUMNODES` is at most `1 << 10`.
const MAX_NODES: u32 = 1024;

/// A cache's share of a memory node: `struct kmem_cache_node`.
#[derive(View, Clone, Debug)]
#[ctype("kmem_cache_node")]
pub struct Node {
    /// address of the structure
    #[addr]
    pub addr: u64,
    /// length of `partial`
    pub nr_partial: u64,
    /// head of the list of slabs with free objects
    pub partial: At,
    /// head of the list of slabs without, kept only for caches with SLAB_STORE_USER; needs CONFIG_SLUB_DEBUG
    pub full: Option<At>,
    /// slabs in all; needs CONFIG_SLUB_DEBUG
    #[field("nr_slabs.counter")]
    pub nr_slabs: Option<u64>,
    /// objects of all slabs; needs CONFIG_SLUB_DEBUG
    #[field("total_objects.counter")]
    pub total_objects: Option<u64>,
    /// where full and empty sheaves are kept: a pointer in `kmem_cache_node` from Linux 6.18 to 7.0, then beside it
    pub barn: Option<u64>,
}

/// Masks of the `SLAB_*` flags that say how objects are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// `SLAB_RED_ZONE`: objects are fenced
    pub red_zone: u32,
    /// `SLAB_POISON`: free memory is filled
    pub poison: u32,
    /// `SLAB_STORE_USER`: who allocated and who freed is kept
    pub store_user: u32,
    /// `SLAB_KMALLOC`: one of kmalloc()'s own caches; since Linux 6.1
    pub kmalloc: u32,
    /// `__OBJECT_POISON`: free objects are filled, not only the space around them
    pub object_poison: u32,
    /// `SLAB_RECLAIM_ACCOUNT`: the cache's memory counts as reclaimable
    pub reclaim: u32,
    /// `SLAB_KASAN`: KASAN has space of its own behind objects
    pub kasan: u32,
    /// `SLAB_TYPESAFE_BY_RCU`: slabs are freed after a grace period, objects at once
    pub typesafe_by_rcu: u32,
}

impl Flags {
    fn of(session: &Session) -> Flags {
        let mask = |name, before| mask(session, name, before);
        Flags {
            red_zone: mask("_SLAB_RED_ZONE", 0x400),
            poison: mask("_SLAB_POISON", 0x800),
            store_user: mask("_SLAB_STORE_USER", 0x1_0000),
            kmalloc: mask("_SLAB_KMALLOC", 0x1000),
            object_poison: mask("_SLAB_OBJECT_POISON", 0x8000_0000),
            reclaim: mask("_SLAB_RECLAIM_ACCOUNT", 0x2_0000),
            kasan: mask("_SLAB_KASAN", 0x800_0000),
            typesafe_by_rcu: mask("_SLAB_TYPESAFE_BY_RCU", 0x8_0000),
        }
    }
}

/// Names of the flags that `::kmem_cache` spells out, with their masks before they became enumerators.
const NAMED: &[(&str, u32)] = &[
    ("CONSISTENCY_CHECKS", 0x100),
    ("RED_ZONE", 0x400),
    ("POISON", 0x800),
    ("KMALLOC", 0x1000),
    ("HWCACHE_ALIGN", 0x2000),
    ("CACHE_DMA", 0x4000),
    ("CACHE_DMA32", 0x8000),
    ("STORE_USER", 0x1_0000),
    ("RECLAIM_ACCOUNT", 0x2_0000),
    ("PANIC", 0x4_0000),
    ("TYPESAFE_BY_RCU", 0x8_0000),
    ("TRACE", 0x20_0000),
    ("NOLEAKTRACE", 0x80_0000),
    ("NO_MERGE", 0x100_0000),
    ("ACCOUNT", 0x400_0000),
    ("KASAN", 0x800_0000),
    ("OBJECT_POISON", 0x8000_0000),
    ("CMPXCHG_DOUBLE", 0x4000_0000),
    ("NO_OBJ_EXT", 0),
];

/// The names of the flags that are set in `flags`, without `SLAB_`.
pub fn flag_names(session: &Session, flags: u32) -> Vec<&'static str> {
    let set = |(name, before): &&(&str, u32)| flags & mask(session, &format!("_SLAB_{name}"), *before) != 0;
    NAMED.iter().filter(set).map(|(name, _)| *name).collect()
}

/// The mask of a flag: enumerators with new values since Linux 6.9 (cc61eb851461), macros before.
fn mask(session: &Session, name: &str, before: u32) -> u32 {
    match session.enumerator(name) {
        Some(bit) => u32::try_from(bit).ok().and_then(|bit| 1u32.checked_shl(bit)).unwrap_or(0),
        None if session.enumerator("_SLAB_POISON").is_some() => 0,
        None => before,
    }
}

/// Every slab cache of the session, in the kernel's order.
#[derive(Debug)]
pub struct Caches {
    list: Vec<Cache>,
    by_addr: HashMap<u64, usize>,
    /// what the caches' flags mean
    pub flags: Flags,
}

impl Caches {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Caches>> {
        session.once(|| session.settle(|| Caches::read(session)))
    }

    fn read(session: &Session) -> Result<Caches> {
        if session.has_struct("kmem_cache") && !session.has_member("kmem_cache", "oo") {
            let other = if session.has_member("kmem_cache", "cpu_cache") { "SLAB" } else { "neither SLUB nor SLAB" };
            return Err(Error::Unavailable(format!("the kernel's slab allocator is {other}; kmdb knows SLUB")));
        }
        let head = session.symbol("slab_caches")?;
        let mut list = Vec::new();
        list::list(session, head, session.offset("kmem_cache", "list")?, &mut |addr| {
            match session.view::<Cache>(addr) {
                Ok(cache) => {
                    if !cache.sound() {
                        session.notes.add(addr, "slab cache with impossible sizes: its objects are not looked at");
                    }
                    list.push(cache);
                }
                Err(e) if e.is_unreadable() => session.notes.add(addr, format!("slab cache: {}", e.kind())),
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
        let by_addr = list.iter().enumerate().map(|(i, c)| (c.addr, i)).collect();
        Ok(Caches { list, by_addr, flags: Flags::of(session) })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Cache> {
        self.list.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A cache by its number, counted in the kernel's order.
    pub fn get(&self, number: usize) -> Option<&Cache> {
        self.list.get(number)
    }

    /// The number of the cache at an address.
    pub fn at(&self, addr: u64) -> Option<usize> {
        self.by_addr.get(&addr).copied()
    }

    /// The number of the cache at an address, or the reason why there is none.
    pub fn expect(&self, addr: u64) -> Result<usize> {
        self.at(addr).ok_or_else(|| {
            Error::Usage(format!("{addr:#x} is not the address of a slab cache")).hint("`::walk kmem_cache` lists them")
        })
    }

    /// The numbers of the caches of that name: usually one.
    pub fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        self.list.iter().enumerate().filter(move |(_, c)| c.name() == name).map(|(i, _)| i)
    }
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Cache>(), ViewEntry::of::<Node>()];
