//! A C value as a tree: what `::print` shows and what JSON says.
//!
//! A tree is made by [`cprint`](crate::cprint) and knows all that its text needs, so that a renderer asks nothing of
//! the target: `tree.to_text()` is mdb's layout, `tree.to_json()` is for programs.

use crate::item::Object;
use debuginfo::TypeId;
use std::sync::Arc;

/// Name of the pseudo-member that a gap between members is shown as.
pub const HOLE: &str = "<<HOLE>>";

/// A value with how it is to be shown.
#[derive(Clone, Debug)]
pub struct Tree {
    /// where it lies and what it is
    pub object: Object,
    /// dot for the next stage, if that is not the object: what a pointer points at, what a number says
    pub passes: Option<Object>,
    /// spelling of its type: `struct dentry`
    pub ctype: String,
    /// what was asked for: `d_name.name`, with the sign (`.`, `->`) that its own members are joined with
    pub path: Option<(String, &'static str)>,
    /// the value
    pub root: Node,
    /// how it is shown
    pub style: Style,
}

/// How a tree is shown as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// the declared type before each name
    pub types: bool,
    /// the type behind a typedef too, as `<<base>>`
    pub bases: bool,
    /// the address before each line
    pub addresses: bool,
    /// how integers are shown
    pub radix: Radix,
    /// only names and types, as nothing is known of the values
    pub layout: bool,
}

/// How integers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Radix {
    /// hexadecimal, but enums and signed bit-fields in decimal
    #[default]
    Natural,
    /// all in decimal, as `0t42`
    Decimal,
    /// all in hexadecimal
    Hex,
}

/// A value with its name in the value around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// empty for elements of arrays and for anonymous members
    pub name: Arc<str>,
    /// address of its first byte
    pub addr: u64,
    /// its first bit in that byte
    pub bit: u8,
    /// width in bits, if it is a bit-field
    pub bits: Option<u32>,
    /// its declared type
    pub ctype: TypeId,
    /// the spelling of that type; made only if the style shows it
    pub spelled: Option<Box<str>>,
    /// the value
    pub value: Value,
}

/// A C value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// not asked for: only the layout is shown
    Absent,
    /// an integer: its bits, zero-extended
    Int {
        /// the bits
        raw: u64,
        /// how many
        bits: u32,
        /// two's complement
        signed: bool,
        /// a bit-field proper: one that no plain integer could be
        field: bool,
    },
    /// a floating point number
    Float(f64),
    /// a plain `char`
    Char(u8),
    /// an enumeration
    Enum {
        /// sign-extended if the enum is signed
        value: i64,
        /// size in bits
        bits: u32,
        /// the enumerator, or the flags as `A|B`; `None` if there is none of that value
        name: Option<Box<str>>,
        /// the enumerators are flags
        flags: bool,
    },
    /// a pointer, to data or to a function
    Pointer {
        /// where it points
        to: u64,
        /// `symbol+0x1c`
        symbol: Option<Box<str>>,
        /// what a `char *` points at
        text: Option<Text>,
    },
    /// an array of characters that is a string
    String(Text),
    /// a value with a well-known notation: an IP address, a date
    Known(Box<str>),
    /// a struct or union
    Struct {
        /// in order of declaration, with holes if those were asked for
        members: Vec<Node>,
        /// members left out, because the tree grew too large
        more: usize,
    },
    /// an array
    Array {
        /// the first elements
        items: Vec<Node>,
        /// how many there are beyond those
        more: u64,
        /// elements are structs, unions or arrays: one a line
        tall: bool,
    },
    /// a struct or union below the depth that was asked for
    StructBelow,
    /// an array below that depth
    ArrayBelow,
    /// a struct that is only declared in the types at hand
    Declared,
    /// what could not be read, and why
    Unreadable(Box<str>),
}

/// Text of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// printable, without its NUL
    pub text: Box<str>,
    /// whether it goes on
    pub more: bool,
}

impl Node {
    /// Whether the node is a member without a name: a nested `struct { … }` or `union { … }`.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }
}
