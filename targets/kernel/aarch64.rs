//! Where arm64 kernels are: what VMCOREINFO says of it, and how their image and page tables look.
//!
//! The kernel's half has two halves of its own. Since Linux 5.4 (14c127c957c1) the lower one is the linear map and the
//! upper one holds the image, modules, vmalloc and vmemmap; before, it was the other way round. Which it is shows by where
//! the image is.

use std::ops::ControlFlow;

use super::find::{Candidate, PAGE, Verdict, pages};
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

/// The header of an image (Documentation/arch/arm64/booting.rst).
struct Header {
    pa: u64,
    /// bytes, with the sections that are all zeros
    size: u64,
    /// bits of a page's offset, if it says
    page_shift: Option<u32>,
}

fn header(pa: u64, page: &[u8]) -> Option<Header> {
    let word = |at: usize| page.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    if page.get(0x38..0x3c)? != b"ARM\x64" {
        return None;
    }
    let (size, flags) = (word(16)?, word(24)?);
    let page_shift = match flags >> 1 & 3 {
        1 => Some(12),
        2 => Some(14),
        3 => Some(16),
        _ => None,
    };
    // The EFI stub and the boot protocol put images at multiples of 64 KiB. Elsewhere are pages of files.
    let fits = flags & 1 == 0 && (PAGE..1 << 30).contains(&size) && pa.is_multiple_of(1 << 16);
    fits.then_some(Header { pa, size, page_shift })
}

/// Kernels by their image's header, and a page of the image that is a top table: it maps itself and the image's code.
pub(super) fn by_shape(image: &dyn Image) -> Vec<Candidate> {
    /// More images than that are somebody's joke.
    const IMAGES: usize = 16;
    let mut found: Vec<Candidate> = Vec::new();
    for header in pages(image, header).into_iter().take(IMAGES) {
        for page_shift in [12, 14, 16].into_iter().filter(|&shift| header.page_shift.is_none_or(|told| told == shift)) {
            let tables = (header.pa..header.pa.saturating_add(header.size)).step_by(1 << page_shift);
            found.extend(tables.filter_map(|root| swapper(image, &header, root, page_shift)));
        }
    }
    found
}

/// The kernel whose `swapper_pg_dir` is at `root`.
fn swapper(image: &dyn Image, header: &Header, root: u64, page_shift: u32) -> Option<Candidate> {
    let widths: &[u32] = match page_shift {
        12 => &[48, 39, 52],
        14 => &[47, 48, 52, 36],
        _ => &[42, 48, 52],
    };
    widths.iter().find_map(|&va_bits| {
        let paging = Paging::aarch64(root, page_shift, va_bits)?;
        if !looks_like_a_table(image, paging) {
            return None;
        }
        let place = place(paging, image_offset(image, header, paging)?);
        let evidence = Evidence::PageTables(root);
        let candidate = Candidate { paging, place, evidence, vmcoreinfo: None, kaslr_offset: None };
        (candidate.verdict(image) == Verdict::Confirmed).then_some(candidate)
    })
}

/// Whether the top table has entries, all of them tables or blocks in the dump.
fn looks_like_a_table(image: &dyn Image, paging: Paging) -> bool {
    let mut any = false;
    let fits = |entry: u64| entry & 1 == 1 && image.state(entry & 0x0000_ffff_ffff_f000).0.is_none();
    let Ok(bytes) = image.bytes(paging.root, paging.top_size()) else { return false };
    let all = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).filter(|&entry| entry != 0).all(|entry| {
        any = true;
        fits(entry)
    });
    any && all
}

/// Distance of the image's addresses from its memory, by its code: the linear map has the same memory, but never
/// executable.
fn image_offset(image: &dyn Image, header: &Header, paging: Paging) -> Option<u64> {
    let start = paging.canonical(1 << 55);
    let middle = start | 1 << (paging.va_bits - 1);
    // first where kernels of today have it
    [(middle, u64::MAX), (start, middle - 1)].into_iter().find_map(|(first, last)| {
        let mut found = None;
        survey(image, paging, first, last, |m| {
            let inside = m.pa >= header.pa && m.pa - header.pa < header.size;
            if m.flags.exec && inside && m.len >= 1 << 18 {
                found = Some(m.va.wrapping_sub(m.pa));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    })
}
