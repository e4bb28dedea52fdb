//! Macros: pipelines with a name, arguments and help.
//!
//! ```console
//! > ::macro named 'tasks by name' '::walk task | ::where "comm == \"$1\"" | ::ps'
//! > ::macro top 'the largest slab caches' '::kmem_cache | ::sort -rn ${2:-total} | ::head -n ${1:-5}'
//! > ::named init
//! ```
//!
//! | in the text | stands for |
//! |---|---|
//! | `$1` … `$9`, `${12}` | an argument; without it the call is an error |
//! | `${1:-text}` | an argument, or `text` |
//! | `$*` | all arguments that have no number of their own in the text |
//! | `$#` | how many were given |
//! | `${-x?text}`, `${-x!text}` | `text` if the macro is called with `-x`; if it is not |
//! | `${-x NAME?text}` | the same, and `$-` in `text` is the word behind `-x` |
//! | `${-x}`, `${-x NAME}` | the option as it was given, for a command in the text that has it too |
//! | `$$` | a dollar sign |
//!
//! An argument stays one word: outside of quotes it comes as it was typed, within them as what it means. A macro of one
//! pipeline is put in place of its call before anything runs, so that it works in the middle of a pipe, lazily, and
//! with stages that need everything (`::sort`). One with an address, a shell command or several commands of its own is
//! run for each item that reaches it, every command with that item's address unless it has its own.

use crate::{
    cx::Cx,
    error::{Error, Result},
    lang::{
        self,
        ast::{Expr, FormatCount, FormatItem, Span, Stage, StageKind, Statement, Word, WordKind},
    },
    pipeline,
};
use std::borrow::Cow;

/// Macros that call macros must end somewhere; so must those that grow with each call.
const MAX_DEPTH: u32 = 32;
const MAX_STAGES: usize = 1000;

/// A macro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Macro {
    /// what it is called by, without `::`
    pub name: String,
    /// what it does, in a line; may be empty. Lines behind it tell more.
    pub help: String,
    /// the text, with its parameters
    pub text: String,
    /// whether it came with kmdb, and nobody gave it
    pub built_in: bool,
    parts: Vec<Part>,
}

/// A piece of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Argument {
        number: usize,
        default: Option<String>,
        quote: Option<char>,
    },
    Rest {
        quote: Option<char>,
    },
    Count,
    Option(Choice),
    /// the word of the option whose text it stands in
    Word {
        quote: Option<char>,
    },
}

/// A text that depends on an option.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    letter: char,
    /// what the usage calls its word, if it takes one
    word: Option<String>,
    /// whether the text is for when it is given
    given: bool,
    parts: Vec<Part>,
}

/// An argument of a call.
pub struct Argument {
    /// as it was typed
    pub raw: String,
    /// what it means, without its quotes
    pub text: String,
}

impl Macro {
    /// A macro, if the text is in the language and the name is one that can be called.
    pub fn new(name: &str, help: &str, text: &str) -> Result<Macro> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if name.is_empty() || !name.chars().all(good) {
            return Err(Error::Usage(format!("`{name}` cannot be the name of a command"))
                .hint("letters, digits, `_` and `.` can: `::macro NAME 'HELP' 'PIPELINE'`"));
        }
        let made = Macro {
            name: name.into(),
            help: help.into(),
            text: text.trim().into(),
            built_in: false,
            parts: parts(text.trim(), None)?,
        };
        // with one of these for every argument most texts are whole: `0t$1::pid2task`, `/$1`
        for given in [true, false] {
            let tries = ["1", "X"].map(|word| filled(&made.parts, word, given));
            match tries.map(|text| (lang::parse(&text, 16), text)) {
                [(Ok(found), _), _] | [_, (Ok(found), _)] if found.is_empty() => {
                    return Err(Error::Usage(format!("the macro `{name}` is empty")));
                }
                [(Ok(_), _), _] | [_, (Ok(_), _)] => {}
                [(Err(e), text), _] => return Err(Error::from(e).nested_in(&text)),
            }
        }
        Ok(made)
    }

    /// The parameters as a synopsis has them: `[-x] [-p PID] ARG1 [ARG2] [ARG...]`.
    pub fn usage(&self) -> String {
        let option = |(letter, word): (char, Option<String>)| match word {
            Some(word) => format!("[-{letter} {word}]"),
            None => format!("[-{letter}]"),
        };
        let numbered = (1..=self.numbered()).map(|n| match self.default(n) {
            Some(text) if !text.is_empty() => format!("[ARG{n}={text}]"),
            Some(_) => format!("[ARG{n}]"),
            None => format!("ARG{n}"),
        });
        let mut words: Vec<String> = self.options().into_iter().map(option).chain(numbered).collect();
        if self.takes_rest() {
            words.push("[ARG]...".into());
        }
        words.join(" ")
    }

    /// What it does, in a line: its text if nobody said.
    pub fn about(&self) -> &str {
        self.help.lines().next().filter(|line| !line.is_empty()).unwrap_or(&self.text)
    }

    /// The options, each with what its word is called, in the order in which they stand in the text.
    pub fn options(&self) -> Vec<(char, Option<String>)> {
        let mut found: Vec<(char, Option<String>)> = Vec::new();
        each(&self.parts, &mut |part| {
            if let Part::Option(Choice { letter, word, .. }) = part {
                match found.iter_mut().find(|(l, _)| l == letter) {
                    Some((_, known)) => *known = known.take().or_else(|| word.clone()),
                    None => found.push((*letter, word.clone())),
                }
            }
        });
        found
    }

    /// The highest number of a parameter.
    fn numbered(&self) -> usize {
        let mut most = 0;
        each(&self.parts, &mut |part| {
            if let Part::Argument { number, .. } = part {
                most = most.max(*number);
            }
        });
        most
    }

    fn takes_rest(&self) -> bool {
        let mut takes = false;
        each(&self.parts, &mut |part| takes |= matches!(part, Part::Rest { .. }));
        takes
    }

    /// The default of a parameter: one that is given anywhere holds everywhere. A number that the text skips has none
    /// to miss.
    fn default(&self, wanted: usize) -> Option<String> {
        let (mut known, mut default) = (false, None);
        each(&self.parts, &mut |part| {
            if let Part::Argument { number, default: text, .. } = part
                && *number == wanted
            {
                known = true;
                default = default.take().or_else(|| text.clone());
            }
        });
        if known { default } else { Some(String::new()) }
    }

    /// The text with its arguments.
    pub fn expand(&self, arguments: &[Argument]) -> Result<String> {
        let numbered = self.numbered();
        let usage = |message: String| {
            Error::Usage(message).hint(format!("Usage: ::{} {}", self.name, self.usage()).trim_end().to_owned())
        };
        let call = Call::read(&self.options(), arguments).map_err(|what| usage(format!("::{} {what}", self.name)))?;
        if call.arguments.len() > numbered && !self.takes_rest() {
            let most = match numbered {
                0 => "no argument".to_owned(),
                1 => "one argument".to_owned(),
                n => format!("{n} arguments"),
            };
            return Err(usage(format!("::{} takes {most}, not {}", self.name, call.arguments.len())));
        }
        let mut out = String::new();
        self.write(&self.parts, &call, None, &mut out)
            .map_err(|number| usage(format!("::{} needs an argument {number}", self.name)))?;
        Ok(out)
    }

    /// Writes parts out; an error is the number of an argument that is missing.
    fn write(
        &self,
        parts: &[Part],
        call: &Call<'_>,
        word: Option<&Argument>,
        out: &mut String,
    ) -> std::result::Result<(), usize> {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Count => out.push_str(&call.arguments.len().to_string()),
                Part::Word { quote } => out.push_str(&word.map_or(Cow::Borrowed(""), |word| word.within(*quote))),
                Part::Argument { number, quote, .. } => match (call.arguments.get(number - 1), self.default(*number)) {
                    (Some(argument), _) => out.push_str(&argument.within(*quote)),
                    (None, Some(default)) => out.push_str(&default),
                    (None, None) => return Err(*number),
                },
                Part::Rest { quote } => {
                    let rest = call.arguments.get(self.numbered()..).unwrap_or_default();
                    out.push_str(&rest.iter().map(|a| a.within(*quote)).collect::<Vec<_>>().join(" "));
                }
                Part::Option(choice) => {
                    let given = call.options.iter().rfind(|(letter, _)| *letter == choice.letter);
                    if given.is_some() == choice.given {
                        self.write(&choice.parts, call, given.and_then(|(_, word)| word.as_ref()), out)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The words of a call, sorted.
struct Call<'a> {
    options: Vec<(char, Option<Argument>)>,
    arguments: Vec<&'a Argument>,
}

impl<'a> Call<'a> {
    /// Words of one dash and letters are options where the macro has any; an error says what is wrong with one.
    fn read(known: &[(char, Option<String>)], words: &'a [Argument]) -> std::result::Result<Call<'a>, String> {
        let mut call = Call { options: Vec::new(), arguments: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let letters = word.raw.strip_prefix('-').filter(|l| l.starts_with(|c: char| c.is_ascii_alphabetic()));
            let Some(mut letters) = letters.filter(|_| !known.is_empty()) else {
                call.arguments.push(word);
                continue;
            };
            while let Some(letter) = letters.chars().next() {
                letters = letters.get(letter.len_utf8()..).unwrap_or_default();
                let Some((_, takes)) = known.iter().find(|(l, _)| *l == letter) else {
                    return Err(format!("has no option -{letter}"));
                };
                let behind = match (takes, std::mem::take(&mut letters)) {
                    (None, rest) => {
                        letters = rest;
                        None
                    }
                    (Some(name), "") => {
                        let word = words.next().ok_or_else(|| format!("-{letter} needs a {name}"))?;
                        Some(Argument { raw: word.raw.clone(), text: word.text.clone() })
                    }
                    (Some(_), rest) => Some(Argument { raw: rest.to_owned(), text: rest.to_owned() }),
                };
                call.options.push((letter, behind));
            }
        }
        Ok(call)
    }
}

/// Visits every part, those that depend on an option too.
fn each(parts: &[Part], visit: &mut dyn FnMut(&Part)) {
    for part in parts {
        visit(part);
        if let Part::Option(choice) = part {
            each(&choice.parts, visit);
        }
    }
}

/// The text with every parameter replaced by the same word, and with all options or with none.
fn filled(parts: &[Part], word: &str, options: bool) -> String {
    let fill = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Option(choice) if choice.given == options => filled(&choice.parts, word, options),
        Part::Option(_) => String::new(),
        _ => word.to_owned(),
    };
    parts.iter().map(fill).collect()
}

impl Argument {
    /// As it has to be written where the text has it.
    fn within(&self, quote: Option<char>) -> Cow<'_, str> {
        match quote {
            None => Cow::Borrowed(&self.raw),
            Some('"') => Cow::Owned(self.text.replace('\\', "\\\\").replace('"', "\\\"")),
            Some(_) => Cow::Owned(self.text.replace('\'', "\\'")),
        }
    }
}

/// Takes a text apart that begins within that quote.
fn parts(text: &str, mut quote: Option<char>) -> Result<Vec<Part>> {
    let (mut parts, mut plain) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\\', Some(open)) if open == '"' || rest.starts_with('\'') => {
                plain.push(c);
                let next = rest.chars().next();
                plain.extend(next);
                rest = &rest[next.map_or(0, char::len_utf8)..];
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                plain.push(c);
            }
            (c, Some(open)) if c == open => {
                quote = None;
                plain.push(c);
            }
            ('$', _) => match parameter(rest, quote)? {
                Some((part, len)) => {
                    parts.extend((!plain.is_empty()).then(|| Part::Text(std::mem::take(&mut plain))));
                    parts.push(part);
                    rest = &rest[len..];
                }
                None => {
                    plain.push('$');
                    rest = rest.strip_prefix('$').unwrap_or(rest);
                }
            },
            _ => plain.push(c),
        }
    }
    parts.extend((!plain.is_empty()).then_some(Part::Text(plain)));
    Ok(parts)
}

/// The parameter behind a `$`, and how long it is.
fn parameter(rest: &str, quote: Option<char>) -> Result<Option<(Part, usize)>> {
    let argument = |number, default| Part::Argument { number, default, quote };
    Ok(match rest.as_bytes() {
        [b'*', ..] => Some((Part::Rest { quote }, 1)),
        [b'#', ..] => Some((Part::Count, 1)),
        [b'-', ..] => Some((Part::Word { quote }, 1)),
        [b'{', b'-', ..] => Some(choice(rest, quote)?),
        [digit @ b'1'..=b'9', ..] => Some((argument(usize::from(digit - b'0'), None), 1)),
        [b'{', ..] => {
            let bad = || {
                Error::Usage(format!("`${rest}` is no parameter"))
                    .hint("`${1}`, `${1:-default}`; `$${` is the text `${`")
            };
            let (inside, _) = rest[1..].split_once('}').ok_or_else(bad)?;
            let (number, default) = match inside.split_once(":-") {
                Some((number, default)) => (number, Some(default.to_owned())),
                None => (inside, None),
            };
            let number = number.parse().ok().filter(|n| (1..=99).contains(n)).ok_or_else(bad)?;
            Some((argument(number, default), inside.len() + 2))
        }
        _ => None,
    })
}

/// A text that depends on an option, `{-x NAME?text}`, and how long it is.
fn choice(rest: &str, quote: Option<char>) -> Result<(Part, usize)> {
    let bad = || {
        Error::Usage(format!("`${rest}` is no option")).hint(
            "`${-x?text}` is for when -x is given, `${-x!text}` for when not; `${-x NAME?text}`: `$-` is its word",
        )
    };
    let mut depth = 0;
    let closing = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    let (end, _) = closing.ok_or_else(bad)?;
    let inside = rest.get(2..end).ok_or_else(bad)?;
    let (head, text) = inside.split_once(['?', '!']).map_or((inside, None), |(head, text)| (head, Some(text)));
    let given = inside.as_bytes().get(head.len()) != Some(&b'!');
    let (letter, word) = head.split_once(' ').map_or((head, None), |(letter, word)| (letter, Some(word.to_owned())));
    let [letter] = letter.chars().collect::<Vec<_>>()[..] else { return Err(bad()) };
    if !letter.is_ascii_alphabetic() {
        return Err(bad());
    }
    let parts = match (text, &word) {
        (Some(text), _) => parts(text, quote)?,
        (None, None) => vec![Part::Text(format!("-{letter}"))],
        (None, Some(_)) => vec![Part::Text(format!("-{letter} ")), Part::Word { quote }],
    };
    Ok((Part::Option(Choice { letter, word, given, parts }), end + 1))
}

/// The stages of a statement with macros of one pipeline in place of their calls.
pub(crate) fn splice<'s>(cx: &Cx<'_>, stages: &'s [Stage]) -> Result<Cow<'s, [Stage]>> {
    if !stages.iter().any(|stage| called(cx, stage).is_some()) {
        return Ok(Cow::Borrowed(stages));
    }
    let mut out = Vec::new();
    splice_into(cx, stages, 0, &mut out)?;
    Ok(Cow::Owned(out))
}

fn splice_into(cx: &Cx<'_>, stages: &[Stage], depth: u32, out: &mut Vec<Stage>) -> Result<()> {
    for stage in stages {
        if out.len() >= MAX_STAGES {
            return Err(Error::Usage(format!("macros make more than {MAX_STAGES} stages of this")));
        }
        let Some((called, args)) = called(cx, stage) else {
            out.push(stage.clone());
            continue;
        };
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep(MAX_DEPTH));
        }
        let text = called.expand(&arguments(cx, args)?)?;
        let found = lang::parse(&text, cx.env.radix.get()).map_err(|e| Error::from(e).nested_in(&text))?;
        match &found[..] {
            [one] if is_plain(one) => {
                let placed = one.stages.iter().map(|inner| placed(inner, &stage.span)).collect::<Vec<_>>();
                splice_into(cx, &placed, depth + 1, out)?;
            }
            _ => out.push(stage.clone()),
        }
    }
    Ok(())
}

/// Whether a statement is a pipeline and nothing else.
fn is_plain(statement: &Statement) -> bool {
    statement.addr.is_none() && statement.count.is_none() && statement.shell.is_none() && !statement.stages.is_empty()
}

/// The macro that a stage calls. A dcmd of that name goes first.
fn called<'s>(cx: &Cx<'_>, stage: &'s Stage) -> Option<(Macro, &'s [Word])> {
    match &stage.kind {
        StageKind::Dcmd { name, args, .. } if cx.registry.dcmd(name).is_none() => {
            Some((cx.env.macros.borrow().get(name)?.clone(), args))
        }
        _ => None,
    }
}

/// The words of a call.
fn arguments(cx: &Cx<'_>, words: &[Word]) -> Result<Vec<Argument>> {
    words
        .iter()
        .map(|word| {
            let text = pipeline::word(cx, word)?;
            let raw = match word.kind {
                WordKind::Text(_) => word.raw.clone(),
                WordKind::Immediate(_) => text.clone(),
            };
            Ok(Argument { raw, text })
        })
        .collect()
}

/// The text that a call of a macro stands for, if there is one of that name.
pub(crate) fn text_of(cx: &Cx<'_>, name: &str, words: &[Word]) -> Result<Option<String>> {
    let found = cx.env.macros.borrow().get(name).cloned();
    found.map(|called| called.expand(&arguments(cx, words)?)).transpose()
}

/// A stage of a macro's text, with all its places where the macro was called: that is the line that errors point into.
fn placed(stage: &Stage, at: &Span) -> Stage {
    let mut stage = stage.clone();
    stage.span = at.clone();
    match &mut stage.kind {
        StageKind::Dcmd { name_span, args, .. } => {
            *name_span = at.clone();
            for word in args {
                word.span = at.clone();
                if let WordKind::Immediate(expr) = &mut word.kind {
                    place(expr, at);
                }
            }
        }
        StageKind::Verb { format, .. } => {
            for item in format {
                match item {
                    FormatItem::Letter { span, count, .. } => {
                        *span = at.clone();
                        if let FormatCount::Computed(expr) = count {
                            place(expr, at);
                        }
                    }
                    FormatItem::Value(value) => {
                        value.span = at.clone();
                        place(&mut value.node, at);
                    }
                    FormatItem::Text(_) => {}
                }
            }
        }
        _ => {}
    }
    stage
}

fn place(expr: &mut Expr, at: &Span) {
    match expr {
        Expr::Symbol { span, .. } | Expr::Var(_, span) => *span = at.clone(),
        Expr::Unary(_, inner) => place(inner, at),
        Expr::Deref { addr, span, .. } => {
            *span = at.clone();
            place(addr, at);
        }
        Expr::Binary(_, a, b, span) => {
            *span = at.clone();
            place(a, at);
            place(b, at);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn expand(text: &str, words: &[(&str, &str)]) -> String {
        let words: Vec<_> =
            words.iter().map(|(raw, text)| Argument { raw: (*raw).into(), text: (*text).into() }).collect();
        match Macro::new("m", "", text).and_then(|m| m.expand(&words)) {
            Ok(text) => text,
            Err(e) => format!("{e} / {}", e.advice().unwrap_or_default()),
        }
    }

    #[test]
    fn arguments_stay_words() {
        let two = &[("'a b'", "a b"), ("c", "c")];
        assert_eq!(expand("::echo $1 $2", two), "::echo 'a b' c");
        assert_eq!(expand("::echo $*", two), "::echo 'a b' c");
        assert_eq!(expand("::echo $2 $*", two), "::echo c ");
        assert_eq!(expand("::where 'comm == \"$1\"'", &[("'a b'", "a b")]), "::where 'comm == \"a b\"'");
        assert_eq!(expand("::where '$1'", &[("\"it's\"", "it's")]), "::where 'it\\'s'");
        assert_eq!(expand("::echo \"<$1>\"", &[("'say \"x\\n\"'", "say \"x\\n\"")]), "::echo \"<say \\\"x\\\\n\\\">\"");
        assert_eq!(expand("0t$1::pid2task", &[("12", "12")]), "0t12::pid2task");
        assert_eq!(expand("$1/$2", &[("jiffies", ""), ("X", "")]), "jiffies/X");
    }

    #[test]
    fn defaults_counts_and_dollars() {
        assert_eq!(expand("::head -n ${1:-5}", &[]), "::head -n 5");
        assert_eq!(expand("::head -n ${1:-5} ! tail -$1", &[]), "::head -n 5 ! tail -5");
        assert_eq!(expand("::echo $# $$ a$ $[1] ^x$", &[]), "::echo 0 $ a$ $[1] ^x$");
        assert_eq!(expand("::echo '\\'$$1'", &[]), "::echo '\\'$1'");
        assert_eq!(expand("$c", &[]), "$c");
    }

    #[test]
    fn options_choose_texts() {
        let text = "::a${-e NAME? | ::where 'ret == -$-'} | ::b${-P? comm}${-P! id} $1";
        assert_eq!(expand(text, &[("x", "x")]), "::a | ::b id x");
        assert_eq!(expand(text, &[("-P", "-P"), ("x", "x")]), "::a | ::b comm x");
        let called = &[("-Pe", "-Pe"), ("ENOENT", "ENOENT"), ("x", "x")];
        assert_eq!(expand(text, called), "::a | ::where 'ret == -ENOENT' | ::b comm x");
        assert_eq!(expand(text, &[("-e5", "-e5"), ("'-P'", "-P")]), "::a | ::where 'ret == -5' | ::b id '-P'");
        assert_eq!(expand("::a ${-p PID} ${-x}", &[("-p", "-p"), ("'a b'", "a b"), ("-x", "-x")]), "::a -p 'a b' -x");
        let usage = "Usage: ::m [-e NAME] [-P] ARG1";
        assert_eq!(expand(text, &[("-q", "-q")]), format!("::m has no option -q / {usage}"));
        assert_eq!(expand(text, &[("-e", "-e")]), format!("::m -e needs a NAME / {usage}"));
        assert!(expand("::a ${-ee?x}", &[]).starts_with("`${-ee?x}` is no option"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(expand("::echo $1", &[]), "::m needs an argument 1 / Usage: ::m ARG1");
        assert_eq!(expand("::echo ${2:-x} $1", &[]), "::m needs an argument 1 / Usage: ::m ARG1 [ARG2=x]");
        let three = &[("a", "a"), ("b", "b"), ("c", "c")];
        assert_eq!(expand("::echo", three), "::m takes no argument, not 3 / Usage: ::m");
        assert!(expand("::echo ${x}", &[]).starts_with("`${x}` is no parameter"));
        assert!(expand("::echo | | x", &[]).contains("a command must follow |"));
        assert!(expand("  ", &[]).contains("is empty"));
        assert!(Macro::new("a b", "", "::ps").is_err());
    }
}
