//! Opening: a dump, and what gives it meaning.

use crate::{
    args::{Cli, Way},
    face::Program,
    registry::REGISTRY,
};
use engine::{
    Session,
    debuginfo::find::module_name,
    open::{self, Sources},
    targets::{LiveSource, OpenOptions, Target},
};
use std::{fs::File, io::Read, path::Path, sync::Arc};

/// Opens the dump of the command line, and says on standard error what is missing.
pub fn session(cli: &Cli, program: &Program) -> anyhow::Result<Session> {
    // `kmdb -k vmlinux`: the first file is no dump
    let named = cli.dump.iter().filter(|_| cli.live).chain(&cli.debug_files);
    // only modules' files are called `.ko…`
    let (modules, vmlinux): (Vec<_>, Vec<_>) = named.partition(|path| module_name(path).is_some());
    if let [_, other, ..] = vmlinux[..] {
        anyhow::bail!("{}: only one vmlinux can be given; debug files of modules are called NAME.ko…", other.display());
    }
    let sources = Sources {
        vmlinux: vmlinux.first().cloned().cloned(),
        modules: modules.into_iter().cloned().collect(),
        roots: cli.debug_dir.clone(),
        force: cli.force,
        search: !cli.no_debuginfo,
        progress: None,
    };
    let options = OpenOptions { ignore_vmcoreinfo: cli.ignore_vmcoreinfo, ..OpenOptions::default() };
    let opened = |target| open::open(Arc::new(target), &sources, &REGISTRY);
    let (session, warnings) = match &cli.dump {
        Some(dump) if !cli.live && is_kernel(dump) => {
            if let Some(other) = &sources.vmlinux {
                anyhow::bail!("{}: a kernel's file, and no dump: {} is one too many", dump.display(), other.display());
            }
            open::open_file(dump, &sources, &REGISTRY).map_err(anyhow::Error::msg)?
        }
        Some(dump) if !cli.live => opened(Target::open(dump, &options)?),
        _ => opened(Target::live(way(cli.live_source), &options)?),
    };
    if session.is_live() {
        program.say("kmdb: the kernel runs on while it is read: an answer may mix two moments of it\n");
    }
    for warning in warnings {
        program.say(&format!("kmdb: {warning}\n"));
    }
    // without a named file the answers may be right, but they are not what was asked for
    if sources.vmlinux.is_some() && session.files.is_empty() {
        program.failed.set(true);
    }
    for why in sources.modules.iter().filter_map(|path| session.use_module_file(path).err()) {
        program.say(&format!("kmdb: {why}\n"));
        program.failed.set(true);
    }
    Ok(session)
}

/// Whether a file is a kernel, as it was linked or as it is booted, and no dump of one.
fn is_kernel(path: &Path) -> bool {
    /// Compressed blocks of the largest usual size begin within this much.
    const HEAD: u64 = 1 << 20;
    let mut head = Vec::new();
    // what cannot be read is told when it is opened as a dump
    let read = File::open(path)
        .and_then(|file| if file.metadata()?.is_file() { file.take(HEAD).read_to_end(&mut head) } else { Ok(0) });
    read.is_ok() && engine::debuginfo::elf::is_kernel(&head)
}

fn way(way: Way) -> LiveSource {
    match way {
        Way::Auto => LiveSource::Auto,
        Way::Kcore => LiveSource::Kcore,
        Way::Bpf => LiveSource::Bpf,
    }
}
