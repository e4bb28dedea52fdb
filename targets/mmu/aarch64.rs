//! What page-table entries say on arm64 (Arm ARM, D8.3; arch/arm64/include/asm/pgtable-hwdef.h).
//!
//! Two tables share the work: addresses with bit 55 set are the kernel's and go through TTBR1, the others are a
//! process's and go through TTBR0. The granule (4, 16 or 64 KiB) and the width of addresses are the kernel's choice, and
//! with them the number of levels and the size of the top table, which may be a few entries only. The contiguous bit
//! changes nothing for a walk: each of the entries it joins is complete.

use super::{Entry, Flags, Paging};

const VALID: u64 = 1;
/// A table above the lowest level, a page in it. Without it the entry is a block, or in the lowest level nothing.
const TABLE: u64 = 1 << 1;
/// `AP[1]`: user code may touch it.
const USER: u64 = 1 << 6;
/// `AP[2]`: read-only; with [`DIRTY_MODIFIER`] only until the first write.
const READ_ONLY: u64 = 1 << 7;
/// `DBM`, which is Linux's PTE_WRITE.
const DIRTY_MODIFIER: u64 = 1 << 51;
const KERNEL_NO_EXEC: u64 = 1 << 53;
const USER_NO_EXEC: u64 = 1 << 54;
/// `APTable`: what all below a table are denied.
const TABLE_NO_USER: u64 = 1 << 61;
const TABLE_READ_ONLY: u64 = 1 << 62;
/// The highest level of blocks: 1 GiB with pages of 4 KiB; 512 GiB where addresses have 52 bits (FEAT_LPA2).
const HIGHEST_BLOCK: u8 = 3;

/// Reads an entry of `level` and takes from `flags` what it denies.
pub(super) fn decode(paging: Paging, entry: u64, level: u8, flags: &mut Flags) -> Entry {
    if entry & VALID == 0 {
        return Entry::Absent;
    }
    let address = address(paging, entry);
    if level > 1 && entry & TABLE != 0 {
        flags.user &= entry & TABLE_NO_USER == 0;
        flags.writable &= entry & TABLE_READ_ONLY == 0;
        return Entry::Table(address);
    }
    let highest = HIGHEST_BLOCK + u8::from(paging.wide_entries());
    if (level == 1 && entry & TABLE == 0) || level > highest {
        return Entry::Absent; // reserved
    }
    // Linux denies execution to one side or both; user code that may not be read (PROT_EXEC alone) has no AP[1].
    let exec_by_user = entry & USER_NO_EXEC == 0;
    flags.user &= entry & USER != 0 || exec_by_user;
    flags.exec &= exec_by_user || entry & KERNEL_NO_EXEC == 0;
    flags.writable &= entry & READ_ONLY == 0 || entry & DIRTY_MODIFIER != 0;
    Entry::Page(address & !((1 << paging.shift(level)) - 1))
}

/// The physical address in an entry. Bits above 47 have places of their own: with 64 KiB pages, bits 12 to 15, which are
/// zero on processors without FEAT_LPA; with smaller ones and FEAT_LPA2, 48 and 49 are themselves and 50 and 51 in bits
/// 8 and 9, which otherwise tell shareability.
fn address(paging: Paging, entry: u64) -> u64 {
    let page = !0 << paging.page_shift;
    let bits = |low: u32, count: u32, to: u32| (entry >> low & ((1 << count) - 1)) << to;
    if paging.page_shift == 16 {
        (entry & page & ((1 << 48) - 1)) | bits(12, 4, 48)
    } else if paging.wide_entries() {
        (entry & page & ((1 << 50) - 1)) | bits(8, 2, 50)
    } else {
        entry & page & ((1 << 48) - 1)
    }
}
