//! Probes of kernels that can be probed everywhere: the lab's guests, from inside (`corpus/lab/probe.py`), held against
//! what the workload (`corpus/lab/guest/hits.c`) counted itself. Skipped where KMDB_LAB names no lab.
//!
//! LAB_GUESTS says in which guests (`k510 k61 k612 k72 k73 bare612`; an arm64 one, `a612`, needs KMDB_ARM64, a kmdb built for it),
//! LAB_QUESTIONS which questions, by name.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod questions;

use questions::{BY_BPF, Must, OTHERWISE, PROBES, Question, TOOLS, UNTYPED};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The lab's kernel without BTF and without a file that has its debug information.
const UNTYPED_KERNEL: &str = "bare612";
const READS: &str = r#"::where comm == "hits-reads""#;

/// How questions are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Bpf,
    Without,
}

/// The workload that runs beside, if any, and the line.
fn line(question: &Question, way: Way) -> (&str, String) {
    let (_, workload, line, _) = question;
    let command = format!("-C 'hits {workload} > /tmp/hits.said'");
    let line = line.replace(" -C", &format!(" {command}")).replace("READS", READS);
    let line = if way == Way::Without { line.replace("::probe ", "::probe --no-bpf ") } else { line };
    (workload.strip_prefix('&').unwrap_or_default(), line)
}

/// The questions that were chosen.
fn chosen(all: &[&'static [Question]]) -> Vec<&'static Question> {
    let names = std::env::var("LAB_QUESTIONS").ok();
    let is_chosen = |q: &&Question| names.as_ref().is_none_or(|names| names.split(' ').any(|name| name == q.0));
    all.iter().copied().flatten().filter(is_chosen).collect()
}

#[test]
fn the_labs_guests() {
    in_guests(&wanted("k510 k61 k612 k72 k73"), Way::Bpf, &chosen(&[PROBES, TOOLS]));
}

#[test]
fn without_bpf_the_answers_are_the_same() {
    in_guests(&wanted("k510 k61 k612 k72"), Way::Without, &chosen(&[PROBES]));
}

#[test]
fn a_kernel_without_btf() {
    let wanted = wanted(UNTYPED_KERNEL);
    if wanted.split(' ').any(|kernel| kernel == UNTYPED_KERNEL) {
        in_guests(UNTYPED_KERNEL, Way::Bpf, &chosen(&[PROBES, TOOLS, UNTYPED]));
    }
}

/// The guests that are to be asked: those that are named, else these.
fn wanted(usual: &str) -> String {
    std::env::var("LAB_GUESTS").unwrap_or_else(|_| usual.into())
}

fn in_guests(kernels: &str, way: Way, questions: &[&Question]) {
    let Some(lab) = std::env::var_os("KMDB_LAB").map(PathBuf::from) else {
        return eprintln!("skipped: KMDB_LAB names no lab");
    };
    for kernel in kernels.split(' ').filter(|_| !questions.is_empty()) {
        if !lab.join("kern").join(kernel).join("vmlinuz").exists() {
            eprintln!("skipped: {kernel} is not in the lab");
            continue;
        }
        let Some(program) = program(&lab, kernel) else {
            eprintln!("skipped: KMDB_ARM64 names no kmdb for {kernel}");
            continue;
        };
        let truth = ask(&lab, kernel, &program, questions, way);
        let mut wrong: Vec<String> = questions.iter().filter_map(|q| check(&truth, kernel, q, way).err()).collect();
        let left = fs::read_to_string(truth.join("killed")).unwrap_or_default();
        if left != "nop\n" {
            wrong.push(format!("a kmdb that was killed left `{left}` in tracefs"));
        }
        assert!(wrong.is_empty(), "{kernel}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
        eprintln!("{kernel}: {} questions", questions.len());
    }
}

/// The kmdb that runs on that kernel.
fn program(lab: &Path, kernel: &str) -> Option<PathBuf> {
    let release = fs::read_to_string(lab.join("kern").join(kernel).join("release")).unwrap_or_default();
    match release.contains("arm64") == cfg!(target_arch = "aarch64") {
        true => Some(env!("CARGO_BIN_EXE_kmdb").into()),
        false => std::env::var_os("KMDB_ARM64").filter(|_| release.contains("arm64")).map(PathBuf::from),
    }
}

/// Boots a guest and asks everything in it.
fn ask(lab: &Path, kernel: &str, program: &Path, questions: &[&Question], way: Way) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab/probe.py");
    let mut command = Command::new("python3");
    command.arg(recipe).arg(kernel).arg(program).env("KMDB_LAB", lab);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for question in questions {
        let (beside, line) = line(question, way);
        writeln!(input, "{}\t{beside}\t{line}", question.0).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{kernel}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn check(truth: &Path, kernel: &str, question: &Question, way: Way) -> Result<(), String> {
    let (name, .., must) = question;
    let must = OTHERWISE.iter().find(|(k, n, _)| k == &kernel && n == name).map_or(must, |(.., must)| must);
    let must = if way == Way::Without && BY_BPF.contains(name) { &Must::Says("seen by BPF only") } else { must };
    let said = fs::read_to_string(truth.join(format!("{name}.err"))).unwrap_or_default();
    let hits = fs::read_to_string(truth.join(format!("{name}.hits"))).unwrap_or_default();
    let text = fs::read_to_string(truth.join(name)).unwrap_or_default();
    let shown: String = text.chars().take(2000).collect();
    let fail = |why: &str| Err(format!("{name}: {why}\n  {}\n  {shown}\n  {said}\n  {hits}", line(question, way).1));
    if let Must::Says(what) = must {
        return if said.contains(what) { Ok(()) } else { fail("it must say what is missing") };
    }
    let rows: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let Ok(rows) = rows else { return fail("not JSON") };
    if !said.contains("exit status 0") {
        return fail("it failed");
    }
    let counted = hits.split_ascii_whitespace().last().and_then(|n| n.parse().ok());
    if is_right(must, &rows, counted) { Ok(()) } else { fail("wrong") }
}

/// Whether the rows are what must be, where the workload itself counted so many.
fn is_right(must: &Must, rows: &[Value], counted: Option<u64>) -> bool {
    let count = |row: &Value, column: &str| row[column].as_u64().unwrap_or(u64::MAX);
    let one = |column: &str| (rows.len() == 1).then(|| count(&rows[0], column));
    let total = || rows.iter().map(|row| count(row, "count")).sum::<u64>();
    match must {
        Must::Be(column, number) => one(column) == Some(*number),
        Must::BeSaid(column, more) => {
            counted.is_some_and(|n| n > 0 && one(column).is_some_and(|found| (n..=n + more).contains(&found)))
        }
        Must::AboutSaid(column, by) => {
            counted.is_some_and(|n| n > 0 && one(column).is_some_and(|found| found.abs_diff(n) <= *by))
        }
        Must::Near(column, number, more) => one(column).is_some_and(|n| (*number..=number + more).contains(&n)),
        Must::Least(column, number) => one(column).is_some_and(|n| n >= *number),
        Must::Group(number, texts) => {
            one("count") == Some(*number) && texts.iter().all(|(column, text)| rows[0][*column] == *text)
        }
        Must::Have(number, column, text) => {
            let number = if *number == 0 { counted.unwrap_or(u64::MAX) } else { *number };
            rows.iter().any(|row| row[*column] == *text && count(row, "count") == number)
        }
        Must::Begin(number, column, text) => rows.iter().any(|row| {
            let begins = row[*column].as_str().is_some_and(|found| found.starts_with(text));
            begins && row["count"].as_u64().is_some_and(|n| n >= *number)
        }),
        Must::Total(number) => total() == *number,
        Must::Sum(number) => !rows.is_empty() && total() >= *number,
        Must::Stack(column, functions) => rows.first().is_some_and(|row| {
            let frames = row[*column].to_string();
            functions.iter().all(|function| frames.contains(function))
        }),
        Must::Tree(number, function, called) => [function, called]
            .iter()
            .all(|call| rows.iter().filter(|row| row["call"].as_str() == Some(call)).count() >= *number),
        Must::Show(column, text) => {
            rows.iter().any(|row| row[*column].as_str().is_some_and(|found| found.contains(text)))
        }
        Must::Says(_) => false,
    }
}
