//! The figures of /proc/meminfo, reckoned as the kernel does (fs/proc/meminfo.c), from the same counters.
//!
//! ```console
//! > ::meminfo ! head -n 4
//! NAME                       VALUE UNIT
//! MemTotal                   55776 kB
//! MemFree                    11564 kB
//! MemAvailable               15504 kB
//! ```

use crate::{
    hugetlb, list,
    percpu::Percpu,
    super_block, swap,
    total::Total,
    vmalloc,
    vmstat::{Counters, huge_in_pages, huge_page},
    zone::Memory,
};
use engine::{ViewEntry, prelude::*, targets::Arch};
use std::sync::Arc;

/// A figure.
#[derive(Debug)]
pub struct Figure {
    /// as in /proc/meminfo
    pub name: &'static str,
    /// in KiB, or a number of huge pages
    pub value: Result<u64>,
    /// whether it is in KiB
    pub kib: bool,
}

/// Reckons figures.
pub struct Meminfo<'a> {
    session: &'a Session,
    memory: Arc<Memory>,
    counters: Arc<Counters>,
    shift: u32,
}

/// A sum that each CPU adds to on its own: `struct percpu_counter`.
#[derive(View)]
#[ctype("percpu_counter")]
pub(crate) struct PercpuCounter {
    count: i64,
    counters: u64,
}

impl PercpuCounter {
    /// The sum, of the one at an address.
    pub(crate) fn sum(session: &Session, at: u64) -> Result<i64> {
        let counter: PercpuCounter = session.view(at)?;
        let mut sum = counter.count;
        for (_, at) in Percpu::of(session)?.copies(counter.counters) {
            sum = sum.wrapping_add(i64::from(session.u32(at)? as i32));
        }
        Ok(sum)
    }
}

impl<'a> Meminfo<'a> {
    /// For this session.
    pub fn of(session: &'a Session) -> Result<Meminfo<'a>> {
        // a page is at least 4 KiB
        let shift = session.target.page_size().trailing_zeros().max(10) - 10;
        Ok(Meminfo { session, memory: Memory::of(session)?, counters: Counters::of(session)?, shift })
    }

    /// Every figure that this kernel has, in its order.
    pub fn figures(&self) -> Vec<Figure> {
        let mut all = Vec::new();
        self.usage(&mut all);
        self.swap(&mut all);
        self.kinds(&mut all);
        self.kernel(&mut all);
        self.promised(&mut all);
        self.huge(&mut all);
        all
    }

    /// Pages of RAM that the allocator has or had: `totalram_pages()`.
    pub fn total(&self) -> Result<u64> {
        match self.session.kernel_symbol("_totalram_pages") {
            Some(at) => self.session.u64(at),
            None => Ok(self.memory.zones.iter().map(|zone| zone.managed).total()),
        }
    }

    /// Pages of block devices' own mappings: `nr_blockdev_pages()`.
    pub fn buffers(&self) -> Result<u64> {
        let session = self.session;
        let mut pages = 0u64;
        let (inodes, link) = (session.offset("super_block", "s_inodes")?, session.offset("inode", "i_sb_list")?);
        let (mapping, count) = (session.offset("inode", "i_mapping")?, session.offset("address_space", "nrpages")?);
        super_block::each(session, &mut |at| {
            let kind = session.view::<super_block::SuperBlock>(at).and_then(|sb| sb.kind(session));
            if kind.is_ok_and(|kind| kind == "bdev") {
                list::list(session, at.wrapping_add(inodes), link, &mut |inode| {
                    let mapping = session.u64(inode.wrapping_add(mapping))?;
                    pages = pages.saturating_add(session.u64(mapping.wrapping_add(count))?);
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        Ok(pages)
    }

    /// Pages of the swap cache: `total_swapcache_pages()`. A counter since Linux 5.12 (b6038942480e).
    pub fn swap_cache(&self) -> Result<u64> {
        if let Some(pages) = self.count("NR_SWAPCACHE") {
            return Ok(pages);
        }
        let session = self.session;
        let (Some(spaces), Some(counts)) =
            (session.kernel_symbol("swapper_spaces"), session.kernel_symbol("nr_swapper_spaces"))
        else {
            return Ok(0);
        };
        let (size, pages) = (session.size_of("address_space")?, session.offset("address_space", "nrpages")?);
        let mut sum = 0u64;
        for (number, _) in (0u64..).zip(swap::all(session)?) {
            let (first, count) =
                (session.u64(spaces.wrapping_add(number * 8))?, session.u32(counts.wrapping_add(number * 4))?);
            // one for each 64 MiB of the area
            for i in 0..u64::from(count.min(1 << 20)) {
                sum = sum.saturating_add(session.u64(first.wrapping_add(i * size + pages))?);
            }
        }
        Ok(sum)
    }

    /// Pages of the page cache, without those of block devices and of swap.
    pub fn cached(&self) -> Result<u64> {
        let pages = self.must("NR_FILE_PAGES")?;
        Ok(pages.saturating_sub(self.swap_cache()?).saturating_sub(self.buffers()?))
    }

    /// Pages that applications could get without swapping: `si_mem_available()`.
    pub fn available(&self) -> Result<u64> {
        let low: u64 = self.memory.zones.iter().map(|zone| zone.watermarks()[1]).total();
        let reserve: u64 = self.memory.nodes.iter().map(|node| node.reserve).total();
        let half = |pages: u64| pages - low.min(pages / 2);
        let free = self.must("NR_FREE_PAGES")?;
        let files = half([self.must("NR_ACTIVE_FILE")?, self.must("NR_INACTIVE_FILE")?].into_iter().total());
        let other = self.count("NR_KERNEL_MISC_RECLAIMABLE").unwrap_or(0);
        let slabs = half(self.must("NR_SLAB_RECLAIMABLE_B")?.saturating_add(other));
        Ok([free, files, slabs].into_iter().total().saturating_sub(reserve))
    }

    /// Pages of all pools of huge pages.
    pub fn hugetlb(&self) -> Result<u64> {
        Ok(hugetlb::all(self.session)?.iter().map(|pool| pool.total.saturating_mul(1 << pool.order.min(32))).total())
    }

    /// Pages of the per-CPU allocator: `pcpu_nr_pages()`.
    pub fn percpu(&self) -> Result<u64> {
        let pages = self.session.u64(self.session.symbol("pcpu_nr_populated")?)?;
        Ok(pages.saturating_mul(self.session.u32(self.session.symbol("pcpu_nr_units")?)?.into()))
    }

    /// Pages that vmalloc() allocated; a counter of nodes since Linux 6.18 or so, of its own before.
    pub fn vmalloc(&self) -> Result<u64> {
        if let Some(pages) = self.count("NR_VMALLOC") {
            return Ok(pages);
        }
        if let Some(at) = self.session.kernel_symbol("nr_vmalloc_pages") {
            return self.session.u64(at);
        }
        let mut sum = 0u64;
        for area in vmalloc::Areas::of(self.session)?.busy() {
            sum = sum.saturating_add(area.made(self.session)?.map_or(0, |made| made.nr_pages));
        }
        Ok(sum)
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.counters.get(self.session, name)
    }

    fn must(&self, name: &str) -> Result<u64> {
        self.count(name).ok_or_else(|| Error::Unavailable(format!("the kernel does not count {name}")))
    }

    fn pages(&self, all: &mut Vec<Figure>, name: &'static str, pages: Result<u64>) {
        all.push(Figure { name, value: pages.map(|pages| pages << self.shift), kib: true });
    }

    /// A counter of pages, if the kernel has it.
    fn counted(&self, all: &mut Vec<Figure>, name: &'static str, counter: &str) {
        if let Some(pages) = self.count(counter) {
            self.pages(all, name, Ok(pages));
        }
    }

    /// A variable that counts pages.
    fn variable(&self, all: &mut Vec<Figure>, name: &'static str, symbol: &str) {
        if let Some(at) = self.session.kernel_symbol(symbol) {
            self.pages(all, name, self.session.u64(at));
        }
    }

    fn usage(&self, all: &mut Vec<Figure>) {
        self.pages(all, "MemTotal", self.total());
        self.counted(all, "MemFree", "NR_FREE_PAGES");
        self.pages(all, "MemAvailable", self.available());
        self.pages(all, "Buffers", self.buffers());
        self.pages(all, "Cached", self.cached());
        self.pages(all, "SwapCached", self.swap_cache());
        let sum = |a: &str, b: &str| Ok(self.must(a)?.saturating_add(self.must(b)?));
        self.pages(all, "Active", sum("NR_ACTIVE_ANON", "NR_ACTIVE_FILE"));
        self.pages(all, "Inactive", sum("NR_INACTIVE_ANON", "NR_INACTIVE_FILE"));
        self.counted(all, "Active(anon)", "NR_ACTIVE_ANON");
        self.counted(all, "Inactive(anon)", "NR_INACTIVE_ANON");
        self.counted(all, "Active(file)", "NR_ACTIVE_FILE");
        self.counted(all, "Inactive(file)", "NR_INACTIVE_FILE");
        self.counted(all, "Unevictable", "NR_UNEVICTABLE");
        self.counted(all, "Mlocked", "NR_MLOCK");
    }

    /// Pages of swap, and of them those that are free: `si_swapinfo()`.
    pub fn swap_space(&self) -> Result<(u64, u64)> {
        let areas = swap::all(self.session)?;
        let total: u64 = areas.iter().map(|area| u64::from(area.pages)).total();
        Ok((total, total.saturating_sub(areas.iter().map(swap::Swap::used).total())))
    }

    fn swap(&self, all: &mut Vec<Figure>) {
        let space = self.swap_space();
        let (total, free) = match space {
            Ok((total, free)) => (Ok(total), Ok(free)),
            Err(e) => (Err(Error::Unavailable(e.kind())), Err(e)),
        };
        self.pages(all, "SwapTotal", total);
        self.pages(all, "SwapFree", free);
        self.zswap(all);
    }

    /// Swapped pages that are kept in memory, compressed; shown since Linux 5.19 (f6498b776d28). How much memory they take
    /// is a variable up to 6.9, later known to the allocator that has them.
    fn zswap(&self, all: &mut Vec<Figure>) {
        let read = |name: &str| self.session.kernel_symbol(name).map(|at| self.session.u64(at));
        let Some(stored) = read("zswap_stored_pages") else { return };
        // not so in older kernels, which have the variable too
        if !self.session.enumerators("vm_event_item").iter().any(|v| v.name.starts_with("ZSWP")) {
            return;
        }
        let taken = match (read("zswap_pool_total_size"), &stored) {
            (Some(bytes), _) => bytes.map(|bytes| bytes >> 10),
            (None, Ok(0)) => Ok(0),
            (None, _) => Err(Error::Unavailable("only the allocator of compressed pages knows".into())),
        };
        all.push(Figure { name: "Zswap", value: taken, kib: true });
        self.pages(all, "Zswapped", stored);
    }

    fn kinds(&self, all: &mut Vec<Figure>) {
        self.counted(all, "Dirty", "NR_FILE_DIRTY");
        self.counted(all, "Writeback", "NR_WRITEBACK");
        self.counted(all, "AnonPages", "NR_ANON_MAPPED");
        self.counted(all, "Mapped", "NR_FILE_MAPPED");
        self.counted(all, "Shmem", "NR_SHMEM");
        let reclaimable = self.must("NR_SLAB_RECLAIMABLE_B");
        let misc = self.count("NR_KERNEL_MISC_RECLAIMABLE").unwrap_or(0);
        self.pages(all, "KReclaimable", reclaimable.map(|pages| pages.saturating_add(misc)));
        let slab = || Ok(self.must("NR_SLAB_RECLAIMABLE_B")?.saturating_add(self.must("NR_SLAB_UNRECLAIMABLE_B")?));
        self.pages(all, "Slab", slab());
        self.counted(all, "SReclaimable", "NR_SLAB_RECLAIMABLE_B");
        self.counted(all, "SUnreclaim", "NR_SLAB_UNRECLAIMABLE_B");
    }

    fn kernel(&self, all: &mut Vec<Figure>) {
        for (name, counter) in [("KernelStack", "NR_KERNEL_STACK_KB"), ("ShadowCallStack", "NR_KERNEL_SCS_KB")] {
            if let Some(kib) = self.count(counter) {
                all.push(Figure { name, value: Ok(kib), kib: true });
            }
        }
        self.counted(all, "PageTables", "NR_PAGETABLE");
        self.counted(all, "SecPageTables", "NR_SECONDARY_PAGETABLE");
        // what is counted no longer stays in the file as 0
        for (name, counter) in
            [("NFS_Unstable", "NR_UNSTABLE_NFS"), ("Bounce", "NR_BOUNCE"), ("WritebackTmp", "NR_WRITEBACK_TEMP")]
        {
            self.pages(all, name, Ok(self.count(counter).unwrap_or(0)));
        }
    }

    /// Pages that may be promised to processes where too much must not be: `vm_commit_limit()`.
    fn commit_limit(&self) -> Result<u64> {
        let read = |name: &str| self.session.symbol(name).and_then(|at| self.session.u64(at));
        let kib = read("sysctl_overcommit_kbytes")?;
        let allowed = match kib {
            0 => {
                let ratio = self.session.u32(self.session.symbol("sysctl_overcommit_ratio")?)?;
                self.total()?.saturating_sub(self.hugetlb()?).saturating_mul(ratio.into()) / 100
            }
            kib => kib >> self.shift,
        };
        Ok(allowed.saturating_add(self.swap_space()?.0))
    }

    /// Pages that have been promised to processes.
    fn committed(&self) -> Result<u64> {
        let sum = PercpuCounter::sum(self.session, self.session.symbol("vm_committed_as")?)?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// KiB of addresses that vmalloc() may use.
    fn vmalloc_total(&self) -> Result<u64> {
        let session = self.session;
        if session.target.arch() == Arch::X86_64 {
            let levels = session.target.kernel_layout().map(|layout| layout.levels);
            // VMALLOC_SIZE_TB, one byte short (arch/x86/include/asm/pgtable_64_types.h)
            let terabytes: u64 = if levels.is_ok_and(|levels| levels == 5) { 12800 } else { 32 };
            return Ok(((terabytes << 40) - 1) >> 10);
        }
        let told = |name: &str| session.target.vmcoreinfo().and_then(|info| info.number(name));
        match told("VMALLOC_END").zip(told("VMALLOC_START")) {
            // the last address, not the one behind it (2369f171d5c5)
            Some((end, start)) => Ok(((end.wrapping_sub(start) as u64).next_multiple_of(2)) >> 10),
            None => Err(Error::Unavailable("the dump does not say where vmalloc's addresses are".into())),
        }
    }

    fn promised(&self, all: &mut Vec<Figure>) {
        self.pages(all, "CommitLimit", self.commit_limit());
        self.pages(all, "Committed_AS", self.committed());
        all.push(Figure { name: "VmallocTotal", value: self.vmalloc_total(), kib: true });
        self.pages(all, "VmallocUsed", self.vmalloc());
        all.push(Figure { name: "VmallocChunk", value: Ok(0), kib: true });
        self.pages(all, "Percpu", self.percpu());
        self.variable(all, "HardwareCorrupted", "num_poisoned_pages");
    }

    fn huge(&self, all: &mut Vec<Figure>) {
        let scale = if huge_in_pages(self.session) { 1 } else { huge_page(self.session) as u64 };
        for (name, counter) in [
            ("AnonHugePages", "NR_ANON_THPS"),
            ("ShmemHugePages", "NR_SHMEM_THPS"),
            ("ShmemPmdMapped", "NR_SHMEM_PMDMAPPED"),
            ("FileHugePages", "NR_FILE_THPS"),
            ("FilePmdMapped", "NR_FILE_PMDMAPPED"),
        ] {
            if let Some(pages) = self.count(counter) {
                self.pages(all, name, Ok(pages.saturating_mul(scale)));
            }
        }
        if self.session.enumerator("MIGRATE_CMA").is_some() {
            self.variable(all, "CmaTotal", "totalcma_pages");
            self.counted(all, "CmaFree", "NR_FREE_CMA_PAGES");
        }
        self.counted(all, "Unaccepted", "NR_UNACCEPTED");
        self.counted(all, "Balloon", "NR_BALLOON_PAGES");
        self.counted(all, "GPUActive", "NR_GPU_ACTIVE");
        self.counted(all, "GPUReclaim", "NR_GPU_RECLAIM");
        self.hugetlb_pools(all);
        self.direct_map(all);
    }

    fn hugetlb_pools(&self, all: &mut Vec<Figure>) {
        let Ok(Some(pool)) = hugetlb::default(self.session) else { return };
        for (name, pages) in [
            ("HugePages_Total", pool.total),
            ("HugePages_Free", pool.free),
            ("HugePages_Rsvd", pool.reserved),
            ("HugePages_Surp", pool.surplus),
        ] {
            all.push(Figure { name, value: Ok(pages), kib: false });
        }
        all.push(Figure { name: "Hugepagesize", value: Ok(pool.bytes(self.session) >> 10), kib: true });
        self.pages(all, "Hugetlb", self.hugetlb());
    }

    /// By which pages x86 maps the direct map: `direct_pages_count[]`.
    fn direct_map(&self, all: &mut Vec<Figure>) {
        let session = self.session;
        let Some(counts) = session.kernel_symbol("direct_pages_count") else { return };
        let gigabytes = session.kernel_symbol("direct_gbpages").is_some_and(|at| session.u32(at).is_ok_and(|v| v != 0));
        // `enum pg_level`
        for (name, level, kib) in [("DirectMap4k", 1, 4), ("DirectMap2M", 2, 2 << 10), ("DirectMap1G", 3, 1 << 20)] {
            if level < 3 || gigabytes {
                let value = session.u64(counts.wrapping_add(level * 8)).map(|pages| pages.saturating_mul(kib));
                all.push(Figure { name, value, kib: true });
            }
        }
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<PercpuCounter>()];
