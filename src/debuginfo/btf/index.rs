//! Where each type of a blob starts, across missing pages.
//!
//! BTF numbers types by their order, so a page that is missing hides not only the types in it, but also the numbers of
//! all that follow. Both can be found again: behind the hole only the true start of a record is followed by records
//! without end, and only the true number of lost types makes what refers to types behind the hole refer to types that
//! can be referred to.

use super::record::{Record, kind};
use super::{Btf, u32_at};

/// The place of a type that is lost.
const LOST: u32 = u32::MAX;

/// Records in a row that are no coincidence, if they do not reach the end of the types.
const IN_ROW: usize = 64;

/// References that must agree on the number of lost types.
const WITNESSES: usize = 32;

/// Where each type starts.
#[derive(Default)]
pub(super) struct Index {
    at: Vec<u32>,
    /// whether the list ends before the type section does
    pub damaged: bool,
    /// types that are known to be lost
    pub lost: usize,
    /// whether the encoder marked signed enums: pahole does since 1.24, and before it left the flag clear for all
    pub marks_signed: bool,
}

impl Index {
    pub(super) fn build(btf: &Btf) -> Index {
        let mut index = Index::default();
        let (mut chain, mut stop) = chain(btf, btf.types.start);
        loop {
            index.at.append(&mut chain);
            if stop >= btf.types.end {
                break;
            }
            let Some((behind, lost)) = resume(btf, &index.at, stop) else {
                index.damaged = true;
                break;
            };
            index.at.resize(index.at.len() + lost, LOST);
            index.lost += lost;
            (chain, stop) = self::chain(btf, behind);
        }
        let mut records = index.at.iter().filter_map(|&at| Record::read(btf, at as usize));
        index.marks_signed = records.any(|record| record.is_enum() && record.flag);
        index
    }

    /// Number of types, with those that are lost between others.
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Position of a type of the blob.
    pub(super) fn get(&self, item: usize) -> Option<usize> {
        self.at.get(item).filter(|&&at| at != LOST).map(|&at| at as usize)
    }
}

/// Positions of the records from `at` on, and where they end: at the end of the types, or where one is damaged.
fn chain(btf: &Btf, mut at: usize) -> (Vec<u32>, usize) {
    let mut out = Vec::new();
    while at < btf.types.end && !btf.holes.hit(at..at + Record::SIZE) {
        let Some(record) = Record::read(btf, at) else { break };
        out.push(at as u32);
        at = record.end;
    }
    (out, at)
}

/// Where records go on after the hole at `stop`, and how many types it hides.
fn resume(btf: &Btf, known: &[u32], stop: usize) -> Option<(usize, usize)> {
    let hole = btf.holes.ranges().iter().find(|hole| hole.end > stop && hole.start < stop + Record::SIZE)?;
    // records are aligned to 4 in their section; the one that the hole cut may go on behind it for a while
    let first = btf.types.start + (hole.end - btf.types.start).next_multiple_of(4);
    let starts = (first..btf.types.end.min(first + (64 << 10))).step_by(4);
    let behind = starts.into_iter().find(|&at| {
        let mut next = at;
        let row = (0..IN_ROW).map_while(|_| {
            let record = Record::read(btf, next).filter(|_| !btf.holes.hit(next..next + Record::SIZE))?;
            next = record.end;
            Some(())
        });
        row.count() == IN_ROW || next == btf.types.end
    })?;
    let (found, end) = chain(btf, behind);
    let kinds: Vec<u8> = found.iter().map(|&at| kind_at(btf, at)).collect();
    let from = btf.start.id as usize + known.len();
    let references: Vec<_> =
        known.iter().chain(&found).flat_map(|&at| references(btf, at)).filter(|&(_, to)| to >= from).collect();
    let most = (behind - stop) / Record::SIZE + 1;
    let complete = end == btf.types.end;
    let mut possible = (0..=most).filter(|&lost| fits(&references, &kinds, from + lost, complete));
    let lost = possible.next()?;
    // two answers are none
    possible.next().is_none().then_some((behind, lost))
}

/// Whether all references to types from id `from` on make sense if those are of these kinds.
fn fits(references: &[(u8, usize)], kinds: &[u8], from: usize, complete: bool) -> bool {
    let mut witnesses = 0;
    for &(by, to) in references {
        match to.checked_sub(from).map(|place| kinds.get(place)) {
            Some(Some(&kind)) if may_refer(by, kind) => witnesses += 1,
            Some(Some(_)) => return false,
            Some(None) if complete => return false,
            // it lies in the hole, or behind the next
            Some(None) | None => {}
        }
    }
    witnesses >= WITNESSES
}

/// Whether one kind may refer to another, as far as the format says.
fn may_refer(by: u8, to: u8) -> bool {
    match by {
        kind::FUNC => to == kind::FUNC_PROTO,
        kind::DATASEC => to == kind::VAR,
        kind::DECL_TAG => matches!(to, kind::STRUCT | kind::UNION | kind::FUNC | kind::VAR | kind::TYPEDEF),
        _ => !matches!(to, 0 | kind::FUNC | kind::VAR | kind::DATASEC | kind::DECL_TAG),
    }
}

fn kind_at(btf: &Btf, at: u32) -> u8 {
    Record::read(btf, at as usize).map_or(0, |record| record.kind)
}

/// What a record refers to, without a struct's members and a function's parameters: there are enough others.
fn references(btf: &Btf, at: u32) -> Vec<(u8, usize)> {
    let Some(record) = Record::read(btf, at as usize) else { return Vec::new() };
    let body = at as usize + Record::SIZE;
    match record.kind {
        kind::PTR | kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
            vec![(record.kind, record.arg as usize)]
        }
        kind::FUNC | kind::FUNC_PROTO | kind::VAR | kind::DECL_TAG => vec![(record.kind, record.arg as usize)],
        kind::ARRAY => u32_at(&btf.bytes, body).map(|elem| (record.kind, elem as usize)).into_iter().collect(),
        kind::DATASEC => {
            let variables = (body..record.end).step_by(12).filter(|&at| !btf.holes.hit(at..at + 4));
            variables.filter_map(|at| Some((record.kind, u32_at(&btf.bytes, at)? as usize))).collect()
        }
        _ => Vec::new(),
    }
}
