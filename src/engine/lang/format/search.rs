//! `/l`, `/L`, `/M value [mask]`: the first 2, 4, 8 byte value from an address upward that matches.
//!
//! Deviation from mdb: a hole in memory is stepped over, where mdb stops at it.

use super::{FormatError, FormatIo};

/// Memory is read up to the next multiple of this.
const CHUNK: u64 = 0x1000;

/// The lowest address from `start`, in steps of `size` bytes, whose value has `value` in the bits of `mask`.
pub(super) fn search(
    io: &mut dyn FormatIo,
    start: u64,
    size: u8,
    value: u64,
    mask: u64,
) -> Result<Option<u64>, FormatError> {
    let step = u64::from(size);
    let all = u64::MAX >> (64 - 8 * step);
    let (value, mask) = (value & all, mask & all);
    let mut buffer = [0; CHUNK as usize + 8];
    let mut addr = start;
    loop {
        if io.interrupted() {
            return Err(FormatError::Interrupted);
        }
        let mapped = match io.next_mapped(addr) {
            Some(mapped) if mapped >= addr => mapped,
            _ => return Ok(None),
        };
        // the first place in the mapped memory that is a whole number of steps from the start
        let Some(place) = (mapped - addr).div_ceil(step).checked_mul(step).and_then(|gap| addr.checked_add(gap)) else {
            return Ok(None);
        };
        let length = (CHUNK - place % CHUNK).next_multiple_of(step);
        let chunk = &mut buffer[..length as usize];
        // the last value of a chunk may reach into the next page, which may be missing
        let readable = match io.read(place, chunk) {
            Ok(()) => length,
            Err(_) => {
                let whole = (CHUNK - place % CHUNK) / step * step;
                io.read(place, &mut buffer[..whole as usize]).map_or(0, |()| whole)
            }
        };
        let found = buffer[..readable as usize].chunks_exact(size.into()).position(|bytes| {
            let mut wide = [0; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(wide) & mask == value
        });
        if let Some(index) = found {
            return Ok(Some(place + index as u64 * step));
        }
        match place.checked_add(length) {
            Some(next) => addr = next,
            None => return Ok(None),
        }
    }
}
