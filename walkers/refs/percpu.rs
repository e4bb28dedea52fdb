//! Memory of `alloc_percpu()`, and whether anything refers to it.
//!
//! The pointer to it is no address: the copy of a CPU lies at that plus `__per_cpu_offset[cpu]`. So it is looked for by its
//! value, in every word that is looked at for references. In the first chunk pointers are small numbers, as many a count
//! is, on some machines: a leak there is seldom seen.

use super::bits::Bits;
use crate::percpu::{Allocation, Allocations};
use engine::prelude::*;
use std::ops::Range;

/// What was allocated, and what of it is referred to.
pub struct Percpus {
    all: Vec<Allocation>,
    seen: Bits,
    /// pointers lie in here
    span: Range<u64>,
}

impl Percpus {
    /// All of it, none referred to yet.
    pub fn of(session: &Session) -> Result<Percpus> {
        let all = match Allocations::all(session) {
            Ok(all) => all,
            Err(e) if e.is_control() => return Err(e),
            // a kernel without chunks, or damaged ones: none is looked for
            Err(_) => Vec::new(),
        };
        let seen = Bits::new(u32::try_from(all.len()).unwrap_or(0));
        let start = all.first().map_or(0, |first| first.pointer);
        let end = all.iter().map(|one| one.pointer.saturating_add(one.bytes)).max().unwrap_or(start);
        Ok(Percpus { all, seen, span: start..end })
    }

    /// Looks at a word.
    #[inline]
    pub fn look(&self, word: u64) {
        if self.span.contains(&word) {
            self.find(word);
        }
    }

    fn find(&self, word: u64) {
        let next = self.all.partition_point(|one| one.pointer <= word);
        let found = next.checked_sub(1).and_then(|i| Some((i, self.all.get(i)?)));
        if let Some((i, _)) = found.filter(|(_, one)| word - one.pointer < one.bytes) {
            self.seen.add(i as u32);
        }
    }

    /// What nothing refers to.
    pub fn lost(&self) -> impl Iterator<Item = &Allocation> {
        let seen = |i: &usize| self.seen.has(*i as u32);
        self.all.iter().enumerate().filter(move |(i, _)| !seen(i)).map(|(_, one)| one)
    }
}
