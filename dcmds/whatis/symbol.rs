//! What has a name, as `::whatis` sees it: the kernel's image, modules, per-CPU variables.

use super::{Answer, Source, Want};
use crate::member::{self, plus};
use engine::prelude::*;
use walkers::{
    image,
    module::Parts,
    percpu::{Allocations, Areas, Percpu, Variables},
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
    let offset = addr.wrapping_sub(object.addr);
    let member = member::name(cx, object.ctype, offset);
    let inside = member.as_ref().filter(|_| offset != 0).map_or_else(String::new, |member| format!(" ({member})"));
    let text = match &name {
        Some(name) => format!("{name}{inside}, in {within}"),
        None => format!("in {within}"),
    };
    let offset = name.is_some().then_some(offset as i64);
    Answer { name, offset, member, ..Answer::is(object, text) }
}

fn kernel(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    Ok(image::segment(cx, addr).map(|segment| place(cx, addr, &format!("vmlinux's {segment}"))))
}

fn module(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    // user addresses are no module's
    if addr >> 63 == 0 {
        return Ok(None);
    }
    let parts = Parts::of(cx)?;
    let Some(part) = parts.at(addr) else { return Ok(None) };
    let within = match part.section(addr) {
        Some(section) => format!("{}'s {section}", part.module),
        None if part.kind == "text" => format!("{}'s text segment", part.module),
        None => format!("{}'s {}", part.module, part.kind),
    };
    Ok(Some(place(cx, addr, &within)))
}

fn percpu(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    // most addresses are none: the names are not needed to tell
    if Areas::of(cx)?.at(addr).is_none() {
        return Ok(None);
    }
    let variables = Variables::of(cx)?;
    let Some((cpu, variable)) = variables.at(cx, addr)? else { return area(cx, addr) };
    let ctype = cx.type_of_global(&variable.name);
    let object = Object { addr: Percpu::of(cx)?.address(variable.addr, cpu)?, ctype };
    let inside = addr.wrapping_sub(object.addr);
    let offset = if inside == 0 { String::new() } else { format!("+{inside:#x}") };
    let member = member::name(cx, ctype, inside);
    let what = member.as_ref().filter(|_| inside != 0).map_or_else(String::new, |member| format!(" ({member})"));
    let text = format!("{}{offset}{what} of CPU {cpu}, a per-CPU variable", variable.name);
    let answer = Answer::is(object, text).named(variable.name.as_str());
    Ok(Some(Answer { offset: Some(inside as i64), member, ..answer }))
}

/// Per-CPU memory that no symbol of the kernel names: what `alloc_percpu()` gave out, and what modules have.
fn area(cx: &Cx<'_>, addr: u64) -> Result<Option<Answer>> {
    let areas = Areas::of(cx)?;
    let Some(area) = areas.at(addr) else { return Ok(None) };
    let pointer = Percpu::of(cx)?.variable(addr, area.cpu).unwrap_or_default();
    if let Some(found) = cx.symbols.modules(cx).iter().find_map(|m| m.symbols.as_ref()?.by_addr(pointer))
        && pointer.wrapping_sub(found.addr) < found.size
    {
        let offset = pointer - found.addr;
        let name = cx.symbolize(found.addr).unwrap_or_else(|| found.name.clone());
        let behind = if offset == 0 { String::new() } else { plus(offset as i64) };
        let text = format!("{name}{behind} of CPU {}, a per-CPU variable", area.cpu);
        let object = Object { addr: addr - offset, ctype: cx.type_of_symbol(&found) };
        return Ok(Some(Answer { offset: Some(offset as i64), ..Answer::is(object, text).named(name) }));
    }
    let Some((start, len, used)) = Allocations::of(cx, area, addr)? else {
        let text = format!("in per-CPU memory of CPU {}: __percpu pointer {pointer:x}", area.cpu);
        return Ok(Some(Answer::is(Object::untyped(addr), text)));
    };
    let base = pointer.wrapping_sub(addr.wrapping_sub(start));
    let (state, verb) = if used { ("allocated", "of the") } else { ("freed", "free:") };
    let text = if used {
        format!("of CPU {}, {verb} {len:#x} bytes per CPU that were allocated as __percpu pointer {base:x}", area.cpu)
    } else {
        format!("of CPU {}, {verb} {len:#x} bytes of per-CPU memory at __percpu pointer {base:x}", area.cpu)
    };
    let answer = Answer::inside(cx, Object::untyped(start), addr, &text);
    Ok(Some(Answer { state: Some(state), ..answer }))
}
