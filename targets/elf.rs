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
//!
//! Files of both classes and byte orders are read. Of a machine whose page tables kmdb does not know, that is physical
//! memory and the notes.

use std::ops::Range;

use crate::image::{Kind, Piece, Pieces};
use crate::mmu::Arch;
use crate::notes::{self, Note};
use crate::open::Opened;
use crate::order::{Fields, Order};
use crate::source::Source;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` when the real count stands in section header 0.
const PN_XNUM: u16 = 0xffff;
/// makedumpfile's mark in `e_flags` that it ran out of space (`DUMP_ELF_INCOMPLETE`), on machines that have no flags
/// of their own.
const INCOMPLETE: u32 = 1;

/// The fields of the ELF header that count here.
pub(crate) struct Header {
    pub order: Order,
    kind: u16,
    pub machine: u16,
    pub phoff: u64,
    shoff: u64,
    flags: u32,
    phentsize: u16,
    pub phnum: u16,
}

struct Segment {
    kind: u32,
    off: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

/// Opens an ELF core; the error is what to tell the user.
pub(crate) fn open(source: &Source) -> Result<Opened, String> {
    let header = header(source)?;
    let order = header.order;
    let arch = Arch::from_elf(header.machine, order);
    let mut damage = Vec::new();
    let segments = segments(source, &header, &mut damage)?;

    let notes = read_notes(source, &segments, order, &mut damage);
    if notes.iter().any(is_process_note) {
        return Err("the core of a process, not of a kernel".into());
    }
    if notes.iter().any(|n| n.name.starts_with(b"Xen")) {
        damage.push("a dump of a Xen guest: paravirtual page tables are not translated".into());
    }
    let mut loads = segments.iter().filter(|s| s.kind == PT_LOAD).peekable();
    if loads.peek().is_none() {
        return Err(match header.shoff {
            0 => "an ELF core without any memory (no PT_LOAD)".into(),
            _ => "an ELF core without program headers for memory: if it is a Xen domain's (`xl dump-core`), \
                  kmdb does not read that format"
                .into(),
        });
    }
    let claims = claims(&segments, source.len(), &mut damage);
    if claims.is_empty() {
        damage.push("there is no memory in the dump: all its ranges are empty".into());
    }
    let mut opened = Opened::new("ELF core".into(), arch, Box::new(Pieces::padded(source.clone(), claims)), notes);
    // The kernel writes dumps of 32-bit machines with much memory in the 64-bit class.
    opened.order = Order { wide: order.wide && !matches!(arch.name(), "i386" | "arm" | "ppc"), ..order };
    opened.virt = segments.iter().filter_map(virtual_range).collect();
    opened.incomplete = arch.is_known() && header.flags & INCOMPLETE != 0;
    opened.damage = damage;
    Ok(opened)
}

fn read_notes(source: &Source, segments: &[Segment], order: Order, damage: &mut Vec<String>) -> Vec<Note> {
    let mut notes = Vec::new();
    for segment in segments.iter().filter(|s| s.kind == PT_NOTE) {
        let there = source.len().saturating_sub(segment.off).min(segment.filesz);
        if there < segment.filesz {
            damage.push(format!(
                "the file ends within its notes: at {:#x} instead of {:#x}",
                source.len(),
                segment.off.saturating_add(segment.filesz)
            ));
        }
        match source.slice(segment.off, there) {
            Ok(bytes) => notes.extend(notes::parse_in(bytes, order)),
            Err(_) if there == 0 => {}
            Err(reason) => damage.push(format!("notes at {:#x}: {reason}", segment.off)),
        }
    }
    notes
}

/// Where the kernel that wrote the headers had a range mapped, if it says so: hypervisors leave `p_vaddr` zero.
fn virtual_range(s: &Segment) -> Option<(Range<u64>, u64)> {
    let end = s.vaddr.checked_add(s.memsz.max(s.filesz))?;
    (s.kind == PT_LOAD && s.vaddr != 0 && s.vaddr < end).then_some((s.vaddr..end, s.paddr))
}

/// NT_AUXV and NT_FILE are written for processes only.
fn is_process_note(note: &Note) -> bool {
    &note.name[..] == b"CORE" && matches!(note.kind, 6 | 0x4649_4c45)
}

/// Reads the header of a core; the error is what to tell the user.
pub(crate) fn header(source: &Source) -> Result<Header, String> {
    let cut = |len| format!("an ELF file cut off within its header: {} bytes of {len}", source.len());
    let ident = source.slice(0, 16).map_err(|_| cut(64))?;
    let order = match (ident[4], ident[5]) {
        (class @ 1..=2, data @ 1..=2) => Order { wide: class == 2, big_endian: data == 2 },
        (class, data) => {
            return Err(format!("a damaged ELF header: class {class} and byte order {data} at offset 4"));
        }
    };
    let len = if order.wide { 64 } else { 52 };
    let bytes = source.slice(0, len).map_err(|_| cut(len))?;
    let header = parse_header(Fields::new(bytes.slice(16..), order), order).ok_or("a damaged ELF header")?;
    match header.kind {
        4 => Ok(header),
        1 => Err("an object file or kernel module, not a dump".into()),
        2 | 3 => Err("a program or a vmlinux, not a dump: give it beside the dump".into()),
        kind => Err(format!("an ELF file of type {kind} (at offset 16), not a core")),
    }
}

fn parse_header(mut f: Fields, order: Order) -> Option<Header> {
    let kind = f.u16()?;
    let machine = f.u16()?;
    f.u32()?; // e_version
    f.word()?; // e_entry
    let phoff = f.word()?;
    let shoff = f.word()?;
    let flags = f.u32()?;
    f.u16()?; // e_ehsize
    let phentsize = f.u16()?;
    let phnum = f.u16()?;
    Some(Header { order, kind, machine, phoff, shoff, flags, phentsize, phnum })
}

fn segments(source: &Source, header: &Header, damage: &mut Vec<String>) -> Result<Vec<Segment>, String> {
    // Offset of `sh_info` in the section header of each class, and bytes of a program header.
    let (sh_info, least) = if header.order.wide { (44, 56) } else { (28, 32) };
    let mut count = u64::from(header.phnum);
    if header.phnum == PN_XNUM && header.shoff != 0 {
        let at = header.shoff.checked_add(sh_info).ok_or("a damaged ELF header")?;
        let info = source
            .slice(at, 4)
            .map_err(|_| format!("an ELF core cut off before its section header at {:#x}", header.shoff))?;
        count = header.order.number(&info);
    }
    if header.phentsize < least && count > 0 {
        return Err(format!("an ELF core with program headers of {} bytes (at offset 54)", header.phentsize));
    }
    // Some writers give the 64-bit size in a 32-bit file.
    let each = if header.phentsize == 56 { u64::from(least) } else { u64::from(header.phentsize.max(least)) };
    let room = source.len().saturating_sub(header.phoff) / each;
    if count > 0 && room == 0 {
        let (at, len) = (header.phoff, source.len());
        return Err(format!(
            "an ELF core cut off before its program headers: they are at {at:#x}, it ends at {len:#x}"
        ));
    }
    if count > room {
        damage.push(format!("{count} program headers are announced, the file ends after {room}"));
        count = room;
    }
    let table = source.slice(header.phoff.min(source.len()), count * each).map_err(|e| e.to_string())?;
    let entries = (0..count).filter_map(|i| {
        let at = (i * each) as usize;
        segment(Fields::new(table.slice(at..at + each as usize), header.order), header.order.wide)
    });
    Ok(entries.collect())
}

fn segment(mut f: Fields, wide: bool) -> Option<Segment> {
    let kind = f.u32()?;
    if wide {
        f.u32()?; // p_flags, which the 32-bit class has at the end
    }
    let [off, vaddr, paddr, filesz, memsz] = [f.word()?, f.word()?, f.word()?, f.word()?, f.word()?];
    Some(Segment { kind, off, vaddr, paddr, filesz, memsz })
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
