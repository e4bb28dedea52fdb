//! The kernel's own mappings, vmalloc() and its like: `::vmem`.
//!
//! ```console
//! > ::vmem -s ! head -n 3
//! COUNT      SIZE PAGES TYPE                      CALLER
//!     1 268439552     0 ioremap                   pci_mmcfg_arch_init+0x64
//!     2   4210688  1026 vmalloc                   pcpu_create_chunk+0x191
//! ```

use engine::{Schema, prelude::*};
use std::collections::BTreeMap;
use walkers::vmalloc::{Area, Areas, Made, State};

/// Show the kernel's own mappings, as /proc/vmallocinfo does: who made them, and what of.
///
/// With an address: the one that it lies in.
#[derive(Args)]
pub struct Vmem {
    /// ranges that are not in use, too: free, kept, or given back and not yet flushed
    #[arg(short = 'a', conflicts_with = "sum")]
    all: bool,
    /// sum up by caller, the largest first
    #[arg(short = 's')]
    sum: bool,
    /// only of callers whose name contains this
    #[arg(short = 'c', value_name = "CALLER")]
    caller: Option<String>,
}

/// A mapping.
#[derive(Row)]
struct AreaRow {
    /// address of its struct vmap_area
    addr: Object,
    /// first address
    start: Addr,
    /// the one behind the last
    end: Addr,
    /// bytes, with the guard page behind it
    size: u64,
    /// pages that were allocated for it
    pages: Option<u64>,
    /// `busy`, `lazy`, `pooled`, `free`
    #[hidden]
    state: &'static str,
    /// what it is
    #[heading("TYPE")]
    kind: Vec<&'static str>,
    /// where an ioremap() leads
    #[hidden]
    physical: Option<Hex>,
    /// address of its struct vm_struct
    #[hidden]
    vm: Option<Addr>,
    /// who asked for it
    caller: Option<String>,
}

/// What a caller has mapped.
#[derive(Row)]
struct CallerRow {
    /// mappings
    count: u64,
    /// their bytes, with guard pages
    size: u64,
    /// pages that were allocated for them
    pages: u64,
    /// what they are
    #[heading("TYPE")]
    kind: Vec<&'static str>,
    /// who asked for them
    caller: String,
}

/// What a range was made into, if it is in use and that can be read.
fn made(cx: &Cx<'_>, area: &Area, state: State) -> Result<Option<Made>> {
    if state != State::Busy {
        return Ok(None);
    }
    match area.made(cx) {
        Err(e) if !e.is_control() => {
            cx.notes.add(area.vm, format!("what a kernel mapping is: {}", e.kind()));
            Ok(None)
        }
        made => made,
    }
}

/// What a range is.
fn kind(area: &Area, state: State, made: Option<&Made>) -> Vec<&'static str> {
    match (state, made) {
        (State::Busy, Some(made)) => made.flags(),
        (State::Busy, None) if area.vm == 0 => vec!["vm_map_ram"],
        (State::Busy, None) => Vec::new(),
        (state, _) => vec![state.name()],
    }
}

impl Vmem {
    fn caller(&self, cx: &Cx<'_>, made: Option<&Made>) -> Option<String> {
        made.filter(|made| made.caller != 0).map(|made| cx.sym(made.caller))
    }

    fn wanted(&self, caller: Option<&String>) -> bool {
        self.caller.as_ref().is_none_or(|part| caller.is_some_and(|caller| caller.contains(part.as_str())))
    }

    fn show(&self, cx: &Cx<'_>, area: &Area, state: State, out: &mut Out<'_>) -> Result<()> {
        let made = made(cx, area, state)?;
        let caller = self.caller(cx, made.as_ref());
        if !self.wanted(caller.as_ref()) {
            return Ok(());
        }
        out.row(AreaRow {
            addr: cx.object("vmap_area", area.addr),
            start: Addr(area.start),
            end: Addr(area.end),
            size: area.end - area.start,
            pages: made.as_ref().map(|made| made.nr_pages).filter(|pages| *pages > 0),
            state: state.name(),
            kind: kind(area, state, made.as_ref()),
            physical: made.as_ref().map(|made| Hex(made.phys_addr)).filter(|at| at.0 != 0),
            vm: made.as_ref().map(|made| Addr(made.addr)),
            caller,
        })
    }

    fn sums(&self, cx: &Cx<'_>, areas: &Areas, out: &mut Out<'_>) -> Result<()> {
        let mut sums: BTreeMap<String, CallerRow> = BTreeMap::new();
        for area in areas.busy() {
            let made = made(cx, area, State::Busy)?;
            let caller = self.caller(cx, made.as_ref());
            if !self.wanted(caller.as_ref()) {
                continue;
            }
            let caller = caller.unwrap_or_else(|| "?".into());
            let kind = kind(area, State::Busy, made.as_ref());
            let empty = || CallerRow { count: 0, size: 0, pages: 0, kind: Vec::new(), caller: caller.clone() };
            let sum = sums.entry(caller.clone()).or_insert_with(empty);
            sum.count += 1;
            sum.size = sum.size.saturating_add(area.end - area.start);
            sum.pages = sum.pages.saturating_add(made.map_or(0, |made| made.nr_pages));
            kind.into_iter().for_each(|word| {
                if !sum.kind.contains(&word) {
                    sum.kind.push(word)
                }
            });
        }
        let mut rows: Vec<CallerRow> = sums.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.size));
        rows.into_iter().try_for_each(|row| out.row(row))
    }
}

impl Dcmd for Vmem {
    const NAME: &'static str = "vmem";
    const ROWS: &'static [&'static Schema] = &[AreaRow::SCHEMA, CallerRow::SCHEMA];
    const PASSES: &'static str = "struct vmap_area";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let areas = Areas::of(cx)?;
        if self.sum {
            return self.sums(cx, &areas, out);
        }
        for (area, state) in areas.iter() {
            let inside = at.is_none_or(|at| at.addr == area.addr || (area.start..area.end).contains(&at.addr));
            let shown = *state == State::Busy || self.all || at.is_some();
            if inside && shown {
                self.show(cx, area, *state, out)?;
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Vmem>()];
