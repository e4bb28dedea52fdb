//! Maps: memory that a program and we share.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};

use crate::sys::{self, Attr, Command};

/// `BPF_MAP_TYPE_ARRAY`
const ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`, since Linux 5.5 (fc9702273e2e)
const MMAPABLE: u32 = 1 << 10;
/// The fields of `union bpf_attr` up to `map_flags`.
const CREATE: usize = 20;

pub(crate) fn create(kind: u32, key_size: usize, value_size: usize, entries: usize, flags: u32) -> io::Result<OwnedFd> {
    let small = |n: usize| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let mut attr = Attr::new()
        .u32(0, kind)
        .u32(4, small(key_size)?)
        .u32(8, small(value_size)?)
        .u32(12, small(entries)?)
        .u32(16, flags);
    let mut create = || {
        // SAFETY: this command has no addresses.
        #[allow(unsafe_code)]
        unsafe {
            sys::call(Command::MapCreate, &mut attr, CREATE)
        }
    };
    let fd = match create() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            sys::lift_memory_limit();
            create()?
        }
        other => other?,
    };
    Ok(sys::owned(fd))
}

/// An array of values of one size, numbered from zero, which we see through a mapping.
pub struct Array {
    fd: OwnedFd,
    map: MmapRaw,
    value_size: usize,
    entries: usize,
}

impl Array {
    /// Makes one. A value's size must be a multiple of eight.
    pub fn new(value_size: usize, entries: usize) -> io::Result<Array> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        if !value_size.is_multiple_of(8) {
            return Err(wrong());
        }
        let bytes = value_size.checked_mul(entries).ok_or_else(wrong)?;
        let fd = create(ARRAY, 4, value_size, entries, MMAPABLE)?;
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&fd)?;
        Ok(Array { fd, map, value_size, entries })
    }

    /// The descriptor, for [`Asm::map`](crate::Asm::map).
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// One value, to copy out of.
    pub fn window(&self, entry: usize) -> Option<Window<'_>> {
        (entry < self.entries).then(|| Window { array: self, start: entry * self.value_size })
    }
}

/// A view of one value. Programs may write to it at any time, so there is no slice of it, only copies.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    array: &'a Array,
    start: usize,
}

impl Window<'_> {
    /// Copies the value's first bytes. What a program writes meanwhile may be torn.
    pub fn copy(&self, to: &mut [u8]) {
        let len = to.len().min(self.array.value_size);
        // SAFETY: the entry lies within the mapping, which lives as long as the array; `to` is memory of our own.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(self.array.map.as_ptr().add(self.start), to.as_mut_ptr(), len);
        }
    }
}
