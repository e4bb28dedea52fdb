//! Counts over time, what runs where, and the tools that are macros: on the running kernel, against what the workload did.
//!
//! What this machine does not let us do is said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::process::Command;

/// What a shell does: so many times a file is opened that is not there.
const OPENS: u64 = 200;
const WORKLOAD: &str = "i=0; while [ $i -lt 200 ]; do true 2> /dev/null < /kmdb/nothing; i=$((i+1)); done; sleep 0.3";

/// What kmdb answers on the running kernel: status, rows, and what it said. `None` if it may not.
fn ask(lines: &[&str]) -> Option<(Option<i32>, Vec<Value>, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.args(["-k", "-o", "json"]);
    for line in lines {
        command.args(["-e", line]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if ["not permitted", "needs root", "cannot be opened", "CAP_", "tracefs"].iter().any(|why| said.contains(why)) {
        eprintln!("skipped: {}", said.trim());
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Some((output.status.code(), rows, said))
}

fn script() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("workload.sh");
    std::fs::write(&path, WORKLOAD).unwrap();
    let command = format!("sh {}", path.display());
    (dir, command)
}

#[test]
fn intervals_add_up_to_what_was_counted() {
    let (_dir, command) = script();
    let probe = format!("::probe t:syscalls:sys_exit_openat -i 100ms -C '{command}' | ::where ret == -2 | ::group ret");
    let Some((status, rows, said)) = ask(&[&probe, "::agg"]) else { return };
    assert_eq!(status, Some(0), "{said}");
    let count = |row: &&Value| row["count"].as_u64().unwrap();
    let (intervals, total): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get("time").is_some());
    assert_eq!(intervals.iter().map(count).sum::<u64>(), total.iter().map(count).sum::<u64>(), "{rows:?}");
    assert!(total.iter().map(count).sum::<u64>() >= OPENS, "{rows:?}");
}

#[test]
fn stages_behind_answer_for_each_interval() {
    let line = "::probe sw:context-switches -i 100ms -d 350ms | ::group pid | ::sort -r count | ::head -1";
    let Some((status, rows, said)) = ask(&[line]) else { return };
    assert_eq!(status, Some(0), "{said}");
    assert!((3..=4).contains(&rows.len()), "{rows:?}");
}

#[test]
fn what_runs_where_is_told() {
    let line = "::explain ::probe t:syscalls:sys_exit_openat | ::where 'ret < 0' | ::group comm | ::sort -r count";
    let Some((status, rows, said)) = ask(&[line]) else { return };
    assert_eq!(status, Some(0), "{said}");
    assert!(rows[0]["what"].as_str().unwrap().contains("instructions"), "{rows:?}");
    let places: Vec<_> = rows.iter().map(|row| row["place"].as_str().unwrap()).collect();
    assert_eq!(places.last(), Some(&"here"), "{rows:?}");
    assert!(places.iter().rev().skip(1).all(|place| *place == "kernel"), "{rows:?}");
}

#[test]
fn counts_go_on_while_other_commands_run() {
    let lines = ["::probe -b t:raw_syscalls:sys_enter | ::group cpu", "! sleep 0.2", "::agg -k", "::agg"];
    let Some((status, rows, said)) = ask(&lines) else { return };
    assert_eq!(status, Some(0), "{said}");
    assert!(rows.iter().any(|row| row["count"].as_u64() > Some(0)), "{rows:?}");
    let Some((status, rows, said)) = ask(&["::agg"]) else { return };
    assert_eq!((status, rows.len()), (Some(2), 0));
    assert!(said.contains("nothing has been counted"), "{said}");
}

#[test]
fn tools_say_what_they_are() {
    let Some((status, rows, said)) = ask(&["::help opensnoop"]) else { return };
    assert_eq!(status, Some(0), "{said}");
    let text: Vec<_> = rows.iter().filter_map(|row| row["text"].as_str()).collect();
    assert!(text.iter().any(|line| line.contains("::probe s:openat")), "{text:?}");
}

#[test]
fn without_bpf_the_answer_is_the_same() {
    let (_dir, command) = script();
    let question = |way: &str| {
        let line =
            format!("::probe t:syscalls:sys_exit_openat {way} -C '{command}' | ::where ret == -2 | ::group comm ret");
        let (status, mut rows, said) = ask(&[&line])?;
        assert_eq!(status, Some(0), "{said}");
        // what the shell looks for before it begins is not always the same
        rows.retain(|row| row["count"].as_u64() >= Some(OPENS));
        Some((rows.len(), said))
    };
    let (Some((with, _)), Some((without, said))) = (question(""), question("--no-bpf")) else { return };
    assert_eq!((with, without), (1, 1), "{said}");
    assert!(said.contains("without BPF"), "{said}");
}
