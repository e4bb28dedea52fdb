//! C expressions: a text becomes a tree.

use super::{
    super::{
        ast::Span,
        error::SyntaxError,
        expr::MAX_TERMS,
        lex::{self, Cursor},
        number,
    },
    CBinary, CExpr, CInt, CKind, CUnary,
};
use regex::Regex;

/// Reads a C expression; spans are byte offsets into `text`.
///
/// ```
/// use engine::lang::cexpr::parse;
/// assert!(parse("task->mm != NULL && comm =~ \"^ssh\"").is_ok());
/// assert!(parse("count = 0").unwrap_err().to_string().contains("=="));
/// ```
pub fn parse(text: &str) -> Result<CExpr, SyntaxError> {
    let mut parser = Parser { cur: Cursor::new(text), terms: 0 };
    let found = parser.infix(1)?;
    match parser.cur.peek() {
        None => Ok(found),
        Some(_) => Err(parser.trailing()),
    }
}

/// An infix operator, `=~` and `!~` included.
#[derive(Clone, Copy)]
enum Infix {
    Plain(CBinary),
    Match { negated: bool },
}

/// The infix operator at the cursor, its precedence (higher binds tighter) and its length.
fn infix_operator(rest: &str) -> Option<(Infix, u8, usize)> {
    use CBinary as B;
    const OPERATORS: [(&str, Infix, u8); 20] = [
        ("||", Infix::Plain(B::Or), 1),
        ("&&", Infix::Plain(B::And), 2),
        ("==", Infix::Plain(B::Eq), 6),
        ("!=", Infix::Plain(B::Ne), 6),
        ("=~", Infix::Match { negated: false }, 6),
        ("!~", Infix::Match { negated: true }, 6),
        ("<<", Infix::Plain(B::Shl), 8),
        (">>", Infix::Plain(B::Shr), 8),
        ("<=", Infix::Plain(B::Le), 7),
        (">=", Infix::Plain(B::Ge), 7),
        ("<", Infix::Plain(B::Lt), 7),
        (">", Infix::Plain(B::Gt), 7),
        ("|", Infix::Plain(B::BitOr), 3),
        ("^", Infix::Plain(B::BitXor), 4),
        ("&", Infix::Plain(B::BitAnd), 5),
        ("+", Infix::Plain(B::Add), 9),
        ("-", Infix::Plain(B::Sub), 9),
        ("*", Infix::Plain(B::Mul), 10),
        ("/", Infix::Plain(B::Div), 10),
        ("%", Infix::Plain(B::Rem), 10),
    ];
    OPERATORS.iter().find(|(text, ..)| rest.starts_with(text)).map(|&(text, op, level)| (op, level, text.len()))
}

struct Parser<'a> {
    cur: Cursor<'a>,
    terms: usize,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.cur.take_while(|c| lex::is_blank(c) || c == '\n');
    }

    fn infix(&mut self, level: u8) -> Result<CExpr, SyntaxError> {
        let mut left = self.prefix()?;
        loop {
            self.skip();
            let Some((op, op_level, length)) = infix_operator(self.cur.rest()) else { return Ok(left) };
            if op_level < level {
                return Ok(left);
            }
            self.cur.pos += length;
            let start = left.span.start;
            left = match op {
                Infix::Plain(op) => {
                    let right = self.infix(op_level + 1)?;
                    let span = start..right.span.end;
                    CExpr { kind: CKind::Binary(op, Box::new(left), Box::new(right)), span }
                }
                Infix::Match { negated } => {
                    let (regex, end) = self.pattern()?;
                    CExpr { kind: CKind::Match { text: Box::new(left), regex, negated }, span: start..end }
                }
            };
        }
    }

    /// The quoted pattern of `=~`.
    fn pattern(&mut self) -> Result<(Regex, usize), SyntaxError> {
        self.skip();
        let start = self.cur.pos;
        if self.cur.peek() != Some('"') {
            let error = self.cur.error("a pattern in double quotes must follow").expected(&["\"regex\""]);
            return Err(error.incomplete(self.cur.peek().is_none()));
        }
        // a pattern's own escapes (\d, \.) survive, only \" is the quote
        let pattern = quoted_pattern(&mut self.cur)?;
        let regex = Regex::new(&pattern).map_err(|error| {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or("invalid pattern").trim_start_matches("error: ").to_string();
            SyntaxError::new(start..self.cur.pos, why)
        })?;
        Ok((regex, self.cur.pos))
    }

    fn prefix(&mut self) -> Result<CExpr, SyntaxError> {
        self.skip();
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.cur.error(format!("expression has more than {MAX_TERMS} terms")));
        }
        let start = self.cur.pos;
        let op = match self.cur.peek() {
            Some('!') => CUnary::Not,
            Some('~') => CUnary::BitNot,
            Some('-') => CUnary::Neg,
            Some('+') => CUnary::Plus,
            Some('*') => CUnary::Deref,
            Some('&') => CUnary::AddressOf,
            _ => return self.postfix(),
        };
        self.cur.bump();
        let operand = self.prefix()?;
        let span = start..operand.span.end;
        Ok(CExpr { kind: CKind::Unary(op, Box::new(operand)), span })
    }

    /// A primary and its members and indices.
    fn postfix(&mut self) -> Result<CExpr, SyntaxError> {
        let mut base = self.primary()?;
        loop {
            self.skip();
            let start = base.span.start;
            let kind = if self.cur.eat("->") {
                CKind::Member { base: Box::new(base), name: self.member()?, arrow: true }
            } else if self.cur.eat(".") {
                CKind::Member { base: Box::new(base), name: self.member()?, arrow: false }
            } else if self.cur.peek() == Some('[') {
                let open = self.cur.pos;
                self.cur.bump();
                let index = self.infix(1)?;
                self.close(open, ']')?;
                CKind::Index(Box::new(base), Box::new(index))
            } else {
                return Ok(base);
            };
            self.terms += 1;
            if self.terms > MAX_TERMS {
                return Err(self.cur.error(format!("expression has more than {MAX_TERMS} terms")));
            }
            base = CExpr { kind, span: start..self.cur.pos };
        }
    }

    fn member(&mut self) -> Result<String, SyntaxError> {
        self.skip();
        match self.cur.take_while(is_identifier) {
            "" => Err(self.cur.error("a member name must follow").incomplete(self.cur.peek().is_none())),
            name => Ok(name.to_string()),
        }
    }

    fn close(&mut self, open: usize, bracket: char) -> Result<(), SyntaxError> {
        self.skip();
        match self.cur.peek() {
            Some(c) if c == bracket => {
                self.cur.bump();
                Ok(())
            }
            None => {
                let opened = if bracket == ')' { '(' } else { '[' };
                Err(SyntaxError::new(open..open + 1, format!("{opened} unmatched")).incomplete(true))
            }
            Some(_) => Err(self.trailing()),
        }
    }

    fn primary(&mut self) -> Result<CExpr, SyntaxError> {
        let start = self.cur.pos;
        let kind = match self.cur.peek() {
            Some('(') => return self.parenthesis(),
            Some('"') => CKind::Str(lex::quoted(&mut self.cur)?),
            Some('\'') => CKind::Int(CInt::literal(lex::char_constant(&mut self.cur)?, true)),
            Some('.') => {
                self.cur.bump();
                match self.cur.take_while(is_identifier) {
                    "" => CKind::This,
                    name => CKind::Name(name.to_string()),
                }
            }
            Some(c) if c.is_ascii_digit() => CKind::Int(self.number()?),
            Some(c) if is_identifier(c) => self.name()?,
            _ => return Err(self.no_operand()),
        };
        Ok(CExpr { kind, span: start..self.cur.pos })
    }

    fn name(&mut self) -> Result<CKind, SyntaxError> {
        let name = self.cur.take_while(|c| is_identifier(c) || c == '`');
        match name {
            "NULL" => return Ok(CKind::Null),
            "sizeof" => {}
            // the one function of those that other tracers have: the text at an address
            "str" if self.cur.rest().trim_start().starts_with('(') => {
                self.skip();
                let open = self.cur.pos;
                self.cur.bump();
                let at = self.infix(1)?;
                self.close(open, ')')?;
                return Ok(CKind::Cast("char *".to_owned(), Box::new(at)));
            }
            name => return Ok(CKind::Name(name.to_string())),
        }
        self.skip();
        let open = self.cur.pos;
        if !self.cur.eat("(") {
            return Err(self.cur.error("a type in parentheses must follow sizeof").expected(&["("]));
        }
        let ctype = self.cur.take_while(|c| c != ')').split_whitespace().collect::<Vec<_>>().join(" ");
        self.close(open, ')')?;
        match ctype.is_empty() {
            true => Err(SyntaxError::new(open..self.cur.pos, "sizeof needs a type")),
            false => Ok(CKind::Sizeof(ctype)),
        }
    }

    /// A number by C's rules, mdb's prefixes and C's suffixes allowed.
    fn number(&mut self) -> Result<CInt, SyntaxError> {
        let start = self.cur.pos;
        let all = self.cur.clone().take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let token = all.trim_end_matches(['u', 'U', 'l', 'L']);
        let octal = token.len() > 1 && token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit() || b == b'_');
        if octal && token.bytes().any(|b| b != b'0') {
            let decimal = token.trim_start_matches('0');
            let error =
                SyntaxError::new(start..start + token.len(), "a leading 0 is octal in C, decimal to most readers");
            return Err(error.hint(format!("0o{decimal} is octal, {decimal} is decimal")));
        }
        let mut cur = Cursor { src: &self.cur.src[..start + token.len()], pos: start };
        let value = lex::number(&mut cur, 10)?;
        self.cur.pos = start + all.len();
        let decimal = number::prefix_radix(token).unwrap_or(10) == 10;
        let int = CInt::literal(value, decimal);
        let suffix = all[token.len()..].to_ascii_lowercase();
        let bits = if suffix.contains('l') { 64 } else { int.bits() };
        Ok(CInt::new(int.value(), bits, int.is_signed() && !suffix.contains('u')))
    }

    /// `(expr)` or `(type)expr`.
    fn parenthesis(&mut self) -> Result<CExpr, SyntaxError> {
        let open = self.cur.pos;
        if let Some(ctype) = self.cast_type() {
            let operand = self.prefix()?;
            let span = open..operand.span.end;
            return Ok(CExpr { kind: CKind::Cast(ctype, Box::new(operand)), span });
        }
        self.cur.bump();
        let inner = self.infix(1)?;
        self.close(open, ')')?;
        Ok(CExpr { kind: inner.kind, span: open..self.cur.pos })
    }

    /// The type of a cast, and the cursor behind its parenthesis. C needs a symbol table to tell `(a)(b)` from a cast;
    /// without calls, a name in parentheses before an operand can only be one.
    fn cast_type(&mut self) -> Option<String> {
        const KEYWORDS: [&str; 13] = [
            "struct", "union", "enum", "unsigned", "signed", "int", "char", "long", "short", "void", "const", "bool",
            "_Bool",
        ];
        let mut cur = self.cur.clone();
        cur.bump();
        let inside = cur.take_while(|c| is_identifier(c) || lex::is_blank(c) || c == '*');
        if !cur.eat(")") {
            return None;
        }
        let words: Vec<&str> = inside.split([' ', '\t', '*']).filter(|word| !word.is_empty()).collect();
        let pointer = inside.trim_end().ends_with('*');
        let is_type = match words.as_slice() {
            [] => false,
            [first, ..] if KEYWORDS.contains(first) => true,
            [first] if !first.starts_with(|c: char| c.is_ascii_digit()) => {
                let next = cur.rest().trim_start().chars().next();
                pointer || next.is_some_and(|c| is_identifier(c) || matches!(c, '(' | '~' | '"' | '\''))
            }
            _ => false,
        };
        is_type.then(|| {
            self.cur.pos = cur.pos;
            let spaced = inside.replace('*', " * ");
            spaced.split_whitespace().collect::<Vec<_>>().join(" ").replace("* *", "**")
        })
    }

    fn no_operand(&self) -> SyntaxError {
        let place = self.cur.describe().replace("line", "expression");
        let error = self
            .cur
            .error(format!("an operand is missing before {place}"))
            .expected(&["a name", "a number", "\"text\"", "("])
            .incomplete(self.cur.peek().is_none());
        match self.cur.peek() {
            Some('=') => error.hint("equal is =="),
            Some('<') => error.hint("variables of the command language cannot be used here"),
            _ => error,
        }
    }

    fn trailing(&self) -> SyntaxError {
        let error = self.cur.error(format!("{} cannot stand here", self.cur.describe()));
        match self.cur.peek() {
            Some('=') => error.hint("equal is ==, a pattern is matched by =~"),
            Some('?') => error.hint("there is no ?:"),
            Some(')' | ']') => self.cur.error(format!("{} unmatched", self.cur.peek().unwrap_or(')'))),
            Some('(') => error.hint("functions cannot be called, but for `str(x)`, the text at x"),
            Some(c) if is_identifier(c) || c == '"' => error.expected(&["an operator"]),
            _ => error,
        }
    }
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A pattern in double quotes, its backslashes kept but for `\"`.
fn quoted_pattern(cur: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let open: Span = cur.pos..cur.pos + 1;
    cur.bump();
    let mut pattern = String::new();
    loop {
        match cur.bump() {
            None => return Err(SyntaxError::new(open, "\" unmatched").incomplete(true)),
            Some('"') => return Ok(pattern),
            Some('\\') if cur.peek() == Some('"') => pattern.extend(cur.bump()),
            Some('\\') => {
                pattern.push('\\');
                pattern.extend(cur.bump());
            }
            Some(c) => pattern.push(c),
        }
    }
}
