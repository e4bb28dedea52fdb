//! Relocations of a module's debug sections.
//!
//! A module is an unlinked object: its DWARF says "offset 0x30 of `.text`" until the relocations are applied. Against
//! a section that is loaded the address comes from the section's [`Placement`](super::Placement); against a debug
//! section it is an offset into that section.

use bytes::{Bytes, BytesMut};
use object::{Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget, SectionIndex};

use super::DebugFile;

/// Applies the relocations of section `index` to its `data`.
pub(super) fn relocate(file: &DebugFile, index: usize, data: Bytes) -> Result<Bytes, String> {
    let elf = object::File::parse(&*file.data).map_err(|e| e.to_string())?;
    let section = elf.section_by_index(SectionIndex(index)).map_err(|e| e.to_string())?;
    let mut relocations = section.relocations().peekable();
    if relocations.peek().is_none() {
        return Ok(data);
    }
    let mut out = BytesMut::from(&*data);
    for (offset, relocation) in relocations {
        match relocation.kind() {
            RelocationKind::None => continue,
            RelocationKind::Absolute => {}
            _ => return Err(format!("relocation type {:?} is not supported", relocation.flags())),
        }
        let base = match relocation.target() {
            RelocationTarget::Symbol(symbol) => {
                let symbol = elf.symbol_by_index(symbol).map_err(|e| e.to_string())?;
                let start = symbol.section_index().map_or(0, |s| start(file, s));
                start.wrapping_add(symbol.address())
            }
            RelocationTarget::Section(section) => start(file, section),
            _ => 0,
        };
        let width = usize::from(relocation.size() / 8);
        let field = usize::try_from(offset).ok().and_then(|at| out.get_mut(at..at.checked_add(width)?));
        let Some(field) = field else { return Err(format!("a relocation at {offset:#x} lies outside")) };
        let addend = match relocation.has_implicit_addend() {
            true => relocation.addend().wrapping_add(read(field, file.little_endian) as i64),
            false => relocation.addend(),
        };
        write(field, file.little_endian, base.wrapping_add(addend as u64));
    }
    Ok(out.freeze())
}

/// Address of a loaded section; 0 for a debug section, so that references into it are offsets.
fn start(file: &DebugFile, section: SectionIndex) -> u64 {
    file.sections.get(section.0).filter(|s| s.alloc).map_or(0, |s| s.addr)
}

fn read(field: &[u8], little_endian: bool) -> u64 {
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    if little_endian { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) }
}

fn write(field: &mut [u8], little_endian: bool, value: u64) {
    let bytes = value.to_le_bytes();
    let width = field.len();
    for (i, byte) in field.iter_mut().enumerate() {
        let from = if little_endian { i } else { width - 1 - i };
        *byte = bytes.get(from).copied().unwrap_or(0);
    }
}
