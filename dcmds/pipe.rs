//! Pipes, epolls, inotify, and locks on files: `::pipe`, `::epoll`, `::inotify`, `::flock`.
//!
//! ```console
//! > ::pipe | ::where bytes
//! PIPE             READERS WRITERS BUFS BYTES PID:FD           DATA
//! ff2ee9c2048c3f00       1       1    1    16 166:27 166:28    PIPE-CONTENT-LAB
//! > ::epoll | ::where 'owner == "166:30"'
//! EPITEM           OWNER  FD FILE             EVENTS     DATA    READY PATH
//! ff2ee9c2048c8a80 166:30 27 ff2ee9c20546cc00 in,err,hup 1ab0001 yes   pipe:[1222]
//! > ::flock
//! LOCK             KIND  MODE  PID START END STATE PATH
//! ff2ee9c205425000 FLOCK WRITE 166     0 EOF held  /lab/data/file_03
//! ```

use engine::prelude::*;
use walkers::{
    epoll::{self, Item},
    file::{File, Holders},
    flock::{self, Lock},
    inode,
    inotify::{self, Watch},
    pipe::{self, Pipe},
    task::Task,
};

/// Show pipes, and what is in them: all, or that of the struct pipe_inode_info, inode or file at the address.
#[derive(Args)]
pub struct ShowPipe {
    /// show all that is in it, as lines
    #[arg(short = 'c')]
    content: bool,
}

/// A pipe.
#[derive(Row)]
struct PipeRow {
    /// address of the struct pipe_inode_info
    pipe: Object,
    /// open ends to read from
    readers: u32,
    /// open ends to write to
    writers: u32,
    /// buffers in use
    bufs: u32,
    /// bytes in them
    bytes: Result<u64>,
    /// the first of what is in it
    data: Result<String>,
}

/// A pipe has no more in it, unless root made it larger than /proc/sys/fs/pipe-max-size allows.
const MOST: usize = 64 << 20;
/// Bytes shown of what is in a pipe.
const SHOWN: usize = 64;

impl ShowPipe {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let pipe: Pipe = cx.view(addr)?;
        if self.content {
            let content = pipe.content(cx, MOST)?;
            let text = content.strip_suffix(b"\n").unwrap_or(&content);
            return text.split(|b| *b == b'\n').try_for_each(|line| out.line(engine::text::decode(line)));
        }
        out.row(PipeRow {
            pipe: cx.object("pipe_inode_info", addr),
            readers: pipe.readers,
            writers: pipe.writers,
            bufs: pipe.used(),
            bytes: pipe.bytes(cx),
            data: pipe.content(cx, SHOWN).map(|bytes| engine::text::decode(&bytes)),
        })
    }
}

impl Dcmd for ShowPipe {
    const NAME: &'static str = "pipe";
    const ROWS: &'static [&'static engine::Schema] = &[PipeRow::SCHEMA];
    const PASSES: &'static str = "struct pipe_inode_info";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let is = |at: Object, name| at.ctype.is_some() && at.ctype == cx.struct_type(name);
        match at {
            None => pipe::each(cx, &mut |addr| self.show(cx, addr, out)),
            Some(at) if is(at, "file") || is(at, "inode") || is(at, "dentry") => {
                self.show(cx, pipe::of_inode(cx, inode::chosen(cx, at)?)?, out)
            }
            Some(at) => self.show(cx, at.addr, out),
        }
    }
}

/// Show what epolls watch: all, or the one whose struct file or eventpoll is at the address.
#[derive(Args)]
pub struct Epoll {}

/// A file that is watched.
#[derive(Row)]
struct EpollRow {
    /// address of the struct epitem
    epitem: Object,
    /// the epoll: process id and descriptor of the first who has it
    owner: Option<String>,
    /// descriptor that the file was named by
    fd: u32,
    /// the struct file
    file: Addr,
    /// what is waited for
    events: String,
    /// what the process gets back
    data: Hex,
    /// whether something has happened that it was not told yet
    ready: &'static str,
    /// the file's path, as in /proc/PID/fd
    path: Result<String>,
}

impl Epoll {
    fn show(cx: &Cx<'_>, eventpoll: u64, owner: Option<&String>, out: &mut Out<'_>) -> Result<()> {
        epoll::items(cx, eventpoll, &mut |addr| {
            let item: Item = cx.view(addr)?;
            out.row(EpollRow {
                epitem: cx.object("epitem", addr),
                owner: owner.cloned(),
                fd: item.fd,
                file: Addr(item.file),
                events: item.event_names().join(","),
                data: Hex(item.data),
                ready: if item.is_ready() { "yes" } else { "no" },
                path: cx.view::<File>(item.file).and_then(|file| file.path(cx)),
            })
        })
    }
}

/// The first who has a file: process id and descriptor.
fn owner(cx: &Cx<'_>, file: u64) -> Result<Option<String>> {
    let known = Holders::of(cx)?;
    let Some((task, fd)) = known.get(file).first() else { return Ok(None) };
    Ok(Some(format!("{}:{fd}", cx.view::<Task>(*task)?.tgid)))
}

impl Dcmd for Epoll {
    const NAME: &'static str = "epoll";
    const ROWS: &'static [&'static engine::Schema] = &[EpollRow::SCHEMA];
    const PASSES: &'static str = "struct epitem";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(at) = at {
            let file = at.ctype.is_some() && at.ctype == cx.struct_type("file");
            let owner = if file { owner(cx, at.addr)? } else { None };
            return Epoll::show(cx, epoll::chosen(cx, at)?, owner.as_ref(), out);
        }
        epoll::each_file(cx, &mut |file| match epoll::of_file(cx, file)? {
            Some(eventpoll) => Epoll::show(cx, eventpoll, owner(cx, file)?.as_ref(), out),
            None => Ok(()),
        })
    }
}

/// Show what inotify watches: all, or the one whose struct file is at the address.
#[derive(Args)]
pub struct Inotify {}

/// A watch.
#[derive(Row)]
struct WatchRow {
    /// address of the struct inotify_inode_mark
    watch: Object,
    /// the inotify: process id and descriptor of the first who has it
    owner: Option<String>,
    /// number of the watch
    wd: i32,
    /// what is waited for
    events: String,
    /// the struct inode that is watched
    inode: Result<Addr>,
    /// a path of it within its filesystem
    path: Result<Option<String>>,
}

impl Inotify {
    fn show(cx: &Cx<'_>, file: u64, out: &mut Out<'_>) -> Result<()> {
        let Some(group) = inotify::of_file(cx, file)? else {
            return Err(Error::Unavailable(format!("the file at {file:#x} is no inotify")));
        };
        let owner = owner(cx, file)?;
        inotify::watches(cx, group, &mut |addr| {
            let watch: Watch = cx.view(addr)?;
            let inode = watch.inode(cx);
            let path = match &inode {
                Ok(inode) => crate::inode::path(cx, &cx.view(*inode)?),
                Err(e) => Err(Error::Unavailable(e.kind())),
            };
            out.row(WatchRow {
                watch: cx.object("inotify_inode_mark", addr),
                owner: owner.clone(),
                wd: watch.wd,
                events: watch.event_names().join(","),
                inode: inode.map(Addr),
                path,
            })
        })
    }
}

impl Dcmd for Inotify {
    const NAME: &'static str = "inotify";
    const ROWS: &'static [&'static engine::Schema] = &[WatchRow::SCHEMA];
    const PASSES: &'static str = "struct inotify_inode_mark";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(at) => Inotify::show(cx, at.addr, out),
            None => inotify::each_file(cx, &mut |file| Inotify::show(cx, file, out)),
        }
    }
}

/// Show locks on files, as /proc/locks does, and who waits for them: all, or those on the struct inode, file or dentry at
/// the address.
#[derive(Args)]
pub struct Flock {}

/// A lock.
#[derive(Row)]
struct LockRow {
    /// address of the struct file_lock
    lock: Object,
    /// POSIX: by fcntl(2); FLOCK: by flock(2); OFDLCK; LEASE; DELEG
    kind: &'static str,
    /// READ or WRITE
    mode: &'static str,
    /// the process that asked for it
    pid: i32,
    /// first byte
    start: u64,
    /// last byte
    end: String,
    /// held, or who waits for the one above it
    state: &'static str,
    /// the file
    path: Result<String>,
}

impl Flock {
    fn show(cx: &Cx<'_>, addr: u64, state: &'static str, out: &mut Out<'_>) -> Result<Lock> {
        let lock: Lock = cx.view(addr)?;
        out.row(LockRow {
            lock: cx.object("file_lock", addr),
            kind: lock.kind(),
            mode: lock.mode(),
            pid: lock.pid,
            start: lock.start,
            end: if lock.end == flock::EVERYTHING { "EOF".into() } else { lock.end.to_string() },
            state,
            path: cx.view::<File>(lock.file).and_then(|file| file.path(cx)),
        })?;
        Ok(lock)
    }
}

impl Dcmd for Flock {
    const NAME: &'static str = "flock";
    const ROWS: &'static [&'static engine::Schema] = &[LockRow::SCHEMA];
    const PASSES: &'static str = "struct file_lock";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |addr| {
            let lock = Flock::show(cx, addr, "held", out)?;
            lock.waiters(cx, &mut |waiter| Flock::show(cx, waiter, "waits", out).map(|_| ()))
        };
        match at {
            None => flock::each(cx, &mut show),
            Some(at) => flock::of_inode(cx, inode::chosen(cx, at)?, &mut show),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<ShowPipe>(), DcmdEntry::of::<Epoll>(), DcmdEntry::of::<Inotify>(), DcmdEntry::of::<Flock>()];
