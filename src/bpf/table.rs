//! Maps that are reached by calls: tables of keys, values for each CPU, and the rings that events go to.
//!
//! ```no_run
//! use bpf::table::{Shape, Table};
//! let counts = Table::new(Shape::PerCpuHash, 16, 8, 10240)?;
//! counts.each(|key, values| println!("{key:x?} {values:x?}"))?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::map::create;
use crate::sys::{self, Attr, Command};

/// What a table is like (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Shape {
    /// values by key
    Hash = 1,
    /// descriptors of perf events, one for each CPU
    PerfEventArray = 4,
    /// values by key, one for each CPU
    PerCpuHash = 5,
    /// values by number, one for each CPU
    PerCpuArray = 6,
    /// values by key; the least recently used make room
    LruHash = 9,
}

impl Shape {
    fn per_cpu(self) -> bool {
        matches!(self, Shape::PerCpuHash | Shape::PerCpuArray)
    }
}

/// The fields of `union bpf_attr` for one element, up to `flags`.
const ELEMENT: usize = 32;

/// A table in the kernel.
pub struct Table {
    fd: OwnedFd,
    key_size: usize,
    /// bytes of all that a look-up gives: the values of all possible CPUs, each rounded up to eight bytes
    look_up_size: usize,
}

impl Table {
    /// Makes one of so many entries at most. Sizes are in bytes.
    pub fn new(shape: Shape, key_size: usize, value_size: usize, entries: usize) -> io::Result<Table> {
        let fd = create(shape as u32, key_size, value_size, entries, 0)?;
        let look_up_size =
            if shape.per_cpu() { value_size.next_multiple_of(8).saturating_mul(possible_cpus()?) } else { value_size };
        Ok(Table { fd, key_size, look_up_size })
    }

    /// The descriptor, for [`Asm::map`](crate::Asm::map).
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The value of a key: for each CPU one after the other, where the table has that. `None` if there is none.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.look_up_size];
        match self.element(Command::MapLookup, key, Some(&mut value)) {
            Ok(()) => Ok(Some(value)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut value = value.to_vec();
        value.resize(self.look_up_size, 0);
        self.element(Command::MapUpdate, key, Some(&mut value))
    }

    /// Forgets a key; says whether it was there.
    pub fn remove(&self, key: &[u8]) -> io::Result<bool> {
        match self.element(Command::MapDelete, key, None) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Visits every key with its value. What comes and goes meanwhile may be missed, or come twice.
    pub fn each(&self, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (mut key, mut next) = (None, vec![0; self.key_size]);
        while self.next(key.as_deref(), &mut next)? {
            if let Some(value) = self.get(&next)? {
                visit(&next, &value);
            }
            key = Some(next.clone());
        }
        Ok(())
    }

    /// The key behind `key`, or the first.
    fn next(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        let mut attr = Attr::new()
            .u32(0, self.fd.as_raw_fd() as u32)
            .u64(8, key.map_or(0, |key| key.as_ptr().addr() as u64))
            .u64(16, next.as_mut_ptr().addr() as u64);
        // SAFETY: both are keys of the table's size, one to read and one to write.
        #[allow(unsafe_code)]
        match unsafe { sys::call(Command::MapNextKey, &mut attr, ELEMENT) } {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn element(&self, command: Command, key: &[u8], value: Option<&mut [u8]>) -> io::Result<()> {
        if key.len() != self.key_size || value.as_ref().is_some_and(|v| v.len() != self.look_up_size) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attr = Attr::new()
            .u32(0, self.fd.as_raw_fd() as u32)
            .u64(8, key.as_ptr().addr() as u64)
            .u64(16, value.map_or(0, |v| v.as_mut_ptr().addr() as u64));
        // SAFETY: key and value are of the table's sizes, the value writable.
        #[allow(unsafe_code)]
        unsafe {
            sys::call(command, &mut attr, ELEMENT)?
        };
        Ok(())
    }
}

/// CPUs that there may be at any time: values for each CPU come for all of them.
pub fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    last.map(|n| n + 1).ok_or_else(|| io::Error::other(format!("possible CPUs: {}", text.trim())))
}
