//! A module's symbols: what its `struct mod_kallsyms` points at.
//!
//! Three parallel tables, in the ELF file's order and already relocated: `symtab` (`Elf64_Sym`), the names in `strtab`,
//! and `typetab` with `nm`'s letters (since 5.2, 1c7651f43777). Whoever knows `struct module` hands over their bytes.
//!
//! The letters are small throughout: that `/proc/kallsyms` shows some as capitals is because the module exports them.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::holes::Patchy;
use crate::names::{NameHash, NameIndex};
use crate::symbols::{Symbol, SymbolKind, SymbolSource};

/// `sizeof(Elf64_Sym)`
pub const SYM_SIZE: usize = 24;

/// Longest name, with its NUL: KSYM_NAME_LEN.
const NAME_LEN: usize = 512;

const SHN_UNDEF: u16 = 0;

/// What a module says about its symbols.
#[derive(Clone, Debug, Default)]
pub struct ModuleTables {
    /// the module's name
    pub module: Arc<str>,
    /// `num_symtab` entries of [`SYM_SIZE`] bytes
    pub symtab: Patchy,
    /// the names
    pub strtab: Patchy,
    /// one letter for each symbol; empty if the kernel has no such table
    pub typetab: Patchy,
    /// memory that is the module's: no address outside has a symbol
    pub ranges: Vec<Range<u64>>,
    /// its static per-CPU variables: `percpu` and `percpu_size` of `struct module`
    pub per_cpu: Range<u64>,
}

/// The symbols of one module.
pub struct ModuleSymbols {
    tables: ModuleTables,
    count: usize,
    lost: usize,
    /// symbols that an address may belong to, by address and by place in the table
    by_addr: OnceLock<Vec<(u64, u32)>>,
    by_name: OnceLock<NameIndex>,
}

impl ModuleSymbols {
    /// Takes the tables as they are.
    pub fn new(tables: ModuleTables) -> ModuleSymbols {
        let all = tables.symtab.bytes.len() / SYM_SIZE;
        let mut symbols =
            ModuleSymbols { tables, count: 0, lost: 0, by_addr: OnceLock::new(), by_name: OnceLock::new() };
        for index in 0..all {
            match symbols.entry(index).map(|entry| entry.name) {
                // the null symbol, and those without a name
                Some([]) => {}
                Some(_) => symbols.count += 1,
                None => symbols.lost += 1,
            }
        }
        symbols
    }

    /// Symbols that cannot be read, or whose names cannot.
    pub fn lost(&self) -> usize {
        self.lost
    }

    fn len_table(&self) -> usize {
        self.tables.symtab.bytes.len() / SYM_SIZE
    }

    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        let ModuleTables { symtab, strtab, typetab, .. } = &self.tables;
        let at = index.checked_mul(SYM_SIZE)?;
        let bytes: &[u8; SYM_SIZE] =
            symtab.bytes.get(at..)?.first_chunk().filter(|_| !symtab.holes.hit(at..at + SYM_SIZE))?;
        let [a, b, c, d, info, _, section_low, section_high, rest @ ..] = *bytes;
        let start = u32::from_le_bytes([a, b, c, d]) as usize;
        let name = strtab.bytes.get(start..strtab.bytes.len().min(start.saturating_add(NAME_LEN)))?;
        let len = memchr::memchr(0, name)?;
        if strtab.holes.hit(start..start + len + 1) {
            return None;
        }
        let letter = match typetab.bytes.get(index) {
            Some(_) if typetab.holes.hit(index..index + 1) => b'?',
            Some(&letter) => letter,
            // before there was a table, the letter replaced st_info
            None => info,
        };
        let (value, size) = rest.split_at(8);
        Some(Entry {
            name: name.get(..len)?,
            letter,
            defined: u16::from_le_bytes([section_low, section_high]) != SHN_UNDEF,
            value: u64::from_le_bytes(*value.first_chunk()?),
            size: u64::from_le_bytes(*size.first_chunk()?),
        })
    }

    /// An entry that has a name.
    fn named(&self, index: usize) -> Option<Entry<'_>> {
        self.entry(index).filter(|entry| !entry.name.is_empty())
    }

    fn symbol(&self, entry: &Entry) -> Symbol {
        Symbol {
            name: String::from_utf8_lossy(entry.name).into_owned(),
            addr: entry.value,
            size: if entry.size > 0 { entry.size } else { self.room(entry.value) },
            kind: self.kind(entry),
            letter: char::from(entry.letter),
            module: Some(self.tables.module.clone()),
        }
    }

    fn kind(&self, entry: &Entry) -> SymbolKind {
        match entry.letter.to_ascii_lowercase() {
            _ if self.tables.per_cpu.contains(&entry.value) => SymbolKind::PerCpu,
            b't' | b'w' => SymbolKind::Text,
            b'd' | b'b' | b'r' | b'g' | b's' | b'v' => SymbolKind::Data,
            _ => SymbolKind::Other,
        }
    }

    fn range_of(&self, addr: u64) -> Option<&Range<u64>> {
        self.tables.ranges.iter().find(|range| range.contains(&addr))
    }

    /// Bytes from a symbol to the next, or to the end of its memory.
    fn room(&self, value: u64) -> u64 {
        let Some(range) = self.range_of(value) else { return 0 };
        let places = self.places();
        let next = places.get(places.partition_point(|&(other, _)| other <= value));
        let end = next.map_or(range.end, |&(other, _)| other.min(range.end));
        end - value
    }

    /// As find_kallsyms_symbol() (kernel/module/kallsyms.c) chooses: no undefined symbols, none without a name, no
    /// mapping symbols.
    fn places(&self) -> &[(u64, u32)] {
        self.by_addr.get_or_init(|| {
            let eligible = |index: &usize| {
                let entry = self.named(*index).filter(|entry| entry.defined && !entry.is_mapping())?;
                self.range_of(entry.value).map(|_| (entry.value, *index as u32))
            };
            let mut places: Vec<_> = (0..self.len_table()).filter_map(|index| eligible(&index)).collect();
            places.sort_unstable();
            places
        })
    }
}

struct Entry<'a> {
    name: &'a [u8],
    letter: u8,
    defined: bool,
    value: u64,
    size: u64,
}

impl Entry<'_> {
    /// Assemblers' and compilers' local labels: is_mapping_symbol() (include/linux/module_symbol.h).
    fn is_mapping(&self) -> bool {
        let marker = |b: u8| matches!(b, b'a' | b'd' | b't' | b'x');
        match self.name {
            [b'$', kind] | [b'$', kind, b'.', ..] => marker(*kind),
            name => name.starts_with(b".L") || name.starts_with(b"L0"),
        }
    }
}

impl SymbolSource for ModuleSymbols {
    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let index = self.by_name.get_or_init(|| {
            NameIndex::build(self.len_table(), |index| self.named(index).map(|entry| NameHash::of(entry.name)))
        });
        let mut found: Vec<_> = index
            .candidates(name.as_bytes())
            .filter_map(|index| self.named(index).filter(|entry| entry.name == name.as_bytes()))
            .collect();
        // what is only used here is not an answer to where it is, unless there is no other
        found.sort_by_key(|entry| (Reverse(entry.defined), entry.value));
        found.iter().map(|entry| self.symbol(entry)).collect()
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let range = self.range_of(addr)?;
        let places = self.places();
        let (value, _) = *places.get(places.partition_point(|&(value, _)| value <= addr).checked_sub(1)?)?;
        if !range.contains(&value) {
            return None;
        }
        let (_, index) = *places.get(places.partition_point(|&(other, _)| other < value))?;
        Some(self.symbol(&self.named(index as usize)?))
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        for entry in (0..self.len_table()).filter_map(|index| self.named(index)) {
            if !visit(self.symbol(&entry)) {
                return;
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::holes::Holes;

    const BASE: u64 = 0xffff_ffff_c000_0000;

    /// (name, letter, section, value, size)
    fn module(symbols: &[(&str, u8, u16, u64, u64)]) -> ModuleTables {
        let (mut symtab, mut strtab, mut typetab) = (vec![0; SYM_SIZE], vec![0u8], vec![b'U']);
        for &(name, letter, section, value, size) in symbols {
            symtab.extend((strtab.len() as u32).to_le_bytes());
            symtab.extend([0, 0]);
            symtab.extend(section.to_le_bytes());
            symtab.extend(value.to_le_bytes().iter().chain(&size.to_le_bytes()));
            strtab.extend(name.bytes().chain([0]));
            typetab.push(letter);
        }
        let patchy = |bytes: Vec<u8>| Patchy::from(bytes::Bytes::from(bytes));
        ModuleTables {
            module: "loop".into(),
            symtab: patchy(symtab),
            strtab: patchy(strtab),
            typetab: patchy(typetab),
            ranges: vec![BASE..BASE + 0x1000, BASE + 0x2000..BASE + 0x3000],
            per_cpu: 0x500..0x600,
        }
    }

    fn sample() -> ModuleTables {
        module(&[
            ("second", b't', 1, BASE + 0x100, 0x40),
            ("alias", b'T', 1, BASE + 0x100, 0x40),
            ("first", b't', 1, BASE + 0x10, 0),
            (".L12", b't', 1, BASE + 0x20, 0),
            ("printk", b'U', 0, 0, 0),
            ("data", b'd', 2, BASE + 0x2100, 8),
            ("counter", b'd', 3, 0x540, 8),
            ("second", b'd', 2, BASE + 0x2200, 4),
            ("__crc_x", b'A', 0xfff1, 0x1234, 0),
        ])
    }

    #[test]
    fn looks_up_as_the_kernel_does() {
        let symbols = ModuleSymbols::new(sample());
        assert_eq!((symbols.len(), symbols.lost()), (9, 0));
        let at = |offset: u64| symbols.by_addr(BASE + offset).map(|s| s.name);
        assert_eq!(at(0x100).unwrap(), "second", "of two names the first in the table");
        assert_eq!(at(0xfff).unwrap(), "second", "up to the end of the module's memory, as %pS");
        assert_eq!(at(0x30).unwrap(), "first", "not a label");
        assert_eq!([at(0), at(0x1800), at(0x2000), at(0x3000)], [const { None }; 4]);
        assert_eq!(at(0x2104).unwrap(), "data");
        let addrs = |name| symbols.by_name(name).iter().map(|s| s.addr).collect::<Vec<_>>();
        assert_eq!(addrs("second"), [BASE + 0x100, BASE + 0x2200]);
        assert!(addrs("nope").is_empty() && addrs("").is_empty());
        let one = |name| symbols.by_name(name).remove(0);
        assert_eq!((one("first").size, one("first").kind), (0xf0, SymbolKind::Text));
        assert_eq!((one("counter").kind, one("data").kind), (SymbolKind::PerCpu, SymbolKind::Data));
        assert_eq!(one("alias").module.as_deref(), Some("loop"));
        assert_eq!(symbols.by_prefix("s", 9).len(), 2);
    }

    #[test]
    fn holes_and_damage() {
        let mut tables = sample();
        tables.symtab.holes = Holes::new(std::iter::once(SYM_SIZE..2 * SYM_SIZE).collect());
        let symbols = ModuleSymbols::new(tables);
        assert_eq!((symbols.len(), symbols.lost()), (8, 1));
        assert_eq!(symbols.by_addr(BASE + 0x100).unwrap().name, "alias");
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for _ in 0..2000 {
            let mut tables = sample();
            let mut bytes = tables.symtab.bytes.to_vec();
            for _ in 0..8 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            tables.symtab.bytes = bytes.into();
            let symbols = ModuleSymbols::new(tables);
            symbols.each(&mut |s| {
                symbols.by_addr(s.addr);
                symbols.by_name(&s.name);
                true
            });
        }
    }
}
