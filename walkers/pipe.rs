//! Pipes: `struct pipe_inode_info` (include/linux/pipe_fs_i.h), a ring of buffers, each a piece of a page.
//!
//! ```console
//! > ::walk pipe | ::count
//! COUNT
//!     5
//! ```

use crate::{
    file::{self, File},
    inode::{Inode, Kind},
    page::PageMap,
};
use engine::{ViewEntry, prelude::*};
use std::collections::HashSet;

/// A pipe.
#[derive(View, Clone, Debug)]
#[ctype("pipe_inode_info")]
pub struct Pipe {
    /// its address
    #[addr]
    pub addr: u64,
    head: u32,
    tail: u32,
    ring_size: u32,
    bufs: u64,
    /// open ends to read from
    pub readers: u32,
    /// open ends to write to
    pub writers: u32,
    /// descriptors there are
    pub files: u32,
}

/// A piece of what is in it.
#[derive(View, Clone, Copy, Debug)]
#[ctype("pipe_buffer")]
struct Buffer {
    page: u64,
    offset: u32,
    len: u32,
}

/// More buffers than any pipe has: /proc/sys/fs/pipe-max-size is 2^31 bytes at most, a page a buffer.
const MAX_BUFFERS: u32 = 1 << 19;

impl Pipe {
    /// Buffers that are in use.
    pub fn used(&self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// Visits what is in it, oldest first: its pieces, each by the `struct page` it is in, where there, and how long.
    fn each(&self, session: &Session, visit: &mut dyn FnMut(Buffer) -> Result<()>) -> Result<()> {
        let used = self.used();
        if !self.ring_size.is_power_of_two() || self.ring_size > MAX_BUFFERS || used > self.ring_size {
            return Err(Error::Corrupt { addr: self.addr, what: "pipe whose ring is impossible".into() });
        }
        let size = session.size_of("pipe_buffer")?;
        for i in 0..used {
            let slot = u64::from(self.tail.wrapping_add(i) & (self.ring_size - 1));
            visit(session.view(self.bufs.wrapping_add(slot.wrapping_mul(size)))?)?;
        }
        Ok(())
    }

    /// Bytes in it.
    pub fn bytes(&self, session: &Session) -> Result<u64> {
        let mut bytes = 0u64;
        self.each(session, &mut |buffer| {
            bytes += u64::from(buffer.len);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The first of what is in it, `most` bytes; less where pages are not in the dump, which is noted.
    pub fn content(&self, session: &Session, most: usize) -> Result<Vec<u8>> {
        let (map, size) = (PageMap::of(session)?, session.target.page_size());
        let mut content = Vec::new();
        let read = self.each(session, &mut |buffer| {
            let frame = map.frame(buffer.page);
            let frame = frame.filter(|_| u64::from(buffer.offset) + u64::from(buffer.len) <= size);
            let Some(frame) = frame else {
                return Err(Error::Corrupt { addr: buffer.page, what: "buffer of a pipe outside of any page".into() });
            };
            let mut bytes = vec![0; (buffer.len as usize).min(most - content.len())];
            match session.read_in(Space::Phys, frame.wrapping_mul(size) + u64::from(buffer.offset), &mut bytes) {
                Ok(()) => content.append(&mut bytes),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(buffer.page, format!("content of a pipe: {}", e.kind())),
            }
            if content.len() >= most { Err(Error::Stop) } else { Ok(()) }
        });
        match read {
            Ok(()) | Err(Error::Stop) => Ok(content),
            Err(e) => Err(e),
        }
    }
}

/// The pipe of an inode; an error if it is none.
pub fn of_inode(session: &Session, inode: u64) -> Result<u64> {
    let pipe = session.u64(inode.wrapping_add(session.offset("inode", "i_pipe")?))?;
    if session.view::<Inode>(inode)?.kind() != Kind::Fifo || pipe == 0 {
        return Err(Error::Unavailable(format!("the inode at {inode:#x} is no open pipe")));
    }
    Ok(pipe)
}

/// Visits every pipe that is open, those with a name in a directory too.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    file::each(session, &mut |at| {
        let Ok(file) = session.view::<File>(at) else { return Ok(()) };
        match of_inode(session, file.inode) {
            Ok(pipe) if seen.insert(pipe) => visit(pipe),
            Err(e) if e.is_control() => Err(e),
            _ => Ok(()),
        }
    })
}

/// Walks pipes.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "pipe",
    doc: "walk all open pipes",
    item: "struct pipe_inode_info",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Pipe>(), ViewEntry::of::<Buffer>()];
