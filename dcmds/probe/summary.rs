//! What is said of a run when it has ended: what the numbers cannot say themselves, and what it cost.
//!
//! ```console
//! > ::probe u:./shop:order u:./shop:pay -v -d 1s | ::stack -u
//! ...
//! note: 12409 of 20000 hits lost: the ring was full
//! note: u:shop:order: 12409 of them
//! ```

use super::{Run, explain, plan::Then};
use probes::{Recording, attach::Loaded, program::Counters};
use std::time::Duration;

impl Run<'_> {
    /// What the run cost, by what the kernel measured of the programs, if it did.
    pub(super) fn cost(&self, recording: &Recording, time: Duration, measured: bool) {
        let seconds = time.as_secs_f64().max(1e-9);
        for Loaded { program, members, .. } in recording.programs() {
            let Ok(counters) = program.counters() else { continue };
            let name = explain::name(&self.ready.sources, members);
            let mut text = format!("{name}: {} hits, {:.0}/s", counters.hits, counters.hits as f64 / seconds);
            if let Some((time, runs)) = measured.then(|| program.program.cost().ok()).flatten().filter(|(_, n)| *n > 0)
            {
                let share = time as f64 / 1e9 / seconds * 100.0;
                text += &format!(", {} ns each in the program, {share:.2} % of a CPU", time / runs);
            }
            self.cx.notes.once(0, text);
        }
    }

    /// What the numbers cannot say themselves: that nothing came, that something was lost.
    pub(super) fn sum_up(&self, recording: &Recording, counters: &Counters) {
        let notes = &self.cx.notes;
        if counters.hits == 0 {
            notes.once(0, "no probe was hit");
        } else if counters.passed == 0 {
            let hits = counters.hits;
            let who = self.ready.only.map(|only| if only.family.is_some() { "the command" } else { "the process" });
            notes.once(
                0,
                match (who, self.ready.plan.tests.is_empty()) {
                    (Some(who), true) => format!("no probe was hit by {who}; {hits} hits were others'"),
                    (Some(who), false) => format!("{hits} hits, none of which was by {who} and met the condition"),
                    (None, _) => format!("{hits} hits, none of which met the condition"),
                },
            );
        }
        if counters.unknown > 0 {
            notes.once(
                0,
                format!("{} hits left out: their condition needs what could not be read then", counters.unknown),
            );
        }
        if counters.missed > 0 {
            notes.once(0, format!("{} hits not looked at: a program ran already on that CPU", counters.missed));
        }
        if counters.alone > 0 && !self.ready.plan.begins.is_empty() {
            notes.once(0, format!("{} hits left out: nothing was seen that began them", counters.alone));
        }
        if counters.lost > 0 {
            let why = if self.ready.plan.then == Then::Show || self.ready.plan.is_gathered_here() {
                "the ring was full"
            } else {
                "the table was full"
            };
            notes.once(0, format!("{} of {} hits lost: {why}", counters.lost, counters.passed));
            for (source, lost) in self.ready.sources.iter().enumerate().map(|(i, s)| (s, recording.lost_of(i))) {
                if self.ready.sources.len() > 1 && lost > 0 {
                    notes.once(0, format!("{}: {lost} of them", source.name()));
                }
            }
        }
    }
}
