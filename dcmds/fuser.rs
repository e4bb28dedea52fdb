//! Who uses a file: `::fuser`.
//!
//! ```console
//! > ::fuser /truth/actors.txt | ::head -3
//! ADDR             PID NAME      USE
//! ff2ee9c2048b4300 165 actors    fd 3
//! ff2ee9c2048b0000 166 lab_files fd 3
//! ff2ee9c2048b2100 167 lab_tcpserver fd 3
//! ```

use engine::prelude::*;
use walkers::{
    file::{self, File},
    inode,
    lookup::Tree,
    task::{self, Task},
    vma::{self, Vma},
};

/// Show which processes use a file, and for what: under which descriptors, as program, mapped, as root or working
/// directory.
///
/// The file is given by its path, or by the address of its struct inode, dentry or file; with that of a struct
/// super_block, whatever uses something on that filesystem is shown, and keeps it from being unmounted.
#[derive(Args)]
pub struct Fuser {
    /// the path; as the first process sees it
    path: Option<String>,
}

/// A process that uses it.
#[derive(Row)]
struct FuserRow {
    /// address of its task
    addr: Object,
    /// process id
    pid: i32,
    /// its name
    name: String,
    /// what for
    #[heading("USE")]
    uses: String,
}

/// What is looked for.
enum Wanted {
    Inode(u64),
    SuperBlock(u64),
}

impl Wanted {
    fn is(&self, cx: &Cx<'_>, inode: u64) -> bool {
        match self {
            Wanted::Inode(wanted) => *wanted == inode,
            Wanted::SuperBlock(wanted) => {
                inode != 0
                    && cx
                        .offset("inode", "i_sb")
                        .and_then(|at| cx.u64(inode.wrapping_add(at)))
                        .is_ok_and(|sb| sb == *wanted)
            }
        }
    }

    fn is_file(&self, cx: &Cx<'_>, file: u64) -> bool {
        file != 0 && cx.view::<File>(file).is_ok_and(|file| self.is(cx, file.inode))
    }

    /// What a process uses it for.
    fn uses(&self, cx: &Cx<'_>, task: u64) -> Result<Vec<String>> {
        let mut uses = Vec::new();
        if self.is_file(cx, file::program(cx, task)?) {
            uses.push("exe".to_owned());
        }
        if let Some((root, directory)) = file::places(cx, task)? {
            let inode = |dentry: u64| cx.u64(dentry.wrapping_add(cx.offset("dentry", "d_inode")?));
            if self.is(cx, inode(root.dentry)?) {
                uses.push("root".to_owned());
            }
            if self.is(cx, inode(directory.dentry)?) {
                uses.push("cwd".to_owned());
            }
        }
        let mapped = self.mapped(cx, task)?;
        if mapped > 0 {
            uses.push(format!("mmap {mapped}"));
        }
        file::descriptors(cx, task, &mut |d| {
            if self.is_file(cx, d.file) {
                uses.push(format!("fd {}", d.fd));
            }
            Ok(())
        })?;
        Ok(uses)
    }

    /// How often a process has it mapped.
    fn mapped(&self, cx: &Cx<'_>, task: u64) -> Result<u64> {
        let mut count = 0;
        let Some(mm) = vma::chosen(cx, cx.object("task_struct", task))? else { return Ok(0) };
        vma::each(cx, mm, &mut |at| {
            if self.is_file(cx, cx.view::<Vma>(at)?.file) {
                count += 1;
            }
            Ok(())
        })?;
        Ok(count)
    }
}

impl Dcmd for Fuser {
    const NAME: &'static str = "fuser";
    const ALIASES: &'static [&'static str] = &["whereopen"];
    const ROWS: &'static [&'static engine::Schema] = &[FuserRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let wanted = match (&self.path, at) {
            (Some(path), _) => {
                let dentry = Tree::of(cx, None)?.find(path, true)?.dentry;
                Wanted::Inode(inode::chosen(cx, cx.object("dentry", dentry))?)
            }
            (None, Some(at)) if at.ctype.is_some() && at.ctype == cx.struct_type("super_block") => {
                Wanted::SuperBlock(at.addr)
            }
            (None, Some(at)) => Wanted::Inode(inode::chosen(cx, at)?),
            (None, None) => return Err(Error::Usage("::fuser needs a path or an address".into())),
        };
        task::leaders(cx, &mut |leader| {
            let uses = match wanted.uses(cx, leader) {
                Ok(uses) => uses,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(leader, format!("files of a process: {}", e.kind()));
                    return Ok(());
                }
            };
            if uses.is_empty() {
                return Ok(());
            }
            let task: Task = cx.view(leader)?;
            let (addr, pid, name) = (cx.object("task_struct", leader), task.tgid, task.comm);
            out.row(FuserRow { addr, pid, name, uses: uses.join(", ") })
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Fuser>()];
