//! The kernel's address space: page tables first, with short cuts for the two ranges that are linear.
//!
//! The kernel's image is one piece of physical memory at one distance from its virtual addresses; the direct map (arm64:
//! the linear map) is all of physical memory at another. Reads in either cost an addition. Both are asked of the page
//! tables, so that the short cuts give what the tables give: holes in the image, such as its freed init section, stay
//! holes.

mod aarch64;
mod find;
mod list;
mod x86_64;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range, RangeInclusive};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use find::{arch_of_memory, fits, notes_in_memory};
pub use list::FoundKernel;
pub(crate) use list::all;

use crate::error::Reason;
use crate::image::Image;
use crate::mmu::{Arch, Mapping, Paging, Tlb, Translation};
use crate::vmcoreinfo::VmCoreInfo;

/// How the kernel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The dump's headers bring the kernel's VMCOREINFO.
    Note,
    /// The kernel's own VMCOREINFO note was found in memory, at this physical address.
    Memory(u64),
    /// There is no VMCOREINFO; a table was recognised by its shape, at this physical address: `level3_kernel_pgt` on
    /// x86-64, `swapper_pg_dir` on arm64.
    PageTables(u64),
    /// Not found: it is the file of a kernel that does not run.
    File,
}

/// Where the kernel is.
#[derive(Clone, Debug)]
pub struct KernelLayout {
    /// Virtual addresses of the kernel's image, from its text to the end of its data, in whole pages as mapped.
    /// Empty if its page tables are not in the dump.
    pub image: Range<u64>,
    /// What to take from an address of the image for its physical address: `0xffffffff80000000 - phys_base` on x86-64,
    /// `kimage_voffset` on arm64.
    pub image_offset: u64,
    /// Physical address of the top page table: `init_top_pgt`, `swapper_pg_dir`.
    pub pgd: u64,
    /// Levels of page tables.
    pub levels: u8,
    /// Bytes of the smallest page.
    pub page_size: u64,
    /// Bits of a virtual address that the page tables translate.
    pub va_bits: u32,
    /// The bit that memory encryption sets in page-table entries; zero without it.
    pub encryption: u64,
    /// Where the direct map has physical address 0, if it is known. (On arm64 there may be nothing: it maps memory from
    /// its first byte on, and need not reach down to that.)
    pub direct_map: Option<u64>,
    /// How far KASLR moved the image, if it is known.
    pub kaslr_offset: Option<u64>,
    /// How all this was found.
    pub evidence: Evidence,
    /// Other kernels that were found on the way and not taken. (None are looked for where the headers say all.)
    pub others: usize,
    /// What does not fit: one sentence each.
    pub doubts: Vec<String>,
}

/// Where things are in the kernel's half, as far as its architecture and version decide.
#[derive(Clone, Debug)]
struct Place {
    /// virtual minus physical address of the image
    image_offset: u64,
    /// addresses that may be the image's
    image: Range<u64>,
    /// addresses that may be the direct map's
    direct: RangeInclusive<u64>,
    /// where the direct map has physical address 0, if the kernel says
    direct_base: Option<u64>,
}

/// Image addresses that are mapped in one piece.
struct Run {
    va: Range<u64>,
    pa: u64,
}

pub(crate) struct Kernel {
    pub paging: Paging,
    /// Found in memory; what the headers brought is kept by the target.
    pub vmcoreinfo: Option<VmCoreInfo>,
    /// What the headers brought does not fit this kernel.
    pub note_is_false: bool,
    place: Place,
    kaslr_offset: Option<u64>,
    evidence: Evidence,
    others: usize,
    doubts: Vec<String>,
    runs: Vec<Run>,
    tlb: Tlb,
    /// as the page tables have it
    direct: OnceLock<Option<u64>>,
    /// as the session said; zero if it did not
    told: AtomicU64,
}

impl Kernel {
    /// Physical address and bytes that follow in the same mapping: the way of every read.
    pub fn locate(&self, image: &dyn Image, va: u64) -> Result<(u64, u64), Reason> {
        let va = self.paging.check(va)?;
        if let Some(found) = self.linear(image, va) {
            return Ok(found);
        }
        if let Some(pa) = self.tlb.get(va) {
            return Ok((pa, 4096 - va % 4096));
        }
        match self.paging.walk(image, va) {
            Ok(to) => {
                self.tlb.put(va, to.pa);
                Ok((to.pa, to.left))
            }
            Err(Reason::PageTable(_)) if self.runs.is_empty() && self.place.image.contains(&va) => {
                Ok((va.wrapping_sub(self.place.image_offset), self.place.image.end - va))
            }
            Err(reason) => Err(reason),
        }
    }

    /// The same with the rights, which only the tables know.
    pub fn translate(&self, image: &dyn Image, va: u64) -> Result<Translation, Reason> {
        self.paging
            .walk(image, va)
            .or_else(|_| self.locate(image, va).map(|(pa, left)| Translation { pa, left, flags: None }))
    }

    /// The short cuts.
    fn linear(&self, image: &dyn Image, va: u64) -> Option<(u64, u64)> {
        if self.place.image.contains(&va) {
            let next = self.runs.partition_point(|run| run.va.start <= va);
            let run = self.runs.get(next.checked_sub(1)?)?;
            return run.va.contains(&va).then(|| (run.pa + (va - run.va.start), run.va.end - va));
        }
        if !self.place.direct.contains(&va) {
            return None;
        }
        let pa = va.checked_sub(self.direct_map(image)?)?;
        match image.state(pa) {
            (None, left) => Some((pa, left)),
            _ => None,
        }
    }

    /// Start of the direct map.
    pub fn direct_map(&self, image: &dyn Image) -> Option<u64> {
        match self.told.load(Ordering::Relaxed) {
            0 => *self.direct.get_or_init(|| direct_map(image, self.paging, &self.place)),
            told => Some(told),
        }
    }

    /// Forgets translations: a running kernel maps and unmaps.
    pub fn forget(&self) {
        self.tlb.clear();
    }

    pub fn set_direct_map(&self, base: u64) {
        self.told.store(base, Ordering::Relaxed);
    }

    pub fn layout(&self, image: &dyn Image) -> KernelLayout {
        let first = self.runs.first().map_or(0, |run| run.va.start);
        let last = self.runs.last().map_or(0, |run| run.va.end);
        KernelLayout {
            image: first..last,
            image_offset: self.place.image_offset,
            pgd: self.paging.root,
            levels: self.paging.levels,
            page_size: self.paging.page_size(),
            va_bits: self.paging.va_bits,
            encryption: self.paging.encryption,
            direct_map: self.direct_map(image),
            kaslr_offset: self.kaslr_offset.or_else(|| match self.paging.arch {
                Arch::X86_64 => first.checked_sub(x86_64::IMAGE_LINKED),
                // Where an image is linked to has changed more than once.
                Arch::Aarch64 | Arch::Other(_) => None,
            }),
            evidence: self.evidence,
            others: self.others,
            doubts: self.doubts.clone(),
        }
    }
}

/// Most page tables that are read to find the image or the direct map.
const TABLES: usize = 1 << 14;

/// Shows mappings until the visitor stops or the budget of tables is used up.
fn survey(image: &dyn Image, paging: Paging, first: u64, last: u64, mut visit: impl FnMut(Mapping) -> ControlFlow<()>) {
    let left = std::cell::Cell::new(TABLES);
    let budget = || {
        left.set(left.get().saturating_sub(1));
        left.get() > 0
    };
    paging.each(image, first..=last, &budget, &mut visit);
}

/// The parts of the image: all that is mapped at its distance, up to a gap that no image has.
fn runs(image: &dyn Image, paging: Paging, place: &Place) -> Vec<Run> {
    const GAP: u64 = 32 << 20;
    let mut runs: Vec<Run> = Vec::new();
    survey(image, paging, place.image.start, place.image.end.wrapping_sub(1), |m| {
        if m.va.wrapping_sub(m.pa) != place.image_offset {
            return ControlFlow::Continue(());
        }
        match runs.last_mut() {
            Some(last) if last.va.end == m.va => last.va.end += m.len,
            Some(last) if m.va - last.va.end > GAP => return ControlFlow::Break(()),
            _ => runs.push(Run { va: m.va..m.va + m.len, pa: m.pa }),
        }
        ControlFlow::Continue(())
    });
    runs
}

/// Where the direct map has physical address 0. If the kernel says so, and the tables agree that it has the top one
/// there, that is it. Else it is the lowest region whose pages all lie at the same distance, a round one, from their
/// physical memory: on x86-64 KASLR moves it by such steps (arch/x86/mm/kaslr.c) and keeps it below vmalloc and vmemmap;
/// on arm64 it has one half for itself. A single page elsewhere may lie at such a distance by chance; 32 MiB do not.
fn direct_map(image: &dyn Image, paging: Paging, place: &Place) -> Option<u64> {
    const ENOUGH: u64 = 32 << 20;
    const AT_LEAST: u64 = 4 << 20;
    if let Some(base) = place.direct_base
        && paging.walk(image, base.wrapping_add(paging.root)).is_ok_and(|to| to.pa == paging.root)
    {
        return Some(base);
    }
    let align = match paging.arch {
        Arch::X86_64 | Arch::Other(_) => 1 << 30,
        // The least that ARM64_MEMSTART_ALIGN (arch/arm64/include/asm/kernel-pgtable.h) has ever been.
        Arch::Aarch64 => 1 << 27,
    };
    let mut votes: HashMap<u64, u64> = HashMap::new();
    let mut winner = None;
    survey(image, paging, *place.direct.start(), *place.direct.end(), |m| {
        let base = m.va.wrapping_sub(m.pa);
        if !base.is_multiple_of(align) {
            return ControlFlow::Continue(());
        }
        let sum = votes.entry(base).or_default();
        *sum += m.len;
        if *sum < ENOUGH {
            return ControlFlow::Continue(());
        }
        winner = Some(base);
        ControlFlow::Break(())
    });
    winner.or_else(|| votes.into_iter().filter(|&(_, sum)| sum >= AT_LEAST).max_by_key(|&(_, sum)| sum).map(|(b, _)| b))
}

/// Bytes of physical memory that the kernel maps directly: tells the kernel that crashed, which maps all memory, from
/// the crash kernel beside it, which was given a corner.
fn reach(image: &dyn Image, paging: Paging, place: &Place) -> u64 {
    let Some(base) = direct_map(image, paging, place) else { return 0 };
    let mut sum = 0u64;
    survey(image, paging, (*place.direct.start()).max(base), *place.direct.end(), |m| {
        if m.va.wrapping_sub(m.pa) == base {
            sum = sum.saturating_add(m.len);
        }
        ControlFlow::Continue(())
    });
    sum
}
