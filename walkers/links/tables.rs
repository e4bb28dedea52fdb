//! Hash tables: an array of heads, each of which leads to an entry whose `pprev` leads back to the head, and so on along
//! the chain. An entry that was put into a second chain without leaving the first, or that a chain still leads to when it
//! is freed, is told by the other heads of the table, which fit.
//!
//! The kernel's own large tables have names. Others are found by their shape: words in a row that are 0 or heads.

use super::{Finding, Kind, World, is_pointer};
use crate::slab;
use engine::prelude::*;
use rayon::prelude::*;
use std::collections::HashMap;

/// Heads of one table that must fit before one that does not is damage.
const MIN_HEADS: usize = 8;
/// Heads on either side of it that must.
const MIN_BESIDE: usize = 2;
/// Empty heads in a row that end a table.
const MAX_EMPTY: usize = 256;
/// Entries of one chain that are followed.
const MAX_CHAIN: usize = 1 << 16;
/// Heads that do not fit and are kept.
const MAX_ODD: usize = 16;
/// Heads of a table with a name: more than any machine has.
const MAX_HEADS: u64 = 1 << 30;
/// Heads that are looked at as one piece.
const PIECE: u64 = 1 << 12;

/// Tables with names: the variable that leads to the table, that with its size, and whether that is how far a hash of 32
/// bits is shifted, or the highest index. `struct hlist_bl_head`s have a lock in the lowest bit.
const NAMED: &[(&str, &str, Size)] = &[
    ("inode_hashtable", "i_hash_mask", Size::Mask),
    ("dentry_hashtable", "d_hash_shift", Size::Shift),
    ("mount_hashtable", "m_hash_mask", Size::Mask),
    ("mountpoint_hashtable", "mp_hash_mask", Size::Mask),
];

/// How the kernel says how large a table is.
#[derive(Clone, Copy)]
enum Size {
    Mask,
    Shift,
}

/// The tables with names.
pub fn named(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let mut out = Vec::new();
    for (name, size, how) in NAMED {
        let (Some(table), Some(size)) = (session.kernel_symbol(name), session.kernel_symbol(size)) else { continue };
        let (Some([table]), Ok(size)) = (world.read::<1>(table)?, session.u32(size)) else { continue };
        let heads = match how {
            Size::Mask => u64::from(size) + 1,
            Size::Shift => 1u64 << 32u32.saturating_sub(size).min(31),
        };
        if !is_pointer(table) || heads > MAX_HEADS {
            continue;
        }
        let pieces: Vec<u64> = (0..heads).step_by(PIECE as usize).collect();
        let parts = pieces.into_par_iter().map(|first| piece(world, name, table + first * 8, PIECE.min(heads - first)));
        out.extend(parts.collect::<Result<Vec<_>>>()?.concat());
    }
    Ok(out)
}

/// Some heads of a table in a row.
fn piece(world: &World<'_>, name: &str, start: u64, heads: u64) -> Result<Vec<Finding>> {
    world.session.interrupt.check()?;
    let mut out = Vec::new();
    let Some(memory) = world.memory(start, heads * 8)? else { return Ok(out) };
    for (head, bytes) in (start..).step_by(8).zip(memory.chunks_exact(8)) {
        let first = bytes.try_into().map_or(0, u64::from_le_bytes) & !1;
        if is_pointer(first) {
            chain(world, head, first, &|| format!("a chain of {name}"), &mut out)?;
        }
    }
    Ok(out)
}

/// Follows a chain from its head on, as far as all links are answered.
fn chain(world: &World<'_>, head: u64, first: u64, what: &dyn Fn() -> String, out: &mut Vec<Finding>) -> Result<()> {
    let (mut from, mut at) = (head, first);
    for _ in 0..MAX_CHAIN {
        if !is_pointer(at) {
            return Ok(());
        }
        let Some([next, back]) = world.read::<2>(at)? else { return Ok(()) };
        if let Some(freed) = world.freed(at)? {
            let verdict = format!("{} leads to {at:x}, in an object that was freed while it was hashed", what());
            out.push(Finding { kind: Kind::Freed, at: from, verdict, freed: Some(freed) });
            return Ok(());
        }
        if back != from {
            let is_elsewhere = is_pointer(back) && world.read::<1>(back)?.is_some_and(|[to]| to & !1 == at);
            let verdict = match is_elsewhere {
                true => format!(
                    "{} leads here from {from:x}, and {back:x} does as well: one entry in two chains, it was added again \
                     without being taken out",
                    what()
                ),
                // in the middle of a chain the link of the entry in front has more witnesses
                false if from != head => return Ok(()),
                false => format!("pprev should be {from:x}, which leads here, it is {back:#x}"),
            };
            out.push(Finding { kind: Kind::Torn, at: at.wrapping_add(8), verdict, freed: None });
            return Ok(());
        }
        (from, at) = (at, next);
    }
    Ok(())
}

/// A row of words that may be a table.
#[derive(Default)]
pub struct Run {
    /// heads that fit
    heads: Vec<(u64, u64)>,
    /// heads that do not, each with how many fit in front of it
    odd: Vec<(u64, u64, usize)>,
    empty: usize,
}

impl Run {
    /// Takes the next word, at `at`, and what is behind the word that it leads to.
    pub fn add(
        &mut self,
        world: &World<'_>,
        at: u64,
        word: u64,
        back: Option<u64>,
        out: &mut Vec<Finding>,
    ) -> Result<()> {
        match back {
            _ if word == 0 && self.empty < MAX_EMPTY => self.empty += 1,
            // an empty list
            Some(_) if word.abs_diff(at) <= 8 => self.end(world, out)?,
            Some(back) if back == at => {
                self.heads.push((at, word));
                self.empty = 0;
            }
            Some(_) if !self.heads.is_empty() && self.odd.len() < MAX_ODD => {
                self.odd.push((at, word, self.heads.len()));
                self.empty = 0;
            }
            _ => self.end(world, out)?,
        }
        Ok(())
    }

    /// Judges what there is, and begins again.
    pub fn end(&mut self, world: &World<'_>, out: &mut Vec<Finding>) -> Result<()> {
        let (heads, odd) = (std::mem::take(&mut self.heads), std::mem::take(&mut self.odd));
        self.empty = 0;
        // a table that is damaged in many places is none
        let inside = |in_front: &usize| *in_front >= MIN_BESIDE && heads.len() - *in_front >= MIN_BESIDE;
        if heads.len() < MIN_HEADS || odd.len() * 8 > heads.len() {
            return Ok(());
        }
        // what is hashed in one table is of one kind
        let mut kinds: HashMap<(usize, i64), usize> = HashMap::new();
        for (_, word) in &heads {
            kind(world, *word)?.into_iter().for_each(|kind| *kinds.entry(kind).or_default() += 1);
        }
        let Some((most, _)) = kinds.into_iter().find(|(_, count)| *count * 4 >= heads.len() * 3) else { return Ok(()) };
        let odd = odd.iter().filter(|(_, _, in_front)| inside(in_front)).map(|(at, word, _)| (*at, *word));
        for (at, word) in heads.iter().copied().chain(odd) {
            if kind(world, word)? == Some(most) {
                chain(world, at, word, &|| "a chain of a hash table".into(), out)?;
            }
        }
        Ok(())
    }
}

/// The cache of the object that an entry lies in, and where in it.
fn kind(world: &World<'_>, entry: u64) -> Result<Option<(usize, i64)>> {
    Ok(slab::find(world.session, entry)?.map(|found| (found.cache, found.offset)))
}
