//! The memory manager's figures: `::vmstat`, `::meminfo`.
//!
//! ```console
//! > ::vmstat nr_free_pages
//! NAME          VALUE PENDING
//! nr_free_pages  2891       0
//! > ::meminfo ! head -n 3
//! NAME                       VALUE UNIT
//! MemTotal                   55776 kB
//! MemFree                    11564 kB
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    meminfo::Meminfo,
    vmstat::{Counter, Counters},
    zone::Memory,
};

/// Show the memory manager's counters, as /proc/vmstat has them.
///
/// What CPUs have counted and not yet added is shown beside: the truth is the sum. With an address: only the counters of
/// that zone or node.
#[derive(Args)]
pub struct Vmstat {
    /// only counters whose name contains this
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// only counters that are not zero
    #[arg(short = 'z')]
    not_zero: bool,
}

/// A counter.
#[derive(Row)]
struct CounterRow {
    /// its name
    name: String,
    /// its value, as in /proc/vmstat
    value: i64,
    /// what CPUs did not add yet
    pending: i64,
    /// what it belongs to: `zone`, `numa`, `node`, `system`, or `event` for what CPUs count
    #[hidden]
    group: &'static str,
}

impl Dcmd for Vmstat {
    const NAME: &'static str = "vmstat";
    const ROWS: &'static [&'static Schema] = &[CounterRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let counters = match at {
            None => Counters::of(cx)?.all(cx),
            Some(at) => {
                let memory = Memory::of(cx)?;
                match (memory.zone(at.addr), memory.node(at.addr)) {
                    (Some(zone), _) => Counters::of_zone(cx, zone)?.all(cx),
                    (None, Some(node)) => Counters::of_node(cx, node)?.all(cx),
                    (None, None) => {
                        return Err(Error::Usage(format!("{:#x} is neither a zone nor a node", at.addr)));
                    }
                }
            }
        };
        let wanted = |c: &Counter| {
            self.name.as_ref().is_none_or(|name| c.name.contains(name.as_str()))
                && !(self.not_zero && c.value == 0 && c.pending == 0)
        };
        counters.into_iter().filter(wanted).try_for_each(|c| {
            out.row(CounterRow { name: c.name, value: c.value, pending: c.pending, group: c.group.name() })
        })
    }
}

/// Show the figures of /proc/meminfo, reckoned as the kernel does.
///
/// As in the kernel, what CPUs have counted and not yet added is left out; `::memstat` has it.
#[derive(Args)]
pub struct MeminfoCmd {}

/// A figure.
#[derive(Row)]
struct FigureRow {
    /// its name
    name: &'static str,
    /// its value
    value: Result<u64>,
    /// `kB` for KiB; nothing for numbers of huge pages
    unit: &'static str,
}

impl Dcmd for MeminfoCmd {
    const NAME: &'static str = "meminfo";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[FigureRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for figure in Meminfo::of(cx)?.figures() {
            match figure.value {
                Err(e) if e.is_control() => return Err(e),
                value => out.row(FigureRow { name: figure.name, value, unit: if figure.kib { "kB" } else { "" } })?,
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Vmstat>(), DcmdEntry::of::<MeminfoCmd>()];
