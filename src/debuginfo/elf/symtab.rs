//! The symbol table of an ELF file, at the addresses where it was loaded.

use std::sync::Arc;

use bytes::Bytes;
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, elf};

use super::{DebugFile, Error, Section};
use crate::symbols::{Symbol, SymbolKind, SymbolSource};

/// Symbols of a file, decoded once to two dozen bytes each.
pub struct Symtab {
    module: Option<Arc<str>>,
    names: Bytes,
    /// in table order
    table: Vec<Entry>,
    /// indices by address, then by table order; without [`SymbolKind::Other`]
    by_addr: Vec<u32>,
    /// indices by name, then by address
    by_name: Vec<u32>,
}

struct Entry {
    addr: u64,
    size: u64,
    name: u32,
    kind: SymbolKind,
    letter: u8,
}

impl Symtab {
    /// Reads the table of `file`; `module` is the name to report, `None` for the kernel proper.
    pub fn new(file: &DebugFile, module: Option<&str>) -> Result<Symtab, Error> {
        let fail = |why: String| Error::Format { path: file.path.clone(), why };
        let (names, table) = match object::FileKind::parse(&*file.data).map_err(|e| fail(e.to_string()))? {
            object::FileKind::Elf64 => entries::<elf::FileHeader64<Endianness>>(file),
            object::FileKind::Elf32 => entries::<elf::FileHeader32<Endianness>>(file),
            _ => return Err(fail("not an ELF file".into())),
        }
        .map_err(|e| fail(e.to_string()))?;
        let mut symtab =
            Symtab { module: module.map(Arc::from), names, table, by_addr: Vec::new(), by_name: Vec::new() };
        symtab.index();
        Ok(symtab)
    }

    /// Sorts both ways, and gives symbols without a size the distance to the next one.
    fn index(&mut self) {
        let all = 0..self.table.len() as u32;
        let Symtab { table, names, .. } = &*self;
        let entry = |i: u32| table.get(i as usize);
        let addr = |i: u32| entry(i).map(|e| e.addr);
        let mut by_addr: Vec<u32> =
            all.clone().filter(|&i| entry(i).is_some_and(|e| e.kind != SymbolKind::Other)).collect();
        by_addr.sort_by_key(|&i| addr(i));
        let mut by_name: Vec<u32> = all.collect();
        by_name.sort_by_cached_key(|&i| (entry(i).map(|e| text(names, e.name)), addr(i)));

        let mut above = None;
        let mut at = None;
        for &i in by_addr.iter().rev() {
            let Some(e) = self.table.get_mut(i as usize) else { continue };
            if at != Some(e.addr) {
                (above, at) = (at, Some(e.addr));
            }
            if e.size == 0 {
                e.size = above.map_or(0, |next: u64| next - e.addr);
            }
        }
        self.by_addr = by_addr;
        self.by_name = by_name;
    }

    fn symbol(&self, i: u32) -> Option<Symbol> {
        let e = self.table.get(i as usize)?;
        Some(Symbol {
            name: String::from_utf8_lossy(text(&self.names, e.name)).into_owned(),
            addr: e.addr,
            size: e.size,
            kind: e.kind,
            letter: char::from(e.letter),
            module: self.module.clone(),
        })
    }

    fn name(&self, i: u32) -> &[u8] {
        self.table.get(i as usize).map_or(&[], |e| text(&self.names, e.name))
    }

    fn addr(&self, i: u32) -> u64 {
        self.table.get(i as usize).map_or(0, |e| e.addr)
    }
}

impl SymbolSource for Symtab {
    fn origin(&self) -> &'static str {
        "vmlinux"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let name = name.as_bytes();
        let start = self.by_name.partition_point(|&i| self.name(i) < name);
        let rest = self.by_name.get(start..).unwrap_or_default();
        rest.iter().take_while(|&&i| self.name(i) == name).filter_map(|&i| self.symbol(i)).collect()
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let after = self.by_addr.partition_point(|&i| self.addr(i) <= addr);
        let last = self.addr(*self.by_addr.get(after.checked_sub(1)?)?);
        let first = self.by_addr.partition_point(|&i| self.addr(i) < last);
        let aliases = self.by_addr.get(first..after)?;
        // the end of the last symbol is the end of the table's range
        let end = |&i: &u32| self.table.get(i as usize).map_or(0, |e| e.addr.saturating_add(e.size));
        if after == self.by_addr.len() && aliases.iter().map(end).max().is_some_and(|end| addr >= end && addr != last) {
            return None;
        }
        self.symbol(*aliases.first()?)
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        (0..self.table.len() as u32).map_while(|i| self.symbol(i)).all(visit);
    }

    fn len(&self) -> usize {
        self.table.len()
    }
}

fn entries<Elf: FileHeader<Endian = Endianness>>(file: &DebugFile) -> object::Result<(Bytes, Vec<Entry>)> {
    let data = &*file.data;
    let header = Elf::parse(data)?;
    let endian = header.endian()?;
    let table = header.sections(endian, data)?.symbols(endian, data, elf::SHT_SYMTAB)?;
    let names = match table.string_section() {
        object::SectionIndex(0) => Bytes::new(),
        object::SectionIndex(i) => file.sections.get(i).map(|s| s.raw.clone()).unwrap_or_default(),
    };
    let mut out = Vec::new();
    for (index, sym) in table.enumerate() {
        let info = sym.st_type();
        let shndx = table.symbol_section(endian, sym, index).ok().flatten();
        let section = shndx.and_then(|i| file.sections.get(i.0));
        let absolute = sym.st_shndx(endian) == elf::SHN_ABS;
        let skip = matches!(info, elf::STT_FILE | elf::STT_SECTION) || (section.is_none() && !absolute);
        let name = sym.st_name(endian);
        if skip || name == 0 || mapping_symbol(text(&names, name)) {
            continue;
        }
        let kind = kind(section);
        let value: u64 = sym.st_value(endian).into();
        let addr = match section {
            _ if absolute => value,
            Some(s) if file.relocatable => s.addr.wrapping_add(value),
            _ => file.loaded(value),
        };
        let bind = sym.st_bind();
        let size = sym.st_size(endian).into();
        out.push(Entry { addr, size, name, kind, letter: letter(section, absolute, bind) });
    }
    Ok((names, out))
}

/// `$x`, `$d.12`: marks of the assembler between code and data (arm64, RISC-V), left out by kallsyms too.
fn mapping_symbol(name: &[u8]) -> bool {
    matches!(name, [b'$', _] | [b'$', _, b'.', ..]) || name.starts_with(b".L")
}

fn kind(section: Option<&Section>) -> SymbolKind {
    match section {
        Some(s) if s.name == ".data..percpu" => SymbolKind::PerCpu,
        Some(s) if s.exec => SymbolKind::Text,
        Some(s) if s.alloc => SymbolKind::Data,
        _ => SymbolKind::Other,
    }
}

/// As nm prints it.
fn letter(section: Option<&Section>, absolute: bool, bind: elf::SymbolBind) -> u8 {
    let class = match section {
        _ if absolute => b'a',
        Some(s) if s.exec => b't',
        Some(s) if s.alloc && s.nobits => b'b',
        Some(s) if s.alloc && s.write => b'd',
        Some(s) if s.alloc => b'r',
        _ => b'n',
    };
    match bind {
        elf::STB_WEAK => {
            if class == b't' {
                b'W'
            } else {
                b'V'
            }
        }
        elf::STB_LOCAL => class,
        _ => class.to_ascii_uppercase(),
    }
}

fn text(names: &[u8], at: u32) -> &[u8] {
    let rest = names.get(at as usize..).unwrap_or_default();
    rest.split(|&b| b == 0).next().unwrap_or_default()
}
