//! System V's means for processes to talk: shared memory, semaphores, message queues, of a `struct ipc_namespace`
//! (include/linux/ipc_namespace.h). Each has a `struct kern_ipc_perm` at its start, in an idr of the namespace.
//!
//! ```console
//! > init_ipc_ns::print struct ipc_namespace ids[0].in_use
//! ids[0].in_use = 0x1
//! ```

use crate::container;
use engine::{ViewEntry, prelude::*};

/// What all of them begin with: `struct kern_ipc_perm`.
#[derive(View, Clone, Debug)]
#[ctype("kern_ipc_perm")]
pub struct Perm {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    pub id: i32,
    /// what processes know it by; 0 if it is private
    pub key: i32,
    /// its owner
    #[field("uid.val")]
    pub uid: u32,
    /// its owner's group
    #[field("gid.val")]
    pub gid: u32,
    /// who may do what
    pub mode: u16,
}

/// Shared memory: `struct shmid_kernel` (ipc/shm.c).
#[derive(View, Clone, Debug)]
#[ctype("shmid_kernel")]
pub struct Memory {
    /// the file that has its pages
    #[field("shm_file")]
    pub file: u64,
    /// how many have mapped it
    #[field("shm_nattch")]
    pub attached: u64,
    /// bytes
    #[field("shm_segsz")]
    pub size: u64,
    #[field("shm_cprid")]
    creator: u64,
    #[field("shm_lprid")]
    last: u64,
}

/// A set of semaphores: `struct sem_array` (ipc/sem.c).
#[derive(View, Clone, Debug)]
#[ctype("sem_array")]
pub struct Semaphores {
    /// how many
    #[field("sem_nsems")]
    pub count: i32,
    #[field("sems")]
    first: At,
}

/// A queue of messages: `struct msg_queue` (ipc/msg.c).
#[derive(View, Clone, Debug)]
#[ctype("msg_queue")]
pub struct Messages {
    /// bytes in it
    #[field("q_cbytes")]
    pub bytes: u64,
    /// messages in it
    #[field("q_qnum")]
    pub count: u64,
    /// bytes that may be in it
    #[field("q_qbytes")]
    pub limit: u64,
    #[field("q_lspid")]
    sender: u64,
    #[field("q_lrpid")]
    receiver: u64,
}

/// Which of them: an index into `ids` (`IPC_SEM_IDS` and its kin, ipc/util.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// sets of semaphores
    Semaphores = 0,
    /// queues of messages
    Messages = 1,
    /// shared memory
    Memory = 2,
}

/// The id of a process, given its `struct pid`, as the first namespace counts.
fn pid(session: &Session, at: u64) -> Result<Option<i32>> {
    match at {
        0 => Ok(None),
        at => Ok(Some(session.u32(at.wrapping_add(session.offset("pid", "numbers[0].nr")?))? as i32)),
    }
}

impl Memory {
    /// The processes that made it, and that last did something with it.
    pub fn processes(&self, session: &Session) -> Result<(Option<i32>, Option<i32>)> {
        Ok((pid(session, self.creator)?, pid(session, self.last)?))
    }
}

impl Messages {
    /// The processes that last sent and received.
    pub fn processes(&self, session: &Session) -> Result<(Option<i32>, Option<i32>)> {
        Ok((pid(session, self.sender)?, pid(session, self.receiver)?))
    }
}

impl Semaphores {
    /// Their values.
    pub fn values(&self, session: &Session) -> Result<Vec<i32>> {
        /// `SEMMSL`, as it is if nobody changes it
        const MAX: i32 = 32_000;
        let size = session.size_of("sem")?;
        let value = session.offset("sem", "semval")?;
        let count = self.count.clamp(0, MAX) as u64;
        let at = |i: u64| self.first.0.wrapping_add(i * size).wrapping_add(value);
        (0..count).map(|i| Ok(session.u32(at(i))? as i32)).collect()
    }
}

/// Shows every one of a kind in the namespace to `visit`: its `struct kern_ipc_perm`, at which its own struct begins.
pub fn each(session: &Session, namespace: u64, kind: Kind, visit: &mut dyn FnMut(Perm) -> Result<()>) -> Result<()> {
    let path = format!("ids[{}].ipcs_idr", kind as u32);
    let idr = namespace.wrapping_add(session.offset("ipc_namespace", &path)?);
    container::idr(session, idr, &mut |_, at| match session.view(at) {
        Ok(perm) => visit(perm),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(at, format!("ipc: {}", e.kind()));
            Ok(())
        }
    })
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Perm>(), ViewEntry::of::<Memory>(), ViewEntry::of::<Semaphores>(), ViewEntry::of::<Messages>()];
