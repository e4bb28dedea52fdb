//! Names of functions as they stay from build to build, and the signature that is made of them.

use engine::prelude::*;
use walkers::unwind::Trace;

/// A function's name without what compilers append to it, and system calls without their architecture.
pub fn plain(name: &str) -> String {
    let name = name.split('.').next().unwrap_or(name);
    let call = ["__x64_sys_", "__ia32_sys_", "__arm64_sys_", "__se_sys_", "__do_sys_"];
    match call.iter().find_map(|start| name.strip_prefix(start)) {
        Some(rest) => format!("sys_{rest}"),
        None => name.to_owned(),
    }
}

/// The functions of a stack, the innermost first; code without a symbol is `?`.
pub fn of(session: &Session, trace: &Trace) -> Vec<String> {
    let name =
        |pc: u64| session.symbols.by_addr(session, pc).map_or_else(|| "?".to_owned(), |symbol| plain(&symbol.name));
    trace.frames.iter().map(|frame| name(if frame.exact { frame.pc } else { frame.pc.wrapping_sub(1) })).collect()
}

/// Functions that stand on every stack of a kind and tell nothing.
const COMMON: &[&str] = &[
    "__switch_to",
    "__schedule",
    "schedule",
    "schedule_preempt_disabled",
    "schedule_timeout",
    "entry_SYSCALL_64_after_hwframe",
    "do_syscall_64",
    "x64_sys_call",
    "el0t_64_sync",
    "el0t_64_sync_handler",
    "el0_svc",
    "do_el0_svc",
    "invoke_syscall",
    "el0_svc_common",
    "ret_from_fork",
    "ret_from_fork_asm",
    "kthread",
];
/// Whether a function stands on every stack of a kind.
pub fn is_common(name: &str) -> bool {
    COMMON.contains(&name)
}

/// Frames that count: further out, one crash comes from many callers.
const DEPTH: usize = 6;

/// Whether a function is where an interrupt comes in: whom it met is chance.
fn interrupts(name: &str) -> bool {
    const SOFT: &[&str] = &["__do_softirq", "__softirqentry_text_start", "handle_softirqs", "run_ksoftirqd"];
    const HARD: &[&str] =
        &["__irq_exit_rcu", "irq_exit_rcu", "common_interrupt", "el1_interrupt", "el1h_64_irq", "el1_irq"];
    SOFT.contains(&name) || HARD.contains(&name) || name.starts_with("sysvec_") || name.starts_with("asm_sysvec_")
}

/// The functions that a signature is made of: of an interrupt only its own.
pub fn telling(names: &[String]) -> Vec<String> {
    let within = names.iter().position(|name| interrupts(name)).filter(|at| *at > 0);
    let names = names.get(..within.unwrap_or(names.len())).unwrap_or(names);
    let inner = std::iter::once("").chain(names.iter().map(String::as_str));
    // x86's sys_write() leaves its place to ksys_write(), arm64's does not
    let twice = |name: &str, inner: &str| name.starts_with("sys_") && inner.strip_prefix('k') == Some(name);
    let own = names.iter().zip(inner).filter(|(name, inner)| !is_common(name) && *name != "?" && !twice(name, inner));
    own.map(|(name, _)| name).take(DEPTH).cloned().collect()
}

/// A number that is the same for crashes of a class with the same innermost functions, whatever the build, the machine
/// and the addresses: FNV-1a of their names.
pub fn signature(class: &str, names: &[String]) -> String {
    let telling = telling(names);
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in
        std::iter::once(class).chain(telling.iter().map(String::as_str)).flat_map(|name| name.bytes().chain([b'|']))
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_signatures_survive_a_new_build() {
        assert_eq!(plain("crash_null.isra.0"), "crash_null");
        assert_eq!(plain("__x64_sys_write"), "sys_write");
        assert_eq!(plain("__arm64_sys_write"), "sys_write");
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let one = signature("null-deref", &names(&["crash_null", "do_syscall_64"]));
        assert_eq!(one, signature("null-deref", &names(&["crash_null", "el0_svc"])));
        let deeper = ["crash_soft", "ksys_write", "sys_write", "el0_svc", "main"];
        assert_eq!(telling(&names(&deeper)), ["crash_soft", "ksys_write", "main"]);
        let in_timer = ["crash_bell", "call_timer_fn", "handle_softirqs", "__irq_exit_rcu", "do_idle"];
        assert_eq!(telling(&names(&in_timer)), ["crash_bell", "call_timer_fn"]);
        assert_ne!(one, signature("bug", &names(&["crash_null"])));
        assert_ne!(one, signature("null-deref", &names(&["crash_wild"])));
    }
}
