//! What living tasks have: credentials, memory, files, signals. As long as a task has it its count is at least one, and it
//! is not freed.

use super::{Finding, Kind, World, is_pointer};
use crate::{
    file,
    slab::{self, State},
    task,
};
use engine::prelude::*;
use std::collections::HashSet;

/// What a task has: the pointer to it, its type, and its count.
const HELD: &[(&str, &str, &str)] = &[
    ("cred", "cred", "usage"),
    ("real_cred", "cred", "usage"),
    ("mm", "mm_struct", "mm_users"),
    ("active_mm", "mm_struct", "mm_count"),
    ("files", "files_struct", "count"),
    ("fs", "fs_struct", "users"),
    ("signal", "signal_struct", "sigcnt"),
    ("sighand", "sighand_struct", "count"),
    ("nsproxy", "nsproxy", "count"),
];

/// A count: where it is, in what, and of how many bytes.
struct Counted {
    pointer: u64,
    name: &'static str,
    count: u64,
    size: usize,
}

/// Counts that are not above zero, and what is freed, and whose they are.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let held = HELD.iter().filter_map(|(pointer, name, count)| {
        let place = session.place(name, count)?;
        let pointer = session.offset("task_struct", pointer).ok()?;
        Some(Counted { pointer, name, count: place.bit_offset / 8, size: (place.bits / 8) as usize })
    });
    let held: Vec<Counted> = held.collect();
    let (mut seen, mut out) = (HashSet::new(), Vec::new());
    let walked = task::threads(session, &mut |task| {
        for counted in &held {
            let Some([at]) = world.read::<1>(task.wrapping_add(counted.pointer))?.filter(|[at]| *at >> 63 == 1) else {
                continue;
            };
            if seen.insert((at, counted.count)) {
                let name = counted.name;
                match gone(world, task.wrapping_add(counted.pointer), at, || format!("task {task:x} has this {name}"))?
                {
                    Some(finding) => out.push(finding),
                    None => out.extend(one(world, task, at, counted)?),
                }
            }
        }
        Ok(())
    });
    // tasks that cannot be walked are noted where they are asked for
    walked.or_else(|e| if e.is_control() { Err(e) } else { Ok(()) })?;
    files(world, &mut out)?;
    Ok(out)
}

/// A pointer, at `place`, to something that is freed though whoever has it has a reference.
fn gone(world: &World<'_>, place: u64, to: u64, who: impl Fn() -> String) -> Result<Option<Finding>> {
    let freed = world.freed(to)?;
    Ok(freed.map(|freed| Finding {
        kind: Kind::Dangling,
        at: place,
        verdict: format!("{}, at {to:x}, which was freed: put too often", who()),
        freed: Some(freed),
    }))
}

fn one(world: &World<'_>, task: u64, at: u64, counted: &Counted) -> Result<Option<Finding>> {
    // what is not allocated, such as all that the first task has, need not be counted
    if !slab::find(world.session, at)?.is_some_and(|found| found.state == State::Allocated) {
        return Ok(None);
    }
    let place = at.wrapping_add(counted.count);
    let value = match world.session.uint(place, counted.size.min(8)) {
        Ok(value) if counted.size == 4 => i64::from(value as i32),
        Ok(value) => value as i64,
        Err(e) if e.is_control() => return Err(e),
        Err(_) => return Ok(None),
    };
    let verdict = || {
        let name = counted.name;
        format!("task {task:x} has this {name}, whose count is {value}: put too often, or written over")
    };
    Ok((value <= 0).then(|| Finding { kind: Kind::Refcount, at: place, verdict: verdict(), freed: None }))
}

/// Files that processes have open.
fn files(world: &World<'_>, out: &mut Vec<Finding>) -> Result<()> {
    let session = world.session;
    // since Linux 6.13 (90ee6ed776c0) zero is one reference, and what is below zero none
    let (place, least) = match (session.place("file", "f_ref.refcnt.counter"), session.place("file", "f_count.counter"))
    {
        (Some(place), _) => (place, 0),
        (None, Some(place)) => (place, 1),
        (None, None) => return Ok(()),
    };
    let holders = match file::Holders::of(session) {
        Ok(holders) => holders,
        Err(e) if e.is_control() => return Err(e),
        Err(_) => return Ok(()),
    };
    let has: Vec<(&str, u64)> = [("dentry", "f_path.dentry"), ("inode", "f_inode")]
        .into_iter()
        .filter_map(|(what, member)| Some((what, session.offset("file", member).ok()?)))
        .collect();
    for at in holders.files() {
        let Some((task, fd)) = holders.get(at).first().copied() else { continue };
        if let Some(finding) = gone(world, at, at, || format!("task {task:x} has this file as descriptor {fd}"))? {
            out.push(finding);
            continue;
        }
        for (what, member) in &has {
            let place = at.wrapping_add(*member);
            let Some([to]) = world.read::<1>(place)?.filter(|[to]| is_pointer(*to)) else { continue };
            let who = || format!("this file, descriptor {fd} of task {task:x}, has its {what}");
            out.extend(gone(world, place, to, who)?);
        }
        let Some([count]) = world.read::<1>(at.wrapping_add(place.bit_offset / 8))? else { continue };
        if count as i64 >= least {
            continue;
        }
        let verdict = format!(
            "task {task:x} has this file as descriptor {fd}, whose count is {}: put too often, or written over",
            count as i64
        );
        out.push(Finding { kind: Kind::Refcount, at: at.wrapping_add(place.bit_offset / 8), verdict, freed: None });
    }
    Ok(())
}
