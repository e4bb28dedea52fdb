//! The documents that are made from the program's tables are what those tables say, every dcmd has an example, and what
//! the dcmds emit has the columns that the schema promises.
//!
//! `UPDATE=1 cargo test --test docs` writes the documents anew.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// What `--generate` is asked for, and where that is kept.
const DOCUMENTS: &[(&str, &str)] = &[
    ("man", "docs/kmdb.1"),
    ("bash", "docs/completions/kmdb.bash"),
    ("zsh", "docs/completions/_kmdb"),
    ("fish", "docs/completions/kmdb.fish"),
    ("dcmds", "docs/reference/dcmds.md"),
    ("walkers", "docs/reference/walkers.md"),
    ("formats", "docs/reference/formats.md"),
    ("schema", "docs/reference/schema.json"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn kmdb(args: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    let output = command.current_dir(root()).args(args).env("TZ", "UTC").output().unwrap();
    output.stdout
}

#[test]
fn documents_are_what_the_tables_say() {
    let mut stale = Vec::new();
    for (what, path) in DOCUMENTS {
        let fresh = kmdb(&["--generate", what]);
        assert!(fresh.len() > 300, "{what}: {} bytes", fresh.len());
        let path = root().join(path);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, fresh).unwrap();
        } else if fs::read(&path).ok() != Some(fresh) {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "`UPDATE=1 cargo test --test docs` writes anew: {stale:?}");
}

fn schema() -> Value {
    serde_json::from_slice(&kmdb(&["--generate", "schema"])).unwrap()
}

/// Names of dcmds from the reference's headings.
fn dcmds() -> Vec<String> {
    let text = String::from_utf8(kmdb(&["--generate", "dcmds"])).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect()
}

#[test]
fn every_dcmd_has_an_example() {
    let examples = fs::read_to_string(root().join("docs/examples.md")).unwrap();
    let headings: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let dcmds = dcmds();
    assert!(dcmds.len() > 40);
    let missing: Vec<_> = dcmds.iter().filter(|d| !headings.contains(&d.as_str())).collect();
    assert!(missing.is_empty(), "docs/examples.md has no section for {missing:?}");
    let unknown: Vec<_> = headings.iter().filter(|h| !dcmds.iter().any(|d| d == *h)).collect();
    assert!(unknown.is_empty(), "docs/examples.md has sections for what is no dcmd: {unknown:?}");
    for section in examples.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        assert!(section.contains(name) && section.matches(name).count() > 1, "the example of {name} does not use it");
    }
}

/// Whether a JSON value is of the kind that the schema names.
fn is_of(value: &Value, kind: &str) -> bool {
    let hex = |v: &Value| v.as_str().is_some_and(|s| s.trim_start_matches('-').starts_with("0x"));
    if value.is_null() || value.get("unreadable").is_some_and(Value::is_string) {
        return true;
    }
    match kind {
        "address" | "hex" => hex(value),
        "integer" => value.is_number() || hex(value),
        "string" => value.is_string() || (value["text"].is_string() && value["bytes"].is_string()),
        "bool" => value.is_boolean(),
        "any" => true,
        list => match (list.strip_prefix("list of "), value) {
            (Some(kind), Value::Array(items)) => items.iter().all(|item| is_of(item, kind)),
            _ => false,
        },
    }
}

/// Every dcmd with rows is asked, alone or with what its example has.
#[test]
fn rows_are_as_the_schema_says() {
    let schema = schema();
    let examples = fs::read_to_string(root().join("docs/examples.md")).unwrap();
    let mut script = String::new();
    for name in schema["rows"].as_object().unwrap().keys() {
        let heading = if name.starts_with(['$', ':']) { format!("## {name}") } else { format!("## ::{name}") };
        let section = examples.split(&format!("{heading}\n")).nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        script.push_str(&format!("::echo ask {name}\n"));
        for command in section.lines().filter_map(|line| line.strip_prefix("> ")).filter(|c| !c.contains('!')) {
            script.push_str(&format!("{command}\n"));
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let path = file.path().to_str().unwrap();
    let out = kmdb(&["-S", "--no-debuginfo", "corpus/k612-uaf/vmcore.zst", "-o", "json", "-f", path]);
    let (mut name, mut seen) = (String::new(), std::collections::BTreeSet::new());
    for line in String::from_utf8(out).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let object = value.as_object().unwrap();
        if let Some(asked) = value["text"].as_str().and_then(|text| text.strip_prefix("ask ")) {
            name = asked.trim().to_owned();
            continue;
        }
        let keys: Vec<&String> = object.keys().collect();
        let known = schema["rows"].get(&name).and_then(Value::as_array).into_iter().flatten();
        let mut known = known.map(|columns| columns.as_object().unwrap());
        let kinds = known.find(|columns| columns.keys().collect::<Vec<_>>() == keys);
        // an example has other stages, too
        let Some(kinds) = kinds else { continue };
        seen.insert(name.clone());
        for (key, value) in object {
            let kind = kinds[key].as_str().unwrap();
            assert!(is_of(value, kind), "{name}: {key} is no {kind}: {value}");
        }
    }
    let all = schema["rows"].as_object().unwrap().len();
    // a healthy small guest has no requests that wait, no hung tasks, no KFENCE
    assert!(seen.len() * 4 >= all * 3, "only {} of {all} dcmds showed rows: {seen:?}", seen.len());
}

/// `::help` and the reference are one text.
#[test]
fn help_is_the_reference() {
    let reference = String::from_utf8(kmdb(&["--generate", "dcmds"])).unwrap();
    let page = kmdb(&["-S", "--no-debuginfo", "corpus/k612-uaf/vmcore.zst", "-e", "::help ps"]);
    let page = String::from_utf8(page).unwrap();
    let (_, section) = reference.split_once("\n## ::ps\n").unwrap();
    // they are wrapped at different widths
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.len() > 500 && words(section).contains(&words(&page)), "not the reference's: {page}");
    for head in ["NAME", "SYNOPSIS", "ARGUMENTS", "COLUMNS", "EXAMPLE", "SEE ALSO"] {
        assert!(page.lines().any(|line| line == head), "{head}: {page}");
    }
}
