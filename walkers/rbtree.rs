//! Red-black trees: `struct rb_root`, walked in order (lib/rbtree.c).
//!
//! Each node knows its parent, and has two different children: while both hold, no node can come twice. Where one does
//! not, the walk leaves that branch out, and notes it.
//!
//! ```console
//! > init_task::print -a nsproxy->mnt_ns->mounts
//! ff2ee9c2041d30e0 nsproxy->mnt_ns->mounts = {
//!     ff2ee9c2041d30e0 nsproxy->mnt_ns->mounts.rb_node = 0xff2ee9c204b171c0
//! }
//! > ff2ee9c2041d30e0::walk rbtree | ::count
//! COUNT
//!    12
//! ```

use engine::{ViewEntry, prelude::*};

/// `struct rb_node`.
#[derive(View)]
#[ctype("rb_node")]
struct Node {
    /// the parent, and the colour in the lowest bit
    #[field("__rb_parent_color")]
    parent: u64,
    #[field("rb_left")]
    left: u64,
    #[field("rb_right")]
    right: u64,
}

/// A tree of all of memory's bytes would be no deeper: a balanced one is at most twice as deep as it must be.
const MAX_DEPTH: usize = 128;

/// Visits every node of the tree whose `struct rb_root` is at `root`, in order.
pub fn each(session: &Session, root: u64, visit: Visit<'_>) -> Result<()> {
    let mut at = session.u64(root).doing(|| format!("reading the root of a tree at {root:#x}"))?;
    let mut parent = 0;
    // nodes whose left branch is being walked, with their right ones
    let mut open: Vec<(u64, u64)> = Vec::new();
    loop {
        while let Some(node) = sound(session, at, parent)? {
            if open.len() >= MAX_DEPTH {
                session.notes.add(at, "tree deeper than a balanced one can be");
                break;
            }
            let twice = node.left != 0 && node.left == node.right;
            if twice {
                session.notes.add(at, "tree node with one child on both sides");
            }
            open.push((at, if twice { 0 } else { node.right }));
            (at, parent) = (node.left, at);
        }
        let Some((node, right)) = open.pop() else { return Ok(()) };
        visit(node)?;
        (at, parent) = (right, node);
    }
}

/// The node at an address, if there is one and it is `parent`'s.
fn sound(session: &Session, at: u64, parent: u64) -> Result<Option<Node>> {
    if at == 0 {
        return Ok(None);
    }
    match session.view::<Node>(at) {
        Ok(node) if node.parent & !3 == parent => return Ok(Some(node)),
        Ok(_) => session.notes.add(at, "tree node that does not point back at its parent"),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => session.notes.add(at, format!("tree node: {}", e.kind())),
    }
    Ok(None)
}

/// Walks trees.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "rbtree",
    doc: "walk the nodes of the red-black tree whose struct rb_root is at the address, in order",
    item: "struct rb_node",
    address: Address::Required,
    walk: |cx, at, visit| {
        let root = at.ok_or_else(|| Error::Usage("a tree is walked from the address of its root".into()))?;
        each(cx, root.addr, visit)
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Node>()];
