//! JSON lines: one object an item. Addresses are strings (`"0xffff…"`), since JSON numbers lose their low bits.
//!
//! | item | JSON |
//! |---|---|
//! | object | `{"addr":"0xff386d1d80400040","type":"struct dentry"}` |
//! | row | its columns by name; what could not be read is `{"unreadable": reason}` |
//! | C value | `{"addr":…,"type":…,"value":…}` |
//! | line of text | `{"text":"…"}` |
//!
//! Strings are exact: a text that is not all UTF-8 is an object, its bytes in hex beside what can be read of it
//! (`{"text":"caf\ufffd","bytes":"636166e9"}`). Notes and errors are no answers; they go to standard error, as always.

use super::{Output, Renderer, escape, written};
use engine::{
    Cell, Item, Object, Result, Row, TypeId,
    cprint::{integer, signed_integer, string},
    debuginfo::Types,
};
use serde_json::{Value, json};
use std::{fmt::Write as _, io::Write};

/// A JSON writer.
pub struct Json<'a> {
    out: Box<dyn Output + 'a>,
    /// the type of the latest object, with its spelling: most walks yield one type
    latest: Option<(TypeId, String)>,
    /// the line being made
    line: String,
}

impl<'a> Json<'a> {
    /// JSON lines on `out`.
    pub fn new(out: Box<dyn Output + 'a>) -> Self {
        Json { out, latest: None, line: String::new() }
    }

    fn object(&mut self, types: &Types, object: Object) {
        // writing to a String cannot fail
        let _ = write!(self.line, "{{\"addr\":\"{:#x}\"", object.addr);
        if let Some(ctype) = object.ctype {
            if self.latest.as_ref().is_none_or(|(id, _)| *id != ctype) {
                self.latest = Some((ctype, types.spell(ctype)));
            }
            self.line.push_str(",\"type\":");
            text(&mut self.line, self.latest.as_ref().map_or("", |(_, spelled)| spelled));
        }
        self.line.push('}');
    }

    /// The columns in their order. Their names are those of Rust fields: nothing in them needs an escape.
    fn row(&mut self, row: &Row) {
        self.line.push('{');
        for (i, (column, cell)) in row.schema.columns.iter().zip(&row.cells).enumerate() {
            self.line.push_str(if i > 0 { ",\"" } else { "\"" });
            self.line.push_str(column.name);
            self.line.push_str("\":");
            put(&mut self.line, cell);
        }
        self.line.push('}');
    }
}

impl Renderer for Json<'_> {
    fn item(&mut self, types: &Types, item: Item) -> Result<()> {
        self.line.clear();
        match item {
            Item::Row(row) => self.row(&row),
            Item::Object(object) => self.object(types, object),
            Item::Line(line) => match string(&line) {
                Value::Object(both) => value(&mut self.line, &Value::Object(both)),
                text => value(&mut self.line, &json!({ "text": text })),
            },
            Item::Tree(tree) => value(&mut self.line, &tree.to_json()),
        }
        self.line.push('\n');
        written(self.out.write_all(self.line.as_bytes()))
    }

    fn flush(&mut self) -> Result<()> {
        written(self.out.flush())
    }

    fn finish(&mut self) -> Result<()> {
        written(self.out.close())
    }
}

fn put(line: &mut String, cell: &Cell) {
    match cell {
        Cell::Null => line.push_str("null"),
        Cell::Addr(v) | Cell::Hex(v) => drop_error(write!(line, "\"{v:#x}\"")),
        Cell::Uint(v) => value(line, &integer(*v)),
        Cell::Int(v) => value(line, &signed_integer(*v)),
        Cell::Bool(v) => line.push_str(if *v { "true" } else { "false" }),
        Cell::Str(s) => text(line, s),
        Cell::Unreadable(why) => value(line, &json!({ "unreadable": why })),
        Cell::List(cells) => {
            line.push('[');
            for (i, cell) in cells.iter().enumerate() {
                line.push_str(if i > 0 { "," } else { "" });
                put(line, cell);
            }
            line.push(']');
        }
    }
}

/// A string; nearly all are plain, and that is soon seen.
fn text(line: &mut String, s: &str) {
    match s.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        true => line.extend(["\"", s, "\""]),
        false => value(line, &string(s)),
    }
}

fn value(line: &mut String, value: &Value) {
    match value {
        Value::Number(n) => drop_error(write!(line, "{n}")),
        other => line.push_str(&escape::json(&other.to_string())),
    }
}

/// Writing to a String cannot fail.
fn drop_error(_: std::fmt::Result) {}
