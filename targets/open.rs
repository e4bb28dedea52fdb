//! From a path to a target: which format is it, and what is wrapped around it?

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::elf;
use crate::error::OpenError;
use crate::flat::{self, Flat};
use crate::image::Image;
use crate::info::Uts;
use crate::kdump;
use crate::lime;
use crate::mmu::Arch;
use crate::notes::Note;
use crate::order::Order;
use crate::raw::{self, Load};
use crate::source::{STDIN, Source};
use crate::unpack::{self, Packing};

/// How to open a target. The default is right unless the user said otherwise.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Do not believe a VMCOREINFO that the dump's headers bring; search memory for the kernel's own.
    pub ignore_note: bool,
    /// Believe no VMCOREINFO at all, wherever it is; find the kernel by its page tables.
    pub ignore_vmcoreinfo: bool,
    /// Of several kernels in memory (a crash kernel lies beside the one that crashed) take the one whose VMCOREINFO
    /// note, or table by which it was known, is at this physical address; [`Target::kernels`](crate::Target::kernels) lists them.
    pub kernel_at: Option<u64>,
    /// The other files of a dump that `makedumpfile --split` spread over several.
    pub parts: Vec<PathBuf>,
    /// The files are raw physical memory: where the pieces of each were, the first one's first, then those of `parts`.
    /// Empty if the files say themselves what they are.
    pub raw: Vec<Vec<Load>>,
}

/// What a format reader found.
pub(crate) struct Opened {
    pub format: String,
    pub arch: Arch,
    pub image: Box<dyn Image>,
    pub notes: Vec<Note>,
    pub vmcoreinfo: Option<Bytes>,
    pub order: Order,
    /// where the headers say that physical ranges are mapped: virtual addresses, and the physical one of the first
    pub virt: Vec<(Range<u64>, u64)>,
    /// what the dump's header says of the kernel
    pub uts: Option<Uts>,
    /// what makedumpfile erased from the dump, in its words
    pub erased: Option<String>,
    pub dump_time: Option<u64>,
    pub dump_level: Option<u32>,
    pub incomplete: bool,
    pub damage: Vec<String>,
}

impl Opened {
    pub fn new(format: String, arch: Arch, image: Box<dyn Image>, notes: Vec<Note>) -> Opened {
        let vmcoreinfo = notes.iter().find(|n| &n.name[..] == b"VMCOREINFO").map(|n| n.desc.clone());
        let erased = notes.iter().find(|n| &n.name[..] == b"ERASEINFO").map(|n| text(&n.desc));
        Opened {
            format,
            arch,
            image,
            notes,
            vmcoreinfo,
            order: Order::LITTLE_64,
            virt: Vec::new(),
            uts: None,
            erased,
            dump_time: None,
            dump_level: None,
            incomplete: false,
            damage: Vec::new(),
        }
    }
}

/// The text up to the first NUL.
pub(crate) fn text(bytes: &Bytes) -> String {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// A file, unwrapped.
struct Unwrapped {
    /// as the user knows it
    name: String,
    source: Source,
    /// what was taken off: `flattened`, `in a zstd file`
    wraps: Vec<String>,
    damage: Vec<String>,
}

/// Opens the file, or the parts of a split dump, as whatever they are.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<(Opened, Vec<PathBuf>, u64), OpenError> {
    let paths = std::iter::once(path).chain(options.parts.iter().map(PathBuf::as_path));
    let mut sources = Vec::new();
    for path in paths {
        let source = Source::open(path)?;
        sources.push((if path == Path::new(STDIN) { "standard input".into() } else { path.to_owned() }, source));
    }
    open_sources(sources, options)
}

/// The same of files in memory.
pub(crate) fn open_bytes(files: Vec<Bytes>, options: &OpenOptions) -> Result<(Opened, Vec<PathBuf>, u64), OpenError> {
    let sources = files.into_iter().enumerate().map(|(i, bytes)| (format!("memory {i}").into(), Source::Whole(bytes)));
    open_sources(sources.collect(), options)
}

fn open_sources(
    sources: Vec<(PathBuf, Source)>,
    options: &OpenOptions,
) -> Result<(Opened, Vec<PathBuf>, u64), OpenError> {
    let (mut paths, mut files, mut size) = (Vec::new(), Vec::new(), 0u64);
    for (path, source) in sources {
        size = size.saturating_add(source.len());
        let file = unwrap(path.display().to_string(), source);
        files.push(file.map_err(|why| OpenError::Format { path: path.clone(), why })?);
        paths.push(path);
    }
    let refuse = |why| match &paths[..] {
        [path] => OpenError::Format { path: path.clone(), why },
        _ => OpenError::Set { why },
    };
    let mut opened = sniff(&files, options).map_err(refuse)?;
    if let Some(trouble) = files.iter().find_map(|file| file.source.trouble()) {
        return Err(refuse(trouble));
    }
    for file in files {
        opened.damage.extend(file.damage);
    }
    Ok((opened, paths, size))
}

/// Whether the file is a dump, or a part of one, by its first bytes. A pipe, which can be read but once, is taken for
/// one.
pub(crate) fn is_dump(path: &Path) -> bool {
    /// Of a compressed file, enough for its first few bytes.
    const HEAD: u64 = 128 << 10;
    if path == Path::new(STDIN) {
        return true;
    }
    let Ok(meta) = std::fs::metadata(path) else { return false };
    if meta.file_type().is_fifo() {
        return true;
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && meta.is_file() && is_dump_head(&unpack::head(&head))
}

/// Whether a dump of a format that says what it is begins like this.
pub(crate) fn is_dump_head(head: &[u8]) -> bool {
    match head {
        [0x7f, b'E', b'L', b'F', _, order, ..] => {
            let core = [0, 4];
            head.get(16..18).is_some_and(|kind| if *order == 1 { kind.iter().rev().eq(&core) } else { kind == core })
        }
        head => head.starts_with(kdump::MAGIC) || head.starts_with(flat::MAGIC) || lime::is_image(head),
    }
}

/// The format, by the first bytes.
fn sniff(files: &[Unwrapped], options: &OpenOptions) -> Result<Opened, String> {
    if !options.raw.is_empty() {
        if options.raw.len() != files.len() {
            return Err("raw memory needs an address for each file".into());
        }
        let files: Vec<_> = files.iter().map(|f| f.source.clone()).zip(options.raw.iter().cloned()).collect();
        return raw::open(&files);
    }
    let Some(first) = files.first() else { return Err("no file".into()) };
    let head = head(&first.source);
    let mut opened = match &head[..] {
        [0x7f, b'E', b'L', b'F', ..] if files.len() > 1 => {
            return Err(format!(
                "{} is an ELF core: only kdump-compressed dumps have parts; give it alone",
                first.name
            ));
        }
        [0x7f, b'E', b'L', b'F', ..] => elf::open(&first.source)?,
        bytes if bytes.starts_with(kdump::MAGIC) => {
            if let Some(other) = files.iter().find(|f| !self::head(&f.source).starts_with(kdump::MAGIC)) {
                let name = &other.name;
                return Err(format!(
                    "{name} is no kdump-compressed file, as all parts of a split dump are: leave it out"
                ));
            }
            kdump::open(files.iter().map(|f| (f.name.clone(), f.source.clone())).collect())?
        }
        bytes if lime::is_image(bytes) => lime::open(&first.source)?,
        bytes => return Err(raw::hint(&first.source).unwrap_or_else(|| unknown(bytes).into())),
    };
    for wrap in &first.wraps {
        opened.format += &format!(", {wrap}");
    }
    Ok(opened)
}

fn head(source: &Source) -> Bytes {
    source.slice(0, source.len().min(16)).unwrap_or_default()
}

/// Takes off whole-file compression, then makedumpfile's flattening.
fn unwrap(name: String, mut source: Source) -> Result<Unwrapped, String> {
    let (mut wraps, mut damage) = (Vec::new(), Vec::new());
    if let Some(packing) = Packing::of(&head(&source)) {
        let (bytes, broken) = unpack::unpack(packing, &source.slice(0, source.len()).unwrap_or_default())?;
        source = Source::Whole(bytes);
        wraps.push(format!("in a {} file", packing.name()));
        damage.extend(broken);
    }
    if head(&source).starts_with(flat::MAGIC) && !matches!(source, Source::Flat(_)) {
        let flat = Flat::index(source);
        if flat.is_cut() {
            damage.push("the flattened stream breaks off".into());
        }
        source = Source::Flat(Arc::new(flat));
        if head(&source).is_empty() {
            return Err("a flattened stream that breaks off before the dump's header came: copy it again".into());
        }
        wraps.insert(0, "flattened".into());
    }
    Ok(Unwrapped { name, source, wraps, damage })
}

/// What to say of a file that is no dump: the nearest thing that people mistake for one.
fn unknown(head: &[u8]) -> &'static str {
    match head {
        [] => "there is nothing in it",
        bytes if bytes.starts_with(b"DISKDUMP") => "a diskdump of a kernel before kdump, which kmdb does not read",
        [b'B', b'Z', b'h', ..] => "a bzip2 file: decompress it first",
        [0x04, 0x22, 0x4d, 0x18, ..] => "an lz4 file: decompress it first",
        [b'P', b'K', 3, 4, ..] => "a zip file: unpack it first",
        [b'Q', b'E', b'V', b'M', ..] | [b'L', b'i', b'b', b'v', ..] => {
            "a virtual machine's saved state: dump its memory instead (virsh dump --memory-only)"
        }
        [0xd2, 0xbe, 0xd2, 0xbe, ..] | [0xd3, 0xbe, 0xd3, 0xbe, ..] => "a VMware snapshot, which kmdb does not read",
        [b'Q', b'F', b'I', 0xfb, ..] => "a disk image, not a dump",
        [b'\0', b'\0', b'\0', b'\0', ..] => {
            "it starts with zeros: a damaged file, or raw memory (`--load-address ADDR` takes it for that)"
        }
        _ => {
            "neither an ELF core nor kdump-compressed, nor a LiME image, nor one of these flattened or compressed as a whole"
        }
    }
}
