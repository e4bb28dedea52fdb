//! Registers of each CPU at the moment of the dump.
//!
//! Two notes carry them. NT_PRSTATUS (`struct elf_prstatus`, include/linux/elfcore.h) is written by the kernel that
//! crashed or by the hypervisor and has the general registers. On x86-64 QEMU's own note (`QEMUCPUState`,
//! target/i386/arch_dump.c) adds segments and control registers. Where a dump has both they are merged.

use bytes::{Buf, Bytes};

use crate::mmu::Arch;
use crate::notes::Note;
use crate::order::{Fields, Order};

mod others;

/// Which note the registers came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegSource {
    /// NT_PRSTATUS, written by the kernel.
    Prstatus,
    /// The hypervisor: its own note merged with NT_PRSTATUS, or on arm64, where it has none, NT_PRSTATUS alone.
    Qemu,
}

/// Registers of one CPU, under the architecture's own names in its usual order.
#[derive(Clone, Debug)]
pub struct CpuRegs {
    /// Place of the CPU among the dump's notes. QEMU writes one note for each CPU, in order; the kernel writes them
    /// in the order of the CPUs that were online, so behind an offline CPU the number is too small.
    pub cpu: u32,
    /// The task that ran there, from NT_PRSTATUS. `None` from a hypervisor, which knows no tasks.
    pub pid: Option<u32>,
    /// Where they came from.
    pub source: RegSource,
    regs: Vec<(&'static str, u64)>,
}

impl CpuRegs {
    /// All registers that are known: name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.regs.iter().copied()
    }

    /// One register by name, such as `rip`, `gs_base` or `cr3`. arm64's frame pointer and link register also go by
    /// those names.
    pub fn get(&self, name: &str) -> Option<u64> {
        let name = match name {
            "fp" => "x29",
            "lr" => "x30",
            name => name,
        };
        self.regs.iter().find(|(n, _)| *n == name).map(|&(_, value)| value)
    }

    /// The instruction pointer.
    pub fn ip(&self) -> Option<u64> {
        ["rip", "pc", "eip", "nip", "psw_addr"].into_iter().find_map(|name| self.get(name))
    }

    /// The stack pointer.
    pub fn sp(&self) -> Option<u64> {
        ["rsp", "sp", "esp"].into_iter().find_map(|name| self.get(name))
    }

    /// Whether the CPU ran user code: the privilege level in `cs` is 3, the exception level in `pstate` 0.
    pub fn user_mode(&self) -> Option<bool> {
        let x86_64 = self.get("cs").map(|cs| cs & 3 == 3);
        x86_64.or_else(|| self.get("pstate").map(|pstate| pstate & 0xf == 0))
    }
}

/// `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h), in which people read them too.
const AARCH64: [&str; 34] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp", "pc", "pstate",
];
/// `struct user_regs_struct` (arch/x86/include/asm/user_64.h).
const X86_64: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];
/// The order in which people read them.
const ORDER: [&str; 36] = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "fs_base",
    "gs_base",
    "kernel_gs_base",
    "orig_rax",
    "cr0",
    "cr2",
    "cr3",
    "cr4",
    "gdt_base",
    "idt_base",
    "tr_base",
    "ldt_base",
];
/// Offset of `pr_pid` and of `pr_reg` in `struct elf_prstatus`, for 64-bit and for 32-bit words.
const PRSTATUS: [(usize, usize); 2] = [(32, 112), (24, 72)];

/// The CPUs' registers from a dump's notes.
pub(crate) fn from_notes(arch: Arch, order: Order, notes: &[Note]) -> Vec<CpuRegs> {
    let prstatus =
        notes.iter().filter(|n| n.kind == 1 && &n.name[..] == b"CORE").map(|n| prstatus(arch, order, &n.desc));
    let mut cpus: Vec<CpuRegs> = Vec::new();
    for (cpu, found) in prstatus.enumerate() {
        // A damaged note still takes its CPU's place.
        let (pid, regs) = found.unwrap_or_default();
        cpus.push(CpuRegs { cpu: cpu as u32, pid, source: RegSource::Prstatus, regs });
    }
    for (cpu, note) in notes.iter().filter(|n| arch == Arch::X86_64 && &n.name[..] == b"QEMU").enumerate() {
        let Some(regs) = qemu(note.desc.clone()) else { continue };
        if cpus.len() <= cpu {
            cpus.resize_with(cpu + 1, || CpuRegs { cpu: 0, pid: None, source: RegSource::Qemu, regs: Vec::new() });
        }
        let Some(slot) = cpus.get_mut(cpu) else { continue };
        // QEMU puts its CPU index plus one where the kernel puts the task's pid.
        (slot.cpu, slot.pid, slot.source) = (cpu as u32, None, RegSource::Qemu);
        for (name, value) in regs {
            match slot.regs.iter_mut().find(|(n, _)| *n == name) {
                Some(reg) => reg.1 = value,
                None => slot.regs.push((name, value)),
            }
        }
    }
    if arch == Arch::Aarch64 && is_qemus(&cpus) {
        for cpu in &mut cpus {
            (cpu.source, cpu.pid) = (RegSource::Qemu, None);
        }
    }
    for cpu in cpus.iter_mut().filter(|_| arch == Arch::X86_64) {
        cpu.regs.sort_by_key(|(name, _)| ORDER.iter().position(|o| o == name));
    }
    cpus
}

/// On arm64 QEMU writes no note of its own. But it has no tasks to tell of: it numbers its CPUs from 1 where a kernel
/// puts pids, and of those 1 belongs to init.
fn is_qemus(cpus: &[CpuRegs]) -> bool {
    (1u32..).zip(cpus).all(|(number, cpu)| cpu.pid == Some(number))
}

/// The CPUs' registers as QEMU's monitor prints them (`info registers -a`): `CPU#0`, then `RAX=0123… `, on arm64 `X00=…`,
/// and for segments `CS =0010 base limit flags`.
pub(crate) fn from_monitor(arch: Arch, text: &str) -> Vec<CpuRegs> {
    /// More than any machine has.
    const CPUS: usize = 4096;
    let mut cpus = Vec::new();
    for part in text.split("CPU#").skip(1).take(CPUS) {
        let (number, body) = part.split_once(['\r', '\n', ' ']).unwrap_or((part, ""));
        let Ok(cpu) = number.trim().parse() else { continue };
        let regs = printed(arch, body);
        if !regs.is_empty() {
            cpus.push(CpuRegs { cpu, pid: None, source: RegSource::Qemu, regs });
        }
    }
    cpus
}

fn printed(arch: Arch, body: &str) -> Regs {
    let hex = |text: Option<&str>| u64::from_str_radix(text?, 16).ok();
    let mut regs = Regs::new();
    let mut put = |name: String, value: Option<u64>| {
        let known = match arch {
            Arch::Aarch64 => AARCH64.iter().find(|known| **known == name),
            _ => ORDER.iter().find(|known| **known == name),
        };
        if let (Some(known), Some(value)) = (known, value)
            && !regs.iter().any(|(name, _)| name == known)
        {
            regs.push((known, value));
        }
    };
    for line in body.lines() {
        // names of two letters have a blank before the sign, tables without a selector some behind it
        let mut words = line.replace(" =", "=");
        while words.contains("= ") {
            words = words.replace("= ", "=");
        }
        let words: Vec<&str> = words.split_whitespace().collect();
        let Some((name, value)) = words.first().and_then(|word| word.split_once('=')) else { continue };
        let name = name.to_lowercase();
        match (name.as_str(), arch) {
            ("cs" | "ss" | "ds" | "es" | "fs" | "gs", Arch::X86_64) => {
                put(name.clone(), hex(Some(value)));
                if matches!(name.as_str(), "fs" | "gs") {
                    put(format!("{name}_base"), hex(words.get(1).copied()));
                }
            }
            ("tr" | "ldt", Arch::X86_64) => put(format!("{name}_base"), hex(words.get(1).copied())),
            ("gdt" | "idt", Arch::X86_64) => put(format!("{name}_base"), hex(Some(value))),
            _ => {
                for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
                    let name = name.to_lowercase();
                    let name = match (name.as_str(), name.strip_prefix('x')) {
                        ("rfl", _) => "rflags".to_owned(),
                        // X00, X29
                        (_, Some(digits)) => format!("x{}", digits.trim_start_matches('0').parse().unwrap_or(0u8)),
                        (name, None) => name.to_owned(),
                    };
                    put(name, hex(Some(value)));
                }
            }
        }
    }
    match arch {
        Arch::Aarch64 => regs.sort_by_key(|(name, _)| AARCH64.iter().position(|o| o == name)),
        _ => regs.sort_by_key(|(name, _)| ORDER.iter().position(|o| o == name)),
    }
    regs
}

type Regs = Vec<(&'static str, u64)>;

fn prstatus(arch: Arch, order: Order, desc: &Bytes) -> Option<(Option<u32>, Regs)> {
    let names: &[&'static str] = match arch {
        Arch::X86_64 => &X86_64,
        Arch::Aarch64 => &AARCH64,
        Arch::Other(name) => others::names(name),
    };
    let (pid_at, regs_at) = PRSTATUS[usize::from(!order.wide)];
    let from = |at: usize| (at <= desc.len()).then(|| Fields::new(desc.slice(at..), order));
    let pid = from(pid_at)?.u32()?;
    let mut values = from(regs_at)?;
    let regs = names.iter().map_while(|&name| Some((name, values.word()?))).collect::<Regs>();
    (regs.len() == names.len() || !arch.is_known()).then_some((Some(pid), regs))
}

/// `QEMUCPUState`: version, size, 18 general registers, 10 segments, five control registers, kernel_gs_base.
fn qemu(mut desc: Bytes) -> Option<Regs> {
    const GENERAL: [&str; 18] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "rflags",
    ];
    /// selector and base of each segment, where they are of use
    const SEGMENTS: [(Option<&str>, Option<&str>); 10] = [
        (Some("cs"), None),
        (Some("ds"), None),
        (Some("es"), None),
        (Some("fs"), Some("fs_base")),
        (Some("gs"), Some("gs_base")),
        (Some("ss"), None),
        (None, Some("ldt_base")),
        (None, Some("tr_base")),
        (None, Some("gdt_base")),
        (None, Some("idt_base")),
    ];
    let version = desc.try_get_u32_le().ok()?;
    let size = desc.try_get_u32_le().ok()?;
    if version != 1 {
        return None;
    }
    let mut regs = Regs::new();
    for name in GENERAL {
        regs.push((name, desc.try_get_u64_le().ok()?));
    }
    for (selector, base) in SEGMENTS {
        let value = u64::from(desc.try_get_u32_le().ok()?);
        desc.try_get_u32_le().ok()?; // limit
        desc.try_get_u64_le().ok()?; // flags and padding
        let start = desc.try_get_u64_le().ok()?;
        regs.extend(selector.map(|name| (name, value)));
        regs.extend(base.map(|name| (name, start)));
    }
    for name in ["cr0", "cr1", "cr2", "cr3", "cr4"] {
        let value = desc.try_get_u64_le().ok()?;
        if name != "cr1" {
            regs.push((name, value)); // there is no cr1
        }
    }
    /// Size of the structure since it has `kernel_gs_base`.
    const WITH_GS: u32 = 440;
    if size >= WITH_GS {
        regs.push(("kernel_gs_base", desc.try_get_u64_le().ok()?));
    }
    Some(regs)
}
