//! XArrays: `struct xarray`, from numbers to pointers (include/linux/xarray.h). Page caches, ids, per-cgroup lists.
//!
//! A tree of nodes with 64 slots each. What a slot holds, its two lowest bits tell: a pointer, an integer, or, with
//! `10`, something of the array's own: a node further down, or a mark that the slot belongs to its neighbour.
//!
//! A node knows its parent and its place there: while both are right, no node can come twice. Where one is wrong, the
//! walk leaves that node out, and notes it.
//!
//! ```console
//! > ff2ee9c204c4c968::print -a struct inode i_data.i_pages.xa_head i_data.nrpages
//! ff2ee9c204c4cae8 i_data.i_pages.xa_head = 0xff2ee9c20445a24a
//! ff2ee9c204c4cb30 i_data.nrpages = 0xda
//! > ff2ee9c204c4cae0::walk xarray | ::count
//! COUNT
//!   218
//! ```

use engine::{ViewEntry, prelude::*};

/// `struct xa_node`.
#[derive(View)]
#[ctype("xa_node")]
struct Node {
    #[addr]
    addr: u64,
    /// bits of the index below those that this node decides
    shift: u8,
    /// its slot in its parent
    offset: u8,
    parent: u64,
    slots: At,
}

/// Internal entries up to here are marks, above they are nodes (`xa_is_node`).
const LAST_MARK: u64 = 4096;
/// More slots than any kernel gives a node (`XA_CHUNK_SIZE`).
const MAX_SLOTS: u64 = 256;

/// How this kernel lays out its nodes.
struct Shape {
    slots: u64,
    bits: u32,
}

/// Shows every entry of the array, with its index, to `visit`, in order. Entries may be pointers with tags in their
/// lowest bits, or integers (bit 0 set).
pub fn each(session: &Session, array: u64, visit: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let head = array.wrapping_add(session.offset("xarray", "xa_head")?);
    let head = session.u64(head).doing(|| format!("reading the head of an xarray at {array:#x}"))?;
    let slots = session.place("xa_node", "slots").map_or(0, |f| f.bits / 64).clamp(1, MAX_SLOTS);
    let shape = Shape { slots, bits: slots.next_power_of_two().trailing_zeros() };
    match head {
        0 => Ok(()),
        head if is_node(head) => match load(session, head - 2, 0)? {
            Some(node) if u32::from(node.shift) < 64 => shape.walk(session, &node, 0, visit),
            Some(node) => {
                session.notes.add(node.addr, "xarray node of impossible height");
                Ok(())
            }
            None => Ok(()),
        },
        entry if is_internal(entry) => Ok(()),
        entry => visit(0, entry),
    }
}

fn is_internal(entry: u64) -> bool {
    entry & 3 == 2
}

fn is_node(entry: u64) -> bool {
    is_internal(entry) && entry > LAST_MARK
}

fn load(session: &Session, at: u64, parent: u64) -> Result<Option<Node>> {
    match session.view::<Node>(at) {
        Ok(node) if node.parent == parent => return Ok(Some(node)),
        Ok(_) => session.notes.add(at, "xarray node that does not point back at its parent"),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => session.notes.add(at, format!("xarray node: {}", e.kind())),
    }
    Ok(None)
}

impl Shape {
    /// Deeper by one level with each call, and `shift` shrinks with each: at most a dozen.
    fn walk(
        &self,
        session: &Session,
        node: &Node,
        base: u64,
        visit: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = vec![0; self.slots as usize * 8];
        match session.read(node.slots.0, &mut bytes) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(node.addr, format!("xarray node: {}", e.kind()));
                return Ok(());
            }
            Ok(()) => {}
        }
        let entries = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes));
        for (slot, entry) in (0u64..).zip(entries) {
            let index = base.wrapping_add(slot << node.shift);
            if is_node(entry) {
                let Some(child) = load(session, entry - 2, node.addr)? else { continue };
                let below = u32::from(node.shift).checked_sub(self.bits) == Some(child.shift.into());
                if !below || u64::from(child.offset) != slot {
                    session.notes.add(child.addr, "xarray node that is not in its place");
                    continue;
                }
                self.walk(session, &child, index, visit)?;
            } else if entry != 0 && !is_internal(entry) {
                visit(index, entry)?;
            }
        }
        Ok(())
    }
}

/// Walks arrays.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "xarray",
    doc: "walk the entries of the struct xarray at the address, in the order of their indices",
    item: "",
    address: Address::Required,
    walk: |cx, at, visit| {
        let array = at.ok_or_else(|| Error::Usage("an xarray is walked from its own address".into()))?;
        each(cx, array.addr, &mut |_, entry| visit(entry))
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Node>()];
