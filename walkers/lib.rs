//! Walkers: kernel structures, their invariants, and the ways to reach every one of them.
//!
//! One file per structure. Each module's `WALKERS` is listed here, and nowhere else.
//!
//! **Invariant:** nothing here formats anything.

pub mod clock;
pub mod cpu;
pub mod ftrace;
pub mod kfence;
pub mod list;
pub mod page;
pub mod percpu;
pub mod slab;
pub mod stackdepot;

use engine::{DynamicWalkers, WalkerEntry};

/// Every walker, by family.
pub static WALKERS: &[&[WalkerEntry]] =
    &[ftrace::WALKERS, kfence::WALKERS, list::WALKERS, page::WALKERS, percpu::WALKERS, slab::WALKERS];

/// Families of walkers that the target brings along.
pub static DYNAMIC: &[DynamicWalkers] = &[slab::DYNAMIC];
