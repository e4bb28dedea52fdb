//! A mapped file that may get shorter, or turn unreadable, while it is open.
//!
//! Reading a mapping behind the file's new end, or where the disk fails, does not return an error: the kernel sends
//! SIGBUS, which kills. Reading by `pread` instead would cost a system call and a copy for every word of a list walk.
//! So the mapping stays, and a handler for that signal puts zeros where the file is gone and marks the file as broken.
//! Reads look at the mark when they are done, and, if it is set, read once more by `pread`, whose errors are exact.
//! The price of all this is one load of a flag per read.
//!
//! What was handed out as a window on the mapping before that cannot be called back. It reads as zeros where the file
//! is gone; [`Mapped::trouble`] tells, and the program says so below the answer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::Reason;

/// Bytes from which on a copy by `pread` costs less than to have the pages mapped one by one.
const BULK: usize = 64 << 10;

/// A file as bytes that are read where they lie.
pub(crate) struct Mapped {
    file: File,
    bytes: Bytes,
    region: &'static Region,
}

impl Mapped {
    /// Maps the first `len` bytes of the file.
    pub fn new(file: File, len: u64) -> io::Result<Mapped> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        // SAFETY: the mapping is private and read-only, and nothing but this module's `Bytes` looks at it. That another
        // program rewrites the file meanwhile is the user's part; that it is cut short is seen to by the handler.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&file)? };
        // The mapping may live longer than this struct, and the handler asks the file for its size.
        let watched = file.try_clone()?;
        let region = Region::of(&map, &watched);
        let bytes = Bytes::from_owner(Watched { region, map, _file: watched });
        Ok(Mapped { file, bytes, region })
    }

    /// Bytes that the file had when it was opened.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_broken(&self) -> bool {
        self.region.broken.load(Ordering::Acquire)
    }

    /// A window on the file; a copy once the file is broken.
    pub fn slice(&self, off: u64, len: u64) -> Result<Bytes, Reason> {
        let (start, end) = window(off, len, self.len())?;
        if !self.is_broken() {
            return Ok(self.bytes.slice(start..end));
        }
        let mut copy = vec![0; end - start];
        self.pread(off, &mut copy)?;
        Ok(copy.into())
    }

    /// Fills `buf` from `off`.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> Result<(), Reason> {
        let (start, end) = window(off, buf.len() as u64, self.len())?;
        if buf.len() >= BULK {
            return self.pread(off, buf);
        }
        buf.copy_from_slice(self.bytes.get(start..end).ok_or(Reason::Truncated)?);
        if self.is_broken() { self.pread(off, buf) } else { Ok(()) }
    }

    /// What `f` makes of the bytes, which is asked again if the file broke under it.
    pub fn with<T>(&self, off: u64, len: u64, mut f: impl FnMut(&[u8]) -> T) -> Result<T, Reason> {
        let (start, end) = window(off, len, self.len())?;
        let made = f(self.bytes.get(start..end).ok_or(Reason::Truncated)?);
        if !self.is_broken() {
            return Ok(made);
        }
        let mut copy = vec![0; end - start];
        self.pread(off, &mut copy)?;
        Ok(f(&copy))
    }

    fn pread(&self, off: u64, buf: &mut [u8]) -> Result<(), Reason> {
        self.file.read_exact_at(buf, off).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Reason::Truncated,
            _ => Reason::Io(e.to_string()),
        })
    }

    /// Lets go of the file's pages if this process has more than `most` bytes of files mapped in: they stay in the
    /// system's cache, and come back when they are looked at again.
    pub fn let_go(&self, most: u64) {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let shared: u64 = statm.split(' ').nth(2).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        if shared.saturating_mul(PAGE.load(Ordering::Relaxed) as u64) > most {
            let start = self.bytes.as_ptr().cast_mut().cast::<libc::c_void>();
            // SAFETY: the range is a mapping of this module's. A private one that nobody writes to reads the same after
            // it: from the file, or as zeros where the handler has put zeros.
            #[allow(unsafe_code)]
            unsafe {
                libc::madvise(start, self.bytes.len(), libc::MADV_DONTNEED);
            }
        }
    }

    /// What happened to the file since it was opened, if something did and was noticed.
    pub fn trouble(&self) -> Option<String> {
        if !self.is_broken() {
            return None;
        }
        Some(match self.file.metadata() {
            Ok(meta) if meta.len() < self.len() => {
                format!("the file got shorter while it was open: {} bytes of {} are left", meta.len(), self.len())
            }
            _ => "parts of the file could not be read from its disk".to_owned(),
        })
    }
}

/// The index range of `len` bytes at `off`, if the whole of it lies within `size`.
pub(crate) fn window(off: u64, len: u64, size: u64) -> Result<(usize, usize), Reason> {
    let end = off.checked_add(len).filter(|&end| end <= size).ok_or(Reason::Truncated)?;
    Ok((off as usize, end as usize))
}

/// What keeps a mapping alive: the last `Bytes` of it takes it along.
struct Watched {
    region: &'static Region,
    map: memmap2::Mmap,
    _file: File,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Before the mapping goes, its addresses become somebody else's.
        self.region.end.store(0, Ordering::SeqCst);
        self.region.start.store(0, Ordering::SeqCst);
        self.region.taken.store(false, Ordering::SeqCst);
    }
}

/// Addresses that the handler looks after. Regions are never freed, since a handler may be reading the list; they are
/// used again.
struct Region {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    fd: AtomicI32,
    broken: AtomicBool,
    next: AtomicPtr<Region>,
}

static REGIONS: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());

impl Region {
    /// Puts a mapping under watch.
    fn of(map: &[u8], file: &File) -> &'static Region {
        install();
        let free =
            |r: &&'static Region| r.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let region = regions().find(free).unwrap_or_else(Region::add);
        let start = map.as_ptr() as usize;
        region.broken.store(false, Ordering::SeqCst);
        region.fd.store(file.as_raw_fd(), Ordering::SeqCst);
        region.start.store(start, Ordering::SeqCst);
        region.end.store(start.saturating_add(map.len()), Ordering::SeqCst);
        region
    }

    fn add() -> &'static Region {
        let region: &'static mut Region = Box::leak(Box::new(Region {
            taken: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            fd: AtomicI32::new(-1),
            broken: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let region: *mut Region = region;
        let mut head = REGIONS.load(Ordering::SeqCst);
        loop {
            // SAFETY: leaked above, so it lives forever, and nobody has another reference that could write: all
            // fields are atomic.
            #[allow(unsafe_code)]
            let region_ref: &'static Region = unsafe { &*region };
            region_ref.next.store(head, Ordering::SeqCst);
            match REGIONS.compare_exchange(head, region, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return region_ref,
                Err(now) => head = now,
            }
        }
    }
}

/// All regions, also those not in use. Takes no lock and no memory, as befits a signal handler.
fn regions() -> impl Iterator<Item = &'static Region> {
    let mut at = REGIONS.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: every pointer in the list is null or to a leaked region.
        #[allow(unsafe_code)]
        let region: &'static Region = unsafe { at.as_ref()? };
        at = region.next.load(Ordering::SeqCst);
        Some(region)
    })
}

/// What was to be done about SIGBUS before.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
static PAGE: AtomicUsize = AtomicUsize::new(4096);

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sysconf has no conditions; the two structures are valid for their calls (zero is a valid value of
        // each), and the handler keeps to what a handler may do. The previous action is stored, in memory that is
        // never freed, before the new one can need it.
        #[allow(unsafe_code)]
        unsafe {
            if let Ok(page @ 1..) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) {
                PAGE.store(page, Ordering::SeqCst);
            }
            let previous = Box::leak(Box::new(std::mem::zeroed::<libc::sigaction>()));
            if libc::sigaction(libc::SIGBUS, ptr::null(), previous) != 0 {
                return;
            }
            PREVIOUS.store(previous, Ordering::SeqCst);
            let mut action = std::mem::zeroed::<libc::sigaction>();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
        }
    });
}

/// Puts zeros where a watched file is gone; leaves every other fault to whoever was there before.
extern "C" fn on_bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands the handler of SIGBUS a valid siginfo. fstat, mmap and sigaction are system calls that
    // a handler may make. What is mapped over lies within a mapping that is in use (somebody has just read from it)
    // and holds nothing any more; errno is as it was when the interrupted code goes on.
    #[allow(unsafe_code)]
    unsafe {
        let errno = *libc::__errno_location();
        let addr = (*info).si_addr() as usize;
        let page = addr & !(PAGE.load(Ordering::SeqCst) - 1);
        for region in regions() {
            let (start, end) = (region.start.load(Ordering::SeqCst), region.end.load(Ordering::SeqCst));
            if !(start..end).contains(&addr) {
                continue;
            }
            region.broken.store(true, Ordering::SeqCst);
            let mut stat = std::mem::zeroed::<libc::stat>();
            let sized = libc::fstat(region.fd.load(Ordering::SeqCst), &mut stat) == 0;
            let is_behind = sized && stat.st_size >= 0 && (page - start) as u64 >= stat.st_size as u64;
            // Behind the end all is gone; elsewhere it is a bad block.
            let upto = if is_behind { end } else { page + 1 };
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let there = libc::mmap(page as *mut libc::c_void, upto - page, libc::PROT_READ, flags, -1, 0);
            if there != libc::MAP_FAILED {
                *libc::__errno_location() = errno;
                return;
            }
        }
        libc::sigaction(libc::SIGBUS, PREVIOUS.load(Ordering::SeqCst), ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn file(pages: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for page in 0..pages {
            file.write_all(&vec![page as u8 + 1; 4096]).unwrap();
        }
        file
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_no_signal() {
        let file = file(64);
        let mapped = Mapped::new(file.try_clone().unwrap(), 64 * 4096).unwrap();
        let window = mapped.slice(40 * 4096, 4096).unwrap();
        assert_eq!((window[0], mapped.trouble()), (41, None));
        file.set_len(10 * 4096 + 100).unwrap();
        let mut buf = [0xff; 8];
        assert_eq!(mapped.read(40 * 4096, &mut buf), Err(Reason::Truncated));
        assert_eq!(window[0], 0, "what was handed out reads as zeros");
        assert!(mapped.trouble().unwrap().contains("41060 bytes of 262144"), "{:?}", mapped.trouble());
        mapped.read(9 * 4096, &mut buf).unwrap();
        assert_eq!(buf, [10; 8]);
        mapped.read(10 * 4096 + 92, &mut buf).unwrap();
        assert_eq!(buf, [11; 8]);
        // The rest of the last page is there as zeros in a mapping, but not in the file.
        assert_eq!(mapped.read(10 * 4096 + 96, &mut buf), Err(Reason::Truncated));
        assert_eq!(mapped.slice(63 * 4096, 4096), Err(Reason::Truncated));
        assert_eq!(mapped.with(9 * 4096, 4, |b| b.to_vec()), Ok(vec![10; 4]));
        assert_eq!(mapped.with(50 * 4096, 4, |b| b.to_vec()), Err(Reason::Truncated));
    }

    #[test]
    fn regions_are_used_again_and_do_not_mix() {
        let (one, two) = (file(4), file(4));
        let first = Mapped::new(one.try_clone().unwrap(), 4 * 4096).unwrap();
        let second = Mapped::new(two, 4 * 4096).unwrap();
        one.set_len(0).unwrap();
        assert_eq!(first.read(0, &mut [0; 4]), Err(Reason::Truncated));
        assert_eq!(second.read(0, &mut [0; 4]), Ok(()));
        assert!(second.trouble().is_none() && first.trouble().is_some());
        drop(first);
        for _ in 0..100 {
            let third = Mapped::new(file(1), 4096).unwrap();
            assert_eq!((third.read(0, &mut [0; 4]), third.trouble()), (Ok(()), None));
        }
        assert!(regions().count() < 20, "regions are used again");
    }
}
