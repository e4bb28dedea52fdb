//! A program that stands still between its process's beginning and its first instruction, so that probes can be set
//! for a process that has done nothing yet, not even what a shell does before it becomes a program.

use std::{
    io::{self, Read},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command},
    thread::JoinHandle,
};

/// A process that stands still until it is continued (SIGCONT), and then becomes a program.
pub struct Stopped {
    pid: u32,
    /// whoever starts a program waits until it is one
    starter: JoinHandle<io::Result<Child>>,
}

impl Stopped {
    /// Begins a process that will be `program`.
    pub fn new(program: &str, arguments: &[&str]) -> io::Result<Stopped> {
        let mut command = Command::new(program);
        command.args(arguments);
        let (mut told, tells) = io::pipe()?;
        let fd = tells.as_raw_fd();
        // SAFETY: between fork and exec only getpid, write and raise are called, which are safe in signal handlers; the
        // descriptor is open there, since `tells` lives until the process has begun.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                let pid = libc::getpid().to_ne_bytes();
                if libc::write(fd, pid.as_ptr().cast(), pid.len()) != pid.len() as isize
                    || libc::raise(libc::SIGSTOP) != 0
                {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let starter = std::thread::spawn(move || {
            let child = command.spawn();
            drop(tells);
            child
        });
        let mut pid = [0; 4];
        match told.read_exact(&mut pid) {
            Ok(()) => Ok(Stopped { pid: u32::from_ne_bytes(pid), starter }),
            Err(e) => Err(joined(starter).err().unwrap_or(e)),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The program, once it has been continued; or why it could not become one.
    pub fn started(self) -> io::Result<Child> {
        joined(self.starter)
    }
}

fn joined(starter: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    starter.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts the program has ended")))
}
