//! Where each name is: one pass over the outermost entries of all units.
//!
//! A struct of a popular header is described in a thousand units. Its name is then one offset into the merged
//! `.debug_str`, so no text is compared to see that it is the same: descriptions with equal name, kind, size and line
//! count as one. What differs in any of these is kept apart, the most frequent first.
//!
//! Compilers say where an entry's next sibling is; bodies of functions and members of structs are jumped over.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use gimli::{Abbreviation, Abbreviations, AttributeValue, EntriesRaw, UnitOffset};

use super::bounds::Budget;
use super::units::{Slice, Unit, Units, Value};
use crate::fan;
use crate::types::Tag;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Struct,
    Union,
    Enum,
    Name,
    Variable,
    Function,
    Enumerator,
}

impl From<Tag> for Kind {
    fn from(tag: Tag) -> Kind {
        match tag {
            Tag::Struct => Kind::Struct,
            Tag::Union => Kind::Union,
            Tag::Enum => Kind::Enum,
            Tag::Name => Kind::Name,
        }
    }
}

impl Kind {
    fn tag(self) -> Option<Tag> {
        Some(match self {
            Kind::Struct => Tag::Struct,
            Kind::Union => Tag::Union,
            Kind::Enum => Tag::Enum,
            Kind::Name => Tag::Name,
            Kind::Variable | Kind::Function | Kind::Enumerator => return None,
        })
    }

    fn of(tag: gimli::DwTag) -> Option<Kind> {
        Some(match tag {
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => Kind::Struct,
            gimli::DW_TAG_union_type => Kind::Union,
            gimli::DW_TAG_enumeration_type => Kind::Enum,
            gimli::DW_TAG_typedef | gimli::DW_TAG_base_type => Kind::Name,
            gimli::DW_TAG_variable => Kind::Variable,
            gimli::DW_TAG_subprogram => Kind::Function,
            _ => return None,
        })
    }
}

/// All names of a file.
pub(super) struct Index<'a> {
    /// by hash, then best first
    rows: Vec<(u64, Row<'a>)>,
    /// why names may be missing
    pub(super) damage: Option<String>,
}

#[derive(Clone, Copy)]
struct Row<'a> {
    name: &'a [u8],
    kind: Kind,
    /// 0 a definition that other files see, 1 another definition, 2 a declaration
    rank: u8,
    /// number of equal descriptions
    count: u32,
    /// the first of them
    local: u32,
}

/// What makes two descriptions one, as 64 bits: the name by its place in `.debug_str` (or its text, if that is short),
/// kind, size and line. A dense key keeps the table in the processor's cache, which is what this pass waits for.
fn fingerprint(parts: [u64; 3]) -> u64 {
    parts.iter().fold(0, |sum: u64, &part| {
        let mixed = (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    })
}

/// Takes a fingerprint as its own hash.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.0 = self.0.rotate_left(8) ^ u64::from(b));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// From a fingerprint to the number of its row, and how often it was seen. Kept apart from the rows, and small, as
/// millions of descriptions are looked up in it.
type Seen = HashMap<u64, (u32, u32), BuildHasherDefault<Same>>;

/// What one thread found.
#[derive(Default)]
struct Found<'a> {
    seen: Seen,
    rows: Vec<Row<'a>>,
    /// each is a different variable, whatever its name
    variables: Vec<Row<'a>>,
    damaged: u32,
}

/// Attributes that [`Facts`] are made of.
const WANTED: [gimli::DwAt; 9] = [
    gimli::DW_AT_name,
    gimli::DW_AT_sibling,
    gimli::DW_AT_byte_size,
    gimli::DW_AT_decl_line,
    gimli::DW_AT_declaration,
    gimli::DW_AT_external,
    gimli::DW_AT_specification,
    gimli::DW_AT_location,
    gimli::DW_AT_language,
];

/// Expressions that begin with one of these give an address.
const ADDRESS: [gimli::DwOp; 3] = [gimli::DW_OP_addr, gimli::DW_OP_addrx, gimli::DW_OP_GNU_addr_index];

/// Units are handed to threads in runs of this many: neighbours share abbreviations in some compilers' output.
const RUN: usize = 8;

impl<'a> Index<'a> {
    /// Reads the names of all units, on all processors.
    pub(super) fn build(units: &Units<'a>) -> Index<'a> {
        let budget = Budget::new(units);
        let runs: Vec<_> = units.all.chunks(RUN).collect();
        let found = fan::out(runs.len(), Found::default, |found, run| {
            let mut abbreviations = None;
            for unit in runs.get(run).copied().unwrap_or_default() {
                if Scan::new(units, unit, &budget, &mut abbreviations).and_then(|mut scan| scan.run(found)).is_none() {
                    found.damaged += 1;
                }
            }
        });
        let damaged: u32 = found.iter().map(|f| f.damaged).sum();
        let damage = match damaged {
            0 => units.damage.clone(),
            n => Some(format!("{n} of {} units are damaged", units.all.len())),
        };
        Index { rows: merge(found), damage }
    }

    /// Entries of that name, best first; declarations only if there is nothing else.
    pub(super) fn find(&self, kind: Kind, name: &[u8]) -> Vec<u32> {
        let mut rows: Vec<_> = self.hashed(name).filter(|r| r.kind == kind && r.name == name).collect();
        if let Some(best) = rows.first().map(|r| r.rank) {
            rows.retain(|r| r.rank < 2 || best == 2);
        }
        rows.iter().map(|r| r.local).collect()
    }

    fn hashed(&self, name: &[u8]) -> impl Iterator<Item = &Row<'a>> {
        let hash = hash(name);
        let start = self.rows.partition_point(|(h, _)| *h < hash);
        self.rows.get(start..).unwrap_or_default().iter().take_while(move |(h, _)| *h == hash).map(|(_, row)| row)
    }

    /// Visits each named type once.
    pub(super) fn each_type(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        let mut last = None;
        for (_, row) in &self.rows {
            let this = Some((row.kind, row.name));
            if let (Some(tag), true) = (row.kind.tag(), this != last)
                && !visit(tag, &String::from_utf8_lossy(row.name))
            {
                return;
            }
            last = this;
        }
    }

    /// Visits every definition of a variable.
    pub(super) fn each_variable(&self, mut visit: impl FnMut(&'a [u8], u32)) {
        let defined = self.rows.iter().map(|(_, row)| row).filter(|r| r.kind == Kind::Variable && r.rank < 2);
        defined.for_each(|r| visit(r.name, r.local));
    }
}

fn merge(found: Vec<Found<'_>>) -> Vec<(u64, Row<'_>)> {
    let (mut seen, mut rows, mut variables) = (Seen::default(), Vec::<Row<'_>>::new(), Vec::new());
    for part in found {
        variables.extend(part.variables);
        for (key, (row, count)) in part.seen {
            let Some(&row) = part.rows.get(row as usize) else { continue };
            let (at, _) = *seen.entry(key).or_insert((rows.len() as u32, 0));
            match rows.get_mut(at as usize) {
                Some(known) => known.add(count, row.local),
                None => rows.push(Row { count, ..row }),
            }
        }
    }
    rows.extend(variables);
    let mut rows: Vec<_> = rows.into_iter().map(|row| (hash(row.name), row)).collect();
    rows.sort_unstable_by_key(|(hash, r)| (*hash, r.kind, r.rank, u32::MAX - r.count, r.local));
    rows
}

/// FNV-1a with a final mix: names are short.
fn hash(name: &[u8]) -> u64 {
    let sum =
        name.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &b| (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    sum ^ sum >> 32
}

impl Row<'_> {
    fn add(&mut self, count: u32, local: u32) {
        self.count = self.count.saturating_add(count);
        // threads meet units in any order; the first in the file is the same every time
        self.local = self.local.min(local);
    }
}

/// The pass over one unit.
struct Scan<'s, 'a> {
    units: &'s Units<'a>,
    unit: &'s Unit<'a>,
    abbreviations: &'s Abbreviations,
    raw: EntriesRaw<'s, Slice<'a>>,
    /// attributes that may still be read
    left: u64,
}

/// What the index needs of an entry.
#[derive(Default)]
struct Facts<'a> {
    name: Option<Value<'a>>,
    specification: Option<UnitOffset>,
    sibling: Option<UnitOffset>,
    size: u64,
    line: u64,
    declaration: bool,
    external: bool,
    /// a variable with a place or a constant value
    defined: bool,
    /// has an address of its own
    placed: bool,
    language: Option<gimli::DwLang>,
}

impl<'s, 'a> Scan<'s, 'a> {
    /// `cached` are the abbreviations of the unit before, and where they are.
    fn new(
        units: &'s Units<'a>,
        unit: &'s Unit<'a>,
        budget: &Budget,
        cached: &'s mut Option<((bool, usize), Abbreviations)>,
    ) -> Option<Scan<'s, 'a>> {
        let at = (unit.is_shared, unit.header.debug_abbrev_offset().0);
        if cached.as_ref().is_none_or(|(known, _)| *known != at) {
            budget.table(units, unit)?;
            *cached = Some((at, unit.header.abbreviations(&units.dwarf_of(unit).debug_abbrev).ok()?));
        }
        let (_, abbreviations) = cached.as_ref()?;
        let raw = unit.header.entries_raw(abbreviations, None).ok()?;
        // an entry has more attributes than bytes only where it is all constants and flags
        let left = (unit.header.length_including_self() as u64).saturating_mul(8).saturating_add(1024);
        Some(Scan { units, unit, abbreviations, raw, left })
    }

    /// Reads the outermost entries. `None` if the unit is damaged; what was found until there stays.
    fn run(&mut self, found: &mut Found<'a>) -> Option<()> {
        let root = self.raw.read_abbreviation().ok()??;
        let facts = self.facts(root)?;
        // Names in Rust are paths, which nobody types here; symbols and lines know them.
        if !root.has_children() || facts.language == Some(gimli::DW_LANG_Rust) {
            return Some(());
        }
        let mut level = 1;
        while !self.raw.is_empty() {
            let at = self.raw.next_offset();
            let Some(abbrev) = self.raw.read_abbreviation().ok()? else {
                level -= 1;
                if level == 0 {
                    return Some(());
                }
                continue;
            };
            if level > 1 {
                self.pay(abbrev)?;
                self.raw.skip_attributes(abbrev.attributes()).ok()?;
                level += usize::from(abbrev.has_children());
                continue;
            }
            let kind = Kind::of(abbrev.tag());
            if kind.is_none() && !abbrev.has_children() {
                self.pay(abbrev)?;
                self.raw.skip_attributes(abbrev.attributes()).ok()?;
                continue;
            }
            let facts = self.facts(abbrev)?;
            let new = match kind {
                Some(kind) => self.record(found, kind, at, &facts),
                None => false,
            };
            if !abbrev.has_children() {
                continue;
            }
            if new && abbrev.tag() == gimli::DW_TAG_enumeration_type {
                self.enumerators(found)?;
                continue;
            }
            match facts.sibling.filter(|s| s.0 > self.raw.next_offset().0) {
                Some(sibling) => self.raw = self.unit.header.entries_raw(self.abbreviations, Some(sibling)).ok()?,
                None => level += 1,
            }
        }
        // compilers end a unit with a null entry, but it says nothing
        Some(())
    }

    fn pay(&mut self, abbrev: &Abbreviation) -> Option<()> {
        self.left = self.left.checked_sub(abbrev.attributes().len() as u64)?;
        Some(())
    }

    fn facts(&mut self, abbrev: &Abbreviation) -> Option<Facts<'a>> {
        self.pay(abbrev)?;
        let mut facts = Facts::default();
        let all = abbrev.attributes();
        // those of no interest are skipped in runs
        let mut skipped = 0;
        for (at, spec) in all.iter().enumerate() {
            if !WANTED.contains(&spec.name()) {
                facts.defined |= spec.name() == gimli::DW_AT_const_value;
                continue;
            }
            self.raw.skip_attributes(all.get(skipped..at)?).ok()?;
            skipped = at + 1;
            let value = self.raw.read_attribute_inline(*spec).ok()?.value();
            match (spec.name(), value) {
                (gimli::DW_AT_name, value) => facts.name = Some(value),
                (gimli::DW_AT_sibling, AttributeValue::UnitRef(at)) => facts.sibling = Some(at),
                (gimli::DW_AT_specification, AttributeValue::UnitRef(at)) => facts.specification = Some(at),
                (gimli::DW_AT_declaration, AttributeValue::Flag(flag)) => facts.declaration = flag,
                (gimli::DW_AT_external, AttributeValue::Flag(flag)) => facts.external = flag,
                (gimli::DW_AT_language, AttributeValue::Language(language)) => facts.language = Some(language),
                (gimli::DW_AT_location, AttributeValue::Exprloc(expr)) => {
                    facts.defined = true;
                    facts.placed = expr.0.slice().first().is_some_and(|&op| ADDRESS.contains(&gimli::DwOp(op)));
                }
                (gimli::DW_AT_byte_size, value) => facts.size = value.udata_value().unwrap_or(0),
                (gimli::DW_AT_decl_line, value) => facts.line = value.udata_value().unwrap_or(0),
                _ => {}
            }
        }
        self.raw.skip_attributes(all.get(skipped..)?).ok()?;
        Some(facts)
    }

    /// Notes an outermost entry. Returns whether it is one that this thread sees for the first time.
    fn record(&self, found: &mut Found<'a>, kind: Kind, at: UnitOffset, facts: &Facts<'a>) -> bool {
        let Some(local) = self.local(at) else { return false };
        if kind == Kind::Variable && facts.placed {
            // `extern int x; int x = 1;` is a declaration, and a definition that refers to it for all but the place
            let declared = facts.specification.and_then(|at| self.unit.header.entry(self.abbreviations, at).ok());
            let from = |name| declared.as_ref().and_then(|d| d.attr_value(name));
            let external = facts.external || from(gimli::DW_AT_external).is_some();
            let name = facts.name.or_else(|| from(gimli::DW_AT_name)).and_then(|name| self.units.text(self.unit, name));
            if let Some(name) = name {
                found.variables.push(Row { name, kind, rank: u8::from(!external), count: 1, local });
            }
            return false;
        }
        let rank = match kind {
            _ if facts.declaration => 2,
            Kind::Variable if !facts.defined => 2,
            Kind::Variable | Kind::Function => u8::from(!facts.external),
            _ => 0,
        };
        match facts.name {
            Some(name) => self.insert(found, kind, rank, name, (facts.size, facts.line), local),
            None => true,
        }
    }

    fn insert(
        &self,
        found: &mut Found<'a>,
        kind: Kind,
        rank: u8,
        name: Value<'a>,
        (size, line): (u64, u64),
        local: u32,
    ) -> bool {
        let place = match name {
            AttributeValue::DebugStrRef(offset) => offset.0 as u64 | u64::from(self.unit.is_shared) << 62,
            AttributeValue::DebugStrRefSup(offset) => offset.0 as u64 | 1 << 62,
            AttributeValue::String(text) => hash(text.slice()) | 1 << 63,
            other => match self.units.text(self.unit, other) {
                Some(text) => hash(text) | 1 << 63,
                None => return false,
            },
        };
        let what = size << 8 | u64::from(rank) << 4 | kind as u64;
        // Units come in order, so that the first description is the first in the file.
        let next = found.rows.len() as u32;
        let (row, count) = found.seen.entry(fingerprint([place, what, line])).or_insert((next, 0));
        *count = count.saturating_add(1);
        let new = *row == next;
        if new {
            let name = self.units.text(self.unit, name).unwrap_or_default();
            found.rows.push(Row { name, kind, rank, count: 1, local });
        }
        new
    }

    /// Notes the children of an enumeration, whose end is the next null.
    fn enumerators(&mut self, found: &mut Found<'a>) -> Option<()> {
        let mut level = 1;
        while level > 0 {
            let at = self.raw.next_offset();
            let Some(abbrev) = self.raw.read_abbreviation().ok()? else {
                level -= 1;
                continue;
            };
            level += usize::from(abbrev.has_children());
            let facts = self.facts(abbrev)?;
            if let (gimli::DW_TAG_enumerator, Some(name), Some(local)) = (abbrev.tag(), facts.name, self.local(at)) {
                self.insert(found, Kind::Enumerator, 0, name, (0, 0), local);
            }
        }
        Some(())
    }

    fn local(&self, at: UnitOffset) -> Option<u32> {
        self.unit.start.checked_add(u32::try_from(at.0).ok()?)
    }
}
