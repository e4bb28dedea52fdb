//! CPUs: which one crashed, and what each one ran.

use crate::percpu;
use engine::{Result, Session};

/// The CPU that panicked, by its number: `crashing_cpu` (kernel/crash_core.c, older kernels: arch/x86/kernel/reboot.c)
/// or `panic_cpu` (kernel/panic.c), −1 if none did.
pub fn panicked(session: &Session) -> Option<u32> {
    ["crashing_cpu", "panic_cpu"]
        .iter()
        .filter_map(|name| session.u32(session.kernel_symbol(name)?).ok())
        .find(|cpu| *cpu as i32 >= 0)
}

/// The CPU whose registers stand for the dump: the one that panicked.
///
/// The answer is an index into the target's registers. The kernel writes them in the order of the CPUs that were
/// online, so with offline CPUs below the crashed one the index would be too large; then the first CPU stands in.
pub fn crashed(session: &Session) -> usize {
    panicked(session)
        .and_then(|cpu| usize::try_from(cpu).ok())
        .filter(|cpu| *cpu < session.target.cpus().len())
        .unwrap_or(0)
}

/// The task that a CPU runs: `curr` of its run queue.
pub fn current(session: &Session, cpu: u32) -> Result<u64> {
    let queue = percpu::variable(session, "runqueues", cpu)?;
    session.u64(queue.wrapping_add(session.offset("rq", "curr")?))
}

/// The task whose registers stand for the dump: what [`crashed`]'s CPU ran.
pub fn thread(session: &Session) -> Option<u64> {
    let cpu = panicked(session).unwrap_or(0);
    current(session, cpu).ok()
}
