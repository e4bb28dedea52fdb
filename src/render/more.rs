//! The pager with mdb's keys.
//!
//! ```text
//! >> More [<space>, <cr>, q, n, c, a] ?
//! ```
//!
//! | key | does |
//! |---|---|
//! | space | shows the next screen |
//! | return, `n` | shows one more line |
//! | `c` | shows the rest without asking again |
//! | `q`, Ctrl-C, Ctrl-D | leaves this command's output; what it would still have found is not looked for |
//! | `a` | the same, and leaves the rest of the line too |
//!
//! The size of the terminal is asked for with every screen, so that it may change.

use super::{Output, is_dumb, pager};
use engine::Interrupt;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::{self, BufWriter, Write};
use unicode_width::UnicodeWidthStr;

const QUESTION: &str = ">> More [<space>, <cr>, q, n, c, a] ?";

/// Text that stops after each screen.
pub struct More {
    out: BufWriter<io::Stdout>,
    interrupt: Interrupt,
    /// the line that is not complete yet
    line: Vec<u8>,
    /// rows that may be shown before the question
    room: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    /// `c`
    Free,
    /// `q`, `a`
    Left,
}

impl More {
    /// A pager for the terminal on standard output. `a` is told to `interrupt`.
    pub fn new(interrupt: Interrupt) -> More {
        More { out: pager::stdout(), interrupt, line: Vec::new(), room: page().1, state: State::Asking }
    }

    /// Shows the line that is complete now.
    fn show(&mut self) -> io::Result<()> {
        let rows = rows(&self.line, page().0);
        // the first line of a screen is shown even if it is longer than that
        if self.state == State::Asking && rows > self.room && self.room < page().1 {
            self.ask()?;
        }
        if self.state == State::Left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.room = self.room.saturating_sub(rows);
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }

    fn ask(&mut self) -> io::Result<()> {
        let (strong, plain, gone) = match is_dumb() {
            true => ("", "", format!("\r{:width$}\r", "", width = QUESTION.len())),
            false => ("\x1b[7m", "\x1b[0m", "\r\x1b[K".to_owned()),
        };
        write!(self.out, "{strong}{QUESTION}{plain}")?;
        self.out.flush()?;
        let answer = loop {
            match key()? {
                Some(b' ') => break page().1,
                Some(b'\r' | b'\n' | b'n') => break 1,
                Some(b'c') => {
                    self.state = State::Free;
                    break 0;
                }
                Some(b'a') => {
                    self.interrupt.set();
                    self.state = State::Left;
                    break 0;
                }
                // Ctrl-C, Ctrl-D, Ctrl-\\, and a terminal that is gone
                None | Some(b'q' | b'Q' | 3 | 4 | 0x1c) => {
                    self.state = State::Left;
                    break 0;
                }
                _ => {}
            }
        };
        self.room = answer;
        self.out.write_all(gone.as_bytes())?;
        self.out.flush()
    }
}

impl Write for More {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.state == State::Left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.state == State::Free && self.line.is_empty() {
            return self.out.write(text);
        }
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.show()?;
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Output for More {
    fn close(&mut self) -> io::Result<()> {
        if self.state == State::Left {
            return Ok(());
        }
        if !self.line.is_empty() {
            self.show()?;
        }
        self.out.flush()
    }
}

/// Columns of the terminal, and rows of a screen with the question below it.
fn page() -> (usize, usize) {
    let (width, height) = pager::screen().unwrap_or((80, 24));
    (width.max(1), height.saturating_sub(1).max(1))
}

/// Rows that a line takes, colours not counted.
fn rows(line: &[u8], width: usize) -> usize {
    let text = String::from_utf8_lossy(line);
    let mut columns = 0;
    for (i, part) in text.trim_end_matches('\n').split('\x1b').enumerate() {
        // behind an escape comes `[…m`
        let shown = if i == 0 { part } else { part.split_once('m').map_or(part, |(_, rest)| rest) };
        columns += shown.split('\t').map(UnicodeWidthStr::width).sum::<usize>() + 8 * shown.matches('\t').count();
    }
    columns.div_ceil(width).max(1)
}

/// The next key, without waiting for a return; none if the terminal is gone.
fn key() -> io::Result<Option<u8>> {
    let _raw = Raw::set()?;
    let mut byte = [0];
    loop {
        match rustix::io::read(io::stdin(), &mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(None),
        }
    }
}

/// A terminal that gives away each key, Ctrl-C as well, and does not show it.
struct Raw(Termios);

impl Raw {
    fn set() -> io::Result<Raw> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // a terminal that is gone needs no modes
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn long_lines_take_several_rows_and_colours_none() {
        for (line, expected) in [
            ("\n", 1),
            ("1234567890\n", 1),
            ("12345678901\n", 2),
            ("\x1b[1m1234567890\x1b[0m\n", 1),
            ("\x1b[1m\x1b[0m\n", 1),
            // wide characters
            ("\u{4e2d}\u{4e2d}\u{4e2d}\u{4e2d}\u{4e2d}\u{4e2d}\n", 2),
        ] {
            assert_eq!(rows(line.as_bytes(), 10), expected, "{line:?}");
        }
    }
}
