//! Types spread from nodes that have one along their members.

use super::{
    Claim, Graph, Node, What, Why,
    nodes::Fit,
    score::{self, Subject, slots},
    shapes::{ShapeId, SlotKind},
};
use crate::page::word;
use engine::prelude::*;
use rayon::prelude::*;
use std::collections::HashMap;

/// What one node says of another.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// where in the other
    pub at: u32,
    /// there is such a structure
    pub shape: ShapeId,
    /// or pointers to such
    pub table: bool,
    /// why
    pub why: Why,
    /// who says it
    pub from: Node,
    /// at which byte
    pub offset: u32,
}

/// Nodes whose members are read in one go.
const BATCH: usize = 1 << 16;
/// What is remembered of one node.
const MAX_HINTS: usize = 8;
/// The lowest bits of a pointer may be marks.
const TAGS: u64 = 7;

impl Graph {
    /// Lets types spread from nodes that have just got theirs.
    pub(super) fn spread(&mut self, session: &Session, mut front: Vec<Node>) -> Result<()> {
        while !front.is_empty() {
            front.sort_unstable();
            let mut next = Vec::new();
            for batch in front.chunks(BATCH) {
                let graph = &*self;
                let said: Vec<Vec<(Node, Hint)>> = batch
                    .par_chunks(256)
                    .map(|nodes| {
                        let mut said = Vec::new();
                        nodes.iter().try_for_each(|node| graph.members(session, *node, &mut said))?;
                        Ok::<_, Error>(said)
                    })
                    .collect::<Result<_>>()?;
                let mut said: Vec<(Node, Hint)> = said.into_iter().flatten().collect();
                said.sort_by_key(|(node, hint)| (*node, hint.at, hint.shape, hint.table));
                for of_one in said.chunk_by(|a, b| a.0 == b.0) {
                    next.extend(self.hear(session, of_one)?);
                }
            }
            front = next;
        }
        Ok(())
    }

    /// What the members of a node say of others.
    fn members(&self, session: &Session, node: Node, said: &mut Vec<(Node, Hint)>) -> Result<()> {
        let Some(what) = self.what(node) else { return Ok(()) };
        let Some(shape) = self.shapes.get(what.shape()) else { return Ok(()) };
        if shape.slots.is_empty() && !matches!(what, What::Table(_)) {
            return Ok(());
        }
        let Some(bytes) = score::memory(session, self, node)? else { return Ok(()) };
        if let What::Table(to) = what {
            for at in (0..bytes.len().saturating_sub(7)).step_by(8) {
                self.point(word(&bytes, at), to, false, (node, at as u32), said);
            }
            return Ok(());
        }
        let own = self.nodes.range(node).map_or(0, |(addr, _)| addr);
        for (at, kind, sure) in slots(shape, bytes.len(), matches!(what, What::Many(_))) {
            let value = word(&bytes, at);
            match kind {
                // in a union it may be something else
                SlotKind::Pointer(to) if sure => self.point(value, to, false, (node, at as u32), said),
                SlotKind::Table(to) if sure => self.point(value, to, true, (node, at as u32), said),
                SlotKind::List | SlotKind::Hash | SlotKind::Tree if matches!(what, What::One(_)) => {
                    let links = (kind, own.wrapping_add(at as u64));
                    self.linked(session, &bytes, at, links, (node, what.shape()), said);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A pointer says what it points at, if that has no type, or another.
    fn point(&self, value: u64, to: ShapeId, table: bool, (from, offset): (Node, u32), said: &mut Vec<(Node, Hint)>) {
        let Some((node, at)) = self.nodes.at(value & !TAGS) else { return };
        let agrees =
            if table { self.what(node).map(|what| what == What::Table(to)) } else { self.agrees(node, at, to) };
        // that of declared types nothing else is said
        if agrees == Some(true) || agrees.is_some() && self.claims(node).is_empty() {
            return;
        }
        said.push((node, Hint { at: at as u32, shape: to, table, why: Why::Pointer, from, offset }));
    }

    /// Neighbours on a list or in a tree, linked by the same member and leading back, are of the same structure.
    fn linked(
        &self,
        session: &Session,
        bytes: &[u8],
        at: usize,
        (kind, own): (SlotKind, u64),
        (from, shape): (Node, ShapeId),
        said: &mut Vec<(Node, Hint)>,
    ) {
        if from >= self.nodes.objects() {
            return;
        }
        // a neighbour, and where in its link must be what leads back, whatever its lowest bits are
        let link = |i: usize| word(bytes, at + 8 * i);
        let neighbours: [(u64, &[u64]); 3] = match kind {
            SlotKind::List => [(link(0), &[8]), (link(1), &[0]), (0, &[])],
            SlotKind::Hash => [(link(0), &[8]), (link(1), &[0]), (0, &[])],
            _ => [(link(0) & !3, &[8, 16]), (link(1), &[0]), (link(2), &[0])],
        };
        for (neighbour, back) in neighbours {
            let Some((node, there)) = self.nodes.at(neighbour) else { continue };
            if there != at as u64 || node == from || node >= self.nodes.objects() || self.what(node).is_some() {
                continue;
            }
            let leads_back = |offset: &u64| session.u64(neighbour.wrapping_add(*offset)).is_ok_and(|b| b & !3 == own);
            if !back.iter().any(leads_back) {
                continue;
            }
            let why = if kind == SlotKind::Tree { Why::Tree } else { Why::List };
            said.push((node, Hint { at: 0, shape, table: false, why, from, offset: at as u32 }));
        }
    }

    /// What others say of a node: gives it a type if they tell enough, and keeps it for guesses if they do not.
    fn hear(&mut self, session: &Session, said: &[(Node, Hint)]) -> Result<Option<Node>> {
        let Some((node, first)) = said.first().copied() else { return Ok(None) };
        if self.what(node).is_some() {
            let what = if first.table { What::Table(first.shape) } else { What::One(first.shape) };
            self.conflicts.entry(node).or_insert(claim(what, &first, 0, false));
            return Ok(None);
        }
        let mut votes: HashMap<What, (usize, Hint)> = HashMap::new();
        for (_, hint) in said.iter().filter(|(_, hint)| hint.at == 0 && self.explains(node, hint)) {
            let what = if hint.table { What::Table(hint.shape) } else { What::One(hint.shape) };
            votes.entry(what).or_insert((0, *hint)).0 += 1;
        }
        if !votes.is_empty()
            && let Some(bytes) = score::memory(session, self, node)?
        {
            let addr = self.nodes.range(node).map_or(0, |(addr, _)| addr);
            let subject = Subject { graph: self, session, addr, bytes: &bytes };
            let mut claims: Vec<(i64, Claim)> = Vec::new();
            for (what, (votes, hint)) in &votes {
                let score = match what {
                    What::Table(to) => subject.table(*to),
                    what => subject.score(what.shape()),
                };
                // more that is wrong than that it would be right by chance
                if score.bad <= score.good + 1 + *votes as u32 {
                    let told = self.is_told(hint.from) && score.bad * 2 <= score.good + 2;
                    let total = score.total() + 2 * (*votes as i64);
                    claims.push((total, claim(*what, hint, total as i32, told)));
                }
            }
            claims.sort_by_key(|(total, claim)| (!claim.told, -total, claim.what.shape()));
            if let Some((_, best)) = claims.first().copied() {
                self.set(node, best.what);
                if let Some((_, other)) = claims.get(1) {
                    self.conflicts.insert(node, *other);
                }
                self.claims.insert(node, vec![best]);
                self.hints.remove(&node);
                return Ok(Some(node));
            }
        }
        let hints = self.hints.entry(node).or_default();
        for (_, hint) in said {
            let known = hints.iter().any(|h| (h.at, h.shape, h.table) == (hint.at, hint.shape, hint.table));
            if !known && hints.len() < MAX_HINTS {
                hints.push(*hint);
            }
        }
        Ok(None)
    }

    /// Whether a node's size is one that is given out for what is said to be there.
    fn explains(&self, node: Node, hint: &Hint) -> bool {
        let Some(cache) = self.nodes.cache(node) else { return false };
        let Some(shape) = self.shapes.get(hint.shape) else { return false };
        hint.table || self.nodes.fit(cache, shape.size, shape.flexible) == Fit::Good
    }
}

fn claim(what: What, hint: &Hint, points: i32, told: bool) -> Claim {
    Claim { what, told, why: hint.why, from: Some(hint.from), offset: hint.offset, points }
}
