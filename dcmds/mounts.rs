//! Mounted filesystems: `::mounts`, and filesystems as such: `::superblocks`.
//!
//! ```console
//! > ::mounts | ::tail -5
//! ADDR             FS      SOURCE   OPTIONS     MOUNT
//! ff2ee9c205420780 mqueue  mqueue   rw,relatime /dev/mqueue
//! ff2ee9c205420a80 tmpfs   tmpfs    rw,relatime /tmp
//! ff2ee9c205420600 tmpfs   labtruth rw,relatime /truth
//! ff2ee9c205420d80 tmpfs   labtmp   rw,relatime /lab
//! ff2ee9c205420480 cgroup2 cgroup2  rw,relatime /sys/fs/cgroup
//! > ::walk mnt_namespace | ::count
//! COUNT
//!     3
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    dentry, inode,
    mount::{self, Mount},
    super_block::{self, SuperBlock},
};

/// Show what is mounted, where.
///
/// With the address of a `struct mnt_namespace` or of a task that comes through the pipe (`::walk task | ::mounts`), the
/// mounts of that namespace, with that of a `struct mount` only that one; without, those of the namespace that the
/// system started with.
#[derive(Args)]
pub struct Mounts {}

/// A mount.
#[derive(Row)]
pub struct MountRow {
    /// address of the struct mount
    addr: Object,
    /// its number
    #[hidden]
    id: i32,
    /// the number of the mount it is on
    #[hidden]
    parent: Result<u32>,
    /// major and minor number of the device
    #[hidden]
    device: Result<String>,
    /// address of its struct super_block
    #[hidden]
    sb: Addr,
    /// type of the filesystem
    fs: Result<String>,
    /// what was mounted
    source: Result<String>,
    /// options of the mount itself
    options: String,
    /// the directory of the filesystem that is to be seen there
    #[hidden]
    root: Result<String>,
    /// where it is
    #[heading("MOUNT")]
    path: Result<String>,
}

impl Dcmd for Mounts {
    const NAME: &'static str = "mounts";
    const ALIASES: &'static [&'static str] = &["fsinfo"];
    const ROWS: &'static [&'static engine::Schema] = &[MountRow::SCHEMA];
    const PASSES: &'static str = "struct mount";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let is = |name| at.is_some_and(|o| o.ctype.is_some() && o.ctype == cx.struct_type(name));
        match at {
            Some(object) if is("mount") => show(cx, object.addr, out),
            at => mount::each(cx, mount::chosen(cx, at)?, &mut |addr| show(cx, addr, out)),
        }
    }
}

fn show(cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
    let mount: Mount = match cx.view(addr) {
        Ok(mount) => mount,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            cx.notes.add(addr, format!("mount: {}", e.kind()));
            return Ok(());
        }
    };
    let sb: Result<SuperBlock> = cx.view(mount.super_block);
    let known = |what: &dyn Fn(&SuperBlock) -> Result<String>| match &sb {
        Ok(sb) => what(sb),
        Err(e) => Err(Error::Unavailable(e.kind())),
    };
    out.row(MountRow {
        addr: cx.object("mount", addr),
        id: mount.id,
        parent: cx.offset("mount", "mnt_id").and_then(|id| cx.u32(mount.parent.wrapping_add(id))),
        device: known(&|sb| Ok(format!("{}:{}", sb.device().0, sb.device().1))),
        sb: Addr(mount.super_block),
        fs: known(&|sb| sb.kind(cx)),
        source: mount.source(cx),
        options: mount.options(cx),
        root: mount.root_path(cx),
        path: mount.path(cx),
    })
}

/// Show filesystems: all that are in use, the kernel's own too, or the one whose struct super_block is at the address.
#[derive(Args)]
pub struct Superblocks {
    /// count the inodes of each that are in memory, and the names that may be reclaimed
    #[arg(short = 'c')]
    count: bool,
}

/// A filesystem.
#[derive(Row)]
pub struct SuperRow {
    /// address of the struct super_block
    addr: Object,
    /// type of the filesystem
    fs: Result<String>,
    /// name of the device, or of the type where there is none
    id: String,
    /// major and minor number of the device
    dev: String,
    /// whether it may be written to
    mode: &'static str,
    /// its root, struct dentry
    root: Addr,
    /// inodes in memory
    inodes: Option<u64>,
    /// names that may be reclaimed
    lru: Option<u64>,
}

/// Counts what a walk visits.
fn count(walk: impl FnOnce(&mut dyn FnMut(u64) -> Result<()>) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    walk(&mut |_| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

impl Superblocks {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let sb: SuperBlock = cx.view(addr)?;
        let inodes = || count(|visit| inode::of_super_block(cx, addr, visit));
        let lru = || count(|visit| dentry::lru(cx, addr, visit));
        out.row(SuperRow {
            addr: cx.object("super_block", addr),
            fs: sb.kind(cx),
            dev: format!("{}:{}", sb.device().0, sb.device().1),
            mode: if sb.is_read_only() { "ro" } else { "rw" },
            root: Addr(sb.root),
            inodes: self.count.then(inodes).transpose()?,
            lru: self.count.then(lru).transpose()?,
            id: sb.id,
        })
    }
}

impl Dcmd for Superblocks {
    const NAME: &'static str = "superblocks";
    const ALIASES: &'static [&'static str] = &["sb"];
    const ROWS: &'static [&'static engine::Schema] = &[SuperRow::SCHEMA];
    const PASSES: &'static str = "struct super_block";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(at) => self.show(cx, at.addr, out),
            None => super_block::each(cx, &mut |addr| match self.show(cx, addr, out) {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(addr, format!("filesystem: {}", e.kind()));
                    Ok(())
                }
                result => result,
            }),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Mounts>(), DcmdEntry::of::<Superblocks>()];
