//! Interrupts: `::irqs`, which is `::interrupts` as well.
//!
//! ```console
//! > ::irqs | ::head -n 3
//! ADDR             IRQ COUNT CHIP    HWIRQ TYPE AFFINITY ACTIONS
//! ff3a288dc1192c00 0     616 IO-APIC     2 edge 0        timer
//! ff3a288dc1194a00 1       9 IO-APIC     1 edge 1        i8042
//! ff3a288dc12a7a00 4      33 IO-APIC     4 edge 1        ttyS0
//! ```

use crate::words::cpu_list;
use engine::{IntoRow, prelude::*};
use walkers::{
    irq::{self, Irq},
    total::Total,
};

/// Show interrupts, as /proc/interrupts does: how often each came, of which controller it is, who asked for it.
///
/// Those that nobody asked for and that never came are left out, unless -a is given. With the address of a `struct
/// irq_desc`, only that one.
#[derive(Args)]
pub struct Irqs {
    /// all of them
    #[arg(short = 'a')]
    all: bool,
    /// a row for each CPU and interrupt that it got
    #[arg(short = 's')]
    percpu: bool,
    /// with -s, only this CPU
    #[arg(short = 'c', value_name = "CPU")]
    cpu: Option<ExprArg>,
    /// show what is called, a row for each handler
    #[arg(short = 'd')]
    handlers: bool,
    /// only this interrupt
    number: Option<ExprArg>,
}

/// An interrupt.
#[derive(Row)]
struct IrqRow {
    /// address of its struct irq_desc
    addr: Option<Object>,
    /// its number, or the name of a counter
    irq: String,
    /// how often it came, on all CPUs
    count: Result<u64>,
    /// how often, for each CPU
    #[hidden]
    counts: Result<Vec<u64>>,
    /// the controller
    chip: Option<Result<String>>,
    /// its number there
    hwirq: Option<u64>,
    /// how it is signalled
    #[heading("TYPE")]
    flow: Option<String>,
    /// the CPUs that it comes to
    affinity: Option<Result<String>>,
    /// how often it is disabled
    #[hidden]
    depth: Option<u32>,
    /// how many of the last ones nobody wanted
    #[hidden]
    unhandled: Option<u32>,
    /// who asked for it; of a counter, what it counts
    actions: Result<String>,
}

/// What an interrupt calls.
#[derive(Row)]
struct HandlerRow {
    /// address of the struct irqaction
    addr: Object,
    /// number of the interrupt
    irq: u32,
    /// called with interrupts off
    handler: String,
    /// called by the thread
    thread_fn: Option<String>,
    /// address of the thread's task
    thread: Option<Addr>,
    /// who asked for it
    name: Result<String>,
}

/// What a CPU got.
#[derive(Row)]
struct CountRow {
    /// address of the struct irq_desc
    addr: Option<Object>,
    /// the CPU
    cpu: u32,
    /// number of the interrupt, or name of the counter
    irq: String,
    /// how often it came
    count: u64,
    /// who asked for it; of a counter, what it counts
    actions: Result<String>,
}

impl Dcmd for Irqs {
    const NAME: &'static str = "irqs";
    const ALIASES: &'static [&'static str] = &["irq", "interrupts"];
    const ROWS: &'static [&'static engine::Schema] = &[IrqRow::SCHEMA, HandlerRow::SCHEMA, CountRow::SCHEMA];
    const PASSES: &'static str = "struct irq_desc";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let number = self.number.as_ref().map(|n| n.eval(cx)).transpose()?;
        let mut show = |at: u64| match cx.view::<Irq>(at) {
            Ok(irq) if number.is_none_or(|n| n == u64::from(irq.number)) => self.show(cx, &irq, out),
            Ok(_) => Ok(()),
            Err(e) if e.is_control() => Err(e),
            Err(e) => {
                cx.notes.add(at, format!("interrupt: {}", e.kind()));
                Ok(())
            }
        };
        match at {
            Some(desc) => return show(desc.addr),
            None => irq::each(cx, &mut show)?,
        }
        if number.is_some() || self.handlers {
            return Ok(());
        }
        irq::counters(cx)?.into_iter().try_for_each(|counter| self.counter(cx, counter, out))
    }
}

impl Irqs {
    fn show(&self, cx: &Cx<'_>, irq: &Irq, out: &mut Out<'_>) -> Result<()> {
        let (counts, actions) = (irq.counts(cx), irq.actions(cx));
        let idle = irq.action == 0 && counts.as_ref().is_ok_and(|c| c.iter().all(|n| *n == 0));
        if idle && !self.all && self.number.is_none() {
            return Ok(());
        }
        if self.handlers {
            return actions?.into_iter().try_for_each(|action| {
                let function = |at: u64| (at != 0).then(|| cx.sym(at));
                out.row(HandlerRow {
                    addr: cx.object("irqaction", action.addr),
                    irq: irq.number,
                    handler: cx.sym(action.handler),
                    thread_fn: function(action.thread_fn),
                    thread: (action.thread != 0).then_some(Addr(action.thread)),
                    name: action.name(cx),
                })
            });
        }
        let names = actions.and_then(|all| all.iter().map(|a| a.name(cx)).collect::<Result<Vec<_>>>());
        let names = names.map(|names| names.join(", "));
        let addr = cx.object("irq_desc", irq.addr);
        if self.percpu {
            return self.percpu(cx, Some(addr), &irq.number.to_string(), &counts?, &names, out);
        }
        let affinity = irq.affinity(cx).map(|(all, now)| cpu_list(if now.is_empty() { &all } else { &now }));
        out.row(IrqRow {
            addr: Some(addr),
            irq: irq.number.to_string(),
            count: counts.as_ref().map(|c| c.iter().copied().total()).map_err(|e| Error::Unavailable(e.kind())),
            counts,
            chip: Some(irq.chip(cx)),
            hwirq: Some(irq.hwirq),
            flow: irq.flow_name(cx).ok().filter(|name| !name.is_empty()),
            affinity: Some(affinity),
            depth: Some(irq.depth),
            unhandled: Some(irq.unhandled),
            actions: names,
        })
    }

    fn counter(&self, cx: &Cx<'_>, counter: irq::Counter, out: &mut Out<'_>) -> Result<()> {
        let sum = counter.counts.iter().copied().total();
        if self.percpu {
            return match counter.counts.len() {
                1 => Ok(()),
                _ => self.percpu(cx, None, &counter.name, &counter.counts, &Ok(counter.what.clone()), out),
            };
        }
        if sum == 0 && !self.all {
            return Ok(());
        }
        out.row(IrqRow {
            addr: None,
            irq: counter.name,
            count: Ok(sum),
            counts: Ok(counter.counts),
            chip: None,
            hwirq: None,
            flow: None,
            affinity: None,
            depth: None,
            unhandled: None,
            actions: Ok(counter.what),
        })
    }

    fn percpu(
        &self,
        cx: &Cx<'_>,
        addr: Option<Object>,
        irq: &str,
        counts: &[u64],
        actions: &Result<String>,
        out: &mut Out<'_>,
    ) -> Result<()> {
        let only = self.cpu.as_ref().map(|cpu| cpu.eval(cx)).transpose()?;
        let percpu = walkers::percpu::Percpu::of(cx)?;
        for (cpu, count) in percpu.cpus().iter().zip(counts) {
            if (*count == 0 && !self.all) || only.is_some_and(|only| only != u64::from(*cpu)) {
                continue;
            }
            let actions = match &actions {
                Ok(text) => Ok(text.clone()),
                Err(e) => Err(Error::Unavailable(e.kind())),
            };
            out.row(CountRow { addr, cpu: *cpu, irq: irq.to_owned(), count: *count, actions })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Irqs>()];
