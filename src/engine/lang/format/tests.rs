//! What the verbs print, line by line.

#![allow(clippy::unwrap_used)]

use super::{
    super::{
        ast::StageKind,
        eval::{Scope, eval},
        parse,
        tests::Random,
    },
    *,
};
use std::cell::Cell;

/// Two pages at 0x1000 and one at 0x5000.
struct Fake {
    lines: Vec<String>,
    values: Vec<u64>,
    memory: Vec<u8>,
    width: Option<usize>,
    radix: u32,
    patience: Cell<u32>,
}

impl Fake {
    fn new() -> Fake {
        let mut memory: Vec<u8> = (0..0x3000u32).map(|i| i as u8).collect();
        memory[0x100..0x10e].copy_from_slice(b"hello\tw\x01\"\0abc\0");
        memory[0x200..0x204].copy_from_slice(&1.5f32.to_le_bytes());
        memory[0x208..0x210].copy_from_slice(&1.5f64.to_le_bytes());
        memory[0x300..0x308].fill(0xff);
        memory[0x2010..0x2014].copy_from_slice(&0xdeadbeefu32.to_le_bytes());
        memory[0x1ffe..0x2000].copy_from_slice(&0xbeefu16.to_le_bytes());
        Fake { lines: vec![], values: vec![], memory, width: Some(80), radix: 16, patience: Cell::new(100_000) }
    }

    fn place(addr: u64) -> Option<usize> {
        match addr {
            0x1000..0x3000 => Some((addr - 0x1000) as usize),
            0x5000..0x6000 => Some((addr - 0x3000) as usize),
            _ => None,
        }
    }
}

impl Names for Fake {
    fn symbol(&self, addr: u64) -> Option<(String, u64)> {
        let names = [(0x1000, 0x100, "panic_on_oops"), (0x1100, 8, "str"), (0x1123456789, 4, "ext4`sym")];
        let found = names.iter().find(|&&(start, size, _)| (start..start + size).contains(&addr))?;
        Some((found.2.into(), addr - found.0))
    }
    fn time(&self, seconds: i64) -> Option<String> {
        (seconds >= 0).then(|| format!("1970 Jan  1 00:00:{seconds:02}"))
    }
    fn radix(&self) -> u32 {
        self.radix
    }
}

impl FormatIo for Fake {
    fn read(&mut self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        for (i, byte) in buf.iter_mut().enumerate() {
            let place = Fake::place(addr.wrapping_add(i as u64));
            *byte = *place.and_then(|p| self.memory.get(p)).ok_or("no mapping for address")?;
        }
        Ok(())
    }
    fn instruction(&mut self, addr: u64) -> Result<(String, u64), String> {
        match Fake::place(addr) {
            Some(_) => Ok((format!("nop{}", addr & 0xf), 2)),
            None => Err("no mapping for address".into()),
        }
    }
    fn next_mapped(&mut self, addr: u64) -> Option<u64> {
        match addr {
            ..0x1000 => Some(0x1000),
            0x1000..0x3000 | 0x5000..0x6000 => Some(addr),
            0x3000..0x5000 => Some(0x5000),
            _ => None,
        }
    }
    fn width(&self) -> Option<usize> {
        self.width
    }
    fn interrupted(&self) -> bool {
        self.patience.set(self.patience.get().saturating_sub(1));
        self.patience.get() == 0
    }
    fn line(&mut self, line: String) {
        self.lines.push(line);
    }
    fn value(&mut self, value: u64) {
        self.values.push(value);
    }
}

impl Scope for Fake {
    fn dot(&self) -> u64 {
        0x1000
    }
    fn last_dot(&self) -> u64 {
        0
    }
    fn increment(&self) -> u64 {
        0
    }
    fn var(&self, _: &str) -> Option<u64> {
        None
    }
    fn symbol(&self, _: &[String], name: &str) -> Option<u64> {
        [("panic_on_oops", 0x1000), ("str", 0x1100)].iter().find(|s| s.0 == name).map(|s| s.1)
    }
    fn read(&self, _: bool, _: u64, _: u8) -> Result<u64, String> {
        Err("no memory".into())
    }
    fn radix(&self) -> u32 {
        self.radix
    }
}

fn run(fake: &mut Fake, text: &str) -> Result<Outcome, FormatError> {
    let statement = parse(text, fake.radix).unwrap().remove(0);
    let value = |expr: &Option<_>, default| {
        expr.as_ref().map_or(Ok(default), |e: &super::super::ast::Spanned<_>| eval(&e.node, &*fake))
    };
    let (dot, count) = (value(&statement.addr, 0x1000)?, value(&statement.count, 1)?);
    let StageKind::Verb { verb, format } = &statement.stages[0].kind else { panic!("{text}") };
    let mut run = FormatRun::new(*verb, format, false, fake)?;
    let outcome = run.at(fake, dot, 4, count);
    run.finish(fake);
    Ok(outcome)
}

fn lines(text: &str) -> Vec<String> {
    let mut fake = Fake::new();
    let outcome = run(&mut fake, text).unwrap();
    assert_eq!(outcome.error, None, "{text}");
    fake.lines
}

/// Lines of items at the margin, `each` of them on a line, all padded.
fn columns(item: &str, width: usize, each: usize) -> Vec<String> {
    let total = 16;
    (0..total)
        .step_by(each)
        .map(|first| format!("{:16}{}", "", format!("{item:width$}").repeat(each.min(total - first))))
        .collect()
}

#[test]
fn widths_of_64_bit_letters() {
    assert_eq!(lines("-1,10=E"), columns("18446744073709551615", 21, 3));
    assert_eq!(lines("1<<0t63,10=E"), columns("9223372036854775808", 21, 3));
    assert_eq!(lines("-1,10=e"), columns("-1", 21, 3));
    assert_eq!(lines("1<<0t63,10=e"), columns("-9223372036854775808", 21, 3));
    assert_eq!(lines("-1,10=G"), columns("1777777777777777777777", 23, 2));
    assert_eq!(lines("1<<0t57,10=G"), columns("10000000000000000000", 23, 2));
    assert_eq!(lines("-1,10=g"), columns("-1", 24, 2));
    assert_eq!(lines("1<<0t63,10=g"), columns("-1000000000000000000000", 24, 2));
    assert_eq!(lines("-1,10=J"), columns("ffffffffffffffff", 17, 3));
    assert_eq!(lines("-1=16J"), columns("ffffffffffffffff", 17, 3));
    assert_eq!(lines("1<<0t63,10=p"), columns("0x8000000000000000", 19, 3));
    assert_eq!(lines("1<<0t63,10=P"), columns("0x8000000000000000", 19, 3));
    // the last column would be padded to the edge, where padding becomes the newline
    let narrow: Vec<String> =
        columns("800000000000000", 16, 4).iter().map(|line| line.trim_end().to_string()).collect();
    assert_eq!(lines("1<<0t59,10=J"), narrow);
    assert_eq!(lines("1=RR"), ["                1", "                1"]);
    let ones = format!("{:16}{}", "", "1".repeat(64));
    assert_eq!(lines("-1=RR"), [ones.clone(), ones]);
}

#[test]
fn values_of_every_letter() {
    for (text, expected) in [
        ("ff=B", "ff      "),
        ("ff=V", "255     "),
        ("ff=v", "-1      "),
        ("ff=b", "0377    "),
        ("41=c", "A"),
        ("0=c", ""),
        ("0a=C", "\\n"),
        ("6f6c=3C", "lo\\0"),
        ("ffff=d", "-1      "),
        ("ffff=u", "65535   "),
        ("ffff=x", "ffff    "),
        ("ffff=o", "0177777 "),
        ("fff8=q", "-010    "),
        ("1234=h", "3412    "),
        ("12345678=H", "78563412        "),
        ("ffff=w", "ffff    "),
        ("ffffffff=D", "-1              "),
        ("ffffffff=U", "4294967295      "),
        ("ffffffff=X", "ffffffff        "),
        ("ffffffff=O", "037777777777    "),
        ("fffffff8=Q", "-010            "),
        ("12=W", "12              "),
        ("12=Z", "12              "),
        ("12=K", "12              "),
        ("3=Y", "1970 Jan  1 00:00:03    "),
        ("3=y", "1970 Jan  1 00:00:03    "),
        ("-1=y", "-1                      "),
        ("0t1.5=F", "+1.5000000000000000e+00"),
        ("3fc00000=f", "+1.5000000e+00"),
        ("1024=p", "panic_on_oops+0x24 "),
        ("1123456789=p", "ext4`sym           "),
        ("0t1024=2X\"= \"D", "400             400             = 1024            "),
        ("1=4+X", "5               "),
        ("8=3-X", "5               "),
        ("1=X3rX", "1                  1               "),
        ("1=\"a\"tX", "a 1               "),
        ("1=\"a\"8tX", "a       1               "),
    ] {
        let all = lines(text);
        let first = all.first().map_or("", String::as_str);
        match expected {
            "" => assert!(first.trim().is_empty(), "{text}: {first:?}"),
            _ => assert_eq!(first, format!("{:16}{expected}", ""), "{text}"),
        }
    }
    assert_eq!(lines("1004=a"), ["panic_on_oops+4:                "], "an address past the margin goes to the next");
    assert_eq!(lines("10=a"), ["0x10:           "]);
    assert_eq!(lines("6f6c6c6568=s"), ["hello"], "strings are not indented");
    assert_eq!(lines("6f6c6c6568=S"), ["hello"]);
}

#[test]
fn headings_and_margins() {
    assert_eq!(lines("panic_on_oops/2X"), ["panic_on_oops:", "panic_on_oops:  3020100         7060504         "]);
    assert_eq!(lines("1004/X"), ["panic_on_oops+4:                7060504         "]);
    assert_eq!(lines("1200/X"), ["0x1200:         3fc00000        "]);
    assert_eq!(lines("1000\\X"), ["0x1000:         3020100         "]);
    assert_eq!(
        lines("1200,2/XXn"),
        ["0x1200:         3fc00000        7060504         ", "                0               3ff80000        "]
    );
    assert_eq!(
        lines("1010,3/nap"),
        [
            "panic_on_oops+0x10:             ",
            "panic_on_oops+0x10:             0x1716151413121110 ",
            "panic_on_oops+0x18:             0x1f1e1d1c1b1a1918 ",
            "panic_on_oops+0x20:             0x2726252423222120 "
        ]
    );
    assert_eq!(lines("1000/ai"), ["panic_on_oops:  ", "panic_on_oops:  nop0"]);
    assert_eq!(lines("1000,2/ia")[0], "panic_on_oops:  nop0");
    assert_eq!(lines("1000/i"), ["panic_on_oops:", "panic_on_oops:  nop0"]);
    assert_eq!(lines("1200/"), ["0x1200:         3fc00000        = nop0"]);
    assert_eq!(lines("1200/I"), ["0x1200:         1200 3fc00000: nop0"]);
    assert_eq!(lines("str/s"), ["str:", "str:            hello   w\u{1}\""]);
    assert_eq!(lines("str/S"), ["str:", "str:            hello\\tw\\001\\\""]);
    assert_eq!(lines("str/2S"), ["str:", "str:            hello\\tw\\001\\\"\\0abc"]);
    assert_eq!(lines("str/5c"), ["str:", "str:            hello"]);
    assert_eq!(lines("1200/f"), ["0x1200:         +1.5000000e+00"]);
    assert_eq!(lines("1200/$[1+1]X"), ["0x1200:         3fc00000        7060504         "]);
    assert_eq!(lines("0,0=X"), [""; 0]);
}

#[test]
fn without_a_width_nothing_wraps() {
    let mut fake = Fake::new();
    fake.width = None;
    run(&mut fake, "1,10=X").unwrap();
    assert_eq!(fake.lines, [format!("{:16}{}", "", "1               ".repeat(16))]);
}

#[test]
fn the_legend_of_bits() {
    assert_eq!(
        lines("0i11_101=j"),
        [
            "                11101",
            "                ||| |",
            "                ||| +-- bit 0 mask 0x01",
            "                ||+---- bit 2 mask 0x04",
            "                |+----- bit 3 mask 0x08",
            "                +------ bit 4 mask 0x10",
        ]
    );
    assert_eq!(lines("0=j"), ["                0"]);
    assert_eq!(lines("1=j"), ["                1", "                |", "                +-- bit 0 mask 0x1"]);
    let feedface = lines("feedface=JRjnn");
    assert_eq!(feedface[2], "                11111110111011011111101011001110");
    assert_eq!(feedface[3], "                ||||||| ||| || |||||| | ||  |||");
    assert_eq!(feedface[4], "                ||||||| ||| || |||||| | ||  ||+--- bit 1  mask 0x00000002");
    assert_eq!(feedface[27], "                +--------------------------------- bit 31 mask 0x80000000");
    assert_eq!(feedface[28..], ["                ", "                "]);
    let all = lines("-1=j");
    assert_eq!(all.len(), 66);
    assert!(all[2].ends_with("+-- bit 0  mask 0x0000000000000001"));
}

#[test]
fn dot_and_increment() {
    let outcome = |text| {
        let outcome = run(&mut Fake::new(), text).unwrap();
        (outcome.dot, outcome.increment, outcome.value)
    };
    assert_eq!(outcome("1000/X"), (0x1000, 4, Some(0x3020100)));
    assert_eq!(outcome("1000,3/X"), (0x1008, 4, Some(0xb0a0908)));
    assert_eq!(outcome("1000/KX"), (0x1000, 12, Some(0xb0a0908)));
    assert_eq!(outcome("1000/X^X"), (0x1000, 4, Some(0x3020100)));
    assert_eq!(outcome("1010/^X"), (0x1010, 0, Some(0xf0e0d0c)), "back by the last command's increment");
    assert_eq!(outcome("1000/8+x"), (0x1000, 10, Some(0x908)));
    assert_eq!(outcome("str/s"), (0x1100, 10, None));
    assert_eq!(outcome("1000=X"), (0x1000, 0, Some(0x1000)));
    assert_eq!(outcome("1000=4+X"), (0x1004, 0, Some(0x1004)));
    assert_eq!(outcome("1000/2i"), (0x1000, 4, None));
}

#[test]
fn searches() {
    let found = |text| {
        let mut fake = Fake::new();
        let outcome = run(&mut fake, text).unwrap();
        assert_eq!(outcome.error, None);
        fake.lines.pop().map(|_| outcome.dot)
    };
    assert_eq!(found("1000/L 7060504"), Some(0x1004));
    assert_eq!(found("1000/l beef"), Some(0x2ffe));
    assert_eq!(found("1001/L 4030201"), Some(0x1001));
    assert_eq!(found("1000/L deadbeef"), Some(0x5010));
    assert_eq!(found("1001/L deadbeef"), None, "the steps of four stay out of phase behind a hole");
    assert_eq!(found("0/M ffffffffffffffff"), Some(0x1300));
    assert_eq!(found("1000/l 5 ff"), None);
    assert_eq!(found("1001/l 5 ff"), Some(0x1005));
    assert_eq!(found("2000/l 1 0"), None);
    assert_eq!(found("ffffffffffffffff/L 1"), None);
    assert_eq!(lines("1000/L 7060504"), ["panic_on_oops+4"]);
}

#[test]
fn refusals() {
    let error = |text: &str| match run(&mut Fake::new(), text) {
        Err(error) => error.to_string(),
        Ok(outcome) => outcome.error.map_or(String::new(), |e| e.to_string()),
    };
    assert_eq!(error("1000/W 1"), "the target is read-only");
    assert_eq!(error("1000/z 1"), "the target is read-only");
    assert_eq!(error("1000/v"), "the target is read-only");
    assert_eq!(error("1000=i"), "'i' disassembles memory: use / instead of =");
    assert_eq!(error("3ffc/X"), "failed to read data from target at 0x3ffc: no mapping for address");
    assert_eq!(error("2ffc,2/X"), "failed to read data from target at 0x3000: no mapping for address");
    assert_eq!(error("1000/$[nope]X"), "failed to dereference symbol 'nope': unknown symbol name");
    assert_eq!(error("1,ffffffffffffffff=X"), "interrupted");
    assert_eq!(error("1=18446744073709551615n"), "interrupted");
}

#[test]
fn what_was_read_before_an_error_is_shown() {
    let mut fake = Fake::new();
    assert!(run(&mut fake, "2ff8,3/X").unwrap().error.is_some());
    assert_eq!(fake.lines, ["0x2ff8:         fbfaf9f8        beeffdfc        "]);
}

#[test]
fn one_heading_for_a_whole_pipe() {
    let mut fake = Fake::new();
    let statement = parse("/K", 16).unwrap().remove(0);
    let StageKind::Verb { verb, format } = &statement.stages[0].kind else { panic!() };
    let mut run = FormatRun::new(*verb, format, false, &fake).unwrap();
    for addr in [0x1200, 0x1300] {
        run.at(&mut fake, addr, 0, 1);
    }
    run.finish(&mut fake);
    assert_eq!(fake.lines, ["0x1200:         70605043fc00000 ffffffffffffffff "]);
    assert_eq!(fake.values, [0x70605043fc00000, u64::MAX]);
}

#[test]
fn random_lists_never_panic() {
    const PIECES: &[&str] = &[
        "X", "K", "j", "R", "n", "a", "p", "s", "S", "C", "c", "i", "I", "t", "T", "r", "+", "-", "^", "2", "17",
        "$[2]", "\"x\"", "F", "f", "y", "Y", "h", "H", "v", "W",
    ];
    let mut random = Random(42);
    for _ in 0..5_000 {
        let verb = ["/", "=", "\\", "?"][random.next() as usize % 4];
        let text = format!("{:x},2{verb}n{}", random.next() % 0x7000, random.text(PIECES, 8));
        let mut fake = Fake::new();
        fake.width = [None, Some(80), Some(10), Some(0)][random.next() as usize % 4];
        if parse(&text, 16).is_ok() {
            let _ = run(&mut fake, &text);
        }
    }
}
