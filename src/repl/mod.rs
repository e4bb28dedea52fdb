//! The prompt.
//!
//! | file | knows |
//! |---|---|
//! | `scan` | what an unfinished line consists of |
//! | `context` | what a word of it is about |
//! | `complete` | what it may become |
//! | `highlight` | what of it exists |
//! | `hint` | what it still takes |
//! | `history` | where lines are kept |

mod complete;
mod context;
mod highlight;
mod hint;
mod history;
mod scan;
#[cfg(test)]
mod tests;

use crate::{
    batch::{self, End},
    face::Program,
};
use complete::Completer;
use engine::{Cx, lang};
use rustyline::{
    Behavior, Cmd, CompletionType, Config, Context, Editor, Event, EventHandler, Helper, KeyCode, KeyEvent, Modifiers,
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    hint::{Hint, Hinter},
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use std::{borrow::Cow, path::Path};

/// What the line editor asks while a line is being typed.
struct Assistant<'a> {
    cx: &'a Cx<'a>,
    completer: Completer<'a>,
    color: bool,
}

/// A hint that explains and is no text to be taken over.
struct Remark(String);

impl Hint for Remark {
    fn display(&self) -> &str {
        &self.0
    }
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Helper for Assistant<'_> {}

impl rustyline::completion::Completer for Assistant<'_> {
    type Candidate = String;
    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let found = self.completer.complete(line.get(..pos).unwrap_or_default());
        // what was looked up for this must not be told of as if it had been asked for
        self.cx.notes.take();
        Ok(found)
    }
}

impl Hinter for Assistant<'_> {
    type Hint = Remark;
    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<Remark> {
        // it stands behind the cursor, on the line's own row
        if !self.color || pos != line.len() || line.contains('\n') || line.is_empty() {
            return None;
        }
        let (width, _) = crate::render::pager::screen()?;
        let room = width.checked_sub(line.chars().count() + self.cx.env.options.prompt.borrow().chars().count() + 1)?;
        let hint = hint::hint(self.cx, line, room);
        self.cx.notes.take();
        hint.map(Remark)
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

/// Reads and runs commands until the user leaves. `dump` is what the history belongs to.
pub fn run(cx: &Cx<'_>, program: &Program, dump: Option<&Path>) -> anyhow::Result<End> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        // the dump may be standard input
        .behavior(Behavior::PreferTerm)
        .build();
    let mut editor: Editor<Assistant<'_>, DefaultHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant { cx, completer: Completer::new(cx), color: program.color }));
    editor.bind_sequence(
        Event::from(KeyEvent(KeyCode::Char('r'), Modifiers::CTRL)),
        EventHandler::Simple(Cmd::ReverseSearchHistory),
    );
    let history = history::file(dump);
    if let Some(file) = &history {
        // the first session with a dump has no history
        let _ = editor.load_history(file);
    }
    loop {
        // a Ctrl-C that came as its command ended is not one for the next
        cx.interrupt.clear();
        let prompt = cx.env.options.prompt.borrow().clone();
        match editor.readline(&prompt) {
            // an empty line may mean the last command again
            Ok(text) if text.trim().is_empty() && cx.env.options.repeatlast.get() => batch::repeat_last(cx, program),
            Ok(text) => {
                if !text.trim().is_empty() {
                    editor.add_history_entry(text.as_str())?;
                    // at once, since a second Ctrl-C ends the program; a history that cannot be written is not worth a
                    // complaint
                    let _ = history.as_ref().map(|file| editor.append_history(file));
                }
                if let Some(end) = answer(cx, program, &text) {
                    return Ok(end);
                }
            }
            // Ctrl-C at the prompt drops the line, as in every shell
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) if cx.env.options.ignoreeof.get() => {
                program.say("use `::quit` to leave\n");
            }
            Err(ReadlineError::Eof) => return Ok(End::Done),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Runs what was typed or pasted, command by command; an end if it is one.
fn answer(cx: &Cx<'_>, program: &Program, text: &str) -> Option<End> {
    crate::fit_terminal(cx);
    for (_, command) in lang::commands(text) {
        match batch::run_line(cx, program, command, None) {
            // Ctrl-C, and leaving the pager for good, also mean what was pasted behind
            End::Interrupted => break,
            End::Done | End::Unread if cx.interrupt.is_set() => break,
            End::Done | End::Unread => {}
            end => return Some(end),
        }
    }
    None
}
