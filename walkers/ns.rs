//! Namespaces of tasks: `struct nsproxy` (include/linux/nsproxy.h), and the two kinds that hang elsewhere: the user
//! namespace on the credentials, the pid namespace on the task's `struct pid`.
//!
//! Each begins with, or holds, a `struct ns_common`, whose `inum` is the number that /proc/PID/ns shows.
//!
//! ```console
//! > init_task::print nsproxy | ::print struct nsproxy uts_ns->ns.inum
//! uts_ns->ns.inum = 0xeffffffe
//! ```

use crate::{cred::Cred, task};
use engine::prelude::*;
use std::collections::BTreeMap;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// of cgroups
    Cgroup,
    /// of System V IPC and POSIX queues
    Ipc,
    /// of mounts
    Mnt,
    /// of network devices, sockets, rules
    Net,
    /// of process ids
    Pid,
    /// of clocks
    Time,
    /// of users and capabilities
    User,
    /// of host names
    Uts,
}

/// All kinds, in the order of /proc/PID/ns.
pub const KINDS: [Kind; 8] =
    [Kind::Cgroup, Kind::Ipc, Kind::Mnt, Kind::Net, Kind::Pid, Kind::Time, Kind::User, Kind::Uts];

impl Kind {
    /// As in /proc/PID/ns.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Mnt => "mnt",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::Time => "time",
            Kind::User => "user",
            Kind::Uts => "uts",
        }
    }

    /// The C struct, without `struct`.
    pub fn ctype(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup_namespace",
            Kind::Ipc => "ipc_namespace",
            Kind::Mnt => "mnt_namespace",
            Kind::Net => "net",
            Kind::Pid => "pid_namespace",
            Kind::Time => "time_namespace",
            Kind::User => "user_namespace",
            Kind::Uts => "uts_namespace",
        }
    }

    /// The member of `struct nsproxy`, of those kinds that are there.
    fn member(self) -> Option<&'static str> {
        Some(match self {
            Kind::Cgroup => "cgroup_ns",
            Kind::Ipc => "ipc_ns",
            Kind::Mnt => "mnt_ns",
            Kind::Net => "net_ns",
            Kind::Time => "time_ns",
            Kind::Uts => "uts_ns",
            Kind::Pid | Kind::User => return None,
        })
    }
}

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    /// of what
    pub kind: Kind,
    /// the address of its struct
    pub addr: u64,
}

impl Namespace {
    /// Its number, as in /proc/PID/ns.
    pub fn number(self, session: &Session) -> Result<u32> {
        session.u32(self.addr.wrapping_add(session.offset(self.kind.ctype(), "ns.inum")?))
    }
}

/// The kinds that the kernel was built with. One that it was built without has a first namespace all the same, in which
/// everybody is.
struct Built(Vec<Kind>);

impl Built {
    fn of(session: &Session) -> Result<Built> {
        let operations = |kind: &Kind| session.kernel_symbol(&format!("{}ns_operations", kind.name())).is_some();
        // there are always mounts; some kernels do not name their data
        let told = operations(&Kind::Mnt);
        Ok(Built(KINDS.into_iter().filter(|kind| !told || operations(kind)).collect()))
    }
}

/// The namespaces of a task, in the order of [`KINDS`]; kinds that this kernel was built without are left out. One that
/// has exited has only its user namespace.
pub fn of_task(session: &Session, task: u64) -> Result<Vec<Namespace>> {
    let proxy = session.u64(task.wrapping_add(session.offset("task_struct", "nsproxy")?))?;
    let mut found = Vec::new();
    for kind in session.once(|| Built::of(session))?.0.iter().copied() {
        let addr = match kind.member() {
            Some(member) => match session.place("nsproxy", member) {
                Some(field) if proxy != 0 => session.u64(proxy.wrapping_add(field.bit_offset / 8))?,
                _ => 0,
            },
            None if kind == Kind::User => Cred::of_task(session, task)?.user_ns,
            None => pid_namespace(session, task)?,
        };
        if addr != 0 {
            found.push(Namespace { kind, addr });
        }
    }
    Ok(found)
}

/// The pid namespace that a task lives in (`task_active_pid_ns()`), which is the last one that its `struct pid` has a
/// number in; 0 once it was reaped.
pub fn pid_namespace(session: &Session, task: u64) -> Result<u64> {
    match numbers(session, task)?.last() {
        Some((_, namespace)) => Ok(*namespace),
        None => Ok(0),
    }
}

/// Deepest nesting of pid namespaces (`MAX_PID_NS_LEVEL`).
const MAX_LEVEL: u32 = 32;

/// A task's ids: that in the first pid namespace, then those in the namespaces within, each with its
/// `struct pid_namespace`.
pub fn numbers(session: &Session, task: u64) -> Result<Vec<(i32, u64)>> {
    let pid = session.u64(task.wrapping_add(session.offset("task_struct", "thread_pid")?))?;
    if pid == 0 {
        return Ok(Vec::new());
    }
    let level = session.u32(pid.wrapping_add(session.offset("pid", "level")?))?;
    if level > MAX_LEVEL {
        return Err(Error::Corrupt { addr: pid, what: "pid namespace of impossible depth".into() });
    }
    let first = pid.wrapping_add(session.offset("pid", "numbers")?);
    let (size, number, namespace) =
        (session.size_of("upid")?, session.offset("upid", "nr")?, session.offset("upid", "ns")?);
    (0..=u64::from(level))
        .map(|i| {
            let upid = first.wrapping_add(i * size);
            Ok((session.u32(upid.wrapping_add(number))? as i32, session.u64(upid.wrapping_add(namespace))?))
        })
        .collect()
}

/// Every namespace that a process is in, with how many are, and the first of them.
pub fn all(session: &Session) -> Result<BTreeMap<Namespace, (u64, u64)>> {
    let mut map = BTreeMap::new();
    task::leaders(session, &mut |task| {
        match of_task(session, task) {
            Ok(namespaces) => {
                for namespace in namespaces {
                    map.entry(namespace).or_insert((0, task)).0 += 1;
                }
            }
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(task, format!("namespaces of a task: {}", e.kind())),
        }
        Ok(())
    })?;
    Ok(map)
}
