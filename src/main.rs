//! kmdb: mdb for Linux kernel memory.
//!
//! This folder is the program itself, the *face*: command line, prompt, rendering. The engine and what it stands on
//! are packages of their own in the folders `engine/`, `debuginfo/` and `derive/` below; dump formats are in
//! `../targets`, kernel structures in `../walkers`, commands in `../dcmds`.

mod args;
mod batch;
mod face;
mod open;
mod registry;
mod render;
mod repl;

use args::Cli;
use batch::End;
use clap::Parser;
use engine::{Cx, Env};
use face::Program;
use std::{
    cell::Cell,
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // help and version are answers; anything else is a question that cannot be asked
            let status = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    let interactive =
        cli.execute.is_empty() && cli.file.is_empty() && io::stdin().is_terminal() && io::stdout().is_terminal();
    let program = Program {
        format: cli.output,
        color: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        paged: interactive && !cli.no_pager,
        failed: Cell::new(false),
    };
    match run(&cli, &program, interactive) {
        Ok(End::Quit(status)) => ExitCode::from(status),
        Ok(End::Interrupted) => ExitCode::from(130),
        Ok(End::Done) if program.failed.get() && !interactive => ExitCode::from(2),
        Ok(End::Done) => ExitCode::SUCCESS,
        Err(e) => {
            program.say(&format!("kmdb: {e:#}\n"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli, program: &Program, interactive: bool) -> anyhow::Result<End> {
    let session = open::session(cli, program)?;
    // the second Ctrl-C ends a program that does not come back from the first
    let flag = Arc::clone(&session.interrupt.0);
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 130, Arc::clone(&flag))?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, flag)?;
    let env = Env::default();
    if let Some((width, _)) = terminal_size::terminal_size() {
        env.width.set(usize::from(width.0));
    }
    let cx = Cx { session: &session, env: &env, face: program };
    if !cli.no_rc
        && let Some(end) = run_rc(&cx, program)?
    {
        return Ok(end);
    }
    for file in &cli.file {
        match batch::run_file(&cx, program, file).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))? {
            End::Done => {}
            end => return Ok(end),
        }
    }
    for line in &cli.execute {
        match batch::run_lines(&cx, program, std::iter::once(Ok(line.clone())))? {
            End::Done => {}
            end => return Ok(end),
        }
    }
    match (cli.execute.is_empty() && cli.file.is_empty(), interactive) {
        (true, true) => repl::run(&cx, program),
        (true, false) => Ok(batch::run_stdin(&cx, program)?),
        (false, _) => Ok(End::Done),
    }
}

/// Runs `~/.kmdbrc`, if there is one.
fn run_rc(cx: &Cx<'_>, program: &Program) -> anyhow::Result<Option<End>> {
    let Some(home) = std::env::var_os("HOME") else { return Ok(None) };
    let path = std::path::Path::new(&home).join(".kmdbrc");
    if !path.exists() {
        return Ok(None);
    }
    let end = batch::run_file(cx, program, &path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    Ok((end != End::Done).then_some(end))
}
