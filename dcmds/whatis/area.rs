//! The kernel's own mappings, as `::whatis` sees them: vmalloc() and its like, the fixmap, the stack depot, and what
//! stretches of addresses are for.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::{regions, stackdepot, vmalloc::Areas};

/// Areas of vmalloc(), ioremap() and their like.
pub const VMALLOC: Source = Source { name: "vmalloc areas", identifiers: false, find: vmalloc };
/// Pages at compile-time addresses.
pub const FIXMAP: Source = Source { name: "the fixmap", identifiers: false, find: fixmap };
/// Where call stacks are kept.
pub const DEPOT: Source = Source { name: "the stack depot", identifiers: false, find: depot };
/// Addresses that nothing is known of but what they are for.
pub const REGIONS: Source = Source { name: "the address space", identifiers: false, find: region };

fn vmalloc(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    if addr >> 63 == 0 {
        return Ok(None);
    }
    let areas = Areas::of(cx)?;
    let Some(area) = areas.at(addr) else { return Ok(None) };
    let made = match area.made(cx) {
        Err(e) if e.is_control() => return Err(e),
        made => made.ok().flatten(),
    };
    let object = cx.object("vmap_area", area.addr);
    let Some(made) = made else {
        let what =
            format!("in a vmalloc area of {:#x} bytes that vm_map_ram() made", area.end.wrapping_sub(area.start));
        return Ok(Some(Answer { object, ..Answer::inside(cx, Object::untyped(area.start), addr, &what) }));
    };
    let (bytes, caller) = (made.bytes(cx), cx.sym(made.caller));
    let guard = if addr.wrapping_sub(made.start) >= bytes { "in the guard page behind" } else { "in" };
    let kinds = made.flags().join(" ");
    let leads = if made.phys_addr == 0 { String::new() } else { format!(", to physical {:x}", made.phys_addr) };
    let what = format!("{guard} a vmalloc area ({kinds}) of {bytes:#x} bytes{leads}, made by {caller}");
    let answer = Answer::inside(cx, Object::untyped(made.start), addr, &what).named(caller);
    Ok(Some(Answer { object: cx.object("vm_struct", made.addr), ..answer }))
}

fn fixmap(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let Some(name) = regions::fixmap(cx, addr) else { return Ok(None) };
    let text = format!("in the fixmap: {name}");
    Ok(Some(Answer::is(Object::untyped(addr), text).named(name)))
}

fn depot(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    if addr >> 63 == 0 {
        return Ok(None);
    }
    let pools = match stackdepot::Pools::of(cx) {
        // kernels without one have nothing there
        Err(Error::Unavailable(_)) => return Ok(None),
        pools => pools?,
    };
    let Some((number, base)) = pools.at(addr) else { return Ok(None) };
    let what = format!("in pool {number} of the stack depot");
    Ok(Some(Answer::inside(cx, Object::untyped(base), addr, &what)))
}

fn region(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let Some(region) = regions::at(cx, addr) else { return Ok(None) };
    Ok(Some(Answer::is(Object::untyped(addr), format!("unmapped, where {} are", region.name)).named(region.name)))
}
