//! A process as a core file has it: the registers of its threads, and what is in its memory.
//!
//! Memory is what the process itself would have read: pages that its page tables lead to, and those of mapped files that
//! are in the page cache. What was swapped out, is in a file on a disk only, or was left out of the dump, is missing, and
//! known to be.
//!
//! ```console
//! > 0t1::pid2task | ::gcore -o /tmp/core
//! ```

use crate::{
    file::File,
    inode::Inode,
    page::PageMap,
    pagecache,
    process::Memory as Counted,
    super_block::Kinds,
    syscall::{MODE32, USER32_CS},
    task::{self, Task},
    unwind::{self, End},
    vma::{self, Vma},
};
use engine::{
    ViewEntry,
    prelude::*,
    targets::{Arch, CpuRegs},
};
use std::{collections::BTreeMap, ops::ControlFlow};

/// Where the bytes of a piece of memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// at this physical address, in one piece
    At(u64),
    /// nowhere: it was never touched, and reads as zeros
    Zeros,
    /// nowhere in the dump
    Missing,
}

/// A piece of a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// first user address
    pub start: u64,
    /// bytes
    pub len: u64,
    /// where they are
    pub source: Source,
}

/// Makes the pieces of mappings.
pub struct Pieces<'a> {
    session: &'a Session,
    table: Space,
    swapped: bool,
    page: u64,
    vdso: Vdso,
}

/// Where the vDSO is, on x86: in the process, and what of the kernel is shown there.
#[derive(View)]
#[ctype("mm_struct")]
struct Vdso {
    #[field("context.vdso")]
    at: Option<u64>,
    #[field("context.vdso_image")]
    image: Option<u64>,
}

/// What the vDSO is made of, on x86.
#[derive(View)]
#[ctype("vdso_image")]
struct VdsoImage {
    data: u64,
    size: u64,
}

/// `VM_IO`, `VM_PFNMAP`: memory of devices, and what the kernel itself shows a process (include/linux/mm.h). The kernel
/// leaves the former out of core files too (`vma_dump_size()`).
const VM_IO: u64 = 0x4000;
/// Untouched memory that is larger than this was reserved, not used; it is left out.
const MAX_ZEROS: u64 = 1 << 30;
/// More pieces of one mapping than there can be without damage.
const MAX_PIECES: usize = 1 << 22;
/// More pages than the kernel shows a process of its own.
const MAX_SPECIAL: u64 = 64;

impl<'a> Pieces<'a> {
    /// Of the address space whose `struct mm_struct` is at `mm`.
    pub fn of(session: &'a Session, mm: u64) -> Result<Pieces<'a>> {
        let swapped = Counted::of_mm(session, mm).map_or(true, |counted| counted.swap != 0);
        let (table, page) = (crate::mm::space(session, mm)?, session.target.page_size());
        Ok(Pieces { session, table, swapped, page, vdso: session.view(mm)? })
    }

    /// Visits the pieces of a mapping, lowest first, without gaps.
    pub fn each(&self, vma: &Vma, visit: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        let Some(last) = vma.end.checked_sub(1).filter(|last| *last >= vma.start) else { return Ok(()) };
        let (mut present, session) = (Vec::new(), self.session);
        let seen = session.target.each_mapping(
            self.table,
            vma.start..=last,
            &|| !session.interrupt.is_set(),
            &mut |mapping| {
                present.push((mapping.va, mapping.pa, mapping.len));
                if present.len() < MAX_PIECES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        );
        let lost = match seen {
            Ok(outcome) => outcome.unreadable > 0 || outcome.stopped,
            Err(_) => true,
        };
        session.interrupt.check()?;
        if lost {
            session.notes.add(vma.addr, "mapping of which not all page tables could be read");
        }
        let cache = self.cache(vma)?;
        let mut at = vma.start;
        for (va, pa, len) in present {
            self.absent(vma, at, va, &cache, lost, visit)?;
            // a huge page may reach out of the mapping
            let end = va.saturating_add(len).min(vma.end);
            self.mapped(va, pa, end.saturating_sub(va), visit)?;
            at = end.max(at);
        }
        self.absent(vma, at, vma.end, &cache, lost, visit)
    }

    /// What the page tables lead to: there, or left out of the dump.
    fn mapped(&self, va: u64, pa: u64, len: u64, visit: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        let mut done = 0;
        while done < len {
            let (reason, left) = self.session.target.state(pa.wrapping_add(done));
            let left = left.max(1).min(len - done);
            let source = if reason.is_none() { Source::At(pa.wrapping_add(done)) } else { Source::Missing };
            visit(Piece { start: va.wrapping_add(done), len: left, source })?;
            done += left;
        }
        Ok(())
    }

    /// What they do not lead to.
    fn absent(
        &self,
        vma: &Vma,
        start: u64,
        end: u64,
        cache: &BTreeMap<u64, (u64, u64)>,
        lost: bool,
        visit: &mut dyn FnMut(Piece) -> Result<()>,
    ) -> Result<()> {
        let mut at = start;
        while at < end {
            let index = vma.page_of(at, self.page);
            let cached = cache.range(..=index).next_back().filter(|(first, (_, pages))| index - *first < *pages);
            if let Some((first, (frame, pages))) = cached {
                let len = (first + pages - index).saturating_mul(self.page).min(end - at);
                self.mapped(at, frame.wrapping_add(index - first).wrapping_mul(self.page), len, visit)?;
                at += len;
                continue;
            }
            let next = cache.range(index..).next().map(|(first, _)| (first - index).saturating_mul(self.page));
            let len = next.map_or(end - at, |next| next.min(end - at));
            let untouched = vma.is_anonymous() && !self.swapped && !lost && len <= MAX_ZEROS;
            let source = if untouched { Source::Zeros } else { Source::Missing };
            visit(Piece { start: at, len, source })?;
            at = at.saturating_add(len.max(1));
        }
        Ok(())
    }

    /// The pages of the mapped file that are in memory: by their place in it the first frame, and how many.
    fn cache(&self, vma: &Vma) -> Result<BTreeMap<u64, (u64, u64)>> {
        let mut found = BTreeMap::new();
        if vma.flags & VM_IO != 0 {
            return Ok(found);
        }
        if vma.file == 0 {
            return self.special(vma);
        }
        let file: File = self.session.view(vma.file)?;
        let inode: Inode = self.session.view(file.inode)?;
        // huge pages are counted by their own size there, until Linux 6.7
        if &*Kinds::of(self.session)?.get(self.session, inode.super_block)? == "hugetlbfs" {
            return Ok(found);
        }
        let map = PageMap::of(self.session)?;
        let range = vma.page_of(vma.start, self.page)..vma.page_of(vma.end, self.page);
        let read = pagecache::each(self.session, inode.mapping, &mut |cached| {
            if cached.index >= range.end {
                return Err(Error::Stop);
            }
            if let Some(frame) = map.frame(cached.page).filter(|_| cached.index + cached.pages > range.start) {
                found.insert(cached.index, (frame, cached.pages));
            }
            Ok(())
        });
        match read {
            Ok(()) | Err(Error::Stop) => Ok(found),
            Err(e) => Err(e),
        }
    }
}

impl Pieces<'_> {
    /// The pages of what the kernel shows a process, in the form of [`Pieces::cache`]: the vDSO, of which most is never
    /// touched.
    fn special(&self, vma: &Vma) -> Result<BTreeMap<u64, (u64, u64)>> {
        let (mut found, session) = (BTreeMap::new(), self.session);
        let Some(special) = vma.special(session) else { return Ok(found) };
        let count = ((vma.end - vma.start) / self.page).min(MAX_SPECIAL);
        let first = vma.page_of(vma.start, self.page);
        if let (Some(at), Some(image)) = (self.vdso.at, self.vdso.image.filter(|image| *image != 0)) {
            let image: VdsoImage = session.view(image)?;
            for i in 0..if at == vma.start { count } else { 0 } {
                let place = session.target.translate(Space::Kernel, image.data.wrapping_add(i * self.page));
                if let Some(place) = place.ok().filter(|_| i * self.page < image.size) {
                    found.insert(first + i, (place.pa / self.page, 1));
                }
            }
            return Ok(found);
        }
        let pages = session.u64(special.wrapping_add(session.offset("vm_special_mapping", "pages")?))?;
        let map = PageMap::of(session)?;
        for i in 0..if pages == 0 { 0 } else { count } {
            let page = session.u64(pages.wrapping_add(8 * i))?;
            if let Some(frame) = map.frame(page) {
                found.insert(first + i, (frame, 1));
            }
        }
        Ok(found)
    }
}

// ---- registers --------------------------------------------------------------------------------------------------

/// What a thread was doing in user code.
pub struct Thread {
    /// it
    pub task: Task,
    /// its general registers, as `struct elf_prstatus` has them: `user_regs_struct` on x86-64, `user_pt_regs` on arm64;
    /// `None` where they are not known
    pub general: Option<Vec<u64>>,
    /// its floating-point registers, as NT_PRFPREG has them, if they are in memory
    pub float: Option<Vec<u8>>,
    /// arm64: the register that points at its thread-local storage
    pub tls: Option<u64>,
}

/// Words of `user_regs_struct` that `struct pt_regs` begins with (arch/x86/include/asm/user_64.h).
const X86_SAVED: u64 = 21;
/// The same by the names that dumps have for them.
const X86_NAMES: [&str; 21] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "rflags", "rsp", "ss",
];
/// Words of `user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h).
const ARM_SAVED: u64 = 34;
/// Bytes of an FXSAVE area, and of `struct user_fpsimd_state`.
const FXSAVE: u64 = 512;
const FPSIMD: u64 = 528;

/// What of a task of x86-64 is in registers that system calls do not save.
#[derive(View)]
#[ctype("task_struct")]
struct Segments {
    #[field("thread.fsbase")]
    fsbase: u64,
    #[field("thread.gsbase")]
    gsbase: u64,
    #[field("thread.ds")]
    ds: u64,
    #[field("thread.es")]
    es: u64,
    #[field("thread.fsindex")]
    fsindex: u64,
    #[field("thread.gsindex")]
    gsindex: u64,
}

/// Likewise of arm64.
#[derive(View)]
#[ctype("task_struct")]
struct ArmThread {
    #[field("thread.uw.tp_value")]
    tls: u64,
    #[field("thread.uw.fpsimd_state")]
    float: At,
}

impl Thread {
    /// That of a task.
    pub fn of(session: &Session, addr: u64) -> Result<Thread> {
        let task: Task = session.view(addr)?;
        let arm = session.target.arch() == Arch::Aarch64;
        let (general, running) = match unwind::of_task(session, addr)?.end {
            End::User(Some(regs)) => (Some(saved(session, regs, arm)?), false),
            End::User(None) => (on_cpu(session, &task, arm)?, true),
            _ => (None, false),
        };
        let mut thread = Thread { task, general, float: None, tls: None };
        if arm {
            let state: ArmThread = session.view(addr)?;
            thread.tls = Some(state.tls);
            thread.float = Some(session.bytes(state.float.0, FPSIMD as usize)?.to_vec()).filter(|_| !running);
        } else {
            thread.add_segments(&session.view(addr)?);
            thread.float = if running { None } else { fxsave(session, addr)? };
        }
        Ok(thread)
    }

    /// Whether it runs code of 32 bits: by the code segment, on arm64 by the state of the processor.
    pub fn is_narrow(&self, session: &Session) -> bool {
        let word = |place: usize| self.general.as_ref().and_then(|general| general.get(place)).copied().unwrap_or(0);
        match session.target.arch() {
            Arch::Aarch64 => word(33) & MODE32 != 0,
            _ => word(17) == USER32_CS,
        }
    }

    fn add_segments(&mut self, own: &Segments) {
        if let Some(general) = &mut self.general {
            general.extend([own.fsbase, own.gsbase, own.ds, own.es, own.fsindex, own.gsindex]);
        }
    }
}

/// Those that the entry into the kernel saved.
fn saved(session: &Session, regs: u64, arm: bool) -> Result<Vec<u64>> {
    let count = if arm { ARM_SAVED } else { X86_SAVED };
    let bytes = session.bytes(regs, 8 * count as usize)?;
    let mut words: Vec<u64> = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes)).collect();
    if !arm {
        // with FRED the upper bits say how the kernel was entered
        for selector in [17, 20] {
            if let Some(word) = words.get_mut(selector) {
                *word &= 0xffff;
            }
        }
    }
    Ok(words)
}

/// Those of the CPU that runs it.
fn on_cpu(session: &Session, task: &Task, arm: bool) -> Result<Option<Vec<u64>>> {
    let Some(cpu) = unwind::running_on(session, task)? else { return Ok(None) };
    let Some(regs) = unwind::registers(session, task, cpu) else { return Ok(None) };
    Ok(Some(if arm { of_arm(regs) } else { X86_NAMES.iter().map(|name| regs.get(name).unwrap_or(0)).collect() }))
}

fn of_arm(regs: &CpuRegs) -> Vec<u64> {
    let general = (0..31).map(|i| regs.get(&format!("x{i}")).unwrap_or(0));
    general.chain(["sp", "pc", "pstate"].map(|name| regs.get(name).unwrap_or(0))).collect()
}

/// What of the registers of x87 and SSE a task's state in memory holds, in the format of FXSAVE. Parts that are in their
/// initial state are not written by XSAVE: `xfeatures` behind it says which are.
fn fxsave(session: &Session, task: u64) -> Result<Option<Vec<u8>>> {
    let Some(at) = fpu_registers(session, task)? else { return Ok(None) };
    let mut area = session.bytes(at, FXSAVE as usize + 8)?.to_vec();
    let header = area.split_off(FXSAVE as usize);
    let features = header.try_into().map_or(0, u64::from_le_bytes);
    if features & 1 == 0 {
        area.iter_mut().take(160).skip(32).for_each(|b| *b = 0);
    }
    if features & 2 == 0 {
        area.iter_mut().take(416).skip(160).for_each(|b| *b = 0);
    }
    Ok(Some(area))
}

/// Where a task's FPU state is: in `thread.fpu`; behind a pointer there since Linux 5.16 (87d0e5be0fac); since Linux 6.16
/// (cb7ca40a3882) the `struct fpu` is behind the task.
fn fpu_registers(session: &Session, task: u64) -> Result<Option<u64>> {
    let member = |ctype, path| session.place(ctype, path).map(|field| field.bit_offset / 8);
    if let Some(at) = member("task_struct", "thread.fpu.state") {
        return Ok(Some(task.wrapping_add(at)));
    }
    let pointer = match member("task_struct", "thread.fpu.fpstate") {
        Some(at) => task.wrapping_add(at),
        None => match member("fpu", "fpstate") {
            Some(at) => task.wrapping_add(session.size_of("task_struct")?).wrapping_add(at),
            None => return Ok(None),
        },
    };
    let state = session.u64(pointer)?;
    let regs = member("fpstate", "regs").filter(|_| state >> 63 == 1);
    Ok(regs.map(|regs| state.wrapping_add(regs)))
}

/// The threads of a process, leader first.
pub fn threads(session: &Session, leader: u64) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    task::threads_of(session, leader, &mut |at| {
        match Thread::of(session, at) {
            Ok(thread) => threads.push(thread),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("registers of a thread: {}", e.kind())),
        }
        Ok(())
    })?;
    Ok(threads)
}

/// The mappings of an address space.
pub fn mappings(session: &Session, mm: u64) -> Result<Vec<Vma>> {
    let mut found = Vec::new();
    vma::each(session, mm, &mut |at| {
        found.push(session.view(at)?);
        Ok(())
    })?;
    Ok(found)
}

/// The views of those architectures, each of which only its own kernels have.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Vdso>(), ViewEntry::of::<VdsoImage>(), ViewEntry::of::<Segments>(), ViewEntry::of::<ArmThread>()];
