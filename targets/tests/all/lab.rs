//! Real dumps: everything that can be asked of a target without knowing a C type, checked against the dump itself.
//!
//! Runs where the environment variable `KMDB_LAB` names a directory with `dumps/*/vmcore*`; is skipped elsewhere.
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use targets::{Arch, Evidence, OpenOptions, Space, Target};

fn dumps() -> Vec<PathBuf> {
    let Ok(lab) = std::env::var("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab directory");
        return Vec::new();
    };
    let only = std::env::var("KMDB_ONLY").unwrap_or_default();
    let mut out = Vec::new();
    for dir in std::fs::read_dir(format!("{lab}/dumps")).unwrap() {
        for dir in [dir.as_ref().unwrap().path(), dir.unwrap().path().join("v")] {
            let Ok(files) = std::fs::read_dir(dir) else { continue };
            let files = files.map(|f| f.unwrap().path());
            out.extend(
                files.filter(|f| {
                    f.file_name().unwrap().to_string_lossy().starts_with("vmcore") || f.ends_with("split.0")
                }),
            );
        }
    }
    out.retain(|path| path.to_string_lossy().contains(&only));
    out.retain(|path| !path.to_string_lossy().ends_with(".hdr"));
    out.sort();
    out
}

#[test]
fn finds_the_same_kernel_by_note_by_memory_and_by_page_tables() {
    for path in dumps().into_iter().filter(|p| p.ends_with("vmcore.elf")) {
        let open = |options: &OpenOptions| {
            let start = std::time::Instant::now();
            let target = Target::open(&path, options).unwrap();
            let opened = start.elapsed();
            let layout = target.kernel_layout();
            eprintln!("{path:?}: open {opened:?}, kernel {:?}", start.elapsed() - opened);
            (target, layout)
        };
        let (target, layout) = open(&OpenOptions::default());
        let by_note = layout.unwrap();
        eprintln!("{:#x?}\n{:#x?}", target.info(), by_note);
        assert!(matches!(by_note.evidence, Evidence::Note | Evidence::Memory(_)), "{path:?}");
        let (_, layout) = open(&OpenOptions { ignore_note: true, ..Default::default() });
        let by_memory = layout.unwrap();
        eprintln!("{:x?}", by_memory.evidence);
        let (_, layout) = open(&OpenOptions { ignore_vmcoreinfo: true, ..Default::default() });
        let by_shape = layout.unwrap();
        eprintln!("{:x?}", by_shape.evidence);
        for other in [by_memory, by_shape] {
            assert_eq!(other.image_offset, by_note.image_offset, "{path:?}");
            assert_eq!(other.pgd, by_note.pgd, "{path:?}");
            assert_eq!(other.levels, by_note.levels, "{path:?}");
            if target.arch() == Arch::X86_64 {
                assert_eq!(other.kaslr_offset, by_note.kaslr_offset, "{path:?}");
            }
            assert_eq!(other.direct_map, by_note.direct_map, "{path:?}");
            assert_eq!(other.image, by_note.image, "{path:?}");
        }
    }
}

#[test]
fn the_short_cuts_give_what_the_page_tables_give() {
    for path in dumps().into_iter().filter(|p| !p.to_string_lossy().contains("split")) {
        let target = Target::open(&path, &OpenOptions::default()).unwrap();
        let layout = target.kernel_layout().unwrap();
        let (mut mappings, mut bytes) = (0u64, 0u64);
        let start = std::time::Instant::now();
        let outcome = target
            .each_mapping(Space::Kernel, 1 << 63..=u64::MAX, &|| true, &mut |m| {
                mappings += 1;
                bytes += m.len;
                for va in [m.va, (m.va + m.len / 2) & !7, m.va + m.len - 8] {
                    let walked = target.translate(Space::Kernel, va).unwrap();
                    assert_eq!(walked.pa, m.pa + (va - m.va), "{path:?} {va:#x}");
                    assert_eq!(walked.flags, Some(m.flags));
                    let (a, b) = (target.u64(Space::Kernel, va), target.u64(Space::Phys, walked.pa));
                    assert_eq!(a.map_err(|e| e.reason), b.map_err(|e| e.reason), "{path:?} {va:#x}");
                }
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        eprintln!("{path:?}: {mappings} mappings, {} MiB, {outcome:?}, {:?}", bytes >> 20, start.elapsed());
        for pa in [0x1000, 0x100_0000, layout.pgd] {
            if let Some(va) = target.phys_to_direct(pa) {
                assert_eq!(target.u64(Space::Kernel, va), target.u64(Space::Phys, pa));
            }
        }
    }
}

/// Variants of a dump beside it (makedumpfile's formats, flattened, split, compressed as a whole) have its pages.
#[test]
fn every_format_of_a_dump_has_the_same_pages() {
    for path in dumps() {
        let mut dir = path.parent().unwrap().to_owned();
        if dir.ends_with("v") {
            dir.pop();
        }
        let elf = dir.join("vmcore.elf");
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path == elf || !elf.exists() || (name.contains("split") && !name.ends_with(".0")) {
            continue;
        }
        let full = Target::open(&elf, &OpenOptions::default()).unwrap();
        let parts: Vec<_> = if name.contains("split") {
            (1..).map(|i| path.with_extension(i.to_string())).take_while(|p| p.exists()).collect()
        } else {
            Vec::new()
        };
        let start = std::time::Instant::now();
        let target = Target::open(&path, &OpenOptions { parts, ..Default::default() }).unwrap();
        let opened = start.elapsed();
        let kernel = target.kernel_layout().unwrap();
        let found = start.elapsed() - opened;
        let info = target.info();
        let start = std::time::Instant::now();
        let (mut same, mut other) = (0u64, Vec::new());
        for chunk in target.chunks(4 << 20) {
            let len = (chunk.end - chunk.start) as usize;
            let (a, b) = (target.bytes(Space::Phys, chunk.start, len), full.bytes(Space::Phys, chunk.start, len));
            let (Ok(a), Ok(b)) = (a, b) else { panic!("{path:?}: {chunk:x?}") };
            for (i, (a, b)) in a.chunks(4096).zip(b.chunks(4096)).enumerate() {
                if a == b { same += 1 } else { other.push(chunk.start + i as u64 * 4096) }
            }
        }
        let scanned = start.elapsed();
        let mut absent = std::collections::BTreeMap::<String, u64>::new();
        for chunk in full.chunks(4096) {
            if let Err(reason) = target.translate(Space::Phys, chunk.start) {
                *absent.entry(reason.to_string()).or_default() += 1;
            }
        }
        eprintln!("{path:?}: {}, open {opened:?}, kernel {found:?}, scan {scanned:?}", info.format);
        eprintln!(
            "  {same} pages the same, {} not; absent {absent:?}; excluded {:?}, level {:?}, truncated {}, {:?}",
            other.len(),
            info.excluded,
            info.dump_level,
            info.truncated,
            info.damage
        );
        let of_full = full.kernel_layout().unwrap();
        assert_eq!(
            (kernel.image_offset, kernel.pgd, kernel.direct_map),
            (of_full.image_offset, of_full.pgd, of_full.direct_map)
        );
        assert!(other.is_empty(), "{path:?}: {other:x?}");
        assert_eq!(info.cpus, full.info().cpus);
        // Single reads, through the cache, in an order that is bad for it.
        for (i, chunk) in target.chunks(4096).enumerate().filter(|(i, _)| i % 37 == 0) {
            let at = chunk.start + i as u64 % 512 * 8;
            assert_eq!(target.u64(Space::Phys, at), full.u64(Space::Phys, at));
        }
    }
}

/// The guest wrote down its own symbols, and its kernel its own layout.
#[test]
fn the_layout_is_what_the_guest_knew() {
    for path in dumps().into_iter().filter(|p| p.ends_with("vmcore.elf")) {
        let Some(symbols) = symbols(&path) else { continue };
        for ignore_vmcoreinfo in [false, true] {
            let target = Target::open(&path, &OpenOptions { ignore_vmcoreinfo, ..Default::default() }).unwrap();
            let layout = target.kernel_layout().unwrap();
            let value = |name| target.u64(Space::Kernel, symbols[name]).unwrap();
            let top = if target.arch() == Arch::X86_64 { "init_top_pgt" } else { "swapper_pg_dir" };
            if target.arch() == Arch::X86_64 {
                assert_eq!(layout.image.start, symbols["_text"], "{path:?}");
                assert_eq!(layout.image.end, symbols["_end"].next_multiple_of(0x20_0000), "{path:?}");
                assert_eq!(layout.direct_map, Some(value("page_offset_base")), "{path:?}");
                assert_eq!(layout.image_offset, 0xffff_ffff_8000_0000u64.wrapping_sub(value("phys_base")), "{path:?}");
            } else {
                // the header before it is given back since Linux 5.11
                let stext = symbols["_stext"];
                assert!([stext, stext - 0x1_0000].contains(&layout.image.start), "{path:?}");
            }
            if target.arch() == Arch::Aarch64 && symbols.contains_key("memstart_addr") {
                assert_eq!(layout.image.end, symbols["_end"], "{path:?}");
                assert_eq!(layout.image_offset, value("kimage_voffset"), "{path:?}");
                // physical 0 is as far below the linear map's start as memory's start is above
                let start = 0u64.wrapping_sub(1 << told(&path, "VA_BITS"));
                assert_eq!(layout.direct_map, Some(start.wrapping_sub(value("memstart_addr"))), "{path:?}");
                assert_eq!(layout.page_size, told(&path, "PAGESIZE"), "{path:?}");
            }
            // not every kernel's symbols have data
            if let Some(&top) = symbols.get(top) {
                assert_eq!(layout.pgd, target.translate(Space::Kernel, top).unwrap().pa, "{path:?}");
            }
        }
        eprintln!("{path:?}: {symbols:x?}");
    }
}

/// Symbols that tell of the layout, by the guest's /proc/kallsyms.
fn symbols(path: &Path) -> Option<HashMap<String, u64>> {
    let wanted = ["_text", "_stext", "_end", "page_offset_base", "phys_base", "init_top_pgt"];
    let arm64 = ["swapper_pg_dir", "kimage_voffset", "memstart_addr"];
    let file = File::open(path.parent()?.join("truth/kallsyms.gz")).ok()?;
    let line = |line: String| {
        let mut words = line.split_whitespace();
        let addr = u64::from_str_radix(words.next()?, 16).ok()?;
        let name = words.nth(1)?;
        (wanted.contains(&name) || arm64.contains(&name)).then(|| (name.to_owned(), addr))
    };
    Some(BufReader::new(flate2::read::GzDecoder::new(file)).lines().map_while(Result::ok).filter_map(line).collect())
}

/// A number in the guest's /sys/kernel/vmcoreinfo.
fn told(path: &Path, key: &str) -> u64 {
    let page = std::fs::read(path.parent().unwrap().join("truth/vmcoreinfo")).unwrap();
    let at = u64::from_str_radix(
        String::from_utf8_lossy(&page).split([' ', '\n']).next().unwrap().trim_start_matches("0x"),
        16,
    );
    let target = Target::open(path, &OpenOptions::default()).unwrap();
    let text = target.bytes(Space::Phys, at.unwrap(), 4096).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let number = |line: &str| {
        let (name, value) = line.split_once('=')?;
        (name == key || name == format!("NUMBER({key})")).then(|| value.parse().unwrap())
    };
    text.lines().find_map(number).unwrap()
}
