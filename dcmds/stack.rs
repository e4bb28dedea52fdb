//! Call stacks: `::stack` (`$c`, `$C`), `::findstack`.
//!
//! ```console
//! > 0t1::pid2task | ::stack
//! SP               PC               HOW    FUNCTION
//! ffffcb67400138b8 ffffffffadc10e3d switch __schedule+0x34d
//! ffffcb6740013910 ffffffffadc1154a orc    schedule+0x5a
//! ffffcb6740013928 ffffffffadc17002 orc    schedule_hrtimeout_range_clock+0x112
//! ffffcb67400139a0 ffffffffad56a425 orc    do_sys_poll+0x535
//! ffffcb6740013dc0 ffffffffad56ae7a orc    __x64_sys_poll+0x4a
//! ffffcb6740013df8 ffffffffadc03f4d orc    do_syscall_64+0x5d
//! ffffcb6740013f58 ffffffffade00126 orc    entry_SYSCALL_64_after_hwframe+0x6e
//! > 0t2::pid2task | ::findstack
//! THREAD           PID S SP               NAME
//! ffff88c243ef42c0   2 S ffffcb674001be58 kthreadd
//!                  __schedule+0x34d
//!                  schedule+0x5a
//!                  kthreadd+0x2bc
//!                  ret_from_fork+0x22
//! ```
//!
//! Frames come from the dump alone: from the kernel's ORC tables, or on arm64 its frame records. HOW says what led to a
//! frame: `regs` (the CPU's registers), `switch` (where the task was switched out), `orc`, `fp` (frame pointer or
//! record), `saved` (registers that an interrupt saved). A `?` marks a guess.

use engine::prelude::*;
use walkers::{
    cpu,
    task::Task,
    unwind::{self, End, Frame, Trace},
};

/// What a trace ends with for a reader; nothing where it ends as it should.
pub fn ending(trace: &Trace) -> Option<String> {
    match &trace.end {
        End::Broken(why) => Some(format!("<{why}>")),
        End::User(None) => Some("<in user mode>".into()),
        End::Gone => Some("<dead: it has no stack any more>".into()),
        _ => None,
    }
}

/// The lines of a frame: the functions that are inlined there, then its own.
fn called(cx: &Cx<'_>, frame: &Frame) -> Vec<String> {
    engine::frame::call(cx, frame.pc, !frame.exact)
}

/// The text lines of a trace: a line a frame, functions that are inlined in front of it, guesses marked.
pub fn lines(cx: &Cx<'_>, trace: &Trace) -> Vec<String> {
    let mut lines = Vec::new();
    for frame in &trace.frames {
        let mut called = called(cx, frame);
        if let Some(last) = called.last_mut().filter(|_| frame.how.is_guess()) {
            last.push_str(" ?");
        }
        lines.append(&mut called);
    }
    lines.extend(ending(trace));
    lines
}

/// The task that a command without an address is about: what the CPU that panicked was running.
fn panicked(cx: &Cx<'_>) -> Result<u64> {
    cpu::current(cx, cpu::panicked(cx).unwrap_or(0))
}

/// Show the call stack of a task; without an address, of what ran on the CPU that panicked.
#[derive(Args)]
pub struct Stack {
    /// at most so many frames, in decimal
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<usize>,
}

/// A frame.
#[derive(Row)]
struct FrameRow {
    /// the task
    #[hidden]
    thread: Addr,
    /// its thread id
    #[hidden]
    pid: i32,
    /// stack pointer of the frame
    sp: Addr,
    /// where the function goes on
    pc: Object,
    /// how the frame was found; `?`: a guess
    how: &'static str,
    /// the function, and how far in it; with debug information, file and line
    function: String,
}

impl Dcmd for Stack {
    const NAME: &'static str = "stack";
    const ALIASES: &'static [&'static str] = &["$c", "$C", "bt"];
    const ROWS: &'static [&'static engine::Schema] = &[FrameRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or_else(|| panicked(cx), |at| Ok(at.addr))?;
        let trace = unwind::of_task(cx, task)?;
        let (thread, pid) = (Addr(task), cx.view::<Task>(task)?.pid);
        for frame in trace.frames.iter().take(self.count.unwrap_or(usize::MAX)) {
            let mut called = called(cx, frame);
            let function = called.pop().unwrap_or_default();
            let (sp, pc) = (Addr(frame.sp), Object::untyped(frame.pc));
            for function in called {
                out.row(FrameRow { thread, pid, sp, pc, how: "inlined", function })?;
            }
            out.row(FrameRow { thread, pid, sp, pc, how: frame.how.name(), function })?;
        }
        match &trace.end {
            End::Broken(why) => cx.notes.add(task, format!("a stack ends early: {why}")),
            End::User(None) => cx.notes.add(task, "a task that was in user mode, with nothing on its kernel stack"),
            End::Gone => cx.notes.add(task, "a dead task, which has no stack any more"),
            _ => {}
        }
        Ok(())
    }
}

/// Show where a task's stack pointer is, and the call stack.
#[derive(Args)]
pub struct Findstack {
    /// show stack pointers and how each frame was found
    #[arg(short = 'v')]
    verbose: bool,
}

/// A task's stack.
#[derive(Row)]
struct FindstackRow {
    /// the task
    thread: Object,
    /// its thread id
    pid: i32,
    /// what it is doing
    s: String,
    /// its stack pointer
    sp: Option<Addr>,
    /// its name
    name: String,
    /// its call stack
    #[detail]
    stack: Vec<String>,
}

impl Dcmd for Findstack {
    const NAME: &'static str = "findstack";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[FindstackRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |at| at.addr);
        let task: Task = cx.view(addr)?;
        let trace = unwind::of_task(cx, addr)?;
        let stack = if self.verbose {
            let frame = |frame: &Frame| {
                let called = called(cx, frame);
                let how = frame.how.name();
                called.into_iter().map(move |text| format!("[ {:016x} {how:<6} {text} ]", frame.sp)).collect::<Vec<_>>()
            };
            trace.frames.iter().flat_map(frame).chain(ending(&trace)).collect()
        } else {
            lines(cx, &trace)
        };
        out.row(FindstackRow {
            thread: cx.object("task_struct", addr),
            pid: task.pid,
            s: task.state().to_string(),
            sp: trace.frames.first().map(|frame| Addr(frame.sp)),
            name: task.name(cx),
            stack,
        })
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Stack>(), DcmdEntry::of::<Findstack>()];
