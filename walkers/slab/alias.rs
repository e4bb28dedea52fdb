//! Names of merged caches.
//!
//! The kernel answers a `kmem_cache_create()` with a cache that exists, if that has objects of the same size and the
//! same flags. The cache keeps its first name; the others are only known to sysfs, as links in `/sys/kernel/slab`
//! (`sysfs_slab_alias()`, mm/slub.c). Those links are read here from the kernel's own tree of sysfs (fs/kernfs).

use super::cache::Caches;
use crate::rbtree;
use engine::{ViewEntry, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

/// Every name that stands for a cache of another name.
#[derive(Debug, Default)]
pub struct Aliases(BTreeMap<String, usize>);

/// A file or folder of sysfs: `struct kernfs_node`.
#[derive(View)]
#[ctype("kernfs_node")]
struct Entry {
    name: String,
    flags: u16,
    #[field("dir.children")]
    children: At,
    #[field("symlink.target_kn")]
    target: u64,
    /// of the folder of a kobject: that
    #[field("priv")]
    private: u64,
}

/// `KERNFS_TYPE_MASK` and `KERNFS_LINK` (include/linux/kernfs.h).
const TYPE: u16 = 0xf;
const LINK: i64 = 4;

impl Aliases {
    /// The session's. There are none where the kernel has no sysfs for slabs.
    pub fn of(session: &Session) -> Result<Arc<Aliases>> {
        session.once(|| match Aliases::read(session) {
            // names more, names less: no reason to fail
            Err(e) if !e.is_control() => {
                session.notes.once(0, format!("names of merged slab caches: {e}"));
                Ok(Aliases::default())
            }
            found => found,
        })
    }

    fn read(session: &Session) -> Result<Aliases> {
        let mut found = Aliases::default();
        let kset = session.kernel_symbol("slab_kset").map_or(Ok(0), |at| session.u64(at))?;
        if kset == 0 {
            return Ok(found);
        }
        let caches = Caches::of(session)?;
        let folder = session.u64(kset.wrapping_add(session.offset("kset", "kobj.sd")?))?;
        let folder: Entry = session.view(folder)?;
        let (node, kobj) = (session.offset("kernfs_node", "rb")?, session.offset("kmem_cache", "kobj")?);
        let link = session.enumerator("KERNFS_LINK").unwrap_or(LINK);
        rbtree::each(session, folder.children.0, &mut |at| {
            let entry: Entry = match session.view(at.wrapping_sub(node)) {
                Err(e) if e.is_unreadable() => {
                    session.notes.add(at, format!("names of merged slab caches: {}", e.kind()));
                    return Ok(());
                }
                entry => entry?,
            };
            if i64::from(entry.flags & TYPE) != link {
                return Ok(());
            }
            let target = session.view::<Entry>(entry.target).map(|e| e.private.wrapping_sub(kobj));
            if let Some(number) = target.ok().and_then(|addr| caches.at(addr))
                && caches.get(number).is_some_and(|c| c.name() != entry.name)
            {
                found.0.insert(entry.name, number);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The number of the cache that a name stands for.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// All of them, with the number of the cache.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, cache)| (name.as_str(), *cache))
    }

    /// The other names of a cache.
    pub fn names(&self, cache: usize) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(_, number)| *number == cache).map(|(name, _)| name)
    }
}

/// The views of this file, for the test that holds them against kernels.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Entry>()];
