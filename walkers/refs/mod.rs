//! References: what of the kernel's memory can be reached, from where, and what cannot.
//!
//! Every object in use (in a slab, of KFENCE, whole pages, an area of vmalloc memory) is [numbered](nodes), and all that
//! can be reached is [marked](Marks), from the [roots] on: variables, per-CPU memory, modules, instructions, stacks,
//! registers, other pages of the kernel. Any aligned word that is an address in an object, or of its `struct page`,
//! counts as a reference to it. What is not reached nobody can free any more: it has leaked.
//!
//! A word that is no pointer may look like one, and hide a leak; and a few objects are referred to by something else than
//! an address, and look like leaks: `leaks` tells which. Words that are bookkeeping are left out: ftrace's records of
//! allocations, say, or the kernel's own list of vmalloc areas.

mod areas;
mod bits;
mod book;
mod chain;
mod code;
mod hidden;
mod known;
mod leaks;
mod mark;
mod nodes;
mod pages;
mod percpu;
mod roots;
mod scan;

pub use chain::{Place, Reference};
pub use known::{Reason, VIEWS};
pub use leaks::{Group, Leak, Leaks, Origin, WALKERS};
pub use nodes::{Block, Kind, Nodes};
pub use roots::{Root, RootKind};

use crate::{
    frame::Frames,
    kfence,
    slab::{Slabs, State},
};
use book::Book;
use engine::prelude::*;
use mark::{Marks, NOWHERE};
use percpu::Percpus;
use scan::Scanner;
use std::{ops::Range, sync::Arc};

/// Where an object was reached from, if not from a word of memory: a page of the kernel that nothing was seen to refer
/// to, and that is in use all the same.
pub const BY_ITSELF: u64 = 1;
/// Likewise: from a CPU's register. The number of the CPU times 64, plus that of the register, is added.
pub const REGISTER: u64 = 1 << 16;

/// What can be reached from where.
pub struct Graph {
    /// every object
    pub nodes: Nodes,
    /// the roots but registers and `struct page`s
    pub roots: Vec<Root>,
    /// what the kernel's instructions have addresses of: where, and the object's number
    constants: Vec<(u64, u32)>,
    done: bits::Bits,
    from: Vec<u64>,
    book: Book,
    percpu: Percpus,
    /// objects that were in use
    pub objects: u64,
    /// words that were looked at
    pub words: u64,
}

/// Stacks that no task has now, and those of interrupts that no CPU is on.
pub(crate) fn unused_stacks(session: &Session) -> Result<Vec<Range<u64>>> {
    book::unused_stacks(session, &areas::find(session)?)
}

impl Graph {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Graph>> {
        session.once(|| Graph::build(session))
    }

    /// Looks at all of the kernel's memory.
    pub fn build(session: &Session) -> Result<Graph> {
        let slabs = Slabs::of(session)?;
        slabs.free_all(session)?;
        let areas = areas::find(session)?;
        let frames = Frames::of(session)?;
        let hidden = hidden::find(session)?;
        let page = session.target.page_size().max(1);
        let whole = |range: &Range<u64>| range.start.div_ceil(page)..range.end / page;
        let hidden_frames: Vec<Range<u64>> = hidden.iter().map(whole).filter(|frames| !frames.is_empty()).collect();
        let found = pages::find(session, &frames, &hidden_frames)?;
        let nodes = Nodes::build(session, &slabs, &found, &areas)?;
        let roots = roots::find(session, &nodes, &frames, &areas, &hidden)?;
        let constants = code::constants(session, &nodes)?;
        let book = Book::of(session, &nodes, &slabs, &areas)?;
        let percpu = Percpus::of(session)?;
        let marks = Marks::new(session, &nodes, &book, &percpu);
        for cache in 0..slabs.caches.len() {
            // what it has are free objects, and such as it once had
            slabs
                .free(session, cache)?
                .sheaves
                .iter()
                .filter_map(|at| nodes.at(*at))
                .for_each(|node| marks.leave_out(node));
        }
        let (objects, unknown) = leave_out_free(session, &slabs, &nodes, &marks)?;
        mark(session, &nodes, (&roots, &constants), &book, &marks, unknown)?;
        let marked = marks.finish();
        if marked.missing > 0 {
            let what = "bytes of the kernel's memory are not in the dump: what only they refer to looks leaked";
            session.notes.once(0, format!("{} {what}", marked.missing));
        }
        let (done, from, words) = (marked.done, marked.from, marked.words);
        Ok(Graph { nodes, roots, constants, done, from, book, percpu, objects, words })
    }

    /// The pages that the kernel has allocated, each by itself, and that nothing was seen to refer to. Page tables and
    /// buffers of devices are referred to by physical addresses only: so these count as roots and not as leaks.
    pub fn lone_pages(&self) -> impl Iterator<Item = u64> + '_ {
        let kernel = self.nodes.blocks().iter().filter(|block| block.kind == Kind::Kernel);
        kernel.flat_map(|block| {
            let alone = (block.first..block.end()).filter(|node| self.from(*node) == Some(BY_ITSELF));
            alone.map(|node| block.object(node))
        })
    }

    fn scanner<'a>(&'a self, session: &'a Session) -> Scanner<'a> {
        Scanner::new(session, &self.nodes, &self.book)
    }

    /// Address of the word that an object was first reached from, [`BY_ITSELF`], or [`REGISTER`] and more. `None` if it
    /// was not reached, or is not in use.
    pub fn from(&self, node: u32) -> Option<u64> {
        self.from.get(node as usize).copied().filter(|from| *from != NOWHERE)
    }
}

/// Takes free objects out of the search. Returns how many are in use, and those whose state is not known.
fn leave_out_free(session: &Session, slabs: &Slabs, nodes: &Nodes, marks: &Marks<'_>) -> Result<(u64, Vec<u32>)> {
    let (mut used, mut unknown) = (0, Vec::new());
    for block in nodes.blocks() {
        let Kind::Slab(cache) = block.kind else {
            used += u64::from(block.count);
            continue;
        };
        session.interrupt.check()?;
        let free = slabs.free(session, cache as usize)?;
        let Some((number, _)) = slabs.at(block.base) else { continue };
        for index in 0..block.count {
            match free.state(number, index) {
                State::Allocated => used += 1,
                State::Unknown => unknown.push(block.first + index),
                State::Free | State::RcuPending => marks.leave_out(block.first + index),
            }
        }
    }
    if let Some(pool) = kfence::Pool::of(session)? {
        for index in 0..pool.count {
            let in_use =
                pool.record(session, index).is_ok_and(|record| record.state(session) == kfence::State::Allocated);
            if let Some(node) = nodes.at(pool.base.saturating_add((index + 1) * pool.share)).filter(|_| !in_use) {
                marks.leave_out(node);
                used -= 1;
            }
        }
    }
    Ok((used, unknown))
}

fn mark(
    session: &Session,
    nodes: &Nodes,
    (roots, constants): (&[Root], &[(u64, u32)]),
    book: &Book,
    marks: &Marks<'_>,
    unknown: Vec<u32>,
) -> Result<()> {
    let of = |kinds: &[RootKind]| roots.iter().filter(|root| kinds.contains(&root.kind)).collect::<Vec<_>>();
    marks.mark_from_roots(&of(&[RootKind::Data, RootKind::Percpu, RootKind::Module]))?;
    marks.mark_from_objects(constants.iter().map(|(at, node)| (*node, *at)))?;
    marks.mark_from_roots(&of(&[RootKind::Stack]))?;
    marks.mark_from_objects(registers(session, nodes))?;
    marks.mark_from_roots(&of(&[RootKind::Reserved, RootKind::Mapped]))?;
    marks.mark_from_page_structs()?;
    let kernel = nodes.blocks().iter().filter(|block| matches!(block.kind, Kind::Kernel | Kind::Pages(false)));
    let kernel = kernel.flat_map(|block| block.first..block.end());
    marks.mark_from_objects(kernel.chain(unknown).map(|node| (node, BY_ITSELF)))?;
    marks.mark_from_objects(book.left(marks).into_iter())
}

/// The objects that registers point into, each with where it was found.
fn registers<'a>(session: &'a Session, nodes: &'a Nodes) -> impl Iterator<Item = (u32, u64)> + 'a {
    session.target.cpus().iter().flat_map(move |cpu| {
        let base = REGISTER + u64::from(cpu.cpu) * 64;
        cpu.iter().zip(0u64..).filter_map(move |((_, value), number)| Some((nodes.at(value)?, base + number)))
    })
}
