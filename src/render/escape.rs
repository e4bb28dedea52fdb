//! Text from a dump may hold anything, terminal escapes too: nothing but printable text leaves this program.
//!
//! | what | table | JSON |
//! |---|---|---|
//! | control characters | `\n`, `\x1b`, `\u{9b}` | `\n`, `\u001b`, `\u009b` |
//! | marks that reverse the writing direction or have no width | `\u{202e}` | `\u202e` |
//! | a byte that is no UTF-8 | `\xff` | the string is `{"text": …, "bytes": …}` |

use engine::text::stray;
use std::{borrow::Cow, fmt::Write as _};

/// Whether a character could move a cursor, change a colour, reverse the writing direction or hide among others.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        || stray(c).is_some()
}

/// JSON text with its unsafe characters spelled `\uXXXX`, which says the same. They only stand in its strings.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unsafe(c) {
            true => out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `text` with unsafe characters spelled out (`\x1b`, `\n`, `\u{202e}`). Tabs become a blank.
pub fn escape(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The same for text with a layout of its own: newlines and tabs stay.
pub fn layout(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    // nearly all text is plain, and that is soon seen
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) || !text.chars().any(|c| is_unsafe(c) && !stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // writing to a String cannot fail
        let _ = match c {
            c if stays(c) || !is_unsafe(c) => out.write_char(c),
            '\t' => out.write_char(' '),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            c if c.is_ascii() => write!(out, "\\x{:02x}", c as u32),
            c if stray(c).is_some() => write!(out, "\\x{:02x}", stray(c).unwrap_or_default()),
            c => write!(out, "\\u{{{:x}}}", c as u32),
        };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{escape, json, layout};

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(escape("plain näme"), "plain näme");
        assert_eq!(escape("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
        assert_eq!(escape("a\u{202e}b\nc\td"), "a\\u{202e}b\\nc d");
        assert_eq!(escape("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(layout("a\tb\n\x1b[2J"), "a\tb\n\\x1b[2J");
        assert_eq!(escape(&engine::text::decode(b"\xffa\xc3\xa9")), "\\xffaé");
        assert_eq!(json("{\"a\":\"é\u{9b}\u{202e}\u{e0041}\"}"), "{\"a\":\"é\\u009b\\u202e\\udb40\\udc41\"}");
    }
}
