//! Who allocated an object last, and who freed it last: `struct track`, kept behind each object of a cache that has
//! `SLAB_STORE_USER` (`slub_debug=U`).

use super::{Found, Slabs, State, cache::Cache};
use crate::stackdepot;
use engine::ViewEntry;
use engine::{FieldReader, Layout, prelude::*};
use std::sync::Arc;

/// Which of an object's two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// of its last allocation (`TRACK_ALLOC`)
    Alloc,
    /// of its last freeing (`TRACK_FREE`)
    Free,
}

/// The record as it lies behind the object: `struct track` (mm/slub.c).
#[derive(View, Debug)]
#[ctype("track")]
struct Raw {
    #[field("addr")]
    caller: u64,
    cpu: u32,
    pid: u32,
    when: u64,
    /// stack depot handle since Linux 5.19 (5cf909c553e9)
    handle: Option<u32>,
    /// the frames themselves, before that
    addrs: Option<[u64; 16]>,
}

/// A record of what happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// address of the record
    pub addr: u64,
    /// the object
    pub object: u64,
    /// number of the object's cache
    pub cache: usize,
    /// what happened
    pub which: Which,
    /// who called the allocator
    pub caller: u64,
    /// on this CPU
    pub cpu: u32,
    /// in this thread
    pub pid: u32,
    /// at this moment, in jiffies
    pub when: u64,
    frames: Frames,
}

/// `CONFIG_NR_CPUS` ends there.
const MAX_CPU: u32 = 8192;
/// `PID_MAX_LIMIT`
const MAX_PID: u64 = 1 << 22;

impl Track {
    /// What in the record cannot be true, if anything: then it was written over.
    pub fn absurd(&self) -> Option<String> {
        // it may be code that is gone: a module's initialisation
        match self.caller >> 63 {
            1 if self.cpu < MAX_CPU => None,
            1 => Some(format!("CPU {}", self.cpu)),
            _ => Some(format!("{:x}, which is no code", self.caller)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Frames {
    Handle(u32),
    Inline(Vec<u64>),
}

impl Track {
    /// The call stack, innermost first. Empty if it was not kept.
    pub fn stack(&self, session: &Session) -> Result<Vec<u64>> {
        match &self.frames {
            Frames::Handle(handle) => stackdepot::stack(session, *handle),
            Frames::Inline(frames) => Ok(frames.clone()),
        }
    }

    /// The stack depot handle: equal handles are equal stacks.
    pub fn handle(&self) -> Option<u32> {
        match self.frames {
            Frames::Handle(handle) => Some(handle),
            Frames::Inline(_) => None,
        }
    }
}

/// How records of this session's kernel are read.
pub(super) struct Tracks {
    layout: Arc<Layout>,
}

impl Tracks {
    /// Fails if the kernel has no such records: it was built without CONFIG_SLUB_DEBUG.
    pub(super) fn of(session: &Session) -> Result<Tracks> {
        let layout = session.layout::<Raw>()?;
        if layout.size == 0 {
            return Err(Error::NoType("struct track".into()));
        }
        Ok(Tracks { layout })
    }

    /// Offset of a record from its object.
    fn offset(&self, cache: &Cache, which: Which) -> u64 {
        cache.info_end() + if which == Which::Free { self.layout.size } else { 0 }
    }

    /// Which record, if any, covers an offset in an object.
    fn at(&self, cache: &Cache, offset: u64) -> Option<Which> {
        match offset.checked_sub(cache.info_end())? / self.layout.size {
            0 => Some(Which::Alloc),
            1 => Some(Which::Free),
            _ => None,
        }
    }

    fn decode(
        &self,
        session: &Session,
        (cache, number): (&Cache, usize),
        object: u64,
        which: Which,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Track>> {
        let addr = object.wrapping_add(self.offset(cache, which));
        let raw: Raw = match bytes {
            Some(bytes) => FieldReader::decode(session, &self.layout, addr, bytes)?,
            None => session.view(addr)?,
        };
        if raw.caller == 0 {
            return Ok(None);
        }
        let frames = match (raw.handle, raw.addrs) {
            (Some(handle), _) => Frames::Handle(handle),
            (None, Some(frames)) => Frames::Inline(frames.into_iter().take_while(|frame| *frame != 0).collect()),
            (None, None) => Frames::Inline(Vec::new()),
        };
        let Raw { caller, cpu, pid, when, .. } = raw;
        Ok(Some(Track { addr, object, cache: number, which, caller, cpu, pid, when, frames }))
    }
}

/// Whether the objects of a cache have records.
fn kept(slabs: &Slabs, cache: &Cache) -> bool {
    cache.flags & slabs.caches.flags.store_user != 0 && cache.sound()
}

/// The record of one object of the cache number `cache`; `None` if nothing was recorded, or if the cache keeps none.
pub fn track(session: &Session, cache: usize, object: u64, which: Which) -> Result<Option<Track>> {
    let slabs = Slabs::of(session)?;
    match slabs.caches.get(cache) {
        Some(view) if kept(&slabs, view) => Tracks::of(session)?.decode(session, (view, cache), object, which, None),
        _ => Ok(None),
    }
}

/// Where, from the start of an object, the last member of its records ends that holds what no record does; `None` if all
/// could be records.
pub(super) fn spoilt(session: &Session, cache: usize, object: u64) -> Result<Option<u64>> {
    let slabs = Slabs::of(session)?;
    let Some(view) = slabs.caches.get(cache).filter(|view| kept(&slabs, view)) else { return Ok(None) };
    let tracks = Tracks::of(session)?;
    let place = |member: &str| session.place("track", member).map(|place| (place.bit_offset / 8, place.bits / 8));
    let now = session.kernel_symbol("jiffies").and_then(|at| session.u64(at).ok());
    let cpus = session.kernel_symbol("nr_cpu_ids").and_then(|at| session.u32(at).ok()).unwrap_or(MAX_CPU).into();
    let mut end = None;
    for which in [Which::Alloc, Which::Free] {
        let from = tracks.offset(view, which);
        for member in ["addr", "handle", "addrs", "cpu", "pid", "when"] {
            let Some((offset, size)) = place(member) else { continue };
            let is_wrong = |at: u64, size: u64| -> Result<bool> {
                let value = session.uint(object.wrapping_add(at), size as usize)?;
                Ok(match member {
                    "cpu" => value >= cpus,
                    "pid" => value > MAX_PID,
                    "when" => now.is_some_and(|now| value > now),
                    "handle" => value != 0 && stackdepot::stack(session, value as u32).is_err(),
                    _ => value != 0 && session.symbolize(value).is_none(),
                })
            };
            let (count, size) = if member == "addrs" { (size / 8, 8) } else { (1, size) };
            for number in 0..count {
                let at = from + offset + number * size;
                if is_wrong(at, size)? {
                    end = end.max(Some(at + size));
                }
            }
        }
    }
    Ok(end)
}

/// Shows every record of every object, allocated or free, to `visit`: of each object its allocation first. Objects that
/// cannot be read are noted.
pub fn each_track(session: &Session, visit: &mut dyn FnMut(State, Track) -> Result<()>) -> Result<()> {
    let slabs = Slabs::of(session)?;
    for cache in 0..slabs.caches.len() {
        each_track_of(session, cache, visit)?;
    }
    Ok(())
}

/// Likewise, for one cache.
pub fn each_track_of(session: &Session, cache: usize, visit: &mut dyn FnMut(State, Track) -> Result<()>) -> Result<()> {
    let slabs = Slabs::of(session)?;
    let Some(view) = slabs.caches.get(cache).filter(|c| kept(&slabs, c)) else { return Ok(()) };
    let tracks = Tracks::of(session)?;
    let size = tracks.layout.size as usize;
    let free = slabs.free(session, cache)?;
    for (number, slab) in slabs.of_cache(cache).iter().enumerate() {
        let memory = match session.bytes(slab.base, slab.bytes as usize) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => None,
        };
        for index in 0..slab.objects {
            let object = slabs.object(slab, index);
            for which in [Which::Alloc, Which::Free] {
                let start = object.wrapping_add(tracks.offset(view, which)).wrapping_sub(slab.base) as usize;
                let bytes = memory.as_ref().and_then(|m| m.get(start..start.checked_add(size)?));
                match tracks.decode(session, (view, cache), object, which, bytes) {
                    Ok(Some(track)) => visit(free.state(number, index), track)?,
                    Ok(None) => {}
                    Err(e) if e.is_unreadable() => {
                        session.notes.add(object, format!("record of an object: {}", e.kind()));
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(())
}

/// The object whose record covers an address, and which of its two records it is.
pub fn object_of_track(session: &Session, addr: u64) -> Result<Option<(Found, Which)>> {
    let slabs = Slabs::of(session)?;
    let Some(found) = super::find(session, addr)? else { return Ok(None) };
    let Some(cache) = slabs.caches.get(found.cache).filter(|c| kept(&slabs, c)) else { return Ok(None) };
    let tracks = Tracks::of(session)?;
    let which = u64::try_from(found.offset).ok().and_then(|offset| tracks.at(cache, offset));
    Ok(which.map(|which| (found, which)))
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Raw>()];
