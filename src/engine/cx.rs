//! The context a command runs in: the session (what is known) and the environment (what was said).

use crate::{
    env::Env,
    error::{Error, Result},
    item::{IntoRow, Item, Object},
    session::Session,
};
use std::ops::Deref;

/// Takes items: the next stage, a renderer, a collector.
pub trait Sink {
    /// One item. [`Error::Stop`] means: no more, please.
    fn item(&mut self, item: Item) -> Result<()>;
    /// What has come is to be seen now: what follows may take its time.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// What has come is whole: stages answer, and begin again.
    fn round(&mut self) -> Result<()> {
        self.flush()
    }
    /// No more will come.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Collects items.
impl Sink for Vec<Item> {
    fn item(&mut self, item: Item) -> Result<()> {
        self.push(item);
        Ok(())
    }
}

/// What the program around the engine does for it: rendering, shells, complaints.
pub trait Face {
    /// A renderer for the last stage of a pipeline; with `shell`, one whose text a shell command reads.
    fn open<'a>(&'a self, cx: &Cx<'a>, shell: Option<&str>) -> Result<Box<dyn Sink + 'a>>;
    /// Runs a shell command with the items' text as its input, and returns what it printed.
    fn filter(&self, cx: &Cx<'_>, command: &str, items: Vec<Item>) -> Result<String>;
    /// Runs a shell command that has nothing to do with a pipe, and waits for it.
    fn shell(&self, command: &str) -> Result<()>;
    /// Tells of an error in a file of commands, in the command that begins in line `number` of it. Those behind go on.
    fn complain(&self, error: &Error, file: &str, number: usize, command: &str);
    /// Says something while a command runs that goes on.
    fn remark(&self, _text: &str) {}
    /// A line of commands is about to run.
    fn typed(&self, _line: &str) {}
    /// From now on keeps a copy of what is typed and shown at the end of `file`; with `None`, no longer.
    fn log(&self, _file: Option<std::fs::File>) -> Result<()> {
        Err(Error::Unavailable("nothing is shown here that a log could keep".into()))
    }
}

/// The context. Derefs to the [`Session`], so that `cx.u64(addr)` reads memory.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// what is known
    pub session: &'a Session,
    /// what was said
    pub env: &'a Env,
    /// the program around
    pub face: &'a dyn Face,
}

impl Deref for Cx<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        self.session
    }
}

/// Where a stage puts what it finds.
pub struct Out<'a> {
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) interrupt: &'a crate::Interrupt,
    /// Whether another stage follows. A dcmd that formats for people may then pass plain objects on.
    pub piped: bool,
    /// Whether this is where a pipeline begins.
    pub(crate) first: bool,
}

impl<'a> Out<'a> {
    /// An output into `sink`.
    pub fn new(cx: &Cx<'a>, sink: &'a mut dyn Sink, piped: bool) -> Out<'a> {
        Out { sink, interrupt: &cx.session.interrupt, piped, first: false }
    }

    /// Passes a row on.
    pub fn row(&mut self, row: impl IntoRow) -> Result<()> {
        self.item(Item::Row(row.into_row()))
    }

    /// Passes an object on.
    pub fn object(&mut self, object: Object) -> Result<()> {
        self.item(Item::Object(object))
    }

    /// Passes a line of text on.
    pub fn line(&mut self, line: impl Into<String>) -> Result<()> {
        self.item(Item::Line(line.into()))
    }

    /// Passes any item on.
    pub fn item(&mut self, item: Item) -> Result<()> {
        self.interrupt.check()?;
        if self.first {
            self.interrupt.pass();
        }
        self.sink.item(item)
    }

    /// Shows what came out so far, where somebody waits for it.
    pub fn flush(&mut self) -> Result<()> {
        self.sink.flush()
    }

    /// Ends a round: stages behind that wait for the last item answer now, and begin again.
    pub fn round(&mut self) -> Result<()> {
        self.sink.round()
    }
}
