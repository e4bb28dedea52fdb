//! kmdb: mdb for Linux kernel memory.
//!
//! This folder is the program itself, the *face*: command line, prompt, rendering. The engine and what it stands on
//! are packages of their own in the folders `engine/`, `debuginfo/` and `derive/` below; dump formats are in
//! `../targets`, kernel structures in `../walkers`, commands in `../dcmds`.

mod args;
mod batch;
mod face;
mod fetch;
mod open;
mod registry;
mod render;
mod repl;

use args::Cli;
use batch::End;
use clap::Parser;
use engine::{Cx, Env, Interrupt, Session};
use face::Program;
use signal_hook::{consts::SIGINT, iterator::Signals, low_level};
use std::{
    cell::Cell,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
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
        findings: Cell::new(false),
        closed: Cell::new(false),
    };
    match run(&cli, &program, interactive) {
        Ok(End::Quit(status)) => ExitCode::from(status),
        Ok(End::Interrupted) => ExitCode::from(130),
        Ok(End::Done | End::Unread) if program.failed.get() && !interactive => ExitCode::from(2),
        Ok(End::Done | End::Unread) if program.findings.get() && !interactive => ExitCode::from(1),
        Ok(End::Done | End::Unread) => ExitCode::SUCCESS,
        Err(e) => {
            program.say(&format!("kmdb: {}\n", render::escape::layout(&e.to_string())));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli, program: &Program, interactive: bool) -> anyhow::Result<End> {
    let session = open::session(cli, program)?;
    catch_interrupts(session.interrupt.clone())?;
    let env = Env::default();
    let end = answer(cli, program, interactive, &session, &env);
    program.findings.set(env.findings.get() > 0);
    end
}

/// Answers what was asked on the command line, in files, or at the prompt.
fn answer(cli: &Cli, program: &Program, interactive: bool, session: &Session, env: &Env) -> anyhow::Result<End> {
    let cx = Cx { session, env, face: program };
    fit_terminal(&cx);
    if !cli.no_rc {
        let failed = program.failed.get();
        for path in rc_files() {
            match batch::run_file(&cx, program, &path) {
                Ok(End::Done) => {}
                Ok(end) => return Ok(end),
                Err(e) => program.say(&format!("kmdb: {e}\n")),
            }
        }
        // they are no part of what was asked
        program.failed.set(failed);
    }
    for file in &cli.file {
        match batch::run_file(&cx, program, file)? {
            End::Done => {}
            end => return Ok(end),
        }
    }
    for text in &cli.execute {
        match batch::run_lines(&cx, program, None, text.as_bytes())? {
            End::Done => {}
            end => return Ok(end),
        }
    }
    match (cli.execute.is_empty() && cli.file.is_empty(), interactive) {
        (true, true) => repl::run(&cx, program),
        (true, false) => Ok(batch::run_lines(&cx, program, None, io::stdin().lock())?),
        (false, _) => Ok(End::Done),
    }
}

/// The first Ctrl-C stops the command that runs; a second one, if the command does not come back, ends the program.
/// While a pager or a shell command has the terminal, it is the one to be stopped.
fn catch_interrupts(interrupt: Interrupt) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT])?;
    fetch::stop_with(interrupt.clone());
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if interrupt.is_set() && !render::pager::has_terminal() {
                low_level::exit(130);
            }
            interrupt.set();
        }
    });
    Ok(())
}

/// Tells formats that wrap how wide the terminal is.
fn fit_terminal(cx: &Cx<'_>) {
    if let Some((width, _)) = terminal_size::terminal_size() {
        cx.env.width.set(usize::from(width.0));
    }
}

/// The user's own files of commands: `$XDG_CONFIG_HOME/kmdb/kmdbrc`, then `~/.kmdbrc`.
fn rc_files() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| Some(home.as_ref()?.join(".config")));
    let files = [config.map(|dir| dir.join("kmdb/kmdbrc")), home.map(|home| home.join(".kmdbrc"))];
    files.into_iter().flatten().filter(|path| path.exists()).collect()
}
