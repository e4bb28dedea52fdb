//! Where arm64 kernels are: what VMCOREINFO says of it, and how their page tables look.
//!
//! The kernel's half has two halves of its own. Since Linux 5.4 (14c127c957c1) the lower one is the linear map and the
//! upper one holds the image, modules, vmalloc and vmemmap; before, it was the other way round. Which it is shows by where
//! the image is.

use std::ops::ControlFlow;

use super::find::{Candidate, Verdict, pages};
use super::{Evidence, Place, survey};
use crate::image::Image;
use crate::mmu::{Arch, Paging};
use crate::vmcoreinfo::VmCoreInfo;

/// How far from its top page table the image may reach, either way.
const IMAGE_REACH: u64 = 256 << 20;

/// Where things are, given where the image is.
fn place(paging: Paging, image_offset: u64) -> Place {
    let top = paging.root.wrapping_add(image_offset);
    let start = paging.canonical(1 << 55);
    // PAGE_END: kernels built for 52 bits can do with fewer (VA_BITS_MIN), and so use only a corner for all but the
    // linear map.
    let least = match (paging.va_bits, paging.page_shift) {
        (52, 14) => 47,
        (bits, _) => bits.min(48),
    };
    let end = !0 << (least - 1);
    let is_upper = top >= end;
    let image = if is_upper { end..u64::MAX } else { start..end };
    let direct = if is_upper { start..=end - 1 } else { end..=u64::MAX };
    let (first, last) = (top.saturating_sub(IMAGE_REACH), top.saturating_add(IMAGE_REACH));
    Place { image_offset, image: first.max(image.start)..last.min(image.end), direct, direct_base: None }
}

/// What VMCOREINFO says (arch/arm64/kernel/vmcore_info.c).
pub(super) fn described(info: &VmCoreInfo) -> Option<(Paging, Place)> {
    let page_size: u64 = info.get("PAGESIZE")?.parse().ok()?;
    let page_shift = Arch::Aarch64.has_pages_of(page_size).then(|| page_size.trailing_zeros())?;
    let built_for = u32::try_from(info.number("VA_BITS")?).ok().filter(|bits| (36..=52).contains(bits))?;
    // A kernel built for 52 bits runs on processors with fewer. With 64 KiB pages its top table stays as it is; with
    // smaller ones it does without the upper level, and tells by TCR_EL1_T1SZ (since Linux 5.9).
    let in_use = info.number("TCR_EL1_T1SZ").and_then(|t1sz| u32::try_from(64i64.checked_sub(t1sz)?).ok());
    let va_bits = if page_shift == 16 { built_for } else { in_use.unwrap_or(built_for) };
    let image_offset = info.number("kimage_voffset")? as u64;
    let root = info.symbol("swapper_pg_dir")?.wrapping_sub(image_offset);
    let paging = Paging::aarch64(root, page_shift, va_bits)?;
    let place = place(paging, image_offset);
    // PAGE_OFFSET is where PHYS_OFFSET is, both as the kernel was built. It may lie below all memory.
    let is_lower = *place.direct.end() < u64::MAX;
    let page_offset = !0 << if is_lower { built_for } else { built_for - 1 };
    let direct_base = info.number("PHYS_OFFSET").map(|phys| u64::wrapping_sub(page_offset, phys as u64));
    Some((paging, Place { direct_base, ..place }))
}

/// Kernels by `swapper_pg_dir`: a table of tables that maps itself at the same distance as a long stretch of code. (The
/// image's header, with its magic number, is at a page that kernels of today give back once they run.)
pub(super) fn by_shape(image: &dyn Image) -> Vec<Candidate> {
    let with = |page_shift| pages(image, |pa, page| swapper(image, pa, page, page_shift));
    [12, 14, 16].into_iter().map(with).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The kernel whose `swapper_pg_dir` is at `root`; `page` are the first bytes there.
fn swapper(image: &dyn Image, root: u64, page: &[u8], page_shift: u32) -> Option<Candidate> {
    let widths: &[u32] = match page_shift {
        12 => &[48, 39, 52],
        14 => &[47, 48, 52, 36],
        _ => &[42, 48, 52],
    };
    if !root.is_multiple_of(1 << page_shift) || !is_table_of_tables(image, page) {
        return None;
    }
    let page = image.bytes(root, 1 << page_shift).ok()?;
    let used = page.as_chunks().0.iter().filter(|&&entry| entry != [0u8; 8]).count();
    // one for the linear map, one for the image
    if used < 2 || !is_table_of_tables(image, &page) {
        return None;
    }
    widths.iter().find_map(|&va_bits| {
        let paging = Paging::aarch64(root, page_shift, va_bits)?;
        let place = place(paging, image_offset(image, paging)?);
        let evidence = Evidence::PageTables(root);
        let candidate = Candidate { paging, place, evidence, vmcoreinfo: None, kaslr_offset: None };
        (candidate.verdict(image) == Verdict::Confirmed).then_some(candidate)
    })
}

/// Whether all entries that are used are such of tables in the dump: of no attributes, but for what a table denies and
/// the access flag that Linux sets since 6.10.
fn is_table_of_tables(image: &dyn Image, page: &[u8]) -> bool {
    const TABLE: u64 = 3;
    const ALLOWED: u64 = 0xf800_ffff_ffff_f403;
    page.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).all(|entry| {
        let is_table = entry & TABLE == TABLE && entry & !ALLOWED == 0;
        entry == 0 || (is_table && image.state(entry & 0x0000_ffff_ffff_f000).0.is_none())
    })
}

/// Distance of the image's addresses from its memory: that of a long stretch of code, at which the top table is too. (The
/// linear map has the same memory, but never executable.)
fn image_offset(image: &dyn Image, paging: Paging) -> Option<u64> {
    const LONG: u64 = 1 << 20;
    let start = paging.canonical(1 << 55);
    let middle = start | 1 << (paging.va_bits - 1);
    // first where kernels of today have it
    [(middle, u64::MAX), (start, middle - 1)].into_iter().find_map(|(first, last)| {
        let mut found = None;
        survey(image, paging, first, last, |m| {
            let offset = m.va.wrapping_sub(m.pa);
            let maps_itself =
                || paging.walk(image, paging.root.wrapping_add(offset)).is_ok_and(|to| to.pa == paging.root);
            if m.flags.exec && m.len >= LONG && maps_itself() {
                found = Some(offset);
            }
            // a process's tables, which have pages of its own only, need not be looked at to their end
            if found.is_some() || m.flags.user { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    })
}
