//! Open files for [`super::taken`]: who has a reference to a `struct file` has its address, in a table of descriptors, a
//! mapping, a packet on its way between processes, on a stack, sometimes with a bit or two for itself in it.
//!
//! Left out are files that others keep by something behind them: a socket or a `struct dma_buf` leads back to its file.

use super::{
    World, is_pointer,
    taken::{MAX, One},
};
use crate::{file, slab};
use engine::prelude::*;

/// What they are called among what is counted.
pub const NAME: &str = "file";
/// Objects behind files that are looked at as far as this.
const MAX_BEHIND: u64 = 4096;

/// All open files, with their counts.
pub fn read(world: &World<'_>) -> Result<Vec<One>> {
    let (session, mut all) = (world.session, Vec::new());
    let count = ["f_count.counter", "f_ref.refcnt.counter"].iter().find_map(|name| session.place("file", name));
    let Some(count) = count.map(|place| place.bit_offset / 8) else { return Ok(all) };
    let walked = file::each(session, &mut |addr| {
        if all.len() == MAX {
            return Err(Error::Stop);
        }
        match session.view::<file::File>(addr) {
            Ok(file) => {
                let users = file.users(session);
                all.extend((users > 0).then(|| One {
                    addr,
                    place: addr.wrapping_add(count),
                    count: users,
                    name: NAME,
                }));
                Ok(())
            }
            Err(e) if e.is_control() => Err(e),
            Err(_) => Ok(()),
        }
    });
    match walked {
        Err(e) if e.is_control() && !matches!(e, Error::Stop) => Err(e),
        _ => Ok(all),
    }
}

/// Leaves out files that something behind them leads back to: whoever has that may have a reference, too.
pub fn leave_shared(world: &World<'_>, all: &mut Vec<One>) -> Result<()> {
    let mut kept = Vec::new();
    for one in all.drain(..) {
        if one.name != NAME || !is_shared(world, one.addr)? {
            kept.push(one);
        }
    }
    *all = kept;
    Ok(())
}

fn is_shared(world: &World<'_>, file: u64) -> Result<bool> {
    let Ok(member) = world.session.offset("file", "private_data") else { return Ok(false) };
    let Some([behind]) = world.read::<1>(file.wrapping_add(member))?.filter(|[behind]| is_pointer(*behind)) else {
        return Ok(false);
    };
    let Some(found) = slab::find(world.session, behind)? else { return Ok(false) };
    let size = world.slabs.caches.get(found.cache).map_or(0, |cache| u64::from(cache.object_size));
    // a sequence of records is its reader's alone
    let is_sequence = world.slabs.caches.get(found.cache).is_some_and(|cache| cache.name() == "seq_file");
    let Some(memory) = world.memory(found.object, size.min(MAX_BEHIND))?.filter(|_| !is_sequence) else {
        return Ok(false);
    };
    Ok(memory.chunks_exact(8).any(|word| word == file.to_le_bytes()))
}
