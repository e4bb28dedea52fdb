//! Loadable modules: `struct module` (include/linux/module.h), their memory, their symbols and their types.
//!
//! [`load`] is what the session asks when a name or an address is not the kernel's own: it hands over each module's
//! memory and symbol table, and adds each module's BTF to the session's types.
//!
//! ```console
//! > ::walk module | ::print name
//! name = [ "labmod" ]
//! name = [ "dummy" ]
//! name = [ "overlay" ]
//! name = [ "qemu_fw_cfg" ]
//! name = [ "virtio_blk" ]
//! ```

use crate::list;
use engine::ViewEntry;
use engine::{
    Module as Loaded, Sections,
    debuginfo::{
        Reader,
        btf::{Btf, Start},
        find,
        holes::Patchy,
        modsyms::{ModuleSymbols, ModuleTables, SYM_SIZE},
    },
    prelude::*,
};
use std::{ops::Range, sync::Arc};

/// A module: `struct module`.
#[derive(View, Clone, Debug)]
#[ctype("module")]
pub struct Module {
    /// its address
    #[addr]
    pub addr: u64,
    state: u32,
    /// its name
    pub name: String,
    /// `TAINT_…` bits
    pub taints: u64,
    refcnt: Option<i32>,
    version: Option<u64>,
    srcversion: Option<u64>,
    kallsyms: Option<u64>,
    #[field("sect_attrs")]
    sections: Option<u64>,
    percpu: Option<u64>,
    percpu_size: Option<u32>,
}

/// What a module is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// runs
    Live,
    /// its init function runs
    Coming,
    /// it is being unloaded
    Going,
    /// it is being set up
    Unformed,
    /// no state a module can have
    Damaged,
}

/// Where a module's memory is: since Linux 6.4 (ac3b43283923) one of seven kinds.
#[derive(View)]
#[ctype("module_memory")]
struct Memory {
    base: u64,
    size: u32,
}

/// Before that, all there is for good or for the time of init.
#[derive(View)]
#[ctype("module_layout")]
struct OldMemory {
    base: u64,
    size: u32,
}

/// `struct mod_kallsyms` (include/linux/module.h).
#[derive(View)]
#[ctype("mod_kallsyms")]
struct Kallsyms {
    symtab: u64,
    num_symtab: u32,
    strtab: u64,
    typetab: Option<u64>,
}

/// `enum mod_mem_type` (include/linux/module.h).
const KINDS: &[(&str, &str)] = &[
    ("MOD_TEXT", "text"),
    ("MOD_DATA", "data"),
    ("MOD_RODATA", "rodata"),
    ("MOD_RO_AFTER_INIT", "ro_after_init"),
    ("MOD_INIT_TEXT", "init text"),
    ("MOD_INIT_DATA", "init data"),
    ("MOD_INIT_RODATA", "init rodata"),
];

/// Larger than any module's, text and data and all.
const MAX_MEMORY: u64 = 1 << 30;
/// More symbols than the kernel itself has.
const MAX_SYMBOLS: u32 = 1 << 20;

impl Module {
    /// What it is doing.
    pub fn state(&self, session: &Session) -> State {
        let value = i64::from(self.state);
        let is = |name, before| session.enumerator(name).unwrap_or(before) == value;
        match () {
            () if is("MODULE_STATE_LIVE", 0) => State::Live,
            () if is("MODULE_STATE_COMING", 1) => State::Coming,
            () if is("MODULE_STATE_GOING", 2) => State::Going,
            () if is("MODULE_STATE_UNFORMED", 3) => State::Unformed,
            () => State::Damaged,
        }
    }

    /// How many use it: other modules, open files, …. `None` if the kernel cannot unload modules.
    pub fn users(&self) -> Option<i32> {
        /// `MODULE_REF_BASE`: the kernel's own
        const BASE: i32 = 1;
        self.refcnt.map(|count| count.wrapping_sub(BASE))
    }

    /// The modules that use symbols of this one.
    pub fn used_by(&self, session: &Session) -> Result<Vec<String>> {
        if !session.has_member("module", "source_list") {
            return Ok(Vec::new());
        }
        let head = self.addr.wrapping_add(session.offset("module", "source_list")?);
        let (source, name) = (session.offset("module_use", "source")?, session.offset("module", "name")?);
        let mut names = Vec::new();
        list::list(session, head, session.offset("module_use", "source_list")?, &mut |user| {
            let module = session.u64(user.wrapping_add(source))?;
            names.push(session.cstr(module.wrapping_add(name), 64)?);
            Ok(())
        })?;
        Ok(names)
    }

    /// Its `MODULE_VERSION`.
    pub fn version(&self, session: &Session) -> Option<String> {
        session.cstr(self.version.filter(|at| *at != 0)?, 64).ok()
    }

    /// The checksum of its source files.
    pub fn srcversion(&self, session: &Session) -> Option<String> {
        session.cstr(self.srcversion.filter(|at| *at != 0)?, 64).ok()
    }

    /// The memory it occupies, and what is there: text first, then its other parts, those that exist.
    pub fn memory(&self, session: &Session) -> Result<Vec<(&'static str, Range<u64>)>> {
        let mut found = Vec::new();
        let mut add = |part, base: u64, size: u32| {
            let size = u64::from(size);
            if base != 0 && size > 0 && size <= MAX_MEMORY {
                found.extend(base.checked_add(size).map(|end| (part, base..end)));
            }
        };
        if session.has_member("module", "mem") {
            let first = self.addr.wrapping_add(session.offset("module", "mem")?);
            let stride = session.size_of("module_memory")?;
            let kinds = session.enumerator("MOD_MEM_NUM_TYPES").unwrap_or(7).clamp(0, 64) as u64;
            for kind in 0..kinds {
                let memory: Memory = session.view(first.wrapping_add(kind * stride))?;
                let is = |(name, _): &&(&str, _)| session.enumerator(name) == Some(kind as i64);
                add(KINDS.iter().find(is).map_or("other", |(_, part)| part), memory.base, memory.size);
            }
        } else {
            for (member, part) in [("core_layout", "core"), ("init_layout", "init")] {
                let memory: OldMemory = session.view(self.addr.wrapping_add(session.offset("module", member)?))?;
                add(part, memory.base, memory.size);
            }
        }
        Ok(found)
    }

    fn symbols(&self, session: &Session, ranges: &[Range<u64>]) -> Result<ModuleSymbols, String> {
        let at = self.kallsyms.filter(|at| *at != 0).ok_or("it has none")?;
        let tables: Kallsyms = session.view(at).map_err(|e| e.to_string())?;
        if tables.num_symtab > MAX_SYMBOLS {
            return Err(format!("it claims {} symbols", tables.num_symtab));
        }
        let count = tables.num_symtab as usize;
        let memory = Bytes(session);
        let symtab = Patchy::read(&memory, tables.symtab, count * SYM_SIZE)?;
        let len = names_len(&symtab, tables.strtab, ranges);
        let percpu = self.percpu.unwrap_or(0);
        Ok(ModuleSymbols::new(ModuleTables {
            module: self.name.as_str().into(),
            symtab,
            strtab: Patchy::read(&memory, tables.strtab, len)?,
            typetab: match tables.typetab {
                Some(at) => Patchy::read(&memory, at, count).unwrap_or_default(),
                None => Patchy::default(),
            },
            ranges: ranges.to_vec(),
            per_cpu: percpu..percpu.saturating_add(self.percpu_size.unwrap_or(0).into()),
        }))
    }
}

/// Bytes of a string table, whose length is recorded nowhere: up to the end of the last name, with room for it, but
/// not past the memory that it lies in.
fn names_len(symtab: &Patchy, strtab: u64, ranges: &[Range<u64>]) -> usize {
    /// KSYM_NAME_LEN
    const NAME: u64 = 512;
    let offsets = symtab.bytes.chunks_exact(SYM_SIZE).filter_map(|symbol| symbol.first_chunk().copied());
    let last = offsets.map(u32::from_le_bytes).max().unwrap_or(0);
    let room = ranges.iter().find(|r| r.contains(&strtab)).map_or(0, |r| r.end - strtab);
    (u64::from(last) + NAME).min(room) as usize
}

/// Reads for the decoders of debuginfo.
pub(crate) struct Bytes<'a>(pub &'a Session);

impl Reader for Bytes<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        self.0.read(addr, buf).map_err(|e| e.to_string())
    }
    fn bytes(&self, addr: u64, len: usize) -> Result<bytes::Bytes, String> {
        self.0.bytes(addr, len).map_err(|e| e.to_string())
    }
}

/// The memory of all modules, and what is there; of those that can be read.
pub fn memory(session: &Session) -> Result<Vec<(&'static str, Range<u64>)>> {
    let mut found = Vec::new();
    let outcome = each(session, &mut |at| {
        match session.view::<Module>(at).and_then(|module| module.memory(session)) {
            Ok(memory) => found.extend(memory),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {}
        }
        Ok(())
    });
    match outcome {
        // a kernel without modules
        Err(e) if !e.is_control() => Ok(Vec::new()),
        outcome => outcome.map(|()| found),
    }
}

/// The name of the module that was unloaded last (`last_unloaded_module`), if one was.
pub fn last_unloaded(session: &Session) -> Option<String> {
    /// `MODULE_NAME_LEN` is 56 on machines of 64 bits
    const LONGEST: usize = 64;
    let name = session.cstr(session.kernel_symbol("last_unloaded_module")?, LONGEST).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// Visits every module, the youngest first.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let head = session
        .kernel_symbol("modules")
        .ok_or_else(|| Error::Unavailable("this kernel has no modules (CONFIG_MODULES)".into()))?;
    list::list(session, head, session.offset("module", "list")?, visit)
}

/// Every module's memory and symbols; adds every module's types to the session. What cannot be read is noted.
pub fn load(session: &Session) -> Vec<Loaded> {
    let mut loaded = Vec::new();
    let mut losses = Losses::default();
    let found = each(session, &mut |addr| {
        match session.view::<Module>(addr) {
            Ok(module) => loaded.push(load_one(session, &module, &mut losses)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => losses.add(addr, format!("module: {}", e.kind())),
        }
        Ok(())
    });
    // the kernel adds each module in front of the last
    loaded.reverse();
    match found.and_then(|()| load_types(session, &mut loaded, &mut losses)) {
        Ok(()) | Err(Error::Unavailable(_)) => {}
        Err(e) => losses.add(0, format!("modules: {e}")),
    }
    for (addr, what) in &losses.0 {
        session.notes.add(*addr, what.as_str());
    }
    // making it fails never
    let _ = session.once(|| Ok(losses));
    loaded
}

/// What of the modules could not be read. They are loaded once, but more than one command has to say it.
#[derive(Default)]
struct Losses(Vec<(u64, String)>);

impl Losses {
    fn add(&mut self, addr: u64, what: String) {
        self.0.push((addr, what));
    }
}

/// The loaded modules, for a command that shows them: notes again what could not be read when they were loaded.
pub fn all(session: &Session) -> Result<&[Loaded]> {
    let modules = session.symbols.modules(session);
    if modules.is_empty() && session.kernel_symbol("modules").is_none() {
        let what = "no symbol `modules`: the kernel has none (CONFIG_MODULES), or its symbols are lost";
        return Err(Error::Unavailable(what.into()));
    }
    for (addr, what) in &session.once(|| Ok(Losses::default()))?.0 {
        session.notes.once(*addr, what.as_str());
    }
    Ok(modules)
}

fn load_one(session: &Session, module: &Module, losses: &mut Losses) -> Loaded {
    let memory = module.memory(session).unwrap_or_else(|e| {
        losses.add(module.addr, format!("memory of a module: {}", e.kind()));
        Vec::new()
    });
    let ranges: Vec<_> = memory.into_iter().map(|(_, range)| range).collect();
    let symbols = match module.symbols(session, &ranges) {
        Ok(symbols) => Some(Box::new(symbols) as Box<_>),
        Err(why) => {
            losses.add(module.addr, format!("symbols of a module: {why}"));
            None
        }
    };
    Loaded { name: module.name.as_str().into(), addr: module.addr, ranges, symbols, ..Loaded::default() }
}

/// `struct btf_module` (kernel/bpf/btf.c), since Linux 5.11 (36e68442d1af).
#[derive(View)]
#[ctype("btf_module")]
struct BtfModule {
    btf: u64,
    module: u64,
}

/// `struct btf` (kernel/bpf/btf.c).
#[derive(View)]
#[ctype("btf")]
struct BtfBlob {
    data: u64,
    data_size: u32,
    start_id: u32,
    start_str_off: u32,
}

/// Adds the BTF of each module that has some. It counts on from the kernel's own.
fn load_types(session: &Session, loaded: &mut [Loaded], losses: &mut Losses) -> Result<()> {
    /// far more than the kernel's own
    const MAX_BTF: u32 = 64 << 20;
    let (Some(head), Some(base)) = (session.kernel_symbol("btf_modules"), session.types.btf()) else { return Ok(()) };
    list::list(session, head, session.offset("btf_module", "list")?, &mut |addr| {
        let mut added = || -> Result<(), String> {
            let module: BtfModule = session.view(addr).map_err(|e| e.to_string())?;
            let blob: BtfBlob = session.view(module.btf).map_err(|e| e.to_string())?;
            if blob.data_size > MAX_BTF {
                return Err("its size is absurd".into());
            }
            let bytes = Patchy::read(&Bytes(session), blob.data, blob.data_size as usize)?;
            let start = Start { id: blob.start_id, string: blob.start_str_off };
            let make = |id| Ok::<_, String>(Arc::new(Btf::split(bytes, id, Arc::clone(&base), Some(start))?) as Arc<_>);
            session.types.add(make)?;
            loaded.iter_mut().filter(|m| m.addr == module.module).for_each(|m| m.typed = true);
            Ok(())
        };
        if let Err(why) = added() {
            losses.add(addr, format!("types of a module: {why}"));
        }
        Ok(())
    })
}

/// A section as sysfs shows it: `struct module_sect_attr` (kernel/module/sysfs.c), until Linux 6.14.
#[derive(View)]
#[ctype("module_sect_attr")]
struct Section {
    #[field("battr.attr.name", "name")]
    name: u64,
    address: u64,
}

/// Since then a plain `struct bin_attribute` (include/linux/sysfs.h).
#[derive(View)]
#[ctype("bin_attribute")]
struct SectionFile {
    #[field("attr.name")]
    name: u64,
    #[field("private")]
    address: u64,
}

/// Where the kernel put each section of a module (`/sys/module/NAME/sections`), and of which build it is. Sections
/// that were freed after initialisation still have their addresses here.
pub fn sections(session: &Session, module: &Loaded) -> Result<Sections> {
    /// many times what a module built with -ffunction-sections has
    const MAX: u64 = 1 << 16;
    let module: Module = session.view(module.addr)?;
    let attrs = module.sections.filter(|at| *at != 0);
    let attrs = attrs.ok_or_else(|| Error::Unavailable("the kernel does not say where its sections are".into()))?;
    let mut sections = Sections::default();
    let mut add = |name, address| -> Result<()> {
        sections.addresses.insert(session.cstr(name, 256)?, address);
        Ok(())
    };
    match session.place("module_sect_attrs", "nsections") {
        Some(count) => {
            let count = session.u32(attrs.wrapping_add(count.bit_offset / 8))?;
            let first = attrs.wrapping_add(session.offset("module_sect_attrs", "attrs")?);
            let stride = session.size_of("module_sect_attr")?;
            for i in 0..u64::from(count).min(MAX) {
                let section: Section = session.view(first.wrapping_add(i * stride))?;
                add(section.name, section.address)?;
            }
        }
        None => {
            // pointers to the files, a null one at the end
            let list = session.u64(attrs.wrapping_add(session.offset("module_sect_attrs", "grp.bin_attrs")?))?;
            for i in 0..MAX {
                let file = session.u64(list.wrapping_add(i * 8))?;
                if file == 0 {
                    break;
                }
                let section: SectionFile = session.view(file)?;
                add(section.name, section.address)?;
            }
        }
    }
    let note = sections.addresses.get(".note.gnu.build-id");
    sections.build_id = note.and_then(|at| build_id(session, *at).ok().flatten());
    Ok(sections)
}

/// A stretch of memory that a module occupies.
#[derive(Clone, Debug)]
pub struct Part {
    /// its addresses
    pub range: Range<u64>,
    /// the module's name
    pub module: Arc<str>,
    /// `text`, `data`, …
    pub kind: &'static str,
    /// where its sections begin, with their names, by address
    sections: Vec<(u64, String)>,
}

impl Part {
    /// The section that an address lies in, or behind.
    pub fn section(&self, addr: u64) -> Option<&str> {
        let next = self.sections.partition_point(|(start, _)| *start <= addr);
        Some(self.sections.get(next.checked_sub(1)?)?.1.as_str())
    }
}

/// The memory of all modules.
#[derive(Debug, Default)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Parts>> {
        session.once(|| Parts::read(session))
    }

    fn read(session: &Session) -> Result<Parts> {
        let mut parts = Vec::new();
        for loaded in session.symbols.modules(session) {
            let memory = match session.view::<Module>(loaded.addr).and_then(|module| module.memory(session)) {
                Err(e) if e.is_control() => return Err(e),
                memory => memory.unwrap_or_default(),
            };
            let sections = match sections(session, loaded) {
                Err(e) if e.is_control() => return Err(e),
                sections => sections.unwrap_or_default().addresses,
            };
            for (kind, range) in memory {
                let inside = sections.iter().filter(|(_, at)| range.contains(at));
                // sections that were freed have had their addresses used for others
                let init = kind.starts_with("init");
                let inside = inside.filter(|(name, _)| name.starts_with(".init") == init);
                let mut inside: Vec<(u64, String)> = inside.map(|(name, at)| (*at, name.clone())).collect();
                inside.sort_unstable();
                parts.push(Part { range, module: loaded.name.clone(), kind, sections: inside });
            }
        }
        parts.sort_unstable_by_key(|part| part.range.start);
        Ok(Parts(parts))
    }

    /// All of them, by address.
    pub fn all(&self) -> &[Part] {
        &self.0
    }

    /// The one that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&Part> {
        let next = self.0.partition_point(|part| part.range.start <= addr);
        self.0.get(next.checked_sub(1)?).filter(|part| part.range.contains(&addr))
    }
}

/// The build-id of an ELF note (`Elf64_Nhdr`, include/uapi/linux/elf.h), in hex.
fn build_id(session: &Session, note: u64) -> Result<Option<String>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    /// a SHA-512's
    const MAX: u32 = 64;
    let head = session.bytes(note, 16)?;
    let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let Some(len @ 1..=MAX) = word(4) else { return Ok(None) };
    if word(0) != Some(4) || word(8) != Some(NT_GNU_BUILD_ID) || head.get(12..16) != Some(b"GNU\0") {
        return Ok(None);
    }
    Ok(Some(find::hex(&session.bytes(note.wrapping_add(16), len as usize)?)))
}

/// Walks modules.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "module",
    doc: "walk the loaded modules, the youngest first",
    item: "struct module",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Module>(),
    ViewEntry::of::<Memory>(),
    ViewEntry::of::<OldMemory>(),
    ViewEntry::of::<Kallsyms>(),
    ViewEntry::of::<BtfModule>(),
    ViewEntry::of::<BtfBlob>(),
    ViewEntry::of::<Section>(),
    ViewEntry::of::<SectionFile>(),
];
