//! Lists of which several entries in a row were written over, and lists whose head was.
//!
//! A `memset()` over objects that hang on a list, one behind the other, leaves an entry that leads into the damage and one
//! behind it that leads back into it, and both lead round the rest of the list to each other: everything between them is
//! gone. A null in a head leaves a list that comes back to it, and nobody can go along.

use super::{Finding, Kind, World, is_pointer, rings};
use crate::slab::{self, verify::verdict};
use engine::prelude::*;
use std::collections::HashSet;

/// One write over more objects is none of a program that goes on.
const MOST: u64 = 4096;

/// The entries between `at`, which leads to `to`, and one of `broken`, which lead back to nobody, if they are one list.
pub fn between(world: &World<'_>, at: u64, to: u64, broken: &HashSet<u64>) -> Result<Option<Finding>> {
    if broken.is_empty() {
        return Ok(None);
    }
    let Some(end) = other_end(world, at, broken)? else { return Ok(None) };
    let (Some([_, last]), Some([word])) = (world.read::<2>(end)?, world.read::<1>(to)?) else { return Ok(None) };
    if last == at || !is_pointer(last) {
        return Ok(None);
    }
    let is = match verdict::describe(world.session, word) {
        Some(is) => is,
        None => format!("{word:#x}"),
    };
    let Some(count) = apart(world, to, last)? else { return Ok(None) };
    let verdict = format!(
        "{at:x} leads here and {end:x} leads back to {last:x}, and neither is an entry any more: {count} objects in a row \
         were written over as one, it is {is}"
    );
    Ok(Some(Finding { kind: Kind::Overwritten, at: to, verdict, freed: None }))
}

/// One of `broken` that the list comes to from `at` backwards.
fn other_end(world: &World<'_>, at: u64, broken: &HashSet<u64>) -> Result<Option<u64>> {
    let mut entry = at;
    for _ in 0..rings::MAX_STEPS {
        if broken.contains(&entry) {
            return Ok(Some(entry));
        }
        match world.read::<2>(entry)? {
            Some([_, back]) if is_pointer(back) && back != at => entry = back,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// How many objects of one cache there are from one address to another, at the same place in both; not many, or they are
/// not near each other.
fn apart(world: &World<'_>, first: u64, last: u64) -> Result<Option<u64>> {
    let (Some(one), Some(other)) = (slab::find(world.session, first)?, slab::find(world.session, last)?) else {
        return Ok(None);
    };
    let Some(cache) = world.slabs.caches.get(one.cache).filter(|_| one.cache == other.cache) else { return Ok(None) };
    let (size, apart) = (u64::from(cache.size), one.object.abs_diff(other.object));
    Ok((one.offset == other.offset && size > 0 && apart / size < MOST).then(|| apart / size + 1))
}

/// A head, which `first` leads back to, that has no next any more: the last entry leads to it and is the one that it
/// names, and the list comes from `first` round to it.
pub fn head(world: &World<'_>, first: u64, head: u64) -> Result<Option<Finding>> {
    let Some([0, last]) = world.read::<2>(head)? else { return Ok(None) };
    if !is_pointer(last) || world.read::<1>(last)? != Some([head]) || !rings::comes_back(world, first, head)? {
        return Ok(None);
    }
    let verdict = format!("next should be {first:x}, it is 0: nobody gets into the list any more");
    Ok(Some(Finding { kind: Kind::Overwritten, at: head, verdict, freed: None }))
}
