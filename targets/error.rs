//! Why bytes could not be had: one reason per missing byte, never a guess.

use std::path::PathBuf;

/// Result of a read.
pub type Result<T, E = ReadError> = std::result::Result<T, E>;

/// An address space of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Physical addresses.
    Phys,
    /// The kernel's virtual addresses.
    Kernel,
    /// A process's virtual addresses; the field is the physical address of its top page table.
    User(u64),
}

/// Why a byte could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bits above the virtual address width are not the sign's: no page table can map it.
    #[error("not a canonical address")]
    NotCanonical,
    /// No kernel was found in the dump, so its virtual addresses mean nothing; the field says what was tried.
    #[error("no kernel page tables: {0}")]
    NoKernel(String),
    /// More bytes were asked for at once than a copy may hold.
    #[error("too many bytes for one read")]
    TooLong,
    /// The page tables do not map the address.
    #[error("not mapped")]
    NotMapped,
    /// The dump has no such physical page.
    #[error("not in the dump")]
    NotInDump,
    /// This is a kernel's file, and the address is no part of what it holds.
    #[error("not in the kernel's file")]
    NotInFile,
    /// This is a kernel's file: there is no memory, and no page table.
    #[error("this is a kernel's file, not a kernel that ran")]
    DoesNotRun,
    /// The page exists but the tool that wrote the dump left it out on purpose.
    #[error("excluded by the dump filter")]
    Excluded,
    /// The page is in another part of a split dump, which was not opened.
    #[error("in another part of the split dump")]
    OtherPart,
    /// The dump's headers promise the page but the file ends before it.
    #[error("cut off: the dump file ends before this page")]
    Truncated,
    /// A page table on the way to this address could not be read; the field is its physical address.
    #[error("page table at physical {0:#x} is not in the dump")]
    PageTable(u64),
    /// A compressed page does not decompress.
    #[error("damaged page: {0}")]
    Decompress(String),
    /// On a running kernel: what is there is no RAM, and a device's registers may change by being read.
    #[error("not RAM, so not read")]
    NotRam,
    /// On a running kernel: it does not let this page be read, though it is RAM.
    #[error("the running kernel does not let it be read")]
    Refused,
    /// The operating system refused.
    #[error("I/O error: {0}")]
    Io(String),
}

impl Reason {
    /// Whether there was something that the dump lacks: not so of an address where nothing ever was.
    pub fn is_loss(&self) -> bool {
        use Reason::{Decompress, Excluded, Io, NotInDump, OtherPart, PageTable, Truncated};
        matches!(self, NotInDump | Excluded | OtherPart | Truncated | PageTable(_) | Decompress(_) | Io(_))
    }
}

/// A failed read: where, in which space, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {}address {addr:#x}: {reason}", match space { Space::Phys => "physical ", Space::Kernel => "", Space::User(_) => "user " })]
pub struct ReadError {
    /// The space that was asked.
    pub space: Space,
    /// The first address that could not be read.
    pub addr: u64,
    /// Why.
    pub reason: Reason,
}

/// A file that cannot be opened as a target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused to open or map the file.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// the file
        path: PathBuf,
        /// what the system said
        source: std::io::Error,
    },
    /// The running kernel cannot be read.
    #[error("the running kernel cannot be read: {why}")]
    Live {
        /// what is missing, and what to do
        why: String,
    },
    /// A guest cannot be reached.
    #[error("{socket}: {why}")]
    Guest {
        /// its socket
        socket: String,
        /// what is missing, and what to do
        why: String,
    },
    /// Files that are no dump together.
    #[error("{why}")]
    Set {
        /// which of them does not fit, and what to do
        why: String,
    },
    /// The file is of no format that kmdb knows.
    #[error("{path}: not a dump kmdb can read: {why}", path = path.display())]
    Format {
        /// the file
        path: PathBuf,
        /// what was found instead, and what to do
        why: String,
    },
}
