//! Memory that no header describes, or a header that knows addresses only: raw files, LiME, AVML.

use std::io::Write;

use targets::{Evidence, Load, OpenError, OpenOptions, Reason, Space, Target};

use crate::synth::{self, Memory, PAGE};

fn bytes(memory: &Memory) -> Vec<u8> {
    memory.pages.values().flatten().copied().collect()
}

fn loaded(pieces: &[(u64, Option<u64>)]) -> Vec<Load> {
    pieces.iter().map(|&(addr, len)| Load { addr, len }).collect()
}

fn raw(bytes: &[u8], pieces: &[(u64, Option<u64>)]) -> Target {
    synth::open(bytes, &OpenOptions { raw: vec![loaded(pieces)], ..Default::default() }).unwrap()
}

/// The kernel is found in memory, and reads give what the memory has.
fn is_whole(target: &Target, memory: &Memory, format: &str) {
    assert_eq!(target.info().format, format);
    assert_eq!(target.kernel_layout().unwrap().evidence, Evidence::Memory(22 << 12));
    assert_eq!(target.vmcoreinfo().unwrap().get("OSRELEASE"), Some("6.1.0-synthetic"));
    assert_eq!(target.cpus().len(), 0);
    let all = bytes(memory);
    let got = target.bytes(Space::Phys, 0, all.len()).unwrap();
    assert!(got == all, "{format}");
    for at in [0usize, 4090, 50_000] {
        let mut buf = vec![0; 5000];
        target.read(Space::Phys, at as u64, &mut buf).unwrap();
        assert_eq!(buf, all[at..at + 5000]);
    }
    assert_eq!(target.u64(Space::Phys, all.len() as u64).unwrap_err().reason, Reason::NotInDump);
}

#[test]
fn a_raw_file_is_memory_where_the_user_says() {
    let memory = Memory::new(4);
    let file = bytes(&memory);
    is_whole(&raw(&file, &[(0, None)]), &memory, "raw memory");
    let high = raw(&file, &[(1 << 32, None)]);
    assert_eq!(high.u64(Space::Phys, (1 << 32) + 8), Ok(memory.u64(8)));
    // its page tables lead to where it is not
    assert!(high.kernel_layout().is_err());
    // memory that goes on above a hole
    let split = raw(&file, &[(0, Some(23 << 12)), (1 << 32, None)]);
    assert_eq!(split.ranges().len(), 2);
    assert_eq!(split.u64(Space::Phys, (1 << 32) + 16), Ok(memory.u64((23 << 12) + 16)));
    assert!(split.kernel_layout().is_ok());
    // more was promised than there is, and less was used
    let long = raw(&file, &[(0, Some(30 << 12))]);
    assert_eq!(long.info().truncated, 6 << 12);
    assert_eq!(long.u64(Space::Phys, 25 << 12).unwrap_err().reason, Reason::Truncated);
    assert_eq!(raw(&file, &[(0, Some(4 << 12))]).info().damage.len(), 1);
}

#[test]
fn several_raw_files_are_one_memory() {
    let memory = Memory::new(4);
    let all = bytes(&memory);
    let files: Vec<_> = [&all[..9 * PAGE + 100], &all[9 * PAGE + 100..]]
        .into_iter()
        .map(|part| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(part).unwrap();
            file
        })
        .collect();
    let raw = vec![loaded(&[(0, None)]), loaded(&[(9 * PAGE as u64 + 100, None)])];
    let parts = vec![files[1].path().to_owned()];
    let target = Target::open(files[0].path(), &OpenOptions { parts, raw, ..Default::default() }).unwrap();
    is_whole(&target, &memory, "raw memory");
    let lacking = OpenOptions { parts: vec![files[1].path().to_owned()], raw: vec![Vec::new()], ..Default::default() };
    assert!(matches!(Target::open(files[0].path(), &lacking), Err(OpenError::Set { .. })));
}

#[test]
fn lime_and_avml_images_have_all_pages() {
    let memory = Memory::new(4);
    for (file, format) in [(synth::lime(&memory), "LiME image"), (synth::avml(&memory), "AVML image (snappy)")] {
        let target = synth::open(&file, &OpenOptions::default()).unwrap();
        is_whole(&target, &memory, format);
        assert_eq!((target.info().truncated, target.info().damage.len()), (0, 0), "{:?}", target.info());
        let packed = zstd::bulk::compress(&file, 1).unwrap();
        is_whole(
            &synth::open(&packed, &OpenOptions::default()).unwrap(),
            &memory,
            &format!("{format}, in a zstd file"),
        );
    }
}

#[test]
fn a_cut_image_says_which_memory_it_lost() {
    let memory = Memory::new(4);
    for file in [synth::lime(&memory), synth::avml(&memory)] {
        let target = synth::open(&file[..file.len() - 100], &OpenOptions::default()).unwrap();
        let info = target.info();
        assert!(info.truncated >= 100, "{info:?}");
        assert_eq!(info.present + info.truncated, 24 * PAGE as u64);
        assert_eq!(target.u64(Space::Phys, (24 << 12) - 8).unwrap_err().reason, Reason::Truncated);
        assert_eq!(target.u64(Space::Phys, 8), Ok(memory.u64(8)));
    }
}

#[test]
fn a_damaged_frame_is_found_by_its_checksum_and_harms_no_other() {
    let memory = Memory::new(4);
    let mut file = synth::avml(&memory);
    let last = file.len() - 200;
    file[last] ^= 0x10;
    let target = synth::open(&file, &OpenOptions::default()).unwrap();
    let reason = target.u64(Space::Phys, 23 << 12).unwrap_err().reason;
    assert!(matches!(reason, Reason::Decompress(_)), "{reason}");
    assert_eq!(target.u64(Space::Phys, 8), Ok(memory.u64(8)));
}

#[test]
fn garbage_after_a_range_is_said() {
    for mut file in [synth::lime(&Memory::new(4)), synth::avml(&Memory::new(4))] {
        file.extend([7; 100]);
        let info = synth::open(&file, &OpenOptions::default()).unwrap().info();
        assert_eq!((info.damage.len(), info.present), (1, 24 * PAGE as u64), "{info:?}");
    }
}

#[test]
fn memory_is_not_guessed_to_be_raw_but_the_way_is_told() {
    let mut file = bytes(&Memory::new(4));
    file.resize(5 << 20, 0);
    let says = |file: &[u8]| synth::open(file, &OpenOptions::default()).err().unwrap().to_string();
    let text = says(&file);
    assert!(text.contains("6.1.0-synthetic") && text.contains("`--load-address 0x0`"), "{text}");
    // loaded elsewhere: that, too, is seen only if the page tables agree
    file.splice(0..0, vec![0x11; 2 * PAGE]);
    assert!(says(&file).contains("`--load-address ADDR`"));
    assert!(says(&[0x11; 5 << 20]).contains("neither"));
}
