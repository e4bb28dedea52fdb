//! Physical addresses and ports: `::iomem`, `::ioports`.
//!
//! ```console
//! > ::iomem | ::head -n 3
//! ADDR             START   END NAME
//! ff3a288ddffd8b80     0   fff Reserved
//! ff3a288ddffd8bc0  1000 9fbff System RAM
//! ff3a288ddffd8c00 9fc00 9ffff Reserved
//! ```

use engine::{IntoRow, prelude::*};
use walkers::resource;

/// Show who has which physical addresses, as /proc/iomem does.
#[derive(Args)]
pub struct Iomem {}

/// Show who has which ports of the bus, as /proc/ioports does.
#[derive(Args)]
pub struct Ioports {}

/// A range of addresses or ports.
#[derive(Row)]
struct ResourceRow {
    /// address of its struct resource
    addr: Object,
    /// the first
    start: Hex,
    /// the last
    end: Hex,
    /// IORESOURCE_… bits
    #[hidden]
    flags: Hex,
    /// how deep it is in the tree
    #[hidden]
    depth: u32,
    /// whose it is, further right the deeper it is
    name: Result<String>,
}

fn show(cx: &Cx<'_>, root: &str, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
    let root = at.map_or_else(|| cx.symbol(root), |o| Ok(o.addr))?;
    resource::each(cx, root, &mut |resource, depth| {
        let name = resource.name(cx).map(|name| format!("{:width$}{name}", "", width = depth as usize * 2));
        out.row(ResourceRow {
            addr: cx.object("resource", resource.addr),
            start: Hex(resource.start),
            end: Hex(resource.end),
            flags: Hex(resource.flags),
            depth,
            name,
        })
    })
}

impl Dcmd for Iomem {
    const NAME: &'static str = "iomem";
    const ROWS: &'static [&'static engine::Schema] = &[ResourceRow::SCHEMA];
    const PASSES: &'static str = "struct resource";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        show(cx, "iomem_resource", at, out)
    }
}

impl Dcmd for Ioports {
    const NAME: &'static str = "ioports";
    const ROWS: &'static [&'static engine::Schema] = &[ResourceRow::SCHEMA];
    const PASSES: &'static str = "struct resource";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        show(cx, "ioport_resource", at, out)
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Iomem>(), DcmdEntry::of::<Ioports>()];
