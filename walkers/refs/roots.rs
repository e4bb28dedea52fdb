//! Where references begin: memory that nobody needs to point at to be in use.

use super::{areas::Area as VmallocArea, hidden::mappings, nodes::Nodes};
use crate::{
    frame::{self, Frames},
    module,
    percpu::Areas as PercpuAreas,
    search::{Area, Run, subtract},
    task_stack::{Stack, Stacks},
};
use engine::prelude::*;
use std::ops::Range;

/// What a root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootKind {
    /// the kernel's variables, its constants among them
    Data,
    /// copies of per-CPU variables, and memory of `alloc_percpu()`
    Percpu,
    /// variables of modules
    Module,
    /// the kernel's instructions
    Code,
    /// the part of a task's stack that is in use
    Stack,
    /// mapped memory that is no area of `vmalloc()`
    Mapped,
    /// what was set aside at boot
    Reserved,
}

/// A piece of memory in which every word may be a reference.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    /// what it is
    pub kind: RootKind,
    /// where it is seen
    pub va: u64,
    /// where it is
    pub pa: u64,
    /// bytes
    pub len: u64,
}

/// Most bytes of a piece.
const PIECE: u64 = 1 << 20;

/// Every root but objects and `struct page`s, in pieces.
pub(super) fn find(
    session: &Session,
    nodes: &Nodes,
    frames: &Frames,
    areas: &[VmallocArea],
    hidden: &[Range<u64>],
) -> Result<Vec<Root>> {
    let mut found = Finder { session, hidden, roots: Vec::new() };
    for (_, range) in module::memory(session)?.iter().filter(|(part, _)| !part.ends_with("text")) {
        found.mapped(RootKind::Module, range)?;
    }
    for range in PercpuAreas::of(session).map_or_else(|_| Vec::new(), |areas| areas.ranges()) {
        found.mapped(RootKind::Percpu, &range)?;
    }
    for range in stacks(session)? {
        found.mapped(RootKind::Stack, &range)?;
    }
    let owned: Vec<Range<u64>> = areas.iter().filter(|area| area.is_alloc()).map(|area| area.range.clone()).collect();
    for run in Area::mapped(session)?.runs() {
        session.interrupt.check()?;
        let direct = nodes.physical(run.va).is_some();
        for (kind, pa) in parts(session, frames, run) {
            let kind = match kind {
                frame::Kind::Data | frame::Kind::Rodata if !direct => RootKind::Data,
                frame::Kind::Data | frame::Kind::Rodata | frame::Kind::Reserved => RootKind::Reserved,
                frame::Kind::Vmalloc if !direct => RootKind::Mapped,
                // objects, what has been added above, and what holds no pointers of the kernel
                _ => continue,
            };
            let va = run.va + (pa.start - run.pa)..run.va.saturating_add(pa.end - run.pa);
            // frames of the kernel's init section have other users since boot, such as an area of vmalloc memory
            let skip = if direct { &[][..] } else { owned.as_slice() };
            for rest in subtract(std::slice::from_ref(&va), skip) {
                found.add(kind, rest.start, pa.start + (rest.start - va.start), rest.end - rest.start);
            }
        }
    }
    found.roots.sort_unstable_by_key(|root| root.va);
    Ok(found.roots)
}

/// What the pages of a run are used for: a kind, and physical addresses.
fn parts(session: &Session, frames: &Frames, run: &Run) -> Vec<(frame::Kind, Range<u64>)> {
    let shift = session.target.page_size().trailing_zeros();
    let end = run.pa.saturating_add(run.len);
    let next = frames.runs.partition_point(|f| f.frames.end << shift <= run.pa);
    let here = frames.runs.get(next..).unwrap_or_default().iter().take_while(|f| f.frames.start << shift < end);
    here.map(|f| (f.kind, (f.frames.start << shift).max(run.pa)..(f.frames.end << shift).min(end))).collect()
}

/// What of each task's stack is in use: from the stack pointer on, or, of one that runs and whose stack pointer is not
/// known, all.
fn stacks(session: &Session) -> Result<Vec<Range<u64>>> {
    let running: Vec<u64> = session.target.cpus().iter().filter_map(|cpu| cpu.sp()).collect();
    let stacks = Stacks::of(session)?;
    let live = |stack: &Stack| {
        let sp = stack.sp.or_else(|| running.iter().copied().find(|sp| stack.range.contains(sp)));
        sp.filter(|sp| stack.range.contains(sp)).unwrap_or(stack.range.start) & !7..stack.range.end
    };
    Ok(stacks.iter().map(live).collect())
}

struct Finder<'a> {
    session: &'a Session,
    hidden: &'a [Range<u64>],
    roots: Vec<Root>,
}

impl Finder<'_> {
    /// Adds a range of virtual addresses, as far as it is mapped.
    fn mapped(&mut self, kind: RootKind, range: &Range<u64>) -> Result<()> {
        for (va, pa, len) in mappings(self.session, range)? {
            self.add(kind, va, pa, len);
        }
        Ok(())
    }

    fn add(&mut self, kind: RootKind, va: u64, pa: u64, len: u64) {
        for part in subtract(std::slice::from_ref(&(pa..pa.saturating_add(len))), self.hidden) {
            let mut at = part.start;
            while at < part.end {
                let len = PIECE.min(part.end - at);
                self.roots.push(Root { kind, va: va.wrapping_add(at - pa), pa: at, len });
                at += len;
            }
        }
    }
}
