//! Reading: bytes at an address of any space, all or nothing, or with holes.

use std::ops::Range;

use bytes::Bytes;

use crate::error::{ReadError, Reason, Result, Space};
use crate::image::Fault;
use crate::target::Target;

/// A range that could not be read, and was filled with zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The addresses.
    pub range: Range<u64>,
    /// Why.
    pub reason: Reason,
}

/// Most bytes that one read may copy.
const MAX_COPY: usize = 1 << 28;
/// The page size by which unreadable memory is skipped; a hole never ends inside one.
const STEP: u64 = 4096;

impl Target {
    /// Fills `buf` from `addr`, or fails with the first address that could not be read. What was read before that
    /// address is in `buf`.
    pub fn read(&self, space: Space, addr: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (va, pa, left) = self.locate(space, addr, done)?;
            let rest = buf.get_mut(done..).unwrap_or_default();
            let now = (rest.len() as u64).min(left) as usize;
            let piece = rest.get_mut(..now).unwrap_or_default();
            self.image.read(pa, piece).map_err(|fault| at(space, va, pa, fault))?;
            done += now;
        }
        Ok(())
    }

    /// The `len` bytes at `addr`. Without a copy where they stand in one piece in the mapped file. A copy is limited
    /// to 256 MiB.
    pub fn bytes(&self, space: Space, addr: u64, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let (va, pa, mut left) = self.locate(space, addr, 0)?;
        // Neighbouring mappings of neighbouring pages are as good as one.
        while left < len as u64 && len <= MAX_COPY {
            match self.locate(space, addr, left as usize) {
                Ok((_, next, more)) if Some(next) == pa.checked_add(left) => left = left.saturating_add(more),
                Ok(_) => break,
                Err(error) => return Err(error),
            }
        }
        if len > MAX_COPY && left.min(self.image.state(pa).1) < len as u64 {
            return Err(ReadError { space, addr, reason: Reason::TooLong });
        }
        if left >= len as u64 {
            return self.image.bytes(pa, len).map_err(|fault| at(space, va, pa, fault));
        }
        let mut copy = vec![0; len];
        self.read(space, addr, &mut copy)?;
        Ok(copy.into())
    }

    /// Fills `buf` from `addr` as far as that is possible and with zeros elsewhere; returns where that was, in order.
    pub fn read_lossy(&self, space: Space, addr: u64, buf: &mut [u8]) -> Vec<Hole> {
        let mut holes: Vec<Hole> = Vec::new();
        let mut done = 0;
        while done < buf.len() {
            let rest = buf.get_mut(done..).unwrap_or_default();
            let from = addr.wrapping_add(done as u64);
            let Err(error) = self.read(space, from, rest) else { break };
            let bad = (error.addr.wrapping_sub(from) as usize).min(rest.len());
            let skip = self.unreadable(space, error.addr).min((rest.len() - bad) as u64);
            rest.get_mut(bad..bad + skip as usize).unwrap_or_default().fill(0);
            done += bad + skip as usize;
            let range = error.addr..error.addr.saturating_add(skip);
            match holes.last_mut() {
                Some(last) if last.range.end == range.start && last.reason == error.reason => {
                    last.range.end = range.end;
                }
                _ => holes.push(Hole { range, reason: error.reason }),
            }
        }
        holes
    }

    /// How many bytes at `addr`, at least one, are unreadable for one reason.
    fn unreadable(&self, space: Space, addr: u64) -> u64 {
        let page = STEP - addr % STEP;
        let run = |pa| match self.image.state(pa) {
            (Some(_), run) => run,
            // It should be there: this page is damaged, and nothing is known of the next.
            (None, run) => run.min(page),
        };
        match (space, self.translate(space, addr)) {
            (Space::Phys, _) => run(addr),
            (_, Ok(to)) => run(to.pa).min(to.left),
            (_, Err(_)) => page,
        }
        .max(1)
    }

    /// A 64-bit word in the target's byte order.
    pub fn u64(&self, space: Space, addr: u64) -> Result<u64> {
        let mut buf = [0; 8];
        self.read(space, addr, &mut buf)?;
        Ok(self.order().number(&buf))
    }

    /// A 32-bit word in the target's byte order.
    pub fn u32(&self, space: Space, addr: u64) -> Result<u32> {
        let mut buf = [0; 4];
        self.read(space, addr, &mut buf)?;
        Ok(self.order().number(&buf) as u32)
    }

    /// The present physical memory in pieces of at most `size` bytes: what a scan of everything is shared out by.
    /// Read them with [`Target::bytes`], which copies nothing where the file is mapped.
    pub fn chunks(&self, size: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let size = size.max(STEP);
        self.ranges().iter().flat_map(move |range| {
            (0..(range.end - range.start).div_ceil(size)).map(move |i| {
                let start = range.start + i * size;
                start..range.end.min(start.saturating_add(size))
            })
        })
    }

    /// Where the byte `done` behind `addr` is: its virtual address, its physical one, and how many bytes follow it
    /// in the same mapping.
    fn locate(&self, space: Space, addr: u64, done: usize) -> Result<(u64, u64, u64)> {
        let fail = |addr, reason| ReadError { space, addr, reason };
        let va = addr.checked_add(done as u64).ok_or_else(|| fail(u64::MAX, Reason::NotMapped))?;
        let (pa, left) = match space {
            Space::Phys if self.is_file() => return Err(fail(va, Reason::DoesNotRun)),
            Space::Kernel if self.is_file() => (va, self.image.state(va).1),
            Space::Phys => (va, (u64::MAX - va).max(1)),
            Space::Kernel => {
                let found = match self.kernel() {
                    Ok(kernel) => kernel.locate(&*self.image, va),
                    Err(reason) => self.by_headers(va).ok_or(reason),
                };
                found.map_err(|reason| fail(va, reason))?
            }
            Space::User(root) => {
                let paging = self.paging(root).map_err(|reason| fail(va, reason))?;
                let to = paging.walk(&*self.image, va).map_err(|reason| fail(va, reason))?;
                (to.pa, to.left)
            }
        };
        Ok((va, pa, left))
    }
}

/// A physical fault as seen from the address that was asked for: `va` is where `pa` is.
fn at(space: Space, va: u64, pa: u64, fault: Fault) -> ReadError {
    ReadError { space, addr: va.wrapping_add(fault.pa.wrapping_sub(pa)), reason: fault.reason }
}
