//! mdb's layout: four blanks a level, `name = value`, one member a line.
//!
//! ```text
//! ffff8881002a3c00 d_name = {
//!     ffff8881002a3c20 d_name.name = 0xffff8881002a3c38 "init"
//! }
//! ```

use super::scalar;
use crate::{
    ctree::{Node, Radix, Style, Text, Tree, Value},
    lang::number::{unambiguous, unambiguous_signed},
};
use std::fmt::Write as _;

/// Blanks a level.
const INDENT: usize = 4;

/// What stands around a node.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// the value itself, with the path that was asked for
    Top(Option<&'a str>),
    /// a member; the text goes before its name
    Member(&'a str),
    /// an element of an array of structs or arrays
    Element,
}

impl Tree {
    /// The text, without a newline at its end.
    pub fn to_text(&self) -> String {
        let mut writer = Writer { style: self.style, out: String::new() };
        let path = self.path.as_ref().map(|(path, _)| path.as_str());
        let prefix = self.path.as_ref().map(|(path, sign)| format!("{path}{sign}")).unwrap_or_default();
        writer.node(&self.root, 0, Place::Top(path), &prefix);
        writer.out.truncate(writer.out.trim_end_matches('\n').len());
        writer.out
    }
}

struct Writer {
    style: Style,
    out: String,
}

impl Writer {
    /// One node with its newline. `prefix` goes before the names of its own members.
    fn node(&mut self, node: &Node, level: usize, place: Place<'_>, prefix: &str) {
        self.indent(level);
        self.head(node, place);
        self.value(&node.value, level, prefix);
        // elements that are structs are separated by commas
        let comma = matches!(place, Place::Element) && matches!(node.value, Value::Struct { .. });
        self.out.push_str(if comma { ",\n" } else { "\n" });
    }

    fn head(&mut self, node: &Node, place: Place<'_>) {
        if self.style.addresses {
            self.put(format_args!("{:x}", node.addr));
            if node.bit != 0 {
                self.put(format_args!(".{:x}", node.bit));
            }
            self.out.push(' ');
        }
        let named = !matches!(place, Place::Top(None) | Place::Element);
        if let Some(spelled) = &node.spelled {
            self.out.push_str(spelled);
            if !(spelled.ends_with('*') && named) {
                self.out.push(' ');
            }
        }
        match place {
            Place::Top(path) => self.out.push_str(path.unwrap_or_default()),
            Place::Member(prefix) => {
                self.out.push_str(prefix);
                self.out.push_str(if node.is_anonymous() { "<anon>" } else { &node.name });
            }
            Place::Element => {}
        }
        if let Some(bits) = node.bits.filter(|_| self.style.types) {
            self.put(format_args!(" :{bits}"));
        }
        if named {
            self.out.push_str(if self.style.layout { " " } else { " = " });
        }
    }

    fn value(&mut self, value: &Value, level: usize, prefix: &str) {
        match value {
            Value::Absent => {}
            Value::Struct { members, more } => {
                self.out.push_str("{\n");
                for member in members {
                    self.node(member, level + 1, Place::Member(prefix), "");
                }
                if *more > 0 {
                    self.indent(level + 1);
                    self.out.push_str("...\n");
                }
                self.indent(level);
                self.out.push('}');
            }
            Value::Array { items, more, tall: true } if !items.is_empty() => {
                self.out.push_str("[\n");
                for item in items {
                    self.node(item, level + 1, Place::Element, "");
                }
                self.indent(level);
                self.out.push_str(if *more > 0 { "... ]" } else { "]" });
            }
            Value::Array { items, more, .. } if !items.is_empty() => {
                self.out.push_str("[ ");
                for (i, item) in items.iter().enumerate() {
                    self.out.push_str(if i > 0 { ", " } else { "" });
                    self.value(&item.value, level, "");
                }
                self.out.push_str(if *more > 0 { ", ... ]" } else { " ]" });
            }
            Value::Array { .. } | Value::ArrayBelow => self.out.push_str("[ ... ]"),
            Value::StructBelow => self.out.push_str("{ ... }"),
            Value::String(Text { text, more }) => {
                self.put(format_args!("[ \"{text}\"{} ]", if *more { "..." } else { "" }));
            }
            Value::Char(c) => self.out.push_str(&scalar::char_literal(*c)),
            Value::Known(text) => self.out.push_str(text),
            Value::Unreadable(why) => self.put(format_args!("<unreadable: {why}>")),
            Value::Declared => self.out.push_str("<forward declaration>"),
            Value::Int { .. } | Value::Float(_) | Value::Enum { .. } | Value::Pointer { .. } => self.number(value),
        }
    }

    fn number(&mut self, value: &Value) {
        let radix = self.style.radix;
        match value {
            Value::Int { raw, bits, signed, field } => self.out.push_str(&match (radix, signed, field) {
                (Radix::Natural, true, true) | (Radix::Decimal, true, _) => {
                    unambiguous_signed(scalar::sign_extend(*raw, *bits), 10)
                }
                (Radix::Decimal, false, _) => unambiguous(*raw, 10),
                _ => hex(*raw),
            }),
            Value::Enum { value, bits, name, flags } => {
                let number = match *flags || radix == Radix::Hex {
                    true => hex(scalar::mask(*value as u64, *bits)),
                    false => unambiguous_signed(*value, 10),
                };
                self.put(format_args!("{number} ({})", name.as_deref().unwrap_or("???")));
            }
            Value::Float(v) => self.out.push_str(&float(*v)),
            Value::Pointer { to, symbol, text } => {
                match symbol {
                    Some(symbol) => self.out.push_str(symbol),
                    None => self.out.push_str(&unambiguous(*to, 16)),
                }
                if let Some(Text { text, more }) = text {
                    self.put(format_args!(" \"{text}{}\"", if *more { "..." } else { "" }));
                }
            }
            _ => {}
        }
    }

    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n(' ', level * INDENT));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // writing to a String cannot fail
        let _ = self.out.write_fmt(text);
    }
}

/// C's `%#x`: zero has no prefix.
fn hex(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}

/// mdb's notation: sign, eight digits, an exponent of at least two digits.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return format!("{value:+}");
    }
    let text = format!("{value:+.7e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(e) => ('-', e),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats() {
        assert_eq!(float(1.0), "+1.0000000e+00");
        assert_eq!(float(3.9829317e-60), "+3.9829317e-60");
        assert_eq!(float(-2.5e100), "-2.5000000e+100");
        assert_eq!(float(f64::INFINITY), "+inf");
    }
}
