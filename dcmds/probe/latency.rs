//! `::latency`: the time between hits of two probes that belong together.
//!
//! ```console
//! > ::probe t:block:block_rq_issue t:block:block_rq_complete -d 10s | ::latency dev sector | ::quantize elapsed
//! ```

use engine::prelude::*;

/// Join each hit of a pipeline's last probe with the latest one of its other probes that had the same values.
///
/// It comes first behind `::probe`, and names what both have: `dev sector` of a block request, `irq` of an interrupt; or
/// `pid:next_pid`, what the earlier one has and what the later one. What
/// comes out has the later hit's fields, and `elapsed`, the nanoseconds in between; `pid`, `tid`, `comm`,
/// `stack` and `ustack` (by frame pointers) are those of whoever began, for what ends a request is seldom the thread that it
/// was for. The kernel does it; hits for which
/// nothing began, such as those of requests that were under way before, are left out and counted.
#[derive(Args)]
pub struct Latency {
    /// what both have, and what tells requests apart
    #[arg(value_name = "KEY", required = true)]
    _key: Vec<String>,
}

impl Filter for Latency {
    const NAME: &'static str = "latency";

    fn item(&mut self, _: &Cx<'_>, _: Item, _: &mut Out<'_>) -> Result<()> {
        Err(Error::Usage("`::latency` joins hits of probes in the kernel, and comes first behind `::probe`".into())
            .hint("`::probe t:block:block_rq_issue t:block:block_rq_complete | ::latency dev sector`"))
    }
}
