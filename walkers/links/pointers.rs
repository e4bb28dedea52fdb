//! Members of known structs that are pointers, and hold text.
//!
//! Eight characters over a pointer are damage wherever they lie, if no other object of the cache has such a thing there. A
//! number that is no address may be what nobody has set yet, and is none. The links of lists are told of by themselves.

use super::{Finding, Kind, World};
use crate::slab::{Cache, State, verify::verdict};
use engine::prelude::*;

/// A vote among fewer objects says nothing.
const MIN_OBJECTS: usize = 8;
/// Whether a word is text, each byte of it.
fn is_text(word: u64) -> bool {
    let bytes = word.to_le_bytes();
    // the patterns that fill memory print as well
    bytes.iter().all(|byte| (0x20..0x7f).contains(byte))
        && bytes.windows(2).any(|two| matches!(two, [one, other] if one != other))
}

/// What is wrong in the allocated objects of a cache whose type has pointers at these places.
pub fn look(world: &World<'_>, number: usize, cache: &Cache, pointers: &[(u64, String)]) -> Result<Vec<Finding>> {
    let mut objects = 0;
    let mut text: Vec<Vec<(u64, u64)>> = vec![Vec::new(); pointers.len()];
    if pointers.is_empty() {
        return Ok(Vec::new());
    }
    world.slabs.each(world.session, number, State::Allocated, &mut |object| {
        objects += 1;
        let Some(bytes) = world.memory(object, cache.object_size.into())? else { return Ok(()) };
        for ((offset, _), found) in pointers.iter().zip(&mut text) {
            let word = crate::page::word(&bytes, *offset as usize);
            if is_text(word) {
                found.push((object, word));
            }
        }
        Ok(())
    })?;
    // members of one object that was written over as a whole are one finding: the first
    let mut out: Vec<(u64, Finding)> = Vec::new();
    for ((offset, name), found) in pointers.iter().zip(&text) {
        let [(object, word)] = found[..] else { continue };
        if objects < MIN_OBJECTS || out.iter().any(|(told, _)| *told == object) {
            continue;
        }
        let at = object.wrapping_add(*offset);
        let is = verdict::describe(world.session, word).unwrap_or_else(|| format!("{word:#x}"));
        let front =
            verdict::from_front(world.session, at).map_or_else(String::new, |front| format!(", {}", front.text()));
        let verdict =
            format!("{name} is a pointer in each of the other {} objects, here it is {is}{front}", objects - 1);
        out.push((object, Finding { kind: Kind::Pointer, at, verdict, freed: None }));
    }
    Ok(out.into_iter().map(|(_, finding)| finding).collect())
}
