//! Types that the user makes: `::typedef`. They live beside those of the target and are laid out as the compiler would.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::catalog::Types;
use crate::types::{Member, SourceId, Tag, Type, TypeId, TypeSource};

/// The most types that are made.
const MOST: usize = 100_000;

/// The types that were made.
pub struct Synthetic {
    id: SourceId,
    made: RwLock<Made>,
}

#[derive(Default)]
struct Made {
    /// never taken away: an id stays what it was
    nodes: Vec<Type>,
    /// those that can be found, in the order in which they were made
    names: Vec<(Tag, Arc<str>, u32)>,
    /// what was typed for them
    texts: Vec<String>,
}

/// How wide C's integers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// `long` has 4 bytes
    Ilp32,
    /// `long` has 8 bytes
    Lp64,
}

impl Model {
    /// `LP64`, `LP32` or `ILP32`, in any case.
    pub fn named(text: &str) -> Option<Model> {
        match text.to_ascii_lowercase().as_str() {
            "lp64" => Some(Model::Lp64),
            "lp32" | "ilp32" => Some(Model::Ilp32),
            _ => None,
        }
    }
}

/// A member as it was declared: its name, its type, and its width if it is a bit-field.
pub type Declared = (String, TypeId, Option<u32>);

impl Synthetic {
    pub(crate) fn new(id: SourceId) -> Synthetic {
        Synthetic { id, made: RwLock::default() }
    }

    /// Whether that is the number of this source.
    pub(crate) fn is(&self, id: SourceId) -> bool {
        self.id == id
    }

    // a panic elsewhere leaves lists that are whole
    fn read(&self) -> RwLockReadGuard<'_, Made> {
        self.made.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Made> {
        self.made.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a type that can be found by its name.
    pub fn add(&self, tag: Tag, name: &str, node: Type) -> Result<TypeId, String> {
        let id = self.add_unnamed(node)?;
        self.write().names.push((tag, name.into(), id.local));
        Ok(id)
    }

    /// Adds a type that only others refer to.
    pub fn add_unnamed(&self, node: Type) -> Result<TypeId, String> {
        let mut made = self.write();
        if made.nodes.len() >= MOST {
            return Err(format!("more than {MOST} types have been made"));
        }
        made.nodes.push(node);
        Ok(TypeId { source: self.id, local: made.nodes.len() as u32 - 1 })
    }

    /// Fills in a struct that was added before its members were known, so that they may point at it.
    pub fn complete(&self, id: TypeId, node: Type) {
        if let Some(slot) = self.write().nodes.get_mut(id.local as usize) {
            *slot = node;
        }
    }

    /// Forgets the last type that was added by a name: its definition failed.
    pub fn forget(&self, tag: Tag, name: &str) {
        self.write().names.retain(|(t, n, _)| !(*t == tag && **n == *name));
    }

    /// Remembers what was typed, to be written to a file.
    pub fn keep(&self, text: String) {
        self.write().texts.push(text);
    }

    /// What was typed.
    pub fn texts(&self) -> Vec<String> {
        self.read().texts.clone()
    }

    /// The names of all types, as C spells them.
    pub fn list(&self) -> Vec<String> {
        let spelled = |(tag, name, _): &(Tag, Arc<str>, u32)| match tag {
            Tag::Struct => format!("struct {name}"),
            Tag::Union => format!("union {name}"),
            Tag::Enum => format!("enum {name}"),
            Tag::Name => name.to_string(),
        };
        self.read().names.iter().map(spelled).collect()
    }

    /// Forgets all types. What still refers to one keeps it.
    pub fn clear(&self) {
        let mut made = self.write();
        made.names.clear();
        made.texts.clear();
    }

    /// Makes C's base types and the usual names of fixed width for a data model. Pointers stay those of the target.
    pub fn add_base(&self, model: Model) -> Result<(), String> {
        let long = if model == Model::Lp64 { 8 } else { 4 };
        let ints: &[(&str, u32, bool)] = &[
            ("signed", 4, true),
            ("unsigned", 4, false),
            ("char", 1, true),
            ("short", 2, true),
            ("int", 4, true),
            ("long", long, true),
            ("long long", 8, true),
            ("signed char", 1, true),
            ("signed short", 2, true),
            ("signed int", 4, true),
            ("signed long", long, true),
            ("signed long long", 8, true),
            ("unsigned char", 1, false),
            ("unsigned short", 2, false),
            ("unsigned int", 4, false),
            ("unsigned long", long, false),
            ("unsigned long long", 8, false),
            ("_Bool", 1, false),
        ];
        for &(name, size, signed) in ints {
            let (char, boolean) = (name.ends_with("char"), name == "_Bool");
            self.add(Tag::Name, name, Type::Int { name: name.into(), size, signed, char, boolean })?;
        }
        for (name, size) in [("float", 4), ("double", 8), ("long double", 16)] {
            self.add(Tag::Name, name, Type::Float { name: name.into(), size })?;
        }
        let wide = if model == Model::Lp64 { "long" } else { "int" };
        let unsigned = if model == Model::Lp64 { "unsigned long" } else { "unsigned int" };
        let typedefs: &[(&str, &str)] = &[
            ("int8_t", "signed char"),
            ("int16_t", "short"),
            ("int32_t", "int"),
            ("int64_t", "long long"),
            ("intptr_t", wide),
            ("uint8_t", "unsigned char"),
            ("uint16_t", "unsigned short"),
            ("uint32_t", "unsigned int"),
            ("uint64_t", "unsigned long long"),
            ("uchar_t", "unsigned char"),
            ("ushort_t", "unsigned short"),
            ("uint_t", "unsigned int"),
            ("ulong_t", "unsigned long"),
            ("u_longlong_t", "unsigned long long"),
            ("ptrdiff_t", wide),
            ("uintptr_t", unsigned),
        ];
        for &(name, of) in typedefs {
            let to = self.find(Tag::Name, of).first().copied().unwrap_or(TypeId::VOID);
            self.add(Tag::Name, name, Type::Typedef { name: name.into(), to })?;
        }
        Ok(())
    }
}

impl TypeSource for Synthetic {
    fn is_of_target(&self) -> bool {
        false
    }

    fn get(&self, local: u32) -> Option<Type> {
        self.read().nodes.get(local as usize).cloned()
    }

    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let made = self.read();
        let found = made.names.iter().filter(|(t, n, _)| *t == tag && **n == *name);
        found.map(|(.., local)| TypeId { source: self.id, local: *local }).collect()
    }

    fn enumerator(&self, _: &str) -> Option<i64> {
        None
    }

    fn variable(&self, _: &str) -> Option<TypeId> {
        None
    }

    fn function(&self, _: &str) -> Option<TypeId> {
        None
    }

    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        let names: Vec<_> = self.read().names.iter().map(|(tag, name, _)| (*tag, name.clone())).collect();
        let _ = names.iter().all(|(tag, name)| visit(*tag, name));
    }
}

/// No member is larger.
const LARGEST: u64 = 1 << 32;

/// A struct or union laid out as the compiler does it.
pub fn lay_out(types: &Types, name: Option<&str>, union: bool, declared: &[Declared]) -> Result<Type, String> {
    let (mut members, mut at, mut widest, mut largest) = (Vec::new(), 0u64, 1u64, 0u64);
    for (member, ty, bits) in declared {
        let flexible = matches!(types.get(types.strip(*ty)).as_deref(), Some(Type::Array { count: Some(0), .. }));
        let size = types.size_of(*ty).filter(|size| *size > 0 || flexible);
        let size = size.ok_or_else(|| format!("the size of `{}` is not known", types.spell(*ty)))?;
        if size > LARGEST {
            return Err(format!("`{member}` would have {size:#x} bytes"));
        }
        let align = types.align_of(*ty).max(1);
        widest = widest.max(align);
        let (unit, begin) = (size * 8, if union { 0 } else { at });
        let start = match bits {
            // a bit-field never crosses a unit of its type
            Some(bits) if begin % unit + u64::from(*bits) > unit => begin.next_multiple_of(align * 8),
            Some(_) => begin,
            None => begin.next_multiple_of(align * 8),
        };
        let end = start + bits.map_or(unit, u64::from);
        (at, largest) = (end, largest.max(end));
        if bits.is_none_or(|bits| bits > 0) {
            members.push(Member { name: member.as_str().into(), ty: *ty, bit_offset: start, bit_size: *bits });
        } else {
            at = start.next_multiple_of(align * 8);
        }
    }
    let size = largest.max(at).div_ceil(8).next_multiple_of(widest);
    Ok(Type::Struct { name: name.map(Into::into), size, union, members: members.into() })
}
