//! The kernels in memory: `::kernels`.
//!
//! A dump that was taken while a crash kernel ran holds two: the one that crashed, and the one in its reserved corner. kmdb
//! takes the one that the dump's headers describe, else the one that maps most memory; `--which-kernel N` takes another.
//!
//! ```console
//! > ::kernels
//! N ROLE    RELEASE                    MAPS CPUS    MOVED EVIDENCE
//! 1 crashed 6.12.117+deb12-cloud-amd64 512M 0    2ea00000 VMCOREINFO in memory at 0x19cc000
//! 2 crash   6.12.117+deb12-cloud-amd64 192M 1    26a00000 VMCOREINFO in memory at 0xd726000
//! ```

use engine::{
    IntoRow, Schema,
    lang::printf::human_size,
    prelude::*,
    targets::{Evidence, FoundKernel},
};

/// Show every kernel that is in memory, the one that is looked at first.
///
/// `--which-kernel N` on the command line looks at number N, `--which-kernel crash` at the one that crashed.
#[derive(Args)]
pub struct Kernels {}

/// A kernel.
#[derive(Row)]
pub struct KernelRow {
    /// its number, for `--which-kernel`
    n: usize,
    /// `crashed`: it says when; `crash`: beside one that crashed, loaded to save its memory; else nothing
    role: Option<&'static str>,
    /// what `uname -r` says there, if it has VMCOREINFO
    release: Option<String>,
    /// how much memory it maps
    maps: String,
    /// bytes of memory that it maps
    #[hidden]
    mapped: u64,
    /// CPUs that run it, as far as registers tell
    #[heading("CPUS")]
    cpus: String,
    /// how far KASLR moved it
    moved: Option<Hex>,
    /// virtual address of its first page
    #[hidden]
    image: Addr,
    /// physical address of its top page table
    #[hidden]
    pgd: Addr,
    /// its vmlinux's build-id
    #[hidden]
    build_id: Option<String>,
    /// how it was found
    evidence: String,
}

impl Dcmd for Kernels {
    const NAME: &'static str = "kernels";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[KernelRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let kernels = cx.target.kernels();
        let one_crashed = kernels.iter().any(crashed);
        for (i, kernel) in kernels.iter().enumerate() {
            let told = |key| kernel.vmcoreinfo.as_ref().and_then(|info| info.get(key)).map(str::to_owned);
            let role = match (crashed(kernel), one_crashed) {
                (true, _) => Some("crashed"),
                (false, true) => Some("crash"),
                (false, false) => None,
            };
            let evidence = match (kernel.layout.evidence, kernel.at) {
                (Evidence::PageTables(_), Some(at)) => format!("page tables at {at:#x}"),
                (_, Some(at)) => format!("VMCOREINFO in memory at {at:#x}"),
                (_, None) => "VMCOREINFO in the dump's headers".to_owned(),
            };
            let cpus: Vec<String> = kernel.cpus.iter().map(u32::to_string).collect();
            out.row(KernelRow {
                n: i + 1,
                role,
                release: told("OSRELEASE"),
                maps: human_size(kernel.reach),
                mapped: kernel.reach,
                cpus: cpus.join(","),
                moved: kernel.layout.kaslr_offset.map(Hex),
                image: Addr(kernel.layout.image.start),
                pgd: Addr(kernel.layout.pgd),
                build_id: told("BUILD-ID"),
                evidence,
            })?;
        }
        Ok(())
    }
}

/// A kernel that panicked wrote down when (`CRASHTIME`, kernel/kexec_core.c).
fn crashed(kernel: &FoundKernel) -> bool {
    kernel.vmcoreinfo.as_ref().is_some_and(|info| info.crash_time().is_some())
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Kernels>()];
