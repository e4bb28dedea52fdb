//! The model of C types that BTF and DWARF are both turned into, one node at a time and on demand.
//!
//! A [`TypeId`] is cheap to copy and names a node of one source; [`TypeSource::get`] decodes that node. References
//! inside a node are `TypeId`s again, so a module's BTF can point into the kernel's.

use std::sync::Arc;

/// Which of a session's type sources a [`TypeId`] belongs to.
pub type SourceId = u16;

/// A type: the number of its source and its place there (a BTF id, a DWARF offset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId {
    /// the source, as numbered by the session; [`TypeId::BUILTIN`] for types that belong to none
    pub source: SourceId,
    /// a BTF type id or an offset into `.debug_info`
    pub local: u32,
}

impl TypeId {
    /// Source number of types that the session makes itself (pointers to a type, arrays, base types).
    pub const BUILTIN: SourceId = SourceId::MAX;

    /// `void`, which has no node of its own in BTF or DWARF: every source refers to this one.
    pub const VOID: TypeId = TypeId { source: TypeId::BUILTIN, local: 0 };
}

/// The namespace a named type lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// `struct name`
    Struct,
    /// `union name`
    Union,
    /// `enum name`
    Enum,
    /// a typedef or a base type
    Name,
}

/// A member of a struct or union, or a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// empty for an anonymous member
    pub name: Arc<str>,
    /// its type; of a bit-field, the declared type
    pub ty: TypeId,
    /// from the start of the containing type, in bits
    pub bit_offset: u64,
    /// width of a bit-field in bits
    pub bit_size: Option<u32>,
}

/// One enumerator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnumValue {
    /// as declared
    pub name: Arc<str>,
    /// sign-extended to 64 bits if the enum is signed
    pub value: i64,
}

/// One node of a type: enough to size, read and print a value, and to spell the type in C.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `void`
    Void,
    /// An integer. `char` marks the plain, signed and unsigned char types; `boolean` marks `_Bool`.
    Int {
        /// `unsigned int`, …
        name: Arc<str>,
        /// bytes
        size: u32,
        /// two's complement
        signed: bool,
        /// prints as a character
        char: bool,
        /// `_Bool`
        boolean: bool,
    },
    /// A floating point number of `size` bytes.
    Float {
        /// `double`, …
        name: Arc<str>,
        /// bytes
        size: u32,
    },
    /// A pointer.
    Pointer {
        /// what it points at
        to: TypeId,
    },
    /// `count` elements; `None` for a flexible or unsized array. A matrix is an array of arrays.
    Array {
        /// type of one element
        elem: TypeId,
        /// number of elements
        count: Option<u64>,
    },
    /// A struct (or union, if `union`).
    Struct {
        /// `None` if anonymous
        name: Option<Arc<str>>,
        /// bytes
        size: u64,
        /// whether all members start at 0
        union: bool,
        /// in declaration order
        members: Arc<[Member]>,
    },
    /// An enumeration.
    Enum {
        /// `None` if anonymous
        name: Option<Arc<str>>,
        /// bytes
        size: u32,
        /// whether values are sign-extended
        signed: bool,
        /// in declaration order
        values: Arc<[EnumValue]>,
    },
    /// A function (what a function pointer points at).
    Func {
        /// result
        ret: TypeId,
        /// in order; `bit_offset` is meaningless
        params: Arc<[Member]>,
        /// ends in `...`
        variadic: bool,
    },
    /// A name for a type.
    Typedef {
        /// the new name
        name: Arc<str>,
        /// the type it stands for
        to: TypeId,
    },
    /// `const`, `volatile`, `restrict`, a BTF type tag: a type that only decorates another.
    Qualified {
        /// `const`, `volatile`, `restrict`, `_Atomic` or a tag
        qualifier: Arc<str>,
        /// the decorated type
        to: TypeId,
    },
    /// A declaration without a body in this source.
    Forward {
        /// struct, union or enum
        tag: Tag,
        /// its name
        name: Arc<str>,
    },
}

/// A source of types and of what they are attached to.
pub trait TypeSource: Send + Sync {
    /// Decodes one node. `None` if `local` names none (corrupt data, or a hole in the dump).
    fn get(&self, local: u32) -> Option<Type>;
    /// Every type of that name in that namespace, complete ones first. More than one where files disagree.
    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId>;
    /// The value of an enumerator, wherever it is declared.
    fn enumerator(&self, name: &str) -> Option<i64>;
    /// Declared type of a global variable.
    fn variable(&self, name: &str) -> Option<TypeId>;
    /// Prototype of a function: a [`Type::Func`].
    fn function(&self, name: &str) -> Option<TypeId>;
    /// Visits the name of every named type until `visit` returns false.
    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool);
    /// Whether something of that name may be among what this source has lost. Said only of what it does not find.
    fn may_lack(&self, _name: &str) -> bool {
        false
    }
    /// Whether part of the source is lost, so that a list of its names is not one of all, and nodes are missing.
    fn is_holed(&self) -> bool {
        false
    }
    /// Whether it is part of the target: what a user made is not.
    fn is_of_target(&self) -> bool {
        true
    }
    /// The source as BTF, if it is that: what the BTF of modules continues.
    fn as_btf(self: Arc<Self>) -> Option<Arc<crate::btf::Btf>> {
        None
    }
}
