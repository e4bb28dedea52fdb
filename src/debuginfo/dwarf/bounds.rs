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
        let len = |dwarf: &gimli::Dwarf<Slice<'_>>| dwarf.debug_abbrev.reader().len() as u64;
        let size = len(&units.dwarf) + units.dwarf.sup().map_or(0, len);
        Budget(AtomicU64::new(size.saturating_mul(16).saturating_add(1 << 20)))
    }

    /// Pays for reading the abbreviations of `unit`. `None` if that is too much, or the table is damaged.
    pub(super) fn table<'a>(&self, units: &Units<'a>, unit: &Unit<'a>) -> Option<()> {
        self.attributes(units, unit, &mut |_, _, _| {})
    }

    /// The same, and visits what its entries are made of: tag, attribute, form.
    pub(super) fn attributes<'a>(
        &self,
        units: &Units<'a>,
        unit: &Unit<'a>,
        visit: &mut dyn FnMut(gimli::DwTag, gimli::DwAt, gimli::DwForm),
    ) -> Option<()> {
        let section = units.dwarf_of(unit).debug_abbrev.reader();
        let len = read_table(section.slice().get(unit.header.debug_abbrev_offset().0..)?, visit)? as u64;
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(len)).ok()?;
        Some(())
    }
}

/// Length of a table of abbreviations, whose attributes are visited. `None` if it has no end, or an entry with too many
/// attributes.
fn read_table(data: &[u8], visit: &mut dyn FnMut(gimli::DwTag, gimli::DwAt, gimli::DwForm)) -> Option<usize> {
    let small = |number| u16::try_from(number).unwrap_or(u16::MAX);
    let mut at = 0;
    while leb(data, &mut at)? != 0 {
        let tag = gimli::DwTag(small(leb(data, &mut at)?));
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
            visit(tag, gimli::DwAt(small(name)), gimli::DwForm(small(form)));
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
    // what files share has no place in memory
    if unit.is_shared {
        return Some(Vec::new());
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::index::{Index, Kind};
    use super::super::units::Sections;
    use super::*;

    /// compile_unit and subprogram `f`, both with low_pc and high_pc; inlined_subroutine without an attribute
    const ABBREV: [u8; 29] =
        [1, 0x11, 1, 0x11, 1, 0x12, 1, 0, 0, 2, 0x2e, 1, 3, 8, 0x11, 1, 0x12, 1, 0, 0, 3, 0x1d, 1, 0, 0, 0, 0, 0, 0];

    /// A DWARF 4 unit with code at 0x1000..0x2000 and inlined functions nested that deep.
    fn nested(levels: usize) -> Vec<u8> {
        let code = [0x1000u64, 0x2000].map(u64::to_le_bytes).concat();
        let mut unit = vec![4, 0, 0, 0, 0, 0, 8, 1];
        unit.extend(&code);
        unit.extend([2, b'f', 0]);
        unit.extend(&code);
        unit.extend(vec![3; levels]);
        unit.extend(vec![0; levels + 2]);
        [(unit.len() as u32).to_le_bytes().to_vec(), unit].concat()
    }

    #[test]
    fn deep_inlining_does_not_reach_addr2line() {
        for (levels, fine) in [(0, true), (100, true), (1_000_000, false)] {
            let sections = Sections::made(nested(levels), ABBREV.to_vec());
            let units = sections.units().unwrap();
            let bounds = Bounds::survey(&units).unwrap();
            assert_eq!(bounds.allow(&units, 0x1800).is_ok(), fine, "{levels} levels");
            assert!(bounds.allow(&units, 0x2000).is_ok(), "no code there");
            assert_eq!(Index::build(&units).find(Kind::Function, b"f").len(), 1);
        }
    }

    #[test]
    fn abbreviations_are_not_read_a_million_times() {
        // an entry code that no table before had, so that each table is as long as all that follow
        let mut abbrev = Vec::new();
        for code in 0..20_000u32 {
            abbrev.extend([code as u8 | 0x80, (code >> 7) as u8 | 0x80, (code >> 14) as u8 + 1, 0x11, 1, 0, 0]);
        }
        abbrev.extend([0; 4]);
        let mut info = Vec::new();
        for unit in 0..20_000u32 {
            info.extend([8, 0, 0, 0, 4, 0]);
            info.extend((unit * 7).to_le_bytes());
            info.extend([8, 0]);
        }
        let sections = Sections::made(info, abbrev);
        let units = sections.units().unwrap();
        assert_eq!(units.all.len(), 20_000);
        assert!(Index::build(&units).damage.unwrap().ends_with(" of 20000 units are damaged"));
        assert!(Bounds::survey(&units).is_err());
    }

    #[test]
    fn an_entry_cannot_have_any_number_of_attributes() {
        let mut abbrev = vec![1, 0x11, 1];
        abbrev.extend([0x3c, 0x19].repeat(100_000));
        abbrev.extend([0, 0, 0]);
        assert_eq!(read_table(&abbrev, &mut |_, _, _| {}), None);
        assert_eq!(read_table(&ABBREV, &mut |_, _, _| {}), Some(26));
    }
}
