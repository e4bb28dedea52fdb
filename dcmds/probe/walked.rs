//! Stacks that were walked before.
//!
//! A hot probe is hit from the same few places over and over. What a walk up the stack depends on is where it began and the
//! words that it read on its way, a few of hundreds: if these are the same, so are its frames.

use std::{collections::HashMap, rc::Rc};

/// Where a walk began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Begin {
    /// the process
    pub pid: u32,
    /// since when it runs this program, in ns
    pub since: u64,
    /// the program counter
    pub pc: u64,
    /// the stack pointer
    pub sp: u64,
    /// the frame pointer, and the link register where there is one: a walk that needs others is not kept
    pub others: [Option<u64>; 2],
}

struct Walk {
    /// words of the stack that were read: where, in bytes from the stack pointer, and what they were
    read: Vec<(usize, u64)>,
    frames: Rc<[u64]>,
}

/// Walks, by where they began. Where there is none the one that was made needed more than that and the stack.
#[derive(Default)]
pub struct Walked {
    walks: HashMap<Begin, Vec<Walk>>,
}

/// Beginnings that are kept in mind.
const MOST: usize = 1 << 14;
/// Ways up from each.
const WAYS: usize = 16;

impl Walked {
    /// The frames of a stack, if one like it was walked.
    pub fn find(&self, begin: &Begin, stack: &[u8]) -> Option<Vec<u64>> {
        let same = |(at, word): &(usize, u64)| self::word(stack, *at) == Some(*word);
        let walks = self.walks.get(begin)?;
        walks.iter().find(|walk| walk.read.iter().all(same)).map(|walk| walk.frames.to_vec())
    }

    /// Keeps a walk in mind.
    pub fn add(&mut self, begin: Begin, read: Vec<(usize, u64)>, frames: &[u64]) {
        let walks = self.from(begin);
        if walks.len() >= WAYS {
            walks.clear();
        }
        walks.push(Walk { read, frames: frames.into() });
    }

    /// Keeps in mind that a walk from there needs more.
    pub fn add_other(&mut self, begin: Begin) {
        self.from(begin);
    }

    /// Whether walks from there are known to need more.
    pub fn is_other(&self, begin: &Begin) -> bool {
        self.walks.get(begin).is_some_and(Vec::is_empty)
    }

    fn from(&mut self, begin: Begin) -> &mut Vec<Walk> {
        if self.walks.len() >= MOST {
            self.walks.clear();
        }
        self.walks.entry(begin).or_default()
    }

    /// Forgets all, since code may be elsewhere now.
    pub fn clear(&mut self) {
        self.walks.clear();
    }
}

/// A word of a stack.
pub fn word(stack: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*stack.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_known_by_the_words_that_it_read() {
        let begin = Begin { pid: 1, since: 0, pc: 0x1000, sp: 0x7000, others: [Some(0x7010), None] };
        let stack = |second: u64| [7u64, second, 9].map(u64::to_le_bytes).concat();
        let mut walked = Walked::default();
        walked.add(begin, vec![(0, 7), (16, 9)], &[0x1000, 0x2000]);
        assert_eq!(walked.find(&begin, &stack(1)), Some(vec![0x1000, 0x2000]), "what was not read may differ");
        assert_eq!(walked.find(&begin, &stack(1)[..16]), None, "not all of it is there");
        assert_eq!(walked.find(&begin, &[8u64, 1, 9].map(u64::to_le_bytes).concat()), None);
        assert_eq!(walked.find(&Begin { pc: 0x1004, ..begin }, &stack(1)), None);
        let other = Begin { sp: 0x7008, ..begin };
        walked.add_other(other);
        assert_eq!([begin, other].map(|begin| walked.is_other(&begin)), [false, true]);
        walked.clear();
        assert_eq!(walked.find(&begin, &stack(1)), None);
    }
}
