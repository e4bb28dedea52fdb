//! Call stacks against drgn's, which has the kernel's DWARF, on every dump of the lab that it was asked about
//! (`oracle/stacks.txt`): frame for frame. kmdb is given the dump alone. Needs `KMDB_LAB`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// The dumps of the lab that drgn was asked about.
fn dumps() -> Vec<(String, PathBuf)> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else { return Vec::new() };
    let Ok(folders) = std::fs::read_dir(Path::new(&lab).join("dumps")) else { return Vec::new() };
    let folders = folders.map(|e| e.unwrap().path());
    let asked = folders.filter(|dir| dir.join("oracle/stacks.txt").exists() && dir.join("vmcore.elf").exists());
    let mut found: Vec<_> =
        asked.map(|dir| (dir.file_name().unwrap().to_str().unwrap().to_owned(), dir.join("vmcore.elf"))).collect();
    found.sort();
    found
}

/// The rows of a command, and what it noted.
fn answer(dump: &Path, command: &str) -> (Vec<Value>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json", "-e", command])
        .arg(dump)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        String::from_utf8_lossy(&out.stderr).into(),
    )
}

/// A frame: where it goes on; whether drgn has a name for that, or how kmdb found it; the function.
struct Frame {
    pc: u64,
    how: String,
    function: String,
}

/// What drgn says of each thread: address and function of each frame, until it meets code that it knows nothing of.
/// Inlined functions, at the same address, are in a line of their own.
fn theirs(text: &str) -> BTreeMap<u64, Vec<(u64, bool)>> {
    let mut found: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    let mut pid = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("="), Some(number)) => {
                pid = number.parse().unwrap();
                found.entry(pid).or_default();
            }
            (Some(pc), Some(name)) => {
                if let Ok(pc) = u64::from_str_radix(pc, 16) {
                    found.entry(pid).or_default().push((pc, name != "?"));
                }
            }
            _ => {}
        }
    }
    found
}

fn ours(rows: &[Value]) -> BTreeMap<u64, Vec<Frame>> {
    let mut found: BTreeMap<u64, Vec<Frame>> = BTreeMap::new();
    for row in rows {
        let pc = match &row["pc"] {
            Value::String(hex) => u64::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap(),
            number => number.as_u64().unwrap(),
        };
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let frame = Frame { pc, how: text("how"), function: text("function") };
        found.entry(row["pid"].as_u64().unwrap()).or_default().push(frame);
    }
    // the idle tasks share number 0, and are not in drgn's list
    found.remove(&0);
    found
}

/// How two stacks of a thread differ in what cannot be explained.
///
/// drgn stops, or goes astray, where code is that it has no DWARF of: modules of the lab's own, and what was jumped to
/// that is no code. And on arm64, of a function that was interrupted before it made a frame record, kmdb has the caller,
/// which is in the link register.
fn difference(ours: &[Frame], theirs: &[(u64, bool)]) -> Option<String> {
    let (mut i, mut j, mut astray) = (0, 0, false);
    while i < ours.len() && j < theirs.len() {
        let (mine, (pc, known)) = (&ours[i], theirs[j]);
        if mine.pc == pc {
            astray |= !known;
            (i, j) = (i + 1, j + 1);
        } else if astray {
            return None;
        } else if i > 0 && matches!(mine.how.as_str(), "saved" | "regs") && mine.how == ours[i - 1].how {
            i += 1; // from the link register
        } else {
            return Some(format!("{} is {pc:x} for drgn", mine.function));
        }
    }
    // it stops before a jump to nowhere, and at what a smashed stack leads to
    let nowhere = |frame: &Frame| frame.function.starts_with("0x");
    match (ours.get(i), theirs.get(j)) {
        (None, None) => None,
        _ if astray => None,
        (Some(frame), None) if nowhere(frame) => None,
        (mine, his) => Some(format!("{:?}, for drgn {his:x?}", mine.map(|frame| &frame.function))),
    }
}

/// Functions at which a stack begins.
const BOTTOM: &[&str] =
    &["ret_from_fork", "entry_SYSCALL", "entry_INT80", "asm_", "el0t_", "el0_", "ret_to_user", "native_irq_return"];

#[test]
fn every_stack_is_drgns() {
    let dumps = dumps();
    if dumps.is_empty() {
        return eprintln!("left out: no dumps that drgn was asked about (KMDB_LAB, corpus/lab/make.sh)");
    }
    let (mut wrong, mut stacks, mut frames) = (Vec::new(), 0, 0);
    for (name, dump) in &dumps {
        let text = std::fs::read_to_string(dump.with_file_name("oracle/stacks.txt")).unwrap();
        let (rows, notes) = answer(dump, "::walk thread | ::stack");
        let (ours, theirs) = (ours(&rows), theirs(&text));
        // whose stacks are given back: drgn reads what is there now
        let (tasks, _) = answer(dump, "::ps -t");
        let dead: BTreeSet<u64> = tasks.iter().filter(|t| t["s"] == "Z").map(|t| t["tid"].as_u64().unwrap()).collect();
        for (pid, his) in theirs.iter().filter(|(pid, _)| !dead.contains(pid)) {
            let mine = ours.get(pid).map_or(&[][..], Vec::as_slice);
            stacks += 1;
            frames += mine.len();
            wrong.extend(difference(mine, his).map(|why| format!("{name}: {pid}: {why}")));
            let whole = mine.last().is_none_or(|last| BOTTOM.iter().any(|name| last.function.starts_with(name)));
            if !whole && !notes.contains("ends early") {
                wrong.push(format!("{name}: {pid}: ends at {} and does not say so", mine.last().unwrap().function));
            }
        }
    }
    eprintln!("{stacks} stacks with {frames} frames in {} dumps", dumps.len());
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
