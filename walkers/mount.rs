//! Mounts: `struct mount` (fs/mount.h), and where each is in its namespace.
//!
//! ```console
//! > ::walk mount | ::head -2 | ::print mnt_devname
//! mnt_devname = 0xff2ee9c2041eb478 "rootfs"
//! mnt_devname = 0xff2ee9c2041ebc98 "proc"
//! ```

use crate::{
    dentry::{Dentry, Paths},
    list, rbtree, task,
};
use engine::{ViewEntry, prelude::*};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// A mount.
#[derive(View, Clone, Debug)]
#[ctype("mount")]
pub struct Mount {
    /// its address
    #[addr]
    pub addr: u64,
    /// the mount it is on; itself, if it is the first of its namespace
    #[field("mnt_parent")]
    pub parent: u64,
    /// the directory it is on, in the filesystem of its parent
    #[field("mnt_mountpoint")]
    pub mountpoint: u64,
    /// what of its filesystem it shows: a directory, the root mostly
    #[field("mnt.mnt_root")]
    pub root: u64,
    /// its filesystem, `struct super_block`
    #[field("mnt.mnt_sb")]
    pub super_block: u64,
    #[field("mnt.mnt_flags")]
    flags: u64,
    #[field("mnt_devname")]
    source: u64,
    /// its number
    #[field("mnt_id")]
    pub id: i32,
}

/// Options of a mount: their enumerators, which were macros of the same values before Linux 6.16, their values, and
/// their names in /proc/mounts.
const OPTIONS: &[(&str, u64, &str)] = &[
    ("MNT_NOSUID", 0x01, "nosuid"),
    ("MNT_NODEV", 0x02, "nodev"),
    ("MNT_NOEXEC", 0x04, "noexec"),
    ("MNT_NOATIME", 0x08, "noatime"),
    ("MNT_NODIRATIME", 0x10, "nodiratime"),
    ("MNT_RELATIME", 0x20, "relatime"),
    ("MNT_NOSYMFOLLOW", 0x80, "nosymfollow"),
];
const READONLY: (&str, u64) = ("MNT_READONLY", 0x40);

/// More mounts on mounts than anyone has.
const MAX_DEPTH: usize = 1024;

impl Mount {
    /// What was mounted: a device, `proc`, …; as it was given to mount(2).
    pub fn source(&self, session: &Session) -> Result<String> {
        if self.source == 0 {
            return Ok("none".to_owned());
        }
        session.cstr(self.source, 4096)
    }

    /// Its own options, as in /proc/PID/mountinfo: those of its filesystem are not among them.
    pub fn options(&self, session: &Session) -> String {
        let set = |name, before| self.flags & session.enumerator(name).map_or(before, |v| v as u64) != 0;
        let mut all = vec![if set(READONLY.0, READONLY.1) { "ro" } else { "rw" }];
        all.extend(OPTIONS.iter().filter(|(name, before, _)| set(name, *before)).map(|(_, _, option)| option));
        all.join(",")
    }

    /// The directory of its filesystem that it shows.
    pub fn root_path(&self, session: &Session) -> Result<String> {
        Paths::of(session)?.path(session, &session.view::<Dentry>(self.root)?)
    }

    /// Where it is in its namespace.
    pub fn path(&self, session: &Session) -> Result<String> {
        path(session, self, self.root)
    }
}

/// The path of a dentry of a mount in the mount's namespace, as `d_path()` has it for a process that has the
/// namespace's root.
pub fn path(session: &Session, mount: &Mount, dentry: u64) -> Result<String> {
    let place = Places::of(session)?.get(session, mount)?;
    let text = match dentry == mount.root {
        true => place.above.clone(),
        false => place.below(&Paths::of(session)?.path(session, &session.view::<Dentry>(dentry)?)?),
    };
    Ok(if text.is_empty() { "/".to_owned() } else { text })
}

/// Where a mount is.
struct Place {
    /// the path of what it is on; empty if that is the root
    above: String,
    /// the path of what it shows, in its filesystem
    root: String,
}

impl Place {
    /// The path of what has the path `inner` in the filesystem; without the slash of a root.
    fn below(&self, inner: &str) -> String {
        match below(inner, &self.root) {
            Some(part) => format!("{}{part}", self.above),
            // what was moved out of the part of its filesystem that is mounted here
            None => format!("(unreachable){inner}"),
        }
    }
}

/// Where mounts are, each found out once.
#[derive(Default)]
struct Places(Mutex<HashMap<u64, Arc<Place>>>);

impl Places {
    fn of(session: &Session) -> Result<Arc<Places>> {
        session.once(|| Ok(Places::default()))
    }

    fn known(&self, mount: u64) -> Option<Arc<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&mount).cloned()
    }

    fn keep(&self, session: &Session, mount: &Mount, above: String) -> Result<Arc<Place>> {
        /// far more than mounts; what does not fit is found out again
        const MOST: usize = 1 << 16;
        let place = Arc::new(Place { above, root: mount.root_path(session)? });
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() < MOST {
            map.insert(mount.addr, Arc::clone(&place));
        }
        Ok(place)
    }

    fn get(&self, session: &Session, mount: &Mount) -> Result<Arc<Place>> {
        let (mut waiting, mut mount) = (Vec::new(), mount.clone());
        let mut place = loop {
            if let Some(place) = self.known(mount.addr) {
                break place;
            }
            if mount.parent == mount.addr {
                break self.keep(session, &mount, String::new())?;
            }
            if waiting.len() > MAX_DEPTH || waiting.iter().any(|m: &Mount| m.addr == mount.addr) {
                return Err(Error::Corrupt { addr: mount.addr, what: "mounts that are on each other".into() });
            }
            let parent = session.view(mount.parent)?;
            waiting.push(std::mem::replace(&mut mount, parent));
        };
        let paths = Paths::of(session)?;
        for mount in waiting.iter().rev() {
            let on = paths.path(session, &session.view::<Dentry>(mount.mountpoint)?)?;
            place = self.keep(session, mount, place.below(&on))?;
        }
        Ok(place)
    }
}

/// What of a path is below a directory: empty, or from a slash on.
fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let rest = if directory == "/" { path } else { path.strip_prefix(directory)? };
    match rest {
        "/" => Some(""),
        rest => (rest.is_empty() || rest.starts_with('/')).then_some(rest),
    }
}

/// The mount namespace, `struct mnt_namespace`, of a task.
pub fn namespace(session: &Session, task: u64) -> Result<u64> {
    let proxy = session.u64(task.wrapping_add(session.offset("task_struct", "nsproxy")?))?;
    if proxy == 0 {
        return Err(Error::Unavailable(format!("the task at {task:#x} has exited and is in no namespace")));
    }
    session.u64(proxy.wrapping_add(session.offset("nsproxy", "mnt_ns")?))
}

/// Visits every mount namespace that a process is in, the first one first.
pub fn namespaces(session: &Session, visit: Visit<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    let mut once = |task| match namespace(session, task) {
        Ok(namespace) if seen.insert(namespace) => visit(namespace),
        Ok(_) | Err(Error::Unavailable(_)) => Ok(()),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(task, format!("namespace of a task: {}", e.kind()));
            Ok(())
        }
    };
    once(session.symbol("init_task")?)?;
    task::leaders(session, &mut once)
}

/// Visits every mount of a namespace, in the order of their numbers; before Linux 6.8, in that of the tree.
pub fn each(session: &Session, namespace: u64, visit: Visit<'_>) -> Result<()> {
    if let Some(head) = session.place("mnt_namespace", "list") {
        let link = session.offset("mount", "mnt_list")?;
        let sb = session.offset("mount", "mnt.mnt_sb")?;
        return list::list(session, namespace.wrapping_add(head.bit_offset / 8), link, &mut |mount| {
            // readers of /proc/mounts keep their place by a cursor in the list (9f6c61f96f2d, Linux 5.8 to 6.7)
            match session.u64(mount.wrapping_add(sb)) {
                Ok(0) => Ok(()),
                Err(e) if e.is_control() => Err(e),
                _ => visit(mount),
            }
        });
    }
    // since Linux 6.8 (2eea9ce4310d)
    let node = session.offset("mount", "mnt_node")?;
    let root = namespace.wrapping_add(session.offset("mnt_namespace", "mounts")?);
    rbtree::each(session, root, &mut |at| visit(at.wrapping_sub(node)))
}

/// The namespace that an address means: a task's, or itself; the first task's if there is none.
pub fn chosen(session: &Session, at: Option<Object>) -> Result<u64> {
    match at {
        None => namespace(session, session.symbol("init_task")?),
        Some(object) if object.ctype.is_some() && object.ctype == session.struct_type("task_struct") => {
            namespace(session, object.addr)
        }
        Some(object) => Ok(object.addr),
    }
}

/// Walks mounts.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "mount",
        doc: "walk the mounts of a namespace: of the struct mnt_namespace or task at the address, else the first one",
        item: "struct mount",
        address: Address::Optional,
        walk: |cx, at, visit| each(cx, chosen(cx, at)?, visit),
    },
    WalkerEntry {
        name: "mnt_namespace",
        doc: "walk the mount namespaces that processes are in",
        item: "struct mnt_namespace",
        address: Address::None,
        walk: |cx, _, visit| namespaces(cx, visit),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Mount>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_its_own_directories() {
        assert_eq!(below("/a/b", "/"), Some("/a/b"));
        assert_eq!(below("/", "/"), Some(""));
        assert_eq!(below("/a/b", "/a"), Some("/b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/b", "/a"), None);
    }
}
