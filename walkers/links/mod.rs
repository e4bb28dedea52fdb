//! Damage in what links objects: lists, hash chains, trees, arrays, counts, queues, pointers, variables that outlive what
//! they point to, what waits in freed memory for its turn; and what the kernel said of damage in its log.
//!
//! `struct list_head` and `hlist_node` need no type to be known: two words of which one leads to an entry that leads back
//! here are a link ([`rings`]). Trees, arrays and counts are looked for where the types say that they are, in the objects
//! of caches that are named after a struct ([`places`]).
//!
//! **Invariant:** each finding rests on two witnesses that contradict the damaged word. What merely looks odd, such as
//! memory that nobody has initialised, is none.

mod arrays;
mod cached;
mod calls;
mod causes;
mod counts;
mod dangling;
mod dentries;
mod deserted;
mod files;
mod frames;
mod front;
mod gaps;
mod gone;
mod holders;
mod kinds;
mod maples;
mod mappings;
mod order;
mod places;
mod pointers;
mod queues;
mod rings;
mod tables;
mod taken;
mod told;
mod trees;
mod zeroed;

pub use causes::Cause;
pub use queues::VIEWS;

use crate::{
    kfence, module, percpu, refs,
    sieve::Sieve,
    slab::{self, Slab, Slabs, State, names},
    task_stack::Stacks,
};
use bytes::Bytes;
use deserted::Deserted;
use engine::prelude::*;
use places::Places;
use rayon::prelude::*;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// a list runs back into itself and leaves its head out
    Cycle,
    /// a list leads to an entry that was taken off
    Poisoned,
    /// a link and the one back do not agree
    Torn,
    /// a link was written over
    Overwritten,
    /// a timer, a work or a notifier that is set lies in an object that was freed
    Pending,
    /// a link leads to an object that was freed
    Freed,
    /// a tree's node and its child do not agree, or both are red
    Tree,
    /// an xarray's node and what it holds do not agree
    Array,
    /// a reference count that was put too often, or taken too often
    Refcount,
    /// a variable points to an object that was freed
    Dangling,
    /// the end of a task's stack was written over
    Stack,
    /// a page's counts cannot be, or it is free and in use
    Page,
    /// a page of a file says that it is of another, or of another place in it
    Cached,
    /// a page that is free was written to
    FreePage,
    /// a queue counts otherwise than it is long
    Queue,
    /// a member that is a pointer holds something else
    Pointer,
    /// what the kernel said in its log
    Reported,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cycle => "list-cycle",
            Kind::Poisoned => "list-poison",
            Kind::Torn => "list-torn",
            Kind::Overwritten => "list-overwritten",
            Kind::Freed => "list-freed",
            Kind::Tree => "tree",
            Kind::Array => "xarray",
            Kind::Refcount => "refcount",
            Kind::Dangling => "dangling",
            Kind::Pending => "pending",
            Kind::Stack => "stack-end",
            Kind::Page => "page-count",
            Kind::Cached => "page-cache",
            Kind::FreePage => "free-page",
            Kind::Queue => "queue",
            Kind::Pointer => "pointer",
            Kind::Reported => "reported",
        }
    }
}

/// Damage at one place.
#[derive(Clone, Debug)]
pub struct Finding {
    /// what is wrong
    pub kind: Kind,
    /// the word that is
    pub at: u64,
    /// in plain words what probably happened
    pub verdict: String,
    /// the freed object that is still led to
    pub freed: Option<u64>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// bytes of objects and variables
    pub bytes: u64,
    /// links that were held against the entries round them
    pub links: u64,
    /// nodes of trees and arrays, and counts
    pub members: u64,
}

/// Findings that are kept; more say nothing new.
const MAX_FINDINGS: usize = 10_000;
/// Trees whose order is looked at.
const MAX_TREES: usize = 1 << 20;

/// Everything that is wrong with what links objects: in the caches of which `wanted` says so, or, without, everywhere.
pub fn verify(session: &Session, wanted: Option<&dyn Fn(usize) -> bool>) -> Result<(Vec<Cause>, Seen)> {
    let slabs = Slabs::of(session)?;
    slabs.free_all(session)?;
    let (left, deserted, pool) = (left(session)?, Deserted::of(session)?, kfence::Pool::of(session)?);
    let world = World { session, slabs: &slabs, left, deserted, pool };
    let mut found = Found::default();
    let mut scalars = HashMap::new();
    for (number, cache) in slabs.caches.iter().enumerate() {
        if !cache.sound() || wanted.is_some_and(|wanted| !wanted(number)) {
            continue;
        }
        let places = names::object_type(session, cache).map(|ctype| Places::of(session, ctype)).unwrap_or_default();
        let parts: Vec<Found> = slabs
            .of_cache(number)
            .par_iter()
            .enumerate()
            .map(|(index, slab)| world.slab(number, index, slab, &places))
            .collect::<Result<_>>()?;
        parts.into_iter().for_each(|part| found.add(part));
        found.findings.extend(pointers::look(&world, number, cache, &places.pointers)?);
        found.findings.extend(calls::look(&world, number, cache, &places.calls)?);
        if !places.nodes.is_empty() {
            scalars.insert(number, places.scalars);
        }
    }
    if wanted.is_none() {
        for range in variables(session)? {
            found.add(world.range(range)?);
        }
        found.findings.extend(dangling::look(&world)?);
        found.findings.extend(gone::look(&world)?);
        found.findings.extend(frames::look(&world)?);
        found.findings.extend(holders::look(&world)?);
        found.findings.extend(queues::of_sockets(&world)?);
        found.findings.extend(told::look(&world)?);
        found.findings.extend(tables::named(&world)?);
        found.findings.extend(mappings::look(&world)?);
        found.findings.extend(cached::look(&world)?);
        let (put, suspects) = dentries::look(&world)?;
        found.findings.extend(put);
        found.findings.extend(taken::look(&world, &suspects)?);
        found.findings.extend(zeroed::look(&world)?);
    }
    if let Some(number) = slabs.caches.named("maple_node").find(|number| wanted.is_none_or(|wanted| wanted(*number))) {
        found.findings.extend(maples::look(&world, number)?);
    }
    let (mut findings, seen) = (found.findings, found.seen);
    findings.extend(rings::judge(&world, found.breaks)?);
    let sorted = |cache: usize| scalars.get(&cache).cloned().unwrap_or_default();
    found.trees.extend(order::judge(&world, found.tops, sorted)?);
    findings.extend(trees::rooted(&world, found.trees)?);
    findings.sort_by_key(|finding| (finding.kind, finding.at));
    findings.dedup_by_key(|finding| (finding.kind, finding.at));
    findings.truncate(MAX_FINDINGS);
    Ok((causes::gather(&world, findings)?, seen))
}

/// The parts of stacks that are not in use now, by address, and whose they are: of tasks that do not run, and 0 of all
/// that no task has any more.
fn left(session: &Session) -> Result<Vec<(Range<u64>, u64)>> {
    let mut left = Vec::new();
    match Stacks::of(session) {
        Ok(stacks) => left.extend(stacks.iter().filter_map(|stack| {
            let sp = stack.sp.filter(|sp| stack.range.contains(sp))?;
            Some((stack.range.start..sp, stack.task))
        })),
        Err(e) if e.is_control() => return Err(e),
        // noted where stacks are asked for
        Err(_) => {}
    }
    left.extend(refs::unused_stacks(session)?.into_iter().map(|range| (range, 0)));
    left.sort_unstable_by_key(|(range, _)| range.start);
    Ok(left)
}

/// What a part of memory had.
#[derive(Default)]
struct Found {
    breaks: Vec<rings::Break>,
    trees: Vec<trees::Suspicion>,
    tops: Vec<order::Top>,
    findings: Vec<Finding>,
    seen: Seen,
}

impl Found {
    fn add(&mut self, other: Found) {
        let room = |len: usize| MAX_FINDINGS.saturating_sub(len);
        self.breaks.extend(other.breaks.into_iter().take(room(self.breaks.len())));
        self.trees.extend(other.trees.into_iter().take(room(self.trees.len())));
        self.tops.extend(other.tops.into_iter().take(MAX_TREES.saturating_sub(self.tops.len())));
        self.findings.extend(other.findings.into_iter().take(room(self.findings.len())));
        self.seen.bytes += other.seen.bytes;
        self.seen.links += other.seen.links;
        self.seen.members += other.seen.members;
    }
}

/// The kernel's own variables.
fn kernel_data(session: &Session) -> Vec<Range<u64>> {
    let ends = [("_sdata", "_edata"), ("__bss_start", "__bss_stop")];
    let own = ends.iter().filter_map(|(start, end)| {
        let (start, end) = (session.kernel_symbol(start)?, session.kernel_symbol(end)?);
        (start < end && end - start <= MAX_VARIABLES).then_some(start.next_multiple_of(8)..end)
    });
    // x86-64 gives back what it does not need of the memory that it would share with a hypervisor: others have it then
    let given = ["__start_bss_decrypted_unused", "__end_bss_decrypted"].map(|name| session.kernel_symbol(name));
    let [Some(from), Some(to)] = given else { return own.collect() };
    let parts = own.flat_map(|range| [range.start..range.end.min(from), range.start.max(to)..range.end]);
    parts.filter(|range| !range.is_empty()).collect()
}

/// The kernel's and the modules' variables.
fn variables(session: &Session) -> Result<Vec<Range<u64>>> {
    let mut ranges = kernel_data(session);
    ranges.extend(module_data(session)?.into_iter().map(|(_, range)| range));
    Ok(ranges)
}

/// The modules' variables, with the modules' names. Before Linux 6.4 (ac3b43283923) they lie behind the code and what is
/// only read.
fn module_data(session: &Session) -> Result<Vec<(String, Range<u64>)>> {
    let mut ranges = Vec::new();
    if session.kernel_symbol("modules").is_none() {
        return Ok(ranges);
    }
    let constant = session.offset("module", "core_layout.ro_size").ok();
    module::each(session, &mut |at| {
        match session.view::<module::Module>(at).and_then(|module| Ok((module.memory(session)?, module.name))) {
            Ok((mut parts, name)) => {
                let skip = constant.and_then(|member| session.u32(at.wrapping_add(member)).ok()).map_or(0, u64::from);
                for (_, range) in parts.iter_mut().filter(|(part, _)| *part == "core") {
                    range.start = range.start.saturating_add(skip).min(range.end);
                }
                let data = parts.into_iter().filter(|(part, _)| matches!(*part, "core" | "data" | "ro_after_init"));
                ranges.extend(data.map(|(_, range)| (name.clone(), range)));
                Ok(())
            }
            Err(e) if e.is_control() => Err(e),
            // noted where modules are read
            Err(_) => Ok(()),
        }
    })?;
    Ok(ranges)
}

/// More than any kernel's data segment or bss.
const MAX_VARIABLES: u64 = 1 << 28;
/// Variables are looked at by so many bytes at once.
const PIECE: u64 = 1 << 16;

/// Memory, and what becomes of the objects in it.
struct World<'a> {
    session: &'a Session,
    slabs: &'a Slabs,
    left: Vec<(Range<u64>, u64)>,
    deserted: Deserted,
    pool: Option<Arc<kfence::Pool>>,
}

impl World<'_> {
    /// The task on whose stack an address lies, in a part that is not in use; 0 if it is no task's any more.
    fn left(&self, addr: u64) -> Option<u64> {
        let next = self.left.partition_point(|(range, _)| range.start <= addr);
        self.left.get(next.checked_sub(1)?).filter(|(range, _)| range.contains(&addr)).map(|(_, task)| *task)
    }

    /// The allocated objects of a slab.
    fn slab(&self, number: usize, index: usize, slab: &Slab, places: &Places) -> Result<Found> {
        self.session.interrupt.check()?;
        let mut found = Found::default();
        let (Some(cache), Some(memory)) =
            (self.slabs.caches.get(number), self.memory(slab.base, u64::from(slab.bytes))?)
        else {
            return Ok(found);
        };
        let free = self.slabs.free(self.session, number)?;
        for i in (0..slab.objects).filter(|i| free.state(index, *i) == State::Allocated) {
            let start = self.slabs.object(slab, i);
            let from = start.wrapping_sub(slab.base) as usize;
            let Some(object) = memory.get(from..from.saturating_add(cache.object_size as usize)) else { continue };
            self.words(start, object, &mut found)?;
            self.members(number, (start, object), places, &mut found)?;
        }
        Ok(found)
    }

    /// What is typed in an object.
    fn members(&self, cache: usize, (start, object): (u64, &[u8]), places: &Places, found: &mut Found) -> Result<()> {
        found.seen.members += (places.nodes.len() + places.counts.len() + places.waits.len()) as u64;
        for offset in &places.nodes {
            let at = start.wrapping_add(*offset);
            trees::node(self, at, &mut found.trees)?;
            let words = [0, 8, 16].map(|word| crate::page::word(object, (offset + word) as usize));
            if order::is_top(self, at, words)? {
                found.tops.push(order::Top { cache, member: *offset, at });
            }
        }
        for offset in &places.counts {
            found.findings.extend(counts::count(start, object, *offset));
        }
        for offset in &places.queues {
            found.findings.extend(queues::queue(self, start.wrapping_add(*offset))?);
        }
        for offset in &places.waits {
            let words = [0, 8].map(|word| crate::page::word(object, (offset + word) as usize));
            found.findings.extend(deserted::queue(self, start.wrapping_add(*offset), words)?);
        }
        if let Some(shape) = &places.array {
            arrays::node(self, start, object, shape, &mut found.findings)?;
        }
        Ok(())
    }

    /// A range of variables.
    fn range(&self, range: Range<u64>) -> Result<Found> {
        let pieces: Vec<u64> = (range.start..range.end).step_by(PIECE as usize).collect();
        let parts: Vec<Found> = pieces
            .into_par_iter()
            .map(|start| {
                let mut found = Found::default();
                // eight bytes of the next, so that a link across the border is seen
                let end = start.saturating_add(PIECE + 8).min(range.end);
                if let Some(memory) = self.memory(start, end - start)? {
                    self.words(start, &memory, &mut found)?;
                }
                Ok(found)
            })
            .collect::<Result<_>>()?;
        let mut found = Found::default();
        parts.into_iter().for_each(|part| found.add(part));
        Ok(found)
    }

    /// Where, in allocated objects and variables, words are that are one of `values`, and which. With `all`, also in what
    /// is only read, per-CPU memory and the parts of stacks that are in use.
    fn places_of(&self, values: &HashSet<u64>, all: bool) -> Result<Vec<(u64, u64)>> {
        let sieve = Sieve::of(values.iter().copied(), values.len());
        // of the kernel's half
        let is_wanted = |word: u64| word >> 63 == 1 && sieve.passes(word) && values.contains(&word);
        let pick = |start: u64, memory: &[u8]| -> Vec<(u64, u64)> {
            let words = memory.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes));
            (start..).step_by(8).zip(words).filter(|(_, word)| is_wanted(*word)).collect()
        };
        let in_slabs = self.slabs.all().par_iter().map(|slab| {
            self.session.interrupt.check()?;
            let memory = self.memory(slab.base, slab.bytes.into())?;
            Ok(memory.map(|memory| pick(slab.base, &memory)).unwrap_or_default())
        });
        let mut places = in_slabs.collect::<Result<Vec<_>>>()?.concat();
        let others = if all { self.held()? } else { Vec::new() };
        for range in variables(self.session)?.into_iter().chain(others) {
            for start in range.clone().step_by(PIECE as usize) {
                let len = PIECE.min(range.end - start);
                places.extend(self.memory(start, len)?.map(|memory| pick(start, &memory)).unwrap_or_default());
            }
        }
        let mut alive = Vec::new();
        for (at, value) in places {
            if self.freed(at)?.is_none() {
                alive.push((at, value));
            }
        }
        Ok(alive)
    }

    /// Variables that are only read once the kernel has booted, per-CPU memory, and the parts of stacks that are in use.
    fn held(&self) -> Result<Vec<Range<u64>>> {
        let ends = ["__start_ro_after_init", "__end_ro_after_init"].map(|name| self.session.kernel_symbol(name));
        let mut held = Vec::new();
        if let [Some(start), Some(end)] = ends {
            held.push(start.next_multiple_of(8)..end.min(start.saturating_add(MAX_VARIABLES)));
        }
        match percpu::Areas::of(self.session) {
            Ok(areas) => held.extend(areas.ranges()),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {}
        }
        match Stacks::of(self.session) {
            Ok(stacks) => held.extend(stacks.iter().map(|stack| {
                let from = stack.sp.filter(|sp| stack.range.contains(sp)).unwrap_or(stack.range.start);
                from.next_multiple_of(8)..stack.range.end
            })),
            Err(e) if e.is_control() => return Err(e),
            // noted where they are asked for, and then fewer holders are known
            Err(_) => {}
        }
        Ok(held.into_iter().filter(|range| range.start < range.end).collect())
    }

    /// Every two words that could be a link.
    fn words(&self, start: u64, memory: &[u8], found: &mut Found) -> Result<()> {
        found.seen.bytes += memory.len() as u64;
        let mut words = memory.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_le_bytes));
        let Some(mut next) = words.next() else { return Ok(()) };
        let there = |word: u64| if is_pointer(word) { self.read::<2>(word) } else { Ok(None) };
        let mut ahead = there(next)?;
        let mut run = tables::Run::default();
        for (at, prev) in (start..).step_by(8).zip(words) {
            let behind = there(prev)?;
            if ahead.is_some() || behind.is_some() {
                let link = [(next, ahead), (prev, behind)];
                found.seen.links += u64::from(rings::look(self, at, link, &mut found.breaks)?);
            }
            if let Some(ahead) = ahead {
                trees::freed(self, at, next, ahead, &mut found.trees)?;
            }
            run.add(self, at, next, ahead.map(|[_, back]| back), &mut found.findings)?;
            (next, ahead) = (prev, behind);
        }
        run.end(self, &mut found.findings)
    }

    /// Bytes; `None` if they are not in the dump.
    fn memory(&self, addr: u64, len: u64) -> Result<Option<Bytes>> {
        match self.session.bytes(addr, usize::try_from(len).unwrap_or(0)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_control() => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// `N` words; `None` if they are not in the dump.
    fn read<const N: usize>(&self, addr: u64) -> Result<Option<[u64; N]>> {
        let mut bytes = [0; 32];
        let Some(part) = bytes.get_mut(..N * 8) else { return Ok(None) };
        match self.session.read(addr, part) {
            Ok(()) => {}
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(None),
        }
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        Ok(Some(words))
    }

    /// The object that an address lies in, if it is free.
    fn freed(&self, addr: u64) -> Result<Option<u64>> {
        if self.pool.as_ref().is_none_or(|pool| !pool.range().contains(&addr)) {
            let Some((number, slab, index, object)) = self.slabs.belongs(addr) else { return Ok(None) };
            let free = self.slabs.free(self.session, slab.cache as usize)?;
            return Ok((addr >= object && free.state(number, index) == State::Free).then_some(object));
        }
        let found = slab::find(self.session, addr)?.filter(|found| found.state == State::Free && found.offset >= 0);
        Ok(found.map(|found| found.object))
    }
}

/// Whether a word could be a pointer to a structure of the kernel's: its half, aligned, and no error number.
fn is_pointer(word: u64) -> bool {
    word >> 63 == 1 && word.is_multiple_of(8) && word < 0xffff_ffff_ffff_f000
}
