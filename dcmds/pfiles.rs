//! Open files: `::pfiles` of a process, `::fd` one of them, `::lsof` of all processes, `::file` as such.
//!
//! ```console
//! > 0t165::pid2task | ::pfiles
//! FD TYPE FILE             INODE            FLAGS PATH
//!  0 CHR  ff2ee9c204c00300 ff2ee9c204201b80 rw    /dev/console
//!  1 CHR  ff2ee9c204c00300 ff2ee9c204201b80 rw    /dev/console
//!  2 CHR  ff2ee9c204c00300 ff2ee9c204201b80 rw    /dev/console
//!  3 REG  ff2ee9c204c00180 ff2ee9c2048a2000 w     /truth/actors.txt
//!  4 FIFO ff2ee9c204c00480 ff2ee9c2048a7288 r     pipe:[1221]
//!  5 FIFO ff2ee9c204c009c0 ff2ee9c2048a7288 w     pipe:[1221]
//! > ::lsof | ::where 'path == "/dev/null"'
//! ```

use engine::prelude::*;
use walkers::{
    file::{self, Descriptor, File, Holders, Place},
    inode::Inode,
    task::{self, Task},
};

/// The object that most of these commands are about.
pub(crate) const FILE: &str = "struct file";

/// Show the open files of the process whose task is at the address.
#[derive(Args)]
pub struct Pfiles {
    /// also the program it runs, its root and its working directory
    #[arg(short = 'a')]
    all: bool,
}

/// An open file of a process.
#[derive(Row)]
struct PfilesRow {
    /// process id
    #[hidden]
    pid: i32,
    /// descriptor; exe, root, cwd
    fd: Cell,
    /// REG DIR LNK CHR BLK FIFO SOCK; ANON: it has a descriptor and nothing else
    #[heading("TYPE")]
    kind: Result<&'static str>,
    /// address of the struct file
    file: Option<Object>,
    /// address of the struct inode
    inode: Object,
    /// where the next read or write is
    #[hidden]
    position: Option<i64>,
    /// how it was opened; cloexec: exec(2) closes it
    flags: String,
    /// as in /proc/PID/fd
    path: Result<String>,
}

impl PfilesRow {
    /// Of a descriptor, or of the program that is run.
    fn of(cx: &Cx<'_>, pid: i32, fd: Cell, addr: u64, close: bool) -> Result<PfilesRow> {
        let file: File = cx.view(addr)?;
        let mut flags = file::flag_names(cx, file.flags);
        if close {
            flags.push("cloexec");
        }
        Ok(PfilesRow {
            pid,
            fd,
            kind: kind(cx, file.inode),
            file: Some(cx.object("file", addr)),
            inode: cx.object("inode", file.inode),
            position: Some(file.position),
            flags: flags.join(","),
            path: file.path(cx),
        })
    }

    /// Of a directory that a process is in.
    fn at(cx: &Cx<'_>, pid: i32, fd: &str, place: Place) -> Result<PfilesRow> {
        let inode = cx.u64(place.dentry.wrapping_add(cx.offset("dentry", "d_inode")?))?;
        let (fd, inode, kind) = (Cell::Str(fd.to_owned()), cx.object("inode", inode), kind(cx, inode));
        Ok(PfilesRow { pid, fd, kind, file: None, inode, position: None, flags: String::new(), path: place.text(cx) })
    }
}

fn kind(cx: &Cx<'_>, inode: u64) -> Result<&'static str> {
    Ok(cx.view::<Inode>(inode)?.kind().name())
}

/// Emits a row; if what it is of cannot be read, notes that.
fn emit<R: engine::IntoRow>(cx: &Cx<'_>, addr: u64, row: Result<R>, out: &mut Out<'_>) -> Result<()> {
    match row {
        Ok(row) => out.row(row),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            cx.notes.add(addr, format!("open file: {}", e.kind()));
            Ok(())
        }
    }
}

impl Dcmd for Pfiles {
    const NAME: &'static str = "pfiles";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[PfilesRow::SCHEMA];
    const PASSES: &'static str = FILE;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let pid = cx.view::<Task>(task)?.tgid;
        if self.all {
            let program = file::program(cx, task)?;
            if program != 0 {
                emit(cx, program, PfilesRow::of(cx, pid, Cell::Str("exe".into()), program, false), out)?;
            }
            if let Some((root, directory)) = file::places(cx, task)? {
                emit(cx, root.dentry, PfilesRow::at(cx, pid, "root", root), out)?;
                emit(cx, directory.dentry, PfilesRow::at(cx, pid, "cwd", directory), out)?;
            }
        }
        file::descriptors(cx, task, &mut |Descriptor { fd, file, close_on_exec }| {
            emit(cx, file, PfilesRow::of(cx, pid, Cell::Uint(fd.into()), file, close_on_exec), out)
        })
    }
}

/// Find the open file that a process has under a descriptor: `TASK::fd 3`.
///
/// The number is hex unless marked: `::fd 0t10`.
#[derive(Args)]
pub struct Fd {
    /// the descriptor
    fd: ExprArg,
}

impl Dcmd for Fd {
    const NAME: &'static str = "fd";
    const ADDRESS: Address = Address::Required;
    const PASSES: &'static str = FILE;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (task, fd) = (at.map_or(0, |at| at.addr), self.fd.eval(cx)?);
        let file = match u32::try_from(fd) {
            Ok(fd) => file::of_fd(cx, task, fd)?,
            Err(_) => None,
        };
        match file {
            Some(file) => out.object(cx.object("file", file)),
            None => Err(Error::Unavailable(format!("descriptor {fd} is not open in the task at {task:#x}"))),
        }
    }
}

/// Show the open files of all processes, as lsof does.
#[derive(Args)]
pub struct Lsof {}

/// An open file of one of all processes.
#[derive(Row)]
struct LsofRow {
    /// process id
    pid: i32,
    /// its name
    name: String,
    /// descriptor
    fd: u32,
    /// REG DIR LNK CHR BLK FIFO SOCK; ANON: it has a descriptor and nothing else
    #[heading("TYPE")]
    kind: Result<&'static str>,
    /// address of the struct file
    file: Object,
    /// address of the struct inode
    inode: Object,
    /// address of the task
    #[hidden]
    task: Addr,
    /// as in /proc/PID/fd
    path: Result<String>,
}

impl LsofRow {
    fn of(cx: &Cx<'_>, task: &Task, fd: u32, addr: u64) -> Result<LsofRow> {
        let file: File = cx.view(addr)?;
        Ok(LsofRow {
            pid: task.tgid,
            name: task.comm.clone(),
            fd,
            kind: kind(cx, file.inode),
            file: cx.object("file", addr),
            inode: cx.object("inode", file.inode),
            task: Addr(task.addr),
            path: file.path(cx),
        })
    }
}

impl Dcmd for Lsof {
    const NAME: &'static str = "lsof";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[LsofRow::SCHEMA];
    const PASSES: &'static str = FILE;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        task::leaders(cx, &mut |leader| {
            let task: Task = match cx.view(leader) {
                Ok(task) => task,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(leader, format!("task: {}", e.kind()));
                    return Ok(());
                }
            };
            let shown = file::descriptors(cx, leader, &mut |Descriptor { fd, file, .. }| {
                emit(cx, file, LsofRow::of(cx, &task, fd, file), out)
            });
            match shown {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(leader, format!("descriptors: {}", e.kind()));
                    Ok(())
                }
                result => result,
            }
        })
    }
}

/// Show open files: the struct file at the address, or all there are, whoever has them.
#[derive(Args)]
pub struct ShowFile {
    /// only files that no process has under a descriptor: mapped, in flight between sockets, kept by the kernel, leaked
    #[arg(short = 'o')]
    orphans: bool,
}

/// An open file.
#[derive(Row)]
struct FileRow {
    /// address of the struct file
    file: Object,
    /// address of the struct inode
    inode: Object,
    /// REG DIR LNK CHR BLK FIFO SOCK; ANON: it has a descriptor and nothing else
    #[heading("TYPE")]
    kind: Result<&'static str>,
    /// how many use it
    users: i64,
    /// where the next read or write is
    position: i64,
    /// how it was opened
    flags: String,
    /// its operations
    #[hidden]
    ops: Option<String>,
    /// as in /proc/PID/fd
    path: Result<String>,
    /// who has it: process id and descriptor
    #[heading("PID:FD")]
    holders: String,
}

impl ShowFile {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let known = Holders::of(cx)?;
        let holders = known.get(addr);
        if self.orphans && !holders.is_empty() {
            return Ok(());
        }
        let file: File = cx.view(addr)?;
        // one that is being made, or was just given back
        if file.inode == 0 && holders.is_empty() && file.users(cx) == 0 {
            return Ok(());
        }
        let holder = |(task, fd): &(u64, u32)| match cx.view::<Task>(*task) {
            Ok(task) => format!("{}:{fd}", task.tgid),
            Err(_) => format!("?:{fd}"),
        };
        out.row(FileRow {
            file: cx.object("file", addr),
            inode: cx.object("inode", file.inode),
            kind: kind(cx, file.inode),
            users: file.users(cx),
            position: file.position,
            flags: file::flag_names(cx, file.flags).join(","),
            ops: cx.symbolize(file.ops),
            path: file.path(cx),
            holders: holders.iter().map(holder).collect::<Vec<_>>().join(" "),
        })
    }
}

impl Dcmd for ShowFile {
    const NAME: &'static str = "file";
    const ROWS: &'static [&'static engine::Schema] = &[FileRow::SCHEMA];
    const PASSES: &'static str = FILE;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(at) => self.show(cx, at.addr, out),
            None => file::each(cx, &mut |addr| match self.show(cx, addr, out) {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(addr, format!("open file: {}", e.kind()));
                    Ok(())
                }
                result => result,
            }),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Pfiles>(), DcmdEntry::of::<Fd>(), DcmdEntry::of::<Lsof>(), DcmdEntry::of::<ShowFile>()];
