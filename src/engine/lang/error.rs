//! What is wrong with a line: an error that points at the place and teaches.

use super::ast::Span;
use std::fmt;

/// The line is not in the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// the bytes of the input that are wrong (empty at the end of the input)
    pub span: Span,
    /// what is wrong, lower case, no full stop
    pub message: String,
    /// what could have stood here instead
    pub expected: Vec<String>,
    /// what to write instead
    pub hint: Option<String>,
    /// the input only stopped too early (an open quote or parenthesis, a trailing `|`): an editor asks for another line
    pub incomplete: bool,
}

impl SyntaxError {
    pub(super) fn new(span: Span, message: impl Into<String>) -> SyntaxError {
        SyntaxError { span, message: message.into(), expected: Vec::new(), hint: None, incomplete: false }
    }

    pub(super) fn expected(mut self, what: &[&str]) -> SyntaxError {
        self.expected = what.iter().map(|w| w.to_string()).collect();
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> SyntaxError {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn incomplete(mut self, incomplete: bool) -> SyntaxError {
        self.incomplete = incomplete;
        self
    }

    /// The line of `input` where the error is, and carets below it.
    ///
    /// ```
    /// let error = engine::lang::parse("10 + 1g=X", 16).unwrap_err();
    /// assert_eq!(error.point("10 + 1g=X"), "10 + 1g=X\n      ^");
    /// ```
    pub fn point(&self, input: &str) -> String {
        point(input, &self.span)
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "syntax error: {}", self.message)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected.join(" or "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SyntaxError {}

/// The line of `input` that holds the start of `span`, and below it carets under the part of the span on that line.
pub fn point(input: &str, span: &Span) -> String {
    let floor = |at: usize| (0..=at.min(input.len())).rev().find(|&i| input.is_char_boundary(i)).unwrap_or(0);
    let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
    let line_start = input[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = input[start..].find('\n').map_or(input.len(), |at| start + at);
    let line = &input[line_start..line_end];
    let before: String = input[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let carets = input[start..end.min(line_end).max(start)].chars().count().max(1);
    format!("{line}\n{before}{}", "^".repeat(carets))
}
