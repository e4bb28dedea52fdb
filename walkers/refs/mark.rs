//! Marking: from the roots to every object that can be reached, a step at a time.
//!
//! What one step reaches is known before the next begins, so that what an object is first reached from lies on a shortest
//! way to it; of several equally short ones the word with the lowest address counts, whichever thread saw it first. The
//! steps go on until nothing new is reached, for one kind of roots after the other: the way that is kept begins at a
//! variable if there is such a way, else at a stack, and at other memory only if there is neither.

use super::{bits::Bits, book::Book, nodes::Nodes, percpu::Percpus, roots::Root, scan::Scanner};
use engine::prelude::*;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Objects of a step from which on several threads share it: waking them costs as much as a few hundred.
const SHARED: usize = 512;
/// Objects that a thread looks at in one go.
const SHARE: usize = 2048;

/// Where a word lies that is none: no word has such an address.
pub(super) const NOWHERE: u64 = u64::MAX;

/// What is known while marking goes on.
pub(super) struct Marks<'a> {
    scanner: Scanner<'a>,
    done: Bits,
    /// reached by the step that is being made
    now: Bits,
    /// for each object the lowest address of a word that reached it
    from: Vec<AtomicU64>,
}

/// What came of it.
pub(super) struct Marked {
    /// objects that were reached, or that were not looked for
    pub done: Bits,
    /// for each object the address of the word that it was reached from, or [`NOWHERE`]
    pub from: Vec<u64>,
    /// words that were looked at
    pub words: u64,
    /// bytes of roots and objects that are not in the dump
    pub missing: u64,
}

impl<'a> Marks<'a> {
    pub fn new(session: &'a Session, nodes: &'a Nodes, book: &'a Book, percpu: &'a Percpus) -> Marks<'a> {
        let from = (0..nodes.len()).map(|_| AtomicU64::new(NOWHERE)).collect();
        let (done, now) = (Bits::new(nodes.len()), Bits::new(nodes.len()));
        Marks { scanner: Scanner { percpu: Some(percpu), ..Scanner::new(session, nodes, book) }, done, now, from }
    }

    /// Takes an object out of the search: it is not in use.
    pub fn leave_out(&self, node: u32) {
        self.done.add(node);
    }

    /// Whether an object was reached.
    pub fn is_done(&self, node: u32) -> bool {
        self.done.has(node)
    }

    /// All that can be reached from some roots.
    pub fn mark_from_roots(&self, roots: &[&Root]) -> Result<()> {
        let each = |root: &&Root| {
            let mut found = Vec::new();
            self.scanner.root(root, &mut |node, at| self.reach(node, at, &mut found))?;
            Ok(found)
        };
        let found: Result<Vec<Vec<u32>>> = roots.par_iter().map(each).collect();
        self.go_on(found?.concat())
    }

    /// All that can be reached from `struct page`s.
    pub fn mark_from_page_structs(&self) -> Result<()> {
        let found = self.scanner.page_structs(|node, at, found| self.reach(node, at, found))?;
        self.go_on(found)
    }

    /// All that can be reached from these objects, each of which is known to be in use, by what is named beside it.
    pub fn mark_from_objects(&self, objects: impl Iterator<Item = (u32, u64)>) -> Result<()> {
        let mut found = Vec::new();
        objects.for_each(|(node, from)| self.reach(node, from, &mut found));
        self.go_on(found)
    }

    /// Ends marking.
    pub fn finish(self) -> Marked {
        Marked {
            done: self.done,
            from: self.from.into_iter().map(AtomicU64::into_inner).collect(),
            words: self.scanner.words.into_inner(),
            missing: self.scanner.missing.into_inner(),
        }
    }

    fn go_on(&self, mut reached: Vec<u32>) -> Result<()> {
        while !reached.is_empty() {
            self.scanner.session.interrupt.check()?;
            let shared = reached.len() > SHARED;
            if shared {
                reached.par_sort_unstable();
            } else {
                reached.sort_unstable();
            }
            for node in &reached {
                self.done.add(*node);
            }
            reached = if shared {
                let found: Result<Vec<Vec<u32>>> = reached.par_chunks(SHARE).map(|part| self.objects(part)).collect();
                found?.concat()
            } else {
                self.objects(&reached)?
            };
        }
        Ok(())
    }

    /// What the objects of these numbers, which are in order, refer to.
    fn objects(&self, mut numbers: &[u32]) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        while let Some(block) = numbers.first().and_then(|node| self.scanner.nodes.block(*node)) {
            let (here, rest) = numbers.split_at(numbers.partition_point(|node| *node < block.end()));
            self.scanner.block(block, here, &mut |node, at| self.reach(node, at, &mut found))?;
            numbers = rest;
        }
        Ok(found)
    }

    #[inline]
    fn reach(&self, node: u32, at: u64, found: &mut Vec<u32>) {
        if self.done.has(node) || !self.scanner.counts(node, at) {
            return;
        }
        if let Some(from) = self.from.get(node as usize) {
            from.fetch_min(at, Relaxed);
        }
        if self.now.add(node) {
            found.push(node);
        }
    }
}
