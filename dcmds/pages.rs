//! Single pages: `::page`.
//!
//! ```console
//! > init_task::page -v
//! ADDR             FRAME ORDER REFS MAPS USE      FLAGS
//! fff787ed400b0400  2c10     0    1    0 reserved reserved
//!                  zone DMA32 of node 0
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    page_use::{self, Owner},
    pageinfo::{self, Page, Pages, Use},
    task::Task,
    zone::{Memory, Zone},
};

/// Show what a page is used for, by its struct page.
///
/// The address is that of a struct page, or any address that the kernel has mapped: then it is about the page there. Of
/// a page behind the head of a large one, use, order and users are the head's.
#[derive(Args)]
pub struct PageCmd {
    /// show the file, the zone, whose memory it is charged to, and what else is known
    #[arg(short = 'v')]
    verbose: bool,
    /// the address is a physical one
    #[arg(short = 'p', conflicts_with = "frame")]
    physical: bool,
    /// the address is the number of a page frame
    #[arg(short = 'f')]
    frame: bool,
}

/// A page.
#[derive(Row)]
struct PageRow {
    /// address of its struct page
    addr: Object,
    /// number of its frame: its physical address without the offset in it
    frame: Hex,
    /// two to this power pages belong together; of free ones too
    order: u32,
    /// how many hold it
    refs: i32,
    /// how often page tables map it
    maps: i64,
    /// what it is used for
    #[heading("USE")]
    used: &'static str,
    /// the names of its flags
    flags: Vec<String>,
    /// the struct page that this one is behind of
    #[hidden]
    head: Option<Addr>,
    /// the struct address_space or the struct anon_vma that it is mapped from
    #[hidden]
    mapping: Option<Addr>,
    /// where in its file or mapping it lies, in pages
    #[hidden]
    index: u64,
    /// what its owner wants it to be
    #[hidden]
    private: Hex,
    /// more of it
    #[detail]
    more: Vec<String>,
}

impl PageCmd {
    fn find(&self, cx: &Cx<'_>, pages: &Pages, addr: u64) -> Result<u64> {
        let found = match (self.physical, self.frame) {
            (true, _) => pages.map.page(addr >> pages.map.shift),
            (_, true) => pages.map.page(addr),
            _ => pages.find(cx, addr),
        };
        found.ok_or_else(|| Error::Usage(format!("{addr:#x} is no page, nor an address in one that is mapped")))
    }

    /// What stands below the row.
    fn more(&self, cx: &Cx<'_>, pages: &Pages, page: &Page, head: &Page, used: &Use) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        if !self.verbose {
            return Ok(lines);
        }
        if head.addr != page.addr {
            lines.push(format!("behind the head {:x}", head.addr));
        }
        let (_, mapping) = target(used);
        match used {
            Use::Marked("slab") => lines.extend(pages.cache(cx, head)?.map(|name| format!("slab of {name}"))),
            Use::File(at) | Use::Anon(at) | Use::Ksm(at) | Use::Movable(at) => {
                lines.push(format!("{mapping} {at:x}, page {:#x}", head.index))
            }
            _ => {}
        }
        if page.private != 0 {
            lines.push(format!("private {:x}", page.private));
        }
        let frame = pages.map.frame(page.addr).unwrap_or(0);
        lines.extend(owner(cx, pages, frame)?);
        let memory = Memory::of(cx)?;
        if let Some(zone) = memory.zone_of(cx, frame, page.flags) {
            let node = memory.node(zone.node).map_or(-1, |node| node.id);
            lines.push(format!(
                "zone {} of node {node}",
                cx.view::<Zone>(zone.addr)?.name.unwrap_or_else(|_| "?".into())
            ));
        }
        lines.extend(pageinfo::charged_to(cx, head)?.map(|group| format!("charged to cgroup {group}")));
        Ok(lines)
    }

    fn row(&self, cx: &Cx<'_>, pages: &Pages, at: u64) -> Result<PageRow> {
        let page: Page = cx.view(at)?;
        let head = match pages.head(&page) {
            Some(head) => cx.view(head)?,
            None => page.clone(),
        };
        let used = pages.used(cx, &head)?;
        let more = match self.more(cx, pages, &page, &head, &used) {
            Err(e) if !e.is_control() => vec![format!("unreadable: {}", e.kind())],
            more => more?,
        };
        Ok(PageRow {
            addr: cx.object("page", page.addr),
            frame: Hex(pages.map.frame(at).unwrap_or(0)),
            order: pages.order(cx, &head, &used)?,
            refs: head.refs,
            maps: pages.mappings(cx, &head, &used)?,
            used: used.name(),
            flags: page_use::flag_names(cx, page.flags)?.iter().map(|name| name.to_string()).collect(),
            head: (head.addr != page.addr).then_some(Addr(head.addr)),
            mapping: target(&used).0.map(Addr),
            index: head.index,
            private: Hex(page.private),
            more,
        })
    }
}

/// What a page is mapped from, and its C type.
fn target(used: &Use) -> (Option<u64>, &'static str) {
    match used {
        Use::File(at) => (Some(*at), "struct address_space"),
        Use::Anon(at) => (Some(*at), "struct anon_vma"),
        Use::Ksm(at) => (Some(*at), "struct ksm_stable_node"),
        Use::Movable(at) => (Some(*at), "struct movable_operations"),
        _ => (None, ""),
    }
}

/// Whose it is, as lines: a file, processes.
fn owner(cx: &Cx<'_>, pages: &Pages, frame: u64) -> Result<Vec<String>> {
    Ok(match page_use::of_frame(cx, &pages.map, frame)?.owner {
        Some(Owner::File { inode, path, offset }) => {
            let path = path.unwrap_or_else(|| "without a name".into());
            vec![format!("{offset:#x} into {path}, the struct inode {inode:x}")]
        }
        Some(Owner::Anon { users }) => {
            let line = |(task, at): (u64, u64)| {
                let task: Task = cx.view(task)?;
                Ok(format!("{at:x} of process {} ({})", task.pid, task.comm))
            };
            users.into_iter().map(line).collect::<Result<_>>()?
        }
        Some(Owner::Table(_)) | None => Vec::new(),
    })
}

impl Dcmd for PageCmd {
    const NAME: &'static str = "page";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[PageRow::SCHEMA];
    const PASSES: &'static str = "struct page";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Some(at) = at else { return Ok(()) };
        let pages = Pages::of(cx)?;
        let page = self.find(cx, &pages, at.addr)?;
        match self.row(cx, &pages, page) {
            Ok(row) => out.row(row),
            Err(e) if e.is_unreadable() => {
                cx.notes.add(page, format!("struct page: {}", e.kind()));
                Ok(())
            }
            Err(e) => Err(e),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<PageCmd>()];
