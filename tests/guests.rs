//! Probes of kernels that can be probed everywhere: the lab's guests, from inside (`corpus/lab/probe.py`), held against
//! what the workload (`corpus/lab/guest/hits.c`) counted itself. Skipped where KMDB_LAB names no lab.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a question must answer.
enum Must {
    /// one row, with this in that column
    Be(&'static str, u64),
    /// one row, with what the workload counted in that column
    BeSaid(&'static str),
    /// one row of a group, so often, with these texts
    Group(u64, &'static [(&'static str, &'static str)]),
    /// a row of a group, so often, with that text
    Have(u64, &'static str, &'static str),
    /// rows whose counts come to this
    Total(u64),
    /// stacks that lead through these functions
    Stack(&'static str, &'static [&'static str]),
}
use Must::{Be, BeSaid, Group, Have, Stack, Total};

const READS: &str = r#"::where comm == "hits-reads""#;

/// Name, workload, probe, stages, and what must come of it.
#[rustfmt::skip]
const QUESTIONS: &[(&str, &str, &str, &str, Must)] = &[
    ("kprobe", "reads 1000", "k:vfs_read", "READS | ::count", Be("count", 1000)),
    ("kprobe_argument", "reads 1000", "k:vfs_read", "READS | ::sum count", Be("sum", 50500)),
    ("kretprobe", "reads 1000", "kr:vfs_read", "READS | ::sum retval", Be("sum", 50500)),
    ("entry_at_return", "reads 1000", "kr:vfs_read", "READS | ::group 'retval - count' | ::count", Group(1000, &[])),
    ("entry_condition", "reads 1000", "kr:vfs_read", "READS && count > 50 && retval > 0 | ::count", Be("count", 500)),
    ("latency_of_calls", "reads 1000", "kr:vfs_read", "READS | ::quantize elapsed", Total(1000)),
    ("path", "reads 1000", "k:vfs_read", "READS | ::group path(file) | ::count", Group(1000, &[("path", "/dev/zero")])),
    ("pattern", "reads 1000", "k:vfs_rea[d]*", "::where comm == \"hits-reads\" | ::group probe | ::count", Have(1000, "probe", "k:vfs_read")),
    ("dentries", "dentries 1000", "k:d_alloc_parallel", "::where comm == \"hits-dentries\" | ::group parent->d_name.name name->name | ::count",
        Group(1000, &[("name", "/"), ("name->name", "no_such_thing")])),
    ("dentry_stacks", "dentries 1000", "k:d_alloc_parallel", "::where comm == \"hits-dentries\" | ::group stack | ::count",
        Stack("stack", &["d_alloc_parallel", "filename_lookup", "do_faccessat"])),
    ("dentry_user_stacks", "dentries 1000", "k:d_alloc_parallel", "::where comm == \"hits-dentries\" | ::group ustack | ::count",
        Stack("ustack", &["access"])),
    ("tracepoint", "reads 1000", "t:syscalls:sys_enter_read", "READS | ::count", Be("count", 1000)),
    ("syscall", "reads 1000", "s:read", "READS | ::group 'ret - count' | ::count", Group(1000, &[])),
    ("syscall_text", "opens 1000", "s:openat", "::where ret == -ENOENT | ::group filename | ::count",
        Group(1000, &[("filename", "/tmp/no such file")])),
    ("syscalls", "opens 1000", "s:*", "::where comm == \"hits-opens\" | ::group name | ::count", Have(1000, "name", "openat")),
    ("enospc", "mounts 60", "s:mount", "::where ret == -ENOSPC | ::count", BeSaid("count")),
    ("enospc_function", "mounts 60", "kr:count_mounts", "::where retval == -ENOSPC | ::count", BeSaid("count")),
    ("enospc_hunt", "mounts 60", "kr:*mount*", "::where retval == -ENOSPC && comm == \"hits-mounts\" | ::group probe | ::count",
        Have(0, "probe", "kr:count_mounts")),
    ("uprobe", "calls 1000", "u:/bin/hits:hits_step", "::count", Be("count", 1000)),
    ("uretprobe", "calls 1000", "ur:/bin/hits:hits_step", "::sum retval", Be("sum", 1_498_500)),
    ("recursion", "deeps 1000", "ur:/bin/hits:hits_deep", "::group 'retval - arg0' | ::count", Group(5500, &[])),
    ("blocks", "blocks 64 $DISK", "t:block:block_rq_issue t:block:block_rq_complete",
        "::latency dev sector | ::where comm == \"hits-blocks\" | ::count", Be("count", 64)),
    ("blocks_by_request", "blocks 64 $DISK", "rt:block_rq_issue rt:block_rq_complete",
        "::latency rq | ::where comm == \"hits-blocks\" | ::count", Be("count", 64)),
    ("switches", "pingpong 200", "t:sched:sched_switch", "::where prev_comm == \"hits-pingpong\" && prev_state != 0 | ::count", BeSaid("count")),
    ("slabs", "dentries 1000", "k:kmem_cache_alloc_lru", "::where comm == \"hits-dentries\" | ::group arg0->name | ::count",
        Have(1000, "name", "dentry")),
];

/// On kernels where something is otherwise: the kernel, the question, the probe there.
const OTHERWISE: &[(&str, &str, &str)] = &[
    // dentries come from lists of their own since Linux 5.18 only
    ("k510", "slabs", "k:kmem_cache_alloc"),
];

fn line(kernel: &str, question: &(&str, &str, &str, &str, Must)) -> String {
    let (name, workload, probe, stages, _) = question;
    let probe = OTHERWISE.iter().find(|(k, n, _)| k == &kernel && n == name).map_or(*probe, |(.., probe)| probe);
    format!("::probe {probe} -C 'hits {workload} > /tmp/hits.said' | {}", stages.replace("READS", READS))
}

#[test]
fn the_labs_guests() {
    let Some(lab) = std::env::var_os("KMDB_LAB").map(PathBuf::from) else {
        return eprintln!("skipped: KMDB_LAB names no lab");
    };
    let wanted = std::env::var("LAB_GUESTS").unwrap_or_else(|_| "k510 k61 k612 k72".into());
    for kernel in wanted.split(' ') {
        if !lab.join("kern").join(kernel).join("vmlinuz").exists() {
            eprintln!("skipped: {kernel} is not in the lab");
            continue;
        }
        let truth = ask(&lab, kernel);
        let wrong: Vec<String> =
            QUESTIONS.iter().filter_map(|question| check(&truth, kernel, question).err()).collect();
        assert!(wrong.is_empty(), "{kernel}: {}", wrong.join("\n"));
        eprintln!("{kernel}: {} questions", QUESTIONS.len());
    }
}

/// Boots a guest and asks everything in it.
fn ask(lab: &Path, kernel: &str) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab/probe.py");
    let mut child = Command::new("python3")
        .arg(recipe)
        .args([kernel, env!("CARGO_BIN_EXE_kmdb")])
        .env("KMDB_LAB", lab)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut questions = child.stdin.take().unwrap();
    for question in QUESTIONS {
        writeln!(questions, "{}\t{}", question.0, line(kernel, question)).unwrap();
    }
    drop(questions);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{kernel}: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn check(truth: &Path, kernel: &str, question: &(&str, &str, &str, &str, Must)) -> Result<(), String> {
    let (name, .., must) = question;
    let said = fs::read_to_string(truth.join(format!("{name}.err"))).unwrap_or_default();
    let hits = fs::read_to_string(truth.join(format!("{name}.hits"))).unwrap_or_default();
    let text = fs::read_to_string(truth.join(name)).unwrap_or_default();
    let fail = |why: &str| Err(format!("{name}: {why}\n  {}\n  {text}\n  {said}\n  {hits}", line(kernel, question)));
    let rows: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let Ok(rows) = rows else { return fail("not JSON") };
    if !said.contains("exit status 0") {
        return fail("it failed");
    }
    let count = |row: &Value, column: &str| row[column].as_u64().unwrap_or(u64::MAX);
    let counted = hits.split_ascii_whitespace().last().and_then(|n| n.parse::<u64>().ok());
    let right = match must {
        Be(column, number) => rows.len() == 1 && count(&rows[0], column) == *number,
        // it counts only while the byte goes to and fro
        BeSaid(column) => {
            rows.len() == 1
                && counted.is_some_and(|n| {
                    n > 0 && count(&rows[0], column).abs_diff(n) <= if *name == "switches" { 10 } else { 0 }
                })
        }
        Group(number, texts) => {
            rows.len() == 1
                && count(&rows[0], "count") == *number
                && texts.iter().all(|(column, text)| rows[0][*column] == *text)
        }
        Have(number, column, text) => {
            let number = if *number == 0 { counted.unwrap_or(u64::MAX) } else { *number };
            rows.iter().any(|row| row[*column] == *text && count(row, "count") == number)
        }
        Total(number) => rows.iter().map(|row| count(row, "count")).sum::<u64>() == *number,
        Stack(column, functions) => {
            let frames = |row: &Value| row[*column].to_string();
            rows.first().is_some_and(|row| functions.iter().all(|function| frames(row).contains(function)))
        }
    };
    if right { Ok(()) } else { fail("wrong") }
}
