//! Probes, held against what the probed program says of itself: a workload in C that calls a function a known number of
//! times, compiled here, since nothing else is sure to be on a machine.
//!
//! What this machine does not let us do is said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod workload;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};
use workload::{Compiled, kmdb, skipped};

const CALLS: u64 = 20_000;

/// `step` is called with 0 to 1023, over and over, as often as the first argument says; then it waits for as many seconds
/// as the second says.
const STEPS: &str = r#"
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline)) unsigned long step(unsigned long n) { __asm__ volatile("" ::: "memory"); return n * 3; }
int main(int count, char **words) {
    unsigned long calls = count > 1 ? strtoul(words[1], 0, 10) : 0, sum = 0;
    for (unsigned long i = 0; i < calls; i++) sum += step(i % 1024);
    if (count > 2) sleep(atoi(words[2]));
    return sum == 1;
}
"#;

/// What a probe of so many steps gives, and what was said beside it; `None` if this machine does not let us.
fn steps(flags: &[&str], calls: u64, options: &str, behind: &str) -> Option<(Vec<Value>, String)> {
    let program = Compiled::new("cc", "steps.c", STEPS, flags)?;
    let file = program.path().display();
    kmdb(&format!("::probe u:{file}:step {options} -C '{file} {calls}' {behind}"))
}

fn probe(options: &str, behind: &str) -> Option<Vec<Value>> {
    steps(&["-O1"], CALLS, options, behind).map(|(rows, _)| rows)
}

#[test]
fn every_call_is_counted() {
    for flags in [&["-O1", "-fomit-frame-pointer"][..], &["-O0", "-g", "-fno-omit-frame-pointer"]] {
        for calls in [1, CALLS, 1_200_000] {
            let Some((rows, _)) = steps(flags, calls, "", "| ::count") else { return };
            assert_eq!(rows.len(), 1, "{rows:?}");
            assert_eq!(rows[0]["count"], calls, "{flags:?}");
        }
    }
}

#[test]
fn no_event_is_lost_silently() {
    let calls = 1_000_000;
    let Some((rows, said)) = steps(&["-O1"], calls, "", "| ::where 'arg0 & 1' | ::print arg0") else { return };
    let lost = said.lines().find_map(|line| line.split_once(" hits lost").map(|(before, _)| before));
    let lost: u64 = lost.map_or(0, |text| text.rsplit(' ').nth(2).unwrap().parse().unwrap());
    assert_eq!(rows.len() as u64 + lost, calls / 2, "{said}");
}

#[test]
fn conditions_are_tested_in_the_kernel() {
    let Some(rows) = probe("", "| ::where 'arg0 >= 512 && tid >= pid' | ::count") else { return };
    assert_eq!(rows[0]["count"], (0..CALLS).filter(|i| i % 1024 >= 512).count());
}

#[test]
fn a_histogram_has_every_value() {
    let Some(rows) = probe("", "| ::quantize arg0") else { return };
    let count = |row: &Value| row["count"].as_u64().unwrap();
    assert_eq!(rows.iter().map(count).sum::<u64>(), CALLS);
    for row in &rows {
        let least = row["value"].as_u64().unwrap();
        let most = if least == 0 { 0 } else { 2 * least - 1 };
        let expected = (0..CALLS).filter(|i| (least..=most).contains(&(i % 1024))).count();
        assert_eq!(count(row), expected as u64, "from {least} on");
    }
}

#[test]
fn sums_are_exact() {
    let Some(rows) = probe("", "| ::sum arg0") else { return };
    assert_eq!(rows[0]["sum"], (0..CALLS).map(|i| i % 1024).sum::<u64>());
    assert_eq!((&rows[0]["min"], &rows[0]["max"]), (&Value::from(0), &Value::from(1023)));
}

/// `step` is called with 1000 to 1999, or less 3000, by a process on each of two processors.
const SPREAD: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) long step(long n) { __asm__ volatile("" ::: "memory"); return n * 3; }
int main(int count, char **words) {
    for (int cpu = 0; cpu < 2; cpu++)
        if (!fork()) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            sched_setaffinity(0, sizeof set, &set);
            for (long i = 0; i < 1000; i++) step(1000 + i - (count > 1 ? 3000 : 0));
            return 0;
        }
    while (wait(0) > 0) ;
    return 0;
}
"#;

#[test]
fn the_least_and_most_are_those_of_all_processors() {
    let Some(program) = Compiled::new("cc", "spread.c", SPREAD, &["-O1"]) else { return };
    let file = program.path().display();
    for (word, least, most) in [("", 1000, 1999), (" less", -2000, -1001)] {
        for fold in ["::sum '(long)arg0'", "::group -m '(long)arg0' pid"] {
            let Some((rows, _)) = kmdb(&format!("::probe u:{file}:step -C '{file}{word}' | {fold}")) else { return };
            assert!(!rows.is_empty() && rows.iter().all(|row| row["min"] == least), "{fold}: {rows:?}");
        }
        let Some((rows, _)) = kmdb(&format!("::probe u:{file}:step -C '{file}{word}' | ::group -M '(long)arg0' uid"))
        else {
            return;
        };
        assert!(!rows.is_empty() && rows.iter().all(|row| row["max"] == most), "{rows:?}");
    }
}

#[test]
fn events_come_out_in_order_with_their_values() {
    let Some(rows) = probe("-c 1000", "| ::print arg0") else { return };
    assert_eq!(rows.len(), 1000);
    let values: Vec<u64> = rows.iter().map(|row| row["arg0"].as_i64().unwrap() as u64).collect();
    assert_eq!(values, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_count_ends_when_it_has_enough() {
    let Some(program) = Compiled::new("cc", "steps.c", STEPS, &["-O1"]) else { return };
    let file = program.path().display();
    let begun = Instant::now();
    let Some((rows, _)) = kmdb(&format!("::probe u:{file}:step -c 1000 -C '{file} {CALLS} 90' | ::count")) else {
        return;
    };
    assert!(begun.elapsed() < Duration::from_secs(60), "it waited for the program");
    let count = rows[0]["count"].as_u64().unwrap();
    assert!((1000..=CALLS).contains(&count), "{count}");
}

#[test]
fn groups_are_counted_and_sorted_behind() {
    let Some(rows) = probe("", "| ::where arg0 < 3 | ::group arg0 | ::count | ::sort arg0") else { return };
    let groups: Vec<(u64, u64)> =
        rows.iter().map(|row| (row["arg0"].as_u64().unwrap(), row["count"].as_u64().unwrap())).collect();
    let expected = |n| (0..CALLS).filter(|i| i % 1024 == n).count() as u64;
    assert_eq!(groups, [(0, expected(0)), (1, expected(1)), (2, expected(2))]);
}

/// More keys than have a place of their own in a processor's memory, each some twenty times.
#[test]
fn each_of_many_keys_has_its_hits() {
    for key in ["arg0", "arg0 uid comm"] {
        let Some(rows) = probe("", &format!("| ::group {key} | ::count")) else { return };
        let counts: BTreeMap<u64, u64> =
            rows.iter().map(|row| (row["arg0"].as_u64().unwrap(), row["count"].as_u64().unwrap())).collect();
        let expected = (0..1024).map(|n| (n, (0..CALLS).filter(|i| i % 1024 == n).count() as u64));
        assert_eq!((rows.len(), counts), (1024, expected.collect()), "{key}");
    }
}

#[test]
fn what_is_not_there_is_said() {
    let said = |line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", line]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, text) = said("::probe u:libc:no_such_function");
    if skipped(&text) {
        return;
    }
    assert_eq!(status, Some(2));
    assert!(text.contains("no function `no_such_function`"), "{text}");
    for (line, expected) in [
        ("::probe t:sched:no_such", "no tracepoint sched:no_such"),
        ("::probe t:no_such", "no tracepoint `no_such`, in any group"),
        ("::probe nothing", "names no probe"),
        ("::probe u:libc:*", "at most 1000 are probed at once"),
        ("::probe u:libc:malloc+0x100001", "is behind its end"),
        ("::probe u:no_such_program:f", "no program or library `no_such_program`"),
        ("::probe u:libc:maloc", "did you mean `malloc`"),
        ("::probe t:sched:sched_swich", "did you mean `sched:sched_switch`"),
        ("::probe s:opennat", "did you mean `openat`"),
        ("::probe u:/etc:main", "is a directory"),
        ("::probe u:[vdso]:clock_gettime", "in no file"),
        ("::probe s:", "names no probe"),
        ("::probe t:sched:sched_switch | ::print no_such_field", "there is no `no_such_field` here"),
    ] {
        let (status, text) = said(line);
        assert_eq!(status, Some(2), "{line}");
        // where tracefs is not mounted, that is what is said
        assert!(text.contains(expected) || text.contains("tracefs"), "{line}: {text}");
    }
}

/// Three instructions, of 5, 4 and 1 bytes, behind an `endbr64`.
#[cfg(target_arch = "x86_64")]
const BYTES: &str = r#"
__asm__(".globl piece\n.type piece, @function\npiece: endbr64\nmovl $7, %eax\naddq $1, %rax\nret\n.size piece, . - piece");
int piece(void);
int main(void) { int sum = 0; for (int i = 0; i < 100; i++) sum += piece(); return sum == 1; }
"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn only_instructions_are_probed_and_offsets_are_the_symbols() {
    let Some(program) = Compiled::new("cc", "bytes.c", BYTES, &["-O1"]) else { return };
    let file = program.path().display();
    for offset in [4, 9, 13] {
        let Some((rows, _)) = kmdb(&format!("::probe u:{file}:piece+{offset} -C {file} | ::count")) else { return };
        assert_eq!(rows[0]["count"], 100, "{offset}");
    }
    for offset in [1, 5, 8, 10] {
        let line = format!("::probe u:{file}:piece+{offset} -C {file} | ::count");
        let output = Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("in the middle of an instruction"), "{offset}: {said}");
    }
    let found = Command::new("nm").arg(program.path()).output();
    let names = found.map(|found| String::from_utf8_lossy(&found.stdout).into_owned()).unwrap_or_default();
    let Some(piece) = names.lines().find_map(|line| line.strip_suffix(" T piece")) else { return };
    let piece = u64::from_str_radix(piece, 16).unwrap();
    let Some((rows, _)) = kmdb(&format!("::probe u:{file}:{:#x} -C {file} | ::count", piece + 9)) else { return };
    assert_eq!(rows[0]["count"], 100);
    let line = format!("::probe u:{file}:{:#x} -C {file} | ::count", piece + 10);
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", &line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`piece+0xa` is in the middle of an instruction"), "{said}");
}

#[test]
fn a_run_ends_with_the_process_that_it_looks_at() {
    let mut child = Command::new("sleep").arg("2").spawn().unwrap();
    let pid = child.id();
    let begun = Instant::now();
    // it is a zombie from then on: nobody waits for it before the probe has ended
    let found = kmdb(&format!("::probe t:syscalls:sys_enter_brk -p 0t{pid} -d 60s | ::count"));
    child.wait().unwrap();
    let Some((_, said)) = found else { return };
    assert!(said.contains(&format!("process {pid} has ended")), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(50), "it waited on");
    let output =
        Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", &format!("::probe cpu:9hz -p 0t{pid}")]).output();
    let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(said.contains(&format!("there is no process {pid}")), "{said}");
}

#[test]
fn a_dump_has_no_probes() {
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/k612-uaf/vmcore.zst");
    let output =
        Command::new(env!("CARGO_BIN_EXE_kmdb")).args([dump, "-e", "::probe t:sched:sched_switch"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this is a dump"));
}
