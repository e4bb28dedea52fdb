//! The stack depot: call stacks that are kept once and named by a 32-bit handle (lib/stackdepot.c).
//!
//! A handle says in which pool a stack's record lies, and where in it. Its fields, and whether pools are counted from 0
//! or 1, changed several times; the types tell. Each record carries its own handle: that it is the one that was looked
//! for proves that all this was understood.

use engine::ViewEntry;
use engine::prelude::*;
use std::sync::Arc;

/// Offsets in a handle are in units of this (`DEPOT_STACK_ALIGN`).
const ALIGN: u32 = 4;
/// More frames than any stack in the depot has (`CONFIG_STACKDEPOT_MAX_FRAMES`, 64).
const MAX_FRAMES: u32 = 256;

/// A field of a handle.
#[derive(Clone, Copy, Debug)]
struct Part {
    shift: u32,
    mask: u32,
}

impl Part {
    fn of(session: &Session, member: &str) -> Option<Part> {
        let place = session.place("handle_parts", member)?;
        let bits = u32::try_from(place.bits).ok().filter(|b| (1..=32).contains(b))?;
        let shift = u32::try_from(place.bit_offset).ok().filter(|s| s + bits <= 32)?;
        Some(Part { shift, mask: u32::MAX >> (32 - bits) })
    }

    fn get(self, handle: u32) -> u32 {
        (handle >> self.shift) & self.mask
    }
}

/// How this kernel's depot is built.
#[derive(Debug)]
struct Depot {
    /// address of the array of pools
    pools: u64,
    /// number of pools, if known
    count: Option<u64>,
    pool: Part,
    /// number of the first pool
    first: u32,
    offset: Part,
    /// bits that do not belong to the stack
    extra: u32,
}

impl Depot {
    fn of(session: &Session) -> Result<Arc<Depot>> {
        session.once(|| Depot::read(session))
    }

    fn read(session: &Session) -> Result<Depot> {
        // stack_pools since Linux 6.3 (961c949b012f)
        let symbols = ["stack_pools", "stack_slabs"];
        let kernel = session.symbols.kernel();
        let symbol = symbols.iter().find_map(|name| kernel?.by_name(name).into_iter().next());
        let symbol = symbol.ok_or_else(|| Error::Unavailable("the kernel has no stack depot".into()))?;
        // an array of 8192 pointers, or, in newest kernels, a pointer to one
        let array = symbol.size >= 1024;
        let pools =
            if array { symbol.addr } else { session.u64(symbol.addr).doing(|| "reading stack_pools".into())? };
        // the pool's number has a name of its own in each encoding: slabindex up to Linux 6.2, pool_index from 6.3
        // (961c949b012f), counted from 1 since 6.9 (a6c1d9cb9a68)
        let names = [("pool_index_plus_1", 1), ("pool_index", 0), ("slabindex", 0)];
        let pool = names.iter().find_map(|(name, first)| Some((Part::of(session, name)?, *first)));
        let (Some((pool, first)), Some(offset)) = (pool, Part::of(session, "offset")) else {
            return Err(Error::Unavailable("the kernel's types do not say what a stack depot handle is".into()));
        };
        let extra = Part::of(session, "extra").map_or(0, |p| p.mask << p.shift);
        Ok(Depot { pools, count: array.then_some(symbol.size / 8), pool, first, offset, extra })
    }

    fn record(&self, session: &Session, handle: u32, first: u32) -> Result<Option<Vec<u64>>> {
        let Some(pool) = self.pool.get(handle).checked_sub(first).map(u64::from) else { return Ok(None) };
        if self.count.is_some_and(|count| pool >= count) {
            return Ok(None);
        }
        let base = session.u64(self.pools.wrapping_add(pool * 8))?;
        if base == 0 {
            return Ok(None);
        }
        let record: Record = session.view(base.wrapping_add(u64::from(self.offset.get(handle)) << ALIGN))?;
        if record.size > MAX_FRAMES || (record.handle ^ handle) & !self.extra != 0 {
            return Ok(None);
        }
        let bytes = session.bytes(record.entries.0, record.size as usize * 8)?;
        Ok(Some(bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes)).collect()))
    }
}

/// The memory of the depot.
pub struct Pools {
    /// by address: where each begins, and its number
    pools: Vec<(u64, u64)>,
    size: u64,
}

impl Pools {
    /// More pools than a handle can name.
    const MAX: u64 = 1 << 20;
    /// `DEPOT_POOL_ORDER`, `STACK_ALLOC_ORDER`: two to this power pages are a pool.
    const ORDER: u32 = 2;

    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Pools>> {
        session.once(|| {
            let depot = Depot::of(session)?;
            let mut pools = Vec::new();
            for number in 0..depot.count.unwrap_or(Self::MAX) {
                match session.u64(depot.pools.wrapping_add(number * 8)) {
                    // they are filled from the first on; the next one may be there already
                    Ok(0) | Err(_) if number > pools.len() as u64 => break,
                    Ok(0) => {}
                    Ok(base) => pools.push((base, number)),
                    Err(e) if e.is_control() => return Err(e),
                    Err(_) => break,
                }
            }
            pools.sort_unstable();
            Ok(Pools { pools, size: session.target.page_size() << Self::ORDER })
        })
    }

    /// The pool that an address lies in: its number, and where it begins.
    pub fn at(&self, addr: u64) -> Option<(u64, u64)> {
        let next = self.pools.partition_point(|(base, _)| *base <= addr);
        let (base, number) = *self.pools.get(next.checked_sub(1)?)?;
        (addr - base < self.size).then_some((number, base))
    }
}

/// A stack: `struct stack_record`.
#[derive(View)]
#[ctype("stack_record")]
struct Record {
    size: u32,
    /// its own handle
    #[field("handle.handle", "handle")]
    handle: u32,
    entries: At,
}

/// The frames that a handle stands for, innermost first; none for handle 0.
pub fn stack(session: &Session, handle: u32) -> Result<Vec<u64>> {
    if handle == 0 {
        return Ok(Vec::new());
    }
    let depot = Depot::of(session)?;
    // Linux 6.8.3 and 6.8.4 count from 1 in a field that is still called pool_index: the record decides
    for first in [depot.first, 1 - depot.first] {
        if let Some(frames) = depot.record(session, handle, first)? {
            return Ok(frames);
        }
    }
    Err(Error::Corrupt { addr: handle.into(), what: "stack depot handle without a record".into() })
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Record>()];
