//! What can be probed, by patterns.
//!
//! ```console
//! > ::probes t:kmem:kfree
//! PROBE        HAS
//! t:kmem:kfree call_site ptr
//! ```

use super::{names::Names, spec};
use engine::{IntoRow, Schema, prelude::*};
use probes::source::Source;

/// What can be probed.
#[derive(Row)]
struct ProbeRow {
    /// as it is given to ::probe
    probe: String,
    /// what it has: fields, parameters
    has: String,
}

/// List what can be probed: the probes that a pattern matches, with what they know.
#[derive(Args)]
pub struct Probes {
    /// only in this process
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// `t:kmem:*`, `k:*d_alloc*`, `u:libc:mall*`, `usdt:FILE:*`
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

impl Dcmd for Probes {
    const NAME: &'static str = "probes";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[ProbeRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.patterns.is_empty() {
            return spec::KINDS
                .iter()
                .try_for_each(|(probe, has)| out.row(ProbeRow { probe: (*probe).into(), has: (*has).into() }));
        }
        let pid = self.pid.as_ref().map(|pid| pid.eval(cx)).transpose()?.and_then(|pid| i32::try_from(pid).ok());
        for pattern in &self.patterns {
            for source in spec::all(cx, pattern, pid)? {
                let has = match &source {
                    Source::User { site, .. } if site.usdt => site.arguments(),
                    source => Names::at(cx, source).own_names().join(" "),
                };
                out.row(ProbeRow { probe: source.name(), has })?;
            }
        }
        Ok(())
    }
}
