//! C expressions as tables, over a made-up `struct task`.

#![allow(clippy::unwrap_used)]

use super::{
    super::{ast::StageKind, tests::Random},
    *,
};

/// An object of the fake kernel.
#[derive(Clone, Debug, PartialEq)]
enum Val {
    Num(CInt),
    Chars(&'static str),
    Struct(&'static str),
    Ptr(u64, &'static str),
    Longs(u64),
    Gone,
}

/// A row with columns, whose item is a `struct task` at 0x1000.
struct Fake;

fn u32_(value: u32) -> Val {
    Val::Num(CInt::new(value.into(), 32, false))
}

impl Fake {
    fn field(of: &str, name: &str) -> Option<Val> {
        Some(match (of, name) {
            ("task", "pid") => Val::Num(CInt::new(42, 32, true)),
            ("task", "flags") => u32_(0xffffffff),
            ("task", "small") => Val::Num(CInt::new(0xff, 8, false)),
            ("task", "comm") => Val::Chars("sshd"),
            ("task", "mm") => Val::Ptr(0x2000, "mm"),
            ("task", "parent") => Val::Ptr(0, "task"),
            ("task", "d_lockref") => Val::Struct("lockref"),
            ("task", "longs") => Val::Longs(0x3000),
            ("task", "gone") => Val::Gone,
            ("lockref", "count") => Val::Num(CInt::new(0, 32, true)),
            ("mm", "pgd") => Val::Num(CInt::u64(0xffff888000000000)),
            ("mm", "owner") => Val::Ptr(0x1000, "task"),
            _ => return None,
        })
    }

    fn pointee(addr: u64, to: &'static str) -> CValue<Val> {
        match addr {
            0 => CValue::Unreadable("null pointer".into()),
            _ if to == "char" => CValue::Object(Val::Chars("text")),
            _ if to == "long" => CValue::Object(Val::Num(CInt::i64((addr / 8 % 100) as i64))),
            _ => CValue::Object(Val::Struct(to)),
        }
    }
}

impl CScope for Fake {
    type Val = Val;

    fn this(&self) -> Result<CValue<Val>, String> {
        Ok(CValue::Int(CInt::u64(0x1000)))
    }
    fn name(&self, name: &str) -> Option<CValue<Val>> {
        match name {
            "size" => Some(CValue::Int(CInt::u64(4096))),
            "state" => Some(CValue::Str("S (sleeping)".into())),
            "nothing" => Some(CValue::Null),
            "broken" => Some(CValue::Unreadable("excluded".into())),
            "task" => Some(CValue::Object(Val::Ptr(0x1000, "task"))),
            name => Fake::field("task", name).map(CValue::Object),
        }
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        [("PG_locked", 0), ("PG_lru", 5), ("BIG", 1 << 40), ("pid", 7)].iter().find(|e| e.0 == name).map(|e| e.1)
    }
    fn symbol(&self, name: &str) -> Option<Val> {
        match name {
            "init_task" => Some(Val::Struct("task")),
            "ext4`jiffies" => Some(Val::Num(CInt::u64(1000))),
            _ => None,
        }
    }
    fn member(&self, base: &Val, name: &str, arrow: bool) -> Result<CValue<Val>, String> {
        let of = match (base, arrow) {
            (Val::Struct(of), false) => of,
            (Val::Ptr(0, _), _) => return Ok(CValue::Unreadable("null pointer".into())),
            (Val::Ptr(_, to), _) => to,
            (Val::Gone, _) => return Ok(CValue::Unreadable("not in the dump".into())),
            _ => return Err(format!("no struct has a member '{name}' here")),
        };
        Fake::field(of, name).map(CValue::Object).ok_or_else(|| format!("struct {of} has no member '{name}'"))
    }
    fn index(&self, base: &Val, index: i128) -> Result<CValue<Val>, String> {
        match base {
            Val::Longs(at) | Val::Ptr(at, "long") => {
                Ok(CValue::Object(Val::Ptr(at.wrapping_add((index * 8) as u64), "long*")))
            }
            _ => Err("not an array".into()),
        }
    }
    fn deref(&self, base: &Val) -> Result<CValue<Val>, String> {
        match base {
            Val::Ptr(addr, to) => Ok(Fake::pointee(*addr, to)),
            Val::Longs(addr) => Ok(Fake::pointee(*addr, "long")),
            _ => Err("not a pointer".into()),
        }
    }
    fn address_of(&self, base: &Val) -> Result<CValue<Val>, String> {
        Ok(match base {
            Val::Struct(of) => CValue::Object(Val::Ptr(0x1000, of)),
            Val::Ptr(addr, "long*") => CValue::Object(Val::Ptr(*addr, "long")),
            _ => CValue::Int(CInt::u64(0x9000)),
        })
    }
    fn load(&self, object: &Val) -> Result<CValue<Val>, String> {
        Ok(match object {
            Val::Num(value) => CValue::Int(*value),
            Val::Ptr(addr, "long*") => CValue::Int(CInt::i64((addr / 8 % 100) as i64)),
            Val::Ptr(addr, _) | Val::Longs(addr) => CValue::Int(CInt::u64(*addr)),
            Val::Chars(_) => CValue::Int(CInt::u64(0x1010)),
            Val::Gone => CValue::Unreadable("not in the dump".into()),
            Val::Struct(of) => return Err(format!("struct {of} is no number")),
        })
    }
    fn text(&self, object: &Val) -> Option<Result<CValue<Val>, String>> {
        match object {
            Val::Chars(text) => Some(Ok(CValue::Str(text.to_string()))),
            Val::Gone => Some(Ok(CValue::Unreadable("not in the dump".into()))),
            _ => None,
        }
    }
    fn stride(&self, object: &Val) -> Option<u64> {
        matches!(object, Val::Longs(_) | Val::Ptr(_, "long")).then_some(8)
    }
    fn sizeof(&self, ctype: &str) -> Result<u64, String> {
        match ctype {
            "struct task" => Ok(9000),
            "long" => Ok(8),
            other => Err(format!("no type '{other}'")),
        }
    }
    fn cast(&self, ctype: &str, value: CValue<Val>) -> Result<CValue<Val>, String> {
        let number = match &value {
            CValue::Int(value) => *value,
            CValue::Object(object) => match self.load(object)? {
                CValue::Int(value) => value,
                other => return Ok(other),
            },
            _ => return Err("cannot be cast".into()),
        };
        Ok(match ctype {
            "u8" | "unsigned char" => CValue::Int(CInt::new(number.value(), 8, false)),
            "int" => CValue::Int(CInt::new(number.value(), 32, true)),
            "long" => CValue::Int(CInt::new(number.value(), 64, true)),
            "struct task *" => CValue::Object(Val::Ptr(number.as_u64(), "task")),
            "long *" => CValue::Object(Val::Ptr(number.as_u64(), "long")),
            other => return Err(format!("no type '{other}'")),
        })
    }
}

fn truth(text: &str) -> Truth {
    let expr = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    test(&expr, &Fake).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn number(text: &str) -> i128 {
    let expr = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    match eval(&expr, &Fake).unwrap_or_else(|e| panic!("{text}: {e}")) {
        CValue::Int(value) => value.value(),
        CValue::Object(object) => match Fake.load(&object) {
            Ok(CValue::Int(value)) => value.value(),
            other => panic!("{text}: {other:?}"),
        },
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn true_things() {
    for text in [
        "1",
        "d_lockref.count == 0",
        "task->mm != 0 && comm == \"sshd\"",
        "task->mm != NULL",
        "parent == NULL",
        "NULL == parent",
        "mm",
        "!parent",
        "comm",
        "comm =~ \"^ss\"",
        r#"comm =~ "^\w{4}$""#,
        "comm !~ \"bash\"",
        "comm < \"zsh\" && comm >= \"sshd\"",
        "state =~ \"sleeping\"",
        "size == 4096",
        "size / 2 == 0t2048",
        "size == 0x1000 && size == 0i1_0000_0000_0000 && size == 0o10000",
        "size % 7 == 1",
        "pid == 42",
        "pid == 'ab' - 'ab' + 42",
        "flags == -1",
        "small != -1",
        "flags == ~0",
        "~0 < 0",
        "flags & 4",
        "(flags & 4) == 4",
        "flags >> 31 == 1",
        "1 << 2 + 1 == 8",
        "1 + 2 * 3 == 7",
        "1 | 2 ^ 3 & 1",
        "2 > 1 == 1",
        "!0 && !!1",
        "-1 < 0",
        "-1 > 0U",
        "-1L < 0u",
        "PG_lru == 5",
        "1 << PG_lru == 32",
        "BIG == 1UL << 40",
        "&init_task == 0x1000",
        "init_task.pid == 42",
        "(&init_task)->pid == 42",
        "ext4`jiffies == 1000",
        "task->mm->owner->mm->pgd == 0xffff888000000000",
        "((struct task *)0x1234)->pid == 42",
        "(u8)size == 0",
        "(unsigned char)0x1ff == 255",
        "(size) - 1 == 4095",
        "sizeof(struct  task) == 9000",
        "longs[3] == 39",
        "*(longs + 3) == 39",
        "*(3 + longs) == 39",
        "*(&longs[4] - 1) == 39",
        "&longs[4] - &longs[1] == 3",
        "*(long *)0x3018 == 39",
        ". == 0x1000",
        ".pid == 42",
        "nothing != 5",
        "nothing == NULL",
        "!nothing",
        "!(nothing == 0)",
        "nothing !~ \"x\"",
        "1 || broken",
        "broken || 1",
        "!(0 && broken)",
        "!(broken && 0)",
        "0 == 00",
        " pid\n== 42 ",
    ] {
        assert_eq!(truth(text), Truth::True, "{text}");
    }
}

#[test]
fn false_things() {
    for text in [
        "0",
        "comm == \"bash\"",
        "comm =~ \"^bash\"",
        "flags & 4 == 4 && 0",
        "parent",
        "nothing",
        "nothing == 5",
        "nothing < 5",
        "nothing =~ \"\"",
        "broken && 0",
        "0 && nonsense",
    ] {
        assert_eq!(truth(text), Truth::False, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_unknown() {
    for text in [
        "broken",
        "!broken",
        "broken == 1",
        "broken != 1",
        "broken =~ \"x\"",
        "broken + 1 > 0",
        "broken && 1",
        "broken || 0",
        "gone == 3",
        "gone =~ \"x\"",
        "gone.a.b == 3",
        "parent->pid == 0",
        "*parent",
        "(int)broken",
        "longs[broken]",
        "-broken",
        "1 / 0 == 0",
        "1 % 0",
    ] {
        assert!(matches!(truth(text), Truth::Unknown(_)), "{text}");
    }
    assert_eq!(truth("parent->pid == 0"), Truth::Unknown("null pointer".into()));
    assert_eq!(truth("1 / (size - 4096)"), Truth::Unknown("division by zero".into()));
}

#[test]
fn values() {
    for (text, value) in [
        ("size + 1", 4097),
        ("7 / 2 * 2", 6),
        ("-7 / 2", -3),
        ("~1", -2),
        ("0x80000000 + 0x80000000", 0),
        ("2147483648 + 2147483648", 4294967296),
        ("2147483647 + 1", -2147483648),
        ("'a'", 97),
        ("'\\n'", 10),
        ("NULL", 0),
        ("+5", 5),
        ("10", 10),
        ("0x10", 16),
        ("1_000", 1000),
        ("18446744073709551615", u64::MAX.into()),
        ("10 - 3 - 2", 5),
        ("mm", 0x2000),
    ] {
        assert_eq!(number(text), value, "{text}");
    }
}

#[test]
fn questions_that_cannot_be_asked() {
    for (text, at, words) in [
        ("nonsense == 1", "nonsense", "no column, member, enumerator or symbol"),
        ("pid == 42 && task->nope", "task->nope", "struct task has no member 'nope'"),
        ("d_lockref.nope == 1", "d_lockref.nope", "struct lockref has no member 'nope'"),
        ("comm == 5 || state == 5", "state == 5", "compares a text with a number"),
        ("size == \"x\"", "size == \"x\"", "compares a text with a number"),
        ("pid =~ \"4\"", "pid", "match texts"),
        ("size.x", "size.x", "a number has no member 'x'"),
        ("*size", "*size", "only a pointer can be dereferenced"),
        ("&size", "&size", "only an object has an address"),
        ("size[1]", "size", "only arrays and pointers have elements"),
        ("init_task + 1", "init_task", "struct task is no number"),
        ("state + 1", "state", "a text is no number"),
        ("longs + longs", "longs + longs", "two pointers cannot be added"),
        ("sizeof(struct nope)", "sizeof(struct nope)", "no type 'struct nope'"),
        ("(struct nope *)1", "(struct nope *)1", "no type 'struct nope *'"),
    ] {
        let error = test(&parse(text).unwrap(), &Fake).expect_err(text);
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(&text[error.span.clone()], at, "{text}");
    }
}

#[test]
fn str_is_a_cast() {
    for text in ["str(a + 1)", "str (a)"] {
        let kind = parse(text).unwrap().kind;
        assert!(matches!(&kind, CKind::Cast(ctype, _) if ctype == "char *"), "{text}: {kind:?}");
    }
    assert!(matches!(parse("str").unwrap().kind, CKind::Name(_)));
    assert!(matches!(parse("p->str").unwrap().kind, CKind::Member { .. }));
}

#[test]
fn mistakes_teach() {
    for (text, at, words) in [
        ("count = 0", "=", "equal is =="),
        ("count == 010", "010", "0o10 is octal, 10 is decimal"),
        ("a ? b : c", "?", "there is no ?:"),
        ("f(1)", "(", "functions cannot be called"),
        ("(a", "(", "( unmatched"),
        ("a[1", "[", "[ unmatched"),
        ("a)", ")", ") unmatched"),
        ("a == \"x", "\"", "\" unmatched"),
        ("a =~ x", "x", "pattern in double quotes"),
        ("a =~ \"(\"", "\"(\"", "unclosed group"),
        ("a b", "b", "expected an operator"),
        ("a ==", "", "operand is missing"),
        ("", "", "operand is missing"),
        ("a.", "", "member name"),
        ("12x", "x", "digit 'x'"),
        ("1f", "f", "hexadecimal is 0x1f"),
        ("99999999999999999999", "99999999999999999999", "64 bits"),
        ("sizeof 4", "4", "type in parentheses"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert_eq!(&text[error.span.clone()], at, "{text}: {error}");
    }
    assert!(parse("(a &&").unwrap_err().incomplete);
    assert!(parse(&"(".repeat(100_000)).unwrap_err().message.contains("256 terms"));
    assert!(parse(&format!("a{}", ".b".repeat(100_000))).unwrap_err().message.contains("256 terms"));
}

#[test]
fn long_expressions_are_evaluated_once() {
    assert_eq!(number(&["size"; 200].join(" + ")), 200 * 4096);
    assert_eq!(truth(&["0"; 200].join(" || ")), Truth::False);
    assert_eq!(truth(&format!("{}1", "!".repeat(200))), Truth::True);
}

#[test]
fn both_ways_of_quoting_mean_the_same() {
    for line in
        [r#"::where 'comm == "sshd" && pid != 1 || x !~ "a b"'"#, r#"::where comm == "sshd" && pid != 1 || x !~ "a b""#]
    {
        let statements = crate::lang::parse(line, 16).unwrap();
        let StageKind::Dcmd { args, .. } = &statements[0].stages[0].kind else { panic!() };
        assert_eq!(text_of(args), r#"comm == "sshd" && pid != 1 || x !~ "a b""#);
        assert!(statements[0].shell.is_none());
    }
}

#[test]
fn random_expressions_never_panic() {
    const PIECES: &[&str] = &[
        "1",
        "0",
        "0x8000000000000000",
        "18446744073709551615",
        "65",
        "'a'",
        "\"s\"",
        "\"",
        "(",
        ")",
        "(",
        ")",
        "[",
        "]",
        ".",
        "->",
        "+",
        "-",
        "*",
        "/",
        "%",
        "<<",
        ">>",
        "<",
        ">",
        "<=",
        "==",
        "!=",
        "=~ \"a\"",
        "!~",
        "&&",
        "||",
        "&",
        "|",
        "^",
        "~",
        "!",
        "comm",
        "task",
        "mm",
        "longs",
        "gone",
        "broken",
        "nothing",
        "size",
        "flags",
        "pid",
        "BIG",
        "sizeof(long)",
        "(u8)",
        "(long *)",
        " ",
        "é",
        "NULL",
        "init_task",
    ];
    let mut random = Random(7);
    for _ in 0..100_000 {
        let text = random.text(PIECES, 14);
        match parse(&text) {
            Ok(expr) => drop((test(&expr, &Fake), eval(&expr, &Fake))),
            Err(error) => assert!(text.get(error.span.clone()).is_some(), "{text:?} {error:?}"),
        }
    }
}
