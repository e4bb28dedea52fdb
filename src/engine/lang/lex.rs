//! Characters: a cursor over the input, and the tokens that more than one rule needs (names, numbers, quotes, words).
//!
//! Deviations from mdb:
//! - quotes may span lines, so that a long argument can be typed over several;
//! - `||`, `!=` and `!~` are parts of a word, so that `::where a != 1 || b !~ "x"` needs no quotes;
//! - `$` is an ordinary character of a word unless it begins `$[` (mdb has no use for it there, regular expressions do);
//! - a token that begins with a digit but holds a backtick is a symbol (modules `9p`, `8021q`);
//! - `\'` is a quote within `'…'` everywhere (mdb's argument words cannot hold one).

use super::{
    ast::{Span, Spanned},
    error::SyntaxError,
    number::{self, NumberError},
};

/// What is left of the input.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub src: &'a str,
    pub pos: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(src: &'a str) -> Self {
        Cursor { src, pos: 0 }
    }

    pub fn rest(&self) -> &'a str {
        self.src.get(self.pos..).unwrap_or("")
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    pub fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// Takes `text` if it comes next.
    pub fn eat(&mut self, text: &str) -> bool {
        let yes = self.rest().starts_with(text);
        if yes {
            self.pos += text.len();
        }
        yes
    }

    pub fn take_while(&mut self, mut keep: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.pos += end;
        &rest[..end]
    }

    pub fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    /// Blanks, newlines and comments: what may stand inside parentheses and after `|`.
    pub fn skip_lines(&mut self) {
        loop {
            self.take_while(|c| is_blank(c) || c == '\n');
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// At the end of a statement: nothing left, a newline, `;` or a comment.
    pub fn at_end(&self) -> bool {
        matches!(self.peek(), None | Some('\n' | ';')) || self.rest().starts_with("//")
    }

    /// The span of the next character.
    pub fn here(&self) -> Span {
        self.pos..self.pos + self.peek().map_or(0, char::len_utf8)
    }

    /// An error at the next character; at the end of the input it is "incomplete" if more input could mend it.
    pub fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.here(), message)
    }

    /// How the next character is named in a message.
    pub fn describe(&self) -> String {
        match self.peek() {
            None => "the end of the line".into(),
            Some('\n') => "the end of the line".into(),
            Some(c) => format!("'{c}'"),
        }
    }
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// May begin a name.
pub(super) fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '.')
}

/// May stand in a name; the backtick parts scopes.
pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '`')
}

/// May stand in an unquoted argument word.
fn is_word(c: char) -> bool {
    !is_blank(c) && !matches!(c, '\n' | ';' | '!' | '|' | '"' | '\'')
}

/// Whether a text, as it is, is one argument word of that text.
pub(super) fn is_plain_word(text: &str) -> bool {
    let mut cur = Cursor::new(text);
    !text.is_empty()
        && !text.starts_with("//")
        && word(&mut cur).is_ok_and(|found| found.node == text)
        && cur.peek().is_none()
}

/// At a `|` or `!` that ends the arguments. `||`, `!=` and `!~` followed by a blank are parts of an expression: no stage can
/// be empty and no shell command begins with `=` or is `~`.
pub(super) fn at_pipe(cur: &Cursor<'_>) -> bool {
    match cur.rest().as_bytes() {
        [b'|', b'|', ..] | [b'!', b'=', ..] | [b'!', b'~', b' ' | b'\t' | b'"', ..] => false,
        [b'|' | b'!', ..] => true,
        _ => false,
    }
}

/// A number, at a digit.
pub(super) fn number(cur: &mut Cursor<'_>, radix: u32) -> Result<u64, SyntaxError> {
    let start = cur.pos;
    let token = cur.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
    let radix_used = number::prefix_radix(token).unwrap_or(radix);
    if radix_used == 10 && cur.peek() == Some('.') && cur.peek_second().is_some_and(|c| c.is_ascii_digit()) {
        return double(cur, start, token, radix);
    }
    number::parse_number(token, radix).map_err(|error| number_error(start, token, error))
}

/// `0tN.M`: the bits of a double.
fn double(cur: &mut Cursor<'_>, start: usize, token: &str, radix: u32) -> Result<u64, SyntaxError> {
    number::parse_number(token, radix).map_err(|error| number_error(start, token, error))?;
    cur.bump();
    let fraction_start = cur.pos;
    let fraction = cur.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some(at) = fraction.find(|c: char| !c.is_ascii_digit() && c != '_') {
        let at = fraction_start + at;
        return Err(SyntaxError::new(at..at + 1, "a fraction has only decimal digits").hint("0t1.5"));
    }
    let skip = if number::prefix_radix(token).is_some() { 2 } else { 0 };
    let text = format!("{}.{fraction}", &token[skip..]).replace('_', "");
    let value: f64 = text.parse().map_err(|_| SyntaxError::new(start..cur.pos, "not a decimal fraction"))?;
    Ok(value.to_bits())
}

fn number_error(start: usize, token: &str, error: NumberError) -> SyntaxError {
    let span = match &error {
        NumberError::Digit { at, digit, .. } => start + at..start + at + digit.len_utf8(),
        NumberError::NoDigits { at, .. } => start + at..start + token.len().max(*at),
        NumberError::TooLarge => start..start + token.len(),
    };
    let hint = match (token.as_bytes(), &error) {
        ([b'0', b'd' | b'D' | b'n' | b'N', ..], NumberError::Digit { .. }) => {
            Some(format!("decimal is 0t{}", &token[2..]))
        }
        ([b'0', b'b' | b'B', ..], NumberError::Digit { .. }) => Some(format!("binary is 0i{}", &token[2..])),
        (_, NumberError::Digit { digit, .. }) if digit.is_ascii_hexdigit() && number::prefix_radix(token).is_none() => {
            Some(format!("hexadecimal is 0x{token}"))
        }
        (_, NumberError::NoDigits { .. }) => Some("a digit must follow the prefix at once".into()),
        _ => None,
    };
    let error = SyntaxError::new(span, error.to_string());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// A quoted text, at its opening quote: `'…'` is literal but for `\'`, `"…"` takes C escapes.
pub(super) fn quoted(cur: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let start = cur.pos;
    let quote = cur.bump().unwrap_or('\'');
    let mut raw = String::new();
    loop {
        match cur.bump() {
            None => {
                return Err(SyntaxError::new(start..start + 1, format!("{quote} unmatched")).incomplete(true));
            }
            Some(c) if c == quote => break,
            Some('\\') if quote == '\'' && cur.peek() == Some('\'') => raw.extend(cur.bump()),
            Some('\\') => {
                raw.push('\\');
                raw.extend(cur.bump());
            }
            Some(c) => raw.push(c),
        }
    }
    Ok(if quote == '"' { unescape(&raw) } else { raw })
}

/// C escapes: `\n` and its like, `\ooo`, `\xhh`; an unknown escape stays as it is written, as in mdb.
pub(super) fn unescape(raw: &str) -> String {
    String::from_utf8_lossy(&unescape_bytes(raw)).into_owned()
}

pub(super) fn unescape_bytes(raw: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, tail)) = rest.split_first() else {
            out.push(byte);
            break;
        };
        let (value, length) = match escape {
            b'0'..=b'7' => leading_digits(rest, 8, 3),
            b'x' => leading_digits(tail, 16, 2),
            _ => (0, 0),
        };
        match escape {
            b'0'..=b'7' => {
                out.push(value);
                rest = &rest[length..];
                continue;
            }
            b'x' if length > 0 => {
                out.push(value);
                rest = &tail[length..];
                continue;
            }
            b'a' => out.push(0x07),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0b),
            b'"' | b'\'' | b'\\' => out.push(escape),
            other => out.extend([b'\\', other]),
        }
        rest = tail;
    }
    out
}

/// The value of at most `most` digits at the start, and how many there were.
fn leading_digits(bytes: &[u8], radix: u32, most: usize) -> (u8, usize) {
    let digits = bytes.iter().map_while(|&b| char::from(b).to_digit(radix)).take(most);
    digits.fold((0, 0), |(value, n), digit| (value.wrapping_mul(radix as u8).wrapping_add(digit as u8), n + 1))
}

/// `'abcd'` as a number, at the quote: at most 8 bytes, the last one least significant, `''` is 0.
pub(super) fn char_constant(cur: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
    let start = cur.pos;
    let bytes = unescape_bytes(&quoted(cur)?);
    if bytes.len() > 8 {
        return Err(SyntaxError::new(start..cur.pos, "character constant may not exceed 8 bytes"));
    }
    Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// An argument word, at its first character; quotes may begin anywhere in it and join.
pub(super) fn word(cur: &mut Cursor<'_>) -> Result<Spanned<String>, SyntaxError> {
    let start = cur.pos;
    let mut text = String::new();
    while let Some(c) = cur.peek() {
        match c {
            '"' | '\'' => text.push_str(&quoted(cur)?),
            '$' if cur.peek_second() == Some('[') => break,
            '|' | '!' if !at_pipe(cur) => text.extend([cur.bump(), cur.bump()].into_iter().flatten()),
            c if is_word(c) => text.extend(cur.bump()),
            _ => break,
        }
    }
    Ok(Spanned { node: text, span: start..cur.pos })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_join_and_unquote() {
        for (input, text, rest) in [
            ("a->b[3].c d", "a->b[3].c", " d"),
            ("d_lockref.count", "d_lockref.count", ""),
            ("kmalloc-64|", "kmalloc-64", "|"),
            ("a'b c'd e", "ab cd", " e"),
            ("a\"\\tb\"'c'", "a\tbc", ""),
            (r"'it\'s'", "it's", ""),
            (r"'a\.b'", r"a\.b", ""),
            ("''", "", ""),
            ("^foo$;x", "^foo$", ";x"),
            ("foo$[1]", "foo", "$[1]"),
            ("http://x", "http://x", ""),
            (r#""\101\x42\q""#, r"AB\q", ""),
        ] {
            let mut cur = Cursor::new(input);
            assert_eq!(word(&mut cur).unwrap().node, text, "{input}");
            assert_eq!(cur.rest(), rest, "{input}");
        }
    }

    #[test]
    fn char_constants() {
        for (input, value) in [
            ("''", 0),
            ("'a'", 0x61),
            ("'abcd'", 0x61626364),
            (r"'\\'", 0x5c),
            (r"'\n'", 10),
            (r"'\''", 0x27),
            (r"'\377'", 0xff),
        ] {
            assert_eq!(char_constant(&mut Cursor::new(input)), Ok(value), "{input}");
        }
        assert!(char_constant(&mut Cursor::new("'123456789'")).is_err());
        assert!(char_constant(&mut Cursor::new("'12")).unwrap_err().incomplete);
    }

    #[test]
    fn doubles_are_their_bits() {
        for (input, value) in [("0t1.5", 1.5f64), ("0t0.1", 0.1), ("0t1_0.2_5", 10.25)] {
            assert_eq!(number(&mut Cursor::new(input), 16), Ok(value.to_bits()), "{input}");
        }
    }
}
