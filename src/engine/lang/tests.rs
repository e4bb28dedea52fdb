//! The language as tables: what each line is read as, what each expression is worth, what each mistake teaches.

#![allow(clippy::unwrap_used)]

use super::{
    ast::*,
    eval::{EvalError, Scope, eval},
    is_incomplete, parse, parse_expr,
};
use std::fmt::Write;

/// A target of one page: address `a` holds the byte `a & 0xff`.
struct Fake {
    radix: u32,
}

impl Scope for Fake {
    fn dot(&self) -> u64 {
        0x1000
    }
    fn last_dot(&self) -> u64 {
        0x2000
    }
    fn increment(&self) -> u64 {
        8
    }
    fn var(&self, name: &str) -> Option<u64> {
        [("0", 7), ("rip", 0xffffffff81000000), ("t", 0x55)].iter().find(|v| v.0 == name).map(|v| v.1)
    }
    fn symbol(&self, scopes: &[String], name: &str) -> Option<u64> {
        match (scopes.join("`").as_str(), name) {
            ("", "ffffabcde00") => Some(0x111),
            ("", "ffffab_cde00") => Some(0x222),
            ("", "_007") => Some(0x333),
            ("", "foo.cold.3") => Some(0x444),
            ("ext4", "add") | ("vmlinux`file.c", "sym") => Some(0x555),
            ("9p", "b") => Some(0x666),
            ("", "f") => Some(0x777),
            _ => None,
        }
    }
    fn read(&self, object: bool, addr: u64, size: u8) -> Result<u64, String> {
        if !(0x1000..0x2000).contains(&addr) {
            return Err("no mapping for address".into());
        }
        let bytes = (0..size).map(|i| (addr + u64::from(i)) & 0xff);
        let value = bytes.enumerate().fold(0, |value, (i, byte)| value | byte << (8 * i));
        Ok(if object { !value } else { value })
    }
    fn radix(&self) -> u32 {
        self.radix
    }
}

fn value(text: &str, radix: u32) -> Result<u64, String> {
    let expr = parse_expr(text, radix).map_err(|e| e.to_string())?;
    eval(&expr.node, &Fake { radix }).map_err(|e| e.to_string())
}

#[test]
fn arithmetic() {
    for (text, expected) in [
        ("4-1*3", 1),
        ("10", 0x10),
        ("0t10", 10),
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("2*3%%2", 2),
        ("7%%4", 3),
        ("9 % 2", 4),
        ("-9 % 2", -4i64 as u64),
        ("-9 %% 2", (-9i64 as u64) % 2),
        ("5#4", 8),
        ("8#4", 8),
        ("0#4", 0),
        ("#0", 1),
        ("#5", 0),
        ("##5", 1),
        ("~0", u64::MAX),
        ("-1", u64::MAX),
        ("- -1", 1),
        ("1<<0t63", 1 << 63),
        ("1<<0t64", 0),
        ("-1>>40", 0),
        ("1<<-1", 0),
        ("-1>>4", u64::MAX >> 4),
        ("1|6&3", 3),
        ("1^3&2", 3),
        ("1|2^3", 1 | (2 ^ 3)),
        ("6&3==3", 0),
        ("(6&3)==2", 1),
        ("1<<2==4", 1),
        ("1+1<<1", 4),
        ("1==1==1", 1),
        ("5!=6", 1),
        ("2-1-1", 0),
        ("64%8%2", 6),
        ("ffffffffffffffff+2", 1),
        ("8000000000000000*2", 0),
        (".", 0x1000),
        ("&", 0x2000),
        ("+", 0x1008),
        ("^", 0xff8),
        (".+8", 0x1008),
        ("++8", 0x1010),
        ("^-8", 0xff0),
        ("&&ffff", 0x2000),
        ("<rip", 0xffffffff81000000),
        ("<0+1", 8),
        ("<t<<4", 0x550),
        ("*.", 0x0706050403020100),
        ("*/c/(.+3)", 3),
        ("*/1/1004", 4),
        ("*/s/.", 0x100),
        ("*/4/.", 0x3020100),
        ("*/l/.", 0x0706050403020100),
        ("%/1/(.+1)", !1),
        ("*.+1", 0x0706050403020101),
        ("2**/1/(.+2)", 4),
        ("'abcd'", 0x61626364),
        ("''", 0),
        (" ( 1 +\n 2 ) ", 3),
        ("0t1.5", 1.5f64.to_bits()),
        ("ffffabcde00", 0x111),
        ("ffffab_cde00", 0x222),
        ("_007", 0x333),
        ("foo.cold.3", 0x444),
        ("foo.cold.3+4", 0x448),
        ("ext4`add", 0x555),
        ("vmlinux`file.c`sym", 0x555),
        ("9p`b", 0x666),
        ("f", 0x777),
        ("0f", 0xf),
        ("badcafe", 0xbadcafe),
        ("bad_cafe", 0xbadcafe),
        ("0x12_34", 0x1234),
    ] {
        assert_eq!(value(text, 16), Ok(expected), "{text}");
    }
    assert_eq!(value("10", 10), Ok(10));
    assert_eq!(value("101", 2), Ok(5));
    assert_eq!(value("17", 8), Ok(15));
}

#[test]
fn evaluation_errors() {
    let error = |text: &str, radix| {
        let expr = parse_expr(text, radix).unwrap();
        eval(&expr.node, &Fake { radix }).unwrap_err()
    };
    let zero = |span: Span| EvalError::DivideByZero { span };
    assert_eq!(error("1%0", 16), zero(0..3));
    assert_eq!(error("1 + 2 %% 0", 16), zero(4..10));
    assert_eq!(error("1#0", 16), zero(0..3));
    assert_eq!(error("8000000000000000%-1", 16), EvalError::DivideOverflow { span: 0..19 });
    assert_eq!(error("<nope", 16), EvalError::UnknownVariable { name: "nope".into(), span: 0..5 });
    assert_eq!(error("1+m`nope", 16), EvalError::UnknownSymbol { name: "m`nope".into(), span: 2..8 });
    assert_eq!(error("bad", 10).hint().as_deref(), Some("as a hexadecimal number it is 0xbad"));
    assert_eq!(error("*3000", 16).to_string(), "failed to read 8 bytes at 0x3000: no mapping for address");
    assert_eq!(error("*3000", 16).span(), &(0..5));
}

/// A statement in a compact form for the tables.
fn show(statement: &Statement) -> String {
    let mut out = String::new();
    let value = |e: &Expr| eval(e, &Fake { radix: 16 }).map_or_else(|e| e.to_string(), |v| format!("{v:x}"));
    if let Some(addr) = &statement.addr {
        write!(out, "{}", value(&addr.node)).unwrap();
    }
    if let Some(count) = &statement.count {
        write!(out, ",{}", value(&count.node)).unwrap();
    }
    for stage in &statement.stages {
        out.push('[');
        match &stage.kind {
            StageKind::Dcmd { module, name, args, .. } => {
                write!(out, "{}{name}", module.as_ref().map(|m| format!("{m}`")).unwrap_or_default()).unwrap();
                for arg in args {
                    match &arg.kind {
                        WordKind::Text(text) => write!(out, " <{text}>").unwrap(),
                        WordKind::Immediate(e) => write!(out, " ${}", value(e)).unwrap(),
                    }
                }
            }
            StageKind::Verb { verb, format } => {
                out.push(*verb);
                for item in format {
                    match item {
                        FormatItem::Letter { letter, count, .. } => match count {
                            FormatCount::One => write!(out, " {letter}").unwrap(),
                            FormatCount::Number(n) => write!(out, " {n}{letter}").unwrap(),
                            FormatCount::Computed(e) => write!(out, " ${}{letter}", value(e)).unwrap(),
                        },
                        FormatItem::Text(text) => write!(out, " {text:?}").unwrap(),
                        FormatItem::Value(e) => write!(out, " ={}", value(&e.node)).unwrap(),
                    }
                }
            }
            StageKind::Assign { name, size } => {
                write!(out, ">{name}{}", size.map_or(String::new(), |s| format!("/{s}"))).unwrap()
            }
            StageKind::File { sigil, name } => write!(out, "{sigil}{name}").unwrap(),
            StageKind::Shell(text) => write!(out, "!{text}").unwrap(),
        }
        out.push(']');
    }
    if let Some(shell) = &statement.shell {
        write!(out, "{}{shell}", if statement.shell_source { "!<" } else { "!" }).unwrap();
    }
    out
}

#[test]
fn statements() {
    for (text, expected) in [
        ("", ""),
        (" ; \n;; // nothing", ""),
        ("::status", "[status]"),
        ("::walk proc | ::print proc_t p_user.u_comm", "[walk <proc>][print <proc_t> <p_user.u_comm>]"),
        ("::print struct foo a->b[3].c", "[print <struct> <foo> <a->b[3].c>]"),
        ("::print -at d_lockref.count", "[print <-at> <d_lockref.count>]"),
        ("::walk kmalloc-64|::head -5", "[walk <kmalloc-64>][head <-5>]"),
        ("genunix`foo::bar", "failed to dereference symbol 'genunix`foo': unknown symbol name[bar]"),
        ("::ext4`inode -v", "[ext4`inode <-v>]"),
        ("::ps ! grep nfs", "[ps]!grep nfs"),
        ("::ps!grep nfs ; ::x", "[ps]!grep nfs\n[x]"),
        ("! ls -l | wc", "!ls -l | wc"),
        ("!< cat x", "!<cat x"),
        ("::echo 1 !< awk '{print}'", "[echo <1>]!<awk '{print}'"),
        ("::walk proc ! 'head -5' | ::print proc_t p_pidp", "[walk <proc>][!head -5][print <proc_t> <p_pidp>]"),
        ("! 'cat addrs' | ::whatis", "[!cat addrs][whatis]"),
        (r#"::echo a ! "awk \"{print \\$1}\"""#, r#"[echo <a>]!awk "{print \$1}""#),
        (
            r"::echo 1 2 3 ! 'awk \'{ s = $1; print s }\'' | ::map .",
            "[echo <1> <2> <3>][!awk '{ s = $1; print s }'][map <.>]",
        ),
        (r#"! "echo \'hi\'""#, "!echo 'hi'"),
        ("1000/X", "1000[/ X]"),
        ("1000,10/nap", "1000,10[/ n a p]"),
        (",5/KKn", ",5[/ K K n]"),
        (".,5/KKn", "1000,5[/ K K n]"),
        ("+/X", "1008[/ X]"),
        ("^/X", "ff8[/ X]"),
        ("/X", "[/ X]"),
        ("1000/", "1000[/]"),
        ("1000?i", "1000[? i]"),
        ("1000\\K", "1000[\\ K]"),
        ("1000@K", "1000[@ K]"),
        ("10=D", "10[= D]"),
        ("1==1=D", "1[= D]"),
        ("=K", "[= K]"),
        ("1000/2X 10D\"= \"3+", r#"1000[/ 2X 10D "= " 3+]"#),
        ("1000/$[2+3]X", "1000[/ $5X]"),
        ("1000/ L 55 ff", "1000[/ L =55 =ff]"),
        ("1000/M 'f + 1'", "1000[/ M =778]"),
        ("1000/M $[1+1] -1", "1000[/ M =2 =ffffffffffffffff]"),
        ("1000/W 1 2 3", "1000[/ W =1 =2 =3]"),
        ("1000/w", "1000[/ w]"),
        ("10=W", "10[= W]"),
        ("1000/K | ::print", "1000[/ K][print]"),
        ("1000/X! cat", "1000[/ X]!cat"),
        ("$c", "[$c]"),
        ("0t16$d", "10[$d]"),
        ("$<msgbuf", "[$<msgbuf]"),
        ("1000$<<foo/bar", "1000[$<<foo/bar]"),
        ("$>log", "[$>log]"),
        ("$", "[$?]"),
        ("$ | ::x", "[$?][x]"),
        (":c", "[:c]"),
        ("0x10>foo", "10[>foo]"),
        ("1>/c/foo", "1[>foo/1]"),
        (".>t; *(.+18)!=0", "1000[>t]\n1"),
        ("<t=K; .=K", "55[= K]\n1000[= K]"),
        ("1000", "1000"),
        ("1000 // comment", "1000"),
        ("1000//X", "1000"),
        ("::echo http://x // gone", "[echo <http://x>]"),
        ("1000,5", "1000,5"),
        (",5 ! cat", ",5!cat"),
        ("::grep '.>t; *(.+18)!=0'", "[grep <.>t; *(.+18)!=0>]"),
        ("::eval \"a\\tb\" c'd e'f", "[eval <a\tb> <cd ef>]"),
        ("1000::array uint32_t 0t16 | /X", "1000[array <uint32_t> <0t16>][/ X]"),
        ("::map $[1+1] x", "[map $2 <x>]"),
        ("::dcmds ^foo$", "[dcmds <^foo$>]"),
        ("::foo |\n ::bar", "[foo][bar]"),
        ("::a\n::b; ::c", "[a]\n[b]\n[c]"),
        ("*/4/(. + 4)=X", "7060504[= X]"),
        ("1 |2=X", "3[= X]"),
        ("10::foo", "10[foo]"),
        ("::echo ''", "[echo <>]"),
        ("<rip::dis -n 4", "ffffffff81000000[dis <-n> <4>]"),
        ("::echo a=b ?x /y", "[echo <a=b> <?x> </y>]"),
    ] {
        let shown = parse(text, 16).map(|all| all.iter().map(show).collect::<Vec<_>>().join("\n"));
        assert_eq!(shown.map_err(|e| e.to_string()).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn spans_point_into_the_line() {
    let text = "10,2::foo a 'b c' | /2X";
    let statement = &parse(text, 16).unwrap()[0];
    let at = |span: &Span| &text[span.clone()];
    assert_eq!(at(&statement.addr.as_ref().unwrap().span), "10");
    assert_eq!(at(&statement.stages[0].span).trim_end(), "::foo a 'b c'");
    assert_eq!(at(&statement.stages[1].span), "/2X");
    let StageKind::Dcmd { name_span, args, .. } = &statement.stages[0].kind else { panic!() };
    assert_eq!(at(name_span), "foo");
    assert_eq!(at(&args[1].span), "'b c'");
}

#[test]
fn mistakes_teach() {
    for (text, at, words) in [
        ("10/2", "2", "division is %"),
        ("(8)/(2)", "(", "division is %"),
        ("(8/2)=X", "/", "division is %"),
        ("0tz=K", "z", "digit 'z' is not valid in base 10"),
        ("0xzasdf=K", "z", "digit 'z' is not valid in base 16"),
        ("0x_123=E", "_123", "must follow the prefix"),
        ("12z=K", "z", "digit 'z' is not valid in base 16"),
        ("0n10=K", "n", "decimal is 0t10"),
        ("0x123456789abcdef123456789abcdef=K", "0x123456789abcdef123456789abcdef", "exceeds maximum"),
        ("::print 'foo", "'", "' unmatched"),
        ("::print \"foo", "\"", "\" unmatched"),
        ("(1+2=X", "=", "in parentheses"),
        ("(1+2", "(", "( unmatched"),
        ("1)=X", ")", ") unmatched"),
        ("::echo $[1+2", "$[", "$[ unmatched"),
        ("1 &&2", "&&", "there is no &&"),
        ("1||2", "||", "# is logical not"),
        ("1<2", "<", "only comparisons"),
        ("1>2=X", "2=X", "may not be used in a variable name"),
        ("+5", "+", "no unary plus"),
        ("1 2", "2", "two operands"),
        ("1.5=F", ".", "0t1.5"),
        ("'123456789'=K", "'123456789'", "8 bytes"),
        ("10=", "", "expected one or more format characters following '='"),
        ("10=k", "k", "invalid format character -- 'k'"),
        ("1000/L", "L", "expected value following L"),
        ("1000/L 1 2 3", "L", "only value and mask"),
        ("1000/L 1+", "", "operand is missing"),
        ("*/x/10", "/x/", "invalid cast"),
        ("::", "", "command name must follow ::"),
        ("::foo | ", "", "a command must follow |"),
        ("::foo | bar", "b", "commands begin with ::"),
        ("::foo | ! cat", "!", "without |"),
        ("::echo ! 'a' ! 'b'", "!", "join shell commands"),
        ("! 'a' b", "b", "goes on to the end of the line"),
        ("!< 'a' | ::b", "!< 'a'", "!< must be the last"),
        ("!", "!", "shell command must follow !"),
        ("1>a b", ">a b", "expected a single variable name"),
        ("m`=K", "m`", "beside the backtick"),
        ("1000 | ::print", ":", "addr::command"),
        ("<=K", "=", "variable name"),
        ("$[1]", "[", "arguments of a command"),
        ("99999999999999999999999/X", "99999999999999999999999", "exceeds"),
    ] {
        let error = parse(text, 16).expect_err(text);
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert_eq!(&text[error.span.clone()], at, "{text}: {error}");
    }
    let error = parse("1f", 10).unwrap_err();
    assert!(error.to_string().contains("hexadecimal is 0x1f"), "{error}");
    let error = parse("0d10", 10).unwrap_err();
    assert!(error.to_string().contains("decimal is 0t10"), "{error}");
}

#[test]
fn incomplete_lines() {
    for text in
        ["::print 'a", "(1+", "(1+2", "::foo |", "::foo | // why", "::echo $[1+", "! 'head", "::echo \"a\\\"", "((1)"]
    {
        assert!(is_incomplete(text), "{text}");
    }
    for text in ["", "::foo", "1+", "! it's", "1)", "::foo | bar", "10/2", "::echo $[1;"] {
        assert!(!is_incomplete(text), "{text}");
    }
}

#[test]
fn a_statement_may_change_how_the_next_is_read() {
    let mut statements = super::Statements::new("0t10$d; 10=D\n0y; ::ok\n::fine");
    assert_eq!(show(&statements.next(16).unwrap().unwrap()), "a[$d]");
    assert_eq!(show(&statements.next(10).unwrap().unwrap()), "a[= D]");
    assert!(statements.next(10).is_err());
    assert_eq!(show(&statements.next(10).unwrap().unwrap()), "[fine]");
    assert_eq!(statements.next(10), Ok(None));
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["(".repeat(100_000), "-".repeat(100_000), "1+".repeat(100_000), "*".repeat(100_000)] {
        assert!(parse(&text, 16).unwrap_err().message.contains("256 terms"));
    }
    assert!(value(&["1"; 250].join("+"), 16) == Ok(250));
}

/// Marsaglia's xorshift64*.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545F4914F6CDD1D)
    }

    /// A text of up to `most` pieces.
    pub fn text(&mut self, pieces: &[&str], most: u64) -> String {
        let n = self.next() % most;
        (0..n).map(|_| pieces[self.next() as usize % pieces.len()]).collect()
    }
}

#[test]
fn random_lines_never_panic() {
    const PIECES: &[&str] = &[
        "0",
        "1",
        "f",
        "0x",
        "0t",
        "0i",
        "0o",
        "_",
        ".",
        "+",
        "-",
        "*",
        "%",
        "%%",
        "#",
        "~",
        "(",
        ")",
        "<",
        "<<",
        ">",
        ">>",
        "=",
        "==",
        "!",
        "!=",
        "|",
        "&",
        "^",
        "::",
        "::print",
        ":",
        "$",
        "$[",
        "]",
        "$<",
        "/",
        "\\",
        "?",
        "@",
        ",",
        ";",
        "\n",
        " ",
        "\t",
        "'",
        "\"",
        "\\'",
        "\\x4",
        "//",
        "`",
        "X",
        "nap",
        "L",
        "W",
        "é",
        "\u{10ffff}",
        "9p`b",
        "foo",
        "*/4/",
        "/c/",
        "!<",
        "ffffffffffffffff",
        "0t63",
        "<0",
        "<t",
        "\0",
        "\r",
    ];
    let mut random = Random(0x9E3779B97F4A7C15);
    for _ in 0..100_000 {
        let text = random.text(PIECES, 16);
        match parse(&text, 16) {
            Ok(all) => {
                for expr in all.iter().flat_map(|s| s.addr.iter().chain(&s.count)) {
                    let _ = eval(&expr.node, &Fake { radix: 16 });
                }
            }
            Err(error) => {
                error.point(&text);
                assert!(text.get(error.span.clone()).is_some(), "{text:?} {error:?}");
            }
        }
        let _ = parse_expr(&text, 10).map(|expr| eval(&expr.node, &Fake { radix: 10 }));
    }
}
