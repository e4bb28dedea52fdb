//! Per-CPU variables: one address for each CPU.
//!
//! The address of a per-CPU variable, static or from `alloc_percpu()`, is an offset; the copy of a CPU lies at that
//! plus `__per_cpu_offset[cpu]`. It makes no difference that the linker counts static ones from 0 on x86-64 before
//! Linux 6.15 (9d7de2aa8b41) and from the section's own address since: the offsets account for it.
//!
//! ```console
//! > runqueues::walk percpu | ::print struct rq cpu
//! cpu = 0
//! cpu = 0x1
//! ```

use crate::list;
use bytes::Bytes;
use engine::{
    ViewEntry,
    debuginfo::{Symbol, SymbolKind},
    prelude::*,
};
use std::{ops::Range, sync::Arc};

/// More CPUs than any kernel is built for (`CONFIG_NR_CPUS` ends at 8192 on x86-64).
const MAX_CPUS: u64 = 8192;
/// Lists of chunks: one for each doubling of the free space in a unit, and a few for others.
const MAX_SLOTS: u32 = 64;

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
        let mut online = mask(session, "__cpu_online_mask", count)?.unwrap_or_else(|| present.clone());
        // panic() takes the CPUs that it stops off the mask of those online (stop_this_cpu()), not off this one
        online.extend(mask(session, "__cpu_active_mask", count)?.unwrap_or_default());
        online.sort_unstable();
        online.dedup();
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

    /// CPUs that the scheduler uses; in a kernel that panicked, those that it used until then.
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

    /// The `__percpu` pointer, or symbol, of what lies at an address of `cpu`'s memory.
    pub fn variable(&self, addr: u64, cpu: u32) -> Option<u64> {
        Some(addr.wrapping_sub(*self.offsets.get(cpu as usize)?))
    }
}

/// The static per-CPU variables of the kernel, by address.
#[derive(Debug)]
pub struct Variables(Vec<Symbol>);

impl Variables {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Variables>> {
        session.once(|| {
            let mut found = Vec::new();
            if let Some(kernel) = session.symbols.kernel() {
                kernel.each(&mut |symbol| {
                    if symbol.kind == SymbolKind::PerCpu {
                        found.push(symbol);
                    }
                    true
                });
            }
            found.sort_by_key(|symbol| symbol.addr);
            Ok(Variables(found))
        })
    }

    /// All of them, by address.
    pub fn all(&self) -> &[Symbol] {
        &self.0
    }

    /// The CPU and the variable that an address belongs to.
    pub fn at(&self, session: &Session, addr: u64) -> Result<Option<(u32, &Symbol)>> {
        let percpu = Percpu::of(session)?;
        let (Some(start), Some(end)) =
            (session.kernel_symbol("__per_cpu_start"), session.kernel_symbol("__per_cpu_end"))
        else {
            return Ok(None);
        };
        for cpu in percpu.cpus() {
            let Some(variable) = percpu.variable(addr, *cpu).filter(|v| (start..end).contains(v)) else { continue };
            let next = self.0.partition_point(|symbol| symbol.addr <= variable);
            return Ok(next.checked_sub(1).and_then(|i| self.0.get(i)).map(|symbol| (*cpu, symbol)));
        }
        Ok(None)
    }
}

/// Memory that holds the copies of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// its addresses
    pub range: Range<u64>,
    /// the CPU
    pub cpu: u32,
    /// address of the `struct pcpu_chunk` that it is part of; 0 of what was there before there were chunks
    chunk: u64,
}

/// A chunk of the per-CPU allocator: `struct pcpu_chunk` (mm/percpu-internal.h). It has one unit for each CPU.
#[derive(View)]
#[ctype("pcpu_chunk")]
struct Chunk {
    base_addr: u64,
    /// a bit for each unit of allocation: set in what is in use
    alloc_map: u64,
    /// set where an allocation, or a free stretch, begins, and behind the last
    bound_map: u64,
    nr_pages: i32,
}

impl Chunk {
    /// Bits of its maps that stand for memory.
    fn bits(&self, session: &Session) -> u64 {
        let pages = u64::try_from(self.nr_pages).unwrap_or(0).min(MAX_PAGES);
        pages * session.target.page_size() / UNIT
    }

    /// Both maps. That of bounds has one bit more (`pcpu_alloc_chunk()`); behind the other there may be nothing.
    fn maps(&self, session: &Session) -> Result<Maps> {
        let read = |map, bits: u64| session.bytes(map, bits.div_ceil(64) as usize * 8);
        let bits = self.bits(session);
        Ok(Maps { used: read(self.alloc_map, bits)?, bounds: read(self.bound_map, bits + 1)? })
    }
}

/// What of a chunk's memory is in use, and where each piece of it begins, by [`UNIT`]s.
struct Maps {
    used: Bytes,
    bounds: Bytes,
}

impl Maps {
    fn is_used(&self, bit: u64) -> bool {
        is_set(&self.used, bit)
    }

    /// Whether a stretch that is in use, or is not, has its limit here: a free one ends where something in use begins, too.
    fn is_limit(&self, bit: u64, used: bool) -> bool {
        is_set(&self.bounds, bit) || self.is_used(bit) != used
    }
}

fn is_set(map: &[u8], bit: u64) -> bool {
    map.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}

/// All memory that is per CPU.
#[derive(Debug, Default)]
pub struct Areas(Vec<Area>);

impl Areas {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Areas>> {
        session.once(|| session.settle(|| Areas::read(session)))
    }

    fn read(session: &Session) -> Result<Areas> {
        let number = |name: &str| session.kernel_symbol(name).map(|at| session.u64(at)).transpose();
        let (Some(first), Some(table)) = (number("pcpu_base_addr")?, number("pcpu_unit_offsets")?) else {
            return Ok(Areas::default());
        };
        let size = session.kernel_symbol("pcpu_unit_size").map_or(Ok(0), |at| session.u32(at))?;
        let mut bases = vec![(first, 0)];
        let slots = session.kernel_symbol("pcpu_nr_slots").map_or(Ok(0), |at| session.u32(at))?;
        if let Some(lists) = number("pcpu_chunk_lists")? {
            let link = session.offset("pcpu_chunk", "list")?;
            for slot in 0..u64::from(slots.min(MAX_SLOTS)) {
                list::list(session, lists.wrapping_add(slot * 16), link, &mut |at| {
                    bases.push((session.view::<Chunk>(at)?.base_addr, at));
                    Ok(())
                })?;
            }
        }
        bases.sort_unstable_by_key(|(base, chunk)| (*base, std::cmp::Reverse(*chunk)));
        bases.dedup_by_key(|(base, _)| *base);
        let mut areas = Vec::new();
        for cpu in Percpu::of(session)?.cpus() {
            let offset = session.u64(table.wrapping_add(u64::from(*cpu) * 8))?;
            for (base, chunk) in &bases {
                let start = base.wrapping_add(offset);
                areas.push(Area { range: start..start.saturating_add(size.into()), cpu: *cpu, chunk: *chunk });
            }
        }
        areas.sort_unstable_by_key(|area| area.range.start);
        Ok(Areas(areas))
    }

    /// Their addresses.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.0.iter().map(|area| area.range.clone()).collect()
    }

    /// The area that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&Area> {
        let next = self.0.partition_point(|area| area.range.start <= addr);
        self.0.get(next.checked_sub(1)?).filter(|area| area.range.contains(&addr))
    }
}

/// What `alloc_percpu()` gave out (mm/percpu.c).
pub struct Allocations;

/// `PCPU_MIN_ALLOC_SIZE`: bytes that a bit of the maps stands for.
const UNIT: u64 = 4;
/// More pages than a chunk has for one CPU.
const MAX_PAGES: u64 = 1 << 16;

impl Allocations {
    /// The allocation, or the free stretch, of an area that an address lies in: its start, its bytes, and whether it is in
    /// use. `None` if the area's chunk is not known, or if its maps cannot be read.
    pub fn of(session: &Session, area: &Area, addr: u64) -> Result<Option<(u64, u64, bool)>> {
        if area.chunk == 0 {
            return Ok(None);
        }
        let found = session.view::<Chunk>(area.chunk).and_then(|chunk| {
            let bits = chunk.bits(session);
            let start = addr.wrapping_sub(area.range.start) / UNIT;
            if start >= bits {
                return Ok(None);
            }
            let maps = chunk.maps(session)?;
            let state = maps.is_used(start);
            let limit = |bit: &u64| maps.is_limit(*bit, state);
            let first =
                (1..=start).rev().find(limit).map_or(0, |bit| if maps.is_used(bit) == state { bit } else { bit + 1 });
            let end = (start + 1..bits).find(limit).unwrap_or(bits);
            Ok(Some((area.range.start.wrapping_add(first * UNIT), (end - first) * UNIT, state)))
        });
        match found {
            Err(e) if e.is_control() => Err(e),
            found => Ok(found.ok().flatten()),
        }
    }
}

/// A piece of memory that `alloc_percpu()` gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// the `__percpu` pointer
    pub pointer: u64,
    /// the first CPU's copy
    pub addr: u64,
    /// bytes of each copy
    pub bytes: u64,
}

impl Allocations {
    /// Everything that was given out and not freed, by pointer. Of the first chunk its two ends are left out, which the
    /// kernel's static variables have, or nobody.
    pub fn all(session: &Session) -> Result<Vec<Allocation>> {
        let (areas, percpu) = (Areas::of(session)?, Percpu::of(session)?);
        let Some(cpu) = percpu.cpus().first() else { return Ok(Vec::new()) };
        let first = session.kernel_symbol("pcpu_first_chunk").map(|at| session.u64(at)).transpose()?;
        let mut out = Vec::new();
        for area in areas.0.iter().filter(|area| area.cpu == *cpu && area.chunk != 0) {
            session.interrupt.check()?;
            let chunk: Chunk = session.view(area.chunk)?;
            let (bits, maps) = (chunk.bits(session), chunk.maps(session)?);
            let mut start = 0;
            for bit in 1..=bits {
                let ends = bit == bits || maps.is_limit(bit, maps.is_used(start));
                let is_end = first == Some(area.chunk) && (start == 0 || bit == bits);
                if ends && maps.is_used(start) && !is_end {
                    let addr = area.range.start.wrapping_add(start * UNIT);
                    let pointer = percpu.variable(addr, *cpu).unwrap_or(addr);
                    out.push(Allocation { pointer, addr, bytes: (bit - start) * UNIT });
                }
                start = if ends { bit } else { start };
            }
        }
        out.sort_unstable_by_key(|one| one.pointer);
        Ok(out)
    }
}

/// The copy of `cpu` of a static per-CPU variable of the kernel.
pub fn variable(session: &Session, name: &str, cpu: u32) -> Result<u64> {
    let symbol = session.kernel_symbol(name).ok_or_else(|| Error::NoSymbol(name.to_owned()))?;
    Percpu::of(session)?.address(symbol, cpu)
}

/// Bytes from a symbol to the next.
pub fn extent(session: &Session, name: &str) -> Option<u64> {
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

/// The views of this file, for the test that holds them against kernels.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Chunk>()];
