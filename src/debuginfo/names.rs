//! A hash index from names to item numbers that stores no names: the caller compares.
//!
//! Two arrays of `u32`: the first item of each bucket, and for each item the next one of its bucket. Built in one pass
//! over names that stay where they are.

/// No item.
const NONE: u32 = u32::MAX;

/// FNV-1a, in the order in which bytes come.
#[derive(Clone, Copy)]
pub(crate) struct NameHash(u32);

impl NameHash {
    pub(crate) fn of(name: &[u8]) -> u32 {
        name.iter().fold(NameHash(0x811c_9dc5), |h, &b| h.push(b)).0
    }

    fn push(self, byte: u8) -> NameHash {
        NameHash((self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

/// Which items may have a given name.
pub(crate) struct NameIndex {
    heads: Vec<u32>,
    next: Vec<u32>,
}

impl NameIndex {
    /// Indexes items `0..count`; `hash` gives [`NameHash::of`] an item's name, or `None` to leave it out.
    pub(crate) fn build(count: usize, mut hash: impl FnMut(usize) -> Option<u32>) -> NameIndex {
        let mut heads = vec![NONE; count.next_power_of_two().max(1)];
        let mut next = vec![NONE; count];
        let mask = heads.len() - 1;
        // backwards, so that the items of a bucket come in ascending order
        for item in (0..count).rev() {
            let Some(h) = hash(item) else { continue };
            let head = &mut heads[spread(h) & mask];
            next[item] = *head;
            *head = item as u32;
        }
        NameIndex { heads, next }
    }

    /// Items in ascending order that may have the name; the caller must compare.
    pub(crate) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let first = self.heads[spread(NameHash::of(name)) & (self.heads.len() - 1)];
        std::iter::successors(Some(first), |&item| self.next.get(item as usize).copied())
            .take_while(|&item| item != NONE)
            .map(|item| item as usize)
    }
}

/// FNV's low bits are its weakest.
fn spread(hash: u32) -> usize {
    (hash ^ (hash >> 15)) as usize
}
