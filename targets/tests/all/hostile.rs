//! Damaged files: whatever their bytes say, nothing panics, hangs, or takes memory without bound.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use targets::{Load, OpenOptions, Space};

use crate::synth::{self, DIRECT_MAP, Memory, TEXT, USER, USER_PGD, VMALLOC};

/// Uses everything that a target offers. That it comes back is all that is asked.
fn exercise(bytes: &[u8], what: &str) {
    let start = Instant::now();
    let plain = OpenOptions::default();
    let memory = OpenOptions { ignore_note: true, ..Default::default() };
    let shape = OpenOptions { ignore_vmcoreinfo: true, ..Default::default() };
    let raw = OpenOptions { raw: vec![vec![Load { addr: 0, len: None }]], ..Default::default() };
    for options in [plain, memory, shape, raw] {
        let Ok(target) = synth::open(bytes, &options) else { return };
        let _ = format!("{:?} {:?} {:?}", target.info(), target.cpus(), target.kernel_layout());
        for pa in [0, 4095, 0x16000, 1 << 40, u64::MAX] {
            let _ = (target.u64(Space::Phys, pa), target.present(pa), target.phys_to_direct(pa));
        }
        for va in [TEXT, TEXT + 0x3ff_fff8, DIRECT_MAP + 0xffc, VMALLOC + 4090, USER, 0, u64::MAX - 4, 1 << 63] {
            for space in [Space::Kernel, Space::User(USER_PGD), Space::User(u64::MAX)] {
                let _ = (target.u64(space, va), target.translate(space, va), target.bytes(space, va, 9000));
            }
        }
        let mut buf = vec![0; 40 << 12];
        let _ = (target.read_lossy(Space::Kernel, TEXT, &mut buf), target.read_lossy(Space::Phys, 0, &mut buf));
        let _ = target.bytes(Space::Phys, 0, usize::MAX);
        for chunk in target.chunks(64 << 10).take(1000) {
            let _ = target.bytes(Space::Phys, chunk.start, (chunk.end - chunk.start) as usize);
        }
        for space in [Space::Kernel, Space::User(USER_PGD)] {
            let tables = Cell::new(0);
            let keep_going = || {
                tables.set(tables.get() + 1);
                tables.get() < 5000
            };
            let _ = target.each_mapping(space, 0..=u64::MAX, &keep_going, &mut |_| ControlFlow::Continue(()));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{what} took {:?}", start.elapsed());
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let memory = Memory::new(4);
    let elf = synth::elf(&memory, true, true);
    let kdump = synth::kdump(&memory, 1, &[17]);
    vec![
        ("flattened kdump", synth::flatten(&kdump)),
        ("kdump, zstd", synth::kdump(&memory, 0x20, &[])),
        ("kdump, snappy", synth::kdump(&memory, 4, &[])),
        ("kdump, zlib", kdump),
        ("LiME", synth::lime(&memory)),
        ("AVML", synth::avml(&memory)),
        ("ELF in a zstd file", zstd::bulk::compress(&elf, 1).unwrap()),
        ("ELF", elf),
    ]
}

#[test]
fn files_cut_anywhere() {
    for (name, file) in files() {
        // Headers and tables at every 64 bytes; what is behind them looks alike everywhere.
        let dense = (0..file.len().min(24 << 10)).step_by(64);
        let sparse = (24 << 10..file.len()).step_by(1984);
        for len in dense.chain(sparse) {
            exercise(&file[..len], &format!("{name} cut at {len}"));
        }
    }
}

#[test]
fn files_with_wrong_bytes() {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    for (name, file) in files() {
        for round in 0..400 {
            let mut file = file.clone();
            // Most damage goes to the first pages, where the headers are.
            let within = if round % 4 == 0 { file.len() } else { file.len().min(600 << (round % 6)) };
            for _ in 0..=random(8) {
                let at = random(within);
                file[at] = [0, 0xff, 0x80, 0x7f, random(256) as u8][random(5)];
            }
            exercise(&file, &format!("{name}, round {round}"));
        }
    }
}

#[test]
fn fields_with_extreme_values() {
    let memory = Memory::new(4);
    for (name, file) in [("ELF", synth::elf(&memory, true, true)), ("kdump", synth::kdump(&memory, 1, &[]))] {
        let fields = if name == "ELF" { 16..192 + 112 } else { 8..464 };
        let second = if name == "ELF" { 304..800 } else { 4096..4096 + 112 };
        let third = if name == "ELF" { 0..0 } else { 16384..16384 + 96 };
        for at in fields.chain(second).chain(third).step_by(4) {
            for value in [0u64, 1, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX, u64::MAX - 4095] {
                let mut file = file.clone();
                file[at..at + 8].copy_from_slice(&value.to_le_bytes());
                exercise(&file, &format!("{name}, {value:#x} at {at}"));
            }
        }
    }
}

#[test]
fn streams_of_absurd_records() {
    let head = &synth::flatten(b"x")[..4096];
    let record = |off: u64, len: u64| [off.to_be_bytes(), len.to_be_bytes()].concat();
    for (off, len) in [(0, u64::MAX), (u64::MAX - 1, 4), (1 << 62, 16), (i64::MAX as u64, 16), (0, 0)] {
        let file = [head, &record(0, 8), b"KDUMP   ", &record(off, len), &[0x41; 16], &record(u64::MAX, u64::MAX)];
        exercise(&file.concat(), &format!("record {off:#x} {len:#x}"));
    }
}

#[test]
fn a_bomb_of_zeros_does_not_fill_memory() {
    // 300 MiB: more than is kept in memory, so the rest of the way is the temporary file's.
    let mut out = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let core = synth::elf(&Memory::new(4), true, true);
    std::io::Write::write_all(&mut out, &core).unwrap();
    for _ in 0..300 {
        std::io::Write::write_all(&mut out, &vec![0; 1 << 20]).unwrap();
    }
    let packed = out.finish().unwrap();
    let target = synth::open(&packed, &OpenOptions::default()).unwrap();
    assert_eq!(target.info().present, 24 << 12);
    assert!(target.u64(Space::Kernel, TEXT).is_ok());
}
