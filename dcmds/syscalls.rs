//! System calls under way: `::syscalls`.
//!
//! ```console
//! > 0t166::pid2task | ::syscalls
//! THREAD           PID S NAME      NR CALL
//! ff2ee9c2048b0000 166 S lab_files 34 pause()
//! > 0t209::pid2task | ::syscalls
//! THREAD           PID S NAME          NR CALL
//! ff2ee9c20537a100 209 S lab_thr_futex 202 futex(uaddr=0x4c7340, op=0, val=0, utime=NULL, uaddr2=NULL, val3=0)
//! ```

use engine::prelude::*;
use walkers::{
    file::{self, File},
    signal,
    syscall::{self, Call, Calls, Doing, Parameter},
    task::{self, Task},
    unwind,
    user::Memory,
};

/// Show what tasks asked of the kernel: the system call each is in, with its arguments by name.
///
/// With an address, only that task's. Descriptors come with the path of their file, paths and other text as far as the
/// process's memory is in the dump. Threads of the kernel ask nothing, and are not shown.
#[derive(Args)]
pub struct Syscalls {
    /// numbers only: no paths, no text
    #[arg(short = 'n')]
    numbers: bool,
    /// also tasks that are in no system call: running their own code, in a page fault, interrupted
    #[arg(short = 'a')]
    all: bool,
    /// list the system calls of this kernel, as they are declared
    #[arg(short = 'l', conflicts_with = "all")]
    list: bool,
}

/// A task in a system call.
#[derive(Row)]
struct SyscallRow {
    /// the task
    thread: Object,
    /// thread id
    pid: i32,
    /// what it is doing
    s: String,
    /// name of the thread
    name: String,
    /// number of the system call
    nr: Option<u64>,
    /// its name
    #[hidden]
    syscall: Option<String>,
    /// what was in the registers of its arguments
    #[hidden]
    args: Vec<Hex>,
    /// where the process goes on
    #[hidden]
    pc: Option<Hex>,
    /// its stack pointer there
    #[hidden]
    sp: Option<Hex>,
    /// the call; `!`: of a 32-bit program
    call: String,
}

/// A system call.
#[derive(Row)]
struct DeclaredRow {
    /// its number
    nr: u64,
    /// as it is declared
    call: String,
}

impl Dcmd for Syscalls {
    const NAME: &'static str = "syscalls";
    const ALIASES: &'static [&'static str] = &["syscall"];
    const ROWS: &'static [&'static engine::Schema] = &[SyscallRow::SCHEMA, DeclaredRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.list {
            return list(cx, out);
        }
        match at {
            Some(at) => self.show(cx, at.addr, out),
            None => task::threads(cx, &mut |task| match self.show(cx, task, out) {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(task, format!("task: {}", e.kind()));
                    Ok(())
                }
                result => result,
            }),
        }
    }
}

fn list(cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
    let all = Calls::of(cx)?.all();
    if all.is_empty() {
        return Err(Error::Unavailable("this kernel did not keep its system calls' declarations".into()));
    }
    all.into_iter().try_for_each(|(nr, declared)| {
        let parameter =
            |p: &Parameter| format!("{}{}{}", p.ctype, if p.ctype.ends_with('*') { "" } else { " " }, p.name);
        let parameters: Vec<String> = declared.parameters.iter().map(parameter).collect();
        out.row(DeclaredRow { nr, call: format!("{}({})", declared.name, parameters.join(", ")) })
    })
}

impl Syscalls {
    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let task: Task = cx.view(addr)?;
        if task.is_kernel_thread() {
            return Ok(());
        }
        let doing = syscall::of_trace(cx, &unwind::of_task(cx, addr)?)?;
        let row = |nr, syscall, args, pc, sp, call| SyscallRow {
            thread: cx.object("task_struct", addr),
            pid: task.pid,
            s: task.state().to_string(),
            name: task.comm.clone(),
            nr,
            syscall,
            args,
            pc,
            sp,
            call,
        };
        let idle = |pc, sp, text: &str| row(None, None, Vec::new(), pc, sp, format!("<{text}>"));
        match doing {
            Doing::Call(call) => {
                let text = Arguments { cx, task: addr, plain: self.numbers }.call(&call)?;
                let args = match &call.declared {
                    Some(declared) if !declared.parameters.is_empty() => declared.parameters.len(),
                    _ => call.arguments.len(),
                };
                let args = call.arguments.iter().take(args).map(|a| Hex(*a)).collect();
                let name = call.declared.as_ref().map(|declared| declared.name.clone());
                out.row(row(Some(call.number), name, args, Some(Hex(call.pc)), Some(Hex(call.sp)), text))
            }
            Doing::Elsewhere { pc, sp } if self.all => {
                out.row(idle(Some(Hex(pc)), Some(Hex(sp)), "in the kernel, but for no system call"))
            }
            Doing::Running if self.all => out.row(idle(None, None, "running its own code")),
            Doing::Unknown(why) => {
                cx.notes.add(addr, format!("what a task asked for: {why}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Text of another process is cut off here.
const MAX_TEXT: u64 = 64;

/// Spells arguments out.
struct Arguments<'a> {
    cx: &'a Cx<'a>,
    task: u64,
    plain: bool,
}

impl Arguments<'_> {
    fn call(&self, call: &Call) -> Result<String> {
        let mark = if call.compat { "!" } else { "" };
        let Some(declared) = &call.declared else {
            let words: Vec<String> = call.arguments.iter().map(|a| format!("{a:#x}")).collect();
            return Ok(format!("{mark}{}({})", call.number, words.join(", ")));
        };
        if declared.parameters.is_empty() && walkers::syscall::Calls::of(self.cx)?.all().is_empty() {
            // only the name is known
            let words: Vec<String> = call.arguments.iter().map(|a| format!("{a:#x}")).collect();
            return Ok(format!("{mark}{}({})", declared.name, words.join(", ")));
        }
        let mut words = Vec::new();
        for (parameter, value) in declared.parameters.iter().zip(call.arguments) {
            // how much of a buffer is text is told by its neighbour
            let count =
                declared.parameters.iter().zip(call.arguments).find(|(p, _)| p.name == "count" || p.name == "len");
            let text = self.argument(parameter, value, count.map(|(_, count)| count))?;
            words.push(format!("{}={text}", parameter.name));
        }
        Ok(format!("{mark}{}({})", declared.name, words.join(", ")))
    }

    fn argument(&self, parameter: &Parameter, value: u64, count: Option<u64>) -> Result<String> {
        let ctype = parameter.ctype.as_str();
        if ctype.contains('*') {
            return self.pointer(parameter, value, count);
        }
        if is_descriptor(&parameter.name) && !ctype.contains("long") {
            return self.descriptor(value as u32 as i32);
        }
        let narrow =
            !(ctype.contains("long") || ctype.contains("size_t") || ctype.contains("loff_t") || ctype.ends_with("64"));
        Ok(match parameter.name.as_str() {
            "mode" if ctype == "umode_t" => format!("0{:o}", value as u16),
            name if name.contains("flag") || matches!(name, "mask" | "prot" | "cmd" | "op") => spell(value, narrow),
            "sig" => signal::name(value as u32),
            _ if ctype.contains("unsigned") || ctype.starts_with('u') || ctype.contains("size_t") => {
                spell(value, narrow)
            }
            _ if narrow => (value as u32 as i32).to_string(),
            _ => (value as i64).to_string(),
        })
    }

    fn pointer(&self, parameter: &Parameter, value: u64, count: Option<u64>) -> Result<String> {
        if value == 0 {
            return Ok("NULL".into());
        }
        let is_text = parameter.ctype.replace(' ', "").starts_with("constchar");
        if self.plain || !is_text {
            return Ok(format!("{value:#x}"));
        }
        let Some(memory) = Memory::of(self.cx, self.task)? else { return Ok(format!("{value:#x}")) };
        let text = match count.filter(|_| parameter.name == "buf") {
            Some(count) => memory.prefix(value, count.min(MAX_TEXT)).map(|bytes| engine::text::decode(&bytes)),
            None => memory.text(value, MAX_TEXT),
        };
        match text {
            Ok(text) => {
                let cut = count.unwrap_or(text.len() as u64).max(text.len() as u64) > text.len() as u64
                    || text.len() as u64 == MAX_TEXT;
                Ok(format!("{}{}", quote(&text), if cut { "…" } else { "" }))
            }
            Err(e) if e.is_control() => Err(e),
            // not in the dump: the number stands for it
            Err(_) => Ok(format!("{value:#x}")),
        }
    }

    fn descriptor(&self, fd: i32) -> Result<String> {
        /// `AT_FDCWD` of fcntl(2)
        const AT_FDCWD: i32 = -100;
        if fd == AT_FDCWD {
            return Ok("AT_FDCWD".into());
        }
        let Ok(number) = u32::try_from(fd) else { return Ok(fd.to_string()) };
        if self.plain {
            return Ok(fd.to_string());
        }
        let path = file::of_fd(self.cx, self.task, number).and_then(|file| match file {
            Some(file) => self.cx.view::<File>(file)?.path(self.cx).map(Some),
            None => Ok(None),
        });
        match path {
            Ok(Some(path)) => Ok(format!("{fd}<{path}>")),
            Ok(None) => Ok(fd.to_string()),
            Err(e) if e.is_control() => Err(e),
            Err(_) => Ok(fd.to_string()),
        }
    }
}

/// Whether an argument of that name is a descriptor: the kernel has no type of its own for them.
fn is_descriptor(name: &str) -> bool {
    matches!(name, "fildes" | "ufd" | "dfd" | "fdin" | "fdout" | "group_fd") || {
        let name = name.trim_start_matches("old").trim_start_matches("new");
        matches!(name, "fd" | "dfd" | "epfd" | "mqdes" | "dirfd" | "pidfd")
            || name.ends_with("_fd")
            || name.starts_with("fd_")
    }
}

/// Text in quotes.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// An unsigned number: small ones as people count, others in hex.
fn spell(value: u64, narrow: bool) -> String {
    let value = if narrow { u64::from(value as u32) } else { value };
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Syscalls>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_known_by_their_names() {
        for name in ["fd", "oldfd", "newdfd", "epfd", "fd_in", "out_fd", "fildes", "pidfd"] {
            assert!(is_descriptor(name), "{name}");
        }
        for name in ["fds", "ufds", "flags", "nfds", "offset"] {
            assert!(!is_descriptor(name), "{name}");
        }
        assert_eq!(spell(0xffff_ffff_0000_0010, true), "0x10");
        assert_eq!(spell(7, false), "7");
    }
}
