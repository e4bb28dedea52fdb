//! Registers at the moment of the dump: `::regs`, `$r`.
//!
//! ```console
//! > ::regs | ::where register == "rip"
//! CPU REGISTER VALUE            SYMBOL
//!   0 rip      ffffffffb1693f8f pv_native_safe_halt+0xf
//! ```

use engine::prelude::*;

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
    const ALIASES: &'static [&'static str] = &["$r"];
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

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Regs>()];
