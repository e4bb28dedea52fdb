//! The processes of a command: those that it begins are counted as it, from their first instruction on.
//!
//! A table holds their numbers, and a program where processes are begun adds to it. It reads the number of the new one behind
//! the pointer that it is given; where the kernel tells nothing of its types the tracepoint's record has it. A kernel
//! that is locked down lets no program read its memory: there the command is followed alone, and that is said.

use crate::{
    Error, Result,
    emit::Tables,
    expr::{Int, Space, Test, Value},
    is_locked_down,
    program::{Action, How, Program, Spec},
    recording::Limits,
    source::Source,
    tracefs::Tracepoint,
};
use bpf::{Shape, Table};
use std::os::fd::OwnedFd;

/// How the number of a process that was begun is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Born {
    /// so many bytes behind the beginning of its `struct task_struct`
    At(i32),
    /// in the record of `sched:sched_process_fork`
    Recorded,
}

/// The processes of a command, as they are added.
pub(crate) struct Family {
    pub(crate) members: Table,
    /// who adds them; none where that cannot be
    watch: Option<(Program, Vec<OwnedFd>)>,
}

impl Family {
    /// That of the process, if it is wanted.
    pub(crate) fn of(limits: &Limits) -> Result<Option<Family>> {
        /// Processes that are kept in mind, those first that were seen last.
        const MOST: usize = 16384;
        let (Some(pid), Some(born)) = (limits.pid, limits.family) else { return Ok(None) };
        let refused = || Error::refused("BPF needs CAP_BPF or root");
        let members = Table::new(Shape::LruHash, 8, 8, MOST).map_err(refused())?;
        members.set(&u64::from(pid.unsigned_abs()).to_ne_bytes(), &1u64.to_ne_bytes()).map_err(refused())?;
        let watch = match watch(born, &members, limits) {
            Ok(watch) => Some(watch),
            Err(_) if is_locked_down() => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Family { members, watch }))
    }

    /// Whether processes that the command begins are not seen.
    pub(crate) fn is_alone(&self) -> bool {
        self.watch.is_none()
    }
}

/// Adds the children of members.
fn watch(born: Born, members: &Table, limits: &Limits) -> Result<(Program, Vec<OwnedFd>)> {
    let (source, child) = match born {
        Born::At(tgid) => {
            let child = Int::load(Space::Kernel, Int::context(8, 8, false), tgid, 4, false);
            (Source::Raw { name: "sched_process_fork".into() }, child)
        }
        Born::Recorded => {
            let point = Tracepoint::find("sched", "sched_process_fork")?;
            // a thread's number is in there, too; no process has the same
            let none = || Error::Wrong("sched:sched_process_fork does not tell the number of the child".into());
            let child = point.field("child_pid").map(|field| Int::context(field.offset, field.size as u8, false));
            (Source::Tracepoint(point), child.ok_or_else(none)?)
        }
    };
    let action = Action::Leave { key: vec![Value::Int(child)], what: vec![Value::Int(Int::Const(1))] };
    let spec = Spec { id: 0, join: None, test: Some(Test::Family), action, result: 0 };
    let tables = Tables { rings: -1, left: members.fd(), family: members.fd(), reach: None, lost: -1 };
    let program = Program::load(How::alone(&source), &spec, tables, limits)?;
    let link = source.attach(&program.program, None)?;
    Ok((program, link))
}
