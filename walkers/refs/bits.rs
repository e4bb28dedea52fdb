//! A set of numbers that several threads add to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers from 0 on, one bit each.
pub(super) struct Bits(Vec<AtomicU64>);

impl Bits {
    /// Room for so many, none of them in it.
    pub fn new(len: u32) -> Bits {
        let words = (len as usize).div_ceil(64);
        Bits((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether a number is in it.
    #[inline]
    pub fn has(&self, n: u32) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word.load(Relaxed) >> (n % 64) & 1 == 1)
    }

    /// Adds a number; false if it was there.
    pub fn add(&self, n: u32) -> bool {
        let bit = 1 << (n % 64);
        self.0.get(n as usize / 64).is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }
}
