//! Damaged dumps: whatever a dump holds, kmdb answers or says why not, and ends.
//!
//! Each round takes a real dump, of x86-64 and arm64 by turns, damages it in a way that chance picks (bytes changed, pages of the file zeroed, pages
//! swapped, the tail cut off), and asks a battery of questions that between them touch every walker. The seeds are
//! fixed, so a failure comes back; `ROUNDS=500 cargo test --test damage` looks further.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const QUESTIONS: &[&str] = &[
    "::status",
    "::msgbuf",
    "::ps -t",
    "::modules",
    "::kmastat",
    "::kmem_cache",
    "::kmem_slabs -v ! tail -1",
    "::walk kmem_unknown | ::count",
    "::walk kmem_slab_partial | ::whatis -a ! tail -1",
    "::walk kmem_cache | ::whatis -b ! tail -1",
    "::walk kmem | ::count",
    "::walk freemem | ::count",
    "::walk kmem_log | ::bufctl -v ! tail -1",
    "::walk dentry | ::dentry ! tail -1",
    "::walk dentry | ::where 'd_lockref.count == 0' | ::print d_name.name ! tail -1",
    "::walk task | ::print comm signal ! tail -1",
    "::walk task_struct | ::print ! tail -1",
    "::walk kmem_cache | ::print -t ! tail -1",
    "::walk task | ::vmas ! tail -1",
    "::walk super_block | ::print s_id ! tail -1",
    "init_task::whatis",
    "schedule::dis ! tail -1",
    "::nm ! tail -1",
];

/// Longest that one battery may take. Hangs are what this finds: no answer takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(120);

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn damage(dump: &[u8], seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = dump.to_vec();
    let len = bytes.len();
    match chance.below(5) {
        0 => (0..len / 4096).for_each(|_| {
            let at = chance.below(len);
            bytes[at] ^= 1 << chance.below(8);
        }),
        1 => (0..len / 65536).for_each(|_| {
            let at = chance.below(len - 4096) & !4095;
            bytes[at..at + 4096].fill(0);
        }),
        2 => (0..len / 65536).for_each(|_| {
            let (a, b) = (chance.below(len - 8192) & !4095, chance.below(len - 8192) & !4095);
            for i in 0..4096 {
                bytes.swap(a + i, b + i);
            }
        }),
        3 => bytes.truncate(len / 8 + chance.below(len / 2)),
        _ => (0..2000).for_each(|_| {
            // absurd words where pointers and counts are
            let at = chance.below(len - 8) & !7;
            let word = [u64::MAX, 0, 1 << 63, 0x8000_0000, 0xffff_ffff][chance.below(5)];
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }),
    }
    bytes
}

/// Runs the battery; what is wrong with the run, if anything.
fn ask(dump: &Path) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.args(["-S", "--no-debuginfo"]).arg(dump);
    for question in QUESTIONS {
        command.args(["-e", question]);
    }
    let errors = tempfile::NamedTempFile::new().unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(errors.reopen().unwrap()).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > LIMIT => {
                child.kill().unwrap();
                return Some(format!("no end after {LIMIT:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = fs::read_to_string(errors.path()).unwrap_or_default();
    match status.code() {
        _ if said.contains("panicked") => Some(said.lines().filter(|l| l.contains("panicked")).collect()),
        Some(0 | 2) => None,
        code => Some(format!("exit status {code:?}: {said}")),
    }
}

#[test]
fn damaged_dumps_are_survived() {
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(6);
    let first: u64 = std::env::var("SEED").ok().and_then(|r| r.parse().ok()).unwrap_or(1);
    let whole = ["k612-uaf", "k612-arm64"].map(|dump| {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{dump}/vmcore.zst"));
        zstd::decode_all(File::open(packed).unwrap()).unwrap()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmcore");
    let mut wrong = Vec::new();
    for seed in first..first + rounds {
        File::create(&path).unwrap().write_all(&damage(&whole[seed as usize % 2], seed)).unwrap();
        wrong.extend(ask(&path).map(|what| format!("seed {seed}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
