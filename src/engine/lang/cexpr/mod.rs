//! C expressions over rows and typed objects: what `::where` and `::grep`-like stages ask.
//!
//! ```console
//! > ::walk dentry | ::where 'd_lockref.count == 0 && d_name.name =~ "^lib"'
//! > ::ps | ::where 'pid > 1000 && state != "S"'
//! > ::walk task | ::where '((struct cred *)real_cred)->uid.val == 0 && mm != NULL'
//! ```
//!
//! Here C's rules hold, not mdb's: `10` is ten, `/` divides, arithmetic follows C's integer promotions (so that
//! `flags == -1` is true of an unsigned 32-bit `0xffffffff`), precedence is C's (mind `flags & 4 == 4`, which is
//! `flags & (4 == 4)`). Who asks about C members thinks in C.
//!
//! Beyond C: mdb's prefixes `0t 0o 0i` and `_` in numbers, `=~` and `!~` match a regular expression, `==` and `<` compare
//! texts, `.` alone is the item itself, `.name` is its member, a backtick scopes a symbol. A C octal such as `010`
//! is refused, because half of its readers take it for ten. There is no `?:`, no assignment, no call, no float.
//!
//! What cannot be read is neither true nor false: [`Truth::Unknown`] tells the caller to skip the item and count it.
//! A cell that has nothing to say ([`CValue::Null`]) is equal to nothing but `NULL`, and false.

mod eval;
mod int;
mod parse;
#[cfg(test)]
mod tests;

pub use eval::{CError, CScope, CValue, Truth, eval, test};
pub use int::CInt;
pub use parse::parse;

use super::ast::{Span, Word, WordKind};
use regex::Regex;

/// A node with the place it was written at.
#[derive(Clone, Debug)]
pub struct CExpr {
    /// what
    pub kind: CKind,
    /// where
    pub span: Span,
}

/// The kinds of nodes.
#[derive(Clone, Debug)]
pub enum CKind {
    /// a number or a character constant
    Int(CInt),
    /// `"text"`
    Str(String),
    /// `NULL`
    Null,
    /// `.`
    This,
    /// a column, a member of the item, an enumerator or a symbol
    Name(String),
    /// `sizeof(type)`
    Sizeof(String),
    /// `(type)expr`
    Cast(String, Box<CExpr>),
    /// a prefix operator
    Unary(CUnary, Box<CExpr>),
    /// an infix operator
    Binary(CBinary, Box<CExpr>, Box<CExpr>),
    /// `=~` or, negated, `!~`
    Match {
        /// the text
        text: Box<CExpr>,
        /// the pattern
        regex: Regex,
        /// `!~`
        negated: bool,
    },
    /// `base.name` or `base->name`
    Member {
        /// of what
        base: Box<CExpr>,
        /// the member
        name: String,
        /// `->`
        arrow: bool,
    },
    /// `base[index]`
    Index(Box<CExpr>, Box<CExpr>),
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CUnary {
    Not,
    BitNot,
    Neg,
    Plus,
    Deref,
    AddressOf,
}

/// Infix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CBinary {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Shl,
    Shr,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl CBinary {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            CBinary::Or => "||",
            CBinary::And => "&&",
            CBinary::BitOr => "|",
            CBinary::BitXor => "^",
            CBinary::BitAnd => "&",
            CBinary::Eq => "==",
            CBinary::Ne => "!=",
            CBinary::Lt => "<",
            CBinary::Le => "<=",
            CBinary::Gt => ">",
            CBinary::Ge => ">=",
            CBinary::Shl => "<<",
            CBinary::Shr => ">>",
            CBinary::Add => "+",
            CBinary::Sub => "-",
            CBinary::Mul => "*",
            CBinary::Div => "/",
            CBinary::Rem => "%",
        }
    }
}

/// The expression that argument words make: the text of a lone word (`'a == "b"'`), else the words as they were written
/// (`a == "b"`), so that both ways of quoting mean the same.
pub fn text_of(words: &[Word]) -> String {
    match words {
        [Word { kind: WordKind::Text(text), .. }] => text.clone(),
        words => words.iter().map(|word| word.raw.as_str()).collect::<Vec<_>>().join(" "),
    }
}
