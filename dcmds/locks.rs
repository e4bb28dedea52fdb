//! A lock at an address: `::locks`, `::mutex`, `::rwlock`.
//!
//! ```console
//! > crasher`mutex_a::locks
//! ADDR             TYPE  HELD      OWNER            PID NAME     WAITERS
//! ffffffffc0651120 mutex exclusive ff2ae1f042f2af00  91 crash_ab       1
//!                  92 crash_ba
//! ```
//!
//! What kind of lock it is comes with the address, `::walk … | ::print -a inode i_rwsem | ::locks`, or with `-t`; else each
//! kind is tried, and those that fit what is there are shown. Without an address: every lock that somebody waits for.

use crate::blocked;
use engine::prelude::*;
use std::collections::BTreeSet;
use walkers::{
    blocked::Waits,
    locks::{self, Held, Kind, Lock},
    task::{self, Task},
};

/// Show the state of a lock, who holds it, and who waits for it.
#[derive(Args)]
pub struct Locks {
    /// what it is: mutex, rw_semaphore, rt_mutex, semaphore, completion, wait_queue_head, percpu_rw_semaphore
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
}

/// A lock.
#[derive(Row)]
struct LockRow {
    /// where it is
    addr: Object,
    /// what it is
    #[heading("TYPE")]
    kind: &'static str,
    /// how it is held
    held: String,
    /// who holds it; of a lock that readers hold, who took it last
    owner: Option<Addr>,
    /// thread id of that task
    pid: Option<i32>,
    /// its name
    name: Option<String>,
    /// how many wait for it
    waiters: u64,
    /// the symbol there
    #[hidden]
    symbol: Option<String>,
    /// who waits for it, the first first
    #[detail]
    waiting: Vec<String>,
}

fn held(held: Held) -> String {
    match held {
        Held::Free => "no".into(),
        Held::Exclusive => "exclusive".into(),
        Held::Shared(1) => "1 reader".into(),
        Held::Shared(readers) => format!("{readers} readers"),
        Held::Count(count) => format!("count {count}"),
    }
}

fn row(cx: &Cx<'_>, lock: &Lock) -> LockRow {
    let owner = lock.holder.and_then(|task| cx.view::<Task>(task).ok());
    LockRow {
        addr: lock.kind.ctype().map_or_else(|| Object::untyped(lock.addr), |ctype| cx.object(ctype, lock.addr)),
        kind: lock.kind.name(),
        held: held(lock.held),
        owner: lock.holder.map(Addr),
        pid: owner.as_ref().map(|task| task.pid),
        name: owner.map(|task| task.name(cx)),
        waiters: lock.waiters.len() as u64,
        symbol: cx.symbolize(lock.addr),
        waiting: lock.waiters.iter().map(|task| blocked::who(cx, *task)).collect(),
    }
}

/// Kinds that a lock can be told by what is there: they name tasks.
const TOLD: [Kind; 3] = [Kind::Mutex, Kind::Rwsem, Kind::RtMutex];

impl Locks {
    fn kind(&self, cx: &Cx<'_>, at: &Object) -> Result<Option<Kind>> {
        let name = match (&self.kind, at.ctype) {
            (Some(name), _) => name.trim_start_matches("struct ").to_owned(),
            (None, Some(ctype)) => cx.types.spell(ctype).trim_start_matches("struct ").to_owned(),
            (None, None) => return Ok(None),
        };
        match Kind::of_ctype(&name) {
            None if self.kind.is_some() => Err(Error::Usage(format!("::locks: `{name}` is no kind of lock"))
                .hint("mutex, rw_semaphore, rt_mutex, semaphore, completion, wait_queue_head, percpu_rw_semaphore")),
            kind => Ok(kind),
        }
    }

    fn guess(cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let mut tasks = BTreeSet::new();
        task::threads(cx, &mut |task| {
            tasks.insert(task);
            Ok(())
        })?;
        let mut fit = Vec::new();
        for kind in TOLD {
            let (tried, lost) = cx.notes.trying(|| locks::at(cx, kind, addr));
            match tried {
                Ok(lock) if locks::plausible(&lock, &tasks) => fit.push(lock),
                Err(e) if e.is_control() => return Err(e),
                _ if lost => cx.notes.add(addr, "what would tell more of the lock is not in the dump"),
                _ => {}
            }
        }
        // what somebody holds or waits for says more than what merely could be
        let busy = |lock: &Lock| lock.holder.is_some() || !lock.waiters.is_empty();
        if fit.iter().any(busy) {
            fit.retain(busy);
        }
        if fit.is_empty() {
            return Err(Error::Usage(format!("nothing at {addr:x} is like a mutex, rwsem or rt_mutex"))
                .hint("-t says what it is; `::whatis` tells whose memory that is"));
        }
        fit.iter().try_for_each(|lock| out.row(row(cx, lock)))
    }
}

impl Dcmd for Locks {
    const NAME: &'static str = "locks";
    const ALIASES: &'static [&'static str] = &["mutex", "rwlock"];
    const ROWS: &'static [&'static engine::Schema] = &[LockRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Some(at) = at else {
            let waits = Waits::of(cx)?;
            let locks: BTreeSet<(Kind, u64)> =
                waits.iter().filter_map(|wait| wait.on).map(|on| (on.kind, on.addr)).collect();
            for (kind, addr) in locks {
                match locks::at(cx, kind, addr) {
                    Ok(lock) if kind != Kind::WaitQueue => out.row(row(cx, &lock))?,
                    Err(e) if e.is_control() => return Err(e),
                    _ => {}
                }
            }
            return Ok(());
        };
        match self.kind(cx, &at)? {
            Some(kind) => out.row(row(cx, &locks::at(cx, kind, at.addr)?)),
            None => Locks::guess(cx, at.addr, out),
        }
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Locks>()];
