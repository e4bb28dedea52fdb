//! Where functions were inlined.
//!
//! ```text
//! dwarf.inlined("get_io_context");    // ioc_find_get_icq+0x2e, and what its parameters are there
//! ```
//!
//! A copy (`DW_TAG_inlined_subroutine`) refers to an entry that has the function's name, which lies in the same unit,
//! unless the compiler said otherwise in the unit's abbreviations. So a unit in which the name is written neither as a text
//! nor by its place in `.debug_str` has no copy, and is passed over at the speed at which memory is searched.

use std::collections::HashMap;

use gimli::{Reader, Section};
use memchr::memmem::{self, Finder};

use super::bounds::Budget;
use super::places::{Locations, Parameter};
use super::units::{Entry, Unit, Units};
use super::{Dwarf, decode};
use crate::demangle::{demangle, is_called};
use crate::fan;

/// More inlined copies of one function are damage, or too many to look at.
const MAX_COPIES: usize = 1 << 16;
/// Names that end as the one looked for does may be kept in one text with it. With more of them all units are read.
const MAX_TEXTS: usize = 32;

/// A copy of a function that stands in another one's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// address of its first instruction, where it has code of its own at all
    pub at: Option<u64>,
    /// the function that it stands in, as its source has it
    pub within: String,
    /// its parameters there
    pub parameters: Vec<Parameter>,
}

impl Dwarf {
    /// Where the function of that name was inlined, by the order of addresses. In C++ and Rust the last part of its path
    /// is its name; with a path in front it must end so.
    pub fn inlined(&self, name: &str) -> Vec<Inlined> {
        let found = self.with(|parsed| {
            let (units, lists) = (&parsed.units, self.locations(&parsed.units));
            let mentions = Mentions::of(units, name.rsplit("::").next().unwrap_or(name));
            let gathered = || (Vec::new(), Closed::new());
            let copies = fan::out(units.all.len(), gathered, |(found, known), number| {
                if let Some(unit) = units.all.get(number)
                    && found.len() < MAX_COPIES
                    && mentions.are_in(units, unit, known)
                {
                    copies(units, unit, name, found);
                }
            });
            let copies = copies.into_iter().flat_map(|(found, _)| found);
            copies.map(|(local, at, within)| self.copy(units, &lists, local, at, within)).collect::<Vec<_>>()
        });
        let mut found = found.unwrap_or_default();
        found.sort_by_key(|copy| copy.at);
        found.dedup_by(|a, b| a.at.is_some() && a.at == b.at);
        found
    }

    fn copy(&self, units: &Units<'_>, lists: &Locations<'_>, local: u32, at: Option<u64>, within: u32) -> Inlined {
        let within = units.entry(within).and_then(|(unit, entry)| {
            let linkage = units.inherited(unit, &entry, gimli::DW_AT_linkage_name);
            let linkage = linkage.and_then(|(unit, value)| units.text(unit, value));
            linkage.or_else(|| units.name(unit, &entry)).map(decode::text)
        });
        Inlined {
            at: at.map(|at| self.file().loaded(at)),
            within: within.map_or_else(|| "?".to_owned(), |name| demangle(&name).into_owned()),
            parameters: at.map(|at| self.parameters(units, lists, local, at)).unwrap_or_default(),
        }
    }
}

/// How a function's name is written in units.
struct Mentions {
    /// none if that may be in any way
    written: Option<Vec<Finder<'static>>>,
    budget: Budget,
}

/// Of tables of abbreviations, by where they are: whether what their units refer to is in the same unit.
type Closed = HashMap<(bool, usize), bool>;

impl Mentions {
    fn of(units: &Units<'_>, name: &str) -> Mentions {
        // what fills a template is part of its name
        let whole = |text: &[u8], at: usize| matches!(text.get(at + name.len()), Some(0 | b'<'));
        let texts = units.dwarf.debug_str.reader();
        let found = memmem::find_iter(texts.slice(), name.as_bytes()).filter(|at| whole(texts.slice(), *at));
        let little = texts.endian() == gimli::RunTimeEndian::Little;
        let word = |at: usize| if little { (at as u32).to_le_bytes() } else { (at as u32).to_be_bytes() };
        let mut written = vec![Finder::new(name.as_bytes()).into_owned()];
        written.extend(found.take(MAX_TEXTS + 1).map(|at| Finder::new(&word(at)).into_owned()));
        Mentions { written: Some(written).filter(|all| all.len() <= MAX_TEXTS + 1), budget: Budget::new(units) }
    }

    /// Whether a unit may have copies of the function.
    fn are_in<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, known: &mut Closed) -> bool {
        let Some(written) = self.written.as_ref().filter(|_| !unit.is_shared) else { return true };
        let bytes = unit.bytes(units);
        written.iter().any(|one| one.find(bytes).is_some()) || !self.is_closed(units, unit, known)
    }

    /// Whether names of functions in a unit are texts, or places in `.debug_str`, and copies refer to functions in it.
    fn is_closed<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, known: &mut Closed) -> bool {
        let key = (unit.is_shared, unit.header.debug_abbrev_offset().0);
        let look = || {
            let mut closed = true;
            let visit = &mut |tag, name, form| {
                let function = matches!(tag, gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine);
                closed &= !function || stays(name, form);
            };
            // of one that is damaged nothing can be read
            self.budget.attributes(units, unit, visit).is_none() || closed
        };
        *known.entry(key).or_insert_with(look)
    }
}

/// Whether what an attribute of a function refers to is in the same unit, or in `.debug_str`.
fn stays(name: gimli::DwAt, form: gimli::DwForm) -> bool {
    match name {
        gimli::DW_AT_name => matches!(form, gimli::DW_FORM_strp | gimli::DW_FORM_string),
        gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => matches!(
            form,
            gimli::DW_FORM_ref1
                | gimli::DW_FORM_ref2
                | gimli::DW_FORM_ref4
                | gimli::DW_FORM_ref8
                | gimli::DW_FORM_ref_udata
        ),
        _ => true,
    }
}

/// The inlined copies in a unit: each entry, its first instruction, and the function that it is in.
fn copies<'a>(units: &Units<'a>, unit: &Unit<'a>, name: &str, found: &mut Vec<(u32, Option<u64>, u32)>) {
    let mut is_it: HashMap<u32, bool> = HashMap::new();
    // the functions that an entry is in, with their levels; declarations stand in functions, too, and nothing in them
    let mut within: Vec<(isize, u32)> = Vec::new();
    let wanted = |tag| matches!(tag, gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine);
    unit.each(units, wanted, |entry| {
        while within.pop_if(|(level, _)| *level >= entry.level).is_some() {}
        if entry.tag == gimli::DW_TAG_subprogram {
            within.push((entry.level, entry.local));
            return;
        }
        let origin = entry.get(gimli::DW_AT_abstract_origin).and_then(|value| units.target(unit, value));
        let Some(origin) = origin else { return };
        if *is_it.entry(origin).or_insert_with(|| is_meant(units, origin, name)) && found.len() < MAX_COPIES {
            let within = within.last().map_or(0, |(_, local)| *local);
            found.push((entry.local, first(units, unit, entry), within));
        }
    });
}

/// Whether a function is meant by a name; the path to it is told by what its symbol is called.
fn is_meant(units: &Units<'_>, local: u32, name: &str) -> bool {
    let Some((unit, entry)) = units.entry(local) else { return false };
    let last = name.rsplit("::").next().unwrap_or(name);
    let found = units.name(unit, &entry).filter(|found| found.starts_with(last.as_bytes())).map(decode::text);
    if !found.is_some_and(|found| is_called(&found, last)) {
        return false;
    }
    let linkage = units.inherited(unit, &entry, gimli::DW_AT_linkage_name);
    let linkage = linkage.and_then(|(unit, value)| units.text(unit, value)).map(decode::text);
    last == name || linkage.is_none_or(|linkage| is_called(&demangle(&linkage), name))
}

/// The first instruction of an instance.
fn first<'a>(units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<u64> {
    let (parsed, dwarf) = (unit.parsed(units)?, units.dwarf_of(unit));
    let address = |name| dwarf.attr_address(parsed, entry.get(name)?).ok().flatten();
    let low = address(gimli::DW_AT_low_pc).or_else(|| {
        let mut ranges = dwarf.attr_ranges(parsed, entry.get(gimli::DW_AT_ranges)?).ok()??;
        ranges.next().ok()?.map(|range| range.begin)
    });
    match entry.get(gimli::DW_AT_entry_pc).map(|value| (value, value.udata_value())) {
        None => low,
        Some((_, Some(distance))) => low?.checked_add(distance),
        Some(_) => address(gimli::DW_AT_entry_pc),
    }
    .filter(|at| *at != 0)
}
