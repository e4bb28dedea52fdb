//! Opening a session: what a kernel says about itself, found in its memory and joined.
//!
//! Symbols come from the kernel's own kallsyms tables (VMCOREINFO says where they are since 6.0; before, and without
//! it, they are known by their shape), types from the BTF between `__start_BTF` and `__stop_BTF`. A vmlinux adds what
//! those lack. All of it is used where it lies and decoded when it is asked for.

use crate::{modfiles::ModuleFiles, registry::Registry, session::Session, symbols::Symbols};
use debuginfo::{
    Reader, SymbolSource, TypeSource, Types,
    btf::Btf,
    dwarf::Dwarf,
    elf::{DebugFile, Placement, Symtab},
    find::{self, Search},
    holes::Patchy,
    kallsyms::{Addresses, Kallsyms},
};
use std::{
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
    let file = vmlinux(&target, sources, &mut warnings);
    let kernel = symbols(&target, &memory, file.as_deref(), &mut warnings);
    let types = Types::new();
    match add_btf(&target, &memory, kernel.as_deref(), &types) {
        Ok(damage) => warnings.extend(damage),
        Err(why) => {
            let file = file.is_some();
            let way_on = if file { "types come from the vmlinux" } else { "give the kernel's vmlinux for types" };
            warnings.push(format!("no BTF in the dump ({why}): {way_on}"));
        }
    }
    let dwarf = file.and_then(|file| add_dwarf(&file, &types).map_err(|e| warnings.push(e.to_string())).ok());
    let base = kernel.as_ref().and_then(|k| k.by_name("page_offset_base").first().map(|s| s.addr));
    if let Some(base) = base.and_then(|at| target.u64(Space::Kernel, at).ok()) {
        target.set_direct_map(base);
    }
    let mut session = Session::new(target, types, Symbols::new(kernel), registry);
    session.dwarf = dwarf;
    session.module_files = ModuleFiles::new(sources);
    (session, warnings)
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

/// The kernel's symbol table: its own, else the vmlinux's.
fn symbols(
    target: &Target,
    memory: &Memory,
    file: Option<&DebugFile>,
    warnings: &mut Vec<String>,
) -> Option<Arc<dyn SymbolSource>> {
    match kallsyms(target, memory) {
        Ok(table) => {
            warnings.extend(table.damage());
            return Some(Arc::new(table));
        }
        Err(why) => warnings.push(format!("no kernel symbols in the dump: {why}")),
    }
    match Symtab::new(file?, None) {
        Ok(table) => Some(Arc::new(table)),
        Err(e) => {
            warnings.push(e.to_string());
            None
        }
    }
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

/// Returns what of the types is lost.
fn add_btf(
    target: &Target,
    memory: &Memory,
    kernel: Option<&dyn SymbolSource>,
    types: &Types,
) -> Result<Option<String>, String> {
    let address = |name: &str| kernel.and_then(|k| k.by_name(name).first().map(|s| s.addr));
    let (start, len) = match (address("__start_BTF"), address("__stop_BTF")) {
        (Some(start), Some(stop)) if stop > start => (start, stop - start),
        _ => find_btf(target, memory)?,
    };
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_BTF).ok_or("its size is absurd")?;
    let blob = Patchy::read(memory, start, len)?;
    let mut damage = None;
    types.add(|id| {
        let btf = Btf::new(blob, id)?;
        damage = btf.damage();
        Ok::<Arc<dyn TypeSource>, String>(Arc::new(btf))
    })?;
    Ok(damage)
}

/// Larger than any kernel's by a factor of ten.
const MAX_BTF: usize = 64 << 20;

/// Finds BTF by its header (`struct btf_header`, include/uapi/linux/btf.h) in the kernel's image, when the symbols that
/// say where it is are lost. The largest blob is the kernel's own.
fn find_btf(target: &Target, memory: &Memory) -> Result<(u64, u64), String> {
    const STEP: usize = 1 << 16;
    let image = target.kernel_layout().map_err(|e| e.to_string())?.image;
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

/// The vmlinux that the user named or that the usual places have, if its build-id is the dump's.
fn vmlinux(target: &Target, sources: &Sources, warnings: &mut Vec<String>) -> Option<Arc<DebugFile>> {
    let info = target.info();
    let file = match &sources.vmlinux {
        Some(path) => named(path, info.build_id.as_deref(), sources.force, warnings)?,
        None if sources.search => {
            let found = Search::new(info.release.as_deref(), &sources.roots).vmlinux(info.build_id.as_deref());
            // files of other builds in the usual places concern only those who named a place to look in
            if !sources.roots.is_empty() {
                warnings.extend(found.rejected.iter().map(ToString::to_string));
            }
            found.file.filter(|_| found.verified)?
        }
        None => return None,
    };
    let slide = target.kernel_layout().ok().and_then(|l| l.kaslr_offset).unwrap_or(0);
    Some(Arc::new(file.placed(Placement::Slide(slide))))
}

/// Opens a file that the user named.
pub(crate) fn named(path: &Path, dump: Option<&str>, force: bool, warnings: &mut Vec<String>) -> Option<DebugFile> {
    let file = find::open(path).map_err(|e| warnings.push(e.to_string())).ok()?;
    match find::check_build_id(&file, dump) {
        Ok(true) => {}
        Ok(false) => warnings.push(format!("{}: no build-id to compare: may be of another build", path.display())),
        Err(e) if force => warnings.push(format!("{e}; taken because of `--force`")),
        Err(e) => {
            warnings.push(format!("{e}; going on without it (`--force` takes it all the same)"));
            return None;
        }
    }
    Some(file)
}
