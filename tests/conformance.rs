//! kmdb's language held against mdb's, in the manner of illumos' own tests of it: what goes in, what comes out to the
//! blank, and the exit status.

#![allow(clippy::unwrap_used)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

const DUMP: &str = "corpus/k612-uaf/vmcore.zst";

fn kmdb() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmdb"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-S", "--no-debuginfo", DUMP])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit status, standard output, standard error of a script on standard input.
fn feed(script: &str) -> (i32, String, String) {
    let mut child = kmdb().spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The same of `-e`.
fn execute(command: &str) -> (i32, String, String) {
    let output = kmdb().args(["-e", command]).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn says(script: &str, expected: &[&str]) {
    let (status, out, err) = feed(script);
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{script}\n{err}");
    assert_eq!((status, err.as_str()), (0, ""), "{script}");
}

#[test]
fn the_exit_status_of_a_command() {
    for (command, status) in [
        ("::dcmds", 0),
        ("1=X", 0),
        ("::commandthatdoesnotexist", 2),
        ("0x0/v 0x02", 2),
        ("0xbaddcafe/X", 2),
        ("::print -@ struct list_head", 2),
        ("::walk nosuchwalker", 2),
        ("nosuchsymbol=K", 2),
        ("::bp schedule", 2),
        ("1=X; nosuchsymbol=K", 2),
        ("::quit", 0),
    ] {
        assert_eq!(execute(command).0, status, "{command}");
    }
    assert_eq!(execute("0t2 << 0t10=K").1, "                800             \n");
}

#[test]
fn bases_and_separators() {
    says(
        "0t23_24_25_26=E\n0t123456=K\n0t1________2_____________________3 = E\n0t10$d\n555_5555 = E\n44_44_44_44_ = E\n",
        &[
            "                23242526             ",
            "                1e240           ",
            "                123                  ",
            "radix = 10 base ten",
            "                5555555              ",
            "                44444444             ",
        ],
    );
    says(
        "0i100_0111=K\n0i11_101=j\n0i1__1__0______=X\n0t2$d\n100_0001__0001=K\n1_____________0=K\n",
        &[
            "                47              ",
            "                11101",
            "                ||| |",
            "                ||| +-- bit 0 mask 0x01",
            "                ||+---- bit 2 mask 0x04",
            "                |+----- bit 3 mask 0x08",
            "                +------ bit 4 mask 0x10",
            "                6               ",
            "radix = 2 base ten",
            "                411             ",
            "                2               ",
        ],
    );
    says(
        "0o775=K\n0o7_7_5__=K\n0o7______=K\n0t8$d\n0123_____456=K\n000000___________1=K\n0x10$d\n",
        &[
            "                1fd             ",
            "                1fd             ",
            "                7               ",
            "radix = 8 base ten",
            "                a72e            ",
            "                1               ",
            "radix = 16 base ten",
        ],
    );
    for number in [
        "0x_123",
        "0xzasdf",
        "0x1__p",
        "0i_",
        "0i__011",
        "0i12345",
        "0i0____3",
        "0t34___asdf",
        "0t_4",
        "0tp",
        "0tp__4",
        "0t4______p",
        "0o89",
        "0o7____89",
        "0o__324",
        "0x123456789abcdef123456789abcdef",
        "0x12___345678___9abcdef123456789_a_bcdef",
    ] {
        let (status, out, err) = execute(&format!("{number}=K"));
        assert_eq!((status, out.as_str()), (2, ""), "{number}");
        assert!(err.contains('^'), "{err}");
    }
}

#[test]
fn sixty_four_bits_wrap_at_the_width_and_never_touch() {
    let rows = |item: &str, width: usize, each: usize| {
        let whole = |n: usize| format!("{:16}{}", "", format!("{item:<width$}").repeat(n));
        let mut rows = vec![whole(each); 16 / each];
        rows.extend((16 % each != 0).then(|| whole(16 % each)));
        rows
    };
    for (command, expected) in [
        ("-1,10=E", rows("18446744073709551615", 21, 3)),
        ("1<<0t63,10=e", rows("-9223372036854775808", 21, 3)),
        ("-1,10=G", rows("1777777777777777777777", 23, 2)),
        ("1<<0t63,10=g", rows("-1000000000000000000000", 24, 2)),
        ("-1,10=J", rows("ffffffffffffffff", 17, 3)),
        ("1<<0t63,10=p", rows("0x8000000000000000", 19, 3)),
    ] {
        let (_, out, err) = feed(&format!("{command}\n"));
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{command} {err}");
    }
}

#[test]
fn a_name_is_a_symbol_before_it_is_a_number() {
    says(
        "1000::nmadd -s 10 ffffabcde00\nffffabcde00=K\n2000::nmadd -s 8 ffffab_cde00\nffffab_cde00=K\n\
         3000::nmadd _007\n_007=K\n0ffffabcde00=K\nbadcafe=K\n::nmdel ffffabcde00\nffffabcde00=K\n",
        &[
            "added ffffabcde00, value=1000 size=10",
            "                1000            ",
            "added ffffab_cde00, value=2000 size=8",
            "                2000            ",
            "added _007, value=3000 size=0",
            "                3000            ",
            "                ffffabcde00     ",
            "                badcafe         ",
            "deleted ffffabcde00, value=1000 size=10",
            "                ffffabcde00     ",
        ],
    );
}

#[test]
fn types_of_ones_own() {
    says(
        "::typedef -c lp32\n::typedef \"struct gift { uintptr_t stone[7]; void **white; char owner[]; }\" gift_t\n\
         ::sizeof gift_t\n::print -at struct gift\n::typedef -d\n::typedef -l\n::typedef -c LP64\n\
         ::typedef 'union ring { int frodo; char sam; long gandalf; }' ring_t;\n::sizeof union ring\n::print -at ring_t\n\
         ::typedef 'struct foo { uint8_t a[10]; uint8_t b[0x10]; struct foo *next; unsigned c:3; unsigned d:30; }' foo_t\n\
         ::print -at foo_t\n::sizeof void\n::sizeof u_longlong_t\n::sizeof ptrdiff_t\n",
        &[
            "sizeof (gift_t) = 0x28",
            "0 struct gift {",
            "    0 uintptr_t [7] stone ",
            "    20 void **white ",
            "    28 char [0] owner ",
            "}",
            "sizeof (union ring) = 8",
            "0 ring_t {",
            "    0 int frodo ",
            "    0 char sam ",
            "    0 long gandalf ",
            "}",
            "0 foo_t {",
            "    0 uint8_t [10] a ",
            "    a uint8_t [16] b ",
            "    20 struct foo *next ",
            "    28 unsigned int:3 c :3 ",
            "    2c unsigned int:30 d :30 ",
            "}",
            "sizeof (void) = 0",
            "sizeof (u_longlong_t) = 8",
            "sizeof (ptrdiff_t) = 8",
        ],
    );
    says("::typedef uint8_t rm_t\n::typedef -l\n::print -at rm_t\n", &["uint8_t", "rm_t", "0 rm_t "]);
    for model in ["lp64", "Lp64", "lP32", "ILP32", "iLp32"] {
        assert_eq!(execute(&format!("::typedef -c {model}")).0, 0, "{model}");
    }
    for wrong in [
        "",
        "int",
        "-c",
        "-c LLP64",
        "-dl",
        "uint8_t 42foo",
        "uint8_t %foo",
        "uint8_t rm_t extra_t",
        "uint8_t uint16_t",
        "'struct { uintptr_t stone[7]; {} void {**white; }' g",
        "'struct { uintptr_t stone[-3]; void **white; }' g",
        "'struct { uintptr_t stone[7; void **white; }' g",
        "'struct { uintptr_t stone[]; void **white; }' g",
        "'struct { uintptr_t stone7]; void **white; }' g",
        "'struct uintptr_t stone[7]; void **white;' g",
        "'struct { uintptr_t stone[7]; void **white; ' g",
        "'struct { }' g",
        "'struct { void; }' g",
        "'struct { uintptr_t stone[7]; void **white }' g",
        "'struct  uintptr_t stone[7]; void **white; }' g",
        "struct { uintptr_t stone[7]; void **white; } g",
        "'struct { uintptr_t stone[7]; void **stone; }' g",
        "'struct { uintptr_t stone[]; }' g",
        "'struct { uintptr_t stone[0]; void **white; }' g",
        "'union { int foo; uintptr_t stone[]; }' g",
        "'{ uintptr_t stone[7]; void **white; }' g",
        "'struct list_head { int x; }' g",
        "'struct { int x:33; }' g",
        "'struct { char x[0xffffffffffffffff]; }' g",
    ] {
        let (status, out, err) = execute(&format!("::typedef {wrong}"));
        assert_eq!(status, 2, "{wrong}: {out}");
        assert!(err.starts_with("kmdb: "), "{err}");
    }
    // what failed has left nothing behind
    says("::typedef -l\n", &[]);
}

#[test]
fn bit_fields_and_members_without_a_name() {
    // 0x...: the bits from the lowest up are 3, 3, 0, 1, 1, 1, 3, 5, 3, 9, 0x13, 0, 1
    let value =
        [(3u32, 3), (2, 3), (1, 0), (1, 1), (1, 1), (1, 1), (3, 3), (3, 5), (5, 3), (4, 9), (6, 0x13), (1, 0), (1, 1)];
    let (mut bits, mut at) = (0u64, 0);
    for (width, v) in value {
        bits |= v << at;
        at += width;
    }
    let members: String =
        value.iter().zip('a'..).map(|((width, _), name)| format!("unsigned int brk_{name}:{width}; ")).collect();
    let (_, out, err) = feed(&format!(
        "::typedef -c lp64\n::typedef 'struct broken {{ {members}}}' broken_t\n0x{bits:x}::print -it broken_t\n\
         0x{bits:x}::print -i broken_t brk_k\n0x{bits:x}::print -i broken_t brk_j | ::eval '.=K'\n"
    ));
    let mut expected = vec!["broken_t {".to_owned()];
    for ((width, v), name) in value.iter().zip('a'..) {
        let shown = if *v == 0 { "0".into() } else { format!("{v:#x}") };
        expected.push(format!("    unsigned int:{width} brk_{name} :{width} = {shown}"));
    }
    expected.extend(["}", "brk_k = 0x13", "                9               "].map(String::from));
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{err}");
    // struct page's first union has no name, and its members are named as if they were page's own
    let (_, out, err) = feed("::offsetof struct page lru\n::print struct qstr\n");
    assert!(out.starts_with("offsetof (struct page, lru) = 8, sizeof (...->lru) = 0x10\n"), "{out}{err}");
    assert!(out.contains("union {...} <anon>") || out.contains("<anon>"), "{out}");
}

#[test]
fn where_lines_wrap() {
    says(
        "0::printf \"%-79d%d\" int . .\n0::printf \"%-80d%d\" int . .\n::set -o autowrap\n\
         0::printf \"%-79d%d\" int . .\n0::printf \"%-80d%d\" int . .\n0::printf \"%-81d%d\" int . .\n\
         0::printf \"Pack my box with five dozen liquor jugs. How razorback-jumping frogs can level six piqued gymnasts!%d\" int .\n",
        &[
            &format!("{:<79}0", 0),
            &format!("{:<80}0", 0),
            &format!("{:<79}0", 0),
            "0",
            "0",
            "0",
            "0",
            "Pack my box with five dozen liquor jugs. How razorback-jumping frogs can level s",
            "ix piqued gymnasts!0",
        ],
    );
}

#[test]
fn shells_at_the_end_and_in_the_middle() {
    says("::echo hello ! tr a-z A-Z\n", &["HELLO "]);
    says("! echo alone\n", &["alone"]);
    says("! 'printf \"1\\n2\\n\"' | =X\n", &["                1               2               "]);
    says("! 'echo 0t42' | ::map '.+1' | =K\n", &["                2b              "]);
    says("::walk task ! 'head -2' | ::count\n", &["COUNT", "    2"]);
    says("! 'echo \"it\\'s\"'\n", &["it's"]);
    says("!< echo '0t16=K'\n", &["                10              "]);
    for wrong in ["! 'echo 1' ! cat", "! 'echo 1", "!< 'echo 1=X' | =X", "::ps !", "! '' | =X"] {
        assert_eq!(execute(wrong).0, 2, "{wrong}");
    }
}

#[test]
fn dot_variables_and_repetition() {
    let thousand = "                1000            ";
    says("1000=K\n.=K\n&=K\n2000\n", &[thousand, thousand, thousand, "                2000            "]);
    says(
        "1000=K\n.=K\n&=K\n2000\n",
        ["                1000            "; 3]
            .iter()
            .copied()
            .chain(["                2000            "])
            .collect::<Vec<_>>()
            .as_slice(),
    );
    says(
        "1234567890abcdef>/4/x\n<x=K\n1ff>/c/y\n<y=K\n",
        &["                90abcdef        ", "                ff              "],
    );
    says("8>a\n<a+<a=K\n::typeset -t a\n::vars -t\n::unset a\n", &["                10              ", "a = 8"]);
    says("1000::eval '.+8=K'\n", &["                1008            "]);
    says("linux_banner/5c\n+/c\n", &["linux_banner:", "linux_banner:   Linux", "linux_banner+5:  "]);
    says("linux_banner/5c\n,3\n", &["linux_banner:", "linux_banner:   Linux", "linux_banner+5:  version 6.12.1"]);
    says("::set -o repeatlast\n0,0=X\n", &[]);
    says("::echo a $[1+f] 'b c'\n", &["a 10 b c "]);
    says("init_task::print pid | =D\n", &["                0               "]);
    says("1::printf '%a|%?x|%-4d|%H\\n' int . . . .\n", &["1|               1|1   |1"]);
}

#[test]
fn what_means_nothing_here_is_refused_with_a_reason() {
    for name in [":c", ":b", "$i", "$W", "$l", "::step", "::load foo", "::write 1", "::umastat", "$x", "$G"] {
        let (status, out, err) = execute(name);
        assert_eq!((status, out.as_str()), (2, ""), "{name}");
        assert!(err.contains("is refused: ") && err.contains('^') && err.lines().count() == 4, "{err}");
    }
}

#[test]
fn errors_point_into_what_was_quoted() {
    for (line, place, word) in [
        ("::walk task | ::where 'pid > 0 && commm == \"x\"'", 34, 5),
        ("::walk task | ::where pid = 1", 26, 1),
        ("::walk task | ::grep '.+nosuch'", 24, 6),
        ("::walk task | ::map '(1+'", 24, 1),
        ("1000::eval '.+1; nosuch=K'", 17, 6),
        ("10 + 1g=X", 6, 1),
        ("::walk task | ::sort nosuch", 21, 6),
    ] {
        let (status, _, err) = execute(line);
        let carets = format!("\n{line}\n{}{}\n", " ".repeat(place), "^".repeat(word));
        assert_eq!(status, 2, "{err}");
        assert!(err.contains(&carets), "{line}\n{err}");
    }
}

#[test]
fn head_ends_the_walk() {
    // a walk of everything would take long and read pages that are missing; this one reads what two pages need
    let (status, out, err) = execute("::walk page | ::head -2 | ::count");
    assert_eq!((status, out.as_str(), err.as_str()), (0, "COUNT\n    2\n", ""));
    // what counts is how many came by before `::head` had enough: three, not all
    let (_, out, _) = execute("0>n; ::walk task | ::map '<n+1>n' | ::head -3; <n=K");
    assert_eq!(out, "0x1\n0x2\n0x3\n                3               \n");
}

#[test]
fn a_log_keeps_what_is_typed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let name = file.display();
    let (status, out, _) =
        feed(&format!("::log\n::log {name}\n1=X\nnosuch=X\n::log\n$>\n2=X\n::log -e\n::log -d\n::log -d\n"));
    assert_eq!(status, 2);
    let value = |v: u32| format!("                {v}               \n");
    let logging = format!("kmdb: logging to \"{name}\"");
    let expected = format!(
        "kmdb: no log is active\n{logging}\n{}{logging} is currently enabled\n{}{logging}\n",
        value(1),
        value(2)
    );
    assert_eq!(out, expected);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains(&format!("> 1=X\n{}> nosuch=X\nkmdb: ", value(1))), "{kept}");
    assert!(kept.ends_with("> $>\n> ::log -d\n") || !kept.contains("> 2=X"), "{kept}");
}
