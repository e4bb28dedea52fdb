//! Nodes of xarrays and radix trees, `struct xa_node`: each counts its slots that hold something, and knows its parent.

use super::{Finding, Kind, World};
use engine::prelude::*;

/// Where the members are.
#[derive(Clone, Debug)]
pub struct Shape {
    count: u64,
    offset: u64,
    parent: u64,
    array: u64,
    slots: u64,
    /// how many slots there are
    len: u64,
}

/// Entries of the array's own up to here are marks, above they are nodes (`xa_is_node`).
const LAST_MARK: u64 = 4096;

impl Shape {
    /// The kernel's; `None` if it has no such struct.
    pub fn of(session: &Session) -> Option<Shape> {
        let at = |member| session.offset("xa_node", member).ok();
        let slots = session.place("xa_node", "slots")?;
        Some(Shape {
            count: at("count")?,
            offset: at("offset")?,
            parent: at("parent")?,
            array: at("array")?,
            slots: slots.bit_offset / 8,
            len: slots.bits / 64,
        })
    }
}

/// What is wrong with a node and those below it.
pub fn node(world: &World<'_>, at: u64, object: &[u8], shape: &Shape, out: &mut Vec<Finding>) -> Result<()> {
    let word = |offset: u64| crate::page::word(object, offset as usize);
    // of one that waits to be freed, or for its use, it is no pointer
    if word(shape.array) >> 63 == 0 {
        return Ok(());
    }
    let entries = || (0..shape.len).map(|i| (i, word(shape.slots + i * 8)));
    for (slot, entry) in entries().filter(|(_, entry)| entry & 3 == 2 && *entry > LAST_MARK) {
        let child = entry - 2;
        let Some([parent]) = world.read::<1>(child.wrapping_add(shape.parent))? else { continue };
        let place = world.session.u8(child.wrapping_add(shape.offset)).map_or(slot, u64::from);
        if parent != at || place != slot {
            let verdict = format!("slot {slot} of {at:x} leads to this node, which says slot {place} of {parent:x}");
            out.push(Finding { kind: Kind::Array, at: child, verdict, freed: None });
        }
    }
    for (slot, entry) in entries().filter(|(_, entry)| super::is_pointer(*entry)) {
        if let Some(freed) = world.freed(entry)? {
            let verdict = format!("slot {slot} holds {entry:x}, in an object that was freed while in the array");
            out.push(Finding {
                kind: Kind::Array,
                at: at.wrapping_add(shape.slots + slot * 8),
                verdict,
                freed: Some(freed),
            });
        }
    }
    let held = entries().filter(|(_, entry)| *entry != 0).count() as u64;
    let counted = word(shape.count) & 0xff;
    if held != counted {
        let verdict = format!("the node counts {counted} slots in use, it has {held}");
        out.push(Finding { kind: Kind::Array, at: at.wrapping_add(shape.count), verdict, freed: None });
    }
    Ok(())
}
