#![allow(clippy::unwrap_used)]
use super::*;

struct Fake;

impl Names for Fake {
    fn symbol(&self, addr: u64) -> Option<(String, u64)> {
        (0x1000..0x1100).contains(&addr).then(|| ("kmem_free".into(), addr - 0x1000))
    }
    fn time(&self, seconds: i64) -> Option<String> {
        (seconds > 0).then(|| format!("<{seconds}>"))
    }
    fn radix(&self) -> u32 {
        16
    }
}

fn one(format: &str, value: u64) -> String {
    Format::parse(format).unwrap().render(&[Arg::Int(value)], &Fake).unwrap()
}

#[test]
fn conversions() {
    let minus = |value: i64| value as u64;
    for (format, value, text) in [
        ("%d", minus(-1), "-1"),
        ("%d", 0xffffffff, "-1"),
        ("%hd", 0x8000, "-32768"),
        ("%lld", 0xffffffff, "4294967295"),
        ("%u", minus(-1), "4294967295"),
        ("%llu", minus(-1), "18446744073709551615"),
        ("%#x", 0, "0"),
        ("%#x", 3, "0x3"),
        ("%#o", 8, "010"),
        ("%#X", 0xab, "0XAB"),
        ("%X", 0xab, "AB"),
        ("%#r", 3, "3"),
        ("%#r", 0x28, "0x28"),
        ("%#d", 42, "0t42"),
        ("%#d", minus(-4), "-0t4"),
        ("%r", 0x28, "28"),
        ("%R", minus(-0x28), "-28"),
        ("%q", minus(-8), "-10"),
        ("%-#8o|", 8, "010     |"),
        ("%-8x|", 0xff, "ff      |"),
        ("%8x", 0xff, "      ff"),
        ("%08x", 0xff, "000000ff"),
        ("%#08x", 0xff, "0x0000ff"),
        ("%05d", minus(-5), "-0005"),
        ("%?p", 0xff, "              ff"),
        ("%0?p", 0xff, "00000000000000ff"),
        ("%+d", 5, "+5"),
        ("%a", 0x1000, "kmem_free"),
        ("%a", 0x1004, "kmem_free+4"),
        ("%a", 0x1024, "kmem_free+0x24"),
        ("%#a", 0x1024, "kmem_free+0x24:"),
        ("%a", 0x2000, "0x2000"),
        ("%A", 0x2000, ""),
        ("%#A", 0x2000, "?"),
        ("%c", 0x41, "A"),
        ("%I", 0x0100007f, "127.0.0.1"),
        ("%Y", 5, "<5>"),
        ("%Y", minus(-5), "-5"),
        ("a%%b%d", 1, "a%b1"),
        ("%<b>%d%</b>", 1, "1"),
        ("ab%8T%d", 1, "ab      1"),
        ("%m%d", 1, "                1"),
        ("a%t%d", 1, "a       1"),
    ] {
        assert_eq!(one(format, value), text, "{format}");
    }
}

#[test]
fn sizes_for_humans() {
    for (value, text) in [
        (0, "0"),
        (1023, "1023"),
        (1024, "1K"),
        (1536, "1.50K"),
        (10239, "10.0K"),
        (10240, "10K"),
        (10241, "10.0K"),
        (1043968, "1020K"),
        (1043969, "1020K"),
        (1 << 40, "1T"),
        (u64::MAX, "16.0E"),
    ] {
        assert_eq!(human_size(value), text);
    }
}

#[test]
fn doubles() {
    assert_eq!(double(1.5, 7, 'e'), "+1.5000000e+00");
    assert_eq!(double(1.5, 16, 'e'), "+1.5000000000000000e+00");
    assert_eq!(double(-3.9829317e-60, 7, 'e'), "-3.9829317e-60");
    assert_eq!(double(1e300, 7, 'e'), "+1.0000000e+300");
    assert_eq!(double(f64::NEG_INFINITY, 7, 'e'), "-Inf");
}

#[test]
fn printf_takes_its_part_of_the_dialect() {
    let bytes = Arg::Bytes([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let args = [Arg::Str("x".into()), Arg::Int(u64::MAX), bytes];
    assert_eq!(printf("%-3s|%d|%N", &args, &Fake).unwrap(), "x  |-1|2001:db8::1");
    assert_eq!(printf("%?x", &args[1..2], &Fake).unwrap(), "ffffffffffffffff");
    assert_eq!(printf("%lx", &args[1..2], &Fake), Err(PrintfError::Illegal { letter: 'l', position: 2 }));
    assert_eq!(printf("%d%c", &args, &Fake), Err(PrintfError::Illegal { letter: 'c', position: 4 }));
    assert_eq!(printf("%", &[], &Fake), Err(PrintfError::Illegal { letter: '%', position: 1 }));
    assert_eq!(printf("%d", &[], &Fake), Err(PrintfError::Extra { found: 1, expected: 0 }));
    assert_eq!(printf("%d", &args, &Fake), Err(PrintfError::Missing { found: 1, expected: 3 }));
    assert_eq!(printf("%s", &args[1..2], &Fake), Err(PrintfError::Mismatch { letter: 's', needs: "a string" }));
    assert_eq!(printf("%99999999999999999999d", &args[1..2], &Fake).unwrap().len(), MAX_WIDTH);
}

#[test]
fn random_formats_never_panic() {
    const PIECES: &[&str] = &[
        "%",
        "%",
        "-",
        "0",
        "12",
        "?",
        "#",
        "+",
        "h",
        "l",
        "ll",
        "a",
        "A",
        "d",
        "H",
        "I",
        "o",
        "q",
        "r",
        "R",
        "u",
        "x",
        "X",
        "Y",
        "c",
        "e",
        "m",
        "t",
        "T",
        "<b>",
        "<",
        "s",
        "text",
        "\n",
        "\t",
        "é",
        "9999999999",
    ];
    let mut random = super::super::tests::Random(3);
    for _ in 0..20_000 {
        let text = random.text(PIECES, 10);
        if let Ok(format) = Format::parse(&text) {
            let args = vec![Arg::Int(random.next()); format.specs().count()];
            let _ = format.render(&args, &Fake);
        }
        let _ = printf(&text, &[Arg::Int(1)], &Fake);
    }
}
