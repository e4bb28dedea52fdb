//! Namespaces and control groups: `::ns`, `::cgroup`.
//!
//! ```console
//! > 0t1::pid2task | ::ns
//! ADDR             TYPE     NUMBER NAME
//! ffffffffa9a99d60 cgroup 4026531835 cgroup:[4026531835]
//! > 0t223::pid2task | ::cgroup
//! ADDR             HIERARCHY CONTROLLERS PATH
//! ff2ee9c2053f8000         0             /lab/a
//! ```

use engine::prelude::*;
use walkers::{
    cgroup::{self, Cgroup, Root},
    ns::{self, Namespace},
    task::Task,
};

/// Show the namespaces of a task; without an address, all that a process is in, as lsns does.
#[derive(Args)]
pub struct Ns {}

/// A namespace of a task.
#[derive(Row)]
struct NsRow {
    /// thread id
    #[hidden]
    pid: i32,
    /// address of its struct
    addr: Object,
    /// what it is of
    #[heading("TYPE")]
    kind: &'static str,
    /// as in /proc/PID/ns
    number: Result<u32>,
    /// the task's id in the pid namespace
    #[heading("ID")]
    id: Option<i32>,
}

/// A namespace.
#[derive(Row)]
struct AllNsRow {
    /// address of its struct
    addr: Object,
    /// what it is of
    #[heading("TYPE")]
    kind: &'static str,
    /// as in /proc/PID/ns
    number: Result<u32>,
    /// processes in it
    procs: u64,
    /// process id of the one that was born first
    pid: Result<i32>,
    /// its name
    name: Result<String>,
}

impl Dcmd for Ns {
    const NAME: &'static str = "ns";
    const ALIASES: &'static [&'static str] = &["lsns"];
    const ROWS: &'static [&'static engine::Schema] = &[NsRow::SCHEMA, AllNsRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Some(at) = at else { return all(cx, out) };
        let pid = cx.view::<Task>(at.addr)?.pid;
        for namespace in ns::of_task(cx, at.addr)? {
            let id = match namespace.kind {
                ns::Kind::Pid => ns::numbers(cx, at.addr)?.last().map(|(id, _)| *id),
                _ => None,
            };
            let (kind, number) = (namespace.kind.name(), namespace.number(cx));
            out.row(NsRow { pid, addr: object(cx, namespace), kind, number, id })?;
        }
        Ok(())
    }
}

fn object(cx: &Cx<'_>, namespace: Namespace) -> Object {
    cx.object(namespace.kind.ctype(), namespace.addr)
}

fn all(cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
    for (namespace, (procs, first)) in ns::all(cx)? {
        let task: Result<Task> = cx.view(first);
        let (pid, name) = match task {
            Ok(task) => (Ok(task.tgid), Ok(task.comm)),
            Err(e) => (Err(Error::Unavailable(e.kind())), Err(e)),
        };
        let (kind, number) = (namespace.kind.name(), namespace.number(cx));
        out.row(AllNsRow { addr: object(cx, namespace), kind, number, procs, pid, name })?;
    }
    Ok(())
}

/// Show the control groups of a task, or the struct cgroup at the address; without an address, all.
#[derive(Args)]
pub struct ShowCgroup {}

/// A control group.
#[derive(Row)]
struct CgroupRow {
    /// thread id, where a task was asked for
    #[hidden]
    pid: Option<i32>,
    /// address of the struct cgroup
    addr: Object,
    /// number of its hierarchy; 0: version 2
    hierarchy: u32,
    /// its controllers, and the name of the hierarchy if it has one; of version 2 none
    controllers: String,
    /// number of its directory
    #[hidden]
    id: Result<u64>,
    /// threads in it, those in groups below not counted
    tasks: Result<u64>,
    /// in its hierarchy
    path: Result<String>,
}

impl ShowCgroup {
    fn show(cx: &Cx<'_>, addr: u64, pid: Option<i32>, out: &mut Out<'_>) -> Result<()> {
        let cgroup: Cgroup = cx.view(addr)?;
        let root: Root = cx.view(cgroup.root)?;
        out.row(CgroupRow {
            pid,
            addr: cx.object("cgroup", addr),
            hierarchy: root.id,
            controllers: root.controllers(cx).join(","),
            id: cgroup.id(cx),
            tasks: cgroup.threads(cx),
            path: cgroup.path(cx),
        })
    }
}

impl Dcmd for ShowCgroup {
    const NAME: &'static str = "cgroup";
    const ROWS: &'static [&'static engine::Schema] = &[CgroupRow::SCHEMA];
    const PASSES: &'static str = "struct cgroup";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let own = at.is_some_and(|at| at.ctype.is_some() && at.ctype == cx.struct_type("cgroup"));
        let pid = match at {
            Some(at) if !own => Some(cx.view::<Task>(at.addr)?.pid),
            _ => None,
        };
        let mut show = |addr| match ShowCgroup::show(cx, addr, pid, out) {
            Err(e) if e.is_unreadable() => {
                cx.notes.add(addr, format!("cgroup: {}", e.kind()));
                Ok(())
            }
            result => result,
        };
        match at {
            None => cgroup::each(cx, &mut show),
            Some(at) if own => show(at.addr),
            Some(at) => cgroup::of_task(cx, at.addr)?.into_iter().try_for_each(show),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ns>(), DcmdEntry::of::<ShowCgroup>()];
