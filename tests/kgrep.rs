//! `::kgrep` held against others: on the corpus's dumps against a plain scan of the ELF core, word by word and byte by
//! byte; on the lab's against drgn's memory search, and `::whatis` against its `identify_address` (`corpus/lab/kgrep.py`,
//! `whatis.py`), where `KMDB_LAB` names a lab and python3 has drgn.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const KMDB: &str = env!("CARGO_BIN_EXE_kmdb");

/// Segments of an ELF core: physical address and bytes.
fn segments(core: &[u8]) -> Vec<(u64, &[u8])> {
    let number = |at: usize, size: usize| core[at..at + size].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let headers = (0..number(56, 2) as usize).map(|i| number(32, 8) as usize + i * 56);
    let loads = headers.filter(|at| number(*at, 4) == 1);
    loads.map(|at| (number(at + 24, 8), &core[number(at + 8, 8) as usize..][..number(at + 32, 8) as usize])).collect()
}

/// Whether bytes are what is looked for.
type Is = Box<dyn Fn(&[u8]) -> bool>;

/// A question, and whether what begins with these bytes is an answer.
struct Question {
    command: String,
    /// answers are at multiples of this
    align: usize,
    /// bytes of an answer
    size: usize,
    is: Is,
}

fn questions(init_task: u64) -> Vec<Question> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let question = |command: String, align, size, is: Is| Question { command, align, size, is };
    let low = init_task & 0xffff_ffff;
    let bytes = init_task.to_le_bytes();
    let shown: Vec<String> =
        bytes.iter().enumerate().map(|(i, b)| if i == 2 { "..".into() } else { format!("{b:02x}") }).collect();
    vec![
        question(format!("{init_task:x}::kgrep -p"), 8, 8, Box::new(move |b| word(b) == init_task)),
        question(
            format!("{init_task:x}::kgrep -p -d 2000"),
            8,
            8,
            Box::new(move |b| (init_task..=init_task + 0x2000).contains(&word(b))),
        ),
        question(
            format!("{init_task:x}::kgrep -p -M ffff"),
            8,
            8,
            Box::new(move |b| word(b) & !0xffff == init_task & !0xffff),
        ),
        question(
            "5a5::kgrep -p -m ff00000000000fff".into(),
            8,
            8,
            Box::new(move |b| word(b) & 0xff00_0000_0000_0fff == 0x5a5),
        ),
        question(format!("{low:x}::kgrep -p -s 4"), 4, 4, Box::new(move |b| word(b) == low)),
        question("cafe::kgrep -p -s 2".into(), 2, 2, Box::new(move |b| word(b) == 0xcafe)),
        question("::kgrep -p -t vm_area_struct".into(), 1, 14, Box::new(|b| b == b"vm_area_struct")),
        question(
            format!("::kgrep -p -b '{}'", shown.join(" ")),
            1,
            8,
            Box::new(move |b| b[..2] == bytes[..2] && b[3..] == bytes[3..]),
        ),
        question(
            "::kgrep -p -r 'kmalloc-[0-9]k'".into(),
            1,
            10,
            Box::new(|b| b.starts_with(b"kmalloc-") && b[8].is_ascii_digit() && b[9] == b'k'),
        ),
    ]
}

#[test]
fn what_a_plain_scan_finds_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["k612-uaf", "k612-arm64"] {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name).join("vmcore.zst");
        let path = folder.path().join(name);
        zstd::stream::copy_decode(File::open(packed).unwrap(), File::create(&path).unwrap()).unwrap();
        let core = fs::read(&path).unwrap();
        let kmdb = |command: &str| {
            let done =
                Command::new(KMDB).args(["-S", "--no-debuginfo"]).arg(&path).args(["-e", command]).output().unwrap();
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        let init_task = kmdb("init_task=K");
        let init_task = u64::from_str_radix(init_task.trim(), 16).unwrap();
        for question in questions(init_task) {
            let answer = kmdb(&format!("{} | ::map .", question.command));
            let found: BTreeSet<u64> = answer
                .lines()
                .map(|line| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).unwrap())
                .collect();
            let mut there = BTreeSet::new();
            for (pa, bytes) in segments(&core) {
                let last = bytes.len().saturating_sub(question.size);
                let at = (0..=last).step_by(question.align);
                there.extend(at.filter(|at| (question.is)(&bytes[*at..*at + question.size])).map(|at| pa + at as u64));
            }
            assert!(!there.is_empty() || question.align == 2, "{name}: {} has no answer", question.command);
            assert_eq!(found, there, "{name}: {}", question.command);
        }
    }
}

/// Runs a script of the lab on every dump that has a vmlinux; those whose names contain `KMDB_ONLY`.
fn lab(script: &str, more: &[&str]) {
    let Some(lab) = std::env::var_os("KMDB_LAB").map(PathBuf::from) else {
        return eprintln!("skipped: KMDB_LAB names no lab");
    };
    let has_drgn = Command::new("python3").args(["-c", "import drgn"]).output().is_ok_and(|done| done.status.success());
    if !has_drgn {
        return eprintln!("skipped: python3 has no drgn");
    }
    let only = std::env::var("KMDB_ONLY").unwrap_or_else(|_| "-plain".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab").join(script);
    let mut dumps: Vec<PathBuf> = fs::read_dir(lab.join("dumps")).unwrap().map(|dump| dump.unwrap().path()).collect();
    // of 8 GB, drgn would take an hour
    dumps.retain(|dump| {
        let name = dump.file_name().unwrap_or_default().to_string_lossy();
        name.contains(&only) && name.starts_with(['k', 'a']) && dump.join("vmcore.elf").exists()
    });
    for dump in dumps {
        let Ok(kernel) = fs::read_to_string(dump.join("kernel")) else { continue };
        let vmlinux = lab.join("kern").join(kernel.trim()).join("vmlinux");
        if !vmlinux.exists() {
            continue;
        }
        let done = Command::new("python3")
            .arg(&script)
            .arg(KMDB)
            .arg(dump.join("vmcore.elf"))
            .arg(&vmlinux)
            .args(more)
            .output();
        let done = done.unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        eprintln!("{}: {}", dump.display(), said.lines().last().unwrap_or_default());
        assert!(done.status.success(), "{}: {said}{}", dump.display(), String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn drgn_finds_the_same() {
    lab("kgrep.py", &[]);
}

#[test]
fn drgn_knows_addresses_for_the_same() {
    lab("whatis.py", &["3000", "7"]);
}
