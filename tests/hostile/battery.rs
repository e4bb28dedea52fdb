//! Every dcmd and every walker, as the program itself lists them: what a damaged dump is asked.

use super::run::{ALL, Answers, ask};
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

/// What writes a file.
const FILES: &[&str] = &[
    "::triage -o made.html",
    "::walk task | ::head -n 4 | ::print -d pid ! cat > /dev/null",
    "::ps ! wc -l",
    "1::pid2task | ::gcore -o made.core",
    "::walk task | ::gcore",
    "::walk super_block | ::walk dentry | ::head -n 40 | ::filecat -o made.file",
    "::walk file | ::head -n 40 | ::filecat",
    "::walk pagecache | ::head -n 40 | ::whatis -v",
];

/// The names in a listing (`::dcmds`, `::walkers`) of the program.
fn names(kmdb: &Path, dump: &Path, listing: &str) -> Vec<String> {
    let Answers { answers, .. } = ask(kmdb, dump, &[listing.to_owned()], ALL);
    let lines = answers[0].text.lines().skip(1);
    let name = |line: &str| {
        let (name, does) = line.split_once(' ')?;
        let is_cache = does.trim_start().starts_with("walk the ") && does.contains(" cache");
        (!is_cache || CACHES.contains(&name)).then(|| name.to_owned())
    };
    lines.filter_map(name).collect()
}

/// The walkers, those of caches but for a few left out.
pub fn walkers(kmdb: &Path, dump: &Path) -> Vec<String> {
    names(kmdb, dump, "::walkers")
}

/// What a dcmd's option is given that wants something.
fn value(wanted: &str) -> &'static str {
    match wanted {
        "FILE" => "made",
        "NAME" | "CACHE" | "PATTERN" | "REGEX" => "dentry",
        "TYPE" => "task_struct",
        // no question whose answer is all of memory
        "MASK" => "ffffffffffffff00",
        "INVMASK" => "ff",
        _ => "3",
    }
}

/// The options of a dcmd, each by itself and all letters together, as its help has them: `[-vs] [-n NAME]`.
fn options(help: &str) -> Vec<String> {
    let synopsis = help.split_once("SYNOPSIS\n").map_or("", |(_, behind)| behind);
    let synopsis: Vec<&str> = synopsis.lines().take_while(|line| line.starts_with(' ')).collect();
    let synopsis = synopsis.join(" ");
    let groups = synopsis.split('[').skip(1).filter_map(|part| part.split_once(']')?.0.strip_prefix('-'));
    let mut all = BTreeSet::new();
    for group in groups {
        match group.split_once(' ') {
            Some((letter, wanted)) => _ = all.insert(format!("-{letter} {}", value(wanted))),
            None => {
                all.extend(group.chars().filter(char::is_ascii_alphanumeric).map(|letter| format!("-{letter}")));
                all.insert(format!("-{group}"));
            }
        }
    }
    all.into_iter().collect()
}

/// Each dcmd with each of its options, alone and at something.
fn with_options(kmdb: &Path, dump: &Path, dcmds: &[String]) -> Vec<String> {
    let asked: Vec<String> = dcmds.iter().map(|name| format!("::help {name}")).collect();
    let helps = ask(kmdb, dump, &asked, ALL).answers;
    let mut all = Vec::new();
    for (name, help) in dcmds.iter().zip(helps) {
        for option in options(&help.text) {
            all.push(format!("::{name} {option}"));
            all.push(format!("::walk task | ::head -n 3 | ::{name} {option}"));
            all.push(format!("::walk kmem | ::head -n 8 | ::{name} {option}"));
        }
    }
    all
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
        all.push(format!("::walk {name} | ::head -n 300 | ::print"));
        all.push(format!("::walk {name} | ::head -n 300 | ::whatis -a"));
        all.extend(
            GIVEN.iter().map(|part| format!("{} | ::head -n 2000 | ::count", given(part, &format!("walk {name}")))),
        );
    }
    let dcmds = names(kmdb, dump, "::dcmds").into_iter().filter(|name| !left_out(name));
    let dcmds: Vec<String> = dcmds.map(|name| name.trim_start_matches("::").to_owned()).collect();
    let dcmds: Vec<String> = dcmds.into_iter().filter(|name| !name.starts_with('$')).collect();
    all.extend(with_options(kmdb, dump, &dcmds));
    all.extend(FILES.iter().map(|&question| question.to_owned()));
    for name in &dcmds {
        all.push(format!("::{name}"));
        all.extend(GIVEN.iter().map(|part| given(part, name)));
    }
    let mut seen = BTreeSet::new();
    all.retain(|question| seen.insert(question.clone()));
    all
}
