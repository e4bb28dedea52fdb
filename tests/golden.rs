//! Commands × dumps: what the program prints, kept in one readable file per dump.
//!
//! `corpus/NAME/expected.md` holds sections of a command (`> ::status`) and its output. The test runs the
//! commands of a file in one session, as a user would at a prompt, and compares. `UPDATE=1 cargo test --test golden` rewrites the outputs,
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

/// Runs commands in one session, as a user would at a prompt, and gives the answer to each. `::quit` and whatever else ends
/// the program ends a session; the commands behind it have one of their own.
fn run(dump: &str, commands: &[&str]) -> Vec<String> {
    let mut answers: Vec<String> = Vec::new();
    while let Some(left) = commands.get(answers.len()..).filter(|left| !left.is_empty()) {
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), left.join("\n") + "\n").unwrap();
        let record = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["-S", "--no-debuginfo", "--echo", &format!("corpus/{dump}/vmcore.zst")]);
        command.stdin(script.reopen().unwrap());
        // complaints come where they came up
        let end_of = |path| fs::OpenOptions::new().append(true).open(path).unwrap();
        command.stdout(end_of(record.path())).stderr(end_of(record.path()));
        command.env("NO_COLOR", "1").env("TZ", "UTC").env("TERM", "dumb");
        let status = command.status().unwrap();
        let text = fs::read_to_string(record.path()).unwrap();
        let given = answers_in(&text, left);
        assert!(!given.is_empty(), "{dump}: no answer to {:?}, status {status}", left[0]);
        answers.extend(given);
    }
    answers
}

/// What stands in a record behind each command.
fn answers_in(record: &str, commands: &[&str]) -> Vec<String> {
    let mut rest = record;
    let mut answers = Vec::new();
    for (i, command) in commands.iter().enumerate() {
        let Some((_, behind)) = rest.split_once(&format!("> {command}\n")) else { break };
        let next = commands.get(i + 1).and_then(|next| behind.find(&format!("\n> {next}\n")).map(|at| at + 1));
        let at_once = commands.get(i + 1).is_some_and(|next| behind.starts_with(&format!("> {next}\n")));
        let end = if at_once { 0 } else { next.unwrap_or(behind.len()) };
        answers.push(behind[..end].to_owned());
        rest = &behind[end..];
    }
    answers
}

/// Splits an expected file into text and `(command, output)` blocks, and joins it again with new outputs.
fn replay(dump: &str, expected: &str) -> String {
    let mut inside = false;
    let commands: Vec<&str> = expected
        .lines()
        .filter_map(|line| {
            inside = if inside { line != "```" } else { line == "```console" };
            line.strip_prefix("> ").filter(|_| inside)
        })
        .collect();
    let mut answers = run(dump, &commands).into_iter();
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
                Some(_) => {
                    fresh.push_str(&format!("{line}\n{}", answers.next().unwrap()));
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
