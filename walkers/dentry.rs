//! Names of files: `struct dentry` (include/linux/dcache.h), a tree for each filesystem.
//!
//! Every dentry is an object of the slab cache `dentry`, so `::walk dentry` finds them all. The walkers here go the
//! kernel's own ways: from a directory to what is in it, from a filesystem to all of it, along the lists of those that
//! may be reclaimed.
//!
//! ```console
//! > ::walk super_block | ::walk dentry_sb | ::count
//! COUNT
//!  8638
//! > ff2ee9c204488b40::walk dentry_children | ::dentry
//! ADDR             INODE            FS     REF FLAGS PATH
//! ff2ee9c204488f00 ff2ee9c20448f8c8 devpts   1       /ptmx
//! ```

use crate::{
    list::{self, Hlist},
    list_lru,
    super_block::{self, SuperBlock},
};
use engine::{ViewEntry, prelude::*};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A name.
#[derive(View, Clone, Debug)]
#[ctype("dentry")]
pub struct Dentry {
    /// its address
    #[addr]
    pub addr: u64,
    #[field("d_flags")]
    flags: u32,
    /// the directory it is in; itself, if it is a root
    #[field("d_parent")]
    pub parent: u64,
    #[field("d_name.name")]
    name: u64,
    #[field("d_name.len")]
    len: u32,
    /// the file; 0 if there is none of that name
    #[field("d_inode")]
    pub inode: u64,
    /// its filesystem
    #[field("d_sb")]
    pub super_block: u64,
    /// how many use it, names below it among them
    #[field("d_lockref.count")]
    pub count: i32,
    #[field("d_hash.pprev")]
    hashed: u64,
    #[field("d_lru")]
    lru: At,
    #[field("d_lru.next")]
    lru_next: u64,
}

impl Dentry {
    /// Whether it is the root of a tree: of its filesystem, or of a piece whose place is not known.
    pub fn is_root(&self) -> bool {
        self.parent == self.addr
    }

    /// Whether it only remembers that there is no such file.
    pub fn is_negative(&self) -> bool {
        self.inode == 0
    }

    /// Whether no look-up finds it any more: the file was removed, or its name is looked up anew each time. Roots are
    /// never looked up. The kernel calls that `d_unlinked()`.
    pub fn is_unlinked(&self) -> bool {
        self.hashed == 0 && !self.is_root()
    }

    /// Whether it is on a list of those that may be reclaimed, or are being so.
    pub fn is_on_lru(&self) -> bool {
        self.lru_next != 0 && self.lru_next != self.lru.0
    }

    /// Whether the kernel has given it up, and its memory waits for the end of a grace period (`lockref_mark_dead()`).
    pub fn is_dead(&self) -> bool {
        self.count < 0
    }

    /// Whether it is no name but the place in a directory that a reader has come to; in the directory's list once the
    /// reader has begun.
    pub fn is_cursor(&self, session: &Session) -> bool {
        /// a macro before Linux 6.15
        const DCACHE_DENTRY_CURSOR: i64 = 1 << 29;
        let flag = session.enumerator("DCACHE_DENTRY_CURSOR").unwrap_or(DCACHE_DENTRY_CURSOR);
        i64::from(self.flags) & flag != 0
    }

    /// Bytes of its own name.
    pub fn name_len(&self) -> usize {
        self.len as usize
    }

    /// Its own name. Note and question mark if it cannot be read.
    pub fn name(&self, session: &Session) -> Result<String> {
        let note = |what: String| {
            session.notes.add(self.addr, what);
            Ok("?".to_owned())
        };
        if self.len as usize > PATH_MAX {
            return note("dentry with a name of impossible length".into());
        }
        let mut bytes = vec![0; self.len as usize];
        match session.read(self.name, &mut bytes) {
            Ok(()) => {}
            Err(e) if e.is_control() => return Err(e),
            Err(e) => return note(format!("name of a dentry: {}", e.kind())),
        }
        // the kernel stops there as well: it may look while a name is replaced
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(text(bytes))
    }
}

/// The kernel itself prints no longer path: dentry_path() has a page for it, and says ENAMETOOLONG.
const PATH_MAX: usize = 4096;
/// As many names as a path of that length can have.
const MAX_DEPTH: usize = PATH_MAX / 2;

/// A name may be any bytes: those that are no UTF-8 are spelled out, `\xe4`.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| {
        let mut out = String::new();
        for chunk in e.as_bytes().utf8_chunks() {
            out.push_str(chunk.valid());
            out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
        }
        out
    })
}

/// A path within a filesystem.
#[derive(Debug)]
pub struct Path {
    /// `/etc/passwd`; begins with `?` if the way to the root is damaged
    pub text: String,
    /// the filesystem
    super_block: u64,
}

/// Paths of directories, each put together once.
#[derive(Default)]
pub struct Paths(Mutex<Known>);

#[derive(Default)]
struct Known {
    directories: HashMap<u64, Arc<Path>>,
    bytes: usize,
}

impl Known {
    /// Memory for paths; when it is full, all are forgotten.
    const MAX_BYTES: usize = 64 << 20;

    fn insert(&mut self, dentry: u64, path: Arc<Path>) {
        self.bytes += path.text.len() + size_of::<(u64, Path)>();
        if self.bytes > Known::MAX_BYTES {
            *self = Known::default();
        }
        self.directories.insert(dentry, path);
    }
}

impl Paths {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Paths>> {
        session.once(|| Ok(Paths::default()))
    }

    /// The path of a dentry within its filesystem, as the kernel's `dentry_path_raw()` has it.
    pub fn path(&self, session: &Session, dentry: &Dentry) -> Result<String> {
        if dentry.is_root() {
            return Ok("/".to_owned());
        }
        self.path_of(session, dentry, &dentry.name(session)?)
    }

    /// As [`Paths::path`], for those who have read the name already.
    pub fn path_of(&self, session: &Session, dentry: &Dentry, name: &str) -> Result<String> {
        if dentry.is_root() {
            return Ok("/".to_owned());
        }
        let directory = self.directory(session, dentry.parent, dentry.super_block)?;
        Ok(join(session, &directory, dentry.addr, name))
    }

    /// The path of a directory, to put names behind: empty for a root.
    fn directory(&self, session: &Session, mut at: u64, super_block: u64) -> Result<Arc<Path>> {
        let broken = |at: u64, what: String| {
            session.notes.add(at, what);
            Arc::new(Path { text: "?".to_owned(), super_block })
        };
        let mut below: Vec<Dentry> = Vec::new();
        let mut path = loop {
            if let Some(path) = self.known(at) {
                break path;
            }
            let dentry: Dentry = match session.view(at) {
                Ok(dentry) => dentry,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => break broken(at, format!("parent of a dentry: {}", e.kind())),
            };
            if dentry.super_block != super_block {
                break broken(at, "parent of a dentry that is in another filesystem, or no dentry".into());
            }
            if dentry.is_root() {
                let root = Arc::new(Path { text: String::new(), super_block });
                self.keep(at, &root);
                break root;
            }
            if below.len() >= MAX_DEPTH {
                break broken(at, "dentry whose parents do not end".into());
            }
            at = dentry.parent;
            below.push(dentry);
        };
        if path.super_block != super_block {
            path = broken(at, "parent of a dentry that is in another filesystem, or no dentry".into());
        }
        for dentry in below.iter().rev() {
            let name = dentry.name(session)?;
            path = Arc::new(Path { text: join(session, &path, dentry.addr, &name), super_block });
            self.keep(dentry.addr, &path);
        }
        Ok(path)
    }

    fn known(&self, dentry: u64) -> Option<Arc<Path>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).directories.get(&dentry).cloned()
    }

    fn keep(&self, dentry: u64, path: &Arc<Path>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(dentry, Arc::clone(path));
    }
}

/// A name behind its directory's path.
fn join(session: &Session, directory: &Path, dentry: u64, name: &str) -> String {
    let mut path = String::with_capacity(directory.text.len() + 1 + name.len());
    path.push_str(&directory.text);
    path.push('/');
    path.push_str(name);
    if path.len() > PATH_MAX {
        session.notes.add(dentry, "path longer than 4096 bytes: its start is left out");
        let cut = path.len() - PATH_MAX;
        let start = (cut..path.len()).find(|i| path.is_char_boundary(*i)).unwrap_or(path.len());
        path.replace_range(..start, "?");
    }
    path
}

// ---- trees and lists --------------------------------------------------------------------------------------------

/// How a directory holds what is in it.
struct Children {
    /// whether the list is an hlist: `d_children` and `d_sib` since Linux 6.8 (da549bdd15c2), `d_subdirs` and `d_child`
    /// before
    hlist: bool,
    head: u64,
    link: u64,
}

impl Children {
    fn of(session: &Session) -> Result<Arc<Children>> {
        session.once(|| {
            let hlist = session.has_member("dentry", "d_children");
            let (head, link) = if hlist { ("d_children", "d_sib") } else { ("d_subdirs", "d_child") };
            let (head, link) = (session.offset("dentry", head)?, session.offset("dentry", link)?);
            Ok(Children { hlist, head, link })
        })
    }

    fn each(&self, session: &Session, dentry: u64, visit: Visit<'_>) -> Result<()> {
        let head = dentry.wrapping_add(self.head);
        match self.hlist {
            true => list::hlist(session, Hlist::Plain, head, self.link, visit),
            false => list::list(session, head, self.link, visit),
        }
    }
}

/// Visits what the kernel remembers of a directory: names in it, cursors of open directories too.
pub fn children(session: &Session, dentry: u64, visit: Visit<'_>) -> Result<()> {
    Children::of(session)?.each(session, dentry, visit)
}

/// Visits all of a filesystem: its tree, directories first, then pieces that hang on no tree (files that NFS clients
/// asked for by number).
pub fn of_super_block(session: &Session, super_block: u64, visit: Visit<'_>) -> Result<()> {
    let view: SuperBlock = session.view(super_block)?;
    if view.root != 0 {
        tree(session, view.root, visit)?;
    }
    let Some(roots) = session.place("super_block", "s_roots") else { return Ok(()) };
    let head = super_block.wrapping_add(roots.bit_offset / 8);
    let plain = session.types.spell(roots.ctype) == "struct hlist_head";
    // `struct hlist_bl_head`, through d_hash, until 7.x made it an hlist through d_sib
    let (kind, link) = if plain { (Hlist::Plain, "d_sib") } else { (Hlist::Locked, "d_hash") };
    list::hlist(session, kind, head, session.offset("dentry", link)?, &mut |root| tree(session, root, visit))
}

/// Visits a dentry and all below it. A name is in one directory only, the one it points back at: so none comes twice.
fn tree(session: &Session, root: u64, visit: Visit<'_>) -> Result<()> {
    let children = Children::of(session)?;
    let parent = session.offset("dentry", "d_parent")?;
    let mut waiting = vec![root];
    while let Some(dentry) = waiting.pop() {
        visit(dentry)?;
        let first = waiting.len();
        let listed = children.each(session, dentry, &mut |child| {
            match session.u64(child.wrapping_add(parent)) {
                Ok(back) if back == dentry && child != root => waiting.push(child),
                Ok(_) => session.notes.add(child, "dentry in a directory that is not its parent"),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(child, format!("dentry: {}", e.kind())),
            }
            Ok(())
        });
        match listed {
            Err(e) if e.is_unreadable() => session.notes.add(dentry, format!("names in a directory: {}", e.kind())),
            result => result?,
        }
        if let Some(new) = waiting.get_mut(first..) {
            new.reverse();
        }
    }
    Ok(())
}

/// Visits those names of a filesystem that nobody uses and that may be reclaimed.
pub fn lru(session: &Session, super_block: u64, visit: Visit<'_>) -> Result<()> {
    let lists = super_block.wrapping_add(session.offset("super_block", "s_dentry_lru")?);
    list_lru::each(session, lists, session.offset("dentry", "d_lru")?, visit)
}

fn from(at: Option<Object>, what: &str) -> Result<u64> {
    at.map(|o| o.addr).ok_or_else(|| Error::Usage(format!("this walk starts at a {what}")))
}

/// For the filesystem at the address, or for all.
fn for_each(
    cx: &Cx<'_>,
    at: Option<Object>,
    visit: Visit<'_>,
    walk: fn(&Session, u64, Visit<'_>) -> Result<()>,
) -> Result<()> {
    match at {
        Some(super_block) => walk(cx, super_block.addr, visit),
        None => super_block::each(cx, &mut |super_block| walk(cx, super_block, visit)),
    }
}

/// Walks names.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "dentry_children",
        doc: "walk the names that the kernel remembers in the directory whose struct dentry is at the address",
        item: "struct dentry",
        address: Address::Required,
        walk: |cx, at, visit| children(cx, from(at, "struct dentry")?, visit),
    },
    WalkerEntry {
        name: "dentry_sb",
        doc: "walk the tree of names of the filesystem whose struct super_block is at the address, or of all",
        item: "struct dentry",
        address: Address::Optional,
        walk: |cx, at, visit| for_each(cx, at, visit, of_super_block),
    },
    WalkerEntry {
        name: "dentry_lru",
        doc: "walk the names that may be reclaimed, of the filesystem at the address or of all",
        item: "struct dentry",
        address: Address::Optional,
        walk: |cx, at, visit| for_each(cx, at, visit, lru),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Dentry>()];
