//! Whether what is in an object agrees with a structure: its pointers, its lists, its functions.

use super::{
    Graph,
    nodes::{Fit, Node},
    shapes::{Shape, ShapeId, SlotKind},
};
use crate::page::word;
use engine::prelude::*;

/// What speaks for a structure, and what against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// points for it
    pub good: u32,
    /// points against it
    pub bad: u32,
}

impl Score {
    /// For comparing structures: what speaks against one counts double.
    pub fn total(self) -> i64 {
        i64::from(self.good) - 2 * i64::from(self.bad)
    }

    fn good(&mut self, points: u32) {
        self.good += points;
    }

    fn bad(&mut self, points: u32, sure: bool) {
        if sure {
            self.bad += points;
        }
    }
}

/// The lowest bits of a pointer, which may be marks.
const TAGS: u64 = 7;
/// `MAX_ERRNO`
const MAX_ERRNO: u64 = 4095;
/// List poison and its like: see walkers/special.rs.
const POISON: u64 = 0xdead_0000_0000_0000;

/// Kernel addresses begin with 0xff, however many bits of them are translated; and error codes are none.
fn is_kernel(value: u64) -> bool {
    value >> 56 == 0xff && value < MAX_ERRNO.wrapping_neg()
}

/// Zero, an error code, or a mark of what is no longer there.
fn is_nothing(value: u64) -> bool {
    value == 0 || value >= MAX_ERRNO.wrapping_neg() || value >> 48 == POISON >> 48
}

/// An object at hand.
pub struct Subject<'a> {
    /// the graph so far
    pub graph: &'a Graph,
    /// memory, where lists lead to
    pub session: &'a Session,
    /// where it is
    pub addr: u64,
    /// what it holds
    pub bytes: &'a [u8],
}

impl Subject<'_> {
    /// How well it agrees with a structure.
    pub fn score(&self, id: ShapeId) -> Score {
        let mut score = Score::default();
        let Some(shape) = self.graph.shapes.get(id) else { return score };
        let len = (self.bytes.len() as u64).min(shape.size) as usize;
        let mut next = 0;
        for slot in shape.slots.iter().filter(|slot| slot.offset as usize + 8 <= len) {
            let at = slot.offset as usize;
            self.between(next, at, &mut score);
            next = at + 8;
            let value = word(self.bytes, at);
            match slot.kind {
                SlotKind::Pointer(to) => self.pointer(value, to, slot.sure, &mut score),
                SlotKind::Table(_) if !is_nothing(value) && !is_kernel(value) => score.bad(2, slot.sure),
                SlotKind::Code if is_nothing(value) => {}
                SlotKind::Code if self.graph.is_code(value) => score.good(2),
                SlotKind::Code => score.bad(3, slot.sure),
                SlotKind::List => self.list(at, slot.sure, &mut score),
                SlotKind::Hash => self.hash(at, slot.sure, &mut score),
                SlotKind::Tree => self.tree(at, slot.sure, &mut score),
                SlotKind::Table(_) | SlotKind::Opaque => {}
            }
        }
        self.between(next, len, &mut score);
        score
    }

    /// How well it agrees with being pointers to a structure, and nothing else.
    pub fn table(&self, to: ShapeId) -> Score {
        let mut score = Score::default();
        for at in (0..self.bytes.len().saturating_sub(7)).step_by(8) {
            self.pointer(word(self.bytes, at), to, true, &mut score);
        }
        score
    }

    /// No pointer to an object belongs where the structure has none.
    fn between(&self, from: usize, to: usize, score: &mut Score) {
        for at in (from.next_multiple_of(8)..to.saturating_sub(7)).step_by(8) {
            if self.graph.nodes.at(word(self.bytes, at)).is_some_and(|(_, offset)| offset == 0) {
                score.bad(1, true);
            }
        }
    }

    fn pointer(&self, value: u64, to: ShapeId, sure: bool, score: &mut Score) {
        if is_nothing(value) {
            return;
        }
        if !is_kernel(value) {
            // user memory, a per-CPU pointer, or no pointer at all
            return score.bad(1, sure);
        }
        let nodes = &self.graph.nodes;
        let Some((node, offset)) = nodes.at(value & !TAGS) else {
            if self.graph.is_code(value) {
                score.bad(3, sure);
            }
            return;
        };
        match self.graph.agrees(node, offset, to) {
            Some(true) => score.good(3),
            Some(false) => score.bad(2, sure),
            None => {
                let size = self.graph.shapes.get(to).map_or(0, |s| s.size);
                let room = nodes.cache(node).map(|cache| nodes.fit(cache, size, false));
                match room {
                    Some(Fit::No) => score.bad(1, sure),
                    Some(Fit::Good) if offset == 0 => score.good(1),
                    _ => {}
                }
            }
        }
    }

    fn reads(&self, addr: u64, what: u64) -> bool {
        is_kernel(addr) && self.session.u64(addr).is_ok_and(|value| value == what)
    }

    fn list(&self, at: usize, sure: bool, score: &mut Score) {
        let (next, prev, own) = (word(self.bytes, at), word(self.bytes, at + 8), self.addr.wrapping_add(at as u64));
        match () {
            () if next == own && prev == own => score.good(3),
            () if next == 0 && prev == 0 => {}
            () if next >> 48 == POISON >> 48 && prev >> 48 == POISON >> 48 => score.good(2),
            () if self.reads(next.wrapping_add(8), own) && self.reads(prev, own) => score.good(4),
            // a list whose links do not lead back, as RCU lists have that are taken apart
            () if self.reads(next.wrapping_add(8), own) || self.reads(prev, own) => score.good(1),
            () => score.bad(3, sure),
        }
    }

    fn hash(&self, at: usize, sure: bool, score: &mut Score) {
        let (next, back, own) = (word(self.bytes, at), word(self.bytes, at + 8), self.addr.wrapping_add(at as u64));
        match () {
            () if is_nothing(next) && is_nothing(back) => {}
            // hlist_bl and hlist_nulls mark their lowest bit
            () if is_kernel(back) && self.session.u64(back).is_ok_and(|value| value & !1 == own) => score.good(4),
            () if is_nothing(back) => {}
            () => score.bad(3, sure),
        }
    }

    fn tree(&self, at: usize, sure: bool, score: &mut Score) {
        let (parent, own) = (word(self.bytes, at) & !3, self.addr.wrapping_add(at as u64));
        let children = [word(self.bytes, at + 8), word(self.bytes, at + 16)];
        let child = |link: u64| is_kernel(link) && self.session.u64(link).is_ok_and(|up| up & !3 == own);
        match () {
            () if parent == own => score.good(2),
            () if parent == 0 && children == [0, 0] => {}
            () if children.iter().any(|link| child(*link)) => score.good(4),
            () if self.reads(parent.wrapping_add(8), own) || self.reads(parent.wrapping_add(16), own) => score.good(4),
            () => score.bad(3, sure),
        }
    }
}

/// The memory of a node, as far as its cache was made for; `None` if it is not in the dump.
pub fn memory(session: &Session, graph: &Graph, node: Node) -> Result<Option<bytes::Bytes>> {
    let Some((addr, len)) = graph.nodes.range(node) else { return Ok(None) };
    match session.bytes(addr, len.min(MAX_READ) as usize) {
        Err(e) if e.is_control() => Err(e),
        bytes => Ok(bytes.ok()),
    }
}

/// Globals larger than this are looked at in part.
const MAX_READ: u64 = 1 << 20;

/// The pointers of a structure that repeats through `len` bytes: where, and what.
pub fn slots(shape: &Shape, len: usize, repeats: bool) -> impl Iterator<Item = (usize, SlotKind, bool)> + '_ {
    let stride = (shape.size as usize).max(8);
    let count = if repeats { len / stride } else { 1 };
    (0..count).flat_map(move |i| {
        let at = move |slot: &super::shapes::Slot| (i * stride + slot.offset as usize, slot.kind, slot.sure);
        shape.slots.iter().map(at).filter(move |(at, ..)| at + 8 <= len)
    })
}
