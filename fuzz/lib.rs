//! What is fuzzed: one function for each decoder that reads what somebody else wrote.
//!
//! A function takes any bytes, and must return: without a panic, within [`LIMIT`] for 64 KiB, and within [`MEMORY`]. It
//! says what came of it by [`seen`]. `main.rs` feeds them with what it makes of `seeds/TARGET` and `found/TARGET`;
//! `tests/replay.rs` feeds them with all that is kept.

mod dumps;
mod kernel;
mod language;
pub mod mutate;
mod paging;

use std::{cell::Cell, hash::Hasher, time::Duration};

pub use dumps::{elf, flattened, kdump, lime, vmcoreinfo};
pub use kernel::{btf, kallsyms, modsyms, orc, vmlinux};
pub use language::language;
pub use paging::paging;

/// Longest that an input may take.
pub const LIMIT: Duration = Duration::from_secs(2);

/// Most address space that a process may have which feeds the functions.
pub const MEMORY: u64 = 2 << 30;

/// A function, by name.
pub struct Target {
    /// also that of its folders below `seeds` and `found`
    pub name: &'static str,
    /// feeds it
    pub run: fn(&[u8]),
}

/// All of them.
pub static TARGETS: &[Target] = &[
    Target { name: "elf", run: elf },
    Target { name: "kdump", run: kdump },
    Target { name: "flattened", run: flattened },
    Target { name: "lime", run: lime },
    Target { name: "vmcoreinfo", run: vmcoreinfo },
    Target { name: "paging", run: paging },
    Target { name: "kallsyms", run: kallsyms },
    Target { name: "btf", run: btf },
    Target { name: "modsyms", run: modsyms },
    Target { name: "vmlinux", run: vmlinux },
    Target { name: "orc", run: orc },
    Target { name: "language", run: language },
];

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Notes an outcome, such as the text of an error. Numbers in it do not matter: inputs that lead to other words are worth
/// keeping, since they came further or elsewhere.
pub(crate) fn seen(what: &dyn std::fmt::Display) {
    let mut hash = std::hash::DefaultHasher::new();
    for word in what.to_string().split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2).take(12) {
        hash.write(word.as_bytes());
    }
    SEEN.set(SEEN.get().rotate_left(5) ^ hash.finish());
}

/// The same of a count: its size in powers of two.
pub(crate) fn counted(what: &str, count: usize) {
    seen(&format_args!("{what}{}", "x".repeat(usize::BITS as usize - count.leading_zeros() as usize)));
}

/// What was seen since the last call, as a number.
pub fn outcome() -> u64 {
    SEEN.replace(0)
}

/// The little-endian number at `at`, 0 where there is none.
pub(crate) fn number(data: &[u8], at: usize, len: usize) -> u64 {
    let bytes = data.get(at..).map(|rest| rest.get(..len).unwrap_or(rest)).unwrap_or_default();
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
