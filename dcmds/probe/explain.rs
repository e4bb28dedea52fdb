//! What of a pipeline runs where: in the kernel, at each hit, or here, on what comes out.
//!
//! ```console
//! > ::explain ::probe t:syscalls:sys_enter_openat | ::where comm == "cat" | ::group filename | ::sort -r count
//! WHERE  STAGE                                WHAT
//! kernel ::probe t:syscalls:sys_enter_openat  a BPF program of 131 instructions at each hit
//! kernel ::where comm == "cat"                who passes
//! kernel ::group filename                     part of a key, up to 64 bytes of text
//! kernel                                      a table of up to 16384 keys of 64 bytes, one for each CPU
//! here   ::sort -r count                      on 1 row for each key
//! ```

use super::{Probe, Ready, plan::Then};
use crate::probe::spec;
use clap::FromArgMatches;
use engine::{
    Schema,
    lang::ast::{Stage, StageKind},
    pipeline,
    prelude::*,
};
use probes::{
    attach::{self, Tried, Way},
    source::Source,
};

/// Something that a pipeline does.
#[derive(Row)]
pub struct Step {
    /// `kernel`: at each hit, by a BPF program; `here`: by kmdb, on rows
    #[heading("WHERE")]
    place: &'static str,
    /// the stage that asks for it
    stage: String,
    /// what is done
    what: String,
}

/// Say what of a pipeline that begins with ::probe the kernel would do, and set nothing.
///
/// Conditions, values, counts and stacks become a BPF program for each probe; stages that cannot become one run on what
/// comes out, which costs more at many hits. Works for macros, too: `::explain ::opensnoop -x`.
#[derive(Args)]
pub struct Explain {
    /// the pipeline
    #[arg(value_name = "PIPELINE", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    #[arg(skip)]
    steps: Vec<Step>,
}

impl Origin for Explain {
    const NAME: &'static str = "explain";
    const ROWS: &'static [&'static Schema] = &[<Step as engine::IntoRow>::SCHEMA];

    fn plan(&mut self, cx: &Cx<'_>, behind: &[Stage]) -> Result<usize> {
        let text = match &self.words[..] {
            [one] => one.clone(),
            words => words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "),
        };
        let text = if text.trim_start().starts_with("::") { text } else { format!("::{text}") };
        let stages = pipeline::stages_of(cx, &text, behind)?;
        let (first, rest) = stages.split_first().ok_or_else(|| Error::Usage("there is no pipeline".into()))?;
        let StageKind::Dcmd { name, args, .. } = &first.kind else { return Err(no_probe(first)) };
        if name != Probe::NAME {
            return Err(no_probe(first));
        }
        let command = Probe::augment_args(clap::Command::new(Probe::NAME).no_binary_name(true).disable_help_flag(true));
        let wrong = |e: clap::Error| Error::Usage(format!("::probe: {}", e.render().to_string().trim()));
        let matches = command.try_get_matches_from(pipeline::words(cx, args)?).map_err(wrong)?;
        let mut probe = Probe::from_arg_matches(&matches).map_err(wrong)?;
        probe.dry = true;
        probe.plan(cx, rest)?;
        if let Some(ready) = &probe.ready {
            self.steps = rows(cx, ready, &probe.behind)?;
        }
        Ok(behind.len())
    }

    fn run(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        std::mem::take(&mut self.steps).into_iter().try_for_each(|step| out.row(step))
    }
}

fn no_probe(first: &Stage) -> Error {
    Error::Usage(format!("`{first}` runs here, and so does all behind it"))
        .hint("pipelines that begin with ::probe are partly done by the kernel")
}

/// A word as it would have to be typed.
fn quoted(word: &str) -> String {
    match word.contains(|c: char| c.is_whitespace() || "'\"|;!".contains(c)) {
        true => format!("'{}'", word.replace('\'', "\\'")),
        false => word.to_owned(),
    }
}

/// The probes at which one program stands.
pub fn name(sources: &[Source], members: &[usize]) -> String {
    let first = members.first().and_then(|first| sources.get(*first)).map_or_else(String::new, Source::name);
    match members.len() {
        0 | 1 => first,
        n => format!("{first} and {} more", n - 1),
    }
}

/// How it comes there.
fn attached(way: Way, probes: usize) -> String {
    match way {
        Way::Each => String::new(),
        Way::Direct => ", which the function itself calls (fentry or fexit)".to_owned(),
        Way::Events => format!(", the same for all {probes}, at an event for each"),
        Way::Functions => format!(", the same for all {probes}, by one link (kprobe_multi)"),
        Way::Places if probes == 1 => ", by a link (uprobe_multi)".to_owned(),
        Way::Places => format!(", the same for all {probes}, by one link (uprobe_multi)"),
    }
}

/// What is done for a run that is ready.
pub fn rows(cx: &Cx<'_>, ready: &Ready, behind: &[Stage]) -> Result<Vec<Step>> {
    let mut rows = Vec::new();
    let mut kernel = |stage: String, what: String| rows.push(Step { place: "kernel", stage, what });
    let plan = &ready.plan;
    let (specs, _) = ready.specs(cx)?;
    let probes: Vec<_> = ready.sources.iter().cloned().zip(specs).collect();
    let limits = ready.limits(cx, &probes);
    let room = probes.last().map_or(0, |(_, spec)| spec.action.room());
    for Tried { members, way, instructions, indirect, begins } in attach::dry(&probes, limits).map_err(spec::wrong)? {
        let stage = format!("::probe {}", name(&ready.sources, &members));
        let what = match instructions {
            Ok(n) => format!("a BPF program of {n} instructions at each hit{}", attached(way, members.len())),
            Err(e) => format!("the kernel refuses the program: {e}"),
        };
        let why = indirect.map_or_else(String::new, |why| format!(", at a kprobe: {why}"));
        kernel(stage.clone(), what + &why);
        let join = members.first().and_then(|first| probes.get(*first)?.1.join.as_ref()).filter(|_| begins);
        for (begin, _) in join.iter().flat_map(|join| &join.begins) {
            let at = if members.len() > 1 { "where each begins".to_owned() } else { format!("at {}", begin.name()) };
            kernel(stage.clone(), format!("and another {at}, for what it leaves"));
        }
    }
    if let Some(only) = ready.only {
        kernel(format!("-p 0t{}", only.pid), "who passes".into());
    }
    for test in &plan.tests {
        kernel(format!("::where {test}"), "who passes".into());
    }
    let key = if plan.then == Then::Show { "::print" } else { "::group" };
    for asked in &plan.asked {
        let what = if asked.hidden { "read at the hit, for stages behind" } else { "read at the hit" };
        kernel(format!("{key} {}", asked.text), what.into());
    }
    let (stage, what) = match &plan.then {
        Then::Show => (String::new(), format!("events of {room} bytes of values into a ring of each CPU")),
        Then::Count => ("::count".into(), "counted, on each CPU".into()),
        Then::Group if plan.is_gathered_here() => {
            (String::new(), format!("events of {room} bytes and a copy of the stack into a ring of each CPU"))
        }
        Then::Group => {
            let keys = attach::keys(&limits, probes.len());
            ("::count".into(), format!("a table of up to {keys} keys of {room} bytes"))
        }
        Then::Quantize => ("::quantize".into(), "counted by powers of two of the last of these".into()),
        Then::Sum(text) => (format!("::sum {text}"), "number, sum, least and most, on each CPU".into()),
    };
    kernel(stage, what);
    let on = if plan.then == Then::Show { "on each event" } else { "on what was counted" };
    if plan.is_gathered_here() {
        rows.push(Step { place: "here", stage: "::count".into(), what: "stacks are unwound, and counted".into() });
    }
    rows.extend(behind.iter().map(|stage| Step { place: "here", stage: stage.to_string(), what: on.into() }));
    Ok(rows)
}
