//! Every format, and what real files do that no textbook says.

use std::ops::Range;

use targets::{OpenError, OpenOptions, Reason, RegSource, Space, Target};

use crate::synth::{self, CODECS, Memory, PAGE};

fn open(bytes: &[u8]) -> Target {
    synth::open(bytes, &OpenOptions::default()).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    match synth::open(bytes, &OpenOptions::default()) {
        Err(error @ OpenError::Format { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(target) => panic!("{:?}", target.info()),
    }
}

/// One range of physical memory.
fn one(range: Range<u64>) -> Vec<Range<u64>> {
    Vec::from([range])
}

/// All pages are there, by word, as a whole, and across pages.
fn same(target: &Target, memory: &Memory) {
    let all: Vec<u8> = memory.pages.values().flatten().copied().collect();
    assert_eq!(target.ranges(), one(0..all.len() as u64));
    assert_eq!(target.bytes(Space::Phys, 0, all.len()).unwrap(), all);
    for at in [0usize, 1, 4090, 4096, 50_000] {
        let mut buf = vec![0; 5000];
        target.read(Space::Phys, at as u64, &mut buf).unwrap();
        assert_eq!(buf, all[at..at + 5000]);
    }
    let scanned: Vec<u8> = target
        .chunks(3 * PAGE as u64)
        .flat_map(|c| target.bytes(Space::Phys, c.start, (c.end - c.start) as usize).unwrap())
        .collect();
    assert_eq!(scanned, all);
    let error = target.u64(Space::Phys, all.len() as u64 - 4).unwrap_err();
    assert_eq!((error.addr, error.reason), (all.len() as u64, Reason::NotInDump));
    assert_eq!(target.cpus().len(), 2);
    assert_eq!(target.vmcoreinfo().unwrap().get("OSRELEASE"), Some("6.1.0-synthetic"));
}

#[test]
fn every_format_gives_the_same_pages() {
    let memory = Memory::new(4);
    let mut files = vec![("ELF core".to_owned(), synth::elf(&memory, true, true))];
    for codec in CODECS {
        let name = match codec {
            0 => "kdump-compressed",
            1 => "kdump-compressed (zlib)",
            2 => "kdump-compressed (lzo)",
            4 => "kdump-compressed (snappy)",
            _ => "kdump-compressed (zstd)",
        };
        files.push((name.to_owned(), synth::kdump(&memory, codec, &[])));
    }
    for (name, file) in files {
        let target = open(&file);
        assert_eq!(target.info().format, name);
        same(&target, &memory);
        let flat = synth::flatten(&file);
        let target = open(&flat);
        assert_eq!(target.info().format, format!("{name}, flattened"));
        same(&target, &memory);
        let target = open(&zstd::bulk::compress(&flat, 1).unwrap());
        assert_eq!(target.info().format, format!("{name}, flattened, in a zstd file"));
        same(&target, &memory);
    }
}

#[test]
fn gzip_files_of_several_members_are_one_file() {
    use std::io::Write;
    let memory = Memory::new(4);
    let file = synth::elf(&memory, false, true);
    let mut packed = Vec::new();
    for half in [&file[..file.len() / 2], &file[file.len() / 2..]] {
        let mut out = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        out.write_all(half).unwrap();
        out.finish().unwrap();
    }
    same(&open(&packed), &memory);
}

#[test]
fn a_compressed_file_that_breaks_off_is_a_truncated_dump() {
    let file = synth::elf(&Memory::new(4), true, true);
    let packed: Vec<u8> = file.chunks(8192).flat_map(|part| zstd::bulk::compress(part, 1).unwrap()).collect();
    let info = open(&packed[..packed.len() * 3 / 4]).info();
    assert!(info.truncated > 0 && info.present > 0, "{info:?}");
    assert!(info.damage[0].contains("breaks off"), "{info:?}");
}

#[test]
fn the_bitmaps_tell_excluded_from_missing() {
    let memory = Memory::new(4);
    let target = open(&synth::kdump(&memory, 1, &[17, 18]));
    let reason = |pfn: u64| target.u64(Space::Phys, pfn << 12).unwrap_err().reason;
    assert_eq!(reason(17), Reason::Excluded);
    assert_eq!(reason(40), Reason::NotInDump);
    assert_eq!(reason(1 << 40), Reason::NotInDump);
    assert_eq!(target.u64(Space::Phys, 19 << 12), Ok(memory.u64(19 << 12)));
    let info = target.info();
    assert_eq!((info.excluded, info.dump_level, info.truncated), (Some(2), Some(17), 0));
    let mut buf = vec![0xff; 6 * PAGE];
    let holes = target.read_lossy(Space::Phys, 16 << 12, &mut buf);
    assert_eq!(holes.len(), 1);
    assert_eq!((holes[0].range.clone(), holes[0].reason.clone()), (17 << 12..19 << 12, Reason::Excluded));
    assert_eq!(buf[..PAGE], memory.pages[&16]);
    assert!(buf[PAGE..3 * PAGE].iter().all(|&b| b == 0));
    assert_eq!(buf[3 * PAGE..4 * PAGE], memory.pages[&19]);
}

#[test]
fn parts_of_a_split_dump_are_one_dump() {
    use std::io::Write;
    let memory = Memory::new(4);
    let part = |start: u64, end: u64| {
        let mut file = synth::kdump(&memory, 1, &[]);
        let sub = PAGE;
        file[sub + 12] = 1;
        file[sub + 80..sub + 88].copy_from_slice(&start.to_le_bytes());
        file[sub + 88..sub + 96].copy_from_slice(&end.to_le_bytes());
        // The descriptors of the part's own pages are the first ones.
        let descs = 4 * PAGE;
        file.copy_within(descs + 24 * start as usize..descs + 24 * 24, descs);
        let mut out = tempfile::NamedTempFile::new().unwrap();
        out.write_all(&file).unwrap();
        out
    };
    let files = [part(0, 12), part(12, 64)];
    let paths: Vec<_> = files.iter().map(|f| f.path().to_owned()).collect();
    for (first, second) in [(0, 1), (1, 0)] {
        let parts = vec![paths[second].clone()];
        let target = Target::open(&paths[first], &OpenOptions { parts, ..Default::default() }).unwrap();
        same(&target, &memory);
        assert_eq!((target.info().damage.len(), target.info().paths.len()), (0, 2));
        let alone = Target::open(&paths[first], &OpenOptions::default()).unwrap();
        assert_eq!(alone.u64(Space::Phys, (12 * second as u64 + 3) << 12).unwrap_err().reason, Reason::OtherPart);
        assert_eq!(
            alone.u64(Space::Phys, (12 * first as u64 + 3) << 12),
            Ok(memory.u64((12 * first as u64 + 3) << 12))
        );
        assert!(alone.info().damage[0].contains("parts"));
    }
}

#[test]
fn a_page_that_does_not_decompress_is_damaged_and_no_other_is() {
    let memory = Memory::new(4);
    let mut file = synth::kdump(&memory, 1, &[]);
    let descs = 4 * PAGE;
    let at = u64::from_le_bytes(file[descs + 24 * 17..][..8].try_into().unwrap()) as usize;
    file[at + 10] ^= 0x55;
    let target = open(&file);
    let reason = target.u64(Space::Phys, 17 << 12).unwrap_err().reason;
    assert!(matches!(reason, Reason::Decompress(_)), "{reason}");
    assert_eq!(target.u64(Space::Phys, 18 << 12), Ok(memory.u64(18 << 12)));
}

#[test]
fn a_cut_elf_core_says_truncated_where_it_is() {
    let memory = Memory::new(4);
    let file = synth::elf(&memory, true, true);
    let target = open(&file[..file.len() - 3 * PAGE - 100]);
    let info = target.info();
    assert_eq!(info.truncated, 3 * PAGE as u64 + 100);
    assert_eq!(info.present + info.truncated, 24 * PAGE as u64);
    let error = target.u64(Space::Phys, 21 << 12).unwrap_err();
    assert_eq!((error.addr, error.reason), (21 << 12, Reason::Truncated));
    assert_eq!(target.u64(Space::Phys, 19 << 12), Ok(memory.u64(19 << 12)));
}

#[test]
fn a_cut_kdump_file_loses_its_last_pages_only() {
    let memory = Memory::new(4);
    let file = synth::kdump(&memory, 0, &[]);
    let target = open(&file[..file.len() - 3 * PAGE - 100]);
    assert_eq!(target.info().truncated, 4 * PAGE as u64);
    assert_eq!(target.u64(Space::Phys, 21 << 12).unwrap_err().reason, Reason::Truncated);
    assert_eq!(target.u64(Space::Phys, 19 << 12), Ok(memory.u64(19 << 12)));
}

#[test]
fn segments_may_overlap_and_the_one_with_bytes_wins() {
    let page = |b: u8| vec![b; PAGE];
    // A range, its middle again elsewhere in the file, and a piece of it that was left out.
    let phdrs = [
        (1, 512, 0x10000, 4 * 4096, 4 * 4096),
        (1, 512 + 4 * 4096, 0x11000, 4096, 3 * 4096),
        (1, 0, 0x20000, 0, 2 * 4096),
    ];
    let file = synth::elf_raw(64, &phdrs, |out| {
        out.resize(512, 0);
        out.extend([page(1), page(2), page(3), page(4), page(2)].concat());
    });
    let target = open(&file);
    assert_eq!(target.ranges(), one(0x10000..0x14000));
    let all = target.bytes(Space::Phys, 0x10000, 4 * PAGE).unwrap();
    assert_eq!(all, [page(1), page(2), page(3), page(4)].concat());
    assert_eq!(target.u64(Space::Phys, 0x20008).unwrap_err().reason, Reason::Excluded);
    assert_eq!(target.info().excluded, Some(2));
}

#[test]
fn the_count_of_segments_may_be_in_a_section_header() {
    let mut file = synth::elf_raw(64, &[(1, 512, 0x3000, 4096, 4096)], |out| {
        out.resize(256 + 64, 0);
        out[256 + 44..256 + 48].copy_from_slice(&1u32.to_le_bytes()); // sh_info
        out.resize(512, 0);
        out.extend(vec![7; PAGE]);
    });
    file[56..58].copy_from_slice(&0xffffu16.to_le_bytes());
    file[40..48].copy_from_slice(&256u64.to_le_bytes());
    assert_eq!(open(&file).ranges(), one(0x3000..0x4000));
}

#[test]
fn absurd_segments_are_ignored_and_said() {
    let phdrs = [(1, 512, u64::MAX - 10, 4096, 4096), (1, u64::MAX - 5, 0x5000, u64::MAX, 0), (1, 512, 0x3000, 64, 64)];
    let file = synth::elf_raw(64, &phdrs, |out| out.resize(576, 9));
    let target = open(&file);
    assert_eq!(target.ranges(), one(0x3000..0x4000), "the rest of the page is zeros");
    assert_eq!(target.info().damage.len(), 1, "{:?}", target.info());
}

#[test]
fn registers_of_both_notes_are_merged() {
    let memory = Memory::new(4);
    let prstatus = open(&synth::elf(&memory, false, true));
    let cpu = &prstatus.cpus()[1];
    assert_eq!((cpu.cpu, cpu.pid, cpu.source), (1, Some(701), RegSource::Prstatus));
    assert_eq!((cpu.get("r15"), cpu.ip(), cpu.sp(), cpu.get("cr3")), (Some(0x100), Some(0x110), Some(0x113), None));
    let qemu = open(&synth::elf(&memory, true, true));
    let cpu = &qemu.cpus()[1];
    assert_eq!((cpu.cpu, cpu.pid, cpu.source), (1, None, RegSource::Qemu));
    assert_eq!((cpu.get("rax"), cpu.ip(), cpu.get("cr3")), (Some(0x1000), Some(0x1010), Some(0x1000 + 18 + 30 + 3)));
    assert_eq!(cpu.get("orig_rax"), Some(0x10f), "only NT_PRSTATUS has it");
    assert_eq!(cpu.iter().map(|(name, _)| name).take(3).collect::<Vec<_>>(), ["rax", "rbx", "rcx"]);
}

#[test]
fn refusals_say_what_the_file_is() {
    let core = synth::elf(&Memory::new(4), true, true);
    let with = |at: usize, byte: u8| {
        let mut file = core.clone();
        file[at] = byte;
        refused(&file)
    };
    assert!(with(16, 3).contains("vmlinux"));
    assert!(with(16, 1).contains("module"));
    assert!(with(4, 3).contains("class 3"));
    assert!(with(5, 0).contains("byte order 0"));
    assert!(refused(b"BZh91AY&SY").contains("bzip2"));
    assert!(refused(&[0; 4096]).contains("zeros"));
    assert!(refused(b"hello world").contains("neither"));
    assert!(refused(&zstd::bulk::compress(b"hello world", 1).unwrap()).contains("neither"));
    let process = synth::elf_raw(64, &[(4, 120, 0, 24, 24)], |out| out.extend(synth::note("CORE", 6, b"12")));
    assert!(refused(&process).contains("process"));
    assert!(matches!(Target::open("/nonexistent", &OpenOptions::default()), Err(OpenError::Io { .. })));
    assert!(Target::open("/", &OpenOptions::default()).is_err());
}

#[test]
fn a_target_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Target>();
}

/// QEMU's header names no machine but a PC's.
#[test]
fn a_machine_without_a_name_is_known_by_its_notes() {
    let mut file = synth::kdump(&Memory::new(4), 1, &[]);
    file[272..280].copy_from_slice(b"Unknown\0");
    let target = open(&file);
    assert_eq!(target.arch(), targets::Arch::X86_64);
    assert!(target.kernel_layout().is_ok());
}
