//! `::findleaks` held against what the guest says that it forgot: the corpus's dumps, and those of the lab.
//!
//! `KMDB_LAB` names a directory with `dumps/NAME/vmcore.elf` and `truth/` beside it; `KMDB_ONLY` picks dumps by a part of
//! their name. Without it only the corpus is looked at.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a command answers, and kmdb's exit status.
fn kmdb(dump: &Path, commands: &str) -> (String, i32) {
    let done = Command::new(env!("CARGO_BIN_EXE_kmdb")).arg(dump).args(["-e", commands]).output().unwrap();
    (String::from_utf8(done.stdout).unwrap(), done.status.code().unwrap())
}

fn found(dump: &Path) -> BTreeSet<String> {
    let (answer, _) = kmdb(dump, "::walk leakbuf");
    answer.lines().map(|line| line.trim_start_matches("0x").to_owned()).collect()
}

/// The values of `KEY=a,b` in the lines that begin with a word.
fn told(truth: &str, word: &str, keys: &[&str]) -> BTreeSet<String> {
    let lines = truth.lines().filter(|line| line.split(' ').next().is_some_and(|first| first.starts_with(word)));
    let values = lines.flat_map(|line| line.split(' ').filter_map(|pair| pair.split_once('=')));
    values.filter(|(key, _)| keys.contains(key)).flat_map(|(_, v)| v.split(',').map(str::to_owned)).collect()
}

fn truth(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join("truth").join(file)).ok()
}

/// What kmemleak reported, where a guest's kernel has it.
fn truth_of_kmemleak(folder: &Path) -> Option<BTreeSet<String>> {
    let report = truth(folder, "kmemleak.txt")?;
    let addr = |line: &str| Some(line.strip_prefix("unreferenced object 0x")?.split(' ').next()?.to_owned());
    Some(report.lines().filter_map(addr).collect())
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

#[test]
fn what_the_guest_forgot_is_found_and_nothing_else() {
    for name in ["k612-uaf", "k61-uaf", "k612-plain", "k612-arm64"] {
        let folder = corpus(name);
        let forgotten = truth(&folder, "labmod.txt").map(|told_| told(&told_, "leak", &["node", "label"]));
        assert_eq!(found(&folder.join("vmcore.zst")), forgotten.unwrap_or_default(), "{name}");
    }
}

#[test]
fn the_exit_status_tells_of_leaks() {
    let (_, leaks) = kmdb(&corpus("k612-uaf/vmcore.zst"), "::findleaks");
    let (none, clean) = kmdb(&corpus("k612-arm64/vmcore.zst"), "::findleaks");
    assert_eq!((leaks, clean), (1, 0));
    assert!(none.contains("no memory leaks detected"), "{none}");
}

#[test]
fn what_is_reached_is_reached_from_a_root() {
    let dump = corpus("k612-uaf/vmcore.zst");
    let truth = truth(&corpus("k612-uaf"), "labmod.txt").unwrap();
    for node in told(&truth, "open", &["node"]).difference(&told(&truth, "close", &["node"])) {
        let (way, _) = kmdb(&dump, &format!("{node}::refs"));
        assert!(way.lines().nth(1).is_some_and(|root| root.contains(" module ")), "{node}: {way}");
        assert!(way.lines().last().is_some_and(|last| last.contains(node.as_str())), "{node}: {way}");
    }
}

/// On every dump of the lab whose guest told what it forgot.
#[test]
fn the_labs_guests_agree() {
    let Ok(lab) = std::env::var("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab directory");
        return;
    };
    let only = std::env::var("KMDB_ONLY").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(Path::new(&lab).join("dumps")).unwrap().map(|d| d.unwrap().path()).collect();
    folders.retain(|folder| folder.to_string_lossy().contains(&only) && folder.join("vmcore.elf").exists());
    folders.sort();
    for folder in folders {
        let found = found(&folder.join("vmcore.elf"));
        let name = folder.file_name().unwrap().to_string_lossy();
        if let Some(truth) = truth(&folder, "zoo.txt") {
            let forgotten = told(&truth, "leak_", &["object", "objects"]);
            // pages that nothing refers to may be a device's
            let mut pages = told(&truth, "leak_page", &["object"]);
            pages.extend(told(&truth, "leak_one_page", &["object"]));
            // a stale word of a stack, which is said, may still lead to one, or the pointer that another sin damaged
            let hides = |way: &str| way.contains(" stack ") || way.contains("zoo`zoo_flip_list");
            let stale = |at: &str| hides(&kmdb(&folder.join("vmcore.elf"), &format!("{at}::refs")).0);
            let missed = forgotten.difference(&found).filter(|at| !pages.contains(*at));
            let missed: Vec<&String> = missed.filter(|at| !stale(at)).collect();
            assert!(missed.is_empty(), "{name}: not found: {missed:?}");
            let kept: Vec<String> = told(&truth, "interior", &["kept"]).intersection(&found).cloned().collect();
            assert!(kept.is_empty(), "{name}: kept by an interior pointer: {kept:?}");
            // the kernel's own verdict, and what it does not see: a lost area, whose memory leads to an object, and
            // per-CPU memory
            if let Some(verdict) = truth_of_kmemleak(&folder) {
                assert!(!verdict.is_empty(), "{name}: kmemleak saw nothing");
                assert!(verdict.is_subset(&found), "{name}: kmemleak alone: {:?}", verdict.difference(&found));
                let own = told(&truth, "leak_area_holds", &["objects"]);
                let percpu =
                    |at: &str| kmdb(&folder.join("vmcore.elf"), &format!("{at}::whatis")).0.contains("__percpu");
                let alone = found.difference(&verdict).filter(|at| !own.contains(*at));
                let alone: Vec<&String> = alone.filter(|at| !percpu(at)).collect();
                assert!(alone.is_empty(), "{name}: not seen by kmemleak: {alone:?}");
            }
        } else if let Some(truth) = truth(&folder, "labmod.txt") {
            assert_eq!(found, told(&truth, "leak", &["node", "label"]), "{name}");
        }
    }
}
