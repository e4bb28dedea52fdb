//! How the kernel itself prints a tracepoint's fields, by the `print fmt` of its format file: which numbers are addresses
//! of code, of memory or of the network.
//!
//! ```text
//! print fmt: "call_site=%pS ptr=%p bytes_req=%zu", (void *)REC->call_site, REC->ptr, REC->bytes_req
//! ```

use std::collections::HashMap;

/// How a field is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Printed {
    /// in no way of note
    #[default]
    Plain,
    /// an address of code, by its name (`%pS`, `%ps`, `%pB`)
    Code,
    /// an address (`%p`)
    Address,
    /// an address of the network (`%pI4`)
    Network,
}

/// The fields that are printed in one of these ways.
pub fn of(format: &str) -> HashMap<&str, Printed> {
    let Some(printed) = format.lines().find_map(|line| line.strip_prefix("print fmt: ")) else { return HashMap::new() };
    let mut parts = split(printed).into_iter();
    let Some(text) = parts.next() else { return HashMap::new() };
    let fields = conversions(text).zip(parts).filter_map(|(printed, argument)| Some((field(argument)?, printed)));
    fields.filter(|(_, printed)| *printed != Printed::Plain).collect()
}

/// The format and its arguments: commas that are in no brackets and in no text stand between them.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0i32, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// How each argument is printed, in their order.
fn conversions(text: &str) -> impl Iterator<Item = Printed> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('%') {
        if let Some(literal) = behind.strip_prefix('%') {
            rest = literal;
            continue;
        }
        let letter = behind.trim_start_matches(|c: char| c.is_ascii_digit() || "-+ #.*hlLqzt".contains(c));
        // a width that is an argument
        let options = behind.get(..behind.len() - letter.len()).unwrap_or_default();
        found.extend(options.matches('*').map(|_| Printed::Plain));
        let pointer = letter.strip_prefix('p');
        found.push(match pointer {
            Some(how) if how.starts_with(['S', 's', 'B']) => Printed::Code,
            Some(how) if how.starts_with("I4") => Printed::Network,
            Some(how) if !how.starts_with(|c: char| c.is_ascii_uppercase()) || how.starts_with('K') => Printed::Address,
            _ => Printed::Plain,
        });
        rest = letter.get(1..).unwrap_or_default();
    }
    found.into_iter()
}

/// The field that an argument is, if it is no more than that: `(void *)REC->ip`.
fn field(argument: &str) -> Option<&str> {
    let (before, behind) = argument.split_once("REC->")?;
    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
    let (name, rest) = behind.split_at(end);
    let casts = before.chars().all(|c| c.is_ascii_alphanumeric() || " _*()".contains(c));
    (casts && rest.chars().all(|c| " )".contains(c))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_meet_their_fields() {
        let format = "ID: 3\nprint fmt: \"a=%d%% of=%*s ip=%pS, ptr=%p k=%pK flags=%s at=0x%lx %pI4 %pI6c e=%08llx\", REC->a, \
                      REC->width, REC->text, (void *)REC->ip, REC->ptr, REC->k, __print_flags(REC->flags, \"|\", { 1, \"A, B\" }), \
                      REC->at << 2, REC->saddr, REC->saddr6, ((unsigned long)REC->e)";
        let found = of(format);
        let wanted =
            [("ip", Printed::Code), ("ptr", Printed::Address), ("k", Printed::Address), ("saddr", Printed::Network)];
        assert_eq!(found, wanted.into_iter().collect());
        for odd in ["", "print fmt: ", "print fmt: \"%", "print fmt: \"%p\", ", "print fmt: \"é%\u{e9}\", REC->é"] {
            assert!(of(odd).len() < 2);
        }
    }
}
