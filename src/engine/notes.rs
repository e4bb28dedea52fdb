//! Notes: what a command met on its way and could not use.
//!
//! A walker that finds a missing page or a looping list says so here and goes on. The face prints each kind of note
//! once, with its first places and a count, when the command is over.

use std::{collections::BTreeMap, fmt::Write as _, sync::Mutex};

/// How many places a note remembers.
const PLACES: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kind {
    count: u64,
    places: Vec<u64>,
}

/// Notes as they were.
#[derive(PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<String, Kind>);

/// Notes that were made while something was made that later commands use, too.
#[derive(Clone, Default)]
pub(crate) struct Noted(BTreeMap<String, Kind>);

/// The notes of the command that is running.
#[derive(Default)]
pub struct Notes(Mutex<BTreeMap<String, Kind>>);

impl Notes {
    /// Notes that `what` is so at `addr` (0 if it has no one place). Equal texts are counted together.
    pub fn add(&self, addr: u64, what: impl Into<String>) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A crafted dump could make every text different: keep memory bounded.
        let what = if map.len() < 256 { what.into() } else { "more notes of other kinds".to_owned() };
        let kind = map.entry(what).or_default();
        kind.count += 1;
        if kind.places.len() < PLACES && addr != 0 {
            kind.places.push(addr);
        }
    }

    /// Notes a fact that the command may meet many times and that is to be told once: `12 struct pages are not in the
    /// dump`.
    pub fn once(&self, addr: u64, what: impl Into<String>) {
        let what = what.into();
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains_key(&what);
        if !known {
            self.add(addr, what);
        }
    }

    /// All notes as they are, to be [restored](Notes::restore) if what is tried next is tried again.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    /// Takes back what was noted since.
    pub(crate) fn restore(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = snapshot.0;
    }

    /// What was noted since, with the places that are new.
    pub(crate) fn since(&self, before: &Snapshot) -> Noted {
        let now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let added = now.iter().filter_map(|(what, kind)| {
            let Some(old) = before.0.get(what) else { return Some((what.clone(), kind.clone())) };
            let places = kind.places.get(old.places.len()..).unwrap_or_default().to_vec();
            let count = kind.count.saturating_sub(old.count);
            (count > 0).then(|| (what.clone(), Kind { count, places }))
        });
        Noted(added.collect())
    }

    /// Notes again what was noted when something was made, in a command that uses it and has not said so yet.
    pub(crate) fn again(&self, noted: &Noted) {
        if noted.0.is_empty() {
            return;
        }
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (what, kind) in &noted.0 {
            if !map.contains_key(what) {
                map.insert(what.clone(), kind.clone());
            }
        }
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// Takes all notes as lines: `slab page not in the dump: 24 times, at ffff…, ffff…, …`.
    pub fn take(&self) -> Vec<String> {
        let map = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        map.into_iter().map(|(what, kind)| line(what, &kind)).collect()
    }
}

fn line(mut text: String, kind: &Kind) -> String {
    // writing to a String cannot fail
    if kind.count > 1 {
        let _ = write!(text, ": {} times", kind.count);
    }
    for (i, place) in kind.places.iter().enumerate() {
        let _ = write!(text, "{}{place:x}", if i == 0 { ", at " } else { ", " });
    }
    if kind.count > kind.places.len() as u64 && !kind.places.is_empty() {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_in_the_making_is_noted_again() {
        let notes = Notes::default();
        notes.add(1, "early");
        let before = notes.snapshot();
        notes.add(2, "early");
        notes.add(3, "late");
        let noted = notes.since(&before);
        assert_eq!(notes.take(), ["early: 2 times, at 1, 2", "late, at 3"]);
        notes.again(&noted);
        notes.again(&noted);
        assert_eq!(notes.take(), ["early, at 2", "late, at 3"]);
        assert!(notes.is_empty());
    }
}
