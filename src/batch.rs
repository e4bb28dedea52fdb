//! Commands from somewhere else than the prompt: `-e`, `-f`, standard input, `~/.kmdbrc`.

use crate::{face::Program, render::escape};
use engine::{Cx, Error, lang};
use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

/// How a run of commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// all were run
    Done,
    /// Ctrl-C
    Interrupted,
    /// whoever read the answers has left (`| head -1`)
    Unread,
    /// `::quit` with an exit status
    Quit(u8),
}

/// Runs one line and shows its notes and its error, if any, below what it printed.
pub fn run_line(cx: &Cx<'_>, program: &Program, line: &str) -> End {
    program.closed.set(false);
    let result = engine::pipeline::run(cx, line);
    for note in cx.notes.take() {
        program.say(&format!("note: {}\n", escape::escape(&note)));
    }
    match result {
        // a reader that leaves is a reason to stop, too
        Ok(()) | Err(Error::Stop | Error::Interrupted) if program.closed.get() => End::Unread,
        Ok(()) | Err(Error::Stop) => End::Done,
        Err(Error::Quit(status)) => End::Quit(status),
        Err(Error::Interrupted) => {
            // over the `^C` that the terminal shows
            let line_start = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
            program.say(&format!("{line_start}kmdb: interrupted\n"));
            End::Interrupted
        }
        Err(e) => {
            program.show_error(&e, line);
            End::Done
        }
    }
}

/// Runs commands line by line; a line that is plainly unfinished goes on in the next one.
pub fn run_lines(cx: &Cx<'_>, program: &Program, lines: impl BufRead) -> io::Result<End> {
    let mut pending = String::new();
    for line in lines.split(b'\n') {
        // a byte that is no text is an error of the line it stands in, not of those behind it
        pending.push_str(String::from_utf8_lossy(&line?).trim_end_matches('\r'));
        if lang::is_incomplete(&pending) {
            pending.push('\n');
            continue;
        }
        match run_line(cx, program, &std::mem::take(&mut pending)) {
            End::Done => {}
            end => return Ok(end),
        }
    }
    Ok(if pending.trim().is_empty() { End::Done } else { run_line(cx, program, pending.trim_end()) })
}

/// Runs a file of commands.
pub fn run_file(cx: &Cx<'_>, program: &Program, path: &Path) -> anyhow::Result<End> {
    std::fs::read(path)
        .and_then(|text| run_lines(cx, program, &text[..]))
        .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}
