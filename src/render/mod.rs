//! Rendering: the only room that writes to standard output.
//!
//! Items arrive one by one and leave as soon as the format allows: a table waits for its first rows to choose widths,
//! JSON lines and CSV wait for nothing. [`live`] adds a clock, for rows that are slow to come.

pub mod csv;
pub mod escape;
pub mod guest;
pub mod json;
pub mod live;
pub mod more;
pub mod pager;
pub mod table;

use engine::{Error, Item, Result, debuginfo::Types};
use std::io::{self, Write};

/// `-o`: how answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// columns for people
    Table,
    /// one JSON object a line
    Json,
    /// comma-separated values with a heading
    Csv,
}

/// Writes items in one format.
pub trait Renderer: Send {
    /// One item; `types` spell the type of an object.
    fn item(&mut self, types: &Types, item: Item) -> Result<()>;
    /// Gives away what waits for more to come: somebody would rather see it now.
    fn flush(&mut self) -> Result<()>;
    /// No more will come.
    fn finish(&mut self) -> Result<()>;
}

/// A renderer of one format that writes to `out`.
pub fn renderer<'a>(format: Format, out: Box<dyn Output + 'a>, color: bool) -> Box<dyn Renderer + 'a> {
    match format {
        Format::Table => Box::new(table::Table::new(out, color)),
        Format::Json => Box::new(json::Json::new(out)),
        Format::Csv => Box::new(csv::Csv::new(out)),
    }
}

/// A terminal that can neither move its cursor nor show colours.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty())
}

/// Where text goes: a terminal through a pager, a file, a shell command's input.
pub trait Output: Write + Send {
    /// Called once at the end: waits for whoever reads.
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Output for io::BufWriter<io::Stdout> {}
impl Output for Vec<u8> {}
impl Output for &mut Vec<u8> {}

/// A reader that has gone away (`| head -1`) is no error: it has seen enough.
pub fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|e| if e.kind() == io::ErrorKind::BrokenPipe { Error::Stop } else { Error::Io(e) })
}

/// Renders items that were collected.
pub fn render_all(format: Format, types: &Types, items: Vec<Item>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut renderer = renderer(format, Box::new(&mut text), false);
    items.into_iter().try_for_each(|item| renderer.item(types, item))?;
    renderer.finish()?;
    drop(renderer);
    Ok(text)
}
