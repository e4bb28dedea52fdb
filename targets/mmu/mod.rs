//! Page tables: from a virtual address to a physical one.
//!
//! The walk is the same on every architecture: a tree of tables of 8-byte entries, each level indexed by some bits of
//! the address. What an entry *says* is the architecture's business: one file each, such as `x86_64`.

mod tlb;
mod visit;
mod x86_64;

pub(crate) use tlb::Tlb;
pub use visit::{Mapping, Outcome};

use crate::error::Reason;
use crate::image::Image;

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// x86-64.
    X86_64,
}

impl Arch {
    /// By `e_machine` of an ELF header.
    pub(crate) fn from_elf(machine: u16) -> Option<Arch> {
        (machine == 62).then_some(Arch::X86_64)
    }

    /// The name that `uname -m` prints.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
        }
    }

    /// Bytes in the smallest page.
    pub fn page_size(self) -> u64 {
        match self {
            Arch::X86_64 => 4096,
        }
    }
}

/// What a mapping allows: the rights of all levels of the walk together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flags {
    /// It may be written to.
    pub writable: bool,
    /// It may be executed.
    pub exec: bool,
    /// User code may touch it.
    pub user: bool,
}

impl Flags {
    /// What the top level starts from.
    const ALL: Flags = Flags { writable: true, exec: true, user: true };
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub pa: u64,
    /// Bytes from here to the end of the page (4 KiB, 2 MiB or 1 GiB) that maps it.
    pub left: u64,
    /// The rights. `None` where the page tables are not in the dump and the address was computed instead, which is
    /// possible for the kernel's image and the direct map.
    pub flags: Option<Flags>,
}

/// What a page-table entry says.
enum Entry {
    /// Nothing is mapped.
    Absent,
    /// The table of the next level is at this physical address.
    Table(u64),
    /// A page starts at this physical address.
    Page(u64),
}

/// The page tables of one address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    pub arch: Arch,
    /// Physical address of the top table.
    pub root: u64,
    /// Levels of tables: the top one has this number, the bottom one has 1.
    pub levels: u8,
    /// Bits in an entry's address that are no address: memory encryption's.
    pub encryption: u64,
}

impl Paging {
    /// Index bits of each level.
    const BITS: u32 = 9;
    const PAGE_SHIFT: u32 = 12;
    /// Entries in a table.
    const ENTRIES: u64 = 1 << Self::BITS;
    /// Bytes in a table.
    const TABLE: usize = 8 << Self::BITS;

    /// The same tables' format with another top table.
    pub fn with_root(self, root: u64) -> Paging {
        Paging { root: root & x86_64::ADDRESS, ..self }
    }

    /// How far the index of `level` is shifted, which is also the width of what one entry maps.
    fn shift(level: u8) -> u32 {
        Self::PAGE_SHIFT + Self::BITS * (u32::from(level) - 1)
    }

    /// `va` with the bits above the address width made equal to the highest one below.
    fn canonical(self, va: u64) -> u64 {
        let unused = 64 - Self::shift(self.levels + 1);
        (((va << unused) as i64) >> unused) as u64
    }

    /// Refuses addresses that the hardware refuses before it looks at any table.
    pub fn check(self, va: u64) -> Result<(), Reason> {
        if self.canonical(va) == va { Ok(()) } else { Err(Reason::NotCanonical) }
    }

    fn decode(self, entry: u64, level: u8, flags: &mut Flags) -> Entry {
        match self.arch {
            Arch::X86_64 => x86_64::decode(entry & !self.encryption, level, flags),
        }
    }

    /// Walks the tables for `va`.
    pub fn walk(self, image: &dyn Image, va: u64) -> Result<Translation, Reason> {
        self.check(va)?;
        let mut table = self.root;
        let mut flags = Flags::ALL;
        for level in (1..=self.levels).rev() {
            let shift = Self::shift(level);
            let index = (va >> shift) & (Self::ENTRIES - 1);
            let mut entry = [0; 8];
            image.read(table.wrapping_add(8 * index), &mut entry).map_err(|_| Reason::PageTable(table))?;
            match self.decode(u64::from_le_bytes(entry), level, &mut flags) {
                Entry::Absent => return Err(Reason::NotMapped),
                Entry::Table(next) => table = next,
                Entry::Page(start) => {
                    let inside = va & ((1 << shift) - 1);
                    return Ok(Translation { pa: start | inside, left: (1 << shift) - inside, flags: Some(flags) });
                }
            }
        }
        Err(Reason::NotMapped)
    }
}
