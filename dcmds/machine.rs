//! How the machine was started and what it goes by: `::cmdline`, `::clocksources`, `::static_keys`.
//!
//! ```console
//! > ::clocksources
//! ADDR             NAME     RATING FREQUENCY  CURRENT UNSTABLE
//! ffffffff8d0d1b40 tsc-early   299 2496000000 no      no
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    clocksource::{self, Clocksource},
    static_key,
};

/// Show the kernel's command line.
#[derive(Args)]
pub struct Cmdline {}

/// The command line.
#[derive(Row)]
struct CmdlineRow {
    /// where it is
    #[hidden]
    addr: Object,
    /// as it was given
    cmdline: String,
}

impl Dcmd for Cmdline {
    const NAME: &'static str = "cmdline";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[CmdlineRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        /// COMMAND_LINE_SIZE, and what a bootconfig adds
        const MAX: usize = 1 << 16;
        let at = cx.u64(cx.symbol("saved_command_line")?)?;
        let text = cx.cstr(at, MAX)?;
        out.row(CmdlineRow { addr: Object::untyped(at), cmdline: text.trim_end().to_owned() })
    }
}

/// Show the counters that time is made of, the best first.
#[derive(Args)]
pub struct Clocksources {}

/// A counter.
#[derive(Row)]
struct ClocksourceRow {
    /// address of its struct clocksource
    addr: Object,
    /// its name
    name: String,
    /// the more, the better
    rating: i32,
    /// counts in a second
    frequency: Option<u64>,
    /// whether time is made of it
    current: bool,
    /// whether it was found to be wrong
    unstable: bool,
}

impl Dcmd for Clocksources {
    const NAME: &'static str = "clocksources";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[ClocksourceRow::SCHEMA];
    const PASSES: &'static str = "struct clocksource";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let current = clocksource::current(cx).unwrap_or(0);
        clocksource::each(cx, &mut |at| {
            let source: Clocksource = match cx.view(at) {
                Ok(source) => source,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(at, format!("clock source: {}", e.kind()));
                    return Ok(());
                }
            };
            out.row(ClocksourceRow {
                addr: cx.object("clocksource", at),
                rating: source.rating,
                frequency: source.frequency(),
                current: at == current,
                unstable: source.unstable(),
                name: source.name,
            })
        })
    }
}

/// Show static keys: the switches in the kernel's code that are on.
#[derive(Args)]
pub struct StaticKeys {
    /// those too that are off
    #[arg(short = 'a')]
    all: bool,
    /// only those whose name has this in it
    name: Option<String>,
}

/// A switch.
#[derive(Row)]
struct KeyRow {
    /// address of its struct static_key
    addr: Object,
    /// its name
    name: String,
    /// how often it is switched on
    enabled: Cell,
    /// places in the code that it switches
    sites: u64,
}

impl Dcmd for StaticKeys {
    const NAME: &'static str = "static_keys";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[KeyRow::SCHEMA];
    const PASSES: &'static str = "struct static_key";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for key in static_key::keys(cx)? {
            let name = cx.sym(key.addr);
            let off = key.enabled == Ok(0) && !self.all;
            if off || self.name.as_ref().is_some_and(|asked| !name.contains(asked)) {
                continue;
            }
            out.row(KeyRow {
                addr: cx.object("static_key", key.addr),
                name,
                enabled: match key.enabled {
                    Ok(count) => Cell::Int(count.into()),
                    Err(why) => Cell::Unreadable(why),
                },
                sites: key.sites,
            })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Cmdline>(), DcmdEntry::of::<Clocksources>(), DcmdEntry::of::<StaticKeys>()];
