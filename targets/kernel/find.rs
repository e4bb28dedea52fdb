//! Finding the kernel: by VMCOREINFO in the dump's headers, by VMCOREINFO in memory, by the shape of its page tables.
//!
//! A description is believed if the page tables it names agree with it: they must map the top table itself where the
//! description says it is.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Evidence, IMAGE_BASE, IMAGE_MAX, Kernel, image_pa, reach, runs};
use crate::error::Reason;
use crate::image::Image;
use crate::mmu::{Arch, Paging, Tlb};
use crate::open::OpenOptions;
use crate::vmcoreinfo::VmCoreInfo;

/// A kernel that might be the one.
struct Candidate {
    paging: Paging,
    phys_base: i64,
    evidence: Evidence,
    vmcoreinfo: Option<VmCoreInfo>,
    kaslr_offset: Option<u64>,
}

/// What the page tables say to a candidate.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Verdict {
    /// They say otherwise.
    Contradicted,
    /// They are at a place where the dump has no memory.
    Unknown,
    /// They were left out, or cut off.
    Lost,
    /// They agree.
    Confirmed,
}

impl Kernel {
    /// Finds the kernel; the error says what was tried.
    pub fn find(
        image: &dyn Image,
        arch: Arch,
        note: Option<&VmCoreInfo>,
        options: &OpenOptions,
    ) -> Result<Kernel, Reason> {
        let mut doubts = Vec::new();
        // Taken if no better is found.
        let mut spare = None;
        let mut note_is_false = false;
        if let Some(note) = note {
            let candidate = Candidate::described(arch, note, Evidence::Note);
            match candidate.map(|c| (c.verdict(image), c)) {
                Some((Verdict::Confirmed | Verdict::Lost, candidate)) => return Ok(candidate.accept(image, 0, doubts)),
                Some((verdict, candidate)) => {
                    doubts.push("VMCOREINFO in the dump's headers does not fit its memory".into());
                    note_is_false = true;
                    spare = Some(candidate).filter(|_| verdict == Verdict::Unknown);
                }
                None => doubts.push("VMCOREINFO in the dump's headers does not say where the kernel is".into()),
            }
        }
        let mut found: Vec<Candidate> = Vec::new();
        if !options.ignore_vmcoreinfo {
            for info in notes_in_memory(image) {
                let Some(at) = info.at.filter(|&at| options.kernel_at.is_none_or(|wanted| wanted == at)) else {
                    continue;
                };
                found.extend(Candidate::described(arch, &info, Evidence::Memory(at)));
            }
            let lost = found.extract_if(.., |c| c.verdict(image) != Verdict::Confirmed);
            let lost: Vec<Candidate> = lost.filter(|c| c.verdict(image) == Verdict::Lost).collect();
            spare = spare.or(lost.into_iter().next());
        }
        if found.is_empty() && options.kernel_at.is_none() {
            found = by_shape(image, arch);
        }
        let others = found.len().saturating_sub(1);
        // Where there is but one, how much it maps need not be measured.
        let best = if others == 0 { found.pop() } else { found.into_iter().max_by_key(|c| reach(image, c.paging)) };
        let kernel = match best {
            Some(best) => Some(Kernel { note_is_false, ..best.accept(image, others, doubts) }),
            None => spare.map(|spare| spare.accept(image, others, doubts)),
        };
        kernel.ok_or_else(|| {
            Reason::NoKernel("neither VMCOREINFO nor a kernel's level3_kernel_pgt is in the dump".into())
        })
    }
}

impl Candidate {
    /// What VMCOREINFO says.
    fn described(arch: Arch, info: &VmCoreInfo, evidence: Evidence) -> Option<Candidate> {
        let phys_base = info.number("phys_base")?;
        // One table under three names: init_level4_pgt until 65ade2f872b4 (4.13), swapper_pg_dir is a macro for it.
        let top = ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"].iter().find_map(|name| info.symbol(name))?;
        let levels = if info.number("pgtable_l5_enabled").unwrap_or(0) == 1 { 5 } else { 4 };
        let encryption = info.number("sme_mask").unwrap_or(0) as u64;
        let paging = Paging { arch, root: 0, levels, encryption }.with_root(image_pa(top, phys_base));
        let vmcoreinfo = info.at.is_some().then(|| info.clone());
        Some(Candidate { paging, phys_base, evidence, vmcoreinfo, kaslr_offset: info.kaslr_offset() })
    }

    fn verdict(&self, image: &dyn Image) -> Verdict {
        let top = self.paging.root.wrapping_add_signed(-self.phys_base).wrapping_add(IMAGE_BASE);
        match self.paging.walk(image, top) {
            Ok(to) if to.pa == self.paging.root => Verdict::Confirmed,
            Err(Reason::PageTable(table)) => match image.state(table).0 {
                Some(Reason::NotInDump) => Verdict::Unknown,
                _ => Verdict::Lost,
            },
            _ => Verdict::Contradicted,
        }
    }

    fn accept(self, image: &dyn Image, others: usize, doubts: Vec<String>) -> Kernel {
        Kernel {
            runs: runs(image, self.paging, self.phys_base),
            paging: self.paging,
            vmcoreinfo: self.vmcoreinfo,
            note_is_false: false,
            phys_base: self.phys_base,
            kaslr_offset: self.kaslr_offset,
            evidence: self.evidence,
            others,
            doubts,
            tlb: Tlb::new(),
            direct: Default::default(),
            told: Default::default(),
        }
    }
}

const PAGE: u64 = 4096;

/// Calls `look` with every page in the dump, in parallel, and collects what it finds, in order of address. A dump
/// that is all hits is a hostile one: a few hundred are enough.
fn pages<T: Send>(image: &dyn Image, look: impl Fn(u64, &[u8]) -> Option<T> + Sync) -> Vec<T> {
    const CHUNK: u64 = 4 << 20;
    const HITS: usize = 256;
    let chunks = image.ranges().iter().flat_map(|range| {
        let first = range.start.next_multiple_of(PAGE);
        let last = range.end / PAGE * PAGE;
        (first..last).step_by(CHUNK as usize).map(move |start| (start, (last - start).min(CHUNK)))
    });
    let hits = chunks.par_bridge().flat_map_iter(|(start, len)| {
        let mut hits = Vec::new();
        let mut scan = |start: u64, bytes: &[u8]| {
            for (pa, page) in (start..).step_by(PAGE as usize).zip(bytes.chunks_exact(PAGE as usize)) {
                hits.extend(look(pa, page).map(|hit| (pa, hit)));
            }
        };
        match image.bytes(start, len as usize) {
            Ok(bytes) => scan(start, &bytes),
            // Some page of the chunk is damaged: look at the others.
            Err(_) => {
                for pa in (start..start + len).step_by(PAGE as usize) {
                    if let Ok(page) = image.bytes(pa, PAGE as usize) {
                        scan(pa, &page);
                    }
                }
            }
        }
        hits.into_iter().take(HITS)
    });
    let mut hits: Vec<(u64, T)> = hits.collect();
    hits.sort_by_key(|&(pa, _)| pa);
    hits.into_iter().take(HITS).map(|(_, hit)| hit).collect()
}

/// The kernels' own notes: `vmcoreinfo_note` (kernel/vmcore_info.c) is an ELF note at the start of a page. Copies at
/// other places are pages of files or buffers.
pub(crate) fn notes_in_memory(image: &dyn Image) -> Vec<VmCoreInfo> {
    const NAME: &[u8] = b"VMCOREINFO\0\0";
    let heads = pages(image, |pa, page| {
        let (head, rest) = page.split_first_chunk::<12>()?;
        let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let len = word(4) as usize;
        let is_note = word(0) == 11 && word(8) == 0 && len <= VmCoreInfo::MAX;
        (is_note && rest.starts_with(NAME) && rest[NAME.len()..].starts_with(b"OSRELEASE=")).then_some((pa, len))
    });
    let text = |(pa, len)| {
        let start = pa + 12 + NAME.len() as u64;
        let in_page = (PAGE - 12) as usize - NAME.len();
        let text = image.bytes(start, len).or_else(|_| image.bytes(start, len.min(in_page))).ok()?;
        Some(VmCoreInfo::parse(&text, Some(pa)))
    };
    heads.into_iter().filter_map(text).collect()
}

/// Kernels by the shape of `level3_kernel_pgt` (arch/x86/kernel/head_64.S): a table whose last two entries alone are
/// used. Entry 510 leads to the image's table, which gives `phys_base`; a page of the image whose last entry leads to
/// the table is the top one, or with five levels the one below it.
fn by_shape(image: &dyn Image, arch: Arch) -> Vec<Candidate> {
    let word = |page: &[u8], i: usize| page.as_chunks().0.get(i).map_or(0, |w| u64::from_le_bytes(*w));
    let shapes = pages(image, |pa, page| {
        let fits = word(page, 510) & word(page, 511) & 1 == 1 && word(page, 0) == 0 && word(page, 509) == 0;
        (fits && page[..510 * 8].iter().all(|&b| b == 0)).then_some(pa)
    });
    shapes.into_iter().filter_map(|l3| shaped(image, arch, l3)).collect()
}

fn shaped(image: &dyn Image, arch: Arch, l3: u64) -> Option<Candidate> {
    // Seen from level 3 alone the image is at the same place as seen from the top: the sign fills the rest.
    let paging = Paging { arch, root: 0, levels: 3, encryption: 0 }.with_root(l3);
    let phys_base = vote(image, paging)?;
    let image_runs = runs(image, paging, phys_base);
    let first = image_pa(image_runs.first()?.va.start, phys_base);
    let last = image_pa(image_runs.last()?.va.end, phys_base);

    let upper = tables_above(image, first, last, &[l3]);
    let uppermost = tables_above(image, first, last, &upper);
    // Pages of processes' page tables in freed parts of the image may look the same, but head_64.S puts its tables
    // next to each other.
    let top = |tables: &[u64]| tables.iter().copied().filter(|&pa| is_top(image, pa)).min_by_key(|pa| pa.abs_diff(l3));
    let (root, levels) = match top(&uppermost) {
        Some(root) => (root, 5),
        None => (top(&upper)?, 4),
    };
    let paging = Paging { levels, ..paging }.with_root(root);
    let evidence = Evidence::PageTables(l3);
    let candidate = Candidate { paging, phys_base, evidence, vmcoreinfo: None, kaslr_offset: None };
    (candidate.verdict(image) == Verdict::Confirmed).then_some(candidate)
}

/// The `phys_base` that most of the mapped image agrees on, if it is 2 MiB at least.
fn vote(image: &dyn Image, paging: Paging) -> Option<i64> {
    let mut votes: HashMap<u64, u64> = HashMap::new();
    super::survey(image, paging, IMAGE_BASE, IMAGE_BASE + IMAGE_MAX - 1, |m| {
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
