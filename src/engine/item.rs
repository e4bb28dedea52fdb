//! What flows through the pipe: typed addresses, rows, lines of text, C values.

use crate::ctree::Tree;
use debuginfo::TypeId;

/// An address and, if known, the C type of what lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// virtual address (or plain value, where a stage passes values on)
    pub addr: u64,
    /// what lies there
    pub ctype: Option<TypeId>,
}

impl Object {
    /// An address of unknown type.
    pub fn untyped(addr: u64) -> Self {
        Object { addr, ctype: None }
    }
}

/// One item in the pipe.
#[derive(Clone, Debug)]
pub enum Item {
    /// What walkers yield.
    Object(Object),
    /// What dcmds yield.
    Row(Row),
    /// Text that has no columns: format verbs, `::help`.
    Line(String),
    /// A C value, as `::print` shows it.
    Tree(Box<Tree>),
}

impl Item {
    /// What the next stage's dot is: the object itself, a row's first address, what a value passes on.
    pub fn object(&self) -> Option<Object> {
        match self {
            Item::Object(o) => Some(*o),
            Item::Row(row) => row.subject,
            Item::Tree(tree) => Some(tree.passes.unwrap_or(tree.object)),
            Item::Line(_) => None,
        }
    }
}

/// A row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// its columns
    pub schema: &'static Schema,
    /// one cell a column
    pub cells: Vec<Cell>,
    /// dot for the next stage
    pub subject: Option<Object>,
}

/// The columns of a kind of row.
#[derive(Debug)]
pub struct Schema {
    /// in order
    pub columns: &'static [Column],
}

/// A column: its heading, its key, its help.
#[derive(Debug)]
pub struct Column {
    /// key in JSON and in `::where`
    pub name: &'static str,
    /// heading of the table
    pub heading: &'static str,
    /// help
    pub doc: &'static str,
    /// a list shown as indented lines below the row instead of in a column
    pub detail: bool,
    /// only shown in JSON and CSV
    pub hidden: bool,
    /// what its values are
    pub kind: Kind,
}

/// What the values of a column are, as JSON has them. Any of them may be null, or `{"unreadable": reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// hex string
    Addr,
    /// hex string
    Hex,
    /// number; from 2^53 on, where readers lose digits, a hex string
    Int,
    /// string; with bytes that are no UTF-8, an object of `text` and `bytes`
    Str,
    /// true or false
    Bool,
    /// one of those, by what is found
    Any,
    /// an array of them
    List(&'static Kind),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Addr => f.write_str("address"),
            Kind::Hex => f.write_str("hex"),
            Kind::Int => f.write_str("integer"),
            Kind::Str => f.write_str("string"),
            Kind::Bool => f.write_str("bool"),
            Kind::Any => f.write_str("any"),
            Kind::List(of) => write!(f, "list of {of}"),
        }
    }
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// nothing to say
    Null,
    /// shown as 16 hex digits
    Addr(u64),
    /// a number for people, in decimal
    Uint(u64),
    /// likewise
    Int(i64),
    /// a number for machines, in hex
    Hex(u64),
    /// text; may hold anything a dump holds, the renderer escapes it
    Str(String),
    /// yes or no
    Bool(bool),
    /// what could not be read, and why
    Unreadable(String),
    /// several values
    List(Vec<Cell>),
}

/// A struct whose fields are columns. Derived.
pub trait IntoRow {
    /// The columns.
    const SCHEMA: &'static Schema;
    /// The cells, in the schema's order.
    fn into_row(self) -> Row;
}

/// A value that can stand in a cell, and may be what the row is about.
pub trait IntoCell {
    /// What the values are.
    const KIND: Kind;
    /// The object the value points at.
    fn subject(&self) -> Option<Object> {
        None
    }
    /// The cell.
    fn into_cell(self) -> Cell;
}

macro_rules! cells {
    ($($t:ty => $kind:ident $variant:ident as $as:ty),*) => {$(
        impl IntoCell for $t {
            const KIND: Kind = Kind::$kind;
            fn into_cell(self) -> Cell { Cell::$variant(self as $as) }
        }
    )*};
}
cells!(u8 => Int Uint as u64, u16 => Int Uint as u64, u32 => Int Uint as u64, u64 => Int Uint as u64,
       usize => Int Uint as u64, i32 => Int Int as i64, i64 => Int Int as i64, bool => Bool Bool as bool);

impl IntoCell for String {
    const KIND: Kind = Kind::Str;
    fn into_cell(self) -> Cell {
        Cell::Str(self)
    }
}
impl IntoCell for &str {
    const KIND: Kind = Kind::Str;
    fn into_cell(self) -> Cell {
        Cell::Str(self.to_owned())
    }
}
impl IntoCell for Cell {
    const KIND: Kind = Kind::Any;
    fn into_cell(self) -> Cell {
        self
    }
}
impl IntoCell for Object {
    const KIND: Kind = Kind::Addr;
    fn subject(&self) -> Option<Object> {
        Some(*self)
    }
    fn into_cell(self) -> Cell {
        Cell::Addr(self.addr)
    }
}
/// An address that is shown but is not what the row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addr(pub u64);
impl IntoCell for Addr {
    const KIND: Kind = Kind::Addr;
    fn into_cell(self) -> Cell {
        Cell::Addr(self.0)
    }
}
/// A number shown in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);
impl IntoCell for Hex {
    const KIND: Kind = Kind::Hex;
    fn into_cell(self) -> Cell {
        Cell::Hex(self.0)
    }
}
impl<T: IntoCell> IntoCell for Option<T> {
    const KIND: Kind = T::KIND;
    fn subject(&self) -> Option<Object> {
        self.as_ref().and_then(IntoCell::subject)
    }
    fn into_cell(self) -> Cell {
        self.map_or(Cell::Null, IntoCell::into_cell)
    }
}
impl<T: IntoCell> IntoCell for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    fn into_cell(self) -> Cell {
        Cell::List(self.into_iter().map(IntoCell::into_cell).collect())
    }
}
/// A failed read shows its reason in the cell; other errors too, so that one bad field never hides a row.
impl<T: IntoCell> IntoCell for crate::Result<T> {
    const KIND: Kind = T::KIND;
    fn subject(&self) -> Option<Object> {
        self.as_ref().ok().and_then(IntoCell::subject)
    }
    fn into_cell(self) -> Cell {
        match self {
            Ok(v) => v.into_cell(),
            Err(e) => Cell::Unreadable(e.to_string()),
        }
    }
}
