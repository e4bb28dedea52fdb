//! Where in a function time goes: `::annotate`.
//!
//! ```console
//! > ::probe cpu:997hz -C './hot' | ::annotate spin
//! COUNT SHARE PLACE     INSTRUCTION
//!     0    0% spin      movl    $0xf4240, %eax
//!   301 49.5% spin+0x5  subq    $1, %rax
//!   307 50.4% spin+0x9  jne     0x1145 <spin+0x5>
//!     0    0% spin+0xb  retq
//! ```

use super::{
    chain::{Chain, Frame},
    percent,
};
use crate::{
    dis::{decode, disassemble},
    probe::{code::Code, users::Seen},
};
use engine::{IntoRow, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

/// Show a function's instructions, and how many of the samples that come in were at each.
///
/// Counted are stacks that end in the function, or, with `-c`, those that it is part of: then each is counted where the
/// function goes on. With debug information the source line stands beside the first instruction of each.
#[derive(Args)]
pub struct Annotate {
    /// count what it calls, too, at the calls
    #[arg(short = 'c')]
    callees: bool,
    /// leave out instructions without samples
    #[arg(short = 'z')]
    hits: bool,
    /// the function; FILE`FUNCTION if several programs have one
    function: String,
    /// by object and function: samples by offset
    #[arg(skip)]
    found: BTreeMap<(String, String, bool), BTreeMap<u64, u64>>,
    #[arg(skip)]
    inlined: u64,
    #[arg(skip)]
    total: u64,
}

/// An instruction.
#[derive(Row)]
struct AnnotateRow {
    /// samples there
    count: u64,
    /// of those of the function
    share: String,
    /// where
    place: String,
    /// the instruction
    instruction: String,
    /// source line, where another begins
    source: Option<String>,
}

impl Filter for Annotate {
    const NAME: &'static str = "annotate";
    const ROWS: &'static [&'static engine::Schema] = &[AnnotateRow::SCHEMA];

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        let chain = Chain::of(cx, &item, Self::NAME)?;
        self.total += chain.count;
        let mut innermost = chain.frames.iter().rev();
        let frame = match self.callees {
            true => innermost.find(|frame| self.is_meant(frame) && frame.offset.is_some()),
            // what was inlined lies in the function whose offset is known
            false => innermost.clone().find(|frame| frame.offset.is_some()).filter(|frame| self.is_meant(frame)),
        };
        let Some((frame, offset)) = frame.and_then(|frame| Some((frame, frame.offset?))) else {
            self.inlined += if innermost.any(|f| self.is_meant(f) && f.offset.is_none()) { chain.count } else { 0 };
            return Ok(());
        };
        let returned = u64::from(self.callees && chain.frames.last() != Some(frame));
        let key = (frame.object.clone(), frame.function.clone(), frame.kernel);
        *self.found.entry(key).or_default().entry(offset - returned.min(offset)).or_default() += chain.count;
        Ok(())
    }

    fn finish(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        if self.found.is_empty() {
            let name = &self.function;
            let error = Error::Unavailable(format!("none of {} samples was in `{name}`", self.total));
            return Err(match self.inlined {
                0 => error.hint("`::profile` says where they were; `-c` counts what a function calls"),
                n => error.hint(format!("{n} were where it was inlined: `::profile` names the functions around it")),
            });
        }
        for ((object, function, kernel), samples) in &self.found {
            let of: u64 = samples.values().sum();
            let lines = match kernel {
                true => kernel_lines(cx, object, function),
                false => {
                    let code = cx.once(|| Ok(Seen::default()))?.file(object);
                    code.and_then(|code| user_lines(cx, &code, function))
                }
            };
            let lines = lines.ok_or_else(|| Error::Unavailable(format!("the code of `{function}` is not at hand")))?;
            self.show(&lines, samples, function, of, out)?;
        }
        Ok(())
    }
}

/// An instruction: how far in the function it is, how long, its text, its source line.
struct Line {
    at: u64,
    len: u64,
    text: String,
    source: Option<String>,
}

/// A longer function is cut off.
const LONGEST: u64 = 1 << 20;

fn kernel_lines(cx: &Cx<'_>, object: &str, function: &str) -> Option<Vec<Line>> {
    let at = match object {
        "" => cx.symbols.address(cx, function)?,
        module => cx.symbols.in_module(cx, module, function)?,
    };
    let size = cx.symbols.by_addr(cx, at)?.size.min(LONGEST);
    let mut lines = Vec::new();
    let mut next = 0;
    while next < size {
        let (text, len) = disassemble(cx, at.wrapping_add(next)).unwrap_or(("?".into(), 1));
        let source = engine::frame::source(cx, at.wrapping_add(next)).pop();
        lines.push(Line { at: next, len: len as u64, text, source });
        next += len as u64;
    }
    Some(lines)
}

fn user_lines(cx: &Cx<'_>, code: &Arc<Code>, function: &str) -> Option<Vec<Line>> {
    let function = code.by_name(function)?;
    let name = |at: u64| {
        let found = code.function(at)?;
        let name = engine::debuginfo::demangle::demangle(&found.name).into_owned();
        Some(if at == found.at { name } else { format!("{name}+{:#x}", at - found.at) })
    };
    let (mut rest, mut next, mut lines) = (code.code(function), 0, Vec::new());
    while !rest.is_empty() && next < LONGEST {
        let at = function.at.wrapping_add(next);
        let (text, len) = decode(cx.target.arch(), rest, at, name).unwrap_or(("?".into(), 1));
        // the innermost: what was inlined there
        let source = code.names(at).into_iter().next().and_then(|named| named.line);
        lines.push(Line { at: next, len: len as u64, text, source });
        rest = rest.get(len.max(1)..).unwrap_or_default();
        next += len.max(1) as u64;
    }
    Some(lines)
}

impl Annotate {
    fn is_meant(&self, frame: &Frame) -> bool {
        match self.function.split_once('`') {
            Some((object, function)) => frame.object == object && frame.function == function,
            None => frame.function == self.function,
        }
    }

    fn show(
        &self,
        lines: &[Line],
        samples: &BTreeMap<u64, u64>,
        function: &str,
        of: u64,
        out: &mut Out<'_>,
    ) -> Result<()> {
        let mut last = None;
        for line in lines {
            let count: u64 = samples.range(line.at..line.at + line.len).map(|(_, count)| count).sum();
            if self.hits && count == 0 {
                continue;
            }
            let source = line.source.clone().filter(|source| last.as_ref() != Some(source));
            if source.is_some() {
                last = source.clone();
            }
            let place = if line.at == 0 { function.to_owned() } else { format!("{function}+{:#x}", line.at) };
            let share = percent(count, of);
            out.row(AnnotateRow { count, share, place, instruction: line.text.clone(), source })?;
        }
        Ok(())
    }
}
