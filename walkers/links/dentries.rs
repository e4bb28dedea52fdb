//! Dentries whose count is higher than anybody can have: references that were taken and never put.
//!
//! Whoever has a reference has the dentry's address: each child in `d_parent`, each open file, mount, working directory.
//! So all words in use that hold the very address are counted, and there may be more of them than references, as of those
//! who only look, but not fewer. Nobody has the one that file systems in memory take to keep a file.

use super::{Finding, Kind, World};
use crate::{refs::Graph, slab::State};
use engine::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// What of a `struct dentry` counts.
#[derive(Clone, Copy)]
struct One {
    addr: u64,
    count: i64,
    super_block: u64,
}

/// Where in a `struct dentry` that is.
struct Shape {
    count: u64,
    parent: u64,
    super_block: u64,
}

/// Dentries of more than that are not looked at: more say nothing new.
const MAX: usize = 1 << 22;

/// The dentries that are referred to too often.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let Some(cache) = world.slabs.caches.named("dentry").next() else { return Ok(Vec::new()) };
    let at = |member: &str| session.offset("dentry", member);
    let (Ok(count), Ok(parent), Ok(super_block)) = (at("d_lockref.count"), at("d_parent"), at("d_sb")) else {
        return Ok(Vec::new());
    };
    let shape = Shape { count, parent, super_block };
    let (dentries, children) = read(world, cache, &shape)?;
    let own = |one: &&One| one.count > children.get(&one.addr).copied().unwrap_or(0);
    let suspects: Vec<One> = dentries.iter().filter(own).copied().collect();
    if suspects.is_empty() || session.is_live() {
        return Ok(Vec::new());
    }
    let holders = holders(session, &suspects)?;
    let mut surplus: BTreeMap<u64, Vec<(One, i64)>> = BTreeMap::new();
    for one in &suspects {
        let more = one.count - holders.get(&one.addr).copied().unwrap_or(0);
        surplus.entry(one.super_block).or_default().push((*one, more));
    }
    let backed = session.offset("super_block", "s_bdev").ok();
    let mut out = Vec::new();
    for (super_block, suspects) in surplus {
        let is_on_disk = match backed {
            Some(member) => world.read::<1>(super_block.wrapping_add(member))?.is_some_and(|[device]| device != 0),
            None => false,
        };
        let usual = if is_on_disk { 0 } else { usual(&suspects) };
        out.extend(suspects.iter().filter(|(_, more)| *more > usual).map(|(one, more)| {
            let verdict = format!(
                "the count of this dentry is {}, and {} are accounted for: at least {} references too many, taken and never put",
                one.count,
                one.count - more + usual,
                more - usual
            );
            Finding { kind: Kind::Refcount, at: one.addr.wrapping_add(shape.count), verdict, freed: None }
        }));
    }
    Ok(out)
}

/// The dentries in use, and how many children each has.
fn read(world: &World<'_>, cache: usize, shape: &Shape) -> Result<(Vec<One>, HashMap<u64, i64>)> {
    let (mut dentries, mut children) = (Vec::new(), HashMap::new());
    let ended = world.slabs.each(world.session, cache, State::Allocated, &mut |addr| {
        if dentries.len() == MAX {
            return Err(Error::Stop);
        }
        let len = shape.count.max(shape.parent).max(shape.super_block) + 8;
        let Some(bytes) = world.memory(addr, len)? else { return Ok(()) };
        let word = |offset: u64| crate::page::word(&bytes, offset as usize);
        // below zero it is dying, and holds nobody any more
        let count = i64::from(word(shape.count) as u32 as i32);
        if count >= 0 {
            dentries.push(One { addr, count, super_block: word(shape.super_block) });
            *children.entry(word(shape.parent)).or_insert(0) += i64::from(word(shape.parent) != addr);
        }
        Ok(())
    });
    match ended {
        Ok(()) | Err(Error::Stop) => Ok((dentries, children)),
        Err(e) => Err(e),
    }
}

/// How many words hold the address of each, but its own.
fn holders(session: &Session, suspects: &[One]) -> Result<HashMap<u64, i64>> {
    let graph = Graph::of(session)?;
    let nodes: HashMap<u32, u64> =
        suspects.iter().filter_map(|one| Some((graph.object_at(one.addr)?, one.addr))).collect();
    let mut found: HashMap<u64, i64> = HashMap::new();
    for (word, node) in graph.words_to(session, &|node| nodes.contains_key(&node), &|_| true)? {
        let Some(addr) = nodes.get(&node) else { continue };
        if graph.object_at(word) != Some(node) && session.u64(word).ok() == Some(*addr) {
            *found.entry(*addr).or_default() += 1;
        }
    }
    Ok(found)
}

/// How many references that nobody has are usual for a file system in memory: what more than a few of its dentries have.
fn usual(suspects: &[(One, i64)]) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    suspects.iter().for_each(|(_, more)| *counts.entry(*more).or_default() += 1);
    let often = suspects.len().div_ceil(20).max(3);
    counts.into_iter().rev().find(|(_, count)| *count >= often).map_or(1, |(more, _)| more).max(1)
}
