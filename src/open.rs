//! Opening: a dump, and what gives it meaning.

use crate::{args::Cli, face::Program, registry::REGISTRY};
use engine::{
    Session,
    debuginfo::Types,
    symbols::Symbols,
    targets::{OpenOptions, Target},
};
use std::sync::Arc;

/// Opens the dump of the command line.
pub fn session(cli: &Cli, _: &Program) -> anyhow::Result<Session> {
    let options = OpenOptions { ignore_vmcoreinfo: cli.ignore_vmcoreinfo, ..OpenOptions::default() };
    let target = Arc::new(Target::open(&cli.dump, &options)?);
    Ok(Session::new(target, Types::new(), Symbols::new(None), &REGISTRY))
}
