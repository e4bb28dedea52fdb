//! The prompt, as a person at a terminal meets it: editing, completion, hints, colours, Ctrl-C, the pager.

#![allow(clippy::unwrap_used)]

use rexpect::session::{Options, PtySession, spawn_with_options};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Runs for hours if it is let.
const LONG: &str = "0::array char 0t1000000000000 | ::count";
/// So long that no screen holds it.
const ENDLESS: &str = "0::array char 0t1000000000000";
/// The pager's question.
const MORE: &str = ">> More [<space>, <cr>, q, n, c, a] ?";

/// The prompt after an answer: the editor goes to the line's start first.
const PROMPT: &str = "\n\r> ";
/// The prompt where the pager's question was.
const AFTER_MORE: &str = "\r> ";

const CTRL_A: char = 'a';

/// How a terminal is set up.
struct Setup {
    columns: u16,
    lines: u16,
    term: &'static str,
    pager: &'static str,
    color: bool,
    /// escape sequences are kept, to be looked at
    raw: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { columns: 80, lines: 24, term: "xterm", pager: "", color: false, raw: false }
    }
}

struct Terminal {
    session: PtySession,
    home: tempfile::TempDir,
}

impl Terminal {
    /// A prompt on a terminal of 80 columns and 24 lines.
    fn open() -> Terminal {
        Terminal::with(&Setup::default())
    }

    fn with(setup: &Setup) -> Terminal {
        Terminal::at_home(setup, tempfile::tempdir().unwrap(), "corpus/k612-uaf/vmcore.zst")
    }

    fn at_home(setup: &Setup, home: tempfile::TempDir, dump: &str) -> Terminal {
        let mut command = Command::new("sh");
        let size = format!("stty cols {} rows {}", setup.columns, setup.lines);
        command.args(["-c", &format!("{size}; tty >\"$HOME/tty\"; exec \"$KMDB\" --no-debuginfo \"$DUMP\"")]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("HOME", home.path()).env("TERM", setup.term);
        command.env("KMDB", env!("CARGO_BIN_EXE_kmdb")).env("DUMP", dump).env("PAGER", setup.pager);
        command.env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME").env("TZ", "UTC");
        command.env("NO_COLOR", if setup.color { "" } else { "1" });
        let options = Options::new().timeout_ms(Some(120_000)).strip_ansi_escape_codes(!setup.raw);
        let mut terminal = Terminal { session: spawn_with_options(command, options).unwrap(), home };
        terminal.wait("> ");
        terminal
    }

    fn type_in(&mut self, text: &str) {
        self.session.send(text).unwrap();
        self.session.flush().unwrap();
    }

    fn control(&mut self, key: char) {
        self.session.send_control(key).unwrap();
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

    fn resize(&mut self, columns: u16, lines: u16) {
        let tty = std::fs::read_to_string(self.home.path().join("tty")).unwrap();
        let size = ["cols".to_owned(), columns.to_string(), "rows".to_owned(), lines.to_string()];
        let status = Command::new("stty").args(["-F", tty.trim()]).args(size).status().unwrap();
        assert!(status.success());
    }

    fn leave(mut self, key: char) -> tempfile::TempDir {
        self.control(key);
        self.session.exp_eof().unwrap();
        let status = format!("{:?}", self.session.process().wait().unwrap());
        assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
        self.home
    }
}

/// The only file of lines in a home.
fn history(home: &Path) -> String {
    let mut files = std::fs::read_dir(home.join(".local/state/kmdb/history")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn commands_and_the_way_out() {
    let mut terminal = Terminal::open();
    assert!(terminal.run("init_task::print comm").contains("swapper/0"));
    // an error is no way out
    assert!(terminal.run("nosuch=X").contains("unknown symbol name"));
    // nor is Ctrl-C at the prompt
    terminal.type_in("half a comm");
    terminal.control('c');
    terminal.wait("> ");
    assert!(terminal.run("2+3=X").contains(" 5 "));
    terminal.leave('d');
}

#[test]
fn other_debuggers_words_work_or_point_the_way() {
    let mut terminal = Terminal::open();
    for (typed, says) in [
        ("ps", "crash's `ps` is `::ps`"),
        ("ps -m", "`::ps`"),
        ("log", "`::msgbuf`"),
        ("struct task_struct", "`ADDR::print struct task_struct`"),
        ("p jiffies", "`jiffies::print`"),
        ("bt", "::findstack"),
        ("kmem -i", "crash's `kmem -i` is"),
        ("foreach bt", "`::stacks`"),
        ("?", "A command is a pipeline"),
        ("help ps", "SYNOPSIS"),
    ] {
        terminal.type_in(&format!("{typed}\r"));
        terminal.wait(says);
        // long help waits in the pager
        if typed.starts_with(['?', 'h']) {
            terminal.wait(MORE);
            terminal.type_in("q");
            terminal.wait(AFTER_MORE);
        } else {
            terminal.wait(PROMPT);
        }
    }
    terminal.type_in("exit\r");
    terminal.session.exp_eof().unwrap();
}

#[test]
fn names_are_completed() {
    let mut terminal = Terminal::open();
    terminal.run("::macro nearby 'what is near' '.,8/X'");
    terminal.run("1>counter_of_mine");
    std::fs::write(terminal.home.path().join("triage.kmdb"), "1=X\n").unwrap();
    let file = format!("$<{}/tria", terminal.home.path().display());
    for (typed, becomes) in [
        ("::msgb\t", "::msgbuf"),
        ("::near\t", "::nearby"),
        ("::walk kmalloc-cg-12\t", "kmalloc-cg-128"),
        ("::kmem_cache -n kmalloc-cg-12\t", "kmalloc-cg-128"),
        ("init_ta\t", "init_task"),
        ("::print struct task_str\t", "task_struct"),
        ("::sizeof task_str\t", "task_struct"),
        ("::print struct dentry d_name.le\t", "d_name.len"),
        ("init_task::print struct task_struct se.avg.load_a\t", "load_avg"),
        ("::walk dentry | ::print d_sb->s_blocksize_b\t", "d_sb->s_blocksize_bits"),
        ("::ps | ::print mm->mmap_b\t", "mmap_base"),
        ("::walk task | ::print mm | ::print mmap_b\t", "mmap_base"),
        ("::walk task | ::head | ::where mm->total_v\t", "total_vm"),
        ("::kmem_cache | ::sort -r in_u\t", "in_use"),
        ("<counter_of\t", "<counter_of_mine"),
        ("labmod`lab_swe\t", "labmod`lab_sweep"),
        (file.as_str(), ""),
        ("\t", "triage.kmdb"),
    ] {
        terminal.type_in(typed);
        if becomes.is_empty() {
            continue;
        }
        terminal.wait(becomes);
        terminal.control('u');
    }
    terminal.type_in("::walk\t\t");
    terminal.wait("walkers");
    terminal.control('u');
    terminal.leave('d');
}

#[test]
fn hints_say_what_a_command_still_takes() {
    let setup = Setup { color: true, ..Setup::default() };
    let mut terminal = Terminal::with(&setup);
    for (typed, hint) in [
        ("::walk ", "NAME [[TYPE [MEMBER] | COUNT] [VARIABLE]]"),
        ("::kmem_cache -n ", "CACHE"),
        ("::print struct task_struct ", "MEMBER"),
        ("jiffies/X", "hex"),
        ("ps", "::ps"),
    ] {
        terminal.type_in(typed);
        terminal.wait(hint);
        // it is no text: nothing of it is taken over
        terminal.control('e');
        terminal.control('u');
    }
    terminal.leave('d');
}

#[test]
fn unknown_names_are_red_before_they_are_asked_for() {
    let setup = Setup { color: true, raw: true, ..Setup::default() };
    let mut terminal = Terminal::with(&setup);
    for (typed, red) in [
        ("::nosuch", "\x1b[31m::nosuch\x1b[0m"),
        ("::walk nosuch", "\x1b[31mnosuch\x1b[0m"),
        ("nosuch/X", "\x1b[31mnosuch\x1b[0m"),
        ("::ps -Z", "\x1b[31m-Z\x1b[0m"),
        ("::print struct nosuch", "\x1b[31mnosuch\x1b[0m"),
        ("::print struct dentry d_nosuch", "\x1b[31md_nosuch\x1b[0m"),
        ("<nosuch=X", "\x1b[31m<nosuch\x1b[0m"),
        ("::ps", "\x1b[1m::ps\x1b[0m"),
    ] {
        terminal.type_in(typed);
        terminal.wait(red);
        terminal.control('u');
    }
    terminal.leave('d');
}

#[test]
fn each_dump_has_its_history_and_it_is_searched() {
    let mut terminal = Terminal::open();
    terminal.run("init_task::print comm");
    terminal.run("0t17=X");
    let home = terminal.leave('d');
    assert!(history(home.path()).contains("init_task::print comm"));
    // another session with the same dump
    let mut terminal = Terminal::at_home(&Setup::default(), home, "corpus/k612-uaf/vmcore.zst");
    terminal.control('r');
    terminal.type_in("print");
    terminal.wait("init_task::print comm");
    terminal.type_in("\r");
    terminal.wait("swapper/0");
    terminal.wait(PROMPT);
    // up twice: the one before
    terminal.type_in("\x1b[A\x1b[A\r");
    terminal.wait(" 11 ");
    terminal.wait(PROMPT);
    let home = terminal.leave('d');
    // a session with another
    let mut terminal = Terminal::at_home(&Setup::default(), home, "corpus/k612-plain/vmcore.zst");
    terminal.type_in("\x1b[A0t18=X\r");
    terminal.wait(" 12 ");
    terminal.wait(PROMPT);
    terminal.leave('d');
}

#[test]
fn a_command_may_have_several_lines() {
    let mut terminal = Terminal::open();
    terminal.type_in("::walk task |\r");
    terminal.type_in("::count\r");
    terminal.wait("COUNT");
    terminal.wait(PROMPT);
    // an open quote or parenthesis goes on, too
    terminal.type_in("::echo 'open\r");
    terminal.type_in("closed'\r");
    terminal.wait("open\r\nclosed");
    terminal.wait(PROMPT);
    terminal.type_in("(2+\r3)=X\r");
    terminal.wait(" 5 ");
    terminal.wait(PROMPT);
    terminal.leave('d');
}

#[test]
fn many_pasted_lines_are_run_one_by_one() {
    let lines = "0t101=X\nnosuch=X\n0t102=X\n::walk task |\n::count\n0t103=X";
    // with bracketed paste they arrive as one text
    let mut terminal = Terminal::open();
    terminal.type_in(&format!("\x1b[200~{lines}\x1b[201~"));
    terminal.wait("0t103=X");
    terminal.type_in("\r");
    for shown in [" 65 ", "unknown symbol name", " 66 ", "COUNT", " 67 "] {
        terminal.wait(shown);
    }
    terminal.wait(PROMPT);
    // without, as if they were typed
    terminal.type_in(&format!("{}\r", lines.replace('\n', "\r")));
    for shown in [" 65 ", "unknown symbol name", " 66 ", "COUNT", " 67 "] {
        terminal.wait(shown);
    }
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
        terminal.control('c');
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
    terminal.control('c');
    terminal.wait("interrupted");
    terminal.wait(PROMPT);
    terminal.leave('d');
}

#[test]
fn the_pager_has_mdbs_keys() {
    let mut terminal = Terminal::open();
    assert!(!terminal.run("::walk task | ::head -5").contains("More"));
    // a screen, a line, a line, a screen
    terminal.type_in(&format!("{ENDLESS}\r"));
    assert!(terminal.wait(MORE).contains("0x16\r\n"));
    for (key, last) in [("\r", "0x17"), ("n", "0x18"), (" ", "0x2f")] {
        terminal.type_in(key);
        let shown = terminal.wait(MORE);
        assert!(shown.trim_end().ends_with(last), "{key:?}: {shown}");
    }
    // another key does nothing; leaving the pager stops a walk that never ends
    terminal.type_in("xq");
    terminal.wait(AFTER_MORE);
    // the next command of the line runs, but not after `a`
    terminal.type_in(&format!("{ENDLESS}; 0t100=X\r"));
    terminal.wait(MORE);
    terminal.type_in("q");
    terminal.wait(" 64 ");
    terminal.wait(PROMPT);
    terminal.type_in(&format!("{ENDLESS}; 0t100=X\r"));
    terminal.wait(MORE);
    terminal.type_in("a");
    assert!(!terminal.wait(AFTER_MORE).contains(" 64 "));
    // Ctrl-C is `q`
    terminal.type_in(&format!("{ENDLESS}\r"));
    terminal.wait(MORE);
    terminal.control('c');
    terminal.wait(AFTER_MORE);
    // `c` asks no more
    terminal.type_in("0::array char 0t1000\r");
    terminal.wait(MORE);
    terminal.type_in("c");
    assert!(terminal.wait(PROMPT).contains("0x3e7"));
    assert!(terminal.run("2+3=X").contains(" 5 "));
    terminal.leave('d');
}

#[test]
fn the_pager_sees_that_the_window_was_resized() {
    let mut terminal = Terminal::open();
    terminal.type_in(&format!("{ENDLESS}\r"));
    assert!(terminal.wait(MORE).contains("0x16\r\n"));
    terminal.resize(80, 10);
    terminal.type_in(" ");
    let shown = terminal.wait(MORE);
    assert!(shown.trim_end().ends_with("0x1f"), "{shown}");
    terminal.type_in("q");
    terminal.wait(AFTER_MORE);
    terminal.leave('d');
}

#[test]
fn the_users_own_pager_is_used_for_long_answers() {
    let setup = Setup { pager: "head -n 3; echo the pager was left", ..Setup::default() };
    let mut terminal = Terminal::with(&setup);
    assert!(!terminal.run("::walk task | ::head -5").contains("the pager"));
    // leaving the pager stops the walk, also one that never ends
    terminal.type_in(&format!("{ENDLESS}\r"));
    let shown = terminal.wait("the pager was left");
    assert!(shown.contains("0x2") && !shown.contains("0x4"), "{shown}");
    terminal.wait(PROMPT);
    assert!(terminal.run("2+3=X").contains(" 5 "));
    terminal.leave('d');
}

#[test]
fn narrow_and_wide_terminals() {
    let narrow = Setup { columns: 40, lines: 100, ..Setup::default() };
    let mut terminal = Terminal::with(&narrow);
    let page = terminal.run("::help walkers");
    let prose: Vec<_> =
        page.lines().skip_while(|l| !l.contains("SYNOPSIS")).take_while(|l| !l.contains("EXAMPLE")).collect();
    assert!(prose.len() > 5);
    assert!(prose.iter().all(|line| line.trim_end().chars().count() <= 40), "{prose:#?}");
    // a line longer than the screen is edited as well
    let long = format!("::echo {}", "word ".repeat(30));
    terminal.type_in(&long);
    terminal.control(CTRL_A);
    terminal.type_in("\x1b[F\r");
    terminal.wait("word word");
    terminal.wait(PROMPT);
    terminal.leave('d');
    let wide = Setup { columns: 200, color: true, ..Setup::default() };
    let mut terminal = Terminal::with(&wide);
    terminal.type_in("::print ");
    terminal.wait("[TYPE MEMBER]");
    terminal.control('u');
    assert!(terminal.run("::ps | ::head -3").contains("NAME"));
    terminal.leave('d');
}

#[test]
fn a_dumb_terminal_sees_no_escape() {
    let setup = Setup { term: "dumb", raw: true, color: true, ..Setup::default() };
    let mut terminal = Terminal::with(&setup);
    terminal.type_in("::ps | ::head -3\n");
    let shown = terminal.wait("\n> ");
    assert!(shown.contains("NAME") && !shown.contains('\x1b'), "{shown:?}");
    terminal.type_in("::nosuch\n");
    let shown = terminal.wait("\n> ");
    assert!(shown.contains("no dcmd named") && !shown.contains('\x1b'), "{shown:?}");
    terminal.leave('d');
}
