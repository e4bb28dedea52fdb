//! Tasks as `::whatis` sees them: their stacks, and their numbers.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::{
    task::{Pids, Task},
    task_stack::Stacks,
};

/// Stacks of tasks.
pub const STACKS: Source = Source { name: "stacks of tasks", identifiers: false, find: stack };
/// Numbers of threads.
pub const PIDS: Source = Source { name: "pids", identifiers: true, find: pid };

fn stack(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let stacks = Stacks::of(cx)?;
    let Some(stack) = stacks.at(addr) else { return Ok(None) };
    let mut text = format!("in task {:x}'s stack", stack.task);
    if stack.sp.is_some_and(|sp| addr < sp) {
        text.push_str(" (below sp)");
    }
    let name = cx.view::<Task>(stack.task).map(|task| task.name(cx)).ok();
    let offset = addr.wrapping_sub(stack.range.start) as i64;
    let answer = Answer::is(cx.object("task_struct", stack.task), text);
    Ok(Some(Answer { name, offset: Some(offset), ..answer }))
}

fn pid(cx: &Cx<'_>, number: u64, _: Want) -> Result<Option<Answer>> {
    let found = i32::try_from(number).ok().map(|pid| Pids::of(cx).map(|pids| pids.get(pid))).transpose()?.flatten();
    let Some(task) = found else { return Ok(None) };
    let name = cx.view::<Task>(task)?.name(cx);
    Ok(Some(Answer::is(cx.object("task_struct", task), format!("the pid of task {task:x} ({name})")).named(name)))
}
