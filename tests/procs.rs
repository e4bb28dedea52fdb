//! What processes are, have and do, held against what the guest's /proc said of it just before the dump was taken.
//!
//! On a bare checkout these are the dumps of the corpus; with `KMDB_LAB` set, every dump of the lab that has the truth.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is asked, each with a name.
const QUESTIONS: &[(&str, &str)] = &[
    ("tasks", "::ps -t"),
    ("syscalls", "::syscalls"),
    ("files", "::lsof"),
    ("cred", "::walk thread | ::cred"),
    ("sig", "::walk thread | ::sig -s"),
    ("limits", "::walk task | ::rlimit"),
    ("cgroup", "::walk task | ::cgroup"),
    ("ns", "::walk task | ::ns"),
    ("memory", "::ps -m"),
    ("time", "::ps -T"),
    ("policy", "::ps -y"),
    ("locks", "::flock"),
    ("args", "::ps -f -u"),
    ("disks", "::blk"),
    ("sockets", "::netstat -a -p"),
];

/// A process as /proc has it: the parts of what it said, by name.
type Process = BTreeMap<String, String>;

/// A dump, and what the guest said of its processes.
struct Case {
    name: String,
    dump: PathBuf,
    truth: BTreeMap<i64, Process>,
    folder: PathBuf,
}

/// Takes `==> NAME <==` and what stands below apart. Links stand below the parts `fd/` and `ns/`.
fn parts(text: &str) -> Process {
    let (mut parts, mut current) = (Process::new(), String::new());
    for line in text.lines() {
        match line.strip_prefix("==> ").and_then(|rest| rest.strip_suffix(" <==")) {
            Some(name) => current = name.to_owned(),
            None => {
                let part = parts.entry(current.clone()).or_default();
                part.push_str(line);
                part.push('\n');
            }
        }
    }
    parts
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(packed) = fs::File::open(folder.join("truth/pid.txt.zst")) else { continue };
        let text = String::from_utf8_lossy(&zstd::decode_all(packed).unwrap()).into_owned();
        let of = |piece: &str| {
            let (pid, rest) = piece.split_once('\n')?;
            Some((pid.parse().ok()?, parts(rest)))
        };
        let truth = text.split("=== ").filter_map(of).collect();
        cases.push(Case { name: folder.display().to_string(), dump: folder.join("vmcore.zst"), truth, folder });
    }
    let Some(lab) = std::env::var_os("KMDB_LAB") else { return cases };
    for entry in fs::read_dir(Path::new(&lab).join("dumps")).unwrap() {
        let folder = entry.unwrap().path();
        let (Ok(pids), dump) = (fs::read_dir(folder.join("truth/pid")), folder.join("vmcore.elf")) else { continue };
        // the story begins after the truth was written down
        if !dump.exists() || !folder.join("stamp").exists() {
            continue;
        }
        let of = |path: PathBuf| {
            let pid = path.file_stem()?.to_str()?.parse().ok()?;
            Some((pid, parts(&String::from_utf8_lossy(&fs::read(path).ok()?))))
        };
        let truth = pids.filter_map(|entry| of(entry.unwrap().path())).collect();
        cases.push(Case { name: folder.display().to_string(), dump, truth, folder });
    }
    cases
}

type Answers = BTreeMap<&'static str, Vec<Value>>;

fn ask(dump: &Path) -> Answers {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.args(["-S", "--no-debuginfo", "-o", "json"]).arg(dump);
    for (name, question) in QUESTIONS {
        command.args(["-e", &format!("::echo == {name}"), "-e", question]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{}: {said}", dump.display());
    let (mut answers, mut current) = (Answers::new(), "");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        match value["text"].as_str().and_then(|t| t.strip_prefix("== ")).map(str::trim_end) {
            Some(name) => {
                current = QUESTIONS.iter().find(|(q, _)| *q == name).unwrap().0;
                answers.insert(current, Vec::new());
            }
            None => answers.get_mut(current).unwrap().push(value),
        }
    }
    answers
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// The rows of a command by process, or thread, of those that the guest spoke of and that did not change meanwhile: the
/// first process reads the truth, and its children do.
struct Held<'a> {
    case: &'a Case,
    answers: &'a Answers,
    names: BTreeMap<i64, &'a str>,
    wrong: Vec<String>,
    checked: usize,
}

impl<'a> Held<'a> {
    fn new(case: &'a Case, answers: &'a Answers) -> Held<'a> {
        let name = |row: &'a Value| Some((row["tid"].as_i64()?, row["comm"].as_str()?));
        Held { case, answers, names: answers["tasks"].iter().filter_map(name).collect(), wrong: Vec::new(), checked: 0 }
    }

    fn rows(&self, question: &str, pid: i64) -> Vec<&'a Value> {
        self.answers[question].iter().filter(|row| row["pid"].as_i64() == Some(pid)).collect()
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, pid: i64, ours: T, theirs: T) {
        self.checked += 1;
        if ours != theirs {
            self.wrong.push(format!("{}: {what} of {pid}: {ours:?}, the guest said {theirs:?}", self.case.name));
        }
    }

    /// Those processes that were the same at both times.
    fn processes(&self) -> Vec<(i64, &'a Process)> {
        let same = |(pid, process): &(&i64, &Process)| {
            let comm = process.get("comm").map(|comm| comm.trim_end());
            **pid != 1 && comm.is_some() && self.names.get(pid).copied() == comm
        };
        self.case.truth.iter().filter(same).map(|(pid, process)| (*pid, process)).collect()
    }

    fn system_calls(&mut self) {
        for (pid, process) in self.processes() {
            for (part, text) in process {
                let Some(tid) = part.strip_prefix("task/").and_then(|p| p.strip_suffix("/syscall")) else { continue };
                let words: Vec<&str> = text.split_whitespace().collect();
                // a thread of the kernel, or one that was just running
                let Some(number) = words.first().and_then(|n| n.parse::<i64>().ok()).filter(|_| words.len() == 9)
                else {
                    continue;
                };
                let kernel = process.get("status").is_some_and(|status| !status.contains("VmSize"));
                if kernel || number < 0 {
                    continue;
                }
                let ours = self.rows("syscalls", tid.parse().unwrap());
                let Some(ours) = ours.first() else {
                    self.wrong.push(format!("{}: no system call of {pid}/{tid}", self.case.name));
                    continue;
                };
                let number_of = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
                let theirs: Vec<u64> = words.iter().skip(1).map(|word| number_of(word)).collect();
                let args: Vec<u64> = ours["args"].as_array().unwrap().iter().map(hex).collect();
                self.same("system call", pid, ours["nr"].as_i64(), Some(number));
                self.same("arguments", pid, args.as_slice(), &theirs[..args.len()]);
                self.same("sp and pc", pid, (hex(&ours["sp"]), hex(&ours["pc"])), (theirs[6], theirs[7]));
            }
        }
    }

    fn open_files(&mut self) {
        for (pid, process) in self.processes() {
            let Some(links) = process.get("fd/") else { continue };
            let theirs: BTreeMap<i64, &str> =
                links.lines().filter_map(|l| l.split_once(" -> ")).map(|(fd, to)| (fd.parse().unwrap(), to)).collect();
            let rows = self.rows("files", pid);
            let ours = rows.iter().map(|r| (r["fd"].as_i64().unwrap(), r["path"].as_str().unwrap())).collect();
            self.same("files", pid, ours, theirs);
        }
    }

    /// Whose a socket is, /proc says as well. It knows of more: what is bound to nothing is in no table of sockets.
    fn sockets(&mut self) {
        for (pid, process) in self.processes() {
            let Some(links) = process.get("fd/") else { continue };
            let inode = |to: &str| to.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
            let theirs: BTreeMap<u64, u64> = links
                .lines()
                .filter_map(|l| l.split_once(" -> "))
                .filter_map(|(fd, to)| Some((fd.parse().ok()?, inode(to)?)))
                .collect();
            for row in self.rows("sockets", pid) {
                let fd = row["fd"].as_u64().unwrap();
                self.same("socket", pid, row["inode"].as_u64(), theirs.get(&fd).copied());
            }
        }
    }

    fn status(&mut self) {
        for (pid, process) in self.processes() {
            let Some(status) = process.get("status") else { continue };
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            let Some(cred) = self.rows("cred", pid).first().copied() else { continue };
            let ids = |names: [&str; 4]| names.iter().map(|n| cred[*n].to_string()).collect::<Vec<_>>();
            self.same("users", pid, ids(["uid", "euid", "suid", "fsuid"]), field("Uid"));
            self.same("groups", pid, ids(["gid", "egid", "sgid", "fsgid"]), field("Gid"));
            let more: Vec<String> = cred["groups"].as_array().unwrap().iter().map(Value::to_string).collect();
            self.same("other groups", pid, more, field("Groups"));
            for (ours, theirs) in [
                ("cap_inh", "CapInh"),
                ("cap_prm", "CapPrm"),
                ("cap_eff", "CapEff"),
                ("cap_bnd", "CapBnd"),
                ("cap_amb", "CapAmb"),
            ] {
                self.same(theirs, pid, vec![format!("{:016x}", hex(&cred[ours]))], field(theirs));
            }
            let sets = self.rows("sig", pid);
            // a zombie has no handlers, of which /proc says that there are none
            for row in sets.iter().filter(|row| row["value"].is_string()) {
                let set = row["set"].as_str().unwrap();
                self.same(set, pid, vec![format!("{:016x}", hex(&row["value"]))], field(set));
            }
            let size = field("VmSize").first().and_then(|kib| kib.parse::<u64>().ok());
            let memory = self.rows("memory", pid);
            self.same("VmSize", pid, memory.first().and_then(|row| row["vsz"].as_u64()), size);
            let resident = field("VmRSS").first().and_then(|kib| kib.parse::<u64>().ok());
            // what CPUs hold back of the counters is in no order, and /proc leaves it out
            let near = match (memory.first().and_then(|row| row["rss"].as_u64()), resident) {
                (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= 1024,
                (None, None) => true,
                _ => false,
            };
            self.same("VmRSS", pid, near, true);
        }
    }

    fn limits_and_groups(&mut self) {
        for (pid, process) in self.processes() {
            if let Some(limits) = process.get("limits") {
                // in another order, and under other names: the same values nevertheless
                let theirs: BTreeSet<(String, String)> = limits
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.get(26..))
                    .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                    .filter_map(|words| Some((words.first()?.clone(), words.get(1)?.clone())))
                    .collect();
                let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
                let rows = self.rows("limits", pid);
                self.same("limits", pid, rows.iter().map(|r| (text(r, "soft"), text(r, "hard"))).collect(), theirs);
            }
            if let Some(groups) = process.get("cgroup") {
                let rows = self.rows("cgroup", pid);
                let line = |r: &&Value| {
                    let text = |column: &str| r[column].as_str().unwrap().to_owned();
                    format!("{}:{}:{}", r["hierarchy"], text("controllers"), text("path"))
                };
                self.same(
                    "cgroups",
                    pid,
                    rows.iter().map(line).collect::<Vec<_>>(),
                    groups.lines().map(str::to_owned).collect(),
                );
            }
            if let Some(links) = process.get("ns/").filter(|links| !links.is_empty()) {
                let theirs: BTreeSet<String> = links
                    .lines()
                    .filter_map(|l| l.split_once(" -> "))
                    .filter(|(name, _)| !name.ends_with("_for_children") && !["cwd", "root", "exe"].contains(name))
                    .map(|(_, to)| to.to_owned())
                    .collect();
                let rows = self.rows("ns", pid);
                let ours = rows.iter().map(|r| format!("{}:[{}]", r["kind"].as_str().unwrap(), r["number"])).collect();
                self.same("namespaces", pid, ours, theirs);
            }
        }
    }

    fn stat(&mut self) {
        for (pid, process) in self.processes() {
            let Some(stat) = process.get("stat").and_then(|stat| stat.rsplit_once(") ")) else { continue };
            let fields: Vec<i64> =
                stat.1.split_whitespace().skip(1).map(|n| n.parse::<u64>().map_or(-1, |n| n as i64)).collect();
            // ticks of 1/100 s; our seconds have three digits
            let start = self.rows("time", pid).first().and_then(|row| row["start"].as_str()?.parse::<f64>().ok());
            self.same("start", pid, start.map(|s| (s * 1000.0).round() as i64 / 10), fields.get(18).copied());
            let policy = self.rows("policy", pid);
            let Some(policy) = policy.first() else { continue };
            let rt = policy["rtprio"].as_i64().unwrap_or(0);
            self.same("real-time priority", pid, Some(rt), fields.get(36).copied());
        }
    }

    fn arguments(&mut self) {
        for (pid, process) in self.processes() {
            let Some(theirs) = process.get("cmdline").filter(|text| !text.trim().is_empty()) else { continue };
            let rows = self.rows("args", pid);
            let Some(ours) = rows.first().and_then(|row| row["args"].as_str()) else { continue };
            // user memory may not be in the dump
            if !ours.starts_with('[') {
                self.same("arguments", pid, ours.to_owned(), theirs.lines().collect::<Vec<_>>().join(" "));
            }
        }
    }

    fn locks(&mut self) {
        let Ok(text) = fs::read_to_string(self.case.folder.join("truth/locks")) else { return };
        let of = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some([words.get(1)?, words.get(3)?, words.get(4)?, words.get(6)?, words.get(7)?].map(|w| (*w).to_owned()))
        };
        let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let ours: BTreeSet<_> = self.answers["locks"]
            .iter()
            .map(|r| [&r["kind"], &r["mode"], &r["pid"], &r["start"], &r["end"]].map(text_of))
            .collect();
        self.same("locks", 0, ours, text.lines().filter(|l| !l.contains("->")).filter_map(of).collect());
    }
}

impl Held<'_> {
    /// Requests wait where the guest said that some do: for a disk that is slow enough.
    fn requests(&mut self) {
        let Ok(text) = fs::read_to_string(self.case.folder.join("truth/inflight")) else { return };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let row = self.answers["disks"].iter().find(|row| row["name"].as_str() == words.first().copied());
            let theirs: u64 = words.iter().skip(1).map(|n| n.parse::<u64>().unwrap()).sum();
            let ours = row.and_then(|row| row["requests"].as_u64());
            // before Linux 5.11 a disk that nobody ever opened is in no list of ours
            if row.is_none() && theirs == 0 {
                continue;
            }
            // some are done between the two moments
            self.same("requests", 0, ours.map(|n| n > 0), Some(theirs > 0));
        }
    }
}

#[test]
fn processes_are_what_the_guest_said() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for case in cases() {
        let answers = ask(&case.dump);
        let mut held = Held::new(&case, &answers);
        held.system_calls();
        held.open_files();
        held.sockets();
        held.status();
        held.limits_and_groups();
        held.stat();
        held.arguments();
        held.locks();
        held.requests();
        println!("{}: {} comparisons, {} differ", case.name, held.checked, held.wrong.len());
        seen += held.checked;
        wrong.extend(held.wrong);
    }
    assert!(seen > 1000, "only {seen} comparisons");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
