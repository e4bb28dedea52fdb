//! One bit for each page frame, and how many bits are set below one: the number of the frame's descriptor.

use std::ops::Range;

use bytes::Bytes;

/// Bits whose sum is kept, so that counting those below a bit looks at 64 words at most.
const BLOCK: u64 = 4096;

pub(super) struct Bitmap {
    bytes: Bytes,
    /// bits that count: the rest is padding
    bits: u64,
}

impl Bitmap {
    /// The first `bits` bits of `bytes`, or all there are.
    pub fn new(bytes: Bytes, bits: u64) -> Bitmap {
        let bits = bits.min((bytes.len() as u64).saturating_mul(8));
        Bitmap { bytes, bits }
    }

    pub fn get(&self, bit: u64) -> bool {
        bit < self.bits && self.bytes.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Bits that count.
    pub fn len(&self) -> u64 {
        self.bits
    }

    /// Word `i` of 64 bits, with zeros for what does not count.
    pub fn word(&self, i: u64) -> u64 {
        let at = (i * 8) as usize;
        let word = match self.bytes.get(at..at + 8) {
            Some(word) => word.try_into().map_or(0, u64::from_le_bytes),
            None => {
                let tail = self.bytes.get(at..).unwrap_or_default();
                tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
            }
        };
        match self.bits.saturating_sub(i * 64) {
            0 => 0,
            left @ 1..64 => word & ((1 << left) - 1),
            _ => word,
        }
    }

    /// Words that have bits that count.
    pub fn words(&self) -> u64 {
        self.bits.div_ceil(64)
    }

    /// Runs of set bits.
    pub fn runs(&self) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for i in 0..self.words() {
            let mut word = self.word(i);
            let mut at = i * 64;
            while word != 0 {
                let zeros = word.trailing_zeros();
                at += u64::from(zeros);
                word >>= zeros;
                let ones = word.trailing_ones();
                match runs.last_mut() {
                    Some(last) if last.end == at => last.end += u64::from(ones),
                    _ => runs.push(at..at + u64::from(ones)),
                }
                at += u64::from(ones);
                word = word.checked_shr(ones).unwrap_or(0);
            }
        }
        runs
    }

    /// How many bits from `bit` on are like it. It may be fewer than there are, but at least one: a caller that wants
    /// the rest asks again.
    pub fn run(&self, bit: u64) -> u64 {
        const WORDS: u64 = 1 << 14;
        if bit >= self.bits {
            return (u64::MAX - bit).max(1);
        }
        let flip = if self.get(bit) { u64::MAX } else { 0 };
        for i in bit / 64..self.words().min(bit / 64 + WORDS) {
            let mut other = self.word(i) ^ flip;
            if i == bit / 64 {
                other &= u64::MAX << (bit % 64);
            }
            if other != 0 {
                return (i * 64 + u64::from(other.trailing_zeros())).min(self.bits) - bit;
            }
        }
        ((bit / 64 + WORDS) * 64).min(self.bits) - bit
    }

    /// Sums for [`Ranks::below`].
    pub fn ranks(&self) -> Ranks {
        let mut sum = 0;
        let ranks = (0..self.bits.div_ceil(BLOCK)).map(|block| {
            let before = sum;
            let words = block * BLOCK / 64..((block + 1) * BLOCK / 64).min(self.words());
            sum += words.map(|i| u64::from(self.word(i).count_ones())).sum::<u64>();
            before
        });
        Ranks(ranks.collect())
    }
}

/// Set bits below every block.
pub(super) struct Ranks(Vec<u64>);

impl Ranks {
    /// How many bits are set below `bit`.
    pub fn below(&self, bitmap: &Bitmap, bit: u64) -> u64 {
        let bit = bit.min(bitmap.len());
        let block = bit / BLOCK;
        let before = match self.0.get(block as usize) {
            Some(&sum) => sum,
            // `bit` is the end, and the end is the start of a block
            None => return self.0.last().map_or(0, |_| self.below(bitmap, bit - 1) + u64::from(bitmap.get(bit - 1))),
        };
        let whole: u64 = (block * BLOCK / 64..bit / 64).map(|i| u64::from(bitmap.word(i).count_ones())).sum();
        let part = bitmap.word(bit / 64) & ((1 << (bit % 64)) - 1);
        before + whole + u64::from(part.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_runs_agree_with_counting() {
        let mut seed = 0x9e3779b97f4a7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for bits in [0, 1, 7, 63, 64, 65, 4095, 4096, 4097, 8192, 20011] {
            let bytes: Vec<u8> = (0..3000).map(|i| if i % 900 < 300 { 0xff } else { random() as u8 }).collect();
            let bitmap = Bitmap::new(bytes.into(), bits);
            let ranks = bitmap.ranks();
            let mut count = 0;
            for bit in 0..bits {
                assert_eq!(ranks.below(&bitmap, bit), count, "{bit} of {bits}");
                count += u64::from(bitmap.get(bit));
            }
            assert_eq!(ranks.below(&bitmap, bits), count);
            let mut bit = 0;
            while bit < bits {
                let len = bitmap.run(bit);
                assert!((bit..bit + len).all(|b| b < bits && bitmap.get(b) == bitmap.get(bit)), "{bit} of {bits}");
                assert!(bit + len == bits || bitmap.get(bit + len) != bitmap.get(bit), "{bit} of {bits}");
                bit += len;
            }
            assert_eq!(ranks.below(&bitmap, u64::MAX), count);
            let runs = bitmap.runs();
            assert!(runs.is_sorted_by(|a, b| a.end < b.start));
            assert_eq!(runs.iter().map(|r| r.end - r.start).sum::<u64>(), count);
            assert!(runs.iter().flat_map(Clone::clone).all(|bit| bitmap.get(bit)));
        }
    }
}
