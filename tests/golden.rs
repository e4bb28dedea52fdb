//! Commands × dumps: what the program prints, kept in one readable file per dump.
//!
//! `corpus/NAME/expected.md` holds sections of a command (`> ::status`) and its output. The test runs each command in
//! a fresh process, as a user would with `-e`, and compares. `UPDATE=1 cargo test --test golden` rewrites the outputs,
//! which are then to be read, and held against the oracles in `corpus/NAME/truth`, before they are committed:
//! `tests/oracle.rs` does that for whatever an oracle exists for. The sessions in `docs/` and `README.md` that name their
//! dump (`<!-- dump: k612-uaf -->`) are held to the same.

#![allow(clippy::unwrap_used)]

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Files with sessions, and the dump that each is about.
fn texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("corpus")).unwrap().map(|e| e.unwrap()) {
        let path = entry.path().join("expected.md");
        if path.exists() {
            found.push((path, entry.file_name().into_string().unwrap()));
        }
    }
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|e| e.unwrap().path());
    for path in docs.chain([root.join("README.md")]).filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        if let Some((dump, _)) = text.split_once("<!-- dump: ").and_then(|(_, rest)| rest.split_once(" -->")) {
            found.push((path, dump.to_owned()));
        }
    }
    found.sort();
    found
}

fn run(dump: &str, command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-S", "--no-debuginfo", &format!("corpus/{dump}/vmcore.zst"), "-e", command])
        .env("NO_COLOR", "1")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    text.push_str(&String::from_utf8(output.stderr).unwrap());
    let status = output.status.code();
    if status != Some(0) {
        writeln!(text, "[exit status {}]", status.map_or("signal".into(), |s| s.to_string())).unwrap();
    }
    text
}

/// Splits an expected file into text and `(command, output)` blocks, and joins it again with new outputs.
fn replay(dump: &str, expected: &str) -> String {
    let mut fresh = String::new();
    let mut lines = expected.lines();
    while let Some(line) = lines.next() {
        fresh.push_str(line);
        fresh.push('\n');
        if line != "```console" {
            continue;
        }
        let mut ours = false;
        // a block may hold several commands; what is no kmdb session (`$ …`) stays as it is
        for line in lines.by_ref() {
            match line.strip_prefix("> ") {
                Some(command) => {
                    fresh.push_str(&format!("{line}\n{}", run(dump, command)));
                    ours = true;
                }
                None if line == "```" => break,
                None if ours => {}
                None => fresh.push_str(&format!("{line}\n")),
            }
        }
        fresh.push_str("```\n");
    }
    fresh
}

#[test]
fn outputs_are_as_expected() {
    let texts = texts();
    assert!(!texts.is_empty(), "no corpus dump has an expected.md");
    let mut wrong = String::new();
    for (path, dump) in texts {
        let expected = fs::read_to_string(&path).unwrap();
        let fresh = replay(&dump, &expected);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &fresh).unwrap();
        } else if fresh != expected {
            let name = path.display();
            for (n, (a, b)) in expected.lines().zip(fresh.lines()).enumerate().filter(|(_, (a, b))| a != b).take(8) {
                writeln!(wrong, "{name}:{}\n  expected {a}\n  got      {b}", n + 1).unwrap();
            }
            writeln!(wrong, "{name}: {} lines, got {}", expected.lines().count(), fresh.lines().count()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
