//! Memory that has no finer meaning, as `::whatis` sees it: page frames, mappings, stretches of addresses.

use super::{Answer, Source, Want};
use engine::{
    prelude::*,
    targets::{Reason, Space},
};
use walkers::{
    frame::Kind,
    page::{PageMap, Use},
    page_use::{self, Owner, PageUse},
    resource::{self, Resource},
    spaces::{TableOf, UserSpaces},
    task::Task,
};

/// The page map.
pub const PAGE_STRUCTS: Source = Source { name: "struct pages", identifiers: false, find: page_struct };
/// The direct map.
pub const DIRECT_MAP: Source = Source { name: "the direct map", identifiers: false, find: direct };
/// Everything else that the page tables map.
pub const MAPPINGS: Source = Source { name: "other mappings", identifiers: false, find: mapping };
/// Physical memory.
pub const PHYSICAL: Source = Source { name: "physical memory", identifiers: false, find: physical };

fn page_struct(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let map = PageMap::of(cx)?;
    let Some(frame) = map.frame(addr) else { return Ok(None) };
    let page = map.page(frame).unwrap_or(addr);
    let what = format!("the struct page of physical {:x}", frame << map.shift);
    Ok(Some(Answer::inside(cx, cx.object("page", page), addr, &what)))
}

fn task(cx: &Cx<'_>, task: u64) -> String {
    match cx.view::<Task>(task) {
        Ok(found) => format!("task {task:x} ({})", found.name(cx)),
        Err(_) => format!("task {task:x}"),
    }
}

/// Whose a page table is, and for what addresses: `of level 1, of task ff… (init), from 400000`.
fn table(cx: &Cx<'_>, table: TableOf) -> Result<String> {
    let of = match table.mm {
        None => "the kernel".to_owned(),
        Some(mm) => match UserSpaces::of(cx)?.of_mm(mm) {
            Some(space) => task(cx, space.task),
            None => format!("mm {mm:x}"),
        },
    };
    Ok(format!(" of level {}, of {of}, for addresses from {:x}", table.level, table.va))
}

/// What a page holds, in words, and who else has to do with it.
fn content(cx: &Cx<'_>, page: &PageUse, report: &mut Vec<String>) -> Result<String> {
    let kind = match page.kind {
        None => return Ok("without a user".into()),
        Some(Kind::Slab) => "of a slab",
        Some(Kind::Table) => "a page table",
        Some(Kind::Reserved) => "reserved since boot",
        Some(Kind::Cache | Kind::PrivateCache) => "page cache",
        Some(Kind::User) => "memory of processes",
        Some(_) => "in use by the kernel",
    };
    let owner = match &page.owner {
        None => String::new(),
        Some(Owner::File { inode, path: Some(path), offset }) => format!(" of {path} at {offset:x}, inode {inode:x}"),
        Some(Owner::File { inode, path: None, offset }) => format!(" of inode {inode:x} at {offset:x}"),
        Some(Owner::Anon { users }) => {
            report.extend(users.iter().map(|(user, va)| format!("mapped by {} at {va:x}", task(cx, *user))));
            match users[..] {
                [] => String::new(),
                [(user, va)] => format!(": anonymous, of {} at {va:x}", task(cx, user)),
                _ => format!(": anonymous, of {} processes", users.len()),
            }
        }
        Some(Owner::Table(whose)) => table(cx, *whose)?,
    };
    let mut text = format!("{kind}{owner}");
    if page.order > 0 {
        text.push_str(&format!(", of order {}", page.order));
    }
    if page.users != 1 {
        text.push_str(&format!(", {} references", page.users));
    }
    Ok(text)
}

/// `page ffffea0004000000, free in a block of order 3`
fn frame(cx: &Cx<'_>, map: &PageMap, frame: u64, want: Want) -> Result<Answer> {
    let page = map.page(frame).unwrap_or_default();
    let mut report = Vec::new();
    let (object, used) = match page_use::of_frame(cx, map, frame) {
        Ok(found) if found.kind == Some(Kind::Free) || found.kind.is_none() => (page, free(cx, map, frame)?),
        Ok(found) => {
            let mut text = content(cx, &found, &mut report)?;
            if found.head != page {
                text.push_str(&format!(", part of the compound page {:x}", found.head));
            }
            if !found.flags.is_empty() && want.report {
                report.push(format!("flags {}", found.flags.join("|")));
            }
            (found.head, text)
        }
        Err(e) if e.is_control() => return Err(e),
        Err(e) => (page, format!("its struct page is unreadable: {}", e.kind())),
    };
    if !want.report {
        report.clear();
    }
    let answer = Answer::is(cx.object("page", object), format!("page {page:x}, {used}"));
    Ok(Answer { report, ..answer })
}

fn free(cx: &Cx<'_>, map: &PageMap, frame: u64) -> Result<String> {
    Ok(match map.used(cx, frame)? {
        Use::Free { order } => format!("free in a block of order {order}"),
        _ => "without a user".to_owned(),
    })
}

fn direct(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let map = PageMap::of(cx)?;
    let Some(number) = map.frame_of_direct(addr) else { return Ok(None) };
    let pa = (number << map.shift) + (addr & ((1 << map.shift) - 1));
    let answer = frame(cx, &map, number, want)?;
    let missing = if cx.target.present(pa) { "" } else { ", not in the dump" };
    let text = format!("physical {pa:x} in the direct map: {}{missing}", answer.text);
    Ok(Some(Answer { text, ..answer }))
}

/// The resources that a physical address lies in, outermost first: as /proc/iomem has them.
fn resources(cx: &Cx<'_>, pa: u64) -> Result<Vec<Resource>> {
    let Some(root) = cx.kernel_symbol("iomem_resource") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    resource::each(cx, root, &mut |resource, _| {
        if (resource.start..=resource.end).contains(&pa) {
            found.push(resource);
        }
        Ok(())
    })?;
    Ok(found)
}

/// What a physical address without a `struct page` is: a device's, or nobody's.
fn no_ram(cx: &Cx<'_>, pa: u64) -> Result<Answer> {
    let found = resources(cx, pa)?;
    let names: Vec<String> = found.iter().filter_map(|resource| resource.name(cx).ok()).collect();
    let object = found.last().map_or(Object::untyped(pa), |resource| cx.object("resource", resource.addr));
    let text = if names.is_empty() { "no RAM".into() } else { format!("no RAM: {}", names.join(", in it ")) };
    Ok(Answer::is(object, text))
}

/// A physical address, as `-p` asks for it.
fn physical(cx: &Cx<'_>, pa: u64, want: Want) -> Result<Option<Answer>> {
    let map = PageMap::of(cx)?;
    let mut answer = match map.page(pa >> map.shift) {
        Some(_) => frame(cx, &map, pa >> map.shift, want)?,
        None => no_ram(cx, pa)?,
    };
    if want.report {
        for resource in resources(cx, pa)? {
            let name = resource.name(cx).unwrap_or_else(|_| "?".into());
            answer.report.push(format!("in {:x}-{:x} {name}", resource.start, resource.end));
        }
    }
    Ok(Some(answer))
}

fn mapping(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let to = match cx.target.translate(Space::Kernel, addr) {
        Ok(to) => to,
        Err(Reason::NotMapped | Reason::NotCanonical) => return Ok(None),
        Err(reason) => {
            return Ok(Some(Answer::is(Object::untyped(addr), format!("mapped nobody knows where: {reason}"))));
        }
    };
    let map = PageMap::of(cx)?;
    let number = to.pa >> map.shift;
    let answer = match map.page(number) {
        Some(_) => frame(cx, &map, number, want)?,
        None => no_ram(cx, to.pa)?,
    };
    Ok(Some(Answer { text: format!("mapped to physical {:x}: {}", to.pa, answer.text), ..answer }))
}
