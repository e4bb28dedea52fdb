//! Probes in programs by the names and types that their sources have: overloads and templates of C++, structs that are
//! handed over by value, copies of inlined functions, processes that a command begins. Held against what the program does.
//!
//! What this machine does not let us do is said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod workload;

use serde_json::Value;
use std::process::Command;
use workload::{Compiled, kmdb};

const SHOP: &str = r#"
#include <sys/wait.h>
#include <unistd.h>
#define SEEN __attribute__((noinline))
struct Pair { int a, b; };
struct Mixed { long whole; double part; };
struct Large { long v[5]; };
namespace shop {
    struct Cart { long total; SEEN long add(int n, const char *what) { asm volatile("" :: "r"(what) : "memory"); return total += n; } };
    template <class T> SEEN T twice(T v) { asm volatile("" ::: "memory"); return v + v; }
}
SEEN long pair(Pair p) { asm volatile("" ::: "memory"); return p.a * 100 + p.b; }
SEEN double mixed(Mixed m, int n) { asm volatile("" ::: "memory"); return m.whole + m.part * n; }
SEEN double weigh(const Mixed *m) { asm volatile("" :: "r"(m) : "memory"); return m->part; }
SEEN long large(Large l, int n) { asm volatile("" ::: "memory"); return l.v[1] + n; }
SEEN long many(long a, long b, long c, long d, long e, long f, long g, int h) { asm volatile("" ::: "memory"); return a + g + h; }
static inline __attribute__((always_inline)) int inside(int n) { asm volatile("" : "+r"(n)); return n * 3; }
SEEN int around(int n) { return inside(n) + 1; }
SEEN int about(int n) { return inside(n + 2); }
enum class Kind { Odd, Even = 5 };
SEEN int kinds(Kind k, int n) { asm volatile("" ::: "memory"); return k == Kind::Even ? n : -n; }
SEEN int forked(int n) { asm volatile("" ::: "memory"); return n; }
int main() {
    long sum = 0;
    shop::Cart cart{1000};
    for (int i = 0; i < 40; i++) {
        sum += cart.add(i, i % 2 ? "odd" : "even");
        sum += shop::twice<int>(i) + (long)shop::twice<double>(i) + shop::twice<int>(7);
        sum += pair({i, 5}) + (long)::mixed({i, 2.5}, 3) + large({{0, i, 0, 0, 0}}, 1) + many(1, 2, 3, 4, 5, 6, i, 8);
        Mixed mixed{i, i * 0.5};
        sum += (long)weigh(&mixed);
        sum += around(i) + about(i) + kinds(i % 2 ? Kind::Odd : Kind::Even, i);
        if (fork() == 0) { forked(i); _exit(0); }
    }
    while (wait(0) > 0) {}
    return sum == 1;
}
"#;

/// What a probe of the program gives, compiled with those flags; `None` if this machine does not let us.
fn ask(flags: &[&str], probe: &str, behind: &str) -> Option<(Vec<Value>, String)> {
    let program = Compiled::new("c++", "shop.cpp", SHOP, flags)?;
    let file = program.path().display();
    let (kind, name) = probe.split_once(':')?;
    kmdb(&format!("::probe '{kind}:{file}:{name}' -C {file} {behind}"))
}

const BOTH: [&[&str]; 2] = [&["-O1", "-g"], &["-O0", "-g"]];

/// All rows, each as often as its group was hit.
fn groups(rows: &[Value], column: &str) -> Vec<(String, u64)> {
    let mut groups: Vec<_> =
        rows.iter().map(|row| (row[column].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap())).collect();
    groups.sort();
    groups
}

#[test]
fn functions_have_the_names_of_their_source() {
    for flags in BOTH {
        for name in ["u:shop::Cart::add", "u:Cart::add", "u:*Cart::add", "ur:add"] {
            let Some((rows, said)) = ask(flags, name, "| ::count") else { return };
            assert_eq!(rows[0]["count"], 40, "{name}: {said}");
        }
        let Some((rows, _)) = ask(flags, "u:twice", "| ::group probe") else { return };
        let found = groups(&rows, "probe");
        assert_eq!(found.iter().map(|(_, n)| *n).sum::<u64>(), 120, "{found:?}");
        assert!(found.iter().any(|(name, n)| name.ends_with("shop::twice<int>") && *n == 80), "{found:?}");
    }
}

#[test]
fn parameters_are_read_where_they_are() {
    let sum = |n: i64| (0..40).map(|i| i * n).sum::<i64>();
    for flags in BOTH {
        for (probe, what, expected) in [
            ("u:pair", "p.a * 10 + p.b", sum(10) + 200),
            ("u:mixed", "m.whole + n", sum(1) + 120),
            ("u:large", "l.v[1] * 2 + n", sum(2) + 40),
            ("u:many", "a + f * 10 + g * 100 + h * 1000", sum(100) + 40 * 8061),
            ("u:Cart::add", "n", sum(1)),
            ("ur:pair", "retval", sum(100) + 200),
        ] {
            let Some((rows, said)) = ask(flags, probe, &format!("| ::sum '{what}'")) else { return };
            assert_eq!(rows[0]["sum"], expected, "{probe} {what} {flags:?}: {said}");
        }
        let Some((rows, _)) = ask(flags, "u:Cart::add", "| ::group what") else { return };
        assert_eq!(groups(&rows, "what"), [("even".to_owned(), 20), ("odd".to_owned(), 20)]);
    }
}

/// Values of enumerations are shown and compared by name.
#[test]
fn values_of_enumerations_have_names() {
    for flags in BOTH {
        let Some((rows, _)) = ask(flags, "u:kinds", "| ::group k") else { return };
        assert_eq!(groups(&rows, "k"), [("Even".to_owned(), 20), ("Odd".to_owned(), 20)]);
        for condition in ["k == Even", "k == \"Even\"", "5 == k"] {
            let (rows, said) = ask(flags, "u:kinds", &format!("| ::where '{condition} && n < 20' | ::count")).unwrap();
            assert_eq!(rows[0]["count"], 10, "{condition}: {said}");
        }
    }
}

/// A function's return knows by name what it was called with.
#[test]
fn returns_know_what_the_function_was_called_with() {
    for flags in BOTH {
        let Some((rows, _)) = ask(flags, "ur:kinds", "| ::print k n ret") else { return };
        assert_eq!(rows.len(), 40);
        for (n, row) in (0i64..).zip(&rows) {
            let (kind, ret) = if n % 2 == 1 { ("Odd", -n) } else { ("Even", n) };
            assert_eq!((row["k"].as_str(), row["n"].as_i64(), row["ret"].as_i64()), (Some(kind), Some(n), Some(ret)));
        }
        let (rows, _) = ask(flags, "ur:pair", "| ::group p.b | ::count").unwrap();
        assert_eq!(rows.len(), 1);
    }
}

/// A structure as a whole is its members.
#[test]
fn structures_are_shown_by_members() {
    for flags in BOTH {
        let Some((rows, said)) = ask(flags, "u:weigh", "| ::print *m") else { return };
        let halves: Vec<_> = (0..40).map(|i| (Some(i), Some((i as f64 / 2.0).to_string()))).collect();
        let shown = |row: &Value| (row["whole"].as_i64(), row["part"].as_str().map(str::to_owned));
        assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), halves, "{said}");
    }
}

#[test]
fn what_probes_do_not_see_is_not_made_up() {
    for (probe, what, why) in [
        ("u:shop::twice<double>", "v", "fraction"),
        ("ur:mixed", "retval", "fraction"),
        ("ur:large", "l.v[1]", "not kept until the return"),
    ] {
        let program = Compiled::new("c++", "shop.cpp", SHOP, &["-O1", "-g"]);
        let Some(program) = program else { return };
        let (kind, name) = probe.split_once(':').unwrap();
        let file = program.path().display();
        let line = format!("::probe '{kind}:{file}:{name}' -C {file} | ::print {what}");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", &line]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if workload::skipped(&said) {
            return;
        }
        assert!(said.contains(why), "{probe}: {said}");
    }
}

#[test]
fn inlined_copies_are_probed_where_they_stand() {
    let Some((rows, said)) = ask(&["-O1", "-g"], "u:inside", "| ::group probe") else { return };
    assert!(said.contains("2 of 2 places are probed where it is inlined: in about, around"), "{said}");
    let found = groups(&rows, "probe");
    let ends = |place: &str| {
        found.iter().any(|(name, n)| name.ends_with(&format!(":inside [inlined in {place}]")) && *n == 40)
    };
    assert!(found.len() == 2 && ends("around") && ends("about"), "{found:?}");
}

#[test]
fn what_a_command_begins_is_probed_with_it() {
    for options in ["", "--no-bpf"] {
        let Some((rows, said)) = ask(&["-O1", "-g"], "u:forked", &format!("{options} | ::sum n")) else { return };
        assert_eq!((&rows[0]["sum"], &rows[0]["count"]), (&Value::from(780), &Value::from(40)), "{options}: {said}");
    }
}

#[test]
fn callers_have_names() {
    let Some((rows, _)) = ask(&["-O1", "-g"], "u:pair", "| ::group caller") else { return };
    assert!(rows.len() == 1 && rows[0]["caller"].as_str().unwrap().contains("`main+0x"), "{rows:?}");
}

/// A program of few calls: as many as the last argument says, of malloc(3), write(2) and a function of its own.
const FEW: &str = r#"
#include <stdlib.h>
#include <fcntl.h>
#include <unistd.h>
__attribute__((noinline, noclone)) int call(int n) { __asm__ volatile(""); return n * 3; }
int main(int count, char **words) {
    int file = open(words[1], O_CREAT | O_WRONLY, 0600), calls = atoi(words[2]), sum = 0;
    for (int i = 1; i <= calls; i++) {
        void *block = malloc(7000 + i);
        sum += write(file, &block, sizeof block) + call(i);
        free(block);
        if (count > 3) usleep(20000);
    }
    return sum == 0;
}
"#;

#[test]
fn a_command_is_counted_without_what_starts_it() {
    let Some(program) = Compiled::new("cc", "few.c", FEW, &["-O1"]) else { return };
    let (file, out) = (program.path().display(), program.dir().join("few.out"));
    let command = format!("{file} {} 50", out.display());
    let Some((rows, said)) = kmdb(&format!("::probe u:libc:malloc -C '{command}' | ::count")) else { return };
    assert_eq!(rows[0]["count"], 50, "{said}");
    let line = format!("::probe s:write -C '{command}' | ::group file->f_path.dentry->d_name.name count ret");
    let Some((rows, said)) = kmdb(&line) else { return };
    let found: Vec<_> = rows.iter().map(|row| (&row["name"], &row["count"], &row["ret"])).collect();
    assert!(rows.iter().any(|row| row["name"] == "few.out" && row["ret"] == 8), "{found:?} {said}");
    // what cannot be started is said, and what only a shell knows is left to it
    let line = |command: &str| format!("::probe u:libc:malloc -C '{command}' | ::count");
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-e", &line("/etc/passwd 1")]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(kmdb(&line("exit 0; nothing")).is_some());
}

#[test]
fn programs_of_32_bits() {
    let can = Compiled::new("cc", "none.c", "int main(void) { return 0; }", &[]);
    let Some(dir) = can else { return };
    let source = dir.dir().join("few.c");
    std::fs::write(&source, FEW).unwrap();
    let file = dir.dir().join("few32");
    let built = Command::new("cc").args(["-m32", "-O1", "-o"]).arg(&file).arg(&source).output().unwrap();
    if !built.status.success() {
        eprintln!("skipped: no programs of 32 bits can be made here");
        return;
    }
    let (out, file) = (dir.dir().join("few.out"), file.display());
    let command = format!("{file} {} 9", out.display());
    let Some((rows, said)) = kmdb(&format!("::probe u:{file}:call -C '{command}' | ::group arg0")) else { return };
    let mut found: Vec<_> = rows.iter().map(|row| row["arg0"].as_u64().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (1..=9).collect::<Vec<_>>(), "{said}");
    let Some((rows, _)) = kmdb(&format!("::probe ur:{file}:call -C '{command}' | ::sum retval")) else { return };
    assert_eq!(rows[0]["sum"], 135);
    // its write(2) has the number of another one's call
    let Some((rows, _)) = kmdb(&format!("::probe s:* -C '{command}' | ::group name")) else { return };
    assert!(rows.iter().all(|row| row["name"] == "execve"), "{rows:?}");
}

#[test]
fn a_program_whose_file_is_gone() {
    let Some(program) = Compiled::new("cc", "few.c", FEW, &["-O1"]) else { return };
    let (path, out) = (program.path(), program.dir().join("few.out"));
    let mut running = Command::new(path).arg(&out).args(["200", "slowly"]).spawn().unwrap();
    while !out.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::remove_file(path).unwrap();
    let line = format!("::probe u:{}:call -p 0t{} -c 3 | ::group ustack", path.display(), running.id());
    let answer = kmdb(&line);
    running.kill().unwrap();
    running.wait().unwrap();
    let Some((rows, said)) = answer else { return };
    let stack: Vec<_> = rows[0]["ustack"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap()).collect();
    assert_eq!(stack[0], "few`call", "{said}");
    assert!(stack[1].starts_with("few`main+"), "{stack:?}");
}
