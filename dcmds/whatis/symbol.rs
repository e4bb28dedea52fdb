//! What has a name, as `::whatis` sees it: the kernel's image, modules, per-CPU variables.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::{
    image,
    percpu::{Areas, Percpu, Variables},
};

/// The kernel's image.
pub const KERNEL: Source = Source { name: "the kernel's image", identifiers: false, find: kernel };
/// Modules.
pub const MODULES: Source = Source { name: "modules", identifiers: false, find: module };
/// Per-CPU memory.
pub const PERCPU: Source = Source { name: "per-CPU memory", identifiers: false, find: percpu };

/// The symbol around an address as an object, and the symbol's name with the offset.
fn symbol(cx: &Cx<'_>, addr: u64) -> (Object, Option<String>) {
    match cx.symbols.by_addr(cx, addr) {
        Some(found) => (Object { addr: found.addr, ctype: cx.type_of_symbol(&found) }, cx.symbolize(addr)),
        None => (Object::untyped(addr), None),
    }
}

fn place(cx: &Cx<'_>, addr: u64, within: &str) -> Answer {
    let (object, name) = symbol(cx, addr);
    let text = match &name {
        Some(name) => format!("{name}, in {within}"),
        None => format!("in {within}"),
    };
    let offset = name.is_some().then(|| addr.wrapping_sub(object.addr) as i64);
    Answer { name, offset, ..Answer::is(object, text) }
}

fn kernel(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    Ok(image::segment(cx, addr).map(|segment| place(cx, addr, &format!("vmlinux's {segment}"))))
}

fn module(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    // user addresses and the direct map are no module's
    if addr >> 63 == 0 {
        return Ok(None);
    }
    let found = cx.symbols.modules(cx).iter().find_map(|m| {
        let part = m.ranges.iter().position(|range| range.contains(&addr))?;
        Some((m, part))
    });
    // a module's text comes first
    let segment = |part| if part == 0 { "text segment" } else { "memory" };
    Ok(found.map(|(m, part)| place(cx, addr, &format!("{}'s {}", m.name, segment(part)))))
}

fn percpu(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    // most addresses are none: the names are not needed to tell
    if Areas::of(cx)?.at(addr).is_none() {
        return Ok(None);
    }
    let variables = Variables::of(cx)?;
    let Some((cpu, variable)) = variables.at(cx, addr)? else { return area(cx, addr) };
    let object =
        Object { addr: Percpu::of(cx)?.address(variable.addr, cpu)?, ctype: cx.type_of_global(&variable.name) };
    let inside = addr.wrapping_sub(object.addr);
    let offset = if inside == 0 { String::new() } else { format!("+{inside:#x}") };
    let text = format!("{}{offset} of CPU {cpu}, a per-CPU variable", variable.name);
    let answer = Answer::is(object, text).named(variable.name.as_str());
    Ok(Some(Answer { offset: Some(inside as i64), ..answer }))
}

/// Per-CPU memory that no symbol names: what `alloc_percpu()` gave out.
fn area(cx: &Cx<'_>, addr: u64) -> Result<Option<Answer>> {
    let areas = Areas::of(cx)?;
    let Some(area) = areas.at(addr) else { return Ok(None) };
    let pointer = Percpu::of(cx)?.variable(addr, area.cpu).unwrap_or_default();
    let text = format!("in per-CPU memory of CPU {}: __percpu pointer {pointer:x}", area.cpu);
    Ok(Some(Answer::is(Object::untyped(addr), text)))
}
