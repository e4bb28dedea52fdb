//! Kernel memory through a BPF program that copies what it is told to into a buffer that we see.
//!
//! The program reads what the kernel maps: RAM through the direct map. Where that starts is found by trial. The task
//! that runs, which is us, lies in it; from there each place is tried at which its start could be, until what should
//! be at a known physical address is there: the VMCOREINFO note, or the kernel's first code.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::bpf::insn::{Cond, Op};
use ::bpf::{Array, Asm, Helper, Kind, Program, Reg, Size};

use super::{Memory, Ram, missing, system, whole_pages};
use crate::error::Reason;
use crate::mmu::Arch;
use crate::notes::{self, Note};
use crate::open::Opened;
use crate::order::Order;

/// Bytes that one run of the program copies at most.
const WINDOW: usize = 64 << 10;
/// Buffers, so that so many threads can read at once.
const WINDOWS: usize = 8;

/// A program that reads kernel memory, with its buffers.
struct Reader {
    program: Program,
    array: Array,
    /// held while the buffer of that number is in use
    slots: [Mutex<()>; WINDOWS],
    next: AtomicUsize,
}

impl Reader {
    fn new() -> Result<Reader, String> {
        let array = Array::new(WINDOW, WINDOWS).map_err(|error| missing::bpf(&error, ""))?;
        let program = load("kmdb_read", copier(array.fd()))?;
        Ok(Reader { program, array, slots: Default::default(), next: AtomicUsize::new(0) })
    }

    /// Copies what is mapped at `va`, all of it or nothing.
    fn read(&self, mut va: u64, buf: &mut [u8]) -> Result<(), Reason> {
        let (slot, _guard) = self.slot();
        for piece in buf.chunks_mut(WINDOW) {
            let result = self.program.run(&[va, piece.len() as u64, slot as u64]);
            match result {
                Ok(0) => {}
                Ok(_) => return Err(Reason::Refused),
                Err(error) => return Err(Reason::Io(error.to_string())),
            }
            let window = self.array.window(slot).ok_or(Reason::Refused)?;
            window.copy(piece);
            va = va.wrapping_add(piece.len() as u64);
        }
        Ok(())
    }

    /// A buffer that nobody uses, or the next in turn once its user is done.
    fn slot(&self) -> (usize, MutexGuard<'_, ()>) {
        let free = self.slots.iter().enumerate().find_map(|(i, slot)| Some((i, slot.try_lock().ok()?)));
        free.unwrap_or_else(|| {
            let i = self.next.fetch_add(1, Ordering::Relaxed) % WINDOWS;
            (i, self.slots[i].lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

fn load(name: &str, asm: Asm) -> Result<Program, String> {
    let insns = asm.finish().unwrap_or_default();
    Program::load(Kind::RawTracepoint, name, &insns)
        .map_err(|e| missing::bpf(&e.error, e.to_string().split_once(": ").map_or("", |(_, said)| said)))
}

/// `copy(from, bytes, buffer)`: 0 or an error.
fn copier(map: i32) -> Asm {
    use Reg::*;
    let mut asm = Asm::default();
    let (fail, end) = (asm.label(), asm.label());
    asm.mov(R6, R1)
        .load(Size::Double, R7, R6, 16)
        .store(Size::Word, Fp, -4, R7)
        .map(R1, map)
        .mov(R2, Fp)
        .alu(Op::Add, R2, -4)
        .call(Helper::MapLookup)
        .jump_if(Cond::Eq, R0, 0, fail)
        .mov(R1, R0)
        .load(Size::Double, R2, R6, 8)
        .jump_if(Cond::Gt, R2, WINDOW as i32, fail)
        .load(Size::Double, R3, R6, 0)
        .call(Helper::ProbeReadKernel)
        .jump(end)
        .place(fail)
        .mov(R0, 1)
        .place(end)
        .exit();
    asm
}

/// The current task's address, shifted right by the argument: a result has but 32 bits.
fn current() -> Asm {
    let mut asm = Asm::default();
    asm.load(Size::Double, Reg::R6, Reg::R1, 0).call(Helper::GetCurrentTask).alu(Op::Shr, Reg::R0, Reg::R6).exit();
    asm
}

/// The address of the `struct task_struct` that we are.
fn current_task() -> Result<u64, String> {
    let program = load("kmdb_current", current())?;
    let half = |shift| program.run(&[shift]).map_err(|error| missing::bpf(&error, ""));
    Ok(u64::from(half(32)?) << 32 | u64::from(half(0)?))
}

/// RAM through the direct map.
struct Direct {
    reader: Reader,
    /// virtual address of physical zero
    base: u64,
}

impl Ram for Direct {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason> {
        self.reader.read(self.base.wrapping_add(pa), buf)
    }
}

/// Opens kernel memory; the error is what to tell the user.
pub fn open() -> Result<Opened, String> {
    let arch = Some(Arch::from_elf(system::machine(), Order::LITTLE_64))
        .filter(|arch| arch.is_known())
        .ok_or("kmdb does not know this machine's page tables")?;
    let reader = Reader::new()?;
    let iomem = system::Iomem::read();
    let ram = if iomem.ram.is_empty() { system::firmware_ram() } else { iomem.ram };
    let ranges = whole_pages(ram);
    let Some(last) = ranges.last() else {
        return Err("neither /proc/iomem says where RAM is, which shows that to CAP_SYS_ADMIN only, nor \
                    /sys/firmware/memmap"
            .into());
    };
    let task = current_task()?;
    let base = direct_map(&reader, task, last.end, iomem.code)?;
    let notes = vmcoreinfo(&reader, base, &ranges);
    let format = "the running kernel, through BPF".to_owned();
    Ok(Opened::new(format, arch, Box::new(Memory::new(Box::new(Direct { reader, base }), ranges)), notes))
}

/// Physical zero's address: what is known to be at a physical address must be there.
///
/// On x86-64 the direct map is moved by multiples of 1 GiB, on arm64 by such of 128 MiB or more
/// (`ARM64_MEMSTART_ALIGN`).
fn direct_map(reader: &Reader, task: u64, end: u64, code: Option<u64>) -> Result<u64, String> {
    const STEP: u64 = if cfg!(target_arch = "aarch64") { 128 << 20 } else { 1 << 30 };
    let mut known: Vec<(u64, Vec<u8>)> = Vec::new();
    if let Some((pa, _)) = system::vmcoreinfo() {
        known.push((pa + 12, b"VMCOREINFO\0".to_vec()));
    }
    if let (Some(pa), Some(va)) = (code, system::text_start()) {
        let mut code = vec![0; 1024];
        if reader.read(va, &mut code).is_ok() {
            known.push((pa, code));
        }
    }
    if known.is_empty() {
        return Err("where RAM is mapped cannot be found out: neither /sys/kernel/vmcoreinfo nor /proc/iomem with \
                    /proc/kallsyms tells (the latter hide addresses if kernel.kptr_restrict is 2)"
            .into());
    }
    let is_there = |base: u64| {
        known.iter().any(|(pa, what)| {
            let mut found = vec![0; what.len()];
            reader.read(base.wrapping_add(*pa), &mut found).is_ok() && found == *what
        })
    };
    let first = task & !(STEP - 1);
    let candidates = (0..=end / STEP + 1).map(|n| first.wrapping_sub(n * STEP));
    candidates
        .into_iter()
        .find(|base| is_there(*base))
        .ok_or_else(|| format!("where RAM is mapped was not found: it is not within {end:#x} bytes below {task:#x}"))
}

/// The kernel's own note.
fn vmcoreinfo(reader: &Reader, base: u64, ranges: &[Range<u64>]) -> Vec<Note> {
    /// as in `notes_in_memory`: one page, by the kernel's own limit, but it may grow
    const MAX: usize = 1 << 16;
    let Some((pa, len)) = system::vmcoreinfo() else { return Vec::new() };
    if len > MAX || !ranges.iter().any(|r| r.contains(&pa) && r.contains(&(pa + len as u64 - 1))) {
        return Vec::new();
    }
    let mut note = vec![0; len];
    match reader.read(base.wrapping_add(pa), &mut note) {
        Ok(()) => notes::parse(note.into()).collect(),
        Err(_) => Vec::new(),
    }
}
