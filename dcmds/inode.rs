//! Files as such: `::inode`, `::lookup` by path, `::pagecache`, and their contents out of memory: `::filecat`.
//!
//! ```console
//! > ::lookup /init
//! ADDR             INODE            FS     MOUNT            PATH
//! ff2ee9c204448840 ff2ee9c204c4c968 rootfs ff2ee9c2041eb400 /init
//! > ::lookup /init | ::inode
//! ADDR             INO MODE       NLINK UID GID SIZE REF FS     PATH
//! ff2ee9c204c4c968  19 -rwxr-xr-x     1   0   0 1060   1 rootfs /init
//! > ::lookup /init | ::filecat | ::head -2
//! #!/bin/busybox sh
//! mount -t proc proc /proc
//! ```

use engine::prelude::*;
use std::{
    fs::File as Output,
    io::{Seek, SeekFrom, Write},
};
use walkers::{
    dentry::{Dentry, Paths},
    file::Place,
    inode::{self, Inode},
    lookup::Tree,
    pagecache,
    super_block::Kinds,
};

/// Show files as such: the struct inode, file or dentry at the address, or all inodes in memory.
#[derive(Args)]
pub struct ShowInode {}

/// An inode.
#[derive(Row)]
struct InodeRow {
    /// address of the struct inode
    addr: Object,
    /// its number
    ino: u64,
    /// type and rights
    mode: String,
    /// names it has on its filesystem
    nlink: u32,
    /// its owner
    uid: u32,
    /// its group
    gid: u32,
    /// bytes; of a device, major and minor number
    size: Cell,
    /// how many use it
    #[heading("REF")]
    refs: i32,
    /// seconds since 1970 at which its content changed
    #[hidden]
    modified: i64,
    /// its pages in memory
    #[hidden]
    pages: Result<u64>,
    /// the filesystem, its struct super_block
    #[hidden]
    sb: Addr,
    /// type of the filesystem
    fs: Result<String>,
    /// a path within the filesystem; of symbolic links, where it leads
    path: Result<Option<String>>,
}

impl ShowInode {
    fn show(cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let inode: Inode = cx.view(addr)?;
        let size = match inode.device() {
            Some((major, minor)) => Cell::Str(format!("{major},{minor}")),
            None => Cell::Int(inode.size),
        };
        let pages = cx.view::<pagecache::Mapping>(inode.mapping).map(|mapping| mapping.pages);
        out.row(InodeRow {
            addr: cx.object("inode", addr),
            ino: inode.number,
            mode: inode.rights(),
            nlink: inode.links,
            uid: inode.uid,
            gid: inode.gid,
            size,
            refs: inode.count,
            modified: inode.modified,
            pages,
            sb: Addr(inode.super_block),
            fs: Kinds::of(cx)?.get(cx, inode.super_block).map(|kind| kind.to_string()),
            path: path(cx, &inode),
        })
    }
}

/// The first name that an inode has in memory, and where it leads if it is a symbolic link.
pub(crate) fn path(cx: &Cx<'_>, inode: &Inode) -> Result<Option<String>> {
    let mut first = None;
    match inode::names(cx, inode.addr, &mut |dentry| {
        first = Some(dentry);
        Err(Error::Stop)
    }) {
        Ok(()) | Err(Error::Stop) => {}
        Err(e) => return Err(e),
    }
    let Some(dentry) = first else { return Ok(None) };
    let path = Paths::of(cx)?.path(cx, &cx.view::<Dentry>(dentry)?)?;
    Ok(Some(match inode.target(cx) {
        Ok(Some(target)) => format!("{path} -> {target}"),
        _ => path,
    }))
}

impl Dcmd for ShowInode {
    const NAME: &'static str = "inode";
    const ROWS: &'static [&'static engine::Schema] = &[InodeRow::SCHEMA];
    const PASSES: &'static str = "struct inode";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(at) = at {
            return ShowInode::show(cx, inode::chosen(cx, at)?, out);
        }
        walkers::super_block::each(cx, &mut |super_block| {
            inode::of_super_block(cx, super_block, &mut |addr| match ShowInode::show(cx, addr, out) {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(addr, format!("inode: {}", e.kind()));
                    Ok(())
                }
                result => result,
            })
        })
    }
}

/// Find a file by its path, as far as the kernel remembers the names on the way.
///
/// The path begins at the root of the first process, or of the task at the address. Nothing is read from a disk: a name
/// that was never looked up, or was forgotten, is not found. `::dentry -n` shows those that are known not to exist.
#[derive(Args)]
pub struct Lookup {
    /// if it is a symbolic link, find that and not where it leads
    #[arg(short = 'P')]
    physical: bool,
    /// the path
    path: String,
}

/// A name.
#[derive(Row)]
struct LookupRow {
    /// address of the struct dentry
    addr: Object,
    /// the file, its struct inode
    inode: Object,
    /// type of the filesystem
    fs: Result<String>,
    /// the struct mount that it is seen through
    mount: Addr,
    /// the path without symbolic links
    path: Result<String>,
}

impl Dcmd for Lookup {
    const NAME: &'static str = "lookup";
    const ROWS: &'static [&'static engine::Schema] = &[LookupRow::SCHEMA];
    const PASSES: &'static str = "struct dentry";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let place: Place = Tree::of(cx, at.map(|at| at.addr))?.find(&self.path, !self.physical)?;
        let dentry: Dentry = cx.view(place.dentry)?;
        out.row(LookupRow {
            addr: cx.object("dentry", place.dentry),
            inode: cx.object("inode", dentry.inode),
            fs: Kinds::of(cx)?.get(cx, dentry.super_block).map(|kind| kind.to_string()),
            mount: Addr(place.mount.wrapping_sub(cx.offset("mount", "mnt")?)),
            path: place.text(cx),
        })
    }
}

/// Show what of a file is in memory: of the struct inode, file, dentry or address_space at the address.
#[derive(Args)]
pub struct Pagecache {}

/// A piece of a file.
#[derive(Row)]
struct CacheRow {
    /// address of the struct page of its first page
    page: Object,
    /// where in the file it begins, in bytes
    offset: Hex,
    /// bytes
    size: u64,
    /// physical address
    physical: Option<Addr>,
    /// what is the matter with it
    flags: String,
}

impl Dcmd for Pagecache {
    const NAME: &'static str = "pagecache";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[CacheRow::SCHEMA];
    const PASSES: &'static str = "struct page";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let at = at.ok_or_else(|| Error::Usage("::pagecache needs a file".into()))?;
        let inode: Inode = cx.view(inode::chosen(cx, at)?)?;
        let (map, size) = (walkers::page::PageMap::of(cx)?, cx.target.page_size());
        pagecache::each(cx, inode.mapping, &mut |cached| {
            out.row(CacheRow {
                page: cx.object("page", cached.page),
                offset: Hex(cached.index.wrapping_mul(size)),
                size: cached.pages.wrapping_mul(size),
                physical: map.frame(cached.page).map(|frame| Addr(frame.wrapping_mul(size))),
                flags: cached.flag_names(cx)?.join(","),
            })
        })
    }
}

/// Show the content of a file, as far as it is in memory: of the struct inode, file or dentry at the address.
///
/// What is missing (never read, evicted, left out of the dump) is noted; in a file written with -o it is a hole.
#[derive(Args)]
pub struct Filecat {
    /// write the content to this file, which is made anew, instead of showing it
    #[arg(short = 'o', value_name = "FILE")]
    output: Option<String>,
}

impl Dcmd for Filecat {
    const NAME: &'static str = "filecat";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let at = at.ok_or_else(|| Error::Usage("::filecat needs a file".into()))?;
        let inode: Inode = cx.view(inode::chosen(cx, at)?)?;
        let mut seen = 0u64;
        match &self.output {
            Some(name) => {
                let mut file = Output::create_new(name).doing(|| format!("making {name}"))?;
                pagecache::read(cx, &inode, &mut |offset, bytes| {
                    seen = seen.saturating_add(bytes.len() as u64);
                    file.seek(SeekFrom::Start(offset))?;
                    Ok(file.write_all(bytes)?)
                })?;
                file.set_len(inode.size.max(0) as u64)?;
            }
            None => {
                let mut lines = Lines { rest: Vec::new(), behind: 0 };
                pagecache::read(cx, &inode, &mut |offset, bytes| {
                    seen = seen.saturating_add(bytes.len() as u64);
                    lines.add(offset, bytes, out)
                })?;
                lines.end(out)?;
            }
        }
        let size = inode.size.max(0) as u64;
        if seen < size {
            cx.notes.add(inode.addr, format!("{} of {size} bytes of the file are not in memory", size - seen));
        }
        Ok(())
    }
}

/// Makes lines of pieces.
struct Lines {
    rest: Vec<u8>,
    behind: u64,
}

/// A longer line is broken.
const MAX_LINE: usize = 1 << 16;

impl Lines {
    fn add(&mut self, offset: u64, bytes: &[u8], out: &mut Out<'_>) -> Result<()> {
        // behind a hole a new line begins
        if offset != self.behind {
            self.end(out)?;
        }
        self.behind = offset.saturating_add(bytes.len() as u64);
        self.rest.extend_from_slice(bytes);
        let whole = match self.rest.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            None if self.rest.len() > MAX_LINE => self.rest.len(),
            None => return Ok(()),
        };
        let rest = self.rest.split_off(whole);
        let lines = std::mem::replace(&mut self.rest, rest);
        let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
        lines.split(|b| *b == b'\n').try_for_each(|line| out.line(engine::text::decode(line)))
    }

    fn end(&mut self, out: &mut Out<'_>) -> Result<()> {
        match std::mem::take(&mut self.rest) {
            rest if rest.is_empty() => Ok(()),
            rest => out.line(engine::text::decode(&rest)),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<ShowInode>(),
    DcmdEntry::of::<Lookup>(),
    DcmdEntry::of::<Pagecache>(),
    DcmdEntry::of::<Filecat>(),
];
