//! Stacks as `::whatis` sees them, of tasks and of CPUs, and the numbers of tasks.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::{
    cpu,
    cpu_stack::CpuStacks,
    task::{Pids, Task},
    task_stack::Stacks,
    unwind,
};

/// Stacks of tasks.
pub const STACKS: Source = Source { name: "stacks of tasks", identifiers: false, find: stack };
/// Stacks of CPUs.
pub const CPU_STACKS: Source = Source { name: "stacks of CPUs", identifiers: false, find: cpu_stack };
/// Numbers of threads.
pub const PIDS: Source = Source { name: "pids", identifiers: true, find: pid };

/// `, in the frame of schedule+0x2f`: by the task's call stack, where it goes through the address.
fn frame(cx: &Cx<'_>, task: u64, addr: u64, limit: u64) -> Result<String> {
    let trace = match unwind::of_task(cx, task) {
        Ok(trace) => trace,
        Err(e) if e.is_control() => return Err(e),
        Err(_) => return Ok(String::new()),
    };
    let ends = trace.frames.iter().skip(1).map(|frame| frame.sp).chain([limit]);
    let around = trace.frames.iter().zip(ends).find(|(frame, end)| (frame.sp..*end).contains(&addr));
    Ok(around.map_or_else(String::new, |(frame, _)| format!(", in the frame of {}", cx.sym(frame.pc))))
}

fn stack(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let stacks = Stacks::of(cx)?;
    let Some(stack) = stacks.at(addr) else { return Ok(None) };
    let mut text = format!("in task {:x}'s stack", stack.task);
    let name = cx.view::<Task>(stack.task).map(|task| task.name(cx)).ok();
    if stack.sp.is_some_and(|sp| addr < sp) {
        text.push_str(" (below sp)");
    } else if want.report {
        text.push_str(&frame(cx, stack.task, addr, stack.range.end)?);
    }
    let offset = addr.wrapping_sub(stack.range.start) as i64;
    let answer = Answer::is(cx.object("task_struct", stack.task), text);
    Ok(Some(Answer { name, offset: Some(offset), ..answer }))
}

fn cpu_stack(cx: &Cx<'_>, addr: u64, want: Want) -> Result<Option<Answer>> {
    let stacks = CpuStacks::of(cx)?;
    if let Some(stack) = stacks.at(addr) {
        let mut text = format!("in CPU {}'s {} stack", stack.cpu, stack.kind);
        if want.report
            && let Ok(task) = cpu::current(cx, stack.cpu)
        {
            text.push_str(&frame(cx, task, addr, stack.range.end)?);
        }
        let answer = Answer::is(Object::untyped(stack.range.start), text).named(stack.kind);
        return Ok(Some(Answer { offset: Some(addr.wrapping_sub(stack.range.start) as i64), ..answer }));
    }
    let Some(area) = stacks.entry_area(addr) else { return Ok(None) };
    let object = cx.object("cpu_entry_area", area.range.start);
    let what = format!("the entry area of CPU {}", area.cpu);
    Ok(Some(Answer::inside(cx, object, addr, &what)))
}

fn pid(cx: &Cx<'_>, number: u64, _: Want) -> Result<Option<Answer>> {
    let found = i32::try_from(number).ok().map(|pid| Pids::of(cx).map(|pids| pids.get(pid))).transpose()?.flatten();
    let Some(task) = found else { return Ok(None) };
    let name = cx.view::<Task>(task)?.name(cx);
    Ok(Some(Answer::is(cx.object("task_struct", task), format!("the pid of task {task:x} ({name})")).named(name)))
}
