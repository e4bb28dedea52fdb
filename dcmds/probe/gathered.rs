//! Groups that are counted here and not in the kernel, since the stack of a program is part of what is grouped by: it is
//! unwound from a copy, which the kernel cannot do.

use super::{
    show::{Shower, Who},
    totals::Totals,
    users::When,
};
use crate::select::{Shown, named_row};
use engine::prelude::*;
use probes::recording::Hit;
use std::collections::HashMap;

/// What hits of one group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// which probe
    pub source: usize,
    /// the values, as they came
    values: Vec<u8>,
    unreadable: u64,
    /// whose addresses the frames are
    pid: u32,
    frames: Vec<u64>,
}

/// The groups of a run.
#[derive(Default)]
pub struct Gathered {
    groups: HashMap<Key, (u64, When)>,
    /// hits for which there was no room
    pub lost: u64,
}

impl Gathered {
    /// Counts a hit; of new groups there are at most so many.
    pub fn add(&mut self, shower: &Shower<'_>, hit: Hit, most: usize) {
        let when = When { pid: hit.pid, time: hit.time };
        let frames = hit.user.as_ref().map(|user| shower.unwind(when, user)).unwrap_or_default();
        let (source, unreadable) = (hit.id as usize, hit.unreadable);
        let key = Key { source, values: hit.values, unreadable, pid: hit.pid, frames };
        if let Some((count, _)) = self.groups.get_mut(&key) {
            *count += 1;
        } else if self.groups.len() < most {
            self.groups.insert(key, (1, when));
        } else {
            self.lost += 1;
        }
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.groups.clear();
    }

    /// A row for each group, the largest first.
    pub fn rows(&self, totals: &Totals<'_>) -> Result<Vec<Item>> {
        let several = totals.sources.len() > 1;
        let mut columns = vec![("count".to_owned(), Shown::Column)];
        columns.extend(several.then(|| ("probe".to_owned(), Shown::Column)));
        columns.extend(totals.plan.columns());
        let firsts = totals.firsts();
        let mut together: HashMap<Key, (u64, When)> = HashMap::new();
        for (key, (count, when)) in &self.groups {
            let key = Key { source: firsts.get(key.source).copied().unwrap_or(key.source), ..key.clone() };
            together.entry(key).or_insert((0, *when)).0 += count;
        }
        let mut sorted: Vec<_> = together.iter().collect();
        sorted.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(b.0)));
        let row = |(key, (count, when)): (&Key, &(u64, When))| {
            let who = Who { when: *when, unreadable: key.unreadable, user: None, frames: Some(&key.frames) };
            let mut cells = vec![Cell::Uint(*count)];
            if several {
                cells.push(totals.sources.get(key.source).map_or(Cell::Null, |s| Cell::Str(s.name())));
            }
            let parts = totals.parts.get(key.source).map(Vec::as_slice).unwrap_or_default();
            cells.extend(totals.shower.cells(parts, &key.values, who));
            named_row(&columns, cells, None)
        };
        sorted.into_iter().map(row).collect()
    }
}
