//! Programs: loaded, and run when we or an event say so.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::insn::Insn;
use crate::sys::{self, Attr, Command};

/// What a program is called by, which decides what it is given and what it may call (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A kprobe's or uprobe's registers (`struct pt_regs`).
    Kprobe = 2,
    /// A tracepoint's record, as its format in tracefs tells.
    Tracepoint = 5,
    /// A software event or a sample (`struct bpf_perf_event_data`).
    PerfEvent = 7,
    /// A tracepoint's raw arguments: up to twelve words. Can be run without any tracepoint since Linux 5.10
    /// (1b4d60ec162f).
    RawTracepoint = 17,
    /// A function's arguments, a word for each, and behind them what it returns. Since Linux 5.5 (fec56f5890d9).
    Tracing = 26,
}

/// The one way in which a program is to be attached, where the kernel must know it before (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// any that its kind has
    Any,
    /// functions of the kernel, many at once; since Linux 5.18
    Functions,
    /// places of a program, many at once; since Linux 6.6
    Places,
    /// where a function of the kernel begins, by its number in the kernel's BTF: [`Kind::Tracing`] only
    Entry(u32),
    /// where one returns
    Return(u32),
}

impl Use {
    /// The kernel's number for it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Use::Any => 0,
            Use::Entry(_) => 24,
            Use::Return(_) => 25,
            Use::Functions => 42,
            Use::Places => 48,
        }
    }
}

/// The kernel did not take a program.
#[derive(Debug)]
pub struct LoadError {
    /// what it answered
    pub error: io::Error,
    /// what its verifier said, if it got that far
    pub log: String,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.log.lines().rfind(|line| !line.starts_with("processed ") && !line.trim().is_empty());
        match last {
            Some(line) => write!(f, "{}: {line}", self.error),
            None => write!(f, "{}", self.error),
        }
    }
}
impl std::error::Error for LoadError {}

/// Helpers that read kernel memory may be called only by programs under a licence like the kernel's; the ones made
/// here are.
const LICENSE: &CStr = c"Dual MIT/GPL";
/// The fields of `union bpf_attr` up to `prog_name`'s end.
const LOAD: usize = 64;
/// Where its `expected_attach_type` is.
const EXPECTED: usize = 68;
/// Where its `attach_btf_id` is.
const FUNCTION: usize = 108;
/// The fields of its `test` part up to `ctx_out`.
const RUN: usize = 64;
/// The fields of its `raw_tracepoint` part up to `prog_fd`.
const OPEN: usize = 16;
/// Words of `struct bpf_prog_info` up to `recursion_misses`, and where of them what is read is.
const INFO: usize = 27;
const RUN_TIME: usize = 24;
const MISSED: usize = 26;
/// Most that the verifier is let say.
const LOG: usize = 1 << 16;
/// Words that a raw tracepoint has at most (`MAX_BPF_FUNC_ARGS`).
const MAX_ARGS: usize = 12;

/// A program in the kernel.
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program. `name` is what `bpftool prog` shows: up to 15 letters, digits, underscores.
    pub fn load(kind: Kind, name: &str, insns: &[Insn]) -> Result<Program, LoadError> {
        Program::load_as(Use::Any, kind, name, insns)
    }

    /// Loads a program that is to be attached in one way only.
    pub fn load_as(way: Use, kind: Kind, name: &str, insns: &[Insn]) -> Result<Program, LoadError> {
        // once without a log, which costs nothing when all is well
        match load((way, kind), name, insns, &mut []) {
            Ok(fd) => Ok(Program(fd)),
            Err(error) => {
                let mut log = vec![0; LOG];
                let error = match load((way, kind), name, insns, &mut log) {
                    Ok(fd) => return Ok(Program(fd)),
                    // a log that did not fit hides the reason
                    Err(with_log) if with_log.raw_os_error() == Some(libc::ENOSPC) => error,
                    Err(with_log) => with_log,
                };
                let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
                let log = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
                Err(LoadError { error, log })
            }
        }
    }

    /// The descriptor, for what runs it.
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Nanoseconds that it ran, and how often, since [`count_time`] began.
    pub fn cost(&self) -> io::Result<(u64, u64)> {
        let (info, _) = self.info()?;
        Ok((info[RUN_TIME], info[RUN_TIME + 1]))
    }

    /// Times it was not run, since it ran already on that CPU. `None` of kernels that do not count this: those before Linux
    /// 5.12 (9ed9e9ba2337), which do not keep a program at a function from interrupting itself either (ca06f55b9002).
    pub fn missed(&self) -> io::Result<Option<u64>> {
        let (info, words) = self.info()?;
        Ok((words > MISSED).then_some(info[MISSED]))
    }

    /// What the kernel says of it, and how many words that are.
    fn info(&self) -> io::Result<([u64; INFO], usize)> {
        let mut info = [0; INFO];
        let mut attr = Attr::new()
            .u32(0, self.0.as_raw_fd() as u32)
            .u32(4, (INFO * 8) as u32)
            .u64(8, info.as_mut_ptr().addr() as u64);
        // SAFETY: `info` has so many writable bytes, and asks for no list, whose addresses would be in it.
        #[allow(unsafe_code)]
        unsafe {
            sys::call(Command::GetInfo, &mut attr, 16)?
        };
        Ok((info, attr.get_u32(4) as usize / 8))
    }

    /// Runs a [raw tracepoint](Kind::RawTracepoint)'s program whenever the tracepoint of that name is passed, until what is
    /// returned is closed.
    pub fn attach_raw(&self, name: &str) -> io::Result<OwnedFd> {
        self.open(Some(&CString::new(name)?))
    }

    /// Runs a program at the function that it was loaded for ([`Use::Entry`], [`Use::Return`]), until what is returned is
    /// closed.
    pub fn attach_function(&self) -> io::Result<OwnedFd> {
        self.open(None)
    }

    fn open(&self, name: Option<&CStr>) -> io::Result<OwnedFd> {
        let name = name.map_or(0, |name| name.as_ptr().addr() as u64);
        let mut attr = Attr::new().u64(0, name).u32(8, self.0.as_raw_fd() as u32);
        // SAFETY: the name, if any, ends with a NUL and outlives the call, which writes nothing.
        #[allow(unsafe_code)]
        let fd = unsafe { sys::call(Command::RawTracepointOpen, &mut attr, OPEN)? };
        Ok(sys::owned(fd))
    }

    /// Runs the program once, here and now, with these words for arguments; returns the lower half of its result.
    pub fn run(&self, args: &[u64]) -> io::Result<u32> {
        if args.len() > MAX_ARGS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attr = Attr::new()
            .u32(0, self.0.as_raw_fd() as u32)
            .u32(40, (args.len() * 8) as u32) // ctx_size_in
            .u64(48, args.as_ptr().addr() as u64); // ctx_in
        // SAFETY: `ctx_in` is `ctx_size_in` readable bytes; the kernel writes nowhere but to `attr`.
        #[allow(unsafe_code)]
        unsafe {
            sys::call(Command::ProgTestRun, &mut attr, RUN)?
        };
        Ok(attr.get_u32(4))
    }
}

/// Has the kernel measure how long programs run, for as long as the descriptor is open. Linux 5.8 (d46edd671a14) can.
pub fn count_time() -> io::Result<OwnedFd> {
    // SAFETY: the structure holds no address; type 0 is BPF_STATS_RUN_TIME.
    #[allow(unsafe_code)]
    let fd = unsafe { sys::call(Command::EnableStats, &mut Attr::new(), 4)? };
    Ok(sys::owned(fd))
}

fn load((way, kind): (Use, Kind), name: &str, insns: &[Insn], log: &mut [u8]) -> io::Result<OwnedFd> {
    let code: Vec<[u8; Insn::SIZE]> = insns.iter().map(|insn| insn.bytes()).collect();
    let mut attr = Attr::new()
        .u32(0, kind as u32)
        .u32(4, insns.len() as u32)
        .u64(8, code.as_ptr().addr() as u64)
        .u64(16, LICENSE.as_ptr().addr() as u64);
    if !log.is_empty() {
        attr = attr.u32(24, 1).u32(28, log.len() as u32).u64(32, log.as_mut_ptr().addr() as u64);
    }
    // prog_name: 16 bytes with a NUL
    for (i, byte) in name.bytes().take(15).enumerate() {
        attr = attr.u8(48 + i, byte);
    }
    // kernels that do not know the field want no more than is there of it
    let mut size = LOAD;
    if way != Use::Any {
        (attr, size) = (attr.u32(EXPECTED, way.number()), EXPECTED + 4);
    }
    if let Use::Entry(function) | Use::Return(function) = way {
        (attr, size) = (attr.u32(FUNCTION, function), FUNCTION + 4);
    }
    // SAFETY: the code has so many instructions, the licence ends with a NUL, the log has so many writable bytes.
    #[allow(unsafe_code)]
    let fd = unsafe { sys::call(Command::ProgLoad, &mut attr, size)? };
    Ok(sys::owned(fd))
}
