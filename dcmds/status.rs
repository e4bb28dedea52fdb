//! What is being looked at: `::status`.
//!
//! ```console
//! > ::status
//! WHAT       VALUE
//! file       vmcore.z-d31
//! format     kdump-compressed (zstd), x86_64, 26.6M
//! host       labguest
//! kernel     6.12.117+deb12-cloud-amd64 x86_64
//! version    #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)
//! build_id   7f76f39faf07f34cfa9fadd801e131bfa8cb6dc3
//! cpus       2 online
//! memory     110M in the dump, 209M left out
//! crashed    2026 Nov 25 15:58:30 UTC
//! written    2026 Nov 25 15:58:30 UTC
//! clock      2026 Nov 25 15:58:30 UTC
//! uptime     00:00:33
//! tainted    no
//! panic      sysrq triggered crash
//! panic_task ff21ca184134a1c0, PID 1, init, on CPU 1
//! found      by the VMCOREINFO note, moved by 0x2f800000 (KASLR), 5 levels of page tables
//! symbols    kallsyms: 154686
//! types      BTF: 107331
//! debuginfo  none
//! missing    pages of zeros, page cache, private page cache, user memory, free pages (dump level 31)
//! ```
//!
//! Of the running kernel (`kmdb -k`) it says which way leads to its memory, and why, if it is not the usual one.
//!
//! `found` says how the kernel was found in the dump, `missing` what is not in it. An `oops` is shown even if the kernel
//! lived on.

use engine::{
    IntoRow,
    cprint::scalar::date,
    lang::printf::human_size,
    prelude::*,
    targets::{Evidence, Info, LiveSource},
};
use std::time::SystemTime;
use walkers::{
    clock::Clocks,
    percpu::Percpu,
    system::{self, End, Uts},
    task::Task,
};

/// Show what the target is: the dump, the kernel in it, how that ended, and what is missing.
#[derive(Args)]
pub struct Status {}

/// A fact.
#[derive(Row)]
pub struct StatusRow {
    /// file, format (of the running kernel also: why_so, lockdown), host, kernel, version, build_id, cpus, memory, crashed, written, clock, uptime, tainted, panic,
    /// panic_task, oops, found, symbols, types, debuginfo; missing, erased, damage and doubt may come several times or not at all
    what: &'static str,
    /// the fact, in words
    value: Result<String>,
}

impl Dcmd for Status {
    const NAME: &'static str = "status";
    const ALIASES: &'static [&'static str] = &["$?"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[StatusRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut facts = Facts::default();
        let info = cx.target.info();
        facts.file(&info);
        facts.kernel(cx, &info);
        if !cx.target.is_file() {
            facts.machine(cx, &info);
            facts.time(cx, &info);
            facts.end(cx);
        }
        facts.meaning(cx);
        if !cx.target.is_file() {
            facts.missing(cx, &info);
        }
        facts.0.into_iter().try_for_each(|(what, value)| out.row(StatusRow { what, value }))
    }
}

/// Facts, in the order in which they are shown.
#[derive(Default)]
struct Facts(Vec<(&'static str, Result<String>)>);

impl Facts {
    fn add(&mut self, what: &'static str, value: impl Into<String>) {
        self.0.push((what, Ok(value.into())));
    }

    fn file(&mut self, info: &Info) {
        for path in &info.paths {
            self.add("file", path.display().to_string());
        }
        let Some(live) = &info.live else {
            return self
                .add("format", format!("{}, {}, {}", info.format, info.arch.name(), human_size(info.file_size)));
        };
        self.add("format", format!("{}, {}", info.format, info.arch.name()));
        if let Some(why) = &live.instead {
            self.add("why_so", why);
        }
        if live.source == LiveSource::Guest {
            return;
        }
        let lockdown = live.lockdown.as_deref().unwrap_or("not known: no /sys/kernel/security/lockdown");
        self.add("lockdown", lockdown);
    }

    fn kernel(&mut self, cx: &Cx<'_>, info: &Info) {
        match (Uts::of(cx), &info.release) {
            (Ok(uts), _) => {
                self.add("host", uts.nodename);
                self.add("kernel", format!("{} {}", uts.release, uts.machine));
                self.add("version", uts.version);
            }
            (Err(_), Some(release)) => self.add("kernel", release),
            (Err(e), None) => self.0.push(("kernel", Err(e))),
        }
        if let Some(id) = &info.build_id {
            self.add("build_id", id);
        }
    }

    fn machine(&mut self, cx: &Cx<'_>, info: &Info) {
        let cpus = Percpu::of(cx).map(|cpus| {
            let (online, present) = (cpus.online().len(), cpus.present().len());
            let offline = if online == present { String::new() } else { format!(" of {present}") };
            let registers = match cx.target.cpus().len() {
                0 if info.live.is_some() => String::new(),
                n if n == online => String::new(),
                n => format!(", registers of {n}"),
            };
            format!("{online}{offline} online{registers}")
        });
        self.0.push(("cpus", cpus));
        let excluded = match info.excluded {
            Some(pages) if pages > 0 => {
                format!(", {} left out", human_size(pages.saturating_mul(info.page_size)))
            }
            _ => String::new(),
        };
        let place = if info.live.is_some() { "" } else { " in the dump" };
        self.add("memory", format!("{}{place}{excluded}", human_size(info.present)));
    }

    fn time(&mut self, cx: &Cx<'_>, info: &Info) {
        for (what, time) in [("crashed", info.crash_time), ("written", info.dump_time)] {
            if let Some(text) = time.and_then(utc) {
                self.add(what, text);
            }
        }
        if let Some(text) = system::wall_clock(cx).ok().and_then(utc) {
            self.add("clock", text);
        }
        self.0.push(("uptime", Clocks::of(cx).map(|clocks| duration(clocks.updated / 1_000_000_000))));
    }

    fn end(&mut self, cx: &Cx<'_>) {
        let taint = system::taint(cx).map(|bits| match bits {
            0 => "no".to_owned(),
            bits => system::taint_letters(cx, bits),
        });
        self.0.push(("tainted", taint));
        let end = match End::of(cx) {
            Ok(end) => end,
            Err(e) => return self.0.push(("panic", Err(e))),
        };
        match (end.panic, end.cpu) {
            (Some(message), _) => self.add("panic", message),
            (None, Some(cpu)) => self.add("panic", format!("on CPU {cpu}; what it said is not in the log")),
            (None, None) => self.add("panic", "no"),
        }
        if let (Some(cpu), Some(task)) = (end.cpu, end.task) {
            let who = cx.view::<Task>(task);
            let text = who.map(|t| format!("{task:x}, PID {}, {}, on CPU {cpu}", t.pid, t.name(cx)));
            self.0.push(("panic_task", text));
        }
        if let Some(line) = end.oops {
            self.add("oops", line);
        }
    }

    fn meaning(&mut self, cx: &Cx<'_>) {
        match cx.target.kernel_layout() {
            Ok(layout) => {
                let by = match layout.evidence {
                    Evidence::Note => "by the VMCOREINFO note".to_owned(),
                    Evidence::Memory(at) => format!("by its VMCOREINFO in memory, at physical address {at:#x}"),
                    Evidence::File => return self.sources(cx),
                    Evidence::PageTables(at) => {
                        format!("by the shape of its page tables, at physical address {at:#x}; no VMCOREINFO")
                    }
                };
                let moved = match layout.kaslr_offset {
                    Some(0) => ", not moved by KASLR".to_owned(),
                    Some(offset) => format!(", moved by {offset:#x} (KASLR)"),
                    None => String::new(),
                };
                self.add("found", format!("{by}{moved}, {} levels of page tables", layout.levels));
                if layout.others > 0 {
                    self.add("doubt", format!("{} other kernels are in memory: see ::kernels", layout.others));
                }
                let strangers: Vec<String> = cx.target.strangers().iter().map(u32::to_string).collect();
                if !strangers.is_empty() {
                    let cpus = strangers.join(", ");
                    self.add("doubt", format!("another kernel runs on CPU {cpus}: see ::kernels"));
                }
                for doubt in layout.doubts {
                    self.add("doubt", doubt);
                }
            }
            Err(reason) => self.add("doubt", format!("no kernel was found: {reason}")),
        }
        self.sources(cx);
    }

    fn sources(&mut self, cx: &Cx<'_>) {
        match cx.symbols.kernel() {
            Some(table) => self.add("symbols", format!("{}: {}", table.origin(), table.len())),
            None => self.add("symbols", "none"),
        }
        match (cx.types.btf(), &cx.dwarf) {
            (Some(btf), _) => self.add("types", format!("BTF: {}", btf.len())),
            (None, Some(_)) => self.add("types", "DWARF"),
            (None, None) => self.add("types", "none"),
        }
        if cx.files.is_empty() {
            self.add("debuginfo", "none");
        }
        for file in &cx.files {
            let gives =
                if file.gives.is_empty() { "nothing that is not in the dump".into() } else { file.gives.join(", ") };
            self.add("debuginfo", format!("{} ({}): {gives}", file.path.display(), file.kind));
        }
    }

    fn missing(&mut self, cx: &Cx<'_>, info: &Info) {
        if info.truncated > 0 {
            self.add("missing", format!("the last {} of the file: it was cut off", human_size(info.truncated)));
        }
        if info.incomplete {
            self.add("missing", "what the tool that wrote the dump had no room for");
        }
        if let Some(level) = info.dump_level.filter(|level| *level > 0) {
            self.add("missing", format!("{} (dump level {level})", left_out(level).join(", ")));
        }
        match cx.target.cpus() {
            [] if info.live.is_some() => {
                self.add("missing", "registers: the CPUs run on, so the stacks of running tasks are not known");
            }
            [] => self.add("missing", "registers"),
            _ => {}
        }
        for line in info.erased.iter().flat_map(|text| text.lines()) {
            self.add("erased", line);
        }
        for damage in &info.damage {
            self.add("damage", damage);
        }
    }
}

/// What makedumpfile leaves out by its `-d` (makedumpfile(8)).
fn left_out(level: u32) -> Vec<&'static str> {
    let kinds = ["pages of zeros", "page cache", "private page cache", "user memory", "free pages"];
    kinds.into_iter().enumerate().filter(|(bit, _)| level >> bit & 1 == 1).map(|(_, kind)| kind).collect()
}

/// A moment as people write it.
pub(crate) fn utc(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(format!("{} UTC", date(i64::try_from(seconds).ok()?)?))
}

/// `3 days 04:05:06`
pub(crate) fn duration(seconds: u64) -> String {
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds / 86400 {
        0 => clock,
        1 => format!("1 day {clock}"),
        days => format!("{days} days {clock}"),
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Status>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_times_in_words() {
        assert_eq!(left_out(0), [""; 0]);
        assert_eq!(left_out(17), ["pages of zeros", "free pages"]);
        assert_eq!(left_out(31).len(), 5);
        assert_eq!(duration(59), "00:00:59");
        assert_eq!(duration(90_061), "1 day 01:01:01");
        assert_eq!(duration(200_000), "2 days 07:33:20");
    }
}
