//! Interrupts: `struct irq_desc` (include/linux/irqdesc.h), its actions, its counts, and the counters that architectures
//! keep for what has no descriptor.
//!
//! All descriptors hang in `sparse_irqs`, a maple tree since Linux 6.5 (721255b9826b), in `irq_desc_tree`, a radix tree,
//! before; by number.
//!
//! ```console
//! > ::walk irq_desc | ::head -n 1 | ::print irq_data.irq handle_irq action->name
//! irq_data.irq = 0
//! handle_irq = handle_edge_irq
//! action->name = 0xffffffffbd269318 "timer"
//! ```

use crate::{cpumask, list, maple, percpu::Percpu, xarray};
use engine::{ViewEntry, prelude::*};

/// `struct irq_desc`.
#[derive(View, Clone, Debug)]
#[ctype("irq_desc")]
pub struct Irq {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    #[field("irq_data.irq")]
    pub number: u32,
    /// its number in its domain: the pin, the MSI's index
    #[field("irq_data.hwirq")]
    pub hwirq: u64,
    #[field("irq_data.chip")]
    chip: u64,
    #[field("irq_data.domain")]
    domain: Option<u64>,
    /// the function that handles its flow: `handle_edge_irq`
    #[field("handle_irq")]
    pub flow: u64,
    /// what /proc/interrupts shows of that: `edge`
    #[field("name")]
    flow_name: u64,
    /// first `struct irqaction`
    pub action: u64,
    /// how often it is disabled; 0 if it is not
    pub depth: u32,
    /// interrupts since the last 100,000 were looked at, of which nobody wanted `irqs_unhandled`
    #[field("irqs_unhandled")]
    pub unhandled: u32,
    kstat_irqs: u64,
}

/// What is called when it comes: `struct irqaction` (include/linux/interrupt.h).
#[derive(View, Clone, Debug)]
#[ctype("irqaction")]
pub struct Action {
    /// its address
    #[addr]
    pub addr: u64,
    /// called with interrupts off
    pub handler: u64,
    /// called in the thread; 0 if there is none
    pub thread_fn: u64,
    /// the thread; 0 if there is none
    pub thread: u64,
    name: u64,
}

impl Action {
    /// Who asked for it; empty if they gave no name.
    pub fn name(&self, session: &Session) -> Result<String> {
        match self.name {
            0 => Ok(String::new()),
            name => session.cstr(name, 128),
        }
    }
}

/// `struct irq_chip`.
#[derive(View)]
#[ctype("irq_chip")]
struct Chip {
    name: u64,
}

/// `struct irq_domain`.
#[derive(View)]
#[ctype("irq_domain")]
struct Domain {
    name: u64,
}

impl Irq {
    /// Name of the controller: `IO-APIC`, `GICv3`; empty if there is none.
    pub fn chip(&self, session: &Session) -> Result<String> {
        named(session, self.chip, |chip| Ok(session.view::<Chip>(chip)?.name))
    }

    /// Name of the domain that gave it its number.
    pub fn domain(&self, session: &Session) -> Result<String> {
        named(session, self.domain.unwrap_or(0), |domain| Ok(session.view::<Domain>(domain)?.name))
    }

    /// How its flow is called: `edge`, `fasteoi`; empty if it has no name.
    pub fn flow_name(&self, session: &Session) -> Result<String> {
        match self.flow_name {
            0 => Ok(String::new()),
            at => session.cstr(at, 64),
        }
    }

    /// Its actions, in the order in which they are called.
    pub fn actions(&self, session: &Session) -> Result<Vec<Action>> {
        let mut found = Vec::new();
        list::chain(session, self.action, session.offset("irqaction", "next")?, &mut |at| {
            found.push(session.view(at)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// How often it came, for each CPU.
    pub fn counts(&self, session: &Session) -> Result<Vec<u64>> {
        let percpu = Percpu::of(session)?;
        match self.kstat_irqs {
            0 => Ok(Vec::new()),
            // an `unsigned int`, or since Linux 6.10 a struct that begins with it
            at => percpu.copies(at).map(|(_, at)| Ok(session.u32(at)?.into())).collect(),
        }
    }

    /// The CPUs that it may come to; of those, the ones that it does, where the kernel keeps them apart.
    pub fn affinity(&self, session: &Session) -> Result<(Vec<u32>, Vec<u32>)> {
        let set = |name: &str| match session.place("irq_desc", name) {
            Some(field) => cpumask::member(session, self.addr, &field),
            None => Ok(Vec::new()),
        };
        Ok((set("irq_common_data.affinity")?, set("irq_common_data.effective_affinity")?))
    }
}

/// A name that a struct has, if there is such a struct and it has one.
fn named(session: &Session, at: u64, name: impl Fn(u64) -> Result<u64>) -> Result<String> {
    match at {
        0 => Ok(String::new()),
        at => match name(at)? {
            0 => Ok(String::new()),
            name => session.cstr(name, 64),
        },
    }
}

/// Visits every interrupt's descriptor, by number.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    if let Some(tree) = session.kernel_symbol("sparse_irqs") {
        return maple::each(session, tree, &mut |_, _, desc| visit(desc));
    }
    if let Some(tree) = session.kernel_symbol("irq_desc_tree") {
        return xarray::each(session, tree, &mut |_, desc| visit(desc));
    }
    // without CONFIG_SPARSE_IRQ an array
    let table = session.kernel_symbol("irq_desc").ok_or_else(|| {
        Error::Unavailable("no interrupts were found: no symbol `sparse_irqs`, `irq_desc_tree`, `irq_desc`".into())
    })?;
    let size = session.size_of("irq_desc")?;
    let object = Object { addr: table, ctype: None };
    let count = crate::container::extent(session, object, size).unwrap_or(0).min(1 << 16);
    (0..count).try_for_each(|i| visit(table.wrapping_add(i * size)))
}

/// A counter for what has no descriptor: inter-processor interrupts, the local timer, machine checks.
pub struct Counter {
    /// as /proc/interrupts has it: `LOC`
    pub name: String,
    /// what it counts
    pub what: String,
    /// for each CPU; one number if it counts for all of them
    pub counts: Vec<u64>,
}

/// x86's, in the order of /proc/interrupts (arch/x86/kernel/irq.c): the name, the member of `irq_cpustat_t` or the per-CPU
/// variable, what it counts.
#[rustfmt::skip]
const COUNTERS: &[(&str, &str, &str)] = &[
    ("NMI", "__nmi_count", "Non-maskable interrupts"),
    ("LOC", "apic_timer_irqs", "Local timer interrupts"),
    ("SPU", "irq_spurious_count", "Spurious interrupts"),
    ("PMI", "apic_perf_irqs", "Performance monitoring interrupts"),
    ("IWI", "apic_irq_work_irqs", "IRQ work interrupts"),
    ("RTR", "icr_read_retry_count", "APIC ICR read retries"),
    ("PLT", "x86_platform_ipis", "Platform interrupts"),
    ("RES", "irq_resched_count", "Rescheduling interrupts"),
    ("CAL", "irq_call_count", "Function call interrupts"),
    ("TLB", "irq_tlb_count", "TLB shootdowns"),
    ("TRM", "irq_thermal_count", "Thermal event interrupts"),
    ("THR", "irq_threshold_count", "Threshold APIC interrupts"),
    ("DFR", "irq_deferred_error_count", "Deferred Error APIC interrupts"),
    ("MCE", "mce_exception_count", "Machine check exceptions"),
    ("MCP", "mce_poll_count", "Machine check polls"),
    ("HYP", "irq_hv_callback_count", "Hypervisor callback interrupts"),
    ("HRE", "irq_hv_reenlightenment_count", "Hyper-V reenlightenment interrupts"),
    ("HVS", "hyperv_stimer0_count", "Hyper-V stimer0 interrupts"),
    ("PIN", "kvm_posted_intr_ipis", "Posted-interrupt notification event"),
    ("NPI", "kvm_posted_intr_nested_ipis", "Nested posted-interrupt event"),
    ("PIW", "kvm_posted_intr_wakeup_ipis", "Posted-interrupt wakeup event"),
    ("PMN", "posted_msi_notification_count", "Posted MSI notification event"),
];

/// Likewise, those that are one number: the name, the variable, what it counts.
const TOTALS: &[(&str, &str, &str)] = &[("ERR", "irq_err_count", "errors"), ("MIS", "irq_mis_count", "missed")];

/// The counters of this architecture; none where all are descriptors, as on arm64.
pub fn counters(session: &Session) -> Result<Vec<Counter>> {
    let percpu = Percpu::of(session)?;
    let stat = session.kernel_symbol("irq_stat").zip(session.ctype("irq_cpustat_t").ok());
    let mut found = listed(session, &percpu)?;
    for (name, member, what) in COUNTERS {
        let inside = stat.and_then(|(at, ctype)| Some(at.wrapping_add(session.field(ctype, member)?.bit_offset / 8)));
        let Some(at) = inside.or_else(|| session.kernel_symbol(member)) else { continue };
        let counts = percpu.copies(at).map(|(_, at)| Ok(session.u32(at)?.into())).collect::<Result<_>>()?;
        found.push(Counter { name: (*name).to_owned(), what: (*what).to_owned(), counts });
    }
    for (name, variable, what) in TOTALS {
        let Some(at) = session.kernel_symbol(variable) else { continue };
        let counts = vec![session.u32(at)?.into()];
        found.push(Counter { name: (*name).to_owned(), what: (*what).to_owned(), counts });
    }
    Ok(found)
}

/// What one of x86's counters is called: `struct irq_stat_info` (arch/x86/kernel/irq.c).
#[derive(View)]
#[ctype("irq_stat_info")]
struct CounterInfo {
    symbol: u64,
    text: u64,
}

/// Since Linux 7.1 x86's counters are an array, and another says what each is.
fn listed(session: &Session, percpu: &Percpu) -> Result<Vec<Counter>> {
    let Some(stat) = session.kernel_symbol("irq_stat").zip(session.ctype("irq_cpustat_t").ok()) else {
        return Ok(Vec::new());
    };
    let (Some(info), Some(counts)) = (session.kernel_symbol("irq_stat_info"), session.field(stat.1, "counts")) else {
        return Ok(Vec::new());
    };
    let first = stat.0.wrapping_add(counts.bit_offset / 8);
    let size = session.size_of("irq_stat_info")?;
    let mut found = Vec::new();
    for i in 0..(counts.bits / 32).min(256) {
        let info: CounterInfo = session.view(info.wrapping_add(i * size))?;
        let copies = percpu.copies(first.wrapping_add(i * 4));
        let counts = copies.map(|(_, at)| Ok(session.u32(at)?.into())).collect::<Result<_>>()?;
        if info.symbol != 0 {
            let (name, what) = (session.cstr(info.symbol, 16)?, session.cstr(info.text, 128)?);
            found.push(Counter { name: name.trim().to_owned(), what: what.trim().to_owned(), counts });
        }
    }
    Ok(found)
}

/// Walks descriptors and their actions.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "irq_desc",
        doc: "walk the descriptors of interrupts, by number",
        item: "struct irq_desc",
        address: Address::None,
        walk: |cx, _, visit| each(cx, visit),
    },
    WalkerEntry {
        name: "irqaction",
        doc: "walk the actions of the interrupt whose struct irq_desc is at the address",
        item: "struct irqaction",
        address: Address::Required,
        walk: |cx, at, visit| {
            let irq: Irq = cx.view(at.map_or(0, |o| o.addr))?;
            list::chain(cx, irq.action, cx.offset("irqaction", "next")?, visit)
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Irq>(),
    ViewEntry::of::<Action>(),
    ViewEntry::of::<Chip>(),
    ViewEntry::of::<Domain>(),
    ViewEntry::of::<CounterInfo>(),
];
