//! Members of known structs that are pointers, and lead to nothing of their kind.
//!
//! What they should lead to the type says, and what the same member of all other objects of the cache does. Text over one
//! is damage; so is anything that is no address, where all others have one; and so is the address of an object whose type
//! has nothing at that place of what is pointed to ([`super::kinds`]). What one object alone has, or hardly any, is damage:
//! what many have is how the kernel uses the member. The links of lists are told of by themselves.
//!
//! Free objects of caches that keep what was in them (`SLAB_TYPESAFE_BY_RCU`, a constructor) are looked at as well, if
//! their other pointers are as in objects in use: they were used, and written to since.

use super::{
    Finding, Kind, World,
    kinds::{Fit, Fits, Pointer},
};
use crate::{
    page::word,
    percpu::Percpu,
    slab::{Cache, State, verify::verdict},
};
use engine::prelude::*;
use rayon::prelude::*;
use std::collections::HashMap;

/// A vote among fewer objects says nothing.
const MIN_OBJECTS: usize = 8;
/// Fewer objects that all have an address do not say that every one must, nor that each leads to a cache of its own.
const MIN_ALWAYS: usize = 32;
/// One in so many may lead to something else before that is usual.
const SHARE: usize = 64;
/// Objects that are kept because they are odd at one place.
const MAX_ODD: usize = 16;
/// Members that have an address in every object before anything is said of one that has none.
const MIN_SET: usize = 4;

/// Whether a word is text, each byte of it.
fn is_text(word: u64) -> bool {
    let bytes = word.to_le_bytes();
    // the patterns that fill memory print as well
    bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) && !verdict::is_filled(word)
}

/// Whether it is an address of the kernel's half, an error number among them.
fn is_address(word: u64) -> bool {
    word >> 63 == 1
}

/// An object, and the word that it has at some place.
type Odd = (u64, u64);

/// What the objects of a cache have at one place.
#[derive(Clone, Default)]
struct Vote {
    addresses: usize,
    empty: usize,
    fits: usize,
    /// one of the addresses
    sample: u64,
    /// of each kind no more than [`MAX_ODD`]
    text: Vec<Odd>,
    wild: Vec<Odd>,
    misfits: Vec<Odd>,
    strangers: Vec<Odd>,
}

fn keep(list: &mut Vec<Odd>, odd: Odd) {
    if list.len() < MAX_ODD {
        list.push(odd);
    }
}

impl Vote {
    fn add(&mut self, odd: Odd, fit: Fit) {
        match odd.1 {
            0 => self.empty += 1,
            word if is_text(word) => keep(&mut self.text, odd),
            word if is_address(word) => {
                self.addresses += 1;
                self.sample = word;
            }
            word if verdict::is_filled(word) => self.empty += 1,
            _ => keep(&mut self.wild, odd),
        }
        match fit {
            Fit::Same => self.fits += 1,
            Fit::Other => keep(&mut self.misfits, odd),
            Fit::Stranger => keep(&mut self.strangers, odd),
            Fit::Unknown => {}
        }
    }

    fn join(mut self, other: Vote) -> Vote {
        if other.addresses > 0 {
            self.sample = other.sample;
        }
        self.addresses += other.addresses;
        self.empty += other.empty;
        self.fits += other.fits;
        other.text.into_iter().for_each(|odd| keep(&mut self.text, odd));
        other.wild.into_iter().for_each(|odd| keep(&mut self.wild, odd));
        other.misfits.into_iter().for_each(|odd| keep(&mut self.misfits, odd));
        other.strangers.into_iter().for_each(|odd| keep(&mut self.strangers, odd));
        self
    }

    /// Whether every object has an address here, but one or two. Pointers to per-CPU memory are none, if some look it.
    fn is_always(&self, world: &World<'_>) -> Result<bool> {
        let is = self.empty == 0 && self.addresses >= MIN_ALWAYS && self.wild.len() + self.text.len() <= 2;
        let copy = Percpu::of(world.session).and_then(|percpu| percpu.address(self.sample & !7, 0));
        let is_percpu = match copy {
            Ok(copy) => world.read::<1>(copy)?.is_some(),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => false,
        };
        Ok(is && !is_percpu && world.read::<1>(self.sample & !7)?.is_some())
    }

    /// What is odd here, each with what is usual.
    fn odd(&self, always: bool, alone: bool) -> Vec<(Odd, &'static str)> {
        let total = self.addresses + self.empty;
        let few = |odd: &[Odd], usual: usize| odd.len() <= 1 + (usual / SHARE).min(MAX_ODD - 2);
        let mut out = Vec::new();
        let mut say = |odd: &[Odd], text| out.extend(odd.iter().map(|odd| (*odd, text)));
        if let [_] = self.text[..]
            && total >= MIN_OBJECTS
        {
            say(&self.text, "is a pointer");
        }
        if always {
            say(&self.wild, "is a pointer");
        }
        if self.fits >= MIN_OBJECTS && few(&self.misfits, self.fits) {
            say(&self.misfits, "leads to another type");
        }
        if alone && self.fits >= MIN_ALWAYS && self.strangers.len() == 1 {
            say(&self.strangers, "leads to another type");
        }
        out
    }
}

/// A cache's objects as they are looked at.
struct Look<'a> {
    world: &'a World<'a>,
    number: usize,
    size: usize,
    fits: Vec<Fits<'a>>,
}

/// What is wrong in the objects of a cache whose type has pointers at these places.
pub fn look(world: &World<'_>, number: usize, cache: &Cache, pointers: &[Pointer]) -> Result<Vec<Finding>> {
    if pointers.is_empty() {
        return Ok(Vec::new());
    }
    let fits = pointers.iter().map(|pointer| Fits::of(world, pointer)).collect();
    let look = Look { world, number, size: cache.object_size as usize, fits };
    let votes = look.votes(State::Allocated)?;
    let mut always = Vec::new();
    let mut found = Vec::new();
    for (i, (pointer, vote)) in pointers.iter().zip(&votes).enumerate() {
        let is_always = vote.is_always(world)?;
        always.extend(is_always.then_some(i));
        found.extend(vote.odd(is_always, pointer.is_alone()).into_iter().map(|(odd, usual)| (i, odd, usual)));
    }
    if cache.ctor != 0 || cache.flags & world.slabs.caches.flags.typesafe_by_rcu != 0 {
        found.extend(look.freed(cache, &always)?.into_iter().map(|(i, odd)| (i, odd, "is a pointer")));
    }
    look.tell(&votes, &always, found)
}

impl<'a> Look<'a> {
    /// What the objects in a state have at each place.
    fn votes(&self, state: State) -> Result<Vec<Vote>> {
        let none = || vec![Vote::default(); self.fits.len()];
        let slabs = self.world.slabs.of_cache(self.number);
        let free = self.world.slabs.free(self.world.session, self.number)?;
        let parts = slabs.par_iter().enumerate().map(|(index, slab)| {
            self.world.session.interrupt.check()?;
            let mut votes = none();
            let Some(memory) = self.world.memory(slab.base, slab.bytes.into())? else { return Ok(votes) };
            let mut seen = vec![(0, Fit::Unknown); self.fits.len()];
            for i in (0..slab.objects).filter(|i| free.state(index, *i) == state) {
                let object = self.world.slabs.object(slab, i);
                let from = object.wrapping_sub(slab.base) as usize;
                let Some(bytes) = memory.get(from..from.saturating_add(self.size)) else { continue };
                for ((fits, vote), seen) in self.fits.iter().zip(&mut votes).zip(&mut seen) {
                    let word = word(bytes, fits.pointer.offset as usize);
                    // neighbours often have the same
                    if seen.0 != word {
                        *seen = (word, fits.fit(word));
                    }
                    vote.add((object, word), seen.1);
                }
            }
            Ok(votes)
        });
        parts.try_reduce(none, |one, other| Ok(one.into_iter().zip(other).map(|(a, b)| a.join(b)).collect()))
    }

    /// Places of free objects that hold no address, where every object in use has one, and the other such places of the
    /// same object do.
    fn freed(&self, cache: &Cache, always: &[usize]) -> Result<Vec<(usize, Odd)>> {
        let link = u64::from(cache.offset);
        let always = always.iter().filter_map(|i| Some((*i, self.fits.get(*i)?.pointer.offset)));
        let always: Vec<(usize, u64)> = always.filter(|(_, offset)| offset.abs_diff(link) >= 8).collect();
        let mut out = Vec::new();
        if always.len() < MIN_SET {
            return Ok(out);
        }
        self.world.slabs.each(self.world.session, self.number, State::Free, &mut |object| {
            let Some(bytes) = self.world.memory(object, self.size as u64)? else { return Ok(()) };
            let words = always.iter().map(|(i, offset)| (*i, (object, word(&bytes, *offset as usize))));
            // who frees an object may clear what it had
            let (set, odd): (Vec<_>, Vec<_>) = words.partition(|(_, (_, word))| is_address(*word));
            if odd.len() * 4 <= set.len() && out.len() < MAX_ODD {
                out.extend(odd.into_iter().filter(|(_, (_, word))| *word != 0 && !verdict::is_filled(*word)));
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Says what is wrong: members of one object that was written over as a whole are one finding, the first.
    fn tell(&self, votes: &[Vote], always: &[usize], found: Vec<(usize, Odd, &'static str)>) -> Result<Vec<Finding>> {
        let session = self.world.session;
        let mut wild: HashMap<u64, usize> = HashMap::new();
        let odd = always.iter().filter_map(|i| votes.get(*i)).flat_map(|vote| &vote.wild);
        odd.for_each(|(object, _)| *wild.entry(*object).or_default() += 1);
        let mut out: Vec<(u64, Finding)> = Vec::new();
        for (i, (object, word), usual) in found {
            let (Some(pointer), Some(vote)) = (self.fits.get(i).map(|fits| fits.pointer), votes.get(i)) else {
                continue;
            };
            // one that is just being made has nothing yet
            let is_new = wild.get(&object).is_some_and(|wild| wild * 4 > always.len() || always.len() < MIN_SET);
            if out.iter().any(|(told, _)| *told == object) || is_new && !is_text(word) && !is_address(word) {
                continue;
            }
            let at = object.wrapping_add(pointer.offset);
            let is = verdict::describe(session, word).unwrap_or_else(|| format!("{word:#x}"));
            let front =
                verdict::from_front(session, at).map_or_else(String::new, |front| format!(", {}", front.text()));
            let name = &pointer.name;
            let verdict = match usual {
                _ if self.world.freed(object)?.is_some() => format!(
                    "{name} is a pointer in all objects in use, here it is {is}: written after the object was freed{front}"
                ),
                "is a pointer" => format!(
                    "{name} is a pointer in each of the other {} objects, here it is {is}{front}",
                    (vote.addresses + vote.empty).saturating_sub(usize::from(is_address(word)))
                ),
                _ => format!(
                    "{name} leads to a struct {} in {} other objects, here it is {is}: written over",
                    pointer.to.as_ref().map_or("?", |to| &to.name),
                    vote.fits
                ),
            };
            out.push((object, Finding { kind: Kind::Pointer, at, verdict, freed: None }));
        }
        Ok(out.into_iter().map(|(_, finding)| finding).collect())
    }
}
