//! Where a renderer's text goes: standard output, a pager once it no longer fits the screen, a shell command's input.

use super::Output;
use std::{
    io::{self, BufWriter, IsTerminal, Write},
    process::{Child, Command, Stdio},
};

/// Standard output, buffered.
pub fn stdout() -> Box<dyn Output> {
    Box::new(BufWriter::with_capacity(1 << 16, io::stdout()))
}

/// Text that goes through `$PAGER` if, and only if, it is longer than the screen.
pub struct Pager {
    held: Vec<u8>,
    lines: usize,
    rows: usize,
    child: Option<Child>,
    plain: bool,
}

impl Pager {
    /// A pager for the terminal on standard output; `None` if there is no terminal.
    pub fn new() -> Option<Pager> {
        let (_, height) = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal())?;
        Some(Pager { held: Vec::new(), lines: 0, rows: usize::from(height.0).max(4), child: None, plain: false })
    }

    /// The screen is full: start the pager, or go on without one if there is none.
    fn overflow(&mut self) -> io::Result<()> {
        let pager = std::env::var("PAGER").ok().filter(|p| !p.trim().is_empty());
        let spawned = match &pager {
            Some(p) if p == "cat" => Err(io::Error::other("no pager wanted")),
            Some(p) => Command::new("sh").args(["-c", p]).stdin(Stdio::piped()).spawn(),
            None => Command::new("less").args(["-F", "-R", "-X", "-S"]).stdin(Stdio::piped()).spawn(),
        };
        match spawned {
            Ok(child) => self.child = Some(child),
            Err(_) => self.plain = true,
        }
        let held = std::mem::take(&mut self.held);
        self.pass(&held)
    }

    fn pass(&mut self, text: &[u8]) -> io::Result<()> {
        match self.child.as_mut().and_then(|c| c.stdin.as_mut()) {
            Some(stdin) => stdin.write_all(text),
            None => io::stdout().write_all(text),
        }
    }
}

impl Write for Pager {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.child.is_some() || self.plain {
            self.pass(buf)?;
            return Ok(buf.len());
        }
        self.held.extend_from_slice(buf);
        self.lines += buf.iter().filter(|b| **b == b'\n').count();
        if self.lines >= self.rows {
            self.overflow()?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Pager {
    fn close(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            io::stdout().write_all(&held)?;
        }
        io::stdout().flush()?;
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait()?;
        }
        Ok(())
    }
}

/// A shell command that reads what is rendered: `::ps ! grep ssh`.
pub struct Piped {
    child: Child,
}

impl Piped {
    /// Starts the command; its output goes where ours goes.
    pub fn new(command: &str) -> io::Result<Piped> {
        Ok(Piped { child: shell(command).stdin(Stdio::piped()).spawn()? })
    }
}

impl Write for Piped {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.child.stdin.as_mut().map_or(Ok(buf.len()), |s| s.write(buf))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Output for Piped {
    fn close(&mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop)
    }
}

/// `$SHELL -c command`, as mdb does it.
pub fn shell(command: &str) -> Command {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut child = Command::new(shell);
    child.arg("-c").arg(command);
    child
}

/// Runs a command with `input` and returns what it printed.
pub fn filter(command: &str, input: Vec<u8>) -> io::Result<String> {
    let mut child = shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    // written from a second thread: the command may print before it has read everything
    let writer = std::thread::spawn(move || stdin.map_or(Ok(()), |mut s| s.write_all(&input)));
    let output = child.wait_with_output()?;
    // the command may stop reading early (`head -1`)
    drop(writer.join());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
