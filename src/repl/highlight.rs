//! Colours for the line being typed: known commands bold, strings green, numbers cyan, and whatever name does not exist
//! (a dcmd, walker, option, type, member, symbol, variable, format letter) red, before it is asked for.

use super::{
    context::{self, Role, along},
    scan::{Command, Span, Stage, Word, is_name, scan},
};
use anstyle::{AnsiColor, Style};
use engine::{Cx, lang::format::formats};
use std::borrow::Cow;

const fn color(c: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(c)))
}
const UNKNOWN: Style = color(AnsiColor::Red);
const KNOWN: Style = Style::new().bold();
const TEXT: Style = color(AnsiColor::Green);
const NUMBER: Style = color(AnsiColor::Cyan);
const SIGN: Style = color(AnsiColor::Yellow);

/// The line with its colours.
pub fn highlight<'l>(cx: &Cx<'_>, line: &'l str) -> Cow<'l, str> {
    let mut painter = Painter { cx, line, spans: Vec::new() };
    for statement in scan(line) {
        for at in 0..statement.stages.len() {
            painter.stage(&statement.stages, at);
        }
    }
    // what was looked up for this must not be told of as if it had been asked for
    cx.notes.take();
    painter.finish()
}

struct Painter<'p, 'a, 'l> {
    cx: &'p Cx<'a>,
    line: &'l str,
    spans: Vec<(Span, Style)>,
}

impl<'l> Painter<'_, '_, 'l> {
    fn text(&self, span: &Span) -> &'l str {
        self.line.get(span.clone()).unwrap_or_default()
    }

    fn put(&mut self, span: Span, style: Style) {
        if !span.is_empty() {
            self.spans.push((span, style));
        }
    }

    fn stage(&mut self, stages: &[Stage], at: usize) {
        let Some(stage) = stages.get(at) else { return };
        if let Some(bar) = self.line.get(..stage.span.start).and_then(|before| before.rfind('|')).filter(|_| at > 0) {
            self.put(bar..bar + 1, SIGN);
        }
        self.expression(stage.address.clone());
        match &stage.command {
            Command::Dcmd { name, words } => {
                let text = self.text(name);
                let known = context::dcmd(self.cx, text).is_some() || self.cx.env.macros.borrow().contains_key(text);
                let colons = name.start - if text.starts_with(['$', ':']) { 0 } else { 2 };
                self.put(colons..name.end, if known { KNOWN } else { UNKNOWN });
                for (index, word) in words.iter().enumerate() {
                    let role = context::role(self.cx, self.line, stages, at, index);
                    self.word(word, words.get(..index).unwrap_or_default(), (stages, at), role);
                }
            }
            Command::Verb { format } => self.format(format.clone()),
            Command::Shell { text } => {
                self.put(stage.address.end..text.start, SIGN);
                if self.text(text).starts_with(['\'', '"']) {
                    self.put(text.clone(), TEXT);
                }
            }
            Command::Assign { .. } | Command::File { .. } | Command::None => {}
        }
    }

    fn word(&mut self, word: &Word, before: &[Word], (stages, at): (&[Stage], usize), role: Role) {
        let span = word.span.clone();
        let unknown = match role {
            Role::Walker => !self.is_walker(&word.text),
            Role::Topic => !self.is_topic(&word.text) && before.is_empty() && self.line.contains("::help"),
            Role::Macro => !self.cx.env.macros.borrow().contains_key(&word.text),
            Role::OneOf(values) => !values.contains(&word.text),
            Role::Flag => !self.is_flag(&word.text, &stages[at]),
            Role::Type { tagged, input } => !self.is_type(word, before, tagged, input),
            Role::Member(Some(ctype)) => !is_member(self.cx, ctype, &word.text),
            Role::Address if word.open.is_none() && !word.text.starts_with('$') => {
                self.expression(span);
                return;
            }
            _ => false,
        };
        if unknown {
            self.put(span, UNKNOWN);
        } else if self.text(&span).contains(['\'', '"']) {
            self.put(span, TEXT);
        } else if word.text.starts_with(|c: char| c.is_ascii_digit()) {
            self.put(span, NUMBER);
        }
    }

    fn is_walker(&self, name: &str) -> bool {
        let dynamic =
            || self.cx.registry.dynamic.iter().any(|f| matches!((f.find)(self.cx.session, name), Ok(Some(_))));
        self.cx.registry.walker(name).is_some() || dynamic()
    }

    fn is_topic(&self, name: &str) -> bool {
        let name = name.trim_start_matches("::");
        self.cx.registry.dcmd(name).is_some() || self.cx.env.macros.borrow().contains_key(name) || self.is_walker(name)
    }

    /// Each letter of `-av` is an option; behind one that takes a value, the rest is that value.
    fn is_flag(&self, flag: &str, stage: &Stage) -> bool {
        let Command::Dcmd { name, .. } = &stage.command else { return true };
        let Some(entry) = context::dcmd(self.cx, self.text(name)) else { return true };
        let command = (entry.command)();
        if command.get_positionals().any(clap::Arg::is_allow_hyphen_values_set) {
            return true;
        }
        if let Some(long) = flag.strip_prefix("--") {
            let long = long.split('=').next().unwrap_or(long);
            return command.get_arguments().any(|a| a.get_long() == Some(long));
        }
        for letter in flag.chars().skip(1) {
            match command.get_arguments().find(|a| a.get_short() == Some(letter)) {
                Some(arg) if arg.get_action().takes_values() => return true,
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    fn is_type(&self, word: &Word, before: &[Word], tagged: bool, input: Option<engine::TypeId>) -> bool {
        if !tagged && matches!(word.text.as_str(), "struct" | "union" | "enum") {
            return true;
        }
        let spelling = match before.last().filter(|_| tagged) {
            Some(tag) => format!("{} {}", tag.text, word.text),
            None => word.text.clone(),
        };
        let known = self.cx.types.is_empty() || self.cx.types.parse(&spelling).is_ok();
        let offset = word.text.starts_with(|c: char| c.is_ascii_digit() || c == '$');
        known || offset || input.is_some_and(|ctype| is_member(self.cx, ctype, &word.text))
    }

    /// Numbers, and names that are neither symbols nor numbers nor variables.
    fn expression(&mut self, span: Span) {
        let text = self.text(&span);
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let at = span.start + (text.len() - rest.len());
            let len = match c {
                '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
                '<' => 1 + name_len(&rest[1..]),
                c if is_name(c) => name_len(rest),
                c => c.len_utf8(),
            };
            let (token, tail) = rest.split_at(len.min(rest.len()));
            rest = tail;
            let style = match c {
                '\'' => Some(TEXT),
                '<' if len > 1 => (!self.is_variable(&token[1..])).then_some(UNKNOWN),
                c if c.is_ascii_digit() && !token.contains('`') => Some(NUMBER),
                '.' if len == 1 => None,
                c if is_name(c) => match self.is_symbol(token) {
                    true => None,
                    false if token.chars().all(|c| c.is_digit(self.cx.env.radix.get()) || c == '_') => Some(NUMBER),
                    false => Some(UNKNOWN),
                },
                _ => None,
            };
            if let Some(style) = style {
                self.put(at..at + len, style);
            }
        }
    }

    fn is_symbol(&self, name: &str) -> bool {
        match name.rsplit_once('`') {
            Some((scope, name)) => {
                let module = scope.split('`').next().unwrap_or(scope);
                self.cx.symbols.in_module(self.cx.session, module, name).is_some() || scope.contains(".c")
            }
            None => self.cx.symbols.address(self.cx.session, name).is_some(),
        }
    }

    fn is_variable(&self, name: &str) -> bool {
        self.cx.env.vars.borrow().contains_key(name)
            || self.cx.registers().is_some_and(|regs| regs.get(name).is_some())
            || name.chars().all(|c| c.is_ascii_digit())
            || name == "_"
    }

    fn format(&mut self, span: Span) {
        let text = self.text(&span);
        let (mut quoted, mut searching) = (false, false);
        for (at, c) in text.char_indices().map(|(at, c)| (span.start + at, c)) {
            match c {
                '"' => quoted = !quoted,
                _ if quoted || searching || c.is_ascii_digit() || c == ' ' => {}
                '$' => return,
                'l' | 'L' | 'M' | 'v' | 'w' | 'W' | 'z' | 'Z' => searching = true,
                c if formats().any(|(letter, _)| letter == c) => {}
                c => self.put(at..at + c.len_utf8(), UNKNOWN),
            }
        }
    }

    fn finish(mut self) -> Cow<'l, str> {
        if self.spans.is_empty() {
            return Cow::Borrowed(self.line);
        }
        self.spans.sort_by_key(|(span, _)| span.start);
        let mut out = String::with_capacity(self.line.len() + 16 * self.spans.len());
        let mut done = 0;
        for (span, style) in self.spans {
            // what lies within another was painted with it
            if span.start >= done
                && let (Some(plain), Some(text)) = (self.line.get(done..span.start), self.line.get(span.clone()))
            {
                out.push_str(plain);
                out.push_str(&format!("{style}{text}{style:#}"));
                done = span.end;
            }
        }
        out.push_str(self.line.get(done..).unwrap_or_default());
        Cow::Owned(out)
    }
}

fn name_len(text: &str) -> usize {
    text.find(|c: char| !is_name(c)).unwrap_or(text.len())
}

/// Whether a path leads to a member: offsets and computed parts are taken on trust.
fn is_member(cx: &Cx<'_>, ctype: engine::TypeId, path: &str) -> bool {
    path.contains('$')
        || path.starts_with(|c: char| c.is_ascii_digit())
        || path == "."
        || along(cx, ctype, path).is_some()
}
