//! The system as a whole: what it is called, what time it had, how it is tainted, what it said when it ended.
//!
//! ```console
//! > init_uts_ns::print struct uts_namespace name.release
//! name.release = [ "6.12.117+deb12-cloud-amd64" ]
//! ```

use crate::{cpu, dmesg};
use engine::{ViewEntry, prelude::*};
use std::time::{Duration, SystemTime};

/// What `uname` says: `struct new_utsname`.
#[derive(View, Clone, Debug)]
#[ctype("new_utsname")]
pub struct Uts {
    /// name of the host
    pub nodename: String,
    /// `6.12.9-amd64`
    pub release: String,
    /// `#1 SMP …`, with the date of the build
    pub version: String,
    /// `x86_64`
    pub machine: String,
}

impl Uts {
    /// Of the first namespace, `init_uts_ns`.
    pub fn of(session: &Session) -> Result<Uts> {
        let at = session.symbol("init_uts_ns")?;
        session.view(at.wrapping_add(session.offset("uts_namespace", "name")?))
    }
}

/// The letters of `TAINT_…` bits, as the kernel itself has them in `taint_flags` (kernel/panic.c).
pub fn taint_letters(session: &Session, bits: u64) -> String {
    let letter = |bit: u64| -> Option<char> {
        let flags = session.kernel_symbol("taint_flags")?;
        let at = flags.wrapping_add(bit * session.size_of("taint_flag").ok()?);
        let letter = session.u8(at.wrapping_add(session.offset("taint_flag", "c_true").ok()?)).ok()?;
        letter.is_ascii_uppercase().then_some(char::from(letter))
    };
    (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| letter(bit).unwrap_or('?')).collect()
}

/// The taint of the kernel: `tainted_mask`.
pub fn taint(session: &Session) -> Result<u64> {
    session.u64(session.symbol("tainted_mask")?)
}

/// Bytes of memory that the kernel hands out (`totalram_pages()`); `None` where that number cannot be found.
pub fn total_memory(session: &Session) -> Result<Option<u64>> {
    let Some(at) = session.kernel_symbol("_totalram_pages") else { return Ok(None) };
    Ok(Some(session.u64(at)?.saturating_mul(session.target.page_size())))
}

/// The wall clock when it was last updated, which happens every few ticks: `xtime_sec` of the timekeeper.
///
/// A copy of the timekeeper is kept: `shadow_timekeeper`, a variable of its own before Linux 6.13 (20c7b582e88f), then
/// a member of `tk_core`, and of `timekeeper_data[0]` since there are several clocks.
pub fn wall_clock(session: &Session) -> Result<SystemTime> {
    let seconds = session.offset("timekeeper", "xtime_sec")?;
    let alone = session.kernel_symbol("shadow_timekeeper");
    let member = || {
        let symbol = session.kernel_symbol("timekeeper_data").or_else(|| session.kernel_symbol("tk_core"))?;
        let offset = session.offset("tk_data", "shadow_timekeeper").ok()?;
        Some(symbol.wrapping_add(offset))
    };
    let at = alone.or_else(member).ok_or_else(|| Error::Unavailable("no timekeeper was found".into()))?;
    let value = session.u64(at.wrapping_add(seconds))?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(value))
        .ok_or(Error::Corrupt { addr: at, what: "time out of range".into() })
}

/// How the kernel came to its end.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// the CPU that panicked, by its number; `None` if none did
    pub cpu: Option<u32>,
    /// the task that ran on it
    pub task: Option<u64>,
    /// what panic() was called with
    pub panic: Option<String>,
    /// the last oops or BUG that was logged, in one line
    pub oops: Option<String>,
}

impl End {
    /// Reads it from the variables of kernel/panic.c and the last records of the log.
    pub fn of(session: &Session) -> Result<End> {
        let cpu = cpu::panicked(session);
        let (mut panic, mut oops) = (None, None);
        dmesg::tail(session, LAST_RECORDS, &mut |record| {
            let text = record.text.unwrap_or_default();
            // what user space writes to /dev/kmsg is no witness
            if record.info.facility != 0 {
                return Ok(());
            }
            for line in text.lines() {
                if let Some(message) = line.strip_prefix(PANIC) {
                    panic = Some(message.to_owned());
                } else if OOPS.iter().any(|start| line.starts_with(start)) {
                    oops = Some(line.to_owned());
                }
            }
            Ok(())
        })?;
        Ok(End { cpu, task: cpu.and_then(|cpu| cpu::current(session, cpu).ok()), panic, oops })
    }
}

/// A panic is among the last records of the log; a stack of each CPU may come behind it.
const LAST_RECORDS: u64 = 8192;
/// How panic() (kernel/panic.c) begins.
const PANIC: &str = "Kernel panic - not syncing: ";
/// How the lines begin that tell of the death of a task: die() and show_fault_oops() of arch/x86, BUG() of lib/bug.c.
const OOPS: &[&str] = &[
    "BUG: ",
    "Oops: ",
    "kernel BUG at ",
    "general protection fault",
    "Unable to handle kernel ",
    "invalid opcode: ",
    "stack segment: ",
    "watchdog: BUG: ",
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Uts>()];
