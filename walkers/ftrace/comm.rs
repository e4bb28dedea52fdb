//! Names of threads that have ended since: what ftrace saved of them (`struct saved_cmdlines_buffer`).

use engine::ViewEntry;
use engine::{Result, Session, Type, View};
use std::sync::Arc;

/// `struct saved_cmdlines_buffer` (kernel/trace/trace_sched_switch.c; kernel/trace/trace.c before Linux 6.9).
#[derive(View)]
#[ctype("saved_cmdlines_buffer")]
struct Saved {
    #[addr]
    addr: u64,
    map_cmdline_to_pid: u64,
    cmdline_num: u32,
}

/// Bytes of a name: TASK_COMM_LEN.
const NAME: u64 = 16;
/// Names are kept by the low bits of a pid: PID_MAX_DEFAULT, CONFIG_BASE_SMALL or not.
const PIDS: u64 = 0x8000;

/// Thread names by pid.
#[derive(Debug, Default)]
pub struct Comms {
    saved: Option<Table>,
}

#[derive(Debug)]
struct Table {
    /// `map_pid_to_cmdline`
    by_pid: u64,
    /// `map_cmdline_to_pid`
    pids: u64,
    names: u64,
    count: u64,
}

impl Comms {
    /// The session's. Empty if the kernel never traced.
    pub fn of(session: &Session) -> Result<Arc<Comms>> {
        session.once(|| Comms::read(session))
    }

    fn read(session: &Session) -> Result<Comms> {
        let Some(symbol) = session.kernel_symbol("savedcmd") else { return Ok(Comms::default()) };
        let at = session.u64(symbol)?;
        if at == 0 {
            return Ok(Comms::default());
        }
        let saved: Saved = session.view(at)?;
        let names = saved.addr.wrapping_add(session.offset("saved_cmdlines_buffer", "saved_cmdlines")?);
        // a pointer before Linux 6.8 (44dc5c41b5b1), the end of the struct itself since
        let place = session.place("saved_cmdlines_buffer", "saved_cmdlines");
        let is_pointer = place.and_then(|f| session.shape(f.ctype)).is_some_and(|t| matches!(*t, Type::Pointer { .. }));
        let names = if is_pointer { session.u64(names)? } else { names };
        let by_pid = saved.addr.wrapping_add(session.offset("saved_cmdlines_buffer", "map_pid_to_cmdline")?);
        let count = u64::from(saved.cmdline_num);
        Ok(Comms { saved: Some(Table { by_pid, pids: saved.map_cmdline_to_pid, names, count }) })
    }

    /// The name of a thread: `<idle>` for 0, `<...>` for one that was not saved, as the kernel's own text has it.
    pub fn get(&self, session: &Session, pid: i32) -> String {
        match pid {
            0 => "<idle>".to_owned(),
            pid if pid < 0 => "<XXX>".to_owned(),
            pid => self.saved.as_ref().and_then(|t| t.find(session, pid as u32)).unwrap_or_else(|| "<...>".to_owned()),
        }
    }
}

impl Table {
    fn find(&self, session: &Session, pid: u32) -> Option<String> {
        let slot = session.u32(self.by_pid + 4 * (u64::from(pid) & (PIDS - 1))).ok()?;
        let slot = u64::from(slot);
        if slot >= self.count || session.u32(self.pids.wrapping_add(4 * slot)).ok()? != pid {
            return None;
        }
        session.cstr(self.names.wrapping_add(NAME * slot), NAME as usize).ok()
    }
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Saved>()];
