//! The prompt, as a person at a terminal meets it: editing, completion, Ctrl-C, the pager.

#![allow(clippy::unwrap_used)]

use rexpect::session::{Options, PtySession, spawn_with_options};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Runs for hours if it is let.
const LONG: &str = "0::array char 0t1000000000000 | ::count";

/// The prompt after an answer: the editor goes to the line's start first.
const PROMPT: &str = "\n\r> ";

struct Terminal {
    session: PtySession,
    home: tempfile::TempDir,
}

impl Terminal {
    /// A prompt on a terminal of 80 columns and 24 lines.
    fn open() -> Terminal {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "stty cols 80 rows 24; exec \"$KMDB\" --no-debuginfo corpus/k612-uaf/vmcore.zst"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("HOME", home.path()).env("TERM", "xterm");
        command.env("KMDB", env!("CARGO_BIN_EXE_kmdb")).env("NO_COLOR", "1");
        command.env("PAGER", "head -n 3; echo the pager was left");
        let options = Options::new().timeout_ms(Some(60_000)).strip_ansi_escape_codes(true);
        let mut terminal = Terminal { session: spawn_with_options(command, options).unwrap(), home };
        terminal.wait("> ");
        terminal
    }

    fn type_in(&mut self, text: &str) {
        self.session.send(text).unwrap();
        self.session.flush().unwrap();
    }

    /// Waits for `text`, and gives what came before it.
    fn wait(&mut self, text: &str) -> String {
        self.session.exp_string(text).unwrap()
    }

    /// Runs a command and gives what it showed.
    fn run(&mut self, command: &str) -> String {
        self.type_in(&format!("{command}\r"));
        self.wait(PROMPT)
    }

    fn leave(mut self, key: char) {
        self.session.send_control(key).unwrap();
        self.session.exp_eof().unwrap();
        let status = format!("{:?}", self.session.process().wait().unwrap());
        assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
    }
}

#[test]
fn commands_and_the_way_out() {
    let mut terminal = Terminal::open();
    assert!(terminal.run("init_task::print comm").contains("swapper/0"));
    // an error is no way out
    assert!(terminal.run("nosuch=X").contains("unknown symbol name"));
    let history = std::fs::read_to_string(terminal.home.path().join(".kmdb_history")).unwrap();
    assert!(history.contains("init_task::print comm"));
    // nor is Ctrl-C at the prompt
    terminal.type_in("half a comm");
    terminal.session.send_control('c').unwrap();
    terminal.wait("> ");
    assert!(terminal.run("2+3=X").contains(" 5 "));
    terminal.leave('d');
}

#[test]
fn names_are_completed() {
    let mut terminal = Terminal::open();
    for (typed, becomes) in [
        ("::msgb\t", "::msgbuf"),
        ("::walk kmalloc-cg-12\t", "kmalloc-cg-128"),
        ("init_ta\t", "init_task"),
        ("::print struct task_str\t", "task_struct"),
        ("::print struct dentry d_name.le\t", "d_name.len"),
        ("::walk dentry | ::print d_sb->s_blocksize_b\t", "d_sb->s_blocksize_bits"),
        ("::kmem_cache | ::sort -r in_u\t", "in_use"),
    ] {
        terminal.type_in(typed);
        terminal.wait(becomes);
        terminal.session.send_control('u').unwrap();
    }
    terminal.type_in("::wal\t\t");
    terminal.wait("walkers");
    terminal.session.send_control('u').unwrap();
    terminal.leave('d');
}

#[test]
fn a_command_may_have_several_lines() {
    let mut terminal = Terminal::open();
    terminal.type_in("::walk task |\r");
    terminal.type_in("::count\r");
    terminal.wait("COUNT");
    terminal.wait(PROMPT);
    terminal.leave('d');
}

#[test]
fn ctrl_c_stops_a_command_and_not_the_session() {
    let mut terminal = Terminal::open();
    for _ in 0..3 {
        terminal.type_in(&format!("{LONG}\r"));
        // the status line says that it runs, and how fast
        terminal.wait(" items, ");
        let started = Instant::now();
        terminal.session.send_control('c').unwrap();
        terminal.wait("interrupted");
        assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
        terminal.wait(PROMPT);
    }
    assert!(terminal.run("init_task::print comm").contains("swapper/0"));
    terminal.leave('d');
}

#[test]
fn the_first_rows_of_a_slow_command_are_shown() {
    let mut terminal = Terminal::open();
    // three objects at once, then none for hours
    terminal.type_in("0::array char 0t1000000000000 | ::grep '.%3==0'\r");
    terminal.wait("0x0\r\n0x1\r\n0x2\r\n");
    terminal.wait(" items, ");
    terminal.session.send_control('c').unwrap();
    terminal.wait("interrupted");
    terminal.wait(PROMPT);
    terminal.leave('d');
}

#[test]
fn long_answers_go_through_the_pager_and_short_ones_do_not() {
    let mut terminal = Terminal::open();
    assert!(!terminal.run("::walk task | ::head -5").contains("the pager"));
    // leaving the pager stops the walk, also one that never ends
    terminal.type_in("0::array char 0t1000000000000\r");
    let shown = terminal.wait("the pager was left");
    assert!(shown.contains("0x2") && !shown.contains("0x4"), "{shown}");
    terminal.wait(PROMPT);
    assert!(terminal.run("2+3=X").contains(" 5 "));
    terminal.leave('d');
}
