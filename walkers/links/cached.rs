//! Pages of files: what is in the array of a file's pages says itself of which file it is, and where in it.

use super::{Finding, Kind, World};
use crate::{
    pagecache::{self, Odd},
    slab::{State, names},
};
use engine::prelude::*;

/// Where file systems have a `struct inode` in their own.
const INODES: &[&str] = &["vfs_inode", "i_vnode", "inode", "netfs.inode"];

/// The pages that contradict the file which has them.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let (session, mut out) = (world.session, Vec::new());
    let (Some(data), Some(count)) = (session.place("inode", "i_data"), session.place("address_space", "nrpages"))
    else {
        return Ok(out);
    };
    let inode = session.struct_type("inode");
    for (number, cache) in world.slabs.caches.iter().enumerate().filter(|(_, cache)| cache.sound()) {
        let Some(ctype) = names::type_of_cache(session, number) else { continue };
        let inside = match inode == Some(ctype) {
            true => Some(0),
            false => INODES
                .iter()
                .find_map(|member| {
                    session
                        .field(ctype, member)
                        .filter(|field| inode.and_then(|id| session.types.size_of(id)) == Some(field.bits / 8))
                })
                .map(|field| field.bit_offset / 8),
        };
        let Some(inside) = inside.filter(|inside| *inside < cache.object_size.into()) else { continue };
        world.slabs.each(session, number, State::Allocated, &mut |object| {
            let mapping = object.wrapping_add(inside).wrapping_add(data.bit_offset / 8);
            match world.read::<1>(mapping.wrapping_add(count.bit_offset / 8))? {
                Some([pages]) if pages > 0 => of_file(world, mapping, &mut out),
                _ => Ok(()),
            }
        })?;
    }
    Ok(out)
}

fn of_file(world: &World<'_>, mapping: u64, out: &mut Vec<Finding>) -> Result<()> {
    let session = world.session;
    let mut odd = |Odd { index, page, mapping: says, at }: Odd| {
        let place = if says == mapping {
            ("index", format!("it says that it is at {at:#x}"))
        } else {
            ("mapping", format!("it says that it is of {says:x}"))
        };
        let member = session.place("page", place.0).or_else(|| session.place("page", "__folio_index"));
        let verdict = format!(
            "this page is at {index:#x} of the address space {mapping:x}, and {}: one of both was written over",
            place.1
        );
        let at = page.wrapping_add(member.map_or(0, |member| member.bit_offset / 8));
        out.push(Finding { kind: Kind::Cached, at, verdict, freed: None });
    };
    match pagecache::each_or_odd(session, mapping, &mut |_| Ok(()), &mut odd) {
        Err(e) if e.is_control() => Err(e),
        // what cannot be read is noted, or is what `arrays` tells of
        _ => Ok(()),
    }
}
