//! The prompt.

mod complete;
mod highlight;

use crate::{
    batch::{self, End},
    face::Program,
};
use complete::Completer;
use engine::{Cx, lang};
use rustyline::{
    Cmd, CompletionType, Config, Context, Editor, Event, EventHandler, Helper, KeyCode, KeyEvent, Modifiers,
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    hint::Hinter,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use std::{borrow::Cow, path::PathBuf};

/// What the line editor asks while a line is being typed.
struct Assistant<'a> {
    cx: &'a Cx<'a>,
    completer: Completer<'a>,
    color: bool,
}

impl Helper for Assistant<'_> {}

impl rustyline::completion::Completer for Assistant<'_> {
    type Candidate = String;
    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.completer.complete(line.get(..pos).unwrap_or_default()))
    }
}

impl Hinter for Assistant<'_> {
    type Hint = String;
    /// The rest of the usage of the dcmd that was just named.
    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        if pos != line.len() || !line.ends_with(' ') {
            return None;
        }
        let stage = line.rsplit('|').next()?;
        let name = stage.rsplit("::").next()?.trim_end();
        let entry = self.cx.registry.dcmd(name).filter(|_| stage.contains("::"))?;
        let usage = (entry.command)().render_usage().to_string();
        Some(usage.strip_prefix(&format!("Usage: {}", entry.name))?.trim().to_owned())
    }
}

impl Highlighter for Assistant<'_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.color { highlight::highlight(self.cx, line) } else { Cow::Borrowed(line) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        let dim = anstyle::Style::new().dimmed();
        if self.color { Cow::Owned(format!("{dim}{hint}{dim:#}")) } else { Cow::Borrowed(hint) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.color && kind != CmdKind::MoveCursor
    }
}

impl Validator for Assistant<'_> {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if lang::is_incomplete(ctx.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Lines of history.
const HISTORY: usize = 10_000;

/// Where the history is kept between sessions.
fn history_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".kmdb_history"))
}

/// Reads and runs commands until the user leaves.
pub fn run(cx: &Cx<'_>, program: &Program) -> anyhow::Result<End> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .build();
    let mut editor: Editor<Assistant<'_>, DefaultHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant { cx, completer: Completer::new(cx), color: program.color }));
    editor.bind_sequence(
        Event::from(KeyEvent(KeyCode::Char('r'), Modifiers::CTRL)),
        EventHandler::Simple(Cmd::ReverseSearchHistory),
    );
    let history = history_file();
    if let Some(file) = &history {
        // the first session has no history
        let _ = editor.load_history(file);
    }
    let keep = |editor: &mut Editor<Assistant<'_>, DefaultHistory>| {
        // at once, since a second Ctrl-C ends the program; a history that cannot be written is not worth a complaint
        let _ = history.as_ref().map(|file| editor.append_history(file));
    };
    let end = loop {
        // a Ctrl-C that came as its command ended is not one for the next
        cx.interrupt.clear();
        match editor.readline("> ") {
            Ok(line) => {
                if !line.trim().is_empty() {
                    editor.add_history_entry(line.as_str())?;
                    keep(&mut editor);
                }
                crate::fit_terminal(cx);
                match batch::run_line(cx, program, &line, None) {
                    End::Done | End::Interrupted | End::Unread => {}
                    end => break end,
                }
            }
            // Ctrl-C at the prompt drops the line, as in every shell
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break End::Done,
            Err(e) => return Err(e.into()),
        }
    };
    Ok(end)
}
