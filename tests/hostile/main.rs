//! Hostile memory: every dcmd and every walker on dumps in which something has gone wrong, as a disk, a wild write or
//! somebody's malice would have it.
//!
//! Each variant is a real dump with pages missing, zeroed or scrambled, pointers exchanged for each other, or words of
//! slab memory, page structs, caches, tasks, modules and so on overwritten: [`damage`]. Each is asked every question
//! that the program says can be asked of it: [`battery`]. No question may panic, go on for ever, or take memory
//! without bound ([`run`]); and where pages are merely missing, an answer that differs says that something was not seen.
//!
//! `cargo test` tries a few. `VARIANTS=200 cargo test --release --test hostile -- --nocapture` looks properly (some
//! minutes; a quarter of the questions to each); `SEED=77 VARIANTS=1` repeats one, `KEEP=DIR` keeps the dumps of those
//! that failed, `KMDB=target/release/kmdb` asks another build.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod battery;
mod damage;
mod run;

use damage::{Dump, Places, Variant, variant};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
};

/// Kinds of structures, what lists them, and how many bytes of each are worth spoiling.
const KINDS: &[(&str, &str, usize)] = &[
    ("allocated objects", "::walk kmem", 64),
    ("free objects", "::walk freemem", 256),
    ("slabs", "::walk kmem_slab", 64),
    ("page structs", "::walk page", 64),
    ("caches", "::walk kmem_cache", 256),
    ("tasks", "::walk thread", 4096),
    ("address spaces", "::walk task | ::print mm | ::grep '.!=0'", 512),
    ("mappings", "::walk task | ::walk vma", 128),
    ("modules", "::walk module", 1024),
    ("filesystems", "::walk super_block", 1024),
    ("mounts", "::walk mount", 256),
    ("names", "::walk dentry", 128),
    ("trace buffers", "::walk trace_array", 512),
    ("trace events", "::walk ring_buffer_event", 64),
];

/// One of the corpus' dumps, where its structures are, and its kernel's symbols and types.
struct Subject {
    dump: Dump,
    places: Places,
    tables: Range<usize>,
}

fn number(env: &str, otherwise: u64) -> u64 {
    std::env::var(env).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn kmdb() -> PathBuf {
    let other = std::env::var_os("KMDB").map(|path| fs::canonicalize(path).unwrap());
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_kmdb").into())
}

/// Physical addresses that a command's answers are at.
fn physical(path: &Path, command: &str) -> Vec<u64> {
    let answer = run::ask(&kmdb(), path, &[format!("{command} | ::vtop")]);
    let last = |line: &str| u64::from_str_radix(line.rsplit(' ').next()?, 16).ok();
    answer.answers[0].text.lines().filter(|line| line.contains("physical")).filter_map(last).collect()
}

impl Subject {
    fn new(path: &Path) -> Subject {
        let dump = Dump::new(fs::read(path).unwrap());
        let mut places = Places::new();
        for (kind, command, size) in KINDS {
            let at: Vec<usize> = physical(path, command).into_iter().filter_map(|pa| dump.offset(pa)).collect();
            if !at.is_empty() {
                places.insert(kind, (at, *size));
            }
        }
        assert!(places.len() > 9, "only {:?} were found", places.keys());
        let edge = |name: &str| physical(path, &format!("{name}::map .")).first().and_then(|pa| dump.offset(*pa));
        let tables = edge("__start_rodata").unwrap_or(0)..edge("__end_rodata").unwrap_or(0);
        Subject { dump, places, tables }
    }
}

/// Whether an answer says that something could not be seen.
fn is_said(text: &str) -> bool {
    ["note: ", "kmdb: ", "unreadable", "not in the dump", "?"].iter().any(|sign| text.contains(sign))
}

/// Each variant is asked this part of the questions, by turns.
const PARTS: u64 = 4;

/// The questions of one turn. Kinds of damage go by `seed % 8`, dumps by `seed / 8 % 3`: each meets each.
fn turn(questions: &[String], turn: u64) -> Vec<String> {
    let mine = |(i, _): &(usize, &String)| (*i as u64 + turn).is_multiple_of(PARTS);
    questions.iter().enumerate().filter(mine).map(|(_, question)| question.clone()).collect()
}

/// What is wrong with the answers to a variant.
fn wrong(made: &Variant, path: &Path, questions: &[String], clean: &run::Answers) -> Vec<String> {
    let got = run::ask(&kmdb(), path, questions);
    println!("    slowest: {:.1} s, `{}`; {} answers", got.slowest.0, got.slowest.1, got.answers.len());
    let mut wrong: Vec<String> = got.trouble.into_iter().collect();
    if made.only_missing {
        let differ = got.answers.iter().zip(&clean.answers).filter(|(got, clean)| got.text != clean.text);
        // ::kernels names its evidence, which is another where VMCOREINFO is missing
        let silent = differ.filter(|(got, _)| !is_said(&got.text) && !got.question.contains("::kernels"));
        wrong.extend(silent.map(|(got, clean)| {
            format!(
                "`{}` answers otherwise, and says nothing of it:\n{}instead of:\n{}",
                got.question, got.text, clean.text
            )
        }));
    }
    wrong
}

#[test]
fn hostile_memory_is_survived() {
    let (first, variants) = (number("SEED", 6), number("VARIANTS", 4));
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let dumps = ["k612-uaf", "k612-arm64", "k612-plain"];
    let folder = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for (which, name) in dumps.iter().enumerate() {
        let seeds: Vec<u64> =
            (first..first + variants).filter(|seed| (seed / 8) as usize % dumps.len() == which).collect();
        if seeds.is_empty() {
            continue;
        }
        let path = folder.path().join("vmcore");
        zstd::stream::copy_decode(
            File::open(packed.join(name).join("vmcore.zst")).unwrap(),
            File::create(&path).unwrap(),
        )
        .unwrap();
        let subject = Subject::new(&path);
        let questions = battery::questions(&kmdb(), &path);
        println!("{name}: {} questions", questions.len());
        let whole = fs::read(&path).unwrap();
        let mut clean: BTreeMap<u64, run::Answers> = BTreeMap::new();
        for seed in seeds {
            let part = seed / 8 % PARTS;
            let questions = turn(&questions, part);
            let clean = clean.entry(part).or_insert_with(|| {
                fs::write(&path, &whole).unwrap();
                run::ask(&kmdb(), &path, &questions)
            });
            assert!(clean.trouble.is_none(), "undamaged: {:?}", clean.trouble);
            let made = variant(&subject.dump, &subject.places, &subject.tables, seed);
            println!("{name}, seed {seed}: {}", made.what);
            fs::write(&path, &made.bytes).unwrap();
            let wrong = wrong(&made, &path, &questions, clean);
            if let (false, Ok(keep)) = (wrong.is_empty(), std::env::var("KEEP")) {
                fs::copy(&path, Path::new(&keep).join(format!("{name}.{seed}"))).unwrap();
            }
            failed.extend(wrong.iter().map(|what| format!("{name}, seed {seed} ({}): {what}", made.what)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
