//! Slabs, found among all `struct page`s.
//!
//! SLUB keeps no list of slabs that have no free object, nor of those that a CPU works on, so slabs are recognised by
//! their `struct page`, which is marked and names its cache. Two witnesses guard against damage: the cache must be one
//! of `slab_caches`, and the number of objects must be one that the cache's slabs have.

use super::cache::{Cache, Caches};
use crate::{
    kfence,
    page::{PageKind, PageMap, word},
};
use engine::prelude::*;
use std::{collections::HashMap, ops::Range};

/// A slab: `struct slab` (mm/slab.h), part of `struct page` before Linux 5.17 (d122019bf061).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// address of the structure, which is that of the `struct page`
    pub addr: u64,
    /// address of the memory
    pub base: u64,
    /// first free object that is not in some CPU's hands, or 0
    pub freelist: u64,
    /// number of its cache
    pub cache: u32,
    /// objects in all
    pub objects: u32,
    /// objects that are not in `freelist`
    pub inuse: u32,
    /// bytes of memory, in whole pages
    pub bytes: u32,
    /// belongs to a CPU
    pub frozen: bool,
}

impl Slab {
    /// Address behind the last page.
    pub fn end(&self) -> u64 {
        self.base.wrapping_add(self.bytes.into())
    }
}

/// What the scan found.
#[derive(Debug, Default)]
pub struct Found {
    /// by cache, then by address
    pub slabs: Vec<Slab>,
    /// `struct page`s that are not in the dump
    pub missing: u64,
    /// struct pages marked as slabs that cannot be ones, each with the number of the cache that it names
    pub damaged: Vec<(u64, u32)>,
    /// slabs of no cache that is known
    pub strangers: Vec<u64>,
    /// the page map was too large to be true
    pub gave_up: bool,
}

/// Looks at every `struct page`.
pub fn scan(session: &Session, caches: &Caches) -> Result<Found> {
    let map = PageMap::of(session)?;
    let shape = Shape::of(session)?;
    let size = usize::try_from(map.page_struct).unwrap_or(usize::MAX);
    let index: HashMap<u64, u32> = caches.iter().zip(0..).map(|(c, i)| (c.addr, i)).collect();
    let scan = map.scan(session, |first, bytes, found: &mut Vec<(u64, Raw)>| {
        // neighbouring slabs are often of one cache
        let mut last = (0, None);
        for (frame, page) in (first..).zip(bytes.chunks_exact(size)) {
            if !shape.is_slab(page) {
                continue;
            }
            let cache = shape.cache(page);
            if cache != last.0 {
                last = (cache, index.get(&cache).copied());
            }
            found.push((frame, shape.raw(page, last.1)));
        }
    })?;
    let pool = kfence::Pool::of(session)?.map_or(0..0, |pool| pool.range());
    let mut out = Found { missing: scan.missing, gave_up: scan.gave_up, ..Found::default() };
    for (frame, raw) in scan.found {
        let (Some(addr), Some(base)) = (map.page(frame), map.address(frame)) else { continue };
        if pool.contains(&base) {
            continue;
        }
        match raw.slab(caches, addr, base, session.target.page_size()) {
            Some(slab) => out.push(caches, slab),
            None => match raw.cache {
                Some(cache) => out.damaged.push((addr, cache)),
                None => out.strangers.push(addr),
            },
        }
    }
    // stable: within a cache they stay in the order of their addresses
    out.slabs.sort_by_key(|s| s.cache);
    Ok(out)
}

/// A second look at single slabs, of a kernel that runs.
pub struct Again {
    shape: Shape,
    size: u64,
}

impl Again {
    /// Where to look.
    pub fn of(session: &Session) -> Result<Again> {
        Ok(Again { shape: Shape::of(session)?, size: PageMap::of(session)?.page_struct })
    }

    /// The slab as it is now; `None` if it is no longer one of its cache.
    pub fn look(&self, session: &Session, cache: &Cache, slab: &Slab) -> Result<Option<Slab>> {
        let page = match session.bytes(slab.addr, usize::try_from(self.size).unwrap_or(0)) {
            Ok(page) => page,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(None),
        };
        if !self.shape.is_slab(&page) || self.shape.cache(&page) != cache.addr {
            return Ok(None);
        }
        let raw = self.shape.raw(&page, Some(slab.cache));
        let same = raw.objects == slab.objects && raw.inuse <= raw.objects;
        Ok(same.then_some(Slab { freelist: raw.freelist, inuse: raw.inuse, frozen: raw.frozen, ..*slab }))
    }
}

impl Found {
    /// Adds a slab that lies behind all others so far. One that reaches into the next is damaged, and is cut.
    fn push(&mut self, caches: &Caches, slab: Slab) {
        if let Some(before) = self.slabs.last_mut()
            && before.end() > slab.base
        {
            let room = slab.base - before.base;
            before.bytes = u32::try_from(room).unwrap_or(0);
            let size = caches.get(before.cache as usize).map_or(u64::MAX, |c| c.size.into());
            before.objects = before.objects.min(u32::try_from(room / size).unwrap_or(0));
            before.inuse = before.inuse.min(before.objects);
            self.damaged.push((before.addr, before.cache));
        }
        self.slabs.push(slab);
    }
}

/// A slab's counters as its `struct page` has them.
struct Raw {
    cache: Option<u32>,
    freelist: u64,
    objects: u32,
    inuse: u32,
    frozen: bool,
}

impl Raw {
    fn slab(&self, caches: &Caches, addr: u64, base: u64, page: u64) -> Option<Slab> {
        let cache: &Cache = caches.get(self.cache? as usize).filter(|c| c.sound())?;
        let bytes = u32::try_from(cache.slab_bytes(self.objects, page)?).ok()?;
        (self.inuse <= self.objects).then_some(Slab {
            addr,
            base,
            freelist: self.freelist,
            cache: self.cache?,
            objects: self.objects,
            inuse: self.inuse,
            bytes,
            frozen: self.frozen,
        })
    }
}

/// Where the members are that every `struct page` is asked for.
#[derive(Debug)]
struct Shape {
    kind: PageKind,
    cache: usize,
    freelist: usize,
    inuse: Bits,
    objects: Bits,
    frozen: Option<Bits>,
}

impl Shape {
    fn of(session: &Session) -> Result<Shape> {
        let slab = if session.has_struct("slab") { "slab" } else { "page" };
        let byte = |member| Ok::<_, Error>(session.offset(slab, member)? as usize);
        let bits = |member| session.place(slab, member).map(|f| Bits::of(f.bit_offset, f.bits));
        let missing =
            |member: &str| Error::NoMember { ctype: format!("struct {slab}"), members: vec![member.to_owned()] };
        Ok(Shape {
            kind: PageKind::of(session, "slab")?,
            cache: byte("slab_cache")?,
            freelist: byte("freelist")?,
            inuse: bits("inuse").ok_or_else(|| missing("inuse"))?,
            objects: bits("objects").ok_or_else(|| missing("objects"))?,
            frozen: bits("frozen"),
        })
    }

    #[inline]
    fn is_slab(&self, page: &[u8]) -> bool {
        self.kind.is(page)
    }

    fn cache(&self, page: &[u8]) -> u64 {
        word(page, self.cache)
    }

    fn raw(&self, page: &[u8], cache: Option<u32>) -> Raw {
        Raw {
            cache,
            freelist: word(page, self.freelist),
            objects: self.objects.get(page),
            inuse: self.inuse.get(page),
            frozen: self.frozen.as_ref().is_some_and(|f| f.get(page) != 0),
        }
    }
}

/// A bit-field.
#[derive(Debug)]
struct Bits {
    at: usize,
    shift: u32,
    mask: u32,
}

impl Bits {
    fn of(bit_offset: u64, bits: u64) -> Bits {
        Bits {
            at: (bit_offset / 8) as usize,
            shift: (bit_offset % 8) as u32,
            mask: u32::MAX >> (32 - bits.clamp(1, 32)),
        }
    }

    fn get(&self, page: &[u8]) -> u32 {
        (word(page, self.at) >> self.shift) as u32 & self.mask
    }
}

/// The ranges of `slabs`, which are sorted by cache, that each of `caches` caches has.
pub fn ranges(slabs: &[Slab], caches: usize) -> Vec<Range<usize>> {
    let mut end = 0;
    (0..caches as u32)
        .map(|cache| {
            let start = end;
            end += slabs.get(start..).unwrap_or_default().partition_point(|s| s.cache <= cache);
            start..end
        })
        .collect()
}
