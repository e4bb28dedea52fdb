//! The sections of DWARF, the units in them, and a way to walk a unit's entries that ends.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use gimli::{
    Attribute, AttributeValue, DwAt, DwTag, EndianSlice, EntriesRaw, RunTimeEndian, Section, UnitOffset, UnitType,
};

use super::INNER_BOTTOM;
use crate::elf::{DebugFile, Error};

pub(super) type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
pub(super) type Value<'a> = AttributeValue<Slice<'a>>;

/// Attributes of one entry; compilers write up to thirty. More can be had without a byte in the entry, and would make
/// reading it expensive.
pub(super) const MAX_ATTRIBUTES: usize = 128;

/// Concrete instance, abstract instance, declaration in a class: compilers need two steps.
const MAX_ORIGINS: usize = 8;

/// What is needed of a file: all but macros, location lists and unwind tables.
const NEEDED: [gimli::SectionId; 11] = [
    gimli::SectionId::DebugInfo,
    gimli::SectionId::DebugTypes,
    gimli::SectionId::DebugAbbrev,
    gimli::SectionId::DebugStr,
    gimli::SectionId::DebugStrOffsets,
    gimli::SectionId::DebugAddr,
    gimli::SectionId::DebugLine,
    gimli::SectionId::DebugLineStr,
    gimli::SectionId::DebugRanges,
    gimli::SectionId::DebugRngLists,
    gimli::SectionId::DebugAranges,
];

/// The sections' contents.
pub(super) struct Sections {
    data: Vec<Bytes>,
    /// those of the file with what several files have in common, as dwz makes it
    shared: Option<Vec<Bytes>>,
    endian: RunTimeEndian,
}

impl Sections {
    pub(super) fn load(file: &DebugFile) -> Result<Sections, Error> {
        let endian = if file.little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let load = |file: &DebugFile| file.load(&NEEDED.map(|id| id.name()));
        Ok(Sections { data: load(file)?, shared: file.shared().map(load).transpose()?, endian })
    }

    #[cfg(test)]
    pub(super) fn made(info: Vec<u8>, abbrev: Vec<u8>) -> Sections {
        let mut data = vec![Bytes::new(); NEEDED.len()];
        for (id, bytes) in [(gimli::SectionId::DebugInfo, info), (gimli::SectionId::DebugAbbrev, abbrev)] {
            let at = NEEDED.iter().position(|&needed| needed == id).and_then(|at| data.get_mut(at));
            *at.expect("a needed section") = bytes.into();
        }
        Sections { data, shared: None, endian: RunTimeEndian::Little }
    }

    fn get<'s>(&self, data: &'s [Bytes], id: gimli::SectionId) -> Slice<'s> {
        let at = NEEDED.iter().position(|&needed| needed == id);
        EndianSlice::new(at.and_then(|at| data.get(at)).map_or(&[], |data| data), self.endian)
    }

    /// Finds the units.
    pub(super) fn units(&self) -> Result<Units<'_>, String> {
        let load = |data, id| Ok::<_, std::convert::Infallible>(self.get(data, id));
        let Ok(mut dwarf) = gimli::Dwarf::load(|id| load(&self.data, id));
        if let Some(shared) = &self.shared {
            let Ok(()) = dwarf.load_sup(|id| load(shared, id));
        }
        Units::new(dwarf)
    }
}

/// All units of a file, in the order of their offsets, then those of the file that it shares.
pub(super) struct Units<'a> {
    pub(super) dwarf: Arc<gimli::Dwarf<Slice<'a>>>,
    /// where the local ids of the shared file begin
    shared: u32,
    pub(super) all: Vec<Unit<'a>>,
    /// types in units of their own, by signature
    signatures: HashMap<u64, u32>,
    /// why there may be more units than were found
    pub(super) damage: Option<String>,
}

/// A unit, parsed as far as it was needed.
pub(super) struct Unit<'a> {
    /// of its header; `.debug_types` counts on where `.debug_info` ends, and the shared `.debug_info` where that ends
    pub(super) start: u32,
    /// whether it is in the file that is shared
    pub(super) is_shared: bool,
    end: u32,
    pub(super) header: gimli::UnitHeader<Slice<'a>>,
    parsed: OnceLock<Option<Box<gimli::Unit<Slice<'a>>>>>,
}

impl<'a> Units<'a> {
    fn new(dwarf: gimli::Dwarf<Slice<'a>>) -> Result<Units<'a>, String> {
        let info_len = dwarf.debug_info.reader().len();
        let types_len = dwarf.debug_types.reader().len();
        let shared_len = dwarf.sup().map_or(0, |sup| sup.debug_info.reader().len());
        if info_len.saturating_add(types_len).saturating_add(shared_len) >= INNER_BOTTOM as usize {
            return Err("more than 3.75 GB of types".into());
        }
        let shared = (info_len + types_len) as u32;
        let (all, signatures, dwarf) = (Vec::new(), HashMap::new(), Arc::new(dwarf));
        let mut units = Units { dwarf, shared, all, signatures, damage: None };
        let dwarf = units.dwarf.clone();
        let mut headers = dwarf.units();
        loop {
            match headers.next() {
                Ok(Some(header)) => units.add(header, header.debug_info_offset().map_or(0, |o| o.0), false),
                Ok(None) => break,
                Err(e) => {
                    units.damage = Some(format!("unit {}: {e}", units.all.len()));
                    break;
                }
            }
        }
        let mut headers = dwarf.type_units();
        while let Ok(Some(header)) = headers.next() {
            units.add(header, info_len + header.debug_types_offset().map_or(0, |o| o.0), false);
        }
        let skeleton = |unit: &Unit<'_>| matches!(unit.header.type_(), UnitType::Skeleton(_));
        if !units.all.is_empty() && units.all.iter().all(skeleton) {
            return Err("it is split: types are in .dwo files or a .dwp, which kmdb does not read".into());
        }
        if let Some(sup) = dwarf.sup() {
            let mut headers = sup.units();
            while let Ok(Some(header)) = headers.next() {
                let at = header.debug_info_offset().map_or(0, |o| o.0);
                units.add(header, (shared as usize).saturating_add(at), true);
            }
        }
        Ok(units)
    }

    fn add(&mut self, header: gimli::UnitHeader<Slice<'a>>, start: usize, is_shared: bool) {
        // below INNER_BOTTOM, as all sections are
        let start = start as u32;
        if let UnitType::Type { type_signature, type_offset } | UnitType::SplitType { type_signature, type_offset } =
            header.type_()
        {
            self.signatures.insert(type_signature.0, start.saturating_add(type_offset.0 as u32));
        }
        let end = start.saturating_add(header.length_including_self() as u32);
        self.all.push(Unit { start, is_shared, end, header, parsed: OnceLock::new() });
    }

    /// The sections that a unit refers to.
    pub(super) fn dwarf_of(&self, unit: &Unit<'a>) -> &gimli::Dwarf<Slice<'a>> {
        if unit.is_shared { self.dwarf.sup().unwrap_or(&self.dwarf) } else { &self.dwarf }
    }

    /// The unit that the entry at `local` is in.
    pub(super) fn unit_of(&self, local: u32) -> Option<&Unit<'a>> {
        let after = self.all.partition_point(|u| u.start <= local);
        self.all.get(after.checked_sub(1)?).filter(|u| local < u.end)
    }

    /// Where a reference in `unit` leads.
    pub(super) fn target(&self, unit: &Unit<'a>, value: Value<'a>) -> Option<u32> {
        match value {
            AttributeValue::UnitRef(offset) => unit.start.checked_add(u32::try_from(offset.0).ok()?),
            AttributeValue::DebugInfoRef(offset) if !unit.is_shared => u32::try_from(offset.0).ok(),
            // none leads back from the shared file
            AttributeValue::DebugInfoRef(offset) | AttributeValue::DebugInfoRefSup(offset) => {
                self.dwarf.sup()?;
                self.shared.checked_add(u32::try_from(offset.0).ok()?)
            }
            AttributeValue::DebugTypesRef(signature) => self.signatures.get(&signature.0).copied(),
            _ => None,
        }
    }

    /// The entry at `local`, with its unit.
    pub(super) fn entry(&self, local: u32) -> Option<(&Unit<'a>, Entry<'a>)> {
        let unit = self.unit_of(local)?;
        let mut entry = Entry::default();
        unit.walk(self, local)?.next(&mut entry)?;
        Some((unit, entry))
    }

    /// Visits the children of the entry at `local`, and not theirs.
    pub(super) fn children(&self, local: u32, mut visit: impl FnMut(&Entry<'a>) -> ControlFlow<()>) {
        let Some(mut walk) = self.unit_of(local).and_then(|u| u.walk(self, local)) else { return };
        let mut entry = Entry::default();
        if walk.next(&mut entry).is_none() || !entry.children {
            return;
        }
        while let Some(level) = walk.next(&mut entry) {
            match level {
                ..=0 => return,
                1 => {}
                _ => continue,
            }
            if visit(&entry).is_break() {
                return;
            }
            walk.skip_children(&entry);
        }
    }

    /// An attribute of `entry`, or else of what it was derived from, with the unit that says so.
    pub(super) fn inherited<'u>(
        &'u self,
        unit: &'u Unit<'a>,
        entry: &Entry<'a>,
        name: DwAt,
    ) -> Option<(&'u Unit<'a>, Value<'a>)> {
        if let Some(value) = entry.get(name) {
            return Some((unit, value));
        }
        let (mut unit, mut from) = (unit, entry.origin());
        for _ in 0..MAX_ORIGINS {
            let (next, entry) = self.entry(self.target(unit, from?)?)?;
            if let Some(value) = entry.get(name) {
                return Some((next, value));
            }
            (unit, from) = (next, entry.origin());
        }
        None
    }

    /// What the entry at `local` is an instance of: the function itself, for its code and where it was inlined.
    pub(super) fn origin(&self, local: u32) -> u32 {
        let mut at = local;
        for _ in 0..MAX_ORIGINS {
            let next = self.entry(at).and_then(|(unit, entry)| self.target(unit, entry.origin()?));
            let Some(next) = next else { break };
            at = next;
        }
        at
    }

    /// A string attribute's text.
    pub(super) fn text(&self, unit: &Unit<'a>, value: Value<'a>) -> Option<&'a [u8]> {
        let text = match value {
            AttributeValue::String(text) => text,
            AttributeValue::DebugStrRef(offset) => self.dwarf_of(unit).string(offset).ok()?,
            // only indirect strings need the unit's own entry to be read first
            other => self.dwarf_of(unit).attr_string(unit.parsed(self)?, other).ok()?,
        };
        Some(text.slice())
    }

    /// Name of an entry, also an inherited one.
    pub(super) fn name(&self, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<&'a [u8]> {
        let (unit, value) = self.inherited(unit, entry, gimli::DW_AT_name)?;
        self.text(unit, value).filter(|name| !name.is_empty())
    }
}

impl<'a> Unit<'a> {
    /// The unit's own entry and abbreviations. `None` if they cannot be read.
    pub(super) fn parsed(&self, units: &Units<'a>) -> Option<&gimli::Unit<Slice<'a>>> {
        let parse = || {
            let mut unit = gimli::Unit::new(units.dwarf_of(self), self.header).ok()?;
            // the line table's file names are the larger part, and wanted elsewhere only
            unit.line_program = None;
            Some(Box::new(unit))
        };
        self.parsed.get_or_init(parse).as_deref()
    }

    /// What it is made of, as it lies in the file.
    pub(super) fn bytes(&self, units: &Units<'a>) -> &'a [u8] {
        let dwarf = units.dwarf_of(self);
        let (section, at) = match (self.header.debug_info_offset(), self.header.debug_types_offset()) {
            (Some(at), _) => (dwarf.debug_info.reader(), at.0),
            (None, Some(at)) => (dwarf.debug_types.reader(), at.0),
            (None, None) => return &[],
        };
        let len = self.header.length_including_self();
        section.slice().get(at..).map_or(&[], |rest| rest.get(..len).unwrap_or(rest))
    }

    /// Visits the entries of some kinds, with those inside others behind them.
    pub(super) fn each(&self, units: &Units<'a>, wanted: impl Fn(DwTag) -> bool, mut visit: impl FnMut(&Entry<'a>)) {
        let Some(mut raw) = self.parsed(units).and_then(|parsed| parsed.entries_raw(None).ok()) else { return };
        let mut entry = Entry::default();
        while !raw.is_empty() {
            let (local, level) = (self.start.checked_add(raw.next_offset().0 as u32), raw.next_depth());
            let Ok(abbrev) = raw.read_abbreviation() else { return };
            let (Some(local), Some(abbrev)) = (local, abbrev) else { continue };
            let (all, wanted) = (abbrev.attributes(), wanted(abbrev.tag()));
            let read = match wanted {
                _ if all.len() > MAX_ATTRIBUTES => return,
                true => raw.read_attributes(all, &mut entry.attrs),
                false => raw.skip_attributes(all),
            };
            if read.is_err() {
                return;
            }
            if wanted {
                (entry.local, entry.tag, entry.children) = (local, abbrev.tag(), abbrev.has_children());
                entry.level = level;
                visit(&entry);
            }
        }
    }

    fn walk<'u>(&'u self, units: &Units<'a>, local: u32) -> Option<Walk<'u, 'a>> {
        let parsed = self.parsed(units)?;
        let at = UnitOffset(local.checked_sub(self.start)? as usize);
        Some(Walk { unit: self, parsed, raw: parsed.entries_raw(Some(at)).ok()?, base: 0 })
    }
}

/// One entry (DIE) with its attributes.
pub(super) struct Entry<'a> {
    /// as a local type id
    pub(super) local: u32,
    pub(super) tag: DwTag,
    children: bool,
    attrs: Vec<Attribute<Slice<'a>>>,
    pub(super) level: isize,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry { local: 0, tag: gimli::DW_TAG_null, children: false, attrs: Vec::new(), level: 0 }
    }
}

impl<'a> Entry<'a> {
    pub(super) fn get(&self, name: DwAt) -> Option<Value<'a>> {
        self.attrs.iter().find(|a| a.name() == name).map(|a| a.value())
    }

    pub(super) fn number(&self, name: DwAt) -> Option<u64> {
        self.get(name)?.udata_value()
    }

    pub(super) fn flag(&self, name: DwAt) -> bool {
        matches!(self.get(name), Some(AttributeValue::Flag(true)))
    }

    /// What it was derived from.
    fn origin(&self) -> Option<Value<'a>> {
        self.get(gimli::DW_AT_abstract_origin).or_else(|| self.get(gimli::DW_AT_specification))
    }
}

/// Walks entries forward; levels count from the entry it began with, which is at 0.
struct Walk<'u, 'a> {
    unit: &'u Unit<'a>,
    parsed: &'u gimli::Unit<Slice<'a>>,
    raw: EntriesRaw<'u, Slice<'a>>,
    base: isize,
}

impl<'a> Walk<'_, 'a> {
    /// Reads the next entry and returns its level. `None` where the tree ends, or is damaged.
    fn next(&mut self, entry: &mut Entry<'a>) -> Option<isize> {
        loop {
            let level = self.base + self.raw.next_depth();
            let local = self.unit.start.checked_add(self.raw.next_offset().0 as u32)?;
            let Some(abbrev) = self.raw.read_abbreviation().ok()? else {
                if level <= 1 {
                    return None;
                }
                continue;
            };
            if abbrev.attributes().len() > MAX_ATTRIBUTES {
                return None;
            }
            self.raw.read_attributes(abbrev.attributes(), &mut entry.attrs).ok()?;
            (entry.local, entry.tag, entry.children, entry.level) = (local, abbrev.tag(), abbrev.has_children(), level);
            return Some(level);
        }
    }

    /// Goes to the next sibling if the entry just read says where it is; else its children come next.
    fn skip_children(&mut self, entry: &Entry<'a>) {
        if !entry.children {
            return;
        }
        let Some(AttributeValue::UnitRef(sibling)) = entry.get(gimli::DW_AT_sibling) else { return };
        // only ever forward
        if sibling.0 > self.raw.next_offset().0
            && let Ok(raw) = self.parsed.entries_raw(Some(sibling))
        {
            (self.raw, self.base) = (raw, entry.level);
        }
    }
}
