//! Adding up what a dump says: each number may be anything, and so their sum may be more than there is room for.

/// Adds up counts of the target's.
pub trait Total: Iterator<Item = u64> + Sized {
    /// The sum, or the largest number if it is larger.
    fn total(self) -> u64 {
        self.fold(0, u64::saturating_add)
    }
}

impl<I: Iterator<Item = u64>> Total for I {}
