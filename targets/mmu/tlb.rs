//! A software TLB: the last translations of kernel pages, shared by all threads without a lock.
//!
//! Each slot is two words, `key ^ scramble(value)` and `value`. Threads write them without any order between the two,
//! so a reader may see halves of two writes; such halves do not fit together, and the reader takes them for a miss.
//! (The scheme is known from the transposition tables of chess programs.)

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SLOTS: usize = 4096;
const PAGE: u64 = 4096;

pub(crate) struct Tlb(Box<[[AtomicU64; 2]]>);

impl Tlb {
    pub fn new() -> Tlb {
        // A value of zero is never stored (its lowest bit is set), so an empty slot matches nothing.
        Tlb((0..SLOTS).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect())
    }

    /// The physical address of `va`, if its page is known.
    pub fn get(&self, va: u64) -> Option<u64> {
        let [check, value] = self.slot(va);
        let value = value.load(Relaxed);
        (value & 1 == 1 && check.load(Relaxed) == (va & !(PAGE - 1)) ^ scramble(value))
            .then_some((value & !(PAGE - 1)) | (va & (PAGE - 1)))
    }

    /// Remembers that `va` is at `pa`.
    pub fn put(&self, va: u64, pa: u64) {
        let [check, slot] = self.slot(va);
        let value = (pa & !(PAGE - 1)) | 1;
        check.store((va & !(PAGE - 1)) ^ scramble(value), Relaxed);
        slot.store(value, Relaxed);
    }

    /// Forgets all.
    pub fn clear(&self) {
        for [_, value] in &self.0 {
            value.store(0, Relaxed);
        }
    }

    fn slot(&self, va: u64) -> &[AtomicU64; 2] {
        &self.0[(va / PAGE) as usize % SLOTS]
    }
}

/// A bijection that leaves no relation between its input's and its output's bits (the finisher of MurmurHash3).
fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn remembers_the_last_page_of_each_slot() {
        let tlb = Tlb::new();
        assert_eq!(tlb.get(0), None);
        tlb.put(0xffff_8880_0000_1234, 0x5678);
        assert_eq!(tlb.get(0xffff_8880_0000_1fff), Some(0x5fff));
        assert_eq!(tlb.get(0xffff_8880_0100_1fff), None, "same slot, other page");
        tlb.put(0, 0);
        assert_eq!(tlb.get(8), Some(8));
        tlb.clear();
        assert_eq!(tlb.get(8), None);
    }

    #[test]
    fn threads_never_see_a_mixture() {
        let tlb = Tlb::new();
        std::thread::scope(|s| {
            for t in 0..4u64 {
                let tlb = &tlb;
                s.spawn(move || {
                    for i in 0..200_000u64 {
                        let va = ((i * 7 + t) % 8 * SLOTS as u64) * PAGE; // eight pages fight for one slot
                        match tlb.get(va) {
                            Some(pa) => assert_eq!(pa, va + 0x1000_0000),
                            None => tlb.put(va, va + 0x1000_0000),
                        }
                    }
                });
            }
        });
    }
}
