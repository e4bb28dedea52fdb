//! CPUs: which one crashed.

use engine::Session;

/// The CPU whose registers stand for the dump: the one that panicked. `crashing_cpu` (kernel/crash_core.c, older
/// kernels: arch/x86/kernel/reboot.c) and `panic_cpu` (kernel/panic.c) hold its number, −1 if none did.
///
/// The answer is an index into the target's registers. The kernel writes them in the order of the CPUs that were
/// online, so with offline CPUs below the crashed one the index would be too large; then the first CPU stands in.
pub fn crashed(session: &Session) -> usize {
    ["crashing_cpu", "panic_cpu"]
        .iter()
        .filter_map(|name| session.u32(session.kernel_symbol(name)?).ok())
        .map(|cpu| cpu as i32)
        .find(|cpu| *cpu >= 0)
        .and_then(|cpu| usize::try_from(cpu).ok())
        .filter(|cpu| *cpu < session.target.cpus().len())
        .unwrap_or(0)
}
