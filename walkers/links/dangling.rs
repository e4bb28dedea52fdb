//! Variables of modules that point to slab objects that are free, to areas of vmalloc memory that were given back, and to
//! stacks that no task has any more.
//!
//! A variable of a function's own (`data.27`) is left out: what it held when the function ended nobody will use, as in
//! `fw_cfg_write_vmcoreinfo()`, which frees what its `static` pointer points to.

use super::{Finding, Kind, World, is_pointer, module_data};
use crate::{module, refs, task_stack::Stacks, vmalloc};
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use std::{ops::Range, sync::Arc};

/// Words of one module that are looked at: 64 MiB.
const MAX_WORDS: u64 = 1 << 23;

/// The variables that outlive what they point to.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let stacks = refs::unused_stacks(world.session)?;
    let areas = Gone::of(world.session)?;
    let tasks = Stacks::of(world.session)?;
    // what the kernel itself keeps of a module has the addresses of its init part, which is given back
    let own = own(world.session)?;
    for (module, range) in module_data(world.session)? {
        let len = (range.end - range.start).min(MAX_WORDS * 8);
        let Some(memory) = world.memory(range.start, len)? else { continue };
        for (at, bytes) in (range.start..).step_by(8).zip(memory.chunks_exact(8)) {
            let word = bytes.try_into().map_or(0, u64::from_le_bytes);
            if !is_pointer(word) {
                continue;
            }
            let freed = world.freed(word)?;
            let next = memory.get((at - range.start) as usize + 8..).map_or(0, |rest| crate::page::word(rest, 0));
            let what = match freed {
                Some(_) => "which was freed",
                None if stacks.iter().any(|stack| stack.contains(&word)) => "on the stack of a task that has ended",
                None if world.left(word).is_some() => "on a stack, in a part that is not in use: its function returned",
                None if next == word && is_left(world, &tasks, at, word)? => {
                    "on the stack of a task: the only entry of a list, which leads back to nobody any more"
                }
                None if areas.is_gone(world.session, word, next == word)
                    && !own.iter().any(|own| own.contains(&at)) =>
                {
                    "in vmalloc memory that was given back"
                }
                None => continue,
            };
            if !is_local(world.session, at) {
                let verdict = format!("a variable of {module} points to {word:x}, {what}");
                out.push(Finding { kind: Kind::Dangling, at, verdict, freed });
            }
        }
    }
    Ok(out)
}

/// Whether the head of a list at `at` has its only entry on a stack, and that is none any more: the stack has been given
/// to another task since.
fn is_left(world: &World<'_>, tasks: &Stacks, at: u64, entry: u64) -> Result<bool> {
    Ok(tasks.at(entry).is_some() && world.read::<2>(entry)?.is_some_and(|[next, prev]| next != at && prev != at))
}

/// The `struct module`s.
fn own(session: &Session) -> Result<Vec<Range<u64>>> {
    let (size, mut found) = (session.size_of("module").unwrap_or(0), Vec::new());
    if session.kernel_symbol("modules").is_some() {
        module::each(session, &mut |at| {
            found.push(at..at.saturating_add(size));
            Ok(())
        })?;
    }
    Ok(found)
}

/// Addresses of vmalloc memory, in use or not; modules have theirs elsewhere.
struct Gone {
    areas: Option<Arc<vmalloc::Areas>>,
    range: Range<u64>,
    modules: Vec<Range<u64>>,
}

/// How far from each other code may be that calls each other: so far round modules are other modules, their parts that
/// were given back after they were loaded, and the kernel's image.
const REACH: u64 = 1 << 31;

impl Gone {
    fn of(session: &Session) -> Result<Gone> {
        let areas = match vmalloc::Areas::of(session) {
            Ok(areas) => Some(areas),
            Err(e) if e.is_control() => return Err(e),
            // noted where they are asked for
            Err(_) => None,
        };
        let modules = module::memory(session)?.into_iter().map(|(_, range)| range).collect();
        let mut gone = Gone { areas, range: 0..0, modules };
        let starts = || gone.areas.iter().flat_map(|areas| areas.busy()).map(|area| area.start);
        let starts = || starts().filter(|start| !gone.is_near_modules(*start));
        gone.range = starts().min().unwrap_or(0)..starts().max().unwrap_or(0);
        Ok(gone)
    }

    fn is_near_modules(&self, addr: u64) -> bool {
        self.modules.iter().any(|range| range.start.abs_diff(addr) < REACH)
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

/// Whether the variable at an address is a function's own: the compiler puts a number behind its name.
fn is_local(session: &Session, at: u64) -> bool {
    let name = session.symbols.by_addr(session, at).map(|symbol| symbol.name.to_string());
    let number = name.as_deref().and_then(|name| name.rsplit_once('.'));
    number.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
