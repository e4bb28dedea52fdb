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
    assert!(crate::find::open(path("tiny-stripped")).unwrap().has_dwarf());
}
