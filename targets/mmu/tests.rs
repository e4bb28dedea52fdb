//! arm64's page tables in every form: made by the Arm ARM's rules, and read back.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use super::*;
use crate::image::{Fault, Missing};

/// Physical memory of words.
#[derive(Default)]
struct Memory(BTreeMap<u64, u64>);

impl Image for Memory {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Fault> {
        for (pa, word) in (pa..).step_by(8).zip(buf.chunks_mut(8)) {
            word.copy_from_slice(&self.0.get(&pa).copied().unwrap_or(0).to_le_bytes());
        }
        Ok(())
    }
    fn state(&self, _: u64) -> (Option<Reason>, u64) {
        (None, 1 << 12)
    }
    fn ranges(&self) -> &[Range<u64>] {
        &[]
    }
    fn missing(&self) -> Missing {
        Missing::default()
    }
}

/// A kernel page's attributes: read-only and code, or data.
const TEXT: u64 = 1 << 54 | 1 << 7 | 1 << 10;
const DATA: u64 = 3 << 53 | 1 << 10;
const CONTIGUOUS: u64 = 1 << 52;

const WHERE_TABLES_ARE: u64 = 0x40_0000_0000;

/// Tables under construction.
struct Tables {
    memory: Memory,
    paging: Paging,
    next: u64,
}

impl Tables {
    fn new(page_shift: u32, va_bits: u32) -> Tables {
        let paging = Paging::aarch64(WHERE_TABLES_ARE, page_shift, va_bits).unwrap();
        Tables { memory: Memory::default(), paging, next: WHERE_TABLES_ARE + paging.page_size() }
    }

    /// The bits of an entry that hold an address, by D8.3's figures.
    fn address(&self, pa: u64) -> u64 {
        match (self.paging.page_shift, self.paging.va_bits) {
            (16, _) => pa & 0x0000_ffff_ffff_0000 | pa >> 48 << 12,
            (_, 52) => pa & 0x0003_ffff_ffff_f000 | (pa >> 50 & 3) << 8,
            _ => pa & 0x0000_ffff_ffff_f000,
        }
    }

    /// Maps what an entry of `level` covers.
    fn map(&mut self, top: u64, va: u64, pa: u64, level: u8, attributes: u64) {
        let bits = self.paging.page_shift - 3;
        let mut table = top;
        for at in (level..=self.paging.levels).rev() {
            let shift = self.paging.page_shift + bits * (u32::from(at) - 1);
            let width = bits.min(self.paging.va_bits - shift);
            let slot = table + 8 * (va >> shift & ((1 << width) - 1));
            if at == level {
                let kind = if level == 1 { 3 } else { 1 };
                self.memory.0.insert(slot, self.address(pa) | attributes | kind);
            } else if let Some(&entry) = self.memory.0.get(&slot) {
                table = entry & 0x0000_ffff_ffff_f000;
            } else {
                let next = self.next;
                self.next += self.paging.page_size();
                self.memory.0.insert(slot, self.address(next) | 3);
                table = next;
            }
        }
    }
}

/// Granule, address bits, levels, and the highest physical bit.
const FORMS: [(u32, u32, u8, u32); 9] = [
    (12, 39, 3, 47),
    (12, 48, 4, 47),
    (12, 52, 5, 51),
    (14, 36, 2, 47),
    (14, 47, 3, 47),
    (14, 48, 4, 47),
    (14, 52, 4, 51),
    (16, 42, 2, 51),
    (16, 52, 3, 51),
];

#[test]
fn arm64_in_every_granule_and_width() {
    for (page_shift, va_bits, levels, high) in FORMS {
        let mut tables = Tables::new(page_shift, va_bits);
        assert_eq!(tables.paging.levels, levels, "{page_shift} {va_bits}");
        let page = 1u64 << page_shift;
        let start = 0u64.wrapping_sub(1 << va_bits);
        let (text, data, block) = (start + 7 * page, 0u64.wrapping_sub(3 * page), start + (1 << (va_bits - 1)));
        let block_len = page << (page_shift - 3);
        let pa = |low: u64| 1 << high | 1 << 40 | low;
        let root = tables.paging.root;
        tables.map(root, text, pa(3 * page), 1, TEXT);
        tables.map(root, text + page, pa(4 * page), 1, TEXT | CONTIGUOUS);
        tables.map(root, data, pa(9 * page), 1, DATA);
        tables.map(root, block, pa(0), 2, DATA);
        // a process, with a top table as small as it may be and not at the start of a page
        let user_top = WHERE_TABLES_ARE - 64;
        let small = va_bits == 48 && page_shift == 14;
        if small {
            tables.map(user_top, page, pa(11 * page), 1, 1 << 53 | 1 << 6 | 1 << 7);
        }

        let (paging, memory) = (tables.paging, &tables.memory);
        let walk = |va: u64| paging.walk(memory, va);
        for (va, to, left, flags) in [
            (text + 8, pa(3 * page) + 8, page - 8, Flags { writable: false, exec: true, user: false }),
            (text + page, pa(4 * page), page, Flags { writable: false, exec: true, user: false }),
            (data, pa(9 * page), page, Flags { writable: true, exec: false, user: false }),
            (block + page, pa(page), block_len - page, Flags { writable: true, exec: false, user: false }),
        ] {
            let expected = Translation { pa: to, left, flags: Some(flags) };
            assert_eq!(walk(va), Ok(expected), "{page_shift} {va_bits} {va:#x}");
            // the top byte may hold a tag
            assert_eq!(walk(va & !(0xf << 56) | 3 << 56), Ok(expected), "{va:#x}");
        }
        assert_eq!(walk(text + 2 * page), Err(Reason::NotMapped));
        assert_eq!(walk(page), Err(Reason::NotMapped), "nothing in the lower half without a process");
        if va_bits < 52 {
            assert_eq!(walk(text & !(1 << 52)), Err(Reason::NotCanonical));
        }
        if small {
            let to = paging.of_process(user_top).walk(memory, 0xab << 56 | page).unwrap();
            assert_eq!((to.pa, to.flags), (pa(11 * page), Some(Flags { writable: false, exec: true, user: true })));
        }
        let mut seen = Vec::new();
        paging.each(memory, 0..=u64::MAX, &|| true, &mut |m| {
            seen.push((m.va, m.pa, m.len));
            ControlFlow::Continue(())
        });
        let all = [(text, pa(3 * page), 2 * page), (block, pa(0), block_len), (data, pa(9 * page), page)];
        assert_eq!(seen, all, "{page_shift} {va_bits}: neighbours are one");
        // as a damaged mapping has it
        let nothing = text + page..=text;
        let none = paging.each(memory, nothing, &|| true, &mut |_| ControlFlow::Break(()));
        assert!(!none.stopped);
    }
}

#[test]
fn arm64_entries_that_lead_nowhere() {
    let mut tables = Tables::new(12, 48);
    let root = tables.paging.root;
    let va = 0xffff_8000_0000_0000;
    tables.map(root, va, 0x1000, 1, DATA);
    // reserved: a block where only pages are, and a block at the top of four levels
    let last = *tables.memory.0.iter().find(|(_, entry)| **entry & DATA == DATA).unwrap().0;
    tables.memory.0.insert(last, 0x1000 | DATA | 1);
    assert_eq!(tables.paging.walk(&tables.memory, va), Err(Reason::NotMapped));
    tables.memory.0.insert(root + 8 * 511, 1);
    assert_eq!(tables.paging.walk(&tables.memory, u64::MAX), Err(Reason::NotMapped));
    // what a table denies, all below are denied
    tables.memory.0.insert(last, 0x1000 | 1 << 6 | 3);
    let flags = |tables: &Tables| tables.paging.walk(&tables.memory, va).unwrap().flags.unwrap();
    assert_eq!(flags(&tables), Flags { writable: true, exec: true, user: true });
    *tables.memory.0.get_mut(&(root + 8 * 256)).unwrap() |= 1 << 62;
    assert!(!flags(&tables).writable);
    // read-only until it is written to
    tables.memory.0.insert(last, 0x1000 | 1 << 7 | 1 << 51 | 3);
    *tables.memory.0.get_mut(&(root + 8 * 256)).unwrap() &= !(1 << 62);
    assert!(flags(&tables).writable);
    for (shift, bits) in [(12, 53), (13, 48), (12, 10), (16, 0)] {
        assert!(Paging::aarch64(0, shift, bits).is_none(), "{shift} {bits}");
    }
}

#[test]
fn arm64_addresses_without_signature_and_tag() {
    for bits in [39, 48, 52] {
        let paging = Paging::aarch64(0, 12, bits).unwrap();
        let kernel = !0 << bits | 0x12_3456_7000 & ((1 << bits) - 1);
        // a signature may be in all unused bits but 55
        for signature in [0, 0xff2a << 48 | 1 << 55, 0x5580 << 48, 1 << 55] {
            let signed = kernel & ((1 << bits) - 1) | signature & !0 << bits | 1 << 55;
            assert_eq!(paging.canonical(signed), kernel, "{signed:#x}");
        }
        assert_eq!(paging.canonical(0xab << 56 | 0x1000), 0x1000);
        // poison is no address
        for poison in [0xdead_0000_0000_0100, 0x6b6b_6b6b_6b6b_6b6b, 0xcccc_cccc_cccc_cccc] {
            assert_eq!(paging.check(poison), Err(Reason::NotCanonical), "{bits} {poison:#x}");
        }
    }
}
