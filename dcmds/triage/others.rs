//! Crashes that one CPU reports and another brought about: it takes no interrupts, or holds a lock that the first spins on.
//!
//! ```console
//! > ::triage -1
//! … CLASS       TITLE
//! … soft-lockup soft lockup: a CPU ran kernel code and let no task run: it waits for one that is in crasher`crash_irqs_off+0x11
//! ```

use super::{
    class::{Case, Verdict},
    names,
};
use engine::prelude::*;
use walkers::{
    crash, rcu, rq,
    unwind::{self, Trace},
};

impl Case<'_> {
    /// A CPU waits until another has answered an interrupt: that one is to blame.
    pub(super) fn waits_for_cpu(&self, mut found: Verdict) -> Result<Verdict> {
        let waits = format!("it waits in {} for another CPU to answer an interrupt", self.place(&found.guilty));
        found.evidence.push(waits);
        let deaf =
            crash::stuck(self.cx)?.into_iter().find(|stuck| Some(stuck.cpu) != self.crash.cpu && stuck.no_interrupts);
        let other = match deaf {
            Some(stuck) => {
                found.evidence.push(format!("CPU {} has served no interrupts for {} s", stuck.cpu, stuck.seconds));
                Some((stuck.task, without_stop(self.cx, unwind::of_task(self.cx, stuck.task)?)))
            }
            None => self.other_cpu()?,
        };
        if let Some((task, guilty)) = other {
            found.title = format!("{}: it waits for one that is in {}", found.title, self.place(&guilty));
            (found.task, found.guilty) = (Some(task), guilty);
        }
        Ok(found.because_of(self.said(&["soft lockup", "hard LOCKUP", "rcu: INFO"])))
    }

    /// A dump was asked for by an NMI: perhaps because a CPU did nothing else any more.
    pub(super) fn asked_by_nmi(&self, found: Verdict) -> Result<Verdict> {
        let deaf =
            crash::stuck(self.cx)?.into_iter().filter(|stuck| stuck.no_interrupts).max_by_key(|stuck| stuck.seconds);
        let Some(stuck) = deaf else { return Ok(found) };
        let guilty = match self.crash.interrupted.filter(|_| self.crash.cpu == Some(stuck.cpu)) {
            Some(frame) => self.from(frame),
            None => without_stop(self.cx, unwind::of_task(self.cx, stuck.task)?),
        };
        let title = format!(
            "hard lockup: CPU {} served no interrupts for {} s, in {}",
            stuck.cpu,
            stuck.seconds,
            self.place(&guilty)
        );
        let mut lockup = Verdict::new("hard-lockup", title, Some(stuck.task), guilty);
        lockup.evidence.push(format!("the panic itself: {}", found.title));
        lockup.evidence.extend(found.evidence);
        Ok(self.spins(lockup))
    }

    /// An idle CPU noticed: another one is to blame.
    pub(super) fn unless_idle(&self, mut found: Verdict) -> Result<Verdict> {
        let idle =
            names::of(self.cx, &found.guilty).iter().any(|name| name == "cpu_startup_entry" || name == "do_idle");
        if idle && let Some((task, trace)) = self.other_cpu()? {
            found.evidence.push("the CPU that noticed was idle: another one runs".into());
            (found.task, found.guilty) = (Some(task), trace);
        }
        Ok(found)
    }

    /// Who RCU waits for, by its own masks: a CPU, mostly another than the one that noticed, or a task that was preempted.
    pub(super) fn reader(&self, mut found: Verdict) -> Result<Verdict> {
        let leaves = match rcu::leaves(self.cx) {
            Err(e) if e.is_control() => return Err(e),
            leaves => leaves.unwrap_or_default(),
        };
        let late: Vec<u32> = leaves.iter().flat_map(|node| node.cpus(node.qsmask | node.expmask)).collect();
        if self.crash.cpu.is_some_and(|cpu| late.contains(&cpu)) {
            return Ok(found);
        }
        if let Some(cpu) = late.first() {
            let queue = rq::all(self.cx)?.into_iter().find(|(number, _)| number == cpu);
            if let Some((_, queue)) = queue {
                found.evidence.push(format!("RCU waits for CPU {cpu}"));
                let trace = without_stop(self.cx, unwind::of_task(self.cx, queue.current)?);
                (found.task, found.guilty) = (Some(queue.current), trace);
                return Ok(found);
            }
        }
        let mut preempted = leaves.iter().flat_map(|node| node.readers(self.cx).unwrap_or_default());
        if let Some((task, _)) = preempted.rfind(|(_, waits)| *waits) {
            found.evidence.push("RCU waits for a task that was preempted while it read".into());
            // it may run again, and be the one who noticed
            if Some(task) != self.crash.task {
                let trace = without_stop(self.cx, unwind::of_task(self.cx, task)?);
                (found.task, found.guilty) = (Some(task), trace);
            }
            return Ok(found);
        }
        self.unless_idle(found)
    }

    /// Says whether the guilty CPU spins on a lock, and whether others do.
    pub(super) fn spins(&self, mut found: Verdict) -> Verdict {
        let spins = |name: &String| name.contains("spin_lock_slowpath") || name.starts_with("queued_write_lock");
        if names::of(self.cx, &found.guilty).iter().take(3).any(spins) {
            let all = rq::all(self.cx).unwrap_or_default();
            let stacks = all.iter().filter_map(|(_, rq)| unwind::of_task(self.cx, rq.current).ok());
            let spinning = stacks.filter(|trace| names::of(self.cx, trace).iter().any(spins)).count();
            found.evidence.push(match spinning {
                0 | 1 => "it spins on a spinlock that does not come free".into(),
                n => format!("{n} CPUs spin on spinlocks: most likely they wait for each other (AB-BA)"),
            });
        }
        found
    }

    /// What another CPU runs that is not idle.
    pub(super) fn other_cpu(&self) -> Result<Option<(u64, Trace)>> {
        for (cpu, rq) in rq::all(self.cx)? {
            if self.crash.cpu != Some(cpu) && rq.current != rq.idle {
                return Ok(Some((rq.current, without_stop(self.cx, unwind::of_task(self.cx, rq.current)?))));
            }
        }
        Ok(None)
    }
}

/// The stack of a CPU that was stopped for the dump, without what stopped it.
fn without_stop(cx: &Cx<'_>, mut trace: Trace) -> Trace {
    let stopped = |name: &String| {
        matches!(name.as_str(), "exc_nmi" | "stop_this_cpu")
            || ["asm_exc_nmi", "reboot", "cpu_stop", "self_stop", "crash_nmi"].iter().any(|part| name.contains(part))
    };
    let handlers = trace.frames.iter().position(|frame| frame.regs.is_some()).unwrap_or(0);
    if names::of(cx, &trace).get(..handlers).unwrap_or_default().iter().any(stopped) {
        trace.frames.drain(..handlers);
    }
    trace
}
