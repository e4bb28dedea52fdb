//! Nodes of red-black trees, `struct rb_node` (include/linux/rbtree_types.h): the parent with the colour in its lowest
//! bit, the right child, the left child.
//!
//! A node that was taken out keeps its words, and so does a tree that was given up as a whole (`root = RB_ROOT`, as for
//! vmalloc areas that wait to be purged). So a node is believed to be in a tree only if its parent has it as a child, and
//! so on up to the top, and if an object in use or a variable leads to that: the tree's root.

use super::{Finding, Kind, World, is_pointer};
use crate::slab::verify::verdict;
use engine::prelude::*;
use std::collections::HashSet;

/// The lowest bit of the parent: black.
const BLACK: u64 = 1;

/// A tree of all of memory's bytes would be no deeper: a balanced one is at most twice as deep as it must be.
const MAX_DEPTH: usize = 128;

/// Damage in a tree, which counts if the tree is one.
pub struct Suspicion {
    /// the node at the top
    pub top: u64,
    /// what is wrong if it is one
    pub finding: Finding,
}

/// What is wrong between the node at `at` and its children.
pub fn node(world: &World<'_>, at: u64, out: &mut Vec<Suspicion>) -> Result<()> {
    let Some([parent, right, left]) = world.read::<3>(at)? else { return Ok(()) };
    if parent & !3 == at || (right == 0 && left == 0) {
        return Ok(());
    }
    if right == left {
        let finding =
            Finding { kind: Kind::Tree, at, verdict: format!("both children of this node are {left:x}"), freed: None };
        out.extend(top(world, at)?.map(|top| Suspicion { top, finding }));
        return Ok(());
    }
    for child in [right, left].into_iter().filter(|child| *child != 0) {
        if let Some(finding) = between(world, at, parent, child)? {
            out.extend(top(world, at)?.map(|top| Suspicion { top, finding }));
        }
    }
    Ok(())
}

/// What fills freed memory where `slub_debug` is on (`POISON_FREE` in include/linux/poison.h).
const POISON: u64 = 0x6b6b_6b6b_6b6b_6b6b;

/// A node that was freed in its tree, of objects whose type nobody knows: the word at `at` leads to `to`, where `ahead` is.
/// Either that knows the node which the word is a child of, or it is a root's and knows its own children, or it is
/// poisoned and the word is in a node that is in a tree.
pub fn freed(world: &World<'_>, at: u64, to: u64, ahead: [u64; 2], out: &mut Vec<Suspicion>) -> Result<()> {
    let [back, other] = ahead;
    let is_filled = back == POISON && other == POISON;
    let node = [8, 16].map(|child| at.wrapping_sub(child)).into_iter().find(|node| back & !3 == *node);
    if node.is_none() && back != BLACK && !is_filled {
        return Ok(());
    }
    let Some(freed) = world.freed(to)? else { return Ok(()) };
    let verdict = format!("a tree leads to {to:x}, in an object that was freed while in the tree");
    let finding = Finding { kind: Kind::Tree, at, verdict, freed: Some(freed) };
    let top = match node {
        Some(node) => top(world, node)?,
        None if back == BLACK => keeps_child(world, to)?.then_some(to),
        None => match top(world, at.wrapping_sub(8))? {
            Some(top) => Some(top),
            None => top(world, at.wrapping_sub(16))?,
        },
    };
    out.extend(top.map(|top| Suspicion { top, finding }));
    Ok(())
}

/// The top of the tree that a node is in, if each node up to there is the child of the next.
fn top(world: &World<'_>, node: u64) -> Result<Option<u64>> {
    let mut at = node;
    for _ in 0..MAX_DEPTH {
        let Some([parent]) = world.read::<1>(at)? else { return Ok(None) };
        let parent = parent & !3;
        if parent == 0 {
            // one that was taken out from the top has no child any more that knows it
            return Ok((at != node || has_child(world, at)?).then_some(at));
        }
        if !is_pointer(parent) || world.freed(parent)?.is_some() {
            return Ok(None);
        }
        match world.read::<3>(parent)? {
            Some([_, right, left]) if right == at || left == at => at = parent,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether one of a node's children has it as its parent, and is in use. In a tree that was given up all are gone.
fn keeps_child(world: &World<'_>, node: u64) -> Result<bool> {
    let Some([_, right, left]) = world.read::<3>(node)? else { return Ok(false) };
    for child in [right, left] {
        if is_pointer(child) && world.freed(child)?.is_none() && has_child(world, node)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of a node's children has it as its parent.
pub fn has_child(world: &World<'_>, node: u64) -> Result<bool> {
    let Some([_, right, left]) = world.read::<3>(node)? else { return Ok(false) };
    for child in [right, left].into_iter().filter(|child| is_pointer(*child)) {
        if world.read::<1>(child)?.is_some_and(|[parent]| parent & !3 == node) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of the suspicions whose tree has a root: a word that leads to its top and is not one of the tree's own.
pub fn rooted(world: &World<'_>, suspicions: Vec<Suspicion>) -> Result<Vec<Finding>> {
    let tops: HashSet<u64> = suspicions.iter().map(|suspicion| suspicion.top).collect();
    if tops.is_empty() {
        return Ok(Vec::new());
    }
    let mut alive = HashSet::new();
    for (at, top) in world.places_of(&tops, false)? {
        // a red child has its parent's plain address, at its own start
        let own = world.read::<3>(top)?.is_some_and(|[_, right, left]| at == right || at == left);
        if !own {
            alive.insert(top);
        }
    }
    Ok(suspicions.into_iter().filter(|s| alive.contains(&s.top)).map(|s| s.finding).collect())
}

fn between(world: &World<'_>, at: u64, parent: u64, child: u64) -> Result<Option<Finding>> {
    let finding = |at, verdict| Some(Finding { kind: Kind::Tree, at, verdict, freed: None });
    let read = if is_pointer(child) { world.read::<1>(child)? } else { None };
    let Some([back]) = read else {
        let what = verdict::describe(world.session, child).unwrap_or_else(|| format!("{child:#x}"));
        return Ok(finding(at, format!("a child of this node is {what}")));
    };
    if let Some(freed) = world.freed(child)? {
        let verdict = format!("the tree leads to {child:x}, in an object that was freed while in the tree");
        return Ok(Some(Finding { kind: Kind::Tree, at, verdict, freed: Some(freed) }));
    }
    Ok(match back & !3 {
        wrong if wrong != at => {
            let what = verdict::describe(world.session, wrong).unwrap_or_else(|| format!("{wrong:#x}"));
            finding(child, format!("the parent of this node should be {at:x}, it is {what}"))
        }
        _ if parent & BLACK == 0 && back & BLACK == 0 => {
            finding(child, format!("this node is red, and so is its parent {at:x}"))
        }
        _ => None,
    })
}
