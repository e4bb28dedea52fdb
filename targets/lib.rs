//! Targets: where the bytes of a kernel come from.
//!
//! A [`Target`] answers one question, "what bytes are at this address?", for the physical space, the kernel's
//! virtual space and every process's. It knows dump formats, page tables and registers. It knows no C type and no
//! Linux structure beyond VMCOREINFO: what the bytes *mean* is the business of `debuginfo` and `engine`.
//!
//! ```no_run
//! use targets::{OpenOptions, Space, Target};
//! let target = Target::open("vmcore", &OpenOptions::default())?;
//! let release = target.vmcoreinfo().and_then(|v| v.symbol("init_uts_ns"));
//! if let Some(addr) = release {
//!     let head = target.bytes(Space::Kernel, addr, 64)?; // no copy when the file is mapped
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariant:** nothing here writes to a dump, and no content of a dump makes this crate panic, hang or allocate
//! without bound.

mod cover;
mod elf;
pub mod error;
mod flat;
mod image;
mod info;
mod kdump;
mod kernel;
mod lime;
mod live;
mod loaded;
mod mapped;
mod mmu;
mod notes;
mod open;
mod order;
mod qmp;
mod raw;
mod read;
mod regs;
mod source;
mod target;
mod unpack;
mod vmcoreinfo;

pub use error::{OpenError, ReadError, Reason, Result, Space};
pub use info::{Info, Uts};
pub use kernel::{Evidence, FoundKernel, KernelLayout};
pub use live::{Live, LiveSource};
pub use loaded::KernelFile;
pub use mmu::{Arch, BareTables, Flags, Mapping, Outcome, Step, Table, Translation};
pub use open::OpenOptions;
pub use order::Order;
pub use raw::Load;
pub use read::Hole;
pub use regs::{CpuRegs, RegSource};
pub use target::Target;
pub use vmcoreinfo::VmCoreInfo;
