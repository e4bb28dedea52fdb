//! Address spaces: `::context` enters a process's, `::vtop` says where a virtual address lies in physical memory, `::pte`
//! what an entry of a page table says.
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
use walkers::{mm, pte};

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
    /// show the way through the page tables
    #[arg(short = 'v')]
    verbose: bool,
    /// in the address space of this task instead of the current one
    #[arg(short = 'a', value_name = "TASK")]
    task: Option<ExprArg>,
}

/// An entry on the way.
#[derive(Row)]
struct StepRow {
    /// the table: PGD, P4D, PUD, PMD, PTE; PAGE: what the address leads to
    level: &'static str,
    /// physical address of the entry; of the page, of the byte
    at: Addr,
    /// what it is
    entry: Option<Hex>,
    /// what its bits say
    flags: String,
}

/// Shows the way of an address through the page tables.
fn way(cx: &Cx<'_>, space: Space, addr: u64, out: &mut Out<'_>) -> Result<()> {
    let (steps, end) = cx.target.trail(space, addr);
    let levels = steps.first().map_or(0, |step| step.level);
    for step in &steps {
        let flags = said(cx, step.entry);
        let (level, at) = (pte::level(step, levels), Addr(step.at));
        out.row(StepRow { level, at, entry: Some(Hex(step.entry)), flags })?;
    }
    match end {
        Ok(place) => {
            let letter = |yes: bool, letter| if yes { letter } else { '-' };
            let rights =
                |f: engine::targets::Flags| [letter(f.writable, 'w'), letter(f.exec, 'x'), letter(f.user, 'u')];
            let flags = place.flags.map(|flags| rights(flags).iter().collect()).unwrap_or_default();
            out.row(StepRow { level: "PAGE", at: Addr(place.pa), entry: None, flags })
        }
        Err(reason) => Err(engine::targets::ReadError { space, addr, reason }.into()),
    }
}

/// What the bits of an entry say, in words.
fn said(cx: &Cx<'_>, entry: u64) -> String {
    match pte::swapped(cx, entry) {
        Some((area, page)) => format!("swap area {area} page {page:#x}"),
        None => pte::decode(cx, entry).flags.join(","),
    }
}

/// Take a page-table entry apart, given its value.
#[derive(Args)]
pub struct Pte {}

/// A page-table entry.
#[derive(Row)]
struct PteRow {
    /// physical address of the page, or of the next table
    physical: Addr,
    /// whether something is there
    present: &'static str,
    /// what its bits say
    flags: String,
}

impl Dcmd for Pte {
    const NAME: &'static str = "pte";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[PteRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let value = at.map_or(0, |at| at.addr);
        let entry = pte::decode(cx, value);
        let present = if entry.present { "yes" } else { "no" };
        out.row(PteRow { physical: Addr(entry.physical), present, flags: said(cx, value) })
    }
}

impl Dcmd for Vtop {
    const NAME: &'static str = "vtop";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[StepRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |o| o.addr);
        let space = match &self.task {
            None => cx.env.space.get(),
            Some(task) => mm::space_of(cx, task.eval(cx)?)?.unwrap_or(Space::Kernel),
        };
        if self.verbose {
            return way(cx, space, addr, out);
        }
        match cx.target.translate(space, addr) {
            Ok(place) if out.piped => out.object(Object::untyped(place.pa)),
            Ok(place) => out.line(format!("virtual {addr:x} mapped to physical {:x}", place.pa)),
            Err(reason) => Err(engine::targets::ReadError { space, addr, reason }.into()),
        }
    }
}

/// This file's dcmds.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Context>(), DcmdEntry::of::<Vtop>(), DcmdEntry::of::<Pte>()];
