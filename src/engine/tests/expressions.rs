//! Random expressions against an evaluator of this test's own, which knows mdb's grammar from its documentation and
//! nothing of the engine's parser: a tree is made, worth something by the rules of 64-bit arithmetic, and written down with
//! no more parentheses than mdb's precedence asks for. The engine must read the text and come to the same value, and what
//! it prints of its own tree must be read as that tree again.

#![allow(clippy::unwrap_used)]

use engine::lang::{
    eval::{EvalError, Scope, eval},
    parse, parse_expr,
};

/// A generator of pseudo-random numbers (SplitMix64): the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Small, huge, or near the edges, where mistakes live.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => u64::MAX - self.below(3),
            3 => (1 << 63) + self.below(3) - 1,
            4 => 1 << self.below(64),
            5 => self.below(200),
            _ => self.next() >> self.below(64),
        }
    }
}

/// mdb's operators, with how tight they bind.
const OPERATORS: [(&str, u8); 13] = [
    ("|", 1),
    ("^", 2),
    ("&", 3),
    ("==", 4),
    ("!=", 4),
    ("<<", 5),
    (">>", 5),
    ("+", 6),
    ("-", 6),
    ("*", 7),
    ("%", 7),
    ("#", 7),
    ("%%", 8),
];

enum Tree {
    Leaf(String, u64),
    Prefix(char, Box<Tree>),
    Infix(usize, Box<Tree>, Box<Tree>),
}

#[derive(Debug, PartialEq)]
enum Fault {
    Zero,
    Overflow,
}

const DOT: u64 = 0xffff_8881_0000_1000;
const LAST: u64 = 0x2000;
const INCREMENT: u64 = 0x18;
const SYMBOL: u64 = 0xffff_ffff_8100_0000;

impl Tree {
    fn random(random: &mut Random, depth: u64, radix: u32) -> Tree {
        if depth == 0 || random.below(5) == 0 {
            return leaf(random, radix);
        }
        let child = |random: &mut Random| Box::new(Tree::random(random, depth - 1, radix));
        match random.below(5) {
            0 => Tree::Prefix(['-', '~', '#'][random.below(3) as usize], child(random)),
            _ => Tree::Infix(random.below(13) as usize, child(random), child(random)),
        }
    }

    fn value(&self) -> Result<u64, Fault> {
        Ok(match self {
            Tree::Leaf(_, value) => *value,
            Tree::Prefix(op, inner) => {
                let value = inner.value()?;
                match op {
                    '-' => (!value).wrapping_add(1),
                    '~' => value ^ u64::MAX,
                    _ => u64::from(value == 0),
                }
            }
            Tree::Infix(op, left, right) => {
                let (a, b) = (left.value()?, right.value()?);
                // in 128 bits, and cut off: no rule of wrapping is borrowed from the engine
                let (wide_a, wide_b) = (u128::from(a), u128::from(b));
                match OPERATORS[*op].0 {
                    "|" => a | b,
                    "^" => a ^ b,
                    "&" => a & b,
                    "==" => u64::from(a == b),
                    "!=" => u64::from(a != b),
                    "<<" if b > 63 => 0,
                    "<<" => (wide_a << b) as u64,
                    ">>" if b > 63 => 0,
                    ">>" => (wide_a >> b) as u64,
                    "+" => (wide_a + wide_b) as u64,
                    "-" => ((1u128 << 64) + wide_a - wide_b) as u64,
                    "*" => wide_a.wrapping_mul(wide_b) as u64,
                    "%%" if b == 0 => return Err(Fault::Zero),
                    "%%" => a % b,
                    "%" if b == 0 => return Err(Fault::Zero),
                    "%" => match i128::from(a as i64) / i128::from(b as i64) {
                        quotient if quotient > i128::from(i64::MAX) => return Err(Fault::Overflow),
                        quotient => quotient as u64,
                    },
                    _ if b == 0 => return Err(Fault::Zero),
                    _ => {
                        let up = (wide_a + wide_b - 1) as u64;
                        let quotient = i128::from(up as i64) / i128::from(b as i64);
                        (quotient as u64).wrapping_mul(b)
                    }
                }
            }
        })
    }

    /// `outer`: what the place binds by; looser trees need parentheses there.
    fn write(&self, random: &mut Random, outer: u8, text: &mut String) {
        let blank = |random: &mut Random, text: &mut String| {
            text.push_str(["", " ", "  ", "\t"][random.below(4) as usize]);
        };
        match self {
            Tree::Leaf(leaf, _) => text.push_str(leaf),
            Tree::Prefix(op, inner) => {
                text.push(*op);
                blank(random, text);
                inner.write(random, 9, text);
            }
            Tree::Infix(op, left, right) => {
                let (sign, level) = OPERATORS[*op];
                // sometimes more than are needed
                let open = level < outer || random.below(10) == 0;
                text.push_str(if open { "(" } else { "" });
                left.write(random, level, text);
                // `+ +`, `& &` and `% %%` need the blank, and mdb's operands do, too
                text.push(' ');
                text.push_str(sign);
                text.push(' ');
                right.write(random, level + 1, text);
                blank(random, text);
                text.push_str(if open { ")" } else { "" });
            }
        }
    }
}

/// A number in one of the notations, or an operand that is no number.
fn leaf(random: &mut Random, radix: u32) -> Tree {
    let value = random.number();
    let text = match random.below(12) {
        0 => return Tree::Leaf(".".into(), DOT),
        1 => return Tree::Leaf("+".into(), DOT + INCREMENT),
        2 => return Tree::Leaf("^".into(), DOT - INCREMENT),
        3 => return Tree::Leaf("&".into(), LAST),
        4 => return Tree::Leaf("<v".into(), 0x55),
        5 => return Tree::Leaf("_text".into(), SYMBOL),
        6 => {
            let value = value & 0x7f7f_7f7f | 0x2020_2020;
            let bytes: String = value.to_be_bytes().iter().skip(4).map(|b| format!("\\{b:03o}")).collect();
            return Tree::Leaf(format!("'{bytes}'"), value);
        }
        7 => format!("0t{value}"),
        8 => format!("0o{value:o}"),
        9 => format!("0i{value:b}"),
        10 => {
            // in the default radix; a number that begins with a letter would be a name first
            let mut digits = String::new();
            let mut rest = value;
            while rest > 0 || digits.is_empty() {
                digits.insert(0, char::from_digit((rest % u64::from(radix)) as u32, 16).unwrap());
                rest /= u64::from(radix);
            }
            // a zero in front and a digit behind it are no prefix
            if digits.starts_with(|c: char| c.is_ascii_alphabetic()) { format!("0{digits}") } else { digits }
        }
        _ => format!("0x{value:x}"),
    };
    // digit separators anywhere behind the first digit
    let prefix = if text.starts_with('0') && text.len() > 1 { 2 } else { 0 };
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        out.push(c);
        if i >= prefix && random.below(9) == 0 && !c.is_ascii_punctuation() {
            out.push_str(["_", "__"][random.below(2) as usize]);
        }
    }
    Tree::Leaf(out, value)
}

struct Fixed(u32);

impl Scope for Fixed {
    fn dot(&self) -> u64 {
        DOT
    }
    fn last_dot(&self) -> u64 {
        LAST
    }
    fn increment(&self) -> u64 {
        INCREMENT
    }
    fn var(&self, name: &str) -> Option<u64> {
        (name == "v").then_some(0x55)
    }
    fn symbol(&self, scopes: &[String], name: &str) -> Option<u64> {
        (scopes.is_empty() && name == "_text").then_some(SYMBOL)
    }
    fn read(&self, _: bool, _: u64, _: u8) -> Result<u64, String> {
        Err("no memory".into())
    }
    fn radix(&self) -> u32 {
        self.0
    }
}

fn worth(text: &str, radix: u32) -> Result<u64, Fault> {
    let expr = parse_expr(text, radix).unwrap_or_else(|e| panic!("{text}: {e}"));
    eval(&expr.node, &Fixed(radix)).map_err(|e| match e {
        EvalError::DivideByZero { .. } => Fault::Zero,
        EvalError::DivideOverflow { .. } => Fault::Overflow,
        e => panic!("{text}: {e}"),
    })
}

#[test]
fn fifty_thousand_expressions_are_worth_what_they_are() {
    let mut random = Random(1);
    let (mut faults, mut long) = (0, 0);
    for _ in 0..50_000 {
        let radix = [16, 16, 10, 8, 2, 13][random.below(6) as usize];
        let depth = random.below(6);
        let tree = Tree::random(&mut random, depth, radix);
        let mut text = String::new();
        tree.write(&mut random, 0, &mut text);
        let expected = tree.value();
        assert_eq!(worth(&text, radix), expected, "{text} in base {radix}");
        faults += u32::from(expected.is_err());
        long += u32::from(text.len() > 60);
        // what the engine prints of it is the same expression again, and means the same in every radix
        let read = parse_expr(&text, radix).unwrap().node;
        let printed = read.to_string();
        let again = parse_expr(&printed, 10).unwrap_or_else(|e| panic!("{text} was printed as {printed}: {e}")).node;
        assert_eq!(again.to_string(), printed);
        assert_eq!(worth(&printed, 10), expected, "{text} was printed as {printed}");
    }
    assert!(faults > 500 && long > 5000, "{faults} faults, {long} long ones: the generator lost its edge");
}

/// Lines made of pieces of the language: those that are lines must print as lines that are the same.
#[test]
fn lines_are_read_and_printed_and_read() {
    const PIECES: &[&str] = &[
        "::walk task",
        "::print",
        "init_task",
        " ",
        " ",
        " | ",
        " | ",
        "0t10",
        ",5",
        "/X",
        "=2J",
        "\"x y\"",
        "'a b'",
        " a->b[3].c",
        " -n",
        " $[1+2]",
        "!ls",
        " ! 'wc -l'",
        " ! 'cat' | ",
        ">x",
        ">/4/y",
        "$<f",
        "$>",
        "$c",
        ":c",
        ";",
        "\\8K",
        "?i",
        "/L 10 ff",
        "/w",
        "+",
        "^",
        "&",
        ".",
        "<x",
        "*",
        "%",
        "/4/",
        "(",
        ")",
        "- ",
        "#",
        "ext4`sym",
        "::`",
        " 'it\\'s'",
        " \"\\x41\\n\"",
        "$[",
        "]",
        "//c",
        "::where a != 1 || b !~ \"x\"",
        "\t",
        "é",
        "'abcd'",
    ];
    let mut random = Random(7);
    let mut kept = 0;
    for _ in 0..60_000 {
        let mut text = String::new();
        for _ in 0..1 + random.below(8) {
            text.push_str(PIECES[random.below(PIECES.len() as u64) as usize]);
        }
        let Ok(statements) = parse(&text, 16) else { continue };
        for statement in statements {
            kept += 1;
            let printed = statement.to_string();
            let again = parse(&printed, 10).unwrap_or_else(|e| panic!("{text:?} was printed as {printed:?}: {e}"));
            assert_eq!(again.len(), 1, "{text:?} was printed as {printed:?}");
            // spans differ, so the trees are compared by what they print, and by their shape
            assert_eq!(again[0].to_string(), printed, "of {text:?}");
            assert_eq!(again[0].stages.len(), statement.stages.len(), "{text:?} was printed as {printed:?}");
            assert_eq!(again[0].shell, statement.shell, "{text:?} was printed as {printed:?}");
        }
    }
    assert!(kept > 5000, "only {kept} lines were in the language");
}
