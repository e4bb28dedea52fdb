//! A tiny machine, and dumps of it in every format: 24 pages, a kernel of 4 MiB, no more than the target layer reads.

use std::collections::BTreeMap;
use std::io::Write;

use targets::{OpenError, OpenOptions, Target};

pub const PAGE: usize = 4096;
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// KASLR moved the kernel by 32 MiB; it was loaded at 0, so `phys_base` is negative.
pub const TEXT: u64 = IMAGE_BASE + 0x300_0000;
pub const PHYS_BASE: i64 = -0x300_0000;
pub const IMAGE_OFFSET: u64 = TEXT;
pub const DIRECT_MAP: u64 = 0xffff_9000_4000_0000;
/// A page of vmalloc that leads to page 20.
pub const VMALLOC: u64 = 0xffff_b000_0012_3000;
/// A page of the process whose tables start at page 10, leading to page 21.
pub const USER: u64 = 0x7fff_0000_1000;
pub const USER_PGD: u64 = 10 * PAGE as u64;

/// Page frame numbers of tables and notes.
const PGD: u64 = 2;
const P4D: u64 = 3;
const L3: u64 = 4;
const L2: u64 = 5;
const NOTE: u64 = 22;
/// The kernel half's part that the tests use with five levels.
const FIVE_LEVELS: u64 = 0xffbf << 48;

/// Physical memory.
#[derive(Clone)]
pub struct Memory {
    pub pages: BTreeMap<u64, Vec<u8>>,
    pub levels: u8,
    pub note: String,
}

impl Memory {
    /// A kernel with `levels` levels of page tables.
    pub fn new(levels: u8) -> Memory {
        let mut memory = Memory { pages: BTreeMap::new(), levels, note: String::new() };
        for pfn in 0..24u64 {
            // Bytes that compress, but not to nothing.
            memory.pages.insert(pfn, (0..PAGE).map(|i| (i as u64 / 5 + pfn) as u8).collect());
        }
        for table in [PGD, P4D, L3, L2, 6, 7, 8, 9, 11, 12] {
            memory.pages.insert(table, vec![0; PAGE]);
        }
        let va = |pfn: u64| TEXT + pfn * PAGE as u64;
        // The kernel's image: two large pages, linear.
        memory.entry(L3, 510, L2 << 12 | 0x63);
        memory.entry(L3, 511, 6 << 12 | 0x63);
        for i in 0..2 {
            memory.entry(L2, 24 + i, i << 21 | 0xe3);
        }
        let index = |va: u64, level: u64| va >> (12 + 9 * (level - 1)) & 511;
        // With five levels the image has the last entry of the top table, all else that is here another one.
        let upper = if levels == 5 {
            memory.entry(PGD, 511, P4D << 12 | 0x63);
            memory.entry(P4D, 511, L3 << 12 | 0x63);
            memory.entry(PGD, index(FIVE_LEVELS, 5), 7 << 12 | 0x63);
            7
        } else {
            memory.entry(PGD, 511, L3 << 12 | 0x63);
            PGD
        };
        // The direct map: one page of 1 GiB. vmalloc: one page of 4 KiB.
        memory.entry(upper, index(DIRECT_MAP, 4), 8 << 12 | 0x63);
        memory.entry(8, index(DIRECT_MAP, 3), 0x8000_0000_0000_01e3);
        memory.entry(upper, index(VMALLOC, 4), 9 << 12 | 0x63);
        memory.entry(9, index(VMALLOC, 3), 11 << 12 | 0x63);
        memory.entry(11, index(VMALLOC, 2), 12 << 12 | 0x63);
        memory.entry(12, index(VMALLOC, 1), 0x8000_0000_0000_0163 | 20 << 12);
        // A process: its own lower half, the kernel's upper half.
        memory.pages.insert(10, memory.pages[&PGD].clone());
        let mut table = 10;
        for level in (2..=u64::from(levels)).rev() {
            let next = 11 + level; // 13 to 16
            memory.pages.insert(next, vec![0; PAGE]);
            memory.entry(table, index(USER, level), next << 12 | 0x67);
            table = next;
        }
        memory.entry(table, index(USER, 1), 21 << 12 | 0x8000_0000_0000_0065);
        memory.note = format!(
            "OSRELEASE=6.1.0-synthetic\nBUILD-ID=0123456789abcdef\nPAGESIZE=4096\nSYMBOL(init_top_pgt)={:x}\n\
             SYMBOL(_stext)={TEXT:x}\nNUMBER(phys_base)={PHYS_BASE}\nNUMBER(pgtable_l5_enabled)={}\n\
             KERNELOFFSET=2000000\nNUMBER(sme_mask)=0\nCRASHTIME=1700000000\n",
            va(PGD),
            u8::from(levels == 5),
        );
        let mut page = note("VMCOREINFO", 0, memory.note.as_bytes());
        page.resize(PAGE, 0);
        memory.pages.insert(NOTE, page);
        memory
    }

    /// Where an address of the kernel's half is: five levels have the same bits below another top entry.
    pub fn upper(&self, va: u64) -> u64 {
        if self.levels == 5 { va & ((1 << 48) - 1) | FIVE_LEVELS } else { va }
    }

    pub fn entry(&mut self, table: u64, index: u64, value: u64) {
        let at = index as usize * 8;
        self.pages.get_mut(&table).unwrap()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&self, pa: u64) -> u64 {
        let (pfn, at) = (pa / PAGE as u64, (pa % PAGE as u64) as usize);
        u64::from_le_bytes(self.pages[&pfn][at..at + 8].try_into().unwrap())
    }
}

pub fn note(name: &str, kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [name.len() as u32 + 1, desc.len() as u32, kind] {
        out.extend(word.to_le_bytes());
    }
    for part in [[name.as_bytes(), b"\0"].concat(), desc.to_vec()] {
        out.extend(&part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// Notes of two CPUs, register `i` of CPU `c` being `c << 8 | i`, without and with QEMU's; and VMCOREINFO if wished.
pub fn notes(memory: &Memory, qemu: bool, vmcoreinfo: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for cpu in 0..2u64 {
        let mut desc = vec![0; 336];
        desc[32..36].copy_from_slice(&(700 + cpu as u32).to_le_bytes());
        for i in 0..27 {
            desc[112 + 8 * i..120 + 8 * i].copy_from_slice(&(cpu << 8 | i as u64).to_le_bytes());
        }
        out.extend(note("CORE", 1, &desc));
    }
    for cpu in 0..if qemu { 2u64 } else { 0 } {
        let mut desc = vec![0; 440];
        desc[0] = 1;
        desc[4..8].copy_from_slice(&440u32.to_le_bytes());
        for i in 0..54 {
            desc[8 + 8 * i..16 + 8 * i].copy_from_slice(&(cpu << 12 | i as u64).to_le_bytes());
        }
        out.extend(note("QEMU", 0, &desc));
    }
    if vmcoreinfo {
        out.extend(note("VMCOREINFO", 0, memory.note.as_bytes()));
    }
    out
}

/// A program header: type, offset, physical address, bytes in the file, bytes in memory.
pub type Phdr = (u32, u64, u64, u64, u64);

/// An ELF core from its program headers, with them at `phoff`, followed by `rest`.
pub fn elf_raw(phoff: u64, phdrs: &[Phdr], rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    out.extend(0u64.to_le_bytes());
    out.extend(phoff.to_le_bytes());
    out.resize(54, 0);
    out.extend(56u16.to_le_bytes());
    out.extend((phdrs.len() as u16).to_le_bytes());
    out.resize(phoff as usize, 0);
    for &(kind, off, pa, filesz, memsz) in phdrs {
        out.extend(kind.to_le_bytes());
        out.extend(7u32.to_le_bytes());
        for word in [off, 0, pa, filesz, memsz, 0] {
            out.extend(word.to_le_bytes());
        }
    }
    rest(&mut out);
    out
}

/// An ELF core as QEMU writes it: program headers at 192, memory at an odd offset.
pub fn elf(memory: &Memory, qemu: bool, vmcoreinfo: bool) -> Vec<u8> {
    let notes = notes(memory, qemu, vmcoreinfo);
    let notes_at = 192 + 2 * 56;
    let data_at = notes_at + notes.len() as u64 + 1;
    let bytes: Vec<u8> = memory.pages.values().flatten().copied().collect();
    let size = bytes.len() as u64;
    let phdrs = [(4, notes_at, 0, notes.len() as u64, notes.len() as u64), (1, data_at, 0, size, size)];
    elf_raw(192, &phdrs, |out| {
        out.extend(&notes);
        out.push(0xee);
        out.extend(&bytes);
    })
}

/// How `kdump` compresses: the flag of a page descriptor.
pub const CODECS: [u32; 5] = [0, 1, 2, 4, 0x20];

/// A kdump-compressed file of version 6, in which pages of `excluded` exist but are left out.
pub fn kdump(memory: &Memory, codec: u32, excluded: &[u64]) -> Vec<u8> {
    let notes = notes(memory, false, false);
    let vmcoreinfo = memory.note.as_bytes();
    let frames = 64u64;
    let mut out = b"KDUMP   ".to_vec();
    out.extend(6i32.to_le_bytes());
    for name in ["Linux", "host", "6.1.0-synthetic", "#1", "x86_64", ""] {
        let mut field = name.as_bytes().to_vec();
        field.resize(65, 0);
        out.extend(field);
    }
    out.resize(408, 0);
    out.extend(1_700_000_001u64.to_le_bytes());
    out.extend([0; 8]);
    for word in [codec, PAGE as u32, 1, 2, frames as u32, 0, 0, 0, 0, 2] {
        out.extend(word.to_le_bytes());
    }
    out.resize(PAGE, 0);
    let (info_at, notes_at) = (PAGE as u64 + 256, PAGE as u64 + 2048);
    out.extend(0u64.to_le_bytes());
    out.extend(17u32.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    for word in [0, frames, info_at, vmcoreinfo.len() as u64, notes_at, notes.len() as u64, 0, 0, 0, frames, frames] {
        out.extend(word.to_le_bytes());
    }
    out.resize(info_at as usize, 0);
    out.extend(vmcoreinfo);
    out.resize(notes_at as usize, 0);
    out.extend(notes);
    out.resize(2 * PAGE, 0);
    let mut bitmaps = vec![0u8; 2 * PAGE];
    for &pfn in memory.pages.keys() {
        bitmaps[pfn as usize / 8] |= 1 << (pfn % 8);
        if !excluded.contains(&pfn) {
            bitmaps[PAGE + pfn as usize / 8] |= 1 << (pfn % 8);
        }
    }
    out.extend(bitmaps);
    let pages: Vec<_> = memory.pages.iter().filter(|(pfn, _)| !excluded.contains(pfn)).map(|(_, p)| p).collect();
    let mut at = (out.len() + pages.len() * 24) as u64;
    let packed: Vec<Vec<u8>> = pages.iter().map(|page| compress(codec, page)).collect();
    for page in &packed {
        out.extend(at.to_le_bytes());
        out.extend((page.len() as u32).to_le_bytes());
        // A page that would grow is stored as it is.
        out.extend((if page.len() == PAGE { 0 } else { codec }).to_le_bytes());
        out.extend(0u64.to_le_bytes());
        at += page.len() as u64;
    }
    out.extend(packed.concat());
    out
}

fn compress(codec: u32, page: &[u8]) -> Vec<u8> {
    let packed = match codec {
        1 => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(page).unwrap();
            out.finish().unwrap()
        }
        2 => lzokay::compress::compress(page).unwrap(),
        4 => snap::raw::Encoder::new().compress_vec(page).unwrap(),
        0x20 => zstd::bulk::compress(page, 1).unwrap(),
        _ => page.to_vec(),
    };
    if packed.len() < page.len() { packed } else { page.to_vec() }
}

/// A flattened stream that makes `file`: odd pieces, the last first, and the beginning twice, wrong at first.
pub fn flatten(file: &[u8]) -> Vec<u8> {
    let mut out = b"makedumpfile\0\0\0\0".to_vec();
    out.extend(1u64.to_be_bytes());
    out.extend(1u64.to_be_bytes());
    out.resize(PAGE, 0);
    let mut record = |off: usize, bytes: &[u8]| {
        out.extend((off as u64).to_be_bytes());
        out.extend((bytes.len() as u64).to_be_bytes());
        out.extend(bytes);
    };
    let cut = file.len() * 2 / 3;
    record(cut, &file[cut..]);
    record(0, &[0xaa; 100]);
    for (i, piece) in file[..cut].chunks(3001).enumerate() {
        record(i * 3001, piece);
    }
    for _ in 0..2 {
        out.extend(u64::MAX.to_be_bytes());
    }
    out
}

/// A LiME image of two ranges.
pub fn lime(memory: &Memory) -> Vec<u8> {
    image(memory, b"EMiL", 1, |out, bytes| out.extend(bytes))
}

/// An AVML image of two ranges, the first one in several frames.
pub fn avml(memory: &Memory) -> Vec<u8> {
    image(memory, b"AVML", 2, |out, bytes| {
        let mut packed = snap::write::FrameEncoder::new(Vec::new());
        packed.write_all(bytes).unwrap();
        let packed = packed.into_inner().unwrap();
        out.extend(&packed);
        out.extend((packed.len() as u64).to_le_bytes());
    })
}

fn image(memory: &Memory, magic: &[u8], version: u32, write: impl Fn(&mut Vec<u8>, &[u8])) -> Vec<u8> {
    let bytes: Vec<u8> = memory.pages.values().flatten().copied().collect();
    let mut out = Vec::new();
    for range in [0..20 * PAGE, 20 * PAGE..bytes.len()] {
        out.extend(magic);
        out.extend(version.to_le_bytes());
        for word in [range.start as u64, range.end as u64 - 1, 0] {
            out.extend(word.to_le_bytes());
        }
        write(&mut out, &bytes[range]);
    }
    out
}

/// Opens bytes as a file.
pub fn open(bytes: &[u8], options: &OpenOptions) -> Result<Target, OpenError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Target::open(file.path(), options)
}
