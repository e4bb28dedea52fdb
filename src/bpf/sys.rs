//! bpf(2): one call with a command and a structure whose tail may be missing.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
#[repr(i64)]
pub enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgLoad = 5,
    ProgTestRun = 10,
    GetInfo = 15,
    RawTracepointOpen = 17,
    LinkCreate = 28,
    EnableStats = 32,
}

/// `union bpf_attr` in the making: fields are set by their offset. The kernel takes what it knows and asks that the
/// rest be zero.
pub struct Attr([u64; Attr::WORDS]);

impl Attr {
    const WORDS: usize = 16;

    pub fn new() -> Attr {
        Attr([0; Attr::WORDS])
    }

    pub fn u64(mut self, offset: usize, value: u64) -> Attr {
        self.bytes_mut()[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub fn u32(mut self, offset: usize, value: u32) -> Attr {
        self.bytes_mut()[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub fn u8(mut self, offset: usize, value: u8) -> Attr {
        self.bytes_mut()[offset] = value;
        self
    }

    pub fn get_u32(&mut self, offset: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes_mut()[offset..offset + 4]);
        u32::from_ne_bytes(word)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: any eight bytes are a u64 and a u64 is eight bytes; the borrow keeps the array to itself.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), Attr::WORDS * 8)
        }
    }
}

/// Calls the kernel with the first `size` bytes of `attr`.
///
/// # Safety
/// Addresses in `attr` must point to memory that is as the command wants it, for as long as the call takes.
#[allow(unsafe_code)]
pub unsafe fn call(command: Command, attr: &mut Attr, size: usize) -> io::Result<i64> {
    debug_assert!(size <= Attr::WORDS * 8);
    // SAFETY: `attr` is longer than `size`; the addresses in it are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as i64, attr.0.as_mut_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Before Linux 5.11 (d5299b67dd59) maps and programs counted as locked memory, of which a process may have 64 KiB by
/// default. Raises that limit as far as we may; whether it helped shows when the call is made again.
#[allow(unsafe_code)]
pub fn lift_memory_limit() {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is read, and only during the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
}

/// The descriptor that a call returned.
#[allow(unsafe_code)]
pub fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us just now, so nobody else has it. It fits an int.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
