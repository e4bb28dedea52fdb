//! Notes: what a command met on its way and could not use.
//!
//! A walker that finds a missing page or a looping list says so here and goes on. The face prints each kind of note
//! once, with its first places and a count, when the command is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
};

/// How many places a note remembers.
const PLACES: usize = 3;
/// What a note says that tells of memory that could not be read.
const LOSS: [&str; 3] = ["not in the dump", "cannot be read", "unreadable"];
/// How many names a note remembers, and how many it shows.
const NAMES: (usize, usize) = (64, 8);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kind {
    count: u64,
    places: Vec<u64>,
    /// what it is so of
    names: BTreeSet<String>,
    /// told only if no other note tells of a loss
    quiet: bool,
}

/// Notes as they were.
#[derive(PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<String, Kind>);

/// Notes that were made while something was made that later commands use, too.
#[derive(Clone, Default)]
pub(crate) struct Noted(BTreeMap<String, Kind>);

/// The notes of the command that is running. Clones are the same notes.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<String, Kind>>>);

impl Notes {
    /// Notes that `what` is so at `addr` (0 if it has no one place). Equal texts are counted together.
    pub fn add(&self, addr: u64, what: impl Into<String>) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A crafted dump could make every text different: keep memory bounded.
        let what = if map.len() < 256 { what.into() } else { "more notes of other kinds".to_owned() };
        map.entry(what).or_default().at(addr);
    }

    /// Notes what need not be told if the command has better to tell: it fails, or another note says what is missing.
    pub fn quietly(&self, addr: u64, what: &str) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(kind) = map.get_mut(what) {
            kind.at(addr);
        } else {
            let kind = map.entry(what.to_owned()).or_default();
            kind.quiet = true;
            kind.at(addr);
        }
    }

    /// Forgets what was noted [quietly](Notes::quietly).
    pub fn hush(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|_, kind| !kind.quiet);
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

    /// Notes that `what` is so of something that has a name: one line tells of all names.
    pub fn name(&self, what: &str, name: &str) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(kind) = map.get_mut(what) {
            kind.also(name);
        } else {
            map.entry(what.to_owned()).or_default().also(name);
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
            // what was met again may have been met before
            let names = kind.names.clone();
            (count > 0).then(|| (what.clone(), Kind { count, places, names, quiet: kind.quiet }))
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
            match map.get_mut(what) {
                Some(known) => kind.names.iter().for_each(|name| known.also(name)),
                None => _ = map.insert(what.clone(), kind.clone()),
            }
        }
    }

    /// Does what is merely tried: its notes are forgotten. Also tells whether it met memory that is not there.
    pub fn trying<T>(&self, what: impl FnOnce() -> T) -> (T, bool) {
        let before = self.snapshot();
        let made = what();
        let lost = self.since(&before).0.values().any(|kind| kind.quiet);
        self.restore(before);
        (made, lost)
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// Takes all notes as lines: `slab page not in the dump: 24 times, at ffff…, ffff…, …`.
    pub fn take(&self) -> Vec<String> {
        let map = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let is_told = map.iter().any(|(what, kind)| !kind.quiet && LOSS.iter().any(|word| what.contains(word)));
        map.into_iter().filter(|(_, kind)| !(kind.quiet && is_told)).map(|(what, kind)| line(what, &kind)).collect()
    }
}

impl Kind {
    /// It is so there, too.
    fn at(&mut self, addr: u64) {
        self.count += 1;
        if self.places.len() < PLACES && addr != 0 {
            self.places.push(addr);
        }
    }

    /// It is so of that name, too.
    fn also(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < NAMES.0 && !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }
}

fn line(mut text: String, kind: &Kind) -> String {
    if !kind.names.is_empty() {
        let shown: Vec<String> = kind.names.iter().take(NAMES.1).map(|name| format!("`{name}`")).collect();
        let more = if kind.names.len() > shown.len() { ", …" } else { "" };
        return format!("{text}: {}{more}", shown.join(", "));
    }
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
    fn names_are_told_in_one_line() {
        let notes = Notes::default();
        ["b", "a", "b"].iter().for_each(|name| notes.name("lost", name));
        let before = notes.snapshot();
        notes.name("lost", "c");
        let noted = notes.since(&before);
        assert_eq!(notes.take(), ["lost: `a`, `b`, `c`"]);
        notes.name("lost", "d");
        notes.again(&noted);
        assert_eq!(notes.take(), ["lost: `a`, `b`, `c`, `d`"]);
        (0..100).for_each(|n| notes.name("lost", &format!("n{n:02}")));
        assert_eq!(notes.take(), ["lost: `n00`, `n01`, `n02`, `n03`, `n04`, `n05`, `n06`, `n07`, …"]);
    }

    #[test]
    fn what_is_quiet_is_told_last() {
        let notes = Notes::default();
        (1..3).for_each(|addr| notes.quietly(addr, "unseen"));
        assert_eq!(notes.take(), ["unseen: 2 times, at 1, 2"]);
        notes.quietly(1, "unseen");
        notes.add(1, "a page is not in the dump");
        assert_eq!(notes.take(), ["a page is not in the dump, at 1"]);
        notes.quietly(1, "unseen");
        notes.add(1, "loud");
        assert_eq!(notes.take(), ["loud, at 1", "unseen, at 1"]);
        notes.quietly(1, "unseen");
        notes.hush();
        assert!(notes.is_empty());
    }

    #[test]
    fn what_is_tried_leaves_no_notes() {
        let notes = Notes::default();
        notes.add(1, "kept");
        assert_eq!(notes.trying(|| notes.add(2, "loud")), ((), false));
        assert_eq!(notes.trying(|| notes.quietly(2, "unseen")), ((), true));
        assert_eq!(notes.take(), ["kept, at 1"]);
    }

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
