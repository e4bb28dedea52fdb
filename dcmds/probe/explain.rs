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
    program::{Action, Program},
    recording::{self, Rings},
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

/// What is done for a run that is ready.
pub fn rows(cx: &Cx<'_>, ready: &Ready, behind: &[Stage]) -> Result<Vec<Step>> {
    let mut rows = Vec::new();
    let mut kernel = |stage: String, what: String| rows.push(Step { place: "kernel", stage, what });
    let plan = &ready.plan;
    let (specs, _) = ready.specs(cx)?;
    let (mut room, limits) = (0, ready.limits());
    for (source, spec) in ready.sources.iter().zip(&specs) {
        let rings = matches!(spec.action, Action::Emit(_)).then(|| Rings::new(0, false)).transpose();
        let rings = rings.map_err(spec::wrong)?;
        let left =
            spec.join.as_ref().map(|join| recording::left(join, limits.keys)).transpose().map_err(spec::wrong)?;
        let output = rings.as_ref().map(Rings::table);
        let program = Program::load(source.program(), spec, output, left.as_ref(), &limits);
        let what = match program {
            Ok(program) => format!("a BPF program of {} instructions at each hit", program.instructions),
            Err(e) => format!("the kernel refuses the program: {e}"),
        };
        kernel(format!("::probe {}", source.name()), what);
        for (begin, _) in spec.join.iter().flat_map(|join| &join.begins) {
            kernel(
                format!("::probe {}", source.name()),
                format!("and another at {}, for what it leaves", begin.name()),
            );
        }
        room = spec.action.room();
    }
    if let Some(pid) = ready.pid {
        kernel(format!("-p 0t{pid}"), "who passes".into());
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
        Then::Group => ("::count".into(), format!("a table of up to {} keys of {room} bytes", limits.keys)),
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
