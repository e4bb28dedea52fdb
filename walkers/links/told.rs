//! What the kernel itself noticed and said in its log, where nothing else may tell any more: it goes on after most of it.
//! SLUB's reports are told of where slab memory is verified.

use super::{Finding, Kind, World};
use crate::dmesg;
use engine::prelude::*;

/// How a record begins, and what that means.
const SAID: &[(&str, &str)] = &[
    ("Trying to vfree() nonexistent vm area", "vmalloc memory that was freed twice, or was none"),
    ("Trying to vfree() bad address", "an address that is none of vmalloc memory was freed"),
    ("list_add corruption", "a list was damaged, or an entry added twice"),
    ("list_del corruption", "a list was damaged, or an entry taken off twice"),
    ("list_add double add", "an entry was added twice"),
    ("refcount_t: ", "a count was put, or taken, too often"),
    ("BUG: Bad page state", "a page was freed that is in use, or its struct page was written over"),
    ("object pointer: 0x", "an address was freed that is none of kmalloc()'s"),
    ("Not a kmalloc allocation", "an address was freed that is none of kmalloc()'s"),
    ("BUG: Bad page map", "a page table was written over"),
    ("BUG: Bad rss-counter", "the counts of a process's pages are wrong"),
    ("ODEBUG: ", "an object that is in use was freed or initialized"),
    ("kmem_cache_destroy ", "a slab cache was destroyed while its objects were in use"),
];

/// Records that are told of; more say nothing new.
const MAX: usize = 1000;

/// What the log says.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let read = dmesg::records(world.session, &mut |record| {
        let Ok(text) = &record.text else { return Ok(()) };
        let Some(line) = text.lines().next().filter(|_| out.len() < MAX) else { return Ok(()) };
        if let Some((_, meaning)) = SAID.iter().find(|(start, _)| line.starts_with(start)) {
            let (seconds, micros) = (record.info.time / 1_000_000_000, record.info.time / 1000 % 1_000_000);
            let verdict = format!("the kernel's log, {seconds}.{micros:06} s: {meaning} ({line:?})");
            out.push(Finding { kind: Kind::Reported, at: record.info.addr, verdict, freed: None });
        }
        Ok(())
    });
    match read {
        Err(e) if e.is_control() => Err(e),
        // a log that cannot be read is told of where it is asked for
        _ => Ok(out),
    }
}
