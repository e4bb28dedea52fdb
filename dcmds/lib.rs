//! Dcmds: answers. One file per family. Each module's `DCMDS` is listed here, and nowhere else.
//!
//! **Invariant:** a dcmd emits rows; it prints nothing and holds no kernel layout of its own.

mod words;

pub mod print;
pub mod types;
pub mod walk;

use engine::DcmdEntry;

/// Every dcmd, by family.
pub static DCMDS: &[&[DcmdEntry]] = &[print::DCMDS, types::DCMDS, walk::DCMDS];
