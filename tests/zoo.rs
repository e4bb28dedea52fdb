//! The corruption zoo: each sin of `corpus/lab/zoo` is found where the guest says that it was committed, and clean dumps
//! have none.
//!
//! The zoo's dumps are those of the corpus and, with `KMDB_LAB` set to a folder that `corpus/lab/make.sh` has filled, all
//! of the lab's `zoo-*`; clean are the lab's `*-dbg` and `*-plain`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Dumps under `dir` of whose names `wanted` says so.
fn dumps(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| wanted(path.file_name().unwrap().to_str().unwrap()))
        .filter_map(|path| ["vmcore.elf", "vmcore.zst"].iter().map(|file| path.join(file)).find(|file| file.exists()))
        .collect();
    found.sort();
    found
}

fn lab() -> Option<PathBuf> {
    let lab = std::env::var_os("KMDB_LAB").map(|lab| PathBuf::from(lab).join("dumps"));
    if lab.is_none() {
        println!("skipped: KMDB_LAB names no lab");
    }
    lab
}

fn zoos() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let is_zoo = |name: &str| name.contains("zoo");
    let mut found = dumps(&corpus, |name| is_zoo(name) && name != "lab");
    found.extend(lab().map(|lab| dumps(&lab, is_zoo)).unwrap_or_default());
    found.retain(|dump| dump.with_file_name("truth").join("zoo.txt").exists());
    found
}

fn rows(dump: &Path, command: &str) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json"])
        .arg(dump)
        .args(["-e", command])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(output.status.code(), Some(i32::from(!rows.is_empty())), "{command} on {}", dump.display());
    rows
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// What the guest says of one sin.
struct Sin<'a> {
    name: &'a str,
    words: HashMap<&'a str, &'a str>,
}

impl Sin<'_> {
    fn addr(&self, key: &str) -> u64 {
        number(self.words[key]).unwrap()
    }
}

fn sins(truth: &str) -> impl Iterator<Item = Sin<'_>> {
    truth.lines().map(|line| {
        let (name, rest) = line.split_once(' ').unwrap();
        Sin { name, words: rest.split(' ').filter_map(|word| word.split_once('=')).collect() }
    })
}

/// A row that must be there.
struct Wanted {
    finding: &'static str,
    /// a column, and the address in it
    at: Option<(&'static str, u64)>,
    /// the cache, and words of the judgement
    cache: String,
    says: String,
}

impl Wanted {
    fn is(&self, row: &Value) -> bool {
        let text = |column: &str| row[column].as_str().unwrap_or_default();
        let place = text("cache").to_owned() + text("place");
        text("finding") == self.finding
            && self.at.is_none_or(|(column, addr)| number(text(column)) == Some(addr))
            && place.contains(&self.cache)
            && text("verdict").contains(&self.says)
    }
}

/// What a dump lets one see.
struct Sight {
    /// `slub_debug` was on
    fenced: bool,
    /// what `kmalloc()` was not asked for is fenced: since Linux 6.2 (946fa0dbf2d8)
    tails: bool,
    /// the module's types are known: modules of Debian's 5.10 have no BTF
    typed: bool,
}

/// What must be found for a sin. Nothing for those that leave nothing to be seen.
fn wanted(sin: &Sin<'_>, sight: &Sight) -> Vec<Wanted> {
    let row = |finding, at, says: &str| Wanted {
        finding,
        at,
        cache: sin.words.get("cache").copied().unwrap_or_default().into(),
        says: says.into(),
    };
    let object = |key| Some(("object", sin.addr(key)));
    let at = |key, plus| Some(("addr", sin.addr(key) + plus));
    match (sin.name, sight.fenced) {
        ("overflow", true) => vec![row("redzone-right", object("object"), "overflow: 5 bytes")],
        ("overflow_far", true) => vec![
            row("redzone-right", object("object"), "overflow"),
            row("redzone-left", object("victim"), "overflow from the neighbour in front"),
        ],
        ("overflow_far", false) => {
            vec![row("list-overwritten", at("victim", 0), "overflow from the neighbour in front")]
        }
        ("overflow_free", true) => vec![row("redzone-right", object("object"), "overflow")],
        ("overflow_free", false) => vec![row("freelist", object("victim"), "overflow from the neighbour in front")],
        ("overflow_short", true) if sight.tails => vec![row("redzone-kmalloc", object("object"), "overflow: 3 bytes")],
        ("underflow", true) => vec![row("redzone-left", object("object"), "underflow: 4 bytes")],
        ("uaf_write", true) => vec![row("poison", object("object"), "use after free: 4 bytes written 0x10")],
        ("uaf_pointer", true) => vec![row("poison", object("object"), "a pointer to a zoo_uafptr object")],
        ("uaf_read" | "dangling", _) => {
            vec![Wanted { cache: "zoo".into(), ..row("dangling", at("pointer", 0), "freed") }]
        }
        // before Linux 5.14 the log has the object's address only hashed
        ("double_free", true) => vec![row("reported", None, "double free")],
        ("double_free", false) => vec![row("freelist", None, "free twice")],
        ("wrong_cache", _) => vec![row("reported", None, "freed to the wrong cache, zoo_other")],
        ("wrong_list", _) => vec![row("freelist", object("object"), "an object of zoo_guest")],
        ("link_text", _) => vec![row("freelist", object("object"), "/etc/pas")],
        ("link_pointer", _) => vec![row("freelist", object("object"), "a pointer to zoo`zoo_reader")],
        ("link_flip", _) => vec![row("freelist", object("object"), "bit 21")],
        ("bit_flip", true) => vec![row("poison", object("object"), "bit flip: bit 3")],
        ("wild", _) => vec![row("freelist", object("object"), "overwritten")],
        ("track", true) if sin.words.contains_key("at") => vec![row("track", object("object"), "written over")],
        ("cache_field", _) => vec![row("cache", at("object", 0), "written over")],
        ("slab_count", _) => vec![row("counter", None, "the slab counts")],
        ("slab_list", _) => vec![row("node", at("at", 0), "zoo_reader")],
        ("list_cycle", _) => vec![row("list-cycle", at("at", 0), "never ends")],
        ("list_poison", _) => vec![row("list-poison", at("from", 0), "taken off")],
        ("list_torn", _) => vec![row("list-torn", at("at", 8), "prev should be")],
        ("list_text", _) => vec![row("list-overwritten", at("at", 0), "GET /ind")],
        ("list_flip", _) => vec![row("list-overwritten", at("at", 0), "bit 17")],
        ("list_freed", _) => {
            vec![Wanted { at: Some(("freed", sin.addr("object"))), ..row("list-freed", None, "freed while") }]
        }
        ("hlist_torn", _) => vec![row("list-torn", at("at", 8), "prev should be")],
        ("hlist_poison", _) => vec![row("list-poison", None, &format!("{:x}", sin.addr("at")))],
        ("refcount" | "rb_red" | "rb_parent", _) if !sight.typed => Vec::new(),
        ("refcount", _) => vec![row("refcount", at("at", 0), "saturated")],
        ("rb_red", _) => vec![row("tree", at("at", 0), "red")],
        ("rb_parent", _) => vec![row("tree", at("at", 0), "parent of this node")],
        ("rb_order", _) if sight.typed => vec![row("tree", at("item", 0), "out of order: id is")],
        ("nul_past", true) => vec![row("redzone-right", object("object"), "overflow: 1 byte")],
        ("off_by_8", true) => vec![row("redzone-right", object("object"), "overflow: 8 bytes")],
        ("xarray", _) => vec![row("xarray", None, "slots in use"), row("xarray", at("parent_of", 0), "slot 1")],
        _ => Vec::new(),
    }
}

#[test]
fn every_sin_is_found_and_named() {
    for dump in zoos() {
        let truth = fs::read_to_string(dump.with_file_name("truth").join("zoo.txt")).unwrap();
        let found: Vec<Value> = ["::kmem_verify", "::verify"].iter().flat_map(|command| rows(&dump, command)).collect();
        let caches = rows_of_caches(&dump);
        let fenced =
            caches.iter().any(|row| row["name"] == "zoo_overflow" && row["flags"].to_string().contains("RED_ZONE"));
        // where one fenced tail is seen, or one member named, all must be
        let tails = found.iter().any(|row| row["finding"] == "redzone-kmalloc");
        let typed = found.iter().any(|row| {
            row["place"].as_str().is_some_and(|place| place.starts_with("zoo_item") && place.contains(".link"))
        });
        let sight = Sight { fenced, tails, typed };
        let mut missed = Vec::new();
        for sin in sins(&truth) {
            for wanted in wanted(&sin, &sight) {
                if !found.iter().any(|row| wanted.is(row)) {
                    missed.push(format!(
                        "{}: no {} at {:x?} saying {:?}",
                        sin.name, wanted.finding, wanted.at, wanted.says
                    ));
                }
            }
        }
        let others = found.iter().filter(|row| !is_of_the_zoo(row));
        missed.extend(others.map(|row| format!("not of the zoo: {row}")));
        assert!(missed.is_empty(), "{}:\n{}", dump.display(), missed.join("\n"));
    }
}

fn rows_of_caches(dump: &Path) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json"])
        .arg(dump)
        .args(["-e", "::kmem_cache"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a row is about something that the zoo made: its caches, variables and objects, or an array's nodes.
fn is_of_the_zoo(row: &Value) -> bool {
    let text = row.to_string();
    let nameless = ["redzone-kmalloc", "xarray", "page-count"];
    text.contains("zoo") || nameless.iter().any(|finding| row["finding"] == *finding)
}

#[test]
fn clean_dumps_have_no_findings() {
    let Some(lab) = lab() else { return };
    let clean = |name: &str| {
        !name.contains("zoo") && (name.ends_with("-dbg") || name.ends_with("-plain")) && !name.starts_with("big")
    };
    for dump in dumps(&lab, clean) {
        for command in ["::kmem_verify", "::verify"] {
            let found = rows(&dump, command);
            assert!(found.is_empty(), "{command} on {}: {found:#?}", dump.display());
        }
    }
}
