//! The kernel's own file beside a dump, or in place of one: a vmlinux, whole or split, or the vmlinuz that was booted.
//!
//! A vmlinux with debug information gives types, variables and lines. Any of them also has what the running kernel has
//! of itself, kallsyms and BTF, which stand in where the dump's are damaged or left out.

use crate::open::{self, Sources};
use debuginfo::{
    Kallsyms, Moved, SymbolSource,
    elf::{DebugFile, Memory, Placement, Symtab},
    find::{self, Search, Split},
    joined::Joined,
    kallsyms::Addresses,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use targets::{KernelFile, Target};

/// A file in use.
#[derive(Clone, Debug)]
pub struct Used {
    /// where it is
    pub path: PathBuf,
    /// what it is: `ELF`, `bzImage (zstd)`
    pub kind: String,
    /// what of it is used: `types`, `symbols`; nothing, if the dump has all that it has
    pub gives: Vec<&'static str>,
}

/// The files of one kernel.
pub(crate) struct KernelFiles {
    /// the one with DWARF
    pub dwarf: Option<Arc<DebugFile>>,
    /// all, the one that was named or found first
    all: Vec<Arc<DebugFile>>,
    memory: OnceLock<Option<Memory>>,
    slide: u64,
    used: Vec<Used>,
}

impl KernelFiles {
    /// What the user named or the usual places have, if it is of the dump's build. `stext` is asked for the address of
    /// `_stext` if nothing else says how far the kernel was moved.
    pub fn find(
        target: &Target,
        sources: &Sources,
        stext: impl Fn() -> Option<u64>,
        warnings: &mut Vec<String>,
    ) -> KernelFiles {
        let info = target.info();
        let files = match &sources.vmlinux {
            Some(path) => named(path, info.build_id.as_deref(), sources, warnings),
            None if sources.search => {
                let search = Search::new(info.release.as_deref(), &sources.roots).with(sources.progress);
                let found = search.vmlinux(info.build_id.as_deref());
                // files of other builds in the usual places concern only those who named a place to look in; a
                // server that does not answer concerns whoever set one
                let telling = |why: &&find::Error| {
                    !sources.roots.is_empty() || matches!(why, find::Error::Remote { .. } | find::Error::Shared { .. })
                };
                warnings.extend(found.rejected.iter().filter(telling).map(ToString::to_string));
                found.file.filter(|_| found.verified).into_iter().collect()
            }
            None => Vec::new(),
        };
        let slide = match files.is_empty() {
            true => 0,
            false => {
                let linked =
                    || files.iter().find_map(|f| Some(Symtab::new(f, None).ok()?.by_name("_stext").first()?.addr));
                let moved = || Some(stext()?.wrapping_sub(linked()?));
                target.kernel_layout().ok().and_then(|l| l.kaslr_offset.or_else(moved)).unwrap_or(0)
            }
        };
        KernelFiles::new(files, slide)
    }

    fn new(files: Vec<DebugFile>, slide: u64) -> KernelFiles {
        let all: Vec<_> = files.into_iter().map(|file| Arc::new(file.placed(Placement::Slide(slide)))).collect();
        let dwarf = all.iter().find(|file| file.has_dwarf()).cloned();
        let used = all.iter().map(|file| Used { path: file.path().to_owned(), kind: file.kind(), gives: Vec::new() });
        KernelFiles { used: used.collect(), dwarf, all, slide, memory: OnceLock::new() }
    }

    /// Opens a kernel that does not run, and the debug information that there is of it elsewhere.
    pub fn alone(path: &Path, sources: &Sources, warnings: &mut Vec<String>) -> Result<(Target, KernelFiles), String> {
        let Split { file, debug, rejected } = find::open(path, &sources.roots).map_err(|e| e.to_string())?;
        warnings.extend(rejected.iter().map(ToString::to_string));
        let build_id = file.build_id().map(find::hex);
        let memory = match file.memory() {
            Ok(memory) => memory,
            // types and symbols it may have all the same
            Err(why) if file.has_dwarf() => {
                warnings.push(why.to_string());
                Memory::default()
            }
            Err(why) => return Err(why.to_string()),
        };
        let release = memory.release();
        let debug = debug.or_else(|| {
            let search = Search::new(release.as_deref(), &sources.roots).with(sources.progress);
            let wanted = sources.search && !file.has_dwarf() && build_id.is_some();
            let found = wanted.then(|| search.vmlinux(build_id.as_deref()))?;
            found.file.filter(|other| found.verified && other.has_dwarf())
        });
        let described = KernelFile {
            path: path.to_owned(),
            format: file.kind(),
            machine: file.machine(),
            file_size: std::fs::metadata(path).map_or(0, |meta| meta.len()),
            release,
            build_id,
            pieces: memory.pieces.iter().map(|p| (p.addr, p.bytes.clone(), p.size)).collect(),
        };
        let target = Target::of_file(described)
            .ok_or_else(|| format!("{}: a kernel for a machine that kmdb does not know", path.display()))?;
        let files = KernelFiles::new(std::iter::once(file).chain(debug).collect(), 0);
        let _ = files.memory.set(Some(memory));
        Ok((target, files))
    }

    /// Notes what a file is used for.
    pub fn uses(&mut self, path: &Path, gives: &'static str) {
        if let Some(used) = self.used.iter_mut().find(|used| used.path == path) {
            used.gives.push(gives);
        }
    }

    /// What is used.
    pub fn used(self) -> Vec<Used> {
        self.used
    }

    fn memory(&self) -> Option<&Memory> {
        let make = || self.all.iter().find_map(|file| file.memory().ok());
        self.memory.get_or_init(make).as_ref()
    }

    /// The file whose memory it is.
    fn first(&self) -> Option<PathBuf> {
        self.all.first().map(|file| file.path().to_owned())
    }

    /// The symbols that the files have: kallsyms as it was linked in, else a symbol table.
    pub fn symbols(&mut self) -> Option<(Arc<dyn SymbolSource>, PathBuf)> {
        let kallsyms = self.memory().and_then(|memory| {
            let at = Addresses::scan(memory, memory.range()).ok()?;
            Kallsyms::open(&at, memory).ok()
        });
        if let Some(table) = kallsyms.map(|table| Moved::new(table, self.slide)) {
            let (table, path) = (Arc::new(table), self.first()?);
            self.uses(&path, "symbols");
            return Some((self.with_data(table), path));
        }
        let (table, path) = self.symtab()?;
        self.uses(&path, "symbols");
        Some((table, path))
    }

    /// A kernel's own table, and if that was made without CONFIG_KALLSYMS_ALL and so has functions only, all else from
    /// the files. Every kernel has the variable `init_task`.
    pub fn with_data(&mut self, own: Arc<dyn SymbolSource>) -> Arc<dyn SymbolSource> {
        if !own.by_name("init_task").is_empty() {
            return own;
        }
        let Some((all, path)) = self.symtab() else { return own };
        self.uses(&path, "symbols of data");
        Arc::new(Joined::new(own, all))
    }

    fn symtab(&self) -> Option<(Arc<dyn SymbolSource>, PathBuf)> {
        self.all.iter().find_map(|file| {
            let table = Symtab::new(file, None).ok().filter(|table| !table.is_empty())?;
            Some((Arc::new(table) as Arc<dyn SymbolSource>, file.path().to_owned()))
        })
    }

    /// The BTF that they have.
    pub fn btf(&mut self) -> Option<(bytes::Bytes, PathBuf)> {
        let section = self.all.iter().find_map(|file| {
            let blob = file.section(".BTF").ok().filter(|blob| !blob.is_empty())?;
            Some((blob, file.path().to_owned()))
        });
        let found = section.or_else(|| {
            let memory = self.memory()?;
            let (start, len) = open::find_btf(memory, memory.range()).ok()?;
            let blob = debuginfo::Reader::bytes(memory, start, usize::try_from(len).ok()?).ok()?;
            Some((blob, self.first()?))
        })?;
        self.uses(&found.1, "types");
        Some(found)
    }
}

/// Opens a vmlinux that the user named.
fn named(path: &Path, dump: Option<&str>, sources: &Sources, warnings: &mut Vec<String>) -> Vec<DebugFile> {
    let split = match find::open(path, &sources.roots) {
        Ok(split) => split,
        Err(why) => {
            warnings.push(why.to_string());
            return Vec::new();
        }
    };
    if !accept(&split.file, dump, sources.force, "it is not the kernel that crashed", warnings) {
        return Vec::new();
    }
    warnings.extend(split.rejected.iter().map(ToString::to_string));
    if split.debug.is_none() && !split.file.has_dwarf() && split.file.memory().is_err() {
        warnings.push(format!("{}: neither debug information nor a kernel in it", path.display()));
        return Vec::new();
    }
    std::iter::once(split.file).chain(split.debug).collect()
}

/// Compares build-ids, and says what comes of it.
pub(crate) fn accept(file: &DebugFile, dump: Option<&str>, force: bool, not: &str, warnings: &mut Vec<String>) -> bool {
    match find::check_build_id(file, dump) {
        Ok(true) => return true,
        Ok(false) => {
            warnings.push(format!("{}: no build-id to compare: may be of another build", file.path().display()))
        }
        Err(e) if force => warnings.push(format!("{e}; taken because of `--force`")),
        Err(e) => {
            warnings.push(format!("{e}: {not}; going on without it (`--force` takes it all the same)"));
            return false;
        }
    }
    true
}
