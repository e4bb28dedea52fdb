//! Open files: `struct file` (include/linux/fs.h), and the descriptors by which processes have them.
//!
//! A file that was opened by a path has a mount and a dentry, which together name it. Those that never were in any
//! directory (pipes, sockets, eventfds, memory without a name) get the names that /proc/PID/fd has for them.
//!
//! ```console
//! > 0t165::pid2task | ::walk file | ::count
//! COUNT
//!     6
//! ```

use crate::{
    dentry::Dentry,
    inode::Inode,
    mount::{self, Mount},
    slab,
    super_block::Kinds,
    task,
};
use engine::{ViewEntry, prelude::*, targets::Arch};
use std::{collections::HashMap, sync::Arc};

/// An open file.
#[derive(View, Clone, Debug)]
#[ctype("file")]
pub struct File {
    /// its address
    #[addr]
    pub addr: u64,
    /// the `struct vfsmount` it was opened through
    #[field("f_path.mnt")]
    pub mount: u64,
    /// its name, `struct dentry`
    #[field("f_path.dentry")]
    pub dentry: u64,
    /// what was opened, `struct inode`
    #[field("f_inode")]
    pub inode: u64,
    /// its `struct file_operations`
    #[field("f_op")]
    pub ops: u64,
    /// `O_…`, as open(2) and fcntl(2) left them
    #[field("f_flags")]
    pub flags: u32,
    /// where the next read or write is, in bytes
    #[field("f_pos")]
    pub position: i64,
    /// what it is to its kind: a `struct pipe_inode_info`, a `struct socket`, …
    #[field("private_data")]
    pub private: u64,
    /// how many use it; since Linux 6.13 (90ee6ed776c0) one less than that
    #[field("f_count.counter", "f_ref.refcnt.counter")]
    count: i64,
}

/// A place in the tree of names: `struct path`.
#[derive(View, Clone, Copy, Debug, PartialEq, Eq)]
#[ctype("path")]
pub struct Place {
    /// the `struct vfsmount`
    #[field("mnt")]
    pub mount: u64,
    /// the `struct dentry`
    pub dentry: u64,
}

impl File {
    /// How many use it: descriptors, mappings, system calls under way.
    pub fn users(&self, session: &Session) -> i64 {
        if session.has_member("file", "f_ref") { self.count.saturating_add(1).max(0) } else { self.count }
    }

    /// Its path, as /proc/PID/fd has it.
    pub fn path(&self, session: &Session) -> Result<String> {
        Place { mount: self.mount, dentry: self.dentry }.text(session)
    }
}

impl Place {
    /// The path, as `d_path()` has it.
    pub fn text(self, session: &Session) -> Result<String> {
        let dentry: Dentry = session.view(self.dentry)?;
        let mount: Mount = session.view(self.mount.wrapping_sub(session.offset("mount", "mnt")?))?;
        // those have a d_dname() of their own
        if dentry.is_root() && dentry.addr != mount.root {
            return nameless(session, &dentry);
        }
        let mut path = mount::path(session, &mount, dentry.addr)?;
        if dentry.is_unlinked() {
            path.push_str(" (deleted)");
        }
        Ok(path)
    }
}

/// The name of what was never in a directory (`simple_dname()` and its like).
fn nameless(session: &Session, dentry: &Dentry) -> Result<String> {
    let kind = Kinds::of(session)?.get(session, dentry.super_block)?;
    let number = || session.view::<Inode>(dentry.inode).map(|inode| inode.number);
    Ok(match &*kind {
        "pipefs" => format!("pipe:[{}]", number()?),
        "sockfs" => format!("socket:[{}]", number()?),
        "nsfs" => namespace(session, dentry.inode)?,
        "pidfs" => "anon_inode:[pidfd]".to_owned(),
        "anon_inodefs" => format!("anon_inode:{}", dentry.name(session)?),
        "dmabuf" => format!("/dmabuf:{}", dentry.name(session)?),
        _ => format!("/{} (deleted)", dentry.name(session)?),
    })
}

/// The name of a namespace's file: `mnt:[4026531841]`.
fn namespace(session: &Session, inode: u64) -> Result<String> {
    let inode: Inode = session.view(inode)?;
    let ops = session.u64(inode.private.wrapping_add(session.offset("ns_common", "ops")?))?;
    let name = session.u64(ops.wrapping_add(session.offset("proc_ns_operations", "name")?))?;
    Ok(format!("{}:[{}]", session.cstr(name, 16)?, inode.number))
}

// ---- descriptors ------------------------------------------------------------------------------------------------

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// its number
    pub fd: u32,
    /// the `struct file`
    pub file: u64,
    /// whether exec(2) closes it
    pub close_on_exec: bool,
}

#[derive(View)]
#[ctype("task_struct")]
struct Owner {
    files: u64,
    fs: u64,
    mm: u64,
}

/// `struct fdtable` (include/linux/fdtable.h).
#[derive(View)]
#[ctype("fdtable")]
struct Table {
    #[field("max_fds")]
    room: u32,
    #[field("fd")]
    files: u64,
    close_on_exec: u64,
    open_fds: u64,
}

/// Descriptors in a word of the bitmaps.
const WORD: u32 = 64;
/// As many descriptors as a process can have, unless `sysctl_nr_open` was raised (include/uapi/linux/fs.h has 1024 * 1024).
const NR_OPEN: u32 = 1 << 20;
/// As many pointers that lead nowhere, one behind the other, are no table.
const MOST_BAD: u32 = 1024;

/// Visits the descriptors of a task, lowest first.
pub fn descriptors(session: &Session, task: u64, visit: &mut dyn FnMut(Descriptor) -> Result<()>) -> Result<()> {
    let files = session.view::<Owner>(task)?.files;
    // one that has exited has closed all
    if files == 0 {
        return Ok(());
    }
    let table = session.u64(files.wrapping_add(session.offset("files_struct", "fdt")?))?;
    let table: Table = session.view(table).doing(|| format!("reading the descriptors of the task at {task:#x}"))?;
    let most = session.kernel_symbol("sysctl_nr_open").and_then(|at| session.u32(at).ok()).unwrap_or(NR_OPEN);
    let room = table.room.min(most.max(NR_OPEN));
    if !table.room.is_multiple_of(WORD) || room != table.room {
        session.notes.add(table.files, "table of descriptors of impossible size");
    }
    let mut bad = 0;
    for word in 0..room / WORD {
        let at = |map: u64| session.u64(map.wrapping_add(u64::from(word) * 8));
        let open = match at(table.open_fds) {
            Ok(open) => open,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(table.open_fds, format!("descriptors from {} on: {}", word * WORD, e.kind()));
                break;
            }
        };
        let close = if open == 0 { 0 } else { at(table.close_on_exec).unwrap_or(0) };
        for bit in (0..WORD).filter(|bit| open >> bit & 1 == 1) {
            let fd = word * WORD + bit;
            match session.u64(table.files.wrapping_add(u64::from(fd) * 8)) {
                // reserved by an open(2) under way
                Ok(0) => {}
                Ok(file) if file >> 63 == 1 => {
                    bad = 0;
                    visit(Descriptor { fd, file, close_on_exec: close >> bit & 1 == 1 })?;
                }
                Err(e) if e.is_control() => return Err(e),
                _ => {
                    session.notes.add(table.files, "descriptors whose file cannot be told");
                    bad += 1;
                }
            }
            if bad > MOST_BAD {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The file that a task has under a descriptor.
pub fn of_fd(session: &Session, task: u64, fd: u32) -> Result<Option<u64>> {
    let mut found = None;
    let looked = descriptors(session, task, &mut |d| {
        if d.fd >= fd {
            found = (d.fd == fd).then_some(d.file);
            return Err(Error::Stop);
        }
        Ok(())
    });
    match looked {
        Err(Error::Stop) | Ok(()) => Ok(found),
        Err(e) => Err(e),
    }
}

/// Where a process stands: its root and its working directory. `None` once it has exited.
pub fn places(session: &Session, task: u64) -> Result<Option<(Place, Place)>> {
    let fs = session.view::<Owner>(task)?.fs;
    if fs == 0 {
        return Ok(None);
    }
    let place = |name| session.view(fs.wrapping_add(session.offset("fs_struct", name)?));
    Ok(Some((place("root")?, place("pwd")?)))
}

/// The `struct file` of the program that a process runs; 0 if it runs none.
pub fn program(session: &Session, task: u64) -> Result<u64> {
    let mm = session.view::<Owner>(task)?.mm;
    if mm == 0 { Ok(0) } else { session.u64(mm.wrapping_add(session.offset("mm_struct", "exe_file")?)) }
}

/// Who has a file: the leader's task, and the descriptor.
pub type Holder = (u64, u32);

/// All files that processes have under descriptors.
#[derive(Debug, Default)]
pub struct Holders(HashMap<u64, Vec<Holder>>);

impl Holders {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Holders>> {
        session.once(|| session.settle(|| Holders::read(session)))
    }

    fn read(session: &Session) -> Result<Holders> {
        let mut map: HashMap<u64, Vec<Holder>> = HashMap::new();
        task::leaders(session, &mut |task| {
            let read = descriptors(session, task, &mut |d| {
                map.entry(d.file).or_default().push((task, d.fd));
                Ok(())
            });
            match read {
                Err(e) if e.is_unreadable() => session.notes.add(task, format!("descriptors: {}", e.kind())),
                result => result?,
            }
            Ok(())
        })?;
        Ok(Holders(map))
    }

    /// Who has a file, in the order of their birth.
    pub fn get(&self, file: u64) -> &[Holder] {
        self.0.get(&file).map_or(&[], Vec::as_slice)
    }

    /// All files that somebody has.
    pub fn files(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.keys().copied()
    }
}

/// `O_…` by name (include/uapi/asm-generic/fcntl.h): how it was opened, then what else was asked for. arm64 has some
/// bits in other places.
pub fn flag_names(session: &Session, flags: u32) -> Vec<&'static str> {
    const COMMON: [(u32, &str); 9] = [
        (0o100, "creat"),
        (0o200, "excl"),
        (0o400, "noctty"),
        (0o1000, "trunc"),
        (0o2000, "append"),
        (0o4000, "nonblock"),
        (0o10000, "dsync"),
        (0o20000, "async"),
        (0o1_000_000, "noatime"),
    ];
    /// `O_DIRECT`, `O_DIRECTORY`, `O_NOFOLLOW`; `O_LARGEFILE`, which every 64-bit process has, is left out
    const X86: [(u32, &str); 3] = [(0o40000, "direct"), (0o200_000, "directory"), (0o400_000, "nofollow")];
    const ARM: [(u32, &str); 3] = [(0o40000, "directory"), (0o100_000, "nofollow"), (0o200_000, "direct")];
    const PATH: (u32, &str) = (0o10_000_000, "path");
    let own = if session.target.arch() == Arch::Aarch64 { ARM } else { X86 };
    let mode = if flags & PATH.0 != 0 {
        ""
    } else {
        ["r", "w", "rw", ""].get(flags as usize & 3).copied().unwrap_or_default()
    };
    let set = COMMON.iter().chain(&own).chain([&PATH]).filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    Some(mode).filter(|mode| !mode.is_empty()).into_iter().chain(set).collect()
}

/// Visits every open file there is: those in flight between processes, and those only mapped, too.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let slabs = slab::Slabs::of(session)?;
    let cache = slabs.caches.named("filp").next();
    let cache = cache.ok_or_else(|| Error::Unavailable("there is no slab cache `filp`".into()))?;
    slabs.each(session, cache, slab::State::Allocated, visit)
}

/// Walks open files.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "file",
    doc: "walk the open files of the process whose task is at the address, or of all the system",
    item: "struct file",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(task) => descriptors(cx, task.addr, &mut |d| visit(d.file)),
        None => each(cx, visit),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<File>(), ViewEntry::of::<Place>(), ViewEntry::of::<Owner>(), ViewEntry::of::<Table>()];
