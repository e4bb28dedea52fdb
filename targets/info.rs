//! What a target is, for people: kind, size, age, and what is missing from it.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::live::Live;
use crate::mmu::Arch;
use crate::order::Order;

/// What `uname -a` prints (`struct utsname`), as the header of a kdump-compressed file has it. A hypervisor that wrote
/// the file may have left parts of it empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the system's own")]
pub struct Uts {
    pub sysname: String,
    pub nodename: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub domainname: String,
}

/// A description of a target.
#[derive(Clone, Debug)]
pub struct Info {
    /// The format, as people know it: `ELF core`, `kdump-compressed (zlib)`, with how it was wrapped.
    pub format: String,
    /// The architecture of the kernel.
    pub arch: Arch,
    /// Byte order and word size of the machine.
    pub order: Order,
    /// The file, or the parts of a split dump.
    pub paths: Vec<PathBuf>,
    /// Bytes of the file or files.
    pub file_size: u64,
    /// Bytes of the smallest page.
    pub page_size: u64,
    /// CPUs whose registers are in the dump.
    pub cpus: usize,
    /// The kernel's names, if the dump's header has them.
    pub uts: Option<Uts>,
    /// `OSRELEASE` of VMCOREINFO: what `uname -r` said.
    pub release: Option<String>,
    /// `BUILD-ID` of VMCOREINFO: names the vmlinux that fits.
    pub build_id: Option<String>,
    /// When the kernel crashed, by VMCOREINFO.
    pub crash_time: Option<SystemTime>,
    /// When the dump was written, if its header says.
    pub dump_time: Option<SystemTime>,
    /// makedumpfile's `-d`, if the format records it.
    pub dump_level: Option<u32>,
    /// What `makedumpfile --config` erased from the dump, in its own words, a line each.
    pub erased: Option<String>,
    /// The tool that wrote the dump ran out of space.
    pub incomplete: bool,
    /// Bytes that the headers promise and the file, cut off, does not have.
    pub truncated: u64,
    /// Bytes of physical memory that the dump has.
    pub present: u64,
    /// Pages that were left out on purpose, where the format tells.
    pub excluded: Option<u64>,
    /// How it is read, if it is no dump but the running kernel.
    pub live: Option<Live>,
    /// What is wrong with the file, though it could be opened: one sentence each.
    pub damage: Vec<String>,
}
