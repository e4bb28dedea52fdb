//! Memory that holds pointers which keep nothing alive.
//!
//! * ftrace's rings: their `kmem` events have the address of every object that was allocated.
//! * KFENCE's records, which have the address of every object that it holds.
//! * Interrupt and exception stacks (x86-64 has them in per-CPU memory) that no CPU was on: what is there is old.
//! * Memory for a crash kernel, which is another kernel.
//! * Places of packets that CPUs have kept for the next ones, and have given to somebody.

use crate::{
    ftrace, kfence,
    percpu::{self, Percpu},
    search::merged,
};
use engine::prelude::*;
use std::ops::{ControlFlow, Range};

/// The physical addresses of all of that, sorted and disjoint.
pub(super) fn find(session: &Session) -> Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    for array in ftrace::arrays(session).or_else(none)? {
        for page in ftrace::pages(session, &array).or_else(none)? {
            found.extend(physical(session, &page)?);
        }
    }
    if let Some(pool) = kfence::Pool::of(session)? {
        let records = pool.metadata..pool.metadata.saturating_add(pool.count.saturating_mul(pool.stride));
        found.extend(physical(session, &records)?);
    }
    let mut stacks = Vec::new();
    for name in ["irq_stack_backing_store", "exception_stacks"] {
        let Some((at, len)) = session.kernel_symbol(name).zip(percpu::extent(session, name)) else { continue };
        for (_, copy) in Percpu::of(session)?.copies(at) {
            stacks.extend(physical(session, &(copy..copy.saturating_add(len)))?);
        }
    }
    if !in_use(session, &stacks) {
        found.append(&mut stacks);
    }
    if let Some(crash) = session.kernel_symbol("crashk_res") {
        let member = |name| session.u64(crash.wrapping_add(session.offset("resource", name)?));
        if let Some((start, last)) = member("start").ok().zip(member("end").ok()).filter(|(start, end)| start < end) {
            found.push(start..last.saturating_add(1));
        }
    }
    for place in taken_packets(session).or_else(none)? {
        found.extend(physical(session, &place)?);
    }
    Ok(merged(found))
}

/// The places behind the first `skb_count` in each CPU's `struct napi_alloc_cache` (net/core/skbuff.c): what they have is old.
fn taken_packets(session: &Session) -> Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let name = "napi_alloc_cache";
    let (Some(variable), Some(cache)) = (session.kernel_symbol(name), session.place(name, "skb_cache")) else {
        return Ok(found);
    };
    let (count, first, bytes) = (session.offset(name, "skb_count")?, cache.bit_offset / 8, cache.bits / 8);
    for (_, copy) in Percpu::of(session)?.copies(variable) {
        let places = copy.saturating_add(first)..copy.saturating_add(first).saturating_add(bytes);
        match session.u32(copy.wrapping_add(count)) {
            Ok(kept) => found.push(places.start.saturating_add(u64::from(kept) * 8).min(places.end)..places.end),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Whether some CPU may be on one of these stacks: where registers do not tell, it may.
fn in_use(session: &Session, stacks: &[Range<u64>]) -> bool {
    let cpus = session.target.cpus();
    let online = Percpu::of(session).map_or(usize::MAX, |percpu| percpu.online().len());
    let on_one = |sp: u64| {
        let to = session.target.translate(Space::Kernel, sp);
        to.is_ok_and(|to| stacks.iter().any(|stack| stack.contains(&to.pa)))
    };
    cpus.len() < online || cpus.iter().any(|cpu| cpu.sp().is_none_or(on_one))
}

/// Where a range of kernel addresses lies in physical memory, as far as it is mapped: virtual and physical address, and
/// bytes.
pub(super) fn mappings(session: &Session, range: &Range<u64>) -> Result<Vec<(u64, u64, u64)>> {
    let mut out = Vec::new();
    if !range.is_empty() {
        let keep_going = || session.interrupt.check().is_ok();
        let all = range.start..=range.end - 1;
        // without page tables nothing is known to be mapped
        let _ = session.target.each_mapping(Space::Kernel, all, &keep_going, &mut |m| {
            out.push((m.va, m.pa, m.len));
            ControlFlow::Continue(())
        });
        session.interrupt.check()?;
    }
    Ok(out)
}

fn physical(session: &Session, range: &Range<u64>) -> Result<Vec<Range<u64>>> {
    Ok(mappings(session, range)?.into_iter().map(|(_, pa, len)| pa..pa.saturating_add(len)).collect())
}

/// What a kernel lacks, or what is not in the dump, hides nothing.
fn none<T: Default>(error: Error) -> Result<T> {
    if error.is_control() { Err(error) } else { Ok(T::default()) }
}
