//! What of a pipeline the kernel does: the stages behind a probe are looked at, and those that can be compiled are taken
//! over, from the first up to the first that cannot.

use super::{
    compile::{Compiler, Looks},
    join,
    names::Names,
    path,
};
use crate::{
    select::{Shown, heading},
    sort::integer,
};
use engine::{
    lang::{
        self,
        ast::{Stage, StageKind, Word, WordKind},
        cexpr,
    },
    prelude::*,
};
use probes::{
    expr::{Test, Value},
    program::{Action, Spec},
    recording::Entry,
    source::Source,
};

/// Frames of a stack that is a key or part of an event: as many as the kernel gives (`kernel.perf_event_max_stack`).
pub(super) const FRAMES: u16 = 127;

/// What happens to hits that pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// they come out, with these values
    Show,
    /// they are counted
    Count,
    /// they are counted by the values
    Group,
    /// the number, last of the values, is put into bins by powers of two, for each of the other values
    Quantize,
    /// the number is added up
    Sum(String),
}

/// What of a number is kept for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// `-s`
    Sum,
    /// `-a`
    Avg,
    /// `-m`
    Min,
    /// `-M`
    Max,
}

impl Fold {
    /// Its column.
    pub fn name(self) -> &'static str {
        match self {
            Fold::Sum => "sum",
            Fold::Avg => "avg",
            Fold::Min => "min",
            Fold::Max => "max",
        }
    }

    /// Its cell.
    pub fn of(self, entry: &Entry) -> Cell {
        let mean = entry.sum.checked_div_euclid(i64::try_from(entry.count).unwrap_or(i64::MAX));
        let number = match self {
            Fold::Sum => Some(entry.sum),
            Fold::Avg => mean,
            Fold::Min => Some(entry.least),
            Fold::Max => Some(entry.most),
        };
        number.map_or(Cell::Null, |number| integer(number.into()))
    }
}

/// A value that is taken at a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// its column
    pub name: String,
    /// what was written
    pub text: String,
    /// whether it is only for stages behind, and not shown
    pub hidden: bool,
}

/// What the kernel does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// probes whose hits come first, and what both have (`::latency`)
    pub begins: Vec<Source>,
    key: Vec<String>,
    /// conditions that a hit must meet
    pub tests: Vec<String>,
    /// values that are taken
    pub asked: Vec<Asked>,
    /// what becomes of them
    pub then: Then,
    /// what is kept of each group beside the number of its hits
    pub fold: Option<(Fold, String)>,
    /// bytes that a text is cut to
    pub text: u16,
    /// stages that are done here
    pub taken: usize,
    /// whether the sources come from a pattern: those that lack what is asked for are left out
    pub loose: bool,
    /// stacks of programs are followed by frame pointers, in the kernel
    pub frame_pointers: bool,
}

impl Plan {
    /// Takes over what it can for these sources. `loose`: those of them that lack what is asked for may be left out.
    pub fn make(cx: &Cx<'_>, sources: &mut Vec<Source>, behind: &[Stage], text: u16, loose: bool) -> Result<Plan> {
        let (begins, key, tests, asked) = Default::default();
        let mut plan = Plan {
            begins,
            key,
            tests,
            asked,
            then: Then::Show,
            fold: None,
            text,
            taken: 0,
            loose,
            frame_pointers: false,
        };
        plan.latency(cx, sources, behind.first())?;
        while let Some(stage) = behind.get(plan.taken) {
            if plan.then != Then::Show || !plan.take(cx, sources, stage)? {
                break;
            }
            plan.taken += 1;
        }
        // `::group KEY | ::count` counts for each key, which is what a group is
        if plan.then == Then::Group
            && behind.get(plan.taken).is_some_and(|s| dcmd(s).is_some_and(|(n, a)| n == "count" && a.is_empty()))
        {
            plan.taken += 1;
        }
        if plan.then == Then::Show {
            plan.ask_for_what_is_behind(cx, sources, behind);
        }
        Ok(plan)
    }

    /// Whether the stages begin with one that joins probes.
    pub fn joins(behind: &[Stage]) -> bool {
        behind.first().and_then(dcmd).is_some_and(|(name, _)| name == "latency")
    }

    /// `::latency KEY` joins the last probe with those in front of it.
    fn latency(&mut self, cx: &Cx<'_>, sources: &mut Vec<Source>, first: Option<&Stage>) -> Result<()> {
        let Some(("latency", args)) = first.and_then(dcmd) else { return Ok(()) };
        let Some(last) = sources.len().checked_sub(1).filter(|last| *last > 0) else {
            return Err(Error::Usage("`::latency` needs two probes: what begins, and what ends".into())
                .hint("`::probe t:block:block_rq_issue t:block:block_rq_complete | ::latency dev sector`"));
        };
        let key: Vec<_> = args.iter().map(plain).collect();
        let (begins, ends) = sources.split_at(last);
        for word in &key {
            let (begin, end) = join::sides(word);
            self.each(cx, begins, |compiler| compiler.value(begin).map(|_| ()))?;
            self.each(cx, ends, |compiler| compiler.value(end).map(|_| ()))?;
        }
        self.begins = sources.drain(..last).collect();
        self.key = key;
        self.taken = 1;
        Ok(())
    }

    /// Tries something for every source; all must be able to do it.
    fn each(&self, cx: &Cx<'_>, sources: &[Source], mut work: impl FnMut(&Compiler<'_>) -> Result<()>) -> Result<()> {
        let behind = !self.begins.is_empty();
        sources.iter().try_for_each(|source| work(&Compiler::new(cx, &Names::behind(cx, source, behind), self.text)))
    }

    /// Takes a stage over; false leaves it where it is.
    fn take(&mut self, cx: &Cx<'_>, sources: &mut Vec<Source>, stage: &Stage) -> Result<bool> {
        let Some((name, args)) = dcmd(stage) else { return Ok(false) };
        let expression = cexpr::text_of(args);
        match name {
            "where" | "filter" => match self.narrow(cx, sources, |c| c.test(&expression).map(|_| ())) {
                Ok(()) => self.tests.push(expression),
                Err(e) if e.is_control() => return Err(e),
                Err(_) => return Ok(false),
            },
            // what there is, which comes if nothing else is asked for
            "print" if args.is_empty() => {}
            "print" | "fields" if !args.is_empty() => {
                for word in args.iter().map(plain) {
                    let members = self.members(cx, sources, heading(&word).1);
                    if members.is_empty() {
                        self.narrow(cx, sources, |c| c.value(heading(&word).1).map(|_| ()))?;
                        self.ask(&word, false);
                    }
                    members.iter().for_each(|member| self.ask(member, false));
                }
            }
            "stack" | "ustack" => {
                let user = name == "ustack" || args.iter().any(|a| plain(a) == "-u");
                let kernel = name == "stack" && (!user || args.iter().any(|a| plain(a) == "-k"));
                if kernel {
                    self.ask("stack", false);
                }
                if user {
                    self.ask("ustack", false);
                }
            }
            "count" if args.is_empty() => self.then = Then::Count,
            "group" => {
                let Some((fold, args)) = grouped(args) else { return Ok(false) };
                // stacks of programs are counted here, and nothing else of their groups
                if fold.is_some() && args.iter().any(|word| plain(word) == "ustack") {
                    return Ok(false);
                }
                if let Some((_, text)) = &fold {
                    self.narrow(cx, sources, |c| c.number(text).map(|_| ()))?;
                }
                self.fold = fold;
                // each probe counts in a table of its own
                for word in args.iter().map(plain).filter(|word| !matches!(word.as_str(), "probe" | "func")) {
                    if !is_stack(&word) {
                        self.narrow(cx, sources, |c| c.value(heading(&word).1).map(|_| ()))?;
                    }
                    self.ask(&word, false);
                }
                self.then = Then::Group;
            }
            // with a key, or with steps of one size, the values are counted here
            "quantize" if args.first().is_some_and(|first| !plain(first).starts_with('-')) => {
                self.narrow(cx, sources, |c| c.number(&expression).map(|_| ()))?;
                self.asked.retain(|asked| asked.text != expression);
                self.ask(&expression, false);
                self.then = Then::Quantize;
            }
            "sum" if !args.is_empty() => {
                self.narrow(cx, sources, |c| c.number(&expression).map(|_| ()))?;
                self.then = Then::Sum(expression);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether groups are counted here: the kernel does not unwind the stacks of programs that have no frame pointers.
    pub fn is_gathered_here(&self) -> bool {
        let copied = !self.frame_pointers && self.begins.is_empty();
        self.then == Then::Group && copied && self.asked.iter().any(|a| a.text == "ustack")
    }

    /// Tries something for every source. Of a pattern's, those are left out that cannot do it, unless none can.
    fn narrow(&self, cx: &Cx<'_>, sources: &mut Vec<Source>, work: impl Fn(&Compiler<'_>) -> Result<()>) -> Result<()> {
        let tried = |source: &Source| self.each(cx, std::slice::from_ref(source), &work);
        let results: Vec<Result<()>> = sources.iter().map(tried).collect();
        let able = results.iter().filter(|result| result.is_ok()).count();
        let first = results.iter().position(|result| result.is_err());
        let Some(first) = first else { return Ok(()) };
        if !self.loose || able == 0 {
            return results.into_iter().nth(first).unwrap_or(Ok(()));
        }
        let (out, why) = (sources.len() - able, results.iter().find_map(|r| r.as_ref().err()));
        let why = why.map_or_else(String::new, |why| format!(": {}", why.kind()));
        cx.notes.once(0, format!("{out} of {} probes are left out{why}", sources.len()));
        let mut results = results.iter();
        sources.retain(|_| results.next().is_some_and(Result::is_ok));
        Ok(())
    }

    /// The members of a structure that is asked for as a whole.
    fn members(&self, cx: &Cx<'_>, sources: &[Source], text: &str) -> Vec<String> {
        let mut members = Vec::new();
        // what is no structure is no error here
        let _ = self.each(cx, sources.get(..1).unwrap_or_default(), |compiler| {
            members = compiler.members(text)?;
            Ok(())
        });
        members.retain(|member| self.can(cx, sources, member).is_ok());
        members
    }

    fn can(&self, cx: &Cx<'_>, sources: &[Source], text: &str) -> Result<()> {
        self.each(cx, sources, |compiler| compiler.value(text).map(|_| ()))
    }

    fn ask(&mut self, word: &str, hidden: bool) {
        let (mut name, text) = match path::of(word) {
            Some(_) => ("path".to_owned(), word),
            None => heading(word),
        };
        // two columns of one name would be one in JSON
        if self.asked.iter().any(|a| a.name == name) || COLUMNS.contains(&name.as_str()) {
            name = text.to_owned();
        }
        if !self.asked.iter().any(|a| a.text == text) {
            self.asked.push(Asked { name, text: text.to_owned(), hidden });
        }
    }

    /// What a source itself has is shown if nothing was asked for; names that stages behind use are taken along.
    fn ask_for_what_is_behind(&mut self, cx: &Cx<'_>, sources: &[Source], behind: &[Stage]) {
        if self.asked.iter().all(|a| is_stack(&a.text))
            && let Some(first) = sources.first()
        {
            if !self.begins.is_empty() {
                self.ask("elapsed", false);
            }
            for name in Names::at(cx, first).own_names() {
                if self.can(cx, sources, &name).is_ok() {
                    self.ask(&name, false);
                }
            }
        }
        for stage in behind.get(self.taken..).unwrap_or_default() {
            let Some((name, args)) = dcmd(stage) else { continue };
            if crate::profile::TAKE_STACKS.contains(&name) && !self.asked.iter().any(|a| is_stack(&a.text)) {
                // at a probe in a program the kernel's side is always that of the probe itself
                if !sources.iter().all(|source| matches!(source, Source::User { .. })) {
                    self.ask("stack", true);
                }
                self.ask("ustack", true);
            }
            for word in names_in(&cexpr::text_of(args)) {
                if is_stack(&word) {
                    self.ask(&word, true);
                }
                let known = self.asked.iter().any(|a| a.name == word) || COLUMNS.contains(&word.as_str());
                if !known && self.can(cx, sources, &word).is_ok() {
                    self.ask(&word, true);
                }
            }
        }
    }

    /// The columns of the values.
    pub fn columns(&self) -> impl Iterator<Item = (String, Shown)> {
        self.asked.iter().map(|asked| {
            let shown = match asked.text.as_str() {
                text if is_stack(text) => Shown::Below,
                _ if asked.hidden => Shown::Hidden,
                _ => Shown::Column,
            };
            (asked.name.clone(), shown)
        })
    }

    /// The stack of the process, by its frame pointers. Where the kernel itself changes return addresses, it follows them.
    fn frames(&self, source: &Source) -> Value {
        match source {
            Source::User { on_return: false, site, .. } if self.then == Then::Group => {
                let entry = source.is_entry() && !site.name.starts_with("0x");
                Value::UserFrames { frames: FRAMES, entry }
            }
            _ => Value::UserStack(FRAMES),
        }
    }

    /// The program for a source, and how its values look.
    pub fn spec(&self, cx: &Cx<'_>, source: &Source, id: u64, only: Option<join::Only>) -> Result<(Spec, Vec<Looks>)> {
        let names = Names::behind(cx, source, !self.begins.is_empty());
        let compiler = Compiler::new(cx, &names, self.text);
        let mut tests = Vec::new();
        let mine = only.and_then(|only| only.test(source));
        tests.extend(mine.clone());
        for text in &self.tests {
            tests.push(compiler.test(text)?);
        }
        let (mut values, mut looks) = (Vec::new(), Vec::new());
        // the name of who was there comes with every event
        if self.then == Then::Show {
            let name = if self.begins.is_empty() { probes::expr::Text::Comm } else { join::beginners_name() };
            values.push(Value::Text(name, 16));
            looks.push(Looks::Text);
        }
        let (joins, mut stacks) = (!self.begins.is_empty(), Vec::new());
        for asked in &self.asked {
            let (value, look) = match asked.text.as_str() {
                // that of whoever began: what ends it is often somebody else's doing
                text if joins && is_stack(text) => {
                    let value = join::stack(stacks.len(), FRAMES);
                    let (left, looks) = match text {
                        "ustack" => (Value::UserStack(FRAMES), Looks::UserStack),
                        _ => (Value::KernelStack(FRAMES), Looks::KernelStack),
                    };
                    stacks.push(left);
                    (value, looks)
                }
                "stack" | "kstack" => (Value::KernelStack(FRAMES), Looks::KernelStack),
                "ustack" if self.then == Then::Show && !self.frame_pointers || self.is_gathered_here() => {
                    (Value::UserStack(0), Looks::UserStack)
                }
                "ustack" => (self.frames(source), Looks::UserStack),
                text => compiler.value(text)?,
            };
            values.push(value);
            looks.push(look);
        }
        if self.then == Then::Quantize
            && let Some(Value::Int(int)) = values.pop()
        {
            values.push(Value::Int(probes::expr::Int::Bucket(Box::new(int))));
        }
        // addresses of a process's code mean something only together with the process
        let emits = self.then == Then::Show || self.is_gathered_here();
        if !emits && looks.iter().any(|looks| matches!(looks, Looks::UserStack | Looks::UserCode)) {
            let pid = match joins {
                true => join::beginner(false),
                false => probes::expr::Int::Current(probes::expr::Current::Pid),
            };
            values.push(Value::Int(pid));
            looks.push(Looks::Number);
        }
        let action = match &self.then {
            _ if emits => Action::Emit(values),
            Then::Sum(text) => Action::Aggregate { key: values, of: Some(compiler.number(text)?) },
            _ => {
                let of = self.fold.as_ref().map(|(_, text)| compiler.number(text)).transpose()?;
                Action::Aggregate { key: values, of }
            }
        };
        let join = match source {
            _ if !self.begins.is_empty() => {
                // whoever ends a request is seldom the process that it was for
                tests.retain(|test| mine.as_ref() != Some(test));
                Some(join::others(cx, (&self.begins, source), &self.key, &stacks, only, self.text)?)
            }
            Source::Syscall { numbers, .. } => Some(join::syscall(cx, numbers, only)?),
            source if names.joined() => join::call(cx, source, &self.tests, only, self.text),
            _ => None,
        };
        let test = (!tests.is_empty()).then_some(Test::All(tests));
        Ok((Spec { id, join, test, action, result: source.result() }, looks))
    }
}

/// Columns that every event has.
pub const COLUMNS: &[&str] = &["time", "cpu", "pid", "tid", "comm", "probe"];

fn is_stack(text: &str) -> bool {
    matches!(text, "stack" | "kstack" | "ustack")
}

fn dcmd(stage: &Stage) -> Option<(&str, &[Word])> {
    match &stage.kind {
        StageKind::Dcmd { name, args, .. } => Some((name, args)),
        _ => None,
    }
}

/// What is kept of a group's hits beside their number: how, and of what expression.
type Kept = Option<(Fold, String)>;

/// What `::group` is to keep, and its keys; none if it is asked for more than a program does.
fn grouped(args: &[Word]) -> Option<(Kept, &[Word])> {
    let fold = match args.first().map(plain).as_deref() {
        Some("-s") => Fold::Sum,
        Some("-a") => Fold::Avg,
        Some("-m") => Fold::Min,
        Some("-M") => Fold::Max,
        Some(word) if !word.starts_with('-') => return Some((None, args)),
        _ => return None,
    };
    let (text, keys) = (args.get(1)?, args.get(2..)?);
    let plain_keys = !keys.is_empty() && keys.iter().all(|key| !plain(key).starts_with('-'));
    plain_keys.then(|| (Some((fold, plain(text))), keys))
}

fn plain(word: &Word) -> String {
    match &word.kind {
        WordKind::Text(text) => text.clone(),
        WordKind::Immediate(_) => word.raw.clone(),
    }
}

/// The names in an expression, with the members that follow them: `parent->d_name.name` is one.
fn names_in(text: &str) -> Vec<String> {
    fn collect(expr: &lang::cexpr::CExpr, text: &str, found: &mut Vec<String>) {
        use lang::cexpr::CKind;
        match &expr.kind {
            CKind::Name(_) | CKind::Member { .. } | CKind::Index(..) => {
                found.extend(text.get(expr.span.clone()).map(str::to_owned));
            }
            CKind::Cast(_, a) | CKind::Unary(_, a) => collect(a, text, found),
            CKind::Binary(_, a, b) => {
                collect(a, text, found);
                collect(b, text, found);
            }
            CKind::Match { text: a, .. } => collect(a, text, found),
            _ => {}
        }
    }
    let mut found = Vec::new();
    match cexpr::parse(text) {
        Ok(expr) => collect(&expr, text, &mut found),
        // words, each an expression: `::print name ret`
        Err(_) => found.extend(
            text.split_ascii_whitespace()
                .filter(|w| !w.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
                .map(|w| heading(w).1.to_owned()),
        ),
    }
    found
}
