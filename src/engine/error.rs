//! What can go wrong, in words that name the place and the way on.
//!
//! Bad *data* is not an error: it is a cell that says `unreadable: …`, or a [note](crate::notes). An error is a
//! question that could not be asked or answered.

use crate::lang::{SyntaxError, ast::Span, eval::EvalError};
use targets::ReadError;

/// Result of anything in the pipe.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which a command fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Memory that could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No symbol table knows the name.
    #[error("no symbol `{0}`")]
    NoSymbol(String),
    /// No type source knows the name.
    #[error("no type `{0}`")]
    NoType(String),
    /// A struct lacks every member that was asked for.
    #[error("`{ctype}` has no member `{}`", members.join("` nor `"))]
    NoMember {
        /// the C spelling of the type
        ctype: String,
        /// the spellings that were tried
        members: Vec<String>,
    },
    /// No such dcmd.
    #[error("no dcmd named `{0}`")]
    NoDcmd(String),
    /// No such walker.
    #[error("no walker named `{0}`")]
    NoWalker(String),
    /// A line that is not in the language.
    #[error("syntax error: {message}")]
    Syntax {
        /// where, in the line that was typed
        span: Span,
        /// what is wrong
        message: String,
        /// what would be right
        hint: Option<String>,
    },
    /// An expression without a value.
    #[error("{message}")]
    Value {
        /// where, in the line that was typed
        span: Span,
        /// why it has none
        message: String,
        /// what to write instead
        hint: Option<String>,
        /// the reason, if it is memory that cannot be read
        unreadable: Option<String>,
    },
    /// An error in a text of the language that is an argument of another: its places are not those of the typed line.
    #[error("in `{text}`: {source}")]
    Nested {
        /// the argument
        text: String,
        /// what is wrong with it
        source: Box<Error>,
    },
    /// A dcmd called with arguments that it does not take.
    #[error("{0}")]
    Usage(String),
    /// Macros, files or `::eval` that run each other without an end.
    #[error("commands nested deeper than {0}")]
    TooDeep(u32),
    /// Something about the target that makes the answer impossible.
    #[error("{0}")]
    Unavailable(String),
    /// A structure that contradicts itself.
    #[error("{what} at {addr:#x}")]
    Corrupt {
        /// where
        addr: u64,
        /// what is wrong with it
        what: String,
    },
    /// An error with what was being done when it came up.
    #[error("while {doing}: {source}")]
    While {
        /// `walking the slabs of kmalloc-64`
        doing: String,
        /// the reason
        source: Box<Error>,
    },
    /// An error with advice.
    #[error("{source}")]
    Hinted {
        /// what to do about it
        hint: String,
        /// the error
        source: Box<Error>,
    },
    /// Input or output of the program itself.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Whoever is downstream wants no more items. Never shown.
    #[error("stop")]
    Stop,
    /// `::quit`, with the exit status. Never shown.
    #[error("quit")]
    Quit(u8),
}

impl Error {
    /// Whether the error only steers the pipeline and must pass through untouched.
    pub fn is_control(&self) -> bool {
        matches!(self, Error::Stop | Error::Interrupted | Error::Quit(_))
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Error {
        Error::Hinted { hint: hint.into(), source: Box::new(self) }
    }

    /// The advice nearest to the surface, if any.
    pub fn advice(&self) -> Option<&str> {
        match self {
            Error::Hinted { hint, .. } => Some(hint),
            Error::Syntax { hint, .. } | Error::Value { hint, .. } => hint.as_deref(),
            Error::While { source, .. } | Error::Nested { source, .. } => source.advice(),
            _ => None,
        }
    }

    /// Says that the error is about `text`, if it points into it.
    #[must_use]
    pub fn nested_in(self, text: &str) -> Error {
        match self.span() {
            Some(_) => Error::Nested { text: text.to_owned(), source: Box::new(self) },
            None => self,
        }
    }

    /// The place in the typed line, if the error has one.
    pub fn span(&self) -> Option<&Span> {
        match self {
            Error::Syntax { span, .. } | Error::Value { span, .. } => Some(span),
            Error::Hinted { source, .. } | Error::While { source, .. } => source.span(),
            _ => None,
        }
    }

    /// The line to show, and the place in it: the typed one, or, if the error is about a text inside of it that cannot be
    /// found there as it is (it was put together, or read from elsewhere), that text.
    pub fn place<'e>(&'e self, line: &'e str) -> Option<(&'e str, Span)> {
        match self {
            Error::Syntax { span, .. } | Error::Value { span, .. } => Some((line, span.clone())),
            Error::Hinted { source, .. } | Error::While { source, .. } => source.place(line),
            Error::Nested { text, source } => {
                let (inner, span) = source.place(text)?;
                let mut found = line.match_indices(inner);
                match (found.next(), found.next()) {
                    (Some((at, _)), None) => Some((line, span.start + at..span.end + at)),
                    _ => Some((inner, span)),
                }
            }
            _ => None,
        }
    }

    /// The reason at bottom without its place, so that equal reasons can be counted together.
    pub fn kind(&self) -> String {
        match self {
            Error::Read(e) => e.reason.to_string(),
            Error::Corrupt { what, .. } => what.clone(),
            Error::Value { unreadable: Some(reason), .. } => reason.clone(),
            Error::While { source, .. } | Error::Hinted { source, .. } | Error::Nested { source, .. } => source.kind(),
            e => e.to_string(),
        }
    }

    /// Whether the reason, at bottom, is memory that cannot be read: a fact about the dump, not about the question.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Error::Read(_) | Error::Corrupt { .. } | Error::Value { unreadable: Some(_), .. } => true,
            Error::While { source, .. } | Error::Hinted { source, .. } | Error::Nested { source, .. } => {
                source.is_unreadable()
            }
            _ => false,
        }
    }
}

/// Adds what was being done to an error.
pub trait Doing<T> {
    /// Wraps an error, unless it only steers the pipeline.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| match e.into() {
            e if e.is_control() => e,
            e => Error::While { doing: what(), source: Box::new(e) },
        })
    }
}

impl From<SyntaxError> for Error {
    fn from(e: SyntaxError) -> Error {
        let message = match e.expected.as_slice() {
            [] => e.message,
            expected => format!("{}; expected {}", e.message, expected.join(" or ")),
        };
        Error::Syntax { span: e.span, message, hint: e.hint }
    }
}

impl From<EvalError> for Error {
    fn from(e: EvalError) -> Error {
        let unreadable = match &e {
            EvalError::Read { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        Error::Value { span: e.span().clone(), message: e.to_string(), hint: e.hint(), unreadable }
    }
}
