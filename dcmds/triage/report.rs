//! Everything that triage says about a dump, gathered once for all its forms.

use super::{
    class::{self, Verdict},
    names,
};
use crate::{blocked, dis, stack};
use engine::prelude::*;
use std::collections::BTreeMap;
use walkers::{
    blocked::Waits,
    clock::Clocks,
    crash::{self, Crash},
    module, rq,
    slab::{
        Slabs,
        verify::{self, Fences},
    },
    system::{self, Uts},
    task::Task,
    unwind::{self, Trace},
};

/// What triage says.
pub struct Report {
    /// what happened
    pub verdict: Verdict,
    /// the same number for the same crash
    pub signature: String,
    /// the crash as it was found
    pub crash: Crash,
    /// name and value: host, kernel, uptime, …
    pub system: Vec<(&'static str, String)>,
    /// who did it
    pub who: Option<String>,
    /// the functions of the guilty stack, the innermost first
    pub functions: Vec<String>,
    /// the guilty stack, a line a frame; of a crash that only the log tells of, from there
    pub stack: Vec<String>,
    /// the code round the fault
    pub code: Vec<String>,
    /// the registers there
    pub registers: Vec<(String, u64)>,
    /// modules that are not the kernel's own, and why
    pub foreign: Vec<String>,
    /// a line a CPU
    pub cpus: Vec<String>,
    /// rings of tasks that wait for each other, a line a task
    pub deadlocks: Vec<Vec<String>>,
    /// tasks that wait for locks or cannot be woken, longest first
    pub blocked: Vec<String>,
    /// name, and bytes or a number in words
    pub memory: Vec<(&'static str, String)>,
    /// damage in slabs
    pub slabs: Vec<String>,
    /// how many slab objects were looked at; `None`: not looked at
    pub checked: Option<u64>,
    /// where the guilty task is in `stacks`; empty if there is none
    pub guilty: Vec<String>,
    /// all stacks, outermost function first, and how many tasks have each
    pub stacks: BTreeMap<Vec<String>, u64>,
}

/// Instructions before the fault, and as many behind it.
const AROUND: u64 = 6;
/// More blocked tasks than anybody reads; the number is told.
const MOST: usize = 20;
/// `TAINT_PROPRIETARY_MODULE`, `TAINT_OOT_MODULE`, `TAINT_UNSIGNED_MODULE`: bits that user space may rely on
/// (Documentation/admin-guide/tainted-kernels.rst).
const FOREIGN: u64 = 1 | 1 << 12 | 1 << 13;

impl Report {
    /// Looks at everything; at the slabs only if `slabs` says so.
    pub fn of(cx: &Cx<'_>, slabs: bool) -> Result<Report> {
        let crash = Crash::of(cx)?;
        let verdict = class::of(cx, &crash)?;
        let functions = match &verdict.by_log {
            Some(functions) => functions.iter().map(|name| names::plain(name)).collect(),
            None => names::of(cx, &verdict.guilty),
        };
        let signature = names::signature(verdict.class, &functions);
        let fault = verdict.guilty.frames.first().filter(|frame| frame.exact);
        let code = fault.map(|frame| dis::around(cx, frame.pc, AROUND)).unwrap_or_default();
        let registers = if fault.is_some() { crash.registers.clone() } else { Vec::new() };
        let waits = Waits::of(cx)?;
        let mut report = Report {
            who: verdict.task.map(|task| blocked::who(cx, task)),
            stack: if verdict.by_log.is_some() { functions.clone() } else { stack::lines(cx, &verdict.guilty) },
            functions,
            signature,
            system: system(cx),
            code,
            registers,
            foreign: foreign(cx)?,
            cpus: cpus(cx, &crash)?,
            deadlocks: blocked::rings(cx, &waits)
                .iter()
                .map(|ring| ring.iter().map(|wait| blocked::sentence(cx, wait)).collect())
                .collect(),
            blocked: blocked_tasks(cx, &waits),
            memory: memory(cx),
            slabs: Vec::new(),
            checked: None,
            guilty: path_of(cx, verdict.task)?,
            stacks: stacks(cx)?,
            verdict,
            crash,
        };
        if slabs {
            report.check_slabs(cx)?;
        }
        Ok(report)
    }

    fn check_slabs(&mut self, cx: &Cx<'_>) -> Result<()> {
        match look_at_slabs(cx) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) => self.slabs.push(format!("the slabs could not be looked at: {e}")),
            Ok((findings, objects)) => (self.slabs, self.checked) = (findings, Some(objects)),
        }
        Ok(())
    }
}

fn system(cx: &Cx<'_>) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    for path in cx.target.info().paths {
        facts.push(("dump", path.display().to_string()));
    }
    if let Ok(uts) = Uts::of(cx) {
        facts.push(("host", uts.nodename));
        facts.push(("kernel", format!("{} {}", uts.release, uts.machine)));
        facts.push(("version", uts.version));
    }
    if let Ok(clocks) = Clocks::of(cx) {
        facts.push(("uptime", crate::status::duration(clocks.updated / 1_000_000_000)));
    }
    if let Some(clock) = system::wall_clock(cx).ok().and_then(crate::status::utc) {
        facts.push(("clock", clock));
    }
    if let Ok(bits) = system::taint(cx) {
        let letters = if bits == 0 { "no".to_owned() } else { system::taint_letters(cx, bits) };
        facts.push(("tainted", letters));
    }
    if let Some(oopses) = crash::oopses(cx).filter(|count| *count > 0) {
        facts.push(("oopses", oopses.to_string()));
    }
    facts
}

fn foreign(cx: &Cx<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    module::each(cx, &mut |at| {
        match cx.view::<module::Module>(at) {
            Ok(module) if module.taints & FOREIGN != 0 => {
                found.push(format!("{} ({})", module.name, system::taint_letters(cx, module.taints)));
            }
            Err(e) if e.is_control() => return Err(e),
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn cpus(cx: &Cx<'_>, crash: &Crash) -> Result<Vec<String>> {
    let line = |(cpu, rq): &(u32, rq::Rq)| {
        let what = match () {
            () if crash.cpu == Some(*cpu) => "panicked",
            () if rq.current == rq.idle => "idle",
            () => "ran",
        };
        format!("CPU {cpu}: {what} {}, {} to run", blocked::who(cx, rq.current), rq.nr_running)
    };
    Ok(rq::all(cx)?.iter().map(line).collect())
}

fn blocked_tasks(cx: &Cx<'_>, waits: &Waits) -> Vec<String> {
    let mut shown: Vec<_> = waits.iter().filter(|wait| blocked::is_blocked(cx, wait)).collect();
    shown.sort_by_key(|wait| std::cmp::Reverse(wait.since));
    let line = |wait: &&walkers::blocked::Wait| match wait.since {
        Some(ns) => format!("{} s: {}", ns / 1_000_000_000, blocked::sentence(cx, wait)),
        None => blocked::sentence(cx, wait),
    };
    let mut lines: Vec<String> = shown.iter().take(MOST).map(line).collect();
    if shown.len() > MOST {
        lines.push(format!("and {} more: ::blocked", shown.len() - MOST));
    }
    lines
}

/// The kernel's counters of pages, in bytes.
fn memory(cx: &Cx<'_>) -> Vec<(&'static str, String)> {
    const ZONE: &[(&str, &str)] = &[("free", "NR_FREE_PAGES")];
    const NODE: &[(&str, &str)] = &[
        ("anon", "NR_ANON_MAPPED"),
        ("file", "NR_FILE_PAGES"),
        ("shmem", "NR_SHMEM"),
        ("slab, reclaimable", "NR_SLAB_RECLAIMABLE_B"),
        ("slab, not", "NR_SLAB_UNRECLAIMABLE_B"),
        ("page tables", "NR_PAGETABLE"),
    ];
    let page = cx.target.page_size();
    let mut found = Vec::new();
    let mut add = |name, pages: u64| found.push((name, engine::lang::printf::human_size(pages.saturating_mul(page))));
    let word = |symbol: &str| cx.u64(cx.kernel_symbol(symbol)?).ok();
    if let Some(pages) = word("_totalram_pages") {
        add("total", pages);
    }
    for (table, counters) in [("vm_zone_stat", ZONE), ("vm_node_stat", NODE)] {
        let Some(base) = cx.kernel_symbol(table) else { continue };
        for (name, counter) in counters {
            let index = cx.enumerator(counter).and_then(|index| u64::try_from(index).ok());
            // the counters of CPUs are added now and then, so that the sum may be below zero
            if let Some(pages) = index.and_then(|index| cx.u64(base.wrapping_add(index * 8)).ok()) {
                add(name, (pages as i64).max(0) as u64);
            }
        }
    }
    if let Some(kills) = crash::oom_kills(cx).filter(|kills| *kills > 0) {
        found.push(("killed for want of it", kills.to_string()));
    }
    found
}

fn look_at_slabs(cx: &Cx<'_>) -> Result<(Vec<String>, u64)> {
    let slabs = Slabs::of(cx)?;
    slabs.free_all(cx)?;
    let fences = Fences::of(cx)?;
    let (mut lines, mut objects, mut missing) = (Vec::new(), 0, 0);
    for number in 0..slabs.caches.len() {
        let (findings, seen) = verify::verify(cx, &slabs, &fences, number)?;
        objects += seen.objects;
        missing += seen.missing;
        for finding in findings {
            let cache = slabs.caches.get(finding.cache).map_or("?", |cache| cache.name());
            lines.push(format!("{:x} {cache}: {}: {}", finding.at, finding.kind.name(), finding.verdict));
        }
    }
    verify::note_missing(cx, missing);
    Ok((lines, objects))
}

/// A stack, outermost function first, below what its thread is doing.
fn path(cx: &Cx<'_>, task: u64, trace: &Trace) -> Vec<String> {
    let mut frames = names::of(cx, trace);
    frames.reverse();
    let letter = cx.view::<Task>(task).map_or('?', |task| task.state());
    frames.insert(0, crate::stacks::state(letter).to_owned());
    frames
}

fn path_of(cx: &Cx<'_>, task: Option<u64>) -> Result<Vec<String>> {
    let traces = unwind::Traces::of(cx)?;
    let found = traces.iter().find(|(at, _)| task == Some(*at));
    Ok(found.map(|(at, trace)| path(cx, *at, trace)).unwrap_or_default())
}

fn stacks(cx: &Cx<'_>) -> Result<BTreeMap<Vec<String>, u64>> {
    let mut groups = BTreeMap::new();
    for (task, trace) in unwind::Traces::of(cx)?.iter() {
        *groups.entry(path(cx, *task, trace)).or_insert(0) += 1;
    }
    Ok(groups)
}
