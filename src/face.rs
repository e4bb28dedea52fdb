//! The face: what the engine asks of the program around it.

use crate::{
    foreign,
    registry::REGISTRY,
    render::{
        self, Format, Output, escape,
        guest::{self, Piped},
        live::Live,
        pager,
    },
};
use engine::{Cx, Error, Face, Item, Result, Sink};
use std::{
    cell::{Cell, RefCell},
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
    /// commands are written before their answers
    pub echo: bool,
    /// whether any command failed
    pub failed: Cell<bool>,
    /// a command found damage that it looked for
    pub findings: Cell<bool>,
    /// whether the reader of the latest command's output has left
    pub closed: Cell<bool>,
    /// what happened to the dump's files, as far as it was told
    pub trouble: RefCell<Option<String>>,
    /// what `::log` keeps a copy in
    pub log: crate::log::Log,
}

impl Program {
    /// Shows an error, the line it is about with a caret under the place, and the way on. `place` is the file that the
    /// line stands in and its number there.
    pub fn show_error(&self, error: &Error, line: &str, place: Option<(&str, usize)>) {
        self.failed.set(true);
        let place = place.map(|(file, number)| {
            let before = error.span().and_then(|span| line.get(..span.start)).unwrap_or_default();
            format!("{}:{}: ", escape::escape(file), number + before.matches('\n').count())
        });
        let place = place.unwrap_or_default();
        let mut text = format!("kmdb: {place}{}\n", escape::layout(&error.to_string()));
        if let Some((line, span)) = error.place(line) {
            text.push_str(&engine::lang::point(line, &span));
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        // a line that is not in the language may be in another
        let foreign = error.span().and_then(|_| foreign::advice(&REGISTRY, line));
        if let Some(hint) = foreign.as_deref().or(error.advice()) {
            text.push_str(&format!("      {}\n", escape::layout(hint)));
        }
        self.say(&text);
    }

    /// Writes a line to standard output, if the session is to be recorded there.
    pub fn record(&self, line: &str) {
        if self.echo {
            // whoever does not read the record reads no answer either, and that is noticed
            let _ = writeln!(pager::stdout(), "{line}");
        }
    }

    /// Tells once what has happened to the dump's files since they were opened.
    pub fn show_trouble(&self, cx: &Cx<'_>) {
        let now = cx.target.trouble();
        if now.is_some() && *self.trouble.borrow() != now {
            let what = now.as_deref().unwrap_or_default();
            self.say(&format!("kmdb: {what}; the answer may be wrong: open the dump again\n"));
            self.failed.set(true);
            self.trouble.replace(now);
        }
    }

    /// Writes to standard error. If even that fails there is nobody to tell.
    pub fn say(&self, text: &str) {
        self.log.keep(text);
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Face for Program {
    fn open<'a>(&'a self, cx: &Cx<'a>, shell: Option<&str>) -> Result<Box<dyn Sink + 'a>> {
        let out: Box<dyn Output> =
            match (shell, (self.paged && cx.env.options.pager.get()).then(|| pager::pager(&cx.interrupt)).flatten()) {
                (Some(command), _) => Box::new(Piped::shell(command)?),
                (None, Some(pager)) => pager,
                (None, None) => Box::new(pager::stdout()),
            };
        let renderer = render::renderer(self.format, out, self.color && shell.is_none());
        let shown = Box::new(Live::new(cx.session, renderer, shell.is_none(), &self.closed));
        Ok(if shell.is_none() { self.log.copied(cx, self.format, shown) } else { shown })
    }

    fn filter(&self, cx: &Cx<'_>, command: &str, items: Vec<Item>) -> Result<String> {
        let input = render::render_all(Format::Table, &cx.session.types, items)?;
        Ok(guest::filter(command, input)?)
    }

    fn shell(&self, command: &str) -> Result<()> {
        Ok(guest::run(command)?)
    }

    fn remark(&self, text: &str) {
        self.say(&format!("note: {}\n", escape::escape(text)));
    }

    fn typed(&self, line: &str) {
        self.log.keep(&format!("> {line}\n"));
    }

    fn log(&self, file: Option<std::fs::File>) -> Result<()> {
        self.log.set(file);
        Ok(())
    }

    fn complain(&self, error: &Error, file: &str, number: usize, command: &str) {
        self.show_error(error, command, Some((file, number)));
    }
}
