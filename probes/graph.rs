//! What a function of the kernel calls, as ftrace's function graph tracer tells.
//!
//! No BPF and no perf event gives that. A tracer is switched on in tracefs, which does not go away with the process that
//! did it. Instances of tracefs cannot be told at which functions to begin (kernels to 7.2 have `set_graph_function` in the
//! top folder alone), so it is the tracer of all, if nobody uses it. [`Graph`] makes an instance named for the process, which
//! says whose it is, and takes both back; if the process is killed, a shell does that ([`Undo`]), or else the next one that
//! begins.

use crate::{Error, Result, tracefs, undo::Undo};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Instances of ours are called so, with the number of the process behind.
const NAME: &str = "kmdb-";

/// A tracer that is switched on. Dropping it switches it off.
pub struct Graph {
    /// the instance that says whose the tracer is
    mark: PathBuf,
    /// where the tracer is
    at: PathBuf,
    pipe: Option<File>,
    unread: Vec<u8>,
    /// who takes it back if we cannot
    undo: Option<Undo>,
}

/// What is traced.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// functions; what they call is shown
    pub functions: Vec<String>,
    /// how deep; 0 is no limit
    pub depth: u32,
    /// only of this process
    pub pid: Option<i32>,
}

impl Graph {
    /// Switches it on.
    pub fn start(wanted: &Wanted) -> Result<Graph> {
        let root = tracefs::root()?;
        clean(&root);
        let text = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
        if !text("available_tracers").split_whitespace().any(|tracer| tracer == "function_graph") {
            return Err(Error::Wrong("this kernel has no function graph tracer (CONFIG_FUNCTION_GRAPH_TRACER)".into()));
        }
        let now = text("current_tracer");
        if now.trim() != "nop" {
            let text = format!("the tracer `{}` is switched on in tracefs: somebody else uses it", now.trim());
            return Err(Error::Wrong(text));
        }
        let mark = root.join("instances").join(format!("{NAME}{}", std::process::id()));
        make(&mark)?;
        let undo = Undo::at_the_end(&commands(&root, &mark)).ok();
        let mut graph = Graph { mark, at: root, pipe: None, unread: Vec::new(), undo };
        graph.set("tracing_on", "0")?;
        graph.set("set_graph_function", &wanted.functions.join("\n"))?;
        graph.set("max_graph_depth", &wanted.depth.to_string())?;
        if let Some(pid) = wanted.pid {
            graph.set("set_ftrace_pid", &pid.to_string())?;
        }
        graph.set("current_tracer", "function_graph")?;
        let pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(graph.at.join("trace_pipe"));
        graph.pipe = Some(pipe.map_err(Error::refused("trace_pipe"))?);
        graph.set("tracing_on", "1")?;
        Ok(graph)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let what = format!("{file}: {}", value.replace('\n', " "));
        fs::write(self.at.join(file), value).map_err(Error::refused(what))
    }

    /// The lines that have come.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(pipe) = &mut self.pipe else { return lines };
        let mut buffer = [0; 1 << 16];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            self.unread.extend(buffer.get(..n).unwrap_or_default());
            while let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            // so that whoever waits for an end is asked
            if lines.len() > 1 << 14 {
                break;
            }
        }
        lines
    }

    /// Stops it; what is in the ring can still be read.
    pub fn stop(&self) {
        let _ = self.set("tracing_on", "0");
    }

    /// Events that found no room in the ring.
    pub fn lost(&self) -> u64 {
        let cpus = fs::read_dir(self.at.join("per_cpu")).into_iter().flatten().flatten();
        cpus.filter_map(|cpu| {
            let stats = fs::read_to_string(cpu.path().join("stats")).ok()?;
            let lost = stats.lines().find_map(|line| line.strip_prefix("overrun:"))?;
            lost.trim().parse::<u64>().ok()
        })
        .sum()
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.pipe = None;
        reset(&self.at);
        let _ = fs::remove_dir(&self.mark);
        // there is nothing left for it to do
        self.undo = None;
    }
}

/// A tracer as it is when nobody has touched it: files, and what is written there.
const UNTOUCHED: &[(&str, &str)] = &[
    ("tracing_on", "0"),
    ("current_tracer", "nop"),
    ("set_graph_function", ""),
    ("set_ftrace_pid", ""),
    ("max_graph_depth", "0"),
    ("trace", ""),
    ("tracing_on", "1"),
];

/// Puts a tracer back to what it was. What cannot be put back is none of ours any more.
fn reset(at: &Path) {
    for (file, value) in UNTOUCHED {
        let _ = fs::write(at.join(file), value);
    }
}

/// The same by a shell, if the mark is still there.
fn commands(at: &Path, mark: &Path) -> String {
    let write = |(file, value): &(&str, &str)| format!("echo '{value}' > '{}'; ", at.join(file).display());
    let mark = mark.display();
    format!("[ -d '{mark}' ] || exit; {}rmdir '{mark}'", UNTOUCHED.iter().map(write).collect::<String>())
}

fn make(mark: &Path) -> Result<()> {
    match fs::create_dir(mark) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::refused("an instance of tracefs needs root")(e))
        }
        _ => Ok(()),
    }
}

/// Takes away what processes left that are no more.
fn clean(root: &Path) {
    for entry in fs::read_dir(root.join("instances")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(NAME) else { continue };
        if pid.parse::<u32>().is_err() || Path::new("/proc").join(pid).exists() {
            continue;
        }
        reset(root);
        let _ = fs::remove_dir(entry.path());
    }
}
