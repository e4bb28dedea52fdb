//! User addresses, as `::whatis` sees them: of the process that `::context` chose, else of whoever maps them.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::{
    spaces::{UserSpace, UserSpaces},
    task::Task,
    vma::{AddressSpace, Vma},
};

/// User memory.
pub const USERS: Source = Source { name: "memory of processes", identifiers: false, find: user };

/// `init's 7ffe1000-7fff2000 rw-p [stack]`
fn mapping(cx: &Cx<'_>, space: &UserSpace, at: u64) -> Result<(String, String)> {
    let vma: Vma = cx.view(at)?;
    let mm: AddressSpace = cx.view(space.mm)?;
    let name = cx.view::<Task>(space.task)?.name(cx);
    let what = match vma.name(cx, &mm) {
        Ok(what) => what,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => e.kind(),
    };
    let offset = match vma.offset(cx) {
        0 => String::new(),
        offset => format!(" from offset {offset:x}"),
    };
    let text = format!("task {:x}'s ({name}) {:x}-{:x} {} {what}", space.task, vma.start, vma.end, vma.rights());
    Ok((name, format!("{}{offset}", text.trim_end())))
}

fn user(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    if addr >> 63 == 1 {
        return Ok(None);
    }
    let spaces = UserSpaces::of(cx)?;
    let context = cx.env.space.get();
    let chosen = if context == Space::Kernel { None } else { spaces.of_table(cx, context) };
    let asked = chosen.map_or(spaces.all(), std::slice::from_ref);
    let mut found = Vec::new();
    for space in asked {
        if let Some(at) = space.mapping(cx, addr)? {
            found.push((space, at));
        }
    }
    let Some((space, at)) = found.first() else { return Ok(None) };
    let object = cx.object("vm_area_struct", *at);
    if let [_] = found[..] {
        let (name, text) = mapping(cx, space, *at)?;
        return Ok(Some(Answer::is(object, format!("in {text}")).named(name)));
    }
    let text = format!("a user address of {} processes, which `TASK::context` chooses from", found.len());
    let mut answer = Answer::is(Object::untyped(addr), text);
    if want.report {
        for (space, at) in &found {
            answer.report.push(mapping(cx, space, *at)?.1);
        }
    }
    Ok(Some(answer))
}
