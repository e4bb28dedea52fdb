//! Page-table entries: what their bits say.
//!
//! ```console
//! > ::pte 8000000012345867
//! PHYSICAL         PAGE FLAGS
//! 0000000012345000 yes  PRESENT,RW,USER,ACCESSED,DIRTY,SOFTW4,NX
//! ```

use engine::{
    Session,
    targets::{Arch, Step},
};

/// Bits of x86-64's entries (arch/x86/include/asm/pgtable_types.h).
const X86: [(u32, &str); 17] = [
    (0, "PRESENT"),
    (1, "RW"),
    (2, "USER"),
    (3, "PWT"),
    (4, "PCD"),
    (5, "ACCESSED"),
    (6, "DIRTY"),
    (7, "PSE"),
    (8, "GLOBAL"),
    (9, "SPECIAL"),
    (10, "UFFD_WP"),
    (11, "SOFT_DIRTY"),
    (52, "SOFTW5"),
    (57, "DEVMAP"),
    (58, "SAVED_DIRTY"),
    (59, "PKEY0"),
    (63, "NX"),
];
/// Bits of arm64's (arch/arm64/include/asm/pgtable-hwdef.h and pgtable-prot.h).
const ARM: [(u32, &str); 14] = [
    (0, "VALID"),
    (1, "TABLE"),
    (6, "USER"),
    (7, "RDONLY"),
    (10, "AF"),
    (11, "NG"),
    (50, "GP"),
    (51, "DBM"),
    (52, "CONT"),
    (53, "PXN"),
    (54, "UXN"),
    (55, "DIRTY"),
    (56, "SPECIAL"),
    (57, "DEVMAP"),
];

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// physical address of the page, or of the next table; 0 if it has none
    pub physical: u64,
    /// whether something is mapped
    pub present: bool,
    /// its bits by name
    pub flags: Vec<&'static str>,
}

/// The name of a table's level, which is counted from the lowest, 1.
pub fn level(step: &Step, levels: u8) -> &'static str {
    match (step.level, levels) {
        (level, levels) if level == levels => "PGD",
        (1, _) => "PTE",
        (2, _) => "PMD",
        (3, _) => "PUD",
        _ => "P4D",
    }
}

/// Takes an entry apart, as the kernel's architecture has it. Addresses of more than 48 bits on arm64 have their upper
/// ones elsewhere: those are left out.
pub fn decode(session: &Session, entry: u64) -> Entry {
    /// bits 12 to 51
    const X86_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// bits 12 to 47
    const ARM_ADDRESS: u64 = 0x0000_ffff_ffff_f000;
    let arm = session.target.arch() == Arch::Aarch64;
    let names = |all: &[(u32, &'static str)]| -> Vec<&'static str> {
        all.iter().filter(|(bit, _)| entry >> bit & 1 == 1).map(|(_, n)| *n).collect()
    };
    let (flags, mask) = if arm { (names(&ARM), ARM_ADDRESS) } else { (names(&X86), X86_ADDRESS) };
    // a page that nobody may touch is there nevertheless
    let shut = !arm && entry & 0x101 == 0x100;
    let present = entry & 1 == 1 || shut;
    let flags = if shut { vec!["PROTNONE"] } else { flags };
    let physical = if present { entry & mask & !(session.target.page_size() - 1) } else { 0 };
    Entry { physical, present, flags: if present { flags } else { Vec::new() } }
}

/// Of an entry of x86-64 whose page is not there: the number of the swap area, and the page in it
/// (arch/x86/include/asm/pgtable_64.h: the place is stored inverted). Numbers from about 24 on are no areas: the kernel
/// marks pages that move, or that hardware found broken, with them.
pub fn swapped(session: &Session, entry: u64) -> Option<(u64, u64)> {
    if session.target.arch() != Arch::X86_64 || entry == 0 || entry & 0x101 != 0 {
        return None;
    }
    Some((entry >> 59, !entry << 5 >> 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names() {
        let step = |level| Step { level, at: 0, entry: 0 };
        assert_eq!([5, 4, 3, 2, 1].map(|l| level(&step(l), 5)), ["PGD", "P4D", "PUD", "PMD", "PTE"]);
        assert_eq!([4, 3, 2, 1].map(|l| level(&step(l), 4)), ["PGD", "PUD", "PMD", "PTE"]);
    }
}
