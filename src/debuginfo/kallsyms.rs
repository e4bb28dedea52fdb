//! kallsyms: the symbol table that a kernel carries in itself, used where it lies.
//!
//! Nothing is decoded ahead. A name is found by binary search in the kernel's own by-name order, expanding the dozen
//! and a half names that are looked at; an address by binary search in the table of addresses, expanding one. Kernels
//! before 6.2 have no by-name order: there it is made when the first name is asked for.
//!
//! The tables (scripts/kallsyms.c, kernel/kallsyms.c): `names` holds for each symbol a length (two bytes if bit 7 is
//! set) and that many token numbers, whose texts joined are `nm`'s letter and the name; `markers` says where in `names`
//! every 256th symbol starts; the address is encoded in one of four ways.
//!
//! **Holes.** A missing page of names loses the symbols that lie in it, up to the next marker at most; a missing page
//! of addresses loses those. [`Kallsyms::lost`] counts them.

mod scan;
mod tables;
pub mod text;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::slice::ParallelSliceMut;

use crate::Reader;
use crate::holes::Patchy;
use crate::symbols::{Symbol, SymbolKind, SymbolSource};
use tables::{Names, Text, Values};

/// Addresses from here up are the kernel's; those below are offsets into the per-CPU area, or absolute values.
const KERNEL_HALF: u64 = 1 << 63;

/// Where the tables are, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `kallsyms_names`
    pub names: Option<u64>,
    /// `kallsyms_num_syms`
    pub num_syms: Option<u64>,
    /// `kallsyms_token_table`
    pub token_table: Option<u64>,
    /// `kallsyms_token_index`
    pub token_index: Option<u64>,
    /// `kallsyms_offsets`
    pub offsets: Option<u64>,
    /// `kallsyms_relative_base`: gone in 7.0 (a081b5789255)
    pub relative_base: Option<u64>,
    /// `kallsyms_addresses`: instead of offsets in kernels that are not position-independent
    pub addresses: Option<u64>,
}

impl Addresses {
    /// Asks for each table by its symbol's name, as VMCOREINFO lists them since 6.0 (f09bddbd8661).
    pub fn from_symbols(address_of: impl Fn(&str) -> Option<u64>) -> Addresses {
        Addresses {
            names: address_of("kallsyms_names"),
            num_syms: address_of("kallsyms_num_syms"),
            token_table: address_of("kallsyms_token_table"),
            token_index: address_of("kallsyms_token_index"),
            offsets: address_of("kallsyms_offsets"),
            relative_base: address_of("kallsyms_relative_base"),
            addresses: address_of("kallsyms_addresses"),
        }
    }

    /// Finds the tables by their shape in the kernel's image at `image`, a range of virtual addresses.
    pub fn scan(reader: &dyn Reader, image: Range<u64>) -> Result<Addresses, String> {
        scan::locate(reader, image)
    }
}

/// The kernel's own symbol table.
pub struct Kallsyms {
    names: Names,
    values: Values,
    order: Order,
    /// the first symbol whose value is an address
    first: usize,
    landmarks: OnceLock<Landmarks>,
    lost: OnceLock<usize>,
    /// Answers to [`SymbolSource::by_addr`]: thousands of stacks lead through a few hundred places.
    known: Kept<u64, Option<Symbol>>,
    /// Those to [`SymbolSource::by_name`]: a few names are asked for with every stack.
    named: Kept<String, Vec<Symbol>>,
}

/// Answers by what was asked.
struct Kept<K, V>(Mutex<HashMap<K, V>>);

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// The answer that was given before, or the one that is found now. If too many are kept, all are forgotten.
    fn get<Q>(&self, key: &Q, find: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        const MOST: usize = 4096;
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = kept().get(key) {
            return answer.clone();
        }
        let answer = find();
        let mut kept = kept();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key.to_owned(), answer.clone());
        answer
    }
}

/// What some symbols say about all.
struct Landmarks {
    per_cpu: Range<u64>,
    /// `.data`, whose section 7.x marks executable, so that `nm` calls what is in it text
    data: Range<u64>,
    /// `_end`: some symbols lie behind the image, but own nothing there
    end: u64,
}

/// Symbol numbers in the order of their names.
enum Order {
    /// `kallsyms_seqs_of_names`: three bytes each, big-endian
    Table(Patchy),
    /// made here
    Made(OnceLock<Vec<u32>>),
}

impl Kallsyms {
    /// Opens the tables at `at`. Reads their headers and markers, and a sample of the rest to find out how addresses
    /// and the by-name order are stored.
    pub fn open(at: &Addresses, reader: &dyn Reader) -> Result<Kallsyms, String> {
        let (names, after_markers) = Names::open(at, reader)?;
        let (values, after_values) = Values::open(at, reader, names.count)?;
        let mut kallsyms = Kallsyms {
            names,
            values,
            order: Order::Made(OnceLock::new()),
            first: 0,
            landmarks: OnceLock::new(),
            lost: OnceLock::new(),
            known: Kept(Mutex::default()),
            named: Kept(Mutex::default()),
        };
        kallsyms.first = kallsyms.values.partition(0..kallsyms.names.count, |a| a < KERNEL_HALF);
        if kallsyms.names.is_whole() {
            let places = [after_markers, Some(after_values)];
            kallsyms.order = kallsyms.find_order(reader, places).unwrap_or(kallsyms.order);
        }
        Ok(kallsyms)
    }

    /// The by-name table follows the markers or, since 6.4 (404bad70fcf7), the addresses. It is taken only if it does
    /// order the names: it came with 6.2 (60443c88f3a8), but was ported back too.
    fn find_order(&self, reader: &dyn Reader, places: [Option<u64>; 2]) -> Option<Order> {
        let aligned = |to: u64| places.into_iter().flatten().map(move |at| at.next_multiple_of(to));
        aligned(8).chain(aligned(4)).find_map(|at| {
            let table = Patchy::read(reader, at, self.names.count.checked_mul(3)?).ok()?;
            (table.holes.is_empty() && self.orders_names(&table)).then_some(Order::Table(table))
        })
    }

    fn orders_names(&self, table: &Patchy) -> bool {
        const SAMPLES: usize = 64;
        let (mut one, mut other) = (Text::default(), Text::default());
        let last = self.names.count - 1;
        (0..SAMPLES).map(|n| n * last / SAMPLES).filter(|&at| at < last).all(|at| {
            let name = |at, text| self.names.expand(entry(table, at)?, text);
            match (name(at, &mut one), name(at + 1, &mut other)) {
                (Some(a), Some(b)) => a.name() <= b.name(),
                _ => false,
            }
        })
    }

    /// Symbols whose name or address is missing or damaged.
    pub fn lost(&self) -> usize {
        *self.lost.get_or_init(|| {
            let mut found = 0;
            self.names.each(|i, _| {
                found += usize::from(self.values.get(i).is_some());
                true
            });
            self.names.count - found
        })
    }

    /// What missing pages cost, in a sentence; `None` if all pages are there.
    pub fn damage(&self) -> Option<String> {
        let holed = !self.names.is_whole() || !self.values.is_whole();
        let lost = if holed { self.lost() } else { 0 };
        (lost > 0).then(|| format!("{lost} of the kernel's {} symbols are not in the dump", self.names.count))
    }

    /// Whether a name that is not found may be among the lost ones: of those whose addresses alone are lost the names
    /// are known.
    pub fn may_lack(&self, name: &str) -> bool {
        match self.names.is_whole() {
            true => !self.values.is_whole() && self.by_name_indices(name).next().is_some(),
            false => self.lost() > 0,
        }
    }

    /// Whether an address that no symbol covers lies among symbols: that which covers it is lost.
    pub fn spans(&self, addr: u64) -> bool {
        let known = |index: &usize| self.values.get(*index);
        let first = (self.first..self.names.count).find_map(|index| known(&index));
        let last = (self.first..self.names.count).rev().find_map(|index| known(&index));
        first.is_some_and(|first| first <= addr) && last.is_some_and(|last| addr < last.min(self.landmarks().end))
    }

    /// Where per-CPU variables lie, in terms of [`Symbol::addr`]: offsets from 0 on x86 up to 6.14, link addresses
    /// since (9d7de2aa8b41) and elsewhere. `addr + __per_cpu_offset[cpu]` is right for both.
    pub fn per_cpu(&self) -> Range<u64> {
        self.landmarks().per_cpu.clone()
    }

    fn landmarks(&self) -> &Landmarks {
        self.landmarks.get_or_init(|| {
            let value = |name| self.values.get(self.by_name_indices(name).next()?);
            let range = |start, end| Some(value(start)?..value(end)?);
            Landmarks {
                per_cpu: range("__per_cpu_start", "__per_cpu_end").unwrap_or(0..0),
                data: range("_sdata", "_edata").unwrap_or(0..0),
                end: value("_end").unwrap_or(u64::MAX),
            }
        })
    }

    /// Calls `visit` with each name until it returns false: faster than [`each`](SymbolSource::each) by what a
    /// [`Symbol`] costs. Look a hit up by name.
    pub fn each_name(&self, visit: &mut dyn FnMut(&str) -> bool) {
        let mut text = Text::default();
        self.names.each(|_, at| match self.names.expand_at(at, &mut text) {
            Some(text) => visit(&String::from_utf8_lossy(text.name())),
            None => true,
        });
    }

    fn symbol(&self, index: usize, text: &Text) -> Option<Symbol> {
        let addr = self.values.get(index)?;
        let letter = char::from(text.letter());
        Some(Symbol {
            name: String::from_utf8_lossy(text.name()).into_owned(),
            addr,
            size: self.size(index, addr),
            kind: self.kind(addr, letter),
            letter,
            module: None,
        })
    }

    /// The distance to the next higher symbol, as the kernel reckons it; 0 if there is none or it is lost.
    fn size(&self, index: usize, addr: u64) -> u64 {
        let end = if index < self.first { self.first } else { self.names.count };
        // usually the very next one
        let next = match self.values.get(index + 1) {
            Some(value) if value > addr && index + 1 < end => index + 1,
            _ => self.values.partition(index..end, |value| value <= addr),
        };
        let known = (next < end).then(|| self.values.get(next)).flatten();
        known.map_or(0, |value| value.saturating_sub(addr))
    }

    fn kind(&self, addr: u64, letter: char) -> SymbolKind {
        if addr < KERNEL_HALF {
            // What is stored as an absolute value is per-CPU: scripts/kallsyms.c, make_percpus_absolute().
            return if self.values.encoding.absolute_per_cpu() { SymbolKind::PerCpu } else { SymbolKind::Other };
        }
        let Landmarks { per_cpu, data, .. } = self.landmarks();
        match letter.to_ascii_lowercase() {
            _ if per_cpu.contains(&addr) => SymbolKind::PerCpu,
            't' | 'w' if data.contains(&addr) => SymbolKind::Data,
            't' | 'w' => SymbolKind::Text,
            'd' | 'b' | 'r' | 'g' | 's' | 'v' => SymbolKind::Data,
            _ => SymbolKind::Other,
        }
    }

    fn of_name(&self, name: &str) -> Vec<Symbol> {
        let mut text = Text::default();
        let found = self.by_name_indices(name);
        let mut found: Vec<_> =
            found.filter_map(|index| self.symbol(index, self.names.expand(index, &mut text)?)).collect();
        found.sort_by_key(|symbol| symbol.addr);
        found
    }

    fn covering(&self, addr: u64) -> Option<Symbol> {
        let count = self.names.count;
        let after = self.values.partition(self.first..count, |value| value <= addr);
        let start = self.values.get(after.checked_sub(1)?).filter(|_| after > self.first)?;
        // Nothing lies behind the image or the last symbol, and before a hole in the table the owner may be lost.
        let next_is_known = after < count && self.values.get(after).is_some();
        if start < addr && (addr >= self.landmarks().end || !next_is_known) {
            return None;
        }
        // %pS shows the first of the names of an address
        let mut text = Text::default();
        let alias = self.values.partition(self.first..after, |value| value < start);
        // in a damaged table others may stand between them
        let mut same = (alias..after).filter(|index| self.values.get(*index) == Some(start));
        same.find_map(|index| self.symbol(index, self.names.expand(index, &mut text)?))
    }

    fn order_len(&self) -> usize {
        match &self.order {
            Order::Table(_) => self.names.count,
            Order::Made(made) => self.made_order(made).len(),
        }
    }

    /// The symbol at place `at` of the by-name order.
    fn ordered(&self, at: usize) -> Option<usize> {
        match &self.order {
            Order::Table(table) => entry(table, at),
            Order::Made(made) => self.made_order(made).get(at).map(|&i| i as usize),
        }
    }

    fn made_order<'a>(&self, made: &'a OnceLock<Vec<u32>>) -> &'a [u32] {
        made.get_or_init(|| self.names.sorted())
    }

    /// Symbols of that name, in address order.
    fn by_name_indices(&self, name: &str) -> impl Iterator<Item = usize> {
        let mut text = Text::default();
        let from = self.lower_bound(name);
        (from..self.order_len()).map_while(move |at| {
            let index = self.ordered(at)?;
            (self.names.expand(index, &mut text)?.name() == name.as_bytes()).then_some(index)
        })
    }

    /// The first place in the by-name order whose name is not less than `name`.
    fn lower_bound(&self, name: &str) -> usize {
        let mut text = Text::default();
        let (mut low, mut high) = (0, self.order_len());
        while low < high {
            let middle = low + (high - low) / 2;
            let expanded = self.ordered(middle).and_then(|index| self.names.expand(index, &mut text));
            match expanded.map(|text| text.name().cmp(name.as_bytes())) {
                Some(Ordering::Less) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

impl SymbolSource for Kallsyms {
    fn origin(&self) -> &'static str {
        "kallsyms"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        self.named.get(name, || self.of_name(name))
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        self.known.get(&addr, || self.covering(addr))
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        let mut text = Text::default();
        self.names.each(|index, at| {
            match self.names.expand_at(at, &mut text).and_then(|text| self.symbol(index, text)) {
                Some(symbol) => visit(symbol),
                None => true,
            }
        });
    }

    fn len(&self) -> usize {
        self.names.count - self.lost()
    }

    fn by_prefix(&self, prefix: &str, limit: usize) -> Vec<String> {
        let mut text = Text::default();
        let mut found: Vec<String> = Vec::new();
        for at in self.lower_bound(prefix)..self.order_len() {
            let Some(text) = self.ordered(at).and_then(|index| self.names.expand(index, &mut text)) else { continue };
            if found.len() >= limit || !text.name().starts_with(prefix.as_bytes()) {
                break;
            }
            let name = String::from_utf8_lossy(text.name());
            if found.last().is_none_or(|last| *last != name) {
                found.push(name.into_owned());
            }
        }
        found
    }
}

/// An entry of `kallsyms_seqs_of_names`.
fn entry(table: &Patchy, at: usize) -> Option<usize> {
    let &[a, b, c] = table.bytes.get(at.checked_mul(3)?..)?.first_chunk()?;
    Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

impl Names {
    /// Symbol numbers by name, and by number among equals.
    fn sorted(&self) -> Vec<u32> {
        let mut all: Vec<u8> = Vec::new();
        let mut spans: Vec<(u32, Range<usize>)> = Vec::new();
        // Real names are twice the size of their tokens; what claims to be much more is damage, and not kept.
        let limit = self.bytes.bytes.len().saturating_mul(16);
        let mut text = Text::default();
        self.each(|index, at| {
            if let Some(text) = self.expand_at(at, &mut text) {
                let from = all.len();
                all.extend_from_slice(text.name());
                spans.push((index as u32, from..all.len()));
            }
            all.len() < limit
        });
        let name = |span: &Range<usize>| all.get(span.clone()).unwrap_or_default();
        spans.par_sort_unstable_by(|(i, a), (j, b)| name(a).cmp(name(b)).then(i.cmp(j)));
        spans.into_iter().map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests;
