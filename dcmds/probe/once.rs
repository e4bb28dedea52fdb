//! Probes that another command sets for itself, to take their events: each with what is done at its hits written as stages.

use super::{
    ROUND, command::Started, compile::Compiler, join::Only, join::reach, names::Names, plan::Plan, plan::Then, spec,
};
use engine::{pipeline, prelude::*};
use probes::{
    Recording,
    expr::Test,
    program::Spec,
    recording::{Hit, Limits},
    source::Source,
};
use std::time::{Duration, Instant};

/// Bytes that a text is cut to.
const TEXT: u16 = 64;

/// Probes in the making.
pub struct Once {
    only: Option<Only>,
    started: Option<Started>,
    probes: Vec<(Source, Spec)>,
}

/// What is known of a run once it is over.
pub struct Ran {
    /// hits that found no room in a ring
    pub lost: u64,
    /// how long it took
    pub time: Duration,
}

impl Once {
    /// None yet. Hits will be those of one process, or of a command that is started and waits.
    pub fn new(cx: &Cx<'_>, pid: Option<&ExprArg>, command: Option<&str>) -> Result<Once> {
        super::must_be_live(cx)?;
        let pid = super::process(cx, pid)?;
        let started = command.map(Started::new).transpose()?;
        let only = Only::of(cx, pid, started.as_ref())?;
        Ok(Once { only, started, probes: Vec::new() })
    }

    fn pid(&self) -> Option<i32> {
        self.only.map(|only| only.pid)
    }

    /// Adds a probe with the stages that are to be done at its hits; its hits have the number of those added before.
    pub fn add(&mut self, cx: &Cx<'_>, probe: &str, stages: &str) -> Result<()> {
        let mut sources = spec::find(cx, probe, self.pid())?;
        let stages = pipeline::stages_of(cx, stages, &[])?;
        let plan = Plan::make(cx, &mut sources, &stages, TEXT, false)?;
        if plan.taken < stages.len() || plan.then != Then::Show {
            let why = match cx.struct_type("task_struct") {
                Some(_) => "this kernel cannot do all that is asked for at the hit",
                None => {
                    "this kernel tells nothing of its types (no BTF), which this needs: `kmdb -k VMLINUX` takes them from its file \
                     with debug information"
                }
            };
            return Err(Error::Unavailable(format!("{probe}: {why}")));
        }
        for source in sources {
            let (spec, _) = plan.spec(cx, &source, self.probes.len() as u64, self.only)?;
            self.probes.push((source, spec));
        }
        Ok(())
    }

    /// The same for hits that another probe's began, where a condition held: `key` is what both have, as ::latency takes it.
    pub fn add_after(
        &mut self,
        cx: &Cx<'_>,
        (begin, test): (&str, &str),
        (probe, key): (&str, &str),
        stages: &str,
    ) -> Result<()> {
        let mut sources = spec::find(cx, begin, self.pid())?;
        let names = sources.clone();
        sources.extend(spec::find(cx, probe, self.pid())?);
        let stages = pipeline::stages_of(cx, &format!("::latency {key} | {stages}"), &[])?;
        let plan = Plan::make(cx, &mut sources, &stages, TEXT, false)?;
        for source in sources {
            let (mut spec, _) = plan.spec(cx, &source, self.probes.len() as u64, self.only)?;
            let begins = spec.join.iter_mut().flat_map(|join| &mut join.begins);
            for ((_, begun), source) in begins.zip(&names) {
                let held = Compiler::new(cx, &Names::at(cx, source), TEXT).test(test)?;
                begun.test = Some(Test::All(begun.test.take().into_iter().chain([held]).collect()));
            }
            self.probes.push((source, spec));
        }
        Ok(())
    }

    /// Sets them and hands out their hits until time is over, the command has ended, or Ctrl-C.
    pub fn listen(mut self, cx: &Cx<'_>, duration: Option<Duration>, visit: &mut dyn FnMut(Hit)) -> Result<Ran> {
        let (pid, family) = (self.only.map(|only| only.pid), self.only.and_then(|only| only.family));
        let limits = Limits { pid, family, reach: reach(cx, &self.probes), ..Limits::default() };
        let mut recording = Recording::start(&self.probes, limits).map_err(spec::wrong)?;
        let begun = Instant::now();
        if let Some(started) = &mut self.started {
            started.go(false)?;
        }
        loop {
            let left = duration.map_or(ROUND, |duration| duration.saturating_sub(begun.elapsed()));
            let ended = self.started.as_mut().is_some_and(Started::has_ended);
            if cx.interrupt.is_set() || ended || left.is_zero() {
                break;
            }
            recording.poll(left.min(ROUND), visit);
        }
        // Ctrl-C is how a run ends
        cx.interrupt.clear();
        recording.finish(visit);
        let lost = recording.counters().map_err(spec::wrong)?.lost;
        Ok(Ran { lost, time: begun.elapsed() })
    }
}
