//! The table of format letters: how many bytes each takes and how it prints them.
//!
//! Most letters are one printf conversion, so the table holds that, and `::formats` describes it in words. The widths
//! of the 64-bit letters leave a blank between columns (illumos 11207).

use super::super::printf::{Format, Spec};

/// What a letter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// reads a value and prints it by a printf conversion
    Printf(&'static str),
    /// as `Printf`, after swapping the bytes
    Swapped(&'static str),
    /// a signed byte
    SignedByte,
    /// hex, 64 bits, a column wider if the top digit is there
    Hex64,
    /// binary, 64 bits
    Binary,
    /// binary with a legend of its bits
    Legend,
    /// single-precision float
    Float,
    /// double-precision float
    Double,
    /// a date of so many bytes
    Time,
    /// a character with C escapes
    EscapedChar,
    /// a string up to its NUL, as it is
    RawString,
    /// a string up to its NUL, with C escapes
    EscapedString,
    /// an instruction
    Instruction,
    /// address, bytes, instruction
    AddressedInstruction,
    /// dot as a symbol
    Dot,
    /// dot plus the count
    Plus,
    /// dot minus the count
    Minus,
    /// dot minus the last letter's size times the count
    Back,
    /// a new line
    Newline,
    /// blanks
    Blank,
    /// to a tab stop
    Tab,
    /// searches memory, first in the list only
    Search,
    /// writes memory, first in the list only
    WriteOnly,
}

/// One letter.
pub(super) struct Letter {
    pub letter: char,
    pub action: Action,
    /// bytes of one item; 0 if that varies
    pub size: u8,
    /// also the name of a write, where it comes first
    pub writes: bool,
    /// in words, if the conversion does not say it
    help: &'static str,
}

const fn print(letter: char, size: u8, format: &'static str) -> Letter {
    Letter { letter, action: Action::Printf(format), size, writes: false, help: "" }
}

const fn special(letter: char, size: u8, action: Action, help: &'static str) -> Letter {
    Letter { letter, action, size, writes: false, help }
}

const fn writing(letter: Letter) -> Letter {
    Letter { writes: true, ..letter }
}

/// Every letter, in the order of its code.
const LETTERS: &[Letter] = &[
    special('+', 0, Action::Plus, "increment dot by the count"),
    special('-', 0, Action::Minus, "decrement dot by the count"),
    print('B', 1, "%-8x"),
    special('C', 1, Action::EscapedChar, "character using C character notation"),
    print('D', 4, "%-16d"),
    print('E', 8, "%-21llu"),
    special('F', 8, Action::Double, "double"),
    print('G', 8, "%-23llo"),
    special('H', 4, Action::Swapped("%-16x"), "swap bytes and shorts"),
    special('I', 0, Action::AddressedInstruction, "address and disassembled instruction"),
    special('J', 8, Action::Hex64, "hexadecimal long long"),
    special('K', 8, Action::Hex64, "hexadecimal uintptr_t"),
    special('L', 4, Action::Search, "int"),
    special('M', 8, Action::Search, "long long"),
    special('N', 0, Action::Newline, "newline"),
    print('O', 4, "%-#16o"),
    print('P', 8, "%-19a"),
    print('Q', 4, "%-#16q"),
    special('R', 8, Action::Binary, "binary unsigned long long"),
    special('S', 0, Action::EscapedString, "string using C string notation"),
    special('T', 0, Action::Tab, "horizontal tab"),
    print('U', 4, "%-16u"),
    print('V', 1, "%-8u"),
    writing(print('W', 4, "%-16r")),
    print('X', 4, "%-16x"),
    special('Y', 4, Action::Time, "decoded time32_t"),
    writing(special('Z', 8, Action::Hex64, "hexadecimal long long")),
    special('^', 0, Action::Back, "decrement dot by increment * count"),
    special('a', 0, Action::Dot, "dot as symbol+offset"),
    print('b', 1, "%-#8o"),
    print('c', 1, "%c"),
    print('d', 2, "%-8hd"),
    print('e', 8, "%-21lld"),
    special('f', 4, Action::Float, "float"),
    print('g', 8, "%-24llq"),
    special('h', 2, Action::Swapped("%-8x"), "swap bytes"),
    special('i', 0, Action::Instruction, "disassembled instruction"),
    special('j', 8, Action::Legend, "jazzed-up binary unsigned long long"),
    special('l', 2, Action::Search, "short"),
    special('n', 0, Action::Newline, "newline"),
    print('o', 2, "%-#8ho"),
    print('p', 8, "%-19a"),
    print('q', 2, "%-#8hq"),
    special('r', 0, Action::Blank, "whitespace"),
    special('s', 0, Action::RawString, "raw string"),
    special('t', 0, Action::Tab, "horizontal tab"),
    print('u', 2, "%-8hu"),
    writing(special('v', 1, Action::SignedByte, "decimal signed int")),
    writing(print('w', 2, "%-8hr")),
    print('x', 2, "%-8hx"),
    special('y', 8, Action::Time, "decoded time64_t"),
    writing(special('z', 0, Action::WriteOnly, "whose size is inferred by its type")),
];

/// The letter's entry, if it is one.
pub(super) fn letter(letter: char) -> Option<&'static Letter> {
    LETTERS.iter().find(|entry| entry.letter == letter)
}

/// Can the letter stand in a format list?
pub(in super::super) fn prints(c: char) -> bool {
    letter(c).is_some_and(|entry| !matches!(entry.action, Action::Search | Action::WriteOnly))
}

/// Must the letter be the first after its verb, and take values?
pub(in super::super) fn takes_values(c: char) -> bool {
    letter(c).is_some_and(|entry| entry.writes || entry.action == Action::Search)
}

/// Does the letter search?
pub(in super::super) fn searches(c: char) -> bool {
    letter(c).is_some_and(|entry| entry.action == Action::Search)
}

/// The conversion of a printf string with only one.
pub(super) fn spec(format: &str) -> Option<Spec> {
    Format::parse(format).ok()?.specs().next().cloned()
}

/// The rows of `::formats`: a letter and what it does, such as `hexadecimal int (4 bytes)`.
pub fn formats() -> impl Iterator<Item = (char, String)> {
    LETTERS.iter().map(|entry| {
        let what = match entry.action {
            Action::Printf(format) => spec(format).map(|spec| spec.describe()).unwrap_or_default(),
            Action::Search => format!("match {}", entry.help),
            _ => entry.help.to_string(),
        };
        let fixed = matches!(entry.action, Action::Newline | Action::Blank | Action::Tab | Action::Dot);
        let size = match entry.size {
            0 if fixed => String::new(),
            0 => " (variable size)".into(),
            1 => " (1 byte)".into(),
            n => format!(" ({n} bytes)"),
        };
        (entry.letter, format!("{}{what}{size}", if entry.writes { "write " } else { "" }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_conversions_are_read() {
        assert!(LETTERS.is_sorted_by_key(|entry| entry.letter));
        for entry in LETTERS {
            if let Action::Printf(format) | Action::Swapped(format) = entry.action {
                assert!(spec(format).is_some(), "{format}");
            }
        }
    }

    #[test]
    fn formats_in_words() {
        let help = |c| formats().find(|row| row.0 == c).map(|row| row.1).unwrap_or_default();
        assert_eq!(help('X'), "hexadecimal int (4 bytes)");
        assert_eq!(help('d'), "decimal signed short (2 bytes)");
        assert_eq!(help('E'), "decimal unsigned long long (8 bytes)");
        assert_eq!(help('p'), "symbol (8 bytes)");
        assert_eq!(help('L'), "match int (4 bytes)");
        assert_eq!(help('W'), "write default radix unsigned int (4 bytes)");
        assert_eq!(help('n'), "newline");
        assert_eq!(help('i'), "disassembled instruction (variable size)");
    }
}
