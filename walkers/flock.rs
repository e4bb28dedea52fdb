//! Locks on files: `struct file_lock` (include/linux/filelock.h), on the lists of the inode's `struct file_lock_context`.
//!
//! ```console
//! > ::walk file_lock | ::count
//! COUNT
//!     2
//! ```

use crate::{
    file::{self, File},
    inode::Inode,
    list,
};
use engine::{ViewEntry, prelude::*};
use std::collections::HashSet;

/// A lock, or a wish for one. What all kinds have is in a `struct file_lock_core` since Linux 6.9 (a69ce85ec9af).
#[derive(View, Clone, Debug)]
#[ctype("file_lock")]
pub struct Lock {
    /// its address
    #[addr]
    pub addr: u64,
    /// `FL_…`
    #[field("c.flc_flags", "fl_flags")]
    pub flags: u32,
    #[field("c.flc_type", "fl_type")]
    kind: u8,
    /// the process that asked for it
    #[field("c.flc_pid", "fl_pid")]
    pub pid: i32,
    /// the file that it was asked for by
    #[field("c.flc_file", "fl_file")]
    pub file: u64,
    /// first byte
    #[field("fl_start")]
    pub start: u64,
    /// last byte
    #[field("fl_end")]
    pub end: u64,
    #[field("c.flc_blocked_requests", "fl_blocked_requests")]
    waiting: At,
}

/// The largest offset of a file: a lock up to there has no end.
pub const EVERYTHING: u64 = i64::MAX as u64;

impl Lock {
    /// As in /proc/locks.
    pub fn kind(&self) -> &'static str {
        /// `FL_…`: macros
        const POSIX: u32 = 1;
        const FLOCK: u32 = 2;
        const DELEG: u32 = 4;
        const LEASE: u32 = 32;
        const OFD: u32 = 1024;
        match self.flags {
            f if f & POSIX != 0 && f & OFD != 0 => "OFDLCK",
            f if f & POSIX != 0 => "POSIX",
            f if f & FLOCK != 0 => "FLOCK",
            f if f & DELEG != 0 => "DELEG",
            f if f & LEASE != 0 => "LEASE",
            _ => "?",
        }
    }

    /// What it allows.
    pub fn mode(&self) -> &'static str {
        match self.kind {
            0 => "READ",
            1 => "WRITE",
            2 => "UNLCK",
            _ => "?",
        }
    }

    /// Visits the wishes that wait for it.
    pub fn waiters(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        list::list(session, self.waiting.0, member(session, "flc_blocked_member", "fl_blocked_member")?, visit)
    }
}

fn member(session: &Session, new: &str, old: &str) -> Result<u64> {
    session.offset("file_lock", &format!("c.{new}")).or_else(|_| session.offset("file_lock", old))
}

/// Visits the locks on an inode.
pub fn of_inode(session: &Session, inode: u64, visit: Visit<'_>) -> Result<()> {
    let locks = session.view::<Inode>(inode)?.locks;
    if locks == 0 {
        return Ok(());
    }
    let link = member(session, "flc_list", "fl_list")?;
    for kind in ["flc_flock", "flc_posix", "flc_lease"] {
        let head = locks.wrapping_add(session.offset("file_lock_context", kind)?);
        list::list(session, head, link, visit)?;
    }
    Ok(())
}

/// Visits every lock on a file that is open: a lock goes when the last one who has its file open closes it.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    file::each(session, &mut |at| {
        let Ok(file) = session.view::<File>(at) else { return Ok(()) };
        if file.inode == 0 || !seen.insert(file.inode) {
            return Ok(());
        }
        match of_inode(session, file.inode, visit) {
            Err(e) if e.is_unreadable() => {
                session.notes.add(file.inode, format!("locks of a file: {}", e.kind()));
                Ok(())
            }
            result => result,
        }
    })
}

/// Walks locks.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "file_lock",
    doc: "walk the locks on the struct inode at the address, or on all open files",
    item: "struct file_lock",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(at) => of_inode(cx, crate::inode::chosen(cx, at)?, visit),
        None => each(cx, visit),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Lock>()];
