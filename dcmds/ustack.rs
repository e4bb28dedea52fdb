//! Call stacks of user code: `::ustack`.
//!
//! ```console
//! > 0t166::pid2task | ::ustack
//! SP               PC               HOW  FUNCTION
//! 00007ffd9d9a7a58 0000000000446ac4 regs actors`pause+0x14
//! 00007ffd9d9a7a60 0000000000401d65 cfi  actors`rest+0x5
//! ```

use engine::prelude::*;
use walkers::{
    corefile::Thread,
    ustack::{self, Unwinder},
    vma,
};

/// Show the call stack that a task has in its own program, as far as the process's memory is in the dump.
///
/// It is followed by the call frame information that programs carry along; where there is none, by frame pointers, which
/// is a guess. Functions have names if the program was not stripped and its file is in the page cache.
#[derive(Args)]
pub struct Ustack {
    /// at most so many frames, in decimal
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<usize>,
}

/// A frame.
#[derive(Row)]
struct UserFrameRow {
    /// the task
    #[hidden]
    thread: Addr,
    /// its thread id
    #[hidden]
    pid: i32,
    /// stack pointer of the frame
    sp: Addr,
    /// where the function goes on
    pc: Addr,
    /// how the frame was found; `?`: a guess
    how: &'static str,
    /// the file, the function, and how far in it; without a function, how far in the file
    function: String,
}

fn spell(frame: &ustack::Frame) -> String {
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match (&frame.object, &frame.function) {
        (Some((path, _)), Some((function, offset))) => format!("{}`{function}+{offset:#x}", file(path)),
        (Some((path, 0)), None) => format!("{}`{:#x}", file(path), frame.pc),
        (Some((path, base)), None) => format!("{}+{:#x}", file(path), frame.pc.wrapping_sub(*base)),
        (None, _) => format!("{:#x}", frame.pc),
    }
}

impl Dcmd for Ustack {
    const NAME: &'static str = "ustack";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[UserFrameRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let Some(mm) = vma::chosen(cx, cx.object("task_struct", task))? else {
            cx.notes.add(task, "task without user memory: a kernel thread, or a process that has exited");
            return Ok(());
        };
        let thread = Thread::of(cx, task)?;
        let trace = Unwinder::of(cx, mm)?.trace(&thread)?;
        for frame in trace.frames.iter().take(self.count.unwrap_or(usize::MAX)) {
            out.row(UserFrameRow {
                thread: Addr(task),
                pid: thread.task.pid,
                sp: Addr(frame.sp),
                pc: Addr(frame.pc),
                how: frame.how.name(),
                function: spell(frame),
            })?;
        }
        if let Some(why) = trace.broken {
            cx.notes.add(task, format!("a user stack ends early: {why}"));
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ustack>()];
