//! Probes: `::probe` sets them and passes on what they see.
//!
//! ```console
//! > ::probe u:libc:malloc -p 0t4711 -d 5s | ::quantize arg0
//! > ::probe t:kmem:kmem_cache_alloc -d 2s | ::group call_site | ::count | ::sort -r count | ::head -3
//! > ::probe t:syscalls:sys_enter_openat | ::where comm == "cat" | ::print filename | ::stack -u
//! ```
//!
//! Nothing is compiled beforehand and nothing stays behind: conditions, values and counts become a small BPF program
//! that runs at each hit, and that goes when the command ends, however it ends.

pub(crate) mod code;
pub(crate) mod command;
mod compile;
mod convention;
mod explain;
mod gathered;
pub(crate) mod join;
mod latency;
mod list;
mod names;
pub(crate) mod once;
mod path;
mod plan;
mod programs;
mod recipes;
pub(crate) mod running;
mod show;
pub(crate) mod spec;
mod summary;
mod syscalls;
mod totals;
mod typed;
pub(crate) mod users;
mod walked;

use crate::select::{Shown, named_row, with_front};
use command::Started;
use compile::Looks;
use engine::{Schema, lang, prelude::*};
use gathered::Gathered;
use join::reach;
use plan::{COLUMNS, Plan, Then};
use probes::{
    Recording,
    program::Spec,
    recording::{Hit, Limits, monotonic},
    source::Source,
    touched::touch,
};
use running::{Counts, Going};
pub(crate) use show::own_frames;
use show::{Part, Shower, Who};
pub(crate) use spec::wrong;
use std::time::{Duration, Instant};
use totals::{Entries, Totals};

/// Without a hit for so long, it is said.
const QUIET: Duration = Duration::from_secs(5);
/// Longest wait before a look at Ctrl-C and at the time.
const ROUND: Duration = Duration::from_millis(50);
const MOST_KEYS: usize = 16384;
/// Said where a command is followed by itself.
const ALONE: &str = "the kernel is locked down: processes that the command begins are not seen";

/// Set probes in the running kernel or in programs, and pass on each hit, or what comes of them.
///
/// Probes are `t:GROUP:NAME` (a tracepoint), `rt:NAME` (the same with what the code there has in hand), `s:NAME` (a system
/// call of a 64-bit program, when it returns), `k:FUNCTION` and `kr:FUNCTION` (a function of the kernel, and its return),
/// `u:FILE:FUNCTION` and `ur:FILE:FUNCTION` (of a program or library), `usdt:FILE:PROVIDER:NAME`, `sw:page-faults` and
/// other software events, and `cpu:997hz` (a timer on each CPU). `*` and `?` name many at once; `::probes` lists them.
///
/// Stages behind it that the kernel can do itself are done there, at the hit: `::where`, `::print`, `::stack [-k] [-u]`,
/// then `::count`, `::group`, `::quantize` or `::sum`; `::latency` in front of them joins two probes. Names are the fields
/// of a tracepoint, the parameters of a kernel function or a system call (`dentry->d_name.name`), `arg0` to `arg5`,
/// `retval` or `ret`, `file` of a system call that takes a descriptor, and everywhere `pid`, `tid`, `uid`, `cpu`, `comm` and
/// `curtask`; `-ENOSPC` is a number. A return knows what the function was called with, and `elapsed`, the nanoseconds it
/// took. `path(file->f_path)`, of a path, a file or a dentry, is its whole path. Memory is read at the hit (that of parameters
/// at the return, if that is what is probed), and what cannot be read then is shown as unreadable, never read later.
///
/// A function that this kernel names otherwise is looked for, and what is probed in its place is said.
///
/// It ends on Ctrl-C, after `-d` or `-c`, or when the stages behind have enough; then counts are shown. With `-i` they are
/// shown every so often, those of each interval alone, and stages behind such as `::sort` answer for each. `::agg` shows
/// the last counts again, and those of a `::probe -b`, which goes on while other commands are typed.
#[derive(Args)]
pub struct Probe {
    /// only hits of this process, or of this thread
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// end after so long: `10s`, `500ms`, `2m`
    #[arg(short = 'd', value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// end after so many hits that passed; counts that the kernel keeps may hold a few more
    #[arg(short = 'c', value_name = "COUNT")]
    count: Option<u64>,
    /// show counts every so often, `1s`: what came since the last time
    #[arg(short = 'i', value_name = "TIME", value_parser = duration)]
    interval: Option<Duration>,
    /// with -i: show what came since the beginning
    #[arg(short = 'a', requires = "interval")]
    all: bool,
    /// go on counting while other commands are typed; ::agg shows the counts, and ends it
    #[arg(short = 'b', conflicts_with_all = ["duration", "count", "command", "interval"])]
    background: bool,
    /// do without BPF, as is done where it is refused: by perf's samples, which cost more and hold no memory
    #[arg(long = "no-bpf")]
    without_bpf: bool,
    /// say at the end what it cost: hits a second, and the time that the programs took
    #[arg(short = 'v')]
    verbose: bool,
    /// run this command, probe it and what it starts, and end with it
    #[arg(short = 'C', value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// bytes that texts are cut to
    #[arg(short = 's', value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u16).range(8..=1024))]
    text: u16,
    /// follow frame pointers for stacks of programs: in the kernel, and right only for what is compiled with them
    #[arg(short = 'f')]
    frame_pointers: bool,
    /// say what would run where, as ::explain does, and set nothing
    #[arg(short = 'n')]
    dry: bool,
    /// what to probe
    #[arg(value_name = "PROBE", required = true)]
    probes: Vec<String>,
    #[arg(skip)]
    ready: Option<Ready>,
    /// what is left of the stages behind, to be explained
    #[arg(skip)]
    behind: Vec<lang::ast::Stage>,
}

/// The sources that a word names. `A,B` is A, or else B if this kernel has no A, or if A lacks what the stages behind ask
/// for; names of files may hold commas.
fn alternatives(
    cx: &Cx<'_>,
    word: &str,
    pid: Option<i32>,
    behind: &[lang::ast::Stage],
    text: u16,
) -> Result<Vec<Source>> {
    let words: Vec<&str> = if word.starts_with('u') { vec![word] } else { word.split(',').collect() };
    let mut missing = None;
    for (i, word) in words.iter().enumerate() {
        let last = i + 1 == words.len();
        if !last && word.starts_with('k') && !spec::lets_functions_be_probed() {
            continue;
        }
        let mut found = spec::find(cx, word, pid);
        // two of which one begins what the other ends can only be asked together
        if !last && !Plan::joins(behind) {
            found = found.and_then(|found| Plan::make(cx, &mut found.clone(), behind, text, false).map(|_| found));
        }
        match found {
            Err(e) if !e.is_control() => missing = missing.or(Some(e)),
            found => return found,
        }
    }
    Err(missing.unwrap_or_else(|| Error::Usage(format!("`{word}` names no probe"))))
}

pub(crate) fn must_be_live(cx: &Cx<'_>) -> Result<()> {
    match cx.is_live() {
        true => Ok(()),
        false => Err(Error::Usage("probes sit in a running kernel, and this is a dump".into())
            .hint("`kmdb -k` opens the running one")),
    }
}

/// The process that a number stands for.
pub(crate) fn process(cx: &Cx<'_>, pid: Option<&ExprArg>) -> Result<Option<i32>> {
    let Some(text) = pid else { return Ok(None) };
    let is_there = |pid: i32| std::path::Path::new("/proc").join(pid.to_string()).exists();
    let number = text.eval(cx)?;
    let gone = Error::Usage(format!("there is no process {number} ({number:#x})"));
    match (i32::try_from(number), text.0.parse()) {
        (Ok(pid), _) if is_there(pid) => Ok(Some(pid)),
        (_, Ok(decimal)) if is_there(decimal) => {
            Err(gone.hint(format!("numbers are hexadecimal here: `-p 0t{decimal}` is a process")))
        }
        _ => Err(gone),
    }
}

pub(crate) fn duration(text: &str) -> std::result::Result<Duration, String> {
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
pub(crate) struct Ready {
    sources: Vec<Source>,
    plan: Plan,
    only: Option<join::Only>,
    started: Option<Started>,
}

impl Origin for Probe {
    const NAME: &'static str = "probe";
    const ROWS: &'static [&'static Schema] = &[];

    fn plan(&mut self, cx: &Cx<'_>, behind: &[lang::ast::Stage]) -> Result<usize> {
        must_be_live(cx)?;
        let pid = process(cx, self.pid.as_ref())?;
        let started = self.command.as_deref().filter(|_| !self.dry).map(Started::new).transpose()?;
        let only = join::Only::of(cx, pid, started.as_ref())?;
        let pid = only.map(|only| only.pid);
        let mut sources = Vec::new();
        for word in &self.probes {
            for source in alternatives(cx, word, pid, behind, self.text)? {
                // what begins something may be what ends something else
                let again = !Plan::joins(behind) && sources.iter().any(|s: &Source| spec::is_same(s, &source))
                    || word.contains(',') && sources.iter().any(|s: &Source| s.name() == source.name());
                sources.extend((!again).then_some(source));
            }
        }
        let loose = self.probes.iter().any(|word| spec::is_pattern(word));
        let mut plan = Plan::make(cx, &mut sources, behind, self.text, loose)?;
        // while other commands are typed nobody is there to unwind stacks
        plan.frame_pointers = self.frame_pointers || self.background;
        let mut taken = plan.taken;
        if self.background && (plan.then == Then::Show || taken < behind.len()) {
            return Err(Error::Usage("what goes on with -b is counts".into())
                .hint("`::probe -b PROBE | ::group KEY`, then `::agg | ::sort …`"));
        }
        if self.dry {
            taken = behind.len();
            self.behind = behind.get(plan.taken..).unwrap_or_default().to_vec();
        }
        self.ready = Some(Ready { sources, plan, only, started });
        Ok(taken)
    }

    fn run(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let Some(mut ready) = self.ready.take() else { return Ok(()) };
        if self.dry {
            return explain::rows(cx, &ready, &self.behind)?.into_iter().try_for_each(|row| out.row(row));
        }
        let mut started = ready.started.take();
        let (specs, parts) = ready.specs(cx)?;
        let probes: Vec<_> = ready.sources.iter().cloned().zip(specs).collect();
        let limits = Limits { bpf: !self.without_bpf, ..ready.limits(cx, &probes) };
        let mut recording = Recording::start(&probes, limits).map_err(spec::wrong)?;
        if let Some(first) = recording.missing().first() {
            let (missing, all) = (recording.missing().len(), probes.len());
            cx.notes.once(0, format!("{missing} of {all} probes could not be set: {first}"));
        }
        if recording.is_alone() {
            cx.notes.once(0, ALONE);
        }
        if let Some(unseen) = recording.without_bpf() {
            let unseen = unseen.iter().map(|what| format!("; {what} is not seen so")).collect::<String>();
            cx.notes
                .once(0, format!("without BPF: perf's samples are tested and counted here, which costs more{unseen}"));
        }
        if self.background && recording.without_bpf().is_some() {
            return Err(Error::Unavailable("without BPF nothing is counted while other commands are typed".into())
                .hint("leave -b away"));
        }
        if self.background {
            cx.env.keep(Counts::Going(Box::new(Going::new(recording, ready, parts))));
            return Ok(());
        }
        let stats = self.verbose.then(probes::count_time);
        let begun = Instant::now();
        let of_program = |source: &Source| matches!(source, Source::User { .. });
        let texts = probes.iter().any(|(source, spec)| of_program(source) && spec.reads_users_texts());
        let mut run = Run {
            cx,
            ready: &ready,
            parts: &parts,
            shower: Shower::new(cx),
            gathered: Gathered::default(),
            started: None,
            emitted: 0,
            all: self.all,
            shown: Entries::new(),
            intervals: 0,
        };
        if let Some(started) = &mut started {
            // what it maps until it becomes the command is soon gone
            run.shower.meet(started.pid().unsigned_abs());
            started.go(texts)?;
        } else if let Some(only) = ready.only.filter(|_| texts) {
            touch(only.pid.unsigned_abs());
        }
        let until = Until {
            duration: self.duration,
            hits: self.count.unwrap_or(u64::MAX),
            command: started.as_mut(),
            interval: self.interval,
        };
        let result = run.listen(&mut recording, until, out);
        // Ctrl-C is how a run ends, and no reason to withhold what it found
        if cx.interrupt.is_set() {
            cx.interrupt.clear();
        }
        let shown = match result {
            Ok(()) | Err(Error::Interrupted) => run.last(&recording, begun, out),
            other => other,
        };
        let mut counters = recording.counters().map_err(spec::wrong)?;
        counters.lost += run.gathered.lost;
        run.sum_up(&recording, &counters);
        run.shower.sum_up();
        if let Some(stats) = stats {
            run.cost(&recording, begun.elapsed(), stats.is_ok());
        }
        shown
    }
}

impl Ready {
    fn limits(&self, cx: &Cx<'_>, probes: &[(Source, Spec)]) -> Limits {
        // each probe has a table of its own, which takes its memory at once
        let keys = (MOST_KEYS / self.sources.len().max(1)).max(256);
        Limits {
            pid: self.only.map(|only| only.pid),
            family: self.only.and_then(|only| only.family),
            keys,
            maps: self.plan.asked.iter().any(|asked| asked.text == "caller"),
            some: self.plan.loose,
            reach: reach(cx, probes),
            ..Limits::default()
        }
    }

    /// What is done at each source, and how its values are laid out.
    fn specs(&self, cx: &Cx<'_>) -> Result<(Vec<Spec>, Vec<Vec<Part>>)> {
        let (mut specs, mut parts) = (Vec::new(), Vec::new());
        for (id, source) in self.sources.iter().enumerate() {
            let (spec, looks) = self.plan.spec(cx, source, id as u64, self.only)?;
            let values = match &spec.action {
                probes::program::Action::Emit(values) => values,
                probes::program::Action::Aggregate { key, .. } => key,
                probes::program::Action::Leave { what, .. } => what,
            };
            parts.push(Part::of(values, &looks));
            specs.push(spec);
        }
        Ok((specs, parts))
    }
}

/// When a run ends.
struct Until<'a> {
    duration: Option<Duration>,
    hits: u64,
    command: Option<&'a mut Started>,
    interval: Option<Duration>,
}

/// A run of probes.
struct Run<'a> {
    cx: &'a Cx<'a>,
    ready: &'a Ready,
    /// how the values of each source are laid out
    parts: &'a [Vec<Part>],
    shower: Shower<'a>,
    /// groups that are counted here
    gathered: Gathered,
    /// time of the first event, in ns
    started: Option<u64>,
    emitted: u64,
    /// whether intervals show what came since the beginning
    all: bool,
    /// what had been counted when it was shown last
    shown: Entries,
    /// how often that was
    intervals: u64,
}

impl Run<'_> {
    /// Passes events on until it is time to end.
    fn listen(&mut self, recording: &mut Recording, mut until: Until<'_>, out: &mut Out<'_>) -> Result<()> {
        let start = Instant::now();
        // what is hit while names are looked for is beyond the time that was asked for
        let end = until.duration.map_or(u64::MAX, |d| monotonic().saturating_add(d.as_nanos() as u64));
        let most = until.hits;
        let (mut hits, mut waits) = (Vec::new(), true);
        loop {
            self.cx.interrupt.check()?;
            let left = until.duration.map(|d| d.saturating_sub(start.elapsed()));
            let ended = until.command.as_mut().is_some_and(|command| command.has_ended());
            let gone = self.ready.only.and_then(join::Only::gone);
            if let Some(pid) = gone {
                self.cx.notes.once(0, format!("process {pid} has ended"));
            }
            if ended || gone.is_some() || left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let next = until.interval.map(|every| every.saturating_mul(self.intervals as u32 + 1));
            let round = next.map_or(ROUND, |next| next.saturating_sub(start.elapsed()).min(ROUND));
            recording.poll(left.map_or(round, |left| left.min(round)), &mut |hit| hits.push(hit));
            hits.retain(|hit| hit.time <= end);
            self.shower.changes(recording.changes());
            for hit in hits.drain(..) {
                self.take(hit, out)?;
                if self.emitted >= most {
                    return Ok(());
                }
            }
            if waits && start.elapsed() >= QUIET {
                waits = false;
                self.remark_if_quiet(recording);
            }
            // what the kernel counts does not come out one by one
            if most < u64::MAX && recording.counters().map_err(spec::wrong)?.passed >= most {
                break;
            }
            match next {
                Some(next) if start.elapsed() >= next => self.interval(recording, next, out)?,
                Some(_) => {}
                None => out.flush()?,
            }
        }
        recording.finish(&mut |hit| hits.push(hit));
        hits.retain(|hit| hit.time <= end);
        self.shower.changes(recording.changes());
        for hit in hits.into_iter().take(usize::try_from(most.saturating_sub(self.emitted)).unwrap_or(usize::MAX)) {
            self.take(hit, out)?;
        }
        Ok(())
    }

    /// Says that nothing has been hit, and what may be called in place of what is probed.
    fn remark_if_quiet(&self, recording: &Recording) {
        if self.emitted > 0 || recording.counters().is_ok_and(|counters| counters.hits > 0) {
            return;
        }
        let function = self.ready.sources.iter().find_map(|source| match source {
            Source::Kernel { function, .. } => Some(function),
            _ => None,
        });
        let hint = function.map_or_else(String::new, |function| {
            let alike =
                || format!("`::funccount 'k:*{}*' -d 5s` counts what is named alike", function.trim_matches('_'));
            format!("; {}", recipes::also(self.cx, function).unwrap_or_else(alike))
        });
        self.cx.face.remark(&format!("no probe has been hit for {} s{hint}", QUIET.as_secs()));
    }

    /// Shows a hit, or counts it in its group.
    fn take(&mut self, hit: Hit, out: &mut Out<'_>) -> Result<()> {
        if !self.ready.plan.is_gathered_here() {
            return self.show(&hit, out);
        }
        self.cx.interrupt.check()?;
        self.shower.meet(hit.pid);
        self.emitted += 1;
        self.gathered.add(&self.shower, hit, MOST_KEYS);
        Ok(())
    }

    fn show(&mut self, hit: &Hit, out: &mut Out<'_>) -> Result<()> {
        let (Some(parts), Some(source)) = (self.parts.get(hit.id as usize), self.ready.sources.get(hit.id as usize))
        else {
            return Ok(());
        };
        self.shower.meet(hit.pid);
        let started = *self.started.get_or_insert(hit.time);
        let mut values = self.shower.cells(parts, &hit.values, Who::of(hit)).into_iter();
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
        fixed.chain(self.ready.plan.columns()).collect()
    }

    /// Shows what was counted since the last time.
    fn interval(&mut self, recording: &Recording, time: Duration, out: &mut Out<'_>) -> Result<()> {
        self.intervals += 1;
        let now = totals::entries(recording)?;
        let shown = if self.all {
            self.emit(&now, Some(time), out)
        } else {
            self.emit(&totals::since(&now, &self.shown), Some(time), out)
        };
        self.shown = now;
        if !self.all {
            self.gathered.clear();
        }
        match shown {
            // whoever has enough has enough of this interval
            Ok(()) | Err(Error::Stop) => out.round(),
            Err(e) => Err(e),
        }
    }

    /// Shows what was counted in the end, and remembers it.
    fn last(&mut self, recording: &Recording, begun: Instant, out: &mut Out<'_>) -> Result<()> {
        if self.ready.plan.then == Then::Show {
            return Ok(());
        }
        let now = totals::entries(recording)?;
        let time = (self.intervals > 0).then(|| begun.elapsed());
        if self.ready.plan.is_gathered_here() {
            self.cx.env.keep(Counts::Ended(self.gathered.rows(&self.totals())?));
            return self.emit(&now, time, out);
        }
        self.cx.env.keep(Counts::Ended(self.totals().groups(&now, true)?));
        let rest = if self.all { now } else { totals::since(&now, &self.shown) };
        if time.is_some() && (rest.is_empty() || rest == self.shown) {
            return Ok(());
        }
        self.emit(&rest, time, out)
    }

    fn totals(&self) -> Totals<'_> {
        Totals { plan: &self.ready.plan, sources: &self.ready.sources, parts: self.parts, shower: &self.shower }
    }

    /// Shows entries, with the time of the interval in front.
    fn emit(&self, entries: &Entries, time: Option<Duration>, out: &mut Out<'_>) -> Result<()> {
        let time = time.map(|time| {
            let text = format!("{}.{:03}", time.as_secs(), time.subsec_millis());
            (("time".to_owned(), Shown::Column), Cell::Str(text))
        });
        let rows = match self.ready.plan.is_gathered_here() {
            true => self.gathered.rows(&self.totals()),
            false => self.totals().rows(entries),
        };
        for item in rows? {
            match item {
                Item::Row(row) => out.item(with_front(row, time.iter().cloned().collect())?)?,
                other => out.item(other)?,
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::origin::<Probe>(),
    DcmdEntry::of::<list::Probes>(),
    DcmdEntry::of::<running::Agg>(),
    DcmdEntry::filter::<latency::Latency>(),
    DcmdEntry::origin::<explain::Explain>(),
];
