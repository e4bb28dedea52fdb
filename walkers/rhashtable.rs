//! Resizable hash tables: `struct rhashtable` (include/linux/rhashtable-types.h, lib/rhashtable.c). Sockets of netlink,
//! routes of multicast, connections that are tracked.
//!
//! A `struct bucket_table` has chains of `struct rhash_head`; the low bit of the first pointer locks the chain, and an
//! odd pointer ends it. A table that could not be had in one piece is nested: its buckets are pages of pointers to pages.
//! While a table grows, its entries move one by one to the next (`future_tbl`).
//!
//! An `rhltable` may have several elements with one key: those behind the first hang on it by a second link.
//!
//! ```console
//! > nl_table::print -t
//! struct netlink_table * 0xff3a288dc19d2000
//! > nl_table/J | ::print -a struct netlink_table hash | ::walk rhashtable struct netlink_sock | ::print portid
//! portid = 0
//! portid = 0
//! portid = 0xf2
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};
use std::collections::HashSet;

/// `struct rhashtable`.
#[derive(View)]
#[ctype("rhashtable")]
struct Table {
    #[field("tbl")]
    first: u64,
    #[field("p.head_offset")]
    head_offset: u16,
}

/// `struct bucket_table`.
#[derive(View)]
#[ctype("bucket_table")]
struct Buckets {
    size: u32,
    /// bits that the first page of a nested table decides; 0 if it is not nested
    nest: u32,
    future_tbl: u64,
    #[field("buckets")]
    chains: At,
}

/// A table may be replaced while it is being replaced, but not for ever.
const MAX_TABLES: usize = 16;

/// Visits the elements of the table at `at`.
pub fn each(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    heads(session, at, &mut |head, offset| visit(head.wrapping_sub(offset)))
}

/// Visits the elements of the `struct rhltable` at `at`, those too that share a key.
pub fn each_twin(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    let next = session.offset("rhlist_head", "next")?;
    heads(session, at, &mut |head, offset| {
        list::chain(session, head, next, &mut |head| visit(head.wrapping_sub(offset)))
    })
}

fn heads(session: &Session, at: u64, visit: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let table: Table = session.view(at)?;
    let offset = u64::from(table.head_offset);
    let mut next = table.first;
    for _ in 0..MAX_TABLES {
        if next == 0 {
            return Ok(());
        }
        let buckets: Buckets = match session.view(next) {
            Ok(buckets) => buckets,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(next, format!("hash table: {}", e.kind()));
                return Ok(());
            }
        };
        if !buckets.size.is_power_of_two() {
            session.notes.add(next, "hash table of impossible size");
            return Ok(());
        }
        for hash in 0..u64::from(buckets.size) {
            match buckets.chain(session, hash) {
                Ok(Some(head)) => chain(session, head, &mut |head| visit(head, offset))?,
                Ok(None) => {}
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    session.notes.add(next, format!("hash table: {}", e.kind()));
                    break;
                }
            }
        }
        next = buckets.future_tbl;
    }
    session.notes.add(at, "hash table that grows without end");
    Ok(())
}

impl Buckets {
    /// Address of the pointer to the chain of a hash (`rht_bucket`, `__rht_bucket_nested`).
    fn chain(&self, session: &Session, hash: u64) -> Result<Option<u64>> {
        if self.nest == 0 {
            return Ok(Some(self.chains.0.wrapping_add(hash * 8)));
        }
        let shift = (session.target.page_size() / 8).max(2).trailing_zeros();
        let nest = self.nest.min(31);
        let mut size = u64::from(self.size) >> nest;
        let mut rest = hash >> nest;
        let mut table = session.u64(self.chains.0)?;
        table = session.u64(table.wrapping_add((hash & ((1 << nest) - 1)) * 8))?;
        while table != 0 && size > 1 << shift {
            table = session.u64(table.wrapping_add((rest & ((1 << shift) - 1)) * 8))?;
            size >>= shift;
            rest >>= shift;
        }
        Ok((table != 0).then(|| table.wrapping_add(rest * 8)))
    }
}

/// The heads of one chain; `at` is the address of its first pointer, whose lowest bit locks.
fn chain(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    let mut head = session.u64(at)? & !1;
    let mut seen = HashSet::new();
    while head != 0 && head & 1 == 0 {
        if !seen.insert(head) {
            session.notes.add(head, "chain of a hash table that runs into itself");
            return Ok(());
        }
        let next = match session.u64(head) {
            Ok(next) => next,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(head, format!("entry of a hash table: {}", e.kind()));
                return Ok(());
            }
        };
        visit(head)?;
        head = next;
    }
    Ok(())
}

fn needed(at: Option<Object>) -> Result<u64> {
    at.map(|o| o.addr).ok_or_else(|| Error::Usage("a hash table is walked from its own address".into()))
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "rhashtable",
        doc: "walk the elements of the struct rhashtable at the address",
        item: "",
        address: Address::Required,
        walk: |cx, at, visit| each(cx, needed(at)?, visit),
    },
    WalkerEntry {
        name: "rhltable",
        doc: "walk the elements of the struct rhltable at the address, several with one key too",
        item: "",
        address: Address::Required,
        walk: |cx, at, visit| each_twin(cx, needed(at)?, visit),
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Table>(), ViewEntry::of::<Buckets>()];
