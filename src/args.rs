//! The command line.

use crate::render::Format;
use clap::Parser;
use std::path::PathBuf;

/// A way to the running kernel's memory.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum Way {
    /// /proc/kcore, else BPF
    Auto,
    /// /proc/kcore
    Kcore,
    /// a BPF program
    Bpf,
}

/// mdb for Linux kernel memory: opens a crash dump, with or without its vmlinux, and answers questions about it.
///
/// Without -e, -f or piped input it gives a prompt. Exit status: 0 fine, 1 findings (corruption, leaks, a failed
/// assertion), 2 a command failed or the dump could not be opened, 130 interrupted.
#[derive(Parser, Clone, Debug)]
#[command(name = "kmdb", version, max_term_width = 100)]
pub struct Cli {
    /// look at the running kernel instead of a dump; every file named is then a debug file
    #[arg(short = 'k', long = "kernel")]
    pub live: bool,

    /// which way to the running kernel's memory: /proc/kcore, a BPF program, or whichever there is
    #[arg(long, value_enum, default_value = "auto", requires = "live", value_name = "WAY")]
    pub live_source: Way,

    /// the dump: an ELF or kdump-compressed vmcore, or a LiME or AVML image, as it is or packed with zstd, gzip or xz;
    /// FILE@ADDR, a file of raw physical memory that was loaded at ADDR, of which there may be several; or a vmlinux or
    /// vmlinuz alone, for types, symbols, code, and data as it was linked
    ///
    /// `-` is standard input, which is also taken if it is a file or a pipe and no dump is named. All files of a split
    /// dump are given, in any order
    pub dump: Option<PathBuf>,

    /// the kernel's vmlinux with debug information, and debug files of modules (NAME.ko, NAME.ko.debug); without them
    /// types and symbols come from the dump itself
    #[arg(value_name = "VMLINUX")]
    pub debug_files: Vec<PathBuf>,

    /// run this command and exit; may be given several times
    #[arg(short = 'e', long = "execute", value_name = "COMMAND", allow_hyphen_values = true)]
    pub execute: Vec<String>,

    /// run the commands of this file and exit
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,

    /// how answers are written
    #[arg(short = 'o', long = "output", value_enum, default_value = "table")]
    pub output: Format,

    /// more directories to look for debug files in, before the usual ones
    #[arg(short = 'd', long = "debug-dir", value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,

    /// take the vmlinux and the modules' files although their build-ids are not the dump's
    #[arg(long)]
    pub force: bool,

    /// do not look for debug files: use only what the dump holds
    #[arg(long)]
    pub no_debuginfo: bool,

    /// the dump is raw physical memory (QEMU's pmemsave, a guest's memory file), whose first byte is that of this
    /// address; ADDR+LENGTH,ADDR if its pieces were at several
    #[arg(long, value_name = "ADDR", conflicts_with = "live")]
    pub load_address: Option<String>,

    /// look at a guest under QEMU by its QMP socket, a path or HOST:PORT; every file named is then a debug file
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["live", "load_address"])]
    pub qmp: Option<String>,

    /// stop the guest while it is looked at; it goes on when kmdb ends, however it ends
    #[arg(long, requires = "qmp")]
    pub stop: bool,

    /// of several kernels in memory take this one: its number in `::kernels`, or `crash` for the one that crashed
    #[arg(long = "which-kernel", value_name = "N|crash", conflicts_with = "live")]
    pub which_kernel: Option<String>,

    /// do not use the VMCOREINFO note: find everything in memory
    #[arg(long)]
    pub ignore_vmcoreinfo: bool,

    /// say what happened in each of the dumps, one row each; all files are then dumps. The exit status is 1 if one of them
    /// crashed, 2 if one could not be opened
    #[arg(long, conflicts_with_all = ["live", "qmp", "load_address", "execute", "file"])]
    pub triage: bool,

    /// with --triage: without looking for damage in slabs
    #[arg(long, requires = "triage")]
    pub quick: bool,

    /// write what `::triage` says of the dump to this file, a page for browsers that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "triage")]
    pub triage_html: Option<PathBuf>,

    /// do not read ~/.config/kmdb/kmdbrc and ~/.kmdbrc
    #[arg(short = 'S', long = "no-rc", visible_alias = "norc")]
    pub no_rc: bool,

    /// write each command before its answer and, if it is not 0, the exit status it would have alone behind it: a record
    /// of the session
    #[arg(long)]
    pub echo: bool,

    /// never use a pager
    #[arg(long)]
    pub no_pager: bool,

    /// write the man page, a shell's completions or a page of the reference to standard output
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub generate: Option<crate::generate::What>,
}
