//! Where a probe sits, and how a program is put there.

use crate::{
    Error, Result,
    elf::{DELETED, Site},
    expr::{Binary, Int, Space},
    perf::{self, Attr, Event, Scope, kind, sample, software},
    registers,
    tracefs::Tracepoint,
};
use bpf::prog::Kind;
use std::{
    ffi::CString,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// Where a probe sits.
#[derive(Clone, Debug)]
pub enum Source {
    /// a tracepoint of the kernel
    Tracepoint(Tracepoint),
    /// a tracepoint of the kernel, which gives what the code there has, and no record
    Raw {
        /// its name, without a group
        name: String,
    },
    /// a system call's return
    Syscall {
        /// as it was written
        name: String,
        /// the numbers it stands for; all if there are none
        numbers: Vec<u64>,
        /// names of what it takes, with the C type each is declared with
        parameters: Vec<(String, String)>,
    },
    /// an instruction of the kernel
    Kernel {
        /// the function
        function: String,
        /// its address, if it is known
        at: Option<u64>,
        /// whether others have that name as well, so that it is probed by its address
        several: bool,
        /// whether it is a copy that stands in another function's code
        inlined: bool,
        /// bytes behind its first instruction
        offset: u64,
        /// when it returns
        on_return: bool,
        /// how it is called, where that is known and all of it is numbers and addresses
        prototype: Option<Prototype>,
    },
    /// an instruction of a program or library
    User {
        /// the file
        file: PathBuf,
        /// where in it
        site: Site,
        /// when the function returns
        on_return: bool,
    },
    /// a software event, one hit for so many of them
    Software {
        /// its number, of [`software`]
        event: u64,
        /// how many make a hit
        period: u64,
    },
    /// a timer on each CPU, so many times a second
    Clock {
        /// times a second
        hertz: u64,
    },
}

/// How a function of the kernel is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// the function's number in the kernel's BTF
    pub number: u32,
    /// how many arguments it takes, each a number or an address in a register of its own
    pub arguments: u8,
}

impl Source {
    /// What kind of program goes there.
    pub fn program(&self) -> Kind {
        match self {
            Source::Tracepoint(_) => Kind::Tracepoint,
            Source::Raw { .. } | Source::Syscall { .. } => Kind::RawTracepoint,
            Source::Kernel { .. } | Source::User { .. } => Kind::Kprobe,
            Source::Software { .. } | Source::Clock { .. } => Kind::PerfEvent,
        }
    }

    /// What a program there returns. At a tracepoint zero would hide the event from everybody else on this machine.
    pub fn result(&self) -> i32 {
        i32::from(matches!(self, Source::Tracepoint(_)))
    }

    /// As users write it.
    pub fn name(&self) -> String {
        match self {
            Source::Tracepoint(point) => format!("t:{}:{}", point.group, point.name),
            Source::Raw { name } => format!("rt:{name}"),
            Source::Syscall { name, .. } => format!("s:{name}"),
            Source::Kernel { function, offset, on_return, .. } => {
                let offset = if *offset == 0 { String::new() } else { format!("+{offset:#x}") };
                format!("{}:{function}{offset}", if *on_return { "kr" } else { "k" })
            }
            Source::User { file, site, on_return } => {
                let file = shown(file);
                let kind = match (site.usdt, on_return) {
                    (true, _) => "usdt",
                    (false, true) => "ur",
                    (false, false) => "u",
                };
                format!("{kind}:{file}:{}", site.name)
            }
            Source::Software { event, .. } => {
                let name = software::NAMES.iter().find(|(_, number)| number == event).map_or("event", |(name, _)| name);
                format!("sw:{name}")
            }
            Source::Clock { hertz } => format!("cpu:{hertz}hz"),
        }
    }

    /// Whether a probe there can be bound to one process by the kernel; else the program's condition must do it.
    pub fn binds(&self) -> bool {
        matches!(self, Source::User { .. })
    }

    /// Whether it is where a function begins.
    pub fn is_entry(&self) -> bool {
        match self {
            Source::Kernel { on_return: false, inlined: false, offset: 0, .. } => true,
            Source::User { site, on_return: false, .. } => !site.usdt && !site.inlined && !site.name.contains("+0x"),
            _ => false,
        }
    }

    /// Puts the program there. It runs until the events are dropped.
    pub fn attach(&self, program: &bpf::Program, pid: Option<i32>) -> Result<Vec<OwnedFd>> {
        let raw = match self {
            Source::Raw { name } => Some(name.as_str()),
            Source::Syscall { .. } => Some("sys_exit"),
            _ => None,
        };
        if let Some(name) = raw {
            let link = program.attach_raw(name).map_err(|error| self.refused(error))?;
            return Ok(vec![link]);
        }
        let events = self.open(pid, None)?;
        for event in &events {
            event.set_program(program).map_err(Error::refused(format!("{}: attaching a BPF program", self.name())))?;
            event.enable().map_err(Error::refused(self.name()))?;
        }
        Ok(events.into_iter().map(OwnedFd::from).collect())
    }

    /// Opens what a program is attached to. None is enabled.
    pub(crate) fn events(&self, pid: Option<i32>) -> Result<Vec<Event>> {
        self.open(pid, None)
    }

    /// Opens an event on each CPU, in the order of their numbers, whose samples hold these parts, of the user's stack so
    /// many bytes. None is enabled.
    pub fn sample(&self, parts: u64, stack: u32) -> Result<Vec<Event>> {
        self.open(None, Some((parts, stack)))
    }

    /// Opens its events: with parts to sample, one for each CPU.
    fn open(&self, pid: Option<i32>, parts: Option<(u64, u32)>) -> Result<Vec<Event>> {
        let refused = |error| self.refused(error);
        let each = |attr: Attr| match parts {
            Some(parts) => on_each_cpu(&sampled(attr, parts)),
            None => on_each_cpu(&attr),
        };
        let one = |attr: Attr, scope: Scope| match parts {
            Some(_) => each(attr.period(1)).map_err(refused),
            None => Ok(vec![attr.open(scope).map_err(refused)?]),
        };
        match self {
            Source::Tracepoint(point) => {
                // one event is enough: the program runs on every CPU, and for everybody. It counts on its own CPU, and
                // with a period it would make a sample of each hit there, which takes longer than the program
                one(Attr::new(kind::TRACEPOINT, point.id), Scope::Cpu(0))
            }
            Source::Raw { .. } | Source::Syscall { .. } => Ok(Vec::new()),
            Source::Kernel { at: Some(at), several: true, offset, on_return, .. } => {
                let (device, config) = probe("kprobe", *on_return).map_err(refused)?;
                let attr = Attr::new(device, config).place(0, at.wrapping_add(*offset));
                one(attr, Scope::Cpu(0))
            }
            Source::Kernel { function, offset, on_return, .. } => {
                let name =
                    CString::new(function.as_str()).map_err(|_| Error::Wrong(format!("no function {function:?}")))?;
                let (device, config) = probe("kprobe", *on_return).map_err(refused)?;
                let attr = Attr::new(device, config).place(name.as_ptr().addr() as u64, *offset);
                one(attr, Scope::Cpu(0))
            }
            Source::User { file, site, on_return } => {
                let path = CString::new(file.as_os_str().as_bytes())
                    .map_err(|_| Error::Wrong(format!("no file {}", file.display())))?;
                let (device, mut config) = probe("uprobe", *on_return).map_err(refused)?;
                if let Some(semaphore) = site.semaphore {
                    config |= semaphore << perf::format_bit("uprobe", "ref_ctr_offset").map_err(refused)?;
                }
                let attr = Attr::new(device, config).place(path.as_ptr().addr() as u64, site.offset);
                one(attr, pid.map_or(Scope::Cpu(0), Scope::Task))
            }
            Source::Software { event, period } => {
                each(Attr::new(kind::SOFTWARE, *event).period(*period)).map_err(refused)
            }
            Source::Clock { hertz } => {
                each(Attr::new(kind::SOFTWARE, software::CPU_CLOCK).frequency(*hertz)).map_err(refused)
            }
        }
    }

    /// What a refusal most likely means here.
    fn refused(&self, error: io::Error) -> Error {
        let name = self.name();
        // what the kernel says there has other words for this
        if error.raw_os_error() == Some(libc::EILSEQ) {
            return Error::Wrong(format!("{name}: no instruction begins there; `FUNCTION::dis` shows where they do"));
        }
        let what = match (error.raw_os_error(), self) {
            (Some(libc::EPERM | libc::EACCES), _) if crate::is_locked_down() => {
                format!("{name}: the kernel is locked down (confidentiality), and does not permit it")
            }
            (Some(libc::EPERM | libc::EACCES), _) => {
                format!("{name}: not permitted: needs root ({})", perf::paranoid())
            }
            (Some(libc::ENOENT), Source::Kernel { .. }) if perf::device_type("kprobe").is_err() => {
                format!("{name}: this kernel is built without kprobes; tracepoints (t:) and uprobes (u:) may be there")
            }
            (Some(libc::ENOENT), Source::Kernel { function, .. }) => {
                format!("{name}: the kernel has no function `{function}` to probe")
            }
            (Some(libc::ENOENT), Source::Raw { name }) => format!("this kernel has no tracepoint {name}"),
            (Some(libc::EINVAL), Source::Kernel { .. }) => {
                format!("{name}: the kernel does not let this function be probed")
            }
            (Some(libc::ESRCH), _) => format!("{name}: there is no such process"),
            (Some(libc::EMFILE), _) => format!("{name}: too many open files (ulimit -n)"),
            _ => name,
        };
        Error::Refused { what, error }
    }
}

/// The name of a file; of one that is only reached through a process that has it mapped, what it was called.
fn shown(file: &Path) -> String {
    let indirect =
        file.starts_with("/proc") && (file.ends_with("exe") || file.components().any(|c| c.as_os_str() == "map_files"));
    let target = indirect.then(|| std::fs::read_link(file).ok()).flatten();
    let file = target.as_deref().unwrap_or(file);
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    name.trim_end_matches(DELETED).to_owned()
}

/// With the parts of a sample, and what they need to be told.
fn sampled(attr: Attr, (parts, stack): (u64, u32)) -> Attr {
    let attr = attr.sample(parts).registers(if parts & sample::REGS_INTR != 0 { registers::MASK } else { 0 });
    match parts & sample::STACK_USER {
        0 => attr,
        _ => attr.stacks(0, USER_REGISTERS, stack),
    }
}

fn on_each_cpu(attr: &Attr) -> io::Result<Vec<Event>> {
    perf::online_cpus()?.into_iter().map(|cpu| attr.open(Scope::Cpu(cpu))).collect()
}

/// The type and config of a dynamic probe.
fn probe(device: &str, on_return: bool) -> io::Result<(u32, u64)> {
    let config = if on_return { 1 << perf::format_bit(device, "retprobe")? } else { 0 };
    Ok((perf::device_type(device)?, config))
}

/// The user's registers that come with an event (`enum perf_event_x86_regs`): ax, bx, cx, dx, si, di, bp, sp, ip and
/// r8 to r15, in that order.
#[cfg(not(target_arch = "aarch64"))]
pub const USER_REGISTERS: u64 = 0xff_01ff;
/// The user's registers that come with an event (`enum perf_event_arm_regs`): x0 to x30, sp and pc.
#[cfg(target_arch = "aarch64")]
pub const USER_REGISTERS: u64 = (1 << 33) - 1;

/// Where registers lie in what a program at an instruction is given (`struct pt_regs`), by name.
pub fn register(name: &str) -> Option<u16> {
    #[cfg(target_arch = "x86_64")]
    {
        const NAMES: [&str; 21] = [
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
            "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
        ];
        NAMES.iter().position(|n| *n == name).map(|i| i as u16 * 8)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let number = name.strip_prefix('x').and_then(|n| n.parse::<u16>().ok()).filter(|n| *n < 31);
        number
            .or(match name {
                "lr" => Some(30),
                "sp" => Some(31),
                "pc" => Some(32),
                _ => None,
            })
            .map(|i| i * 8)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = name;
        None
    }
}

/// Where a function's arguments are when it is entered, those of them that come in registers.
pub fn argument(index: usize) -> Option<u16> {
    #[cfg(target_arch = "aarch64")]
    const NAMES: &[&str] = &["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"];
    #[cfg(not(target_arch = "aarch64"))]
    const NAMES: &[&str] = &["rdi", "rsi", "rdx", "rcx", "r8", "r9"];
    register(NAMES.get(index)?)
}

/// Where the arguments of a system call are as it begins, by the system's interface for programs.
pub fn syscall_argument(index: usize) -> Option<u16> {
    #[cfg(target_arch = "aarch64")]
    const NAMES: [&str; 6] = ["x0", "x1", "x2", "x3", "x4", "x5"];
    #[cfg(not(target_arch = "aarch64"))]
    const NAMES: [&str; 6] = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
    register(NAMES.get(index)?)
}

/// What tells calls of a function apart that are under way in one thread: where the stack stood in front of the call.
pub fn frame(on_return: bool) -> Option<Int> {
    let sp = |name| Some(Int::context(register(name)?, 8, false));
    match cfg!(target_arch = "x86_64") {
        // the call put its return address there, and the return has taken it away
        true if !on_return => Some(Int::binary(Binary::Add, sp("rsp")?, Int::Const(8))),
        true => sp("rsp"),
        false => sp("sp"),
    }
}

/// The address that a function returns to, when it is entered: on the stack of the kernel or of a process, or in a register.
pub fn caller(space: Space) -> Option<Int> {
    let word = |name| Some(Int::context(register(name)?, 8, false));
    match cfg!(target_arch = "x86_64") {
        true => Some(Int::load(space, word("rsp")?, 0, 8, false)),
        false => word("x30"),
    }
}

/// Where a function's value is when it returns.
pub fn return_value() -> Option<u16> {
    result(0)
}

/// Where the words of a function's value are when it returns, the first two of them.
pub fn result(index: usize) -> Option<u16> {
    const NAMES: [&str; 2] = if cfg!(target_arch = "aarch64") { ["x0", "x1"] } else { ["rax", "rdx"] };
    register(NAMES.get(index)?)
}

/// Where a register is, by the number that DWARF has for it (the System V ABI of x86-64, figure 3.36; DWARF for the Arm
/// 64-bit Architecture, 4.1). None for what is no register for whole numbers.
pub fn dwarf_register(number: u16) -> Option<u16> {
    if cfg!(target_arch = "aarch64") {
        return (number < 32).then_some(number * 8);
    }
    const NAMES: [&str; 16] =
        ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    register(NAMES.get(usize::from(number))?)
}
