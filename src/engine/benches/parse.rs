//! How long a line takes to be read, and an expression to be worth something: `cargo bench -p kmdb-engine --bench parse`.

#![allow(clippy::print_stderr)]

use engine::lang::{
    cexpr,
    eval::{Scope, eval},
    parse,
};
use std::{hint::black_box, time::Instant};

const LINES: [&str; 6] = [
    "1000/X",
    "init_task::print -t tasks.next",
    "::walk task | ::print comm",
    "::walk dentry d | ::where d_lockref.count == 0 && d_name.len > 20 | ::head -5 | ::print d_name.name",
    "0t1024 + (1 << 0t12) * 3 # 1000 %% 7 & ~ff == 0 | -1,10=EKn",
    "jiffies_64/JY; ::ps ! grep sshd",
];

const CONDITION: &str = "mm != NULL && comm =~ \"^kworker\" || (flags & 0x200000) != 0 && real_parent->pid == 1";

struct Nothing;

impl Scope for Nothing {
    fn dot(&self) -> u64 {
        0x1000
    }
    fn last_dot(&self) -> u64 {
        0
    }
    fn increment(&self) -> u64 {
        8
    }
    fn var(&self, _: &str) -> Option<u64> {
        None
    }
    fn symbol(&self, _: &[String], _: &str) -> Option<u64> {
        None
    }
    fn read(&self, _: bool, _: u64, _: u8) -> Result<u64, String> {
        Ok(0)
    }
    fn radix(&self) -> u32 {
        16
    }
}

/// Nanoseconds that one run takes, the best of ten rounds.
fn measure(mut run: impl FnMut()) -> u128 {
    const RUNS: u32 = 2_000;
    let round = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..RUNS).for_each(|_| run());
        start.elapsed().as_nanos() / u128::from(RUNS)
    };
    (0..10).map(|_| round(&mut run)).min().unwrap_or(0)
}

fn main() {
    for line in LINES {
        let ns = measure(|| drop(black_box(parse(black_box(line), 16))));
        eprintln!("{ns:>7} ns  {line}");
    }
    let ns = measure(|| drop(black_box(cexpr::parse(black_box(CONDITION)))));
    eprintln!("{ns:>7} ns  {CONDITION}");
    if let Ok(statements) = parse("0t1024 + (1 << 0t12) * 3 # 1000 %% 7 & ~ff == 0 | -1=K", 16)
        && let Some(addr) = statements.first().and_then(|s| s.addr.as_ref())
    {
        let ns = measure(|| drop(black_box(eval(black_box(&addr.node), &Nothing))));
        eprintln!("{ns:>7} ns  its value");
    }
}
