//! What a process was started with, and its limits: `::args`, `::env`, `::auxv`, `::rlimit`.
//!
//! ```console
//! > 0t1::pid2task | ::args
//! ARG VALUE
//!   0 /bin/busybox
//!   1 sh
//!   2 /init
//! > 0t1::pid2task | ::env
//! NAME VALUE
//! HOME /
//! TERM linux
//! ```

use engine::prelude::*;
use walkers::{process, task::Task, user};

/// Show the arguments of a process.
///
/// They lie in its own memory, which filtered dumps leave out.
#[derive(Args)]
pub struct ShowArgs {}

/// An argument.
#[derive(Row)]
struct ArgRow {
    /// process id
    #[hidden]
    pid: i32,
    /// its number
    arg: usize,
    /// what it is
    value: String,
}

impl Dcmd for ShowArgs {
    const NAME: &'static str = "args";
    const ALIASES: &'static [&'static str] = &["pargs"];
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[ArgRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let (pid, values) = (pid(cx, task)?, told(cx, task, "arguments", user::arguments(cx, task))?);
        values.into_iter().enumerate().try_for_each(|(arg, value)| out.row(ArgRow { pid, arg, value }))
    }
}

/// The process id of a task.
fn pid(cx: &Cx<'_>, task: u64) -> Result<i32> {
    Ok(cx.view::<Task>(task)?.tgid)
}

/// The strings, and a note of those that are missing.
fn told(cx: &Cx<'_>, task: u64, what: &str, strings: Result<(Vec<String>, bool)>) -> Result<Vec<String>> {
    match strings {
        Ok((strings, whole)) => {
            if !whole {
                cx.notes.add(task, format!("{what} of a process: the rest is not in the dump"));
            }
            Ok(strings)
        }
        Err(e) if e.is_unreadable() => {
            cx.notes.add(task, format!("{what} of a process: {}", e.kind()));
            Ok(Vec::new())
        }
        Err(e) => Err(e),
    }
}

/// Show the environment of a process as it was when it was started.
#[derive(Args)]
pub struct ShowEnv {}

/// A variable.
#[derive(Row)]
struct EnvRow {
    /// process id
    #[hidden]
    pid: i32,
    /// its name
    name: String,
    /// its value
    value: String,
}

impl Dcmd for ShowEnv {
    const NAME: &'static str = "env";
    const ALIASES: &'static [&'static str] = &["penv"];
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[EnvRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let (pid, values) = (pid(cx, task)?, told(cx, task, "environment", user::environment(cx, task))?);
        values.iter().try_for_each(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            out.row(EnvRow { pid, name: name.to_owned(), value: value.to_owned() })
        })
    }
}

/// Show what the kernel told a process about the machine: its auxiliary vector.
#[derive(Args)]
pub struct Auxv {}

/// An entry.
#[derive(Row)]
struct AuxvRow {
    /// its number
    #[hidden]
    key: u64,
    /// `AT_…`
    name: String,
    /// what it is
    value: Hex,
}

/// `AT_…` (include/uapi/linux/auxvec.h and, from 32 on, the architectures').
const AT: [(u64, &str); 26] = [
    (3, "AT_PHDR"),
    (4, "AT_PHENT"),
    (5, "AT_PHNUM"),
    (6, "AT_PAGESZ"),
    (7, "AT_BASE"),
    (8, "AT_FLAGS"),
    (9, "AT_ENTRY"),
    (10, "AT_NOTELF"),
    (11, "AT_UID"),
    (12, "AT_EUID"),
    (13, "AT_GID"),
    (14, "AT_EGID"),
    (15, "AT_PLATFORM"),
    (16, "AT_HWCAP"),
    (17, "AT_CLKTCK"),
    (23, "AT_SECURE"),
    (24, "AT_BASE_PLATFORM"),
    (25, "AT_RANDOM"),
    (26, "AT_HWCAP2"),
    (27, "AT_RSEQ_FEATURE_SIZE"),
    (28, "AT_RSEQ_ALIGN"),
    (29, "AT_HWCAP3"),
    (31, "AT_EXECFN"),
    (32, "AT_SYSINFO"),
    (33, "AT_SYSINFO_EHDR"),
    (51, "AT_MINSIGSTKSZ"),
];

impl Dcmd for Auxv {
    const NAME: &'static str = "auxv";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[AuxvRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        if walkers::mm::space_of(cx, task)?.is_none() {
            return Ok(());
        }
        user::auxv(cx, task)?.into_iter().try_for_each(|(key, value)| {
            let known = AT.iter().find(|(number, _)| *number == key).map(|(_, name)| (*name).to_owned());
            out.row(AuxvRow { key, name: known.unwrap_or_else(|| key.to_string()), value: Hex(value) })
        })
    }
}

/// Show the limits of a process.
#[derive(Args)]
pub struct Rlimit {}

/// A limit.
#[derive(Row)]
struct LimitRow {
    /// process id
    #[hidden]
    pid: i32,
    /// `RLIMIT_…`
    limit: &'static str,
    /// the one in force
    soft: String,
    /// up to where the process may raise it
    hard: String,
    /// what is counted
    unit: &'static str,
}

impl Dcmd for Rlimit {
    const NAME: &'static str = "rlimit";
    const ALIASES: &'static [&'static str] = &["plimit"];
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[LimitRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let (pid, limits) = (pid(cx, task)?, process::limits(cx, task)?);
        let text = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
        limits.iter().zip(process::LIMITS).try_for_each(|(limit, (name, unit))| {
            out.row(LimitRow { pid, limit: name, soft: text(limit.soft), hard: text(limit.hard), unit })
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<ShowArgs>(), DcmdEntry::of::<ShowEnv>(), DcmdEntry::of::<Auxv>(), DcmdEntry::of::<Rlimit>()];
