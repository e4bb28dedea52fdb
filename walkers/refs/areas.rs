//! The areas of vmalloc memory that are in use, each with what was made there.

use crate::vmalloc::{self, Made};
use engine::prelude::*;
use std::ops::Range;

/// An area.
#[derive(Clone, Debug)]
pub(super) struct Area {
    /// address of its `struct vmap_area`
    pub addr: u64,
    /// its addresses, the guard page included
    pub range: Range<u64>,
    /// what was made there
    pub made: Option<Made>,
}

impl Area {
    /// Whether it has pages of its own: made by `vmalloc()`, and not to show what is elsewhere.
    pub fn is_alloc(&self) -> bool {
        self.made.as_ref().is_some_and(|made| made.flags().contains(&"vmalloc"))
    }
}

/// Them all, by address, none of them over another. Without the symbols that lead to them, none: what leaks of them is
/// not seen.
pub(super) fn find(session: &Session) -> Result<Vec<Area>> {
    let areas = match vmalloc::Areas::of(session) {
        Ok(areas) => areas,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            session.notes.once(0, format!("leaks of vmalloc memory are not seen: {e}"));
            return Ok(Vec::new());
        }
    };
    let (mut found, mut end): (Vec<Area>, u64) = (Vec::new(), 0);
    for area in areas.busy().filter(|area| area.start < area.end) {
        if area.start < end {
            session.notes.add(area.addr, "vmalloc areas that overlap");
            continue;
        }
        end = area.end;
        let made = match area.made(session) {
            // the pointer shares its place with another member, which areas in use have no use for
            Ok(made) => made.filter(|made| made.start == area.start),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => None,
        };
        found.push(Area { addr: area.addr, range: area.start..area.end, made });
    }
    Ok(found)
}
