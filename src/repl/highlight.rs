//! Colours for the line being typed: known dcmds bold, unknown ones red, strings green, numbers cyan.

use anstyle::{AnsiColor, Style};
use engine::Cx;
use std::borrow::Cow;

/// The line with its colours.
pub fn highlight<'l>(cx: &Cx<'_>, line: &'l str) -> Cow<'l, str> {
    let mut out = String::with_capacity(line.len() + 32);
    let mut rest = line;
    while !rest.is_empty() {
        let (len, style) = token(cx, rest);
        let (text, tail) = rest.split_at(len.clamp(1, rest.len()).max(first_char(rest)));
        match style {
            Some(style) => out.push_str(&format!("{style}{text}{style:#}")),
            None => out.push_str(text),
        }
        rest = tail;
    }
    Cow::Owned(out)
}

fn first_char(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

/// Length and style of the token at the start of `rest`.
fn token(cx: &Cx<'_>, rest: &str) -> (usize, Option<Style>) {
    let color = |c: AnsiColor| Some(Style::new().fg_color(Some(c.into())));
    if let Some(after) = rest.strip_prefix("::") {
        let name: &str = after.split(|c: char| !(c.is_alphanumeric() || "_`".contains(c))).next().unwrap_or_default();
        let known = cx.registry.dcmd(name).is_some();
        return (2 + name.len(), if known { Some(Style::new().bold()) } else { color(AnsiColor::Red) });
    }
    let Some(first) = rest.chars().next() else { return (0, None) };
    match first {
        '\'' | '"' => {
            let end = rest[1..].find(first).map_or(rest.len(), |i| i + 2);
            (end, color(AnsiColor::Green))
        }
        '|' | '!' | ';' => (1, color(AnsiColor::Yellow)),
        c if c.is_ascii_digit() => {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (end, color(AnsiColor::Cyan))
        }
        c if c.is_alphanumeric() || c == '_' => {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_.-`".contains(c))).unwrap_or(rest.len());
            (end, None)
        }
        c => (c.len_utf8(), None),
    }
}
