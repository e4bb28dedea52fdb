//! What a function of the kernel calls, as ftrace's function graph tracer tells.
//!
//! No BPF and no perf event gives that. A tracer is switched on in tracefs, which does not go away with the process that
//! did it: [`Graph`] has an instance of tracefs of its own, named for the process, and takes it away; what a process left
//! that was killed is taken away when the next one begins. Kernels before Linux 6.12 have that tracer only for all; there the
//! instance says that it was switched on there.

use crate::{Error, Result, tracefs};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Instances of ours are called so, with the number of the process behind.
const NAME: &str = "kmdb-";
/// An instance with this in its name stands for the tracer of all.
const FOR_ALL: &str = "-all";

/// A tracer that is switched on. Dropping it switches it off.
pub struct Graph {
    /// the instance
    own: PathBuf,
    /// where the tracer is
    at: PathBuf,
    pipe: Option<File>,
    unread: Vec<u8>,
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
        let instances = root.join("instances");
        clean(&root);
        let tracers = fs::read_to_string(root.join("available_tracers")).unwrap_or_default();
        if !tracers.split_whitespace().any(|tracer| tracer == "function_graph") {
            return Err(Error::Wrong("this kernel has no function graph tracer (CONFIG_FUNCTION_GRAPH_TRACER)".into()));
        }
        let own = instances.join(format!("{NAME}{}", std::process::id()));
        make(&own)?;
        let mut graph = Graph { at: own.clone(), own, pipe: None, unread: Vec::new() };
        if graph.set("current_tracer", "function_graph").is_err() {
            graph.switch_all(&root, &instances)?;
        }
        graph.set("tracing_on", "0")?;
        graph.set("set_graph_function", &wanted.functions.join("\n"))?;
        // older kernels have no file for it in an instance
        let depth = graph.set("max_graph_depth", &wanted.depth.to_string());
        if wanted.depth > 0 && depth.is_err() {
            fs::write(root.join("max_graph_depth"), wanted.depth.to_string())
                .map_err(Error::refused("max_graph_depth"))?;
        }
        if let Some(pid) = wanted.pid {
            graph.set("set_ftrace_pid", &pid.to_string())?;
        }
        graph.set("current_tracer", "function_graph")?;
        let pipe = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(graph.at.join("trace_pipe"));
        graph.pipe = Some(pipe.map_err(Error::refused("trace_pipe"))?);
        graph.set("tracing_on", "1")?;
        Ok(graph)
    }

    /// Takes the tracer of all instead, unless somebody uses it.
    fn switch_all(&mut self, root: &Path, instances: &Path) -> Result<()> {
        let now = fs::read_to_string(root.join("current_tracer")).unwrap_or_default();
        if now.trim() != "nop" {
            let text = format!("the tracer `{}` is switched on in tracefs: somebody else uses it", now.trim());
            return Err(Error::Wrong(text));
        }
        let own = instances.join(format!("{NAME}{}{FOR_ALL}", std::process::id()));
        make(&own)?;
        // the first has told that it cannot be used
        let _ = fs::remove_dir(&self.own);
        (self.own, self.at) = (own, root.to_owned());
        Ok(())
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
        if self.at != self.own {
            let _ = fs::write(self.at.join("tracing_on"), "1");
        }
        let _ = fs::remove_dir(&self.own);
    }
}

/// Puts a tracer back to what it was. What cannot be put back is none of ours any more.
fn reset(at: &Path) {
    for (file, value) in [
        ("tracing_on", "0"),
        ("current_tracer", "nop"),
        ("set_graph_function", ""),
        ("set_ftrace_pid", ""),
        ("max_graph_depth", "0"),
        ("trace", ""),
    ] {
        let _ = fs::write(at.join(file), value);
    }
}

fn make(own: &Path) -> Result<()> {
    match fs::create_dir(own) {
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
        let Some(number) = name.strip_prefix(NAME) else { continue };
        let pid = number.trim_end_matches(FOR_ALL);
        if pid.parse::<u32>().is_err() || Path::new("/proc").join(pid).exists() {
            continue;
        }
        if number.ends_with(FOR_ALL) {
            reset(root);
            let _ = fs::write(root.join("tracing_on"), "1");
        }
        reset(&entry.path());
        let _ = fs::remove_dir(entry.path());
    }
}
