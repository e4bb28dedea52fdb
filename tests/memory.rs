//! What kmdb says of memory, against what the guest's own files said straight before it was stopped, and against itself:
//! the same memory is counted in several ways, and on a sound dump they agree.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The rows that a command gives, and what was said beside them.
fn ask(dump: &Path, command: &str) -> (Vec<Value>, String) {
    let mut kmdb = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    kmdb.args(["-S", "--no-debuginfo", "-o", "json"]).arg(dump).args(["-e", command]);
    let output = kmdb.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let rows = String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (rows, said)
}

/// `KMDB_LAB`'s dumps whose guest wrote a last word, or none with a message.
fn lab() -> Vec<PathBuf> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else {
        println!("KMDB_LAB is not set: the guests' own figures are not compared");
        return Vec::new();
    };
    let dumps = fs::read_dir(Path::new(&lab).join("dumps")).into_iter().flatten().map(|e| e.unwrap().path());
    let found: Vec<PathBuf> =
        dumps.filter(|d| d.join("truth/last/meminfo").exists() && d.join("vmcore.elf").exists()).collect();
    if found.is_empty() {
        println!("{} has no dump of a guest that wrote truth/last", lab.display());
    }
    found
}

/// The numbers of a file whose lines begin with a name.
fn figures(path: &Path) -> BTreeMap<String, i64> {
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.trim_end_matches(':').to_owned(), words.next()?.parse().ok()?))
    };
    fs::read_to_string(path).unwrap().lines().filter_map(words).collect()
}

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let dumps = fs::read_dir(root).unwrap().map(|e| e.unwrap().path().join("vmcore.zst"));
    let mut found: Vec<PathBuf> = dumps.filter(|d| d.exists()).collect();
    found.sort();
    assert!(found.len() >= 4, "only {} dumps", found.len());
    found
}

/// Free lists hold what is counted, and all pages are of some kind.
#[test]
fn memory_adds_up() {
    for dump in corpus() {
        let name = dump.display();
        let (zones, said) = ask(&dump, "::buddy");
        assert!(!zones.is_empty(), "{name}: {said}");
        assert!(!said.contains("by the count"), "{name}: {said}");
        let (rows, said) = ask(&dump, "::memstat -v");
        let total = rows.last().unwrap_or_else(|| panic!("{name}: {said}"));
        assert_eq!(total["more"], 0, "{name}: {rows:?}");
        // what every page is known to be
        for kind in ["Boot", "Page tables", "Free", "Free (CPUs)"] {
            let row = rows.iter().find(|row| row["kind"] == kind).unwrap();
            assert_eq!(row["more"], 0, "{name}: {row}");
        }
    }
}

/// Figures that the guest's last look did not move.
const STILL: &[&str] = &[
    "MemTotal",
    "SwapTotal",
    "CommitLimit",
    "VmallocTotal",
    "HugePages_Total",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "Hugepagesize",
    "Hugetlb",
    "DirectMap4k",
    "DirectMap2M",
    "DirectMap1G",
    "Percpu",
    "CmaTotal",
];

/// /proc/meminfo: all of its figures are there, those that stand still are the same, others nearly.
#[test]
fn meminfo_is_as_the_guest_said() {
    for dump in lab() {
        let (rows, said) = ask(&dump.join("vmcore.elf"), "::meminfo");
        let ours: BTreeMap<String, i64> =
            rows.iter().filter_map(|r| Some((r["name"].as_str()?.to_owned(), r["value"].as_i64()?))).collect();
        let mut moved = Vec::new();
        for (name, theirs) in figures(&dump.join("truth/last/meminfo")) {
            let Some(ours) = ours.get(&name) else { panic!("{}: no {name}: {said}", dump.display()) };
            if STILL.contains(&name.as_str()) {
                assert_eq!(*ours, theirs, "{}: {name}", dump.display());
            }
            // a few pages come and go while the guest writes this down
            assert!((ours - theirs).abs() <= 1024.max(theirs / 20), "{}: {name}: {ours}, {theirs}", dump.display());
            moved.extend((*ours != theirs).then(|| format!("{name} {ours}/{theirs}")));
        }
        println!("{}: {} figures, moved: {}", dump.display(), ours.len(), moved.join(", "));
    }
}

/// /proc/vmallocinfo: the same ranges, but for those of processes that came and went.
#[test]
fn mappings_are_as_the_guest_said() {
    for dump in lab() {
        let (rows, said) = ask(&dump.join("vmcore.elf"), "::vmem -a");
        let ours: Vec<(&str, &str)> =
            rows.iter().filter_map(|r| Some((r["start"].as_str()?, r["end"].as_str()?))).collect();
        let text = fs::read_to_string(dump.join("truth/last/vmallocinfo")).unwrap();
        let theirs: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.split_whitespace().next()?.split_once('-')).collect();
        let missing = theirs.iter().filter(|range| !ours.contains(range)).count();
        println!("{}: {} ranges, {missing} gone", dump.display(), theirs.len());
        assert!(
            !theirs.is_empty() && missing <= 8,
            "{}: {missing} of {} missing: {said}",
            dump.display(),
            theirs.len()
        );
    }
}

/// /proc/vmstat: every name but that of the last line, which counts nothing; the limits of dirty memory, which kmdb
/// reckons, nearly the same, for they hang on how much is free.
#[test]
fn counters_have_the_guests_names() {
    for dump in lab() {
        let (rows, said) = ask(&dump.join("vmcore.elf"), "::vmstat");
        let ours: BTreeMap<&str, i64> =
            rows.iter().filter_map(|r| Some((r["name"].as_str()?, r["value"].as_i64()?))).collect();
        for (name, theirs) in figures(&dump.join("truth/last/vmstat")) {
            let Some(ours) = ours.get(name.as_str()) else {
                assert_eq!(name, "nr_unstable", "{}: {said}", dump.display());
                continue;
            };
            if name.starts_with("nr_dirty_") {
                assert!((ours - theirs).abs() <= theirs / 20, "{}: {name}: {ours}, {theirs}", dump.display());
            }
        }
    }
}
