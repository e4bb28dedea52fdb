//! The pipe: a statement becomes a chain of stages, and items are pushed through it one at a time.
//!
//! Push, not pull: a walker calls down the chain for each address it finds, so walking a tree is plain recursion, and
//! a stage that has enough answers [`Error::Stop`], which unwinds the walker: `::walk page | ::head` touches ten pages.
//! Stages that need everything (`::sort`, `::count`) do their work in `finish`.

use crate::{
    cx::{Cx, Out, Sink},
    error::{Error, Result},
    item::{Item, Object},
    lang::{
        self,
        ast::{Expr, Spanned, StageKind, Statement, Word, WordKind},
    },
    macros,
    registry::Stage,
    verbs::VerbStage,
};
use std::path::Path;

/// `::eval` inside `::eval` and macros that run each other must end somewhere.
const MAX_DEPTH: u32 = 32;

/// An empty line at the prompt: nothing, or with `::set -o repeatlast` the last command again, behind what it showed.
pub fn repeat_last(cx: &Cx<'_>) -> Result<()> {
    let stages = cx.env.last_stages.borrow().clone();
    if !cx.env.options.repeatlast.get() || stages.is_empty() {
        return Ok(());
    }
    cx.env.step();
    let statement = Statement { addr: None, count: None, stages, shell: None, shell_source: false };
    run_statement(cx, &statement, None, None)
}

/// Runs every statement of `text`; what the last stages emit goes to the face.
pub fn run(cx: &Cx<'_>, text: &str) -> Result<()> {
    if cx.env.depth.get() == 0 {
        cx.face.typed(text);
    }
    let mut statements = lang::Statements::new(text);
    // one at a time: `$d` changes how the rest of the line is read
    while let Some(statement) = statements.next(cx.env.radix.get())? {
        if cx.env.depth.get() == 0 {
            cx.session.begin();
        }
        match run_statement(cx, &statement, None, None) {
            // its reader has seen enough; the next one has a reader of its own
            Err(Error::Stop) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Runs every statement of `text` into `out`: `::eval`, `::map`, `::grep`. A bare expression then only sets dot.
pub fn run_into(cx: &Cx<'_>, text: &str, out: &mut Out<'_>) -> Result<()> {
    run_at(cx, text, None, out)
}

/// The same, with an address for the statements that have none of their own: a macro's.
fn run_at(cx: &Cx<'_>, text: &str, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
    nested(cx, || {
        let mut statements = lang::Statements::new(text);
        let mut rest = || -> Result<()> {
            while let Some(statement) = statements.next(cx.env.radix.get())? {
                run_statement(cx, &statement, at, Some(&mut *out))?;
            }
            Ok(())
        };
        rest().map_err(|e| e.nested_in(text))
    })
}

/// Runs a file of commands. One that fails is told of with its place, and the next ones run.
pub fn source(cx: &Cx<'_>, path: &Path) -> Result<()> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|e| Error::Usage(format!("{name}: {e}")))?;
    let text = String::from_utf8_lossy(&text);
    nested(cx, || {
        for (number, command) in lang::commands(&text) {
            match run(cx, command) {
                Ok(()) => {}
                // one is told of, not one for each level of those that called it
                Err(e @ Error::TooDeep(_)) => return Err(e),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => cx.face.complain(&e, &name, number, command),
            }
        }
        Ok(())
    })
}

/// Runs lines that were not typed: what a shell printed. An error tells which of them it is about.
fn run_lines(cx: &Cx<'_>, text: &str) -> Result<()> {
    nested(cx, || run(cx, text)).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |i| i + 1);
        e.nested_in(text.get(line..).and_then(|rest| rest.lines().next()).unwrap_or_default())
    })
}

fn nested(cx: &Cx<'_>, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let depth = cx.env.depth.get();
    if depth >= MAX_DEPTH {
        return Err(Error::TooDeep(MAX_DEPTH));
    }
    cx.env.depth.set(depth + 1);
    let result = work();
    cx.env.depth.set(depth);
    result
}

fn run_statement(cx: &Cx<'_>, statement: &Statement, at: Option<Object>, into: Option<&mut Out<'_>>) -> Result<()> {
    let start = match &statement.addr {
        Some(addr) => Some(start_object(cx, addr)?),
        None => at.filter(|_| !statement.stages.is_empty()),
    };
    if let Some(object) = start {
        cx.env.dot.set(object.addr);
    }
    cx.env.last_dot.set(cx.env.dot.get());
    if statement.shell_source {
        let text = cx.face.filter(cx, statement.shell.as_deref().unwrap_or_default(), Vec::new())?;
        return run_lines(cx, &text);
    }
    let again;
    let bare = statement.stages.is_empty() && (statement.addr.is_some() || statement.count.is_some());
    let stages = match &statement.stages[..] {
        _ if bare && into.is_some() && statement.count.is_none() => {
            cx.env.increment.set(0);
            return Ok(());
        }
        // adb's heritage: a bare address repeats the last command there, a bare count goes on behind it
        _ if bare => {
            if statement.addr.is_none() {
                cx.env.step();
            }
            again = cx.env.last_stages.borrow().clone();
            &again[..]
        }
        stages => stages,
    };
    if into.is_none() && !stages.is_empty() {
        *cx.env.last_stages.borrow_mut() = stages.to_vec();
    }
    let stages = &*macros::splice(cx, stages)?;
    let count = match &statement.count {
        Some(count) => eval(cx, &count.node)?,
        None => 1,
    };
    cx.env.count.set(count);
    let shell = statement.shell.as_deref();
    match (shell, stages) {
        (_, []) if bare => return Ok(()),
        (Some(command), []) => return cx.face.shell(command),
        _ => {}
    }
    match into {
        Some(out) if shell.is_none() => run_stages(cx, stages, start, count, &mut *out.sink, out.piped),
        _ => {
            let mut sink = cx.face.open(cx, shell)?;
            let result = run_stages(cx, stages, start, count, &mut *sink, false);
            let finished = sink.finish();
            result.and(finished)
        }
    }
}

/// Dot at the start of a pipeline. An address written as one symbol brings that global's type along.
fn start_object(cx: &Cx<'_>, addr: &Spanned<Expr>) -> Result<Object> {
    let value = eval(cx, &addr.node)?;
    let ctype = match &addr.node {
        Expr::Symbol { name, .. } => {
            let found = cx.symbols.by_name(cx, name);
            found.iter().find(|s| s.addr == value).and_then(|s| cx.type_of_symbol(s))
        }
        _ => None,
    };
    Ok(Object { addr: value, ctype })
}

/// Evaluates an expression of the language.
pub fn eval(cx: &Cx<'_>, expr: &Expr) -> Result<u64> {
    lang::eval(expr, &crate::scope::CxScope(cx)).map_err(|e| crate::names::explain(cx, e))
}

/// Parses and evaluates an expression: a dcmd's argument, a line of a shell's output.
pub fn eval_text(cx: &Cx<'_>, text: &str) -> Result<u64> {
    let expr = lang::parse_expr(text, cx.env.radix.get()).map_err(Error::from);
    expr.and_then(|expr| eval(cx, &expr.node)).map_err(|e| e.nested_in(text))
}

fn run_stages(
    cx: &Cx<'_>,
    stages: &[lang::ast::Stage],
    start: Option<Object>,
    count: u64,
    end: &mut dyn Sink,
    piped: bool,
) -> Result<()> {
    let mut running = Vec::new();
    let mut left = stages;
    if let Some((first, behind)) = stages.split_first() {
        let mut first = make(cx, first)?;
        let taken = first.plan(cx, behind)?;
        running.push(first);
        left = behind.get(taken..).unwrap_or_default();
    }
    for stage in left {
        running.push(make(cx, stage)?);
    }
    let mut chain = Chain { cx, stages: &mut running, written: left, end, piped, first: true };
    let mut at = start;
    for _ in 0..count {
        match chain.push(at.map(Item::Object)) {
            Ok(()) => {}
            Err(Error::Stop) => break,
            Err(e) => return Err(e),
        }
        if count > 1 {
            let next = cx.env.dot.get().wrapping_add(cx.env.increment.get());
            cx.env.dot.set(next);
            at = Some(Object { addr: next, ctype: at.and_then(|o| o.ctype) });
        }
    }
    chain.finish_all()
}

/// The rest of a pipeline, seen from the stage before it.
struct Chain<'c, 'a, 'e> {
    cx: &'c Cx<'a>,
    stages: &'c mut [Box<dyn Stage>],
    /// how the last of `stages` were written: all of them but a head of the pipeline
    written: &'c [lang::ast::Stage],
    end: &'e mut dyn Sink,
    /// whether something reads addresses behind the last stage
    piped: bool,
    /// whether the first of `stages` is the first of the pipeline
    first: bool,
}

impl Chain<'_, '_, '_> {
    fn push(&mut self, item: Option<Item>) -> Result<()> {
        let Some((stage, rest)) = self.stages.split_first_mut() else {
            return item.map_or(Ok(()), |item| self.end.item(item));
        };
        let item = match item {
            Some(Item::Line(text)) if !stage.takes_lines() => match text.trim() {
                "" => return Ok(()),
                text => Some(Item::Object(Object::untyped(eval_text(self.cx, text)?))),
            },
            item => item,
        };
        let at = item.as_ref().and_then(Item::object);
        if let Some(object) = at {
            self.cx.env.dot.set(object.addr);
        }
        let piped = self.piped || !rest.is_empty();
        let first = self.first;
        let written = self.written.get(self.written.len().saturating_sub(rest.len())..).unwrap_or_default();
        let mut tail =
            Chain { cx: self.cx, stages: rest, written, end: &mut *self.end, piped: self.piped, first: false };
        let mut out = Out { sink: &mut tail, interrupt: &self.cx.session.interrupt, piped, first };
        match stage.item(self.cx, item, &mut out) {
            // one address that cannot be read does not end the pipeline, and is not forgotten
            Err(e) if !self.first && e.is_unreadable() => {
                self.cx.notes.add(at.map_or(0, |o| o.addr), e.kind());
                Ok(())
            }
            result => result,
        }
    }

    fn finish_all(&mut self) -> Result<()> {
        for i in 0..self.stages.len() {
            let Some((stage, rest)) = self.stages.get_mut(i..).and_then(<[_]>::split_first_mut) else { break };
            let piped = self.piped || !rest.is_empty();
            let first = self.first && i == 0;
            let written = self.written.get(self.written.len().saturating_sub(rest.len())..).unwrap_or_default();
            let mut tail =
                Chain { cx: self.cx, stages: rest, written, end: &mut *self.end, piped: self.piped, first: false };
            let mut out = Out { sink: &mut tail, interrupt: &self.cx.session.interrupt, piped, first };
            match stage.finish(self.cx, &mut out) {
                Ok(()) | Err(Error::Stop) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Sink for Chain<'_, '_, '_> {
    fn item(&mut self, item: Item) -> Result<()> {
        self.push(Some(item))
    }

    fn flush(&mut self) -> Result<()> {
        self.end.flush()
    }

    fn round(&mut self) -> Result<()> {
        self.finish_all()?;
        for (stage, written) in self.stages.iter_mut().zip(self.written) {
            *stage = make(self.cx, written)?;
        }
        self.end.round()
    }
}

// ---- stages -----------------------------------------------------------------------------------------------------

fn make(cx: &Cx<'_>, stage: &lang::ast::Stage) -> Result<Box<dyn Stage>> {
    match &stage.kind {
        StageKind::Dcmd { name, args, name_span, .. } => {
            let Some(entry) = cx.registry.dcmd(name) else {
                return match macros::text_of(cx, name, args)? {
                    Some(text) => Ok(Box::new(Called { text })),
                    None => Err(crate::names::unknown_dcmd(cx, name, name_span)),
                };
            };
            let words = match entry.expression {
                true => expression(&(entry.command)(), args),
                false if entry.digits => args.iter().map(|w| printed(cx, w)).collect::<Result<_>>()?,
                false => args.iter().map(|w| word(cx, w)).collect::<Result<_>>()?,
            };
            (entry.make)(cx, &words)
        }
        StageKind::Verb { verb, format } => Ok(Box::new(VerbStage::new(*verb, format.clone(), stage.span.clone()))),
        StageKind::Assign { name, size } => Ok(Box::new(Assign { name: name.clone(), size: *size })),
        StageKind::Shell(command) => Ok(Box::new(Shell { command: command.clone(), items: Vec::new() })),
        StageKind::File { sigil, name } => Ok(Box::new(Source { sigil: sigil.clone(), name: name.clone() })),
    }
}

/// The stages that a text and those behind it stand for, with macros in their places.
pub fn stages_of(cx: &Cx<'_>, text: &str, behind: &[lang::ast::Stage]) -> Result<Vec<lang::ast::Stage>> {
    let found = lang::parse(text, cx.env.radix.get()).map_err(|e| Error::from(e).nested_in(text))?;
    let [one] = &found[..] else { return Err(Error::Usage(format!("`{text}` is not one pipeline"))) };
    let stages: Vec<_> = one.stages.iter().chain(behind).cloned().collect();
    macros::splice(cx, &stages).map(std::borrow::Cow::into_owned)
}

/// The words of a dcmd as it gets them.
pub fn words(cx: &Cx<'_>, args: &[Word]) -> Result<Vec<String>> {
    args.iter().map(|w| word(cx, w)).collect()
}

pub(crate) fn word(cx: &Cx<'_>, word: &Word) -> Result<String> {
    match &word.kind {
        WordKind::Text(text) => Ok(text.clone()),
        WordKind::Immediate(expr) => Ok(format!("0x{:x}", eval(cx, expr)?)),
    }
}

/// A word as it is printed: what `$[…]` is worth has no prefix.
fn printed(cx: &Cx<'_>, at: &Word) -> Result<String> {
    match &at.kind {
        WordKind::Immediate(expr) => Ok(lang::number::digits(eval(cx, expr)?, cx.env.radix.get())),
        WordKind::Text(_) => word(cx, at),
    }
}

/// Options, some of which take a word, then an expression as one word.
fn expression(command: &clap::Command, args: &[Word]) -> Vec<String> {
    let mut options = 0;
    while let Some([b'-', letter]) = args.get(options).map(|w| w.raw.as_bytes())
        && letter.is_ascii_alphabetic()
    {
        let option = command.get_arguments().find(|a| a.get_short() == Some(char::from(*letter)));
        options += if option.is_some_and(|a| a.get_action().takes_values()) { 2 } else { 1 };
    }
    let (options, rest) = args.split_at(options.min(args.len()));
    let text = (!rest.is_empty()).then(|| lang::cexpr::text_of(rest));
    let plain = |w: &Word| match &w.kind {
        WordKind::Text(text) => text.clone(),
        WordKind::Immediate(_) => w.raw.clone(),
    };
    options.iter().map(plain).chain(text).collect()
}

/// A macro that is more than a pipeline: see [`macros`].
struct Called {
    text: String,
}

impl Stage for Called {
    fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
        run_at(cx, &self.text, item.and_then(|i| i.object()), out)
    }
}

/// `>name`: keeps dot, truncated if a size was given.
struct Assign {
    name: String,
    size: Option<u8>,
}

impl Stage for Assign {
    fn item(&mut self, cx: &Cx<'_>, _: Option<Item>, _: &mut Out<'_>) -> Result<()> {
        let dot = cx.env.dot.get();
        let value = match self.size {
            Some(bytes @ 1..=7) => dot & ((1 << (8 * u32::from(bytes))) - 1),
            _ => dot,
        };
        cx.env.set_var(&self.name, value)
    }
}

/// `! 'command'` inside a pipeline: the command reads the items' text, and its lines become addresses.
struct Shell {
    command: String,
    items: Vec<Item>,
}

impl Stage for Shell {
    fn takes_lines(&self) -> bool {
        true
    }

    fn item(&mut self, _: &Cx<'_>, item: Option<Item>, _: &mut Out<'_>) -> Result<()> {
        // in the middle of a pipe the command sees addresses, as mdb's stages do, and not tables for people
        self.items.extend(item.map(|item| item.object().map_or(item, Item::Object)));
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let text = cx.face.filter(cx, &self.command, std::mem::take(&mut self.items))?;
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            out.object(Object::untyped(eval_text(cx, line.trim())?))?;
        }
        Ok(())
    }
}

/// `$<file`: runs the commands of a file or, as mdb does for struct names, prints the struct at dot.
struct Source {
    sigil: String,
    name: String,
}

impl Stage for Source {
    fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
        if self.sigil == "$>" {
            let command = match self.name.as_str() {
                "" => "::log -d".to_owned(),
                name => format!("::log '{}'", name.replace('\'', "\\'")),
            };
            return run_into(cx, &command, out);
        }
        cx.env.set_var("9", cx.env.count.get())?;
        if Path::new(&self.name).is_file() {
            return source(cx, Path::new(&self.name));
        }
        let command = match self.name.as_str() {
            "bufctl_audit" => "::bufctl -v".to_owned(),
            name if cx.env.macros.borrow().contains_key(name) => format!("::{name}"),
            // mdb tries a name as a type in these ways
            name => match [
                format!("struct {name}"),
                format!("union {name}"),
                format!("{name}_t"),
                format!("struct {name}s"),
                name.to_owned(),
            ]
            .into_iter()
            .find(|spelling| cx.ctype(spelling).is_ok())
            {
                Some(spelling) => format!("::print '{spelling}'"),
                None => {
                    return Err(Error::Usage(format!("`{name}` is no file, no macro and no type"))
                        .hint("`$<FILE` runs a file of commands, `ADDR$<STRUCT` prints a struct"));
                }
            },
        };
        let at = item.and_then(|i| i.object()).map_or(cx.env.dot.get(), |o| o.addr);
        run_into(cx, &format!("0x{at:x}{command}"), out)
    }
}
