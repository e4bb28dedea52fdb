//! Opening a session: what a kernel says about itself, found in its memory and joined.
//!
//! Symbols come from the kernel's own kallsyms tables (VMCOREINFO says where they are since 6.0; before, and without
//! it, they are known by their shape), types from the BTF between `__start_BTF` and `__stop_BTF`. A vmlinux adds what
//! those lack. All of it is used where it lies and decoded when it is asked for.

use crate::{
    kernelfile::{self, KernelFiles},
    lost::{self, Holed},
    modfiles::ModuleFiles,
    notes::Notes,
    registry::Registry,
    session::Session,
    symbols::Symbols,
};
use debuginfo::{
    Reader, SymbolSource, TypeSource, Types,
    added::Added,
    btf::Btf,
    debuginfod::Progress,
    dwarf::Dwarf,
    elf::DebugFile,
    find,
    holes::Patchy,
    kallsyms::{Addresses, Kallsyms, text::Listing},
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use targets::{Space, Target};

/// Where else to look for meaning.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// a vmlinux that the user named
    pub vmlinux: Option<PathBuf>,
    /// debug files of modules that the user named
    pub modules: Vec<PathBuf>,
    /// more roots of debug file trees
    pub roots: Vec<PathBuf>,
    /// take named files whose build-id differs
    pub force: bool,
    /// look for debug files that the user did not name
    pub search: bool,
    /// told of what is fetched from servers, which are asked only if `DEBUGINFOD_URLS` names any
    pub progress: Option<Progress>,
}

/// Reads kernel memory for the decoders.
struct Memory(Arc<Target>);

impl Reader for Memory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        self.0.read(Space::Kernel, addr, buf).map_err(|e| e.to_string())
    }
    fn bytes(&self, addr: u64, len: usize) -> Result<bytes::Bytes, String> {
        self.0.bytes(Space::Kernel, addr, len).map_err(|e| e.to_string())
    }
}

/// Joins a target with its meaning. The strings say what is missing and what to do about it.
pub fn open(target: Arc<Target>, sources: &Sources, registry: &'static Registry) -> (Session, Vec<String>) {
    let mut warnings = damage(&target);
    let memory = Memory(Arc::clone(&target));
    let stext = || Some(kallsyms(&target, &memory).ok()?.by_name("_stext").first()?.addr);
    let files = KernelFiles::find(&target, sources, stext, &mut warnings);
    (join(target, files, sources, registry, &mut warnings), warnings)
}

/// A session about a kernel that does not run, from its file alone: types, symbols, code, and data as it was linked.
pub fn open_file(
    path: &Path,
    sources: &Sources,
    registry: &'static Registry,
) -> Result<(Session, Vec<String>), String> {
    let mut warnings = Vec::new();
    let (target, files) = KernelFiles::alone(path, sources, &mut warnings)?;
    Ok((join(Arc::new(target), files, sources, registry, &mut warnings), warnings))
}

fn join(
    target: Arc<Target>,
    mut files: KernelFiles,
    sources: &Sources,
    registry: &'static Registry,
    warnings: &mut Vec<String>,
) -> Session {
    let memory = Memory(Arc::clone(&target));
    let notes = Notes::default();
    let kernel = symbols(&target, &memory, &mut files, &notes, warnings);
    let types = Types::new();
    add_btf(&target, &memory, kernel.as_deref(), &mut files, &types, warnings);
    let dwarf = files.dwarf.clone().and_then(|file| match add_dwarf(&file, &types) {
        Ok(dwarf) => {
            files.uses(file.path(), "types, variables, lines (DWARF)");
            Some(dwarf)
        }
        Err(e) => {
            warnings.push(e.to_string());
            None
        }
    });
    let base = kernel.as_ref().and_then(|k| k.by_name("page_offset_base").first().map(|s| s.addr));
    if let Some(base) = base.and_then(|at| target.u64(Space::Kernel, at).ok()) {
        target.set_direct_map(base);
    }
    // what a whole vmlinux does not know is not there
    if dwarf.is_none() {
        lost::watch_types(&types, &notes);
    }
    // opening asks for what many a kernel has not
    notes.take();
    let mut session = Session::new(target, types, Symbols::new(kernel), registry);
    session.notes = notes;
    session.dwarf = dwarf;
    session.files = files.used();
    session.module_files = ModuleFiles::new(sources);
    add_anchors(&mut session);
    session
}

/// What every kernel has: if even this is missing, the table has only functions.
const DATA: &str = "init_task";

/// Finds the variables of a kernel whose kallsyms has only functions.
fn add_anchors(session: &mut Session) {
    let Some(kernel) = session.symbols.kernel().filter(|k| k.by_name(DATA).is_empty()).cloned() else { return };
    let found = (session.registry.anchors)(session);
    session.symbols = Symbols::new(Some(Arc::new(Added::new(kernel, found))));
    session.forget();
}

fn add_dwarf(file: &Arc<DebugFile>, types: &Types) -> Result<Arc<Dwarf>, debuginfo::elf::Error> {
    let mut made = None;
    types.add(|id| {
        let dwarf = Arc::new(Dwarf::new(Arc::clone(file), id)?);
        made = Some(Arc::clone(&dwarf));
        Ok::<Arc<dyn TypeSource>, debuginfo::elf::Error>(dwarf)
    })?;
    made.ok_or(debuginfo::elf::Error::Dwarf { path: file.path().to_owned(), why: "not added".into() })
}

/// What is wrong with the file as such.
fn damage(target: &Target) -> Vec<String> {
    let info = target.info();
    let mut found = Vec::new();
    if info.truncated > 0 {
        found.push(format!(
            "the file ends {} bytes before its headers say: a cut-off copy; going on with what is there",
            info.truncated
        ));
    }
    if info.incomplete {
        found.push("the tool that wrote this dump did not finish it; going on with what is there".into());
    }
    found.extend(info.damage);
    found
}

/// What holds the kernel, for messages.
fn place(target: &Target) -> &'static str {
    match target.is_live() {
        Some(_) => "kernel's memory",
        None if target.is_file() => "file",
        None => "dump",
    }
}

/// The kernel's symbol table: its own, or where that is damaged or missing that of its file.
fn symbols(
    target: &Target,
    memory: &Memory,
    files: &mut KernelFiles,
    notes: &Notes,
    warnings: &mut Vec<String>,
) -> Option<Arc<dyn SymbolSource>> {
    let (own, why) = match kallsyms(target, memory) {
        Ok(table) => match table.damage() {
            None => return Some(files.with_data(Arc::new(table))),
            Some(damage) => (Some(table), damage),
        },
        Err(why) => (None, format!("no kernel symbols in the {}: {why}", place(target))),
    };
    if let Some((table, path)) = files.symbols() {
        warnings.push(format!("{why}: symbols come from {}", path.display()));
        return Some(table);
    }
    if let (None, Some(listed)) = (&own, listing(target)) {
        let (table, what) = match listed {
            Ok(table) => (Some(Arc::new(table) as Arc<dyn SymbolSource>), "symbols come from it".to_owned()),
            Err(why) => (None, why),
        };
        warnings.push(format!("{why}; {LISTING}: {what}"));
        return table;
    }
    warnings.push(why);
    own.map(|table| Holed::watch(table, notes.clone()))
}

/// What a running kernel also says of itself, should its memory not be understood.
const LISTING: &str = "/proc/kallsyms";
const LIVE_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's own list of its symbols; `None` of a dump.
fn listing(target: &Target) -> Option<Result<Listing, String>> {
    target.is_live()?;
    let text = std::fs::read_to_string(LISTING).map_err(|e| e.to_string());
    Some(text.and_then(|text| Listing::parse(&text)))
}

fn kallsyms(target: &Target, memory: &Memory) -> Result<Kallsyms, String> {
    let told = target.vmcoreinfo().map(|v| Addresses::from_symbols(|name| v.symbol(name)));
    // VMCOREINFO may be a stranger's, or an old kernel's without these symbols: then the shape decides
    if let Some(table) = told.filter(|at| at.names.is_some()).and_then(|at| Kallsyms::open(&at, memory).ok()) {
        return Ok(table);
    }
    let layout = target.kernel_layout().map_err(|e| e.to_string())?;
    Kallsyms::open(&Addresses::scan(memory, layout.image)?, memory)
}

/// Adds the kernel's BTF: its own, or where that is damaged or missing that of its file.
fn add_btf(
    target: &Target,
    memory: &Memory,
    kernel: Option<&dyn SymbolSource>,
    files: &mut KernelFiles,
    types: &Types,
    warnings: &mut Vec<String>,
) {
    // one whose header is damaged is no better than none
    let own = own_btf(target, memory, kernel).and_then(|blob| Btf::new(blob.clone(), 0).map(|_| blob));
    let own = own.or_else(|why| match std::fs::read(LIVE_BTF) {
        Ok(bytes) if target.is_live().is_some() => Ok(Patchy::from(bytes::Bytes::from(bytes))),
        _ => Err(why),
    });
    let whole = own.as_ref().is_ok_and(|blob| blob.holes.is_empty());
    let other = if whole { None } else { files.btf() };
    let blob = match (own, other) {
        (own, Some((blob, path))) => {
            let what = match own {
                Ok(_) => format!("part of the BTF is not in the {}", place(target)),
                Err(why) => format!("no BTF in the {} ({why})", place(target)),
            };
            warnings.push(format!("{what}: types come from {}", path.display()));
            Ok(Patchy::from(blob))
        }
        (own, None) => own,
    };
    let added = blob.and_then(|blob| {
        let mut damage = None;
        types.add(|id| {
            let btf = Btf::new(blob, id)?;
            damage = btf.damage();
            Ok::<Arc<dyn TypeSource>, String>(Arc::new(btf))
        })?;
        Ok(damage)
    });
    match added {
        Ok(damage) => warnings.extend(damage),
        Err(why) => {
            let dwarf = files.dwarf.is_some();
            let way_on = if dwarf { "types come from the vmlinux" } else { "give the kernel's vmlinux for types" };
            warnings.push(format!("no BTF in the {} ({why}): {way_on}", place(target)));
        }
    }
}

fn own_btf(target: &Target, memory: &Memory, kernel: Option<&dyn SymbolSource>) -> Result<Patchy, String> {
    let address = |name: &str| kernel.and_then(|k| k.by_name(name).first().map(|s| s.addr));
    let (start, len) = match (address("__start_BTF"), address("__stop_BTF")) {
        (Some(start), Some(stop)) if stop > start => (start, stop - start),
        _ => find_btf(memory, target.kernel_layout().map_err(|e| e.to_string())?.image)?,
    };
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_BTF).ok_or("its size is absurd")?;
    Patchy::read(memory, start, len)
}

/// Larger than any kernel's by a factor of ten.
const MAX_BTF: usize = 64 << 20;

/// Finds BTF by its header (`struct btf_header`, include/uapi/linux/btf.h) in the kernel's image, when the symbols that
/// say where it is are lost. The largest blob is the kernel's own.
pub(crate) fn find_btf(memory: &dyn Reader, image: Range<u64>) -> Result<(u64, u64), String> {
    const STEP: usize = 1 << 16;
    let mut best: Option<(u64, u64)> = None;
    for at in image.clone().step_by(STEP) {
        // a header may straddle two steps
        let Ok(chunk) = memory.bytes(at, STEP + 24).or_else(|_| memory.bytes(at, STEP)) else { continue };
        for i in (0..chunk.len().saturating_sub(23)).step_by(4) {
            let Some(len) = chunk.get(i..i + 24).and_then(btf_len) else { continue };
            if best.is_none_or(|(_, l)| len > l) && len <= image.end - at {
                best = Some((at + i as u64, len));
            }
        }
    }
    best.ok_or_else(|| "neither its symbols nor its header are in the dump".into())
}

/// Length of the blob if `header` is the start of plausible BTF.
fn btf_len(header: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u64::from(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?)));
    // magic, version 1, no flags; header, then types, then strings
    let (hdr, type_off, type_len, str_off, str_len) = (word(4)?, word(8)?, word(12)?, word(16)?, word(20)?);
    let shape = header.starts_with(&[0x9f, 0xeb, 1, 0])
        && (24..=64).contains(&hdr)
        && type_off == 0
        && str_off == type_len
        && type_len > 1 << 16
        && str_len > 1 << 12;
    shape.then(|| hdr + str_off + str_len).filter(|len| *len <= MAX_BTF as u64)
}

/// Opens a module's file that the user named.
pub(crate) fn named(
    path: &Path,
    dump: Option<&str>,
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Option<DebugFile> {
    let split = find::open(path, &sources.roots).map_err(|e| warnings.push(e.to_string())).ok()?;
    warnings.extend(split.rejected.iter().map(ToString::to_string));
    let file = split.best();
    kernelfile::accept(&file, dump, sources.force, "it is not the module that was loaded", warnings).then_some(file)
}
