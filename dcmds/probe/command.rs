//! A command that runs while probes are set: started, stopped before its first instruction, let go when all is ready.

use engine::prelude::*;
use probes::{start::Stopped, touched::touch};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// The shell stops itself, and once it may go on it becomes the command, if that is one.
const STOPPED: &str = "kill -STOP $$; ";

/// A command that was started.
pub struct Started {
    pid: i32,
    process: Process,
}

/// What stands behind a command.
enum Process {
    /// it has not become the program yet
    Stopped(Option<Stopped>),
    /// the program, or the shell
    Runs(Child),
}

impl Started {
    /// Starts a command of the shell, and waits until it stands still. One that is a program and plain words is started
    /// without a shell, whose own doings would be taken for the program's.
    pub fn new(command: &str) -> Result<Started> {
        let wrong = |e| Error::Usage(format!("`{command}`: {e}"));
        let (pid, process) = match plain(command) {
            Some((program, arguments)) => {
                let stopped = Stopped::new(program, &arguments).map_err(wrong)?;
                (stopped.pid(), Process::Stopped(Some(stopped)))
            }
            None => {
                let exec = if is_one(command) { "exec " } else { "" };
                let shell =
                    Command::new("sh").arg("-c").arg(format!("{STOPPED}{exec}{command}")).spawn().map_err(wrong)?;
                (shell.id(), Process::Runs(shell))
            }
        };
        let started = Started { pid: pid as i32, process };
        let patience = Instant::now() + Duration::from_secs(5);
        while state(started.pid()) != Some('T') && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(started)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets it run. `texts`: what it has in its file is to be read by probes, though it may not have touched it.
    pub fn go(&mut self, texts: bool) -> Result<()> {
        match &mut self.process {
            Process::Stopped(stopped) => {
                let Some(stopped) = stopped.take() else { return Ok(()) };
                let child =
                    stopped.started(texts).map_err(|e| Error::Usage(format!("the command cannot be run: {e}")))?;
                self.process = Process::Runs(child);
                Ok(())
            }
            Process::Runs(_) => {
                let shell = program(self.pid);
                if !signal(self.pid, "-CONT") {
                    return Err(Error::Unavailable("the command cannot be let go".into()));
                }
                if texts {
                    self.touch_when_other_than(shell.as_deref());
                }
                Ok(())
            }
        }
    }

    /// Touches the command's texts, if the shell becomes it soon: again and again for a little while, since it is mapped
    /// piece by piece.
    fn touch_when_other_than(&self, shell: Option<&Path>) {
        const TIMES: usize = 4;
        let patience = Instant::now() + Duration::from_millis(50);
        let mut times = 0;
        while times < TIMES && Instant::now() < patience {
            if program(self.pid).as_deref() != shell {
                touch(self.pid.unsigned_abs());
                times += 1;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Process::Runs(child) => !matches!(child.try_wait(), Ok(None)),
            Process::Stopped(stopped) => stopped.is_none(),
        }
    }
}

fn signal(pid: i32, which: &str) -> bool {
    Command::new("kill").arg(which).arg(pid.to_string()).status().is_ok_and(|status| status.success())
}

/// What a process runs.
fn program(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
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

/// The program and its arguments, if there is nothing in it that only a shell understands, and such a program.
fn plain(command: &str) -> Option<(&str, Vec<&str>)> {
    let only_words = |c: char| c.is_alphanumeric() || c.is_ascii_whitespace() || "/._-+:,@%=^".contains(c);
    let mut words = command.split_ascii_whitespace();
    let program = words.next().filter(|program| command.chars().all(only_words) && !program.contains('='))?;
    let is_program = |path: &Path| path.is_file();
    let found = match program.contains('/') {
        true => is_program(Path::new(program)),
        false => std::env::split_paths(&std::env::var_os("PATH")?).any(|dir| is_program(&dir.join(program))),
    };
    found.then(|| (program, words.collect()))
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
        if self.has_ended() {
            return;
        }
        // what ends us early ends the command as well; one that has just ended needs nothing
        match &mut self.process {
            Process::Runs(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Stopped(stopped) => {
                signal(self.pid, "-KILL");
                let _ = stopped.take().map(|stopped| stopped.started(false).map(|mut child| child.wait()));
            }
        }
    }
}
