//! What type has an object that nobody labelled? Types spread along pointers from what is known.
//!
//! A slab cache for one structure says what its objects are, and so does the declaration of a global variable. Each member
//! of theirs that is declared a pointer says what it points at. Where a cache of kmalloc() holds that, an object of
//! `kmalloc-256` is now a `struct foo`, and its members lead on. Objects on the list or in the tree of a known one, linked
//! by the same member, are of the same structure. What nobody with a type points at is guessed from what it holds: which
//! structures of that size have a pointer to a `struct lab_node` at byte 16, and a list that closes at byte 0?
//!
//! After mdb's typegraph (Bonwick and Cantrill, in illumos's genunix), which does the first of these with CTF. Linux
//! embeds lists and trees in its structures, and its BTF knows every pointer's type, so that more can be told.
//!
//! ```console
//! > ff386d1d83421020::whattype
//! ff386d1d83421020 is ff386d1d83421020+0, possibly struct lab_session
//! ```
//!
//! **Invariant:** a type is *told* if a chain of declarations leads to it and the object's size and contents agree;
//! anything else is *possible*, and shown as that, with what speaks for it.

mod guess;
pub mod locks;
mod nodes;
mod score;
mod shapes;
mod spread;

pub use nodes::{Node, Nodes};
pub use score::memory;
pub use shapes::{ShapeId, Shapes, SlotKind};

use crate::{module::Parts, slab::names};
use engine::prelude::*;
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// a structure; behind it, if the node is larger, may be a tail
    One(ShapeId),
    /// structures, one behind the other
    Many(ShapeId),
    /// pointers to structures
    Table(ShapeId),
}

impl What {
    /// The structure that it is, or that it is made of or points to.
    pub fn shape(self) -> ShapeId {
        match self {
            What::One(shape) | What::Many(shape) | What::Table(shape) => shape,
        }
    }

    fn code(self) -> u32 {
        let (kind, shape) = match self {
            What::One(shape) => (0, shape),
            What::Many(shape) => (1 << 30, shape),
            What::Table(shape) => (2 << 30, shape),
        };
        kind | ((shape & MASK) + 1)
    }

    fn of_code(code: u32) -> Option<What> {
        let shape = (code & MASK).checked_sub(1)?;
        Some(match code >> 30 {
            0 => What::One(shape),
            1 => What::Many(shape),
            _ => What::Table(shape),
        })
    }
}

const MASK: u32 = (1 << 30) - 1;

/// Why something is thought to be of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// a member of another node is declared to point at such
    Pointer,
    /// it is on a list with another node, linked by the same member
    List,
    /// likewise, in a tree
    Tree,
    /// a member of another node points into its middle, at what only such a structure has there
    Middle,
    /// its own pointers are those of such a structure
    Contents,
    /// somebody said so (`::istype`)
    Said,
}

/// That a node is of a type, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// the type
    pub what: What,
    /// a chain of declarations says so
    pub told: bool,
    /// why
    pub why: Why,
    /// the node that says it; of [`Why::Contents`] what its most telling pointer points at
    pub from: Option<Node>,
    /// of that node: the byte at which it says it
    pub offset: u32,
    /// how well the contents agree: see [`score`]
    pub points: i32,
}

/// How the nodes were made out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// allocated objects
    pub objects: u64,
    /// of caches whose objects have one type
    pub labelled: u64,
    /// the others whose type was told
    pub told: u64,
    /// whose type is possible
    pub possible: u64,
    /// of those: more than one type is as possible
    pub ambiguous: u64,
    /// nodes of which others say something else than what they were taken for
    pub conflicts: u64,
    /// global variables of known type
    pub globals: u64,
    /// structures that the kernel and its modules have
    pub structures: u64,
}

/// Nodes and their types.
pub struct Graph {
    /// the nodes
    pub nodes: Nodes,
    /// the structures
    pub shapes: Arc<Shapes>,
    /// by node: what it is, or 0
    types: Vec<u32>,
    /// of nodes whose type is not declared: why, the best first
    claims: HashMap<Node, Vec<Claim>>,
    /// of nodes without a type: what others say is in them, and where
    hints: HashMap<Node, Vec<spread::Hint>>,
    /// nodes of which something else is said, too
    conflicts: HashMap<Node, Claim>,
    /// where code is
    code: Vec<Range<u64>>,
    /// the types of caches are not told: see [`Graph::blind`]
    blind: bool,
}

/// The graph of a session, which `::istype` changes.
pub struct Kept(RwLock<Graph>);

impl Kept {
    /// The session's, made by who asks first.
    pub fn of(session: &Session) -> Result<Arc<Kept>> {
        session.once(|| Ok(Kept(RwLock::new(Graph::build(session, false)?))))
    }

    /// The session's, if somebody has made it.
    pub fn made(session: &Session) -> Option<Arc<Kept>> {
        session.kept::<Kept>()
    }

    /// To look at.
    pub fn read(&self) -> RwLockReadGuard<'_, Graph> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what an object or a global is, and lets that spread. `None` takes back what was found of it.
    pub fn say(&self, session: &Session, node: Node, what: Option<What>) -> Result<()> {
        let mut graph = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(what) = what else {
            graph.forget(node);
            return Ok(());
        };
        let claim = Claim { what, told: true, why: Why::Said, from: None, offset: 0, points: 0 };
        graph.set(node, what);
        graph.claims.insert(node, vec![claim]);
        graph.spread(session, vec![node])
    }
}

impl Graph {
    /// Makes out what everything is.
    fn build(session: &Session, blind: bool) -> Result<Graph> {
        let shapes = Shapes::of(session)?;
        let nodes = Nodes::build(session)?;
        let types = vec![0; nodes.len()];
        let (claims, hints, conflicts) = Default::default();
        let mut graph = Graph { nodes, shapes, types, claims, hints, conflicts, code: code(session)?, blind };
        let roots = graph.roots(session)?;
        graph.spread(session, roots)?;
        /// one guess leads to the next, but ever fewer do
        const ROUNDS: usize = 12;
        for _ in 0..ROUNDS {
            let found = graph.guess(session)?;
            if found.is_empty() {
                break;
            }
            graph.spread(session, found)?;
        }
        graph.hints = HashMap::new();
        Ok(graph)
    }

    /// The same without being told what caches hold: what is then found of them, held against their names, says how far
    /// the rest can be believed.
    pub fn blind(session: &Session) -> Result<Graph> {
        Graph::build(session, true)
    }

    /// Types the nodes that declare their type.
    fn roots(&mut self, session: &Session) -> Result<Vec<Node>> {
        let mut roots = Vec::new();
        let globals: Vec<(Node, What)> = self
            .nodes
            .globals()
            .filter_map(|(node, global)| Some((node, self.what_of(session, global.ctype)?)))
            .collect();
        for (node, what) in globals {
            self.set(node, what);
            roots.push(node);
        }
        if self.blind {
            return Ok(roots);
        }
        for number in 0..self.nodes.slabs().all().len() {
            session.interrupt.check()?;
            let Some(what) = self.of_slab(session, number) else { continue };
            let objects: Vec<Node> = self.nodes.of_slab(number).collect();
            objects.iter().for_each(|node| self.set(*node, what));
            roots.extend(objects);
        }
        Ok(roots)
    }

    fn of_slab(&self, session: &Session, number: usize) -> Option<What> {
        let cache = self.nodes.slabs().all().get(number)?.cache as usize;
        self.what_of(session, names::type_of_cache(session, cache)?)
    }

    /// What a cache's name says of its objects.
    pub fn label(&self, session: &Session, node: Node) -> Option<What> {
        self.what_of(session, names::type_of_cache(session, self.nodes.cache(node)?)?)
    }

    /// What a C type is: a structure, an array of such, or an array of pointers to such.
    pub fn what_of(&self, session: &Session, ctype: engine::TypeId) -> Option<What> {
        use engine::Type;
        let (mut at, mut many) = (ctype, false);
        // arrays of arrays are arrays
        for _ in 0..8 {
            let (id, node) = session.types.resolve(at)?;
            match &*node {
                Type::Array { elem, .. } => (at, many) = (*elem, true),
                Type::Pointer { to } => return Some(What::Table(self.shapes.find(session, *to)?)),
                Type::Struct { .. } => {
                    let shape = self.shapes.find(session, id)?;
                    return Some(if many { What::Many(shape) } else { What::One(shape) });
                }
                _ => return None,
            }
        }
        None
    }

    /// What a node is, if that is known.
    pub fn what(&self, node: Node) -> Option<What> {
        What::of_code(*self.types.get(node as usize)?)
    }

    fn set(&mut self, node: Node, what: What) {
        if let Some(slot) = self.types.get_mut(node as usize) {
            *slot = what.code();
        }
    }

    fn forget(&mut self, node: Node) {
        if let Some(slot) = self.types.get_mut(node as usize) {
            *slot = 0;
        }
        self.claims.remove(&node);
        self.conflicts.remove(&node);
    }

    /// Why a node is thought to be what it is, the best first; empty if its type is declared, or not known.
    pub fn claims(&self, node: Node) -> &[Claim] {
        self.claims.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Something else that is said of a node.
    pub fn conflict(&self, node: Node) -> Option<&Claim> {
        self.conflicts.get(&node)
    }

    /// Nodes of which different things are said.
    pub fn conflicts(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.conflicts.keys().copied().collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether a `what` may begin at a byte of a node: `None` if it is not known what the node is.
    fn agrees(&self, node: Node, offset: u64, what: ShapeId) -> Option<bool> {
        let found = self.what(node)?;
        let size = self.shapes.get(found.shape())?.size.max(1);
        Some(match found {
            What::One(shape) => self.shapes.fits_at(shape, offset, what),
            What::Many(shape) => self.shapes.fits_at(shape, offset % size, what),
            What::Table(_) => false,
        })
    }

    fn is_code(&self, addr: u64) -> bool {
        self.code.iter().any(|range| range.contains(&addr))
    }

    /// Every live object, in the order of addresses within each cache.
    pub fn objects(&self) -> impl Iterator<Item = Node> + '_ {
        (0..self.nodes.objects()).filter(|node| self.nodes.is_live(*node))
    }

    /// How a node came to its type.
    pub fn is_told(&self, node: Node) -> bool {
        self.claims(node).first().is_none_or(|claim| claim.told)
    }

    /// Counts of what was found; of one cache, or of all.
    pub fn stats(&self, session: &Session, cache: Option<usize>) -> Result<Stats> {
        let globals = self.nodes.globals().filter(|(node, _)| self.what(*node).is_some()).count() as u64;
        let mut stats = Stats { globals, structures: self.shapes.len() as u64, ..Stats::default() };
        for (number, slab) in self.nodes.slabs().all().iter().enumerate() {
            session.interrupt.check()?;
            if cache.is_some_and(|cache| cache != slab.cache as usize) {
                continue;
            }
            for node in self.nodes.of_slab(number) {
                stats.objects += 1;
                stats.conflicts += u64::from(self.conflicts.contains_key(&node));
                match (self.what(node), self.claims(node)) {
                    (None, _) => {}
                    (Some(_), []) => stats.labelled += 1,
                    (Some(_), [first, ..]) if first.told => stats.told += 1,
                    (Some(_), claims) => {
                        stats.possible += 1;
                        stats.ambiguous += u64::from(claims.len() > 1);
                    }
                }
            }
        }
        Ok(stats)
    }

    /// A type in C: `struct foo`, `struct foo []`, `struct foo *[]`.
    pub fn spell(&self, what: What) -> String {
        let name = self.shapes.get(what.shape()).map_or("?", |shape| &shape.name);
        match what {
            What::One(_) => name.to_owned(),
            What::Many(_) => format!("{name} []"),
            What::Table(_) => format!("{name} *[]"),
        }
    }
}

/// Where code is: the kernel's text and that of its modules.
fn code(session: &Session) -> Result<Vec<Range<u64>>> {
    let kernel = session.kernel_symbol("_stext").zip(session.kernel_symbol("_etext"));
    let mut code: Vec<Range<u64>> = kernel.map(|(start, end)| start..end).into_iter().collect();
    code.extend(
        Parts::of(session)?.all().iter().filter(|p| matches!(p.kind, "text" | "core")).map(|p| p.range.clone()),
    );
    Ok(code)
}

/// Walks objects by what became of their type.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "typeconflict",
        doc: "walk the objects of which their references say different types",
        item: "",
        address: Address::None,
        walk: |cx, _, visit| {
            let kept = Kept::of(cx)?;
            let nodes: Vec<Node> = kept.read().conflicts();
            nodes.into_iter().filter_map(|node| Some(kept.read().nodes.range(node)?.0)).try_for_each(visit)
        },
    },
    WalkerEntry {
        name: "typeunknown",
        doc: "walk the allocated objects whose type is not known",
        item: "",
        address: Address::None,
        walk: |cx, _, visit| {
            let kept = Kept::of(cx)?;
            let nodes: Vec<Node> = {
                let graph = kept.read();
                graph.objects().filter(|node| graph.what(*node).is_none()).collect()
            };
            nodes.into_iter().filter_map(|node| Some(kept.read().nodes.range(node)?.0)).try_for_each(visit)
        },
    },
];
