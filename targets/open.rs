//! From a path to a target: which format is it, and what is wrapped around it?

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::elf;
use crate::error::OpenError;
use crate::image::Image;
use crate::mmu::Arch;
use crate::notes::Note;
use crate::source::Source;

/// How to open a target. The default is right unless the user said otherwise.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Do not believe a VMCOREINFO that the dump's headers bring; search memory for the kernel's own.
    pub ignore_note: bool,
    /// Believe no VMCOREINFO at all, wherever it is; find the kernel by its page tables.
    pub ignore_vmcoreinfo: bool,
    /// Of several kernels in memory (a crash kernel lies beside the one that crashed) take the one whose VMCOREINFO
    /// note is at this physical address; [`Target::kernels`](crate::Target::kernels) lists them.
    pub kernel_at: Option<u64>,
}

/// What a format reader found.
pub(crate) struct Opened {
    pub format: String,
    pub arch: Arch,
    pub image: Box<dyn Image>,
    pub notes: Vec<Note>,
    pub vmcoreinfo: Option<Bytes>,
    pub dump_time: Option<u64>,
    pub dump_level: Option<u32>,
    pub incomplete: bool,
    pub truncated: u64,
    pub excluded: Option<u64>,
    pub damage: Vec<String>,
}

impl Opened {
    pub fn new(format: String, arch: Arch, image: Box<dyn Image>, notes: Vec<Note>) -> Opened {
        let vmcoreinfo = notes.iter().find(|n| &n.name[..] == b"VMCOREINFO").map(|n| n.desc.clone());
        Opened {
            format,
            arch,
            image,
            notes,
            vmcoreinfo,
            dump_time: None,
            dump_level: None,
            incomplete: false,
            truncated: 0,
            excluded: None,
            damage: Vec::new(),
        }
    }
}

/// Opens the file as whatever it is.
pub(crate) fn open(path: &Path, _options: &OpenOptions) -> Result<(Opened, Vec<PathBuf>, u64), OpenError> {
    let source = Source::open(path)?;
    let size = source.len();
    let opened = sniff(&source).map_err(|why| OpenError::Format { path: path.into(), why })?;
    Ok((opened, vec![path.into()], size))
}

fn sniff(source: &Source) -> Result<Opened, String> {
    let head = source.slice(0, source.len().min(16)).unwrap_or_default();
    match &head[..] {
        [0x7f, b'E', b'L', b'F', ..] => elf::open(source),
        _ => Err("no dump format that kmdb knows (ELF core)".into()),
    }
}
