//! Stacks that belong to CPUs and not to tasks: those for interrupts, for exceptions that must not use the stack they
//! interrupt, and for entering the kernel.
//!
//! x86-64 keeps what the hardware must find while user page tables are in force in a `struct cpu_entry_area` of each CPU
//! (arch/x86/include/asm/cpu_entry_area.h), mapped at addresses of its own: a CPU's `cea_exception_stacks` points into it.
//! On arm64 per-CPU pointers name the stacks, or the stack itself is per CPU (arch/arm64/kernel/irq.c, traps.c, sdei.c).

use crate::{percpu::Percpu, task_stack::Stacks};
use engine::prelude::*;
use std::{ops::Range, sync::Arc};

/// A CPU's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuStack {
    /// its addresses
    pub range: Range<u64>,
    /// the CPU
    pub cpu: u32,
    /// what it is for: `interrupt`, `NMI`, …
    pub kind: &'static str,
}

/// A CPU's `struct cpu_entry_area`, where it is mapped for all page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryArea {
    /// its addresses
    pub range: Range<u64>,
    /// the CPU
    pub cpu: u32,
}

/// Every stack of a CPU.
#[derive(Debug, Default)]
pub struct CpuStacks {
    /// by address
    stacks: Vec<CpuStack>,
    areas: Vec<EntryArea>,
}

/// Members of `struct cea_exception_stacks`, and whose stacks they are (arch/x86/include/asm/cpu_entry_area.h).
const EXCEPTIONS: &[(&str, &str)] = &[
    ("DF_stack", "double fault"),
    ("NMI_stack", "NMI"),
    ("DB_stack", "debug exception"),
    ("MCE_stack", "machine check"),
    ("VC_stack", "VMM communication"),
    ("VC2_stack", "VMM communication fallback"),
];
/// Per-CPU pointers to stacks of the size of a task's: to their top or their bottom, and what they are for.
const POINTERS: &[(&str, bool, &str)] = &[
    // arch/x86/kernel/irq_64.c; a member of pcpu_hot in Linux 6.2 to 6.14 (d7b6d709a76a)
    ("hardirq_stack_ptr", true, "interrupt"),
    // 32-bit, and PREEMPT_RT
    ("softirq_stack_ptr", true, "soft interrupt"),
    // arch/arm64/kernel/irq.c and sdei.c
    ("irq_stack_ptr", false, "interrupt"),
    ("sdei_stack_normal_ptr", false, "SDEI"),
    ("sdei_stack_critical_ptr", false, "critical SDEI"),
];
/// `OVERFLOW_STACK_SIZE` (arch/arm64/include/asm/memory.h).
const OVERFLOW_SIZE: u64 = 4096;

impl CpuStacks {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<CpuStacks>> {
        session.once(|| session.settle(|| CpuStacks::read(session)))
    }

    fn read(session: &Session) -> Result<CpuStacks> {
        let cpus = Percpu::of(session)?;
        let mut found = CpuStacks::default();
        found.entry_areas(session, &cpus)?;
        let size = Stacks::of(session)?.size();
        let hot = session.place("pcpu_hot", "hardirq_stack_ptr").map(|place| place.bit_offset / 8);
        for (name, at_top, kind) in POINTERS {
            let variable = session.kernel_symbol(name).or_else(|| {
                let hot = hot.filter(|_| *name == "hardirq_stack_ptr")?;
                Some(session.kernel_symbol("pcpu_hot")?.wrapping_add(hot))
            });
            for (cpu, at) in variable.iter().flat_map(|variable| cpus.copies(*variable)) {
                let pointer = match session.u64(at) {
                    Ok(pointer) => pointer,
                    Err(e) if e.is_control() => return Err(e),
                    Err(_) => continue,
                };
                // x86-64's points at the last word of it, or behind it
                let start = if *at_top { (pointer.wrapping_add(8)).wrapping_sub(size) & !(size - 1) } else { pointer };
                if pointer >> 63 == 1 {
                    found.push(start, size, cpu, kind);
                }
            }
        }
        if let Some(variable) = session.kernel_symbol("overflow_stack") {
            cpus.copies(variable).for_each(|(cpu, at)| found.push(at, OVERFLOW_SIZE, cpu, "overflow"));
        }
        found.stacks.sort_unstable_by_key(|stack| stack.range.start);
        found.areas.sort_unstable_by_key(|area| area.range.start);
        Ok(found)
    }

    fn push(&mut self, start: u64, len: u64, cpu: u32, kind: &'static str) {
        self.stacks.push(CpuStack { range: start..start.saturating_add(len), cpu, kind });
    }

    fn entry_areas(&mut self, session: &Session, cpus: &Percpu) -> Result<()> {
        let (Some(variable), Some(inside), Ok(size)) = (
            session.kernel_symbol("cea_exception_stacks"),
            session.place("cpu_entry_area", "estacks"),
            session.size_of("cpu_entry_area"),
        ) else {
            return Ok(());
        };
        let entry = session.place("cpu_entry_area", "entry_stack_page");
        for (cpu, at) in cpus.copies(variable) {
            let stacks = match session.u64(at) {
                Ok(stacks) if stacks >> 63 == 1 => stacks,
                Err(e) if e.is_control() => return Err(e),
                _ => continue,
            };
            let area = stacks.wrapping_sub(inside.bit_offset / 8);
            self.areas.push(EntryArea { range: area..area.saturating_add(size), cpu });
            for (member, kind) in EXCEPTIONS {
                if let Some(place) = session.place("cea_exception_stacks", member) {
                    self.push(stacks.wrapping_add(place.bit_offset / 8), place.bits / 8, cpu, kind);
                }
            }
            if let Some(place) = entry {
                self.push(area.wrapping_add(place.bit_offset / 8), place.bits / 8, cpu, "entry");
            }
        }
        Ok(())
    }

    /// All of them, by address.
    pub fn all(&self) -> &[CpuStack] {
        &self.stacks
    }

    /// The stack that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&CpuStack> {
        let next = self.stacks.partition_point(|s| s.range.start <= addr);
        self.stacks.get(next.checked_sub(1)?).filter(|s| s.range.contains(&addr))
    }

    /// The entry area that an address lies in.
    pub fn entry_area(&self, addr: u64) -> Option<&EntryArea> {
        let next = self.areas.partition_point(|s| s.range.start <= addr);
        self.areas.get(next.checked_sub(1)?).filter(|s| s.range.contains(&addr))
    }
}
