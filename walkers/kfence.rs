//! KFENCE: the kernel's sampling detector of memory errors (mm/kfence/).
//!
//! Now and then an allocation gets a page of its own from KFENCE's pool, between two guard pages. Such an object
//! belongs to its cache like any other, but lies in no slab, although its page looks like one: it is told apart by its
//! address. Its record, `struct kfence_metadata`, says exactly who allocated and who freed it, and when.
//!
//! ```console
//! > ::walk kfence | ::head -1 | ::print addr size state
//! addr = 0xff20f7bf5f002fc0
//! size = 0x40
//! state = 1 (KFENCE_OBJECT_ALLOCATED)
//! ```

use engine::ViewEntry;
use engine::prelude::*;
use std::{collections::HashMap, ops::Range, sync::Arc};

/// `CONFIG_KFENCE_NUM_OBJECTS` is at most this.
const MAX_OBJECTS: u64 = 65_535;
/// Records in a row that may be damaged before they are taken for the end.
const PATIENCE: u64 = 16;
/// `KFENCE_STACK_DEPTH`.
const MAX_FRAMES: u64 = 64;

/// KFENCE's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// where it starts
    pub base: u64,
    /// bytes of an object's share of the pool: its page and a guard page
    pub share: u64,
    /// objects that fit
    pub count: u64,
    /// address of the first `struct kfence_metadata`
    pub metadata: u64,
    /// its size
    pub stride: u64,
}

impl Pool {
    /// The session's; `None` if the kernel has no KFENCE or did not start it.
    pub fn of(session: &Session) -> Result<Option<Arc<Pool>>> {
        let pool = session.once(|| Ok(Kept(Pool::read(session)?.map(Arc::new))))?;
        Ok(pool.0.clone())
    }

    fn read(session: &Session) -> Result<Option<Pool>> {
        let (Some(pool), Some(records)) =
            (session.kernel_symbol("__kfence_pool"), session.kernel_symbol("kfence_metadata"))
        else {
            return Ok(None);
        };
        let base = session.u64(pool).doing(|| "reading __kfence_pool".into())?;
        if base == 0 {
            return Ok(None);
        }
        let stride = session.size_of("kfence_metadata")?;
        let addr = session.offset("kfence_metadata", "addr")?;
        // an array before Linux 6.6 (cabdf74e6b31), a pointer since
        let symbol = session.symbols.kernel().and_then(|k| k.by_name("kfence_metadata").into_iter().next());
        let array = symbol.is_some_and(|s| s.size >= stride);
        let metadata = if array { records } else { session.u64(records).doing(|| "reading kfence_metadata".into())? };
        // the number of objects is a macro; but each record names its own page from the start on
        let (mut count, mut i, page_size) = (0, 0, session.target.page_size());
        let share = 2 * page_size;
        while i < MAX_OBJECTS && i - count < PATIENCE {
            let page = base.wrapping_add((i + 1) * share);
            i += 1;
            match session.u64(metadata.wrapping_add((i - 1) * stride).wrapping_add(addr)) {
                Ok(at) if at & !(page_size - 1) == page => count = i,
                Err(e) if e.is_control() => return Err(e),
                _ => {}
            }
        }
        Ok(Some(Pool { base, share, count, metadata, stride }))
    }

    /// The addresses of the pool, guard pages and all: `KFENCE_POOL_SIZE`.
    pub fn range(&self) -> Range<u64> {
        self.base..self.base.saturating_add((self.count + 1) * self.share)
    }

    /// The number of the object that an address of the pool belongs to: the one on its page, or before its guard page.
    pub fn index(&self, addr: u64) -> Option<u64> {
        let index = (addr.checked_sub(self.base)? / self.share).checked_sub(1)?;
        (index < self.count).then_some(index)
    }

    /// The record of an object.
    pub fn record(&self, session: &Session, index: u64) -> Result<Record> {
        session.view(self.metadata.wrapping_add(index * self.stride))
    }

    /// Every record that was ever used.
    pub fn each(&self, session: &Session, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        for index in 0..self.count {
            match self.record(session, index) {
                Ok(record) if record.state(session) == State::Unused => {}
                Ok(record) => visit(record)?,
                Err(e) if e.is_unreadable() => {
                    session.notes.add(self.metadata + index * self.stride, format!("KFENCE record: {}", e.kind()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

struct Kept(Option<Arc<Pool>>);

/// What KFENCE holds, by cache.
#[derive(Debug, Default)]
pub struct Held(HashMap<u64, Vec<(u64, State)>>);

impl Held {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Held>> {
        session.once(|| {
            let mut held = Held::default();
            if let Some(pool) = Pool::of(session)? {
                pool.each(session, &mut |record| {
                    held.0.entry(record.cache).or_default().push((record.addr, record.state(session)));
                    Ok(())
                })?;
            }
            Ok(held)
        })
    }

    /// The objects of the cache at an address, and what they are.
    pub fn of_cache(&self, cache: u64) -> &[(u64, State)] {
        self.0.get(&cache).map_or(&[], Vec::as_slice)
    }
}

/// What an object of the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// never used
    Unused,
    /// in use
    Allocated,
    /// freed, waiting for a grace period: since Linux 6.14 (c36be0cdf63b)
    RcuFreeing,
    /// free
    Freed,
    /// no state that a record can have
    Damaged,
}

/// An object and its history: `struct kfence_metadata`.
#[derive(View, Debug)]
#[ctype("kfence_metadata")]
pub struct Record {
    /// address of the record
    #[addr]
    pub at: u64,
    state: u32,
    /// address of the object
    pub addr: u64,
    /// its size, as asked for
    pub size: u64,
    /// address of its cache
    pub cache: u64,
    #[field("alloc_track.pid")]
    alloc_pid: i32,
    #[field("alloc_track.cpu")]
    alloc_cpu: Option<i32>,
    #[field("alloc_track.ts_nsec")]
    alloc_time: Option<u64>,
    #[field("alloc_track.num_stack_entries")]
    alloc_frames: i32,
    #[field("alloc_track.stack_entries")]
    alloc_stack: At,
    #[field("free_track.pid")]
    free_pid: i32,
    #[field("free_track.cpu")]
    free_cpu: Option<i32>,
    #[field("free_track.ts_nsec")]
    free_time: Option<u64>,
    #[field("free_track.num_stack_entries")]
    free_frames: i32,
    #[field("free_track.stack_entries")]
    free_stack: At,
}

/// Who did it: `struct kfence_track`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// thread
    pub pid: i32,
    /// since Linux 5.18 (cc63ad0ad7ac)
    pub cpu: Option<i32>,
    /// ns since boot; since Linux 5.18 as well
    pub time: Option<u64>,
    /// return addresses, innermost first
    pub stack: Vec<u64>,
}

impl Record {
    /// What the object is.
    pub fn state(&self, session: &Session) -> State {
        let value = i64::from(self.state);
        let is = |name, before| session.enumerator(name).unwrap_or(before) == value;
        match () {
            () if is("KFENCE_OBJECT_UNUSED", 0) => State::Unused,
            () if is("KFENCE_OBJECT_ALLOCATED", 1) => State::Allocated,
            () if is("KFENCE_OBJECT_FREED", 2) => State::Freed,
            () if session.enumerator("KFENCE_OBJECT_RCU_FREEING") == Some(value) => State::RcuFreeing,
            () => State::Damaged,
        }
    }

    /// Who allocated it.
    pub fn allocated_by(&self, session: &Session) -> Result<Track> {
        let stack = frames(session, self.alloc_stack, self.alloc_frames)?;
        Ok(Track { pid: self.alloc_pid, cpu: self.alloc_cpu, time: self.alloc_time, stack })
    }

    /// Who freed it last; `None` if nobody has, since it was first used. Of an object in use, what is told is the end
    /// of the page's previous user.
    pub fn freed_by(&self, session: &Session) -> Result<Option<Track>> {
        if self.free_frames == 0 && self.free_pid == 0 {
            return Ok(None);
        }
        let stack = frames(session, self.free_stack, self.free_frames)?;
        Ok(Some(Track { pid: self.free_pid, cpu: self.free_cpu, time: self.free_time, stack }))
    }
}

fn frames(session: &Session, at: At, count: i32) -> Result<Vec<u64>> {
    let count = u64::try_from(count).unwrap_or(0).min(MAX_FRAMES);
    let bytes = session.bytes(at.0, count as usize * 8)?;
    Ok(bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes)).collect())
}

/// Walks KFENCE's records.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "kfence",
    doc: "walk the records of objects that KFENCE holds or held",
    item: "struct kfence_metadata",
    address: Address::None,
    walk: |cx, _, visit| match Pool::of(cx)? {
        Some(pool) => pool.each(cx, &mut |record| visit(record.at)),
        None => Err(Error::Unavailable("the kernel has no KFENCE, or has not started it".into())),
    },
}];

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Record>()];
