//! Answers held against what others say of the same dump: the guest's own files, written down just before the dump was
//! taken, and drgn with the kernel's DWARF. kmdb is given the dump and nothing else.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

/// The corpus dumps that have an oracle.
fn dumps() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let found: Vec<_> =
        fs::read_dir(corpus).unwrap().map(|e| e.unwrap().path()).filter(|p| p.join("truth").is_dir()).collect();
    assert!(!found.is_empty(), "the corpus has no dump with an oracle");
    found
}

/// Runs a command on a dump and returns its rows.
fn rows(dump: &Path, command: &str) -> Vec<Value> {
    let (status, rows) = status_and_rows(dump, command);
    assert_eq!(status, Some(0), "{command} on {}", dump.display());
    rows
}

/// Likewise, with the exit status.
fn status_and_rows(dump: &Path, command: &str) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json"])
        .arg(dump.join("vmcore.zst"))
        .args(["-e", command])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|l| serde_json::from_str(l).unwrap()).collect())
}

/// An oracle's file, unpacked; `None` if this dump has none of that name.
fn truth(dump: &Path, name: &str) -> Option<String> {
    let path = dump.join("truth").join(name);
    let file = File::open(&path).ok()?;
    let mut text = Vec::new();
    match path.extension().and_then(|e| e.to_str()) {
        Some("zst") => zstd::stream::copy_decode(file, &mut text).unwrap(),
        _ => drop({ file }.read_to_end(&mut text).unwrap()),
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn addr(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Runs `check` on every dump that has the oracle `name`; it must be one at least.
fn held_against(name: &str, check: impl Fn(&Path, &str)) {
    let mut checked = 0;
    for dump in dumps() {
        if let Some(text) = truth(&dump, name) {
            check(&dump, &text);
            checked += 1;
        }
    }
    assert!(checked > 0, "no corpus dump has truth/{name}");
}

#[test]
fn every_symbol_is_the_guests() {
    held_against("kallsyms.zst", |dump, text| {
        let theirs: BTreeSet<(u64, &str)> = text
            .lines()
            // the last column names the module; those symbols, and BPF's, have tables of their own
            .filter(|l| !l.contains('['))
            .filter_map(|l| {
                let mut words = l.split_whitespace();
                Some((u64::from_str_radix(words.next()?, 16).ok()?, words.nth(1)?))
            })
            .collect();
        let ours = rows(dump, "::nm vmlinux");
        let ours: BTreeSet<(u64, &str)> =
            ours.iter().map(|r| (addr(&r["value"]), r["name"].as_str().unwrap())).collect();
        let missing: Vec<_> = theirs.difference(&ours).take(5).collect();
        let extra: Vec<_> = ours.difference(&theirs).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:x?}, extra {extra:x?}", dump.display());
        assert!(ours.len() > 50_000, "{}: only {} symbols", dump.display(), ours.len());
    });
}

#[test]
fn every_cache_has_drgns_counts() {
    held_against("drgn-slab.tsv", |dump, text| {
        let ours: BTreeMap<u64, Value> =
            rows(dump, "::kmem_cache").into_iter().map(|r| (addr(&r["addr"]), r)).collect();
        let mut seen = 0;
        for line in text.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            let Ok(at) = u64::from_str_radix(cells[1], 16) else { continue };
            let row = ours.get(&at).unwrap_or_else(|| panic!("{}: no cache {}", dump.display(), cells[0]));
            assert_eq!(row["name"], cells[0]);
            assert_eq!(row["in_use"].to_string(), cells[4], "{}: allocated in {}", dump.display(), cells[0]);
            assert_eq!(row["total"].to_string(), cells[5], "{}: total of {}", dump.display(), cells[0]);
            seen += 1;
        }
        assert_eq!(seen, ours.len(), "{}: drgn knows other caches", dump.display());
        assert!(seen > 100);
    });
}

#[test]
fn every_allocated_object_is_drgns() {
    held_against("drgn-slab-objects.zst", |dump, text| {
        let theirs: BTreeSet<u64> = text.lines().filter_map(|l| u64::from_str_radix(l, 16).ok()).collect();
        let ours: BTreeSet<u64> = rows(dump, "::walk kmem").iter().map(|r| addr(&r["addr"])).collect();
        let missing: Vec<_> = theirs.difference(&ours).take(5).collect();
        let extra: Vec<_> = ours.difference(&theirs).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{}: missing {missing:x?}, extra {extra:x?}", dump.display());
        assert!(ours.len() > 10_000, "{}: only {} objects", dump.display(), ours.len());
    });
}

#[test]
fn every_dentry_has_drgns_path() {
    held_against("drgn-dentries.zst", |dump, text| {
        let theirs: BTreeMap<u64, &str> = text
            .lines()
            .filter_map(|l| {
                let mut cells = l.splitn(3, '\t');
                let at = u64::from_str_radix(cells.next()?, 16).ok()?;
                Some((at, cells.nth(1)?))
            })
            .collect();
        let ours = rows(dump, "::walk dentry | ::dentry");
        let ours: BTreeMap<u64, &str> =
            ours.iter().map(|r| (addr(&r["addr"]), r["path"].as_str().unwrap_or("?"))).collect();
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{}", dump.display());
        for (at, path) in &theirs {
            // drgn writes paths within the filesystem without the leading slash
            assert_eq!(ours[at].trim_start_matches('/'), path.trim_start_matches('/'), "{}: {at:x}", dump.display());
        }
    });
}

#[test]
fn every_module_is_the_guests() {
    held_against("modules", |dump, text| {
        // name, size, users, by whom, state, where; and its taint, if it has one
        let theirs: BTreeSet<String> = text.lines().map(|l| l.trim_end().replace(" [permanent],", " -")).collect();
        let line = |r: &Value| {
            let by = match r["used_by"].as_str().unwrap() {
                "" => "-".to_owned(),
                names => format!("{names},"),
            };
            let taint = r["taint"].as_str().map(|t| format!(" ({t})")).unwrap_or_default();
            let (name, state) = (r["name"].as_str().unwrap(), r["state"].as_str().unwrap());
            format!("{name} {} {} {by} {state} {:#x}{taint}", r["size"], r["uses"], addr(&r["base"]))
        };
        let ours: BTreeSet<String> = rows(dump, "::modules").iter().map(line).collect();
        assert_eq!(ours, theirs, "{}", dump.display());
    });
}

#[test]
fn every_symbol_of_a_module_is_the_guests() {
    held_against("kallsyms.zst", |dump, text| {
        let mut theirs: BTreeMap<&str, BTreeSet<(u64, String)>> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [value, _, name, module] = words[..] else { continue };
            let value = u64::from_str_radix(value, 16).unwrap();
            theirs.entry(module.trim_matches(['[', ']'])).or_default().insert((value, name.to_owned()));
        }
        for module in rows(dump, "::modules") {
            let name = module["name"].as_str().unwrap();
            let ours: BTreeSet<(u64, String)> = rows(dump, &format!("::nm {name}"))
                .iter()
                .map(|r| (addr(&r["value"]), r["name"].as_str().unwrap().to_owned()))
                .collect();
            assert_eq!(Some(ours), theirs.remove(name), "{} {name}", dump.display());
        }
    });
}

#[test]
fn every_filesystem_is_drgns() {
    held_against("drgn-superblocks.tsv", |dump, text| {
        let theirs: Vec<u64> = text.lines().map(|l| u64::from_str_radix(&l[..16], 16).unwrap()).collect();
        let ours: Vec<u64> = rows(dump, "::walk super_block").iter().map(|r| addr(&r["addr"])).collect();
        assert_eq!(ours, theirs, "{}", dump.display());
    });
}

#[test]
fn every_mount_is_the_guests() {
    held_against("mountinfo", |dump, text| {
        let theirs: BTreeSet<Vec<String>> = text
            .lines()
            .map(|line| {
                // number, parent, device, root, place, options, …, -, type, source, …: proc(5)
                let words: Vec<String> = line.split(' ').map(|w| w.replace("\\040", " ")).collect();
                let rest = words.iter().position(|w| w == "-").unwrap();
                [&words[..6], &words[rest + 1..rest + 3]].concat()
            })
            .collect();
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let columns = ["id", "parent", "device", "root", "path", "options", "fs", "source"];
        let row = |r: &Value| columns.iter().map(|c| text(&r[*c])).collect();
        let ours: BTreeSet<Vec<String>> = rows(dump, "::mounts").iter().map(row).collect();
        assert_eq!(ours, theirs, "{}", dump.display());
    });
}

/// Mappings of a process, as its `maps` shows them: of all processes that were still there when the dump was taken.
#[test]
fn every_mapping_is_the_guests() {
    held_against("pid.txt.zst", |dump, text| {
        let mut theirs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let (mut pid, mut within) = ("", false);
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("==> ") {
                within = path == "maps <==";
            } else if let Some(number) = line.strip_prefix("Pid:\t") {
                pid = number;
            } else if within {
                theirs.entry(pid).or_default().push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        let mut ours: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for r in rows(dump, "::walk task | ::vmas") {
            let (start, end) = (addr(&r["start"]), addr(&r["end"]));
            let offset = addr(&r["offset"]);
            let line = format!(
                "{start:08x}-{end:08x} {} {offset:08x} {} {} {}",
                r["rights"].as_str().unwrap(),
                r["device"].as_str().unwrap(),
                r["inode"],
                r["name"].as_str().unwrap()
            );
            ours.entry(r["pid"].to_string()).or_default().push(line.trim_end().to_owned());
        }
        let mut seen = 0;
        for (pid, mappings) in &ours {
            let Some(theirs) = theirs.get(pid.as_str()) else { continue };
            // the shell that ran the script went on while the truth was written, and its heap may have grown
            let fixed = |all: &[String]| all.iter().filter(|l| !l.ends_with("[heap]")).cloned().collect::<Vec<_>>();
            assert_eq!(fixed(mappings), fixed(theirs), "{}: process {pid}", dump.display());
            seen += 1;
        }
        assert!(seen > 0, "{}", dump.display());
    });
}

#[test]
fn every_task_is_drgns() {
    held_against("drgn-tasks.tsv", |dump, text| {
        let theirs: BTreeSet<(u64, String, String)> = text
            .lines()
            .filter_map(|l| {
                let cells: Vec<&str> = l.split('\t').collect();
                Some((u64::from_str_radix(cells[0], 16).ok()?, cells[1].to_owned(), cells[4].to_owned()))
            })
            .collect();
        let ours: BTreeSet<(u64, String, String)> = rows(dump, "::ps -t")
            .iter()
            .filter(|r| r["tid"] != 0)
            .map(|r| (addr(&r["addr"]), r["tid"].to_string(), r["comm"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(ours, theirs, "{}", dump.display());
    });
}

/// The ring buffer's allocator events, oldest first, are the guest's own `trace` file, line by line.
#[test]
fn the_log_is_the_guests_trace() {
    held_against("trace.txt.zst", |dump, text| {
        let mut theirs: Vec<(String, u64)> = Vec::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some((head, tail)) = line.split_once("ptr=") else { continue };
            let kind = match head {
                h if h.contains(": kmalloc") || h.contains(": kmem_cache_alloc") => "alloc",
                h if h.contains(": kfree:") || h.contains(": kmem_cache_free:") => "free",
                _ => continue,
            };
            let at =
                tail.split_whitespace().next().and_then(|p| u64::from_str_radix(p.trim_start_matches("0x"), 16).ok());
            // freeing NULL is no transaction
            theirs.extend(at.filter(|at| *at != 0).map(|at| (kind.to_owned(), at)));
        }
        if theirs.iter().all(|(_, at)| *at < 1 << 63) {
            return; // this guest hashed the pointers it printed
        }
        let mut ours: Vec<(String, u64)> = rows(dump, "::kmem_log")
            .iter()
            .filter(|r| r["witness"].as_str().unwrap().contains("ftrace"))
            .map(|r| (r["op"].as_str().unwrap().to_owned(), addr(&r["bufaddr"])))
            .collect();
        ours.reverse();
        assert_eq!(ours.len(), theirs.len(), "{}", dump.display());
        for (n, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(a, b, "{}: event {n}", dump.display());
        }
    });
}

/// Each task's call stack, frame for frame. drgn puts inlined functions into lines of their own, with the same address,
/// and finds residue below zombies, whose stacks are given back.
#[test]
fn every_stack_is_drgns() {
    held_against("drgn-stacks.txt", |dump, text| {
        let mut theirs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut pid = 0;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("="), Some(number)) => pid = number.parse().unwrap(),
                (Some(pc), _) if pc.len() == 16 => {
                    let frames = theirs.entry(pid).or_default();
                    let pc = u64::from_str_radix(pc, 16).unwrap();
                    if frames.last() != Some(&pc) {
                        frames.push(pc);
                    }
                }
                _ => {}
            }
        }
        let mut ours: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for row in rows(dump, "::walk thread | ::stack") {
            ours.entry(row["pid"].as_u64().unwrap()).or_default().push(addr(&row["pc"]));
        }
        // the idle tasks, which share number 0 and are not in drgn's list
        ours.remove(&0);
        let zombies: BTreeSet<u64> =
            rows(dump, "::ps -t | ::where s == \"Z\"").iter().map(|r| r["tid"].as_u64().unwrap()).collect();
        theirs.retain(|pid, _| !zombies.contains(pid));
        assert!(theirs.len() > 40, "{}: {} stacks", dump.display(), theirs.len());
        assert_eq!(ours, theirs, "{}", dump.display());
    });
}

/// Every corruption that the module committed is found, by name, and nothing else is.
#[test]
fn every_sin_in_slab_memory_is_found() {
    held_against("labmod.txt", |dump, text| {
        let value = |line: &str, key: &str| {
            let word = line.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
            word.map(|w| u64::from_str_radix(w, 16).unwrap())
        };
        let said = |verb: &str, key: &str| -> BTreeSet<u64> {
            text.lines().filter(|l| l.starts_with(verb)).filter_map(|l| value(l, key)).collect()
        };
        let fenced =
            rows(dump, "::kmem_cache -n lab_node").iter().any(|row| row["flags"].to_string().contains("POISON"));
        let (swept, closed) = (said("sweep", "node"), said("close", "node"));
        let mut theirs: BTreeSet<(String, u64)> = BTreeSet::new();
        if fenced {
            theirs.extend(swept.intersection(&closed).map(|node| ("poison".to_owned(), *node)));
            theirs.extend(said("spill", "label").into_iter().map(|label| ("redzone-right".to_owned(), label)));
        }
        let (status, ours) = status_and_rows(dump, "::kmem_verify");
        let ours: BTreeSet<(String, u64)> =
            ours.iter().map(|r| (r["finding"].as_str().unwrap().to_owned(), addr(&r["object"]))).collect();
        assert_eq!(ours, theirs, "{}", dump.display());
        assert_eq!(status, Some(i32::from(!theirs.is_empty())), "{}", dump.display());
    });
}
