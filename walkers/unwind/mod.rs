//! Call stacks of tasks and CPUs, out of the dump alone.
//!
//! On x86-64 the kernel's own ORC tables lead from frame to frame, through interrupts and exceptions and from stack to
//! stack, up to the registers that user code had; on arm64 the chain of frame records does. Every frame says how it was
//! found, and a trace says why it ended: an end that is none is told as such.

mod arm64;
mod hole;
mod orc;
pub mod sobj;
mod trampoline;
mod x86;

#[doc(hidden)]
pub use orc::look_up as look_up_orc;

use crate::{
    cpu,
    percpu::Percpu,
    task::{self, Task},
};
use engine::{
    ViewEntry,
    prelude::*,
    targets::{Arch, CpuRegs, RegSource},
};
use rayon::prelude::*;
use std::sync::Arc;

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// It is where the CPU was at the moment of the dump.
    Registers,
    /// It is where the task was switched out.
    Switch,
    /// By the kernel's ORC tables.
    Orc,
    /// By a frame pointer, or a frame record.
    FramePointer,
    /// By registers that an interrupt or exception saved on the stack.
    Saved,
    /// A word on the stack that lies behind a call of the function below: right in all probability, but a guess.
    Scan,
    /// The frame pointer was followed where no table says that it may be: a guess.
    Guess,
}

impl How {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            How::Registers => "regs",
            How::Switch => "switch",
            How::Orc => "orc",
            How::FramePointer => "fp",
            How::Saved => "saved",
            How::Scan => "scan?",
            How::Guess => "fp?",
        }
    }

    /// Whether nothing proves it.
    pub fn is_guess(self) -> bool {
        matches!(self, How::Scan | How::Guess)
    }
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// where it will go on
    pub pc: u64,
    /// its stack pointer
    pub sp: u64,
    /// how it was found
    pub how: How,
    /// Whether `pc` is the instruction that was interrupted; else it lies behind a call.
    pub exact: bool,
    /// where its registers were saved, if an interrupt or exception came: a `struct pt_regs`
    pub regs: Option<u64>,
}

/// Where a trace ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At user code, whose registers (`struct pt_regs`) are at this address; `None`: the CPU was in user mode.
    User(Option<u64>),
    /// At the bottom: where kernel threads begin.
    Bottom,
    /// There is none: the task is dead, and its stack was given back.
    Gone,
    /// Before its end, and why.
    Broken(String),
}

/// A call stack, innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// its frames
    pub frames: Vec<Frame>,
    /// where it ended
    pub end: End,
}

impl Trace {
    /// Why it ended before its time, if it did.
    pub fn broken(&self) -> Option<&str> {
        match &self.end {
            End::Broken(why) => Some(why),
            _ => None,
        }
    }

    fn none(why: impl Into<String>) -> Trace {
        Trace { frames: Vec::new(), end: End::Broken(why.into()) }
    }
}

/// More frames than a stack has room for, if each of its words were one: a trace that has more leads in circles.
const MAX_FRAMES: usize = 2048;
/// How often a stack may be left for another: task, interrupt, and each kind of exception. In a circle it has no end.
const MAX_SWITCHES: usize = 16;

/// Keeps a trace from going in circles: the stack pointer rises, but for some changes of stack.
#[derive(Default)]
struct Guard {
    switches: usize,
}

impl Guard {
    fn check(&mut self, frames: &[Frame], before: u64, after: u64) -> Result<(), String> {
        if after <= before {
            self.switches += 1;
        }
        if self.switches > MAX_SWITCHES || frames.len() >= MAX_FRAMES {
            return Err(format!("it leads in circles at stack pointer {after:x}"));
        }
        Ok(())
    }
}

/// What of a task tells whether it runs, and on what.
#[derive(View)]
#[ctype("task_struct")]
struct Owner {
    on_cpu: Option<i32>,
    stack: u64,
}

/// The CPU that a task runs on, if it does.
pub fn running_on(session: &Session, task: &Task) -> Result<Option<u32>> {
    // a kernel without SMP has no such member
    if session.view::<Owner>(task.addr)?.on_cpu == Some(0) {
        return Ok(None);
    }
    Ok((cpu::current(session, task.cpu)? == task.addr).then_some(task.cpu))
}

/// The registers of the CPU that a task runs on.
///
/// The kernel that crashed wrote the number of the task beside each CPU's registers; the idle tasks, which share number
/// 0, and what hypervisors write go by the CPU.
pub fn registers<'a>(session: &'a Session, task: &Task, cpu: u32) -> Option<&'a CpuRegs> {
    let all = session.target.cpus();
    let mine = |regs: &&CpuRegs| task.pid != 0 && regs.pid == Some(task.pid as u32);
    all.iter().find(mine).or_else(|| {
        // the kernel writes those of the CPUs that are online, in their order
        let online = Percpu::of(session).ok()?;
        let place = online.online().iter().position(|c| *c == cpu).unwrap_or(cpu as usize);
        all.iter().find(|regs| match regs.source {
            RegSource::Prstatus => regs.cpu as usize == place,
            _ => regs.cpu == cpu,
        })
    })
}

/// The call stack of a task.
pub fn of_task(session: &Session, addr: u64) -> Result<Trace> {
    let task: Task = session.view(addr)?;
    // a zombie has none (68f24b08ee89, Linux 4.9)
    if session.view::<Owner>(addr)?.stack == 0 {
        return Ok(Trace { frames: Vec::new(), end: End::Gone });
    }
    let trace = match running_on(session, &task)? {
        Some(cpu) => match registers(session, &task, cpu) {
            Some(regs) => of_registers(session, &task, regs),
            None => Ok(Trace::none(format!("it runs on CPU {cpu}, whose registers are not known"))),
        },
        None => match session.target.arch() {
            Arch::X86_64 => x86::sleeping(session, &task),
            _ => arm64::sleeping(session, &task),
        },
    };
    match trace {
        Err(e) if e.is_unreadable() => Ok(Trace::none(e.kind())),
        result => result,
    }
}

/// The call stack of every thread.
#[derive(Debug, Default)]
pub struct Traces(Vec<(u64, Trace)>);

impl Traces {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Traces>> {
        session.once(|| session.settle(|| Traces::read(session)))
    }

    fn read(session: &Session) -> Result<Traces> {
        let mut threads = Vec::new();
        task::threads(session, &mut |task| {
            threads.push(task);
            Ok(())
        })?;
        let one = |task: &u64| match of_task(session, *task) {
            Ok(trace) => Ok(Some((*task, trace))),
            Err(e) if e.is_control() => Err(e),
            Err(e) => {
                session.notes.add(*task, format!("a thread: {}", e.kind()));
                Ok(None)
            }
        };
        let traces = threads.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Traces(traces.into_iter().flatten().collect()))
    }

    /// The address of each thread's `struct task_struct`, and its stack.
    pub fn iter(&self) -> impl Iterator<Item = &(u64, Trace)> {
        self.0.iter()
    }
}

/// The call stack of the task that a CPU was running, from the CPU's registers.
fn of_registers(session: &Session, task: &Task, regs: &CpuRegs) -> Result<Trace> {
    if regs.user_mode() == Some(true) {
        return Ok(Trace { frames: Vec::new(), end: End::User(None) });
    }
    match session.target.arch() {
        Arch::X86_64 => x86::running(session, task, regs),
        _ => arm64::running(session, task, regs),
    }
}

/// The views of this room.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Owner>()];
pub use trampoline::VIEWS as TRAMPOLINE_VIEWS;
pub use x86::VIEWS as X86_VIEWS;
