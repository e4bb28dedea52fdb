//! Programs and libraries of processes: 64-bit ELF files, read piece by piece, as much of them as is in memory.
//!
//! What a process has mapped are the segments; its sections, among them the symbols that were not stripped, are in the
//! file only, which the page cache may still hold.

/// Reads so many bytes at an offset of the file; `None` if any is not there.
pub type Read<'a> = &'a dyn Fn(u64, u64) -> Option<Vec<u8>>;

/// A range of addresses as the file has them, before it is moved to where it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// first address
    pub at: u64,
    /// bytes
    pub len: u64,
    /// where in the file
    pub offset: u64,
}

/// A function of the symbol table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// its address, before it is moved
    pub at: u64,
    /// bytes; 0 if not known
    pub len: u64,
    /// its name
    pub name: String,
}

/// What is known of a program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// what is loaded: PT_LOAD
    pub loads: Vec<Range>,
    /// PT_GNU_EH_FRAME
    pub eh_frame_hdr: Option<Range>,
    /// the section `.eh_frame`, if the section headers are there
    pub eh_frame: Option<Range>,
    /// functions by address, if the symbols are there
    pub functions: Vec<Function>,
}

/// More program and section headers than any program has.
const MAX_HEADERS: u64 = 4096;
/// A larger table of symbols, or of their names, is left alone.
const MAX_TABLE: u64 = 256 << 20;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const STT_FUNC: u8 = 2;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn text_at(bytes: &[u8], at: u32) -> Option<String> {
    let rest = bytes.get(at as usize..)?;
    let end = rest.iter().position(|b| *b == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// A section header.
struct Section {
    name: u32,
    kind: u32,
    range: Range,
    link: u32,
}

impl Program {
    /// Reads the headers, and what they lead to as far as it is there. `None` if it is no such file, or its beginning is
    /// missing.
    pub fn read(read: Read<'_>) -> Option<Program> {
        let header = read(0, 64)?;
        // little-endian, 64 bits
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let mut program = Program::default();
        program.segments(read, &header)?;
        // what is not there does not take the rest along
        let _ = program.sections(read, &header);
        Some(program)
    }

    fn segments(&mut self, read: Read<'_>, header: &[u8]) -> Option<()> {
        let (at, count) = (u64_at(header, 32)?, u64::from(u16_at(header, 56)?).min(MAX_HEADERS));
        let table = read(at, 56 * count)?;
        for entry in table.chunks_exact(56) {
            let range = Range { offset: u64_at(entry, 8)?, at: u64_at(entry, 16)?, len: u64_at(entry, 40)? };
            match u32_at(entry, 0)? {
                PT_LOAD => self.loads.push(range),
                PT_GNU_EH_FRAME => self.eh_frame_hdr = Some(range),
                _ => {}
            }
        }
        Some(())
    }

    fn sections(&mut self, read: Read<'_>, header: &[u8]) -> Option<()> {
        let (at, count) = (u64_at(header, 40)?, u64::from(u16_at(header, 60)?).min(MAX_HEADERS));
        let names = u16_at(header, 62)?;
        let table = read(at, 64 * count)?;
        let section = |entry: &[u8]| {
            let range = Range { at: u64_at(entry, 16)?, offset: u64_at(entry, 24)?, len: u64_at(entry, 32)? };
            Some(Section { name: u32_at(entry, 0)?, kind: u32_at(entry, 4)?, range, link: u32_at(entry, 40)? })
        };
        let sections: Vec<Section> = table.chunks_exact(64).filter_map(section).collect();
        let content = |range: Range| read(range.offset, range.len).filter(|_| range.len <= MAX_TABLE);
        if let Some(names) = sections.get(usize::from(names)).and_then(|section| content(section.range)) {
            let named =
                |wanted: &str| sections.iter().find(|s| text_at(&names, s.name).is_some_and(|name| name == wanted));
            self.eh_frame = named(".eh_frame").map(|section| section.range);
        }
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            let Some(symbols) = sections.iter().find(|section| section.kind == kind) else { continue };
            let strings = sections.get(symbols.link as usize).and_then(|section| content(section.range));
            if let (Some(strings), Some(table)) = (strings, content(symbols.range)) {
                self.add_functions(&table, &strings);
            }
        }
        self.sort();
        Some(())
    }

    /// Puts functions into order after some were added, each place once.
    pub fn sort(&mut self) {
        // of several names the plainest: `malloc` is also `__libc_malloc`
        let rank = |f: &Function| (f.at, f.len == 0, f.name.starts_with('_'), f.name.len());
        self.functions.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name.cmp(&b.name)));
        self.functions.dedup_by_key(|function| function.at);
    }

    fn add_functions(&mut self, table: &[u8], strings: &[u8]) {
        let function = |entry: &[u8]| {
            let (kind, section) = (*entry.get(4)? & 0xf, u16_at(entry, 6)?);
            if kind != STT_FUNC || section == 0 {
                return None;
            }
            Some(Function {
                at: u64_at(entry, 8)?,
                len: u64_at(entry, 16)?,
                name: text_at(strings, u32_at(entry, 0)?)?,
            })
        };
        self.functions.extend(table.chunks_exact(24).filter_map(function));
    }

    /// How far the program was moved, given where its first byte is.
    pub fn bias(&self, base: u64, page_size: u64) -> Option<u64> {
        let first = self.loads.iter().find(|load| load.offset < page_size)?;
        Some(base.wrapping_sub(first.at.wrapping_sub(first.offset)))
    }

    /// The function that an address, before it is moved, is in.
    pub fn function(&self, at: u64) -> Option<&Function> {
        let next = self.functions.partition_point(|function| function.at <= at);
        let found = self.functions.get(next.checked_sub(1)?)?;
        (found.len == 0 || at - found.at < found.len).then_some(found)
    }

    /// The segment that an address, before it is moved, is in.
    pub fn load(&self, at: u64) -> Option<&Range> {
        self.loads.iter().find(|load| at.checked_sub(load.at).is_some_and(|offset| offset < load.len))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file that is mapped where this test runs, as the whole of it is read.
    fn mapped(is: impl Fn(&str) -> bool) -> Program {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        let bytes = std::fs::read(paths.find(|path| is(path)).unwrap()).unwrap();
        Program::read(&|at, len| Some(bytes.get(at as usize..at.checked_add(len)? as usize)?.to_vec())).unwrap()
    }

    #[test]
    fn reads_its_own_file() {
        let own = std::env::current_exe().unwrap();
        let program = mapped(|path| std::path::Path::new(path) == own);
        assert!(program.loads.len() >= 2);
        assert!(program.eh_frame_hdr.is_some() && program.eh_frame.is_some());
        // the table of all symbols may have been stripped from it: then it has no functions
        if let Some(main) = program.functions.iter().find(|f| f.name == "main") {
            assert_eq!(program.function(main.at).unwrap(), main);
            assert!(program.load(main.at).is_some());
        }
    }

    #[test]
    fn a_stripped_library_still_says_what_it_exports() {
        let program = mapped(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("libc.")));
        let qsort = program.functions.iter().find(|f| f.name == "qsort").unwrap();
        assert!(program.function(qsort.at + qsort.len / 2).unwrap().at == qsort.at);
        assert!(program.load(qsort.at).is_some());
    }

    #[test]
    fn pieces_that_are_missing_are_left_out() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let head =
            |at: u64, len: u64| Some(bytes.get(..4096)?.get(at as usize..at.checked_add(len)? as usize)?.to_vec());
        let program = Program::read(&head).unwrap();
        assert!(!program.loads.is_empty() && program.functions.is_empty());
        assert!(Program::read(&|_, len| Some(vec![0; len as usize])).is_none());
    }
}
