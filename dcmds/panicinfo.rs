//! What died, and why: `::panicinfo`.
//!
//! ```console
//! > ::panicinfo
//! WHAT      VALUE
//! cpu       1
//! thread    ff2ae1f0425c0000, PID 88, victim
//! message   Fatal exception
//! class     null-deref
//! why       NULL pointer dereference: read of 0x20 in crasher`crash_null+0x5
//! function  crasher`crash_null+0x5
//! …
//! ```
//!
//! The registers and the code are those at the fault, which the kernel saved on the stack when it was interrupted; what
//! the CPU did afterwards, `::cpustack` and `::regs` show. Nothing of it needs the log, which `log` quotes.

use crate::triage::{names, report::Report};
use engine::prelude::*;

/// Show what died, why, and what it was doing.
#[derive(Args)]
pub struct Panicinfo {
    /// lines of the log that are shown, in decimal
    #[arg(short = 'n', value_name = "COUNT", default_value = "8")]
    lines: usize,
}

/// A fact.
#[derive(Row)]
struct PanicRow {
    /// cpu, thread, message, class, why, function, registers, …
    what: String,
    /// the fact
    value: String,
    /// what belongs to it
    #[detail]
    lines: Vec<String>,
}

impl Dcmd for Panicinfo {
    const NAME: &'static str = "panicinfo";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[PanicRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let report = Report::of(cx, false)?;
        let (crash, verdict) = (&report.crash, &report.verdict);
        let mut show =
            |what: &str, value: String, lines: Vec<String>| out.row(PanicRow { what: what.to_owned(), value, lines });
        match crash.cpu {
            Some(cpu) => show("cpu", cpu.to_string(), vec![])?,
            None => show("cpu", "none panicked".into(), vec![])?,
        }
        if let (Some(task), Some(who)) = (crash.task.or(verdict.task), &report.who) {
            show("thread", format!("{task:x}, {who}"), vec![])?;
        }
        if let Some(message) = &crash.words.panic {
            show("message", message.clone(), vec![])?;
        }
        let oops = crash.words.oopses.last().map(|oops| &oops.what);
        if let Some(oops) = oops.or(crash.words.reports.last()) {
            show("oops", oops.clone(), vec![])?;
        }
        show("class", verdict.class.into(), vec![])?;
        show("why", verdict.title.clone(), verdict.evidence.clone())?;
        show("signature", report.signature.clone(), names::telling(&report.functions))?;
        for (what, value) in &report.system {
            if matches!(*what, "tainted" | "oopses") {
                show(what, value.clone(), vec![])?;
            }
        }
        if !report.foreign.is_empty() {
            show("modules", report.foreign.join(", "), vec![])?;
        }
        for (name, value) in &report.registers {
            let symbol = if value >> 63 == 1 { cx.symbolize(*value) } else { None };
            show(name, format!("{value:016x} {}", symbol.unwrap_or_default()).trim_end().to_owned(), vec![])?;
        }
        if !report.code.is_empty() {
            show("code", String::new(), report.code.clone())?;
        }
        show("stack", String::new(), report.stack.clone())?;
        let last = &crash.words.last;
        let from = last.len().saturating_sub(self.lines);
        show("log", String::new(), last.get(from..).unwrap_or_default().to_vec())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Panicinfo>()];
