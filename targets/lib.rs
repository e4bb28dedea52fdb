//! Targets: where the bytes of a kernel come from.
//!
//! A [`Target`] answers one question, "what bytes are at this address?", for the physical space, the kernel's
//! virtual space and every process's. It knows dump formats, page tables and registers. It knows no C type and no
//! Linux structure beyond VMCOREINFO: what the bytes *mean* is the business of `debuginfo` and `engine`.
//!
//! **Invariant:** nothing here writes to a dump, and no content of a dump makes this crate panic, hang or allocate
//! without bound.

pub mod error;

pub use error::{OpenError, ReadError, Reason, Result, Space};
