//! Counts that are looked at later: those of the last run, and those of one that goes on while other commands are typed.
//!
//! ```console
//! > ::probe -b t:syscalls:sys_enter_openat | ::group comm | ::count
//! > ::agg | ::head -2
//! COUNT COMM
//!   113 systemd-journal
//!    40 sshd
//! > ::agg -k
//! ```

use super::{
    Ready,
    show::{Part, Shower},
    totals::{self, Totals},
};
use engine::prelude::*;
use probes::Recording;

/// The last counts.
pub enum Counts {
    /// probes that are still set
    Going(Box<Going>),
    /// a run that has ended: what it counted
    Ended(Vec<Item>),
}

/// Probes that count while other commands run.
pub struct Going {
    recording: Recording,
    ready: Ready,
    parts: Vec<Vec<Part>>,
}

impl Going {
    /// Leaves probes to count by themselves.
    pub fn new(recording: Recording, ready: Ready, parts: Vec<Vec<Part>>) -> Going {
        Going { recording, ready, parts }
    }

    /// What they have counted.
    fn rows(&self, cx: &Cx<'_>) -> Result<Vec<Item>> {
        let (plan, sources, shower) = (&self.ready.plan, &self.ready.sources, &Shower::new(cx));
        Totals { plan, sources, parts: &self.parts, shower }.groups(&totals::entries(&self.recording)?, true)
    }
}

/// The keys and counts of the last ::probe that counted, whether it has ended or goes on (`::probe -b`).
///
/// Each row is a key with its count, and where something is added up its sum, least and most. A key that is a pointer is
/// what the next stage looks at. `::walk agg` is the same.
#[derive(Args)]
pub struct Agg {
    /// end the probes that go on
    #[arg(short = 'k')]
    kill: bool,
}

impl Dcmd for Agg {
    const NAME: &'static str = "agg";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let rows = rows(cx)?;
        if self.kill {
            cx.env.keep(Counts::Ended(rows));
            return Ok(());
        }
        rows.into_iter().try_for_each(|row| out.item(row))
    }
}

/// The rows of the last counts.
pub fn rows(cx: &Cx<'_>) -> Result<Vec<Item>> {
    let nothing = || {
        Error::Unavailable("nothing has been counted by a probe".into())
            .hint("`::probe PROBE | ::group KEY` counts, and with -b while you type other commands")
    };
    match &*cx.env.kept::<Counts>().ok_or_else(nothing)? {
        Counts::Going(going) => going.rows(cx),
        Counts::Ended(rows) => Ok(rows.clone()),
    }
}
