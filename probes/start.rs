//! A program that stands still between its process's beginning and its first instruction, so that probes can be set
//! for a process that has done nothing yet, not even what a shell does before it becomes a program.
//!
//! Once it is let go it may be held again, when it has become the program: what probes are to read of its file is then
//! brought into its memory ([`touch`]) before it runs.

use crate::touched::touch;
use std::{
    io::{self, Read},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command},
    sync::atomic::{AtomicU8, Ordering},
    thread::JoinHandle,
};

/// It becomes the program, and that is all.
const GO: u8 = 0;
/// It is to be held when it is the program.
const HOLD: u8 = 1;
/// It will be.
const HELD: u8 = 2;

/// A process that stands still until it is continued, and then becomes a program.
pub struct Stopped {
    pid: u32,
    word: &'static AtomicU8,
    /// whoever starts a program waits until it is one
    starter: JoinHandle<io::Result<Child>>,
}

impl Stopped {
    /// Begins a process that will be `program`.
    pub fn new(program: &str, arguments: &[&str]) -> io::Result<Stopped> {
        let mut command = Command::new(program);
        command.args(arguments);
        let word = shared()?;
        let (mut told, tells) = io::pipe()?;
        let fd = tells.as_raw_fd();
        // SAFETY: between fork and exec `stand` is called, which does only what signal handlers may; the descriptor is
        // open there, since `tells` lives until the process has begun.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || stand(fd, word));
        }
        let starter = std::thread::spawn(move || {
            let child = command.spawn();
            drop(tells);
            child.inspect(|child| {
                if word.load(Ordering::SeqCst) == HELD {
                    hold(child.id());
                }
            })
        });
        let mut pid = [0; 4];
        match told.read_exact(&mut pid) {
            Ok(()) => Ok(Stopped { pid: u32::from_ne_bytes(pid), word, starter }),
            Err(e) => Err(joined(starter).err().unwrap_or(e)),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Continues it, and gives the program, whose texts are in memory if that is wanted; or why it could not become one.
    pub fn started(self, texts: bool) -> io::Result<Child> {
        self.word.store(if texts { HOLD } else { GO }, Ordering::SeqCst);
        // SAFETY: the process is ours, and has not been waited for, so that the number is its.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(self.pid as i32, libc::SIGCONT)
        };
        joined(self.starter)
    }
}

/// A word that is in the memory of the process that is begun as well: what is said by it makes no system call, which would
/// be taken for the program's. It stays until the end, one for each command.
#[allow(unsafe_code)]
fn shared() -> io::Result<&'static AtomicU8> {
    // SAFETY: new memory, of zeros, that is never unmapped.
    unsafe {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let page = libc::mmap(std::ptr::null_mut(), size_of::<AtomicU8>(), rights, flags, -1, 0);
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(&*page.cast()) }
    }
}

/// In the new process: says its number, stands still and, if it is told to, asks to be held when it is the program.
#[allow(unsafe_code)]
fn stand(to: i32, word: &AtomicU8) -> io::Result<()> {
    let pid = std::process::id().to_ne_bytes();
    // SAFETY: what is written is there, and of that length.
    unsafe {
        if libc::write(to, pid.as_ptr().cast(), pid.len()) != pid.len() as isize || libc::raise(libc::SIGSTOP) != 0 {
            return Err(io::Error::last_os_error());
        }
        if word.load(Ordering::SeqCst) == HOLD && libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) == 0 {
            word.store(HELD, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// Waits until the process has become its program, touches its texts, and lets it run.
#[allow(unsafe_code)]
fn hold(pid: u32) {
    let mut status = 0;
    // SAFETY: the status is written, and only during the call; the process asked to be traced by this very thread.
    unsafe {
        if libc::waitpid(pid as i32, &raw mut status, 0) == pid as i32 && libc::WIFSTOPPED(status) {
            touch(pid);
            libc::ptrace(libc::PTRACE_DETACH, pid as i32, 0, 0);
        }
    }
}

fn joined(starter: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    starter.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts the program has ended")))
}
