//! System calls under way: what a task asked of the kernel, from the registers that it entered with.
//!
//! Those lie at the top of its kernel stack, a `struct pt_regs`: where unwinding ends. The number is the kernel's own; its
//! name, and the names and types of its arguments, are in the `struct syscall_metadata` (include/trace/syscall.h) that
//! every SYSCALL_DEFINE makes for ftrace. Without those (CONFIG_FTRACE_SYSCALLS), the functions on the stack still tell the
//! name: `__x64_sys_read`.
//!
//! ```console
//! > 0t165::pid2task | ::print -a stack
//! ff2ee9c204cc0018 stack = 0xff544a1f40164000
//! ```

use crate::unwind::{self, End, Trace};
use engine::{ViewEntry, prelude::*, targets::Arch};
use std::{collections::HashMap, sync::Arc};

/// What the kernel wrote down about a system call.
#[derive(View)]
#[ctype("syscall_metadata")]
struct Metadata {
    /// `sys_read`
    name: String,
    /// an `int`; seven bits of a byte since Linux 6.19
    nb_args: u32,
    types: u64,
    args: u64,
}

/// An argument as its system call declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `const char *`
    pub ctype: String,
    /// `filename`
    pub name: String,
}

/// A system call as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// without `sys_`
    pub name: String,
    /// what it takes
    pub parameters: Vec<Parameter>,
}

/// A system call of a task.
#[derive(Clone, Debug)]
pub struct Call {
    /// its number
    pub number: u64,
    /// what it is; `None` if nothing tells
    pub declared: Option<Arc<Declared>>,
    /// what was in the registers of arguments
    pub arguments: [u64; 6],
    /// whether a 32-bit program called
    pub compat: bool,
    /// where user code goes on
    pub pc: u64,
    /// its stack pointer
    pub sp: u64,
}

/// What a task is doing, seen from user code.
#[derive(Clone, Debug)]
pub enum Doing {
    /// in a system call
    Call(Call),
    /// in the kernel for another reason: a page fault, an interrupt, an exception
    Elsewhere {
        /// where user code goes on
        pc: u64,
        /// its stack pointer
        sp: u64,
    },
    /// running user code
    Running,
    /// nothing: a kernel thread, or one that died
    Nothing,
    /// that cannot be told
    Unknown(String),
}

/// The registers a system call passes its arguments in, by the member of `struct pt_regs`.
const X86_64: [&str; 6] = ["di", "si", "dx", "r10", "r8", "r9"];
const IA32: [&str; 6] = ["bx", "cx", "dx", "si", "di", "bp"];
/// `__USER32_CS`, the code segment of 32-bit programs (arch/x86/include/asm/segment.h).
pub(crate) const USER32_CS: u64 = 0x23;
/// Where they are in what ptrace(2) shows, with which a `struct pt_regs` begins: for kernels that tell nothing of their types.
const CS: u64 = 17 * 8;
const PSTATE: u64 = 33 * 8;
/// `PSR_MODE32_BIT` (arch/arm64/include/uapi/asm/ptrace.h).
pub(crate) const MODE32: u64 = 0x10;
/// More arguments than any system call has.
const MAX_ARGUMENTS: u64 = 6;
/// More than any architecture's table has; how many one has is in no type.
const MAX_CALLS: u64 = 512;

/// More in a row cannot be read only behind the end of the table: a page has this many declarations, 64 bytes each.
const MOST_LOST: u64 = 4096 / 64;

/// Every system call by its name.
#[derive(Debug, Default)]
pub struct Calls {
    by_name: HashMap<String, Arc<Declared>>,
    by_number: HashMap<u64, Arc<Declared>>,
    /// entries of the table that could not be read, with others behind them
    lost: u64,
    /// where the table itself is not in the dump
    cut: Option<u64>,
}

impl Calls {
    /// The session's. What could not be read is noted for every command that asks.
    pub fn of(session: &Session) -> Result<Arc<Calls>> {
        let calls = session.once(|| Calls::read(session))?;
        if calls.lost > 0 {
            session.notes.once(0, format!("the declarations of {} system calls cannot be read", calls.lost));
        }
        if let Some(at) = calls.cut {
            session.notes.once(at, "the table of system calls' declarations cannot be read from here on");
        }
        Ok(calls)
    }

    fn read(session: &Session) -> Result<Calls> {
        let mut calls = Calls::default();
        // an array of pointers by number, made at boot from what lay in __start_syscalls_metadata and was then freed
        let Some(table) = session.kernel_symbol("syscalls_metadata") else { return Ok(calls) };
        let Ok(table) = session.u64(table) else {
            calls.cut = Some(table);
            return Ok(calls);
        };
        // of those in a row that cannot be read
        let mut bad = 0;
        for number in 0..MAX_CALLS {
            match session.u64(table.wrapping_add(8 * number)) {
                Ok(0) => {}
                Ok(at) => match declared(session, at) {
                    Ok(declared) => {
                        calls.add(number, declared);
                        calls.lost += std::mem::take(&mut bad);
                    }
                    Err(e) if e.is_control() => return Err(e),
                    // behind the end there is something else
                    Err(_) => bad += 1,
                },
                Err(e) if e.is_control() => return Err(e),
                Err(_) => {
                    calls.cut = Some(table.wrapping_add(8 * number));
                    break;
                }
            }
            if bad > MOST_LOST {
                break;
            }
        }
        Ok(calls)
    }

    fn add(&mut self, number: u64, declared: Declared) {
        let declared = Arc::new(declared);
        self.by_name.entry(declared.name.clone()).or_insert_with(|| Arc::clone(&declared));
        self.by_number.insert(number, declared);
    }

    /// All with a number, in that order.
    pub fn all(&self) -> Vec<(u64, Arc<Declared>)> {
        let mut all: Vec<_> = self.by_number.iter().map(|(n, d)| (*n, Arc::clone(d))).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    /// The name of a number.
    pub fn name(&self, number: u64) -> Option<String> {
        self.by_number.get(&number).map(|declared| declared.name.clone())
    }

    /// What is declared of a number.
    pub fn declared(&self, number: u64) -> Option<Arc<Declared>> {
        self.by_number.get(&number).cloned()
    }

    /// The one that a task is in. A number of a 32-bit program means another than that of a 64-bit one.
    fn find(&self, number: u64, on_stack: Option<&str>, compat: bool) -> Option<Arc<Declared>> {
        let plain = if compat { None } else { self.by_number.get(&number) };
        let found = plain.or_else(|| self.by_name.get(on_stack?)).cloned();
        found.or_else(|| on_stack.map(|name| Arc::new(Declared { name: name.to_owned(), parameters: Vec::new() })))
    }
}

/// What the metadata at an address says; an error if there is none.
fn declared(session: &Session, at: u64) -> Result<Declared> {
    let view: Metadata = session.view(at)?;
    let count = u64::from(view.nb_args);
    let Some(name) = view.name.strip_prefix("sys_").filter(|_| count <= MAX_ARGUMENTS) else {
        return Err(Error::Corrupt { addr: at, what: "no metadata of a system call".into() });
    };
    let text = |array: u64, i: u64| session.cstr(session.u64(array.wrapping_add(8 * i))?, 64);
    let parameter = |i| Ok(Parameter { ctype: text(view.types, i)?, name: text(view.args, i)? });
    Ok(Declared { name: name.to_owned(), parameters: (0..count).map(parameter).collect::<Result<_>>()? })
}

/// The system call that the functions of a stack belong to, by the outermost that has such a name: each architecture
/// has a prefix of its own for what its entry code calls.
fn on_stack(session: &Session, trace: &Trace) -> Option<String> {
    const PREFIXES: [&str; 8] = [
        "__x64_sys_",
        "__arm64_sys_",
        "__ia32_compat_sys_",
        "__arm64_compat_sys_",
        "__ia32_sys_",
        "__do_sys_",
        "__se_sys_",
        "ksys_",
    ];
    trace.frames.iter().rev().take(6).find_map(|frame| {
        let symbol = session.symbols.by_addr(session, frame.pc.wrapping_sub(1))?;
        PREFIXES.iter().find_map(|prefix| symbol.name.strip_prefix(prefix)).map(str::to_owned)
    })
}

/// What a task is doing, by its call stack.
pub fn of_trace(session: &Session, trace: &Trace) -> Result<Doing> {
    match &trace.end {
        End::User(Some(regs)) => of_registers(session, trace, *regs),
        End::User(None) => Ok(Doing::Running),
        End::Bottom | End::Gone => Ok(Doing::Nothing),
        End::Broken(why) => Ok(Doing::Unknown(why.clone())),
    }
}

/// What a task is doing.
pub fn of_task(session: &Session, task: u64) -> Result<Doing> {
    of_trace(session, &unwind::of_task(session, task)?)
}

/// Where in a `struct pt_regs` the arguments of a system call lie as it begins, in bytes, in their order.
pub fn argument_offsets(session: &Session) -> Result<[u64; 6]> {
    let arm = session.target.arch() == Arch::Aarch64;
    let mut offsets = [0; 6];
    for (i, (offset, x86)) in offsets.iter_mut().zip(X86_64).enumerate() {
        *offset = match (arm, i) {
            (true, 0) => session.offset("pt_regs", "orig_x0")?,
            (true, _) => session.offset("pt_regs", "regs")? + 8 * i as u64,
            (false, _) => session.offset("pt_regs", x86)?,
        };
    }
    Ok(offsets)
}

/// Where in a `struct pt_regs` is told that a program of 32 bits called, whose system calls have numbers of their own: the
/// offset of a word in bytes, which bits of it, and what they are then.
pub fn told_compat(session: &Session) -> (u64, u64, u64) {
    match session.target.arch() {
        Arch::Aarch64 => (session.offset("pt_regs", "pstate").unwrap_or(PSTATE), MODE32, MODE32),
        _ => (session.offset("pt_regs", "cs").unwrap_or(CS), 0xffff, USER32_CS),
    }
}

fn of_registers(session: &Session, trace: &Trace, regs: u64) -> Result<Doing> {
    let get = |member: &str| session.u64(regs.wrapping_add(session.offset("pt_regs", member)?));
    let arm = session.target.arch() == Arch::Aarch64;
    let (pc, sp) = if arm { (get("pc")?, get("sp")?) } else { (get("ip")?, get("sp")?) };
    // a number of 32 bits, with the sign in front on x86
    let number = if arm {
        session.u32(regs.wrapping_add(session.offset("pt_regs", "syscallno")?))? as i32
    } else {
        get("orig_ax")? as i32
    };
    let on_stack = on_stack(session, trace);
    if number < 0 || (on_stack.is_none() && !entered(session, trace)) {
        return Ok(Doing::Elsewhere { pc, sp });
    }
    let compat = if arm { get("pstate")? & MODE32 != 0 } else { get("cs")? == USER32_CS };
    let mut arguments = [0; 6];
    for (i, argument) in arguments.iter_mut().enumerate() {
        *argument = match (arm, compat) {
            // the first one's register already takes the answer
            (true, _) if i == 0 => get("orig_x0")?,
            (true, _) => get(&format!("regs[{i}]"))?,
            (false, true) => get(IA32.get(i).copied().unwrap_or("ax"))?,
            (false, false) => get(X86_64.get(i).copied().unwrap_or("ax"))?,
        };
        if compat {
            *argument &= u64::from(u32::MAX);
        }
    }
    let declared = Calls::of(session)?.find(number as u64, on_stack.as_deref(), compat);
    Ok(Doing::Call(Call { number: number as u64, declared, arguments, compat, pc, sp }))
}

/// Whether a stack begins where system calls come in. A task that was interrupted in user code has a number, of old, as
/// well: arm64's entry code sets it to -1 only for those, but x86's puts the kind of exception there.
fn entered(session: &Session, trace: &Trace) -> bool {
    const ENTRIES: [&str; 8] = [
        "do_syscall_64",
        "entry_SYSCALL_64",
        "entry_SYSENTER_compat",
        "entry_SYSCALL_compat",
        "do_fast_syscall_32",
        "do_int80",
        "el0_svc",
        "ret_from_fork",
    ];
    trace.frames.iter().rev().take(4).any(|frame| {
        let symbol = session.symbols.by_addr(session, frame.pc.wrapping_sub(1));
        symbol.is_some_and(|symbol| ENTRIES.iter().any(|entry| symbol.name.starts_with(entry)))
    })
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Metadata>()];
