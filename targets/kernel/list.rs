//! Every kernel in memory: the one that crashed, the one loaded beside it to save its memory, or what a restart left.

use super::find::{Candidate, Verdict, by_shape, notes_in_memory};
use super::{Evidence, Kernel, KernelLayout, reach};
use crate::image::Image;
use crate::mmu::{Arch, Paging};
use crate::regs::CpuRegs;
use crate::vmcoreinfo::VmCoreInfo;

/// A kernel in memory.
#[derive(Clone, Debug)]
pub struct FoundKernel {
    /// Where it is.
    pub layout: KernelLayout,
    /// Its description of itself, unless only its page tables were found.
    pub vmcoreinfo: Option<VmCoreInfo>,
    /// What to give [`OpenOptions::kernel_at`](crate::OpenOptions::kernel_at) to have it.
    pub at: Option<u64>,
    /// Bytes of memory that it maps: a kernel loaded for a crash was given a corner.
    pub reach: u64,
    /// CPUs that run it, as far as their registers tell.
    pub cpus: Vec<u32>,
}

/// Most kernels that are believed to be in one memory.
const MAX: usize = 32;

/// Finds them all.
pub(crate) fn all(image: &dyn Image, arch: Arch, note: Option<&VmCoreInfo>, cpus: &[CpuRegs]) -> Vec<FoundKernel> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut add = |candidate: Candidate| {
        let known = candidates.iter().any(|known| known.paging.root == candidate.paging.root);
        if !known && candidates.len() < MAX && matches!(candidate.verdict(image), Verdict::Confirmed | Verdict::Lost) {
            candidates.push(candidate);
        }
    };
    for info in notes_in_memory(image) {
        if let Some(at) = info.at {
            Candidate::described(arch, &info, Evidence::Memory(at)).into_iter().for_each(&mut add);
        }
    }
    by_shape(image, arch).into_iter().for_each(&mut add);
    if let Some(mut candidate) = note.and_then(|note| Candidate::described(arch, note, Evidence::Note)) {
        candidate.vmcoreinfo = note.cloned();
        // what the dump's headers say is newer than what is in memory: it has the time of the crash
        match candidates.iter_mut().find(|known| known.paging.root == candidate.paging.root) {
            Some(known) => known.vmcoreinfo = candidate.vmcoreinfo,
            None if candidate.verdict(image) != Verdict::Contradicted => candidates.push(candidate),
            None => {}
        }
    }
    let describe = |candidate: Candidate| {
        let at = match candidate.evidence {
            Evidence::Memory(at) | Evidence::PageTables(at) => Some(at),
            _ => None,
        };
        let reach = reach(image, candidate.paging, &candidate.place);
        let kernel = candidate.accept(image, 0, Vec::new());
        let cpus = cpus.iter().filter(|cpu| kernel.is_run_by(image, cpu) == Some(true)).map(|cpu| cpu.cpu).collect();
        let layout = kernel.layout(image);
        FoundKernel { layout, vmcoreinfo: kernel.vmcoreinfo, at, reach, cpus }
    };
    candidates.into_iter().map(describe).collect()
}

impl Kernel {
    /// Whether a CPU runs this kernel, if its registers tell: by its page tables, which have this kernel's top table
    /// where the kernel has it; else by its instruction pointer.
    pub fn is_run_by(&self, image: &dyn Image, cpu: &CpuRegs) -> Option<bool> {
        /// CR0: paging is on.
        const PG: u64 = 1 << 31;
        /// CR3: flags or a PCID.
        const LOW: u64 = 0xfff;
        /// CR3: with page table isolation, the tables that user code sees are those behind the kernel's.
        const USER: u64 = 1 << 12;
        if self.paging.arch == Arch::X86_64
            && let Some(cr3) = cpu.get("cr3")
        {
            if cr3 == 0 || cpu.get("cr0").is_some_and(|cr0| cr0 & PG == 0) {
                return None;
            }
            let top = self.paging.root.wrapping_add(self.place.image_offset);
            let leads = |root: u64| {
                let paging = Paging { root: root & !LOW, ..self.paging };
                paging.walk(image, top).is_ok_and(|to| to.pa == self.paging.root)
            };
            return Some(leads(cr3) || leads(cr3 & !USER));
        }
        let inside = |ip: u64| self.runs.iter().any(|run| run.va.contains(&ip));
        cpu.ip().filter(|_| cpu.user_mode() == Some(false)).filter(|ip| inside(*ip)).map(|_| true)
    }
}
