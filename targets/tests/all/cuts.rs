//! Files that end too early, at every byte of what describes them: headers, notes, bitmaps, tables, records.
//!
//! Either the file is refused in words, or it opens as an incomplete dump. Then each page reads as it was or is an
//! error, and what is said to be lost is what is lost. A page that reads as something else is the one thing that must
//! never be.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use targets::{OpenOptions, Reason, Space, Target};

use crate::synth::{self, Memory, PAGE};

/// The first `len` bytes, opened; or what was said instead.
fn cut(file: &Bytes, len: usize) -> Result<Target, String> {
    let opened = Target::of_bytes(vec![file.slice(..len)], &OpenOptions::default());
    opened.map_err(|error| error.to_string())
}

/// How many pages cannot be had. The others are right.
fn lost(target: &Target, memory: &Memory) -> u64 {
    let pages = memory.pages.iter().map(|(pfn, page)| match target.bytes(Space::Phys, pfn << 12, PAGE) {
        Ok(bytes) => {
            assert_eq!(bytes, page[..], "page {pfn}");
            0
        }
        Err(_) => 1,
    });
    pages.sum()
}

#[test]
fn an_elf_core_cut_anywhere_in_its_headers_and_notes() {
    let memory = Memory::new(4);
    let file = Bytes::from(synth::elf(&memory, true, true));
    let data = file.len() - memory.pages.len() * PAGE;
    for len in 1..data + 2 * PAGE {
        match cut(&file, len) {
            // The second program header, which is that of memory, ends at 304.
            Err(why) => {
                assert!(len < 304 && (len < 4 || why.contains("cut off") || why.contains("no PT_LOAD")), "{len}: {why}")
            }
            Ok(target) => {
                assert!(len >= 304);
                let info = target.info();
                let there = len.saturating_sub(data) as u64;
                assert_eq!((info.present, info.present + info.truncated), (there, 24 << 12), "{len}");
                assert_eq!(info.damage.is_empty(), len >= data - 1, "{len}: {:?}", info.damage);
                if len % 509 == 0 {
                    assert_eq!(lost(&target, &memory), 24 - there / 4096);
                }
            }
        }
    }
}

#[test]
fn a_kdump_file_cut_anywhere_in_its_headers_bitmaps_and_descriptors() {
    let memory = Memory::new(4);
    let file = Bytes::from(synth::kdump(&memory, 1, &[]));
    let (bitmaps, descs) = (2 * PAGE, 4 * PAGE);
    for len in 1..descs + 24 * 24 + 3000 {
        match cut(&file, len) {
            Err(why) => {
                assert!(len < descs, "{len}: {why}");
                let place = match len {
                    0..8 => "neither",
                    8..464 => "within its header, which ends at 0x1d0",
                    464..4200 => "within its second header, which ends at 0x1068",
                    _ => "within its page bitmaps, which end at 0x4000",
                };
                assert!(why.contains(place), "{len}: {why}");
            }
            Ok(target) => {
                assert!(len >= descs, "{len} of {bitmaps}");
                let lost = lost(&target, &memory);
                assert_eq!(target.info().truncated, lost << 12, "{len}");
                // No descriptor is whole, or no page.
                assert!(len >= descs + 24 * 24 || lost == 24, "{len}: {lost}");
            }
        }
    }
    for len in (descs + 24 * 24..file.len()).step_by(37) {
        let target = cut(&file, len).unwrap();
        assert_eq!(target.info().truncated, lost(&target, &memory) << 12, "{len}");
    }
}

#[test]
fn a_flattened_stream_cut_anywhere_in_its_header_and_records() {
    let memory = Memory::new(4);
    let kdump = synth::kdump(&memory, 1, &[]);
    // In order, as makedumpfile writes it, each record shorter than the headers it cuts through.
    let mut stream = synth::flatten(b"")[..PAGE].to_vec();
    let mut heads = BTreeMap::new();
    for (i, piece) in kdump.chunks(1000).enumerate() {
        heads.insert(stream.len(), i * 1000);
        stream.extend((i as u64 * 1000).to_be_bytes());
        stream.extend((piece.len() as u64).to_be_bytes());
        stream.extend(piece);
    }
    let whole = stream.len() + 16;
    stream.extend([0xff; 16]);
    let stream = Bytes::from(stream);
    let sparse = (PAGE + 6000..stream.len()).step_by(61);
    for len in (1..PAGE + 6000).chain(sparse).chain(whole - 40..whole) {
        // How much of the file has come through.
        let there = heads.range(..len).next_back().map_or(0, |(at, off)| off + (len - at).saturating_sub(16).min(1000));
        match cut(&stream, len) {
            Err(why) => {
                assert!(there < 4 * PAGE, "{len}: {why}");
                let said = match (len, there) {
                    (..16, _) | (_, 1..8) => "neither",
                    (_, 0) => "flattened stream that breaks off",
                    _ => "cut off",
                };
                assert!(why.contains(said), "{len}, {there}: {why}");
            }
            Ok(target) => {
                assert!(there >= 4 * PAGE);
                let info = target.info();
                let lost = lost(&target, &memory);
                assert_eq!(info.truncated, lost << 12, "{len}");
                // Sixteen times 0xff is the end; the first eight of them are enough to know it, but not to have it.
                assert_eq!(
                    info.damage.iter().any(|d| d.contains("breaks off")),
                    len < whole,
                    "{len}: {:?}",
                    info.damage
                );
            }
        }
    }
    assert_eq!(lost(&cut(&stream, whole).unwrap(), &memory), 0);
}

#[test]
fn a_flattened_stream_whose_beginning_never_came() {
    let file = Bytes::from(synth::flatten(&synth::kdump(&Memory::new(4), 1, &[])));
    // The first record is the file's last third.
    let why = cut(&file, PAGE + 100).map(|_| ()).unwrap_err();
    assert!(why.contains("flattened stream that breaks off"), "{why}");
}

#[test]
fn lime_and_avml_images_cut_anywhere_around_their_headers() {
    let memory = Memory::new(4);
    for (name, file) in [("LiME", synth::lime(&memory)), ("AVML", synth::avml(&memory))] {
        let file = Bytes::from(file);
        let second = file.windows(4).rposition(|w| w == &file[..4]).unwrap();
        for len in (1..200).chain(second - 20..second + 200).chain(file.len() - 40..file.len()) {
            match cut(&file, len) {
                Err(why) => {
                    let said = if len < 4 { "neither" } else { "within the header at 0x0" };
                    assert!(len < 32 && why.contains(said), "{name} {len}: {why}");
                }
                Ok(target) => {
                    assert!(len >= 32);
                    let info = target.info();
                    let lost = lost(&target, &memory);
                    let in_header = (second + 1..second + 32).contains(&len);
                    if in_header {
                        assert!(info.damage.iter().any(|d| d.contains(&format!("header at {second:#x}"))), "{info:?}");
                    }
                    // A range whose header did not come is not known of.
                    let known = if len < second + 32 { 20 } else { 24 };
                    assert!(lost >= 24 - known, "{name} {len}");
                    if name == "LiME" {
                        assert_eq!(info.present + info.truncated, known << 12, "{len}");
                        assert_eq!(lost, 24 - info.present / 4096, "{len}");
                    }
                }
            }
        }
    }
}

/// What was mapped goes away under the reader: errors, and what is left still reads.
#[test]
fn a_file_that_shrinks_while_it_is_open() {
    let memory = Memory::new(4);
    let files = [
        ("ELF", synth::elf(&memory, true, true)),
        ("raw kdump", synth::kdump(&memory, 0, &[])),
        ("zlib kdump", synth::kdump(&memory, 1, &[])),
        ("flattened kdump", synth::flatten(&synth::kdump(&memory, 0x20, &[]))),
        ("LiME", synth::lime(&memory)),
        ("AVML", synth::avml(&memory)),
    ];
    for (name, bytes) in files {
        for left in [bytes.len() / 2, 100, 0] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let target = Target::open(file.path(), &OpenOptions::default()).unwrap();
            file.as_file().set_len(left as u64).unwrap();
            let mut failed = 0;
            for (pfn, page) in &memory.pages {
                let mut buf = vec![0xff; PAGE];
                match target.read(Space::Phys, pfn << 12, &mut buf) {
                    // What was decompressed before stays right.
                    Ok(()) => assert!(buf == *page, "{name}, {left} left, page {pfn}"),
                    Err(error) => {
                        failed += 1;
                        assert!(matches!(error.reason, Reason::Truncated | Reason::Io(_)), "{name}: {error}");
                    }
                }
            }
            // All is in one page of the file's end, or the page cache, only with formats this small.
            assert!(failed > 0 || name.contains("zlib") || name.contains("flat") || name == "AVML", "{name} {left}");
            if failed > 0 {
                assert!(
                    target.trouble().is_some_and(|why| why.contains("got shorter")),
                    "{name}: {:?}",
                    target.trouble()
                );
            }
            let mut buf = vec![0; 24 * PAGE];
            let holes = target.read_lossy(Space::Phys, 0, &mut buf);
            assert_eq!(holes.is_empty(), failed == 0, "{name}, {left} left");
        }
    }
}
