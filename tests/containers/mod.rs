//! Writers of dump files: the pages of one dump in every other container that one meets them in.

use std::{collections::BTreeMap, io::Write};

const PAGE: usize = 4096;

/// The pages and the notes of a dump.
pub struct Memory {
    pages: BTreeMap<u64, Vec<u8>>,
    notes: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Memory {
    /// Takes an ELF core apart.
    pub fn of_elf(file: &[u8]) -> Memory {
        let (mut pages, mut notes) = (BTreeMap::new(), Vec::new());
        let count = u16::from_le_bytes(file[56..58].try_into().unwrap());
        for header in file[word(file, 32) as usize..].chunks_exact(56).take(count.into()) {
            let (offset, address, size) = (word(header, 8) as usize, word(header, 24), word(header, 32) as usize);
            let content = &file[offset..offset + size];
            match header[0] {
                4 => notes.extend(content),
                1 => {
                    assert_eq!(address as usize % PAGE + size % PAGE, 0, "a segment of half a page");
                    pages.extend((address / PAGE as u64..).zip(content.chunks_exact(PAGE).map(<[u8]>::to_vec)));
                }
                _ => {}
            }
        }
        assert!(pages.len() > 1000 && !notes.is_empty());
        Memory { pages, notes }
    }

    /// One past the last page frame.
    fn frames(&self) -> u64 {
        self.pages.keys().next_back().unwrap() + 1
    }

    /// The VMCOREINFO note's text: where it is in the notes, and how long.
    fn vmcoreinfo(&self) -> (usize, usize) {
        let mut at = 0;
        while at + 12 <= self.notes.len() {
            let size = |i: usize| u32::from_le_bytes(self.notes[at + i..at + i + 4].try_into().unwrap()) as usize;
            let (name, desc) = (at + 12, at + 12 + size(0).next_multiple_of(4));
            if self.notes[name..].starts_with(b"VMCOREINFO\0") {
                return (desc, size(4));
            }
            at = desc + size(4).next_multiple_of(4);
        }
        panic!("no VMCOREINFO note");
    }

    /// A kdump-compressed file of version 6, or one part of a split set: that which has the page frames of `part`.
    fn kdump_part(&self, codec: Codec, part: Option<std::ops::Range<u64>>) -> Vec<u8> {
        let frames = self.frames();
        let blocks = (frames as usize).div_ceil(8 * PAGE);
        let mut out = b"KDUMP   ".to_vec();
        out.extend(6i32.to_le_bytes());
        for name in ["Linux", "labguest", "", "", "x86_64", ""] {
            let mut field = name.as_bytes().to_vec();
            field.resize(65, 0);
            out.extend(field);
        }
        out.resize(424, 0); // with a time stamp of 0
        // status, block size, sub-header's and bitmaps' blocks, last frame, RAM, device and written blocks, CPU, CPUs
        let sub_header = (2 * PAGE + self.notes.len()).div_ceil(PAGE);
        let words = [codec as u32, PAGE as u32, sub_header as u32, 2 * blocks as u32, frames as u32, 0, 0, 0, 0, 1];
        out.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        out.resize(PAGE, 0);
        let range = part.clone().unwrap_or(0..frames);
        let notes = 2 * PAGE as u64;
        let (info, info_size) = self.vmcoreinfo();
        out.extend(0u64.to_le_bytes());
        out.extend([0u32, part.is_some().into()].iter().flat_map(|w| w.to_le_bytes()));
        let info = notes + info as u64;
        let words = [range.start, range.end, info, info_size as u64, notes, self.notes.len() as u64, 0, 0];
        out.extend(words.iter().chain(&[range.start, range.end, frames]).flat_map(|w| w.to_le_bytes()));
        out.resize(notes as usize, 0);
        out.extend(&self.notes);
        out.resize((1 + sub_header) * PAGE, 0);
        let mut bitmap = vec![0u8; blocks * PAGE];
        self.pages.keys().for_each(|pfn| bitmap[*pfn as usize / 8] |= 1 << (pfn % 8));
        out.extend(&bitmap);
        out.extend(&bitmap);
        let packed: Vec<Vec<u8>> = self.pages.range(range).map(|(_, page)| codec.pack(page)).collect();
        let mut at = (out.len() + packed.len() * 24) as u64;
        for page in &packed {
            out.extend(at.to_le_bytes());
            // a page that would grow is stored as it is
            let flags = if page.len() == PAGE { 0 } else { codec as u32 };
            out.extend([page.len() as u32, flags, 0, 0].iter().flat_map(|w| w.to_le_bytes()));
            at += page.len() as u64;
        }
        out.extend(packed.concat());
        out
    }

    /// A kdump-compressed file.
    pub fn kdump(&self, codec: Codec) -> Vec<u8> {
        self.kdump_part(codec, None)
    }

    /// A split set of kdump-compressed files.
    pub fn split(&self, codec: Codec, parts: u64) -> Vec<Vec<u8>> {
        let cut = |i: u64| self.frames() * i / parts;
        (0..parts).map(|i| self.kdump_part(codec, Some(cut(i)..cut(i + 1)))).collect()
    }

    /// What LiME writes: each run of pages behind a header with its first and last address. No notes.
    pub fn lime(&self) -> Vec<u8> {
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (pfn, page) in &self.pages {
            match runs.last_mut() {
                Some((first, bytes)) if *first + (bytes.len() / PAGE) as u64 == *pfn => bytes.extend(page),
                _ => runs.push((*pfn, page.clone())),
            }
        }
        let mut out = Vec::new();
        for (first, bytes) in runs {
            let start = first * PAGE as u64;
            out.extend(0x4c69_4d45u32.to_le_bytes());
            out.extend(1u32.to_le_bytes());
            out.extend([start, start + bytes.len() as u64 - 1, 0].iter().flat_map(|w| w.to_le_bytes()));
            out.extend(bytes);
        }
        out
    }
}

/// How pages are packed: the flag in headers and descriptors.
#[derive(Clone, Copy, Debug)]
pub enum Codec {
    /// not
    None = 0,
    /// `makedumpfile -c`
    Zlib = 1,
    /// `makedumpfile -p`
    Snappy = 4,
    /// `makedumpfile -z`
    Zstd = 0x20,
}

impl Codec {
    fn pack(self, page: &[u8]) -> Vec<u8> {
        let packed = match self {
            Codec::None => page.to_vec(),
            Codec::Zlib => {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(page).unwrap();
                out.finish().unwrap()
            }
            Codec::Snappy => snap::raw::Encoder::new().compress_vec(page).unwrap(),
            Codec::Zstd => zstd::bulk::compress(page, 1).unwrap(),
        };
        if packed.len() < page.len() { packed } else { page.to_vec() }
    }
}

/// A flattened stream (`makedumpfile -F`) that makes `file`: records of odd sizes, those of the end first.
pub fn flatten(file: &[u8]) -> Vec<u8> {
    let mut out = b"makedumpfile\0\0\0\0".to_vec();
    out.extend([1u64, 1].iter().flat_map(|w| w.to_be_bytes()));
    out.resize(PAGE, 0);
    let cut = file.len() / 3;
    for (base, part) in [(cut, &file[cut..]), (0, &file[..cut])] {
        for (i, piece) in part.chunks(1_000_003).enumerate() {
            let at = base + i * 1_000_003;
            out.extend([at as u64, piece.len() as u64].iter().flat_map(|w| w.to_be_bytes()));
            out.extend(piece);
        }
    }
    out.extend([u64::MAX; 2].iter().flat_map(|w| w.to_be_bytes()));
    out
}
