//! The face: what the engine asks of the program around it.

use crate::render::{self, Format, Output, Style, pager};
use engine::{Cx, Error, Face, Item, Result, Sink};
use std::{
    cell::Cell,
    io::{self, Write},
};

/// Renders answers to standard output and complaints to standard error.
pub struct Program {
    /// `-o`
    pub format: Format,
    /// whether standard output may be coloured
    pub color: bool,
    /// whether long answers go through a pager
    pub paged: bool,
    /// whether any command failed
    pub failed: Cell<bool>,
}

impl Program {
    fn output(&self) -> Box<dyn Output> {
        match pager::Pager::new().filter(|_| self.paged) {
            Some(pager) => Box::new(pager),
            None => pager::stdout(),
        }
    }

    /// Shows an error, the line it is about with a caret under the place, and the way on.
    pub fn show_error(&self, error: &Error, line: Option<&str>) {
        self.failed.set(true);
        let mut text = format!("kmdb: {}\n", render::escape::escape(&error.to_string()).replace("\\n", "\n"));
        if let (Some(line), Some(span)) = (line, error.span()) {
            text.push_str(&engine::lang::point(line, span));
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        if let Some(hint) = error.advice() {
            text.push_str(&format!("      {hint}\n"));
        }
        self.say(&text);
    }

    /// Writes to standard error. If even that fails there is nobody to tell.
    pub fn say(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Face for Program {
    fn open<'a>(&'a self, _: &Cx<'a>, shell: Option<&str>) -> Result<Box<dyn Sink + 'a>> {
        let out: Box<dyn Output> = match shell {
            Some(command) => Box::new(pager::Piped::new(command)?),
            None => self.output(),
        };
        Ok(render::renderer(self.format, out, Style { color: self.color && shell.is_none() }))
    }

    fn filter(&self, _: &Cx<'_>, command: &str, items: Vec<Item>) -> Result<String> {
        let input = render::render_all(Format::Table, items)?;
        Ok(pager::filter(command, input)?)
    }

    fn complain(&self, error: &Error) {
        self.show_error(error, None);
    }
}
