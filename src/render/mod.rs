//! Rendering: the only room that writes to standard output.
//!
//! Items arrive one by one and leave as soon as the format allows: a table waits for its first rows to choose widths,
//! JSON lines and CSV wait for nothing.

pub mod csv;
pub mod escape;
pub mod json;
pub mod pager;
pub mod table;

use engine::{Error, Item, Result, Sink};
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

/// A renderer of one format that writes to `out`.
pub fn renderer<'a>(format: Format, out: Box<dyn Output + 'a>, style: Style) -> Box<dyn Sink + 'a> {
    match format {
        Format::Table => Box::new(table::Table::new(out, style)),
        Format::Json => Box::new(json::Json::new(out)),
        Format::Csv => Box::new(csv::Csv::new(out)),
    }
}

/// How a table looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// whether escape sequences may be used
    pub color: bool,
}

/// Where text goes: a terminal through a pager, a file, a shell command's input.
pub trait Output: Write {
    /// Called once at the end: waits for whoever reads.
    fn close(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Output for io::BufWriter<io::Stdout> {}
impl Output for Vec<u8> {}

/// A reader that has gone away (`| head -1`) is no error: it has seen enough.
pub fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|e| if e.kind() == io::ErrorKind::BrokenPipe { Error::Stop } else { Error::Io(e) })
}

/// Renders items that were collected.
pub fn render_all(format: Format, items: Vec<Item>) -> Result<Vec<u8>> {
    struct Shared<'a>(&'a mut Vec<u8>);
    impl Write for Shared<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Output for Shared<'_> {}
    let mut text = Vec::new();
    {
        let mut sink = renderer(format, Box::new(Shared(&mut text)), Style { color: false });
        for item in items {
            sink.item(item)?;
        }
        sink.finish()?;
    }
    Ok(text)
}
