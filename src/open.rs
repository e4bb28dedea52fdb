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
use std::sync::Arc;

/// Opens the dump of the command line, and says on standard error what is missing.
pub fn session(cli: &Cli, program: &Program) -> anyhow::Result<Session> {
    let options = OpenOptions { ignore_vmcoreinfo: cli.ignore_vmcoreinfo, ..OpenOptions::default() };
    let target = match &cli.dump {
        Some(dump) if !cli.live => Target::open(dump, &options)?,
        _ => Target::live(way(cli.live_source), &options)?,
    };
    let target = Arc::new(target);
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
    };
    let (session, warnings) = open::open(target, &sources, &REGISTRY);
    if session.is_live() {
        program.say("kmdb: the kernel runs on while it is read: an answer may mix two moments of it\n");
    }
    for warning in warnings {
        program.say(&format!("kmdb: {warning}\n"));
    }
    // without a named file the answers may be right, but they are not what was asked for
    if sources.vmlinux.is_some() && session.dwarf.is_none() {
        program.failed.set(true);
    }
    for why in sources.modules.iter().filter_map(|path| session.use_module_file(path).err()) {
        program.say(&format!("kmdb: {why}\n"));
        program.failed.set(true);
    }
    Ok(session)
}

fn way(way: Way) -> LiveSource {
    match way {
        Way::Auto => LiveSource::Auto,
        Way::Kcore => LiveSource::Kcore,
        Way::Bpf => LiveSource::Bpf,
    }
}
