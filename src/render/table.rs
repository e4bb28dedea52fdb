//! Tables that stream: the first rows settle the widths, later rows widen only themselves.
//!
//! ```text
//! ADDR             NAME       OBJSIZE INUSE
//! ff386d1d857461c0 lab_node       104     7
//! ff386d1d85746c40 bio-128        320     -
//! ```
//!
//! A column of numbers is aligned to the right with its heading and its empty cells, any other to the left; what could
//! not be read has no say in it, since its reason is longer than any value.

use super::{
    Output, Renderer,
    escape::{escape, layout},
    written,
};
use engine::{Cell, Item, Result, Row, Schema, debuginfo::Types};
use std::{fmt::Write as _, io::Write as _};
use unicode_width::UnicodeWidthStr;

/// Rows that are looked at before the widths are settled.
const SAMPLE: usize = 256;
/// Indentation of detail lines: mdb's 16-column margin and a blank.
const DETAIL: &str = "                 ";

/// A table writer.
pub struct Table<'a> {
    out: Box<dyn Output + 'a>,
    color: bool,
    schema: Option<&'static Schema>,
    columns: Vec<Column>,
    /// rows that came before the widths were settled
    waiting: Vec<Row>,
    settled: bool,
    /// the line being made
    line: String,
}

/// A column that is shown.
struct Column {
    /// its place in the schema
    index: usize,
    width: usize,
    right: bool,
}

impl<'a> Table<'a> {
    /// A table on `out`.
    pub fn new(out: Box<dyn Output + 'a>, color: bool) -> Self {
        let (columns, waiting) = (Vec::new(), Vec::new());
        Table { out, color, schema: None, columns, waiting, settled: false, line: String::new() }
    }

    fn row(&mut self, row: Row) -> Result<()> {
        if self.schema.is_none_or(|s| !std::ptr::eq(s, row.schema)) {
            self.settle()?;
            self.schema = Some(row.schema);
            self.settled = false;
        }
        if self.settled {
            return self.write_row(&row);
        }
        self.waiting.push(row);
        if self.waiting.len() >= SAMPLE { self.settle() } else { Ok(()) }
    }

    /// Chooses widths from the rows that wait, and writes heading and rows.
    fn settle(&mut self) -> Result<()> {
        let Some(schema) = self.schema.filter(|_| !self.settled && !self.waiting.is_empty()) else { return Ok(()) };
        let rows = std::mem::take(&mut self.waiting);
        let shown = schema.columns.iter().enumerate().filter(|(_, c)| !c.detail && !c.hidden);
        self.columns = shown.map(|(index, c)| column(index, c.heading, &rows)).collect();
        self.settled = true;
        self.heading(schema)?;
        rows.iter().try_for_each(|row| self.write_row(row))
    }

    fn heading(&mut self, schema: &Schema) -> Result<()> {
        self.line(|index, line| line.push_str(schema.columns.get(index).map_or("", |c| c.heading)));
        if self.line.is_empty() {
            // sentences are rows, too, and have no heading
            return Ok(());
        }
        let bold = anstyle::Style::new().bold();
        written(match self.color {
            true => writeln!(self.out, "{bold}{}{bold:#}", self.line),
            false => writeln!(self.out, "{}", self.line),
        })
    }

    fn write_row(&mut self, row: &Row) -> Result<()> {
        self.line(|index, line| row.cells.get(index).map_or((), |cell| put(line, cell)));
        written(writeln!(self.out, "{}", self.line))?;
        let mut any = false;
        for (_, cell) in row.schema.columns.iter().zip(&row.cells).filter(|(c, _)| c.detail) {
            let lines: &[Cell] = match cell {
                Cell::Null => continue,
                Cell::List(lines) => lines,
                one => std::slice::from_ref(one),
            };
            for line in lines {
                any = true;
                written(writeln!(self.out, "{DETAIL}{}", text(line)))?;
            }
        }
        if any { written(writeln!(self.out)) } else { Ok(()) }
    }

    /// Makes a line of columns that `put` writes one by one.
    fn line(&mut self, put: impl Fn(usize, &mut String)) {
        self.line.clear();
        for (n, column) in self.columns.iter().enumerate() {
            let start = self.line.len();
            put(column.index, &mut self.line);
            let gap = column.width.saturating_sub(self.line.get(start..).map_or(0, width));
            match column.right {
                true => self.line.insert_str(start, &" ".repeat(gap)),
                // the last column is free
                false if n + 1 < self.columns.len() => self.line.extend(std::iter::repeat_n(' ', gap)),
                false => {}
            }
            self.line.push(' ');
        }
        self.line.truncate(self.line.trim_end().len());
    }

    /// Text between rows: whatever waits comes first.
    fn plain(&mut self, text: &str) -> Result<()> {
        self.settle()?;
        // tabs and newlines are layout here, not data
        written(writeln!(self.out, "{}", layout(text)))
    }
}

impl Renderer for Table<'_> {
    fn item(&mut self, _: &Types, item: Item) -> Result<()> {
        match item {
            Item::Row(row) => self.row(row),
            Item::Object(object) => {
                self.settle()?;
                written(writeln!(self.out, "{:#x}", object.addr))
            }
            Item::Line(line) => self.plain(&line),
            Item::Tree(tree) => self.plain(&tree.to_text()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.settle()?;
        written(self.out.flush())
    }

    fn finish(&mut self) -> Result<()> {
        let settled = self.settle();
        let closed = written(self.out.close());
        settled.and(closed)
    }
}

/// How a column looks, going by its heading and its first cells.
fn column(index: usize, heading: &str, rows: &[Row]) -> Column {
    let mut column = Column { index, width: width(heading), right: false };
    let (mut numbers, mut others) = (false, false);
    let mut scratch = String::new();
    for cell in rows.iter().filter_map(|row| row.cells.get(index)) {
        match cell {
            Cell::Unreadable(_) => continue,
            Cell::Uint(_) | Cell::Int(_) | Cell::Hex(_) => numbers = true,
            Cell::Null => {}
            _ => others = true,
        }
        scratch.clear();
        put(&mut scratch, cell);
        column.width = column.width.max(width(&scratch));
    }
    column.right = numbers && !others;
    column
}

fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

/// A cell as a person reads it.
pub fn text(cell: &Cell) -> String {
    let mut out = String::new();
    put(&mut out, cell);
    out
}

fn put(out: &mut String, cell: &Cell) {
    // writing to a String cannot fail
    let _ = match cell {
        Cell::Null => out.write_char('-'),
        Cell::Addr(v) => write!(out, "{v:016x}"),
        Cell::Hex(v) => write!(out, "{v:x}"),
        Cell::Uint(v) => write!(out, "{v}"),
        Cell::Int(v) => write!(out, "{v}"),
        Cell::Bool(v) => out.write_str(if *v { "yes" } else { "no" }),
        Cell::Str(s) => out.write_str(&escape(s)),
        Cell::Unreadable(why) => write!(out, "<unreadable: {}>", escape(why)),
        Cell::List(cells) => {
            for (i, cell) in cells.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                put(out, cell);
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests;
