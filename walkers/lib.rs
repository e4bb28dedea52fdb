//! Walkers: kernel structures, their invariants, and the ways to reach every one of them.
//!
//! One file per structure. Each module's `WALKERS` is listed here, and nowhere else.
//!
//! **Invariant:** nothing here formats anything.

pub mod clock;
pub mod cpu;
pub mod dmesg;
pub mod ftrace;
pub mod kfence;
pub mod list;
pub mod module;
pub mod page;
pub mod percpu;
pub mod slab;
pub mod stackdepot;
pub mod task;

use engine::{DynamicWalkers, WalkerEntry};

/// Every walker, by family.
#[rustfmt::skip] // one a line: branches that add some do not meet
pub static WALKERS: &[&[WalkerEntry]] = &[
    dmesg::WALKERS,
    ftrace::WALKERS,
    kfence::WALKERS,
    list::WALKERS,
    module::WALKERS,
    page::WALKERS,
    percpu::WALKERS,
    slab::WALKERS,
    task::WALKERS,
];

/// Families of walkers that the target brings along.
pub static DYNAMIC: &[DynamicWalkers] = &[slab::DYNAMIC];
