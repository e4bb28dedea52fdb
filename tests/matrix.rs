//! One guest, one answer: the same questions asked of one state of a machine in every container it can be saved in, and
//! the answers of every kernel held against what drgn, and the guest itself, say of the same moment.
//!
//! On a bare checkout the containers are written here, from a dump of the corpus. With `KMDB_LAB` set to a folder that
//! `corpus/lab/make.sh` filled, all that is there is gone through: makedumpfile's and QEMU's own containers, real kdumps,
//! every kernel.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod containers;

use containers::{Codec, Memory};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

/// What is asked. All of it lies in the kernel's own memory: no filter leaves it out.
const QUESTIONS: &[(&str, &str)] = &[
    ("status", "::status"),
    ("tasks", "::ps -t"),
    ("caches", "::kmem_cache"),
    ("log", "::walk kmem_log | ::head -n 100"),
    ("names", "::walk dentry | ::dentry"),
    ("count", "::walk dentry | ::count"),
    ("messages", "::msgbuf"),
    ("modules", "::modules"),
    ("stacks", "::walk dentry | ::head -n 25 | ::bufctl -v"),
    ("mappings", "::walk task | ::vmas"),
];

/// What `::status` says of the kernel; the rest is about the file.
const OF_THE_KERNEL: &[&str] =
    &["host", "kernel", "version", "build_id", "clock", "uptime", "tainted", "panic", "panic_task", "oops"];

type Answers = BTreeMap<&'static str, Vec<Value>>;

/// Asks everything of a dump, which may be a set of files.
fn ask(dump: &[PathBuf]) -> Answers {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.args(["-S", "--no-debuginfo", "-o", "json"]).args(dump);
    for (name, question) in QUESTIONS {
        command.args(["-e", &format!("::echo == {name}"), "-e", question]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked") && !said.contains("kmdb: failed"), "{}: {said}", dump[0].display());
    let (mut answers, mut current) = (Answers::new(), "");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        if let Some(name) = value["text"].as_str().and_then(|t| t.strip_prefix("== ")).map(str::trim_end) {
            current = QUESTIONS.iter().find(|(q, _)| *q == name).unwrap().0;
            answers.insert(current, Vec::new());
        } else if current != "status" || OF_THE_KERNEL.iter().any(|w| value["what"] == *w) {
            answers.get_mut(current).unwrap().push(value);
        }
    }
    assert_eq!(answers.len(), QUESTIONS.len(), "{}: {:?}: {said}", dump[0].display(), answers.keys());
    answers
}

/// Where two sets of answers part, if they do.
fn difference(expected: &Answers, found: &Answers) -> Option<String> {
    expected.iter().find_map(|(question, theirs)| {
        let ours = &found[question];
        let at = (0..theirs.len().max(ours.len())).find(|i| theirs.get(*i) != ours.get(*i))?;
        let show = |v: Option<&Value>| v.map_or("nothing".to_owned(), Value::to_string);
        Some(format!("{question}, row {at}: {}, but here {}", show(theirs.get(at)), show(ours.get(at))))
    })
}

/// Asks all containers at once, and holds them against the first.
fn all_agree(containers: &[(String, Vec<PathBuf>)]) -> Vec<String> {
    let answers: Vec<Answers> = std::thread::scope(|scope| {
        let asked: Vec<_> = containers.iter().map(|(_, files)| scope.spawn(|| ask(files))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // questions that found nothing would agree on anything
    for (question, rows) in &answers[0] {
        let may_be_none = ["log", "stacks"].contains(question); // without slub_debug
        assert!(!rows.is_empty() || may_be_none, "{}: no {question}", containers[0].0);
    }
    let differ =
        |(name, _): &(String, Vec<PathBuf>), found| Some(format!("{name}: {}", difference(&answers[0], found)?));
    containers.iter().zip(&answers).filter_map(|(container, found)| differ(container, found)).collect()
}

#[test]
fn every_container_gives_the_same_answers() {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/k612-uaf/vmcore.zst");
    let elf = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
    let memory = Memory::of_elf(&elf);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut all: Vec<(String, Vec<PathBuf>)> = vec![("ELF".into(), vec![write("elf", &elf)])];
    for codec in [Codec::None, Codec::Zlib, Codec::Snappy, Codec::Zstd] {
        let name = format!("kdump {codec:?}");
        all.push((name.clone(), vec![write(&name, &memory.kdump(codec))]));
    }
    all.push(("flattened".into(), vec![write("flat", &containers::flatten(&memory.kdump(Codec::Zlib)))]));
    all.push(("flattened ELF".into(), vec![write("flat elf", &containers::flatten(&elf))]));
    let parts = memory.split(Codec::Zstd, 3);
    let parts = parts.iter().enumerate().map(|(i, part)| write(&format!("part{i}"), part));
    // in no order
    all.push(("split".into(), parts.rev().collect()));
    all.push(("LiME".into(), vec![write("lime", &memory.lime())]));
    let wrong = all_agree(&all);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ---- the lab ---------------------------------------------------------------------------------------------------------

/// The lab's finished dumps; none if there is no lab.
fn lab() -> Vec<PathBuf> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else {
        println!("skipped: KMDB_LAB names no folder with dumps");
        return Vec::new();
    };
    let dumps = Path::new(&lab).join("dumps");
    let Ok(entries) = fs::read_dir(&dumps) else {
        println!("skipped: there is no {}", dumps.display());
        return Vec::new();
    };
    let mut dumps: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|d| d.join("stamp").is_file()).collect();
    dumps.sort();
    println!("{} dumps", dumps.len());
    dumps
}

/// The containers of a dump of the lab: `vmcore.elf`, and all other files of the same state; parts of a set together.
fn containers_of(dump: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for folder in [dump.to_owned(), dump.join("v")] {
        for path in fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()) {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            // what an old makedumpfile lost of a new kernel is lost
            let Some(form) = file.strip_prefix("vmcore.").filter(|f| !f.starts_with("old-") && *f != "elf") else {
                continue;
            };
            let set = form.split_once('.').filter(|(set, _)| set.starts_with("split")).map_or(form, |(set, _)| set);
            found.entry(format!("{}: {set}", dump.display())).or_default().push(path);
        }
    }
    let whole = (format!("{}: elf", dump.display()), vec![dump.join("vmcore.elf")]);
    std::iter::once(whole).chain(found).collect()
}

#[test]
fn the_labs_containers_give_the_same_answers() {
    let mut wrong = Vec::new();
    for dump in lab() {
        let containers = containers_of(&dump);
        if containers.len() > 1 && containers[0].1[0].is_file() {
            println!("{}: {} containers", dump.display(), containers.len());
            wrong.extend(all_agree(&containers));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Memory that the filter left out is not called missing, or zero. (In ELF files makedumpfile only leaves out long runs.)
#[test]
fn what_the_filter_left_out_is_said_so() {
    for dump in lab() {
        for form in ["c-d31", "z-d31", "l-d31", "F-c-d31"] {
            let file = dump.join(format!("v/vmcore.{form}"));
            if !file.is_file() {
                continue;
            }
            let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
                .args(["-S", "--no-debuginfo"])
                .arg(&file)
                // the first page of init's program
                .args(["-e", "0t1::pid2task | ::context", "-e", "400000/X"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("excluded by the dump filter"), "{}: {said}", file.display());
            assert!(!output.status.success(), "{}", file.display());
        }
    }
}

/// A file of an oracle, unpacked.
fn oracle(dump: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(dump.join(name)).ok()?;
    let mut text = Vec::new();
    match name.rsplit('.').next() {
        Some("zst") => text = zstd::decode_all(&bytes[..]).unwrap(),
        Some("gz") => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap()),
        _ => text = bytes,
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(text(value).trim_start_matches("0x"), 16).unwrap()
}

/// The first few of what only one side has; `None` if both have the same.
fn unequal(what: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Option<String> {
    let few = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).take(3).cloned().collect::<Vec<_>>();
    let (extra, missing) = (few(ours, theirs), few(theirs, ours));
    let same = extra.is_empty() && missing.is_empty();
    (!same).then(|| format!("{what}: only here {extra:?}, only there {missing:?}"))
}

/// What drgn says of a dump, with the kernel's DWARF, and where the answers differ from it.
fn against_drgn(dump: &Path, answers: &Answers) -> Vec<String> {
    let mut wrong = Vec::new();
    let columns = |line: &str, which: &[usize]| {
        let cells: Vec<&str> = line.split('\t').collect();
        which.iter().map(|i| cells[*i].trim_start_matches('/')).collect::<Vec<_>>().join(" ")
    };
    let rows = |question: &str, row: &dyn Fn(&Value) -> String| answers[question].iter().map(row).collect();
    let mut compare = |what: &str, file: &str, which: &[usize], ours: BTreeSet<String>| {
        let Some(theirs) = oracle(dump, file) else { return };
        let theirs: BTreeSet<String> = theirs.lines().map(|line| columns(line, which)).collect();
        wrong.extend(unequal(what, &ours, &theirs));
    };
    let at = |r: &Value| format!("{:x}", hex(&r["addr"]));
    let name = |r: &Value| format!("{} {}", at(r), text(&r["path"]).trim_start_matches('/'));
    // drgn takes KFENCE's pool for slabs of one object, at the start of each page
    if oracle(dump, "oracle/kfence.tsv").is_none_or(|text| text.is_empty()) {
        // it counts what waits for the end of a grace period among the allocated
        let used = |r: &Value| r["in_use"].as_u64().unwrap() + r["rcu_pending"].as_u64().unwrap();
        let counts = |r: &Value| format!("{} {} {} {}", text(&r["name"]), at(r), used(r), r["total"]);
        compare("caches", "oracle/slab.tsv", &[0, 1, 4, 5], rows("caches", &counts));
        compare("names", "oracle/dentries.zst", &[0, 2], rows("names", &name));
    }
    let mut tasks: BTreeSet<String> = rows("tasks", &|r| format!("{} {} {}", at(r), r["tid"], text(&r["comm"])));
    tasks.retain(|t| t.split(' ').nth(1) != Some("0"));
    compare("tasks", "oracle/tasks.tsv", &[0, 1, 4], tasks);
    compare("modules", "oracle/modules.tsv", &[0, 2], rows("modules", &|r| format!("{} {}", at(r), text(&r["name"]))));
    wrong
}

/// What the guest said of itself: modules, and the mappings of processes that slept from then on.
fn against_the_guest(dump: &Path, answers: &Answers) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(modules) = oracle(dump, "truth/modules") {
        let first = |l: &str, n| l.split(' ').nth(n).unwrap().to_owned();
        let theirs = modules.lines().map(|l| format!("{} {}", first(l, 0), first(l, 1))).collect();
        let ours = answers["modules"].iter().map(|r| format!("{} {}", text(&r["name"]), r["size"])).collect();
        wrong.extend(unequal("modules of the guest", &ours, &theirs));
    }
    let mut ours: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for r in &answers["mappings"] {
        let cells = [text(&r["device"]), text(&r["inode"]), text(&r["name"])].join(" ");
        let (start, end, offset) = (hex(&r["start"]), hex(&r["end"]), hex(&r["offset"]));
        let line = format!("{start:08x}-{end:08x} {} {offset:08x} {cells}", text(&r["rights"]));
        let words: Vec<&str> = line.split_whitespace().collect();
        ours.entry(r["pid"].to_string()).or_default().insert(words.join(" "));
    }
    let (mut same, mut all) = (0, 0);
    for (pid, ours) in &ours {
        let Some(theirs) = oracle(dump, &format!("truth/pid/{pid}.txt")) else { continue };
        let maps = theirs.lines().skip_while(|l| *l != "==> maps <==").skip(1).take_while(|l| !l.starts_with("==>"));
        for line in maps.filter(|l| !l.contains("[vsyscall]")) {
            all += 1;
            same += usize::from(ours.contains(&line.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    // a process may have got or given back memory since: few do
    if all > 0 && same * 100 < all * 97 {
        wrong.push(format!("mappings: only {same} of {all} are the guest's"));
    }
    wrong
}

#[test]
fn the_labs_answers_are_the_oracles() {
    let mut wrong = Vec::new();
    for dump in lab().iter().filter(|d| d.join("vmcore.elf").is_file()) {
        // two kernels: the user has to say which
        if dump.ends_with("k612-two") {
            continue;
        }
        let answers = ask(&[dump.join("vmcore.elf")]);
        let found = [against_drgn(dump, &answers), against_the_guest(dump, &answers)].concat();
        wrong.extend(found.iter().map(|what| format!("{}: {what}", dump.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
