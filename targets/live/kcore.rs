//! `/proc/kcore` (fs/proc/kcore.c): memory as an ELF file that is as long as the address space.
//!
//! Its program headers give virtual ranges; for RAM and for the kernel's image they give physical ones too, since Linux
//! 4.11 (464920104bf7). Those are used. It is read, never mapped: the file has no pages of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Buf;

use super::{Memory, Ram, missing, whole_pages};
use crate::cover;
use crate::elf;
use crate::error::Reason;
use crate::mmu::Arch;
use crate::notes;
use crate::open::Opened;
use crate::source::Source;

const PATH: &str = "/proc/kcore";
const EHDR: usize = 64;
const PHDR: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Most bytes of headers or notes that are taken.
const MAX_HEAD: u64 = 4 << 20;

/// RAM that stands in the file in one piece.
struct Segment {
    start: u64,
    end: u64,
    offset: u64,
}

struct Kcore {
    file: File,
    /// sorted, disjoint
    segments: Vec<Segment>,
}

impl Ram for Kcore {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Reason> {
        while !buf.is_empty() {
            let next = self.segments.partition_point(|s| s.start <= pa);
            let segment = next.checked_sub(1).and_then(|i| self.segments.get(i)).filter(|s| pa < s.end);
            let segment = segment.ok_or(Reason::NotRam)?;
            let (now, rest) = buf.split_at_mut((buf.len() as u64).min(segment.end - pa) as usize);
            self.file.read_exact_at(now, segment.offset + (pa - segment.start)).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::UnexpectedEof => Reason::Refused,
                    _ if error.raw_os_error() == Some(libc::EFAULT) => Reason::Refused,
                    _ => Reason::Io(error.to_string()),
                }
            })?;
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }
}

/// Opens `/proc/kcore`; the error is what to tell the user.
pub fn open() -> Result<Opened, String> {
    let file = File::open(PATH).map_err(|error| missing::kcore(&error))?;
    let read = |offset, len: usize| -> Result<bytes::Bytes, String> {
        let mut buf = vec![0; len];
        file.read_exact_at(&mut buf, offset).map_err(|error| missing::kcore(&error))?;
        Ok(buf.into())
    };
    let odd = |what: &str| format!("{PATH}: {what}");
    let head = elf::header(&Source::Whole(read(0, EHDR)?)).map_err(|why| odd(&why))?;
    let arch = Some(Arch::from_elf(head.machine, head.order))
        .filter(|arch| arch.is_known())
        .ok_or_else(|| odd("of a machine that kmdb does not know"))?;
    let table = u64::from(head.phnum) * PHDR as u64;
    let mut table = read(head.phoff, table as usize)?;
    let (mut claims, mut found) = (Vec::new(), Vec::new());
    while table.len() >= PHDR {
        let mut phdr = table.split_to(PHDR);
        let kind = phdr.get_u32_le();
        phdr.advance(4); // p_flags
        let (offset, vaddr, paddr, filesz) =
            (phdr.get_u64_le(), phdr.get_u64_le(), phdr.get_u64_le(), phdr.get_u64_le());
        match kind {
            PT_NOTE if filesz <= MAX_HEAD => found.extend(notes::parse(read(offset, filesz as usize)?)),
            // -1 of what has no one physical range: vmalloc, vmemmap
            PT_LOAD if paddr != u64::MAX => {
                claims.extend(paddr.checked_add(filesz).map(|end| (paddr..end, vaddr, offset)))
            }
            _ => {}
        }
    }
    let ranked: Vec<_> = claims.iter().map(|(range, ..)| (range.clone(), range.end - range.start)).collect();
    let segments: Vec<Segment> = cover::disjoint(&ranked)
        .into_iter()
        .filter_map(|(range, winner)| {
            let (claim, _, offset) = claims.get(winner)?;
            Some(Segment { start: range.start, end: range.end, offset: offset + (range.start - claim.start) })
        })
        .collect();
    let ranges = whole_pages(segments.iter().map(|s| s.start..s.end).collect());
    if ranges.is_empty() {
        return Err(odd("no segment says where it is in physical memory"));
    }
    let image = Memory::new(Box::new(Kcore { file, segments }), ranges);
    Ok(Opened::new(format!("the running kernel, through {PATH}"), arch, Box::new(image), found))
}
