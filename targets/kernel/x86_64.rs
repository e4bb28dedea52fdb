//! Where x86-64 kernels are: what VMCOREINFO says of it, and how their page tables look.

use std::collections::HashMap;

use super::find::{Candidate, PAGE, Verdict, pages};
use super::{Evidence, Place, runs, survey};
use crate::image::Image;
use crate::mmu::Paging;
use crate::vmcoreinfo::VmCoreInfo;

/// `__START_KERNEL_map` (arch/x86/include/asm/page_64_types.h): virtual address of physical `-phys_base`.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Most that the image may take: modules start behind it.
const IMAGE_MAX: u64 = 1 << 30;
/// Where an image that KASLR did not move starts: `__START_KERNEL`, with the default `CONFIG_PHYSICAL_START`.
pub(super) const IMAGE_LINKED: u64 = IMAGE_BASE + 0x100_0000;

fn place(phys_base: i64) -> Place {
    Place {
        image_offset: IMAGE_BASE.wrapping_sub(phys_base as u64),
        image: IMAGE_BASE..IMAGE_BASE + IMAGE_MAX,
        direct: 1 << 63..=IMAGE_BASE - 1,
        direct_base: None,
    }
}

/// What VMCOREINFO says.
pub(super) fn described(info: &VmCoreInfo) -> Option<(Paging, Place)> {
    let place = place(info.number("phys_base")?);
    // One table under three names: init_level4_pgt until 65ade2f872b4 (4.13), swapper_pg_dir is a macro for it.
    let top = ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"].iter().find_map(|name| info.symbol(name))?;
    let levels = if info.number("pgtable_l5_enabled").unwrap_or(0) == 1 { 5 } else { 4 };
    let encryption = info.number("sme_mask").unwrap_or(0) as u64;
    Some((Paging::x86_64(top.wrapping_sub(place.image_offset), levels, encryption), place))
}

/// Kernels by the shape of `level3_kernel_pgt` (arch/x86/kernel/head_64.S): a table whose last two entries alone are
/// used. Entry 510 leads to the image's table, which gives `phys_base`; a page of the image whose last entry leads to
/// the table is the top one, or with five levels the one below it.
pub(super) fn by_shape(image: &dyn Image) -> Vec<Candidate> {
    let word = |page: &[u8], i: usize| page.as_chunks().0.get(i).map_or(0, |w| u64::from_le_bytes(*w));
    let shapes = pages(image, |pa, page| {
        let fits = word(page, 510) & word(page, 511) & 1 == 1 && word(page, 0) == 0 && word(page, 509) == 0;
        (fits && page[..510 * 8].iter().all(|&b| b == 0)).then_some(pa)
    });
    shapes.into_iter().filter_map(|l3| shaped(image, l3)).collect()
}

fn shaped(image: &dyn Image, l3: u64) -> Option<Candidate> {
    // Seen from level 3 alone the image is at the same place as seen from the top: the sign fills the rest.
    let paging = Paging::x86_64(l3, 3, 0);
    let place = place(vote(image, paging)?);
    let image_runs = runs(image, paging, &place);
    let first = image_runs.first()?.va.start.wrapping_sub(place.image_offset);
    let last = image_runs.last()?.va.end.wrapping_sub(place.image_offset);

    let upper = tables_above(image, first, last, &[l3]);
    let uppermost = tables_above(image, first, last, &upper);
    // Pages of processes' page tables in freed parts of the image may look the same, but head_64.S puts its tables
    // next to each other.
    let top = |tables: &[u64]| tables.iter().copied().filter(|&pa| is_top(image, pa)).min_by_key(|pa| pa.abs_diff(l3));
    let (root, levels) = match top(&uppermost) {
        Some(root) => (root, 5),
        None => (top(&upper)?, 4),
    };
    let paging = Paging::x86_64(root, levels, 0);
    let evidence = Evidence::PageTables(l3);
    let candidate = Candidate { paging, place, evidence, vmcoreinfo: None, kaslr_offset: None };
    (candidate.verdict(image) == Verdict::Confirmed).then_some(candidate)
}

/// The `phys_base` that most of the mapped image agrees on, if it is 2 MiB at least.
fn vote(image: &dyn Image, paging: Paging) -> Option<i64> {
    let mut votes: HashMap<u64, u64> = HashMap::new();
    survey(image, paging, IMAGE_BASE, IMAGE_BASE + IMAGE_MAX - 1, |m| {
        *votes.entry(m.pa.wrapping_sub(m.va.wrapping_sub(IMAGE_BASE))).or_default() += m.len;
        std::ops::ControlFlow::Continue(())
    });
    let (base, sum) = votes.into_iter().max_by_key(|&(_, sum)| sum)?;
    (sum >= 4 << 20).then_some(base as i64)
}

/// Pages of the image whose last entry leads to one of `below`.
fn tables_above(image: &dyn Image, first: u64, last: u64, below: &[u64]) -> Vec<u64> {
    let leads = |pa: &u64| {
        let mut entry = [0; 8];
        let known = image.read(pa + 511 * 8, &mut entry).is_ok();
        let entry = u64::from_le_bytes(entry);
        known && entry & 1 == 1 && below.contains(&(entry & 0x000f_ffff_ffff_f000))
    };
    (first..last).step_by(PAGE as usize).filter(leads).collect()
}

/// Whether a table maps the direct map or vmalloc too: early boot's table and the fourth level of five map the image
/// alone.
fn is_top(image: &dyn Image, table: u64) -> bool {
    let Ok(bytes) = image.bytes(table, PAGE as usize) else { return false };
    bytes.as_chunks::<8>().0.get(256..511).is_some_and(|kernel| kernel.iter().any(|entry| entry[0] & 1 == 1))
}
