//! ELF cores: what `/proc/vmcore`, QEMU's `dump-guest-memory` and `makedumpfile -E` write.
//!
//! Program headers say which physical range stands where in the file; one kind of them holds the notes. Real files
//! differ from the textbook: QEMU puts the program headers at 192 and leaves `p_vaddr` zero (so only `p_paddr` is
//! used), offsets are not page-aligned, ranges overlap, and with 65535 ranges or more the count moves to a section
//! header.
//!
//! `p_filesz < p_memsz` does not mean zeros here, whatever ELF says: makedumpfile cuts segments so that pages it left
//! out, all-zero ones and filtered ones alike, are the tail that has no bytes in the file. Zeros would often be a
//! lie, and a lie that looks like a freed object or the end of a list. Such bytes are `Excluded`.

use bytes::{Buf, Bytes};

use crate::image::{Kind, Piece, Pieces};
use crate::mmu::Arch;
use crate::notes::{self, Note};
use crate::open::Opened;
use crate::source::Source;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PHENT: u64 = 56;
/// `e_phnum` when the real count stands in section header 0.
const PN_XNUM: u16 = 0xffff;

/// The fields of `Elf64_Ehdr` that count here.
pub(crate) struct Header {
    kind: u16,
    pub machine: u16,
    pub phoff: u64,
    shoff: u64,
    phentsize: u16,
    pub phnum: u16,
}

struct Segment {
    kind: u32,
    off: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

/// Opens an ELF core; the error is what to tell the user.
pub(crate) fn open(source: &Source) -> Result<Opened, String> {
    let header = header(source)?;
    let arch = Arch::from_elf(header.machine).ok_or_else(|| {
        format!("an ELF core of machine {}, which kmdb does not know (it reads x86-64 and arm64)", header.machine)
    })?;
    let mut damage = Vec::new();
    let segments = segments(source, &header, &mut damage)?;

    let mut notes: Vec<Note> = Vec::new();
    for segment in segments.iter().filter(|s| s.kind == PT_NOTE) {
        let there = source.len().saturating_sub(segment.off).min(segment.filesz);
        match source.slice(segment.off, there) {
            Ok(bytes) if there == segment.filesz => notes.extend(notes::parse(bytes)),
            Ok(bytes) => {
                damage.push("the file ends within its notes".into());
                notes.extend(notes::parse(bytes));
            }
            Err(reason) => damage.push(format!("notes at {:#x}: {reason}", segment.off)),
        }
    }
    if notes.iter().any(is_process_note) {
        return Err("the core of a process, not of a kernel".into());
    }
    if notes.iter().any(|n| n.name.starts_with(b"Xen")) {
        damage.push("a dump of a Xen guest: paravirtual page tables are not translated".into());
    }

    let claims = claims(&segments, source.len(), &mut damage);
    if claims.is_empty() {
        return Err("an ELF core without any memory (no PT_LOAD)".into());
    }
    let image = Pieces::new(source.clone(), claims);
    let mut opened = Opened::new("ELF core".into(), arch, Box::new(image), notes);
    opened.damage = damage;
    Ok(opened)
}

/// NT_AUXV and NT_FILE are written for processes only.
fn is_process_note(note: &Note) -> bool {
    &note.name[..] == b"CORE" && matches!(note.kind, 6 | 0x4649_4c45)
}

/// Reads the header of a core of a 64-bit little-endian machine; the error is what to tell the user.
pub(crate) fn header(source: &Source) -> Result<Header, String> {
    let bytes = source.slice(0, 64).map_err(|_| "an ELF file cut off within its header")?;
    match (bytes[4], bytes[5]) {
        (2, 1) => {}
        (1, _) => return Err("a 32-bit ELF file; kmdb reads dumps of 64-bit kernels".into()),
        (_, 2) => return Err("a big-endian ELF file; kmdb reads dumps of little-endian machines".into()),
        _ => return Err("a damaged ELF header".into()),
    }
    let header = parse_header(bytes.slice(16..)).ok_or("a damaged ELF header")?;
    match header.kind {
        4 => Ok(header),
        1 => Err("an object file or kernel module, not a dump".into()),
        2 | 3 => Err("a program or a vmlinux, not a dump: give it after the dump".into()),
        kind => Err(format!("an ELF file of type {kind}, not a core")),
    }
}

fn parse_header(mut b: Bytes) -> Option<Header> {
    let kind = b.try_get_u16_le().ok()?;
    let machine = b.try_get_u16_le().ok()?;
    let mut b = b.get(12..)?; // e_version, e_entry
    let phoff = b.try_get_u64_le().ok()?;
    let shoff = b.try_get_u64_le().ok()?;
    let mut b = b.get(6..)?; // e_flags, e_ehsize
    let phentsize = b.try_get_u16_le().ok()?;
    let phnum = b.try_get_u16_le().ok()?;
    Some(Header { kind, machine, phoff, shoff, phentsize, phnum })
}

fn segments(source: &Source, header: &Header, damage: &mut Vec<String>) -> Result<Vec<Segment>, String> {
    /// Offset of `sh_info` in `Elf64_Shdr`.
    const SH_INFO: u64 = 44;
    let mut count = u64::from(header.phnum);
    if header.phnum == PN_XNUM && header.shoff != 0 {
        let at = header.shoff.checked_add(SH_INFO).ok_or("a damaged ELF header")?;
        let mut info = source.slice(at, 4).map_err(|_| "an ELF core cut off before its section header")?;
        count = u64::from(info.get_u32_le());
    }
    if u64::from(header.phentsize) != PHENT {
        return Err(format!("an ELF core with program headers of {} bytes", header.phentsize));
    }
    let room = source.len().saturating_sub(header.phoff) / PHENT;
    if count > room {
        damage.push(format!("{count} program headers are announced, the file ends after {room}"));
        count = room;
    }
    let mut table = source.slice(header.phoff, count * PHENT).map_err(|_| "an ELF core cut off in its headers")?;
    let mut out = Vec::new();
    while table.len() as u64 >= PHENT {
        out.extend(segment(table.split_to(PHENT as usize)));
    }
    Ok(out)
}

fn segment(mut b: Bytes) -> Option<Segment> {
    let kind = b.try_get_u32_le().ok()?;
    b.try_get_u32_le().ok()?; // p_flags
    let off = b.try_get_u64_le().ok()?;
    b.try_get_u64_le().ok()?; // p_vaddr: zero from a hypervisor, so of no use
    let paddr = b.try_get_u64_le().ok()?;
    let filesz = b.try_get_u64_le().ok()?;
    let memsz = b.try_get_u64_le().ok()?;
    Some(Segment { kind, off, paddr, filesz, memsz })
}

/// What the program headers claim: bytes in the file, bytes past its end, bytes left out.
fn claims(segments: &[Segment], file_len: u64, damage: &mut Vec<String>) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut wild = 0;
    for s in segments.iter().filter(|s| s.kind == PT_LOAD) {
        let ends = (s.paddr.checked_add(s.filesz), s.paddr.checked_add(s.memsz.max(s.filesz)));
        let (Some(file_end), Some(end)) = ends else {
            wild += 1;
            continue;
        };
        let there = file_len.saturating_sub(s.off).min(s.filesz);
        out.push(Piece { start: s.paddr, end: s.paddr + there, kind: Kind::File(s.off) });
        out.push(Piece { start: s.paddr + there, end: file_end, kind: Kind::Truncated });
        out.push(Piece { start: file_end, end, kind: Kind::Excluded });
    }
    out.retain(|p| p.start < p.end);
    if wild > 0 {
        damage.push(format!("{wild} program headers run past the end of the address space and were ignored"));
    }
    out
}
