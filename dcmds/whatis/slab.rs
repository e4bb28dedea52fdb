//! Slab memory as `::whatis` sees it: an object, or the space between objects.

use super::{Answer, Source, Want};
use crate::history;
use engine::{TypeId, prelude::*};
use walkers::{
    kfence,
    slab::{self, Cache, Found, Home, Slabs, State, Which},
    typegraph::{Kept, What},
};

/// Objects that KFENCE holds.
pub const KFENCE: Source = Source { name: "KFENCE objects", identifiers: false, find: in_pool };
/// Objects of slab caches.
pub const OBJECTS: Source = Source { name: "slab objects", identifiers: false, find: in_slab };
/// Slabs, where no object is.
pub const SLABS: Source = Source { name: "slabs", identifiers: false, find: beside };

fn verb(state: State) -> &'static str {
    match state {
        State::Allocated => "allocated from",
        State::Free => "freed from",
        State::RcuPending => "freed, but not before the end of a grace period, from",
        State::Unknown => "allocated or freed, which its damaged or missing free list does not tell, from",
    }
}

/// The sentence about an object, and what its address is typed with.
fn object(
    cx: &Cx<'_>,
    addr: u64,
    found: &Found,
    (cache, size): (&Cache, u64),
    record: Option<u64>,
    inferred: Option<(Option<TypeId>, String)>,
) -> Answer {
    let mut what = format!("{} {}", verb(found.state), cache.name());
    if let Some(record) = record {
        what = format!("bufctl {record:x} {what}");
    }
    match u64::try_from(found.offset) {
        Err(_) => what.push_str(", in front of the object"),
        Ok(offset) if offset >= size => what.push_str(&format!(", behind the object's {size} bytes")),
        Ok(_) => {}
    }
    let ctype = slab::names::type_of_cache(cx, found.cache);
    let inferred = if ctype.is_none() { inferred } else { None };
    if let Some((_, words)) = &inferred {
        what.push_str(words);
    }
    let object = Object { addr: found.object, ctype: ctype.or(inferred.and_then(|(ctype, _)| ctype)) };
    Answer { state: Some(found.state.name()), ..Answer::inside(cx, object, addr, &what) }.named(cache.name())
}

/// What type an object may be by what refers to it, and how that is said; if that was asked for, or is known already.
fn inferred(cx: &Cx<'_>, object: u64, want: Want) -> Result<Option<(Option<TypeId>, String)>> {
    let kept = if want.types { Some(Kept::of(cx)?) } else { Kept::made(cx) };
    let Some(kept) = kept else { return Ok(None) };
    let graph = kept.read();
    let Some((node, 0)) = graph.nodes.at(object) else { return Ok(None) };
    let Some(what) = graph.what(node) else { return Ok(None) };
    let ctype = match what {
        What::One(shape) => graph.shapes.get(shape).map(|shape| shape.ctype),
        What::Many(_) | What::Table(_) => None,
    };
    let sure = if graph.is_told(node) { "" } else { "possibly " };
    Ok(Some((ctype, format!(", {sure}{}", graph.spell(what)))))
}

/// The record of what happened to an object last.
fn last(cx: &Cx<'_>, found: &Found) -> Result<Option<u64>> {
    let which = if found.state == State::Allocated { Which::Alloc } else { Which::Free };
    match slab::track(cx, found.cache, found.object, which) {
        Err(e) if e.is_control() => Err(e),
        track => Ok(track.ok().flatten().map(|track| track.addr)),
    }
}

fn in_slab(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let slabs = Slabs::of(cx)?;
    let Some(found) = slab::find(cx, addr)? else { return Ok(None) };
    let (Home::Slab { .. }, Some(cache)) = (found.home, slabs.caches.get(found.cache)) else { return Ok(None) };
    let record = if want.bufctl { last(cx, &found)? } else { None };
    let mut answer =
        object(cx, addr, &found, (cache, cache.object_size.into()), record, inferred(cx, found.object, want)?);
    if want.report {
        history::tracks(cx, found.cache, found.object, found.state, &mut answer.report)?;
    }
    Ok(Some(answer))
}

fn in_pool(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let Some(pool) = kfence::Pool::of(cx)?.filter(|pool| pool.range().contains(&addr)) else { return Ok(None) };
    let nobody = || Answer::is(Object::untyped(addr), "in KFENCE's pool, where no object ever was".into());
    let Some(index) = pool.index(addr) else { return Ok(Some(nobody())) };
    let record = pool.record(cx, index)?;
    let Some(found) = slab::find(cx, addr)? else { return Ok(Some(nobody())) };
    let caches = slab::Caches::of(cx)?;
    let Some(cache) = caches.get(found.cache) else { return Ok(Some(nobody())) };
    let bufctl = want.bufctl.then_some(record.at);
    let mut answer = object(cx, addr, &found, (cache, record.size), bufctl, None);
    answer.text.push_str(", held by KFENCE");
    if want.report {
        let freed = record.freed_by(cx)?.filter(|_| found.state != State::Allocated);
        let tracks = freed.map(|t| ("freed", t)).into_iter().chain([("allocated", record.allocated_by(cx)?)]);
        for (verb, track) in tracks {
            let cpu = track.cpu.map(i64::from);
            history::report(cx, verb, track.pid.into(), cpu, track.time, Ok(track.stack), &mut answer.report);
        }
    }
    Ok(Some(answer))
}

fn beside(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let slabs = Slabs::of(cx)?;
    let Some((_, slab)) = slabs.at(addr) else { return Ok(None) };
    let name = slabs.caches.get(slab.cache as usize).map_or("?", Cache::name);
    let ctype = if cx.has_struct("slab") { "slab" } else { "page" };
    let what = format!("in a slab of {name}: struct {ctype} {:x}", slab.addr);
    let answer = Answer::inside(cx, Object::untyped(slab.base), addr, &what).named(name);
    Ok(Some(Answer { object: cx.object(ctype, slab.addr), ..answer }))
}
