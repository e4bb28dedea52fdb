//! Slabs by where they lie: a table over their memory says between which of them an address is to be looked for.

/// The least that one entry of the table covers, as a power of two: what a page table's directory entry maps.
const MIN_SHIFT: u32 = 21;
/// Entries of the table, as a power of two.
const MAX_ENTRIES: u32 = 18;

/// Where slabs start, in order, each with its number.
pub(super) struct ByAddr {
    starts: Vec<(u64, u32)>,
    shift: u32,
    /// how many start before each piece of memory
    before: Vec<u32>,
}

impl ByAddr {
    /// Of slabs that start at these addresses.
    pub(super) fn of(starts: impl Iterator<Item = u64>) -> ByAddr {
        let mut starts: Vec<(u64, u32)> = starts.zip(0..).collect();
        starts.sort_unstable();
        let first = starts.first().map_or(0, |(start, _)| *start);
        let span = starts.last().map_or(0, |(start, _)| start - first);
        let shift = MIN_SHIFT.max((u64::BITS - span.leading_zeros()).saturating_sub(MAX_ENTRIES));
        let mut before = Vec::new();
        for (number, (start, _)) in starts.iter().enumerate() {
            before.resize(((start - first) >> shift) as usize + 1, number as u32);
        }
        before.push(starts.len() as u32);
        ByAddr { starts, shift, before }
    }

    /// The number of the last slab that does not start behind an address.
    #[inline]
    pub(super) fn last(&self, addr: u64) -> Option<u32> {
        let inside = addr.checked_sub(self.starts.first()?.0)?;
        let piece = usize::try_from(inside >> self.shift).ok()?.min(self.before.len().saturating_sub(2));
        let (from, to) = (*self.before.get(piece)? as usize, *self.before.get(piece + 1)? as usize);
        let next = from + self.starts.get(from..to)?.partition_point(|(start, _)| *start <= addr);
        Some(self.starts.get(next.checked_sub(1)?)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slab_in_front_is_found_across_pieces() {
        let bases = [0xffff_0000_0000_1000u64, 0xffff_0000_0000_3000, 0xffff_0000_4000_0000, 0xffff_0080_0000_0000];
        let by = ByAddr::of(bases.into_iter());
        let last = |addr: u64| by.last(addr).map(|number| bases[number as usize]);
        assert_eq!(last(0xffff_0000_0000_0fff), None);
        assert_eq!(last(bases[0]), Some(bases[0]));
        assert_eq!(last(bases[1] - 1), Some(bases[0]));
        assert_eq!(last(bases[2] - 1), Some(bases[1]));
        assert_eq!(last(bases[3] - 1), Some(bases[2]));
        assert_eq!(last(bases[3] + 77), Some(bases[3]));
        assert_eq!(last(u64::MAX), Some(bases[3]));
        assert_eq!(ByAddr::of(std::iter::empty()).last(5), None);
    }
}
