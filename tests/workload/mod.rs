//! Programs that tests probe: compiled from C or C++ where there is a compiler, and run under kmdb.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A program in a directory of its own.
pub struct Compiled {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Compiled {
    /// Compiles a source; `None`, and a word about it, where there is no such compiler.
    pub fn new(compiler: &str, name: &str, source: &str, flags: &[&str]) -> Option<Compiled> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, source).unwrap();
        let path = file.with_extension("");
        let Ok(output) = Command::new(compiler).args(flags).arg("-o").arg(&path).arg(&file).output() else {
            eprintln!("skipped: there is no {compiler}");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Compiled { dir, path })
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies; goes with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Whether the text says that this machine has no such probes for us; that is shown.
pub fn skipped(said: &str) -> bool {
    const WHY: &[&str] =
        &["not permitted", "needs root", "cannot be opened", "CAP_", "without kprobes", "tracefs is not"];
    let skip = WHY.iter().any(|why| said.contains(why));
    if skip {
        eprintln!("skipped: {}", said.trim());
    }
    skip
}

/// The rows of a line on the running kernel, and what was said beside them; `None` if this machine does not let us.
pub fn kmdb(line: &str) -> Option<(Vec<Value>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_kmdb")).args(["-k", "-o", "json", "-e", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.code() == Some(2) && skipped(&said) {
        return None;
    }
    assert!(matches!(output.status.code(), Some(0 | 1)), "{line}: {said}");
    let rows = text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap());
    Some((rows.collect(), said))
}
