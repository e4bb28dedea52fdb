//! Names of files: `::dentry`.
//!
//! ```console
//! > ::dentry -u
//! ADDR             INODE            FS    REF FLAGS    PATH
//! ff2ee9c204499600 ff2ee9c2053f6d08 tmpfs   1 unlinked /data/deleted_file
//! > ::dentry -n | ::head -3
//! ADDR             INODE FS      REF FLAGS        PATH
//! ff2ee9c203ea9180 -     sysfs     0 negative,lru /kernel/slab/dentry/alloc_calls
//! ff2ee9c204498840 -     sysfs     0 negative,lru /module/8250_pci/sections
//! ff2ee9c204498f00 -     cgroup2   0 negative,lru /lab/b
//! > ::dentry | ::where 'fs == "tracefs"' | ::head -2
//! ADDR             INODE            FS      REF FLAGS PATH
//! ff2ee9c203ea50c0 ff2ee9c203ec2530 tracefs   0 lru   /events/kmem/mm_page_pcpu_drain/format
//! ff2ee9c203ea53c0 ff2ee9c203ec14c0 tracefs   1 lru   /events/kmem/mm_page_alloc_zone_locked
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    dentry::{Dentry, Paths},
    slab,
    super_block::Kinds,
};

/// Show names of files: what the kernel remembers of directories, with the path of each within its filesystem.
///
/// Without an address, all that are allocated. `::walk dentry_sb` brings those of one filesystem, `::walk
/// dentry_children` those of one directory, `::walk dentry_lru` those that may be reclaimed.
#[derive(Args)]
pub struct ShowDentry {
    /// only negative ones: names that a look-up finds not to exist
    #[arg(short = 'n', conflicts_with = "unlinked")]
    negative: bool,
    /// only files that were removed and are still in use
    #[arg(short = 'u')]
    unlinked: bool,
}

/// A name.
#[derive(Row)]
pub struct DentryRow {
    /// address of the struct dentry
    addr: Object,
    /// the file, its struct inode
    inode: Option<Object>,
    /// the filesystem, its struct super_block
    #[hidden]
    sb: Object,
    /// type of the filesystem
    fs: Result<String>,
    /// how many use it
    #[heading("REF")]
    refs: i32,
    /// negative: there is no such file; unlinked: no look-up finds it any more, the kernel prints it as deleted; root:
    /// of a tree; lru: it may be reclaimed; dead: given up, its memory waits for the end of a grace period; cursor: no
    /// name but a reader's place in the directory
    flags: String,
    /// its own name, the last part of the path; files without a path, such as memfds, have one too
    #[hidden]
    name: String,
    /// path within the filesystem; begins with ? where the way to the root is damaged
    path: Result<String>,
}

impl Dcmd for ShowDentry {
    const NAME: &'static str = "dentry";
    const ROWS: &'static [&'static engine::Schema] = &[DentryRow::SCHEMA];
    const PASSES: &'static str = "struct dentry";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(object) => self.show(cx, object.addr, out),
            None => {
                let slabs = slab::Slabs::of(cx)?;
                let cache = slabs.caches.named("dentry").next();
                let cache = cache.ok_or_else(|| Error::Unavailable("there is no slab cache `dentry`".into()))?;
                slabs.each(cx, cache, slab::State::Allocated, &mut |addr| self.show(cx, addr, out))
            }
        }
    }
}

impl ShowDentry {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let dentry: Dentry = cx.view(addr)?;
        let (unlinked, negative) = (dentry.is_unlinked(), dentry.is_negative());
        if (self.negative && (unlinked || !negative)) || (self.unlinked && (negative || !unlinked)) {
            return Ok(());
        }
        let name = dentry.name(cx)?;
        let super_block = cx.object("super_block", dentry.super_block);
        out.row(DentryRow {
            addr: cx.object("dentry", addr),
            inode: (!dentry.is_negative()).then(|| cx.object("inode", dentry.inode)),
            sb: super_block,
            fs: Kinds::of(cx)?.get(cx, dentry.super_block).map(|kind| kind.to_string()),
            refs: dentry.count,
            flags: flags(cx, &dentry),
            path: Paths::of(cx)?.path_of(cx, &dentry, &name),
            name,
        })
    }
}

fn flags(cx: &Cx<'_>, dentry: &Dentry) -> String {
    let words = [
        (dentry.is_cursor(cx), "cursor"),
        (dentry.is_negative(), "negative"),
        (dentry.is_unlinked(), "unlinked"),
        (dentry.is_root(), "root"),
        (dentry.is_on_lru(), "lru"),
        (dentry.is_dead(), "dead"),
    ];
    let set: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    set.join(",")
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<ShowDentry>()];
