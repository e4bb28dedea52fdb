//! The syntax tree as text: what [`parse`](super::parse()) reads back as the same tree.
//!
//! Numbers are written with their prefix, so that no default radix matters; parentheses stand only where the tree needs
//! them; words are quoted where they would otherwise end or join.

use super::{
    ast::{Binary, Expr, FormatCount, FormatItem, Spanned, Stage, StageKind, Statement, Unary, Word, WordKind},
    lex,
};
use std::fmt::{self, Display, Formatter, Write as _};

impl Binary {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Binary::Or => "|",
            Binary::Xor => "^",
            Binary::And => "&",
            Binary::Eq => "==",
            Binary::Ne => "!=",
            Binary::Shl => "<<",
            Binary::Shr => ">>",
            Binary::Add => "+",
            Binary::Sub => "-",
            Binary::Mul => "*",
            Binary::Div => "%",
            Binary::RoundUp => "#",
            Binary::Mod => "%%",
        }
    }

    /// How tight it binds, 1 (loosest) to 8.
    pub fn level(self) -> u8 {
        match self {
            Binary::Or => 1,
            Binary::Xor => 2,
            Binary::And => 3,
            Binary::Eq | Binary::Ne => 4,
            Binary::Shl | Binary::Shr => 5,
            Binary::Add | Binary::Sub => 6,
            Binary::Mul | Binary::Div | Binary::RoundUp => 7,
            Binary::Mod => 8,
        }
    }
}

/// Prefix operators bind tighter than all others.
const PREFIX: u8 = 9;

fn level(expr: &Expr) -> u8 {
    match expr {
        Expr::Binary(op, ..) => op.level(),
        _ => PREFIX,
    }
}

/// An operand of something that binds as tight as `outer`.
struct Operand<'e>(&'e Expr, u8);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match level(self.0) < self.1 {
            true => write!(f, "({})", self.0),
            false => self.0.fmt(f),
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(value) => write!(f, "0x{value:x}"),
            Expr::Chars(value) => chars(*value, f),
            Expr::Symbol { scopes, name, .. } => {
                scopes.iter().try_for_each(|scope| write!(f, "{scope}`"))?;
                f.write_str(name)
            }
            Expr::Dot => f.write_str("."),
            Expr::LastDot => f.write_str("&"),
            Expr::Next => f.write_str("+"),
            Expr::Previous => f.write_str("^"),
            Expr::Var(name, _) => write!(f, "<{name}"),
            Expr::Unary(op, operand) => {
                f.write_char(match op {
                    Unary::Neg => '-',
                    Unary::Not => '~',
                    Unary::LogicalNot => '#',
                })?;
                Operand(operand, PREFIX).fmt(f)
            }
            Expr::Deref { object, size, addr, .. } => {
                f.write_char(if *object { '%' } else { '*' })?;
                if *size != 0 {
                    write!(f, "/{size}/")?;
                }
                // `%%` would be one operator
                match (&**addr, *size) {
                    (Expr::Deref { object: true, .. }, 0) if *object => write!(f, "({addr})"),
                    _ => Operand(addr, PREFIX).fmt(f),
                }
            }
            // blanks keep `+`, `&` and `^` as operands apart from the operators, and `- -` and `% %` from each other
            Expr::Binary(op, left, right, _) => {
                write!(f, "{} {} {}", Operand(left, op.level()), op.symbol(), Operand(right, op.level() + 1))
            }
        }
    }
}

/// A character constant of its bytes, all of them escaped.
fn chars(value: u64, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('\'')?;
    let bytes = value.to_be_bytes();
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    for byte in &bytes[first..] {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => f.write_char(char::from(*byte))?,
            byte => write!(f, "\\{byte:03o}")?,
        }
    }
    f.write_char('\'')
}

/// Text in quotes that the lexer takes off again.
fn quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_ascii_control() => write!(f, "\\{:03o}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            WordKind::Immediate(expr) => write!(f, "$[{expr}]"),
            WordKind::Text(text) if lex::is_plain_word(text) => f.write_str(text),
            WordKind::Text(text) => quoted(text, f),
        }
    }
}

impl Display for FormatItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            FormatItem::Letter { letter, count, .. } => match count {
                FormatCount::One => f.write_char(*letter),
                FormatCount::Number(count) => write!(f, "{count}{letter}"),
                FormatCount::Computed(expr) => write!(f, "$[{expr}]{letter}"),
            },
            FormatItem::Text(text) => quoted(text, f),
            FormatItem::Value(Spanned { node, .. }) => write!(f, " $[{node}]"),
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StageKind::Dcmd { module, name, args, .. } => {
                match (module, name.starts_with(['$', ':'])) {
                    (Some(module), _) => write!(f, "::{module}`{name}")?,
                    (None, true) => f.write_str(name)?,
                    (None, false) => write!(f, "::{name}")?,
                }
                args.iter().try_for_each(|word| write!(f, " {word}"))
            }
            StageKind::Verb { verb, format } => {
                f.write_char(*verb)?;
                format.iter().try_for_each(|item| item.fmt(f))
            }
            StageKind::Assign { name, size } => match size {
                Some(size) => write!(f, ">/{size}/{name}"),
                None => write!(f, ">{name}"),
            },
            StageKind::File { sigil, name } => {
                f.write_str(sigil)?;
                match name.as_str() {
                    "" => Ok(()),
                    name if lex::is_plain_word(name) && !name.starts_with(['<', '>']) => f.write_str(name),
                    name => quoted(name, f),
                }
            }
            StageKind::Shell(command) => {
                f.write_str("! ")?;
                quoted(command, f)
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(addr) = &self.addr {
            addr.node.fmt(f)?;
        }
        if let Some(count) = &self.count {
            write!(f, ",{}", count.node)?;
        }
        for (i, stage) in self.stages.iter().enumerate() {
            // a shell stage stands behind the one before it without a bar
            match (i, &stage.kind) {
                (0, StageKind::Shell(_)) => {}
                (0, _) if self.addr.is_some() || self.count.is_some() => f.write_char(' ')?,
                (0, _) => {}
                (_, StageKind::Shell(_)) => f.write_char(' ')?,
                _ => f.write_str(" | ")?,
            }
            stage.fmt(f)?;
        }
        if let Some(shell) = &self.shell {
            f.write_str(if self.shell_source { " !< " } else { " ! " })?;
            quoted(shell, f)?;
        }
        Ok(())
    }
}
