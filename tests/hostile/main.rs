//! Hostile memory: every dcmd and every walker on dumps in which something has gone wrong, as a disk, a wild write or
//! somebody's malice would have it.
//!
//! Each variant is a real dump with pages missing, zeroed or scrambled, pointers exchanged for each other, or words of
//! slab memory, page structs, caches, tasks, modules and so on overwritten: [`damage`]. Each is asked every question
//! that the program says can be asked of it: [`battery`]. No question may panic, go on for ever, or take memory
//! without bound ([`run`]); and where pages are merely missing, an answer that differs says that something was not seen.
//!
//! `cargo test` tries a few. `VARIANTS=200 cargo test --release --test hostile -- --nocapture` looks properly (some
//! minutes; an eighth of the questions to each, or what `PARTS` says); `SEED=77 VARIANTS=1` repeats one, `KEEP=DIR` keeps the dumps of those
//! that failed, `KMDB=target/release/kmdb` asks another build, `DUMPS=one,another` takes other ELF cores than the corpus'.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod battery;
mod damage;
mod run;

use damage::{Dump, Place, Places, Variant, variant};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
};

/// Kinds of structures that are worth more damage than others, or that no walker lists: what lists them, and how many
/// bytes of each are worth spoiling. Beside them, what every walker finds.
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
    ("nodes of xarrays", "::walk radix_tree_node", 576),
    ("nodes of maple trees", "::walk maple_node", 256),
    ("run queues", "runqueues::walk percpu", 4096),
    ("signal handlers", "::walk signal_cache", 1024),
    ("zones", "::walk zone", 1536),
];

/// Bytes of what a walker finds that are spoiled, and at most how many of each.
const OF_WALKERS: (usize, usize) = (192, 300);

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

/// Where the answers to each of some commands lie: the kernel's address and the physical one.
fn physical(path: &Path, commands: &[String]) -> Vec<Vec<(u64, u64)>> {
    let questions: Vec<String> = commands.iter().map(|command| format!("{command} | ::vtop")).collect();
    let pair = |line: &str| {
        let (addr, pa) = line.strip_prefix("virtual ")?.split_once(" mapped to physical ")?;
        Some((u64::from_str_radix(addr, 16).ok()?, u64::from_str_radix(pa, 16).ok()?))
    };
    let answers = run::ask(&kmdb(), path, &questions, run::ALL).answers;
    answers.iter().map(|answer| answer.text.lines().filter_map(pair).collect()).collect()
}

impl Subject {
    fn new(path: &Path) -> Subject {
        let dump = Dump::new(fs::read(path).unwrap());
        let (of_each, most) = OF_WALKERS;
        let walkers = battery::walkers(&kmdb(), path);
        let mut kinds: Vec<(String, String, usize)> =
            walkers.iter().map(|name| (name.clone(), format!("::walk {name} | ::head -n {most}"), of_each)).collect();
        kinds.extend(KINDS.iter().map(|(name, command, size)| ((*name).into(), (*command).into(), *size)));
        let commands: Vec<String> = kinds.iter().map(|kind| kind.1.clone()).collect();
        let place = |(addr, pa)| dump.offset(pa).map(|at| Place { addr, at });
        let mut places = Places::new();
        for ((name, _, size), found) in kinds.into_iter().zip(physical(path, &commands)) {
            let found: Vec<Place> = found.into_iter().filter_map(place).collect();
            if !found.is_empty() {
                places.insert(name, (found, size));
            }
        }
        assert!(places.len() > 40, "only {:?} were found", places.keys());
        let edges = ["__start_rodata", "__end_rodata", "_sdata", "_edata"].map(|name| format!("{name}::map ."));
        let edges: Vec<Option<Place>> =
            physical(path, &edges).iter().map(|found| found.first().and_then(|edge| place(*edge))).collect();
        let part = |from: usize| Some((edges.get(from).copied()??, edges.get(from + 1).copied()??));
        let tables = part(0).map_or(0..0, |(from, to)| from.at..to.at);
        if let Some((from, to)) = part(2) {
            let lines = (0..to.at.saturating_sub(from.at)).step_by(64);
            let lines = lines.map(|by| Place { addr: from.addr + by as u64, at: from.at + by }).collect();
            places.insert("lines of the kernel's data".into(), (lines, 64));
        }
        Subject { dump, places, tables }
    }
}

/// Each variant is asked this part of the questions, by turns: `PARTS`, or an eighth.
fn parts() -> u64 {
    number("PARTS", 8).max(1)
}

/// The questions of one turn. Kinds of damage go by `seed % 8`, dumps by what is left of `seed / 8`: each meets each.
fn turn(questions: &[String], turn: u64) -> Vec<String> {
    let mine = |(i, _): &(usize, &String)| (*i as u64 + turn).is_multiple_of(parts());
    questions.iter().enumerate().filter(mine).map(|(_, question)| question.clone()).collect()
}

/// What is wrong with the answers to a variant.
fn wrong(made: &Variant, path: &Path, questions: &[String], clean: &run::Answers) -> Vec<String> {
    let got = run::ask(&kmdb(), path, questions, run::SOME);
    println!("    slowest: {:.1} s, `{}`; {} answers", got.slowest.0, got.slowest.1, got.answers.len());
    let mut wrong: Vec<String> = got.trouble.into_iter().collect();
    let obeyed = got.answers.iter().filter_map(|answer| Some((&answer.question, answer.control.as_ref()?)));
    wrong.extend(obeyed.map(|(question, line)| format!("`{question}` writes what a terminal obeys: {line:?}")));
    if made.only_missing {
        let differ = got.answers.iter().zip(&clean.answers).filter(|(got, clean)| got.hash != clean.hash);
        // ::status says how much is in the dump, ::gcore what of its core is missing, ::kernels names its evidence: another
        // where VMCOREINFO is missing; ::dump, ::dis and ::vars show the dot, which is what an earlier question came to
        let told = ["::status", "::kernels", "::gcore"];
        let at_dot = ["::dump", "::dis", "::vars"];
        let tells = |question: &str| {
            told.iter().any(|name| question.contains(name)) || at_dot.iter().any(|name| question.starts_with(name))
        };
        let silent = differ.filter(|(got, clean)| got.said.is_subset(&clean.said) && !tells(&got.question));
        wrong.extend(silent.map(|(got, clean)| {
            format!(
                "`{}` answers otherwise, and says nothing of it:\n{}instead of:\n{}",
                got.question, got.text, clean.text
            )
        }));
    }
    wrong
}

/// What is tried: the corpus' dumps, or those that `DUMPS` names, with commas between them.
fn dumps(folder: &Path) -> Vec<(String, PathBuf)> {
    if let Ok(named) = std::env::var("DUMPS") {
        return named.split(',').map(|path| (path.to_owned(), path.into())).collect();
    }
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let unpack = |name: &&str| {
        let path = folder.join(name);
        let from = File::open(packed.join(name).join("vmcore.zst")).unwrap();
        zstd::stream::copy_decode(from, File::create(&path).unwrap()).unwrap();
        ((*name).to_owned(), path)
    };
    ["k612-uaf", "k612-arm64", "k612-plain", "k612-zoo"].iter().map(unpack).collect()
}

#[test]
fn hostile_memory_is_survived() {
    let (first, variants) = (number("SEED", 6), number("VARIANTS", 4));
    let folder = tempfile::tempdir().unwrap();
    let dumps = dumps(folder.path());
    let mut failed = Vec::new();
    for (which, (name, whole)) in dumps.iter().enumerate() {
        let seeds: Vec<u64> =
            (first..first + variants).filter(|seed| (seed / 8) as usize % dumps.len() == which).collect();
        if seeds.is_empty() {
            continue;
        }
        let subject = Subject::new(whole);
        let questions = battery::questions(&kmdb(), whole);
        println!("{name}: {} questions, {} kinds of structures", questions.len(), subject.places.len());
        // answers tell the name of the dump: it is the same for all
        let path = folder.path().join("vmcore");
        let mut clean: BTreeMap<u64, run::Answers> = BTreeMap::new();
        for seed in seeds {
            let part = seed / 8 % parts();
            let questions = turn(&questions, part);
            let clean = clean.entry(part).or_insert_with(|| {
                fs::copy(whole, &path).unwrap();
                run::ask(&kmdb(), &path, &questions, run::SOME)
            });
            assert!(clean.trouble.is_none(), "undamaged: {:?}", clean.trouble);
            let made = variant(&subject.dump, &subject.places, &subject.tables, seed);
            println!("{name}, seed {seed}: {}", made.what);
            fs::write(&path, &made.bytes).unwrap();
            let wrong = wrong(&made, &path, &questions, clean);
            if let (false, Ok(keep)) = (wrong.is_empty(), std::env::var("KEEP")) {
                let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
                fs::copy(&path, Path::new(&keep).join(format!("{name}.{seed}"))).unwrap();
            }
            wrong.iter().for_each(|what| println!("    {what}"));
            failed.extend(wrong.iter().map(|what| format!("{name}, seed {seed} ({}): {what}", made.what)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What the loss of types or symbols could answer with silence: counts of what a walker finds, lists, columns.
const QUESTIONS: &[&str] = &[
    "::walk printk | ::count",
    "::walk sysctl | ::count",
    "::walk dentry | ::count",
    "::walk inode | ::count",
    "::walk module | ::count",
    "::walk vmem | ::count",
    "::walk irq_desc | ::count",
    "::walk workqueue | ::count",
    "::walk net | ::walk netdev | ::count",
    "::ps",
    "::walk task | ::ps -y",
    "::timers",
    "::hrtimers",
    "::notifiers panic",
    "::mounts",
    "::vmstat",
    "::meminfo",
    "::irqs",
    "::nm ! wc -l",
    "::typelist ! wc -l",
    "::sizeof struct dentry",
    "::walk task | ::print pid comm",
    "::verify",
    "::kmem_verify",
    "::triage",
];

#[test]
fn losses_of_types_and_symbols_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmcore");
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/k612-uaf/vmcore.zst");
    zstd::stream::copy_decode(File::open(packed).unwrap(), File::create(&path).unwrap()).unwrap();
    let questions: Vec<String> = QUESTIONS.iter().map(|&question| question.to_owned()).collect();
    let clean = run::ask(&kmdb(), &path, &questions, run::SOME);
    let dump = Dump::new(fs::read(&path).unwrap());
    // the tables of symbols, then the types with their names
    let edges = ["kallsyms_num_syms", "__start_BTF", "__stop_BTF"].map(|name| format!("{name}::map ."));
    let edges: Vec<usize> = physical(&path, &edges).iter().map(|at| dump.offset(at[0].1).unwrap()).collect();
    let mut silent = Vec::new();
    for (from, to, part) in [(edges[1], edges[2], 4), (edges[1], edges[2], 40), (edges[0], edges[1], 30)] {
        let mut chance = damage::Chance::new(part);
        let pages = (from / damage::PAGE..to / damage::PAGE).map(|page| page * damage::PAGE);
        let lost: Vec<usize> = pages.filter(|_| chance.below(part as usize) == 0).collect();
        let made = Variant {
            bytes: dump.without(&lost),
            what: format!("{} pages of types and symbols are missing", lost.len()),
            only_missing: true,
        };
        fs::write(&path, &made.bytes).unwrap();
        silent.extend(wrong(&made, &path, &questions, &clean).into_iter().map(|what| format!("{}: {what}", made.what)));
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
