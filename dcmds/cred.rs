//! Users, groups and capabilities of a task: `::cred`.
//!
//! ```console
//! > 0t237::pid2task | ::cred
//! CRED             PID  UID  EUID SUID FSUID  GID EGID SGID FSGID NAME
//! ff2ee9c2048c6900 237 1235  1235 1235  1235 1235 1235 1235  1235 lab_cred
//!                  groups 1236 1237
//!                  inheritable
//!                  permitted
//!                  effective
//!                  bounding    all
//!                  ambient
//! ```

use engine::prelude::*;
use walkers::{
    cred::{self, Cred},
    task::Task,
};

/// Show what a task may do: the users and groups it is, and its capabilities by name.
#[derive(Args)]
pub struct ShowCred {
    /// only users and groups
    #[arg(short = 'q')]
    quiet: bool,
}

/// Credentials.
#[derive(Row)]
struct CredRow {
    /// address of the struct cred
    cred: Object,
    /// thread id
    pid: i32,
    /// real user
    uid: u32,
    /// user it acts as
    euid: u32,
    /// saved user
    suid: u32,
    /// user it opens files as
    fsuid: u32,
    /// real group
    gid: u32,
    /// group it acts as
    egid: u32,
    /// saved group
    sgid: u32,
    /// group it opens files as
    fsgid: u32,
    /// the task
    #[hidden]
    task: Addr,
    /// its struct user_namespace
    #[hidden]
    user_ns: Addr,
    /// its capabilities, bit N for capability N: those that it passes on
    #[hidden]
    cap_inh: Hex,
    /// that it may use
    #[hidden]
    cap_prm: Hex,
    /// that it does use
    #[hidden]
    cap_eff: Hex,
    /// that it could ever get
    #[hidden]
    cap_bnd: Hex,
    /// that it keeps over exec(2)
    #[hidden]
    cap_amb: Hex,
    /// other groups
    #[hidden]
    groups: Result<Vec<u32>>,
    /// name of the thread
    name: String,
    /// other groups; the capabilities of each set; SECBIT_ flags, if there are any
    #[detail]
    more: Vec<String>,
}

impl Dcmd for ShowCred {
    const NAME: &'static str = "cred";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[CredRow::SCHEMA];
    const PASSES: &'static str = "struct cred";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task: Task = cx.view(at.map_or(0, |at| at.addr))?;
        let cred = Cred::of_task(cx, task.addr)?;
        let [inherited, permitted, effective, bounding, ambient] = cred.capabilities(cx)?.map(Hex);
        let more = if self.quiet { Vec::new() } else { details(cx, &cred)? };
        out.row(CredRow {
            cred: cx.object("cred", cred.addr),
            pid: task.pid,
            uid: cred.uid,
            euid: cred.euid,
            suid: cred.suid,
            fsuid: cred.fsuid,
            gid: cred.gid,
            egid: cred.egid,
            sgid: cred.sgid,
            fsgid: cred.fsgid,
            task: Addr(task.addr),
            user_ns: Addr(cred.user_ns),
            cap_inh: inherited,
            cap_prm: permitted,
            cap_eff: effective,
            cap_bnd: bounding,
            cap_amb: ambient,
            groups: cred.groups(cx),
            name: task.comm,
            more,
        })
    }
}

fn details(cx: &Cx<'_>, cred: &Cred) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    match cred.groups(cx) {
        Ok(groups) if groups.is_empty() => {}
        Ok(groups) => lines.push(format!("groups {}", list(groups.iter().map(u32::to_string)))),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => lines.push(format!("groups unreadable: {}", e.kind())),
    }
    for (name, set) in cred::SETS.iter().zip(cred.capabilities(cx)?) {
        lines.push(format!("{name:<11} {}", list(cred::names(cx, set).into_iter())).trim_end().to_owned());
    }
    let bits = cred::securebits(cred.securebits);
    if !bits.is_empty() {
        lines.push(format!("securebits  {}", bits.join(" ")));
    }
    Ok(lines)
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<ShowCred>()];
