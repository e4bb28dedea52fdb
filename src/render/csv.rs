//! CSV with a heading line. A table of another kind starts after an empty line, with its own heading.

use super::{Output, Renderer, table, written};
use engine::{Cell, Item, Result, Row, Schema, debuginfo::Types};
use std::io;

/// A CSV writer.
pub struct Csv<'a> {
    out: csv::Writer<Box<dyn Output + 'a>>,
    schema: Option<&'static Schema>,
}

impl<'a> Csv<'a> {
    /// CSV on `out`.
    pub fn new(out: Box<dyn Output + 'a>) -> Self {
        Csv { out: csv::WriterBuilder::new().flexible(true).from_writer(out), schema: None }
    }

    fn record<T: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = T>) -> Result<()> {
        written(self.out.write_record(fields).map_err(io::Error::other).map_err(unwrap_io))
    }

    fn row(&mut self, row: &Row) -> Result<()> {
        if self.schema.is_none_or(|s| !std::ptr::eq(s, row.schema)) {
            if self.schema.is_some() {
                self.record([""])?;
            }
            self.schema = Some(row.schema);
            self.record(row.schema.columns.iter().map(|c| c.name))?;
        }
        self.record(row.cells.iter().map(value))
    }
}

/// The I/O error inside a csv error, so that a closed pipe is still known as one.
fn unwrap_io(e: io::Error) -> io::Error {
    match e.into_inner().map(|inner| inner.downcast::<csv::Error>()) {
        Some(Ok(e)) => match e.into_kind() {
            csv::ErrorKind::Io(e) => e,
            kind => io::Error::other(format!("{kind:?}")),
        },
        _ => io::Error::other("CSV writer"),
    }
}

fn value(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Addr(v) | Cell::Hex(v) => format!("{v:#x}"),
        Cell::List(cells) => cells.iter().map(value).collect::<Vec<_>>().join(" "),
        cell => table::text(cell),
    }
}

impl Renderer for Csv<'_> {
    fn item(&mut self, _: &Types, item: Item) -> Result<()> {
        match item {
            Item::Row(row) => self.row(&row),
            Item::Object(o) => self.record([format!("{:#x}", o.addr)]),
            Item::Line(line) => self.record([line]),
            Item::Tree(tree) => self.record([tree.to_text()]),
        }
    }

    fn flush(&mut self) -> Result<()> {
        written(self.out.flush())
    }

    fn finish(&mut self) -> Result<()> {
        written(self.out.flush())?;
        let done = csv::Writer::from_writer(Box::new(Vec::new()) as Box<dyn Output>);
        match std::mem::replace(&mut self.out, done).into_inner() {
            Ok(mut out) => written(out.close()),
            Err(e) => written(Err(io::Error::new(e.error().kind(), e.error().to_string()))),
        }
    }
}
