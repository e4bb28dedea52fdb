//! Tables that stream: the first rows settle the widths, later rows widen only themselves.

use super::{Output, Style, escape::escape, written};
use engine::{Cell, Item, Result, Row, Schema, Sink};
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Rows that are looked at before the widths are settled.
const SAMPLE: usize = 256;
/// Indentation of detail lines, mdb's 16-column margin and a blank.
const DETAIL: usize = 17;

/// A table writer.
pub struct Table<'a> {
    out: Box<dyn Output + 'a>,
    style: Style,
    schema: Option<&'static Schema>,
    widths: Vec<usize>,
    waiting: Vec<Row>,
    settled: bool,
}

impl<'a> Table<'a> {
    /// A table on `out`.
    pub fn new(out: Box<dyn Output + 'a>, style: Style) -> Self {
        Table { out, style, schema: None, widths: Vec::new(), waiting: Vec::new(), settled: false }
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
        let Some(schema) = self.schema.filter(|_| !self.settled) else { return Ok(()) };
        let rows = std::mem::take(&mut self.waiting);
        self.widths = schema.columns.iter().map(|c| c.heading.width()).collect();
        for row in &rows {
            for ((width, cell), _) in
                self.widths.iter_mut().zip(&row.cells).zip(schema.columns).filter(|(_, c)| shown(c))
            {
                *width = (*width).max(text(cell).width());
            }
        }
        let right: Vec<bool> =
            (0..schema.columns.len()).map(|i| rows.iter().any(|r| r.cells.get(i).is_some_and(numeric))).collect();
        self.settled = true;
        self.heading(schema, &right)?;
        rows.iter().try_for_each(|row| self.write_row(row))
    }

    fn heading(&mut self, schema: &Schema, right: &[bool]) -> Result<()> {
        let mut line = String::new();
        let columns: Vec<_> = schema.columns.iter().enumerate().filter(|(_, c)| shown(c)).collect();
        for (n, (i, column)) in columns.iter().enumerate() {
            let last = n + 1 == columns.len();
            pad(
                &mut line,
                column.heading,
                self.widths.get(*i).copied().unwrap_or(0),
                right.get(*i) == Some(&true),
                last,
            );
        }
        let bold = anstyle::Style::new().bold();
        let line = line.trim_end();
        if line.is_empty() {
            // sentences are rows, too, and have no heading
            return Ok(());
        }
        written(if self.style.color {
            writeln!(self.out, "{bold}{line}{bold:#}")
        } else {
            writeln!(self.out, "{line}")
        })
    }

    fn write_row(&mut self, row: &Row) -> Result<()> {
        let mut line = String::new();
        let columns: Vec<_> =
            row.schema.columns.iter().zip(&row.cells).enumerate().filter(|(_, (c, _))| shown(c)).collect();
        for (n, (i, (_, cell))) in columns.iter().enumerate() {
            let last = n + 1 == columns.len();
            pad(&mut line, &text(cell), self.widths.get(*i).copied().unwrap_or(0), numeric(cell), last);
        }
        written(writeln!(self.out, "{}", line.trim_end()))?;
        let mut any = false;
        for (_, cell) in row.schema.columns.iter().zip(&row.cells).filter(|(c, _)| c.detail) {
            let lines: &[Cell] = match cell {
                Cell::Null => continue,
                Cell::List(lines) => lines,
                one => std::slice::from_ref(one),
            };
            for line in lines {
                any = true;
                written(writeln!(self.out, "{:DETAIL$}{}", "", text(line)))?;
            }
        }
        if any { written(writeln!(self.out)) } else { Ok(()) }
    }

    /// Text between rows: whatever waits comes first.
    fn plain(&mut self, line: &str) -> Result<()> {
        self.settle()?;
        line.split('\n').try_for_each(|line| {
            // tabs are layout here, not data
            let parts: Vec<_> = line.split('\t').map(escape).collect();
            written(writeln!(self.out, "{}", parts.join("\t")))
        })
    }
}

impl Sink for Table<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Row(row) => self.row(row),
            Item::Object(object) => self.plain(&format!("{:#x}", object.addr)),
            Item::Line(line) => self.plain(&line),
            Item::Tree(tree) => self.plain(&tree.to_text()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.settle()?;
        written(self.out.close())
    }
}

fn shown(column: &engine::Column) -> bool {
    !column.detail && !column.hidden
}

fn numeric(cell: &Cell) -> bool {
    matches!(cell, Cell::Uint(_) | Cell::Int(_) | Cell::Hex(_))
}

fn pad(line: &mut String, text: &str, width: usize, right: bool, last: bool) {
    let gap = width.saturating_sub(text.width());
    if right {
        line.extend(std::iter::repeat_n(' ', gap));
    }
    line.push_str(text);
    if !last {
        line.extend(std::iter::repeat_n(' ', if right { 1 } else { gap + 1 }));
    }
}

/// A cell as a person reads it.
pub fn text(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".to_owned(),
        Cell::Addr(v) => format!("{v:016x}"),
        Cell::Hex(v) => format!("{v:x}"),
        Cell::Uint(v) => v.to_string(),
        Cell::Int(v) => v.to_string(),
        Cell::Bool(v) => if *v { "yes" } else { "no" }.to_owned(),
        Cell::Str(s) => escape(s).into_owned(),
        Cell::Unreadable(why) => format!("<unreadable: {}>", escape(why)),
        Cell::List(cells) => cells.iter().map(text).collect::<Vec<_>>().join(","),
    }
}
