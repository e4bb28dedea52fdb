//! Events of the running kernel and of running processes: where they come from, and the small BPF programs that filter
//! them, take what they hold, and count them, in the kernel.
//!
//! A [`source`] says where a probe sits: a tracepoint, an instruction of the kernel or of a user's program, a timer.
//! A [`Program`](program::Program) says what is done at each hit: test a condition, then either count under a key or
//! emit a record. A [`Recording`] attaches both and hands out what comes. Where BPF is refused, perf's samples are looked at
//! here instead, with the same answers.
//!
//! **Invariant:** nothing is pinned, and nothing is left in tracefs: when the process ends, however it does, the kernel takes
//! every probe away, as all hang on descriptors. What tracefs alone does ([`graph`], and events that read memory without BPF)
//! a shell takes back that waits for that end.

pub mod attach;
mod counted;
mod direct;
pub mod elf;
mod emit;
pub mod expr;
pub mod family;
mod fetch;
pub mod graph;
mod interpret;
pub mod perf;
pub mod printed;
pub mod program;
pub mod recording;
mod registers;
pub mod ring;
mod sampled;
pub mod source;
pub mod start;
pub mod tasks;
pub mod touched;
pub mod tracefs;
mod undo;
pub mod usdt;

pub use bpf::prog::count_time;
pub use recording::Recording;

/// Why a probe could not be set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// something that is not there, or not as it was said
    #[error("{0}")]
    Wrong(String),
    /// the kernel refused; the text says what, and what would help
    #[error("{what}: {error}")]
    Refused {
        /// what was tried, and what it needs
        what: String,
        /// the kernel's answer
        error: std::io::Error,
    },
    /// the verifier refused a program
    #[error("the kernel's verifier refused the program: {0}{why}", why = because(.0))]
    Verifier(#[from] bpf::LoadError),
}

/// Whether the kernel lets nobody see its memory, root or not (lockdown, kernel_lockdown(7)).
pub(crate) fn is_locked_down() -> bool {
    std::fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|text| text.contains("[confidentiality]"))
}

/// What stands behind a refusal of helpers that read the kernel's memory: they are not there for anybody.
fn because(refusal: &bpf::LoadError) -> &'static str {
    match refusal.to_string().contains("bpf_probe_read_kernel") {
        false => "",
        true if is_locked_down() => {
            "\n  The kernel is locked down (confidentiality): it lets no program read its memory. What needs none of it can be \
             asked: counts, `comm`, `pid`, `retval`, arguments that are numbers"
        }
        true => "\n  The kernel may be locked down, or too old: /sys/kernel/security/lockdown tells",
    }
}

impl Error {
    /// Whether it is a matter of rights.
    pub fn is_refusal(&self) -> bool {
        let error = match self {
            Error::Refused { error, .. } | Error::Verifier(bpf::LoadError { error, .. }) => error,
            Error::Wrong(_) => return false,
        };
        error.kind() == std::io::ErrorKind::PermissionDenied
    }

    /// This refusal, and that of the other way, if it was one.
    pub(crate) fn and(self, other: Error) -> Error {
        match other {
            Error::Refused { what, error } => Error::Refused { what: format!("{self}; without BPF, {what}"), error },
            _ => self,
        }
    }

    pub(crate) fn refused(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        /// The kernel's own, which the C library has no text for (include/linux/errno.h).
        const ENOTSUPP: i32 = 524;
        let what = what.into();
        move |error| match error.raw_os_error() {
            Some(ENOTSUPP) => Error::Wrong(format!("{what}: the kernel does not support this there (ENOTSUPP)")),
            _ => Error::Refused { what, error },
        }
    }
}

/// What comes of trying.
pub type Result<T, E = Error> = std::result::Result<T, E>;
