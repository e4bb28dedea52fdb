//! Stages that make one answer of many items: `::avg`, `::min`, `::max`, `::group`, `::lquantize`.
//!
//! What is looked at is a C expression over the item, as in `::where`: a column, a member, or anything made of them.
//!
//! ```console
//! > ::walk task | ::avg prio
//! AVG COUNT
//! 106    55
//! > ::walk task | ::max se.sum_exec_runtime | ::print comm
//! comm = [ "init" ]
//! > ::walk task | ::group -s signal->nr_threads __state
//! COUNT SUM __STATE
//!    36  36    1026
//!    14  14       1
//!     4   4    8193
//!     1   1       2
//! > ::walk dentry | ::lquantize -l 0 -h 20 -s 5 d_name.len
//! VALUE DISTRIBUTION           COUNT
//! 0     @@@@@@@@                1468
//! 5     @@@@@@@@@@@@@@@@@@@@@@  4462
//! 10    @@@@@@@@@@              2036
//! 15    @@                       302
//! >= 20 @                         48
//! ```
//!
//! `::min` and `::max` pass the item on that has the value; `::group` counts the items whose keys are equal, the most
//! frequent first.

use crate::{
    select::{dynamic_row, heading},
    sort::{BinRow, MOST, bar, compare, integer, key, measure, parse, too_many},
    words::row_about,
};
use engine::{cscope::Question, prelude::*};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

/// The mean of a column, a member, or a C expression of the items, rounded down.
#[derive(Args)]
pub struct Avg {
    /// what to look at
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    total: (i128, u64),
}

/// A mean.
#[derive(Row)]
pub struct AvgRow {
    /// the mean, rounded down; none of no numbers
    avg: Cell,
    /// numbers it is of
    count: u64,
}

/// The mean of numbers with that sum, rounded down.
fn mean(sum: i128, count: u64) -> Cell {
    sum.checked_div_euclid(count.into()).map_or(Cell::Null, integer)
}

impl Filter for Avg {
    const NAME: &'static str = "avg";
    const ROWS: &'static [&'static engine::Schema] = &[<AvgRow as engine::IntoRow>::SCHEMA];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = parse(self.by.as_ref())?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        if let Some(value) = measure(cx, self.question.as_ref(), &item, Self::NAME)? {
            self.total = (self.total.0 + value, self.total.1 + 1);
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let (sum, count) = self.total;
        let avg = mean(sum, count);
        let passed = sum.checked_div_euclid(count.into()).unwrap_or(0) as u64;
        row_about(out, AvgRow { avg, count }, Object::untyped(passed))
    }
}

/// What `::min` and `::max` keep: the item with the most extreme value, and that value.
#[derive(Default)]
struct Extreme {
    question: Option<Question>,
    best: Option<(Cell, Item)>,
}

impl Extreme {
    fn item(&mut self, cx: &Cx<'_>, item: Item, wanted: Ordering, name: &str) -> Result<()> {
        cx.interrupt.check()?;
        let value = key(cx, self.question.as_ref(), &item)?;
        match &value {
            Cell::Null => return Ok(()),
            Cell::Unreadable(why) => {
                cx.notes.add(item.object().map_or(0, |o| o.addr), format!("left out by ::{name}: {why}"));
                return Ok(());
            }
            _ => {}
        }
        // of equal ones the first
        if self.best.as_ref().is_none_or(|(best, _)| compare(&value, best) == wanted) {
            self.best = Some((value, item));
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Out<'_>) -> Result<()> {
        match self.best.take() {
            Some((value, item)) => {
                let subject = item.object();
                let mut row =
                    engine::IntoRow::into_row(ExtremeRow { value, addr: subject.map(|o| engine::Addr(o.addr)) });
                row.subject = subject;
                out.item(Item::Row(row))
            }
            None => Ok(()),
        }
    }
}

/// An extreme value and whose it is.
#[derive(Row)]
pub struct ExtremeRow {
    /// the value
    value: Cell,
    /// address of the first item that has it
    addr: Option<engine::Addr>,
}

macro_rules! extreme {
    ($(#[$doc:meta])* $type:ident, $name:literal, $ordering:ident) => {
        $(#[$doc])*
        #[derive(Args)]
        pub struct $type {
            /// what to look at
            #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
            by: Option<String>,
            #[arg(skip)]
            extreme: Extreme,
        }

        impl Filter for $type {
            const NAME: &'static str = $name;
            const ROWS: &'static [&'static engine::Schema] = &[<ExtremeRow as engine::IntoRow>::SCHEMA];
            const EXPRESSION: bool = true;

            fn start(&mut self, _: &Cx<'_>) -> Result<()> {
                self.extreme.question = parse(self.by.as_ref())?;
                Ok(())
            }

            fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
                self.extreme.item(cx, item, Ordering::$ordering, Self::NAME)
            }

            fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
                self.extreme.finish(out)
            }
        }
    };
}

extreme!(
    /// The least value of a column, a member, or a C expression, and the item that has it, which is passed on.
    Min, "min", Less
);
extreme!(
    /// The greatest value of a column, a member, or a C expression, and the item that has it, which is passed on.
    Max, "max", Greater
);

/// Count the items whose keys are equal, the most frequent first.
///
/// A key is a C expression of the item, such as a column or a member; one with blanks needs quotes, and
/// `name='EXPRESSION'` names its column.
#[derive(Args)]
pub struct Group {
    /// add up this expression of the items of a group
    #[arg(short = 's', value_name = "EXPRESSION")]
    sum: Option<String>,
    /// the mean of this expression
    #[arg(short = 'a', value_name = "EXPRESSION")]
    avg: Option<String>,
    /// the least value of this expression
    #[arg(short = 'm', value_name = "EXPRESSION")]
    min: Option<String>,
    /// the greatest value of this expression
    #[arg(short = 'M', value_name = "EXPRESSION")]
    max: Option<String>,
    /// what items of a group have in common
    #[arg(value_name = "KEY", required = true, allow_hyphen_values = true)]
    keys: Vec<String>,
    #[arg(skip)]
    questions: Vec<Question>,
    #[arg(skip)]
    folds: Vec<(Fold, Question)>,
    #[arg(skip)]
    seen: HashMap<String, usize>,
    #[arg(skip)]
    groups: Vec<Members>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Avg,
    Min,
    Max,
}

/// What is known of a group.
struct Members {
    count: u64,
    keys: Vec<Cell>,
    /// sum, count, least, greatest of each fold's numbers
    folds: Vec<(i128, u64, i128, i128)>,
    subject: Option<Object>,
}

impl Filter for Group {
    const NAME: &'static str = "group";

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        let question = |text: &str| Question::parse(heading(text).1);
        self.questions = self.keys.iter().map(|k| question(k)).collect::<Result<_>>()?;
        let given = [(Fold::Sum, &self.sum), (Fold::Avg, &self.avg), (Fold::Min, &self.min), (Fold::Max, &self.max)];
        for (fold, text) in given {
            if let Some(text) = text {
                self.folds.push((fold, Question::parse(text)?));
            }
        }
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        let keys = self.questions.iter().map(|q| q.value(cx, &item)).collect::<Result<Vec<_>>>()?;
        // cells have no hash of their own, and need none: their notation tells them apart
        let name = format!("{keys:?}");
        let at = match self.seen.get(&name) {
            Some(&at) => at,
            None if self.groups.len() >= MOST => return Err(too_many(Self::NAME)),
            None => {
                let folds = vec![(0, 0, i128::MAX, i128::MIN); self.folds.len()];
                self.groups.push(Members { count: 0, keys, folds, subject: item.object() });
                self.seen.insert(name, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let mut values = Vec::with_capacity(self.folds.len());
        for (_, question) in &self.folds {
            values.push(measure(cx, Some(question), &item, Self::NAME)?);
        }
        if let Some(group) = self.groups.get_mut(at) {
            group.count += 1;
            for ((sum, count, least, most), value) in group.folds.iter_mut().zip(values) {
                if let Some(v) = value {
                    (*sum, *count, *least, *most) = (*sum + v, *count + 1, v.min(*least), v.max(*most));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let folds: Vec<Fold> = self.folds.iter().map(|(fold, _)| *fold).collect();
        let names = folds.iter().map(|fold| match fold {
            Fold::Sum => "sum",
            Fold::Avg => "avg",
            Fold::Min => "min",
            Fold::Max => "max",
        });
        let names: Vec<String> = std::iter::once("count".to_owned())
            .chain(names.map(str::to_owned))
            .chain(self.keys.iter().map(|k| heading(k).0))
            .collect();
        let mut groups = std::mem::take(&mut self.groups);
        groups.sort_by(|a, b| {
            let keys = || a.keys.iter().zip(&b.keys).map(|(a, b)| compare(a, b)).find(|o| o.is_ne());
            b.count.cmp(&a.count).then_with(|| keys().unwrap_or(Ordering::Equal))
        });
        for group in groups {
            let mut cells = vec![Cell::Uint(group.count)];
            cells.extend(folds.iter().zip(&group.folds).map(|(fold, (sum, count, least, most))| match fold {
                _ if *count == 0 => Cell::Null,
                Fold::Sum => integer(*sum),
                Fold::Avg => mean(*sum, *count),
                Fold::Min => integer(*least),
                Fold::Max => integer(*most),
            }));
            cells.extend(group.keys);
            out.item(dynamic_row(&names, cells, group.subject)?)?;
        }
        Ok(())
    }
}

/// Show how the values of a column, a member, or a C expression are spread: a histogram of bins of equal width.
///
/// What lies below -l or from -h on is counted in a bin of its own, as in DTrace's lquantize().
#[derive(Args)]
pub struct Lquantize {
    /// where the first bin begins (0)
    #[arg(short = 'l', value_name = "LOW", allow_hyphen_values = true)]
    low: Option<i64>,
    /// where the last bin ends; decimal, as all three
    #[arg(short = 'h', value_name = "HIGH", allow_hyphen_values = true)]
    high: i64,
    /// width of a bin (1)
    #[arg(short = 's', value_name = "STEP")]
    step: Option<u64>,
    /// what to look at
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    bins: BTreeMap<i128, u64>,
}

/// Bins between the ends.
const MOST_BINS: i128 = 10_000;

impl Lquantize {
    fn bounds(&self) -> (i128, i128, i128) {
        (self.low.unwrap_or(0).into(), self.high.into(), self.step.unwrap_or(1).into())
    }
}

impl Filter for Lquantize {
    const NAME: &'static str = "lquantize";
    const ROWS: &'static [&'static engine::Schema] = &[<BinRow as engine::IntoRow>::SCHEMA];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        let (low, high, step) = self.bounds();
        if step == 0 || high <= low || (high - low) / step > MOST_BINS {
            return Err(Error::Usage(format!(
                "there must be between 1 and {MOST_BINS} bins from -l to -h, each of -s"
            )));
        }
        self.question = parse(self.by.as_ref())?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        let (low, high, step) = self.bounds();
        if let Some(v) = measure(cx, self.question.as_ref(), &item, Self::NAME)? {
            let bin = match v {
                v if v < low => -1,
                v if v >= high => (high - low + step - 1) / step,
                v => (v - low) / step,
            };
            *self.bins.entry(bin).or_default() += 1;
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let (low, high, step) = self.bounds();
        let (Some((&first, _)), Some((&last, _))) = (self.bins.first_key_value(), self.bins.last_key_value()) else {
            return Ok(());
        };
        let total = self.bins.values().sum();
        for i in first..=last {
            let count = self.bins.get(&i).copied().unwrap_or(0);
            let value = match i {
                -1 => Cell::Str(format!("< {low}")),
                i if low + i * step >= high => Cell::Str(format!(">= {high}")),
                i => integer(low + i * step),
            };
            out.row(BinRow { value, distribution: bar(count, total), count })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::filter::<Avg>(),
    DcmdEntry::filter::<Min>(),
    DcmdEntry::filter::<Max>(),
    DcmdEntry::filter::<Group>(),
    DcmdEntry::filter::<Lquantize>(),
];
