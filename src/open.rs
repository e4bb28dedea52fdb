//! Opening: a dump, and what gives it meaning.

use crate::{args::Cli, face::Program, registry::REGISTRY};
use engine::{
    Session,
    open::{self, Sources},
    targets::{OpenOptions, Target},
};
use std::sync::Arc;

/// Opens the dump of the command line, and says on standard error what is missing.
pub fn session(cli: &Cli, program: &Program) -> anyhow::Result<Session> {
    let options = OpenOptions { ignore_vmcoreinfo: cli.ignore_vmcoreinfo, ..OpenOptions::default() };
    let target = Arc::new(Target::open(&cli.dump, &options)?);
    let sources = Sources {
        vmlinux: cli.vmlinux.clone(),
        roots: cli.debug_dir.clone(),
        force: cli.force,
        search: !cli.no_debuginfo,
    };
    let (session, warnings) = open::open(target, &sources, &REGISTRY);
    for warning in warnings {
        program.say(&format!("kmdb: {warning}\n"));
    }
    if cli.vmlinux.is_some() && session.dwarf.is_none() {
        // the answers may be right, but they are not what was asked for
        program.failed.set(true);
    }
    Ok(session)
}
