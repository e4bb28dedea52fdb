//! Where a renderer's text goes: standard output, or a pager once it no longer fits the screen.

use super::{Output, guest::Piped, more::More};
use engine::Interrupt;
use std::{
    io::{self, BufWriter, IsTerminal, Write},
    process::Command,
};

/// Standard output, buffered.
pub fn stdout() -> BufWriter<io::Stdout> {
    BufWriter::with_capacity(1 << 16, io::stdout())
}

/// Columns and lines of the terminal on standard output, if there is one and it knows.
pub fn screen() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal())?;
    // some terminals do not say how large they are
    (width.0 > 0 && height.0 > 0).then_some((width.0.into(), height.0.into()))
}

/// The pager of the terminal on standard output: `$PAGER`, or else the one with mdb's keys. `None` if there is neither
/// terminal nor wish for one.
pub fn pager(interrupt: &Interrupt) -> Option<Box<dyn Output>> {
    let screen = screen()?;
    match std::env::var("PAGER").unwrap_or_default().trim() {
        "" => Some(Box::new(More::new(interrupt.clone()))),
        "cat" => None,
        command => Some(Box::new(Pager::new(command.to_owned(), screen))),
    }
}

/// Text that goes through `$PAGER` if, and only if, it is longer than the screen.
pub struct Pager {
    /// what fits the screen so far
    held: Vec<u8>,
    /// how much of it has been shown already, as it was long in coming
    shown: usize,
    lines: usize,
    column: usize,
    /// columns and lines
    screen: (usize, usize),
    command: String,
    stage: Stage,
}

enum Stage {
    /// it may all fit the screen
    Holding,
    /// it does not, and there is no pager
    Plain(BufWriter<io::Stdout>),
    /// it does not
    Paging(Piped),
}

impl Pager {
    fn new(command: String, screen: (usize, usize)) -> Pager {
        let screen = (screen.0.max(20), screen.1.max(4));
        Pager { held: Vec::new(), shown: 0, lines: 0, column: 0, screen, command, stage: Stage::Holding }
    }

    /// Counts the lines that `text` takes on the screen.
    fn measure(&mut self, text: &[u8]) {
        for byte in text {
            self.column += 1;
            if *byte == b'\n' || self.column > self.screen.0 {
                self.lines += 1;
                self.column = usize::from(*byte != b'\n');
            }
        }
    }

    /// The screen is full: starts the pager, or goes on without one if there is none.
    fn overflow(&mut self) -> io::Result<()> {
        let started = Piped::start(Command::new("sh").args(["-c", &self.command])).ok();
        let held = std::mem::take(&mut self.held);
        self.stage = match started {
            Some(mut pager) => {
                pager.write_all(&held)?;
                Stage::Paging(pager)
            }
            None => {
                let mut out = stdout();
                out.write_all(held.get(self.shown..).unwrap_or_default())?;
                Stage::Plain(out)
            }
        };
        Ok(())
    }
}

impl Write for Pager {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Paging(pager) => return pager.write(text),
            Stage::Plain(out) => return out.write(text),
            Stage::Holding => {}
        }
        self.held.extend_from_slice(text);
        self.measure(text);
        if self.lines >= self.screen.1 {
            self.overflow()?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Paging(pager) => pager.flush(),
            Stage::Plain(out) => out.flush(),
            Stage::Holding => {
                io::stdout().write_all(self.held.get(self.shown..).unwrap_or_default())?;
                self.shown = self.held.len();
                io::stdout().flush()
            }
        }
    }
}

impl Output for Pager {
    fn close(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Paging(pager) => pager.close(),
            _ => self.flush(),
        }
    }
}
