//! What the documents for people who come from crash and drgn name is there: every dcmd, every walker. And no command of
//! crash is left out.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

/// crash 9's commands, as its `help` lists them.
const CRASH: &[&str] = &[
    "*", "alias", "ascii", "bpf", "bt", "btop", "dev", "dis", "eval", "exit", "extend", "files", "foreach", "fuser",
    "gdb", "help", "ipcs", "irq", "kmem", "list", "log", "mach", "map", "mod", "mount", "net", "p", "ps", "pte",
    "ptob", "ptov", "q", "rd", "repeat", "runq", "rustfilt", "sbitmapq", "search", "set", "sig", "struct", "swap",
    "sym", "sys", "task", "test", "timer", "tree", "union", "vm", "vtop", "waitq", "whatis", "wr",
];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

fn dcmds() -> BTreeSet<&'static str> {
    let entries = dcmds::DCMDS.iter().flat_map(|family| family.iter());
    entries.flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied())).collect()
}

fn walkers() -> BTreeSet<&'static str> {
    walkers::WALKERS.iter().flat_map(|family| family.iter()).map(|w| w.name).collect()
}

/// The names that stand behind each `mark` in a text.
fn behind<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let name = |rest: &'a str| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    };
    text.split(mark).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn what_the_documents_name_is_there() {
    let (dcmds, walkers) = (dcmds(), walkers());
    let mut missing = BTreeSet::new();
    for name in ["from-crash.md", "from-drgn.md"] {
        let text = document(name);
        missing.extend(behind(&text, "::").into_iter().filter(|n| !dcmds.contains(n)).map(str::to_owned));
        missing.extend(behind(&text, "::walk ").into_iter().filter(|n| !walkers.contains(n)).map(str::to_owned));
    }
    assert!(missing.is_empty(), "named in docs/from-*.md, but there is no such dcmd or walker: {missing:?}");
}

#[test]
fn every_command_of_crash_has_an_answer() {
    let text = document("from-crash.md");
    // the words that begin a piece of code in the first column of the tables
    let columns = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: BTreeSet<String> = columns
        .flat_map(|column| column.split('`').skip(1).step_by(2).filter_map(|code| code.split(' ').next()))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = CRASH.iter().filter(|command| !named.contains(**command)).collect();
    assert!(missing.is_empty(), "docs/from-crash.md says nothing of {missing:?}");
}
