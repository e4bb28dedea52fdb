//! A kernel's own file, alone and beside a dump: made here from the image in a dump of the corpus.
//!
//! What the file answers is held against what the dump answers; where the dump is damaged the file must stand in.

#![allow(clippy::unwrap_used)]

use engine::targets::{OpenOptions, Space, Target};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const DUMP: &str = "corpus/k612-uaf/vmcore.zst";

fn dump() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(DUMP)
}

/// The image of the kernel in the dump as an ELF file that is loaded where that kernel ran, with its build-id.
fn vmlinux() -> Vec<u8> {
    const PAGE: u64 = 4096;
    let target = Target::open(dump(), &OpenOptions::default()).unwrap();
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    for addr in target.kernel_layout().unwrap().image.step_by(PAGE as usize) {
        let Ok(page) = target.bytes(Space::Kernel, addr, PAGE as usize) else { continue };
        match pieces.last_mut() {
            Some((start, bytes)) if *start + bytes.len() as u64 == addr => bytes.extend_from_slice(&page),
            _ => pieces.push((addr, page.to_vec())),
        }
    }
    let id = target.info().build_id.unwrap();
    let id: Vec<u8> = (0..20).map(|i| u8::from_str_radix(&id[2 * i..2 * i + 2], 16).unwrap()).collect();
    let mut note = [4u32, 20, 3].map(u32::to_le_bytes).concat();
    note.extend(b"GNU\0");
    note.extend(id);
    elf(&pieces, &note)
}

/// An ELF program with these segments and this note.
fn elf(pieces: &[(u64, Vec<u8>)], note: &[u8]) -> Vec<u8> {
    let count = pieces.len() as u64 + 1;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([2u16, 62].map(u16::to_le_bytes).concat());
    out.extend(1u32.to_le_bytes());
    out.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    out.extend(0u32.to_le_bytes());
    out.extend([64, 56, count as u16, 64, 0, 0].map(u16::to_le_bytes).concat());
    let mut at = 64 + count * 56;
    let mut header = |kind: u32, addr: u64, len: usize| {
        out.extend([kind, 5].map(u32::to_le_bytes).concat());
        let len = len as u64;
        out.extend([at, addr, addr, len, len, 4].map(u64::to_le_bytes).concat());
        at += len;
    };
    header(4, 0, note.len());
    pieces.iter().for_each(|(addr, bytes)| header(1, *addr, bytes.len()));
    out.extend_from_slice(note);
    pieces.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    out
}

/// What `make bzImage` makes of it, as far as the boot protocol describes it.
fn bzimage(vmlinux: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(vmlinux, 1).unwrap();
    let mut out = vec![0; 0x1000];
    out[0x1f1] = 3;
    out[0x202..0x206].copy_from_slice(b"HdrS");
    out[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    out[0x248..0x24c].copy_from_slice(&0x800u32.to_le_bytes());
    // with the size of all behind it
    out[0x24c..0x250].copy_from_slice(&(packed.len() as u32 + 4).to_le_bytes());
    out.extend(packed);
    out.extend((vmlinux.len() as u32).to_le_bytes());
    out
}

struct Answer {
    out: String,
    err: String,
    status: Option<i32>,
}

fn ask(files: &[&Path], questions: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.args(["-S", "--no-debuginfo"]).args(files);
    questions.iter().for_each(|question| _ = command.args(["-e", question]));
    let output = command.env("NO_COLOR", "1").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { out: text(output.stdout), err: text(output.stderr), status: output.status.code() }
}

fn put(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

const QUESTIONS: [&str; 6] = [
    "::sizeof struct task_struct",
    "::offsetof struct task_struct comm",
    "::nm ! sort | head -2000",
    "schedule::dis -n 4",
    "linux_banner/s",
    "::print -t struct list_head",
];

#[test]
fn a_kernels_file_answers_as_its_dump_does() {
    let vmlinux = vmlinux();
    let (_one, plain) = put("vmlinux", &vmlinux);
    let (_two, packed) = put("vmlinux.zst", &zstd::bulk::compress(&vmlinux, 1).unwrap());
    let (_three, booted) = put("vmlinuz", &bzimage(&vmlinux));
    for question in QUESTIONS {
        let expected = ask(&[&dump()], &[question]);
        for path in [&plain, &packed, &booted] {
            let answer = ask(&[path], &[question]);
            assert_eq!(answer.out, expected.out, "{question} of {}: {}", path.display(), answer.err);
            assert_eq!(answer.status, expected.status, "{question}: {}", answer.err);
        }
    }
    let answer = ask(&[&booted], &["::status"]);
    for line in ["bzImage (zstd), x86_64", "6.12.", "7f76f39faf07f34cfa9fadd801e131bfa8cb6dc3", "kallsyms: ", "BTF: "] {
        assert!(answer.out.contains(line), "{line}: {}{}", answer.out, answer.err);
    }
}

#[test]
fn what_a_kernel_that_does_not_run_cannot_answer_is_told() {
    let (_folder, path) = put("vmlinux", &vmlinux());
    let answer = ask(&[&path], &["ffff888000000000/X"]);
    assert_eq!(answer.status, Some(2), "{}", answer.out);
    assert!(answer.err.contains("not in the kernel's file"), "{}", answer.err);
}

#[test]
fn a_file_that_is_cut_off_or_foreign_is_refused() {
    let vmlinuz = bzimage(&vmlinux());
    let (_folder, path) = put("vmlinuz", &vmlinuz[..vmlinuz.len() / 2]);
    let answer = ask(&[&path], &["::sizeof int"]);
    assert_eq!(answer.status, Some(2), "{}", answer.out);
    assert!(answer.err.contains("bzImage: it ends before its kernel does"), "{}", answer.err);
    // of another build than the dump
    let (_folder, path) = put("vmlinuz", &vmlinuz);
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/k61-uaf/vmcore.zst");
    let answer = ask(&[&other, &path], &["1=X"]);
    assert_eq!(answer.status, Some(2), "{}", answer.out);
    assert!(
        answer.err.contains("build-id differs") && answer.err.contains("not the kernel that crashed"),
        "{}",
        answer.err
    );
    // two kernels and no dump
    assert_eq!(ask(&[&path, &path], &["1=X"]).status, Some(2));
}
