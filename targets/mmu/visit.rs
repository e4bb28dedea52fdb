//! All mappings of a range of virtual addresses, in order.

use std::collections::HashSet;
use std::ops::{ControlFlow, RangeInclusive};

use super::{Arch, Entry, Flags, Paging};
use crate::image::Image;

/// Neighbouring pages that are neighbours in physical memory too and have the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: u64,
    /// First physical address.
    pub pa: u64,
    /// Bytes.
    pub len: u64,
    /// Rights.
    pub flags: Flags,
}

/// How a visit to all mappings ended: what it could not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The visitor said stop.
    pub stopped: bool,
    /// Page tables that are not in the dump; whatever they map was not seen.
    pub unreadable: u64,
    /// Page tables met again at the same level and not entered twice: all of KASAN's unused shadow maps one page,
    /// and damaged tables may point at themselves.
    pub repeated: u64,
}

impl Paging {
    /// Shows every mapping that touches `range` to `visit`, clipped to it, until it says stop or `keep_going` says no.
    pub fn each(
        self,
        image: &dyn Image,
        range: RangeInclusive<u64>,
        keep_going: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>,
    ) -> Outcome {
        // a damaged mapping may end before it begins
        if range.is_empty() {
            return Outcome::default();
        }
        let mut tour = Tour {
            paging: self,
            image,
            first: *range.start(),
            last: *range.end(),
            keep_going,
            visit,
            pending: None,
            seen: HashSet::new(),
            outcome: Outcome::default(),
        };
        // Where the halves have tables of their own, the lower one comes first.
        let upper = if self.arch == Arch::Aarch64 { self.canonical(1 << 55) } else { 0 };
        let halves = self.lower.map(|lower| (lower, 0)).into_iter().chain([(self.root, upper)]);
        let end = halves.into_iter().try_for_each(|(top, base)| tour.table(top, self.levels, base, Flags::ALL));
        let end = if end.is_continue() { tour.flush() } else { end };
        tour.outcome.stopped = end.is_break();
        tour.outcome
    }
}

/// A page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its physical address.
    pub pa: u64,
    /// 1 for one whose entries are pages.
    pub level: u8,
    /// The first virtual address that it translates.
    pub va: u64,
}

impl Paging {
    /// Shows every page table that translates addresses of `range` to `visit`, a table before those below it, until
    /// `keep_going` says no. How many could not be read is returned.
    pub fn tables(
        self,
        image: &dyn Image,
        range: RangeInclusive<u64>,
        keep_going: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(Table),
    ) -> u64 {
        let upper = if self.arch == Arch::Aarch64 { self.canonical(1 << 55) } else { 0 };
        let halves = self.lower.map(|lower| (lower, 0)).into_iter().chain([(self.root, upper)]);
        let mut open: Vec<Table> = halves.map(|(pa, va)| Table { pa, level: self.levels, va }).collect();
        // at most one entry per page of the dump and level: the tour ends
        let (mut seen, mut unreadable) = (HashSet::new(), 0);
        while let Some(table) = open.pop().filter(|_| keep_going()) {
            if !seen.insert((table.pa, table.level)) {
                continue;
            }
            visit(table);
            if table.level <= 1 {
                continue;
            }
            let Ok(bytes) = image.bytes(table.pa, 8 * self.entries(table.level) as usize) else {
                unreadable += 1;
                continue;
            };
            let shift = self.shift(table.level);
            for (index, entry) in (0u64..).zip(bytes.as_chunks().0) {
                let va = self.canonical(table.va | index << shift);
                if va | ((1 << shift) - 1) < *range.start() || va > *range.end() {
                    continue;
                }
                if let Entry::Table(pa) = self.decode(u64::from_le_bytes(*entry), table.level, &mut Flags::ALL.clone())
                {
                    open.push(Table { pa, level: table.level - 1, va });
                }
            }
        }
        unreadable
    }
}

struct Tour<'a> {
    paging: Paging,
    image: &'a dyn Image,
    first: u64,
    last: u64,
    keep_going: &'a dyn Fn() -> bool,
    visit: &'a mut dyn FnMut(Mapping) -> ControlFlow<()>,
    /// grows while neighbours fit
    pending: Option<Mapping>,
    /// Tables entered, with their level. At most one entry per page of the dump and level: the walk ends.
    seen: HashSet<(u64, u8)>,
    outcome: Outcome,
}

impl Tour<'_> {
    fn table(&mut self, table: u64, level: u8, base: u64, flags: Flags) -> ControlFlow<()> {
        if !(self.keep_going)() {
            return ControlFlow::Break(());
        }
        let Ok(bytes) = self.image.bytes(table, 8 * self.paging.entries(level) as usize) else {
            self.outcome.unreadable += 1;
            return ControlFlow::Continue(());
        };
        if !self.seen.insert((table, level)) {
            self.outcome.repeated += 1;
            return ControlFlow::Continue(());
        }
        let shift = self.paging.shift(level);
        for (index, entry) in (0u64..).zip(bytes.as_chunks().0) {
            let entry = u64::from_le_bytes(*entry);
            if entry == 0 {
                continue;
            }
            let va = self.paging.canonical(base | index << shift);
            let end = va | ((1 << shift) - 1);
            if end < self.first {
                continue;
            }
            if va > self.last {
                break;
            }
            let mut rights = flags;
            match self.paging.decode(entry, level, &mut rights) {
                Entry::Absent => {}
                Entry::Table(next) => self.table(next, level - 1, va, rights)?,
                Entry::Page(pa) => self.page(va, end, pa, rights)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// A page, clipped to the range, joins the mapping before it or starts a new one.
    fn page(&mut self, va: u64, end: u64, pa: u64, flags: Flags) -> ControlFlow<()> {
        let from = va.max(self.first);
        let len = end.min(self.last) - from + 1;
        let page = Mapping { va: from, pa: pa.wrapping_add(from - va), len, flags };
        if let Some(last) = &mut self.pending
            && last.va.wrapping_add(last.len) == page.va
            && last.pa.wrapping_add(last.len) == page.pa
            && last.flags == flags
        {
            last.len += len;
            return ControlFlow::Continue(());
        }
        self.flush()?;
        self.pending = Some(page);
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> ControlFlow<()> {
        match self.pending.take() {
            Some(mapping) => (self.visit)(mapping),
            None => ControlFlow::Continue(()),
        }
    }
}
