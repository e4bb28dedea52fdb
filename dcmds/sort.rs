//! Stages that compare items: `::sort`, `::uniq`, `::sum`, `::quantize`.
//!
//! What is compared is a C expression over the item, as in `::where`: a column, a member, or anything made of them.
//!
//! ```console
//! > ::walk task | ::sort -r se.sum_exec_runtime | ::head -3 | ::print comm
//! comm = [ "init" ]
//! comm = [ "migration/1" ]
//! comm = [ "kworker/u8:0" ]
//! > ::walk task | ::uniq -c __state | ::sort -r count | ::head -3
//! COUNT VALUE
//!    46     1
//!    40  1026
//!     5  8193
//! > ::walk dentry | ::quantize d_name.len
//! VALUE DISTRIBUTION      COUNT
//!     0 @                     5
//!     1 @@                  473
//!     2 @@@@@              1474
//!     4 @@@@@@@@@@@@@@@@@  5267
//!     8 @@@@@@@@@@@@@@     4300
//!    16 @@@                 851
//!    32 @                    24
//! > ::walk dentry | ::sum d_name.len
//!   SUM COUNT MIN MAX MEAN
//! 96575 12394   0  41    7
//! ```

use crate::{
    select::{Shown, heading, with_front},
    words::row_about,
};
use engine::{cscope::Question, prelude::*};
use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, HashMap},
};

/// Items that are kept at once. A row takes some hundred bytes.
pub(crate) const MOST: usize = 1 << 22;

/// The value that an item is compared by: that of the expression, else what the item shows first.
pub(crate) fn key(cx: &Cx<'_>, question: Option<&Question>, item: &Item) -> Result<Cell> {
    if let Some(question) = question {
        return question.value(cx, item);
    }
    Ok(match item {
        Item::Object(object) => Cell::Addr(object.addr),
        Item::Row(row) => row.cells.first().cloned().unwrap_or(Cell::Null),
        Item::Line(line) => Cell::Str(line.clone()),
        Item::Tree(tree) => Cell::Addr(tree.object.addr),
    })
}

/// Numbers before texts before what is nothing or unreadable, each in its order.
pub(crate) fn compare(a: &Cell, b: &Cell) -> Ordering {
    fn number(cell: &Cell) -> Option<i128> {
        match cell {
            Cell::Addr(v) | Cell::Uint(v) | Cell::Hex(v) => Some((*v).into()),
            Cell::Int(v) => Some((*v).into()),
            Cell::Bool(v) => Some((*v).into()),
            _ => None,
        }
    }
    fn rank(cell: &Cell) -> u8 {
        match cell {
            Cell::Str(_) => 1,
            Cell::List(_) => 2,
            Cell::Null => 3,
            Cell::Unreadable(_) => 4,
            _ => 0,
        }
    }
    match (a, b) {
        (Cell::Str(a), Cell::Str(b)) => a.cmp(b),
        (Cell::List(a), Cell::List(b)) => {
            a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => rank(a).cmp(&rank(b)),
        },
    }
}

pub(crate) fn parse(text: Option<&String>) -> Result<Option<Question>> {
    text.map(|t| Question::parse(t)).transpose()
}

pub(crate) fn too_many(name: &str) -> Error {
    Error::Unavailable(format!("::{name} keeps at most {MOST} items")).hint("let fewer through: `… | ::where …`")
}

/// Sort the items by a column, a member, or a C expression of them.
///
/// Without one, rows are sorted by their first column, objects by address. Numbers come before texts, and what cannot
/// be read comes last. Equal items stay in the order in which they came.
#[derive(Args)]
pub struct Sort {
    /// largest first
    #[arg(short = 'r')]
    reverse: bool,
    /// what to sort by
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    kept: Vec<(Cell, Item)>,
}

impl Filter for Sort {
    const NAME: &'static str = "sort";
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = parse(self.by.as_ref())?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        if self.kept.len() >= MOST {
            return Err(too_many(Self::NAME));
        }
        self.kept.push((key(cx, self.question.as_ref(), &item)?, item));
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let mut kept = std::mem::take(&mut self.kept);
        let unknown = |c: &Cell| matches!(c, Cell::Null | Cell::Unreadable(_));
        kept.sort_by(|(a, _), (b, _)| match (unknown(a), unknown(b)) {
            (false, false) if self.reverse => compare(b, a),
            _ => compare(a, b),
        });
        kept.into_iter().try_for_each(|(_, item)| out.item(item))
    }
}

/// Pass on only the first of items that are equal, wherever they stand; or count them.
///
/// Items are equal if a column, a member, or a C expression of them is; without one, if all of them is.
#[derive(Args)]
pub struct Uniq {
    /// show how often each value came, instead of passing items on
    #[arg(short = 'c')]
    count: bool,
    /// what to compare
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    seen: HashMap<String, usize>,
    #[arg(skip)]
    counts: Vec<(u64, Cell, Option<Object>)>,
}

/// A value and how often it came.
#[derive(Row)]
pub struct UniqRow {
    /// number of items
    count: u64,
    /// what they have in common
    value: Cell,
}

impl Filter for Uniq {
    const NAME: &'static str = "uniq";
    const ROWS: &'static [&'static engine::Schema] = &[<UniqRow as engine::IntoRow>::SCHEMA];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = parse(self.by.as_ref())?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        let value = match (&item, &self.question) {
            (Item::Row(row), None) => Cell::List(row.cells.clone()),
            (item, question) => key(cx, question.as_ref(), item)?,
        };
        // cells have no hash of their own, and need none: their notation tells them apart
        let name = format!("{value:?}");
        if let Some(&i) = self.seen.get(&name) {
            if let Some(entry) = self.counts.get_mut(i) {
                entry.0 += 1;
            }
            return Ok(());
        }
        if self.seen.len() >= MOST {
            return Err(too_many(Self::NAME));
        }
        self.seen.insert(name, self.counts.len());
        self.counts.push((1, if self.count { value } else { Cell::Null }, item.object()));
        if self.count { Ok(()) } else { out.item(item) }
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        if !self.count {
            return Ok(());
        }
        for (count, value, subject) in std::mem::take(&mut self.counts) {
            let mut row = engine::IntoRow::into_row(UniqRow { count, value });
            row.subject = subject;
            out.item(Item::Row(row))?;
        }
        Ok(())
    }
}

/// Add up a column, a member, or a C expression of the items.
#[derive(Args)]
pub struct Sum {
    /// what to add up
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    total: Total,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    count: u64,
    sum: i128,
    min: Option<i128>,
    max: Option<i128>,
}

/// A sum.
#[derive(Row)]
pub struct SumRow {
    /// the sum
    pub(crate) sum: Cell,
    /// numbers that were added
    pub(crate) count: u64,
    /// the least
    pub(crate) min: Cell,
    /// the greatest
    pub(crate) max: Cell,
    /// the mean, rounded down
    pub(crate) mean: Cell,
}

/// The number in a cell. What has none is noted.
pub(crate) fn measure(cx: &Cx<'_>, question: Option<&Question>, item: &Item, name: &str) -> Result<Option<i128>> {
    cx.interrupt.check()?;
    match key(cx, question, item)? {
        Cell::Addr(v) | Cell::Uint(v) | Cell::Hex(v) => Ok(Some(v.into())),
        Cell::Int(v) => Ok(Some(v.into())),
        Cell::Bool(v) => Ok(Some(v.into())),
        Cell::Null => Ok(None),
        Cell::Unreadable(why) => {
            cx.notes.add(item.object().map_or(0, |o| o.addr), format!("left out by ::{name}: {why}"));
            Ok(None)
        }
        Cell::Str(_) | Cell::List(_) => Err(Error::Usage(format!("::{name} adds numbers, and this is text"))),
    }
}

pub(crate) fn integer(v: i128) -> Cell {
    match (u64::try_from(v), i64::try_from(v)) {
        (Ok(v), _) => Cell::Uint(v),
        (_, Ok(v)) => Cell::Int(v),
        _ => Cell::Str(v.to_string()),
    }
}

impl Filter for Sum {
    const NAME: &'static str = "sum";
    const ROWS: &'static [&'static engine::Schema] = &[<SumRow as engine::IntoRow>::SCHEMA];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = parse(self.by.as_ref())?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        if let Some(v) = measure(cx, self.question.as_ref(), &item, Self::NAME)? {
            let t = &mut self.total;
            t.count += 1;
            t.sum += v;
            t.min = Some(t.min.map_or(v, |m| m.min(v)));
            t.max = Some(t.max.map_or(v, |m| m.max(v)));
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let t = self.total;
        let cell = |v: Option<i128>| v.map_or(Cell::Null, integer);
        let mean = cell(t.sum.checked_div_euclid(t.count.into()));
        let row = SumRow { sum: integer(t.sum), count: t.count, min: cell(t.min), max: cell(t.max), mean };
        row_about(out, row, Object::untyped(t.sum as u64))
    }
}

/// Show how the values of a column, a member, or a C expression are spread: a histogram in powers of two.
///
/// With -k one for each value of a key, those of most values first.
#[derive(Args)]
pub struct Quantize {
    /// a histogram for each value of this
    #[arg(short = 'k', value_name = "KEY")]
    key: Option<String>,
    /// what to look at
    #[arg(value_name = "EXPRESSION", allow_hyphen_values = true)]
    by: Option<String>,
    #[arg(skip)]
    question: Option<Question>,
    #[arg(skip)]
    keys: Option<Question>,
    #[arg(skip)]
    bins: HashMap<String, (Cell, BTreeMap<i64, u64>)>,
}

/// A bin of a histogram.
#[derive(Row)]
pub struct BinRow {
    /// the least value that falls into it
    pub(crate) value: Cell,
    /// the share of all values
    pub(crate) distribution: String,
    /// values in it
    pub(crate) count: u64,
}

/// Columns of the longest bar.
const BAR: u64 = 40;

impl Filter for Quantize {
    const NAME: &'static str = "quantize";
    const ROWS: &'static [&'static engine::Schema] = &[<BinRow as engine::IntoRow>::SCHEMA];
    const EXPRESSION: bool = true;

    fn start(&mut self, _: &Cx<'_>) -> Result<()> {
        self.question = parse(self.by.as_ref())?;
        self.keys = self.key.as_ref().map(|key| Question::parse(heading(key).1)).transpose()?;
        Ok(())
    }

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        let Some(v) = measure(cx, self.question.as_ref(), &item, Self::NAME)? else { return Ok(()) };
        let key = self.keys.as_ref().map(|key| key.value(cx, &item)).transpose()?.unwrap_or(Cell::Null);
        // cells have no hash of their own, and need none: their notation tells them apart
        let name = format!("{key:?}");
        if self.bins.len() >= MOST && !self.bins.contains_key(&name) {
            return Err(too_many(Self::NAME));
        }
        let (_, bins) = self.bins.entry(name).or_insert_with(|| (key, BTreeMap::new()));
        *bins.entry(bin(v)).or_default() += 1;
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let name = self.key.as_ref().map(|key| (heading(key).0, Shown::Column));
        let key = |cell: Cell| name.iter().cloned().zip([cell]).collect::<Vec<_>>();
        let all = std::mem::take(&mut self.bins).into_values().map(|(cell, bins)| (key(cell), bins));
        histograms(all.collect())?.into_iter().try_for_each(|row| out.item(row))
    }
}

/// Cells in front of a row, with their columns.
pub(crate) type Front = Vec<((String, Shown), Cell)>;

/// The rows of histograms, each with what stands in front of its rows; those of most values come first.
pub(crate) fn histograms(mut all: Vec<(Front, BTreeMap<i64, u64>)>) -> Result<Vec<Item>> {
    let notation = |front: &Front| format!("{:?}", front.iter().map(|(_, cell)| cell).collect::<Vec<_>>());
    all.sort_by_cached_key(|(front, bins)| (Reverse(bins.values().sum::<u64>()), notation(front)));
    let mut rows = Vec::new();
    for (front, bins) in all {
        let (Some((first, _)), Some((last, _))) = (bins.first_key_value(), bins.last_key_value()) else { continue };
        let total = bins.values().sum();
        // empty bins between others are part of the picture
        for i in *first..=*last {
            let count = bins.get(&i).copied().unwrap_or(0);
            let row = BinRow { value: integer(bin_start(i)), distribution: bar(count, total), count };
            rows.push(with_front(engine::IntoRow::into_row(row), front.clone())?);
        }
    }
    Ok(rows)
}

/// The share that `count` has in `total`.
pub(crate) fn bar(count: u64, total: u64) -> String {
    "@".repeat((u128::from(count) * u128::from(BAR)).div_ceil(u128::from(total.max(1))) as usize)
}

/// 0 for 0, n for 2^(n-1) up to below 2^n, the same negative.
fn bin(v: i128) -> i64 {
    let n = i64::from(128 - v.unsigned_abs().leading_zeros());
    if v < 0 { -n } else { n }
}

pub(crate) fn bin_start(bin: i64) -> i128 {
    match bin {
        0 => 0,
        n => n.signum() as i128 * (1i128 << (n.unsigned_abs().min(100) - 1)),
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::filter::<Sort>(),
    DcmdEntry::filter::<Uniq>(),
    DcmdEntry::filter::<Sum>(),
    DcmdEntry::filter::<Quantize>(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_an_order() {
        let mut cells = vec![
            Cell::Unreadable("x".into()),
            Cell::Str("b".into()),
            Cell::Null,
            Cell::Uint(u64::MAX),
            Cell::Int(-1),
            Cell::Str("a".into()),
            Cell::Addr(5),
        ];
        cells.sort_by(compare);
        let expected = [
            Cell::Int(-1),
            Cell::Addr(5),
            Cell::Uint(u64::MAX),
            Cell::Str("a".into()),
            Cell::Str("b".into()),
            Cell::Null,
            Cell::Unreadable("x".into()),
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn bins_are_powers_of_two() {
        for (v, start) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 4), (1023, 512), (-1, -1), (-5, -4)] {
            assert_eq!(bin_start(bin(v)), start, "{v}");
        }
        assert_eq!(bin_start(bin(u64::MAX.into())), 1 << 63);
    }
}
