//! Members of known structs that lead to code, or to a table of functions (`struct file_operations`), and lead into data.
//!
//! What the kernel calls lies in its own image or in a module. A member that leads to a slab object, or that is no address
//! of the kernel's at all, where all other objects of the cache have code or a table, was written over: the next call
//! through it goes wherever that says.

use super::{Finding, Kind, World};
use crate::slab::{self, Cache, State, verify::verdict};
use engine::{debuginfo::SymbolKind, prelude::*};

/// A vote among fewer objects says nothing.
const MIN_OBJECTS: usize = 8;
/// Of so many objects one more may be wrong.
const SHARE: usize = 64;
/// Words of a table that are looked at for code.
const WORDS: u64 = 8;

/// What the objects have at one place.
#[derive(Clone, Default)]
struct Vote {
    sound: usize,
    odd: Vec<(u64, u64)>,
}

/// What is wrong in the allocated objects of a cache whose type has such members at these places.
pub fn look(world: &World<'_>, number: usize, cache: &Cache, members: &[(u64, String)]) -> Result<Vec<Finding>> {
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let mut votes = vec![Vote::default(); members.len()];
    world.slabs.each(world.session, number, State::Allocated, &mut |object| {
        let Some(bytes) = world.memory(object, cache.object_size.into())? else { return Ok(()) };
        for ((offset, _), vote) in members.iter().zip(&mut votes) {
            match crate::page::word(&bytes, *offset as usize) {
                0 => {}
                word if vote.odd.len() <= SHARE && leads_to_data(world, word)? => vote.odd.push((object, word)),
                _ => vote.sound += 1,
            }
        }
        Ok(())
    })?;
    let mut out = Vec::new();
    for ((offset, name), vote) in members.iter().zip(votes) {
        if vote.sound < MIN_OBJECTS || vote.odd.len() > 1 + vote.sound / SHARE {
            continue;
        }
        out.extend(vote.odd.iter().map(|(object, word)| {
            let is = verdict::describe(world.session, *word).unwrap_or_else(|| format!("{word:#x}"));
            let verdict = format!(
                "{name} leads to code or a table of functions in each of {} other objects, here it is {is}: written over",
                vote.sound
            );
            Finding { kind: Kind::Pointer, at: object.wrapping_add(*offset), verdict, freed: None }
        }));
    }
    Ok(out)
}

/// Whether a word is no address of the kernel's, or leads to a slab object without any function in it.
fn leads_to_data(world: &World<'_>, word: u64) -> Result<bool> {
    // what fills memory that nobody has used yet
    if verdict::is_filled(word) {
        return Ok(false);
    }
    if word >> 63 == 0 {
        return Ok(true);
    }
    if slab::find(world.session, word)?.is_none() {
        return Ok(false);
    }
    // such as single_open() allocates
    for i in 0..WORDS {
        if let Some([function]) = world.read::<1>(word.wrapping_add(i * 8))?
            && is_function(world.session, function)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an address is one of a function.
pub fn is_function(session: &Session, addr: u64) -> bool {
    addr >> 63 == 1 && session.symbols.by_addr(session, addr).is_some_and(|symbol| symbol.kind == SymbolKind::Text)
}
