//! The ring that the kernel writes samples to, mapped.
//!
//! **Invariant:** what is read was written by the kernel whole before it moved its head, and is not written again before
//! we move our tail.

use crate::perf::Event;
use memmap2::{MmapOptions, MmapRaw};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Places in the first page (`struct perf_event_mmap_page`).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
/// Kinds of records (`enum perf_event_type`).
const LOST: u32 = 2;
const SAMPLE: u32 = 9;
const HEADER: usize = 8;

/// A mapped ring.
pub struct Ring {
    map: MmapRaw,
    page: usize,
    size: usize,
    /// where a record is put together that goes over the ring's end
    joined: Vec<u8>,
}

/// What a ring holds.
#[derive(Debug)]
pub enum Record<'a> {
    /// a sample, without its header
    Sample(&'a [u8]),
    /// so many were dropped, for the ring was full
    Lost(u64),
    /// another: its kind, its flags, and what it holds
    Other(u32, u16, &'a [u8]),
}

impl Ring {
    /// Maps the ring of an event. `bytes` becomes a power of two, of a page at least.
    pub fn new(event: &Event, bytes: usize) -> io::Result<Ring> {
        let page = page_size();
        let size = bytes.max(page).checked_next_power_of_two().ok_or(io::ErrorKind::InvalidInput)?;
        let map = MmapOptions::new().len(page + size).map_raw(event.fd())?;
        Ok(Ring { map, page, size, joined: Vec::new() })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: both words lie in the first page, which is mapped as long as we are, and are aligned; the kernel
        // changes them as one.
        #[allow(unsafe_code)]
        unsafe {
            &*self.map.as_mut_ptr().add(at).cast::<AtomicU64>()
        }
    }

    /// Hands out what is there, and frees its room.
    pub fn drain(&mut self, mut visit: impl FnMut(Record<'_>)) {
        let head = self.word(DATA_HEAD).load(Ordering::Acquire);
        let mut tail = self.word(DATA_TAIL).load(Ordering::Relaxed);
        while head.wrapping_sub(tail) >= HEADER as u64 {
            let header = self.copy(tail, HEADER);
            let (kind, flags, size) = match header.as_slice() {
                [a, b, c, d, m, n, e, f] => (
                    u32::from_ne_bytes([*a, *b, *c, *d]),
                    u16::from_ne_bytes([*m, *n]),
                    usize::from(u16::from_ne_bytes([*e, *f])),
                ),
                _ => break,
            };
            if size < HEADER || size as u64 > head.wrapping_sub(tail) {
                // nothing that the kernel does: give the rest up rather than go wrong
                tail = head;
                break;
            }
            let mut record = std::mem::take(&mut self.joined);
            record.clear();
            self.copy_into(tail, size, &mut record);
            match (kind, record.get(HEADER..)) {
                (SAMPLE, Some(body)) => visit(Record::Sample(body)),
                (LOST, Some([_, _, _, _, _, _, _, _, lost @ ..])) => {
                    visit(Record::Lost(lost.first_chunk().map_or(0, |n| u64::from_ne_bytes(*n))));
                }
                (kind, Some(body)) => visit(Record::Other(kind, flags, body)),
                _ => {}
            }
            self.joined = record;
            tail = tail.wrapping_add(size as u64);
        }
        self.word(DATA_TAIL).store(tail, Ordering::Release);
    }

    fn copy(&self, at: u64, len: usize) -> Vec<u8> {
        let mut to = Vec::with_capacity(len);
        self.copy_into(at, len, &mut to);
        to
    }

    fn copy_into(&self, at: u64, len: usize, to: &mut Vec<u8>) {
        let start = (at % self.size as u64) as usize;
        let first = len.min(self.size - start);
        for (from, len) in [(start, first), (0, len - first)] {
            // SAFETY: `from + len` is within the ring, which lies behind the first page of the mapping; the kernel does
            // not write there before the tail has moved.
            #[allow(unsafe_code)]
            to.extend_from_slice(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.page + from), len) });
        }
    }
}

/// Waits until one of these rings' events wants to be read, or so long.
pub fn wait(events: impl Iterator<Item = i32>, timeout: Duration) {
    let mut fds: Vec<_> = events.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: so many structures, ours.
    #[allow(unsafe_code)]
    unsafe {
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout)
    };
}

fn page_size() -> usize {
    // SAFETY: a number is asked for.
    #[allow(unsafe_code)]
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
