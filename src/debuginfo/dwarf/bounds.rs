//! What addr2line may be given: it parses with recursion, and copies lists as often as they are referred to.
//!
//! A compiler's output stays orders of magnitude below these bounds. A file made to exceed them gets no lines, instead
//! of all memory or the end of the stack.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use gimli::{AttributeValue, Section};

use super::units::{MAX_ATTRIBUTES, Slice, Unit, Units};
use crate::fan;

/// Nesting of entries; each level of inlining is one or two. The kernel's deepest is 24.
const MAX_LEVEL: isize = 256;

/// Address ranges of one unit's functions, counted as often as they are referred to.
const MAX_RANGES: usize = 1 << 20;

/// Bytes of one unit's file names with their directories.
const MAX_NAMES: usize = 32 << 20;

/// Bytes of abbreviations that may be read in one pass over all units. Linked files have a table per unit, or few that
/// are shared.
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(units: &Units<'_>) -> Budget {
        let size = units.dwarf.debug_abbrev.reader().len() as u64;
        Budget(AtomicU64::new(size.saturating_mul(16).saturating_add(1 << 20)))
    }

    /// Pays for reading the abbreviations of `unit`. `None` if that is too much, or the table is damaged.
    pub(super) fn table(&self, units: &Units<'_>, unit: &Unit<'_>) -> Option<()> {
        let section = units.dwarf.debug_abbrev.reader();
        let len = table_len(section.slice().get(unit.header.debug_abbrev_offset().0..)?)? as u64;
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(len)).ok()?;
        Some(())
    }
}

/// Length of a table of abbreviations. `None` if it has no end, or an entry with too many attributes.
fn table_len(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while leb(data, &mut at)? != 0 {
        leb(data, &mut at)?;
        at += 1;
        let mut attributes = 0;
        loop {
            let (name, form) = (leb(data, &mut at)?, leb(data, &mut at)?);
            if form == u64::from(gimli::DW_FORM_implicit_const.0) {
                leb(data, &mut at)?;
            }
            if name == 0 && form == 0 {
                break;
            }
            attributes += 1;
            if attributes > MAX_ATTRIBUTES {
                return None;
            }
        }
    }
    Some(at)
}

/// The next LEB128 number, as far as it fits.
fn leb(data: &[u8], at: &mut usize) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
}

/// Which units have code where, and which of them were found harmless.
pub(super) struct Bounds {
    /// by start, each with the greatest end up to there and the unit's number
    code: Vec<(Range<u64>, u64, usize)>,
    harmless: Mutex<HashSet<usize>>,
}

impl Bounds {
    /// Looks at what addr2line reads of all units. The error says what is wrong with the file.
    pub(super) fn survey(units: &Units<'_>) -> Result<Bounds, String> {
        let budget = Budget::new(units);
        let parts = fan::out(
            units.all.len(),
            || Ok(Vec::new()),
            |code: &mut Result<Vec<_>, String>, number| {
                let (Some(unit), Ok(known)) = (units.all.get(number), &mut *code) else { return };
                match ranges(units, unit, &budget) {
                    Some(ranges) => known.extend(ranges.into_iter().map(|range| (range, number))),
                    None => *code = Err(format!("unit {number} is damaged")),
                }
            },
        );
        let mut code = Vec::new();
        for part in parts {
            code.extend(part?);
        }
        code.extend(aranges(units));
        code.sort_unstable_by_key(|(range, number): &(Range<u64>, usize)| (range.start, *number));
        let mut end = 0;
        let reach = |(range, number): (Range<u64>, usize)| {
            end = range.end.max(end);
            (range, end, number)
        };
        Ok(Bounds { code: code.into_iter().map(reach).collect(), harmless: Mutex::default() })
    }

    /// Whether addr2line may be asked about `addr`.
    pub(super) fn allow(&self, units: &Units<'_>, addr: u64) -> Result<(), String> {
        let after = self.code.partition_point(|(range, ..)| range.start <= addr);
        let below = self.code.get(..after).unwrap_or_default().iter().rev();
        for (range, _, number) in below.take_while(|(_, end, _)| *end > addr) {
            if !range.contains(&addr) || self.harmless().contains(number) {
                continue;
            }
            let unit = units.all.get(*number).ok_or("no such unit")?;
            harmless(units, unit).ok_or_else(|| format!("unit {number} is damaged"))?;
            self.harmless().insert(*number);
        }
        Ok(())
    }

    fn harmless(&self) -> std::sync::MutexGuard<'_, HashSet<usize>> {
        self.harmless.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The code of a unit. One that does not say is read whole by addr2line, and so must be harmless now.
fn ranges<'a>(units: &Units<'a>, unit: &Unit<'a>, budget: &Budget) -> Option<Vec<Range<u64>>> {
    budget.table(units, unit)?;
    // what gimli cannot parse, addr2line leaves out
    let Ok(parsed) = gimli::Unit::new(&units.dwarf, unit.header) else { return Some(Vec::new()) };
    let mut out = Vec::new();
    let mut ranges = units.dwarf.unit_ranges(&parsed).ok()?;
    while let Some(range) = ranges.next().ok()? {
        out.push(range.begin..range.end);
        if out.len() > MAX_RANGES {
            return None;
        }
    }
    if out.is_empty() {
        harmless(units, unit)?;
    }
    Some(out)
}

/// What `.debug_aranges` says on top.
fn aranges(units: &Units<'_>) -> Vec<(Range<u64>, usize)> {
    let mut out = Vec::new();
    let mut headers = units.dwarf.debug_aranges.headers();
    while let Ok(Some(header)) = headers.next() {
        let at = header.debug_info_offset().0;
        let Ok(number) = units.all.binary_search_by_key(&at, |u| u.start as usize) else { continue };
        let mut entries = header.entries();
        while let Ok(Some(entry)) = entries.next() {
            let range = entry.range();
            out.push((range.begin..range.end, number));
        }
    }
    out
}

/// Reads a unit as addr2line would. `None` if that is too much for it.
fn harmless<'a>(units: &Units<'a>, unit: &Unit<'a>) -> Option<()> {
    let parsed = gimli::Unit::new(&units.dwarf, unit.header).ok()?;
    let mut raw = parsed.entries_raw(None).ok()?;
    // more attributes than bytes are only had by constants and flags
    let mut attributes = unit.header.length_including_self().saturating_mul(8).saturating_add(1024);
    let mut left = MAX_RANGES;
    while !raw.is_empty() {
        if raw.next_depth() > MAX_LEVEL {
            return None;
        }
        let Some(abbrev) = raw.read_abbreviation().ok()? else { continue };
        attributes = attributes.checked_sub(abbrev.attributes().len())?;
        for spec in abbrev.attributes() {
            if spec.name() != gimli::DW_AT_ranges {
                raw.skip_attributes(std::slice::from_ref(spec)).ok()?;
                continue;
            }
            let value = raw.read_attribute(*spec).ok()?.value();
            let Some(mut ranges) = units.dwarf.attr_ranges(&parsed, value).ok()? else { continue };
            while ranges.next().ok()?.is_some() {
                left = left.checked_sub(1)?;
            }
        }
    }
    names(units, &parsed)
}

/// Adds up the file names of a unit's line table, as each gets its directory before it.
fn names<'a>(units: &Units<'a>, parsed: &gimli::Unit<Slice<'a>>) -> Option<()> {
    let Some(program) = &parsed.line_program else { return Some(()) };
    let header = program.header();
    let len = |value: AttributeValue<Slice<'a>>| units.dwarf.attr_string(parsed, value).map_or(0, |s| s.len());
    let tree = parsed.comp_dir.map_or(0, |dir| dir.len());
    let mut left = MAX_NAMES;
    for file in header.file_names() {
        let dir = file.directory(header).map_or(0, len);
        left = left.checked_sub(tree.checked_add(dir)?.checked_add(len(file.path_name()))?)?;
    }
    Some(())
}
