//! Linked lists, walked so that a damaged one ends: `list_head`, `hlist`, `hlist_bl`, `hlist_nulls`, `llist`.
//!
//! A kernel list is a ring (`list_head`) or ends in a null pointer (the others). In a dump it may do neither: a page is
//! missing, or an entry was overwritten. Two rules make every walk end and lose as little as possible:
//!
//! * Where entries point back (`prev`, `pprev`), the pointer back is compared. As long as all fit, no entry can come
//!   twice, and nothing needs to be remembered. After the first that does not fit, entries are remembered.
//! * A `list_head` that breaks off is taken up again from its other end, so that only the damaged entry is lost.
//!
//! ```console
//! > modules::walk list | ::count
//! COUNT
//!     3
//! ```

use engine::prelude::*;
use std::collections::HashSet;

/// Visits the struct around each entry of a `struct list_head` ring, in order. `head` is the head's address, `offset`
/// that of the entry in its struct.
pub fn list(session: &Session, head: u64, offset: u64, visit: Visit<'_>) -> Result<()> {
    ring(session, head, &mut |entry| visit(entry.wrapping_sub(offset)))
}

/// What walking a list asks of a session: a trait, so that tests can walk lists of their own.
trait Memory {
    /// Two pointers: `next` and `prev`, or an `hlist_node`'s `next` and `pprev`.
    fn links(&self, at: u64) -> Result<(u64, u64)>;

    fn note(&self, at: u64, what: &str);

    /// Whether memory changes while it is walked.
    fn moves(&self) -> bool {
        false
    }

    /// Where an entry leads; `None`, and a note, if it cannot be read.
    fn entry(&self, at: u64) -> Result<Option<(u64, u64)>> {
        match self.links(at) {
            Ok(links) => Ok(Some(links)),
            Err(e) if e.is_control() => Err(e),
            Err(_) => {
                self.note(at, "list with an unreadable entry");
                Ok(None)
            }
        }
    }

    /// Whether a pointer could be one to a list entry: the kernel's half, and aligned as pointers are.
    fn plausible(&self, pointer: u64) -> bool {
        let yes = pointer >> 63 == 1 && pointer.is_multiple_of(8);
        if !yes {
            self.note(pointer, "list with a bad pointer");
        }
        yes
    }
}

impl Memory for Session {
    fn links(&self, at: u64) -> Result<(u64, u64)> {
        let mut both = [0; 16];
        self.read(at, &mut both)?;
        let both = u128::from_le_bytes(both);
        Ok((both as u64, (both >> 64) as u64))
    }

    fn note(&self, at: u64, what: &str) {
        self.notes.add(at, what);
    }

    fn moves(&self) -> bool {
        self.is_live()
    }
}

/// A chain whose pointers lie at some offset, and that has none back.
struct Chain<'a> {
    session: &'a Session,
    next: u64,
}

impl Memory for Chain<'_> {
    fn links(&self, at: u64) -> Result<(u64, u64)> {
        Ok((self.session.u64(at.wrapping_add(self.next))?, 0))
    }

    fn note(&self, at: u64, what: &str) {
        self.session.note(at, what);
    }
}

fn ring(memory: &dyn Memory, head: u64, visit: Visit<'_>) -> Result<()> {
    let (first, last) = memory.links(head).doing(|| format!("reading the list head at {head:#x}"))?;
    if (first, last) == (0, 0) {
        memory.note(head, "list head that was never initialised");
        return Ok(());
    }
    let mut seen: Option<HashSet<u64>> = None;
    let (mut prev, mut at, mut count) = (head, first, 0u64);
    loop {
        if at == head {
            if last == prev {
                return Ok(());
            }
            // of a running kernel the head was read a while ago
            if !memory.moves() {
                memory.note(head, "list head whose prev is not its last entry");
            }
            break;
        }
        if !memory.plausible(at) {
            break;
        }
        let Some((next, back)) = memory.entry(at)? else { break };
        if back != prev && seen.is_none() {
            memory.note(at, "list entry whose prev does not point back");
            seen = Some(forward(memory, first, count)?);
        }
        if seen.as_mut().is_some_and(|seen| !seen.insert(at)) {
            memory.note(at, "list that runs into itself");
            break;
        }
        visit(at)?;
        (prev, at, count) = (at, next, count + 1);
    }
    let known = match seen {
        Some(seen) => seen,
        None => forward(memory, first, count)?,
    };
    backward(memory, head, last, known)?.iter().rev().try_for_each(|entry| visit(*entry))
}

/// The structs around the entries of a `list_head` ring.
pub fn entries(session: &Session, head: u64, offset: u64) -> Result<Vec<u64>> {
    let mut out = Vec::new();
    list(session, head, offset, &mut |entry| {
        out.push(entry);
        Ok(())
    })?;
    Ok(out)
}

/// The `count` entries from `first` on, which have been walked before.
fn forward(memory: &dyn Memory, first: u64, count: u64) -> Result<HashSet<u64>> {
    let (mut at, mut seen) = (first, HashSet::new());
    for _ in 0..count {
        seen.insert(at);
        at = memory.links(at)?.0;
    }
    Ok(seen)
}

/// The entries from the end of a broken ring, last first, as far as they point at each other and are not `known`.
fn backward(memory: &dyn Memory, head: u64, last: u64, mut known: HashSet<u64>) -> Result<Vec<u64>> {
    let (mut next, mut at, mut out) = (head, last, Vec::new());
    while at != head && memory.plausible(at) && known.insert(at) {
        match memory.entry(at)? {
            Some((forth, prev)) if forth == next => {
                out.push(at);
                (next, at) = (at, prev);
            }
            _ => break,
        }
    }
    Ok(out)
}

/// What an hlist does with the low bit of its pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hlist {
    /// nothing: `hlist_head`
    Plain,
    /// it locks the head: `hlist_bl_head`
    Locked,
    /// it marks the end: `hlist_nulls_head`
    Nulls,
}

/// Visits the struct around each entry of an hlist, in order. `head` is the head's address, `offset` that of the
/// entry in its struct.
pub fn hlist(session: &Session, kind: Hlist, head: u64, offset: u64, visit: Visit<'_>) -> Result<()> {
    let first = session.u64(head).doing(|| format!("reading the list head at {head:#x}"))?;
    line(session, kind, head, first, &mut |entry| visit(entry.wrapping_sub(offset)))
}

fn line(memory: &dyn Memory, kind: Hlist, head: u64, first: u64, visit: Visit<'_>) -> Result<()> {
    let first = if kind == Hlist::Locked { first & !1 } else { first };
    let ends = |at: u64| at == 0 || (kind == Hlist::Nulls && at & 1 == 1);
    let mut seen: Option<HashSet<u64>> = None;
    let (mut prev, mut at, mut count) = (head, first, 0u64);
    while !ends(at) && memory.plausible(at) {
        // a ring whose pointers back are all right comes by its head again: a list_head that is taken for an hlist
        if at == head {
            memory.note(at, "list that runs into itself");
            break;
        }
        let Some((next, back)) = memory.entry(at)? else { break };
        if back != prev && seen.is_none() {
            memory.note(at, "list entry whose pprev does not point back");
            seen = Some(forward(memory, first, count)?);
        }
        if seen.as_mut().is_some_and(|seen| !seen.insert(at)) {
            memory.note(at, "list that runs into itself");
            break;
        }
        visit(at)?;
        (prev, at, count) = (at, next, count + 1);
    }
    Ok(())
}

/// Visits each struct of a chain that ends in a null pointer and has no way back. `first` is the first struct's
/// address, `next` the offset of the pointer to the next one: an `llist` (`next` 0), `file_system_type.next`, ….
pub fn chain(session: &Session, first: u64, next: u64, visit: Visit<'_>) -> Result<()> {
    single(&Chain { session, next }, first, visit)
}

fn single(memory: &dyn Memory, first: u64, visit: Visit<'_>) -> Result<()> {
    let (mut at, mut seen) = (first, HashSet::new());
    while at != 0 && memory.plausible(at) {
        if !seen.insert(at) {
            memory.note(at, "list that runs into itself");
            break;
        }
        let Some((next, _)) = memory.entry(at)? else { break };
        visit(at)?;
        at = next;
    }
    Ok(())
}

fn needed(at: Option<Object>) -> Result<u64> {
    at.map(|o| o.addr).ok_or_else(|| Error::Usage("a list is walked from the address of its head".into()))
}

/// The walkers of plain lists. They yield the entries themselves, not the structs around them.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "list",
        doc: "walk the entries of the list whose struct list_head is at the address",
        item: "struct list_head",
        address: Address::Required,
        walk: |cx, at, visit| list(cx, needed(at)?, 0, visit),
    },
    WalkerEntry {
        name: "hlist",
        doc: "walk the entries of the list whose struct hlist_head is at the address",
        item: "struct hlist_node",
        address: Address::Required,
        walk: |cx, at, visit| hlist(cx, Hlist::Plain, needed(at)?, 0, visit),
    },
    WalkerEntry {
        name: "hlist_bl",
        doc: "walk the entries of the list whose struct hlist_bl_head is at the address",
        item: "struct hlist_bl_node",
        address: Address::Required,
        walk: |cx, at, visit| hlist(cx, Hlist::Locked, needed(at)?, 0, visit),
    },
    WalkerEntry {
        name: "hlist_nulls",
        doc: "walk the entries of the list whose struct hlist_nulls_head is at the address",
        item: "struct hlist_nulls_node",
        address: Address::Required,
        walk: |cx, at, visit| hlist(cx, Hlist::Nulls, needed(at)?, 0, visit),
    },
    WalkerEntry {
        name: "llist",
        doc: "walk the entries of the list whose struct llist_head is at the address",
        item: "struct llist_node",
        address: Address::Required,
        walk: |cx, at, visit| chain(cx, cx.u64(needed(at)?)?, 0, visit),
    },
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{cell::RefCell, collections::HashMap};

    /// Entries by address, and what was noted.
    #[derive(Default)]
    struct Fake {
        links: HashMap<u64, (u64, u64)>,
        notes: RefCell<Vec<String>>,
    }

    impl Memory for Fake {
        fn links(&self, at: u64) -> Result<(u64, u64)> {
            self.links.get(&at).copied().ok_or(Error::Corrupt { addr: at, what: "not there".into() })
        }
        fn note(&self, _: u64, what: &str) {
            self.notes.borrow_mut().push(what.to_owned());
        }
    }

    const HEAD: u64 = 0xffff_8000_0000_0000;

    /// The address of entry `n`; 0 is the head.
    fn at(n: u64) -> u64 {
        HEAD + n * 64
    }

    /// A ring of `n` entries, all sound.
    fn sound(n: u64) -> Fake {
        let all = 0..=n;
        let links = all.map(|i| (at(i), (at((i + 1) % (n + 1)), at((i + n) % (n + 1))))).collect();
        Fake { links, ..Fake::default() }
    }

    fn walked(fake: &Fake) -> Vec<u64> {
        let mut out = Vec::new();
        ring(fake, HEAD, &mut |entry| {
            out.push((entry - HEAD) / 64);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn a_ring_is_no_hlist_and_ends_all_the_same() {
        for n in [0, 1, 5] {
            let (ring, mut met) = (sound(n), 0);
            line(&ring, Hlist::Plain, HEAD, at(1 % (n + 1)), &mut |_| {
                met += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!((met, ring.notes.into_inner().len()), (n, 1));
        }
    }

    #[test]
    fn a_sound_ring_is_walked_once_without_a_word() {
        let fake = sound(5);
        assert_eq!(walked(&fake), [1, 2, 3, 4, 5]);
        assert!(fake.notes.borrow().is_empty());
        assert!(walked(&sound(0)).is_empty());
    }

    #[test]
    fn only_a_missing_entry_is_lost() {
        let mut fake = sound(5);
        fake.links.remove(&at(3));
        assert_eq!(walked(&fake), [1, 2, 4, 5]);
        assert!(!fake.notes.borrow().is_empty());
    }

    #[test]
    fn an_overwritten_pointer_loses_nothing() {
        for bad in [0, 0x6b6b_6b6b_6b6b_6b6b, 0xdead_0000_0000_0100, at(3) + 1] {
            let mut fake = sound(5);
            fake.links.get_mut(&at(3)).unwrap().0 = bad;
            assert_eq!(walked(&fake), [1, 2, 3, 4, 5], "{bad:x}");
            let mut fake = sound(5);
            fake.links.get_mut(&at(3)).unwrap().1 = bad;
            assert_eq!(walked(&fake), [1, 2, 3, 4, 5], "{bad:x}");
        }
    }

    #[test]
    fn no_entry_comes_twice_however_the_ring_is_tied() {
        for from in 1..=6 {
            for to in 0..=6 {
                let mut fake = sound(6);
                fake.links.get_mut(&at(from)).unwrap().0 = at(to);
                let mut seen = walked(&fake);
                assert!(seen.len() <= 6);
                seen.sort_unstable();
                seen.dedup();
                // what a pointer far ahead skips is not found
                let skipped = to.saturating_sub(from + 1) as usize;
                assert_eq!(seen.len(), 6 - skipped, "{from} to {to}: {seen:?}");
            }
        }
    }

    #[test]
    fn lines_end_at_null_at_a_marker_and_where_they_bite_themselves() {
        let line_of = |end: u64, kind: Hlist, head: u64| {
            let mut fake = Fake::default();
            for i in 1..=4 {
                fake.links.insert(at(i), (if i == 4 { end } else { at(i + 1) }, at(i - 1)));
            }
            let mut out = Vec::new();
            line(&fake, kind, HEAD, head, &mut |entry| {
                out.push((entry - HEAD) / 64);
                Ok(())
            })
            .unwrap();
            (out, fake.notes.borrow().len())
        };
        assert_eq!(line_of(0, Hlist::Plain, at(1)), (vec![1, 2, 3, 4], 0));
        assert_eq!(line_of(0, Hlist::Locked, at(1) | 1), (vec![1, 2, 3, 4], 0));
        assert_eq!(line_of(7, Hlist::Nulls, at(1)), (vec![1, 2, 3, 4], 0));
        assert_eq!(line_of(at(2), Hlist::Plain, at(1)), (vec![1, 2, 3, 4], 2));
        let mut fake = Fake::default();
        fake.links.insert(at(1), (at(2), 0));
        fake.links.insert(at(2), (at(1), 0));
        let mut count = 0;
        single(&fake, at(1), &mut |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 2);
    }
}
