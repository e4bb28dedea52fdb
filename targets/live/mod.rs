//! The running kernel, as a target like any other: physical memory by address, and page tables on top of it.
//!
//! Two ways lead to its memory. `/proc/kcore` shows it as a file: ELF headers that say which physical range stands
//! where, and the bytes. Where that file does not exist or may not be read, a BPF program of five instructions copies
//! memory that the kernel maps into a buffer that we share with it. Both read RAM and nothing else: a device's registers
//! may change by being looked at, so addresses outside `System RAM` are refused, however they are asked for.
//!
//! Reads go through a cache of pages that is [emptied](crate::Target::refresh) before each command, so that one command
//! sees each page at one moment, and the next sees it anew. Large reads are scans and pass it by.
//!
//! **Invariant:** nothing here can write to the kernel. `/proc/kcore` is opened for reading; the program has no
//! instruction that stores but to its own stack.

mod bpf;
mod kcore;
mod missing;
mod system;

pub(crate) use system::modules;

use std::ops::Range;

use ::bytes::Bytes;
use quick_cache::sync::Cache;

use crate::error::{OpenError, Reason};
use crate::image::{Fault, Image, Missing, copied};
use crate::mmu::Arch;
use crate::open::Opened;
use crate::order::Order;

/// Which way to take to the running kernel's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiveSource {
    /// `/proc/kcore`, else BPF.
    #[default]
    Auto,
    /// `/proc/kcore` and nothing else.
    Kcore,
    /// BPF and nothing else.
    Bpf,
    /// None: nobody lets us read it. What happens in it may be asked all the same.
    Blind,
    /// A guest's, from outside: see [`Target::guest`](crate::Target::guest).
    Guest,
}

/// How the running kernel is read.
#[derive(Clone, Debug)]
pub struct Live {
    /// the way that was taken
    pub source: LiveSource,
    /// why not the usual one
    pub instead: Option<String>,
    /// what the kernel's lockdown forbids, as `/sys/kernel/security/lockdown` has it; `None` if it does not say
    pub lockdown: Option<String>,
}

/// Reads RAM at a physical address: the whole of `buf`, or nothing. A piece never leaves its range of RAM.
pub(crate) trait Ram: Send + Sync {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason>;
}

/// Opens the running kernel.
pub(crate) fn open(wanted: LiveSource) -> Result<(Opened, Live), OpenError> {
    let kcore = || kcore::open().map(|opened| (opened, LiveSource::Kcore));
    let bpf = || bpf::open().map(|opened| (opened, LiveSource::Bpf));
    let live = |source, instead| Live { source, instead, lockdown: missing::lockdown() };
    let fail = |why| OpenError::Live { why };
    match wanted {
        LiveSource::Guest => Err(fail("a guest is reached by its socket".into())),
        LiveSource::Blind => Ok((blind(), live(LiveSource::Blind, None))),
        LiveSource::Kcore => kcore().map(|(opened, source)| (opened, live(source, None))).map_err(fail),
        LiveSource::Bpf => bpf().map(|(opened, source)| (opened, live(source, None))).map_err(fail),
        LiveSource::Auto => match kcore() {
            Ok((opened, source)) => Ok((opened, live(source, None))),
            Err(no_kcore) => match bpf() {
                Ok((opened, source)) => Ok((opened, live(source, Some(no_kcore)))),
                Err(no_bpf) => Ok((blind(), live(LiveSource::Blind, Some(format!("{no_kcore}\n  and {no_bpf}"))))),
            },
        },
    }
}

/// Memory of which nothing is seen.
fn blind() -> Opened {
    struct Hidden;
    impl Ram for Hidden {
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Reason> {
            Err(Reason::Refused)
        }
    }
    let arch = Arch::from_elf(system::machine(), Order::LITTLE_64);
    let format = "the running kernel, whose memory may not be read".to_owned();
    Opened::new(format, arch, Box::new(Memory::new(Box::new(Hidden), Vec::new())), Vec::new())
}

const PAGE: u64 = 4096;
/// Pages that are kept: 64 MiB of them.
const CACHED: usize = 16 << 10;
/// Reads of this many bytes are scans.
const SCAN: usize = 16 << 10;

/// Live memory as an image.
pub(crate) struct Memory {
    ram: Box<dyn Ram>,
    /// sorted, disjoint, of whole pages
    ranges: Vec<Range<u64>>,
    cache: Cache<u64, Bytes>,
}

impl Memory {
    pub fn new(ram: Box<dyn Ram>, ranges: Vec<Range<u64>>) -> Memory {
        Memory { ram, ranges, cache: Cache::new(CACHED) }
    }

    /// How many bytes of RAM follow `pa`; the error is how far it is to the next one.
    fn left(&self, pa: u64) -> Result<u64, u64> {
        let next = self.ranges.partition_point(|r| r.start <= pa);
        match next.checked_sub(1).and_then(|i| self.ranges.get(i)) {
            Some(range) if pa < range.end => Ok(range.end - pa),
            _ => Err(self.ranges.get(next).map_or(u64::MAX - pa, |r| r.start - pa).max(1)),
        }
    }

    /// A page of RAM.
    fn page(&self, pa: u64) -> Result<Bytes, Reason> {
        if let Some(page) = self.cache.get(&pa) {
            return Ok(page);
        }
        let mut page = vec![0; PAGE as usize];
        self.ram.read(pa, &mut page)?;
        let page = Bytes::from(page);
        self.cache.insert(pa, page.clone());
        Ok(page)
    }

    /// Page by page, through the cache.
    fn by_page(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        while !buf.is_empty() {
            let at = (pa % PAGE) as usize;
            let page = self.page(pa - at as u64).map_err(|reason| Fault { pa, reason })?;
            let (now, rest) = buf.split_at_mut(buf.len().min(PAGE as usize - at));
            now.copy_from_slice(page.get(at..at + now.len()).unwrap_or_default());
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }
}

impl Image for Memory {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        while !buf.is_empty() {
            let left = self.left(pa).map_err(|_| Fault { pa, reason: Reason::NotRam })?;
            let (now, rest) = buf.split_at_mut((buf.len() as u64).min(left) as usize);
            // a page in the middle of a scan may be unreadable: then page by page, so that what precedes it is had
            if now.len() < SCAN || self.ram.read(pa, now).is_err() {
                self.by_page(pa, now)?;
            }
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }

    fn bytes(&self, pa: u64, len: usize) -> Result<Bytes, Fault> {
        let at = (pa % PAGE) as usize;
        if len <= PAGE as usize - at && self.left(pa).is_ok() {
            let page = self.page(pa - at as u64).map_err(|reason| Fault { pa, reason })?;
            return Ok(page.slice(at..at + len));
        }
        copied(self, pa, len)
    }

    fn state(&self, pa: u64) -> (Option<Reason>, u64) {
        match self.left(pa) {
            Ok(left) => (None, left),
            Err(gap) => (Some(Reason::NotRam), gap),
        }
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn missing(&self) -> Missing {
        Missing::default()
    }

    fn forget(&self) {
        self.cache.clear();
    }
}

/// Whole pages of the ranges, sorted, joined where they touch.
pub(crate) fn whole_pages(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|r| r.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        match out.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ if start < end => out.push(start..end),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// RAM whose bytes are its page's number plus how often anything was read, and whose page 5 is poisoned.
    struct Ticking(Arc<AtomicU64>);

    impl Ram for Ticking {
        fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason> {
            let tick = self.0.fetch_add(1, Ordering::Relaxed);
            for (i, byte) in buf.iter_mut().enumerate() {
                let page = (pa + i as u64) / PAGE;
                if page == 5 {
                    return Err(Reason::Refused);
                }
                *byte = (page + tick) as u8;
            }
            Ok(())
        }
    }

    fn memory() -> (Memory, Arc<AtomicU64>) {
        let reads = Arc::new(AtomicU64::new(0));
        (Memory::new(Box::new(Ticking(reads.clone())), whole_pages(vec![0x1000..0x8000, 0x8000..0x20_0000])), reads)
    }

    #[test]
    fn a_page_is_read_once_until_forgotten() {
        let (memory, reads) = memory();
        let byte = |pa| memory.bytes(pa, 1).map(|b| b[0]).ok();
        assert_eq!((byte(0x2000), byte(0x2fff), byte(0x2008)), (Some(2), Some(2), Some(2)));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        memory.forget();
        assert_eq!(byte(0x2000), Some(3));
    }

    #[test]
    fn a_fault_in_a_scan_loses_only_its_page() {
        let (memory, _) = memory();
        let mut buf = vec![0xee; 0x8000];
        let fault = memory.read(0x1000, &mut buf).unwrap_err();
        assert_eq!((fault.pa, fault.reason), (0x5000, Reason::Refused));
        assert!(buf[..0x4000].iter().all(|b| *b != 0xee), "what precedes the fault was read");
        assert!(memory.read(0x6000, &mut buf).is_ok(), "and what follows it can be");
    }

    #[test]
    fn only_ram_is_asked_for() {
        let (memory, reads) = memory();
        let fault = memory.read(0x200_0000, &mut [0; 8]).unwrap_err();
        assert_eq!((fault.pa, fault.reason), (0x200_0000, Reason::NotRam));
        assert_eq!(memory.read(0x1f_fff8, &mut [0; 16]).unwrap_err().pa, 0x20_0000);
        assert!(memory.bytes(0, 8).is_err(), "below the first range");
        assert_eq!(reads.load(Ordering::Relaxed), 1, "the page before the hole, and nothing beyond");
    }

    #[test]
    fn ranges_are_whole_pages() {
        let ranges = vec![0x3000..0x5000, 0x1800..0x2fff, 0x5000..0x5fff, 0x8000..0x8fff];
        let whole = whole_pages(ranges);
        assert_eq!((whole.len(), whole.first()), (1, Some(&(0x3000..0x5000))));
    }
}
