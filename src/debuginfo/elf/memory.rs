//! A kernel's memory as its own file has it: what it is before it runs.
//!
//! Of a vmlinux these are the segments to be loaded, of an arm64 `Image` all of it. What a boot loader or the kernel
//! itself would change is as the linker left it, but for one thing: an arm64 kernel has zeros where it has pointers,
//! and a table of what to put there (`R_AARCH64_RELATIVE`), which is applied here.

use std::collections::HashMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use object::{Object, ObjectSegment};

use super::{DebugFile, Error};
use crate::Reader;

/// `EM_X86_64`
pub const X86_64: u16 = 62;

/// `EM_AARCH64`
pub const AARCH64: u16 = 183;

/// Kernel addresses have this bit.
const KERNEL_HALF: u64 = 1 << 63;

/// A relocation that adds the base: `R_AARCH64_RELATIVE`, of symbol 0.
const RELATIVE: u64 = 0x403;

/// Bytes of an `Elf64_Rela`.
const RELA: usize = 24;

/// Relocations that stand in a row in an arm64 kernel, at least: there are 40 000 of them.
const MIN_RELATIVE: usize = 256;

/// A part of it.
#[derive(Clone, Debug)]
pub struct Piece {
    /// where it was linked
    pub addr: u64,
    /// what stands there
    pub bytes: Bytes,
    /// how long it is in memory; zeros follow the bytes
    pub size: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.addr.saturating_add(self.size)
    }
}

/// The memory of a kernel that does not run, at the addresses where it was linked.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// sorted, disjoint
    pub pieces: Vec<Piece>,
}

impl Memory {
    fn new(mut pieces: Vec<Piece>) -> Memory {
        pieces.retain(|p| p.size > 0 && p.addr.checked_add(p.size).is_some());
        pieces.sort_by_key(|p| p.addr);
        let mut end = 0;
        // segments that overlap are damage; the first one counts
        pieces.retain(|p| {
            p.addr >= end && {
                end = p.end();
                true
            }
        });
        Memory { pieces }
    }

    /// From the first address to the last.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.pieces.first().map_or(0, |p| p.addr)..self.pieces.last().map_or(0, Piece::end)
    }

    /// What `uname -r` would say: the kernel's banner is `Linux version RELEASE (…`.
    pub fn release(&self) -> Option<String> {
        const BANNER: &[u8] = b"Linux version ";
        let text = |bytes: &[u8]| {
            let release = bytes.split(|&b| b == b' ').next().filter(|r| (3..=128).contains(&r.len()))?;
            release.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(release).into_owned())
        };
        self.pieces.iter().find_map(|p| {
            memmem::find_iter(&p.bytes, BANNER).find_map(|at| {
                let rest = p.bytes.get(at + BANNER.len()..)?;
                // `Linux version %s (%s)` is a format, and stands there too
                rest.first().is_some_and(u8::is_ascii_digit).then(|| text(rest.get(..200).unwrap_or(rest)))?
            })
        })
    }

    fn piece(&self, addr: u64) -> Option<&Piece> {
        let next = self.pieces.partition_point(|p| p.addr <= addr);
        self.pieces.get(next.checked_sub(1)?).filter(|p| addr < p.end())
    }
}

impl Reader for Memory {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        let (mut addr, mut buf) = (addr, buf);
        while !buf.is_empty() {
            let piece = self.piece(addr).ok_or_else(|| format!("{addr:#x} is not in the file"))?;
            let inside = (addr - piece.addr) as usize;
            let now = buf.len().min(usize::try_from(piece.end() - addr).unwrap_or(usize::MAX));
            let (head, rest) = buf.split_at_mut(now);
            let known = piece.bytes.get(inside..).unwrap_or_default();
            let (from, zeros) = head.split_at_mut(known.len().min(now));
            from.copy_from_slice(known.get(..from.len()).unwrap_or_default());
            zeros.fill(0);
            (addr, buf) = (addr.wrapping_add(now as u64), rest);
        }
        Ok(())
    }

    fn bytes(&self, addr: u64, len: usize) -> Result<Bytes, String> {
        if let Some(piece) = self.piece(addr) {
            let from = (addr - piece.addr) as usize;
            if let Some(end) = from.checked_add(len).filter(|&end| end <= piece.bytes.len()) {
                return Ok(piece.bytes.slice(from..end));
            }
        }
        // a wild length is no reason to allocate
        let end = addr.checked_add(len as u64).ok_or("past the end of memory")?;
        if end > self.range().end {
            return Err(format!("{addr:#x} to {end:#x} is not in the file"));
        }
        let mut out = vec![0; len];
        self.read(addr, &mut out)?;
        Ok(out.into())
    }
}

impl DebugFile {
    /// The kernel's memory, if this file holds it: debug information that was split off has none.
    pub fn memory(&self) -> Result<Memory, Error> {
        let fail = |why: String| Error::Format { path: self.path.clone(), why };
        let missing = |hint| Error::Missing { path: self.path.clone(), section: ".text", hint };
        if self.relocatable {
            return Err(fail("a module, not a kernel".into()));
        }
        if self.image {
            return image(&self.data).map_err(fail);
        }
        if self.sections.iter().any(|s| s.exec && s.alloc && s.nobits && s.size > 0) {
            return Err(missing("its contents were left out: it is debug information split from another file"));
        }
        let elf = object::File::parse(&*self.data).map_err(|e| fail(e.to_string()))?;
        let mut pieces = Vec::new();
        for segment in elf.segments().filter(|s| s.address() >= KERNEL_HALF) {
            let (at, len) = segment.file_range();
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.data.len());
            let to = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)).min(self.data.len());
            // zeros are for what the kernel clears, not for the tail of a file that was cut off
            let whole = (to - from) as u64 == len;
            let size = if whole { segment.size().min(len.saturating_add(MAX_ZEROS)) } else { (to - from) as u64 };
            pieces.push(Piece { addr: segment.address(), bytes: self.data.slice(from..to), size });
        }
        if pieces.is_empty() {
            return Err(missing("a program or a library, not a kernel"));
        }
        if self.machine == AARCH64 {
            let table = self.section(".rela.dyn")?;
            relocate(&mut pieces, relative(&table));
        }
        Ok(Memory::new(pieces))
    }
}

/// `.bss` and what is reserved behind it are below this.
const MAX_ZEROS: u64 = 1 << 28;

/// The relocations of a table: where, and what.
fn relative(table: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    table.as_chunks::<RELA>().0.iter().filter_map(|entry| {
        let word = |at: usize| entry.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b));
        (word(8)? == RELATIVE).then_some((word(0)?, word(16)?))
    })
}

fn relocate(pieces: &mut [Piece], relocations: impl Iterator<Item = (u64, u64)>) {
    let mut copies: Vec<Option<BytesMut>> = pieces.iter().map(|_| None).collect();
    for (at, value) in relocations {
        let found = pieces.iter().zip(&mut copies).find(|(p, _)| p.addr <= at && at < p.end());
        let Some((piece, copy)) = found else { continue };
        let copy = copy.get_or_insert_with(|| BytesMut::from(&*piece.bytes));
        let from = (at - piece.addr) as usize;
        if let Some(field) = copy.get_mut(from..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            *field = value.to_le_bytes();
        }
    }
    for (piece, copy) in pieces.iter_mut().zip(copies) {
        if let Some(copy) = copy {
            piece.bytes = copy.freeze();
        }
    }
}

/// The memory that an arm64 `Image` is. It does not say where it was linked. With `R_AARCH64_RELATIVE` these say it,
/// as they put the address of `_text`, the first byte of all, in some places; else the empty lists in it do.
fn image(data: &Bytes) -> Result<Memory, String> {
    let table = longest_table(data).unwrap_or_default();
    let addr = base_by_relocations(table, data.len() as u64).or_else(|| base_by_lists(data));
    let addr = addr.ok_or("an arm64 image of which it cannot be told where it was linked")?;
    // `image_size`, with what is to be cleared
    let size = data.get(16..).and_then(|d| d.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
    let size = size.clamp(data.len() as u64, data.len() as u64 + MAX_ZEROS);
    let mut pieces = vec![Piece { addr, bytes: data.clone(), size }];
    relocate(&mut pieces, relative(table));
    Ok(Memory::new(pieces))
}

fn base_by_relocations(table: &[u8], len: u64) -> Option<u64> {
    let (mut low, mut high) = (u64::MAX, 0);
    for (at, _) in relative(table) {
        (low, high) = (low.min(at), high.max(at));
    }
    let fits = |base: u64| base <= low && high - base < len && is_base(base);
    relative(table).map(|(_, value)| value).filter(|&base| fits(base)).min()
}

/// Kernels with `.relr.dyn` (since 6.6, where the linker can) have their pointers in place. Both pointers of an empty
/// list (`LIST_HEAD_INIT`) lead to itself, so that the difference to where it stands is where the image was linked; it
/// is so for thousands of lists.
fn base_by_lists(data: &[u8]) -> Option<u64> {
    const ENOUGH: u32 = 64;
    let mut votes: HashMap<u64, u32> = HashMap::new();
    let mut before = 0;
    for (nth, word) in data.as_chunks().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        if word == before && word >= KERNEL_HALF {
            let base = word.wrapping_sub((nth as u64 - 1) * 8);
            if is_base(base) {
                *votes.entry(base).or_default() += 1;
            }
        }
        before = word;
    }
    votes.into_iter().filter(|&(_, votes)| votes >= ENOUGH).max_by_key(|&(_, votes)| votes).map(|(base, _)| base)
}

fn is_base(addr: u64) -> bool {
    addr >= KERNEL_HALF && addr.is_multiple_of(1 << 12)
}

/// The longest row of `R_AARCH64_RELATIVE`.
fn longest_table(data: &[u8]) -> Option<&[u8]> {
    let is_one = |at: usize| data.get(at + 8..at + 16) == Some(&RELATIVE.to_le_bytes());
    let (mut best, mut end) = (0..0, 0);
    for hit in memmem::find_iter(data, &RELATIVE.to_le_bytes()) {
        let Some(start) = hit.checked_sub(8).filter(|start| start.is_multiple_of(8) && *start >= end) else { continue };
        end = start;
        while is_one(end) {
            end += RELA;
        }
        if end - start > best.len() {
            best = start..end;
        }
    }
    data.get(best).filter(|table| table.len() >= MIN_RELATIVE * RELA)
}

/// The build-id of an `Image`, which has no headers to say where it is: the note itself, by its shape. The libraries
/// in the image (vDSO) have notes of their own.
pub(super) fn build_id(data: &[u8]) -> Option<Vec<u8>> {
    // the sizes of name and text, NT_GNU_BUILD_ID, the name
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let libraries: Vec<_> = memmem::find_iter(data, b"\x7fELF").filter_map(|at| library(data, at)).collect();
    let own = |at: &usize| !libraries.iter().any(|library| library.contains(at));
    let at = memmem::find_iter(data, NOTE).find(own)? + NOTE.len();
    data.get(at..at + 20).map(<[u8]>::to_vec)
}

/// Where the ELF file that begins at `at` lies: its section headers are the last of it.
fn library(data: &[u8], at: usize) -> Option<Range<usize>> {
    let header = data.get(at..)?;
    let word = |at: usize, len: usize| {
        let bytes = header.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    let (shoff, entry, count) = match header.get(4..7)? {
        [1, 1, 1] => (word(32, 4)?, word(46, 2)?, word(48, 2)?),
        [2, 1, 1] => (word(40, 8)?, word(58, 2)?, word(60, 2)?),
        _ => return None,
    };
    // ET_DYN
    (word(16, 2)? == 3).then_some(())?;
    let len = usize::try_from(shoff.checked_add(entry * count)?).ok()?;
    Some(at..at.checked_add(len)?)
}
