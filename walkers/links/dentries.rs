//! Dentries whose count is higher than anybody can have: references that were taken and never put. And inodes whose count is
//! lower than the dentries that have them: put too often.
//!
//! Whoever has a reference has the dentry's address: each child in `d_parent`, each open file, mount, working directory.
//! So all words in use that hold the very address are counted, and there may be more of them than references, as of those
//! who only look, but not fewer. Nobody has the one that file systems in memory take to keep a file.

use super::{Finding, Kind, World, is_pointer};
use crate::slab::State;
use engine::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What of a `struct dentry` counts.
#[derive(Clone, Copy)]
pub struct One {
    addr: u64,
    count: i64,
    super_block: u64,
}

/// Where in a `struct dentry` that is.
struct Shape {
    count: u64,
    parent: u64,
    super_block: u64,
    inode: u64,
}

/// The dentries in use, and what they have.
#[derive(Default)]
struct Dentries {
    all: Vec<One>,
    /// how many children each has
    children: HashMap<u64, i64>,
    /// how many dentries have each inode
    inodes: HashMap<u64, i64>,
}

/// Dentries of more than that are not looked at: more say nothing new.
const MAX: usize = 1 << 22;

/// The inodes that were put too often, and the dentries that may have been taken too often.
pub fn look(world: &World<'_>) -> Result<(Vec<Finding>, Suspects)> {
    let (session, none) = (world.session, (Vec::new(), Suspects::default()));
    let Some(cache) = world.slabs.caches.named("dentry").next() else { return Ok(none) };
    let at = |member: &str| session.offset("dentry", member);
    let (Ok(count), Ok(parent), Ok(super_block), Ok(inode)) =
        (at("d_lockref.count"), at("d_parent"), at("d_sb"), at("d_inode"))
    else {
        return Ok(none);
    };
    let dentries = read(world, cache, &Shape { count, parent, super_block, inode })?;
    let own = |one: &&One| one.count > dentries.children.get(&one.addr).copied().unwrap_or(0);
    let suspects = dentries.all.iter().filter(own).copied().collect();
    Ok((inodes(world, &dentries.inodes)?, Suspects { count, all: suspects }))
}

/// Dentries with more references than children.
#[derive(Default)]
pub struct Suspects {
    /// where in a `struct dentry` its count is
    count: u64,
    all: Vec<One>,
}

/// The inodes that have fewer references than dentries, each of which has one.
fn inodes(world: &World<'_>, inodes: &HashMap<u64, i64>) -> Result<Vec<Finding>> {
    let Ok(member) = world.session.offset("inode", "i_count") else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for (inode, dentries) in inodes {
        let at = inode.wrapping_add(member);
        let Some([count]) = world.read::<1>(at)? else { continue };
        let count = i64::from(count as u32 as i32);
        if count < *dentries && world.freed(*inode)?.is_none() {
            let verdict = format!("the count of this inode is {count}, and {dentries} dentries have it: put too often");
            out.push(Finding { kind: Kind::Refcount, at, verdict, freed: None });
        }
    }
    Ok(out)
}

impl Suspects {
    /// Their addresses.
    pub fn addrs(&self) -> HashSet<u64> {
        self.all.iter().map(|one| one.addr).collect()
    }

    /// What is wrong if that many words hold the address of each, and `usual` references to those of a file system in
    /// memory are nobody's.
    pub fn surplus(
        &self,
        world: &World<'_>,
        holders: &HashMap<u64, i64>,
        usual: fn(&[(One, i64)]) -> i64,
    ) -> Result<Vec<Finding>> {
        let mut surplus: BTreeMap<u64, Vec<(One, i64)>> = BTreeMap::new();
        for one in &self.all {
            let more = one.count - holders.get(&one.addr).copied().unwrap_or(0);
            surplus.entry(one.super_block).or_default().push((*one, more));
        }
        let backed = world.session.offset("super_block", "s_bdev").ok();
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
                Finding { kind: Kind::Refcount, at: one.addr.wrapping_add(self.count), verdict, freed: None }
            }));
        }
        Ok(out)
    }
}

/// The dentries in use.
fn read(world: &World<'_>, cache: usize, shape: &Shape) -> Result<Dentries> {
    let mut found = Dentries::default();
    let ended = world.slabs.each(world.session, cache, State::Allocated, &mut |addr| {
        if found.all.len() == MAX {
            return Err(Error::Stop);
        }
        let len = shape.count.max(shape.parent).max(shape.super_block).max(shape.inode) + 8;
        let Some(bytes) = world.memory(addr, len)? else { return Ok(()) };
        let word = |offset: u64| crate::page::word(&bytes, offset as usize);
        // below zero it is dying, and holds nobody any more
        let count = i64::from(word(shape.count) as u32 as i32);
        if count >= 0 {
            found.all.push(One { addr, count, super_block: word(shape.super_block) });
            *found.children.entry(word(shape.parent)).or_insert(0) += i64::from(word(shape.parent) != addr);
            let inode = word(shape.inode);
            if is_pointer(inode) {
                *found.inodes.entry(inode).or_insert(0) += 1;
            }
        }
        Ok(())
    });
    match ended {
        Ok(()) | Err(Error::Stop) => Ok(found),
        Err(e) => Err(e),
    }
}

/// How many references that nobody has are usual for a file system in memory: what more than a few of its dentries have.
pub fn usual(suspects: &[(One, i64)]) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    suspects.iter().for_each(|(_, more)| *counts.entry(*more).or_default() += 1);
    let often = suspects.len().div_ceil(20).max(3);
    counts.into_iter().rev().find(|(_, count)| *count >= often).map_or(1, |(more, _)| more).max(1)
}
