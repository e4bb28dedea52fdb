//! Finding the kernel: by VMCOREINFO in the dump's headers, by VMCOREINFO in memory, by the shape of its page tables.
//!
//! A description is believed if the page tables it names agree with it: they must map the top table itself where the
//! description says it is.

use rayon::prelude::*;

use super::{Evidence, Kernel, Place, aarch64, reach, runs, x86_64};
use crate::error::Reason;
use crate::image::Image;
use crate::mmu::{Arch, Paging, Tlb};
use crate::open::OpenOptions;
use crate::vmcoreinfo::VmCoreInfo;

/// A kernel that might be the one.
pub(super) struct Candidate {
    pub paging: Paging,
    pub place: Place,
    pub evidence: Evidence,
    pub vmcoreinfo: Option<VmCoreInfo>,
    pub kaslr_offset: Option<u64>,
}

/// What the page tables say to a candidate.
#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) enum Verdict {
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
        if found.is_empty() {
            found = by_shape(image, arch);
            let wanted = |at| options.kernel_at.is_none_or(|wanted| wanted == at);
            found.retain(|c| matches!(c.evidence, Evidence::PageTables(at) if wanted(at)));
        }
        let others = found.len().saturating_sub(1);
        // Where there is but one, how much it maps need not be measured.
        let best =
            if others == 0 { found.pop() } else { found.into_iter().max_by_key(|c| reach(image, c.paging, &c.place)) };
        let kernel = match best {
            Some(best) => Some(Kernel { note_is_false, ..best.accept(image, others, doubts) }),
            None => spare.map(|spare| spare.accept(image, others, doubts)),
        };
        kernel.ok_or_else(|| {
            let table = match arch {
                Arch::X86_64 => "level3_kernel_pgt",
                Arch::Aarch64 => "swapper_pg_dir",
                Arch::Other(_) => "page tables",
            };
            Reason::NoKernel(format!("neither VMCOREINFO nor a kernel's {table} is in the dump"))
        })
    }
}

/// Kernels without VMCOREINFO.
pub(super) fn by_shape(image: &dyn Image, arch: Arch) -> Vec<Candidate> {
    match arch {
        Arch::X86_64 => x86_64::by_shape(image),
        Arch::Aarch64 => aarch64::by_shape(image),
        Arch::Other(_) => Vec::new(),
    }
}

impl Candidate {
    /// What VMCOREINFO says.
    pub fn described(arch: Arch, info: &VmCoreInfo, evidence: Evidence) -> Option<Candidate> {
        let (paging, place) = match arch {
            Arch::X86_64 => x86_64::described(info)?,
            Arch::Aarch64 => aarch64::described(info)?,
            Arch::Other(_) => return None,
        };
        let vmcoreinfo = info.at.is_some().then(|| info.clone());
        Some(Candidate { paging, place, evidence, vmcoreinfo, kaslr_offset: info.kaslr_offset() })
    }

    pub fn verdict(&self, image: &dyn Image) -> Verdict {
        let top = self.paging.root.wrapping_add(self.place.image_offset);
        match self.paging.walk(image, top) {
            Ok(to) if to.pa == self.paging.root => Verdict::Confirmed,
            Err(Reason::PageTable(table)) => match image.state(table).0 {
                Some(Reason::NotInDump) => Verdict::Unknown,
                _ => Verdict::Lost,
            },
            _ => Verdict::Contradicted,
        }
    }

    pub fn accept(self, image: &dyn Image, others: usize, doubts: Vec<String>) -> Kernel {
        Kernel {
            runs: runs(image, self.paging, &self.place),
            paging: self.paging,
            vmcoreinfo: self.vmcoreinfo,
            note_is_false: false,
            place: self.place,
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

/// The smallest page of any architecture: larger ones start where such a one does.
pub(super) const PAGE: u64 = 4096;

/// Calls `look` with every page in the dump, in parallel, and collects what it finds, in order of address. A dump
/// that is all hits is a hostile one: a few hundred are enough.
pub(super) fn pages<T: Send>(image: &dyn Image, look: impl Fn(u64, &[u8]) -> Option<T> + Sync) -> Vec<T> {
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

/// Of which architecture memory is that no header describes: as the first kernel's VMCOREINFO in it says, else by the
/// shape of its page tables, else x86-64.
pub(crate) fn arch_of_memory(image: &dyn Image) -> Arch {
    let told = notes_in_memory(image).into_iter().find_map(|info| arch_of(&info));
    let is_arm64 = || x86_64::by_shape(image).is_empty() && !aarch64::by_shape(image).is_empty();
    told.unwrap_or_else(|| if is_arm64() { Arch::Aarch64 } else { Arch::X86_64 })
}

/// Each architecture's description has something that no other's has.
fn arch_of(info: &VmCoreInfo) -> Option<Arch> {
    match (info.number("kimage_voffset"), info.number("phys_base")) {
        (Some(_), _) => Some(Arch::Aarch64),
        (None, Some(_)) => Some(Arch::X86_64),
        (None, None) => None,
    }
}

/// Whether the kernel that `info` describes is in this memory, at the addresses that it has there.
pub(crate) fn fits(image: &dyn Image, info: &VmCoreInfo) -> bool {
    let candidate = arch_of(info).and_then(|arch| Candidate::described(arch, info, Evidence::Note));
    candidate.is_some_and(|candidate| candidate.verdict(image) == Verdict::Confirmed)
}
