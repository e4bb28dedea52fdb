//! What is recorded of an object's last allocation and freeing, as lines below an answer.
//!
//! ```text
//! freed by thread 169 on CPU 0, 5.388000000 s after boot
//!     labmod`lab_free_node+0x21
//! ```

use engine::prelude::*;
use walkers::{
    clock::Clocks,
    kfence::{Pool, Track},
    slab::{self, State, Which},
};

/// `allocated by thread 225 on CPU 1, 12.345678901 s after boot`, and the stack below it.
pub fn report(
    cx: &Cx<'_>,
    verb: &str,
    pid: i64,
    cpu: Option<i64>,
    time: Option<u64>,
    stack: Result<Vec<u64>>,
    out: &mut Vec<String>,
) {
    let mut line = format!("{verb} by thread {pid}");
    if let Some(cpu) = cpu {
        line.push_str(&format!(" on CPU {cpu}"));
    }
    if let Some(ns) = time {
        line.push_str(&format!(", {}.{:09} s after boot", ns / 1_000_000_000, ns % 1_000_000_000));
    }
    out.push(line);
    match stack {
        Ok(frames) => out.extend(
            frames.into_iter().flat_map(|pc| engine::frame::frame(cx, pc, true)).map(|line| format!("    {line}")),
        ),
        Err(e) => out.push(format!("    stack unreadable: {}", e.kind())),
    }
}

/// Behind a verdict: how many other findings follow from the same cause, which `-v` has.
pub fn follows(count: usize, verbose: bool) -> String {
    match count {
        0 => String::new(),
        _ if verbose => String::new(),
        1 => "; one more finding follows from it (-v)".into(),
        _ => format!("; {count} more findings follow from it (-v)"),
    }
}

/// An object's tracks, what happened last first: of one in use the record of its freeing tells of a life before, and is
/// left out.
pub fn tracks(cx: &Cx<'_>, cache: usize, object: u64, state: State, out: &mut Vec<String>) -> Result<()> {
    if let Some(pool) = Pool::of(cx)?.filter(|pool| pool.range().contains(&object)) {
        return fenced(cx, &pool, object, state, out);
    }
    let records: &[(&str, Which)] = match state {
        State::Allocated => &[("allocated", Which::Alloc)],
        _ => &[("freed", Which::Free), ("allocated", Which::Alloc)],
    };
    for (verb, which) in records {
        match slab::track(cx, cache, object, *which) {
            Ok(Some(track)) => match track.absurd() {
                Some(what) => out.push(format!("{verb}: the record was written over, it names {what}")),
                None => {
                    let time = Clocks::of(cx).ok().map(|clocks| clocks.monotonic(track.when));
                    report(cx, verb, track.pid.into(), Some(track.cpu.into()), time, track.stack(cx), out);
                }
            },
            Ok(None) => {}
            Err(e) if e.is_control() => return Err(e),
            Err(e) => out.push(format!("{verb}: record unreadable: {}", e.kind())),
        }
    }
    Ok(())
}

/// The same of an object that KFENCE holds, of its record.
fn fenced(cx: &Cx<'_>, pool: &Pool, object: u64, state: State, out: &mut Vec<String>) -> Result<()> {
    let Some(index) = pool.index(object) else { return Ok(()) };
    let record = pool.record(cx, index)?;
    let mut tell = |verb: &str, track: Track| {
        report(cx, verb, track.pid.into(), track.cpu.map(i64::from), track.time, Ok(track.stack), out);
    };
    if let Some(freed) = record.freed_by(cx)?.filter(|_| state != State::Allocated) {
        tell("freed", freed);
    }
    tell("allocated", record.allocated_by(cx)?);
    Ok(())
}
