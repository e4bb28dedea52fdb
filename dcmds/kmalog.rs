//! What the kernel itself said went wrong with memory, and what KFENCE holds: `::kmalog`, `::kfence`.

use crate::history;
use engine::{Schema, prelude::*};
use walkers::{
    kfence::{Pool, Record, State, Track},
    kmem_log::Log,
    reports,
    slab::Caches,
};

/// Show the kernel's reports of memory that was damaged or could not be had, from its log.
///
/// KASAN's, KFENCE's, SLUB's and the page allocator's of damage; the allocators' of failure, the OOM killer's. Reports of damage are findings:
/// the exit status is 1.
#[derive(Args)]
pub struct Kmalog {
    /// the reports as they are
    #[arg(short = 'v')]
    verbose: bool,
    /// only some: `fail` for memory that could not be had, `damage` for what was damaged
    #[arg(value_name = "KIND", value_parser = ["fail", "damage"])]
    kind: Option<String>,
}

/// A report.
#[derive(Row)]
struct ReportRow {
    /// address of its first record, a struct printk_info
    addr: Object,
    /// when, in seconds, as dmesg has it
    time: String,
    /// who reports: `kasan`, `kfence`, `slub`, `bad-page`; `pages`, `slab`, `oom`
    kind: &'static str,
    /// thread (T1) or CPU (C0) that wrote it
    caller: String,
    /// its first line
    report: String,
    /// the lines behind that
    #[detail]
    lines: Vec<String>,
}

impl Dcmd for Kmalog {
    const NAME: &'static str = "kmalog";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[ReportRow::SCHEMA];
    const PASSES: &'static str = "struct printk_info";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for report in reports::all(cx)? {
            let damage = report.kind.is_damage();
            if self.kind.as_deref().is_some_and(|kind| damage != (kind == "damage")) {
                continue;
            }
            if damage {
                cx.env.found();
            }
            out.row(ReportRow {
                addr: cx.object("printk_info", report.addr),
                time: format!("{}.{:06}", report.time / 1_000_000_000, report.time % 1_000_000_000 / 1000),
                kind: report.kind.name(),
                caller: report.caller,
                report: report.title,
                lines: if self.verbose { report.lines } else { Vec::new() },
            })?;
        }
        Ok(())
    }
}

// ---- ::kfence -----------------------------------------------------------------------------------------------------

/// Show what KFENCE holds and held: allocations that got a page of their own, with guard pages around.
///
/// With an address: the object there, or the one whose guard page it is.
#[derive(Args)]
pub struct Kfence {
    /// who allocated and who freed it, with stacks
    #[arg(short = 'v')]
    verbose: bool,
    /// only objects in use
    #[arg(short = 'u')]
    used: bool,
}

/// An object of KFENCE's.
#[derive(Row)]
struct KfenceRow {
    /// address of its record, a struct kfence_metadata
    addr: Object,
    /// the object
    object: Addr,
    /// bytes that were asked for
    size: u64,
    /// its slab cache
    cache: Option<String>,
    /// `allocated`, `freed`, `rcu-freeing`, `damaged`
    state: &'static str,
    /// the thread that did it last
    thread: Option<i32>,
    /// first frame outside of the allocator
    caller: Option<String>,
    /// who allocated and who freed it
    #[detail]
    history: Vec<String>,
}

impl Kfence {
    fn row(&self, cx: &Cx<'_>, log: &Log, record: &Record) -> Result<KfenceRow> {
        let (state, caches) = (record.state(cx), Caches::of(cx)?);
        let allocated = track(record.allocated_by(cx).map(Some))?;
        let freed = if state == State::Allocated { None } else { track(record.freed_by(cx))? };
        let last = freed.as_ref().or(allocated.as_ref());
        let mut lines = Vec::new();
        for (verb, track) in [("freed", &freed), ("allocated", &allocated)].into_iter().filter(|_| self.verbose) {
            if let Some(track) = track {
                let cpu = track.cpu.map(i64::from);
                history::report(cx, verb, track.pid.into(), cpu, track.time, Ok(track.stack.clone()), &mut lines);
            }
        }
        Ok(KfenceRow {
            addr: cx.object("kfence_metadata", record.at),
            object: Addr(record.addr),
            size: record.size,
            cache: caches.at(record.cache).and_then(|number| caches.get(number)).map(|cache| cache.name().to_owned()),
            state: match state {
                State::Unused => "unused",
                State::Allocated => "allocated",
                State::RcuFreeing => "rcu-freeing",
                State::Freed => "freed",
                State::Damaged => "damaged",
            },
            thread: last.map(|track| track.pid),
            caller: last.and_then(|track| log.outside(cx, &track.stack)).map(|pc| cx.sym(pc)),
            history: lines,
        })
    }
}

/// A track that cannot be read is none.
fn track(track: Result<Option<Track>>) -> Result<Option<Track>> {
    match track {
        Err(e) if e.is_control() => Err(e),
        track => Ok(track.unwrap_or(None)),
    }
}

impl Dcmd for Kfence {
    const NAME: &'static str = "kfence";
    const ROWS: &'static [&'static Schema] = &[KfenceRow::SCHEMA];
    const PASSES: &'static str = "struct kfence_metadata";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let pool = Pool::of(cx)?
            .ok_or_else(|| Error::Unavailable("the kernel has no KFENCE, or has not started it".into()))?;
        let log = Log::of(cx)?;
        let index = at.map(|at| {
            let of_record = at.addr.checked_sub(pool.metadata).map(|offset| offset / pool.stride.max(1));
            let found = pool.index(at.addr).or(of_record.filter(|index| *index < pool.count));
            found.ok_or_else(|| {
                Error::Usage(format!("{:#x} is neither in KFENCE's pool nor one of its records", at.addr))
            })
        });
        let index = index.transpose()?;
        if let Some(index) = index {
            return out.row(self.row(cx, &log, &pool.record(cx, index)?)?);
        }
        pool.each(cx, &mut |record| match self.used && record.state(cx) != State::Allocated {
            true => Ok(()),
            false => out.row(self.row(cx, &log, &record)?),
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Kmalog>(), DcmdEntry::of::<Kfence>()];
