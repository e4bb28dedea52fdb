//! The verbs `/ \ ? =` as stages: a format list over memory, or over dot itself.

use crate::{
    cx::{Cx, Out},
    error::{Error, Result},
    item::{Item, Object},
    lang::{
        ast::{FormatItem, Span},
        format::{FormatError, FormatIo, FormatRun},
        printf::Names,
    },
    registry::Stage,
    scope::CxScope,
};
use std::ops::ControlFlow;
use targets::Space;

/// A verb with its format list.
pub struct VerbStage {
    verb: char,
    format: Vec<FormatItem>,
    span: Span,
    run: Option<FormatRun>,
}

impl VerbStage {
    /// A verb stage.
    pub fn new(verb: char, format: Vec<FormatItem>, span: Span) -> VerbStage {
        VerbStage { verb, format, span, run: None }
    }

    /// The space a verb looks at. `?` means the kernel's file in mdb; a dump brings its own text and data along.
    fn space(&self, cx: &Cx<'_>) -> Space {
        match self.verb {
            '\\' | '@' => Space::Phys,
            _ => cx.env.space.get(),
        }
    }

    fn error(&self, error: FormatError) -> Error {
        match error {
            FormatError::Interrupted => Error::Interrupted,
            FormatError::Eval(e) => e.into(),
            e @ FormatError::ReadOnly => Error::Unavailable(e.to_string()),
            e @ FormatError::Read { .. } => Error::Unavailable(e.to_string()),
            e => Error::Syntax {
                span: self.span.clone(),
                message: e.to_string(),
                hint: Some("`::formats` lists the letters".into()),
            },
        }
    }

    /// Passes on what was written and, into a pipe, what was read.
    fn emit(io: Io<'_, '_>, out: &mut Out<'_>) -> Result<()> {
        if out.piped {
            return io.values.into_iter().try_for_each(|value| out.object(Object::untyped(value)));
        }
        io.lines.into_iter().try_for_each(|line| out.line(line))
    }
}

impl Stage for VerbStage {
    fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
        let dot = item.and_then(|i| i.object()).map_or(cx.env.dot.get(), |o| o.addr);
        let run = match self.run.take() {
            Some(run) => run,
            None => FormatRun::new(self.verb, &self.format, out.piped, &CxScope(cx)).map_err(|e| self.error(e))?,
        };
        let mut io = Io { cx, space: self.space(cx), lines: Vec::new(), values: Vec::new() };
        let run = self.run.insert(run);
        let outcome = run.at(&mut io, dot, cx.env.increment.get(), 1);
        cx.env.dot.set(outcome.dot);
        cx.env.increment.set(outcome.increment);
        let mut vars = cx.env.vars.borrow_mut();
        if let Some(value) = outcome.value {
            vars.insert("0".into(), value);
        }
        let before = vars.insert("1".into(), dot).unwrap_or(0);
        vars.insert("2".into(), before);
        drop(vars);
        Self::emit(io, out)?;
        outcome.error.map_or(Ok(()), |e| Err(self.error(e)))
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let Some(mut run) = self.run.take() else { return Ok(()) };
        let mut io = Io { cx, space: self.space(cx), lines: Vec::new(), values: Vec::new() };
        run.finish(&mut io);
        Self::emit(io, out)
    }
}

/// What the formats ask of the session.
struct Io<'c, 'a> {
    cx: &'c Cx<'a>,
    space: Space,
    lines: Vec<String>,
    values: Vec<u64>,
}

impl Names for Io<'_, '_> {
    fn symbol(&self, addr: u64) -> Option<(String, u64)> {
        CxScope(self.cx).symbol(addr)
    }

    fn time(&self, seconds: i64) -> Option<String> {
        CxScope(self.cx).time(seconds)
    }

    fn radix(&self) -> u32 {
        self.cx.env.radix.get()
    }
}

impl FormatIo for Io<'_, '_> {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        self.cx.read_in(self.space, addr, buf).map_err(|e| e.kind())
    }

    fn instruction(&mut self, addr: u64) -> Result<(String, u64), String> {
        let (text, len) = (self.cx.registry.disassemble)(self.cx, addr).ok_or("no instruction can be read here")?;
        Ok((text, len as u64))
    }

    fn next_mapped(&mut self, addr: u64) -> Option<u64> {
        if self.space == Space::Phys {
            let range = self.cx.target.ranges().iter().find(|r| r.end > addr)?;
            return Some(range.start.max(addr));
        }
        let mut found = None;
        let going = || !self.cx.interrupt.is_set();
        // page tables that cannot be read hide what they map; the search goes on behind them
        let _ = self.cx.target.each_mapping(self.space, addr..=u64::MAX, &going, &mut |mapping| {
            found = Some(mapping.va.max(addr));
            ControlFlow::Break(())
        });
        found
    }

    fn width(&self) -> Option<usize> {
        Some(self.cx.env.width.get())
    }

    fn interrupted(&self) -> bool {
        self.cx.interrupt.is_set()
    }

    fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    fn value(&mut self, value: u64) {
        self.values.push(value);
    }
}
