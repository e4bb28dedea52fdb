//! Probes: `::probe` sets them and passes on what they see; `::probes` lists what can be probed.
//!
//! ```console
//! > ::probe u:libc:malloc -p 0t4711 -d 5s | ::quantize arg0
//! > ::probe t:kmem:kmem_cache_alloc -d 2s | ::group call_site | ::count | ::sort -r count | ::head -3
//! > ::probe t:syscalls:sys_enter_openat | ::where comm == "cat" | ::print filename | ::stack -u
//! ```
//!
//! Nothing is compiled beforehand and nothing stays behind: conditions, values and counts become a small BPF program
//! that runs at each hit, and that goes when the command ends, however it ends.

mod command;
mod compile;
mod names;
mod plan;
mod show;
mod spec;
mod users;

use crate::{
    filter::CountRow,
    select::{Shown, named_row},
    sort::{BinRow, SumRow, bar, bin_start, integer},
};
use command::Started;
use compile::Looks;
use engine::{IntoRow, Schema, lang, prelude::*};
use plan::{COLUMNS, Plan, Then};
use probes::{
    Recording,
    program::Counters,
    recording::{Entry, Hit, Limits},
    source::Source,
};
use show::{Part, Shower};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Longest wait before a look at Ctrl-C and at the time.
const ROUND: Duration = Duration::from_millis(50);
const MOST_KEYS: usize = 16384;

/// Set probes in the running kernel or in programs, and pass on each hit, or what comes of them.
///
/// Probes are `t:GROUP:NAME` (a tracepoint), `k:FUNCTION` and `kr:FUNCTION` (a function of the kernel, and its return),
/// `u:FILE:FUNCTION` and `ur:FILE:FUNCTION` (of a program or library), `usdt:FILE:PROVIDER:NAME`, `sw:page-faults` and
/// other software events, and `cpu:997hz` (a timer on each CPU). `*` and `?` name many at once; `::probes` lists them.
///
/// Stages behind it that the kernel can do itself are done there, at the hit: `::where`, `::print`, `::stack [-k] [-u]`,
/// then `::count`, `::group`, `::quantize` or `::sum`. Names are the fields of a tracepoint, the parameters of a kernel
/// function (`dentry->d_name.name`), `arg0` to `arg5`, `retval`, and everywhere `pid`, `tid`, `uid`, `cpu`, `comm` and
/// `curtask`. Memory is read at the hit, and what cannot be read then is shown as unreadable, never read later.
///
/// It ends on Ctrl-C, after `-d` or `-c`, or when the stages behind have enough; then counts are shown.
#[derive(Args)]
pub struct Probe {
    /// only hits of this process
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// end after so long: `10s`, `500ms`, `2m`
    #[arg(short = 'd', value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// end after so many hits came out
    #[arg(short = 'c', value_name = "COUNT")]
    count: Option<u64>,
    /// run this command, probe it alone, and end with it
    #[arg(short = 'C', value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// bytes that texts are cut to
    #[arg(short = 's', value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u16).range(8..=1024))]
    text: u16,
    /// say what would run where, and set nothing
    #[arg(short = 'n')]
    dry: bool,
    /// what to probe
    #[arg(value_name = "PROBE", required = true)]
    probes: Vec<String>,
    #[arg(skip)]
    ready: Option<Ready>,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time: ms, s, m, h")),
    };
    let seconds = number.parse::<f64>().map_err(|_| format!("`{text}` is no time"))? * scale;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// What was found out before anything runs.
struct Ready {
    sources: Vec<Source>,
    plan: Plan,
    pid: Option<i32>,
    started: Option<Started>,
}

/// What can be probed.
#[derive(Row)]
struct ProbeRow {
    /// as it is given to ::probe
    probe: String,
    /// what it has: fields, parameters
    has: String,
}

impl Origin for Probe {
    const NAME: &'static str = "probe";
    const ROWS: &'static [&'static Schema] = &[];

    fn plan(&mut self, cx: &Cx<'_>, behind: &[lang::ast::Stage]) -> Result<usize> {
        if !cx.is_live() {
            return Err(Error::Usage("probes sit in a running kernel, and this is a dump".into())
                .hint("`kmdb -k` opens the running one"));
        }
        let pid = self.pid.as_ref().map(|pid| pid.eval(cx)).transpose()?;
        let pid = pid
            .map(|pid| i32::try_from(pid).map_err(|_| Error::Usage(format!("{pid} is no process id"))))
            .transpose()?;
        let started = self.command.as_deref().filter(|_| !self.dry).map(Started::new).transpose()?;
        let pid = pid.or(started.as_ref().map(Started::pid));
        let mut sources = Vec::new();
        for word in &self.probes {
            sources.append(&mut spec::find(cx, word, pid)?);
        }
        let plan = Plan::make(cx, &sources, behind, self.text)?;
        let taken = plan.taken;
        self.ready = Some(Ready { sources, plan, pid, started });
        Ok(taken)
    }

    fn run(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let Some(ready) = &mut self.ready else { return Ok(()) };
        let mut started = ready.started.take();
        let ready = &*ready;
        if self.dry {
            return ready.explain(out);
        }
        let mut parts = Vec::new();
        let mut probes = Vec::new();
        for (id, source) in ready.sources.iter().enumerate() {
            let (spec, looks) = ready.plan.spec(cx, source, id as u64, ready.pid)?;
            let values = match &spec.action {
                probes::program::Action::Emit(values) => values,
                probes::program::Action::Aggregate { key, .. } => key,
            };
            parts.push(Part::of(values, &looks));
            probes.push((source.clone(), spec));
        }
        let limits = Limits { pid: ready.pid, keys: MOST_KEYS, ..Limits::default() };
        let mut recording = Recording::start(&probes, limits).map_err(spec::wrong)?;
        let mut run = Run { cx, ready, parts, shower: Shower::new(cx), started: None, emitted: 0 };
        if let Some(started) = &started {
            started.go()?;
        }
        let until = Until { duration: self.duration, hits: self.count.unwrap_or(u64::MAX), command: started.as_mut() };
        let result = run.listen(&mut recording, until, out);
        // Ctrl-C is how a run ends, and no reason to withhold what it found
        if cx.interrupt.is_set() {
            cx.interrupt.clear();
        }
        let shown = match result {
            Ok(()) | Err(Error::Interrupted) => run.totals(&recording, out),
            other => other,
        };
        run.sum_up(&recording.counters().map_err(spec::wrong)?);
        shown
    }
}

impl Ready {
    fn explain(&self, out: &mut Out<'_>) -> Result<()> {
        for source in &self.sources {
            out.line(format!("probe {}", source.name()))?;
        }
        for test in &self.plan.tests {
            out.line(format!("  in the kernel: only if {test}"))?;
        }
        for asked in &self.plan.asked {
            out.line(format!("  in the kernel: take {}", asked.text))?;
        }
        let then = match &self.plan.then {
            Then::Show => "emit an event",
            Then::Count => "count",
            Then::Group => "count for each of these",
            Then::Quantize => "count by powers of two of the last of these",
            Then::Sum(_) => "add up",
        };
        out.line(format!("  in the kernel: {then}"))?;
        out.line(format!("  {} stages behind the probe are done there", self.plan.taken))
    }
}

/// When a run ends.
struct Until<'a> {
    duration: Option<Duration>,
    hits: u64,
    command: Option<&'a mut Started>,
}

/// A run of probes.
struct Run<'a> {
    cx: &'a Cx<'a>,
    ready: &'a Ready,
    /// how the values of each source are laid out
    parts: Vec<Vec<Part>>,
    shower: Shower<'a>,
    /// time of the first event, in ns
    started: Option<u64>,
    emitted: u64,
}

impl Run<'_> {
    /// Passes events on until it is time to end.
    fn listen(&mut self, recording: &mut Recording, mut until: Until<'_>, out: &mut Out<'_>) -> Result<()> {
        let start = Instant::now();
        let most = until.hits;
        let mut hits = Vec::new();
        loop {
            self.cx.interrupt.check()?;
            let left = until.duration.map(|d| d.saturating_sub(start.elapsed()));
            let ended = until.command.as_mut().is_some_and(|command| command.has_ended());
            if ended || left.is_some_and(|left| left.is_zero()) {
                break;
            }
            recording.poll(left.map_or(ROUND, |left| left.min(ROUND)), &mut |hit| hits.push(hit));
            for hit in hits.drain(..) {
                self.show(&hit, out)?;
                if self.emitted >= most {
                    return Ok(());
                }
            }
        }
        recording.finish(&mut |hit| hits.push(hit));
        for hit in hits.iter().take(usize::try_from(most.saturating_sub(self.emitted)).unwrap_or(usize::MAX)) {
            self.show(hit, out)?;
        }
        Ok(())
    }

    fn show(&mut self, hit: &Hit, out: &mut Out<'_>) -> Result<()> {
        let (Some(parts), Some(source)) = (self.parts.get(hit.id as usize), self.ready.sources.get(hit.id as usize))
        else {
            return Ok(());
        };
        self.shower.meet(hit.pid);
        let started = *self.started.get_or_insert(hit.time);
        let mut values = self.shower.cells(parts, &hit.values, hit.unreadable, hit.pid).into_iter();
        let comm = values.next().unwrap_or(Cell::Null);
        let since = hit.time.saturating_sub(started);
        let time = Cell::Str(format!("{}.{:06}", since / 1_000_000_000, since % 1_000_000_000 / 1000));
        let mut cells = vec![
            time,
            Cell::Uint(hit.cpu.into()),
            Cell::Uint(hit.pid.into()),
            Cell::Uint(hit.tid.into()),
            comm,
            Cell::Str(source.name()),
        ];
        cells.extend(values);
        // the first pointer that was taken is what the next stage looks at
        let subject = parts.iter().skip(1).zip(cells.iter().skip(COLUMNS.len())).find_map(|(part, cell)| {
            match (part.looks, cell) {
                (Looks::Pointer(ctype), Cell::Addr(addr)) => Some(Object { addr: *addr, ctype: Some(ctype) }),
                _ => None,
            }
        });
        self.emitted += 1;
        out.item(named_row(&self.columns(), cells, subject)?)
    }

    fn columns(&self) -> Vec<(String, Shown)> {
        let hidden = |name: &str| name == "tid" || (name == "probe" && self.ready.sources.len() == 1);
        let fixed =
            COLUMNS.iter().map(|name| ((*name).to_owned(), if hidden(name) { Shown::Hidden } else { Shown::Column }));
        fixed.chain(self.asked()).collect()
    }

    fn asked(&self) -> impl Iterator<Item = (String, Shown)> {
        self.ready.plan.asked.iter().map(|asked| {
            let shown = match asked.text.as_str() {
                "stack" | "kstack" | "ustack" => Shown::Below,
                _ if asked.hidden => Shown::Hidden,
                _ => Shown::Column,
            };
            (asked.name.clone(), shown)
        })
    }

    /// What was counted.
    fn totals(&mut self, recording: &Recording, out: &mut Out<'_>) -> Result<()> {
        let mut entries: BTreeMap<(usize, Vec<u8>), Entry> = BTreeMap::new();
        let each = recording.entries(|source, key, entry| {
            entries.insert((source, key.to_vec()), entry);
        });
        each.map_err(spec::wrong)?;
        match &self.ready.plan.then {
            Then::Show => Ok(()),
            Then::Count => out.row(CountRow { count: entries.values().map(|e| e.count).sum() }),
            Then::Group => self.groups(&entries, out),
            Then::Quantize => self.bins(&entries, out),
            Then::Sum(_) => {
                let all = entries.into_values().reduce(|a, b| a.and(b));
                let mean = all.and_then(|all| i128::from(all.sum).checked_div_euclid(all.count.into()));
                let cell = |value: Option<i128>| value.map_or(Cell::Null, integer);
                out.row(SumRow {
                    sum: integer(all.map_or(0, |all| all.sum.into())),
                    count: all.map_or(0, |all| all.count),
                    min: cell(all.map(|all| all.least.into())),
                    max: cell(all.map(|all| all.most.into())),
                    mean: cell(mean),
                })
            }
        }
    }

    /// The cells of a key, without the process that only serves to name addresses.
    fn key(&self, source: usize, key: &[u8]) -> Vec<Cell> {
        let parts = self.parts.get(source).map(Vec::as_slice).unwrap_or_default();
        let pid = match parts.iter().any(|part| part.looks == Looks::UserStack) {
            true => key.last_chunk().map_or(0, |word| u64::from_ne_bytes(*word) as u32),
            false => 0,
        };
        let mut cells = self.shower.cells(parts, key, 0, pid);
        cells.truncate(self.ready.plan.asked.len());
        cells
    }

    fn groups(&self, entries: &BTreeMap<(usize, Vec<u8>), Entry>, out: &mut Out<'_>) -> Result<()> {
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.count));
        let several = self.ready.sources.len() > 1;
        let mut columns = vec![("count".to_owned(), Shown::Column)];
        columns.extend(several.then(|| ("probe".to_owned(), Shown::Column)));
        columns.extend(self.asked());
        for ((source, key), entry) in sorted {
            let mut cells = vec![Cell::Uint(entry.count)];
            if several {
                cells.push(self.ready.sources.get(*source).map_or(Cell::Null, |s| Cell::Str(s.name())));
            }
            cells.extend(self.key(*source, key));
            out.item(named_row(&columns, cells, None)?)?;
        }
        Ok(())
    }

    fn bins(&self, entries: &BTreeMap<(usize, Vec<u8>), Entry>, out: &mut Out<'_>) -> Result<()> {
        let mut bins: BTreeMap<i64, u64> = BTreeMap::new();
        for ((_, key), entry) in entries {
            let bin = key.first_chunk().map_or(0, |word| i64::from_ne_bytes(*word));
            *bins.entry(bin).or_default() += entry.count;
        }
        let (Some((first, _)), Some((last, _))) = (bins.first_key_value(), bins.last_key_value()) else {
            return Ok(());
        };
        let total = bins.values().sum();
        for bin in *first..=*last {
            let count = bins.get(&bin).copied().unwrap_or(0);
            out.row(BinRow { value: integer(bin_start(bin)), distribution: bar(count, total), count })?;
        }
        Ok(())
    }

    /// What the numbers cannot say themselves: that nothing came, that something was lost.
    fn sum_up(&self, counters: &Counters) {
        let notes = &self.cx.notes;
        if counters.hits == 0 {
            notes.once(0, "no probe was hit");
        } else if counters.passed == 0 {
            notes.once(0, format!("{} hits, none of which met the condition", counters.hits));
        }
        if counters.unknown > 0 {
            notes.once(
                0,
                format!("{} hits left out: their condition needs what could not be read then", counters.unknown),
            );
        }
        if counters.lost > 0 {
            let why = if self.ready.plan.then == Then::Show { "the ring was full" } else { "the table was full" };
            notes.once(0, format!("{} of {} hits lost: {why}", counters.lost, counters.passed));
        }
    }
}

/// List what can be probed: the probes that a pattern matches, with what they know.
#[derive(Args)]
pub struct Probes {
    /// only in this process
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// `t:kmem:*`, `k:*d_alloc*`, `u:libc:mall*`, `usdt:FILE:*`
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

impl Dcmd for Probes {
    const NAME: &'static str = "probes";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[ProbeRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.patterns.is_empty() {
            return spec::KINDS
                .iter()
                .try_for_each(|(probe, has)| out.row(ProbeRow { probe: (*probe).into(), has: (*has).into() }));
        }
        let pid = self.pid.as_ref().map(|pid| pid.eval(cx)).transpose()?.and_then(|pid| i32::try_from(pid).ok());
        for pattern in &self.patterns {
            for source in spec::find(cx, pattern, pid)? {
                let has = names::Names::at(cx, &source).own_names().join(" ");
                out.row(ProbeRow { probe: source.name(), has })?;
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::origin::<Probe>(), DcmdEntry::of::<Probes>()];
