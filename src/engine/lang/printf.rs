//! mdb's printf dialect, for `::printf` and for the format letters of the verbs.
//!
//! Beyond C: `%a` an address as symbol and offset, `%A` the same but nothing without a symbol, `%H` a size for humans
//! (`1.50K`), `%I` and `%N` IPv4 and IPv6 addresses, `%m` the margin, `%q` signed octal, `%r` `%R` the current radix
//! unsigned and signed, `%t` `%T` tabs, `%Y` a date, `%?d` the width of a pointer. `#` prefixes hex and octal as C does
//! and `d u r R` only where the number is ambiguous without it.
//!
//! `::printf` takes a part of that: letters `a A d H I N o p q r R s u x X Y`, flags `-` and `0`, a width; sizes come
//! from the types of its arguments.
//!
//! Deviations from mdb: zeros fill between a sign or prefix and the digits (mdb puts them before it); terminal
//! attributes `%<b>` are read and dropped; `%b` (named bits) is left to the code that has the names; widths end at
//! [`MAX_WIDTH`].

use super::{
    column::{Field, Fit, Lines},
    number,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The widest field.
pub const MAX_WIDTH: usize = 4096;

/// Columns of a pointer in hex, the width that `%?` means.
const POINTER_WIDTH: usize = 16;

/// What addresses and times are called.
pub trait Names {
    /// the symbol that an address belongs to and the offset in it; the name says its module where that is needed
    fn symbol(&self, addr: u64) -> Option<(String, u64)>;
    /// a date such as `2024 Sep 28 17:51:18`
    fn time(&self, seconds: i64) -> Option<String>;
    /// of `%r` and of offsets, 2 to 16
    fn radix(&self) -> u32;
}

/// `%a`: `symbol`, `symbol+0x1c`, or the number in hex if no symbol is near.
pub fn address(addr: u64, names: &dyn Names) -> String {
    symbol(addr, names).unwrap_or_else(|| number::unambiguous(addr, 16))
}

/// `%A`: as [`address`], but only if there is a symbol.
pub fn symbol(addr: u64, names: &dyn Names) -> Option<String> {
    let (name, offset) = names.symbol(addr)?;
    Some(match offset {
        0 => name,
        _ => format!("{name}+{}", number::unambiguous(offset, names.radix())),
    })
}

/// What a conversion is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// a number, sign extended if it is signed
    Int(u64),
    /// a string
    Str(String),
    /// a floating point number
    Double(f64),
    /// sixteen bytes of an IPv6 address
    Bytes([u8; 16]),
}

/// Why a format string or its arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrintfError {
    /// a conversion that does not exist
    #[error("illegal format string at or near '{letter}' (position {position})")]
    Illegal {
        /// the character
        letter: char,
        /// 1 for the first character
        position: usize,
    },
    /// more arguments than conversions
    #[error("missing format specifiers (found {found}, expected {expected})")]
    Missing {
        /// conversions in the format string
        found: usize,
        /// arguments
        expected: usize,
    },
    /// more conversions than arguments
    #[error("extra format specifiers (found {found}, expected {expected})")]
    Extra {
        /// conversions in the format string
        found: usize,
        /// arguments
        expected: usize,
    },
    /// a string for a number, or the like
    #[error("%{letter} needs {needs}")]
    Mismatch {
        /// the conversion
        letter: char,
        /// what it takes
        needs: &'static str,
    },
}

/// One conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// which
    pub letter: char,
    fit: Fit,
    alternate: bool,
    plus: bool,
    /// of an integer: 16, 32, 64
    bits: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// takes an argument
    Spec(Spec),
    /// `%m`, `%t`, `%T`: takes none
    Layout(char, usize),
}

/// A format string, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

/// Formats `args` by `::printf`'s part of the dialect.
///
/// ```
/// use engine::lang::printf::{Arg, Names, printf};
/// struct Hex;
/// impl Names for Hex {
///     fn symbol(&self, _: u64) -> Option<(String, u64)> { None }
///     fn time(&self, _: i64) -> Option<String> { None }
///     fn radix(&self) -> u32 { 16 }
/// }
/// let args = [Arg::Str("sshd".into()), Arg::Int(812)];
/// assert_eq!(printf("%-8s %5d\n", &args, &Hex)?, "sshd       812\n");
/// # Ok::<(), engine::lang::printf::PrintfError>(())
/// ```
pub fn printf(format: &str, args: &[Arg], names: &dyn Names) -> Result<String, PrintfError> {
    Format::parse_plain(format)?.render(args, names)
}

impl Format {
    /// Reads the whole dialect: sizes `h l ll`, flags `# + - 0`, widths.
    pub fn parse(text: &str) -> Result<Format, PrintfError> {
        Format::read(text, false)
    }

    /// Reads the part that `::printf` takes; integers are 64 bits wide.
    pub fn parse_plain(text: &str) -> Result<Format, PrintfError> {
        Format::read(text, true)
    }

    fn read(text: &str, plain: bool) -> Result<Format, PrintfError> {
        let mut reader = Reader { chars: text.chars().collect(), at: 0, plain };
        let mut pieces = Vec::new();
        let mut verbatim = String::new();
        while let Some(c) = reader.next() {
            if c != '%' {
                verbatim.push(c);
                continue;
            }
            match reader.conversion()? {
                Some(Piece::Text(text)) => verbatim.push_str(&text),
                Some(piece) => {
                    pieces.push(Piece::Text(std::mem::take(&mut verbatim)));
                    pieces.push(piece);
                }
                None => {}
            }
        }
        pieces.push(Piece::Text(verbatim));
        Ok(Format { pieces })
    }

    /// The conversions that take an argument, in order.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Spec(spec) => Some(spec),
            _ => None,
        })
    }

    /// The text with every conversion filled in; no newline is added.
    pub fn render(&self, args: &[Arg], names: &dyn Names) -> Result<String, PrintfError> {
        self.render_at(args, names, 0, None)
    }

    /// The same behind what stands in `column`s of the line already; lines break at `edge`, if there is one.
    pub fn render_at(
        &self,
        args: &[Arg],
        names: &dyn Names,
        column: usize,
        edge: Option<usize>,
    ) -> Result<String, PrintfError> {
        let (found, expected) = (self.specs().count(), args.len());
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => return Err(PrintfError::Missing { found, expected }),
            std::cmp::Ordering::Greater => return Err(PrintfError::Extra { found, expected }),
            std::cmp::Ordering::Equal => {}
        }
        let mut lines = Lines::behind(column, edge);
        let mut args = args.iter();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => lines.text(text),
                Piece::Spec(spec) => {
                    if let Some(arg) = args.next() {
                        lines.field(&spec.convert(arg, names)?, spec.fit);
                    }
                }
                Piece::Layout('m', width) if lines.column() == 0 => lines.blanks(*width),
                Piece::Layout('t', count) => (0..*count).for_each(|_| lines.tab(8)),
                Piece::Layout('T', stop) => lines.tab_if_needed(*stop),
                Piece::Layout(..) => {}
            }
        }
        Ok(lines.into_text())
    }
}

/// The characters of a format string.
struct Reader {
    chars: Vec<char>,
    at: usize,
    plain: bool,
}

impl Reader {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn illegal(&self, letter: char) -> PrintfError {
        PrintfError::Illegal { letter, position: self.at }
    }

    /// What follows a `%`.
    fn conversion(&mut self) -> Result<Option<Piece>, PrintfError> {
        let mut spec = Spec {
            letter: '%',
            fit: Fit::default(),
            alternate: false,
            plus: false,
            bits: if self.plain { 64 } else { 32 },
        };
        let mut has_width = false;
        loop {
            let Some(c) = self.next() else { return Err(self.illegal('%')) };
            match c {
                '%' => return Ok(Some(Piece::Text("%".into()))),
                '-' if !has_width => spec.fit.left = true,
                '0' if !has_width => spec.fit.zeros = true,
                '1'..='9' | '0' => {
                    let digit = c.to_digit(10).unwrap_or(0) as usize;
                    spec.fit.width = (spec.fit.width * usize::from(has_width) * 10 + digit).min(MAX_WIDTH);
                    has_width = true;
                }
                '?' => (spec.fit.width, has_width) = (POINTER_WIDTH, true),
                '#' if !self.plain => spec.alternate = true,
                '+' if !self.plain => spec.plus = true,
                'h' if !self.plain => spec.bits = 16,
                'l' if !self.plain => spec.bits = 64,
                'm' | 't' | 'T' if !self.plain => {
                    let default = if c == 'm' { 16 } else { usize::from(c == 't') };
                    let width = if has_width { spec.fit.width } else { default };
                    return Ok(Some(Piece::Layout(c, width)));
                }
                '<' if !self.plain => {
                    while self.next().is_some_and(|c| c != '>') {}
                    return Ok(None);
                }
                'c' | 'i' | 'e' | 'E' | 'g' | 'G' if !self.plain => return Ok(Some(spec.with(c))),
                'a' | 'A' | 'p' | 'Y' | 'd' | 'H' | 'I' | 'N' | 'o' | 'q' | 'r' | 'R' | 's' | 'u' | 'x' | 'X' => {
                    return Ok(Some(spec.with(c)));
                }
                other => return Err(self.illegal(other)),
            }
        }
    }
}

impl Spec {
    fn with(mut self, letter: char) -> Piece {
        self.letter = letter;
        if matches!(letter, 'a' | 'A' | 'p' | 'Y') {
            self.bits = 64;
        }
        Piece::Spec(self)
    }

    pub(super) fn fit(&self) -> Fit {
        self.fit
    }

    /// What a kind of argument this takes, for a message.
    fn needs(&self) -> &'static str {
        match self.letter {
            's' => "a string",
            'N' => "an IPv6 address",
            'e' | 'E' | 'g' | 'G' => "a floating point number",
            _ => "a number or pointer",
        }
    }

    pub(super) fn convert(&self, arg: &Arg, names: &dyn Names) -> Result<Field, PrintfError> {
        let body = match (self.letter, arg) {
            ('s', Arg::Str(text)) => text.clone(),
            ('N', Arg::Bytes(bytes)) => Ipv6Addr::from(*bytes).to_string(),
            ('e' | 'E', Arg::Double(value)) => double(*value, 7, self.letter),
            ('g', Arg::Double(value)) => double(*value, 16, 'e'),
            ('G', Arg::Double(value)) => double(*value, 16, 'E'),
            ('s' | 'N' | 'e' | 'E' | 'g' | 'G', _) | (_, Arg::Str(_) | Arg::Double(_) | Arg::Bytes(_)) => {
                return Err(PrintfError::Mismatch { letter: self.letter, needs: self.needs() });
            }
            (_, Arg::Int(value)) => return Ok(self.integer(*value, names)),
        };
        Ok(Field { prefix: String::new(), body })
    }

    fn integer(&self, value: u64, names: &dyn Names) -> Field {
        let unsigned = if self.bits == 64 { value } else { value & ((1 << self.bits) - 1) };
        let unused = 64 - self.bits;
        let signed = ((value << unused) as i64) >> unused;
        let radix = names.radix();
        let plain = |body: String| Field { prefix: String::new(), body };
        match self.letter {
            'a' => plain(format!("{}{}", address(value, names), if self.alternate { ":" } else { "" })),
            'A' => {
                plain(symbol(value, names).unwrap_or_else(|| if self.alternate { "?".into() } else { String::new() }))
            }
            'c' => plain(if unsigned & 0xff == 0 { String::new() } else { char::from(unsigned as u8).into() }),
            'H' => plain(human_size(unsigned)),
            'I' => plain(Ipv4Addr::from((value as u32).to_le_bytes()).to_string()),
            'p' => plain(number::digits(value, 16)),
            'Y' => plain(names.time(value as i64).unwrap_or_else(|| number::signed_digits(value as i64, radix))),
            'd' | 'i' => self.signed(signed, 10),
            'R' => self.signed(signed, radix),
            'q' => self.signed(signed, 8),
            'u' => self.unsigned(unsigned, 10),
            'r' => self.unsigned(unsigned, radix),
            'o' => self.unsigned(unsigned, 8),
            'X' => {
                let field = self.unsigned(unsigned, 16);
                Field { prefix: field.prefix.to_uppercase(), body: field.body.to_uppercase() }
            }
            _ => self.unsigned(unsigned, 16),
        }
    }

    /// The prefix that `#` asks for: C's for `x X o q`, mdb's for the rest.
    fn prefix(&self, value: u64, radix: u32) -> &'static str {
        match self.letter {
            _ if !self.alternate || value == 0 => "",
            'x' | 'X' => "0x",
            'o' | 'q' => "0",
            _ => number::prefix(value, radix),
        }
    }

    fn unsigned(&self, value: u64, radix: u32) -> Field {
        let plus = if self.plus { "+" } else { "" };
        Field { prefix: format!("{plus}{}", self.prefix(value, radix)), body: number::digits(value, radix) }
    }

    fn signed(&self, value: i64, radix: u32) -> Field {
        let sign = match value < 0 {
            true => "-",
            false if self.plus => "+",
            false => "",
        };
        let prefix = format!("{sign}{}", self.prefix(value as u64, radix));
        Field { prefix, body: number::digits(value.unsigned_abs(), radix) }
    }

    /// The words of `::formats`.
    pub(super) fn describe(&self) -> String {
        let size = match self.bits {
            16 => "short",
            32 => "int",
            _ => "long long",
        };
        match self.letter {
            'a' | 'A' => "symbol".into(),
            'c' => "character".into(),
            'e' | 'E' | 'g' | 'G' => "double".into(),
            'd' | 'i' => format!("decimal signed {size}"),
            'u' => format!("decimal unsigned {size}"),
            'o' => format!("octal unsigned {size}"),
            'q' => format!("octal signed {size}"),
            'r' => format!("default radix unsigned {size}"),
            'R' => format!("default radix signed {size}"),
            _ => format!("hexadecimal {size}"),
        }
    }
}

/// `+1.5000000e+00`: a sign, one digit, `precision` more, an exponent of at least two digits.
pub(super) fn double(value: f64, precision: usize, exponent: char) -> String {
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { '-' } else { '+' };
        return format!("{sign}{}", if value.is_nan() { "NaN" } else { "Inf" });
    }
    let text = format!("{value:+.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{mantissa}{exponent}{sign}{power:0>2}")
}

/// `%H`: `512`, `1K`, `1.50K`, `10.0K`, `1020K`: three significant digits, none after the point if the value is whole.
///
/// ```
/// use engine::lang::printf::human_size;
/// assert_eq!(human_size(1536), "1.50K");
/// assert_eq!(human_size(4 << 30), "4G");
/// ```
pub fn human_size(value: u64) -> String {
    let index = (value.checked_ilog2().unwrap_or(0) / 10) as usize;
    let Some(unit) = ["", "K", "M", "G", "T", "P", "E"].get(index).filter(|_| index > 0) else {
        return value.to_string();
    };
    let scale = 1u64 << (10 * index);
    if value.is_multiple_of(scale) {
        return format!("{}{unit}", value / scale);
    }
    let scaled = value as f64 / scale as f64;
    let text = [2, 1].into_iter().map(|digits| format!("{scaled:.digits$}")).find(|text| text.len() <= 4);
    format!("{}{unit}", text.unwrap_or_else(|| format!("{scaled:.0}")))
}

#[cfg(test)]
mod tests;
