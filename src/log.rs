//! `::log`: a copy of the session in a file, of what is typed and what is shown.

use crate::render::{self, Format, Output, Renderer};
use engine::{Cx, Item, Result, Sink, debuginfo::Types};
use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufWriter, Write},
};

/// The file that a copy is kept in, if any.
#[derive(Default)]
pub struct Log(RefCell<Option<File>>);

impl Log {
    /// Writes to another file from now on, or to none.
    pub fn set(&self, file: Option<File>) {
        self.0.replace(file);
    }

    /// Keeps a text. A disk that is full must not end the session: the screen has it all.
    pub fn keep(&self, text: &str) {
        if let Some(file) = &mut *self.0.borrow_mut() {
            let _ = file.write_all(text.as_bytes());
        }
    }

    /// What is shown goes into the file, too.
    pub fn copied<'a>(&self, cx: &Cx<'a>, format: Format, shown: Box<dyn Sink + 'a>) -> Box<dyn Sink + 'a> {
        match self.0.borrow().as_ref().and_then(|file| file.try_clone().ok()) {
            Some(file) => {
                let kept = render::renderer(format, Box::new(Kept(BufWriter::new(file))), false);
                Box::new(Copied { shown, kept, types: &cx.session.types })
            }
            None => shown,
        }
    }
}

/// The log as a place that text goes to.
struct Kept(BufWriter<File>);

impl Write for Kept {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for Kept {}

/// The end of a pipeline that is shown and kept.
struct Copied<'a> {
    shown: Box<dyn Sink + 'a>,
    kept: Box<dyn Renderer>,
    types: &'a Types,
}

impl Sink for Copied<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        self.kept.item(self.types, item.clone())?;
        self.shown.item(item)
    }

    fn flush(&mut self) -> Result<()> {
        self.shown.flush()
    }

    fn finish(&mut self) -> Result<()> {
        let kept = self.kept.finish();
        self.shown.finish().and(kept)
    }
}
