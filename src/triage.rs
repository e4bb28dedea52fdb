//! Many dumps at once, `kmdb --triage DUMP…`: a row for each, and an exit status for scripts.

use crate::{
    args::Cli,
    face::Program,
    open,
    render::{self, escape},
};
use engine::{Cx, Env, Item, Out};
use std::{io::Write, path::PathBuf};

/// Shows what happened in each dump of the command line. One that cannot be opened, or says nothing, is told and makes the
/// exit status 2; one that crashed makes it 1.
pub fn run(cli: &Cli, program: &Program) -> anyhow::Result<()> {
    let mut rows: Vec<Item> = Vec::new();
    let mut types = None;
    for dump in cli.dump.iter().chain(&cli.debug_files) {
        match one(cli, program, dump.clone(), &mut rows) {
            Ok(session) => types = Some(session),
            Err(e) => {
                program.say(&format!("kmdb: {}: {}\n", dump.display(), escape::layout(&e.to_string())));
                program.failed.set(true);
            }
        }
    }
    let Some(session) = types else { return Ok(()) };
    let text = render::render_all(cli.output, &session.types, rows)?;
    match render::pager::stdout().write_all(&text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

fn one(cli: &Cli, program: &Program, dump: PathBuf, rows: &mut Vec<Item>) -> anyhow::Result<engine::Session> {
    let alone = Cli { dump: Some(dump), debug_files: Vec::new(), ..cli.clone() };
    let session = open::session(&alone, program)?;
    let env = Env::default();
    dcmds::tools::load(&env);
    let cx = Cx { session: &session, env: &env, face: program };
    let quick = if cli.quick { " -q" } else { "" };
    engine::pipeline::run_into(&cx, &format!("::triage -1{quick}"), &mut Out::new(&cx, rows, false))?;
    if env.findings.get() > 0 {
        program.findings.set(true);
    }
    Ok(session)
}
