//! Per-CPU variables: one address for each CPU.
//!
//! The address of a per-CPU variable, static or from `alloc_percpu()`, is an offset; the copy of a CPU lies at that
//! plus `__per_cpu_offset[cpu]`. It makes no difference that the linker counts static ones from 0 on x86-64 before
//! Linux 6.15 (9d7de2aa8b41) and from the section's own address since: the offsets account for it.
//!
//! ```console
//! > runqueues::walk percpu | ::print struct rq cpu
//! ```

use engine::prelude::*;
use std::sync::Arc;

/// More CPUs than any kernel is built for (`CONFIG_NR_CPUS` ends at 8192 on x86-64).
const MAX_CPUS: u64 = 8192;

/// Where each CPU's copies are.
#[derive(Debug)]
pub struct Percpu {
    /// `__per_cpu_offset[]`; a kernel without SMP has none, and one copy in place
    offsets: Vec<u64>,
    possible: Vec<u32>,
    present: Vec<u32>,
    online: Vec<u32>,
}

impl Percpu {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Percpu>> {
        session.once(|| Percpu::read(session))
    }

    fn read(session: &Session) -> Result<Percpu> {
        let Some(table) = session.kernel_symbol("__per_cpu_offset") else {
            let only = vec![0];
            return Ok(Percpu { offsets: vec![0], possible: only.clone(), present: only.clone(), online: only });
        };
        // a kernel built with CONFIG_FORCE_NR_CPUS has no such variable, but room for just as many
        let room = extent(session, "__per_cpu_offset").map_or(MAX_CPUS, |bytes| bytes / 8).clamp(1, MAX_CPUS);
        let count = match session.kernel_symbol("nr_cpu_ids") {
            Some(addr) => u64::from(session.u32(addr).doing(|| "reading nr_cpu_ids".into())?).clamp(1, room),
            None => room,
        };
        let mut bytes = vec![0; count as usize * 8];
        session.read(table, &mut bytes).doing(|| "reading __per_cpu_offset".into())?;
        let offsets = bytes.chunks_exact(8).map(word).collect();
        let all = || (0..count as u32).collect();
        let possible = mask(session, "__cpu_possible_mask", count)?.unwrap_or_else(all);
        let present = mask(session, "__cpu_present_mask", count)?.unwrap_or_else(|| possible.clone());
        let online = mask(session, "__cpu_online_mask", count)?.unwrap_or_else(|| present.clone());
        Ok(Percpu { offsets, possible, present, online })
    }

    /// CPUs that have copies of their own: every CPU that could ever be plugged in.
    pub fn cpus(&self) -> &[u32] {
        &self.possible
    }

    /// CPUs that are plugged in.
    pub fn present(&self) -> &[u32] {
        &self.present
    }

    /// CPUs that the scheduler uses.
    pub fn online(&self) -> &[u32] {
        &self.online
    }

    /// The copy of `cpu` of the variable whose symbol or `__percpu` pointer is `variable`.
    pub fn address(&self, variable: u64, cpu: u32) -> Result<u64> {
        match self.offsets.get(cpu as usize) {
            Some(offset) => Ok(variable.wrapping_add(*offset)),
            None => Err(Error::Unavailable(format!("there is no CPU {cpu}"))),
        }
    }

    /// Every CPU's copy: the CPU and the address.
    pub fn copies(&self, variable: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.possible
            .iter()
            .filter_map(move |cpu| Some((*cpu, variable.wrapping_add(*self.offsets.get(*cpu as usize)?))))
    }

    /// The CPU and the variable (as its symbol would have it) of an address among the *static* copies.
    pub fn static_variable(&self, session: &Session, addr: u64) -> Option<(u32, u64)> {
        let start = session.kernel_symbol("__per_cpu_start")?;
        let end = session.kernel_symbol("__per_cpu_end")?;
        self.possible.iter().find_map(|cpu| {
            let variable = addr.wrapping_sub(*self.offsets.get(*cpu as usize)?);
            (start..end).contains(&variable).then_some((*cpu, variable))
        })
    }
}

/// The copy of `cpu` of a static per-CPU variable of the kernel.
pub fn variable(session: &Session, name: &str, cpu: u32) -> Result<u64> {
    let symbol = session.kernel_symbol(name).ok_or_else(|| Error::NoSymbol(name.to_owned()))?;
    Percpu::of(session)?.address(symbol, cpu)
}

/// Bytes from a symbol to the next.
fn extent(session: &Session, name: &str) -> Option<u64> {
    let symbol = session.symbols.kernel()?.by_name(name).into_iter().next()?;
    (symbol.size > 0).then_some(symbol.size)
}

/// The CPUs of a `struct cpumask` variable; `None` if there is no such variable.
fn mask(session: &Session, name: &str, cpus: u64) -> Result<Option<Vec<u32>>> {
    let Some(addr) = session.kernel_symbol(name) else { return Ok(None) };
    let mut bytes = vec![0; cpus.div_ceil(64) as usize * 8];
    session.read(addr, &mut bytes).doing(|| format!("reading {name}"))?;
    let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
    let set = |cpu: &u32| words.get(*cpu as usize / 64).is_some_and(|w| w >> (cpu % 64) & 1 == 1);
    let found: Vec<u32> = (0..cpus as u32).filter(set).collect();
    if found.is_empty() {
        session.notes.add(addr, format!("{name} is empty: taking every CPU"));
        return Ok(None);
    }
    Ok(Some(found))
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Walks the copies of a per-CPU variable.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "percpu",
    doc: "walk each CPU's copy of the per-CPU variable whose symbol or pointer is the address",
    item: "",
    address: Address::Required,
    walk: |cx, at, visit| {
        let variable = at.map(|o| o.addr).ok_or_else(|| {
            Error::Usage("copies are walked from the variable's symbol, as in `runqueues::walk percpu`".into())
        })?;
        Percpu::of(cx)?.copies(variable).try_for_each(|(_, addr)| visit(addr))
    },
}];
