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
use serde_json::{Map, Value, json};
use std::io::Write;

/// A JSON writer.
pub struct Json<'a> {
    out: Box<dyn Output + 'a>,
    /// the type of the latest object, with its spelling: most walks yield one type
    latest: Option<(TypeId, String)>,
}

impl<'a> Json<'a> {
    /// JSON lines on `out`.
    pub fn new(out: Box<dyn Output + 'a>) -> Self {
        Json { out, latest: None }
    }

    fn object(&mut self, types: &Types, object: Object) -> Value {
        let addr = format!("{:#x}", object.addr);
        let Some(ctype) = object.ctype else { return json!({ "addr": addr }) };
        if self.latest.as_ref().is_none_or(|(id, _)| *id != ctype) {
            self.latest = Some((ctype, types.spell(ctype)));
        }
        json!({ "addr": addr, "type": self.latest.as_ref().map(|(_, spelled)| spelled) })
    }
}

impl Renderer for Json<'_> {
    fn item(&mut self, types: &Types, item: Item) -> Result<()> {
        let value = match item {
            Item::Row(row) => row_value(row),
            Item::Object(object) => self.object(types, object),
            Item::Line(text) => match string(&text) {
                Value::Object(both) => Value::Object(both),
                text => json!({ "text": text }),
            },
            Item::Tree(tree) => tree.to_json(),
        };
        written(writeln!(self.out, "{}", escape::json(&value.to_string())))
    }

    fn flush(&mut self) -> Result<()> {
        written(self.out.flush())
    }

    fn finish(&mut self) -> Result<()> {
        written(self.out.close())
    }
}

fn row_value(row: Row) -> Value {
    let fields = row.schema.columns.iter().zip(row.cells);
    Value::Object(fields.map(|(c, cell)| (c.name.to_owned(), cell_value(cell))).collect::<Map<_, _>>())
}

fn cell_value(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Addr(v) | Cell::Hex(v) => Value::String(format!("{v:#x}")),
        Cell::Uint(v) => integer(v),
        Cell::Int(v) => signed_integer(v),
        Cell::Bool(v) => Value::Bool(v),
        Cell::Str(s) => string(&s),
        Cell::Unreadable(why) => json!({ "unreadable": why }),
        Cell::List(cells) => cells.into_iter().map(cell_value).collect(),
    }
}
