//! What /sys is made of: `struct kobject` (include/linux/kobject.h), and the sets of them (`struct kset`).
//!
//! Nothing but the files of /sys leads down from a kobject to those below it: each is a directory, `struct kernfs_node`,
//! whose `priv` is its kobject. A set has a list of its members, which may lie anywhere.
//!
//! ```console
//! > ::walk kobject | ::print struct kobject name | ::head -n 3
//! name = 0xffff9d0340fb7a60 "kernel"
//! name = 0xffff9d0340fb7a70 "power"
//! name = 0xffff9d03410d6640 "class"
//! ```

use crate::{list, rbtree};
use engine::{ViewEntry, prelude::*};

/// `struct kobject`.
#[derive(View, Clone, Debug)]
#[ctype("kobject")]
pub struct Kobject {
    /// its address
    #[addr]
    pub addr: u64,
    name: u64,
    /// the kobject that it is below; 0: of the root of /sys
    pub parent: u64,
    /// the set that it is in
    pub kset: u64,
    /// `struct kobj_type`
    #[field("ktype")]
    pub kind: u64,
    /// its directory, `struct kernfs_node`; 0 if it has none
    #[field("sd")]
    pub directory: u64,
    /// who holds it
    #[field("kref.refcount.refs.counter")]
    pub references: i32,
}

/// A file of /sys: `struct kernfs_node` (include/linux/kernfs.h).
#[derive(View)]
#[ctype("kernfs_node")]
struct Node {
    flags: u32,
    #[field("dir.children")]
    children: At,
    #[field("priv")]
    what: u64,
}

/// `KERNFS_TYPE_MASK`, `KERNFS_DIR`.
const KIND: u32 = 0xf;
const DIRECTORY: u32 = 1;
/// Longest name.
const MAX_NAME: usize = 256;
/// Deeper than any path in /sys.
const MAX_DEPTH: usize = 64;

impl Kobject {
    /// Its name.
    pub fn name(&self, session: &Session) -> Result<String> {
        if self.name == 0 { Ok(String::new()) } else { session.cstr(self.name, MAX_NAME) }
    }

    /// Where it is below /sys: its parents' names and its own.
    pub fn path(&self, session: &Session) -> Result<String> {
        let (mut path, mut at) = (self.name(session)?, self.parent);
        for _ in 0..MAX_DEPTH {
            if at == 0 {
                return Ok(path);
            }
            let parent: Kobject = session.view(at)?;
            path = format!("{}/{path}", parent.name(session)?);
            at = parent.parent;
        }
        session.notes.add(self.addr, "kobject whose parents run in a ring");
        Ok(path)
    }
}

/// Visits the members of a set.
pub fn of_set(session: &Session, kset: u64, visit: Visit<'_>) -> Result<()> {
    let link = session.offset("kobject", "entry")?;
    list::list(session, kset.wrapping_add(session.offset("kset", "list")?), link, visit)
}

/// Shows each kobject below the one at `at`, or all, to `visit`, with how deep it lies: those below it come behind it.
pub fn below(session: &Session, at: Option<u64>, visit: &mut dyn FnMut(u64, usize) -> Result<()>) -> Result<()> {
    let directory = match at {
        Some(at) => session.view::<Kobject>(at)?.directory,
        None => session.u64(session.symbol("sysfs_root_kn")?)?,
    };
    if directory == 0 {
        return Ok(());
    }
    within(session, directory, 0, visit)
}

fn within(
    session: &Session,
    directory: u64,
    depth: usize,
    visit: &mut dyn FnMut(u64, usize) -> Result<()>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        session.notes.add(directory, "directory of /sys that lies deeper than one can");
        return Ok(());
    }
    let (link, node) = (session.offset("kernfs_node", "rb")?, session.view::<Node>(directory)?);
    rbtree::each(session, node.children.0, &mut |at| {
        let at = at.wrapping_sub(link);
        let node: Node = match session.view(at) {
            Ok(node) => node,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(at, format!("file of /sys: {}", e.kind()));
                return Ok(());
            }
        };
        if node.flags & KIND != DIRECTORY {
            return Ok(());
        }
        // groups of attributes are directories of the same kobject
        let own = node.what != 0 && session.view::<Kobject>(node.what).is_ok_and(|kobject| kobject.directory == at);
        if own {
            visit(node.what, depth)?;
        }
        within(session, at, depth + usize::from(own), visit)
    })
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "kobject",
        doc: "walk all kobjects that are directories of /sys, or those below the struct kobject at the address",
        item: "struct kobject",
        address: Address::Optional,
        walk: |cx, at, visit| below(cx, at.map(|o| o.addr), &mut |kobject, _| visit(kobject)),
    },
    WalkerEntry {
        name: "kset",
        doc: "walk the members of the struct kset at the address",
        item: "struct kobject",
        address: Address::Required,
        walk: |cx, at, visit| of_set(cx, at.map_or(0, |o| o.addr), visit),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Kobject>(), ViewEntry::of::<Node>()];
