//! Types of unlabelled objects, against what is known of them otherwise: the addresses of `struct lab_session`s, which
//! labmod printed as it allocated them with kmalloc(), and the caches whose name says what they hold.
//!
//! Goes through the dumps of the corpus, and through those of the lab where `KMDB_LAB` names one.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Dumps in which labmod was loaded, with what it printed.
fn dumps() -> Vec<(PathBuf, String)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut dumps = vec![corpus.join("k612-uaf/vmcore.zst"), corpus.join("k61-uaf/vmcore.zst")];
    match std::env::var_os("KMDB_LAB") {
        None => eprintln!("the lab's dumps are skipped: KMDB_LAB names no lab"),
        Some(lab) => {
            let all = fs::read_dir(Path::new(&lab).join("dumps")).unwrap();
            let finished = all.map(|e| e.unwrap().path()).filter(|dump| dump.join("stamp").is_file());
            dumps.extend(finished.map(|dump| dump.join("vmcore.elf")).filter(|dump| dump.is_file()));
        }
    }
    let truth = |dump: &PathBuf| {
        let said = fs::read_to_string(dump.with_file_name("truth").join("labmod.txt")).ok()?;
        said.contains("session=").then(|| (dump.clone(), said))
    };
    dumps.iter().filter_map(truth).collect()
}

fn rows(dump: &Path, commands: &[String]) -> Vec<Value> {
    let mut kmdb = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    kmdb.args(["--no-debuginfo", "-o", "json"]).arg(dump);
    commands.iter().for_each(|command| {
        kmdb.args(["-e", command]);
    });
    let output = kmdb.output().unwrap();
    assert!(output.status.code() != Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn objects_of_a_module_are_found_by_what_they_hold() {
    let dumps = dumps();
    assert!(dumps.len() >= 2);
    for (dump, said) in dumps {
        let opened = said.lines().filter(|line| line.starts_with("open "));
        let sessions = opened.flat_map(|line| line.split(' ').filter_map(|word| word.strip_prefix("session=")));
        let commands: Vec<String> = sessions.map(|session| format!("{session}::whattype -v")).collect();
        assert!(!commands.is_empty());
        for row in rows(&dump, &commands) {
            assert_eq!(row["types"][0], "struct lab_session", "{}: {row}", dump.display());
            assert!(!row["reasons"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn what_is_found_without_the_names_of_caches_is_what_they_say() {
    for (dump, _) in dumps() {
        let (mut objects, mut told, mut right, mut possible, mut hit) = (0, 0, 0, 0, 0);
        for row in rows(&dump, &["::typegraph -t".to_owned()]).iter().filter(|row| row["name"] != "all") {
            let number = |key: &str| row[key].as_u64().unwrap();
            objects += number("objects");
            told += number("told");
            right += number("right");
            possible += number("possible");
            hit += number("hit");
        }
        eprintln!("{}: {objects} objects, {told} told, {right} right; {possible} possible, {hit} hit", dump.display());
        let reached = told + possible;
        assert!(reached * 2 > objects, "{}: only {reached} of {objects} were reached", dump.display());
        assert!(right * 100 >= told * 99, "{}: {right} of {told} are right", dump.display());
        assert!(hit * 100 >= possible * 95, "{}: {hit} of {possible} are right", dump.display());
    }
}
