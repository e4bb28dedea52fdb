//! Where entries of lists lie that nobody takes off any more: vmalloc memory that was given back, and stacks that were
//! given to another task since.
//!
//! A thread that ends while an entry on its stack is on a wait queue leaves the queue's head leading to that stack. It is
//! kept for the next thread, given to one, or given back. What the head is in knows nothing of it.

use super::{Finding, Kind, World, is_pointer};
use crate::{module, task_stack::Stacks, vmalloc};
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use std::{ops::Range, sync::Arc};

/// Addresses of vmalloc memory, in use or not; modules have theirs elsewhere. And the stacks of all tasks.
pub(super) struct Deserted {
    stacks: Option<Arc<Stacks>>,
    areas: Option<Arc<vmalloc::Areas>>,
    range: Range<u64>,
    modules: Vec<Range<u64>>,
    task_size: u64,
}

/// How far from each other code may be that calls each other: so far round modules are other modules, their parts that
/// were given back after they were loaded, and the kernel's image.
const REACH: u64 = 1 << 31;

/// What there is, unless it cannot be read: that is noted where it is asked for.
fn there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_control() => Err(e),
        Err(_) => Ok(None),
    }
}

impl Deserted {
    pub fn of(session: &Session) -> Result<Deserted> {
        let (stacks, areas) = (there(Stacks::of(session))?, there(vmalloc::Areas::of(session))?);
        let modules = module::memory(session)?.into_iter().map(|(_, range)| range).collect();
        let task_size = session.size_of("task_struct").unwrap_or(0);
        let mut found = Deserted { stacks, areas, range: 0..0, modules, task_size };
        let starts = || found.areas.iter().flat_map(|areas| areas.busy()).map(|area| area.start);
        let starts = || starts().filter(|start| !found.is_near_modules(*start));
        found.range = starts().min().unwrap_or(0)..starts().max().unwrap_or(0);
        Ok(found)
    }

    fn is_near_modules(&self, addr: u64) -> bool {
        self.modules.iter().any(|range| range.start.abs_diff(addr) < REACH)
    }

    /// Where an address leads that the word at `at` has, if nobody is there any more. `twice` says that the next word is
    /// the same, as in the head of a list with one entry.
    pub fn what(&self, world: &World<'_>, at: u64, addr: u64, twice: bool) -> Result<Option<&'static str>> {
        if twice && self.is_anothers(world, at, addr)? {
            return Ok(Some("on the stack of a task: the only entry of a list, which leads back to nobody any more"));
        }
        Ok(self.is_gone(world.session, addr, twice).then_some("in vmalloc memory that was given back"))
    }

    /// Whether an entry lies on a stack and is none any more: the stack has been given to another task since.
    fn is_anothers(&self, world: &World<'_>, at: u64, entry: u64) -> Result<bool> {
        // a task's own words lead to its stack
        let is_own = |task: u64| at.wrapping_sub(task) < self.task_size;
        let stack = self.stacks.as_ref().and_then(|stacks| stacks.at(entry));
        Ok(stack.is_some_and(|stack| !is_own(stack.task))
            && world.read::<2>(entry)?.is_some_and(|[next, prev]| next != at && prev != at))
    }

    /// Whether an address is that of a page of vmalloc memory, in no area in use, where nothing is mapped. One that is
    /// not a page's is more often a number than a pointer into the midst of an area, unless it stands there twice, as
    /// that of a list's only entry does.
    fn is_gone(&self, session: &Session, addr: u64, twice: bool) -> bool {
        let page = session.target.page_size();
        let is_in_use = self.areas.as_ref().is_none_or(|areas| areas.at(addr).is_some());
        let is_one = addr.is_multiple_of(page) || twice && addr.is_multiple_of(8);
        if !self.range.contains(&addr) || !is_one || is_in_use || self.is_near_modules(addr) {
            return false;
        }
        let mut byte = [0];
        let holes = session.target.read_lossy(Space::Kernel, addr, &mut byte);
        holes.first().is_some_and(|hole| hole.reason == Reason::NotMapped)
    }
}

/// The head of a wait queue, a member of an object, at `at`, whose words are these.
pub(super) fn queue(world: &World<'_>, at: u64, [next, prev]: [u64; 2]) -> Result<Option<Finding>> {
    if next != prev || next == at || !is_pointer(next) {
        return Ok(None);
    }
    let what = entry(world, at, next)?;
    let verdict = |what| format!("the only entry of this wait queue, {next:x}, is {what}");
    Ok(what.map(|what| Finding { kind: Kind::Freed, at, verdict: verdict(what), freed: None }))
}

/// Where the only entry of the list whose head is at `at` lies, if it is none any more. One that still leads back is told
/// of with the list.
fn entry(world: &World<'_>, at: u64, next: u64) -> Result<Option<&'static str>> {
    match world.left(next) {
        Some(_) if world.read::<2>(next)?.is_some_and(|[_, back]| back == at) => Ok(None),
        Some(0) => Ok(Some("on the stack of a task that has ended")),
        Some(_) => Ok(Some("on a stack, in a part that is not in use: its function returned")),
        None => world.deserted.what(world, at, next, true),
    }
}
