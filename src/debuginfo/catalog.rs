//! All types of a session: what its sources know, and what is made of them (`struct foo *`, `char [16]`).
//!
//! ```text
//! let t = types.parse("struct task_struct")?;
//! let place = types.member(t, "se.avg.load_avg")?;     // through anonymous members, array indices are constants
//! types.spell(place.ty)                                // "unsigned long"
//! ```
//!
//! Nodes are decoded once and shared. A type graph that came from a dump may be anything, also a typedef of itself
//! or a struct inside itself, so every walk over it is bounded.

mod base;
mod misses;
mod parse;
mod spell;

use std::collections::{HashMap, HashSet};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, Ordering},
};

pub use misses::Missed;
use misses::Misses;

use crate::synthetic::Synthetic;
use crate::types::{SourceId, Tag, Type, TypeId, TypeSource};

/// Longest chain of typedefs and qualifiers, and deepest nesting of members or declarators, that is followed. The
/// kernel's own stay below 16.
const MAX_DEPTH: usize = 64;

/// Number of independently locked parts of the node cache.
const SHARDS: usize = 16;

/// Where a member lies in a type, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// its declared type
    pub ty: TypeId,
    /// from the start of the outer type, in bits
    pub bit_offset: u64,
    /// width in bits, if it is a bit-field
    pub bit_size: Option<u32>,
}

impl Place {
    /// Offset in whole bytes; of a bit-field, of the byte that holds its first bit.
    pub fn offset(&self) -> u64 {
        self.bit_offset / 8
    }
}

/// The types of a session.
#[derive(Default)]
pub struct Types {
    sources: RwLock<Vec<Arc<dyn TypeSource>>>,
    /// held while a source is made, so that its number stays free
    adding: Mutex<()>,
    made: RwLock<Made>,
    cache: [RwLock<HashMap<TypeId, Arc<Type>>>; SHARDS],
    /// what the user made, and whether its names go before those of the target
    synthetic: OnceLock<Arc<Synthetic>>,
    preferred: AtomicBool,
    missed: Misses,
}

/// Types that belong to no source, each kept once, so that equal types have equal ids.
struct Made {
    nodes: Vec<Arc<Type>>,
    ids: HashMap<Arc<Type>, u32>,
}

impl Default for Made {
    fn default() -> Made {
        let void = Arc::new(Type::Void);
        Made { nodes: vec![void.clone()], ids: HashMap::from([(void, TypeId::VOID.local)]) }
    }
}

// A panic elsewhere while a lock was held leaves maps that are whole: entries are only ever added.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Types {
    /// A registry without sources; it knows C's base types.
    pub fn new() -> Types {
        Types::default()
    }

    /// Adds the source that `make` builds for the number it is given. Earlier sources are asked first. `make` may
    /// ask for types, but must not add any.
    pub fn add<E>(&self, make: impl FnOnce(SourceId) -> Result<Arc<dyn TypeSource>, E>) -> Result<SourceId, E> {
        let _alone = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        // The last number before BUILTIN stands for "too many": a source that gets it is not kept.
        let full = TypeId::BUILTIN - 1;
        let id = SourceId::try_from(read(&self.sources).len()).unwrap_or(full).min(full);
        let source = make(id)?;
        if id < full {
            write(&self.sources).push(source);
        }
        Ok(id)
    }

    /// The types that the user made, or is about to make.
    pub fn synthetic(&self) -> Arc<Synthetic> {
        if let Some(known) = self.synthetic.get() {
            return known.clone();
        }
        let mut made = None;
        let added = self.add(|id| {
            let source = Arc::new(Synthetic::new(id));
            made = Some(source.clone());
            Ok::<Arc<dyn TypeSource>, std::convert::Infallible>(source)
        });
        let source = made.unwrap_or_else(|| Arc::new(Synthetic::new(added.unwrap_or(TypeId::BUILTIN - 1))));
        self.synthetic.get_or_init(|| source).clone()
    }

    /// Lets the names that the user made go before those of the target, or no longer.
    pub fn prefer_synthetic(&self, yes: bool) {
        self.preferred.store(yes, Ordering::Relaxed);
    }

    /// The source of that number.
    pub fn source(&self, id: SourceId) -> Option<Arc<dyn TypeSource>> {
        read(&self.sources).get(usize::from(id)).cloned()
    }

    /// The kernel's own BTF: the first source that is BTF.
    pub fn btf(&self) -> Option<Arc<crate::btf::Btf>> {
        self.sources().into_iter().find_map(TypeSource::as_btf)
    }

    fn sources(&self) -> Vec<Arc<dyn TypeSource>> {
        read(&self.sources).clone()
    }

    /// Whether there is any source beyond C's base types.
    pub fn is_empty(&self) -> bool {
        read(&self.sources).is_empty()
    }

    /// The node of a type; `None` if its source cannot decode it (corrupt, or not in the dump).
    pub fn get(&self, id: TypeId) -> Option<Arc<Type>> {
        if id.source == TypeId::BUILTIN {
            return read(&self.made).nodes.get(id.local as usize).cloned();
        }
        // a struct is completed after it was first asked for, when it points at itself
        if let Some(own) = self.synthetic.get().filter(|own| own.is(id.source)) {
            return own.get(id.local).map(Arc::new);
        }
        let shard = self.cache.get(id.local as usize % SHARDS)?;
        if let Some(node) = read(shard).get(&id) {
            return Some(node.clone());
        }
        let source = self.source(id.source)?;
        let Some(node) = source.get(id.local) else {
            self.missed.node(&*source);
            return None;
        };
        Some(write(shard).entry(id).or_insert(Arc::new(node)).clone())
    }

    /// Every type of that name in the first source that has a complete one, else the declarations that there are.
    pub fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        if self.preferred.load(Ordering::Relaxed)
            && let Some(own) = self.synthetic.get()
        {
            let found = own.find(tag, name);
            if !found.is_empty() {
                return found;
            }
        }
        self.find_in(&self.sources(), tag, name)
    }

    /// Like [`Types::find`], for structures that are asked for by a program and not by a person: whether one exists is
    /// then for the kernel's BTF to say, if there is one and all of it, and a whole DWARF index is not made to hear the
    /// same again.
    pub fn find_own(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        self.find_in(&self.own_sources(), tag, name)
    }

    fn find_in(&self, sources: &[Arc<dyn TypeSource>], tag: Tag, name: &str) -> Vec<TypeId> {
        let declared = |id: &TypeId| matches!(self.get(*id).as_deref(), Some(Type::Forward { .. }) | None);
        let mut found = Vec::new();
        for source in sources {
            found.extend(source.find(tag, name));
            if !found.iter().all(declared) {
                break;
            }
        }
        if found.iter().all(declared) {
            self.missed.name(sources, name);
        }
        found.sort_by_key(declared);
        found
    }

    /// The sources without those that are made of DWARF, if the kernel's BTF is there and whole.
    fn own_sources(&self) -> Vec<Arc<dyn TypeSource>> {
        let mut sources = self.sources();
        if self.btf().is_some_and(|btf| btf.damage().is_none()) {
            sources.retain(|s| Arc::clone(s).as_btf().is_some());
        }
        sources
    }

    /// The value of an enumerator.
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.enumerator_in(&self.sources(), name)
    }

    fn enumerator_in(&self, sources: &[Arc<dyn TypeSource>], name: &str) -> Option<i64> {
        let found = sources.iter().find_map(|s| s.enumerator(name));
        if found.is_none() {
            self.missed.name(sources, name);
        }
        found
    }

    /// The value of an enumerator, asked as in [`Types::find_own`].
    pub fn enumerator_own(&self, name: &str) -> Option<i64> {
        self.enumerator_in(&self.own_sources(), name)
    }

    /// Declared type of a global variable.
    pub fn variable(&self, name: &str) -> Option<TypeId> {
        self.sources().iter().find_map(|s| s.variable(name))
    }

    /// A variable of which a type should be known has none.
    pub fn miss_variable(&self, name: &str) {
        self.missed.name(&self.sources(), name);
    }

    /// Prototype of a function.
    pub fn function(&self, name: &str) -> Option<TypeId> {
        self.sources().iter().find_map(|s| s.function(name))
    }

    /// Visits the name of every named type until `visit` returns false. A name in two sources comes twice.
    pub fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        self.each_name_in(&self.sources(), visit);
    }

    fn each_name_in(&self, sources: &[Arc<dyn TypeSource>], visit: &mut dyn FnMut(Tag, &str) -> bool) {
        let mut more = true;
        self.missed.list(sources);
        for source in sources {
            source.each_name(&mut |tag, name| {
                more = visit(tag, name);
                more
            });
            if !more {
                return;
            }
        }
    }

    /// [`Types::each_name`], of the sources that [`Types::find_own`] asks.
    pub fn each_own_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        self.each_name_in(&self.own_sources(), visit);
    }

    /// Lets `told` know of everything that is asked for from now on, is not found, and may be lost.
    pub fn tell_misses(&self, told: impl Fn(Missed<'_>) + Send + Sync + 'static) {
        self.missed.tell(Box::new(told));
    }

    /// Every complete type of that name in any of the sources that [`Types::find_own`] asks: the kernel and each module
    /// may have one of their own.
    pub fn find_everywhere(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let complete = |id: &TypeId| !matches!(self.get(*id).as_deref(), Some(Type::Forward { .. }) | None);
        self.own_sources().iter().flat_map(|source| source.find(tag, name)).filter(complete).collect()
    }

    /// The id of a type that belongs to no source; equal types get equal ids.
    pub fn make(&self, node: Type) -> TypeId {
        if let Some(&local) = read(&self.made).ids.get(&node) {
            return TypeId { source: TypeId::BUILTIN, local };
        }
        let mut made = write(&self.made);
        let next = made.nodes.len() as u32;
        let node = Arc::new(node);
        let local = *made.ids.entry(node.clone()).or_insert(next);
        if local == next {
            made.nodes.push(node);
        }
        TypeId { source: TypeId::BUILTIN, local }
    }

    /// `to *`
    pub fn pointer_to(&self, to: TypeId) -> TypeId {
        self.make(Type::Pointer { to })
    }

    /// `elem [count]`
    pub fn array_of(&self, elem: TypeId, count: Option<u64>) -> TypeId {
        self.make(Type::Array { elem, count })
    }

    /// The fixed-width integer of `size` bytes (1, 2, 4 or 8): `s8` … `u64`.
    pub fn int(&self, size: u32, signed: bool) -> Option<TypeId> {
        let name = match (size, signed) {
            (1, true) => "signed char",
            (1, false) => "unsigned char",
            (2, true) => "short",
            (2, false) => "unsigned short",
            (4, true) => "int",
            (4, false) => "unsigned int",
            (8, true) => "long",
            (8, false) => "unsigned long",
            _ => return None,
        };
        base::ctype(name).map(|node| self.make(node))
    }

    /// The type behind typedefs, qualifiers and tags. In a loop of those, wherever the bound is met.
    pub fn strip(&self, id: TypeId) -> TypeId {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            match self.get(at).as_deref() {
                Some(Type::Typedef { to, .. } | Type::Qualified { to, .. }) => at = *to,
                _ => break,
            }
        }
        at
    }

    /// [`strip`](Self::strip), then the definition if what is left is only a declaration, with its node.
    pub fn resolve(&self, id: TypeId) -> Option<(TypeId, Arc<Type>)> {
        let bare = self.strip(id);
        let node = self.get(bare)?;
        let Type::Forward { tag, name } = &*node else { return Some((bare, node)) };
        let complete = |&id: &TypeId| !matches!(self.get(id).as_deref(), Some(Type::Forward { .. }) | None);
        let known: Vec<_> = self.find(*tag, name).into_iter().filter(complete).collect();
        // A declaration in a module means the module's own type where both it and the kernel define that name.
        let best = known.iter().find(|t| t.source == id.source).or(known.first());
        match best.and_then(|&t| Some((t, self.get(t)?))) {
            Some(found) => Some(found),
            None => Some((bare, node)),
        }
    }

    /// Size in bytes. `None` for `void`, functions, declarations without a body, and what cannot be decoded. A
    /// flexible array has size 0.
    pub fn size_of(&self, id: TypeId) -> Option<u64> {
        let (mut at, mut times) = (id, 1u64);
        for _ in 0..MAX_DEPTH {
            let (_, node) = self.resolve(at)?;
            let one = match &*node {
                Type::Int { size, .. } | Type::Float { size, .. } | Type::Enum { size, .. } => u64::from(*size),
                Type::Pointer { .. } => 8,
                Type::Struct { size, .. } => *size,
                Type::Array { elem, count } => {
                    times = times.checked_mul(count.unwrap_or(0))?;
                    at = *elem;
                    continue;
                }
                _ => return None,
            };
            return times.checked_mul(one);
        }
        None
    }

    /// Where `path` lies in `ty`: members by name, also those of anonymous structs and unions, and constant indices,
    /// as in `a.b[3].c` (a leading index is fine if `ty` is an array). Pointers are not followed. Indices are not
    /// checked against the length, as the kernel declares many an array `[0]` or `[1]`.
    pub fn member(&self, ty: TypeId, path: &str) -> Option<Place> {
        let mut place = Place { ty, bit_offset: 0, bit_size: None };
        for step in steps(path)? {
            let (_, node) = self.resolve(place.ty)?;
            place = match (step, &*node) {
                (Step::Index(i), Type::Array { elem, .. }) => {
                    let bits = self.size_of(*elem)?.checked_mul(8)?.checked_mul(i)?;
                    Place { ty: *elem, bit_offset: place.bit_offset.checked_add(bits)?, bit_size: None }
                }
                (Step::Name(name), Type::Struct { .. }) => {
                    let inner = self.find_member(&node, name, &mut HashSet::new(), MAX_DEPTH);
                    let inner = inner.or_else(|| {
                        self.missed.member(&node, name);
                        None
                    })?;
                    Place { bit_offset: place.bit_offset.checked_add(inner.bit_offset)?, ..inner }
                }
                _ => return None,
            };
        }
        Some(place)
    }

    /// Searches one struct, then its anonymous members. `seen` keeps a struct that contains itself, or one struct
    /// used in many anonymous members, from being searched again.
    fn find_member(&self, node: &Type, name: &str, seen: &mut HashSet<TypeId>, depth: usize) -> Option<Place> {
        let Type::Struct { members, .. } = node else { return None };
        if let Some(m) = members.iter().find(|m| &*m.name == name) {
            return Some(Place { ty: m.ty, bit_offset: m.bit_offset, bit_size: m.bit_size });
        }
        let depth = depth.checked_sub(1)?;
        members.iter().filter(|m| m.name.is_empty()).find_map(|m| {
            let (id, inner) = self.resolve(m.ty)?;
            if !seen.insert(id) {
                return None;
            }
            let found = self.find_member(&inner, name, seen, depth)?;
            Some(Place { bit_offset: m.bit_offset.checked_add(found.bit_offset)?, ..found })
        })
    }

    /// The alignment of a type in bytes, as the compiler would choose it; 1 of what has none.
    pub fn align_of(&self, id: TypeId) -> u64 {
        self.align(id, &mut HashSet::new(), MAX_DEPTH)
    }

    /// `seen` keeps a struct from being looked at again: its alignment was taken into account where it was met first.
    fn align(&self, id: TypeId, seen: &mut HashSet<TypeId>, depth: usize) -> u64 {
        let Some(depth) = depth.checked_sub(1) else { return 1 };
        let Some((id, node)) = self.resolve(id) else { return 1 };
        match &*node {
            Type::Int { size, .. } | Type::Float { size, .. } | Type::Enum { size, .. } => {
                u64::from((*size).clamp(1, 16))
            }
            Type::Pointer { .. } => 8,
            Type::Array { elem, .. } => self.align(*elem, seen, depth),
            Type::Struct { members, .. } if seen.insert(id) => {
                members.iter().map(|m| self.align(m.ty, seen, depth)).max().unwrap_or(1)
            }
            _ => 1,
        }
    }

    /// The members a user may name directly in `ty`, with those of anonymous structs and unions in their place.
    pub fn members(&self, ty: TypeId) -> Vec<(Arc<str>, Place)> {
        let mut out = Vec::new();
        if let Some((id, node)) = self.resolve(ty) {
            self.flatten(&node, 0, &mut HashSet::from([id]), MAX_DEPTH, &mut out);
        }
        out
    }

    fn flatten(
        &self,
        node: &Type,
        base: u64,
        open: &mut HashSet<TypeId>,
        depth: usize,
        out: &mut Vec<(Arc<str>, Place)>,
    ) {
        let Type::Struct { members, .. } = node else { return };
        for m in members.iter() {
            let bit_offset = base.saturating_add(m.bit_offset);
            if !m.name.is_empty() {
                out.push((m.name.clone(), Place { ty: m.ty, bit_offset, bit_size: m.bit_size }));
                continue;
            }
            let Some((id, inner)) = self.resolve(m.ty) else { continue };
            // An anonymous type is used once in C; one met twice is damage, and would multiply.
            if depth > 0 && open.insert(id) {
                self.flatten(&inner, bit_offset, open, depth - 1, out);
            }
        }
    }

    /// Why [`member`](Self::member) found nothing: the first step that fails, and what there is instead.
    pub fn explain_member(&self, ty: TypeId, path: &str) -> String {
        let Some(all) = steps(path) else { return format!("`{path}` is no member path") };
        let mut at = ty;
        for step in all {
            let text = match step {
                Step::Name(name) => name.to_owned(),
                Step::Index(i) => format!("[{i}]"),
            };
            if let Some(place) = self.member(at, &text) {
                at = place.ty;
                continue;
            }
            let spelled = self.spell(at);
            let names: Vec<_> = self.members(at).into_iter().map(|(name, _)| name).collect();
            return match step {
                Step::Index(_) => format!("`{spelled}` is not an array of known element size"),
                Step::Name(_) if names.is_empty() => format!("`{spelled}` has no members"),
                Step::Name(name) => format!("`{spelled}` has no member `{name}`; it has {}", names.join(", ")),
            };
        }
        format!("`{}` has `{path}`", self.spell(ty))
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(u64),
}

/// Splits `a.b[3].c`; `None` if it is malformed.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut out = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        let name = name.trim();
        match name.is_empty() {
            false => out.push(Step::Name(name)),
            // only `[1].x` may begin without a name
            true if out.is_empty() && !rest.is_empty() => {}
            true => return None,
        }
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            out.push(Step::Index(number(index.trim())?));
            rest = after.trim_start();
        }
    }
    Some(out)
}

/// A C number: decimal or `0x…`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests;
