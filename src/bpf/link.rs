//! Links: a program attached to an event, or to many places at once, each with a number that the program can ask for
//! ([`Helper::GetAttachCookie`](crate::Helper::GetAttachCookie)).
//!
//! **Invariant:** closing a [`Link`] detaches.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use crate::prog::{Program, Use};
use crate::sys::{self, Attr, Command};

/// `BPF_PERF_EVENT` of `enum bpf_attach_type`.
const PERF_EVENT: u32 = 41;
/// `BPF_F_KPROBE_MULTI_RETURN` and `BPF_F_UPROBE_MULTI_RETURN`.
const ON_RETURN: u32 = 1;

/// An attached program.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.0
    }
}

impl Link {
    /// Runs the program at a perf event, which is not enabled by that. Since Linux 5.15.
    pub fn event(program: &Program, event: i32, cookie: u64) -> io::Result<Link> {
        let mut attr = Attr::new().u32(0, program.fd() as u32).u32(4, event as u32).u32(8, PERF_EVENT).u64(16, cookie);
        // SAFETY: there is no address in it.
        #[allow(unsafe_code)]
        let fd = unsafe { sys::call(Command::LinkCreate, &mut attr, 24)? };
        Ok(Link(sys::owned(fd)))
    }

    /// Whether the kernel has links of many functions: it says then that it has no function of this name, and else that
    /// it does not understand.
    pub fn knows_functions(program: &Program) -> bool {
        let (name, cookie) = (c"kmdb_has_no_such_function", 0u64);
        let names = [name.as_ptr().addr() as u64];
        let mut attr = Attr::new()
            .u32(0, program.fd() as u32)
            .u32(8, Use::Functions.number())
            .u32(20, 1)
            .u64(24, names.as_ptr().addr() as u64)
            .u64(40, (&raw const cookie).addr() as u64);
        // SAFETY: one name, which ends with a NUL, and one number; both outlive the call, which only reads them.
        #[allow(unsafe_code)]
        let answer = unsafe { sys::call(Command::LinkCreate, &mut attr, 48) };
        answer.err().is_some_and(|e| matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)))
    }

    /// Whether the kernel has links of many places: it says then that the root directory is no program.
    pub fn knows_places(program: &Program) -> bool {
        let answer = Link::places(program, c"/", false, &[(0, 0, 0)]);
        answer.err().is_some_and(|e| e.raw_os_error() == Some(libc::EBADF))
    }

    /// Runs a program that was loaded for that ([`Use::Functions`]) where functions of the kernel begin, or return. Either
    /// all are attached or none. Since Linux 5.18.
    pub fn functions(program: &Program, on_return: bool, places: &[(u64, u64)]) -> io::Result<Link> {
        let (addresses, cookies): (Vec<u64>, Vec<u64>) = places.iter().copied().unzip();
        let mut attr = Attr::new()
            .u32(0, program.fd() as u32)
            .u32(8, Use::Functions.number())
            .u32(16, if on_return { ON_RETURN } else { 0 })
            .u32(20, places.len() as u32)
            .u64(32, addresses.as_ptr().addr() as u64)
            .u64(40, cookies.as_ptr().addr() as u64);
        // SAFETY: both lists have as many numbers as is said, and outlive the call, which only reads them.
        #[allow(unsafe_code)]
        let fd = unsafe { sys::call(Command::LinkCreate, &mut attr, 48)? };
        Ok(Link(sys::owned(fd)))
    }

    /// Runs a program that was loaded for that ([`Use::Places`]) at places of a file, or where the functions that begin
    /// there return: each with its semaphore's place, or zero, and its number. Since Linux 6.6.
    pub fn places(program: &Program, file: &CStr, on_return: bool, places: &[(u64, u64, u64)]) -> io::Result<Link> {
        let offsets: Vec<u64> = places.iter().map(|place| place.0).collect();
        let semaphores: Vec<u64> = places.iter().map(|place| place.1).collect();
        let cookies: Vec<u64> = places.iter().map(|place| place.2).collect();
        let guarded = semaphores.iter().any(|semaphore| *semaphore != 0);
        let mut attr = Attr::new()
            .u32(0, program.fd() as u32)
            .u32(8, Use::Places.number())
            .u64(16, file.as_ptr().addr() as u64)
            .u64(24, offsets.as_ptr().addr() as u64)
            .u64(32, if guarded { semaphores.as_ptr().addr() as u64 } else { 0 })
            .u64(40, cookies.as_ptr().addr() as u64)
            .u32(48, places.len() as u32)
            .u32(52, if on_return { ON_RETURN } else { 0 });
        // SAFETY: the lists have as many numbers as is said, the name ends with a NUL; all outlive the call, which only
        // reads them.
        #[allow(unsafe_code)]
        let fd = unsafe { sys::call(Command::LinkCreate, &mut attr, 64)? };
        Ok(Link(sys::owned(fd)))
    }
}
