//! Signals of a task: which are pending, blocked, ignored, and what is done about the others.
//!
//! What is sent to a thread waits in `task_struct.pending`, what is sent to the process in
//! `signal_struct.shared_pending`, each a bitmap with a list of `struct sigqueue`, which say who sent it.
//!
//! ```console
//! > 0t1::pid2task | ::print sighand | ::print struct sighand_struct action[0].sa.sa_flags
//! action[0].sa.sa_flags = 0
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*, targets::Arch};

/// What of a task is about signals.
#[derive(View)]
#[ctype("task_struct")]
struct Owner {
    signal: u64,
    sighand: u64,
    #[field("blocked.sig[0]")]
    blocked: u64,
    #[field("pending.signal.sig[0]")]
    pending: u64,
    #[field("pending.list")]
    queue: At,
}

/// What of a process is.
#[derive(View)]
#[ctype("signal_struct")]
struct Shared {
    #[field("shared_pending.signal.sig[0]")]
    pending: u64,
    #[field("shared_pending.list")]
    queue: At,
    flags: u32,
}

/// What a process does about a signal: `struct k_sigaction`.
#[derive(View, Clone, Copy, Debug)]
#[ctype("k_sigaction")]
pub struct Action {
    /// its address
    #[addr]
    pub addr: u64,
    /// the user's function; 0 does what is done by default, 1 ignores it
    #[field("sa.sa_handler")]
    pub handler: u64,
    /// `SA_…`
    #[field("sa.sa_flags")]
    pub flags: u64,
    /// what else is blocked meanwhile, bit N-1 for signal N
    #[field("sa.sa_mask.sig[0]")]
    pub mask: u64,
}

/// A signal that waits: `struct sigqueue`.
#[derive(View, Clone, Copy, Debug)]
#[ctype("sigqueue")]
pub struct Queued {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    #[field("info.si_signo")]
    pub signal: u32,
    /// `SI_…`: where from
    #[field("info.si_code")]
    pub code: i32,
    /// the process that sent it, where one did
    #[field("info._sifields._kill._pid")]
    pub pid: i32,
    /// its user
    #[field("info._sifields._kill._uid")]
    pub uid: u32,
}

/// All of a task's signals. In the sets, bit N-1 stands for signal N.
pub struct Signals {
    /// what it blocks
    pub blocked: u64,
    /// what waits for the thread
    pub pending: u64,
    /// what waits for its process
    pub shared: u64,
    /// the thread's queue: a `struct list_head`
    queue: u64,
    /// the process's
    shared_queue: u64,
    /// `SIGNAL_…` of the process
    pub flags: u32,
    /// `struct sighand_struct`; 0 once the task was reaped
    pub sighand: u64,
}

/// How many signals there are: `_NSIG`, on every architecture we know.
pub const COUNT: u32 = 64;

impl Signals {
    /// Those of a task.
    pub fn of(session: &Session, task: u64) -> Result<Signals> {
        let owner: Owner = session.view(task)?;
        let shared: Shared = session.view(owner.signal)?;
        Ok(Signals {
            blocked: owner.blocked,
            pending: owner.pending,
            shared: shared.pending,
            queue: owner.queue.0,
            shared_queue: shared.queue.0,
            flags: shared.flags,
            sighand: owner.sighand,
        })
    }

    /// What its process does about a signal. An error once it has exited.
    pub fn action(&self, session: &Session, signal: u32) -> Result<Action> {
        if self.sighand == 0 {
            return Err(Error::Unavailable("the task has exited: it handles no signals any more".into()));
        }
        let first = self.sighand.wrapping_add(session.offset("sighand_struct", "action")?);
        let size = session.size_of("k_sigaction")?;
        session.view(first.wrapping_add(u64::from(signal.wrapping_sub(1)).wrapping_mul(size)))
    }

    /// The sets of signals that it ignores, and that it catches.
    pub fn dispositions(&self, session: &Session) -> Result<(u64, u64)> {
        let (mut ignored, mut caught) = (0, 0);
        for signal in 1..=COUNT {
            match self.action(session, signal)?.handler {
                0 => {}
                1 => ignored |= 1 << (signal - 1),
                _ => caught |= 1 << (signal - 1),
            }
        }
        Ok((ignored, caught))
    }

    /// Visits the signals in its queues, those for the thread first. `shared`: for the whole process.
    pub fn queued(&self, session: &Session, visit: &mut dyn FnMut(u64, bool) -> Result<()>) -> Result<()> {
        let link = session.offset("sigqueue", "list")?;
        list::list(session, self.queue, link, &mut |at| visit(at, false))?;
        list::list(session, self.shared_queue, link, &mut |at| visit(at, true))
    }
}

/// Names by number, as x86 and arm64 have them (include/uapi/asm-generic/signal.h).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The name of a signal: `SIGUSR2`, `SIGRTMIN+2`. The C library keeps the first two of the real-time signals to
/// itself, the kernel counts from 32: so does this.
pub fn name(signal: u32) -> String {
    match signal {
        1..=31 => format!("SIG{}", NAMES.get(signal as usize - 1).unwrap_or(&"?")),
        32..=63 => format!("SIGRTMIN+{}", signal - 32),
        64 => "SIGRTMAX".to_owned(),
        _ => signal.to_string(),
    }
}

/// `SA_…` by name; what has none in hex.
pub fn action_flags(session: &Session, flags: u64) -> Vec<String> {
    let restorer = if session.target.arch() == Arch::X86_64 { "RESTORER" } else { "0x4000000" };
    let known = [
        (1, "NOCLDSTOP"),
        (2, "NOCLDWAIT"),
        (4, "SIGINFO"),
        (0x400, "UNSUPPORTED"),
        (0x800, "EXPOSE_TAGBITS"),
        (0x0400_0000, restorer),
        (0x0800_0000, "ONSTACK"),
        (0x1000_0000, "RESTART"),
        (0x4000_0000, "NODEFER"),
        (0x8000_0000, "RESETHAND"),
    ];
    let mut names: Vec<String> =
        known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let rest = known.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

/// Where a signal came from: `SI_…` (include/uapi/asm-generic/siginfo.h).
pub fn code(code: i32) -> Option<&'static str> {
    Some(match code {
        0 => "SI_USER",
        0x80 => "SI_KERNEL",
        -1 => "SI_QUEUE",
        -2 => "SI_TIMER",
        -3 => "SI_MESGQ",
        -4 => "SI_ASYNCIO",
        -5 => "SI_SIGIO",
        -6 => "SI_TKILL",
        _ => return None,
    })
}

/// Visits the signals in the queues of a task and its process.
fn walk(session: &Session, task: u64, visit: Visit<'_>) -> Result<()> {
    Signals::of(session, task)?.queued(session, &mut |at, _| visit(at))
}

/// Walks signals.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "sigq",
    doc: "walk the signals that wait for the task at the address and for its process",
    item: "struct sigqueue",
    address: Address::Required,
    walk: |cx, at, visit| {
        let at = at.ok_or_else(|| Error::Usage("signals are walked from a task".into()))?;
        walk(cx, at.addr, visit)
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Owner>(), ViewEntry::of::<Shared>(), ViewEntry::of::<Action>(), ViewEntry::of::<Queued>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!([name(1), name(9), name(31)], ["SIGHUP", "SIGKILL", "SIGSYS"]);
        assert_eq!([name(34), name(64), name(65)], ["SIGRTMIN+2", "SIGRTMAX", "65"]);
    }
}
