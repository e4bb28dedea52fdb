//! BPF by hand: an assembler for its instructions, and the few calls of bpf(2) that load and run them.
//!
//! kmdb's programs are short and made for the kernel at hand, so they need neither a compiler nor a loader library:
//! offsets are known before an instruction is emitted, and nothing is relocated but the descriptors of maps.
//!
//! **Invariant:** a program or map lives as long as the value that stands for it, and no longer: nothing is pinned.

pub mod insn;
pub mod link;
pub mod map;
pub mod prog;
mod sys;
pub mod table;

pub use insn::{Asm, Helper, Reg, Size};
pub use link::Link;
pub use map::{Array, Window};
pub use prog::{Kind, LoadError, Program};
pub use table::{Shape, Table};
