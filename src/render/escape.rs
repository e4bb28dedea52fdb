//! Text from a dump may hold anything, terminal escapes too: nothing but printable text leaves this program.

use std::borrow::Cow;

/// Whether a character could move a cursor, change a colour or reverse the writing direction.
fn unsafe_char(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` with unsafe characters spelled out (`\x1b`, `\n`, `\u{202e}`). Tabs become a blank.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(unsafe_char) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if unsafe_char(c) && c.is_ascii() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if unsafe_char(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(escape("plain näme"), "plain näme");
        assert_eq!(escape("\x1b[31mred\x07"), "\\x1b[31mred\\x07");
        assert_eq!(escape("a\u{202e}b\nc\td"), "a\\u{202e}b\\nc d");
        assert_eq!(escape("\u{9b}2J"), "\\u{9b}2J");
    }
}
