//! What the machine is and does (interrupts, resources, settings, parameters, devices, sockets, timers), held against what
//! the guest's /proc and /sys said of it just before the dump was taken.
//!
//! With `KMDB_LAB` set, every dump of the lab that has the truth is asked (`*-machine` have all of it). On a bare checkout
//! the dumps of the corpus are, which have little of it; there every command must at least answer.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Everything that needs no arguments.
const COMMANDS: &[&str] = &[
    "::irqs -a",
    "::irqs -d",
    "::irqs -s",
    "::timers",
    "::hrtimers",
    "::workqueues",
    "::workers -a",
    "::works",
    "::rcu",
    "::rcu -s",
    "::softirqs",
    "::devices",
    "::drivers",
    "::buses",
    "::pci",
    "::chrdevs",
    "::iomem",
    "::ioports",
    "::sysctl",
    "::modparam",
    "::modparam -k",
    "::modsections",
    "::ipcs",
    "::bpf",
    "::bpf -j",
    "::bpfmaps",
    "::bpflinks",
    "::tracepoints -a",
    "::kprobes",
    "::ftrace_ops -v",
    "::notifiers",
    "::netdev",
    "::netfilter",
    "::netstat -a -p",
    "::kobject",
    "::arp -a",
    "::routes -a",
    "::netstat -a",
    "::clocksources",
    "::static_keys -a",
    "::cmdline",
];

fn lab() -> Vec<PathBuf> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else {
        println!("skipped: KMDB_LAB is not set");
        return Vec::new();
    };
    let dumps = fs::read_dir(Path::new(&lab).join("dumps")).unwrap().map(|e| e.unwrap().path());
    dumps.filter(|d| d.join("stamp").exists() && d.join("vmcore.elf").exists()).collect()
}

fn rows(dump: &Path, command: &str) -> Vec<Value> {
    let mut kmdb = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    let output = kmdb.args(["-S", "--no-debuginfo", "-o", "json"]).arg(dump).args(["-e", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command} on {}: {said}", dump.display());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn truth(dump: &Path, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(dump.join("truth").join(name)).ok()?).into_owned())
}

fn text(row: &Value, column: &str) -> String {
    match &row[column] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Asks every dump that has a truth of that name, which must be one at least if there is a lab of such.
fn held_against(name: &str, command: &str, check: impl Fn(&str, &str, Vec<Value>)) {
    for dump in lab() {
        let Some(told) = truth(&dump, name) else { continue };
        let core = dump.join("vmcore.elf");
        if let Some(what) = unnamed(&core, command) {
            println!("{}: {command} is left out, for this kernel does not name its data: {what}", dump.display());
            continue;
        }
        check(&dump.display().to_string(), &told, rows(&core, command));
    }
}

/// What a command says that it lacks, on a kernel whose symbols are functions only.
fn unnamed(core: &Path, command: &str) -> Option<String> {
    let said = |line: &str| {
        let mut kmdb = Command::new(env!("CARGO_BIN_EXE_kmdb"));
        let output = kmdb.args(["-S", "--no-debuginfo"]).arg(core).args(["-e", line]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    if said("net_namespace_list=K").0 {
        return None;
    }
    said(command).1.lines().find(|line| line.contains("no symbol `")).map(str::to_owned)
}

fn same<T: Ord + Debug>(dump: &str, theirs: &BTreeSet<T>, ours: &BTreeSet<T>) {
    let missing: Vec<_> = theirs.difference(ours).take(5).collect();
    let extra: Vec<_> = ours.difference(theirs).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{dump}: missing {missing:?}, extra {extra:?}");
}

#[test]
fn every_command_answers_on_every_corpus_dump() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let dumps = fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path().join("vmcore.zst"));
    for dump in dumps.filter(|dump| dump.exists()) {
        let all = COMMANDS.join("; ");
        assert!(rows(&dump, &all).len() > 2000, "{}", dump.display());
    }
}

#[test]
fn every_section_of_a_module_is_where_sysfs_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut seen = 0;
    for folder in fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()) {
        let Some(told) = truth(&folder, "module-sections") else { continue };
        let mut theirs = BTreeSet::new();
        let mut file = (String::new(), String::new());
        for line in told.lines() {
            if let Some(path) = line.strip_prefix("==> /sys/module/").and_then(|l| l.strip_suffix(" <==")) {
                let mut parts = path.split('/');
                file = (parts.next().unwrap().to_owned(), parts.nth(1).unwrap_or_default().to_owned());
            } else if let Some(at) = line.strip_prefix("0x") {
                theirs.insert((file.0.clone(), file.1.clone(), hex(at)));
            }
        }
        let ours: BTreeSet<_> = rows(&folder.join("vmcore.zst"), "::modsections")
            .iter()
            .map(|r| (text(r, "module"), text(r, "section"), hex(&text(r, "addr"))))
            .collect();
        if !theirs.is_empty() {
            same(&folder.display().to_string(), &theirs, &ours);
            seen += theirs.len();
        }
    }
    println!("{seen} sections");
}

/// Numbers behind a name: `LOC:  1562  1485   Local timer interrupts`.
fn counters(told: &str) -> BTreeMap<String, Vec<u64>> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let counts: Vec<u64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
        (!counts.is_empty()).then(|| (name.trim().to_owned(), counts))
    };
    told.lines().filter_map(line).collect()
}

fn no_smaller(dump: &str, theirs: BTreeMap<String, Vec<u64>>, rows: &[Value], key: &str) {
    let counts = |row: &Value| row["counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    let ours: BTreeMap<String, Vec<u64>> = rows.iter().map(|r| (text(r, key), counts(r))).collect();
    for (name, theirs) in theirs {
        let Some(ours) = ours.get(&name) else { panic!("{dump}: no {name}") };
        // the machine ran on for a moment
        let sound = ours.iter().zip(&theirs).all(|(ours, theirs)| (*theirs..=theirs * 20 + 20_000).contains(ours));
        assert!(sound, "{dump}: {name}: {ours:?}, not {theirs:?}");
    }
}

#[test]
fn interrupts_and_softirqs_are_counted() {
    held_against("interrupts", "::irqs -a", |dump, told, rows| {
        // those that no CPU is named for: arm64's IPI0 has a descriptor, and another name
        let theirs = counters(told).into_iter().filter(|(name, _)| !name.starts_with("IPI") && name != "Err").collect();
        no_smaller(dump, theirs, &rows, "irq");
    });
    held_against("softirqs", "::softirqs", |dump, told, rows| no_smaller(dump, counters(told), &rows, "name"));
}

#[test]
fn resources_are_the_guests() {
    for (name, command) in [("iomem", "::iomem"), ("ioports", "::ioports")] {
        held_against(name, command, |dump, told, rows| {
            let line = |line: &str| {
                let (range, name) = line.split_once(" : ")?;
                let (start, end) = range.trim().split_once('-')?;
                Some((hex(start), hex(end), name.to_owned()))
            };
            let theirs: Vec<_> = told.lines().filter_map(line).collect();
            let ours: Vec<_> = rows
                .iter()
                .map(|r| (hex(&text(r, "start")), hex(&text(r, "end")), text(r, "name").trim().to_owned()))
                .collect();
            assert_eq!(theirs, ours, "{dump}: {command}");
        });
    }
}

/// Values that only a function of their own can tell stand in brackets, or have it behind them.
fn is_told(value: &str) -> bool {
    !value.ends_with(')')
}

#[test]
fn settings_have_the_guests_values() {
    /// those that change by themselves, or are made up when they are read
    const MOVING: &[&str] = &[
        "fs.dentry-state",
        "fs.file-nr",
        "fs.inode-nr",
        "fs.inode-state",
        "kernel.ns_last_pid",
        "kernel.random.entropy_avail",
    ];
    let moves = |name: &str| MOVING.contains(&name) || name.ends_with(".max_newidle_lb_cost");
    held_against("sysctl", "::sysctl", |dump, told, rows| {
        let ours: BTreeMap<String, String> = rows.iter().map(|r| (text(r, "name"), text(r, "value"))).collect();
        let mut compared = 0;
        let mut theirs: Vec<(&str, String)> = Vec::new();
        for line in told.lines() {
            match (line.split_once(" ="), theirs.last_mut()) {
                // a value of several lines
                (Some((name, more)), Some((last, value))) if name == *last => *value += &format!("\n{}", more.trim()),
                (None, Some((_, value))) => *value += &format!("\n{line}"),
                (Some((name, value)), _) => theirs.push((name, value.trim().to_owned())),
                (None, None) => {}
            }
        }
        let all = theirs.len();
        for (name, theirs) in theirs {
            let Some(ours) = ours.get(name) else { panic!("{dump}: no {name}") };
            if moves(name) {
                continue;
            }
            if is_told(ours) {
                assert_eq!(ours.trim(), theirs, "{dump}: {name}");
                compared += 1;
            }
        }
        println!("{dump}: {compared} of {all} settings");
        assert!(compared * 10 > all * 9, "{dump}: only {compared} of {all} settings");
    });
}

#[test]
fn parameters_have_the_guests_values() {
    held_against("parameters", "::modparam; ::modparam -k", |dump, told, rows| {
        let key = |r: &Value| match (text(r, "module"), text(r, "name")) {
            (module, name) if module != "vmlinux" => (module, name),
            (_, name) => match name.split_once('.') {
                Some((module, name)) => (module.to_owned(), name.to_owned()),
                None => ("kernel".to_owned(), name),
            },
        };
        let ours: BTreeMap<_, _> = rows.iter().map(|r| (key(r), text(r, "value"))).collect();
        for line in told.lines() {
            let Some((path, theirs)) = line.strip_prefix("/sys/module/").and_then(|l| l.split_once(':')) else {
                continue;
            };
            let Some((module, name)) = path.split_once("/parameters/") else { continue };
            let Some(ours) = ours.get(&(module.to_owned(), name.to_owned())) else { panic!("{dump}: no {path}") };
            assert!(!is_told(ours) || ours == theirs, "{dump}: {path}: {ours}, not {theirs}");
        }
    });
}

#[test]
fn devices_and_drivers_are_sysfs() {
    held_against("sysfs.devices", "::devices", |dump, told, rows| {
        let mut ours = BTreeSet::new();
        for row in &rows {
            for (kind, column) in [("bus", "bus"), ("class", "class")] {
                let owner = text(row, column);
                if !owner.is_empty() {
                    ours.insert((kind, owner, text(row, "name")));
                }
            }
        }
        let line = |line: &str| {
            let mut parts = line.strip_prefix("/sys/")?.split('/');
            let (kind, owner) = (parts.next()?, parts.next()?.to_owned());
            let name = parts.next_back()?.replace('!', "/");
            // files, not devices
            if kind == "class" && ["export", "unexport"].contains(&name.as_str()) {
                return None;
            }
            Some((if kind == "bus" { "bus" } else { "class" }, owner, name))
        };
        same(dump, &told.lines().filter_map(line).collect(), &ours);
    });
    held_against("sysfs.drivers", "::drivers", |dump, told, rows| {
        let line = |line: &str| {
            let (bus, name) = line.strip_prefix("/sys/bus/")?.split_once("/drivers/")?;
            Some((bus.to_owned(), name.to_owned()))
        };
        let ours = rows.iter().map(|r| (text(r, "bus"), text(r, "name"))).collect();
        same(dump, &told.lines().filter_map(line).collect(), &ours);
    });
}

#[test]
fn kobjects_are_the_directories_of_sysfs() {
    held_against("sysfs.drivers", "::kobject", |dump, told, rows| {
        let paths: BTreeSet<String> = rows.iter().map(|r| text(r, "path")).collect();
        let missing: Vec<_> =
            told.lines().filter(|line| !paths.contains(line.trim_start_matches("/sys/"))).take(5).collect();
        assert!(missing.is_empty(), "{dump}: no {missing:?} among {} kobjects", paths.len());
    });
}

/// The hooks of the first namespace, as `nft list hooks` has them: family, place, priority, function or chain.
fn nft_hooks(told: &str) -> BTreeSet<(String, String, i64, String)> {
    let (mut family, mut place) = (String::new(), String::new());
    let mut found = BTreeSet::new();
    for line in told.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["family", name, ..] => family = name.to_owned(),
            ["hook", name, ..] => place = name.to_owned(),
            [priority, ref what @ ..] => {
                let Ok(priority) = priority.parse() else { continue };
                // `chain inet TABLE CHAIN [nf_tables]`, `FUNCTION [MODULE]`
                let name = match what {
                    ["chain", _, table, chain, ..] => format!("{table} {chain}"),
                    [function, ..] => (*function).to_owned(),
                    [] => continue,
                };
                found.insert((family.clone(), place.clone(), priority, name));
            }
            [] => {}
        }
    }
    found
}

#[test]
fn hooks_of_the_packet_filter_are_those_that_nft_lists() {
    held_against("nft.hooks", "::netfilter", |dump, told, rows| {
        let lowest = rows.iter().filter_map(|r| r["namespace"].as_u64()).min();
        let ours = rows.iter().filter(|r| r["namespace"].as_u64() == lowest).map(|r| {
            let function = text(r, "function");
            let name = match text(r, "chain") {
                chain if !chain.is_empty() => chain,
                _ => function.split('`').next_back().unwrap().to_owned(),
            };
            (text(r, "family"), text(r, "hook"), r["priority"].as_i64().unwrap(), name)
        });
        let theirs = nft_hooks(told);
        // nft lists some families only, and no device's unless it is asked for each
        let told: BTreeSet<&str> = theirs.iter().map(|hook| hook.0.as_str()).collect();
        same(dump, &theirs, &ours.filter(|hook| told.contains(hook.0.as_str())).collect());
    });
}

/// Runs a script of the lab over a dump with its vmlinux: kmdb beside another debugger, which may not be there.
fn beside(script: &str, debugger: &str, dump: &Path, questions: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab").join(script);
    let kernel = fs::read_to_string(dump.join("kernel")).unwrap_or_default();
    let vmlinux = dump.join("../../kern").join(kernel.trim()).join("vmlinux");
    let mut compare = Command::new("python3");
    compare.arg(&script).arg(env!("CARGO_BIN_EXE_kmdb")).arg(dump.join("vmcore.elf")).arg(&vmlinux).args(questions);
    match compare.output() {
        Ok(output) if vmlinux.exists() && output.status.code() != Some(3) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}:\n{said}", dump.display());
        }
        _ => println!("skipped {}: no {debugger}, or no vmlinux", dump.display()),
    }
}

#[test]
fn drgn_finds_the_same() {
    for dump in lab().iter().filter(|dump| dump.to_string_lossy().ends_with("-machine")) {
        beside("compare-drgn.py", "drgn", dump, &[]);
    }
}

#[test]
fn crash_finds_the_same() {
    // crash 8 reads no newer kernels, and of this 6.1 no tasks but the idle ones
    let without_tasks = [
        "modules",
        "pci devices",
        "interrupts",
        "their handlers",
        "timers",
        "hrtimers",
        "slab caches",
        "memory",
        "counters",
        "vmalloc",
        "zones",
        "log",
        "network devices",
        "devices",
        "disks",
        "System V",
    ];
    for dump in lab() {
        let questions: &[&str] = match dump.file_name().and_then(|name| name.to_str()) {
            Some("k510-plain") => &[],
            Some("k61-dbg") => &without_tasks,
            _ => continue,
        };
        beside("compare-crash.py", "crash that reads this kernel", &dump, questions);
    }
}

#[test]
fn every_socket_has_its_inode() {
    for (name, command, column) in [
        ("net/tcp", "::netstat -P tcp -f inet", 9),
        ("net/tcp6", "::netstat -P tcp -f inet6", 9),
        ("net/udp", "::netstat -P udp -f inet", 9),
        ("net/udp6", "::netstat -P udp -f inet6", 9),
        ("net/unix", "::netstat -P unix", 6),
        ("net/netlink", "::netstat -P netlink", 9),
        ("net/packet", "::netstat -P packet", 8),
    ] {
        held_against(name, command, |dump, told, rows| {
            let line = |line: &str| line.split_whitespace().nth(column)?.parse().ok();
            let theirs: BTreeSet<u64> = told.lines().skip(1).filter_map(line).filter(|inode| *inode != 0).collect();
            // the truth is the first namespace's, which has the lowest number
            let lowest = rows.iter().filter_map(|r| r["namespace"].as_u64()).min();
            let first = |r: &&Value| r["namespace"].as_u64() == lowest;
            let inode = |r: &Value| r["inode"].as_u64().filter(|inode| *inode != 0);
            same(&format!("{dump}: {name}"), &theirs, &rows.iter().filter(first).filter_map(inode).collect());
        });
    }
}
