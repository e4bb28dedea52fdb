//! Objects that no declaration leads to, guessed by what they hold and by who points into their middle.

use super::{Claim, Graph, Node, What, Why, nodes::Fit, score::Subject, shapes::ShapeId, spread::Hint};
use crate::page::word;
use engine::prelude::*;
use rayon::prelude::*;
use std::collections::HashMap;

/// Structures that are looked at closely, of those that something speaks for.
const CANDIDATES: usize = 24;
/// Least that must speak for a structure: a list that closes, or a pointer to what belongs there, and a little more.
const ENOUGH: u32 = 4;
/// Structures that are shown when none is better than the others.
const SHOWN: usize = 4;
/// The lowest bits of a pointer may be marks.
const TAGS: u64 = 7;
/// Larger objects are looked at in part.
const MAX_BYTES: usize = 1 << 13;

/// What speaks for a structure before it is looked at: how often, and what first.
type Votes = HashMap<ShapeId, (u32, Claim)>;

impl Graph {
    /// Guesses what the objects without a type are. Returns those that got one.
    pub(super) fn guess(&mut self, session: &Session) -> Result<Vec<Node>> {
        let graph = &*self;
        let found: Vec<Vec<(Node, Vec<Claim>)>> = (0..graph.nodes.slabs().all().len())
            .into_par_iter()
            .map(|slab| graph.guess_slab(session, slab))
            .collect::<Result<_>>()?;
        let mut nodes = Vec::new();
        for (node, claims) in found.into_iter().flatten() {
            let Some(best) = claims.first() else { continue };
            let what = best.what;
            self.set(node, what);
            self.claims.insert(node, claims);
            self.hints.remove(&node);
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn guess_slab(&self, session: &Session, number: usize) -> Result<Vec<(Node, Vec<Claim>)>> {
        session.interrupt.check()?;
        let mut found = Vec::new();
        let Some(slab) = self.nodes.slabs().all().get(number) else { return Ok(found) };
        let untyped: Vec<Node> = self.nodes.of_slab(number).filter(|node| self.what(*node).is_none()).collect();
        if untyped.is_empty() {
            return Ok(found);
        }
        let memory = match session.bytes(slab.base, slab.bytes as usize) {
            Ok(memory) => memory,
            Err(e) if e.is_control() => return Err(e),
            Err(_) => return Ok(found),
        };
        for node in untyped {
            let Some((addr, len)) = self.nodes.range(node) else { continue };
            let start = addr.wrapping_sub(slab.base) as usize;
            let Some(bytes) = memory.get(start..start.saturating_add((len as usize).min(MAX_BYTES))) else { continue };
            let claims = self.guess_one(session, node, slab.cache as usize, addr, bytes);
            if !claims.is_empty() {
                found.push((node, claims));
            }
        }
        Ok(found)
    }

    /// The structures that an object may be, the best first.
    fn guess_one(&self, session: &Session, node: Node, cache: usize, addr: u64, bytes: &[u8]) -> Vec<Claim> {
        let hints = self.hints.get(&node).map_or(&[][..], Vec::as_slice);
        if let Some(claim) = self.array(cache, hints) {
            return vec![claim];
        }
        let mut votes = Votes::new();
        self.by_hints(cache, hints, &mut votes);
        self.by_contents(cache, bytes, &mut votes);
        let mut order: Vec<(ShapeId, (u32, Claim))> = votes.into_iter().collect();
        order.sort_unstable_by_key(|(shape, (count, _))| (std::cmp::Reverse(*count), *shape));
        order.truncate(CANDIDATES);
        let subject = Subject { graph: self, session, addr, bytes };
        let mut scored: Vec<(i64, Claim)> = order
            .into_iter()
            .filter_map(|(shape, (_, claim))| {
                let score = subject.score(shape);
                let said = self.said(shape, hints);
                let total = score.total() + 3 * said;
                let enough = i64::from(score.good) + 3 * said.max(0) >= i64::from(ENOUGH);
                (enough && score.bad * 2 <= score.good + 2 && total > 0)
                    .then_some((total, Claim { points: total as i32, ..claim }))
            })
            .collect();
        scored.sort_by_key(|(total, claim)| (-total, claim.what.shape()));
        let best = scored.first().map_or(0, |(total, _)| *total);
        // one that is nearly as good is as possible
        scored.retain(|(total, _)| total + 1 >= best);
        scored.truncate(SHOWN);
        scored.into_iter().map(|(_, claim)| claim).collect()
    }

    /// How many of those that point into it agree that it is such a structure, less those that do not.
    fn said(&self, shape: ShapeId, hints: &[Hint]) -> i64 {
        let agree = |hint: &Hint| !hint.table && self.shapes.fits_at(shape, hint.at.into(), hint.shape);
        hints.iter().map(|hint| if agree(hint) { 1 } else { -1 }).sum()
    }

    /// Several pointers to one structure, at multiples of its size: an array of it.
    fn array(&self, cache: usize, hints: &[Hint]) -> Option<Claim> {
        let first = hints.iter().find(|hint| !hint.table)?;
        let shape = self.shapes.get(first.shape)?;
        let all = hints.iter().all(|h| h.shape == first.shape && !h.table && u64::from(h.at) % shape.size.max(1) == 0);
        let room = *self.nodes.sizes(cache).end();
        let several = hints.iter().any(|hint| hint.at != first.at);
        (all && several && shape.size * 2 <= room).then_some(Claim {
            what: What::Many(first.shape),
            told: false,
            why: Why::Pointer,
            from: Some(first.from),
            offset: first.offset,
            points: hints.len() as i32,
        })
    }

    /// Structures that have what others say is at some byte.
    fn by_hints(&self, cache: usize, hints: &[Hint], votes: &mut Votes) {
        let sizes = self.nodes.sizes(cache);
        for hint in hints.iter().filter(|hint| !hint.table) {
            let why = if hint.at == 0 { Why::Pointer } else { Why::Middle };
            let claim = |shape| Claim {
                what: What::One(shape),
                told: false,
                why,
                from: Some(hint.from),
                offset: hint.offset,
                points: 0,
            };
            for shape in self.shapes.embedding(hint.at, hint.shape, &sizes) {
                votes.entry(shape).or_insert((0, claim(shape))).0 += 2;
            }
            // it may be the structure itself, with something behind it that no type tells of
            let itself = self.shapes.get(hint.shape).filter(|shape| {
                hint.at == 0
                    && self.nodes.fit(cache, shape.size, shape.flexible) != Fit::No
                    && shape.size * 4 > *sizes.end()
            });
            if itself.is_some() {
                votes.entry(hint.shape).or_insert((0, claim(hint.shape))).0 += 2;
            }
        }
    }

    /// Structures that have pointers where it has some, to what these point at.
    fn by_contents(&self, cache: usize, bytes: &[u8], votes: &mut Votes) {
        let sizes = self.nodes.sizes(cache);
        for at in (0..bytes.len().saturating_sub(7)).step_by(8) {
            let Some((to, offset)) = self.nodes.at(word(bytes, at) & !TAGS) else { continue };
            let Some(What::One(shape)) = self.what(to) else { continue };
            for inside in self.shapes.at(shape, offset) {
                for candidate in self.shapes.pointing(at as u32, inside, &sizes) {
                    let claim = Claim {
                        what: What::One(candidate),
                        told: false,
                        why: Why::Contents,
                        from: Some(to),
                        offset: at as u32,
                        points: 0,
                    };
                    votes.entry(candidate).or_insert((0, claim)).0 += 1;
                }
            }
        }
    }
}
