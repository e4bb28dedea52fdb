//! Maple trees: `struct maple_tree`, from ranges of numbers to pointers (lib/maple_tree.c). Mappings of processes since
//! Linux 6.1, interrupts since 6.5.
//!
//! A node is 256 bytes, aligned so, and the low byte of a pointer to it says of what kind it is. Between its slots stand
//! pivots: the last index that belongs to the slot before. Behind the last one in use they are 0, or never looked at.
//!
//! A node knows its parent and its slot there: while both are right, no node can come twice. Where one is wrong, or
//! pivots do not grow, the walk leaves out what is below, and notes it.
//!
//! ```console
//! > 0t1::pid2task | ::print -a mm->mm_mt.ma_root
//! ff386d1d84051888 mm->mm_mt.ma_root = 0xff386d1d8342a40e
//! > ff386d1d84051880::walk maple_tree | ::head -n 2
//! 0xff386d1d83e60998
//! 0xff386d1d83e60338
//! ```

use engine::prelude::*;

/// Kinds of nodes (`enum maple_type`), in bits 3 to 6 of a pointer to one.
const LEAF: u64 = 1;
const RANGE: u64 = 2;
const ALLOC_RANGE: u64 = 3;

/// `MAPLE_NODE_MASK`: nodes are aligned to what it covers.
const NODE_MASK: u64 = 0xff;
/// `MA_ROOT_PARENT`: the parent is the tree itself.
const ROOT_PARENT: u64 = 1;
/// Address of the tree whose top the node is that has this parent.
pub fn tree_of(parent: u64) -> Option<u64> {
    (parent & ROOT_PARENT != 0).then_some(parent & !(ROOT_PARENT | 2))
}

/// Address of the node that a tree's root leads to.
pub fn top(root: u64) -> u64 {
    root & !NODE_MASK
}
/// Which slot of the parent, in its pointer (`MAPLE_PARENT_SLOT_MASK`, the same for all kinds of 64 bits).
const PARENT_SLOT: (u64, u32) = (0xf8, 3);
/// `MAPLE_HEIGHT_MAX`.
const MAX_DEPTH: u32 = 31;
/// Internal entries up to here are marks, above they are nodes (`xa_is_node`).
const LAST_MARK: u64 = 4096;

/// Where a kind of node has its pivots and its slots: offsets, and how many words there are.
#[derive(Clone, Copy)]
struct Shape {
    pivots: (usize, usize),
    slots: (usize, usize),
}

impl Shape {
    fn of(session: &Session, ctype: &str) -> Result<Shape> {
        let words = |member: &str| {
            let offset = session.offset(ctype, member)?;
            let bytes = session.place(ctype, member).map_or(0, |f| f.bits / 8);
            // both lie in the node, or nothing is read of them
            Ok::<_, Error>((offset.min(NODE_MASK) as usize, (bytes.min(NODE_MASK + 1) / 8) as usize))
        };
        Ok(Shape { pivots: words("pivot")?, slots: words("slot")? })
    }
}

struct Walk<'a> {
    session: &'a Session,
    range: Shape,
    alloc_range: Shape,
    visit: &'a mut dyn FnMut(u64, u64, u64) -> Result<()>,
    fault: &'a mut dyn FnMut(u64, String),
}

/// Shows every entry of the tree to `visit`, with the first and the last index it stands for, in order. What is wrong
/// with a node is noted.
pub fn each(session: &Session, tree: u64, visit: &mut dyn FnMut(u64, u64, u64) -> Result<()>) -> Result<()> {
    let fault = &mut |at, what| session.notes.add(at, format!("maple tree node {what}"));
    each_or_fault(session, tree, visit, fault)
}

/// [`each`], with the address of each node that is no right one, and what is wrong with it, shown to `fault`.
pub fn each_or_fault(
    session: &Session,
    tree: u64,
    visit: &mut dyn FnMut(u64, u64, u64) -> Result<()>,
    fault: &mut dyn FnMut(u64, String),
) -> Result<()> {
    let root = tree.wrapping_add(session.offset("maple_tree", "ma_root")?);
    let root = session.u64(root).doing(|| format!("reading the root of a maple tree at {tree:#x}"))?;
    match root {
        0 => Ok(()),
        root if is_internal(root) && root > LAST_MARK => {
            let (range, alloc_range) = (Shape::of(session, "maple_range_64")?, Shape::of(session, "maple_arange_64")?);
            Walk { session, range, alloc_range, visit, fault }.node(root, None, (0, u64::MAX), 0)
        }
        root if is_internal(root) => Ok(()),
        entry => visit(0, 0, entry),
    }
}

fn is_internal(entry: u64) -> bool {
    entry & 3 == 2
}

fn word(bytes: &[u8], array: (usize, usize), index: usize) -> Option<u64> {
    let at = array.0 + index * 8;
    let word = bytes.get(at..at + 8).filter(|_| index < array.1)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

impl Walk<'_> {
    /// Shows what is below a node, given the pointer to it, its parent and slot there, and the indices it stands for.
    fn node(&mut self, pointer: u64, parent: Option<(u64, u64)>, span: (u64, u64), depth: u32) -> Result<()> {
        let (at, kind) = (pointer & !NODE_MASK, pointer >> 3 & 0xf);
        let shape = match kind {
            LEAF | RANGE => self.range,
            ALLOC_RANGE => self.alloc_range,
            _ => return self.fault(at, "of a kind that is not known"),
        };
        if depth >= MAX_DEPTH {
            return self.fault(at, "deeper than a tree can be");
        }
        let mut bytes = [0; NODE_MASK as usize + 1];
        match self.session.read(at, &mut bytes) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) => return self.fault(at, &format!("that cannot be read: {}", e.kind())),
            Ok(()) => {}
        }
        let back = word(&bytes, (0, 1), 0).unwrap_or(0);
        let right = match parent {
            None => back & ROOT_PARENT != 0,
            Some((parent, slot)) => {
                back & ROOT_PARENT == 0
                    && back & !NODE_MASK == parent
                    && (back & PARENT_SLOT.0) >> PARENT_SLOT.1 == slot
            }
        };
        if !right {
            let dead = back & !NODE_MASK == at;
            return self.fault(
                at,
                if dead { "that is dead, its own parent" } else { "that does not point back at its parent" },
            );
        }
        let mut first = span.0;
        for slot in 0..shape.slots.1 {
            let Some(entry) = word(&bytes, shape.slots, slot) else {
                return self.fault(at, "with slots outside of it");
            };
            let last = match word(&bytes, shape.pivots, slot) {
                Some(0) if slot > 0 => span.1,
                Some(pivot) => pivot,
                None => span.1,
            };
            if last < first || last > span.1 {
                return self.fault(
                    at,
                    &format!("whose pivots do not grow: {last:#x} where {first:#x} to {:#x} is left", span.1),
                );
            }
            if kind != LEAF {
                if entry & !NODE_MASK == 0 {
                    return self.fault(at, "with an empty branch");
                }
                self.node(entry, Some((at, slot as u64)), (first, last), depth + 1)?;
            } else if entry != 0 && !is_internal(entry) {
                (self.visit)(first, last, entry)?;
            }
            if last == span.1 {
                return Ok(());
            }
            first = last + 1;
        }
        self.fault(at, "that ends too early")
    }

    fn fault(&mut self, at: u64, what: &str) -> Result<()> {
        (self.fault)(at, what.to_owned());
        Ok(())
    }
}

/// Walks trees.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "maple_tree",
    doc: "walk the entries of the struct maple_tree at the address, in the order of their indices",
    item: "",
    address: Address::Required,
    walk: |cx, at, visit| {
        let tree = at.ok_or_else(|| Error::Usage("a maple tree is walked from its own address".into()))?;
        each(cx, tree.addr, &mut |_, _, entry| visit(entry))
    },
}];
