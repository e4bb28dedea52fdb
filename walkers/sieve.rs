//! Which words may be among many values: memory is full of words that look like the wanted ones, and a search among these
//! for each of them would take ten times as long.

/// Lets all values of a set pass, and few others: a bit for each hash.
pub struct Sieve {
    /// 64 - log2 of the number of bits
    top: u32,
    bits: Vec<u64>,
}

impl Sieve {
    /// Lets these pass, of which there are about so many: there are some 32 bits for each.
    pub fn of(values: impl Iterator<Item = u64>, count: usize) -> Sieve {
        let log = count.saturating_mul(32).next_power_of_two().trailing_zeros().clamp(12, 28);
        let mut sieve = Sieve { top: u64::BITS - log, bits: vec![0; 1 << (log - 6)] };
        for value in values {
            let hash = sieve.hash(value);
            if let Some(word) = sieve.bits.get_mut(hash / 64) {
                *word |= 1 << (hash % 64);
            }
        }
        sieve
    }

    /// Fibonacci hashing: the upper bits of a product with 2^64 over the golden ratio.
    fn hash(&self, value: u64) -> usize {
        (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.top) as usize
    }

    /// Whether a value may be among them.
    #[inline]
    pub fn passes(&self, value: u64) -> bool {
        let hash = self.hash(value);
        self.bits.get(hash / 64).is_some_and(|bits| bits >> (hash % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_pass_and_few_others() {
        let values = || (0..10_000u64).map(|n| 0xffff_8880_0000_0000 + n * 192);
        let sieve = Sieve::of(values(), 10_000);
        assert!(values().all(|value| sieve.passes(value)));
        assert!(values().filter(|value| sieve.passes(value + 8)).count() < 1000);
    }
}
