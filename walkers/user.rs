//! Memory of a process: what it was started with, and strings at addresses that it named.
//!
//! Filtered dumps mostly have no user memory, and of a full one what was swapped out, or never touched, is not there. So
//! everything here says how far it came.

use crate::{corefile::Thread, mm};
use engine::{ViewEntry, prelude::*};

/// Where a process keeps what exec(2) gave it: of `struct mm_struct`.
#[derive(View, Clone, Debug)]
#[ctype("mm_struct")]
pub struct Start {
    /// first byte of its arguments, each ended by a NUL
    pub arg_start: u64,
    /// the byte behind the last
    pub arg_end: u64,
    /// likewise of its environment
    pub env_start: u64,
    /// likewise
    pub env_end: u64,
    /// what the kernel told it about the machine: pairs of numbers
    saved_auxv: At,
}

/// Arguments are cut off behind so many bytes: exec(2) takes no more than 6 MiB (`_STK_LIM / 4 * 3`).
const MAX_STRINGS: u64 = 6 << 20;
/// More pairs than any kernel has room for.
const MAX_AUXV: u64 = 64;

/// A process's memory.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    session: &'a Session,
    space: Space,
}

impl<'a> Memory<'a> {
    /// That of a task; `None` for kernel threads and for what has exited.
    pub fn of(session: &'a Session, task: u64) -> Result<Option<Memory<'a>>> {
        Ok(mm::space_of(session, task)?.map(|space| Memory { session, space }))
    }

    /// Fills `buf`; an error if any of it is not in the dump.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.session.read_in(self.space, self.session.target.untagged(addr), buf)
    }

    /// A word of 8 bytes.
    pub fn word(&self, addr: u64) -> Result<u64> {
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// As many of `len` bytes as are there before the first page that is missing. An error if none is.
    pub fn prefix(&self, addr: u64, len: u64) -> Result<Vec<u8>> {
        let page = self.session.target.page_size();
        let (mut out, mut at) = (Vec::new(), addr);
        let end = addr.saturating_add(len);
        while at < end {
            // never across a page: the next one may be missing
            let step = (page - at % page).min(end - at);
            let old = out.len();
            out.resize(old + step as usize, 0);
            match self.read(at, out.get_mut(old..).unwrap_or_default()) {
                Ok(()) => at = at.saturating_add(step),
                Err(e) if old == 0 || e.is_control() => return Err(e),
                Err(_) => {
                    out.truncate(old);
                    break;
                }
            }
        }
        Ok(out)
    }

    /// A string of at most `max` bytes, ended by a NUL or by a page that is missing.
    pub fn text(&self, addr: u64, max: u64) -> Result<String> {
        const STEP: u64 = 256;
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < max {
            let at = addr.wrapping_add(bytes.len() as u64);
            let step = (STEP - at % STEP).min(max - bytes.len() as u64);
            let part = match self.prefix(at, step) {
                Ok(part) => part,
                Err(e) if bytes.is_empty() || e.is_control() => return Err(e),
                Err(_) => break,
            };
            let end = part.iter().position(|b| *b == 0);
            bytes.extend_from_slice(part.get(..end.unwrap_or(part.len())).unwrap_or_default());
            if end.is_some() || part.is_empty() {
                break;
            }
        }
        Ok(engine::text::decode(&bytes))
    }

    /// The strings between two addresses, each ended by a NUL, and whether all are there.
    pub fn strings(&self, start: u64, end: u64) -> Result<(Vec<String>, bool)> {
        let len = end.saturating_sub(start).min(MAX_STRINGS);
        if len == 0 {
            return Ok((Vec::new(), true));
        }
        let bytes = self.prefix(start, len)?;
        let whole = bytes.len() as u64 == end.saturating_sub(start);
        let text = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
        Ok((text.split(|b| *b == 0).map(engine::text::decode).collect(), whole))
    }
}

/// The arguments of a task's process, and whether all are there; none of a kernel thread.
pub fn arguments(session: &Session, task: u64) -> Result<(Vec<String>, bool)> {
    between(session, task, |start| (start.arg_start, start.arg_end))
}

/// Its environment, likewise.
pub fn environment(session: &Session, task: u64) -> Result<(Vec<String>, bool)> {
    between(session, task, |start| (start.env_start, start.env_end))
}

fn between(session: &Session, task: u64, which: fn(&Start) -> (u64, u64)) -> Result<(Vec<String>, bool)> {
    let Some(memory) = Memory::of(session, task)? else { return Ok((Vec::new(), true)) };
    let (start, end) = which(&start(session, task)?);
    memory.strings(start, end)
}

/// What the kernel remembers of how a task's process was started.
pub fn start(session: &Session, task: u64) -> Result<Start> {
    session.view(session.u64(task.wrapping_add(session.offset("task_struct", "mm")?))?)
}

/// The auxiliary vector of a task's process: pairs of `AT_…` and value, without the end mark.
pub fn auxv(session: &Session, task: u64) -> Result<Vec<(u64, u64)>> {
    let At(first) = start(session, task)?.saved_auxv;
    // a process of 32 bits has numbers of as many
    let narrow = Thread::of(session, task).is_ok_and(|thread| thread.is_narrow(session));
    let size = if narrow { 4 } else { 8 };
    let bits = session.place("mm_struct", "saved_auxv").map_or(0, |field| field.bits);
    let room = (bits / 16 / size).min(MAX_AUXV);
    let mut pairs = Vec::new();
    for i in 0..room {
        let at = first.wrapping_add(2 * size * i);
        match session.uint(at, size as usize)? {
            0 => break,
            key => pairs.push((key, session.uint(at.wrapping_add(size), size as usize)?)),
        }
    }
    Ok(pairs)
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Start>()];
