//! Files with debug information: `vmlinux`, `NAME.ko.debug`, also compressed as a whole or section by section.
//!
//! ```text
//! let file = DebugFile::open("/usr/lib/debug/boot/vmlinux-6.12.0-1-amd64")?;
//! check_build_id(vmcoreinfo_build_id, &file)?;
//! let file = Arc::new(file.placed(Placement::Slide(kaslr_offset)));
//! let symbols = Symtab::new(&file, None)?;
//! ```
//!
//! Opening maps the file and reads its section headers; a section is decompressed, and a module's relocated, when it
//! is first asked for.

mod bootable;
mod debuglink;
mod inflate;
mod lzop;
mod memory;
mod relocate;
mod symtab;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object::{Object, ObjectKind, ObjectSection, SectionFlags, elf};

pub use bootable::is_kernel;
pub use debuglink::{AltLink, DebugLink};
pub use memory::{AARCH64, Memory, Piece, X86_64};
pub use symtab::Symtab;

use crate::fan;

/// Why a file with debug information is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("{path}: {why}")]
    Io {
        /// as it was given
        path: PathBuf,
        /// the system's reason
        why: String,
    },
    /// It is not an ELF file, or its headers are damaged.
    #[error("{path}: {why}")]
    Format {
        /// as it was given
        path: PathBuf,
        /// what is wrong
        why: String,
    },
    /// It is of another build than the dump.
    #[error("{path}: build-id differs: dump {dump}, file {file}")]
    BuildId {
        /// as it was given
        path: PathBuf,
        /// hex digits
        dump: String,
        /// hex digits
        file: String,
    },
    /// It is not what another file refers to.
    #[error("{path}: not the debug information of {of}: neither build-id nor checksum fits")]
    Link {
        /// where it was looked for
        path: PathBuf,
        /// the file that refers to it
        of: PathBuf,
    },
    /// Part of its debug information is in another file, which is not there.
    #[error("{path}: part of its debug information is in {name} (build-id {id}), which was not found")]
    Shared {
        /// the file that refers to it
        path: PathBuf,
        /// as it is named there
        name: String,
        /// hex digits
        id: String,
    },
    /// A server has no such file, or cannot be asked.
    #[error("{url}: {why}")]
    Remote {
        /// what was asked for
        url: String,
        /// what came back
        why: String,
    },
    /// A section that is needed is not there.
    #[error("{path}: no {section} section: {hint}")]
    Missing {
        /// as it was given
        path: PathBuf,
        /// its name
        section: &'static str,
        /// what to do about it
        hint: &'static str,
    },
    /// A section's contents cannot be read.
    #[error("{path}: section {section}: {why}")]
    Section {
        /// as it was given
        path: PathBuf,
        /// its name
        section: String,
        /// what is wrong
        why: String,
    },
    /// The DWARF in it cannot be read.
    #[error("{path}: DWARF: {why}")]
    Dwarf {
        /// as it was given
        path: PathBuf,
        /// what is wrong
        why: String,
    },
}

/// Where the file's contents were loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// A linked kernel, moved by this many bytes (KASLR; `KERNELOFFSET` in VMCOREINFO), modulo 2^64.
    Slide(u64),
    /// A module: section names and their addresses, as its `sect_attrs` has them. Sections that are not named (those
    /// freed after initialisation) get made-up addresses below 2^32 that no kernel uses.
    Sections(HashMap<String, u64>),
}

/// A section as its header describes it.
#[derive(Debug)]
pub(crate) struct Section {
    name: String,
    /// link address; in a module, what [`Placement`] says
    addr: u64,
    size: u64,
    align: u64,
    alloc: bool,
    write: bool,
    exec: bool,
    nobits: bool,
    /// bytes in the file
    raw: Bytes,
    packed: Option<(inflate::Codec, u64)>,
    data: OnceLock<Result<Bytes, Error>>,
}

/// An opened ELF file.
pub struct DebugFile {
    path: PathBuf,
    data: Bytes,
    /// what it was packed in, outermost first
    layers: Vec<String>,
    /// `e_machine`
    machine: u16,
    /// an arm64 `Image`, which has no headers
    image: bool,
    little_endian: bool,
    relocatable: bool,
    build_id: Option<Vec<u8>>,
    slide: u64,
    /// what dwz moved out of it
    shared: Option<Arc<DebugFile>>,
    /// by section index, the null section included
    sections: Vec<Section>,
}

impl std::fmt::Debug for DebugFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DebugFile").field("path", &self.path).field("build_id", &self.build_id).finish_non_exhaustive()
    }
}

impl DebugFile {
    /// Maps a file, or unpacks it if all of it is packed, or if it is a bootable image with a kernel in it.
    pub fn open(path: impl AsRef<Path>) -> Result<DebugFile, Error> {
        let path = path.as_ref();
        let io = |e: std::io::Error| Error::Io { path: path.to_owned(), why: e.to_string() };
        // before it is opened, as opening a pipe waits for somebody to write to it
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::Io { path: path.to_owned(), why: "not a regular file".into() });
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is private and read-only. A file that is truncated or rewritten meanwhile ends in SIGBUS
        // or in bytes that change; no decoder here relies on reading the same byte twice.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        DebugFile::from_bytes(path, Bytes::from_owner(map))
    }

    /// The same for bytes at hand; `path` serves messages.
    pub fn from_bytes(path: impl AsRef<Path>, data: Bytes) -> Result<DebugFile, Error> {
        let path = path.as_ref().to_owned();
        let format = |why: String| Error::Format { path: path.clone(), why };
        let bootable::Unwrapped { data, layers } = bootable::unwrap(data).map_err(format)?;
        if bootable::is_image(&data) {
            return Ok(DebugFile {
                build_id: memory::build_id(&data),
                layers,
                machine: memory::AARCH64,
                image: true,
                little_endian: true,
                relocatable: false,
                slide: 0,
                shared: None,
                sections: vec![Section::null()],
                data,
                path,
            });
        }
        if !data.starts_with(b"\x7fELF") {
            return Err(format(if data.is_empty() { "an empty file" } else { "not an ELF file" }.into()));
        }
        let elf = object::File::parse(&*data).map_err(|e| format(e.to_string()))?;
        let sections = sections(&elf, &data).map_err(|e| format(e.to_string()))?;
        let mut file = DebugFile {
            build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
            layers,
            machine: machine(&elf),
            image: false,
            little_endian: elf.is_little_endian(),
            relocatable: elf.kind() == ObjectKind::Relocatable,
            slide: 0,
            shared: None,
            sections,
            data: data.clone(),
            path,
        };
        if file.relocatable {
            file.place_sections(&HashMap::new());
        }
        Ok(file)
    }

    /// The file where it was loaded. To be called before anything is read from it.
    pub fn placed(mut self, placement: Placement) -> DebugFile {
        match placement {
            Placement::Slide(slide) => self.slide = slide,
            Placement::Sections(addrs) => self.place_sections(&addrs),
        }
        self
    }

    /// As it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the linker called this build; `None` if the file does not say.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Whether this is an unlinked object: a module.
    pub fn is_module(&self) -> bool {
        self.relocatable
    }

    /// Whether the file was made for a little-endian machine.
    pub fn little_endian(&self) -> bool {
        self.little_endian
    }

    /// `e_machine`: [`X86_64`], [`AARCH64`], or 0 for any other.
    pub fn machine(&self) -> u16 {
        self.machine
    }

    /// What kind of file it is: `ELF`, `bzImage (zstd)`, `arm64 Image in gzip`.
    pub fn kind(&self) -> String {
        let inner = if self.image { "arm64 Image" } else { "ELF" };
        match self.layers.split_last() {
            None => inner.to_owned(),
            Some((last, _)) if !self.image && last.starts_with("bzImage") => self.layers.join(", "),
            Some(_) => format!("{inner} in {}", self.layers.join(", ")),
        }
    }

    /// Bytes of all, unpacked.
    pub fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// How far the kernel was moved from its link address.
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// Where the byte linked at `addr` was loaded.
    pub fn loaded(&self, addr: u64) -> u64 {
        // x86 before Linux 6.15 links the per-CPU area at 0 and the kernel does not move it.
        let fixed = |s: &Section| s.name == ".data..percpu" && s.addr == 0 && addr < s.size;
        if self.slide == 0 || self.sections.iter().any(fixed) { addr } else { addr.wrapping_add(self.slide) }
    }

    /// Whether there is debug information for types.
    pub fn has_dwarf(&self) -> bool {
        self.has(".debug_info")
    }

    /// Whether there is a section of that name with contents.
    pub fn has(&self, name: &str) -> bool {
        self.sections.iter().any(|s| s.name == name && !s.raw.is_empty())
    }

    /// A section's contents, decompressed and relocated; empty if it has none or is not there.
    pub fn section(&self, name: &str) -> Result<Bytes, Error> {
        let Some(index) = self.sections.iter().position(|s| s.name == name && !s.nobits) else {
            return Ok(Bytes::new());
        };
        let Some(section) = self.sections.get(index) else { return Ok(Bytes::new()) };
        section.data.get_or_init(|| self.read(index, section)).clone()
    }

    /// Reads several sections at once, as decompressing them takes its time.
    pub fn load(&self, names: &[&str]) -> Result<Vec<Bytes>, Error> {
        let read = |_: &mut (), job: usize| {
            // the outcome stays in the section, also if it is an error
            let _ = names.get(job).map(|name| self.section(name));
        };
        fan::out(names.len(), || (), read);
        names.iter().map(|name| self.section(name)).collect()
    }

    fn read(&self, index: usize, section: &Section) -> Result<Bytes, Error> {
        let fail = |why| Error::Section { path: self.path.clone(), section: section.name.clone(), why };
        let data: Bytes = match section.packed {
            Some((codec, size)) => codec.section(&section.raw, size).map_err(fail)?.into(),
            None => section.raw.clone(),
        };
        if !self.relocatable {
            return Ok(data);
        }
        relocate::relocate(self, index, data).map_err(fail)
    }

    /// Gives a module's sections the addresses they were loaded at, and the others some that do not overlap.
    fn place_sections(&mut self, addrs: &HashMap<String, u64>) {
        let mut free = 0x1000u64;
        for section in self.sections.iter_mut().filter(|s| s.alloc) {
            match addrs.get(&section.name) {
                Some(&addr) => section.addr = addr,
                None => {
                    let align = section.align.clamp(1, 0x1000).next_power_of_two();
                    section.addr = free.next_multiple_of(align);
                    free = section.addr.saturating_add(section.size).min(u64::from(u32::MAX));
                }
            }
        }
    }
}

/// Reads the section headers. Names are unique in what linkers make; of two, the first is used.
fn sections(elf: &object::File<'_>, data: &Bytes) -> object::Result<Vec<Section>> {
    // `sections()` leaves out the null section; symbols and relocations count it.
    let mut out = vec![Section::null()];
    for section in elf.sections() {
        let SectionFlags::Elf { sh_type, sh_flags } = section.flags() else { continue };
        let range = section.compressed_file_range()?;
        let end = range.offset.checked_add(range.compressed_size);
        let raw = match end.and_then(|end| Some(usize::try_from(range.offset).ok()?..usize::try_from(end).ok()?)) {
            Some(range) if range.end <= data.len() => data.slice(range),
            // a header past the end of a truncated file: reading that section gives nothing
            _ => Bytes::new(),
        };
        let name = String::from_utf8_lossy(section.name_bytes()?).into_owned();
        out.push(Section {
            name: name.strip_prefix(".zdebug_").map(|rest| format!(".debug_{rest}")).unwrap_or(name),
            addr: section.address(),
            size: section.size(),
            align: section.align(),
            alloc: sh_flags.contains(elf::SHF_ALLOC),
            write: sh_flags.contains(elf::SHF_WRITE),
            exec: sh_flags.contains(elf::SHF_EXECINSTR),
            nobits: sh_type == elf::SHT_NOBITS,
            raw,
            packed: inflate::Codec::of_section(range.format)?.map(|codec| (codec, range.uncompressed_size)),
            data: OnceLock::new(),
        });
    }
    Ok(out)
}

impl Section {
    fn null() -> Section {
        Section {
            name: String::new(),
            addr: 0,
            size: 0,
            align: 0,
            alloc: false,
            write: false,
            exec: false,
            nobits: true,
            raw: Bytes::new(),
            packed: None,
            data: OnceLock::new(),
        }
    }
}

fn machine(elf: &object::File<'_>) -> u16 {
    match elf.architecture() {
        object::Architecture::X86_64 => memory::X86_64,
        object::Architecture::Aarch64 => memory::AARCH64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
