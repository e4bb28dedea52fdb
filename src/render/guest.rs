//! Commands that have the terminal for a while: a pager, a shell command, `::ps ! grep ssh`.

use super::Output;
use std::{
    io::{self, BufWriter, IsTerminal, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Children that the terminal is lent to.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// Whether a pager or a shell command has the terminal: Ctrl-C is then meant for it, and nothing else is to be written.
pub fn has_terminal() -> bool {
    LENT.load(Ordering::Relaxed) > 0
}

/// A child that has the terminal for as long as it lives.
struct Guest(Child);

impl Guest {
    fn start(command: &mut Command) -> io::Result<Guest> {
        LENT.fetch_add(1, Ordering::Relaxed);
        command.spawn().map(Guest).inspect_err(|_| {
            LENT.fetch_sub(1, Ordering::Relaxed);
        })
    }

    fn stdin(&mut self) -> Option<BufWriter<ChildStdin>> {
        self.0.stdin.take().map(BufWriter::new)
    }

    /// Whether it has left.
    fn is_gone(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // there is nobody to tell that a child could not be waited for
        let _ = self.0.wait();
        LENT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A command that reads what is rendered: the pager, or `::ps ! grep ssh`.
pub struct Piped {
    // closed before the child is waited for
    stdin: Option<BufWriter<ChildStdin>>,
    child: Option<Guest>,
}

impl Piped {
    /// Starts a shell command; its output goes where ours goes.
    pub fn shell(command: &str) -> io::Result<Piped> {
        Piped::start(&mut shell(command))
    }

    /// Starts a command.
    pub fn start(command: &mut Command) -> io::Result<Piped> {
        let mut child = Guest::start(command.stdin(Stdio::piped()))?;
        Ok(Piped { stdin: child.stdin(), child: Some(child) })
    }
}

impl Write for Piped {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.stdin.as_mut().map_or(Ok(text.len()), |s| s.write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.child.as_mut().is_some_and(Guest::is_gone) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.stdin.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Output for Piped {
    fn close(&mut self) -> io::Result<()> {
        let written = self.stdin.take().map_or(Ok(()), |mut s| s.flush());
        drop(self.child.take());
        written
    }
}

/// `$SHELL -c command`, as mdb does it.
fn shell(command: &str) -> Command {
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut child = Command::new(shell);
    child.arg("-c").arg(command);
    child
}

/// Runs a command that is no part of a pipe. It may talk to the user, but does not read a script meant for us.
pub fn run(command: &str) -> io::Result<()> {
    let stdin = if io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() };
    Guest::start(shell(command).stdin(stdin)).map(drop)
}

/// Runs a command with `input` and returns what it printed.
pub fn filter(command: &str, input: Vec<u8>) -> io::Result<String> {
    let mut child = Guest::start(shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let stdin = child.0.stdin.take();
    let mut stdout = child.0.stdout.take();
    // written from a second thread: the command may print before it has read everything
    let writer = std::thread::spawn(move || stdin.map_or(Ok(()), |mut s| s.write_all(&input)));
    let mut text = Vec::new();
    if let Some(stdout) = &mut stdout {
        io::Read::read_to_end(stdout, &mut text)?;
    }
    // the command may stop reading early (`head -1`)
    drop(writer.join());
    Ok(String::from_utf8_lossy(&text).into_owned())
}
