//! A command that runs while probes are set: started, stopped before its first instruction, let go when all is ready.

use engine::prelude::*;
use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

/// The shell stops itself, and once it may go on it becomes the command, if that is one.
const STOPPED: &str = "kill -STOP $$; ";

/// A command that was started.
pub struct Started(Child);

impl Started {
    /// Starts a command of the shell, and waits until it stands still.
    pub fn new(command: &str) -> Result<Started> {
        let exec = if is_one(command) { "exec " } else { "" };
        let started = Command::new("sh").arg("-c").arg(format!("{STOPPED}{exec}{command}")).spawn();
        let started = Started(started.map_err(|e| Error::Usage(format!("`{command}`: {e}")))?);
        let patience = Instant::now() + Duration::from_secs(5);
        while state(started.pid()) != Some('T') && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(started)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Lets it run.
    pub fn go(&self) -> Result<()> {
        let status = Command::new("kill").arg("-CONT").arg(self.pid().to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(Error::Unavailable("the command cannot be let go".into())),
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

/// The letter that /proc has for the state of a process or thread.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process, or thread, runs no more, though its parent may not have asked yet how it ended.
pub fn is_gone(pid: i32) -> bool {
    // a process whose first thread has ended goes on in the others
    let is_last = || std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() < 2);
    match state(pid) {
        None => true,
        Some('Z' | 'X') => is_last(),
        Some(_) => false,
    }
}

/// Whether it is the call of one program, which needs no shell beside it.
fn is_one(command: &str) -> bool {
    const OWN: [&str; 12] =
        ["cd", "for", "while", "until", "if", "case", "set", "export", "ulimit", "umask", "eval", "wait"];
    let first = command.split_ascii_whitespace().next().unwrap_or_default();
    !command.replace(">&", "").contains([';', '&', '|', '(', '{', '\n'])
        && !first.contains('=')
        && !OWN.contains(&first)
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.has_ended() {
            // what ends us early ends the command as well; one that has just ended needs nothing
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
