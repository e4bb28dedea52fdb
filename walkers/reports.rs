//! Reports in the kernel's log of what went wrong with memory: KASAN's, KFENCE's and SLUB's of damage, the page
//! allocator's and SLUB's of allocations that failed, the OOM killer's.
//!
//! A report is many records of the log, written by one thread. Here it is from its first line on to its end mark, to the
//! first line of another, or as long as that thread writes without a pause.

use crate::dmesg::{self, Record};
use engine::prelude::*;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// KASAN saw a bad access
    Kasan,
    /// KFENCE saw one
    Kfence,
    /// SLUB found damage
    Slub,
    /// the page allocator found a page in a state that it cannot be in
    BadPage,
    /// pages could not be allocated
    Pages,
    /// a slab could not be allocated
    Slab,
    /// the OOM killer ran
    Oom,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kasan => "kasan",
            Kind::Kfence => "kfence",
            Kind::Slub => "slub",
            Kind::BadPage => "bad-page",
            Kind::Pages => "pages",
            Kind::Slab => "slab",
            Kind::Oom => "oom",
        }
    }

    /// Whether it tells of damage, not of want.
    pub fn is_damage(self) -> bool {
        matches!(self, Kind::Kasan | Kind::Kfence | Kind::Slub | Kind::BadPage)
    }

    /// What a line begins, if it begins a report.
    fn of(line: &str) -> Option<Kind> {
        match line {
            _ if line.starts_with("BUG: KASAN: ") => Some(Kind::Kasan),
            _ if line.starts_with("BUG: KFENCE: ") => Some(Kind::Kfence),
            // `BUG kmalloc-32 (Tainted: G    B): Right Redzone overwritten`
            _ if line.starts_with("BUG ") && line.contains("): ") => Some(Kind::Slub),
            // `BUG: Bad page state in process …`, `BUG: Bad page map …`
            _ if line.starts_with("BUG: Bad page ") => Some(Kind::BadPage),
            _ if line.contains(": page allocation failure: ") => Some(Kind::Pages),
            _ if line.starts_with("SLUB: Unable to allocate memory") => Some(Kind::Slab),
            _ if line.contains(" invoked oom-killer: ") => Some(Kind::Oom),
            _ => None,
        }
    }
}

/// A report.
#[derive(Clone, Debug)]
pub struct Report {
    /// what it is about
    pub kind: Kind,
    /// address of its first record's `struct printk_info`
    pub addr: u64,
    /// when, in ns of `local_clock()`
    pub time: u64,
    /// who wrote it: `T1` a thread, `C0` a CPU
    pub caller: String,
    /// its first line
    pub title: String,
    /// the lines behind it
    pub lines: Vec<String>,
}

/// Lines of a report: a backtrace, registers, the state of memory of a large machine.
const MAX_LINES: usize = 2000;
/// A report is written without pauses longer than this, in ns.
const PAUSE: u64 = 2_000_000_000;

impl Report {
    /// Whether a record of the log goes on with it.
    fn takes(&self, record: &Record, last: u64) -> bool {
        record.info.caller() == self.caller
            && record.info.time.saturating_sub(last) < PAUSE
            && self.lines.len() < MAX_LINES
    }

    /// Whether a line is the last.
    fn ends(&self, line: &str) -> bool {
        match self.kind {
            Kind::Kasan | Kind::Kfence => line.starts_with("=========="),
            Kind::Slub => line.starts_with("FIX "),
            Kind::Oom => line.contains("Killed process "),
            Kind::BadPage | Kind::Pages | Kind::Slab => false,
        }
    }
}

/// All reports, oldest first.
pub fn all(session: &Session) -> Result<Vec<Report>> {
    let mut out: Vec<Report> = Vec::new();
    // the one that is being written, and when it was last
    let mut open: Option<(Report, u64)> = None;
    dmesg::records(session, &mut |record| {
        let Ok(text) = &record.text else { return Ok(()) };
        for line in text.lines() {
            if let Some(kind) = Kind::of(line) {
                out.extend(open.take().map(|(report, _)| report));
                let (addr, time, caller) = (record.info.addr, record.info.time, record.info.caller());
                open = Some((Report { kind, addr, time, caller, title: line.to_owned(), lines: Vec::new() }, time));
            } else if let Some((report, last)) = &mut open {
                if report.takes(&record, *last) {
                    report.lines.push(line.to_owned());
                    *last = record.info.time;
                    if report.ends(line) {
                        out.extend(open.take().map(|(report, _)| report));
                    }
                } else if record.info.time.saturating_sub(*last) >= PAUSE {
                    out.extend(open.take().map(|(report, _)| report));
                }
            }
        }
        Ok(())
    })?;
    out.extend(open.map(|(report, _)| report));
    Ok(out)
}
