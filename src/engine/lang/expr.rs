//! Expressions: operands, prefix operators, and infix operators by precedence.
//!
//! `+`, `^` and `&` are operands where an operand is due (next, previous, last dot) and operators elsewhere. An
//! expression ends at the first character that cannot go on with it, so `1000/X` is the expression `1000` and then
//! a verb. There is no `/`, no comparison but `==` and `!=`, no unary `+`.
//!
//! Deviations from mdb: an expression has at most [`MAX_TERMS`] terms (deeper trees would not be safe to walk on a
//! small stack); within parentheses it may go on on the next line; a symbol may stand in the scope of a module whose
//! name begins with a digit.

use super::{
    ast::{Binary, Expr, Spanned, Unary},
    error::SyntaxError,
    lex::{self, Cursor},
};

/// Operands, prefix operators and parentheses of one expression.
pub(super) const MAX_TERMS: usize = 256;

/// An expression at the cursor, which is left behind it and its trailing blanks.
pub(super) fn expression(cur: &mut Cursor<'_>, radix: u32) -> Result<Spanned<Expr>, SyntaxError> {
    Parser { cur, radix, terms: 0, open: 0 }.infix(1)
}

struct Parser<'c, 'a> {
    cur: &'c mut Cursor<'a>,
    radix: u32,
    terms: usize,
    /// open parentheses: inside, a newline is a blank
    open: usize,
}

/// The infix operator at the cursor, its precedence (higher binds tighter) and its text.
fn infix_operator(rest: &str) -> Option<(Binary, u8, &'static str)> {
    const OPERATORS: [(&str, Binary, u8); 13] = [
        ("==", Binary::Eq, 4),
        ("!=", Binary::Ne, 4),
        ("<<", Binary::Shl, 5),
        (">>", Binary::Shr, 5),
        ("%%", Binary::Mod, 8),
        ("|", Binary::Or, 1),
        ("^", Binary::Xor, 2),
        ("&", Binary::And, 3),
        ("+", Binary::Add, 6),
        ("-", Binary::Sub, 6),
        ("*", Binary::Mul, 7),
        ("%", Binary::Div, 7),
        ("#", Binary::RoundUp, 7),
    ];
    OPERATORS.iter().find(|(text, ..)| rest.starts_with(text)).map(|&(text, op, level)| (op, level, text))
}

impl Parser<'_, '_> {
    fn skip(&mut self) {
        match self.open {
            0 => self.cur.skip_blanks(),
            _ => self.cur.skip_lines(),
        }
    }

    fn count(&mut self) -> Result<(), SyntaxError> {
        self.terms += 1;
        match self.terms > MAX_TERMS {
            true => Err(self.cur.error(format!("expression has more than {MAX_TERMS} terms"))),
            false => Ok(()),
        }
    }

    /// Operands joined by operators that bind at least as tight as `level`; all are left associative.
    fn infix(&mut self, level: u8) -> Result<Spanned<Expr>, SyntaxError> {
        let mut left = self.prefix()?;
        loop {
            self.skip();
            let Some((op, op_level, text)) = infix_operator(self.cur.rest()) else { return Ok(left) };
            if op_level < level {
                return Ok(left);
            }
            self.no_c_operator()?;
            self.cur.eat(text);
            let right = self.infix(op_level + 1)?;
            let span = left.span.start..right.span.end;
            let node = Expr::Binary(op, Box::new(left.node), Box::new(right.node), span.clone());
            left = Spanned { node, span };
        }
    }

    /// `&&` and `||` would read as `& &` (and last dot) or fail at the second bar; say what is meant.
    fn no_c_operator(&self) -> Result<(), SyntaxError> {
        let (text, instead) = match self.cur.rest().as_bytes() {
            [b'|', b'|', ..] => ("||", "|"),
            [b'&', b'&', ..] => ("&&", "&"),
            _ => return Ok(()),
        };
        let span = self.cur.pos..self.cur.pos + 2;
        Err(SyntaxError::new(span, format!("there is no {text}")).hint(format!(
            "{instead} works on bits; == and != give 0 or 1, # is logical not; ::where takes C expressions"
        )))
    }

    /// An operand with its prefix operators.
    fn prefix(&mut self) -> Result<Spanned<Expr>, SyntaxError> {
        self.skip();
        self.count()?;
        let start = self.cur.pos;
        let unary = match self.cur.peek() {
            Some('-') => Some(Unary::Neg),
            Some('~') => Some(Unary::Not),
            Some('#') => Some(Unary::LogicalNot),
            _ => None,
        };
        if let Some(op) = unary {
            self.cur.bump();
            let operand = self.prefix()?;
            let span = start..operand.span.end;
            return Ok(Spanned { node: Expr::Unary(op, Box::new(operand.node)), span });
        }
        match self.cur.peek() {
            Some('*' | '%') => self.deref(),
            Some('(') => self.parenthesis(),
            _ => self.operand(),
        }
    }

    /// `*addr`, `*/4/addr`, `%addr`, `%/4/addr`.
    fn deref(&mut self) -> Result<Spanned<Expr>, SyntaxError> {
        let start = self.cur.pos;
        let object = self.cur.bump() == Some('%');
        let size = match self.cur.peek() {
            Some('/') => cast_size(self.cur)?,
            _ => 0,
        };
        let addr = self.prefix()?;
        let span = start..addr.span.end;
        Ok(Spanned { node: Expr::Deref { object, size, addr: Box::new(addr.node), span: span.clone() }, span })
    }

    fn parenthesis(&mut self) -> Result<Spanned<Expr>, SyntaxError> {
        let start = self.cur.pos;
        self.cur.bump();
        self.open += 1;
        let inner = self.infix(1)?;
        self.skip();
        if !self.cur.eat(")") {
            return Err(match self.cur.peek() {
                None => SyntaxError::new(start..start + 1, "( unmatched").incomplete(true),
                Some('/') => division(self.cur),
                _ => unexpected(self.cur, "in parentheses").expected(&[")", "an operator"]),
            });
        }
        self.open -= 1;
        Ok(Spanned { node: inner.node, span: start..self.cur.pos })
    }

    fn operand(&mut self) -> Result<Spanned<Expr>, SyntaxError> {
        let start = self.cur.pos;
        let node = match self.cur.peek() {
            Some('+') => self.nullary(Expr::Next)?,
            Some('^') => self.nullary(Expr::Previous)?,
            Some('&') => self.nullary(Expr::LastDot)?,
            Some('\'') => Expr::Chars(lex::char_constant(self.cur)?),
            Some('<') => self.variable()?,
            Some(c) if lex::is_name_start(c) => self.name()?,
            Some(c) if c.is_ascii_digit() => {
                let token = self.cur.clone().take_while(lex::is_name);
                match token.contains('`') {
                    true => self.name()?,
                    false => Expr::Number(lex::number(self.cur, self.radix)?),
                }
            }
            _ => return Err(self.no_operand()),
        };
        Ok(Spanned { node, span: start..self.cur.pos })
    }

    /// `+`, `^`, `&` as operands: whole in themselves, so that no other operand may follow.
    fn nullary(&mut self, node: Expr) -> Result<Expr, SyntaxError> {
        let start = self.cur.pos;
        let sign = self.cur.bump().unwrap_or('+');
        self.cur.skip_blanks();
        if self.cur.peek().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '(')) {
            let hint = match sign {
                '+' => "+ is the next address (dot + increment); there is no unary plus",
                '^' => "^ is the previous address (dot - increment)",
                _ => "& is the address of the last command, and a symbol is its address already",
            };
            return Err(SyntaxError::new(start..start + 1, format!("{sign} stands for an address here")).hint(hint));
        }
        Ok(node)
    }

    fn variable(&mut self) -> Result<Expr, SyntaxError> {
        let start = self.cur.pos;
        self.cur.bump();
        let name = match self.cur.peek() {
            Some(c) if c.is_ascii_digit() => self.cur.bump().map(String::from).unwrap_or_default(),
            Some(c) if lex::is_name_start(c) => self.cur.take_while(lex::is_name).to_string(),
            _ => return Err(unexpected(self.cur, "after <").expected(&["a variable name"])),
        };
        Ok(Expr::Var(name, start..self.cur.pos))
    }

    fn name(&mut self) -> Result<Expr, SyntaxError> {
        let start = self.cur.pos;
        let text = self.cur.take_while(lex::is_name);
        let span = start..self.cur.pos;
        if text == "." {
            return Ok(Expr::Dot);
        }
        let mut scopes: Vec<String> = text.split('`').map(String::from).collect();
        let name = scopes.pop().unwrap_or_default();
        if name.is_empty() || scopes.iter().any(String::is_empty) {
            return Err(SyntaxError::new(span, "a name is missing beside the backtick").hint("module`symbol"));
        }
        Ok(Expr::Symbol { scopes, name, span })
    }

    fn no_operand(&self) -> SyntaxError {
        let open = self.open > 0 && self.cur.peek().is_none();
        let error = self
            .cur
            .error(format!("an operand is missing before {}", self.cur.describe()))
            .expected(&["a number", "a symbol", "(", "<variable"])
            .incomplete(open);
        match self.cur.peek() {
            Some('"') => error.hint("a character constant stands in single quotes: 'abcd'"),
            Some('!') => error.hint("logical not is #, not equal is !="),
            Some('>') => error.hint("the only comparisons are == and !="),
            Some('/') => division(self.cur),
            Some(':' | '$') => error.hint("an address stands right before its command: addr::command"),
            _ => error,
        }
    }
}

/// `/c/`: the bytes of a sized dereference or assignment.
pub(super) fn cast_size(cur: &mut Cursor<'_>) -> Result<u8, SyntaxError> {
    let start = cur.pos;
    cur.bump();
    let letter = cur.take_while(|c| c.is_ascii_alphanumeric());
    let size = match letter {
        "c" | "1" => Some(1),
        "s" | "2" => Some(2),
        "i" | "4" => Some(4),
        "l" | "8" => Some(8),
        _ => None,
    };
    match (size, cur.eat("/")) {
        (Some(size), true) => Ok(size),
        _ => Err(SyntaxError::new(start..cur.pos.max(start + 1), "invalid cast").expected(&[
            "/c/ or /1/",
            "/s/ or /2/",
            "/i/ or /4/",
            "/l/ or /8/",
        ])),
    }
}

/// An error for a character that cannot stand where it stands.
pub(super) fn unexpected(cur: &Cursor<'_>, place: &str) -> SyntaxError {
    cur.error(format!("{} cannot stand {place}", cur.describe()))
}

/// `/` where it can only have been meant as a division.
pub(super) fn division(cur: &Cursor<'_>) -> SyntaxError {
    cur.error("'/' is the verb that prints memory").hint("division is %, modulus is %%")
}

/// What follows an expression that ends nowhere: two operands side by side, a comparison, a closing parenthesis.
pub(super) fn trailing(cur: &Cursor<'_>) -> SyntaxError {
    let error = unexpected(cur, "after an expression");
    match cur.peek() {
        Some(')') => cur.error(") unmatched"),
        Some(']') => cur.error("] unmatched"),
        Some('<') => {
            error.hint("the only comparisons are == and !=; <name is a variable and needs an operator before it")
        }
        Some('\'' | '"') => error.hint("quotes belong to arguments: a command or an operator is missing before them"),
        Some('.') => error.hint("a decimal fraction is 0t1.5"),
        Some(c) if c.is_ascii_alphanumeric() || matches!(c, '_' | '(') => {
            cur.error("two operands without an operator between").expected(&["an operator", "a command"])
        }
        _ => error.expected(&["an operator", "a command", "the end of the line"]),
    }
}
