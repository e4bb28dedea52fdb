//! Commands from somewhere else than the prompt: `-e`, `-f`, standard input, `~/.kmdbrc`.

use crate::{face::Program, foreign, render::escape};
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

/// Runs one line and shows its notes and its error, if any, below what it printed. `place` is the file that it stands in
/// and its number there.
pub fn run_line(cx: &Cx<'_>, program: &Program, line: &str, place: Option<(&str, usize)>) -> End {
    program.record(&format!("> {line}"));
    let failed = program.failed.replace(false);
    let findings = cx.env.findings.get();
    let end = run_alone(cx, program, line, place);
    match end {
        End::Quit(0) => {}
        End::Quit(status) => program.record(&format!("[exit status {status}]")),
        End::Interrupted => program.record("[exit status 130]"),
        _ if program.failed.get() => program.record("[exit status 2]"),
        _ if cx.env.findings.get() > findings => program.record("[exit status 1]"),
        _ => {}
    }
    program.failed.set(failed || program.failed.get());
    end
}

/// An empty line at the prompt that means the last command again.
pub fn repeat_last(cx: &Cx<'_>, program: &Program) {
    program.closed.set(false);
    show(cx, program, engine::pipeline::repeat_last(cx), "", None);
}

fn run_alone(cx: &Cx<'_>, program: &Program, line: &str, place: Option<(&str, usize)>) -> End {
    program.closed.set(false);
    let own = foreign::own(line).filter(|_| cx.symbols.address(cx, line.trim()).is_none());
    let result = engine::pipeline::run(cx, own.as_deref().unwrap_or(line));
    show(cx, program, result, line, place)
}

/// Shows what a command left: its notes, and its error if it failed.
fn show(cx: &Cx<'_>, program: &Program, result: engine::Result<()>, line: &str, place: Option<(&str, usize)>) -> End {
    if result.is_err() {
        // the error says what is missing
        cx.notes.hush();
    }
    for note in cx.notes.take() {
        program.say(&format!("note: {}\n", escape::escape(&note)));
    }
    program.show_trouble(cx);
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
            program.show_error(&e, line, place);
            End::Done
        }
    }
}

/// Runs commands line by line; a line that is plainly unfinished goes on in the next one. `file` is where they stand, if
/// that is to be told with their errors.
pub fn run_lines(cx: &Cx<'_>, program: &Program, file: Option<&str>, lines: impl BufRead) -> io::Result<End> {
    let (mut pending, mut first) = (String::new(), 1);
    for (number, line) in (1..).zip(lines.split(b'\n')) {
        if pending.is_empty() {
            first = number;
        }
        // a byte that is no text is an error of the line it stands in, not of those behind it
        pending.push_str(String::from_utf8_lossy(&line?).trim_end_matches('\r'));
        if lang::is_incomplete(&pending) {
            pending.push('\n');
            continue;
        }
        match run_line(cx, program, &std::mem::take(&mut pending), file.map(|file| (file, first))) {
            End::Done => {}
            end => return Ok(end),
        }
    }
    Ok(match pending.trim() {
        "" => End::Done,
        _ => run_line(cx, program, pending.trim_end(), file.map(|file| (file, first))),
    })
}

/// Runs a file of commands.
pub fn run_file(cx: &Cx<'_>, program: &Program, path: &Path) -> anyhow::Result<End> {
    let name = path.display().to_string();
    std::fs::read(path)
        .and_then(|text| run_lines(cx, program, Some(&name), &text[..]))
        .map_err(|e| anyhow::anyhow!("{name}: {e}"))
}
