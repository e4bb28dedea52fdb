//! Commands from somewhere else than the prompt: `-e`, `-f`, standard input, `~/.kmdbrc`.

use crate::face::Program;
use engine::{Cx, Error, lang};
use std::io::{self, BufRead};

/// How a run of commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// all were run
    Done,
    /// Ctrl-C
    Interrupted,
    /// `::quit` with an exit status
    Quit(u8),
}

/// Runs one line and shows its notes and its error, if any.
pub fn run_line(cx: &Cx<'_>, program: &Program, line: &str) -> End {
    let result = engine::pipeline::run(cx, line);
    for note in cx.notes.take() {
        program.say(&format!("note: {}\n", crate::render::escape::escape(&note)));
    }
    match result {
        Ok(()) | Err(Error::Stop) => End::Done,
        Err(Error::Quit(status)) => End::Quit(status),
        Err(Error::Interrupted) => {
            program.say("kmdb: interrupted\n");
            End::Interrupted
        }
        Err(e) => {
            program.show_error(&e, Some(line));
            End::Done
        }
    }
}

/// Runs commands line by line; a line that is plainly unfinished goes on in the next one.
pub fn run_lines(cx: &Cx<'_>, program: &Program, lines: impl Iterator<Item = io::Result<String>>) -> io::Result<End> {
    let mut pending = String::new();
    for line in lines {
        let line = line?;
        if !pending.is_empty() {
            pending.push('\n');
        }
        pending.push_str(&line);
        if lang::is_incomplete(&pending) {
            continue;
        }
        match run_line(cx, program, &std::mem::take(&mut pending)) {
            End::Done => {}
            end => return Ok(end),
        }
    }
    Ok(if pending.trim().is_empty() { End::Done } else { run_line(cx, program, &pending) })
}

/// Runs a file of commands.
pub fn run_file(cx: &Cx<'_>, program: &Program, path: &std::path::Path) -> io::Result<End> {
    let text = std::fs::read_to_string(path)?;
    run_lines(cx, program, text.lines().map(|l| Ok(l.to_owned())))
}

/// Runs what comes on standard input.
pub fn run_stdin(cx: &Cx<'_>, program: &Program) -> io::Result<End> {
    run_lines(cx, program, io::stdin().lock().lines())
}
