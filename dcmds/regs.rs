//! Registers at the moment of the dump: `::regs`, `$r`, `::cpuregs`, `::stackregs`.
//!
//! ```console
//! > ::regs | ::where register == "rip"
//! CPU REGISTER VALUE            SYMBOL
//!   0 rip      ffffffffb1693f8f pv_native_safe_halt+0xf
//! ```

use engine::prelude::*;
use walkers::{
    cpu, crash,
    unwind::{self, End},
};

/// Show the registers of the CPU that crashed, or of another.
///
/// Their names are variables too: `<rip::dis`.
#[derive(Args)]
pub struct Regs {
    /// of this CPU, in decimal
    #[arg(short = 'c', value_name = "CPU", conflicts_with = "all")]
    cpu: Option<u32>,
    /// of all CPUs
    #[arg(short = 'a')]
    all: bool,
}

/// A register.
#[derive(Row)]
pub struct RegRow {
    /// the CPU
    cpu: u32,
    /// the register's name
    register: &'static str,
    /// its value
    value: Object,
    /// the symbol that the value is in
    symbol: Option<String>,
}

impl Dcmd for Regs {
    const NAME: &'static str = "regs";
    const ALIASES: &'static [&'static str] = &["$r", "cpuregs"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<RegRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let crashed = cx.registers().ok_or_else(|| {
            Error::Unavailable("the dump has no registers".into())
                .hint("where tasks slept is known nevertheless: `::stacks`")
        })?;
        let wanted = self.cpu.unwrap_or(crashed.cpu);
        let mut any = false;
        for regs in cx.target.cpus().iter().filter(|r| self.all || r.cpu == wanted) {
            any = true;
            for (register, value) in regs.iter() {
                // flags and selectors are no addresses, however small symbols begin
                let symbol = if value >> 63 == 1 { cx.symbolize(value) } else { None };
                out.row(RegRow { cpu: regs.cpu, register, value: Object::untyped(value), symbol })?;
            }
        }
        match any {
            true => Ok(()),
            false => Err(Error::Usage(format!("the dump has no registers of CPU {wanted}"))),
        }
    }
}

/// Show the registers that were saved on a task's stack when it was interrupted: by an exception, an interrupt, or the
/// system call that it is in.
///
/// Without an address, those of what ran on the CPU that panicked.
#[derive(Args)]
pub struct Stackregs {}

/// A register that was saved.
#[derive(Row)]
struct SavedRow {
    /// the `struct pt_regs` that has it
    at: Addr,
    /// the function that was interrupted; `user` for user code
    function: String,
    /// the register's name
    register: String,
    /// its value
    value: Object,
    /// the symbol that the value is in
    symbol: Option<String>,
}

impl Dcmd for Stackregs {
    const NAME: &'static str = "stackregs";
    const ROWS: &'static [&'static engine::Schema] = &[<SavedRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = match at {
            Some(at) => at.addr,
            None => cpu::current(cx, cpu::panicked(cx).unwrap_or(0))?,
        };
        let trace = unwind::of_task(cx, task)?;
        let mut saved: Vec<(u64, String)> =
            trace.frames.iter().filter_map(|frame| Some((frame.regs?, cx.sym(frame.pc)))).collect();
        if let End::User(Some(regs)) = trace.end {
            saved.push((regs, "user".into()));
        }
        for (at, function) in saved {
            for (register, value) in crash::saved_registers(cx, at)? {
                let symbol = if value >> 63 == 1 { cx.symbolize(value) } else { None };
                let (at, function, value) = (Addr(at), function.clone(), Object::untyped(value));
                out.row(SavedRow { at, function, register, value, symbol })?;
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Regs>(), DcmdEntry::of::<Stackregs>()];
