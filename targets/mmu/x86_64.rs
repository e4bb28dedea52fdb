//! What page-table entries say on x86-64 (Intel SDM volume 3, 4.5; arch/x86/include/asm/pgtable_types.h).

use super::{Entry, Flags, Paging};

/// Address bits of an entry, without the encryption bit's exception.
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// The entry maps a page at a level above the lowest.
const HUGE: u64 = 1 << 7;
const NO_EXEC: u64 = 1 << 63;

/// Reads an entry of `level` and takes from `flags` what it denies.
pub(super) fn decode(paging: Paging, entry: u64, level: u8, flags: &mut Flags) -> Entry {
    let entry = entry & !paging.encryption;
    if entry & PRESENT == 0 {
        return Entry::Absent;
    }
    flags.writable &= entry & WRITABLE != 0;
    flags.user &= entry & USER != 0;
    flags.exec &= entry & NO_EXEC == 0;
    if level == 1 || (entry & HUGE != 0 && level <= 3) {
        // In a huge page's entry bit 12 is a cache attribute: the size's alignment masks it.
        Entry::Page(entry & ADDRESS & !((1 << paging.shift(level)) - 1))
    } else {
        Entry::Table(entry & ADDRESS)
    }
}
