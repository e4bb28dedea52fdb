//! JSON lines: one object an item. Addresses are strings (`"0xffff…"`), since JSON numbers lose their low bits.
//!
//! | item | JSON |
//! |---|---|
//! | object | `{"addr":"0xff386d1d80400040","type":"struct dentry"}` |
//! | row | its columns by name; what could not be read is `{"unreadable": reason}` |
//! | C value | `{"addr":…,"type":…,"value":…}` |
//! | line of text | `{"text":"…"}` |

use super::{Output, Renderer, written};
use engine::{
    Cell, Item, Object, Result, Row, TypeId,
    cprint::{integer, signed_integer},
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
            Item::Line(text) => json!({ "text": text }),
            Item::Tree(tree) => tree.to_json(),
        };
        written(writeln!(self.out, "{value}"))
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
        Cell::Str(s) => Value::String(s),
        Cell::Unreadable(why) => json!({ "unreadable": why }),
        Cell::List(cells) => cells.into_iter().map(cell_value).collect(),
    }
}
