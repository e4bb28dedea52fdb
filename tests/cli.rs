//! The command line: where commands come from, how answers are written, and what the exit status says.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

const DUMP: &str = "corpus/k612-uaf/vmcore.zst";

fn kmdb() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-S", "--no-debuginfo"]).stdin(Stdio::null());
    command
}

/// Exit status, standard output and standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = kmdb().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The same on the dump, its standard input being `script`.
fn feed(args: &[&str], script: &[u8]) -> (i32, String, String) {
    let mut command = kmdb();
    command.arg(DUMP).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

#[test]
fn commands_come_from_options_files_and_standard_input() {
    let script = file(b"1=X\n::walk task |\n::count\n");
    let script = script.path().to_str().unwrap();
    let (status, out, err) = run(&[DUMP, "-f", script, "-e", "2=X; 3=X", "-e", "4=X"]);
    let words: Vec<_> = out.split_whitespace().collect();
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(words[..2], ["1", "COUNT"]);
    assert_eq!(words[3..], ["2", "3", "4"]);
    assert_eq!(feed(&[], b"::walk task |\r\n::count\r\n1=X").1.split_whitespace().last(), Some("1"));
}

#[test]
fn a_shell_command_that_has_read_enough_ends_its_own_command_only() {
    // more than a pipe holds
    let (status, out, _) = feed(&[], b"::nm ! head -n 1\n5=X\n");
    assert_eq!((status, out.split_whitespace().last()), (0, Some("5")));
}

#[test]
fn a_failed_command_does_not_stop_those_behind_it_but_is_told_at_the_end() {
    let (status, out, err) = feed(&[], b"nosuch=X\n\xff\xfe\n10/J\n5=X\n");
    assert_eq!((status, out.split_whitespace().last()), (2, Some("5")));
    assert_eq!(err.matches("kmdb: ").count(), 3, "{err}");
    assert_eq!(run(&[DUMP, "-e", "1=X"]).0, 0);
    assert_eq!(run(&[DUMP, "-e", "::quit"]).0, 0);
}

#[test]
fn errors_point_at_their_place() {
    let (_, _, err) = run(&[DUMP, "-e", "1=X\n2=X;  nosuch=X"]);
    assert!(err.ends_with("2=X;  nosuch=X\n      ^^^^^^\n"), "{err}");
    let (_, _, err) = run(&[DUMP, "-e", "::walk task |\n::nosuch"]);
    assert!(err.contains("\n::nosuch\n  ^^^^^^\n"), "{err}");
    // a file's line is shown with its place, and those behind it run
    let script = file(b"1=X\n::walk task |\n\n::nosuch\nnosuch=X\n5=X\n");
    let path = script.path().display();
    for how in [format!("$<{path}"), format!("::source {path}")] {
        let (status, out, err) = run(&[DUMP, "-e", &how]);
        assert_eq!((status, out.split_whitespace().last()), (2, Some("5")));
        assert!(
            err.contains(&format!("kmdb: {path}:4: syntax error: no dcmd named `nosuch`\n::nosuch\n  ^^^^^^\n")),
            "{err}"
        );
        assert!(err.contains(&format!("kmdb: {path}:5: failed to dereference")), "{err}");
    }
    assert!(run(&[DUMP, "-f", &path.to_string()]).2.contains(&format!("kmdb: {path}:4: syntax error: no dcmd")));
    // a file that runs itself ends
    let path = script.path().to_owned();
    fs::write(&path, format!("$<{0}\n$<{0}\n", path.display())).unwrap();
    let (status, _, err) = run(&[DUMP, "-e", &format!("$<{}", path.display())]);
    assert_eq!((status, err.lines().count()), (2, 1), "{err}");
    assert!(err.contains("nested deeper"), "{err}");
}

#[test]
fn every_mistake_is_named() {
    for (command, says) in [
        ("nosuch=X", "unknown symbol name"),
        ("nosuch::print", "unknown symbol name"),
        ("10/J", "0x10: not mapped"),
        ("::ps |", "a command must follow |"),
        ("::nosuch", "no dcmd named `nosuch`"),
        ("::walk nosuch", "nosuch"),
        ("::walk", "Usage: ::walk"),
        ("::print struct nosuch", "nosuch"),
        ("init_task::print nosuch", "nosuch"),
    ] {
        let (status, _, err) = run(&[DUMP, "-e", command]);
        assert_eq!(status, 2, "{command}: {err}");
        assert!(err.contains(says), "{command}: {err}");
    }
}

#[test]
fn what_is_no_dump_is_refused_and_half_a_dump_is_used() {
    let no_dump = file(b"this is text");
    let (status, out, err) = run(&[no_dump.path().to_str().unwrap(), "-e", "1=X"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("not a dump"), "{err}");
    for path in ["no/such/file", ".", "Cargo.toml"] {
        assert_eq!(run(&[path, "-e", "1=X"]).0, 2, "{path}");
    }
    let whole = fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(DUMP)).unwrap();
    let half = file(&whole[..whole.len() / 2]);
    let (status, out, err) = run(&[half.path().to_str().unwrap(), "-e", "1=X"]);
    assert_eq!((status, out.trim()), (0, "1"), "{err}");
    assert!(err.contains("cut-off"), "{err}");
}

/// A file on standard input, and a pipe that carries the dump unpacked and flattened, as `makedumpfile -F` writes it.
#[test]
fn a_dump_may_come_by_standard_input() {
    let packed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(DUMP);
    let ask = ["-e", "::walk task | ::count"];
    let told = run(&[&[DUMP], &ask[..]].concat());
    assert_eq!(told.0, 0, "{}", told.2);
    let output = kmdb().args(ask).stdin(fs::File::open(&packed).unwrap()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), told.1.clone()));

    let dump = zstd::stream::decode_all(fs::File::open(&packed).unwrap()).unwrap();
    let mut child =
        kmdb().args(ask).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let mut head = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    head.resize(4096, 0);
    pipe.write_all(&head).unwrap();
    for (i, piece) in dump.chunks(1 << 20).enumerate() {
        pipe.write_all(&((i as u64) << 20).to_be_bytes()).unwrap();
        pipe.write_all(&(piece.len() as u64).to_be_bytes()).unwrap();
        pipe.write_all(piece).unwrap();
    }
    pipe.write_all(&[0xff; 16]).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), told.1));
}

#[test]
fn another_kernels_vmlinux_is_not_taken() {
    let (status, out, err) = run(&[DUMP, env!("CARGO_BIN_EXE_kmdb"), "-e", "1=X"]);
    assert_eq!((status, out.trim()), (2, "1"));
    assert!(err.contains("build-id differs"), "{err}");
}

#[test]
fn wrong_usage_is_status_2_and_help_is_0() {
    assert_eq!(run(&["--nosuch"]).0, 2);
    assert_eq!(run(&[]).0, 2);
    assert_eq!(run(&[DUMP, "-f", "no/such/script"]).0, 2);
    assert_eq!(run(&["--help"]).0, 0);
    assert_eq!(run(&["--version"]).0, 0);
}

#[test]
fn formats() {
    let walk = "::walk task | ::head -1";
    let (_, json, _) = run(&[DUMP, "-o", "json", "-e", walk]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["type"], "struct task_struct");
    assert!(value["addr"].as_str().unwrap().starts_with("0xff"));
    let (_, json, _) = run(&[DUMP, "-o", "json", "-e", "init_task::print comm"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&value["member"], &value["value"]), (&"comm".into(), &"swapper/0".into()));
    let (_, csv, _) = run(&[DUMP, "-o", "csv", "-e", "::ps | ::head -1"]);
    let (head, row) = csv.trim_end().split_once('\n').unwrap();
    assert_eq!(head.split(',').count(), row.split(',').count());
    let (_, table, _) = run(&[DUMP, "-e", "::kmem_cache | ::head -5"]);
    let ends: Vec<_> = table.lines().map(|l| l.len()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "the last column is one of numbers:\n{table}");
}

#[test]
fn shells_read_what_is_piped_to_them_in_order() {
    let (status, out, _) = run(&[DUMP, "-e", "::walk task ! wc -l", "-e", "! echo after", "-e", "1=X"]);
    let words: Vec<_> = out.split_whitespace().collect();
    assert_eq!((status, &words[1..]), (0, &["after", "1"][..]));
    assert!(words[0].parse::<u32>().unwrap() > 10);
    // a command that is no part of a pipe does not eat the script
    assert_eq!(feed(&[], b"! cat\n7=X\n").1.trim(), "7");
}

#[test]
fn a_reader_that_leaves_ends_the_program_quietly() {
    let mut command = kmdb();
    command.args([DUMP, "-e", "::walk page", "-e", "0::array char 0t1000000000000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("0xff"));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = kmdb().args([DUMP, "-e", "1=X"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_interrupted_script_is_status_130() {
    let mut command = kmdb();
    command.args([DUMP, "-e", "1=X", "-e", "0::array char 0t1000000000000 | ::count", "-e", "2=X"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // the first command is over, so that the second one is running, or about to
    out.read_line(&mut line).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(130), ""));
}

#[test]
fn macros() {
    let define = "::macro named 'tasks by name' '::walk task | ::where \"comm == \\\"$1\\\"\" | ::ps'";
    let ask = |commands: &[&str]| {
        let mut args = vec![DUMP];
        commands.iter().for_each(|c| args.extend(["-e", *c]));
        run(&args)
    };
    // in the middle of a pipe, with what follows
    let (status, out, err) = ask(&[define, "::named kthreadd | ::print pid", "::named 'no such' | ::count"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["pid", "=", "0x2", "COUNT", "0"]);
    // defaults, all arguments, filters that see everything, a walk that stops
    let (_, out, err) = ask(&["::macro first '::sort -r | ::head -n ${1:-2}'", "0::array char 5 | ::first | ::count"]);
    assert_eq!((out.split_whitespace().last(), err.as_str()), (Some("2"), ""));
    let (_, out, _) = ask(&["::macro two '::head -n 2'", "0::array char 0t1000000000000 | ::two"]);
    assert_eq!(out, "0x0\n0x1\n");
    // several commands, each at the address that arrives
    let (_, out, err) = ask(&["::macro both '::print pid; ::print comm'", "::walk task | ::head -n 1 | ::both"]);
    assert_eq!((out.as_str(), err.as_str()), ("pid = 0x1\ncomm = [ \"init\" ]\n", ""));
    // macros of macros, and those without an end
    assert_eq!(ask(&["::macro a '::b'", "::macro b '::echo $# $*'", "::a"]).1.trim(), "0");
    for (text, says) in [("::a", "nested deeper"), ("::a | ::a", "nested deeper"), ("::a; ::a", "nested deeper")] {
        let (status, _, err) = ask(&[&format!("::macro a '{text}'"), "::a"]);
        assert_eq!((status, err.contains(says)), (2, true), "{text}: {err}");
    }
    // mistakes
    for (commands, says) in [
        (&["::macro ps '::walk task'"][..], "`ps` is a dcmd"),
        (&["::macro x '::walk task | | '"], "a command must follow |"),
        (&["::macro x '::echo $1'", "::x"], "Usage: ::x ARG1"),
        (&["::macro x '::echo'", "::x 1 2"], "takes no argument, not 2"),
        (&["::macro allwalks '::echo'", "::alwalks"], "did you mean `allwalks`?"),
        (&["::unmacro nosuch"], "no macro named"),
        (&["::macro x '::nosuch'", "1::x"], "1::x\n ^^^\n"),
    ] {
        let (status, _, err) = ask(commands);
        assert_eq!((status, err.contains(says)), (2, true), "{commands:?}: {err}");
    }
    assert!(ask(&[define, "::help named"]).1.contains("::named ARG1"));
    assert!(ask(&[define, "::dcmds -n named"]).1.contains("tasks by name"));
    assert!(ask(&[define, "::macro"]).1.contains("::walk task | ::where"));
    assert_eq!(ask(&[define, "::unmacro named", "::macro"]).1, "");
}

#[test]
fn the_users_own_file_runs_first_and_its_absence_or_damage_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        command.args(["--no-debuginfo", DUMP]);
        let output = command.args(["-e", "<seven=X"]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(run().0, Some(2));
    fs::write(home.path().join(".kmdbrc"), "7>seven\n").unwrap();
    assert_eq!(run().1.trim(), "7");
    // its mistakes are told with their place, and are not the question's
    fs::write(home.path().join(".kmdbrc"), "\n::nosuch\n7>seven\n").unwrap();
    fs::create_dir_all(home.path().join(".config/kmdb")).unwrap();
    fs::write(home.path().join(".config/kmdb/kmdbrc"), "8>seven\n").unwrap();
    let (status, out, err) = run();
    assert_eq!((status, out.trim()), (Some(0), "7"));
    assert!(err.contains(".kmdbrc:2: syntax error: no dcmd named `nosuch`"), "{err}");
    fs::remove_file(home.path().join(".kmdbrc")).unwrap();
    fs::create_dir(home.path().join(".kmdbrc")).unwrap();
    assert!(run().2.contains(".kmdbrc: "));
}
