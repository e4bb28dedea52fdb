//! What a good engineer says after ten minutes with a dump: `::triage`.
//!
//! ```console
//! > ::triage
//! WHAT      VALUE
//! class     null-deref
//! why       NULL pointer dereference: read of 0x20 in crasher`crash_null+0x5
//! signature 5c1e8d0c0b1f7a55
//! who       88 victim
//! …
//! ```
//!
//! CLASS is a word that does not change from one version of kmdb to the next, SIGNATURE the same for the same crash on other
//! machines and in other builds: it is made of the class and of the names of the innermost functions of the guilty stack.
//! `none` is the class of a kernel that neither panicked nor shows anything that hangs.

pub mod class;
pub mod fault;
mod living;
pub mod names;
mod others;
mod overrun;
mod page;
pub mod report;
mod telling;
mod trap;

use engine::prelude::*;
use report::Report;
use std::path::PathBuf;

/// Say what happened, who did it, and what else is wrong.
///
/// If the kernel crashed or something is wrong, kmdb's exit status is 1.
#[derive(Args)]
pub struct Triage {
    /// also write a page for browsers to this file: one file that needs nothing else
    #[arg(short = 'o', value_name = "FILE")]
    page: Option<PathBuf>,
    /// without looking for damage in slabs
    #[arg(short = 'q')]
    quick: bool,
    /// only what happened, in one row
    #[arg(short = '1')]
    one: bool,
}

/// A finding.
#[derive(Row)]
struct TriageRow {
    /// class, why, signature, who, stack, code, …
    what: &'static str,
    /// in a sentence
    value: String,
    /// what belongs to it
    #[detail]
    lines: Vec<String>,
}

/// What happened, in a row.
#[derive(Row)]
struct SummaryRow {
    /// the dump's file
    dump: String,
    /// the kind of crash
    class: &'static str,
    /// the same number for the same crash
    signature: String,
    /// the kernel
    kernel: String,
    /// the task whose doing it was
    #[hidden]
    thread: Option<Addr>,
    /// its id and name
    who: Option<String>,
    /// in a sentence
    title: String,
    /// the functions of the guilty stack, the innermost first
    #[hidden]
    functions: Vec<String>,
    /// why that is so
    #[hidden]
    evidence: Vec<String>,
}

/// Lines of the log that are shown; the page has more.
const LOG_LINES: usize = 16;

/// The lines of a list, with their number in front.
fn counted(lines: &[String], what: &str) -> String {
    match lines.len() {
        0 => format!("no {what}"),
        n => format!("{n} {what}"),
    }
}

impl Triage {
    fn summary(report: &Report) -> SummaryRow {
        let kernel = report.system.iter().find(|(what, _)| *what == "kernel").map_or("?", |(_, kernel)| kernel);
        let dump = report.system.iter().find(|(what, _)| *what == "dump").map_or("?", |(_, path)| path);
        SummaryRow {
            dump: dump.to_owned(),
            class: report.verdict.class,
            signature: report.signature.clone(),
            kernel: kernel.split(' ').next().unwrap_or(kernel).to_owned(),
            thread: report.verdict.task.map(Addr),
            who: report.who.clone(),
            title: report.verdict.title.clone(),
            functions: report.functions.clone(),
            evidence: report.verdict.evidence.clone(),
        }
    }

    fn show(report: &Report, out: &mut Out<'_>) -> Result<()> {
        let verdict = &report.verdict;
        let mut row = |what, value: String, lines: &[String]| out.row(TriageRow { what, value, lines: lines.to_vec() });
        row("class", verdict.class.into(), &[])?;
        row("why", verdict.title.clone(), &verdict.evidence)?;
        row("signature", report.signature.clone(), &[])?;
        if let Some(who) = &report.who {
            row("who", who.clone(), &[])?;
        }
        if let Some(message) = &report.crash.words.panic {
            row("panic", message.clone(), &[])?;
        }
        for (what, value) in &report.system {
            row(what, value.clone(), &[])?;
        }
        if !report.foreign.is_empty() {
            row("modules", format!("not the kernel's own: {}", report.foreign.join(", ")), &[])?;
        }
        if !report.stack.is_empty() {
            row("stack", String::new(), &report.stack)?;
        }
        if !report.code.is_empty() {
            row("code", String::new(), &report.code)?;
        }
        row("cpus", format!("{} online", report.cpus.len()), &report.cpus)?;
        for ring in &report.deadlocks {
            row("deadlock", format!("{} tasks", ring.len()), ring)?;
        }
        row("blocked", counted(&report.blocked, "tasks wait for locks or cannot be woken"), &report.blocked)?;
        let memory: Vec<String> = report.memory.iter().map(|(name, value)| format!("{name} {value}")).collect();
        row("memory", memory.join(", "), &[])?;
        match report.checked {
            Some(objects) => row(
                "slabs",
                format!("{} in {objects} objects", counted(&report.slabs, "places are damaged")),
                &report.slabs,
            )?,
            None if !report.slabs.is_empty() => row("slabs", "not checked".into(), &report.slabs)?,
            None => {}
        }
        let last = &report.crash.words.last;
        let from = last.len().saturating_sub(LOG_LINES);
        row("log", String::new(), last.get(from..).unwrap_or_default())
    }
}

impl Dcmd for Triage {
    const NAME: &'static str = "triage";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[TriageRow::SCHEMA, SummaryRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let report = Report::of(cx, !self.quick)?;
        if !report.verdict.is_fine() || !report.slabs.is_empty() || !report.deadlocks.is_empty() {
            cx.env.found();
        }
        if let Some(path) = &self.page {
            std::fs::write(path, page::html(&report))
                .map_err(|e| Error::Unavailable(format!("{}: {e}", path.display())))?;
        }
        match self.one {
            true => out.row(Triage::summary(&report)),
            false => Triage::show(&report, out),
        }
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Triage>()];
