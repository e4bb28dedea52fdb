//! What must not stay behind in tracefs, whose settings do not go away with the process that made them: a shell waits for
//! this process's end, however that comes, and takes them back.
//!
//! It stands in a process group of its own, so that what ends a whole group leaves it, and holds nothing but the reading end of
//! a pipe whose other end is here: that end goes when the process goes.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// A shell that waits. Dropping this lets it go on, and waits until it is done.
pub(crate) struct Undo(Child);

impl Undo {
    /// Runs these commands when this process has ended, or when it says so. They must do no harm where all was taken back
    /// already.
    pub(crate) fn at_the_end(commands: &str) -> io::Result<Undo> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("read -r _; {commands}"));
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        shell.spawn().map(Undo)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shell_waits_for_the_end() {
        let file = std::env::temp_dir().join(format!("kmdb-undo-{}", std::process::id()));
        let undo = Undo::at_the_end(&format!("echo done > {}", file.display())).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!file.exists());
        drop(undo);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "done\n");
        std::fs::remove_file(file).unwrap();
    }
}
