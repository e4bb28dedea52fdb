//! USDT probes: the places that a program's authors made to be probed, by the notes that say where they are, what guards
//! them and how their arguments are passed (`.note.stapsdt`, of SystemTap's <sys/sdt.h>).
//!
//! ```console
//! > ::probes usdt:./shop:*
//! PROBE                HAS
//! usdt:shop:shop:sold  int32_t arg0, uint64_t arg1, double arg2; behind a semaphore
//! usdt:shop:shop:close behind a semaphore
//! ```

use crate::{
    Error, Result,
    elf::{Binary, Site, offset_of},
};
use object::{Object, ObjectSection, ObjectSymbol};

/// An argument of a USDT probe, as the assembler wrote it: `-4@%edi`, `8@-24(%rbp)`, `4@$12`, `8f@%rax`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtArg {
    /// bytes
    pub size: u8,
    /// whether it has a sign
    pub signed: bool,
    /// whether it is a number with a fraction
    pub fraction: bool,
    /// where it is
    pub place: UsdtPlace,
}

/// Where an argument of a USDT probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsdtPlace {
    /// the number itself
    Constant(i64),
    /// a register, by the name the assembler has for all of it: `rdi`, `x3`
    Register(String),
    /// memory: a register, the distance, and another register times a scale
    Memory {
        /// the base
        base: String,
        /// bytes behind it
        offset: i64,
        /// index register and what it is multiplied by
        index: Option<(String, u8)>,
    },
    /// where nobody looks, as it was written: a register for fractions, a symbol that the file no longer names
    Elsewhere(String),
}

impl UsdtArg {
    /// Its C type.
    fn ctype(&self) -> String {
        match (self.fraction, self.size) {
            (true, 4) => "float".into(),
            (true, _) => "double".into(),
            (false, size) => format!("{}int{}_t", if self.signed { "" } else { "u" }, u32::from(size) * 8),
        }
    }
}

impl Site {
    /// The arguments of a USDT probe as a prototype has them, and whether it is guarded.
    pub fn arguments(&self) -> String {
        let spell = |(i, arg): (usize, &UsdtArg)| format!("{} arg{i}", arg.ctype());
        let args: Vec<String> = self.args.iter().enumerate().map(spell).collect();
        let parts = [args.join(", "), self.semaphore.map(|_| "behind a semaphore".to_owned()).unwrap_or_default()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

impl Binary {
    /// The USDT probes whose `provider:name` matches.
    pub fn usdt(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Site>> {
        let file = self.parsed()?;
        let Some(notes) = file.section_by_name(".note.stapsdt") else { return Ok(Vec::new()) };
        let data = notes.data().map_err(|e| Error::Wrong(format!("{}: {e}", self.path().display())))?;
        // where the linker thought this section would be: prelinking moves everything by the difference
        let base = file.section_by_name(".stapsdt.base").map(|s| s.address());
        let mut found = Vec::new();
        let mut rest = data;
        while let Some((note, behind)) = Note::parse(rest) {
            rest = behind;
            let moved = |address: u64| match base {
                Some(base) if note.base != 0 => address.wrapping_add(base.wrapping_sub(note.base)),
                _ => address,
            };
            let name = format!("{}:{}", note.provider, note.name);
            if !wanted(&name) {
                continue;
            }
            let Some(offset) = offset_of(&file, moved(note.pc)) else { continue };
            let semaphore = (note.semaphore != 0).then(|| offset_of(&file, moved(note.semaphore))).flatten();
            let distance = |symbol: &str| Some(addresses(&file, symbol)?.wrapping_sub(note.pc) as i64);
            let args = arguments(note.args).map(|text| UsdtArg::parse(text, &distance)).collect();
            found.push(Site { semaphore, args, usdt: true, ..self.at(name, offset) });
        }
        Ok(found)
    }
}

/// The address that the file has for a symbol.
fn addresses(file: &object::File<'_>, name: &str) -> Option<u64> {
    let mut symbols = file.symbols().chain(file.dynamic_symbols());
    symbols.find(|s| s.is_definition() && s.name() == Ok(name)).map(|symbol| symbol.address())
}

/// Each argument's text. Operands of arm64 hold blanks: `-4@[sp, 60] 8@x1`.
fn arguments(text: &str) -> impl Iterator<Item = &str> {
    let words = text.match_indices('@').map(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        before.rfind(|c: char| c.is_ascii_whitespace()).map_or(0, |blank| blank + 1)
    });
    let starts: Vec<usize> = words.collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([text.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| text.get(start..end).unwrap_or_default().trim())
}

/// A note of `.note.stapsdt`.
struct Note<'a> {
    pc: u64,
    base: u64,
    semaphore: u64,
    provider: &'a str,
    name: &'a str,
    args: &'a str,
}

impl<'a> Note<'a> {
    /// The first note in `data`, and what is behind it.
    fn parse(data: &'a [u8]) -> Option<(Note<'a>, &'a [u8])> {
        let word = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?) as usize);
        let (name_len, desc_len) = (word(0)?, word(4)?);
        let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let desc = data.get(desc_at..)?.get(..desc_len)?;
        let behind = data.get(desc_at.checked_add(desc_len.checked_next_multiple_of(4)?)?..).unwrap_or_default();
        let long = |at: usize| Some(u64::from_le_bytes(*desc.get(at..)?.first_chunk()?));
        let mut texts = desc.get(24..)?.split(|b| *b == 0).map(|t| std::str::from_utf8(t).unwrap_or_default());
        let note = Note {
            pc: long(0)?,
            base: long(8)?,
            semaphore: long(16)?,
            provider: texts.next()?,
            name: texts.next()?,
            args: texts.next().unwrap_or_default(),
        };
        Some((note, behind))
    }
}

impl UsdtArg {
    /// From the text of the note: `SIZE@OPERAND`, in the assembler's syntax of x86-64 or arm64. `distance` says how far
    /// a symbol is from the probe. What nobody understands keeps its place among the arguments.
    fn parse(text: &str, distance: &dyn Fn(&str) -> Option<i64>) -> UsdtArg {
        let (size, operand) = text.split_once('@').unwrap_or(("", text));
        let fraction = size.ends_with('f');
        let elsewhere = || UsdtPlace::Elsewhere(text.to_owned());
        match size.trim_end_matches('f').parse::<i8>().map(|size| (size.unsigned_abs(), size < 0)) {
            Ok((size @ (1 | 2 | 4 | 8), signed)) => {
                let place = UsdtPlace::parse(operand, distance).unwrap_or_else(elsewhere);
                UsdtArg { size, signed: signed && !fraction, fraction, place }
            }
            _ => UsdtArg { size: 8, signed: false, fraction, place: elsewhere() },
        }
    }
}

impl UsdtPlace {
    fn parse(operand: &str, distance: &dyn Fn(&str) -> Option<i64>) -> Option<UsdtPlace> {
        if let Some(number) = operand.strip_prefix('$') {
            return Some(UsdtPlace::Constant(number.parse().ok()?));
        }
        // arm64: [x29, 24], x3, 42
        if let Some(inside) = operand.strip_prefix('[').and_then(|o| o.strip_suffix(']')) {
            let (base, offset) = inside.split_once(',').unwrap_or((inside, "0"));
            let offset = offset.trim().trim_start_matches('#').parse().ok()?;
            return Some(UsdtPlace::Memory { base: whole_register(base.trim())?, offset, index: None });
        }
        if let Some((offset, inside)) = operand.strip_suffix(')').and_then(|o| o.split_once('(')) {
            let mut parts = inside.split(',').map(|p| p.trim().trim_start_matches('%'));
            let base = whole_register(parts.next()?)?;
            let offset = match &*base {
                // counted from the probe, where the register stands
                "rip" => displaced(offset, distance)?,
                _ if offset.is_empty() => 0,
                _ => offset.parse().ok()?,
            };
            let index = match (parts.next(), parts.next()) {
                (Some(index), scale) => Some((whole_register(index)?, scale.unwrap_or("1").parse().ok()?)),
                _ => None,
            };
            return Some(UsdtPlace::Memory { base, offset, index });
        }
        match operand.parse() {
            Ok(number) => Some(UsdtPlace::Constant(number)),
            Err(_) => Some(UsdtPlace::Register(whole_register(operand.trim_start_matches('%'))?)),
        }
    }
}

/// `table`, `table+8`, `8+table`: how far that is from the probe.
fn displaced(text: &str, distance: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
    text.split_inclusive(['+', '-'])
        .try_fold((0i64, 1), |(sum, sign), part| {
            let term = part.trim_end_matches(['+', '-']);
            let value = match term.parse() {
                Ok(number) => number,
                Err(_) if term.is_empty() => 0,
                Err(_) => distance(term)?,
            };
            Some((sum.checked_add(value.checked_mul(sign)?)?, if part.ends_with('-') { -1 } else { 1 }))
        })
        .map(|(sum, _)| sum)
}

/// `edi`, `di`, `dil` are parts of `rdi`; `w3` is one of `x3`. None for the upper halves of those, `ah`, and for registers of
/// fractions.
fn whole_register(name: &str) -> Option<String> {
    if let Some(number) = name.strip_prefix(['r', 'w', 'x'])
        && let Ok(number) = number.trim_end_matches(['d', 'w', 'b']).parse::<u8>()
    {
        let letter = if name.starts_with('r') { 'r' } else { 'x' };
        return Some(format!("{letter}{number}"));
    }
    Some(match name.trim_start_matches(['r', 'e']) {
        "al" | "ax" => "rax".into(),
        "bl" | "bx" => "rbx".into(),
        "cl" | "cx" => "rcx".into(),
        "dl" | "dx" => "rdx".into(),
        "sil" | "si" => "rsi".into(),
        "dil" | "di" => "rdi".into(),
        "bpl" | "bp" => "rbp".into(),
        "ip" => "rip".into(),
        "sp" if name == "sp" => "sp".into(),
        "spl" | "sp" => "rsp".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arguments_are_read() {
        let parse = |text| UsdtArg::parse(text, &|symbol| (symbol == "table").then_some(0x2f00));
        let place = |text| parse(text).place;
        assert_eq!(place("-4@%edi"), UsdtPlace::Register("rdi".into()));
        assert_eq!(place("8@%r12"), UsdtPlace::Register("r12".into()));
        assert_eq!(place("4@%r9d"), UsdtPlace::Register("r9".into()));
        assert_eq!(place("4@$-5"), UsdtPlace::Constant(-5));
        assert_eq!(place("8@-24(%rbp)"), UsdtPlace::Memory { base: "rbp".into(), offset: -24, index: None });
        let indexed = UsdtPlace::Memory { base: "rax".into(), offset: 8, index: Some(("rdx".into(), 4)) };
        assert_eq!(place("1@8(%rax,%rdx,4)"), indexed);
        assert_eq!(place("8@[sp, 24]"), UsdtPlace::Memory { base: "sp".into(), offset: 24, index: None });
        assert_eq!(place("-4@w3"), UsdtPlace::Register("x3".into()));
        let global = |offset| UsdtPlace::Memory { base: "rip".into(), offset, index: None };
        assert_eq!(place("-4@table(%rip)"), global(0x2f00));
        assert_eq!(place("-4@table+8(%rip)"), global(0x2f08));
        assert_eq!(place("-4@8+table(%rip)"), global(0x2f08));
        assert_eq!(place("-4@-8+table(%rip)"), global(0x2ef8));
        assert_eq!(place("-4@gone(%rip)"), UsdtPlace::Elsewhere("-4@gone(%rip)".into()));
        let kinds = |text| (parse(text).size, parse(text).signed, parse(text).fraction);
        assert_eq!([kinds("-4@%edi"), kinds("8f@%rax")], [(4, true, false), (8, false, true)]);
        for text in ["x@%edi", "8f@%xmm0", "1@%ah", "16@%rax", "8@"] {
            assert_eq!(place(text), UsdtPlace::Elsewhere(text.into()));
        }
    }

    #[test]
    fn arguments_with_blanks_are_one() {
        let split = |text| arguments(text).collect::<Vec<_>>();
        assert_eq!(split("-4@[sp, 60] 8@x1"), ["-4@[sp, 60]", "8@x1"]);
        assert_eq!(split("8@%rax  -4@$7"), ["8@%rax", "-4@$7"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn notes_that_lie_are_left() {
        for data in [&[0xff; 64][..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0], &[]] {
            assert!(Note::parse(data).is_none());
        }
    }
}
