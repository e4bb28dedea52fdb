//! The language: one line of text becomes a chain of stages.
//!
//! | file | knows |
//! |---|---|
//! | [`ast`] | the syntax tree |
//! | `lex` | characters: names, numbers, quotes, words |
//! | `expr` | expressions: operators and their precedence |
//! | [`parse()`] | statements, stages, format lists |
//! | `print` | the tree as text again |
//! | [`mod@eval`] | 64-bit arithmetic over a [`eval::Scope`] |
//! | [`number`] | how numbers are read and written |
//! | [`printf`] | mdb's printf dialect |
//! | [`mod@format`] | the verbs: data by format letters |
//! | [`cexpr`] | C expressions over rows and objects |
//! | `column` | fields, margins, wrapping |
//!
//! All of it is pure: what a name means or what stands in memory is asked of small traits.

pub mod ast;
pub mod cexpr;
mod column;
mod error;
pub mod eval;
mod expr;
pub mod format;
mod lex;
pub mod number;
mod parse;
mod print;
pub mod printf;

pub use error::{SyntaxError, point};
pub use eval::eval;
pub use parse::{Statements, commands, is_incomplete, parse, parse_expr};

#[cfg(test)]
mod tests;
