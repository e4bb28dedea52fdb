//! The target itself: an opened dump, its registers, its description and its kernel.

use std::ops::{ControlFlow, Range, RangeInclusive};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::error::{OpenError, Reason, Space};
use crate::image::Image;
use crate::info::Info;
use crate::kernel::{self, Evidence, FoundKernel, Kernel, KernelLayout};
use crate::live::{self, Live, LiveSource};
use crate::loaded::{KernelFile, Loaded};
use crate::mmu::{Arch, Mapping, Outcome, Paging, Step, Table, Translation};
use crate::open::{self, OpenOptions, Opened};
use crate::order::Order;
use crate::qmp;
use crate::regs::{self, CpuRegs};
use crate::vmcoreinfo::VmCoreInfo;

/// Bytes of a dump's files that are left mapped by [`Target::let_go`].
const MOST_MAPPED: u64 = 768 << 20;

/// The bytes of one kernel. All methods may be called from many threads at once.
pub struct Target {
    pub(crate) image: Box<dyn Image>,
    info: Info,
    cpus: Vec<CpuRegs>,
    /// from the dump's headers, and believed
    note: Option<VmCoreInfo>,
    /// where the headers say that physical ranges are mapped
    virt: Vec<(Range<u64>, u64)>,
    options: OpenOptions,
    kernel: OnceLock<Result<Kernel, Reason>>,
    /// of a kernel that does not run: where its image was linked; the addresses of `image` are then virtual ones
    linked: Option<Range<u64>>,
}

impl Target {
    /// Opens a dump of any format that kmdb knows. Reads headers only: the kernel is looked for when first needed.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Target, OpenError> {
        let (opened, paths, file_size) = open::open(path.as_ref(), options)?;
        Ok(Target::new(opened, options, |info| Info { paths, file_size, ..info }))
    }

    /// Whether the file is a dump, or a part of one, by its first bytes. A pipe is taken for one unread.
    pub fn is_dump(path: impl AsRef<Path>) -> bool {
        open::is_dump(path.as_ref())
    }

    /// Opens a dump that is in memory, or the parts of a split one.
    pub fn of_bytes(files: Vec<Bytes>, options: &OpenOptions) -> Result<Target, OpenError> {
        let (opened, paths, file_size) = open::open_bytes(files, options)?;
        Ok(Target::new(opened, options, |info| Info { paths, file_size, ..info }))
    }

    /// Opens the running kernel. What it answers may change from one moment to the next: see [`Target::refresh`].
    pub fn live(source: LiveSource, options: &OpenOptions) -> Result<Target, OpenError> {
        let (opened, live) = live::open(source)?;
        let blind = live.source == LiveSource::Blind;
        let mut target = Target::new(opened, options, |info| Info { live: Some(live), cpus: 0, ..info });
        // /proc/kcore has a note for one, full of zeros: the registers are in the CPUs, and change
        target.cpus.clear();
        if blind {
            let _ = target.kernel.set(Err(Reason::NoKernel("the running kernel's memory may not be read".into())));
        }
        Ok(target)
    }

    /// Opens a guest under QEMU by its QMP socket, a path or `HOST:PORT`. `stop` stops it until the target is dropped;
    /// otherwise it runs on, like the running kernel.
    pub fn guest(socket: &str, stop: bool, options: &OpenOptions) -> Result<Target, OpenError> {
        let guest = qmp::open(socket, stop)?;
        let live = guest.runs.then_some(Live { source: LiveSource::Guest, instead: None, lockdown: None });
        let cpus = guest.cpus.len();
        let mut target =
            Target::new(guest.opened, options, |info| Info { live, cpus, paths: vec![socket.into()], ..info });
        target.cpus = guest.cpus;
        Ok(target)
    }

    fn new(opened: Opened, options: &OpenOptions, describe: impl FnOnce(Info) -> Info) -> Target {
        let cpus = regs::from_notes(opened.arch, opened.order, &opened.notes);
        let note = opened.vmcoreinfo.as_ref().map(|text| VmCoreInfo::parse(text, None));
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let info = Info {
            format: opened.format,
            arch: opened.arch,
            order: opened.order,
            paths: Vec::new(),
            file_size: 0,
            page_size: 4096,
            cpus: cpus.len(),
            release: None,
            build_id: None,
            crash_time: None,
            dump_time: opened.dump_time.and_then(time),
            dump_level: opened.dump_level,
            uts: opened.uts,
            erased: opened.erased,
            incomplete: opened.incomplete,
            truncated: 0,
            present: 0,
            excluded: None,
            live: None,
            damage: opened.damage,
        };
        let info = describe(info);
        let believed = !options.ignore_note && !options.ignore_vmcoreinfo && options.kernel_at.is_none();
        let note = note.filter(|_| believed);
        let kernel = OnceLock::new();
        if !info.arch.is_known() {
            let why = format!("kmdb does not know those of {}; physical memory can be read", info.arch.name());
            let _ = kernel.set(Err(Reason::NoKernel(why)));
        }
        let options = options.clone();
        Target { image: opened.image, info, cpus, note, virt: opened.virt, options, kernel, linked: None }
    }

    /// How the running kernel is read; `None` of a dump, which does not change.
    pub fn is_live(&self) -> Option<&Live> {
        self.info.live.as_ref()
    }

    /// Forgets what was read of memory that may have changed since, and returns a number that is another one if other
    /// modules are loaded than before. `None` of a dump: it does not change.
    pub fn refresh(&self) -> Option<u64> {
        let live = self.info.live.as_ref()?;
        self.image.forget();
        if let Some(Ok(kernel)) = self.kernel.get() {
            kernel.forget();
        }
        Some(match live.source {
            // whose modules may be others each time
            LiveSource::Guest => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64),
            _ => live::modules(),
        })
    }

    /// A kernel that does not run: what its file says, at the addresses where it was linked. There is no physical
    /// memory, and no process. `None` if it is for a machine that is not known here.
    pub fn of_file(file: KernelFile) -> Option<Target> {
        let order = Order::LITTLE_64;
        let arch = Some(Arch::from_elf(file.machine, order)).filter(|arch| arch.is_known())?;
        let image = Loaded::new(file.pieces);
        let info = Info {
            format: file.format,
            arch,
            order,
            paths: vec![file.path],
            file_size: file.file_size,
            page_size: 4096,
            cpus: 0,
            release: file.release,
            build_id: file.build_id,
            crash_time: None,
            dump_time: None,
            dump_level: None,
            uts: None,
            erased: None,
            incomplete: false,
            truncated: 0,
            present: 0,
            excluded: None,
            live: None,
            damage: Vec::new(),
        };
        Some(Target {
            linked: Some(image.range()),
            image: Box::new(image),
            info,
            cpus: Vec::new(),
            note: None,
            virt: Vec::new(),
            options: OpenOptions::default(),
            kernel: OnceLock::from(Err(Reason::DoesNotRun)),
        })
    }

    /// Whether this is a kernel's file and not a kernel that ran.
    pub fn is_file(&self) -> bool {
        self.linked.is_some()
    }

    /// The machine's byte order and word size.
    pub fn order(&self) -> Order {
        self.info.order
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.info.arch
    }

    /// Bytes of the kernel's smallest page: 4096, or on arm64 what it was built for.
    pub fn page_size(&self) -> u64 {
        let told = || self.note.as_ref()?.get("PAGESIZE")?.parse().ok().filter(|&size| self.arch().has_pages_of(size));
        match self.kernel() {
            Ok(kernel) => kernel.paging.page_size(),
            Err(_) => told().unwrap_or(self.info.page_size),
        }
    }

    /// A kernel address without what the architecture lets software put into its upper bits: on arm64 a pointer
    /// authentication code (as in return addresses on stacks) or a tag. Other addresses are as they were.
    pub fn untagged(&self, addr: u64) -> u64 {
        match (self.arch(), self.kernel()) {
            (Arch::Aarch64, Ok(kernel)) if addr >> 55 & 1 == 1 => kernel.paging.canonical(addr),
            _ => addr,
        }
    }

    /// What the target is, and what is missing from it. Counts what is missing, so it may take a while on a dump that
    /// is cut off.
    pub fn info(&self) -> Info {
        let missing = self.image.missing();
        let told = |key| self.vmcoreinfo().and_then(|v| v.get(key)).map(str::to_owned);
        let in_header = || self.info.uts.as_ref().map(|uts| uts.release.clone()).filter(|release| !release.is_empty());
        let crashed = self.vmcoreinfo().and_then(VmCoreInfo::crash_time).map(Duration::from_secs);
        Info {
            release: told("OSRELEASE").or_else(|| self.info.release.clone()).or_else(in_header),
            build_id: told("BUILD-ID").or_else(|| self.info.build_id.clone()),
            crash_time: crashed.and_then(|time| SystemTime::UNIX_EPOCH.checked_add(time)),
            present: self.image.present(),
            truncated: missing.truncated,
            excluded: missing.excluded.map(|bytes| bytes / self.page_size()),
            page_size: self.page_size(),
            ..self.info.clone()
        }
    }

    /// Registers of each CPU that the dump has registers of.
    pub fn cpus(&self) -> &[CpuRegs] {
        &self.cpus
    }

    /// The kernel's description of itself, from the dump's headers or, failing that, from memory. `None` if there is
    /// none, or if the one in the headers is another kernel's.
    pub fn vmcoreinfo(&self) -> Option<&VmCoreInfo> {
        match self.kernel() {
            Ok(kernel) if kernel.vmcoreinfo.is_some() => kernel.vmcoreinfo.as_ref(),
            Ok(kernel) if kernel.note_is_false => None,
            _ => self.note.as_ref(),
        }
    }

    /// Physical memory that is in the dump: sorted, disjoint ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        self.image.ranges()
    }

    /// Whether the byte at a physical address is in the dump.
    pub fn present(&self, pa: u64) -> bool {
        !self.is_file() && self.image.state(pa).0.is_none()
    }

    /// Why the byte at a physical address is not in the dump, `None` if it is; and for how many bytes that stays so.
    pub fn state(&self, pa: u64) -> (Option<Reason>, u64) {
        self.image.state(pa)
    }

    /// Where the kernel is, and how that was found out. Fails if there is none.
    pub fn kernel_layout(&self) -> Result<KernelLayout, Reason> {
        if let Some(image) = self.linked.clone() {
            return Ok(KernelLayout {
                image,
                image_offset: 0,
                pgd: 0,
                levels: 0,
                page_size: self.info.page_size,
                va_bits: 64,
                encryption: 0,
                direct_map: None,
                kaslr_offset: Some(0),
                evidence: Evidence::File,
                others: 0,
                doubts: Vec::new(),
            });
        }
        self.kernel().map(|kernel| kernel.layout(&*self.image))
    }

    /// Every kernel that lies in memory: described by its VMCOREINFO, or known by its page tables. The one that this
    /// target is about comes first. Reads all of memory.
    pub fn kernels(&self) -> Vec<FoundKernel> {
        let mut found = kernel::all(&*self.image, self.arch(), self.note.as_ref(), &self.cpus);
        let ours = self.kernel().ok().map(|kernel| kernel.paging.root);
        found.sort_by_key(|kernel| (Some(kernel.layout.pgd) != ours, kernel.at));
        found
    }

    /// CPUs whose page tables are not those of this target's kernel, where registers tell: they run another kernel, such
    /// as the one that was loaded for a crash.
    pub fn strangers(&self) -> Vec<u32> {
        let Ok(kernel) = self.kernel() else { return Vec::new() };
        let strange = |cpu: &&CpuRegs| kernel.is_run_by(&*self.image, cpu) == Some(false);
        self.cpus.iter().filter(strange).map(|cpu| cpu.cpu).collect()
    }

    /// Tells the target where the direct map starts (`page_offset_base`), which it otherwise finds out from the page
    /// tables. Has no effect where no kernel was found.
    pub fn set_direct_map(&self, base: u64) {
        if let Ok(kernel) = self.kernel() {
            kernel.set_direct_map(base);
        }
    }

    /// The direct map's address of a physical one, if the page is in the dump.
    pub fn phys_to_direct(&self, pa: u64) -> Option<u64> {
        let base = self.kernel().ok()?.direct_map(&*self.image)?;
        self.present(pa).then(|| base.checked_add(pa))?
    }

    /// What happened to the dump's files since they were opened: one got shorter, or its disk fails. Reads that needed
    /// what is gone have failed, but windows on the file that were handed out before read as zeros.
    pub fn trouble(&self) -> Option<String> {
        self.image.trouble()
    }

    /// To be called now and then by what looks at all of a dump: a mapped file's pages count as this process' memory for
    /// as long as they are mapped, and by this the first of them are given back. Nothing changes in what is read.
    pub fn let_go(&self) {
        self.image.let_go(MOST_MAPPED);
    }

    /// Where a kernel address leads by what the dump's headers say of it (`p_vaddr` of an ELF core): the last resort
    /// where no page tables were found. Physical address, and bytes that follow.
    pub(crate) fn by_headers(&self, va: u64) -> Option<(u64, u64)> {
        let (range, pa) = self.virt.iter().find(|(range, _)| range.contains(&va))?;
        Some((pa.checked_add(va - range.start)?, range.end - va))
    }

    /// Where a virtual address leads. In the physical space every address leads to itself.
    pub fn translate(&self, space: Space, va: u64) -> Result<Translation, Reason> {
        match space {
            Space::Phys if self.is_file() => Err(Reason::DoesNotRun),
            Space::Kernel if self.is_file() => self.straight(va),
            Space::Phys => self.straight(va),
            Space::Kernel => self.kernel()?.translate(&*self.image, va),
            Space::User(root) => self.paging(root)?.walk(&*self.image, va),
        }
    }

    /// The way of a virtual address through the page tables, and where it leads; no steps where it needs none.
    pub fn trail(&self, space: Space, va: u64) -> (Vec<Step>, Result<Translation, Reason>) {
        let paging = match space {
            Space::User(root) => self.paging(root),
            Space::Kernel if !self.is_file() => self.kernel().map(|kernel| kernel.paging),
            _ => return (Vec::new(), self.translate(space, va)),
        };
        match paging {
            Ok(paging) => paging.trail(&*self.image, va),
            Err(reason) => (Vec::new(), Err(reason)),
        }
    }

    /// An address of the image itself.
    fn straight(&self, at: u64) -> Result<Translation, Reason> {
        match self.image.state(at) {
            (None, left) => Ok(Translation { pa: at, left, flags: None }),
            (Some(reason), _) => Err(reason),
        }
    }

    /// Shows all mappings of a range of virtual addresses, lowest first, neighbours merged, to `visit`, until that
    /// says stop or `keep_going`, asked for each page table, says no. In the physical space nothing is mapped.
    pub fn each_mapping(
        &self,
        space: Space,
        range: RangeInclusive<u64>,
        keep_going: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>,
    ) -> Result<Outcome, Reason> {
        let paging = match space {
            Space::Phys => return Ok(Outcome::default()),
            Space::Kernel => self.kernel()?.paging,
            Space::User(root) => self.paging(root)?,
        };
        Ok(paging.each(&*self.image, range, keep_going, visit))
    }

    /// Shows every page table that translates addresses of a range, the top one first, to `visit`, until `keep_going`
    /// says no. Returns how many are not in the dump.
    pub fn each_table(
        &self,
        space: Space,
        range: RangeInclusive<u64>,
        keep_going: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(Table),
    ) -> Result<u64, Reason> {
        let paging = match space {
            Space::Phys => return Ok(0),
            Space::Kernel => self.kernel()?.paging,
            Space::User(root) => self.paging(root)?,
        };
        Ok(paging.tables(&*self.image, range, keep_going, visit))
    }

    /// The page tables of a process.
    pub(crate) fn paging(&self, root: u64) -> Result<Paging, Reason> {
        Ok(self.kernel()?.paging.of_process(root))
    }

    pub(crate) fn kernel(&self) -> Result<&Kernel, Reason> {
        let find = || Kernel::find(&*self.image, self.info.arch, self.note.as_ref(), &self.options);
        self.kernel.get_or_init(find).as_ref().map_err(Clone::clone)
    }
}
