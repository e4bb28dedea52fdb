//! JSON lines: one object an item. Addresses are strings (`"0xffff…"`), since JSON numbers lose their low bits.

use super::{Output, written};
use engine::{Cell, Item, Result, Row, Sink};
use serde_json::{Map, Value, json};
use std::io::Write;

/// Integers beyond this lose digits in most JSON readers.
const EXACT: u64 = 1 << 53;

/// A JSON writer.
pub struct Json<'a>(Box<dyn Output + 'a>);

impl<'a> Json<'a> {
    /// JSON lines on `out`.
    pub fn new(out: Box<dyn Output + 'a>) -> Self {
        Json(out)
    }
}

impl Sink for Json<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        let value = match item {
            Item::Row(row) => row_value(&row),
            Item::Object(o) => json!({ "addr": format!("{:#x}", o.addr) }),
            Item::Line(text) => json!({ "text": text }),
            Item::Tree(tree) => tree.to_json(),
        };
        written(writeln!(self.0, "{value}"))
    }

    fn finish(&mut self) -> Result<()> {
        written(self.0.close())
    }
}

fn row_value(row: &Row) -> Value {
    let fields = row.schema.columns.iter().zip(&row.cells);
    Value::Object(fields.map(|(c, cell)| (c.name.to_owned(), cell_value(cell))).collect::<Map<_, _>>())
}

fn cell_value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Addr(v) | Cell::Hex(v) => Value::String(format!("{v:#x}")),
        Cell::Uint(v) if *v < EXACT => json!(v),
        Cell::Uint(v) => Value::String(v.to_string()),
        Cell::Int(v) if v.unsigned_abs() < EXACT => json!(v),
        Cell::Int(v) => Value::String(v.to_string()),
        Cell::Bool(v) => json!(v),
        Cell::Str(s) => json!(s),
        Cell::Unreadable(why) => json!({ "unreadable": why }),
        Cell::List(cells) => cells.iter().map(cell_value).collect(),
    }
}
