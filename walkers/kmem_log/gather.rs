//! Where the log comes from: tracks, ftrace's ring, KFENCE.

use super::{
    Kind, Log, Transaction, Witness,
    join::{self, Claim},
};
use crate::{
    clock::Clocks,
    ftrace::{self, EventField, EventTypes, TraceArray, Window},
    kfence, slab,
};
use engine::{Error, Result, Session};
use std::collections::HashMap;

/// Gathers all there is.
pub fn gather(session: &Session) -> Result<Log> {
    let clocks = Clocks::of(session)?;
    let ring = match best_ring(session) {
        Ok(ring) => ring,
        Err(e) if e.is_control() => return Err(e),
        // no tracing in this kernel, or none that can be read
        Err(Error::Unavailable(_)) => None,
        Err(e) => {
            session.notes.add(0, format!("ftrace: {e}"));
            None
        }
    };
    let mut claims = tracks(session, &clocks)?;
    let mut ring = ring.unwrap_or_default();
    // the log's clock against monotonic time, by what the kernel noted and by what was seen twice
    let noted = match &ring.clock {
        Some(clock) => clocks.offset_of(clock),
        None => clocks.local_offset(),
    };
    let ahead = join::calibrate(noted, &claims, &ring.events, clocks.tick);
    if ahead.is_none() && !ring.events.is_empty() && !claims.is_empty() {
        session.notes.add(0, "the ring's clock is not known: times of tracks and of events do not compare");
    }
    for claim in &mut claims {
        claim.at.time = claim.at.time.saturating_add_signed(ahead.unwrap_or(0));
    }
    let local = clocks.local_offset().unwrap_or(0);
    claims.extend(kfence_claims(session, noted.unwrap_or(local).wrapping_sub(local))?);
    let records = join::join(claims, std::mem::take(&mut ring.events), clocks.tick);
    Ok(Log::new(records, ring.windows, clocks.tick, ahead))
}

/// What a ring has of the allocator.
#[derive(Default)]
struct Ring {
    clock: Option<String>,
    /// oldest first
    events: Vec<Transaction>,
    windows: Vec<Window>,
}

/// The ring with the most events of the allocator. Instances that record the same would only repeat it.
fn best_ring(session: &Session) -> Result<Option<Ring>> {
    let shapes = shapes(session)?;
    let mut best: Option<Ring> = None;
    for array in ftrace::arrays(session)? {
        let ring = read_ring(session, &array, &shapes)?;
        if ring.events.len() > best.as_ref().map_or(0, |b| b.events.len()) {
            best = Some(ring);
        }
    }
    Ok(best)
}

/// Of each buffer that the ring saw allocated, and not freed since, that allocation; at monotonic time if the ring's
/// clock is known.
pub fn seen_by_ring(session: &Session) -> Result<HashMap<u64, Transaction>> {
    let Some(ring) = best_ring(session)? else { return Ok(HashMap::new()) };
    let ahead = Clocks::of(session).ok().zip(ring.clock).and_then(|(clocks, clock)| clocks.offset_of(&clock));
    let mut last: HashMap<u64, Transaction> = HashMap::new();
    for mut event in ring.events {
        event.time = event.time.saturating_add_signed(ahead.unwrap_or(0).saturating_neg());
        last.insert(event.buffer, event);
    }
    last.retain(|_, event| event.kind == Kind::Alloc);
    Ok(last)
}

/// The fields of an event of the allocator.
struct Shape {
    kind: Kind,
    site: EventField,
    ptr: EventField,
    bytes: Option<(EventField, EventField)>,
}

/// The event types that are transactions. Those for a node are events of their own before Linux 6.1 (11e9734bcb6a).
fn shapes(session: &Session) -> Result<HashMap<u16, Shape>> {
    let types = EventTypes::of(session)?;
    let mut found = HashMap::new();
    for (name, kind) in [
        ("kmalloc", Kind::Alloc),
        ("kmalloc_node", Kind::Alloc),
        ("kmem_cache_alloc", Kind::Alloc),
        ("kmem_cache_alloc_node", Kind::Alloc),
        ("kfree", Kind::Free),
        ("kmem_cache_free", Kind::Free),
    ] {
        let Some(event) = types.find("kmem", name) else { continue };
        let field = |name| event.field(session, name).cloned();
        if let (Some(site), Some(ptr)) = (field("call_site"), field("ptr")) {
            let bytes = field("bytes_req").zip(field("bytes_alloc"));
            found.insert(event.id, Shape { kind, site, ptr, bytes });
        }
    }
    Ok(found)
}

fn read_ring(session: &Session, array: &TraceArray, shapes: &HashMap<u16, Shape>) -> Result<Ring> {
    let mut events = Vec::new();
    let windows = ftrace::events(session, array, &mut |event| {
        let Some(shape) = shapes.get(&event.kind) else { return Ok(()) };
        let (Some(site), Some(buffer)) = (event.uint(&shape.site), event.uint(&shape.ptr)) else { return Ok(()) };
        // kfree(NULL), kmalloc(0), and an allocation that failed are no transactions
        if buffer <= ZERO_SIZE_PTR {
            return Ok(());
        }
        let bytes = shape.bytes.as_ref().and_then(|(asked, given)| event.uint(asked).zip(event.uint(given)));
        events.push(Transaction {
            addr: event.addr,
            event: Some(event.addr),
            buffer,
            time: event.time,
            site,
            pid: event.pid as u32,
            cpu: Some(event.cpu),
            bytes,
            cache: None,
            kind: shape.kind,
            witness: Witness::Ftrace,
        });
        Ok(())
    })?;
    Ok(Ring { clock: Some(ftrace::clock(session, array)?), events, windows })
}

/// What `kmalloc(0)` answers (include/linux/slab.h).
const ZERO_SIZE_PTR: u64 = 16;

/// The records that objects keep of themselves. Their times are monotonic.
fn tracks(session: &Session, clocks: &Clocks) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let found = slab::each_track(session, &mut |state, track| {
        let kind = match track.which {
            slab::Which::Alloc => Kind::Alloc,
            slab::Which::Free => Kind::Free,
        };
        let last = (state == slab::State::Allocated) == (kind == Kind::Alloc);
        let at = Transaction {
            addr: track.addr,
            event: None,
            buffer: track.object,
            time: clocks.monotonic(track.when),
            site: track.caller,
            pid: track.pid,
            cpu: Some(track.cpu),
            bytes: None,
            cache: u32::try_from(track.cache).ok(),
            kind,
            witness: Witness::Track,
        };
        claims.push(Claim { at, last, ticks: true });
        Ok(())
    });
    match found {
        Err(e) if e.is_control() => Err(e),
        // built without CONFIG_SLUB_DEBUG, or with its slabs in other ways out of reach
        Err(e) => {
            session.notes.add(0, format!("tracks: {e}"));
            Ok(claims)
        }
        Ok(()) => Ok(claims),
    }
}

/// KFENCE's records, with `ahead` added to their times.
fn kfence_claims(session: &Session, ahead: i64) -> Result<Vec<Claim>> {
    let Some(pool) = kfence::Pool::of(session)? else { return Ok(Vec::new()) };
    let place = |member| session.offset("kfence_metadata", member);
    let (alloc, free) = (place("alloc_track")?, place("free_track")?);
    let caches = slab::Caches::of(session)?;
    let mut claims = Vec::new();
    pool.each(session, &mut |record| {
        let in_use = record.state(session) == kfence::State::Allocated;
        let mut add = |kind, offset: u64, track: kfence::Track| {
            let at = Transaction {
                addr: record.at.wrapping_add(offset),
                event: None,
                buffer: record.addr,
                time: track.time.unwrap_or(0).saturating_add_signed(ahead),
                site: track.stack.first().copied().unwrap_or(0),
                pid: track.pid as u32,
                cpu: track.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
                bytes: None,
                cache: caches.at(record.cache).and_then(|n| u32::try_from(n).ok()),
                kind,
                witness: Witness::Kfence,
            };
            claims.push(Claim { at, last: in_use == (kind == Kind::Alloc), ticks: false });
        };
        add(Kind::Alloc, alloc, record.allocated_by(session)?);
        // while in use, the other half tells of the page's last user
        if let Some(track) = record.freed_by(session)?.filter(|_| !in_use) {
            add(Kind::Free, free, track);
        }
        Ok(())
    })?;
    Ok(claims)
}
