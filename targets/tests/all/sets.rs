//! Split dumps (`makedumpfile --split`): any order, all of the members, and nobody else.

use std::path::PathBuf;

use targets::{OpenError, OpenOptions, Reason, Space, Target};
use tempfile::TempDir;

use crate::synth::{self, Memory, PAGE};

/// The page frames of each member.
const PARTS: [(u64, u64); 3] = [(0, 9), (9, 18), (18, 64)];

/// A member: all headers and bitmaps, and the descriptors of its own pages only.
fn member(memory: &Memory, (start, end): (u64, u64)) -> Vec<u8> {
    let mut file = synth::kdump(memory, 1, &[]);
    file[PAGE + 12] = 1;
    file[PAGE + 80..PAGE + 88].copy_from_slice(&start.to_le_bytes());
    file[PAGE + 88..PAGE + 96].copy_from_slice(&end.to_le_bytes());
    let descs = 4 * PAGE;
    let own = 24 * (end.min(24) - start) as usize;
    file.copy_within(descs + 24 * start as usize..descs + 24 * start as usize + own, descs);
    file[descs + own..descs + 24 * 24].fill(0);
    file
}

/// The members as files named `part0` to `part2`.
fn set(memory: &Memory) -> (TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..PARTS.len()).map(|i| dir.path().join(format!("part{i}"))).collect();
    for (path, part) in paths.iter().zip(PARTS) {
        std::fs::write(path, member(memory, part)).unwrap();
    }
    (dir, paths)
}

fn open(paths: &[&PathBuf]) -> Result<Target, OpenError> {
    let parts = paths[1..].iter().map(|&path| path.clone()).collect();
    Target::open(paths[0], &OpenOptions { parts, ..Default::default() })
}

fn refused(paths: &[&PathBuf]) -> String {
    open(paths).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn members_in_any_order_are_one_dump() {
    let memory = Memory::new(4);
    let (_dir, paths) = set(&memory);
    let all: Vec<u8> = memory.pages.values().flatten().copied().collect();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let target = open(&order.map(|i| &paths[i])).unwrap();
        assert_eq!(target.bytes(Space::Phys, 0, all.len()).unwrap(), all, "{order:?}");
        let info = target.info();
        assert_eq!((info.present, info.truncated, &info.damage[..]), (24 << 12, 0, &[][..]), "{order:?}");
        assert!(info.format.contains("split"), "{}", info.format);
    }
}

#[test]
fn a_missing_member_is_named_by_its_page_frames() {
    let memory = Memory::new(4);
    let (_dir, paths) = set(&memory);
    for (missing, frames) in [(0, "0x0 to 0x8"), (1, "0x9 to 0x11"), (2, "0x12 to 0x3f")] {
        let others: Vec<_> = (0..3).filter(|&i| i != missing).map(|i| &paths[i]).collect();
        let target = open(&others).unwrap();
        let info = target.info();
        assert_eq!(info.damage.len(), 1, "{info:?}");
        assert!(info.damage[0].contains(&format!("page frames {frames}")), "{:?}", info.damage);
        for (&pfn, page) in &memory.pages {
            let (start, end) = PARTS[missing];
            match target.bytes(Space::Phys, pfn << 12, PAGE) {
                Ok(bytes) => assert!(!(start..end).contains(&pfn) && bytes == page[..], "{pfn}"),
                Err(error) => {
                    assert_eq!((error.reason, (start..end).contains(&pfn)), (Reason::OtherPart, true), "{pfn}");
                }
            }
        }
    }
    let damage = open(&[&paths[1]]).unwrap().info().damage;
    assert!(damage[0].contains("0x0 to 0x8 and 1 other ranges"), "{damage:?}");
}

#[test]
fn who_does_not_belong_to_the_set_is_refused_by_name() {
    let memory = Memory::new(4);
    let (dir, paths) = set(&memory);
    let write = |name: &str, bytes: Vec<u8>| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let has = |why: String, words: &[&str]| {
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    };
    // The same member twice, by the same and by another name.
    let copy = write("copy", member(&memory, PARTS[1]));
    has(refused(&[&paths[0], &paths[1], &copy, &paths[2]]), &["part1", "copy", "same part"]);
    has(refused(&[&paths[0], &paths[0]]), &["part0 and", "same part"]);
    // Another split of the same dump.
    let overlap = write("overlap", member(&memory, (12, 64)));
    has(refused(&[&paths[0], &paths[1], &overlap]), &["part1", "overlap", "page frame 0xc"]);
    // Of another kernel, another boot of it, and another filter.
    let mut host = member(&memory, PARTS[2]);
    host[12 + 65] ^= 1;
    has(refused(&[&paths[0], &paths[1], &write("host", host)]), &["part0", "host", "hosts or kernels differ"]);
    let mut other = memory.clone();
    other.note = other.note.replace("CRASHTIME=1700000000", "CRASHTIME=1700000009");
    let boot = write("boot", member(&other, PARTS[2]));
    has(refused(&[&paths[0], &paths[1], &boot]), &["part0", "boot", "VMCOREINFO"]);
    let mut filter = member(&memory, PARTS[2]);
    filter[3 * PAGE] ^= 4;
    has(refused(&[&paths[0], &paths[1], &write("filter", filter)]), &["part0", "filter", "bitmaps differ"]);
    // A whole dump, and files that are none.
    let whole = write("whole", synth::kdump(&memory, 1, &[]));
    has(refused(&[&paths[0], &whole]), &["whole", "not a part"]);
    let elf = write("elf", synth::elf(&memory, true, true));
    has(refused(&[&paths[0], &elf]), &["elf", "no kdump-compressed"]);
    has(refused(&[&elf, &paths[0]]), &["elf", "only kdump-compressed dumps have parts"]);
    let cut = write("cut", member(&memory, PARTS[2])[..3 * PAGE].to_vec());
    has(refused(&[&paths[0], &cut]), &["cut", "cut off within its page bitmaps"]);
    has(refused(&[&paths[0], &dir.path().join("nowhere")]), &["nowhere"]);
}
