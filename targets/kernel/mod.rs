//! The kernel's address space: page tables first, with short cuts for the two ranges that are linear.
//!
//! The kernel's image is one piece of physical memory, moved by `phys_base`; the direct map is all of physical memory,
//! moved by `page_offset_base`. Reads in either cost an addition. Both are asked of the page tables, so that the short
//! cuts give what the tables give: holes in the image, such as its freed init section, stay holes.

mod find;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use find::notes_in_memory;

use crate::error::Reason;
use crate::image::Image;
use crate::mmu::{Mapping, Paging, Tlb, Translation};
use crate::vmcoreinfo::VmCoreInfo;

/// `__START_KERNEL_map` (arch/x86/include/asm/page_64_types.h): virtual address of physical `-phys_base`.
pub(crate) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Most that the image may take: modules start behind it.
const IMAGE_MAX: u64 = 1 << 30;
/// Where an image that KASLR did not move starts: `__START_KERNEL`, with the default `CONFIG_PHYSICAL_START`.
const IMAGE_LINKED: u64 = IMAGE_BASE + 0x100_0000;

/// How the kernel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The dump's headers bring the kernel's VMCOREINFO.
    Note,
    /// The kernel's own VMCOREINFO note was found in memory, at this physical address.
    Memory(u64),
    /// There is no VMCOREINFO; `level3_kernel_pgt` was recognised by its shape, at this physical address.
    PageTables(u64),
}

/// Where the kernel is.
#[derive(Clone, Debug)]
pub struct KernelLayout {
    /// Virtual addresses of the kernel's image, from its text to the end of its data, in whole pages as mapped.
    /// Empty if its page tables are not in the dump.
    pub image: Range<u64>,
    /// `phys_base`: what to add to `va - 0xffffffff80000000` for the physical address of an image address.
    pub phys_base: i64,
    /// Physical address of the top page table, `init_top_pgt`.
    pub pgd: u64,
    /// Levels of page tables: four or five.
    pub levels: u8,
    /// The bit that memory encryption sets in page-table entries; zero without it.
    pub encryption: u64,
    /// Start of the direct map, if it is known.
    pub direct_map: Option<u64>,
    /// How far KASLR moved the image.
    pub kaslr_offset: Option<u64>,
    /// How all this was found.
    pub evidence: Evidence,
    /// Other kernels that were found on the way and not taken. (None are looked for where the headers say all.)
    pub others: usize,
    /// What does not fit: one sentence each.
    pub doubts: Vec<String>,
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
    phys_base: i64,
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
        self.paging.check(va)?;
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
            Err(Reason::PageTable(_)) if self.runs.is_empty() && in_image(va) => {
                Ok((image_pa(va, self.phys_base), IMAGE_BASE + IMAGE_MAX - va))
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
        if va >= IMAGE_BASE {
            let next = self.runs.partition_point(|run| run.va.start <= va);
            let run = self.runs.get(next.checked_sub(1)?)?;
            return run.va.contains(&va).then(|| (run.pa + (va - run.va.start), run.va.end - va));
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
            0 => *self.direct.get_or_init(|| direct_map(image, self.paging)),
            told => Some(told),
        }
    }

    pub fn set_direct_map(&self, base: u64) {
        self.told.store(base, Ordering::Relaxed);
    }

    pub fn layout(&self, image: &dyn Image) -> KernelLayout {
        let first = self.runs.first().map_or(0, |run| run.va.start);
        let last = self.runs.last().map_or(0, |run| run.va.end);
        KernelLayout {
            image: first..last,
            phys_base: self.phys_base,
            pgd: self.paging.root,
            levels: self.paging.levels,
            encryption: self.paging.encryption,
            direct_map: self.direct_map(image),
            kaslr_offset: self.kaslr_offset.or_else(|| first.checked_sub(IMAGE_LINKED)),
            evidence: self.evidence,
            others: self.others,
            doubts: self.doubts.clone(),
        }
    }
}

fn in_image(va: u64) -> bool {
    (IMAGE_BASE..IMAGE_BASE + IMAGE_MAX).contains(&va)
}

/// `__phys_addr_nodebug()` of an image address.
fn image_pa(va: u64, phys_base: i64) -> u64 {
    va.wrapping_sub(IMAGE_BASE).wrapping_add_signed(phys_base)
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

/// The parts of the image: all that is mapped where `phys_base` says, up to a gap that no image has.
fn runs(image: &dyn Image, paging: Paging, phys_base: i64) -> Vec<Run> {
    const GAP: u64 = 32 << 20;
    let mut runs: Vec<Run> = Vec::new();
    survey(image, paging, IMAGE_BASE, IMAGE_BASE + IMAGE_MAX - 1, |m| {
        if m.pa != image_pa(m.va, phys_base) {
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

/// The direct map is the lowest region whose pages all lie at the same distance, a multiple of 1 GiB, from their
/// physical memory: KASLR moves it by such steps (arch/x86/mm/kaslr.c) and keeps it below vmalloc and vmemmap. A single
/// page elsewhere may lie at such a distance by chance; 32 MiB do not.
fn direct_map(image: &dyn Image, paging: Paging) -> Option<u64> {
    const ALIGN: u64 = 1 << 30;
    const ENOUGH: u64 = 32 << 20;
    const AT_LEAST: u64 = 4 << 20;
    let mut votes: HashMap<u64, u64> = HashMap::new();
    let mut winner = None;
    survey(image, paging, 1 << 63, IMAGE_BASE - 1, |m| {
        let base = m.va.wrapping_sub(m.pa);
        if !base.is_multiple_of(ALIGN) {
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
fn reach(image: &dyn Image, paging: Paging) -> u64 {
    let Some(base) = direct_map(image, paging) else { return 0 };
    let mut sum = 0u64;
    survey(image, paging, base, IMAGE_BASE - 1, |m| {
        if m.va.wrapping_sub(m.pa) == base {
            sum = sum.saturating_add(m.len);
        }
        ControlFlow::Continue(())
    });
    sum
}
