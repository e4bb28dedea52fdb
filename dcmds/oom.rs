//! Who has the memory of processes, and whom the kernel would kill for it: `::oom`.
//!
//! ```console
//! > ::oom
//! ADDR             PID NAME TOTAL RSS ANON SWAP TABLES ADJ POINTS STATE
//! ff386d1d843521c0   1 init   565 473   40    0  36864   0 -      -
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    oom::{self, Candidate},
    reports::{self, Kind},
};

/// Show every process that has memory, and how much it counts for when the OOM killer has to choose: who would be taken
/// first stands in front.
///
/// TOTAL, RSS, ANON, SWAP and POINTS are pages. That the OOM killer ran is noted, with the line of the log.
#[derive(Args)]
pub struct Oom {
    /// the reports of the OOM killer in the kernel's log, instead
    #[arg(short = 'l')]
    log: bool,
}

/// A process.
#[derive(Row)]
struct CandidateRow {
    /// address of its task
    addr: Object,
    /// its id
    pid: i32,
    /// its name
    name: String,
    /// pages it has addresses for
    total: u64,
    /// pages in memory
    rss: u64,
    /// of these, anonymous ones
    anon: u64,
    /// pages in swap
    swap: u64,
    /// bytes of its page tables
    tables: u64,
    /// how much sooner it is to be taken, −1000 (never) to 1000
    adj: i64,
    /// what it counts for, in pages; nothing if it cannot be taken
    points: Option<i64>,
    /// `chosen` if it has been
    state: Option<&'static str>,
    /// pages of files in memory
    #[hidden]
    file: u64,
    /// pages of shared memory
    #[hidden]
    shared: u64,
}

impl Oom {
    fn reports(&self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        for report in reports::all(cx)?.into_iter().filter(|report| report.kind == Kind::Oom) {
            out.line(report.title)?;
            report.lines.into_iter().try_for_each(|line| out.line(line))?;
        }
        Ok(())
    }

    /// Notes what the log and the kernel's variables say.
    fn note(cx: &Cx<'_>) -> Result<()> {
        let reports = match reports::all(cx) {
            Err(e) if e.is_control() => return Err(e),
            reports => reports.unwrap_or_default(),
        };
        for report in reports.iter().filter(|report| report.kind == Kind::Oom) {
            let killed = report.lines.iter().rfind(|line| line.contains("Killed process "));
            let text = killed.unwrap_or(&report.title).trim();
            cx.notes
                .once(0, format!("{}.{:06} {text}", report.time / 1_000_000_000, report.time % 1_000_000_000 / 1000));
        }
        if let (Some(victims @ 1..), _) = oom::state(cx) {
            cx.notes.once(0, format!("{victims} processes have been chosen and are not gone yet"));
        }
        Ok(())
    }
}

impl Dcmd for Oom {
    const NAME: &'static str = "oom";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[CandidateRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.log {
            return self.reports(cx, out);
        }
        Oom::note(cx)?;
        let pages = |bytes: u64| bytes / cx.target.page_size().max(1);
        for Candidate { task, memory, tables, adjust, points, chosen } in oom::candidates(cx)? {
            out.row(CandidateRow {
                addr: cx.object("task_struct", task.addr),
                pid: task.pid,
                name: task.comm,
                total: pages(memory.virt),
                rss: pages(memory.resident),
                anon: pages(memory.anonymous),
                swap: pages(memory.swap),
                tables,
                adj: adjust,
                points,
                state: chosen.then_some("chosen"),
                file: pages(memory.file),
                shared: pages(memory.shared),
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Oom>()];
