//! Who has which physical addresses and ports: trees of `struct resource` (include/linux/ioport.h), which /proc/iomem and
//! /proc/ioports show.
//!
//! A resource knows its parent: one that does not is left out, so none can come twice.
//!
//! ```console
//! > iomem_resource::print struct resource child->name
//! child->name = 0xffffffffbd267f35 "Reserved"
//! ```

use crate::search::merged;
use engine::{ViewEntry, prelude::*};
use std::ops::Range;

/// `struct resource`.
#[derive(View, Clone, Debug)]
#[ctype("resource")]
pub struct Resource {
    /// its address
    #[addr]
    pub addr: u64,
    /// first address
    pub start: u64,
    /// last address
    pub end: u64,
    name: u64,
    /// `IORESOURCE_…`
    pub flags: u64,
    parent: u64,
    sibling: u64,
    child: u64,
}

impl Resource {
    /// Whose it is.
    pub fn name(&self, session: &Session) -> Result<String> {
        match self.name {
            0 => Ok("<BAD>".into()),
            name => session.cstr(name, 128),
        }
    }
}

/// Deeper than any tree of buses and devices.
const MAX_DEPTH: u32 = 64;

/// Shows every resource below `root` to `visit`, with how deep it is, in the order of addresses.
pub fn each(session: &Session, root: u64, visit: &mut dyn FnMut(Resource, u32) -> Result<()>) -> Result<()> {
    let first = session.view::<Resource>(root)?.child;
    below(session, root, first, 0, visit)
}

/// Where the kernel says that there is RAM, sorted and disjoint. Empty if that cannot be told.
struct Ram(Vec<Range<u64>>);

impl Ram {
    fn of(session: &Session) -> Result<Ram> {
        let mut ram = Vec::new();
        let root = session.kernel_symbol("iomem_resource");
        let walked = root.map_or(Ok(()), |root| {
            each(session, root, &mut |resource, _| {
                if resource.name(session).is_ok_and(|name| name == "System RAM") {
                    ram.push(resource.start..resource.end.saturating_add(1));
                }
                Ok(())
            })
        });
        match walked {
            Err(e) if e.is_control() => Err(e),
            // half of it says nothing
            Err(_) => Ok(Ram(Vec::new())),
            Ok(()) => Ok(Ram(merged(ram))),
        }
    }
}

/// Where the kernel says that there is RAM, in the order of addresses and disjoint; empty if that cannot be told.
pub fn ram(session: &Session) -> Result<Vec<Range<u64>>> {
    Ok(session.once(|| Ram::of(session))?.0.clone())
}

/// Whether there is RAM at a physical address, and not a device or nothing at all; true if that cannot be told.
pub fn is_ram(session: &Session, pa: u64) -> bool {
    session
        .once(|| Ram::of(session))
        .map_or(true, |ram| ram.0.is_empty() || ram.0.iter().any(|range| range.contains(&pa)))
}

fn below(
    session: &Session,
    parent: u64,
    first: u64,
    depth: u32,
    visit: &mut dyn FnMut(Resource, u32) -> Result<()>,
) -> Result<()> {
    let (mut at, mut end) = (first, None);
    while at != 0 {
        let resource: Resource = match session.view(at) {
            Ok(resource) => resource,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(at, format!("resource: {}", e.kind()));
                return Ok(());
            }
        };
        // siblings come in the order of their addresses, and do not overlap
        if resource.parent != parent || depth > MAX_DEPTH || end.is_some_and(|end| resource.start <= end) {
            session.notes.add(at, "resource that is not in its place");
            return Ok(());
        }
        let (child, next) = (resource.child, resource.sibling);
        end = Some(resource.end);
        visit(resource, depth)?;
        below(session, at, child, depth + 1, visit)?;
        at = next;
    }
    Ok(())
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "resource",
    doc: "walk the resources below the struct resource at the address: `iomem_resource`, `ioport_resource`",
    item: "struct resource",
    address: Address::Required,
    walk: |cx, at, visit| each(cx, at.map_or(0, |o| o.addr), &mut |resource, _| visit(resource.addr)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Resource>()];
