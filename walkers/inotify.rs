//! What inotify watches: the marks of a `struct fsnotify_group` (include/linux/fsnotify_backend.h).
//!
//! ```console
//! > ::walk inotify_mark | ::count
//! COUNT
//!     1
//! ```

use crate::{
    dentry::Dentry,
    file::{self, File},
    list,
};
use engine::{ViewEntry, prelude::*};

/// A watch.
#[derive(View, Clone, Debug)]
#[ctype("inotify_inode_mark")]
pub struct Watch {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    pub wd: i32,
    /// `FS_…`, which are `IN_…` of inotify(7)
    #[field("fsn_mark.mask")]
    pub mask: u32,
    #[field("fsn_mark.connector")]
    connector: u64,
}

/// What a mark hangs on: `struct fsnotify_mark_connector`.
#[derive(View)]
#[ctype("fsnotify_mark_connector")]
struct Connector {
    obj: u64,
}

impl Watch {
    /// The inode that is watched. The kernel keeps it, or before Linux 6.10 (230d97d39e63) where it points back from.
    pub fn inode(&self, session: &Session) -> Result<u64> {
        let object = session.view::<Connector>(self.connector)?.obj;
        let plain =
            session.place("fsnotify_mark_connector", "obj").is_some_and(|f| session.types.spell(f.ctype) == "void *");
        Ok(if plain { object } else { object.wrapping_sub(session.offset("inode", "i_fsnotify_marks")?) })
    }

    /// What is waited for, by name (include/uapi/linux/inotify.h).
    pub fn event_names(&self) -> Vec<&'static str> {
        const NAMES: [&str; 12] = [
            "access",
            "modify",
            "attrib",
            "close_write",
            "close_nowrite",
            "open",
            "moved_from",
            "moved_to",
            "create",
            "delete",
            "delete_self",
            "move_self",
        ];
        NAMES.iter().enumerate().filter(|(bit, _)| self.mask >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }
}

/// The group of an open inotify; `None` if it is another kind of file. It is known by its name (`anon_inode_getfd("inotify",
/// …)`).
pub fn of_file(session: &Session, file: u64) -> Result<Option<u64>> {
    let file: File = session.view(file)?;
    let dentry: Dentry = session.view(file.dentry)?;
    let own = dentry.is_root() && dentry.name(session)? == "inotify" && file.private != 0;
    Ok(own.then_some(file.private))
}

/// Visits the file of every open inotify.
pub fn each_file(session: &Session, visit: Visit<'_>) -> Result<()> {
    file::each(session, &mut |at| match of_file(session, at) {
        Ok(Some(_)) => visit(at),
        Err(e) if e.is_control() => Err(e),
        _ => Ok(()),
    })
}

/// Visits what a group watches.
pub fn watches(session: &Session, group: u64, visit: Visit<'_>) -> Result<()> {
    let head = group.wrapping_add(session.offset("fsnotify_group", "marks_list")?);
    let link = session.offset("inotify_inode_mark", "fsn_mark.g_list")?;
    list::list(session, head, link, visit)
}

/// Walks watches.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "inotify_mark",
    doc: "walk the watches of the inotify whose struct file is at the address, or of all",
    item: "struct inotify_inode_mark",
    address: Address::Optional,
    walk: |cx, at, visit| {
        let mut of = |file| of_file(cx, file)?.map_or(Ok(()), |group| watches(cx, group, visit));
        match at {
            Some(at) => of(at.addr),
            None => each_file(cx, &mut of),
        }
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Watch>(), ViewEntry::of::<Connector>()];
