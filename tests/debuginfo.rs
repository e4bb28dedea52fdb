//! Debug files on real dumps: a module's own file gives lines and types, a file of another build is refused.
//!
//! The lines are those of `corpus/lab/labmod/labmod.c`, which the tests look up in that file.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn corpus(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(path)
}

struct Answer {
    out: String,
    err: String,
    status: Option<i32>,
}

/// Asks about a dump in the corpus; `words` are options and further files.
fn ask(dump: &str, words: &[&Path], question: &str) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .arg("-S")
        .arg(corpus(dump).join("vmcore.zst"))
        .args(words)
        .args(["-e", question])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { out: text(output.stdout), err: text(output.stderr), status: output.status.code() }
}

/// A directory that holds the module of a dump as `labmod.ko`.
fn module_of(dump: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labmod.ko");
    let packed = fs::File::open(corpus(dump).join("labmod.ko.zst")).unwrap();
    fs::write(&path, zstd::decode_all(packed).unwrap()).unwrap();
    (folder, path)
}

/// The number of the line of labmod.c that holds `text`.
fn line(text: &str) -> usize {
    let source = fs::read_to_string(corpus("lab/labmod/labmod.c")).unwrap();
    source.lines().position(|line| line.contains(text)).unwrap() + 1
}

const RECORDS: &str = "::walk kmem_log | ::bufctl -c lab_open | ::bufctl -v";

/// Every frame of `function`, and there are some, names a line that holds one of the texts.
fn check_lines(answer: &Answer, function: &str, texts: &[&str]) {
    let places: Vec<String> = texts.iter().map(|text| format!("labmod.c:{})", line(text))).collect();
    let function = format!("labmod`{function}+");
    let frames: Vec<&str> = answer.out.lines().filter(|l| l.trim_start().starts_with(&function)).collect();
    assert!(!frames.is_empty(), "{function}: {}{}", answer.out, answer.err);
    for frame in frames {
        assert!(places.iter().any(|place| frame.ends_with(place)), "{frame}: none of {places:?}");
    }
}

#[test]
fn a_modules_file_gives_lines() {
    for dump in ["k612-uaf", "k61-uaf"] {
        let (folder, path) = module_of(dump);
        let by_folder = ask(dump, &[Path::new("-d"), folder.path()], RECORDS);
        let named = ask(dump, &[&path, Path::new("--no-debuginfo")], RECORDS);
        for answer in [by_folder, named] {
            assert_eq!(answer.status, Some(0), "{dump}: {}", answer.err);
            check_lines(&answer, "lab_open", &["= lab_alloc_node(id, name);", "= kzalloc(sizeof(*session)"]);
            check_lines(&answer, "lab_alloc_node", &["= kmem_cache_zalloc(lab_cache", "= kmalloc(LAB_LABEL"]);
        }
    }
}

#[test]
fn without_the_file_there_are_names_only() {
    let answer = ask("k612-uaf", &[Path::new("--no-debuginfo")], RECORDS);
    assert_eq!(answer.status, Some(0), "{}", answer.err);
    assert!(answer.out.contains("labmod`lab_open+") && !answer.out.contains("labmod.c"), "{}", answer.out);
}

#[test]
fn a_modules_file_types_its_variables() {
    let (_folder, path) = module_of("k612-uaf");
    let answer = ask("k612-uaf", &[&path], "lab_cache::print -t");
    assert!(answer.out.contains("struct kmem_cache *"), "{}{}", answer.out, answer.err);
}

#[test]
fn a_modules_file_of_another_build_is_refused() {
    // the right name, and another kernel's
    let (folder, path) = module_of("k61-uaf");
    let differs = "build-id differs: dump b0f16a7b05e31363970e02c10252121a693fafd1, \
                   file 455f3defdce4e0cad1ab92c98f02d668df17c022";
    for (words, status) in [([Path::new("-d"), folder.path()], 0), ([&*path, Path::new("--no-debuginfo")], 2)] {
        let answer = ask("k612-uaf", &words, RECORDS);
        assert_eq!(answer.status, Some(status), "{}", answer.err);
        assert_eq!(answer.err.matches(differs).count(), 1, "{}", answer.err);
        assert!(answer.out.contains("labmod`lab_open+") && !answer.out.contains("labmod.c"), "{}", answer.out);
    }
}

#[test]
fn a_file_of_no_loaded_module_is_told() {
    let (folder, path) = module_of("k612-uaf");
    let other = folder.path().join("nosuch.ko");
    fs::rename(path, &other).unwrap();
    let answer = ask("k612-uaf", &[&other], "1=X");
    assert_eq!(answer.status, Some(2));
    assert!(answer.err.contains("no module `nosuch` is loaded"), "{}", answer.err);
}

#[test]
fn a_vmlinux_of_another_build_is_refused() {
    // any linked file with a build-id will do
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/debuginfo/testdata/tiny-v5");
    let answer = ask("k612-uaf", &[&other], "init_task::print comm");
    assert_eq!(answer.status, Some(2), "{}", answer.err);
    let (_, ids) = answer.err.split_once("build-id differs: dump ").unwrap();
    let (dump, file) = ids.split_once(", file ").unwrap();
    let hex = |text: &str| text.chars().take_while(char::is_ascii_hexdigit).count();
    assert_eq!((hex(dump), hex(file)), (40, 40), "{}", answer.err);
    assert!(answer.out.contains("swapper/0"), "{}", answer.out);
}
