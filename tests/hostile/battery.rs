//! Every dcmd and every walker, as the program itself lists them: what a damaged dump is asked.

use super::run::{Answers, ask};
use std::{collections::BTreeSet, fs, path::Path};

/// What ends the session, waits for somebody, or leaves something behind.
const LEFT_OUT: &[&str] = &["quit", "log", "source", "eval", "macro", "unmacro", "cat", "context", "$q"];
/// What a dcmd or a walker is given: structures of the kinds that there are, and what is none.
const GIVEN: &[&str] = &[
    "::walk task | ",
    "::walk kmem_cache | ::head -n 8 | ",
    "::walk kmem | ::head -n 8 | ",
    "::walk kmem_slab | ::head -n 8 | ",
    "::walk super_block | ::head -n 4 | ",
    "::walk dentry | ::head -n 8 | ",
    "::walk task | ::print mm | ",
    "modules::",
    "linux_banner::",
    "1::",
    "::walk page | ::head -n 4 | ",
];

/// Caches of slabs, each a walker, that stand for all of them.
const CACHES: &[&str] = &["dentry", "task_struct", "lab_node", "kmalloc-64"];

/// The names in a listing (`::dcmds`, `::walkers`) of the program.
fn names(kmdb: &Path, dump: &Path, listing: &str) -> Vec<String> {
    let Answers { answers, .. } = ask(kmdb, dump, &[listing.to_owned()]);
    let lines = answers[0].text.lines().skip(1);
    let name = |line: &str| {
        let (name, does) = line.split_once(' ')?;
        let is_cache = does.trim_start().starts_with("walk the ") && does.contains(" cache");
        (!is_cache || CACHES.contains(&name)).then(|| name.to_owned())
    };
    lines.filter_map(name).collect()
}

/// All questions: those of the documentation, then each walker and each dcmd alone and with whatever there is to give.
pub fn questions(kmdb: &Path, dump: &Path) -> Vec<String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples.md");
    let examples = fs::read_to_string(examples).unwrap();
    let left_out = |name: &str| LEFT_OUT.contains(&name.trim_start_matches("::"));
    let mut all: Vec<String> = examples
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .filter(|line| !LEFT_OUT.iter().any(|name| line.contains(&format!("::{name}"))))
        .map(str::to_owned)
        .collect();
    let given = |part: &str, verb: &str| match part.ends_with("| ") {
        true => format!("{part}::{verb}"),
        false => format!("{part}{verb}"),
    };
    for name in names(kmdb, dump, "::walkers") {
        all.push(format!("::walk {name} | ::count"));
        all.push(format!("::walk {name} | ::head -n 300 | ::print ! tail -c 200"));
        all.push(format!("::walk {name} | ::head -n 300 | ::whatis -a ! tail -c 200"));
        all.extend(
            GIVEN.iter().map(|part| format!("{} | ::head -n 2000 | ::count", given(part, &format!("walk {name}")))),
        );
    }
    for name in names(kmdb, dump, "::dcmds").iter().filter(|name| !left_out(name)) {
        let name = name.trim_start_matches("::");
        if name.starts_with('$') {
            continue;
        }
        all.push(format!("::{name} ! tail -c 200"));
        all.extend(GIVEN.iter().map(|part| format!("{} ! tail -c 200", given(part, name))));
    }
    let mut seen = BTreeSet::new();
    all.retain(|question| seen.insert(question.clone()));
    all
}
