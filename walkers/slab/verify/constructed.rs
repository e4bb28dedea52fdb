//! Free objects of caches with a constructor: SLUB does not poison them, and who frees one leaves it as it was constructed.
//!
//! What that is the others tell. Where, in all other free objects of the cache, a word is the same, or leads to the same
//! place in its own object (an empty list), and in all that are in use as well, and one free object holds text or a
//! pointer there, somebody has written to it after it was freed. A number may be left from its last use, and is none.

use super::{Finding, Kind, MAX_SHOWN, verdict};
use crate::slab::{Cache, Slabs, State};
use engine::prelude::*;

/// Fewer objects say nothing.
const MIN_OBJECTS: usize = 16;
/// Objects of a cache that are compared.
const MAX_OBJECTS: usize = 1 << 16;

/// A word of an object as it can be compared: one that leads into its own object by how far from its start.
fn relative(word: u64, object: u64, size: u64) -> (bool, u64) {
    match word.wrapping_sub(object) {
        inside if inside < size => (true, inside),
        _ => (false, word),
    }
}

/// What differs from what all others have.
pub(super) fn look(session: &Session, slabs: &Slabs, number: usize, cache: &Cache) -> Result<Vec<Finding>> {
    let size = u64::from(cache.object_size) & !7;
    let mut votes: Vec<Vote> = vec![Vote::default(); (size / 8) as usize];
    let mut objects = 0;
    for state in [State::Allocated, State::Free] {
        let ended = slabs.each(session, number, state, &mut |object| {
            if objects == MAX_OBJECTS {
                return Err(Error::Stop);
            }
            let bytes = match session.bytes(object, size as usize) {
                Ok(bytes) => bytes,
                Err(e) if e.is_control() => return Err(e),
                Err(_) => return Ok(()),
            };
            objects += 1;
            for (vote, word) in votes.iter_mut().zip(bytes.chunks_exact(8)) {
                let word = word.try_into().map_or(0, u64::from_le_bytes);
                vote.add(relative(word, object, size), object, state);
            }
            Ok(())
        });
        match ended {
            Ok(()) | Err(Error::Stop) => {}
            Err(e) => return Err(e),
        }
    }
    if objects < MIN_OBJECTS {
        return Ok(Vec::new());
    }
    let link = u64::from(cache.offset);
    let odd = votes.iter().zip(0u64..).filter_map(|(vote, word)| Some((vote.odd()?, word * 8)));
    let mut out: Vec<Finding> = Vec::new();
    for (object, offset) in odd.filter(|(_, offset)| offset.abs_diff(link) >= 8) {
        let Ok(word) = session.u64(object.wrapping_add(offset)) else { continue };
        let bytes = word.to_le_bytes();
        match out.last_mut().filter(|last| last.object == Some(object)) {
            Some(last) if last.found.len() < MAX_SHOWN => {
                last.found.extend(bytes);
                last.differ += 8;
            }
            Some(_) => {}
            None => out.push(Finding {
                kind: Kind::Constructed,
                cache: number,
                slab: slabs.at(object).map_or(0, |(_, slab)| slab.addr),
                object: Some(object),
                state: Some(State::Free),
                at: object.wrapping_add(offset),
                expected: "what all other objects of the cache have".into(),
                found: bytes.to_vec(),
                differ: 8,
                end: object.wrapping_add(offset).wrapping_add(8),
                follows: Vec::new(),
                other: None,
                verdict: String::new(),
                suspect: None,
            }),
        }
    }
    out.retain(|finding| {
        let first = finding.found.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // what has not been constructed yet holds the poison of padding
        !verdict::is_filled(first)
            && (verdict::text(&finding.found).is_some() || verdict::pointer(session, first).is_some())
    });
    for finding in &mut out {
        let offset = finding.object.map_or(0, |object| finding.at.wrapping_sub(object));
        let looks = verdict::looks(session, &finding.found);
        finding.verdict = format!(
            "use after free: {} bytes written {offset:#x} into the object{looks}, all others are there as they were constructed",
            finding.differ
        );
    }
    Ok(out)
}

/// What the objects have at one place.
#[derive(Clone, Debug, Default)]
struct Vote {
    /// what most have
    common: Option<(bool, u64)>,
    agree: usize,
    /// the one that has something else, if it is free
    other: Option<u64>,
    spoilt: bool,
}

impl Vote {
    fn add(&mut self, word: (bool, u64), object: u64, state: State) {
        match self.common {
            None => {
                self.common = Some(word);
                self.agree = 1;
            }
            Some(common) if common == word => self.agree += 1,
            // those in use come first: they agree, or nothing is said
            Some(_) if state != State::Free || self.other.is_some() => self.spoilt = true,
            Some(_) => self.other = Some(object),
        }
    }

    fn odd(&self) -> Option<u64> {
        self.other.filter(|_| !self.spoilt && self.agree + 1 >= MIN_OBJECTS)
    }
}
