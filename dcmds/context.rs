//! Address spaces: `::context` enters a process's, `::vtop` says where a virtual address lies in physical memory.
//!
//! ```console
//! > 0t1::pid2task | ::print mm | ::print struct mm_struct arg_start
//! arg_start = 0x7ffd4a0e7f4e
//! > 0t1::pid2task | ::context
//! > 7ffd4a0e7f4e/s
//! 0x7ffd4a0e7f4e: /init
//! > 0::context
//! > init_task::vtop
//! virtual ffffffff8d010940 mapped to physical f410940
//! ```

use engine::prelude::*;
use walkers::mm;

/// Read the memory of a process with `/`, `::print` and `::dump`, until `0::context` comes back to the kernel's.
///
/// The address is that of a task. Filtered dumps mostly have no user memory.
#[derive(Args)]
pub struct Context {}

impl Dcmd for Context {
    const NAME: &'static str = "context";
    const ALIASES: &'static [&'static str] = &["$p"];
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        let space = match at.map_or(0, |o| o.addr) {
            0 => Space::Kernel,
            task => mm::space_of(cx, task)?.ok_or_else(|| {
                Error::Unavailable(format!("the task at {task:#x} is a kernel thread: it has no memory of its own"))
            })?,
        };
        cx.env.space.set(space);
        Ok(())
    }
}

/// Translate a virtual address to a physical one.
#[derive(Args)]
pub struct Vtop {
    /// in the address space of this task instead of the current one
    #[arg(short = 'a', value_name = "TASK")]
    task: Option<ExprArg>,
}

impl Dcmd for Vtop {
    const NAME: &'static str = "vtop";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |o| o.addr);
        let space = match &self.task {
            None => cx.env.space.get(),
            Some(task) => mm::space_of(cx, task.eval(cx)?)?.unwrap_or(Space::Kernel),
        };
        match cx.target.translate(space, addr) {
            Ok(place) if out.piped => out.object(Object::untyped(place.pa)),
            Ok(place) => out.line(format!("virtual {addr:x} mapped to physical {:x}", place.pa)),
            Err(reason) => Err(engine::targets::ReadError { space, addr, reason }.into()),
        }
    }
}

/// This file's dcmds.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Context>(), DcmdEntry::of::<Vtop>()];
