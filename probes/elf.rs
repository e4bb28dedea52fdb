//! Programs and libraries on disk: where their functions begin.
//!
//! A uprobe sits at an offset of a file, not at an address. This finds the offset for a symbol; [`usdt`](crate::usdt) finds
//! those of the probes that a program's authors put there.

use crate::{Error, Result, usdt::UsdtArg};
use memmap2::Mmap;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};
use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file that holds code.
pub struct Binary {
    path: PathBuf,
    map: Mmap,
    /// whether it is of 32 bits
    narrow: bool,
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
    /// in a program of 32 bits
    pub narrow: bool,
    /// whether the instruction there must be stepped over one at a time, which makes a hit some ten times as dear
    pub slow: bool,
    /// a copy of a function that stands in another one's code
    pub inlined: bool,
}

impl Binary {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Binary> {
        let refused = || Error::refused(path.display().to_string());
        let file = File::open(path).map_err(refused())?;
        let about = file.metadata().map_err(refused())?;
        if !about.is_file() || about.len() == 0 {
            let what = if about.is_dir() { "a directory" } else { "empty, or no file" };
            return Err(Error::Wrong(format!("{} is {what}: a program or library is needed", path.display())));
        }
        // SAFETY: a file that somebody shortens meanwhile ends us by SIGBUS; programs that run are not shortened.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(refused())?;
        let mut binary = Binary { path: path.to_owned(), map, narrow: false };
        if let Some(interpreter) = binary.interpreter() {
            let path = path.display();
            return Err(Error::Wrong(format!(
                "{path} is a script: what runs is {interpreter}, and that can be probed"
            )));
        }
        binary.narrow = !binary.parsed()?.is_64();
        Ok(binary)
    }

    /// What runs a script, by its first line.
    fn interpreter(&self) -> Option<&str> {
        /// The kernel reads no more of a line (`BINPRM_BUF_SIZE`).
        const MOST: usize = 256;
        let line = self.map.get(..MOST).unwrap_or(&self.map).strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
        std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()
    }

    /// That this machine runs its code; no probe would ever be hit in another's.
    pub fn must_run_here(&self) -> Result<()> {
        use object::Architecture;
        let found = self.parsed()?.architecture();
        let runs = match found {
            Architecture::X86_64 | Architecture::X86_64_X32 | Architecture::I386 => cfg!(target_arch = "x86_64"),
            Architecture::Aarch64 | Architecture::Arm => cfg!(target_arch = "aarch64"),
            _ => false,
        };
        let here = std::env::consts::ARCH;
        let path = self.path.display();
        runs.then_some(())
            .ok_or_else(|| Error::Wrong(format!("{path} is for another machine ({found:?}); this is {here}")))
    }

    /// Whether a function is called here that is another file's.
    pub fn imports(&self, function: &str) -> Result<bool> {
        let file = self.parsed()?;
        let named = |s: &object::Symbol<'_, '_>| s.name().is_ok_and(|n| n.split('@').next() == Some(function));
        Ok(file.dynamic_symbols().any(|s| s.is_undefined() && named(&s)))
    }

    /// How long a function is in bytes, where its symbol tells.
    pub fn len_of(&self, function: &Site) -> Result<Option<u64>> {
        let (file, begin) = (self.parsed()?, self.begin(function));
        let mut symbols = file.symbols().chain(file.dynamic_symbols());
        let is_it = |s: &object::Symbol<'_, '_>| {
            s.is_definition()
                && s.kind() == SymbolKind::Text
                && s.size() > 0
                && offset_of(&file, s.address()) == Some(begin)
        };
        Ok(symbols.find(is_it).map(|symbol| symbol.size()))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(crate) fn parsed(&self) -> Result<object::File<'_>> {
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

    pub(crate) fn at(&self, name: String, offset: u64) -> Site {
        Site {
            name,
            offset,
            semaphore: None,
            usdt: false,
            args: Vec::new(),
            narrow: self.narrow,
            slow: is_stepped(self.code(offset)),
            inlined: false,
        }
    }

    fn code(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).ok().and_then(|offset| self.map.get(offset..)).unwrap_or_default()
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
pub(crate) fn offset_of(file: &object::File<'_>, address: u64) -> Option<u64> {
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
    /// Where the file can be opened while it is mapped, though it may have no name any more.
    pub fn link(&self, pid: u32) -> PathBuf {
        format!("/proc/{pid}/map_files/{:x}-{:x}", self.range.start, self.range.end).into()
    }

    /// Whether the file is the one that is meant, and has been deleted, so that no path leads to it.
    fn is_deleted(&self, name: &str) -> bool {
        let Some(file) = self.file.to_str().and_then(|file| file.strip_suffix(DELETED)).map(Path::new) else {
            return false;
        };
        match name.contains('/') {
            true => !Path::new(name).exists() && file.file_name() == Path::new(name).file_name(),
            false => is_called(file, name),
        }
    }

    /// Whether there is a file to it.
    pub fn has_file(&self) -> bool {
        self.file.is_absolute()
    }
}

/// What the kernel puts behind the name of a file that has been deleted.
pub const DELETED: &str = " (deleted)";

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
    if name.starts_with('[') {
        return Err(Error::Wrong(format!(
            "`{name}` is made by the kernel: it is in no file, and probes of programs sit in files"
        )));
    }
    if let Some(pid) = pid {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let mapped = mapped(pid)?;
        if let Some(deleted) = mapped.iter().find(|m| m.is_deleted(name)) {
            return Ok(deleted.link(pid.unsigned_abs()));
        }
        if name.starts_with('/') {
            return Ok(inside(Path::new(name)));
        }
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
    fn the_c_library_has_malloc() {
        let libc = Binary::open(&find("libc", None).unwrap()).unwrap();
        let found = libc.functions(|name| name == "malloc").unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let mine = Binary::open(Path::new("/proc/self/exe")).unwrap();
        let stripped = mine.is_stripped().unwrap();
        assert!(stripped || !mine.functions(|name| name.contains("the_c_library_has_malloc")).unwrap().is_empty());
    }

    #[test]
    fn short_names_of_libraries() {
        for name in ["libc", "c", "libc.so.6"] {
            assert!(is_called(Path::new("/lib/x86_64-linux-gnu/libc.so.6"), name), "{name}");
        }
        assert!(!is_called(Path::new("/lib/libcap.so.2"), "libc"));
    }
}
