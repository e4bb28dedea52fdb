//! Real dumps against what the guests said of themselves just before.
//!
//! Runs where the environment variable `KMDB_LAB` names a directory with `dumps/NAME/vmcore.elf` and
//! `dumps/NAME/truth/`; `KMDB_ONLY` picks dumps by a part of their name. Is skipped elsewhere.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod kmem_log;
mod log;
mod slab;
mod system;
mod vfs;

use engine::{
    Registry, Session,
    open::{self, Sources},
    targets::{OpenOptions, Target},
};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

static REGISTRY: Registry = Registry {
    dcmds: &[],
    walkers: walkers::WALKERS,
    dynamic: walkers::DYNAMIC,
    modules: walkers::module::load,
    sections: walkers::module::sections,
    crash_cpu: walkers::cpu::crashed,
    anchors: |_| Vec::new(),
    thread: walkers::cpu::thread,
    is_ram: walkers::resource::is_ram,
    examples: "",
    disassemble: |_, _| None,
};

/// A dump and its truth.
struct Dump {
    name: String,
    truth: PathBuf,
    session: Session,
}

impl Dump {
    /// A truth file's text, unpacked; `None` if the guest had no such file.
    fn truth(&self, file: &str) -> Option<String> {
        let path = self.truth.join(file);
        let bytes = std::fs::read(&path).ok()?;
        let mut out = Vec::new();
        if path.extension().is_some_and(|e| e == "gz") {
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out).unwrap();
        } else {
            out = bytes;
        }
        Some(String::from_utf8_lossy(&out).into_owned())
    }
}

/// Runs a check on every dump.
fn each_dump(check: impl Fn(&Dump)) {
    let Ok(lab) = std::env::var("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab directory");
        return;
    };
    let only = std::env::var("KMDB_ONLY").unwrap_or_default();
    let mut dirs: Vec<_> =
        std::fs::read_dir(Path::new(&lab).join("dumps")).unwrap().map(|d| d.unwrap().path()).collect();
    dirs.sort();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let (core, truth) = (dir.join("vmcore.elf"), dir.join("truth"));
        if !name.contains(&only) || !core.exists() || !truth.exists() {
            continue;
        }
        let target = Arc::new(Target::open(&core, &OpenOptions::default()).unwrap());
        let mut opened = open::open(Arc::clone(&target), &Sources::default(), &REGISTRY);
        // a kernel whose own symbols are functions only
        if opened.0.kernel_symbol("init_task").is_none() {
            let kernel = std::fs::read_to_string(dir.join("kernel")).unwrap();
            let vmlinux = Some(Path::new(&lab).join("kern").join(kernel.trim()).join("vmlinux"));
            opened = open::open(target, &Sources { vmlinux, ..Sources::default() }, &REGISTRY);
        }
        let (session, warnings) = opened;
        assert_eq!(warnings, Vec::<String>::new(), "{name}");
        check(&Dump { name, truth, session });
    }
}
