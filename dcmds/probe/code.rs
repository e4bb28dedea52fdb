//! The code of a program or library: names of its functions, what was inlined where, and how its frames are unwound.
//!
//! Addresses are those that the file has for itself. Names come from its symbol tables, those of its debug file, and, for
//! what was inlined and for lines, from DWARF; a place that lies in no function has none.

use engine::debuginfo::{
    cfi::{self, Tables},
    demangle::demangle,
    dwarf::Dwarf,
    elf::DebugFile,
    find,
    program::{Function, Program},
};
use probes::elf::Binary;
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// Larger debug information is not read for the sake of inlined functions.
const MOST_DWARF: u64 = 512 << 20;

/// Where the bytes of a file are.
enum Bytes {
    File(Binary),
    Memory(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::File(binary) => binary.bytes(),
            Bytes::Memory(bytes) => bytes,
        }
    }
}

/// A program or library.
pub struct Code {
    path: PathBuf,
    bytes: Bytes,
    program: Program,
    /// `.eh_frame_hdr` and `.eh_frame`: where in the file, and at which address
    header: Option<(Range<usize>, u64)>,
    frames: Option<(Range<usize>, u64)>,
    dwarf: OnceLock<Option<Arc<Dwarf>>>,
}

/// A function at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// its name, demangled
    pub function: String,
    /// how far in it the place is; nothing for one that was inlined
    pub offset: Option<u64>,
    /// file and line
    pub line: Option<String>,
}

impl Code {
    /// That of a file.
    pub fn open(path: &Path) -> Option<Code> {
        let binary = Binary::open(path).ok()?;
        Code::of(path, Bytes::File(binary))
    }

    /// The code that the kernel maps into every process, as it is mapped in this one.
    pub fn vdso() -> Option<Code> {
        let maps = probes::elf::mapped(std::process::id() as i32).ok()?;
        let at = maps.into_iter().find(|m| m.file == Path::new("[vdso]"))?.range;
        let memory = std::fs::File::open("/proc/self/mem").ok()?;
        let mut bytes = vec![0; usize::try_from(at.end - at.start).ok()?];
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, at.start).ok()?;
        Code::of(Path::new("[vdso]"), Bytes::Memory(bytes))
    }

    fn of(path: &Path, bytes: Bytes) -> Option<Code> {
        let mut program = read(bytes.all())?;
        let place = |program: &Program, at: u64, most: u64| {
            let load = program.load(at)?;
            let inside = at - load.at;
            let start = usize::try_from(load.offset.checked_add(inside)?).ok()?;
            let len = usize::try_from((load.len - inside).min(most)).ok()?;
            Some((start..start.checked_add(len)?.min(bytes.all().len()), at))
        };
        let header = program.eh_frame_hdr.and_then(|range| place(&program, range.at, range.len));
        let table = header.as_ref().and_then(|(range, at)| cfi::frames_at(bytes.all().get(range.clone())?, *at));
        let table = table.or(program.eh_frame.map(|range| range.at));
        let frames = table.and_then(|at| place(&program, at, u64::MAX));
        if let Some(debug) = debug_file(path).filter(|debug| debug != path)
            && let Some(more) = Binary::open(&debug).ok().and_then(|binary| read(binary.bytes()))
        {
            program.functions.extend(more.functions);
            program.sort();
        }
        Some(Code { path: path.to_owned(), bytes, program, header, frames, dwarf: OnceLock::new() })
    }

    /// The address of a place in the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.program.loads.iter().find_map(|load| {
            let inside = offset.checked_sub(load.offset).filter(|inside| *inside < load.len)?;
            load.at.checked_add(inside)
        })
    }

    /// How frames are unwound.
    pub fn tables(&self) -> Option<Tables<'_>> {
        let slice = |range: &Range<usize>| self.bytes.all().get(range.clone());
        let (range, frames_at) = self.frames.as_ref()?;
        let header = self.header.as_ref().and_then(|(range, at)| Some((slice(range)?, *at)));
        Some(Tables { header, frames: slice(range)?, frames_at: *frames_at, arm: cfg!(target_arch = "aarch64") })
    }

    /// The function of the symbol table at an address.
    pub fn function(&self, at: u64) -> Option<&Function> {
        self.program.function(at)
    }

    /// A function by its name, mangled or not.
    pub fn by_name(&self, name: &str) -> Option<&Function> {
        self.program.functions.iter().find(|f| f.name == name || demangle(&f.name) == name)
    }

    /// The bytes of a function.
    pub fn code(&self, function: &Function) -> &[u8] {
        let load = self.program.load(function.at);
        let range = load.and_then(|load| {
            let start = usize::try_from(load.offset.checked_add(function.at - load.at)?).ok()?;
            self.bytes.all().get(start..)?.get(..usize::try_from(function.len).ok()?)
        });
        range.unwrap_or_default()
    }

    /// What stands at an address: the functions that were inlined there, the innermost first, then the function itself.
    pub fn names(&self, at: u64) -> Vec<Named> {
        let frames = self.dwarf().and_then(|dwarf| dwarf.frames(at).ok()).unwrap_or_default();
        let line = |f: &engine::debuginfo::dwarf::Frame| Some(format!("{}:{}", f.file.as_deref()?, f.line?));
        let mut names: Vec<Named> = frames
            .iter()
            .filter(|f| f.inlined)
            .map(|f| Named {
                function: f.function.as_deref().map_or("?".into(), |name| demangle(name).into_owned()),
                offset: None,
                line: line(f),
            })
            .collect();
        let outer = frames.last();
        if let Some(function) = self.function(at) {
            let (function, offset) = (demangle(&function.name).into_owned(), Some(at - function.at));
            names.push(Named { function, offset, line: outer.and_then(line) });
        }
        names
    }

    /// Its DWARF, if there is any.
    pub fn dwarf(&self) -> Option<&Arc<Dwarf>> {
        let find = || {
            let file = find::open(&self.path, &[]).ok()?.best();
            let fits = file.has_dwarf() && std::fs::metadata(file.path()).is_ok_and(|m| m.len() <= MOST_DWARF);
            // types are not asked for here, so that the number of the source means nothing
            fits.then(|| Dwarf::new(Arc::new(file), 0).ok()).flatten().map(Arc::new)
        };
        self.dwarf.get_or_init(find).as_ref()
    }
}

/// The file with what was stripped from this one, by build-id or link.
fn debug_file(path: &Path) -> Option<PathBuf> {
    let split = find::open(path, &[]).ok()?;
    split.debug.as_ref().map(DebugFile::path).map(Path::to_owned)
}

fn read(bytes: &[u8]) -> Option<Program> {
    Program::read(&|at, len| {
        let start = usize::try_from(at).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?).map(<[u8]>::to_vec)
    })
}
