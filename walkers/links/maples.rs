//! Nodes of maple trees, `struct maple_node`: each knows its parent and the slot there, and its pivots grow.
//!
//! The trees are found by their top nodes, which know them.

use super::{Finding, Kind, World, is_pointer};
use crate::{maple, slab::State};
use engine::prelude::*;

/// What is wrong with the trees whose nodes are in cache number `cache`.
pub fn look(world: &World<'_>, cache: usize) -> Result<Vec<Finding>> {
    let session = world.session;
    let (mut trees, mut out) = (Vec::new(), Vec::new());
    world.slabs.each(session, cache, State::Allocated, &mut |node| {
        if let Some([parent]) = world.read::<1>(node)?
            && let Some(tree) = maple::tree_of(parent).filter(|tree| is_pointer(*tree))
        {
            trees.push((tree, node));
        }
        Ok(())
    })?;
    let Ok(root) = session.offset("maple_tree", "ma_root") else { return Ok(out) };
    for (tree, node) in trees {
        session.interrupt.check()?;
        // a node that was taken out keeps its words
        if world.read::<1>(tree.wrapping_add(root))?.is_some_and(|[root]| maple::top(root) == node) {
            walk(world, tree, &mut out)?;
        }
    }
    Ok(out)
}

fn walk(world: &World<'_>, tree: u64, out: &mut Vec<Finding>) -> Result<()> {
    let (mut held, mut faults) = (Vec::new(), Vec::new());
    let mut visit = |first: u64, _, entry: u64| {
        if is_pointer(entry)
            && let Some(freed) = world.freed(entry)?
        {
            held.push((first, entry, freed));
        }
        Ok(())
    };
    maple::each_or_fault(world.session, tree, &mut visit, &mut |at, what| faults.push((at, what)))?;
    // one that is missing from the dump is not damaged
    out.extend(faults.into_iter().filter(|(_, what)| !what.contains("cannot be read")).map(|(at, what)| Finding {
        kind: Kind::Tree,
        at,
        verdict: format!("the maple tree {tree:x} has a node {what}"),
        freed: None,
    }));
    out.extend(held.into_iter().map(|(index, entry, freed)| Finding {
        kind: Kind::Tree,
        at: tree,
        verdict: format!(
            "the maple tree holds {entry:x} for {index:#x}, in an object that was freed while in the tree"
        ),
        freed: Some(freed),
    }));
    Ok(())
}
