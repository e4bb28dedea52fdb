//! Nodes of red-black trees, `struct rb_node` (include/linux/rbtree_types.h): the parent with the colour in its lowest
//! bit, the right child, the left child.
//!
//! A node that was taken out keeps its words. So a node is believed to be in a tree only if its parent has it as a child,
//! or, at the top, if a child has it as its parent.

use super::{Finding, Kind, World, is_pointer};
use crate::slab::verify::verdict;
use engine::prelude::*;

/// The lowest bit of the parent: black.
const BLACK: u64 = 1;

/// What is wrong between the node at `at` and its children.
pub fn node(world: &World<'_>, at: u64, out: &mut Vec<Finding>) -> Result<()> {
    let Some([parent, right, left]) = world.read::<3>(at)? else { return Ok(()) };
    if parent & !3 == at || (right == 0 && left == 0) || !attached(world, at, parent & !3, [right, left])? {
        return Ok(());
    }
    if right == left {
        let verdict = format!("both children of this node are {left:x}");
        out.push(Finding { kind: Kind::Tree, at, verdict, freed: None });
        return Ok(());
    }
    for child in [right, left].into_iter().filter(|child| *child != 0) {
        if let Some(finding) = between(world, at, parent, child)? {
            out.push(finding);
        }
    }
    Ok(())
}

fn attached(world: &World<'_>, at: u64, parent: u64, children: [u64; 2]) -> Result<bool> {
    if parent == 0 {
        for child in children.into_iter().filter(|child| is_pointer(*child)) {
            if world.read::<1>(child)?.is_some_and(|[parent]| parent & !3 == at) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    if !is_pointer(parent) || world.freed(parent)?.is_some() {
        return Ok(false);
    }
    Ok(world.read::<3>(parent)?.is_some_and(|[_, right, left]| right == at || left == at))
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
