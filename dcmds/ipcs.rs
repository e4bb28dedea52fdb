//! System V's shared memory, semaphores and message queues: `::ipcs`.
//!
//! ```console
//! > ::ipcs
//! ADDR             KIND ID  KEY UID MODE  SIZE USED CREATOR LAST VALUES
//! ff3a288dc1dd5600 shm   0 1ab1   0 640  65536    1     264  264 -
//! ff3a288dc2a56e00 sem   0 1ab2   0 600      3    -       -    - 0,9,0
//! ff3a288dc1dd6b00 msg   0 1ab3   0 600  16384    2     264    - -
//! ```

use engine::{IntoRow, prelude::*};
use walkers::ipc::{self, Kind, Memory, Messages, Perm, Semaphores};

/// Show System V's shared memory, semaphores and message queues: of the first namespace, or of the `struct
/// ipc_namespace` at the address.
#[derive(Args)]
pub struct Ipcs {
    /// shared memory
    #[arg(short = 'm', visible_short_alias = 'M')]
    memory: bool,
    /// semaphores
    #[arg(short = 's')]
    semaphores: bool,
    /// message queues
    #[arg(short = 'q')]
    queues: bool,
}

/// One of them.
#[derive(Row)]
struct IpcRow {
    /// address of its struct shmid_kernel, sem_array or msg_queue
    addr: Object,
    /// shm, sem or msg
    kind: &'static str,
    /// its number
    id: i32,
    /// what processes know it by
    key: Hex,
    /// its owner
    uid: u32,
    /// who may do what
    mode: String,
    /// bytes of memory; how many semaphores; bytes that may be in a queue
    size: Result<u64>,
    /// how many have mapped it; messages in the queue
    used: Option<u64>,
    /// bytes in the queue
    #[hidden]
    bytes: Option<u64>,
    /// the process that made it, or that sent last
    creator: Option<i32>,
    /// the process that last did something with it, or received
    last: Option<i32>,
    /// values of the semaphores
    values: Option<String>,
}

/// What was read, or a note that it could not be.
fn told<T>(cx: &Cx<'_>, at: u64, read: Result<T>) -> Option<T> {
    read.map_err(|e| cx.notes.add(at, format!("ipc: {}", e.kind()))).ok()
}

impl Ipcs {
    fn show(&self, cx: &Cx<'_>, kind: Kind, perm: Perm, out: &mut Out<'_>) -> Result<()> {
        let (name, ctype) = match kind {
            Kind::Memory => ("shm", "shmid_kernel"),
            Kind::Semaphores => ("sem", "sem_array"),
            Kind::Messages => ("msg", "msg_queue"),
        };
        let mut row = IpcRow {
            addr: cx.object(ctype, perm.addr),
            kind: name,
            id: perm.id,
            key: Hex((perm.key as u32).into()),
            uid: perm.uid,
            mode: format!("{:o}", perm.mode & 0o777),
            size: Ok(0),
            used: None,
            bytes: None,
            creator: None,
            last: None,
            values: None,
        };
        match kind {
            Kind::Memory => {
                let memory: Result<Memory> = cx.view(perm.addr);
                row.used = memory.as_ref().ok().map(|m| m.attached);
                let both = memory.as_ref().ok().and_then(|m| told(cx, perm.addr, m.processes(cx)));
                (row.creator, row.last) = both.unwrap_or_default();
                row.size = memory.map(|m| m.size);
            }
            Kind::Semaphores => {
                let set: Result<Semaphores> = cx.view(perm.addr);
                let values = set.as_ref().ok().and_then(|s| told(cx, perm.addr, s.values(cx)));
                row.values = values.map(|all| all.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
                row.size = set.map(|s| s.count.max(0) as u64);
            }
            Kind::Messages => {
                let queue: Result<Messages> = cx.view(perm.addr);
                row.used = queue.as_ref().ok().map(|q| q.count);
                row.bytes = queue.as_ref().ok().map(|q| q.bytes);
                let both = queue.as_ref().ok().and_then(|q| told(cx, perm.addr, q.processes(cx)));
                (row.creator, row.last) = both.unwrap_or_default();
                row.size = queue.map(|q| q.limit);
            }
        }
        out.row(row)
    }
}

impl Dcmd for Ipcs {
    const NAME: &'static str = "ipcs";
    const ROWS: &'static [&'static engine::Schema] = &[IpcRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let namespace = at.map_or_else(|| cx.symbol("init_ipc_ns"), |o| Ok(o.addr))?;
        let all = !(self.memory || self.semaphores || self.queues);
        let asked = [(Kind::Memory, self.memory), (Kind::Semaphores, self.semaphores), (Kind::Messages, self.queues)];
        for (kind, _) in asked.into_iter().filter(|(_, asked)| all || *asked) {
            ipc::each(cx, namespace, kind, &mut |perm| self.show(cx, kind, perm, out))?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ipcs>()];
