//! From a path to its name in memory, as the kernel itself would go, but for what it would have to read from a disk.
//!
//! ```console
//! > ::lookup /proc/sys
//! ADDR             INODE            FS   MOUNT            PATH
//! ff2ee9c2044b8b40 ff2ee9c2044c0588 proc ff2ee9c2041ebc00 /proc/sys
//! ```

use crate::{
    dentry::{self, Dentry},
    file::{self, Place},
    inode::{Inode, Kind},
    mount::{self, Mount},
    pagecache, task,
};
use engine::prelude::*;
use std::collections::HashMap;

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;
/// More mounts on one directory than anyone has.
const MAX_STACK: u32 = 1024;

/// A namespace that paths are looked up in.
pub struct Tree<'a> {
    session: &'a Session,
    root: Place,
    /// what is mounted where: by the parent's `struct mount` and the directory
    mounts: HashMap<(u64, u64), u64>,
    /// offset of the `struct vfsmount` in a `struct mount`
    inner: u64,
}

impl<'a> Tree<'a> {
    /// What a task sees; without one, the first process, or else the first task.
    pub fn of(session: &'a Session, task: Option<u64>) -> Result<Tree<'a>> {
        let task = match task {
            Some(task) => task,
            None => match task::Pids::of(session)?.get(1) {
                Some(init) => init,
                None => session.symbol("init_task")?,
            },
        };
        let (root, _) = file::places(session, task)?
            .ok_or_else(|| Error::Unavailable(format!("the task at {task:#x} has exited and is nowhere")))?;
        let mut mounts = HashMap::new();
        mount::each(session, mount::namespace(session, task)?, &mut |at| {
            match session.view::<Mount>(at) {
                Ok(mount) if mount.parent != mount.addr => {
                    mounts.insert((mount.parent, mount.mountpoint), at);
                }
                Ok(_) => {}
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("mount: {}", e.kind())),
            }
            Ok(())
        })?;
        let inner = session.offset("mount", "mnt")?;
        let tree = Tree { session, root, mounts, inner };
        Ok(Tree { root: tree.mounted(root)?, ..tree })
    }

    /// What is to be seen at a place: the root of what is mounted there last.
    fn mounted(&self, place: Place) -> Result<Place> {
        let mut place = place;
        for _ in 0..MAX_STACK {
            let Some(mount) = self.mounts.get(&(place.mount.wrapping_sub(self.inner), place.dentry)) else { break };
            let root = self.session.view::<Mount>(*mount)?.root;
            place = Place { mount: mount.wrapping_add(self.inner), dentry: root };
        }
        Ok(place)
    }

    /// The directory above a place; itself at the root.
    fn above(&self, place: Place) -> Result<Place> {
        let mut place = place;
        for _ in 0..MAX_STACK {
            if place == self.root {
                return Ok(place);
            }
            let mount: Mount = self.session.view(place.mount.wrapping_sub(self.inner))?;
            if place.dentry != mount.root {
                let parent = self.session.view::<Dentry>(place.dentry)?.parent;
                return self.mounted(Place { mount: place.mount, dentry: parent });
            }
            if mount.parent == mount.addr {
                return Ok(place);
            }
            place = Place { mount: mount.parent.wrapping_add(self.inner), dentry: mount.mountpoint };
        }
        Ok(place)
    }

    /// Looks a path up, from the root. The last name's own symbolic link is followed too if `follow`.
    pub fn find(&self, path: &str, follow: bool) -> Result<Place> {
        let mut waiting: Vec<String> = path.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let (mut place, mut links) = (self.root, 0);
        while let Some(name) = waiting.pop() {
            match name.as_str() {
                "." => continue,
                ".." => {
                    place = self.above(place)?;
                    continue;
                }
                _ => {}
            }
            let child = self.child(place, &name)?;
            let dentry: Dentry = self.session.view(child)?;
            if dentry.is_negative() {
                return Err(Error::Unavailable(format!(
                    "no such file: the kernel remembers that {} has no `{name}` (negative dentry {child:x})",
                    place.text(self.session)?
                )));
            }
            let next = self.mounted(Place { mount: place.mount, dentry: child })?;
            let last = waiting.is_empty();
            match self.link(&dentry)? {
                Some(target) if follow || !last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::Unavailable(format!("too many symbolic links in {path}")));
                    }
                    if target.starts_with('/') {
                        place = self.root;
                    }
                    waiting.extend(target.split('/').rev().filter(|p| !p.is_empty()).map(str::to_owned));
                }
                _ => place = next,
            }
        }
        Ok(place)
    }

    /// The name in a directory. Of several (one of them removed while in use) the one that a look-up finds.
    fn child(&self, place: Place, name: &str) -> Result<u64> {
        let (mut found, mut removed) = (None, None);
        let listed = dentry::children(self.session, place.dentry, &mut |at| {
            let dentry: Dentry = match self.session.view(at) {
                Ok(dentry) => dentry,
                Err(e) if e.is_control() => return Err(e),
                Err(_) => return Ok(()),
            };
            if dentry.name_len() != name.len() || dentry.is_cursor(self.session) || dentry.name(self.session)? != name {
                return Ok(());
            }
            if dentry.is_unlinked() {
                removed = Some(at);
                return Ok(());
            }
            found = Some(at);
            Err(Error::Stop)
        });
        match listed {
            Ok(()) | Err(Error::Stop) => {}
            Err(e) => return Err(e),
        }
        match found.or(removed) {
            Some(child) => Ok(child),
            None => Err(Error::Unavailable(format!(
                "the kernel does not remember `{name}` in {}: it may be there or not",
                place.text(self.session)?
            ))),
        }
    }

    /// Where a symbolic link leads, if it is one and what it says is in memory.
    fn link(&self, dentry: &Dentry) -> Result<Option<String>> {
        let inode: Inode = self.session.view(dentry.inode)?;
        if inode.kind() != Kind::Link {
            return Ok(None);
        }
        if let Some(target) = inode.target(self.session)? {
            return Ok(Some(target));
        }
        let mut text = Vec::new();
        pagecache::read(self.session, &inode, &mut |at, bytes| {
            if at == 0 {
                text.extend_from_slice(bytes);
            }
            Ok(())
        })?;
        match text.is_empty() {
            true => Err(Error::Unavailable("where a symbolic link on the way leads is not in memory".into())),
            false => Ok(Some(engine::text::decode(text.split(|b| *b == 0).next().unwrap_or_default()))),
        }
    }
}
