//! Free memory: `::buddy`.
//!
//! ```console
//! > ::buddy
//! ADDR             NODE NAME  FREE PCP BLOCKS
//! ff386d1d85dd2680    0 DMA   2201   2 17,6,5,1,0,1,3,1,1,1,1
//! ff386d1d85dd2c80    0 DMA32  690 123 2,0,0,0,1,1,2,2,1,0,0
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    buddy::{self, Filled},
    total::Total,
    vmstat::Counters,
    zone::{Memory, Zone},
};

/// Show the free memory of each zone: blocks of 1, 2, 4, … pages.
///
/// The lists are walked; what disagrees with the counts that the kernel keeps is noted. With an address: that of one
/// zone, or of a node. The blocks themselves: `::walk free_page`, `::walk pcp_page`.
#[derive(Args)]
pub struct Buddy {
    /// one row for each list, by order and by what the blocks are for
    #[arg(short = 'v')]
    verbose: bool,
}

/// The free memory of a zone.
#[derive(Row)]
struct BuddyRow {
    /// address of the struct zone
    addr: Object,
    /// number of its node
    node: Option<i32>,
    /// its name
    name: Result<String>,
    /// free pages on the lists
    free: u64,
    /// free pages that CPUs hold
    pcp: u64,
    /// blocks of order 0, 1, 2, …, as in /proc/buddyinfo
    blocks: Vec<u64>,
}

/// A list of free blocks.
#[derive(Row)]
struct ListRow {
    /// address of its head, a struct list_head
    addr: Object,
    /// number of the zone's node
    node: Option<i32>,
    /// name of the zone
    name: Result<String>,
    /// the CPU that holds it, if one does
    cpu: Option<u32>,
    /// its blocks have two to this power pages
    order: u32,
    /// what they are for
    #[heading("TYPE")]
    migratetype: String,
    /// its blocks
    blocks: u64,
    /// their pages
    pages: u64,
}

/// Notes a zone whose counter of free pages is not what is on its lists.
fn check(cx: &Cx<'_>, zone: &Zone, filled: &[Filled]) -> Result<()> {
    let counted = filled.iter().filter(|f| f.list.cpu.is_none() && buddy::is_counted(cx, f.list.migratetype));
    let found: u64 = counted.map(Filled::pages).total();
    let told = Counters::of_zone(cx, zone)?.exact(cx, "NR_FREE_PAGES");
    if let Some(told) = told.filter(|told| *told != found) {
        cx.notes.add(zone.addr, format!("free pages of a zone: {told} by the counter, {found} on the lists"));
    }
    Ok(())
}

impl Buddy {
    fn lists(&self, cx: &Cx<'_>, memory: &Memory, zone: &Zone, filled: &[Filled], out: &mut Out<'_>) -> Result<()> {
        for one in filled.iter().filter(|f| f.blocks > 0) {
            out.row(ListRow {
                addr: cx.object("list_head", one.list.head),
                node: memory.node(zone.node).map(|node| node.id),
                name: cx.view::<Zone>(zone.addr)?.name,
                cpu: one.list.cpu,
                order: one.list.order,
                migratetype: buddy::type_name(cx, one.list.migratetype),
                blocks: one.blocks,
                pages: one.pages(),
            })?;
        }
        Ok(())
    }

    fn zone(&self, cx: &Cx<'_>, memory: &Memory, zone: &Zone, filled: &[Filled], out: &mut Out<'_>) -> Result<()> {
        let orders =
            filled.iter().filter(|f| f.list.cpu.is_none()).map(|f| f.list.order as usize + 1).max().unwrap_or(0);
        let mut blocks = vec![0; orders];
        let (mut free, mut pcp) = (0, 0);
        for one in filled {
            match blocks.get_mut(one.list.order as usize) {
                Some(sum) if one.list.cpu.is_none() => {
                    *sum += one.blocks;
                    free += one.pages();
                }
                _ => pcp += one.pages(),
            }
        }
        out.row(BuddyRow {
            addr: cx.object("zone", zone.addr),
            node: memory.node(zone.node).map(|node| node.id),
            name: cx.view::<Zone>(zone.addr)?.name,
            free,
            pcp,
            blocks,
        })
    }
}

impl Dcmd for Buddy {
    const NAME: &'static str = "buddy";
    const ROWS: &'static [&'static Schema] = &[BuddyRow::SCHEMA, ListRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let memory = Memory::of(cx)?;
        for zone in buddy::chosen(&memory, at)? {
            let filled = buddy::count(cx, zone)?;
            check(cx, zone, &filled)?;
            match self.verbose {
                true => self.lists(cx, &memory, zone, &filled, out)?,
                false => self.zone(cx, &memory, zone, &filled, out)?,
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Buddy>()];
