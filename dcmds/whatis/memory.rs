//! Memory that has no finer meaning, as `::whatis` sees it: page frames and mappings.

use super::{Answer, Source, Want};
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use walkers::page::{PageMap, Use};

/// The page map.
pub const PAGE_STRUCTS: Source = Source { name: "struct pages", identifiers: false, find: page_struct };
/// The direct map.
pub const DIRECT_MAP: Source = Source { name: "the direct map", identifiers: false, find: direct };
/// Everything else that the page tables map.
pub const MAPPINGS: Source = Source { name: "other mappings", identifiers: false, find: mapping };

fn page_struct(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let map = PageMap::of(cx)?;
    let Some(frame) = map.frame(addr) else { return Ok(None) };
    let page = map.page(frame).unwrap_or(addr);
    let what = format!("the struct page of physical {:x}", frame << map.shift);
    Ok(Some(Answer::inside(cx.object("page", page), addr, &what)))
}

/// `page ffffea0004000000, free in a block of order 3`
fn frame(cx: &Cx<'_>, map: &PageMap, frame: u64) -> Result<(Object, String)> {
    let page = map.page(frame).unwrap_or_default();
    let (object, used) = match map.used(cx, frame) {
        Ok(Use::Free { order }) => (page, format!("free in a block of order {order}")),
        Ok(Use::Tail { head }) => (head, format!("part of the compound page {head:x}")),
        Ok(Use::Used { users: 1 }) => (page, "in use".to_owned()),
        Ok(Use::Used { users }) => (page, format!("in use, {users} references")),
        Ok(Use::Idle) => (page, "without a user".to_owned()),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => (page, format!("its struct page is unreadable: {}", e.kind())),
    };
    Ok((cx.object("page", object), format!("page {page:x}, {used}")))
}

fn direct(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let map = PageMap::of(cx)?;
    let Some(number) = map.frame_of_direct(addr) else { return Ok(None) };
    let inside = addr & ((1 << map.shift) - 1);
    let (object, page) = frame(cx, &map, number)?;
    let missing = match cx.target.present((number << map.shift) + inside) {
        true => "",
        false => ", not in the dump",
    };
    let text = format!("physical {:x} in the direct map: {page}{missing}", (number << map.shift) + inside);
    Ok(Some(Answer::is(object, text)))
}

fn mapping(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let to = match cx.target.translate(Space::Kernel, addr) {
        Ok(to) => to,
        Err(Reason::NotMapped | Reason::NotCanonical) => return Ok(None),
        Err(reason) => {
            return Ok(Some(Answer::is(Object::untyped(addr), format!("mapped nobody knows where: {reason}"))));
        }
    };
    let map = PageMap::of(cx)?;
    let number = to.pa >> map.shift;
    let (object, page) = match map.page(number) {
        Some(_) => frame(cx, &map, number)?,
        None => (Object::untyped(addr), "no RAM".to_owned()),
    };
    Ok(Some(Answer::is(object, format!("mapped to physical {:x}: {page}", to.pa))))
}
