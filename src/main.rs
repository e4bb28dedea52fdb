//! kmdb: mdb for Linux kernel memory.
//!
//! This folder is the program itself, the *face*: command line, prompt, rendering. The engine and what it stands on
//! are packages of their own in the folders `engine/`, `debuginfo/` and `derive/` below; dump formats are in
//! `../targets`, kernel structures in `../walkers`, commands in `../dcmds`.

mod args;
mod batch;
mod face;
mod fetch;
mod foreign;
mod generate;
mod log;
mod open;
mod registry;
mod render;
mod repl;
mod triage;

use args::Cli;
use batch::End;
use clap::Parser;
use engine::{Cx, Env, Interrupt, Session};
use face::Program;
use signal_hook::{consts::SIGINT, iterator::Signals, low_level};
use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
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
    if let Some(what) = cli.generate {
        let written = generate::document(what).and_then(|text| render::pager::stdout().write_all(&text));
        return if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let terminal = io::stdout().is_terminal() && (io::stdin().is_terminal() || open::is_stdin(&cli));
    let asked = !cli.execute.is_empty() || !cli.file.is_empty() || cli.triage || cli.triage_html.is_some();
    let interactive = !asked && terminal;
    let program = Program {
        format: cli.output,
        color: io::stdout().is_terminal() && !render::is_dumb() && !no_color(),
        paged: interactive && !cli.no_pager,
        echo: cli.echo,
        failed: Cell::new(false),
        findings: Cell::new(false),
        closed: Cell::new(false),
        trouble: RefCell::default(),
        log: log::Log::default(),
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
    if cli.triage {
        return triage::run(cli, program).map(|()| End::Done);
    }
    let session = open::session(cli, program)?;
    catch_interrupts(session.interrupt.clone())?;
    let env = Env::default();
    dcmds::tools::load(&env);
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
    if let Some(path) = &cli.triage_html {
        let command = format!("::triage -o '{}'", path.to_string_lossy().replace('\'', "\\'"));
        match batch::run_lines(&cx, program, None, command.as_bytes())? {
            End::Done => {}
            end => return Ok(end),
        }
    }
    match (cli.execute.is_empty() && cli.file.is_empty() && cli.triage_html.is_none(), interactive) {
        (true, true) => repl::run(&cx, program, cli.dump.as_deref().filter(|_| !cli.live)),
        (true, false) if open::is_stdin(cli) => {
            anyhow::bail!("the dump is standard input: give commands with -e, or in a file with -f")
        }
        (true, false) => Ok(batch::run_lines(&cx, program, None, io::stdin().lock())?),
        (false, _) => Ok(End::Done),
    }
}

/// The first Ctrl-C stops the command that runs. If the command does not come back, another one a second later ends the
/// program; fingers that press it twice are not meant. While a pager or a shell command has the terminal, it is the one to
/// be stopped.
fn catch_interrupts(interrupt: Interrupt) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut signals = Signals::new([SIGINT])?;
    fetch::stop_with(interrupt.clone());
    std::thread::spawn(move || {
        let mut first = Instant::now();
        for _ in signals.forever() {
            if !interrupt.is_set() {
                first = Instant::now();
            } else if first.elapsed() > PATIENCE && !render::guest::has_terminal() {
                low_level::exit(130);
            }
            interrupt.set();
        }
    });
    Ok(())
}

/// <https://no-color.org>
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

/// Tells formats that wrap how wide the terminal is.
fn fit_terminal(cx: &Cx<'_>) {
    if let Some((width, _)) = render::pager::screen() {
        cx.env.width.set(width);
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
