//! Evaluation: 64-bit unsigned arithmetic without overflow checks, as mdb has it.
//!
//! Division and rounding are signed, everything else is unsigned. A name that may be a number (`f`, `badcafe`) is a
//! symbol if there is one, else the number; a name that begins with a digit is always a number.
//!
//! Deviations from mdb: a shift by 64 or more gives 0 (mdb leaves it to the processor); `#` (round up) that would divide
//! the least number by −1 wraps instead of trapping.

use super::{
    ast::{Binary, Expr, Span, Unary},
    number,
};

/// What an expression may ask.
pub trait Scope {
    /// `.`
    fn dot(&self) -> u64;
    /// `&`: dot when the most recent command began
    fn last_dot(&self) -> u64;
    /// the bytes that the last command consumed: `+` is dot plus this
    fn increment(&self) -> u64;
    /// `<name`: a variable or a register
    fn var(&self, name: &str) -> Option<u64>;
    /// the value of a symbol; `scopes` stood before backticks, outermost first
    fn symbol(&self, scopes: &[String], name: &str) -> Option<u64>;
    /// `size` bytes (1, 2, 4 or 8) at `addr`, zero extended; `object` reads the kernel's file instead of memory
    fn read(&self, object: bool, addr: u64, size: u8) -> Result<u64, String>;
    /// of numbers without a prefix, 2 to 16
    fn radix(&self) -> u32;
}

/// Why an expression has no value. Nearest names are for the caller to suggest: it has the symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// no symbol of that name (and no number either)
    #[error("failed to dereference symbol '{name}': unknown symbol name")]
    UnknownSymbol {
        /// as it was written, scopes and all
        name: String,
        /// where
        span: Span,
    },
    /// no such variable
    #[error("variable '{name}' is not defined")]
    UnknownVariable {
        /// without `<`
        name: String,
        /// where
        span: Span,
    },
    /// by zero
    #[error("attempted to divide by zero")]
    DivideByZero {
        /// of the operation
        span: Span,
    },
    /// the least number by −1
    #[error("divide overflow")]
    DivideOverflow {
        /// of the operation
        span: Span,
    },
    /// memory that cannot be read
    #[error("failed to read {size} bytes at {addr:#x}: {reason}")]
    Read {
        /// where it was to be read
        addr: u64,
        /// how much
        size: u8,
        /// why not
        reason: String,
        /// of the dereference
        span: Span,
    },
}

impl EvalError {
    /// The place in the input.
    pub fn span(&self) -> &Span {
        match self {
            EvalError::UnknownSymbol { span, .. }
            | EvalError::UnknownVariable { span, .. }
            | EvalError::DivideByZero { span }
            | EvalError::DivideOverflow { span }
            | EvalError::Read { span, .. } => span,
        }
    }

    /// What to write instead, where that can be known without the symbols.
    pub fn hint(&self) -> Option<String> {
        match self {
            EvalError::UnknownSymbol { name, .. } if name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_') => {
                Some(format!("as a hexadecimal number it is 0x{name}"))
            }
            EvalError::UnknownVariable { .. } => Some("value>name defines a variable".into()),
            _ => None,
        }
    }
}

/// The value of an expression.
pub fn eval(expr: &Expr, scope: &dyn Scope) -> Result<u64, EvalError> {
    Ok(match expr {
        Expr::Number(value) | Expr::Chars(value) => *value,
        Expr::Dot => scope.dot(),
        Expr::LastDot => scope.last_dot(),
        Expr::Next => scope.dot().wrapping_add(scope.increment()),
        Expr::Previous => scope.dot().wrapping_sub(scope.increment()),
        Expr::Var(name, span) => {
            scope.var(name).ok_or_else(|| EvalError::UnknownVariable { name: name.clone(), span: span.clone() })?
        }
        Expr::Symbol { scopes, name, span } => symbol(scopes, name, span, scope)?,
        Expr::Unary(op, operand) => {
            let value = eval(operand, scope)?;
            match op {
                Unary::Neg => value.wrapping_neg(),
                Unary::Not => !value,
                Unary::LogicalNot => u64::from(value == 0),
            }
        }
        Expr::Deref { object, size, addr, span } => {
            let (addr, size) = (eval(addr, scope)?, if *size == 0 { 8 } else { *size });
            scope.read(*object, addr, size).map_err(|reason| EvalError::Read {
                addr,
                size,
                reason,
                span: span.clone(),
            })?
        }
        Expr::Binary(op, left, right, span) => binary(*op, eval(left, scope)?, eval(right, scope)?, span)?,
    })
}

fn symbol(scopes: &[String], name: &str, span: &Span, scope: &dyn Scope) -> Result<u64, EvalError> {
    if let Some(value) = scope.symbol(scopes, name) {
        return Ok(value);
    }
    match number::parse_digits(name, scope.radix()) {
        Ok(value) if scopes.is_empty() => Ok(value),
        _ => {
            let name = scopes.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("`");
            Err(EvalError::UnknownSymbol { name, span: span.clone() })
        }
    }
}

fn binary(op: Binary, left: u64, right: u64, span: &Span) -> Result<u64, EvalError> {
    let nonzero = |value: u64| match right {
        0 => Err(EvalError::DivideByZero { span: span.clone() }),
        _ => Ok(value),
    };
    let shift = u32::try_from(right).unwrap_or(u32::MAX);
    Ok(match op {
        Binary::Or => left | right,
        Binary::Xor => left ^ right,
        Binary::And => left & right,
        Binary::Eq => u64::from(left == right),
        Binary::Ne => u64::from(left != right),
        Binary::Shl => left.checked_shl(shift).unwrap_or(0),
        Binary::Shr => left.checked_shr(shift).unwrap_or(0),
        Binary::Add => left.wrapping_add(right),
        Binary::Sub => left.wrapping_sub(right),
        Binary::Mul => left.wrapping_mul(right),
        Binary::Div => {
            nonzero(right)?;
            let quotient = (left as i64).checked_div(right as i64);
            quotient.ok_or_else(|| EvalError::DivideOverflow { span: span.clone() })? as u64
        }
        Binary::Mod => left % nonzero(right)?,
        Binary::RoundUp => {
            nonzero(right)?;
            let quotient = (left.wrapping_add(right - 1) as i64).wrapping_div(right as i64);
            (quotient as u64).wrapping_mul(right)
        }
    })
}
