//! The running kernel, held against what it says of itself in /proc just before and just after.
//!
//! Two kernels are looked at: this machine's, if we may read it, and those of the lab's guests, from inside, through
//! `/proc/kcore` and through BPF (`corpus/lab/live.py` boots them and lets the kmdb that was just built look around).
//! What cannot be done here is said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const INIT: &str = "::walk task | ::head -n 1 | ::print struct task_struct pid tgid comm start_boottime";

/// What /proc says.
struct Facts {
    /// comm by pid
    pids: BTreeMap<u64, String>,
    /// total objects by cache
    slabs: BTreeMap<String, u64>,
    dentries: u64,
    modules: BTreeSet<String>,
    mounts: BTreeSet<String>,
    /// the log's lines without their times
    log: Vec<String>,
    /// clock ticks after boot at which process 1 started
    init_start: u64,
}

impl Facts {
    /// From files that were kept, with dots for the slashes in their names.
    fn kept(folder: &Path) -> Facts {
        let file = |name: &str| fs::read_to_string(folder.join(name.replace('/', "."))).unwrap_or_default();
        let pids = file("pids").lines().filter_map(pid).collect();
        Facts::of(&file, pids)
    }

    /// From this machine's /proc.
    fn here() -> Facts {
        let file = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, fs::read_to_string(path.join("comm")).ok()?.trim_end().to_owned()))
        });
        Facts::of(&file, pids.collect())
    }

    fn of(file: &dyn Fn(&str) -> String, pids: BTreeMap<u64, String>) -> Facts {
        let column = |line: &str, n: usize| line.split_whitespace().nth(n).unwrap_or_default().to_owned();
        let slabs = file("slabinfo");
        let slabs = slabs.lines().skip(2).map(|line| (column(line, 0), column(line, 2).parse().unwrap()));
        let stat = file("1/stat");
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        Facts {
            pids,
            slabs: slabs.collect(),
            dentries: column(&file("sys/fs/dentry-state"), 0).parse().unwrap(),
            modules: file("modules").lines().map(|line| column(line, 0)).collect(),
            mounts: file("self/mountinfo").lines().map(|line| column(line, 4)).collect(),
            log: file("dmesg").lines().filter_map(|line| Some(line.split_once("] ")?.1.to_owned())).collect(),
            init_start: column(behind_name, 19).parse().unwrap(),
        }
    }
}

fn pid(line: &str) -> Option<(u64, String)> {
    let (pid, comm) = line.split_once(' ')?;
    Some((pid.parse().ok()?, comm.to_owned()))
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {row}"))
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("no `{key}` in {row}"))
}

/// A kernel worker's name without what it works on at the moment.
fn worker(comm: &str) -> &str {
    match comm.find(['-', '+']) {
        Some(end) if comm.starts_with("kworker/") => &comm[..end],
        _ => comm,
    }
}

/// Every process that was there before and after is shown under its name, and none that never was.
fn check_ps(rows: &[Value], before: &Facts, after: &Facts) {
    let shown: BTreeMap<u64, &str> = rows.iter().map(|row| (number(row, "pid"), text(row, "name"))).collect();
    let same = |pid, comm: &str| after.pids.get(pid).is_some_and(|then| worker(then) == worker(comm));
    let steady = before.pids.iter().filter(|(pid, comm)| same(*pid, comm));
    let mut compared = 0;
    for (pid, comm) in steady {
        let name = shown.get(pid).unwrap_or_else(|| panic!("{pid} ({comm}) is not shown"));
        assert_eq!(worker(comm), worker(name), "{pid}");
        compared += 1;
    }
    assert!(compared > 10, "only {compared} processes compared");
    let newest = before.pids.keys().next_back().copied().unwrap_or(0);
    // what came after the first look and went before the second is real, too, but rare
    let known =
        |pid: &&u64| **pid == 0 || **pid > newest || before.pids.contains_key(pid) || after.pids.contains_key(pid);
    let strange: Vec<&u64> = shown.keys().filter(|pid| !known(pid)).collect();
    assert!(strange.len() * 20 <= shown.len(), "these never were: {strange:?}");
}

/// The caches that did not change have exactly the objects that /proc/slabinfo counts, the others about as many.
fn check_caches(rows: &[Value], before: &Facts, after: &Facts) {
    let shown: BTreeMap<&str, u64> = rows.iter().map(|row| (text(row, "name"), number(row, "total"))).collect();
    let (mut steady, mut exact) = (0, 0);
    for (name, was) in &before.slabs {
        let Some(is) = after.slabs.get(name) else { continue };
        let total = *shown.get(name.as_str()).unwrap_or_else(|| panic!("cache {name} is not shown"));
        let (low, high) = (*was.min(is), *was.max(is));
        let slack = high / 4 + 200;
        assert!(total + slack >= low && total <= high + slack, "{name}: {total}, by slabinfo {was} to {is}");
        if was == is {
            steady += 1;
            exact += usize::from(total == *was);
        }
    }
    assert!(steady > 50, "only {steady} caches held still");
    assert!(exact * 10 >= steady * 9, "only {exact} of {steady} caches that held still are exact");
}

fn check_dentries(rows: &[Value], before: &Facts, after: &Facts) {
    let count = number(&rows[0], "count");
    let (low, high) = (before.dentries.min(after.dentries), before.dentries.max(after.dentries));
    let slack = high / 20 + 300;
    assert!(count + slack >= low && count <= high + slack, "{count} dentries, by dentry-state {low} to {high}");
}

fn check_init(rows: &[Value], before: &Facts) {
    let value = |member: &str| &rows.iter().find(|row| row["member"] == member).unwrap()["value"];
    assert_eq!((value("pid"), value("tgid")), (&1.into(), &1.into()));
    assert_eq!(value("comm").as_str(), before.pids.get(&1).map(String::as_str));
    // nanoseconds, and USER_HZ
    let start = value("start_boottime");
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let start = start.as_u64().or_else(|| hex(start.as_str()?)).unwrap();
    assert_eq!(start / 10_000_000, before.init_start);
}

fn check_modules(rows: &[Value], before: &Facts) {
    let shown: BTreeSet<String> = rows.iter().map(|row| text(row, "name").to_owned()).collect();
    assert_eq!(shown, before.modules);
}

fn check_mounts(rows: &[Value], before: &Facts) {
    let shown: BTreeSet<String> = rows.iter().map(|row| text(row, "path").to_owned()).collect();
    // mountinfo writes a space as \040
    let told: BTreeSet<String> = before.mounts.iter().map(|path| path.replace("\\040", " ")).collect();
    assert!(told.len() > 5 && told.is_subset(&shown), "{:?} are missing", told.difference(&shown));
}

fn check_log(rows: &[Value], before: &Facts) {
    let shown: Vec<&str> = rows.iter().map(|row| text(row, "message")).collect();
    assert!(before.log.len() > 100, "the log has only {} lines", before.log.len());
    let last = before.log.last().unwrap();
    assert!(shown.iter().any(|line| line.contains(last.as_str())), "`{last}` is missing");
    // a message may have several lines, each of which dmesg counts
    assert!(shown.len() * 10 >= before.log.len() * 9 && shown.len() <= before.log.len() + 50, "{} lines", shown.len());
}

fn kmdb(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kmdb")).args(args).output().unwrap()
}

fn ask(way: &str, question: &str) -> Vec<Value> {
    let output = kmdb(&["-S", "--no-debuginfo", "-k", "--live-source", way, "-o", "json", "-e", question]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{question}: {complaint}");
    assert!(complaint.contains("runs on"), "that answers may be torn is said once: {complaint}");
    rows(&String::from_utf8(output.stdout).unwrap())
}

/// Checks an answer that a machine at work may spoil: one that is wrong is wrong every time.
fn settled(check: impl Fn()) {
    let right = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(&check)).is_ok();
    if !(0..3).any(|_| right()) {
        check();
    }
}

/// This machine's kernel, each way that there is.
#[test]
fn this_machine() {
    let mut seen = 0;
    for way in ["kcore", "bpf"] {
        let output = kmdb(&["-S", "--no-debuginfo", "-k", "--live-source", way, "-e", "::status"]);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(why.contains("the running kernel cannot be read: "), "{why}");
            eprintln!("skipped: {way}: {why}");
            continue;
        }
        seen += 1;
        let fresh = |question: &str| {
            let before = Facts::here();
            (ask(way, question), before, Facts::here())
        };
        settled(|| {
            let (answer, before, after) = fresh("::ps");
            check_ps(&answer, &before, &after);
        });
        settled(|| {
            let (answer, before, _) = fresh(INIT);
            check_init(&answer, &before);
        });
        // a kernel without CONFIG_MODULES has no such file
        if Path::new("/proc/modules").exists() {
            settled(|| {
                let (answer, before, _) = fresh("::modules");
                check_modules(&answer, &before);
            });
        }
        if fs::read("/proc/slabinfo").is_ok() {
            settled(|| {
                let (answer, before, after) = fresh("::kmem_cache");
                check_caches(&answer, &before, &after);
            });
        }
        settled(|| {
            let (answer, before, after) = fresh("::walk dentry | ::count");
            check_dentries(&answer, &before, &after);
        });
    }
    eprintln!("this machine's kernel was read {seen} ways");
}

/// What is refused is explained.
#[test]
fn without_privilege() {
    // setpriv is of util-linux; elsewhere, and where we are nobody anyway, there is nothing to drop
    let dropped = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "-k", "--live-source", "bpf", "-e", "::status"])
        .output();
    let Ok(output) = dropped else { return eprintln!("skipped: no setpriv") };
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    if why.contains("setpriv") || output.status.code() == Some(126) || output.status.code() == Some(127) {
        return eprintln!("skipped: {why}");
    }
    assert_eq!(output.status.code(), Some(2), "{why}");
    assert!(why.contains("CAP_BPF and CAP_PERFMON missing: run kmdb as root"), "{why}");
}

#[test]
fn the_labs_guests() {
    let Some(lab) = std::env::var_os("KMDB_LAB").map(PathBuf::from) else {
        return eprintln!("skipped: KMDB_LAB names no lab");
    };
    let mut guests = 0;
    for kernel in ["k510", "k61", "k612", "k72"] {
        if !lab.join("kern").join(kernel).join("vmlinuz").exists() {
            eprintln!("skipped: {kernel} is not in the lab");
            continue;
        }
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab/live.py");
        let output = Command::new("python3")
            .arg(recipe)
            .args([kernel, env!("CARGO_BIN_EXE_kmdb")])
            .env("KMDB_LAB", &lab)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{kernel}: {}", String::from_utf8_lossy(&output.stderr));
        guest(Path::new(String::from_utf8(output.stdout).unwrap().trim()));
        guests += 1;
    }
    assert!(guests > 0, "the lab has no kernels");
}

fn guest(truth: &Path) {
    let (before, after) = (Facts::kept(&truth.join("before")), Facts::kept(&truth.join("after")));
    for way in ["kcore", "bpf"] {
        let answer = |name: &str| {
            let said = fs::read_to_string(truth.join(way).join(format!("{name}.err"))).unwrap();
            assert!(said.contains("exit status 0"), "{}: {way}: {name}: {said}", truth.display());
            rows(&fs::read_to_string(truth.join(way).join(name)).unwrap())
        };
        eprintln!("{}: {way}", truth.display());
        assert!(
            answer("status").iter().any(|row| row["what"] == "format" && text(row, "value").contains("running kernel"))
        );
        check_ps(&answer("ps"), &before, &after);
        check_caches(&answer("kmem_cache"), &before, &after);
        check_dentries(&answer("dentries"), &before, &after);
        check_init(&answer("init"), &before);
        check_modules(&answer("modules"), &before);
        check_mounts(&answer("mounts"), &before);
        check_log(&answer("msgbuf"), &before);
        // most tasks sleep, in the scheduler
        let stacks = answer("stacks");
        let asleep = stacks.iter().filter(|row| text(row, "function").starts_with("schedule+")).count();
        assert!(asleep > before.pids.len() / 2, "{asleep} tasks sleep");
    }
}
