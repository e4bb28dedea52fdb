//! The syntax tree. It keeps spans (byte ranges of the input) so that errors can point.

use std::ops::Range;

/// A byte range of the input line.
pub type Span = Range<usize>;

/// One command: `[addr][,count] stage | stage … [! shell]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// becomes dot before the first stage runs
    pub addr: Option<Spanned<Expr>>,
    /// repeats the first stage
    pub count: Option<Spanned<Expr>>,
    /// empty for a bare expression (set dot, run the previous command again) or a lone shell command
    pub stages: Vec<Stage>,
    /// the unquoted tail `! text`, handed to the shell with the pipeline's output as its input
    pub shell: Option<String>,
    /// `!< text`: run, then read its output as commands
    pub shell_source: bool,
}

/// A node with the place it was written at.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned<T> {
    /// the node
    pub node: T,
    /// where
    pub span: Span,
}

/// One stage of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// what to do
    pub kind: StageKind,
    /// the whole stage's place
    pub span: Span,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq)]
pub enum StageKind {
    /// ``::name args`` or ``::module`name args``; also `$c args` and `:c args`, whose name keeps the sigil (`$c`)
    Dcmd {
        /// before the backtick
        module: Option<String>,
        /// without `::`
        name: String,
        /// place of the name
        name_span: Span,
        /// the words
        args: Vec<Word>,
    },
    /// `/fmt`, `\fmt`, `@fmt`, `?fmt`, `=fmt`
    Verb {
        /// which one
        verb: char,
        /// the letters, in order
        format: Vec<FormatItem>,
    },
    /// `>name`, `>/c/name`
    Assign {
        /// the variable
        name: String,
        /// bytes to keep, if a cast was given
        size: Option<u8>,
    },
    /// `$<file`, `$<<file`, `$>file`: the sigil and the file name
    File {
        /// `$<`, `$<<` or `$>`
        sigil: String,
        /// may be empty
        name: String,
    },
    /// a quoted shell command in the middle or at the head of a pipeline: its lines become addresses
    Shell(String),
}

/// An argument of a dcmd.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// what it means
    pub kind: WordKind,
    /// as it was written, quotes and all: for commands whose argument is itself a language
    pub raw: String,
    /// where
    pub span: Span,
}

/// A word is text, unless it was `$[expr]`.
#[derive(Clone, Debug, PartialEq)]
pub enum WordKind {
    /// after quotes and escapes were taken away
    Text(String),
    /// evaluated when the stage starts
    Immediate(Expr),
}

/// One item of a format list.
#[derive(Clone, Debug, PartialEq)]
pub enum FormatItem {
    /// a letter and how often (decimal count, `$[expr]`)
    Letter {
        /// the format letter
        letter: char,
        /// how often
        count: FormatCount,
        /// where
        span: Span,
    },
    /// literal text
    Text(String),
    /// a value: of a write or search verb (`/L value mask`)
    Value(Spanned<Expr>),
}

/// The repeat count before a format letter.
#[derive(Clone, Debug, PartialEq)]
pub enum FormatCount {
    /// none written
    One,
    /// decimal digits
    Number(u64),
    /// `$[expr]`
    Computed(Expr),
}

/// 64-bit unsigned arithmetic, as mdb has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// a number; its radix was settled by the lexer
    Number(u64),
    /// `'abcd'`
    Chars(u64),
    /// A name: a symbol first and, if it has only digits of the default radix, else a number.
    /// The scopes are what stood before backticks, outermost first.
    Symbol {
        /// ``ext4`sym``, ``vmlinux`file.c`sym``
        scopes: Vec<String>,
        /// the last part
        name: String,
        /// where, for the error
        span: Span,
    },
    /// `.`
    Dot,
    /// `&`: dot when the most recent command began
    LastDot,
    /// `+`: dot plus increment
    Next,
    /// `^`: dot minus increment
    Previous,
    /// `<name`
    Var(String, Span),
    /// a prefix operator: `-`, `~`, `#` (logical not)
    Unary(Unary, Box<Expr>),
    /// `*` (virtual memory) or `%` (object file) with the number of bytes to read (`*/4/`), 0 for a pointer
    Deref {
        /// from the object file, not from memory
        object: bool,
        /// 1, 2, 4, 8, or 0 for pointer-sized
        size: u8,
        /// the address
        addr: Box<Expr>,
        /// where, for the error
        span: Span,
    },
    /// an infix operator
    Binary(Binary, Box<Expr>, Box<Expr>, Span),
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-`
    Neg,
    /// `~`
    Not,
    /// `#`: 1 if zero, else 0
    LogicalNot,
}

/// Infix operators, lowest precedence first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Or,
    Xor,
    And,
    Eq,
    Ne,
    Shl,
    Shr,
    Add,
    Sub,
    Mul,
    /// `%`: signed division
    Div,
    /// `#`: round up to a multiple
    RoundUp,
    /// `%%`
    Mod,
}
