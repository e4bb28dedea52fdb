//! Page tables: from a virtual address to a physical one.
//!
//! The walk is the same on every architecture: a tree of tables of 8-byte entries, each level indexed by some bits of
//! the address. What an entry *says* is the architecture's business: one file each, such as `x86_64`.

mod aarch64;
mod bare;
#[cfg(test)]
mod tests;
mod tlb;
mod visit;
mod x86_64;

pub use bare::BareTables;
pub(crate) use tlb::Tlb;
pub use visit::{Mapping, Outcome, Table};

use crate::error::Reason;
use crate::image::Image;
use crate::order::Order;

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// arm64, little-endian.
    Aarch64,
    /// Any other, by name: its page tables and kernels are not known, but physical memory can be read.
    Other(&'static str),
}

impl Arch {
    /// One that nothing names.
    pub(crate) const UNKNOWN: Arch = Arch::Other("unknown machine");

    /// By `e_machine` of an ELF header (include/uapi/linux/elf-em.h), its class and byte order.
    pub(crate) fn from_elf(machine: u16, order: Order) -> Arch {
        match (machine, order.wide, order.big_endian) {
            (62, true, false) => Arch::X86_64,
            (183, true, false) => Arch::Aarch64,
            (3, ..) => Arch::Other("i386"),
            (8, ..) => Arch::Other("mips"),
            (20, ..) => Arch::Other("ppc"),
            (21, _, true) => Arch::Other("ppc64"),
            (21, _, false) => Arch::Other("ppc64le"),
            (22, true, _) => Arch::Other("s390x"),
            (22, false, _) => Arch::Other("s390"),
            (40, ..) => Arch::Other("arm"),
            (43, ..) => Arch::Other("sparc64"),
            (50, ..) => Arch::Other("ia64"),
            (243, true, _) => Arch::Other("riscv64"),
            (243, false, _) => Arch::Other("riscv32"),
            (258, ..) => Arch::Other("loongarch64"),
            _ => Arch::UNKNOWN,
        }
    }

    /// Whether kmdb knows its page tables.
    pub fn is_known(self) -> bool {
        !matches!(self, Arch::Other(_))
    }

    /// The name that `uname -m` prints.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Other(name) => name,
        }
    }

    /// By that name.
    pub(crate) fn from_name(name: &[u8]) -> Arch {
        match name {
            b"x86_64" => Arch::X86_64,
            b"aarch64" => Arch::Aarch64,
            b"i386" | b"i486" | b"i586" | b"i686" => Arch::Other("i386"),
            b"ppc" => Arch::Other("ppc"),
            b"ppc64" => Arch::Other("ppc64"),
            b"ppc64le" => Arch::Other("ppc64le"),
            b"s390" => Arch::Other("s390"),
            b"s390x" => Arch::Other("s390x"),
            b"riscv32" => Arch::Other("riscv32"),
            b"riscv64" => Arch::Other("riscv64"),
            b"loongarch64" => Arch::Other("loongarch64"),
            b"mips" => Arch::Other("mips"),
            b"mips64" => Arch::Other("mips64"),
            b"ia64" => Arch::Other("ia64"),
            b"sparc64" => Arch::Other("sparc64"),
            arm if arm.starts_with(b"armv") => Arch::Other("arm"),
            _ => Arch::UNKNOWN,
        }
    }

    /// Whether the architecture has pages of so many bytes.
    pub(crate) fn has_pages_of(self, bytes: u64) -> bool {
        match self {
            Arch::X86_64 => bytes == 1 << 12,
            Arch::Aarch64 => matches!(bytes, 0x1000 | 0x4000 | 0x1_0000),
            Arch::Other(_) => bytes.is_power_of_two() && (0x1000..=0x4_0000).contains(&bytes),
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
    /// Bytes from here to the end of the page, small or large, that maps it.
    pub left: u64,
    /// The rights. `None` where the page tables are not in the dump and the address was computed instead, which is
    /// possible for the kernel's image and the direct map.
    pub flags: Option<Flags>,
}

/// An entry of a page table on the way of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// 1 for the lowest level, whose entries map the smallest pages
    pub level: u8,
    /// its physical address
    pub at: u64,
    /// what it is
    pub entry: u64,
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
    /// Physical address of the top table; on arm64 that of the upper half, which is the kernel's.
    pub root: u64,
    /// On arm64 the top table of the lower half, which is a process's.
    pub lower: Option<u64>,
    /// Levels of tables: the top one has this number, the bottom one has 1.
    pub levels: u8,
    /// Bits of an offset in the smallest page.
    pub page_shift: u32,
    /// Bits of an address that the tables translate.
    pub va_bits: u32,
    /// Bits in an entry's address that are no address: memory encryption's.
    pub encryption: u64,
}

impl Paging {
    /// x86-64's: four or five levels.
    pub fn x86_64(root: u64, levels: u8, encryption: u64) -> Paging {
        let root = root & x86_64::ADDRESS;
        let va_bits = 12 + 9 * u32::from(levels);
        Paging { arch: Arch::X86_64, root, lower: None, levels, page_shift: 12, va_bits, encryption }
    }

    /// arm64's: as many levels as the width of addresses needs. `None` if there can be no such tables.
    pub fn aarch64(root: u64, page_shift: u32, va_bits: u32) -> Option<Paging> {
        let possible = matches!(page_shift, 12 | 14 | 16) && (25..=52).contains(&va_bits);
        let levels = (va_bits.checked_sub(page_shift)?).div_ceil(page_shift - 3) as u8;
        let paging = Paging { arch: Arch::Aarch64, root, lower: None, levels, page_shift, va_bits, encryption: 0 };
        possible.then_some(paging)
    }

    /// The tables of a process, whose top one is at `root`.
    pub fn of_process(self, root: u64) -> Paging {
        match self.arch {
            Arch::X86_64 | Arch::Other(_) => Paging { root: root & x86_64::ADDRESS, ..self },
            // The top table may be as small as two entries, and is aligned to its size.
            Arch::Aarch64 => Paging { lower: Some(root & !7), ..self },
        }
    }

    /// Bytes in the smallest page, and in a table but for the top one.
    pub fn page_size(self) -> u64 {
        1 << self.page_shift
    }

    /// Entries in a table of this level.
    fn entries(self, level: u8) -> u64 {
        1 << (self.page_shift - 3).min(self.va_bits.saturating_sub(self.shift(level)))
    }

    /// How far the index of `level` is shifted, which is also the width of what one entry maps.
    fn shift(self, level: u8) -> u32 {
        self.page_shift + (self.page_shift - 3) * (u32::from(level) - 1)
    }

    /// Whether entries hold 52-bit addresses in the form of FEAT_LPA2, which Linux uses for all or nothing: where
    /// virtual addresses have 52 bits.
    fn wide_entries(self) -> bool {
        self.page_shift < 16 && self.va_bits > 48
    }

    /// `va` with all bits above the address width as the hardware wants them: x86-64 makes them equal to the highest
    /// one below. On arm64 bit 55 chooses the half; the others may hold a pointer authentication code or a tag.
    pub fn canonical(self, va: u64) -> u64 {
        match self.arch {
            Arch::X86_64 | Arch::Other(_) => (((va << (64 - self.va_bits)) as i64) >> (64 - self.va_bits)) as u64,
            Arch::Aarch64 if va >> 55 & 1 == 1 => va | !0 << self.va_bits,
            Arch::Aarch64 => va & !(!0 << self.va_bits),
        }
    }

    /// Refuses addresses that the hardware refuses before it looks at any table, and takes off what it ignores: the
    /// tag in the top byte on arm64. (Processes may always use tags, the kernel does with KASAN or MTE.)
    pub fn check(self, va: u64) -> Result<u64, Reason> {
        let full = self.canonical(va);
        let ignored = match self.arch {
            Arch::X86_64 | Arch::Other(_) => 0,
            Arch::Aarch64 => 0xff << 56,
        };
        if (full ^ va) & !ignored == 0 { Ok(full) } else { Err(Reason::NotCanonical) }
    }

    /// The top table for a canonical address.
    fn top(self, va: u64) -> Option<u64> {
        if self.arch == Arch::Aarch64 && va >> 55 & 1 == 0 { self.lower } else { Some(self.root) }
    }

    fn decode(self, entry: u64, level: u8, flags: &mut Flags) -> Entry {
        match self.arch {
            Arch::X86_64 => x86_64::decode(self, entry, level, flags),
            Arch::Other(_) => Entry::Absent,
            Arch::Aarch64 => aarch64::decode(self, entry, level, flags),
        }
    }

    /// Walks the tables for `va`.
    pub fn walk(self, image: &dyn Image, va: u64) -> Result<Translation, Reason> {
        self.follow(image, va, |_| {})
    }

    /// The way of `va` as far as it goes, entry by entry, and where it leads.
    pub fn trail(self, image: &dyn Image, va: u64) -> (Vec<Step>, Result<Translation, Reason>) {
        let mut steps = Vec::new();
        let end = self.follow(image, va, |step| steps.push(step));
        (steps, end)
    }

    /// Walks, and shows each entry on the way.
    fn follow(self, image: &dyn Image, va: u64, mut seen: impl FnMut(Step)) -> Result<Translation, Reason> {
        let va = self.check(va)?;
        let mut table = self.top(va).ok_or(Reason::NotMapped)?;
        let mut flags = Flags::ALL;
        for level in (1..=self.levels).rev() {
            let shift = self.shift(level);
            let at = table.wrapping_add(8 * ((va >> shift) & (self.entries(level) - 1)));
            let mut bytes = [0; 8];
            image.read(at, &mut bytes).map_err(|_| Reason::PageTable(table))?;
            let entry = u64::from_le_bytes(bytes);
            seen(Step { level, at, entry });
            match self.decode(entry, level, &mut flags) {
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
