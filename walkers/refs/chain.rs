//! Ways from a root to an object, and all that refers to one.

use super::{BY_ITSELF, Graph, REGISTER, roots::RootKind};
use engine::prelude::*;
use rayon::prelude::*;

/// Where a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// in memory that is a root
    Root(RootKind),
    /// in a `struct page`
    PageStruct,
    /// in an object, by its number
    Object(u32),
    /// in a CPU's register: the CPU's place among the dump's, and the register's
    Register(usize, usize),
    /// nowhere: it is in use without a reference that was seen
    Nowhere,
}

/// A reference: the word at `word` leads to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// address of the word; 0 if it is in no memory
    pub word: u64,
    /// what that belongs to
    pub place: Place,
    /// number of the object
    pub to: u32,
}

impl Graph {
    /// The number of the object that an address lies in.
    pub fn object_at(&self, addr: u64) -> Option<u32> {
        if self.nodes.page_structs().contains(&addr) { None } else { self.nodes.at(addr) }
    }

    /// Whether an object that is in use can be reached.
    pub fn is_reached(&self, node: u32) -> bool {
        self.done.has(node) && self.from(node).is_some()
    }

    /// A shortest way to an object, from the root on; empty if there is none.
    pub fn way(&self, node: u32) -> Vec<Reference> {
        let (mut way, mut to) = (Vec::new(), node);
        while let Some(from) = self.from(to).filter(|_| way.len() < self.nodes.len() as usize) {
            let reference = self.reference(from, to);
            way.push(reference);
            match reference.place {
                Place::Object(holder) => to = holder,
                _ => break,
            }
        }
        way.reverse();
        way
    }

    fn reference(&self, from: u64, to: u32) -> Reference {
        match from {
            BY_ITSELF => Reference { word: 0, place: Place::Nowhere, to },
            from if from >> 63 == 0 => {
                let number = from.saturating_sub(REGISTER);
                Reference { word: 0, place: Place::Register(number as usize / 64, number as usize % 64), to }
            }
            word => Reference { word, place: self.place(word), to },
        }
    }

    /// What the word at an address belongs to.
    fn place(&self, word: u64) -> Place {
        if self.nodes.page_structs().contains(&word) {
            return Place::PageStruct;
        }
        if self.constants.binary_search_by_key(&word, |constant| constant.0).is_ok() {
            return Place::Root(RootKind::Code);
        }
        let next = self.roots.partition_point(|root| root.va <= word);
        let root = next.checked_sub(1).and_then(|i| self.roots.get(i)).filter(|root| word - root.va < root.len);
        match (root, self.nodes.at(word)) {
            (Some(root), _) => Place::Root(root.kind),
            (None, Some(node)) => Place::Object(node),
            (None, None) => Place::Nowhere,
        }
    }

    /// Everything in use that refers to an object, but the object itself, by address. Reads all of the kernel's memory.
    pub fn references(&self, session: &Session, to: u32) -> Result<Vec<Reference>> {
        let words = self.words_to(session, &|node| node == to, &|node| node != to)?;
        Ok(words.into_iter().map(|(word, _)| self.reference(word, to)).collect())
    }

    /// The words in use, but those in objects of which `holds` says not, that refer to any object of which `wanted` says
    /// so: their addresses, in order, each with the object's number. Reads all of the kernel's memory.
    pub fn words_to(
        &self,
        session: &Session,
        wanted: &(dyn Fn(u32) -> bool + Sync),
        holds: &(dyn Fn(u32) -> bool + Sync),
    ) -> Result<Vec<(u64, u32)>> {
        let scanner = self.scanner(session);
        let hit = |node: u32, at: u64, found: &mut Vec<(u64, u32)>| {
            if wanted(node) && scanner.counts(node, at) {
                found.push((at, node));
            }
        };
        let of_roots = self.roots.par_iter().map(|root| {
            let mut found = Vec::new();
            scanner.root(root, &mut |node, at| hit(node, at, &mut found)).map(|()| found)
        });
        let of_blocks = self.nodes.blocks().par_iter().map(|block| {
            let mut found = Vec::new();
            let in_use = |node: &u32| holds(*node) && (self.from(*node).is_some() || !self.done.has(*node));
            let nodes: Vec<u32> = (block.first..block.end()).filter(in_use).collect();
            scanner.block(block, &nodes, &mut |node, at| hit(node, at, &mut found)).map(|()| found)
        });
        let found: Result<Vec<Vec<(u64, u32)>>> = of_roots.chain(of_blocks).collect();
        let mut words = found?.concat();
        words.extend(scanner.page_structs(hit)?);
        words.extend(self.constants.iter().filter(|(at, node)| wanted(*node) && scanner.counts(*node, *at)));
        words.sort_unstable();
        Ok(words)
    }
}
