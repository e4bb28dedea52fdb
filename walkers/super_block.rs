//! Mounted filesystems: `struct super_block` (include/linux/fs.h), all on the list `super_blocks`.
//!
//! ```console
//! > ::walk super_block | ::tail -3 | ::print s_id
//! s_id = [ "cgroup2" ]
//! s_id = [ "mqueue" ]
//! s_id = [ "tmpfs" ]
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A filesystem.
#[derive(View, Clone, Debug)]
#[ctype("super_block")]
pub struct SuperBlock {
    /// its address
    #[addr]
    pub addr: u64,
    /// `dev_t` of its device
    #[field("s_dev")]
    dev: u32,
    /// `SB_…`
    #[field("s_flags")]
    pub flags: u64,
    /// its root, `struct dentry`
    #[field("s_root")]
    pub root: u64,
    /// name of the device, or of the type where there is none
    #[field("s_id")]
    pub id: String,
    #[field("s_type")]
    kind: u64,
    #[field("s_subtype")]
    subtype: Option<u64>,
    /// how far it is frozen: `SB_UNFROZEN` to `SB_FREEZE_COMPLETE`
    #[field("s_writers.frozen")]
    frozen: u32,
}

/// Major and minor number of a `dev_t`.
pub fn split(device: u32) -> (u32, u32) {
    /// MINORBITS (include/linux/kdev_t.h)
    const MINOR: u32 = 20;
    (device >> MINOR, device & ((1 << MINOR) - 1))
}

/// `SB_RDONLY`, which is `MS_RDONLY` of mount(2) and can never change.
const RDONLY: u64 = 1;

impl SuperBlock {
    /// Major and minor number of its device.
    pub fn device(&self) -> (u32, u32) {
        split(self.dev)
    }

    /// Whether it is mounted read-only, as a whole.
    pub fn is_read_only(&self) -> bool {
        self.flags & RDONLY != 0
    }

    /// Whether writers have to wait: fsfreeze, or a snapshot that is taken.
    pub fn is_frozen(&self) -> bool {
        self.frozen != 0
    }

    /// Its type, as in /proc/mounts: `ext4`, `fuse.sshfs`.
    pub fn kind(&self, session: &Session) -> Result<String> {
        let name = self.kind.wrapping_add(session.offset("file_system_type", "name")?);
        let mut kind = session.cstr(session.u64(name)?, 64)?;
        if let Some(subtype) = self.subtype.filter(|at| *at != 0) {
            kind.push('.');
            kind.push_str(&session.cstr(subtype, 64)?);
        }
        Ok(kind)
    }
}

/// Types of filesystems, looked up once each.
#[derive(Default)]
pub struct Kinds(Mutex<HashMap<u64, Arc<str>>>);

impl Kinds {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Kinds>> {
        session.once(|| Ok(Kinds::default()))
    }

    /// The type of the filesystem whose `struct super_block` is at an address.
    pub fn get(&self, session: &Session, super_block: u64) -> Result<Arc<str>> {
        /// far more than filesystems; what does not fit is looked up again
        const MOST: usize = 1 << 14;
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&super_block) {
            return Ok(Arc::clone(known));
        }
        let kind: Arc<str> = session.view::<SuperBlock>(super_block)?.kind(session)?.into();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() < MOST {
            map.insert(super_block, Arc::clone(&kind));
        }
        Ok(kind)
    }
}

/// The filesystem in whose `struct super_block` an address lies.
pub fn around(session: &Session, addr: u64) -> Result<Option<SuperBlock>> {
    let (size, mut found) = (session.size_of("super_block")?, None);
    each(session, &mut |at| {
        if addr.wrapping_sub(at) < size {
            found = Some(at);
        }
        Ok(())
    })?;
    found.map(|at| session.view(at)).transpose()
}

/// Visits every filesystem, in the order in which they were mounted.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let head = session.symbol("super_blocks")?;
    list::list(session, head, session.offset("super_block", "s_list")?, visit)
}

/// Walks filesystems.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "super_block",
    doc: "walk all mounted filesystems, the kernel's own too",
    item: "struct super_block",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<SuperBlock>()];
