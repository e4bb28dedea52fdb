//! What a task sleeps on, told by the functions on its stack.
//!
//! mdb calls it the *sobj*, the synchronisation object. Linux keeps no such record of a sleeping task, but to sleep on
//! each kind a task goes through functions of that kind's own, whose names have been stable.

use super::Trace;
use engine::Session;

/// Beginnings of the names of functions that sleep, and what they sleep on. Of a stack the innermost that matches
/// counts, so that a mutex that is built on another kind of lock is still told as what it is.
const SLEEPERS: &[(&str, &str)] = &[
    ("__mutex_lock", "mutex"),
    ("mutex_lock", "mutex"),
    ("ww_mutex_lock", "mutex"),
    ("rwsem_down_", "rwsem"),
    ("rwbase_", "rwsem"),
    ("down_read", "rwsem"),
    ("down_write", "rwsem"),
    ("percpu_rwsem_wait", "rwsem"),
    ("percpu_down_write", "rwsem"),
    ("__percpu_down_read", "rwsem"),
    ("rt_mutex_slowlock", "rtmutex"),
    ("__rt_mutex_slowlock", "rtmutex"),
    ("rt_spin_lock", "rtmutex"),
    ("rtlock_slowlock", "rtmutex"),
    ("rt_mutex_lock", "rtmutex"),
    ("__down", "sema"),
    ("down_interruptible", "sema"),
    ("down_killable", "sema"),
    ("down_timeout", "sema"),
    ("futex_", "futex"),
    ("__futex_", "futex"),
    ("__wait_rcu_gp", "rcu"),
    ("synchronize_rcu", "rcu"),
    ("synchronize_srcu", "rcu"),
    ("__synchronize_srcu", "rcu"),
    ("rcu_barrier", "rcu"),
    ("wait_for_completion", "completion"),
    ("__wait_for_common", "completion"),
    ("io_schedule", "io"),
    ("folio_wait_bit", "io"),
    ("bit_wait_io", "io"),
    ("rq_qos_wait", "io"),
    ("bit_wait", "bit"),
    ("__wait_on_bit", "bit"),
    ("out_of_line_wait_on_bit", "bit"),
    ("ep_poll", "epoll"),
    ("do_epoll_wait", "epoll"),
    ("do_sys_poll", "poll"),
    ("do_poll", "poll"),
    ("do_select", "poll"),
    ("pipe_", "pipe"),
    ("anon_pipe_", "pipe"),
    ("sigsuspend", "signal"),
    ("do_sigtimedwait", "signal"),
    ("do_signal_stop", "signal"),
    ("ptrace_stop", "ptrace"),
    ("do_wait", "child"),
    ("kernel_wait", "child"),
    ("do_nanosleep", "timer"),
    ("hrtimer_nanosleep", "timer"),
    ("msleep", "timer"),
    ("usleep_range", "timer"),
    ("worker_thread", "work"),
    ("rescuer_thread", "work"),
    ("kthread_worker_fn", "work"),
    ("smpboot_thread_fn", "work"),
    ("kthreadd", "work"),
    ("__skb_wait_for_more_packets", "socket"),
    ("sk_wait_data", "socket"),
    ("unix_stream_", "socket"),
    ("inet_csk_accept", "socket"),
    ("sk_stream_wait_memory", "socket"),
    ("wait_woken", "waitq"),
    ("n_tty_read", "tty"),
    ("schedule_timeout", "timer"),
    ("schedule_hrtimeout", "timer"),
    ("do_exit", "exit"),
];

/// Kinds that [`of`] can answer, each once.
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<_> = SLEEPERS.iter().map(|(_, kind)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What the task sleeps on, or `None` if no function on its stack is known to sleep on anything in particular. A time
/// limit is no kind of its own where something further out is: only what is waited *for* counts.
pub fn of(session: &Session, trace: &Trace) -> Option<&'static str> {
    let mut timer = None;
    for frame in &trace.frames {
        let pc = if frame.exact { frame.pc } else { frame.pc.wrapping_sub(1) };
        let Some(symbol) = session.symbols.by_addr(session, pc) else { continue };
        match SLEEPERS.iter().find(|(name, _)| symbol.name.starts_with(name)) {
            Some((name, kind)) if name.starts_with("schedule_") => timer = timer.or(Some(*kind)),
            Some((_, kind)) => return Some(kind),
            None => {}
        }
    }
    timer
}
