//! What the kernel says of processes beside the hits: which code they map, which of them begin, which become another
//! program. So that addresses have names after a process has ended.

use crate::elf::Mapped;

/// A change of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// CLOCK_MONOTONIC in ns
    pub time: u64,
    /// whose
    pub pid: u32,
    /// which
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// code was mapped
    Mapped(Mapped),
    /// it began, as a copy of that process
    Forked(u32),
    /// it became another program
    Executed,
}

/// Kinds of records (`enum perf_event_type`).
const COMM: u32 = 3;
const FORK: u32 = 7;
const MMAP2: u32 = 10;
/// PERF_RECORD_MISC_COMM_EXEC
const BY_EXEC: u16 = 1 << 13;
const PROT_EXEC: u32 = 4;

impl Change {
    /// From a record of the ring; `None` if it is another, or only of a thread.
    pub fn parse(kind: u32, flags: u16, body: &[u8]) -> Option<Change> {
        let half = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
        let word = |at: usize| Some(u64::from_ne_bytes(*body.get(at..)?.first_chunk()?));
        let time = u64::from_ne_bytes(*body.last_chunk()?);
        let pid = half(0)?;
        let what = match kind {
            COMM if flags & BY_EXEC != 0 => What::Executed,
            FORK if half(4)? != pid => What::Forked(half(4)?),
            MMAP2 if half(56)? & PROT_EXEC != 0 => {
                let (at, len, offset) = (word(8)?, word(16)?, word(24)?);
                let name = body.get(64..)?;
                let name = name.get(..name.iter().position(|b| *b == 0)?)?;
                let name = std::str::from_utf8(name).ok()?;
                let file = if name.starts_with("//anon") { "" } else { name }.into();
                What::Mapped(Mapped { range: at..at.checked_add(len)?, offset, file })
            }
            _ => return None,
        };
        Some(Change { time, pid, what })
    }
}
