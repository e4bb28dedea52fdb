#![allow(clippy::unwrap_used)]
use std::io::Write;

use super::*;
use crate::symbols::{SymbolKind, SymbolSource};

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(name)
}

#[test]
fn compressed_sections_read_as_plain_ones() {
    let plain = DebugFile::open(path("tiny-v5")).unwrap();
    for name in ["tiny-v5-zlib", "tiny-v5-zstd", "tiny-v5.xz"] {
        let packed = DebugFile::open(path(name)).unwrap();
        assert_eq!(packed.build_id(), plain.build_id(), "{name}");
        for section in [".debug_info", ".debug_abbrev", ".debug_str", ".debug_line", ".debug_rnglists"] {
            assert_eq!(packed.section(section).unwrap(), plain.section(section).unwrap(), "{name} {section}");
            assert!(!packed.section(section).unwrap().is_empty());
        }
    }
}

#[test]
fn whole_files_packed_in_any_way() {
    let plain = std::fs::read(path("tiny-v5")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for packed in [gzip.finish().unwrap(), zstd::bulk::compress(&plain, 1).unwrap()] {
        let file = DebugFile::from_bytes("packed", packed.into()).unwrap();
        assert!(file.has_dwarf());
    }
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap();
    let why = DebugFile::from_bytes("bomb", bomb.into()).unwrap_err().to_string();
    assert!(why.starts_with("bomb: expands to more than "), "{why}");
}

#[test]
fn what_is_no_elf_file_is_named() {
    let why = |data: &'static [u8]| DebugFile::from_bytes("f", Bytes::from_static(data)).unwrap_err().to_string();
    assert_eq!(why(b""), "f: an empty file");
    assert_eq!(why(b"text"), "f: not an ELF file");
    assert!(DebugFile::open("/nowhere/vmlinux").unwrap_err().to_string().starts_with("/nowhere/vmlinux: "));
    assert!(DebugFile::open("/dev/null").unwrap_err().to_string().ends_with("not a regular file"));
    let stripped = std::sync::Arc::new(DebugFile::open(path("tiny-stripped")).unwrap());
    let why = crate::dwarf::Dwarf::new(stripped, 0).err().unwrap().to_string();
    assert!(
        why.ends_with("no .debug_info section: the file was stripped, or built without CONFIG_DEBUG_INFO"),
        "{why}"
    );
}

#[test]
fn symbols_at_the_addresses_where_they_were_loaded() {
    let file = DebugFile::open(path("tiny-v5")).unwrap().placed(Placement::Slide(0x1000));
    let symbols = Symtab::new(&file, None).unwrap();
    let compute = symbols.by_name("compute");
    assert_eq!(compute.len(), 1);
    let compute = compute.first().unwrap();
    assert_eq!((compute.addr, compute.kind, compute.letter), (0x401150, SymbolKind::Text, 'T'));
    assert_eq!(symbols.by_addr(compute.addr + 3).as_ref(), Some(compute));
    assert_eq!(symbols.by_addr(0x400000), None);
    assert_eq!(symbols.by_addr(u64::MAX), None);
    assert_eq!(symbols.by_name("shared").iter().map(|s| s.letter).collect::<String>(), "dd");
    assert_eq!(symbols.by_name("current_outer").first().unwrap().letter, 'B');
    let mut seen = 0;
    symbols.each(&mut |_| {
        seen += 1;
        true
    });
    assert_eq!(seen, symbols.len());
}

#[test]
fn symbols_of_a_module() {
    let at = 0xffff_ffff_c000_0000;
    let sections = HashMap::from([(".text.compute".to_owned(), at)]);
    let file = DebugFile::open(path("tiny.ko")).unwrap().placed(Placement::Sections(sections));
    assert!(file.is_module());
    let symbols = Symtab::new(&file, Some("tiny")).unwrap();
    let compute = symbols.by_name("compute").remove(0);
    assert_eq!((compute.addr, compute.module.as_deref()), (at, Some("tiny")));
    assert!(symbols.by_name("elsewhere_count").first().unwrap().addr < 1 << 32);
}

#[test]
fn a_stripped_file_leads_to_what_it_lost() {
    let link = DebugFile::open(path("tiny-stripped")).unwrap().debuglink().unwrap();
    assert_eq!(link.name, "tiny-v5");
    assert!(crate::find::open(path("tiny-stripped"), &[]).unwrap().best().has_dwarf());
}

/// What `lz4 -l` makes of `data`, in literals alone.
fn lz4_legacy(data: &[u8]) -> Vec<u8> {
    let mut block = vec![0xf0];
    let mut rest = data.len() - 15;
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(rest as u8);
    block.extend(data);
    [&[2, 0x21, 0x4c, 0x18], &(block.len() as u32).to_le_bytes()[..], &block].concat()
}

/// What `lzop` makes of it if it cannot pack it.
fn lzop(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x89LZO\0\r\n\x1a\n".to_vec();
    // versions, method, level, flags (Adler-32 of what is unpacked), mode, times, no name, checksum
    out.extend([0x10, 0x30, 0x20, 0x80, 0x09, 0x40, 1, 5, 0, 0, 0, 1]);
    out.extend([0; 4 + 8 + 1 + 4]);
    for block in data.chunks(1 << 18) {
        let size = (block.len() as u32).to_be_bytes();
        out.extend([size, size, [0; 4]].concat());
        out.extend(block);
    }
    out.extend([0; 4]);
    out
}

/// As a boot loader gets them: behind a header that says where, and followed by the size.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 0xa00 + 16];
    out[0x1f1] = 4;
    out[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    out[0x248] = 16;
    out[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
    [&out, payload, &[9; 4]].concat()
}

fn zboot(payload: &[u8]) -> Vec<u8> {
    let mut out = b"MZ\0\0zimg".to_vec();
    out.extend([64, payload.len() as u32 + 4].map(u32::to_le_bytes).concat());
    out.resize(64, 0);
    [&out, payload, &[9; 4]].concat()
}

#[test]
fn kernels_out_of_what_they_are_booted_from() {
    let plain = std::fs::read(path("tiny-v5")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let packed = [
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("zstd", zstd::bulk::compress(&plain, 1).unwrap()),
        ("xz", std::fs::read(path("tiny-v5.xz")).unwrap()),
        ("lz4", lz4_legacy(&plain)),
        ("lzo", lzop(&plain)),
    ];
    for (codec, payload) in packed {
        for (image, kind) in [(bzimage(&payload), "bzImage"), (zboot(&payload), "zboot image")] {
            assert!(is_kernel(&image));
            let file = DebugFile::from_bytes("vmlinuz", image.clone().into()).unwrap();
            assert_eq!(file.size(), plain.len() as u64, "{kind} {codec}");
            assert!(file.kind().contains(&format!("{kind} ({codec})")), "{}", file.kind());
            // wherever it is cut there is no kernel, and no panic
            for len in (0..64).chain((64..image.len() - 4).step_by(977)) {
                assert!(DebugFile::from_bytes("cut", image[..len].to_vec().into()).is_err(), "{kind} {codec} {len}");
            }
        }
        // and packed as a whole
        assert!(DebugFile::from_bytes("vmlinux", payload.into()).is_ok(), "{codec}");
    }
    let mut old = bzimage(&[]);
    old[0x206] = 7;
    let why = DebugFile::from_bytes("old", old.into()).unwrap_err().to_string();
    assert!(why.ends_with("boot protocol 0x207 does not say where the kernel is"), "{why}");
}

/// An arm64 `Image` that was linked at `base`: lists that are empty, and relocations if it has such.
fn image(base: u64, relocations: u64) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[56..60].copy_from_slice(b"ARM\x64");
    for _ in 0..100 {
        let here = base + out.len() as u64;
        // with relocations there is nothing in place
        let word = if relocations > 0 { 0 } else { here };
        out.extend([word, word, 1].map(u64::to_le_bytes).concat());
    }
    for nth in 0..relocations {
        let at = 64 + nth % 100 * 24;
        out.extend([base + at, 0x403, base + nth % 3 * at].map(u64::to_le_bytes).concat());
    }
    let size = (out.len() as u64 + 0x1000).to_le_bytes();
    out[16..24].copy_from_slice(&size);
    out
}

#[test]
fn an_arm64_image_is_put_where_it_was_linked() {
    use crate::Reader;
    const BASE: u64 = 0xffff_8000_0800_0000;
    for relocations in [0, 300] {
        let file = DebugFile::from_bytes("Image", image(BASE, relocations).into()).unwrap();
        let memory = file.memory().unwrap();
        assert_eq!(memory.range(), BASE..BASE + file.size() + 0x1000, "{relocations}");
        let mut word = [0; 8];
        memory.read(BASE + 64 + 24, &mut word).unwrap();
        // of the relocations for one place (numbers 1, 101, 201) the last one counts, as it does when a kernel boots
        let expected = if relocations > 0 { BASE } else { BASE + 64 + 24 };
        assert_eq!(u64::from_le_bytes(word), expected);
        // what is to be cleared reads as zeros, what lies behind does not read
        memory.read(BASE + file.size() + 0xff8, &mut word).unwrap();
        assert_eq!(word, [0; 8]);
        assert!(memory.read(BASE + file.size() + 0xff9, &mut word).is_err());
        assert!(memory.bytes(BASE, usize::MAX).is_err());
    }
    assert!(DebugFile::from_bytes("Image", image(BASE, 0)[..80].to_vec().into()).unwrap().memory().is_err());
}

#[test]
fn a_program_has_no_kernel_memory() {
    let why = |name| DebugFile::open(path(name)).unwrap().memory().unwrap_err().to_string();
    assert!(why("tiny-v5").ends_with("a program or a library, not a kernel"), "{}", why("tiny-v5"));
    assert!(why("tiny.ko").ends_with("a module, not a kernel"));
}
