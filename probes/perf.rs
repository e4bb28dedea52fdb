//! perf_event_open(2): events, opened one at a time.
//!
//! **Invariant:** an event lives as long as its [`Event`]; closing it detaches the program on it.

use bpf::Program;
use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `struct perf_event_attr` as of Linux 4.1 (PERF_ATTR_SIZE_VER5), which every kernel with BPF takes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

/// Kinds of events whose numbers are fixed (`enum perf_type_id`).
pub mod kind {
    #![allow(missing_docs)]
    pub const SOFTWARE: u32 = 1;
    pub const TRACEPOINT: u32 = 2;
}

/// Software events (`enum perf_sw_ids`).
pub mod software {
    #![allow(missing_docs)]
    pub const CPU_CLOCK: u64 = 0;
    pub const PAGE_FAULTS: u64 = 2;
    pub const CONTEXT_SWITCHES: u64 = 3;
    pub const CPU_MIGRATIONS: u64 = 4;
    pub const PAGE_FAULTS_MIN: u64 = 5;
    pub const PAGE_FAULTS_MAJ: u64 = 6;
    pub const ALIGNMENT_FAULTS: u64 = 7;
    pub const EMULATION_FAULTS: u64 = 8;
    pub const DUMMY: u64 = 9;
    pub const BPF_OUTPUT: u64 = 10;
    /// names as users write them
    pub const NAMES: &[(&str, u64)] = &[
        ("cpu-clock", CPU_CLOCK),
        ("page-faults", PAGE_FAULTS),
        ("context-switches", CONTEXT_SWITCHES),
        ("cpu-migrations", CPU_MIGRATIONS),
        ("minor-faults", PAGE_FAULTS_MIN),
        ("major-faults", PAGE_FAULTS_MAJ),
        ("alignment-faults", ALIGNMENT_FAULTS),
        ("emulation-faults", EMULATION_FAULTS),
    ];
}

/// Parts of a sample (`enum perf_event_sample_format`).
pub mod sample {
    #![allow(missing_docs)]
    pub const TID: u64 = 1 << 1;
    pub const TIME: u64 = 1 << 2;
    pub const CALLCHAIN: u64 = 1 << 5;
    pub const CPU: u64 = 1 << 7;
    pub const RAW: u64 = 1 << 10;
    pub const REGS_USER: u64 = 1 << 12;
    pub const STACK_USER: u64 = 1 << 13;
    pub const IDENTIFIER: u64 = 1 << 16;
    pub const REGS_INTR: u64 = 1 << 18;
}

const DISABLED: u64 = 1 << 0;
const FREQ: u64 = 1 << 10;
/// PERF_RECORD_MMAP2 for executable mappings, PERF_RECORD_COMM, _FORK and _EXIT, the time behind each of them, and a
/// mark on a name that came of an exec.
const TASKS: u64 = 1 << 8 | 1 << 9 | 1 << 13 | 1 << 18 | 1 << 23 | 1 << 24;
const WATERMARK: u64 = 1 << 14;
const USE_CLOCKID: u64 = 1 << 25;
const FLAG_FD_CLOEXEC: u64 = 8;

/// Calls of ioctl(2), the same on every architecture that has our kernels.
mod ioctl {
    pub const ENABLE: u64 = 0x2400;
    pub const SET_OUTPUT: u64 = 0x2405;
    pub const SET_FILTER: u64 = 0x4008_2406;
    pub const ID: u64 = 0x8008_2407;
    pub const SET_BPF: u64 = 0x4004_2408;
}

/// Whose events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// everybody's on one CPU
    Cpu(u32),
    /// one thread's, wherever it runs
    Task(i32),
}

/// What to open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attr(RawAttr);

impl Attr {
    /// An event of a kind; it counts nothing until it is enabled.
    pub fn new(kind: u32, config: u64) -> Attr {
        let size = size_of::<RawAttr>() as u32;
        Attr(RawAttr { kind, size, config, flags: DISABLED, ..RawAttr::default() })
    }

    /// The two further numbers that dynamic events take: an address of a text and an offset.
    pub fn place(mut self, config1: u64, config2: u64) -> Attr {
        (self.0.config1, self.0.config2) = (config1, config2);
        self
    }

    /// One sample for so many events.
    pub fn period(mut self, events: u64) -> Attr {
        self.0.sample_period = events;
        self
    }

    /// So many samples a second.
    pub fn frequency(mut self, hertz: u64) -> Attr {
        self.0.sample_period = hertz;
        self.0.flags |= FREQ;
        self
    }

    /// What a sample holds, of [`sample`]. Times are CLOCK_MONOTONIC's.
    pub fn sample(mut self, parts: u64) -> Attr {
        self.0.sample_type |= parts;
        self.0.flags |= USE_CLOCKID;
        self.0.clockid = libc::CLOCK_MONOTONIC;
        self
    }

    /// Frames of a call chain at most; of user registers these; so many bytes of the user's stack.
    pub fn stacks(mut self, frames: u16, registers: u64, bytes: u32) -> Attr {
        (self.0.sample_max_stack, self.0.sample_regs_user, self.0.sample_stack_user) = (frames, registers, bytes);
        self
    }

    /// Records of what processes map for execution, and of their beginnings. They end with the time, and with nothing
    /// else, if samples have no other part that says who and where.
    pub fn tasks(mut self) -> Attr {
        self.0.flags |= TASKS;
        self
    }

    /// The registers that a sample holds, of those at the hit ([`sample::REGS_INTR`]).
    pub fn registers(mut self, mask: u64) -> Attr {
        self.0.sample_regs_intr = mask;
        self
    }

    /// Wakes a reader when so many bytes wait.
    pub fn watermark(mut self, bytes: u32) -> Attr {
        self.0.flags |= WATERMARK;
        self.0.wakeup = bytes;
        self
    }

    /// Opens it.
    pub fn open(&self, scope: Scope) -> io::Result<Event> {
        let (pid, cpu) = match scope {
            Scope::Cpu(cpu) => (-1, cpu as i32),
            Scope::Task(task) => (task, -1),
        };
        // SAFETY: the structure is as long as its size says; what config1 points at is its maker's promise, and the
        // kernel only reads there.
        #[allow(unsafe_code)]
        let fd =
            unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const self.0, pid, cpu, -1i32, FLAG_FD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel made this descriptor for us just now.
        #[allow(unsafe_code)]
        Ok(Event(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }
}

/// An open event.
pub struct Event(OwnedFd);

impl From<Event> for OwnedFd {
    fn from(event: Event) -> OwnedFd {
        event.0
    }
}

impl Event {
    /// The descriptor.
    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Runs the program at each event from now on.
    pub fn set_program(&self, program: &Program) -> io::Result<()> {
        self.control(ioctl::SET_BPF, program.fd() as u64)
    }

    /// Starts it.
    pub fn enable(&self) -> io::Result<()> {
        self.control(ioctl::ENABLE, 0)
    }

    /// Sends its samples to another event's ring, which must be of the same CPU.
    pub fn redirect(&self, to: &Event) -> io::Result<()> {
        self.control(ioctl::SET_OUTPUT, to.fd() as u64)
    }

    /// Lets the kernel pass over hits of a tracepoint whose fields do not meet a condition.
    pub fn filter(&self, condition: &str) -> io::Result<()> {
        let text = CString::new(condition)?;
        // SAFETY: the text ends with a NUL and outlives the call, which only reads it.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(self.fd(), ioctl::SET_FILTER as libc::Ioctl, text.as_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The number that its samples begin with ([`sample::IDENTIFIER`]).
    pub fn id(&self) -> io::Result<u64> {
        let mut id = 0u64;
        // SAFETY: the kernel writes one number there, during the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(self.fd(), ioctl::ID as libc::Ioctl, &raw mut id) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
    }

    fn control(&self, request: u64, value: u64) -> io::Result<()> {
        // SAFETY: both requests take a number.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(self.fd(), request as libc::Ioctl, value) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A number of a file under `/sys/bus/event_source/devices/DEVICE`: the type of dynamic events.
pub fn device_type(device: &str) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/sys/bus/event_source/devices/{device}/type"))?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{device}: type {}", text.trim())))
}

/// The first bit of a part of a device's config: `config:0` for a probe on return, `config:32-63` for the offset of a
/// semaphore.
pub fn format_bit(device: &str, part: &str) -> io::Result<u32> {
    let text = fs::read_to_string(format!("/sys/bus/event_source/devices/{device}/format/{part}"))?;
    let first = text.trim().strip_prefix("config:").and_then(|bits| bits.split('-').next()?.parse().ok());
    first.ok_or_else(|| io::Error::other(format!("{device}/{part}: {}", text.trim())))
}

/// How far those who lack CAP_PERFMON may use events, in words.
pub fn paranoid() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    format!("perf_event_paranoid is {}", text.trim())
}

/// CPUs that are online: `0-3,5`.
pub fn online_cpus() -> io::Result<Vec<u32>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = text.trim().split(',').map(range).collect();
    let ranges = ranges.ok_or_else(|| io::Error::other(format!("online CPUs: {}", text.trim())))?;
    Ok(ranges.into_iter().flatten().collect())
}
