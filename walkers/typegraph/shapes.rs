//! Every C structure by its pointers: where it has them, and what they point at.
//!
//! Two indexes go the other way: which structures have a pointer to a `struct lab_node` at byte 16? Which have a
//! `struct work_struct` at byte 32? From what an object of unknown type holds, and from who points into its middle, they
//! lead to the few structures that it may be.

use engine::{Tag, Type, TypeId, prelude::*};
use rayon::prelude::*;
use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

/// The number of a structure among all.
pub type ShapeId = u32;

/// What is in eight bytes of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// a pointer to such a structure
    Pointer(ShapeId),
    /// a pointer to pointers to such
    Table(ShapeId),
    /// a pointer to a function
    Code,
    /// a pointer to anything else, or an integer that may hold one
    Opaque,
    /// a `struct list_head`; its second pointer is [`Opaque`](SlotKind::Opaque)
    List,
    /// a `struct hlist_node`
    Hash,
    /// a `struct rb_node`
    Tree,
}

/// Eight bytes that may hold a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// bytes from the start of the structure
    pub offset: u32,
    /// what is there
    pub kind: SlotKind,
    /// not in a union, where something else may be
    pub sure: bool,
}

/// A structure inside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// bytes from the start of the outer one
    pub offset: u32,
    /// which
    pub shape: ShapeId,
    /// so many, one behind the other
    pub count: u32,
}

/// A structure.
#[derive(Debug)]
pub struct Shape {
    /// the type
    pub ctype: TypeId,
    /// in C
    pub name: Arc<str>,
    /// bytes
    pub size: u64,
    /// it ends with an array of any length
    pub flexible: bool,
    /// by offset
    pub slots: Vec<Slot>,
    /// every structure inside, also those inside of those
    pub inner: Vec<Inner>,
}

/// All of them.
pub struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<(Tag, Arc<str>), Vec<ShapeId>>,
    pointing: HashMap<(u32, ShapeId), Vec<ShapeId>>,
    embedding: HashMap<(u32, ShapeId), Vec<ShapeId>>,
}

/// Structures larger than this are no single allocation.
const MAX_SIZE: u64 = 1 << 16;
/// Slots of one structure: beyond, it is an array of something that repeats.
const MAX_SLOTS: usize = 4096;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// A key that so many structures share tells nothing.
const MAX_KEY: usize = 512;
/// Structures inside nearly everything, whose place says nothing.
const COMMON: &[&str] = &["list_head", "hlist_node", "hlist_head", "rb_node", "rb_root", "callback_head", "llist_node"];

impl Shapes {
    /// The session's: those of the kernel and of its modules.
    pub fn of(session: &Session) -> Result<Arc<Shapes>> {
        session.once(|| Shapes::read(session))
    }

    fn read(session: &Session) -> Result<Shapes> {
        // loading the modules adds their types
        session.symbols.modules(session);
        let mut found: Vec<(Tag, Arc<str>, TypeId, u64)> = Vec::new();
        session.types.each_own_name(&mut |tag, name| {
            if matches!(tag, Tag::Struct | Tag::Union) {
                found.push((tag, Arc::from(name), TypeId::VOID, 0));
            }
            !session.interrupt.is_set()
        });
        session.interrupt.check()?;
        found.sort_unstable_by(|a, b| (a.0 as u8, &a.1).cmp(&(b.0 as u8, &b.1)));
        found.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
        let found: Vec<_> = found
            .into_par_iter()
            .flat_map_iter(|(tag, name, ..)| {
                let mut sizes = Vec::new();
                session
                    .types
                    .find_everywhere(tag, &name)
                    .into_iter()
                    .filter_map(move |id| {
                        let size = session.types.size_of(id).filter(|size| (1..=MAX_SIZE).contains(size))?;
                        // files that disagree about a name have structures of different sizes
                        (!sizes.contains(&size)).then(|| {
                            sizes.push(size);
                            (tag, name.clone(), id, size)
                        })
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut by_name: HashMap<(Tag, Arc<str>), Vec<ShapeId>> = HashMap::new();
        for ((tag, name, ..), i) in found.iter().zip(0..) {
            by_name.entry((*tag, name.clone())).or_default().push(i);
        }
        let known = Known { session, by_name: &by_name, found: &found };
        let shapes: Vec<Shape> = found
            .par_iter()
            .map(|(tag, name, id, size)| {
                session.interrupt.check()?;
                Ok(known.shape(*tag, name, *id, *size))
            })
            .collect::<Result<_>>()?;
        let (mut pointing, mut embedding): (HashMap<_, Vec<ShapeId>>, HashMap<_, Vec<ShapeId>>) = Default::default();
        for (shape, i) in shapes.iter().zip(0..) {
            for slot in &shape.slots {
                if let SlotKind::Pointer(to) = slot.kind {
                    add(pointing.entry((slot.offset, to)).or_default(), i);
                }
            }
            for inner in &shape.inner {
                add(embedding.entry((inner.offset, inner.shape)).or_default(), i);
            }
        }
        for index in [&mut pointing, &mut embedding] {
            index.retain(|_, ids| ids.len() <= MAX_KEY);
            index.values_mut().for_each(|ids| ids.sort_by_key(|id| by_size(&shapes, *id)));
        }
        Ok(Shapes { shapes, by_name, pointing, embedding })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// One of them.
    pub fn get(&self, id: ShapeId) -> Option<&Shape> {
        self.shapes.get(id as usize)
    }

    /// All of them, with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (ShapeId, &Shape)> {
        (0..).zip(&self.shapes)
    }

    /// The structure that a type is, below typedefs.
    pub fn find(&self, session: &Session, ctype: TypeId) -> Option<ShapeId> {
        let (_, node) = session.types.resolve(ctype)?;
        let Type::Struct { name: Some(name), size, union, .. } = &*node else { return None };
        let tag = if *union { Tag::Union } else { Tag::Struct };
        let ids = self.by_name.get(&(tag, name.clone()))?;
        ids.iter().find(|id| self.get(**id).is_some_and(|s| s.size == *size)).or(ids.first()).copied()
    }

    /// Structures that have a pointer to `to` at this offset, if not too many have: those of a size, and those with a tail
    /// of any length that are no larger.
    pub fn pointing(&self, offset: u32, to: ShapeId, size: &RangeInclusive<u64>) -> impl Iterator<Item = ShapeId> + '_ {
        self.sized(self.pointing.get(&(offset, to)), size)
    }

    /// Structures that have an `inner` at this offset, likewise.
    pub fn embedding(
        &self,
        offset: u32,
        inner: ShapeId,
        size: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = ShapeId> + '_ {
        self.sized(self.embedding.get(&(offset, inner)), size)
    }

    fn sized(
        &self,
        ids: Option<&'_ Vec<ShapeId>>,
        size: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = ShapeId> + use<'_> {
        let ids = ids.map_or(&[][..], Vec::as_slice);
        let before = |flexible, size| ids.partition_point(|id| by_size(&self.shapes, *id) < (flexible, size));
        let fixed = before(false, *size.start())..before(false, size.end().saturating_add(1));
        let flexible = before(true, 0)..before(true, size.end().saturating_add(1));
        let part = |range: std::ops::Range<usize>| ids.get(range).unwrap_or_default().to_vec();
        part(fixed).into_iter().chain(part(flexible))
    }

    /// Whether a pointer to `what` may point at this offset of a `whole`: it is one, or has one there.
    pub fn fits_at(&self, whole: ShapeId, offset: u64, what: ShapeId) -> bool {
        if whole == what && offset == 0 {
            return true;
        }
        let (Some(outer), Some(size)) = (self.get(whole), self.get(what).map(|s| s.size.max(1))) else { return false };
        outer.inner.iter().filter(|inner| inner.shape == what).any(|inner| {
            let behind = offset.checked_sub(inner.offset.into());
            behind.is_some_and(|behind| behind % size == 0 && behind / size < u64::from(inner.count.max(1)))
        })
    }

    /// The structures at an offset of a `whole`, itself among them at offset 0: what a pointer there may point at.
    pub fn at(&self, whole: ShapeId, offset: u64) -> impl Iterator<Item = ShapeId> + '_ {
        let itself = (offset == 0).then_some(whole);
        let inner = self.get(whole).map_or(&[][..], |s| s.inner.as_slice());
        itself.into_iter().chain(inner.iter().filter(move |i| u64::from(i.offset) == offset).map(|i| i.shape))
    }
}

/// Those with a tail of any length come last.
fn by_size(shapes: &[Shape], id: ShapeId) -> (bool, u64) {
    shapes.get(id as usize).map_or((false, 0), |shape| (shape.flexible, shape.size))
}

fn add(ids: &mut Vec<ShapeId>, id: ShapeId) {
    if ids.last() != Some(&id) && ids.len() <= MAX_KEY {
        ids.push(id);
    }
}

/// What is known while structures are looked at.
struct Known<'a> {
    session: &'a Session,
    by_name: &'a HashMap<(Tag, Arc<str>), Vec<ShapeId>>,
    found: &'a [(Tag, Arc<str>, TypeId, u64)],
}

impl Known<'_> {
    fn shape(&self, tag: Tag, name: &str, ctype: TypeId, size: u64) -> Shape {
        let keyword = if tag == Tag::Union { "union" } else { "struct" };
        let name = format!("{keyword} {name}").into();
        let mut shape = Shape { ctype, name, size, flexible: false, slots: Vec::new(), inner: Vec::new() };
        self.fill(&mut shape, ctype, 0, true, MAX_DEPTH);
        shape.slots.sort_unstable_by_key(|slot| slot.offset);
        // of what a union has in one place the pointer is kept
        shape.slots.sort_by_key(|slot| (slot.offset, slot.kind == SlotKind::Opaque));
        shape.slots.dedup_by(|next, first| {
            let same = next.offset == first.offset;
            first.sure &= !same || next.kind == first.kind;
            same
        });
        shape
    }

    fn id_of(&self, node: &Type) -> Option<ShapeId> {
        let Type::Struct { name: Some(name), size, union, .. } = node else { return None };
        let tag = if *union { Tag::Union } else { Tag::Struct };
        let ids = self.by_name.get(&(tag, name.clone()))?;
        let same = |id: &&ShapeId| self.found.get(**id as usize).is_some_and(|(.., s)| s == size);
        ids.iter().find(same).or(ids.first()).copied()
    }

    fn fill(&self, shape: &mut Shape, ctype: TypeId, offset: u64, sure: bool, depth: usize) {
        let Some((_, node)) = self.session.types.resolve(ctype) else { return };
        let Ok(at) = u32::try_from(offset) else { return };
        if depth == 0 || shape.slots.len() >= MAX_SLOTS {
            return;
        }
        let mut push = |offset, kind| shape.slots.push(Slot { offset, kind, sure });
        match &*node {
            Type::Pointer { to } if offset.is_multiple_of(8) => push(at, self.pointer(*to)),
            Type::Int { size: 8, .. } if offset.is_multiple_of(8) => push(at, SlotKind::Opaque),
            Type::Array { elem, count } => {
                let Some(size) = self.session.types.size_of(*elem).filter(|size| *size > 0) else { return };
                if count.unwrap_or(0) == 0 && depth == MAX_DEPTH - 1 {
                    shape.flexible = true;
                }
                // bytes hold nothing
                if size >= 8 {
                    (0..count.unwrap_or(0).min(MAX_SLOTS as u64))
                        .for_each(|i| self.fill(shape, *elem, offset.saturating_add(i * size), sure, depth - 1));
                }
            }
            Type::Struct { name, union, members, .. } => {
                let common = name.as_deref().filter(|name| COMMON.contains(name));
                let kind = match common {
                    Some("list_head") => Some(SlotKind::List),
                    Some("hlist_node") => Some(SlotKind::Hash),
                    Some("rb_node") => Some(SlotKind::Tree),
                    _ => None,
                };
                if let Some(kind) = kind.filter(|_| offset.is_multiple_of(8) && depth < MAX_DEPTH) {
                    let words = if kind == SlotKind::Tree { 3 } else { 2 };
                    push(at, kind);
                    (1..words).for_each(|i| push(at + 8 * i, SlotKind::Opaque));
                    return;
                }
                if depth < MAX_DEPTH
                    && common.is_none()
                    && let Some(inner) = self.id_of(&node)
                {
                    match shape.inner.last_mut() {
                        Some(last) if last.shape == inner && self.follows(last, at) => last.count += 1,
                        _ => shape.inner.push(Inner { offset: at, shape: inner, count: 1 }),
                    }
                }
                for member in members.iter().filter(|m| m.bit_size.is_none()) {
                    let offset = offset.saturating_add(member.bit_offset / 8);
                    self.fill(shape, member.ty, offset, sure && !*union, depth - 1);
                }
            }
            _ => {}
        }
    }

    /// Whether a structure at `at` is the next of an array.
    fn follows(&self, last: &Inner, at: u32) -> bool {
        let size = self.found.get(last.shape as usize).map_or(0, |(.., size)| *size);
        u64::from(last.offset) + u64::from(last.count) * size == u64::from(at)
    }

    fn pointer(&self, to: TypeId) -> SlotKind {
        let Some((_, node)) = self.session.types.resolve(to) else { return SlotKind::Opaque };
        match &*node {
            Type::Func { .. } => SlotKind::Code,
            // of those nobody knows what they are in
            Type::Struct { name: Some(name), .. } if COMMON.contains(&&**name) => SlotKind::Opaque,
            Type::Struct { .. } => self.id_of(&node).map_or(SlotKind::Opaque, SlotKind::Pointer),
            Type::Pointer { to } => match self.session.types.resolve(*to).and_then(|(_, node)| self.id_of(&node)) {
                Some(id) => SlotKind::Table(id),
                None => SlotKind::Opaque,
            },
            _ => SlotKind::Opaque,
        }
    }
}
