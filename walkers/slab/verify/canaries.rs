//! KFENCE's canaries: an object in its pool has a page of its own, and what of it is not the object's holds a pattern
//! (`KFENCE_CANARY_PATTERN_U8` in mm/kfence/kfence.h). KFENCE looks at it when the object is freed, this now.

use super::{Finding, Kind, MAX_SHOWN, verdict};
use crate::{
    kfence::{Pool, State as Held},
    slab::{Cache, State},
};
use engine::prelude::*;

fn canary(addr: u64) -> u8 {
    0xaa ^ (addr & 7) as u8
}

/// What is written over round the objects in use of a cache that KFENCE holds.
pub(super) fn look(session: &Session, number: usize, cache: &Cache) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    let Some(pool) = Pool::of(session)? else { return Ok(out) };
    let page = session.target.page_size();
    pool.each(session, &mut |record| {
        if record.cache != cache.addr || record.state(session) != Held::Allocated {
            return Ok(());
        }
        let (start, end) = (record.addr & !(page - 1), record.addr.saturating_add(record.size));
        // its page has a guard page on both sides: a record that says otherwise is damaged
        if record.size > page || end > start + page {
            return Ok(());
        }
        for (kind, range) in [(Kind::LeftRedzone, start..record.addr), (Kind::RightRedzone, end..start + page)] {
            let bytes = match session.bytes(range.start, (range.end - range.start) as usize) {
                Ok(bytes) => bytes,
                Err(e) if e.is_control() => return Err(e),
                Err(_) => continue,
            };
            let wrong = |i: &usize| bytes.get(*i).is_some_and(|byte| *byte != canary(range.start + *i as u64));
            let (Some(first), Some(last)) = ((0..bytes.len()).find(wrong), (0..bytes.len()).rev().find(wrong)) else {
                continue;
            };
            let found = bytes.get(first..=last).unwrap_or_default();
            let differ = (first..=last).filter(wrong).count();
            let what = match kind {
                Kind::LeftRedzone if last + 1 == bytes.len() => "underflow: written in front of this object",
                Kind::RightRedzone if first == 0 => "overflow: written past the end of this object",
                _ => "wild write on the page of this object",
            };
            let verdict = format!("{what}, {differ} of KFENCE's canary bytes{}", verdict::looks(session, found));
            out.push(Finding {
                kind,
                cache: number,
                slab: 0,
                object: Some(record.addr),
                state: Some(State::Allocated),
                at: range.start + first as u64,
                expected: "KFENCE's canary, 0xaa and the address's lowest bits".into(),
                found: found.iter().copied().take(MAX_SHOWN).collect(),
                differ,
                end: range.start + last as u64 + 1,
                follows: Vec::new(),
                other: None,
                verdict,
                suspect: None,
            });
        }
        Ok(())
    })?;
    Ok(out)
}
