//! Meaning: symbols, types, functions and lines, from what a kernel says about itself.
//!
//! Bytes in, facts out. Nothing here reads a target: callers hand over [`Bytes`](bytes::Bytes) or a [`Reader`].
//!
//! **Invariant:** no input makes this crate panic, hang or allocate more than a small multiple of its size.

pub mod added;
pub mod btf;
pub mod catalog;
pub mod cfi;
pub mod debuginfod;
pub mod demangle;
pub mod dwarf;
pub mod elf;
mod fan;
pub mod find;
pub mod globals;
pub mod holes;
pub mod joined;
pub mod kallsyms;
pub mod modsyms;
mod moved;
mod names;
pub mod program;
pub mod symbols;
pub mod synthetic;
pub mod types;

pub use btf::Btf;
pub use catalog::{Missed, Place, Types};
pub use holes::{Holes, Patchy};
pub use kallsyms::Kallsyms;
pub use modsyms::{ModuleSymbols, ModuleTables};
pub use moved::Moved;
pub use symbols::{Symbol, SymbolKind, SymbolSource};
pub use types::{EnumValue, Member, SourceId, Tag, Type, TypeId, TypeSource};

/// Reads kernel memory for a decoder that must follow pointers or pick bytes lazily.
pub trait Reader: Send + Sync {
    /// Fills `buf` from the kernel virtual address `addr`, or says why it cannot.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String>;

    /// The bytes at `addr`, without a copy where the dump is mapped and the range is contiguous in it.
    fn bytes(&self, addr: u64, len: usize) -> Result<bytes::Bytes, String> {
        let mut buf = vec![0; len];
        self.read(addr, &mut buf)?;
        Ok(buf.into())
    }
}
