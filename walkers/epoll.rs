//! Epolls: `struct eventpoll` (fs/eventpoll.c), a red-black tree of `struct epitem`, one for each file that is watched.
//!
//! ```console
//! > ::walk eventpoll | ::walk epitem | ::count
//! COUNT
//!     3
//! ```

use crate::{
    dentry::Dentry,
    file::{self, File},
    rbtree,
};
use engine::{ViewEntry, prelude::*};

/// A file that an epoll watches.
#[derive(View, Clone, Debug)]
#[ctype("epitem")]
pub struct Item {
    /// its address
    #[addr]
    pub addr: u64,
    /// the `struct file`
    #[field("ffd.file")]
    pub file: u64,
    /// the descriptor it was named by
    #[field("ffd.fd")]
    pub fd: u32,
    /// `EPOLL…` that are waited for
    #[field("event.events")]
    pub events: u32,
    /// what the process gets back
    #[field("event.data")]
    pub data: u64,
    #[field("rdllink")]
    link: At,
    #[field("rdllink.next")]
    next: u64,
}

impl Item {
    /// Whether it is on the list of those that something has happened to.
    pub fn is_ready(&self) -> bool {
        self.next != 0 && self.next != self.link.0
    }

    /// What is waited for, by name (include/uapi/linux/eventpoll.h).
    pub fn event_names(&self) -> Vec<&'static str> {
        const NAMES: [(u32, &str); 16] = [
            (0x1, "in"),
            (0x2, "pri"),
            (0x4, "out"),
            (0x8, "err"),
            (0x10, "hup"),
            (0x20, "nval"),
            (0x40, "rdnorm"),
            (0x80, "rdband"),
            (0x100, "wrnorm"),
            (0x200, "wrband"),
            (0x400, "msg"),
            (0x2000, "rdhup"),
            (1 << 28, "exclusive"),
            (1 << 29, "wakeup"),
            (1 << 30, "oneshot"),
            (1 << 31, "et"),
        ];
        NAMES.iter().filter(|(bit, _)| self.events & bit != 0).map(|(_, name)| *name).collect()
    }
}

/// The `struct eventpoll` of an open file; `None` if it is another kind of file. It is known by its name, which every
/// epoll has (`anon_inode_getfile("[eventpoll]", …)`).
pub fn of_file(session: &Session, file: u64) -> Result<Option<u64>> {
    let file: File = session.view(file)?;
    let dentry: Dentry = session.view(file.dentry)?;
    let own = dentry.is_root() && dentry.name(session)? == "[eventpoll]" && file.private != 0;
    Ok(own.then_some(file.private))
}

/// Visits every open epoll's file.
pub fn each_file(session: &Session, visit: Visit<'_>) -> Result<()> {
    file::each(session, &mut |at| match of_file(session, at) {
        Ok(Some(_)) => visit(at),
        Err(e) if e.is_control() => Err(e),
        _ => Ok(()),
    })
}

/// Visits what an epoll, given its `struct eventpoll`, watches.
pub fn items(session: &Session, eventpoll: u64, visit: Visit<'_>) -> Result<()> {
    let root = eventpoll.wrapping_add(session.offset("eventpoll", "rbr.rb_root")?);
    let node = session.offset("epitem", "rbn")?;
    rbtree::each(session, root, &mut |at| visit(at.wrapping_sub(node)))
}

/// The `struct eventpoll` that an address means: a file's, or itself.
pub fn chosen(session: &Session, at: Object) -> Result<u64> {
    if at.ctype.is_some() && at.ctype == session.struct_type("file") {
        return of_file(session, at.addr)?
            .ok_or_else(|| Error::Unavailable(format!("the file at {:#x} is no epoll", at.addr)));
    }
    Ok(at.addr)
}

/// Walks epolls.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "eventpoll",
        doc: "walk all open epolls",
        item: "struct eventpoll",
        address: Address::None,
        walk: |cx, _, visit| each_file(cx, &mut |file| of_file(cx, file)?.map_or(Ok(()), &mut *visit)),
    },
    WalkerEntry {
        name: "epitem",
        doc: "walk what the epoll at the address, a struct eventpoll or file, watches",
        item: "struct epitem",
        address: Address::Required,
        walk: |cx, at, visit| {
            let at = at.ok_or_else(|| Error::Usage("what is watched is walked from an epoll".into()))?;
            items(cx, chosen(cx, at)?, visit)
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Item>()];
