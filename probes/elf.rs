//! Programs and libraries on disk: where their functions begin, and their USDT probes.
//!
//! A uprobe sits at an offset of a file, not at an address. This finds the offset for a symbol, and for each USDT probe
//! (`.note.stapsdt`) its place, its semaphore and how its arguments are passed.

use crate::{Error, Result};
use memmap2::Mmap;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file that holds code.
pub struct Binary {
    path: PathBuf,
    map: Mmap,
}

/// A place to probe in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// function, or `provider:name`
    pub name: String,
    /// in the file, in bytes
    pub offset: u64,
    /// its semaphore's place in the file: a number the kernel raises while somebody probes
    pub semaphore: Option<u64>,
    /// a probe that the program's authors put there
    pub usdt: bool,
    /// its arguments
    pub args: Vec<UsdtArg>,
    /// whether the instruction there must be stepped over one at a time, which makes a hit some ten times as dear
    pub slow: bool,
    /// a copy of a function that stands in another one's code
    pub inlined: bool,
}

/// An argument of a USDT probe, as the assembler wrote it: `-4@%edi`, `8@-24(%rbp)`, `4@$12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtArg {
    /// bytes
    pub size: u8,
    /// whether it has a sign
    pub signed: bool,
    /// where it is
    pub place: UsdtPlace,
}

/// Where an argument of a USDT probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsdtPlace {
    /// the number itself
    Constant(i64),
    /// a register, by the name the assembler has for all of it: `rdi`, `x3`
    Register(String),
    /// memory: a register, the distance, and another register times a scale
    Memory {
        /// the base
        base: String,
        /// bytes behind it
        offset: i64,
        /// index register and what it is multiplied by
        index: Option<(String, u8)>,
    },
}

impl Site {
    /// The arguments of a USDT probe as a prototype has them, and whether it is guarded.
    pub fn arguments(&self) -> String {
        let spell = |(i, arg): (usize, &UsdtArg)| {
            let unsigned = if arg.signed { "" } else { "u" };
            format!("{unsigned}int{}_t arg{i}", u32::from(arg.size) * 8)
        };
        let args: Vec<String> = self.args.iter().enumerate().map(spell).collect();
        args.join(", ") + if self.semaphore.is_some() { "; behind a semaphore" } else { "" }
    }
}

impl Binary {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Binary> {
        let refused = || Error::refused(path.display().to_string());
        let file = File::open(path).map_err(refused())?;
        // SAFETY: a file that somebody shortens meanwhile ends us by SIGBUS; programs that run are not shortened.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(refused())?;
        let binary = Binary { path: path.to_owned(), map };
        binary.parsed()?;
        Ok(binary)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn parsed(&self) -> Result<object::File<'_>> {
        object::File::parse(&*self.map)
            .map_err(|e| Error::Wrong(format!("{} is no program or library: {e}", self.path.display())))
    }

    /// The functions that a name matches, each place once. `wanted` is asked for every symbol.
    pub fn functions(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Site>> {
        let file = self.parsed()?;
        let symbols = file.symbols().chain(file.dynamic_symbols());
        let mut sites: Vec<Site> = symbols
            .filter_map(|s| {
                let chosen = is_chosen_at_start(&s);
                // symbols of libraries carry a version: malloc@@GLIBC_2.2.5
                let name = s.name().ok()?.split('@').next()?;
                if !(chosen || s.is_definition() && s.kind() == SymbolKind::Text) || !wanted(name) {
                    return None;
                }
                let offset = if chosen { self.chosen(name)? } else { offset_of(&file, s.address())? };
                Some(self.function(name, offset))
            })
            .collect();
        sites.sort_by(|a, b| (a.offset, a.name.len(), &a.name).cmp(&(b.offset, b.name.len(), &b.name)));
        sites.dedup_by_key(|site| site.offset);
        Ok(sites)
    }

    /// Whether which code has that name is chosen by the processor when a program starts (`STT_GNU_IFUNC`), and what was
    /// chosen is not known here: only of a library that this process has mapped as well is it.
    pub fn is_unknown_choice(&self, name: &str) -> Result<bool> {
        let file = self.parsed()?;
        let mut symbols = file.symbols().chain(file.dynamic_symbols());
        let named = |s: &object::Symbol<'_, '_>| s.name().is_ok_and(|n| n.split('@').next() == Some(name));
        Ok(symbols.any(|s| is_chosen_at_start(&s) && named(&s)) && self.chosen(name).is_none())
    }

    /// Where in the file the code is that was chosen for a name, if this process has mapped the same file.
    fn chosen(&self, name: &str) -> Option<u64> {
        let text = std::ffi::CString::new(name).ok()?;
        // SAFETY: the name ends with a NUL and outlives the call, which looks for it in what is loaded.
        #[allow(unsafe_code)]
        let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, text.as_ptr()) }.addr() as u64;
        let here = mapped(std::process::id() as i32).ok()?.into_iter().find(|m| m.range.contains(&at))?;
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let is_ours = same(std::fs::metadata(&here.file).ok()?, std::fs::metadata(&self.path).ok()?);
        is_ours.then(|| at - here.range.start + here.offset)
    }

    /// Every function, by where it begins in the file; of several names the shortest.
    pub fn all_functions(&self) -> Result<Vec<(u64, String)>> {
        let file = self.parsed()?;
        let symbols = file.symbols().chain(file.dynamic_symbols());
        let mut all: Vec<(u64, String)> = symbols
            .filter(|s| s.is_definition() && s.kind() == SymbolKind::Text)
            .filter_map(|s| Some((offset_of(&file, s.address())?, s.name().ok()?.split('@').next()?.to_owned())))
            .collect();
        all.sort_by(|a, b| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
        all.dedup_by_key(|function| function.0);
        Ok(all)
    }

    /// Whether a function is Go's, whose runtime moves stacks: names of packages are in front of its functions' names,
    /// which those of C do not have.
    pub fn is_go(&self, function: &str) -> Result<bool> {
        Ok(function.contains('.') && self.parsed()?.section_by_name(".gopclntab").is_some())
    }

    /// Whether the file has symbols of its own, and not only those that others link to.
    pub fn is_stripped(&self) -> Result<bool> {
        Ok(self.parsed()?.symbols().next().is_none())
    }

    /// A place by the address that the file itself has for it.
    pub fn address(&self, address: u64) -> Result<Site> {
        let offset = code_at(&self.parsed()?, address)
            .ok_or_else(|| Error::Wrong(format!("{} has no code at address {address:x}", self.path.display())))?;
        Ok(self.at(format!("{address:#x}"), offset))
    }

    /// The function in whose code an address is, and how far behind its first byte; `None` if no symbol says where it begins.
    pub fn around(&self, address: u64) -> Result<Option<(Site, u64)>> {
        let file = self.parsed()?;
        let symbols = file.symbols().chain(file.dynamic_symbols());
        let functions = symbols.filter(|s| s.is_definition() && s.kind() == SymbolKind::Text && s.address() <= address);
        let Some(nearest) = functions.max_by_key(|s| s.address()) else { return Ok(None) };
        // behind its end is another one's code, of which nothing is known
        if nearest.size() > 0 && address - nearest.address() >= nearest.size() {
            return Ok(None);
        }
        let name = nearest.name().unwrap_or_default();
        let Some(offset) = offset_of(&file, nearest.address()) else { return Ok(None) };
        Ok(Some((self.at(name.to_owned(), offset), address - nearest.address())))
    }

    /// The code from a function's first byte on.
    pub fn code_of(&self, function: &Site) -> &[u8] {
        self.code(self.begin(function))
    }

    /// The place so many bytes behind a function's first byte.
    pub fn inside(&self, function: &Site, distance: u64) -> Site {
        let name = format!("{}+{distance:#x}", function.name);
        Site { inlined: function.inlined, ..self.at(name, self.begin(function).saturating_add(distance)) }
    }

    /// Where a function begins, whose probe is behind its `endbr64`.
    fn begin(&self, function: &Site) -> u64 {
        let before = function.offset.saturating_sub(ENDBR64.len() as u64);
        if self.code(before).starts_with(ENDBR64) { before } else { function.offset }
    }

    /// A copy of a function that stands in another one's code, by the address that the file has for it.
    pub fn inlined(&self, name: String, address: u64) -> Result<Site> {
        Ok(Site { name, inlined: true, ..self.address(address)? })
    }

    /// A function's first instruction that is worth a probe: behind `endbr64`, for stepping over that one is dear, and
    /// arguments and stack are still as the caller left them.
    fn function(&self, name: &str, offset: u64) -> Site {
        let skip = if self.code(offset).starts_with(ENDBR64) { ENDBR64.len() as u64 } else { 0 };
        self.at(name.to_owned(), offset + skip)
    }

    fn at(&self, name: String, offset: u64) -> Site {
        Site {
            name,
            offset,
            semaphore: None,
            usdt: false,
            args: Vec::new(),
            slow: is_stepped(self.code(offset)),
            inlined: false,
        }
    }

    fn code(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).ok().and_then(|offset| self.map.get(offset..)).unwrap_or_default()
    }

    /// The USDT probes whose `provider:name` matches.
    pub fn usdt(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Site>> {
        let file = self.parsed()?;
        let Some(notes) = file.section_by_name(".note.stapsdt") else { return Ok(Vec::new()) };
        let data = notes.data().map_err(|e| Error::Wrong(format!("{}: {e}", self.path.display())))?;
        // where the linker thought this section would be: prelinking moves everything by the difference
        let base = file.section_by_name(".stapsdt.base").map(|s| s.address());
        let mut found = Vec::new();
        let mut rest = data;
        while let Some((note, behind)) = Note::parse(rest) {
            rest = behind;
            let moved = |address: u64| match base {
                Some(base) if note.base != 0 => address.wrapping_add(base.wrapping_sub(note.base)),
                _ => address,
            };
            let name = format!("{}:{}", note.provider, note.name);
            if !wanted(&name) {
                continue;
            }
            let Some(offset) = offset_of(&file, moved(note.pc)) else { continue };
            let semaphore = (note.semaphore != 0).then(|| offset_of(&file, moved(note.semaphore))).flatten();
            let args = note.args.split_ascii_whitespace().filter_map(UsdtArg::parse).collect();
            found.push(Site { semaphore, args, usdt: true, ..self.at(name, offset) });
        }
        Ok(found)
    }
}

/// Whether a symbol is that of a function which chooses the code that has its name.
fn is_chosen_at_start(symbol: &object::Symbol<'_, '_>) -> bool {
    matches!(symbol.flags(), object::SymbolFlags::Elf { st_info, .. } if st_info.st_type() == object::elf::STT_GNU_IFUNC)
}

/// The instruction that an indirect call must find, where the processor looks for it.
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// Where in the file an address is, if there is code.
fn code_at(file: &object::File<'_>, address: u64) -> Option<u64> {
    let is_there = |segment: &object::Segment<'_, '_>| {
        let runs = match segment.flags() {
            object::SegmentFlags::Elf { p_flags, .. } => p_flags.contains(object::elf::PF_X),
            _ => false,
        };
        runs && address.wrapping_sub(segment.address()) < segment.size()
    };
    file.segments().any(|segment| is_there(&segment)).then(|| offset_of(file, address)).flatten()
}

/// Where in the file an address is.
fn offset_of(file: &object::File<'_>, address: u64) -> Option<u64> {
    file.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let inside = address.checked_sub(segment.address()).filter(|inside| *inside < size)?;
        offset.checked_add(inside)
    })
}

/// Whether the kernel has to step over the instruction (arch/x86/kernel/uprobes.c emulates `push`, `nop`, calls and
/// jumps). Nothing is said of other architectures.
fn is_stepped(code: &[u8]) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    !matches!(code, [0x50..=0x57 | 0x90 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..] | [0x41, 0x50..=0x57, ..]
        | [0x0f, 0x80..=0x8f | 0x1f, ..] | [0x66, 0x90, ..] | [0x66, 0x0f, 0x1f, ..])
}

/// A note of `.note.stapsdt`.
struct Note<'a> {
    pc: u64,
    base: u64,
    semaphore: u64,
    provider: &'a str,
    name: &'a str,
    args: &'a str,
}

impl<'a> Note<'a> {
    /// The first note in `data`, and what is behind it.
    fn parse(data: &'a [u8]) -> Option<(Note<'a>, &'a [u8])> {
        let word = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?) as usize);
        let (name_len, desc_len) = (word(0)?, word(4)?);
        let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let desc = data.get(desc_at..)?.get(..desc_len)?;
        let behind = data.get(desc_at.checked_add(desc_len.checked_next_multiple_of(4)?)?..).unwrap_or_default();
        let long = |at: usize| Some(u64::from_le_bytes(*desc.get(at..)?.first_chunk()?));
        let mut texts = desc.get(24..)?.split(|b| *b == 0).map(|t| std::str::from_utf8(t).unwrap_or_default());
        let note = Note {
            pc: long(0)?,
            base: long(8)?,
            semaphore: long(16)?,
            provider: texts.next()?,
            name: texts.next()?,
            args: texts.next().unwrap_or_default(),
        };
        Some((note, behind))
    }
}

impl UsdtArg {
    /// From the text of the note: `SIZE@OPERAND`, in the assembler's syntax of x86-64 or arm64.
    fn parse(text: &str) -> Option<UsdtArg> {
        let (size, operand) = text.split_once('@')?;
        let size: i8 = size.parse().ok()?;
        Some(UsdtArg { size: size.unsigned_abs(), signed: size < 0, place: UsdtPlace::parse(operand)? })
    }
}

impl UsdtPlace {
    fn parse(operand: &str) -> Option<UsdtPlace> {
        if let Some(number) = operand.strip_prefix('$') {
            return Some(UsdtPlace::Constant(number.parse().ok()?));
        }
        // arm64: [x29, 24], x3, 42
        if let Some(inside) = operand.strip_prefix('[').and_then(|o| o.strip_suffix(']')) {
            let (base, offset) = inside.split_once(',').unwrap_or((inside, "0"));
            let offset = offset.trim().trim_start_matches('#').parse().ok()?;
            return Some(UsdtPlace::Memory { base: whole_register(base.trim()), offset, index: None });
        }
        if let Some((offset, inside)) = operand.strip_suffix(')').and_then(|o| o.split_once('(')) {
            let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
            let mut parts = inside.split(',').map(|p| p.trim().trim_start_matches('%'));
            let base = whole_register(parts.next()?);
            let index = match (parts.next(), parts.next()) {
                (Some(index), scale) => Some((whole_register(index), scale.unwrap_or("1").parse().ok()?)),
                _ => None,
            };
            return Some(UsdtPlace::Memory { base, offset, index });
        }
        match operand.parse() {
            Ok(number) => Some(UsdtPlace::Constant(number)),
            Err(_) => Some(UsdtPlace::Register(whole_register(operand.trim_start_matches('%')))),
        }
    }
}

/// `edi`, `di`, `dil` are parts of `rdi`; `w3` is one of `x3`.
fn whole_register(name: &str) -> String {
    if let Some(number) = name.strip_prefix(['r', 'w', 'x'])
        && let Ok(number) = number.trim_end_matches(['d', 'w', 'b']).parse::<u8>()
    {
        let letter = if name.starts_with('r') { 'r' } else { 'x' };
        return format!("{letter}{number}");
    }
    let middle = name.trim_start_matches(['r', 'e']);
    match middle {
        "al" | "ah" | "ax" => "rax".into(),
        "bl" | "bh" | "bx" => "rbx".into(),
        "cl" | "ch" | "cx" => "rcx".into(),
        "dl" | "dh" | "dx" => "rdx".into(),
        "sil" | "si" => "rsi".into(),
        "dil" | "di" => "rdi".into(),
        "bpl" | "bp" => "rbp".into(),
        "spl" | "sp" if name != "sp" => "rsp".into(),
        _ => name.to_owned(),
    }
}

/// A mapping of a process that may hold code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// first address and the one behind the last
    pub range: std::ops::Range<u64>,
    /// in the file, in bytes
    pub offset: u64,
    /// the file as the process calls it; `[vdso]`; nothing where it made the code itself
    pub file: PathBuf,
}

impl Mapped {
    /// Whether there is a file to it.
    pub fn has_file(&self) -> bool {
        self.file.is_absolute()
    }
}

/// What a process has mapped for execution.
pub fn mapped(pid: i32) -> Result<Vec<Mapped>> {
    let path = format!("/proc/{pid}/maps");
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Wrong(format!("there is no process {pid}")),
        _ => Error::refused(path)(e),
    })?;
    Ok(text.lines().filter_map(Mapped::parse).collect())
}

impl Mapped {
    fn parse(line: &str) -> Option<Mapped> {
        let mut words = line.splitn(6, ' ');
        let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
        let file = words.nth(2).unwrap_or_default().trim_start();
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let file = if file.starts_with("//anon") { "" } else { file };
        rights.contains('x').then_some(Mapped {
            range: hex(start)?..hex(end)?,
            offset: hex(offset)?,
            file: file.into(),
        })
    }
}

/// Finds the file that a user means: a path; a program of `$PATH`; a library by its short name (`libc` or `c`); for a
/// process, what it has mapped, seen through its own root.
pub fn find(name: &str, pid: Option<i32>) -> Result<PathBuf> {
    let is_it = |path: &Path| is_called(path, name);
    if let Some(pid) = pid {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        if name.starts_with('/') {
            return Ok(inside(Path::new(name)));
        }
        let mapped = mapped(pid)?;
        if let Some(found) = mapped.iter().find(|m| is_it(&m.file)) {
            // seen from a root that lies in ours, the file is told by the path that we have for it
            let (seen, ours) = (inside(&found.file), found.file.clone());
            return Ok(if seen.is_file() || !ours.is_file() { seen } else { ours });
        }
    }
    if name.contains('/') {
        return Ok(name.into());
    }
    let programs = std::env::var_os("PATH").unwrap_or_default();
    if let Some(program) = std::env::split_paths(&programs).map(|dir| dir.join(name)).find(|path| path.is_file()) {
        return Ok(program);
    }
    library(is_it).ok_or_else(|| Error::Wrong(format!("there is no program or library `{name}`")))
}

/// Whether a file is what a short name says: `libc.so.6` is `libc`, `c` and `libc.so`.
fn is_called(path: &Path, name: &str) -> bool {
    let Some(file) = path.file_name().and_then(|f| f.to_str()) else { return false };
    let starts = |file: &str, name: &str| {
        file.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(".so") || rest.starts_with("-2."))
    };
    starts(file, name) || file.strip_prefix("lib").is_some_and(|file| starts(file, name))
}

/// The first library that is meant, where the dynamic linker looks.
fn library(is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    let dirs = [
        format!("/lib/{arch}-linux-gnu"),
        format!("/usr/lib/{arch}-linux-gnu"),
        "/lib64".into(),
        "/usr/lib64".into(),
        "/lib".into(),
        "/usr/lib".into(),
        "/usr/local/lib".into(),
    ];
    dirs.iter().find_map(|dir| {
        let mut files: Vec<_> = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.into_iter().find(|path| is_it(path) && path.is_file() && is_elf(path))
    })
}

/// `libc.so` is a text for the linker.
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn usdt_arguments_are_read() {
        let place = |text| UsdtArg::parse(text).unwrap().place;
        assert_eq!(place("-4@%edi"), UsdtPlace::Register("rdi".into()));
        assert_eq!(place("8@%r12"), UsdtPlace::Register("r12".into()));
        assert_eq!(place("4@%r9d"), UsdtPlace::Register("r9".into()));
        assert_eq!(place("4@$-5"), UsdtPlace::Constant(-5));
        assert_eq!(place("8@-24(%rbp)"), UsdtPlace::Memory { base: "rbp".into(), offset: -24, index: None });
        let indexed = UsdtPlace::Memory { base: "rax".into(), offset: 8, index: Some(("rdx".into(), 4)) };
        assert_eq!(place("1@8(%rax,%rdx,4)"), indexed);
        assert_eq!(place("8@[sp, 24]"), UsdtPlace::Memory { base: "sp".into(), offset: 24, index: None });
        assert_eq!(place("-4@w3"), UsdtPlace::Register("x3".into()));
        assert_eq!(UsdtArg::parse("-4@%edi").map(|a| (a.size, a.signed)), Some((4, true)));
        assert_eq!(UsdtArg::parse("x@%edi"), None);
    }

    #[test]
    fn the_c_library_has_malloc() {
        let libc = Binary::open(&find("libc", None).unwrap()).unwrap();
        let found = libc.functions(|name| name == "malloc").unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let mine = Binary::open(Path::new("/proc/self/exe")).unwrap();
        let stripped = mine.is_stripped().unwrap();
        assert!(stripped || !mine.functions(|name| name.contains("the_c_library_has_malloc")).unwrap().is_empty());
    }

    #[test]
    fn notes_that_lie_are_left() {
        for data in [&[0xff; 64][..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0], &[]] {
            assert!(Note::parse(data).is_none());
        }
    }

    #[test]
    fn short_names_of_libraries() {
        for name in ["libc", "c", "libc.so.6"] {
            assert!(is_called(Path::new("/lib/x86_64-linux-gnu/libc.so.6"), name), "{name}");
        }
        assert!(!is_called(Path::new("/lib/libcap.so.2"), "libc"));
    }
}
