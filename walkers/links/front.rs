//! A link at the very start of an object of which only the lowest bytes are wrong: what an overflow from the object in
//! front reaches first. One byte that is 0 is the end of a string that was one too long.

use super::World;
use crate::slab;
use engine::prelude::*;

/// What an overflow did to the link at `at`, which is `is` and should be `should`; `None` if it was something else.
pub fn overflow(world: &World<'_>, at: u64, is: u64, should: u64) -> Result<Option<String>> {
    /// More bytes are told by what they are.
    const MOST: u32 = 6;
    let bytes = (64 - (is ^ should).leading_zeros()).div_ceil(8);
    let nul = bytes == 1 && is & 0xff == 0;
    // two entries of one list may differ in as little: but both are aligned
    let other = is.is_multiple_of(8) || (is ^ should).is_power_of_two();
    if bytes == 0 || bytes > MOST || (!nul && other) {
        return Ok(None);
    }
    let Some(found) = slab::find(world.session, at)?.filter(|found| found.object == at) else { return Ok(None) };
    let Some(cache) = world.slabs.caches.get(found.cache) else { return Ok(None) };
    let front = slab::find(world.session, found.object.wrapping_sub(cache.size.into()))?;
    let Some(front) = front.filter(|front| front.cache == found.cache) else { return Ok(None) };
    let what = match (nul, bytes) {
        (true, _) => {
            "only its lowest byte is wrong, and that is 0, the end of a string: an overflow by one byte".into()
        }
        (false, 1) => "only its lowest byte is wrong: an overflow by one byte".into(),
        (false, _) => format!("only its lowest {bytes} bytes are wrong: an overflow by as many"),
    };
    Ok(Some(format!("{what} from the neighbour in front, {:x}", front.object)))
}
