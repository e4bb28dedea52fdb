//! What was counted in the kernel, as rows: one for each key, or a histogram, or a sum.

use super::{
    compile::Looks,
    plan::{Plan, Then},
    show::{Part, Shower, Who},
};
use crate::{
    filter::CountRow,
    select::{Shown, named_row},
    sort::{SumRow, bin_start, histograms, integer},
};
use engine::{IntoRow, prelude::*};
use probes::{Recording, recording::Entry, source::Source};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

/// Entries of all tables, by the number of the source and the bytes of the key.
pub type Entries = BTreeMap<(usize, Vec<u8>), Entry>;

/// The entries as they are now.
pub fn entries(recording: &Recording) -> Result<Entries> {
    let mut entries = Entries::new();
    let each = recording.entries(|source, key, entry| {
        entries.insert((source, key.to_vec()), entry);
    });
    each.map_err(super::spec::wrong)?;
    Ok(entries)
}

/// What was added since `before`. Least and most are those of the whole time.
pub fn since(now: &Entries, before: &Entries) -> Entries {
    let added = |(key, entry): (&(usize, Vec<u8>), &Entry)| {
        let old = before.get(key).map_or((0, 0), |old| (old.count, old.sum));
        let count = entry.count.wrapping_sub(old.0);
        (count > 0).then(|| (key.clone(), Entry { count, sum: entry.sum.wrapping_sub(old.1), ..*entry }))
    };
    now.iter().filter_map(added).collect()
}

/// How entries are told.
pub struct Totals<'a> {
    /// what is done in the kernel
    pub plan: &'a Plan,
    /// where
    pub sources: &'a [Source],
    /// how the keys of each source are laid out
    pub parts: &'a [Vec<Part>],
    /// names addresses
    pub shower: &'a Shower<'a>,
}

impl Totals<'_> {
    /// What the stages that were taken over would have shown.
    pub fn rows(&self, entries: &Entries) -> Result<Vec<Item>> {
        let one = |row: Row| Ok(vec![Item::Row(row)]);
        match &self.plan.then {
            Then::Show => Ok(Vec::new()),
            Then::Count => one(CountRow { count: entries.values().map(|e| e.count).sum() }.into_row()),
            Then::Group => self.groups(entries, false),
            Then::Quantize => self.bins(entries),
            Then::Sum(_) => {
                let all = entries.values().copied().reduce(Entry::and);
                let mean = all.and_then(|all| i128::from(all.sum).checked_div_euclid(all.count.into()));
                let cell = |value: Option<i128>| value.map_or(Cell::Null, integer);
                let row = SumRow {
                    sum: integer(all.map_or(0, |all| all.sum.into())),
                    count: all.map_or(0, |all| all.count),
                    min: cell(all.map(|all| all.least.into())),
                    max: cell(all.map(|all| all.most.into())),
                    mean: cell(mean),
                };
                one(row.into_row())
            }
        }
    }

    /// For each source the first that has the same name and the same values: several places of one probe count together.
    pub fn firsts(&self) -> Vec<usize> {
        let mut named: HashMap<String, Vec<usize>> = HashMap::new();
        let first = |(source, probe): (usize, &Source)| {
            let others = named.entry(probe.name()).or_default();
            let same = others.iter().copied().find(|other| self.parts.get(*other) == self.parts.get(source));
            same.unwrap_or_else(|| {
                others.push(source);
                source
            })
        };
        self.sources.iter().enumerate().map(first).collect()
    }

    /// The entries of several places of one probe as those of one.
    fn together(&self, entries: &Entries) -> Entries {
        let firsts = self.firsts();
        let mut all = Entries::new();
        for ((source, key), entry) in entries {
            let source = firsts.get(*source).copied().unwrap_or(*source);
            all.entry((source, key.clone())).and_modify(|sum| *sum = Entry::and(*sum, *entry)).or_insert(*entry);
        }
        all
    }

    /// Each key with all that is kept of it, the most frequent first.
    pub fn groups(&self, entries: &Entries, all: bool) -> Result<Vec<Item>> {
        let entries = self.together(entries);
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by_key(|(_, entry)| Reverse(entry.count));
        let probe = self.sources.len() > 1;
        let fold = self.plan.fold.as_ref().map(|(fold, _)| *fold);
        let kept = all && (fold.is_some() || matches!(self.plan.then, Then::Sum(_)));
        let mut columns = vec!["count"];
        match fold {
            _ if kept => columns.extend(["sum", "min", "max"]),
            Some(fold) => columns.push(fold.name()),
            None => {}
        }
        if probe {
            columns.push("probe");
        }
        let columns = columns.into_iter().map(|name| (name.to_owned(), Shown::Column));
        let columns: Vec<_> = columns.chain(self.plan.columns()).collect();
        let row = |((source, key), entry): (&(usize, Vec<u8>), &Entry)| {
            let mut cells = vec![Cell::Uint(entry.count)];
            match fold {
                _ if kept => cells.extend([entry.sum, entry.least, entry.most].map(|n| integer(n.into()))),
                Some(fold) => cells.push(fold.of(entry)),
                None => {}
            }
            if probe {
                cells.push(self.sources.get(*source).map_or(Cell::Null, |s| Cell::Str(s.name())));
            }
            let key = self.key(*source, key);
            let subject = self.subject(*source, &key);
            cells.extend(key);
            named_row(&columns, cells, subject)
        };
        sorted.into_iter().map(row).collect()
    }

    /// The cells of a key, without the process that only serves to name addresses.
    fn key(&self, source: usize, key: &[u8]) -> Vec<Cell> {
        let parts = self.parts.get(source).map(Vec::as_slice).unwrap_or_default();
        let room: usize = parts.iter().map(|part| part.room).sum();
        let word = |at: usize| key.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word));
        let pid = match parts.iter().any(|part| matches!(part.looks, Looks::UserStack | Looks::UserCode)) {
            true => word(room.saturating_sub(8)) as u32,
            false => 0,
        };
        // behind the values of those that may lie where nothing can be read is which could not
        let unreadable = if room > 0 { word(room) } else { 0 };
        let mut cells = self.shower.cells(parts, key, Who { unreadable, ..Who::process(pid) });
        cells.truncate(self.plan.asked.len());
        if self.plan.then == Then::Quantize
            && let Some(bin) = cells.last_mut()
        {
            *bin = integer(bin_start(self.bin(source, key)));
        }
        cells
    }

    /// The first pointer of a key is what the next stage looks at.
    fn subject(&self, source: usize, cells: &[Cell]) -> Option<Object> {
        let parts = self.parts.get(source)?;
        parts.iter().zip(cells).find_map(|(part, cell)| match (part.looks, cell) {
            (Looks::Pointer(ctype), Cell::Addr(addr)) => Some(Object { addr: *addr, ctype: Some(ctype) }),
            _ => None,
        })
    }

    /// The number of the bin, which is the last of the values that were asked for.
    fn bin(&self, source: usize, key: &[u8]) -> i64 {
        let parts = self.parts.get(source).map(Vec::as_slice).unwrap_or_default();
        let before = self.plan.asked.len().saturating_sub(1);
        let at: usize = parts.iter().take(before).map(|part| part.room).sum();
        key.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| i64::from_ne_bytes(*word))
    }

    /// A histogram, or one for each of the values in front of the number.
    fn bins(&self, entries: &Entries) -> Result<Vec<Item>> {
        let before = self.plan.asked.len().saturating_sub(1);
        let mut all: BTreeMap<String, (Vec<Cell>, BTreeMap<i64, u64>)> = BTreeMap::new();
        for ((source, key), entry) in entries {
            let mut cells = self.key(*source, key);
            cells.truncate(before);
            let bins = &mut all.entry(format!("{cells:?}")).or_insert_with(|| (cells, BTreeMap::new())).1;
            *bins.entry(self.bin(*source, key)).or_default() += entry.count;
        }
        let columns: Vec<_> = self.plan.columns().take(before).collect();
        let front = |cells: Vec<Cell>| columns.iter().cloned().zip(cells).collect();
        histograms(all.into_values().map(|(cells, bins)| (front(cells), bins)).collect())
    }
}
