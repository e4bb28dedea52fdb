//! Commands × dumps: what the program prints, kept in one readable file per dump.
//!
//! `corpus/NAME/expected.md` holds sections of a command (`> ::status`) and its output. The test runs each command in
//! a fresh process, as a user would with `-e`, and compares. `UPDATE=1 cargo test --test golden` rewrites the outputs,
//! which are then to be read, and held against the oracles in `corpus/NAME/truth`, before they are committed:
//! `tests/oracle.rs` does that for whatever an oracle exists for.

#![allow(clippy::unwrap_used)]

use std::{fmt::Write, fs, path::Path, process::Command};

fn dumps() -> Vec<String> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut names: Vec<String> = fs::read_dir(corpus)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().join("expected.md").exists())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
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
        let command = lines.next().unwrap();
        fresh.push_str(command);
        fresh.push('\n');
        fresh.push_str(&run(dump, command.strip_prefix("> ").expect("a block starts with `> command`")));
        for line in lines.by_ref() {
            if line == "```" {
                break;
            }
        }
        fresh.push_str("```\n");
    }
    fresh
}

#[test]
fn outputs_are_as_expected() {
    let dumps = dumps();
    assert!(!dumps.is_empty(), "no corpus dump has an expected.md");
    let mut wrong = String::new();
    for dump in dumps {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(&dump).join("expected.md");
        let expected = fs::read_to_string(&path).unwrap();
        let fresh = replay(&dump, &expected);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &fresh).unwrap();
        } else if fresh != expected {
            for (n, (a, b)) in expected.lines().zip(fresh.lines()).enumerate().filter(|(_, (a, b))| a != b).take(8) {
                writeln!(wrong, "{dump}:{}\n  expected {a}\n  got      {b}", n + 1).unwrap();
            }
            if expected.lines().count() != fresh.lines().count() {
                writeln!(wrong, "{dump}: {} lines expected, got {}", expected.lines().count(), fresh.lines().count())
                    .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
