//! What the kernel will use, and is gone or spoilt: timers and works that are set and lie in freed objects, ends of stacks
//! that were written over.

use super::{Finding, Kind, World};
use crate::{hrtimer, notifier, slab::verify::verdict, task_stack::Stacks, timer, workqueue};
use engine::prelude::*;

/// `STACK_END_MAGIC`, in a task's lowest word (`set_task_stack_end_magic` in kernel/fork.c).
const STACK_END: u64 = 0x57ac_6e9d;

/// All of it.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    // what cannot be asked here, such as a kernel without these symbols, is not damaged
    for asked in [waiting(world, &mut out), notifiers(world, &mut out), stacks(world, &mut out)] {
        if let Err(e) = asked
            && e.is_control()
        {
            return Err(e);
        }
    }
    Ok(out)
}

/// Timers and works.
fn waiting(world: &World<'_>, out: &mut Vec<Finding>) -> Result<()> {
    let session = world.session;
    let mut dead = |at: u64, what: &str| {
        if let Some(freed) = world.freed(at)? {
            let verdict = format!("{what} lies in an object that was freed: use after free when its turn comes");
            out.push(Finding { kind: Kind::Pending, at, verdict, freed: Some(freed) });
        }
        Ok(())
    };
    let mut lost = Vec::new();
    let mut calls = |at: u64, function: u64, what: &str| {
        if !is_code(session, function) {
            let verdict =
                format!("{what} calls {function:x}, which is no code: a module that is gone, or written over");
            lost.push(Finding { kind: Kind::Pending, at, verdict, freed: None });
        }
    };
    let entry = session.offset("timer_list", "entry")?;
    let mut unhung = Vec::new();
    timer::each(session, &mut |at| {
        // what is set hangs on something
        if let Some([_, 0]) = world.read::<2>(at.wrapping_add(entry))? {
            let verdict = "a timer that is set has no pprev: it was initialised again while it was set".into();
            unhung.push(Finding { kind: Kind::Pending, at, verdict, freed: None });
        }
        if let Ok(timer) = session.view::<timer::Timer>(at) {
            calls(at, timer.function, "a timer that is set");
        }
        dead(at, "a timer that is set")
    })?;
    for (_, base) in hrtimer::bases(session)? {
        base.each(session, &mut |at| dead(at, "a high resolution timer that is set"))?;
    }
    workqueue::each_work(session, &mut |queued| match queued.state {
        // a work may free what it lies in
        workqueue::State::Running => Ok(()),
        _ => {
            if let Ok(function) = &queued.function {
                calls(queued.work, *function, "a work that is queued");
            }
            dead(queued.work, "a work that is queued")
        }
    })?;
    out.extend(lost);
    out.extend(unhung);
    Ok(())
}

/// Notifiers: a chain calls each of its blocks, also one that was freed.
fn notifiers(world: &World<'_>, out: &mut Vec<Finding>) -> Result<()> {
    let session = world.session;
    for (name, chain) in notifier::chains(session) {
        let walked = notifier::each(session, Object { addr: chain, ctype: None }, &mut |block| {
            let Some(freed) = world.freed(block)? else { return Ok(()) };
            let verdict =
                format!("a notifier of {name} lies in an object that was freed: use after free when something happens");
            out.push(Finding { kind: Kind::Pending, at: block, verdict, freed: Some(freed) });
            // where that leads nobody knows
            Err(Error::Stop)
        });
        match walked {
            Err(e) if e.is_control() && !matches!(e, Error::Stop) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Whether an address is one of a function, of the kernel or of a module.
fn is_code(session: &Session, addr: u64) -> bool {
    session.symbols.by_addr(session, addr).is_some() || session.symbols.module_at(session, addr).is_some()
}

/// Ends of stacks, where tasks have no `struct thread_info` there.
fn stacks(world: &World<'_>, out: &mut Vec<Finding>) -> Result<()> {
    let session = world.session;
    if !session.has_member("task_struct", "thread_info") {
        return Ok(());
    }
    let stacks = Stacks::of(session)?;
    let (mut sound, mut spoilt) = (0, Vec::new());
    for stack in stacks.iter() {
        match world.read::<1>(stack.range.start)? {
            Some([STACK_END]) => sound += 1,
            Some([word]) => spoilt.push((stack, word)),
            None => {}
        }
    }
    // a kernel that does not mark them has none that is marked
    for (stack, word) in spoilt.iter().filter(|_| sound > spoilt.len()) {
        let name = session.offset("task_struct", "comm").and_then(|at| session.cstr(stack.task.wrapping_add(at), 16));
        let is = verdict::describe(session, *word).unwrap_or_else(|| format!("{word:#x}"));
        let verdict = format!(
            "the end of the stack of {}, task {:x}, should hold STACK_END_MAGIC, it is {is}: the stack overflowed, or was \
             written over",
            name.as_deref().unwrap_or("?"),
            stack.task
        );
        out.push(Finding { kind: Kind::Stack, at: stack.range.start, verdict, freed: None });
    }
    Ok(())
}
