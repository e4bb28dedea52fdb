//! Stages that let some items through: `::head`, `::tail`, `::count`, `::where`, and mdb's `::grep`, `::map`, `::eval`.
//!
//! ```console
//! > ::walk task | ::where mm == NULL && comm =~ "^kworker" | ::count
//! COUNT
//!    36
//! > ::walk dentry | ::where d_sb->s_id == "proc" && d_name.len > 20 | ::head -2 | ::print d_name.name
//! d_name.name = 0xff2b352c016bd040 "sched_deadline_period_min_us"
//! d_name.name = 0xff2b352c016bd280 "sched_autogroup_enabled"
//! > ::walk task | ::grep '*/4/.!=0' | ::map '.+20' | ::head -1
//! 0xff2b352c01348060
//! ```
//!
//! `::where` asks in C, about columns and members; `::grep`, `::map` and `::eval` run commands of this debugger with
//! dot at each item.

use crate::words::row_about;
use engine::{Sink, cscope::Question, lang::cexpr::Truth, pipeline::run_into, prelude::*};
use std::collections::VecDeque;

/// A decimal number of items, as `5`, `-5` or `-n 5`.
fn number(name: &str, words: &[String]) -> Result<usize> {
    let digits = match words {
        [] => return Ok(10),
        [n] => n.strip_prefix("-n").or(n.strip_prefix('-')).unwrap_or(n),
        [flag, n] if flag == "-n" => n,
        _ => "",
    };
    digits.parse().map_err(|_| Error::Usage(format!("::{name} takes a decimal number: `::{name} -5`")))
}

/// Pass on only the first items (10); what comes before is then told to stop.
///
/// The number is decimal: `::head -5`, `::head -n 5` or `::head 5`.
#[derive(Args)]
pub struct Head {
    /// how many
    #[arg(value_name = "-N", allow_hyphen_values = true)]
    words: Vec<String>,
    #[arg(skip)]
    left: usize,
}

impl Filter for Head {
    const NAME: &'static str = "head";

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.left = number(Self::NAME, &self.words)?;
        Ok(())
    }

    fn item(&mut self, _: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        if self.left == 0 {
            return Err(Error::Stop);
        }
        self.left -= 1;
        out.item(item)?;
        // do not wait for an item that would be one too many
        if self.left == 0 { Err(Error::Stop) } else { Ok(()) }
    }
}

/// Pass on only the last items (10).
///
/// The number is decimal: `::tail -5`, `::tail -n 5` or `::tail 5`.
#[derive(Args)]
pub struct Tail {
    /// how many
    #[arg(value_name = "-N", allow_hyphen_values = true)]
    words: Vec<String>,
    #[arg(skip)]
    most: usize,
    #[arg(skip)]
    kept: VecDeque<Item>,
}

impl Filter for Tail {
    const NAME: &'static str = "tail";

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.most = number(Self::NAME, &self.words)?;
        Ok(())
    }

    fn item(&mut self, _: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        self.kept.push_back(item);
        if self.kept.len() > self.most {
            self.kept.pop_front();
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        std::mem::take(&mut self.kept).into_iter().try_for_each(|item| out.item(item))
    }
}

/// Count the items.
#[derive(Args)]
pub struct Count {
    #[arg(skip)]
    count: u64,
}

/// A count.
#[derive(Row)]
pub struct CountRow {
    /// number of items
    pub(crate) count: u64,
}

impl Filter for Count {
    const NAME: &'static str = "count";
    const ROWS: &'static [&'static engine::Schema] = &[<CountRow as engine::IntoRow>::SCHEMA];

    fn item(&mut self, cx: &Cx<'_>, _: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        self.count += 1;
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        row_about(out, CountRow { count: self.count }, Object::untyped(self.count))
    }
}

/// Pass on the items for which a C expression is true.
///
/// Names are the row's columns, then the members of the object (by its type), then enumerators and global variables (a
/// static one with its module, ``vmlinux`state``): `mm == NULL && comm =~ "^kworker"`, `parent->pid == 1`, `__state &
/// 2`, `(long)ptr % 64 == 0`. Numbers are decimal as in C, `==` compares texts too, `=~` and `!~` match a regular
/// expression, `.` is the item's address. An item of which something that matters cannot be read is left out and noted.
///
/// The expression needs no quotes unless it has a `|` or `!` that is not part of `||`, `!=` or `!~`, or a `;`.
#[derive(Args)]
pub struct Where {
    /// the expression
    #[arg(value_name = "EXPRESSION", required = true, allow_hyphen_values = true)]
    text: String,
    #[arg(skip)]
    question: Option<Question>,
}

impl Filter for Where {
    const NAME: &'static str = "where";
    const ALIASES: &'static [&'static str] = &["filter"];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = Some(Question::parse(&self.text)?);
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        let Some(question) = &self.question else { return Ok(()) };
        match question.test(cx, &item)? {
            Truth::True => out.item(item),
            // most items are left out: a long search must be stoppable nevertheless
            Truth::False => cx.interrupt.check(),
            Truth::Unknown(why) => {
                cx.interrupt.check()?;
                cx.notes.add(item.object().map_or(0, |o| o.addr), format!("left out by ::where: {why}"));
                Ok(())
            }
        }
    }
}

/// Takes what a command prints and forgets it.
struct Nowhere;

impl Sink for Nowhere {
    fn item(&mut self, _: Item) -> Result<()> {
        Ok(())
    }
}

fn subject(name: &str, item: &Item) -> Result<Object> {
    item.object().ok_or_else(|| Error::Usage(format!("::{name} works on addresses, and what came has none")))
}

/// Runs a command with dot at the object, for what it does to dot.
fn dot_after(cx: &Cx<'_>, object: Object, command: &str) -> Result<u64> {
    cx.env.dot.set(object.addr);
    run_into(cx, command, &mut Out::new(cx, &mut Nowhere, false))?;
    Ok(cx.env.dot.get())
}

/// Pass on the addresses for which a command leaves dot other than zero.
///
/// The command is any of this debugger's, most often an expression: `::grep '*(.+18)!=0'`. Of several, separated by
/// `;`, the last counts. For conditions on columns and members `::where` is the better tool.
#[derive(Args)]
pub struct Grep {
    /// the command
    command: String,
}

impl Filter for Grep {
    const NAME: &'static str = "grep";
    const LINES: bool = false;

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        let object = subject(Self::NAME, &item)?;
        if dot_after(cx, object, &self.command)? != 0 { out.item(item) } else { cx.interrupt.check() }
    }
}

/// Replace each address by the value that a command leaves dot at: `::map '*(.+20)'`.
#[derive(Args)]
pub struct Map {
    /// the command
    command: String,
}

impl Filter for Map {
    const NAME: &'static str = "map";
    const LINES: bool = false;

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        let object = subject(Self::NAME, &item)?;
        let value = dot_after(cx, object, &self.command)?;
        out.object(Object::untyped(value))
    }
}

/// Run a command, with dot at each address that comes in: `::walk task t | ::eval '<t=K; .+8=K'`.
#[derive(Args)]
pub struct Eval {
    /// the command
    command: String,
}

impl Dcmd for Eval {
    const NAME: &'static str = "eval";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(object) = at {
            cx.env.dot.set(object.addr);
        }
        run_into(cx, &self.command, out)
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::filter::<Head>(),
    DcmdEntry::filter::<Tail>(),
    DcmdEntry::filter::<Count>(),
    DcmdEntry::filter::<Where>(),
    DcmdEntry::filter::<Grep>(),
    DcmdEntry::filter::<Map>(),
    DcmdEntry::of::<Eval>(),
];
