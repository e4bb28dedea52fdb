//! Probes in programs: their stacks, samples of where they spend their time, USDT probes, typed arguments, leaks; each
//! held against what the program's source says.
//!
//! What this machine does not let us do, and compilers that it lacks, are said and skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod workload;

use serde_json::Value;
use std::process::Command;
use workload::{Compiled, kmdb};

/// main calls a, a calls b, b calls c, and c calls leaf as often as the first argument says.
const CHAIN: &str = r#"
#include <stdlib.h>
#define OWN __attribute__((noinline, noclone))
volatile long sum;
OWN void leaf(long n) { sum += n; }
OWN long c(long n) { char room[64]; leaf(n); ((volatile char *)room)[n & 63] = 1; return room[0] + 1; }
OWN long b(long n) { long x = c(n); return x + sum; }
OWN long a(long n) { long x = b(n); return x + sum; }
int main(int count, char **words) {
    long calls = count > 1 ? strtol(words[1], 0, 10) : 1;
    for (long i = 0; i < calls; i++) a(i);
    return 0;
}
"#;

/// Names of functions in a row's stack, without their files and offsets.
fn functions(cell: &Value) -> Vec<String> {
    let name = |frame: &Value| {
        let text = frame.as_str().unwrap();
        let text = text.split_once('`').map_or(text, |(_, rest)| rest);
        text.rsplit_once("+0x").map_or(text, |(name, _)| name).to_owned()
    };
    cell.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn stacks_are_whole_without_frame_pointers_and_after_the_end() {
    for flags in [&["-O1", "-fomit-frame-pointer"][..], &["-O1", "-fno-omit-frame-pointer"], &["-O1", "-g", "-static"]]
    {
        let Some(program) = Compiled::new("cc", "chain.c", CHAIN, flags) else { return };
        let file = program.path().display();
        let Some((rows, _)) = kmdb(&format!("::probe u:{file}:leaf -C '{file} 3' | ::stack -u")) else { return };
        assert_eq!(rows.len(), 3, "{flags:?}");
        for row in &rows {
            let names = functions(&row["ustack"]);
            assert_eq!(names.get(..5).unwrap(), ["leaf", "c", "b", "a", "main"], "{flags:?}: {names:?}");
            assert_eq!(names.last().unwrap(), "_start", "{flags:?}: {names:?}");
        }
    }
}

#[test]
fn groups_by_stack_count_every_hit() {
    let Some(program) = Compiled::new("cc", "chain.c", CHAIN, &["-O1", "-fomit-frame-pointer"]) else { return };
    let file = program.path().display();
    let line = format!("::probe u:{file}:leaf -C '{file} 700' | ::group ustack | ::count");
    let Some((rows, said)) = kmdb(&line) else { return };
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["count"], 700, "{said}");
    assert_eq!(functions(&rows[0]["ustack"]).get(..5).unwrap(), ["leaf", "c", "b", "a", "main"]);
}

/// Each of three threads recurses as deep as its number says, and calls leaf there as often as the first argument says;
/// behind much that was never touched main does so, too.
const DEPTHS: &str = r#"
#include <alloca.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#define OWN __attribute__((noinline, noclone))
static long calls;
volatile long sum;
OWN void leaf(long n) { sum += n; }
OWN long deep(long n) {
    char room[600];
    memset(room, n, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
    if (n) return deep(n - 1) + room[5];
    leaf(n);
    return room[7] + sum;
}
static void *run(void *depth) {
    for (long i = 0; i < calls; i++) deep((long)depth);
    return 0;
}
int main(int count, char **words) {
    pthread_t threads[3];
    calls = atol(words[1]);
    for (long i = 0; i < 3; i++) pthread_create(threads + i, 0, run, (void *)i);
    for (long i = 0; i < 3; i++) pthread_join(threads[i], 0);
    char *room = alloca(1 << 18);
    __asm__ volatile("" : : "r"(room) : "memory");
    run((void *)12L);
    return 0;
}
"#;

#[test]
fn stacks_of_threads_are_as_deep_as_they_are() {
    let flags = ["-O1", "-fomit-frame-pointer", "-pthread"];
    let Some(program) = Compiled::new("cc", "depths.c", DEPTHS, &flags) else { return };
    let file = program.path().display();
    let line = format!("::probe u:{file}:leaf -C '{file} 300' | ::group ustack | ::count");
    let Some((rows, said)) = kmdb(&line) else { return };
    let mut found: Vec<(usize, bool)> = Vec::new();
    for row in &rows {
        let names = functions(&row["ustack"]);
        assert_eq!(row["count"], 300, "{names:?} {said}");
        found.push((names.iter().filter(|name| *name == "deep").count(), names.contains(&"main".to_owned())));
    }
    found.sort_unstable();
    assert_eq!(found, [(1, false), (2, false), (3, false), (13, true)], "{said}");
}

/// Texts that the program hands on, and never looks at.
const HANDED_ON: &str = r#"
__attribute__((noinline, noclone)) void greet(const char *name, int n) { __asm__ volatile("" : : "r"(name), "r"(n)); }
int main(void) {
    greet("alpha", 1);
    for (int i = 0; i < 20; i++) greet(i % 2 ? "beta" : "a name that is longer than the others", i);
    return 0;
}
"#;

#[test]
fn texts_are_read_that_a_program_never_looked_at() {
    let Some(program) = Compiled::new("cc", "handed.c", HANDED_ON, &["-O1", "-g"]) else { return };
    let file = program.path().display();
    let line = format!("::probe u:{file}:greet -C {file} | ::group 'name' | ::count");
    let Some((rows, said)) = kmdb(&line) else { return };
    let count = |name: &str| rows.iter().find(|row| row["name"] == name).map(|row| row["count"].as_u64());
    let found = ["alpha", "beta", "a name that is longer than the others"].map(count);
    assert_eq!(found, [1, 10, 10].map(|n| Some(Some(n))), "{rows:?} {said}");
}

#[test]
fn frame_pointers_are_followed_in_the_kernel() {
    let Some(program) = Compiled::new("cc", "chain.c", CHAIN, &["-O0", "-fno-omit-frame-pointer"]) else { return };
    let file = program.path().display();
    let line = format!("::probe -f u:{file}:leaf -C '{file} 300000' | ::group ustack | ::count");
    let Some((rows, _)) = kmdb(&line) else { return };
    assert_eq!(rows[0]["count"], 300_000);
    let names = functions(&rows[0]["ustack"]);
    // at a function's first instruction its caller has no frame yet, which kernels before 6.11 do not see
    assert!(names.ends_with(&["b".into(), "a".into(), "main".into()]) || names.contains(&"main".into()), "{names:?}");
}

/// Code that is made as the program runs: it calls what is probed. Its maker writes it down as just-in-time compilers do.
const JIT: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline)) void leaf(void) { __asm__ volatile("" ::: "memory"); }
int main(void) {
    /* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
    static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
    unsigned char *at = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char name[64];
    memcpy(at, code, sizeof code);
    snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(name, "w");
    fprintf(map, "%lx %zx JS:*made on the fly\n", (unsigned long)at, sizeof code);
    fclose(map);
    ((void (*)(void (*)(void)))at)(leaf);
    usleep(300000);
    unlink(name);
    return 0;
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn compiled_as_it_ran() {
    let Some(program) = Compiled::new("cc", "jit.c", JIT, &["-O1"]) else { return };
    let file = program.path().display();
    let Some((rows, _)) = kmdb(&format!("::probe u:{file}:leaf -C {file} | ::stack -u")) else { return };
    assert_eq!(functions(&rows[0]["ustack"]).get(..3).unwrap(), ["leaf", "JS:*made on the fly", "main"], "{rows:?}");
}

/// Three quarters of the time in `heavy`, one in `light`.
const SPIN: &str = r#"
__attribute__((noinline)) void heavy(void) { for (volatile long i = 0; i < 3000000; i++) ; }
__attribute__((noinline)) void light(void) { for (volatile long i = 0; i < 1000000; i++) ; }
__attribute__((noinline)) void work(void) { heavy(); light(); }
int main(void) { for (int i = 0; i < 150; i++) work(); return 0; }
"#;

fn spin() -> Option<Compiled> {
    Compiled::new("cc", "spin.c", SPIN, &["-O1", "-g", "-fomit-frame-pointer"])
}

#[test]
fn shares_of_functions() {
    let Some(program) = spin() else { return };
    let file = program.path().display();
    let Some((rows, _)) = kmdb(&format!("::probe cpu:997hz -C {file} | ::profile -m 0")) else { return };
    let of = |name: &str| {
        let row = rows.iter().find(|row| row["function"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"));
        (row["own"].as_u64().unwrap(), row["total"].as_u64().unwrap())
    };
    let (heavy, light, main) = (of("heavy"), of("light"), of("main"));
    assert!(heavy.0 + light.0 > 50, "{rows:?}");
    let share = heavy.0 as f64 / (heavy.0 + light.0) as f64;
    assert!((0.6..0.9).contains(&share), "{share}: {rows:?}");
    assert!(main.1 >= heavy.0 + light.0 && of("work").1 <= main.1, "{rows:?}");
}

#[test]
fn a_flame_graph() {
    let Some(program) = spin() else { return };
    let (file, svg) = (program.path().display(), program.dir().join("spin.svg"));
    let line = format!("::probe cpu:997hz -C {file} | ::flame -t 'a < b' {}", svg.display());
    if kmdb(&line).is_none() {
        return;
    }
    let text = std::fs::read_to_string(&svg).unwrap();
    for expected in ["data-n=\"heavy\"", "data-n=\"light\"", "data-n=\"main\"", "a &lt; b"] {
        assert!(text.contains(expected), "{expected}");
    }
    let boxes = text.matches("<g class=\"box\"").count();
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()))
    else {
        eprintln!("skipped: no browser to open it in");
        return;
    };
    let mut command = Command::new("timeout");
    command.args(["120", browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", program.dir().join("profile").display()));
    let shown = command.arg(format!("file://{}", svg.display())).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout);
    // the script has run, and has met every box
    assert!(shown.contains(&format!("data-ready=\"{boxes}\"")), "{}", shown.get(..400).unwrap_or(&shown));
}

#[test]
fn folded_stacks() {
    let Some(program) = Compiled::new("cc", "chain.c", CHAIN, &["-O1"]) else { return };
    let (file, folded) = (program.path().display(), program.dir().join("chain.folded"));
    let line = format!("::probe u:{file}:leaf -C '{file} 40' | ::group comm ustack | ::flame {}", folded.display());
    if kmdb(&line).is_none() {
        return;
    }
    let text = std::fs::read_to_string(&folded).unwrap();
    assert!(text.trim_end().ends_with(";main;a;b;c;leaf 40"), "{text}");
    assert!(text.starts_with("chain;"), "{text}");
}

#[test]
fn instructions_of_a_function() {
    let Some(program) = spin() else { return };
    let file = program.path().display();
    let Some((rows, _)) = kmdb(&format!("::probe cpu:997hz -C {file} | ::annotate heavy")) else { return };
    let counts: Vec<u64> = rows.iter().map(|row| row["count"].as_u64().unwrap()).collect();
    assert!(counts.iter().sum::<u64>() > 30, "{rows:?}");
    assert_eq!(rows[0]["place"], "heavy");
    assert!(rows.iter().any(|row| row["source"].as_str().is_some_and(|line| line.contains("spin.c:2"))), "{rows:?}");
    // a loop: what is behind the last jump is met once in three million times
    assert!(counts.last().unwrap() * 10 < counts.iter().sum(), "{rows:?}");
}

/// A USDT probe as `sys/sdt.h` makes it, guarded by its semaphore.
const USDT: &str = r#"
#include <stdlib.h>
unsigned short kmdb_fired_semaphore __attribute__((unused, section(".probes")));
static inline void fired(long number, const char *text) {
    __asm__ volatile("990: nop\n"
        ".pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n"
        "991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte kmdb_fired_semaphore\n"
        ".asciz \"kmdb\"\n.asciz \"fired\"\n.asciz \"-8@%0 8@%1 4@$7\"\n994: .balign 4\n.popsection\n"
        ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
        ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base,1\n.popsection\n.endif\n"
        : : "r"(number), "r"(text));
}
int main(int count, char **words) {
    /* what was never touched is not in memory, and cannot be read at the hit */
    static char odd[] = "odd", even[] = "even";
    ((volatile char *)odd)[0] = 'o'; ((volatile char *)even)[0] = 'e';
    for (long i = 0; i < 500; i++)
        if (kmdb_fired_semaphore) fired(-i, i & 1 ? odd : even);
    return 0;
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn usdt_probes_behind_a_semaphore() {
    let Some(program) = Compiled::new("cc", "usdt.c", USDT, &["-O1"]) else { return };
    let file = program.path().display();
    let Some((rows, _)) = kmdb(&format!("::probes usdt:{file}:*")) else { return };
    assert!(rows[0]["probe"].as_str().unwrap().starts_with("usdt:usdt:kmdb:fired"), "{rows:?}");
    assert!(rows[0]["has"] == "int64_t arg0, uint64_t arg1, uint32_t arg2; behind a semaphore", "{rows:?}");
    let line = format!("::probe usdt:{file}:kmdb:fired -C {file} | ::print arg0 '(char *)arg1' arg2");
    let Some((rows, said)) = kmdb(&line) else { return };
    assert_eq!(rows.len(), 500, "{said}");
    let row = &rows[3];
    assert_eq!((row["arg0"].as_i64(), row["arg2"].as_i64()), (Some(-3), Some(7)), "{row}");
    assert!(row.to_string().contains("\"odd\""), "{row}");
}

#[test]
fn usdt_probes_of_the_cpp_library() {
    let source = r#"
int main() { int caught = 0; for (int i = 0; i < 20; i++) try { throw i; } catch (int) { caught++; } return caught != 20; }
"#;
    let Some(program) = Compiled::new("c++", "throws.cpp", source, &["-O1"]) else { return };
    let Some((rows, _)) = kmdb("::probes usdt:libstdc++:*") else { return };
    if !rows.iter().any(|row| row["probe"].as_str().is_some_and(|probe| probe.contains("throw"))) {
        eprintln!("skipped: this libstdc++ has no USDT probes");
        return;
    }
    let line = format!("::probe usdt:libstdc++:libstdcxx:throw -C {} | ::count", program.path().display());
    let Some((rows, said)) = kmdb(&line) else { return };
    assert_eq!(rows[0]["count"], 20, "{said}");
}

/// USDT probes as <sys/sdt.h> makes them, which need not be there: numbers with a fraction, globals, two places of one probe.
const SHOP: &str = r#"
#define SITE(name, arguments, ...) __asm__ volatile("990: nop\n.pushsection .note.stapsdt,\"?\",\"note\"\n.balign 4\n" \
    ".4byte 992f-991f, 994f-993f, 3\n991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b, 0, 0\n.asciz \"shop\"\n" \
    ".asciz \"" name "\"\n.asciz \"" arguments "\"\n994: .balign 4\n.popsection" :: __VA_ARGS__)
double price; int left = 100; float rebate[2] = { 0, 0.5f };
int main(void) {
    for (int i = 0; i < 10; i++) {
        price = i + 0.25;
        left--;
        SITE("sold", "8f@%0 -4@%1 -4@%2 4f@%3 8f@%%xmm0 -2@%4", "m"(price), "r"(i), "m"(left), "m"(rebate[1]), "n"(-7));
        if (i & 1) SITE("many", "4@%0", "r"(i)); else SITE("many", "4@%0", "r"(i + 1));
    }
    return 0;
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn usdt_arguments_of_every_kind() {
    for flags in [&["-O2"][..], &["-O0", "-no-pie"]] {
        let Some(program) = Compiled::new("cc", "shop.c", SHOP, flags) else { return };
        let file = program.path().display();
        let line = format!("::probe usdt:{file}:shop:sold -C {file} | ::print arg0 arg1 arg2 arg3 arg5");
        let Some((rows, said)) = kmdb(&line) else { return };
        assert_eq!(rows.len(), 10, "{said}");
        for (i, row) in (0i64..).zip(&rows) {
            let found = ["arg0", "arg1", "arg2", "arg3", "arg5"].map(|name| row[name].to_string());
            let wanted = [format!("\"{i}.25\""), i.to_string(), (99 - i).to_string(), "\"0.5\"".into(), "-7".into()];
            assert_eq!(found, wanted, "{flags:?}: {row}");
        }
        // two places of a probe count as one
        let Some((rows, _)) = kmdb(&format!("::probe usdt:{file}:shop:many -C {file} | ::group arg0")) else { return };
        let mut found: Vec<_> = rows.iter().map(|row| (row["arg0"].as_u64(), row["count"].as_u64())).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 3, 5, 7, 9].map(|n| (Some(n), Some(2))));
    }
}

/// What is behind pointers when a function is called.
const TYPED: &str = r#"
#include <stdio.h>
enum kind { SMALL, LARGE };
struct place { const char *name; int depth; struct place *up; };
struct request { int id; enum kind kind; char text[16]; struct place *place; unsigned flag : 3, rest : 29; };
__attribute__((noinline)) short handle(struct request *req, signed char delta, double share, unsigned short port) {
    __asm__ volatile("" ::: "memory");
    return (short)(req->id * delta - port);
}
int main(void) {
    struct place root = { "root", 0, 0 }, leaf = { "leaf", 1, &root };
    for (int i = 0; i < 10; i++) {
        struct request req = { i, i & 1, "text", &leaf, i & 7, 0 };
        sprintf(req.text, "number %d", i);
        handle(&req, -3, 0.5, 80);
    }
    return 0;
}
"#;

#[test]
fn arguments_have_the_types_of_the_source() {
    let Some(program) = Compiled::new("cc", "typed.c", TYPED, &["-O1", "-g"]) else { return };
    let file = program.path().display();
    let line = format!(
        "::probe u:{file}:handle -C {file} | ::where 'req->id >= 5' | ::print req->id req->kind req->text \
         req->place->up->name req->flag delta port"
    );
    let Some((rows, said)) = kmdb(&line) else { return };
    assert_eq!(rows.len(), 5, "{said}");
    let row = &rows[2];
    let number = |name: &str| row[name].as_i64();
    assert_eq!((number("id"), row["kind"].as_str(), number("flag")), (Some(7), Some("LARGE"), Some(7)), "{row}");
    assert_eq!((number("delta"), number("port")), (Some(-3), Some(80)), "{row}");
    assert_eq!((row["text"].as_str(), row["name"].as_str()), (Some("number 7"), Some("root")), "{row}");
    let Some((rows, _)) = kmdb(&format!("::probe ur:{file}:handle -C {file} | ::print retval")) else { return };
    let values: Vec<i64> = rows.iter().map(|row| row["retval"].as_i64().unwrap()).collect();
    assert_eq!(values, (0..10).map(|i| -3 * i - 80).collect::<Vec<_>>());
}

#[test]
fn page_faults_by_process_and_stack() {
    let source = r#"
#include <stdlib.h>
__attribute__((noinline)) void touch(volatile char *at, long pages) { for (long i = 0; i < pages; i++) at[i * 4096] = 1; }
int main(void) { char *room = aligned_alloc(4096, 300 * 4096); touch(room, 300); return 0; }
"#;
    let Some(program) = Compiled::new("cc", "faults.c", source, &["-O1"]) else { return };
    let line = format!("::probe sw:page-faults -C {} | ::group comm ustack | ::count", program.path().display());
    let Some((rows, _)) = kmdb(&line) else { return };
    let touching = rows.iter().filter(|row| functions(&row["ustack"]).first().is_some_and(|name| name == "touch"));
    let count: u64 = touching.map(|row| row["count"].as_u64().unwrap()).sum();
    // pages may be larger than the source thinks, or be mapped around a fault
    assert!((1..=300).contains(&count), "{rows:?}");
}

/// Every way to allocate, each with blocks that are freed, replaced, or not given; what the shell had before it became the
/// program is gone.
#[test]
fn leaks_of_all_allocators() {
    let source = r#"
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#define OUT __attribute__((noinline))
static void *used(void *block) { memset(block, 1, 3); return block; }
OUT void *by_posix(void) { void *block = 0; if (posix_memalign(&block, 64, 1000)) abort(); return used(block); }
OUT void *by_aligned(void) { return used(aligned_alloc(64, 640)); }
OUT void *by_memalign(void) { return used(memalign(128, 500)); }
OUT void *by_array(void *old) { return used(reallocarray(old, 10, 77)); }
OUT void by_nothing(void) { if (realloc(used(malloc(33)), 0)) abort(); }
OUT void by_error(void) { void *block = used(malloc(3)), *old = block; if (!posix_memalign(&block, 3, 1000)) abort(); free(old); }
int main(void) {
    for (int i = 0; i < 70; i++) {
        free(by_posix()); by_posix();
        free(by_aligned()); if (i % 2) by_aligned();
        free(by_memalign()); if (!(i % 3)) by_memalign();
        free(by_array(0)); if (!(i % 5)) by_array(used(malloc(3)));
        by_nothing(); by_error();
    }
    return 0;
}
"#;
    let Some(program) = Compiled::new("cc", "align.c", source, &["-O1", "-w"]) else { return };
    let Some((rows, said)) = kmdb(&format!("::memleak -C {}", program.path().display())) else { return };
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            let name = functions(&row["stack"]).into_iter().find(|name| name.starts_with("by_"));
            (name.unwrap_or_default(), row["blocks"].as_u64().unwrap(), row["bytes"].as_u64().unwrap())
        })
        .collect();
    let wanted =
        [("by_posix", 70, 70_000), ("by_aligned", 35, 22_400), ("by_memalign", 24, 12_000), ("by_array", 14, 10_780)];
    assert_eq!(found, wanted.map(|(name, blocks, bytes)| (name.to_owned(), blocks, bytes)), "{said}: {rows:?}");
}

#[test]
fn leaks_by_stack() {
    let source = r#"
#include <memory>
struct Node { std::shared_ptr<Node> other; char room[80]; };
__attribute__((noinline)) void cycle() {
    auto a = std::make_shared<Node>(), b = std::make_shared<Node>();
    a->other = b; b->other = a;
}
__attribute__((noinline)) void fine() { auto a = std::make_shared<Node>(); a->room[0] = 1; }
int main() { for (int i = 0; i < 50; i++) { cycle(); fine(); } return 0; }
"#;
    let Some(program) = Compiled::new("c++", "leak.cpp", source, &["-O1", "-g"]) else { return };
    let Some((rows, said)) = kmdb(&format!("::memleak -C {}", program.path().display())) else { return };
    let of = |wanted: &str| -> u64 {
        let has = |row: &&Value| functions(&row["stack"]).iter().any(|name| name.contains(wanted));
        rows.iter().filter(has).map(|row| row["blocks"].as_u64().unwrap()).sum()
    };
    assert_eq!((of("cycle"), of("fine")), (100, 0), "{said}: {rows:?}");
    let bytes = rows.iter().find(|row| row["blocks"] == 50 || row["blocks"] == 100).unwrap();
    assert!(bytes["bytes"].as_u64().unwrap() >= 50 * 96, "{rows:?}");
}
