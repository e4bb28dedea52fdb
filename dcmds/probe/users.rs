//! Names for addresses in processes: what is mapped there, and the symbols of the file.
//!
//! What a process has mapped is remembered when it is first met, so that it has names after it has ended too.

use probes::elf::{self, Binary, Mapped};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Functions of a file, by where they begin in it.
type Functions = Vec<(u64, String)>;

/// Processes and files that were seen.
#[derive(Default)]
pub struct Users {
    processes: HashMap<u32, Vec<Mapped>>,
    files: HashMap<PathBuf, Rc<Functions>>,
    /// what just-in-time compilers wrote down, by process
    jitted: HashMap<u32, Rc<Functions>>,
}

impl Users {
    /// Remembers what a process has mapped.
    pub fn meet(&mut self, pid: u32) {
        self.processes.entry(pid).or_insert_with(|| elf::mapped(pid as i32).unwrap_or_default());
    }

    /// The name of an address in a process: ``libc.so.6`malloc+0x1c``; the address itself if nothing is known.
    pub fn name(&mut self, pid: u32, pc: u64) -> String {
        self.meet(pid);
        let mut mapped = self.mapping(pid, pc);
        if mapped.is_none() {
            // it may have mapped more since
            if let Ok(now) = elf::mapped(pid as i32) {
                self.processes.insert(pid, now);
                mapped = self.mapping(pid, pc);
            }
        }
        let Some(mapped) = mapped else {
            return match find(&self.jit(pid), pc) {
                Some((name, _)) => name.to_owned(),
                None => format!("{pc:#x}"),
            };
        };
        let file = mapped.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = pc - mapped.range.start + mapped.offset;
        let functions = self.functions(pid, &mapped.file);
        match find(&functions, at) {
            Some((name, offset)) => format!("{file}`{name}+{offset:#x}"),
            None => format!("{file}`{at:#x}"),
        }
    }

    fn mapping(&self, pid: u32, pc: u64) -> Option<Mapped> {
        self.processes.get(&pid)?.iter().find(|m| m.range.contains(&pc)).cloned()
    }

    fn functions(&mut self, pid: u32, file: &Path) -> Rc<Functions> {
        if let Some(known) = self.files.get(file) {
            return known.clone();
        }
        // as the process sees it, which may be in a container; or as we do, once it has ended
        let inside = PathBuf::from(format!("/proc/{pid}/root")).join(file.strip_prefix("/").unwrap_or(file));
        let binary = Binary::open(&inside).or_else(|_| Binary::open(file));
        let functions = Rc::new(binary.and_then(|b| b.all_functions()).unwrap_or_default());
        self.files.insert(file.to_owned(), functions.clone());
        functions
    }

    /// `/tmp/perf-PID.map`: start, size and name of what a compiler made as the program ran.
    fn jit(&mut self, pid: u32) -> Rc<Functions> {
        if let Some(known) = self.jitted.get(&pid) {
            return known.clone();
        }
        let path = format!("/proc/{pid}/root/tmp/perf-{pid}.map");
        let text = std::fs::read(path).or_else(|_| std::fs::read(format!("/tmp/perf-{pid}.map"))).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let start = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((start, words.nth(1)?.to_owned()))
        };
        // addresses are used again: what was written last holds
        let lines = String::from_utf8_lossy(&text);
        let latest: std::collections::BTreeMap<u64, String> = lines.lines().filter_map(entry).collect();
        let functions = Rc::new(latest.into_iter().collect::<Functions>());
        self.jitted.insert(pid, functions.clone());
        functions
    }
}

/// The function at a place, and how far in it that is.
fn find(functions: &Functions, at: u64) -> Option<(&str, u64)> {
    let next = functions.partition_point(|(start, _)| *start <= at);
    let (start, name) = functions.get(next.checked_sub(1)?)?;
    Some((name, at - start))
}
