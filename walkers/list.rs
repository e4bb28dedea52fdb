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
//! ```

use engine::prelude::*;
use std::collections::HashSet;

/// Visits the struct around each entry of a `struct list_head` ring, in order. `head` is the head's address, `offset`
/// that of the entry in its struct.
pub fn list(session: &Session, head: u64, offset: u64, visit: Visit<'_>) -> Result<()> {
    let (first, last) = links(session, head).doing(|| format!("reading the list head at {head:#x}"))?;
    if (first, last) == (0, 0) {
        session.notes.add(head, "list head that was never initialised");
        return Ok(());
    }
    let mut seen: Option<HashSet<u64>> = None;
    let (mut prev, mut at, mut count) = (head, first, 0u64);
    let trouble = loop {
        if at == head {
            if last != prev {
                session.notes.add(head, "list head whose prev is not its last entry");
            }
            return Ok(());
        }
        if !plausible(at) {
            break "list with a bad pointer";
        }
        let (next, back) = match links(session, at) {
            Ok(links) => links,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => break "list with an unreadable entry",
        };
        if back != prev && seen.is_none() {
            session.notes.add(at, "list entry whose prev does not point back");
            seen = Some(forward(session, first, count)?);
        }
        if seen.as_mut().is_some_and(|seen| !seen.insert(at)) {
            break "list that runs into itself";
        }
        visit(at.wrapping_sub(offset))?;
        (prev, at, count) = (at, next, count + 1);
    };
    session.notes.add(at, trouble);
    let known = match seen {
        Some(seen) => seen,
        None => forward(session, first, count)?,
    };
    let rest = backward(session, head, last, known)?;
    rest.iter().rev().try_for_each(|entry| visit(entry.wrapping_sub(offset)))
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

/// `next` and `prev`, or an `hlist_node`'s `next` and `pprev`: in each case two pointers in this order.
fn links(session: &Session, at: u64) -> Result<(u64, u64)> {
    let mut both = [0; 16];
    session.read(at, &mut both)?;
    let both = u128::from_le_bytes(both);
    Ok((both as u64, (both >> 64) as u64))
}

/// Whether a pointer could be one to a list entry: the kernel's half, and aligned as pointers are.
fn plausible(pointer: u64) -> bool {
    pointer >> 63 == 1 && pointer.is_multiple_of(8)
}

/// The `count` entries from `first` on, which have been walked before.
fn forward(session: &Session, first: u64, count: u64) -> Result<HashSet<u64>> {
    let (mut at, mut seen) = (first, HashSet::new());
    for _ in 0..count {
        seen.insert(at);
        at = session.u64(at)?;
    }
    Ok(seen)
}

/// The entries from the end of a broken ring, last first, as far as they point at each other and are not `known`.
fn backward(session: &Session, head: u64, last: u64, mut known: HashSet<u64>) -> Result<Vec<u64>> {
    let (mut next, mut at, mut out) = (head, last, Vec::new());
    while at != head && plausible(at) && known.insert(at) {
        match links(session, at) {
            Ok((forth, prev)) if forth == next => {
                out.push(at);
                (next, at) = (at, prev);
            }
            Err(e) if e.is_control() => return Err(e),
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
    let mut seen: Option<HashSet<u64>> = None;
    let mut at = if kind == Hlist::Locked { first & !1 } else { first };
    let (start, mut prev, mut count) = (at, head, 0u64);
    while at != 0 && !(kind == Hlist::Nulls && at & 1 == 1) {
        if !plausible(at) {
            session.notes.add(at, "list with a bad pointer");
            break;
        }
        let (next, back) = match links(session, at) {
            Ok(links) => links,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {
                session.notes.add(at, "list with an unreadable entry");
                break;
            }
        };
        if back != prev && seen.is_none() {
            session.notes.add(at, "list entry whose pprev does not point back");
            seen = Some(forward(session, start, count)?);
        }
        if seen.as_mut().is_some_and(|seen| !seen.insert(at)) {
            session.notes.add(at, "list that runs into itself");
            break;
        }
        visit(at.wrapping_sub(offset))?;
        (prev, at, count) = (at, next, count + 1);
    }
    Ok(())
}

/// Visits each struct of a chain that ends in a null pointer and has no way back. `first` is the first struct's
/// address, `next` the offset of the pointer to the next one: an `llist` (`next` 0), `file_system_type.next`, ….
pub fn chain(session: &Session, first: u64, next: u64, visit: Visit<'_>) -> Result<()> {
    let (mut at, mut seen) = (first, HashSet::new());
    while at != 0 {
        if !plausible(at) {
            session.notes.add(at, "list with a bad pointer");
            break;
        }
        if !seen.insert(at) {
            session.notes.add(at, "list that runs into itself");
            break;
        }
        let following = match session.u64(at.wrapping_add(next)) {
            Ok(pointer) => pointer,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {
                session.notes.add(at, "list with an unreadable entry");
                break;
            }
        };
        visit(at)?;
        at = following;
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
        name: "llist",
        doc: "walk the entries of the list whose struct llist_head is at the address",
        item: "struct llist_node",
        address: Address::Required,
        walk: |cx, at, visit| chain(cx, cx.u64(needed(at)?)?, 0, visit),
    },
];
