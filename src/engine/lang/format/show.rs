//! One pass over a format list: each item reads what it needs at its address and writes its columns.

use super::{
    super::{
        column::{Field, Fit, Lines},
        number,
        printf::{self, Arg, Spec},
    },
    FormatError, FormatIo, Item, MARGIN, MAX_BLANKS, MAX_STRING,
    letters::{Action, Letter},
};

/// Lines are handed over when so many are done, however long the list.
const FLUSH: usize = 256;

/// The state of one pass.
pub(super) struct Row<'r> {
    pub io: &'r mut dyn FormatIo,
    pub lines: &'r mut Lines,
    /// `=`: the address itself is the data
    pub value_space: bool,
    /// addresses may be printed as symbols
    pub symbolic: bool,
    pub addr: u64,
    /// how far the last letter went
    pub increment: u64,
    pub value: Option<u64>,
}

/// An address, a colon, and blanks up to the margin; a longer one goes on to the next multiple of the margin.
pub(super) fn address(lines: &mut Lines, io: &dyn FormatIo, addr: u64, symbolic: bool) {
    let text = match symbolic {
        true => printf::address(addr, io),
        false => number::unambiguous(addr, 16),
    };
    let field = Field { prefix: String::new(), body: format!("{text}:") };
    lines.field(&field, Fit { width: MARGIN, left: true, zeros: false });
    if text.chars().count() + 1 >= MARGIN {
        lines.tab(MARGIN);
    }
}

impl Row<'_> {
    pub fn item(&mut self, item: &Item) -> Result<(), FormatError> {
        match item {
            Item::Text(text) => {
                self.lines.text(text);
                Ok(())
            }
            Item::Letter { entry, spec, count } => {
                // letters wrap, texts and the legend of `j` do not
                self.lines.wrap = self.io.width().filter(|_| entry.action != Action::Legend);
                let start = self.addr;
                let result = self.letter(entry, spec.as_ref(), *count);
                self.lines.wrap = None;
                if !self.value_space {
                    self.increment = self.addr.wrapping_sub(start);
                }
                result
            }
        }
    }

    fn letter(&mut self, entry: &Letter, spec: Option<&Spec>, count: u64) -> Result<(), FormatError> {
        match entry.action {
            Action::Plus => self.addr = self.addr.wrapping_add(count),
            Action::Minus => self.addr = self.addr.wrapping_sub(count),
            Action::Back => self.advance(self.increment.wrapping_mul(count).wrapping_neg()),
            Action::Blank => self.lines.blanks(count.min(MAX_BLANKS) as usize),
            Action::Tab => self.lines.tab(count.min(MAX_BLANKS) as usize),
            _ => {
                let mut offset = 0;
                for round in 0..count {
                    if self.io.interrupted() {
                        return Err(FormatError::Interrupted);
                    }
                    self.once(entry, spec, &mut offset, round + 1 == count)?;
                    if self.lines.done.len() >= FLUSH {
                        self.lines.done.drain(..).for_each(|line| self.io.line(line));
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves on in memory; `=` stays at its value.
    fn advance(&mut self, bytes: u64) {
        if !self.value_space {
            self.addr = self.addr.wrapping_add(bytes);
        }
    }

    /// A letter once. `offset` counts the bytes of texts, the only data of `=` that go on from one to the next.
    fn once(&mut self, entry: &Letter, spec: Option<&Spec>, offset: &mut u64, last: bool) -> Result<(), FormatError> {
        match entry.action {
            Action::Newline => self.lines.newline(),
            Action::Dot => self.dot(),
            Action::Instruction | Action::AddressedInstruction => self.instruction(entry)?,
            Action::EscapedChar => {
                let byte = self.text_byte(*offset)?;
                self.put(&escape(&[byte]));
                self.advance(1);
                *offset += 1;
            }
            Action::RawString | Action::EscapedString => {
                self.string(entry.action == Action::EscapedString, offset)?;
                if !last {
                    self.put("\\0");
                }
            }
            _ => {
                let value = self.read(entry.size)?;
                self.number(entry, spec, value);
                if entry.action != Action::Float {
                    self.value = Some(value);
                    self.io.value(value);
                }
                self.advance(entry.size.into());
            }
        }
        Ok(())
    }

    /// Prints a value of a fixed size.
    fn number(&mut self, entry: &Letter, spec: Option<&Spec>, value: u64) {
        let bits = u32::from(entry.size) * 8;
        match entry.action {
            Action::Hex64 => {
                self.left(number::digits(value, 16), if value >> 60 != 0 { 17 } else { 16 });
            }
            Action::Binary => {
                self.left(number::digits(value, 2), if value >> 63 != 0 { 65 } else { 64 });
            }
            Action::Legend => self.legend(value),
            Action::SignedByte => self.left((value as u8 as i8).to_string(), 8),
            Action::Float => self.put(&printf::double(f32::from_bits(value as u32).into(), 7, 'e')),
            Action::Double => self.put(&printf::double(f64::from_bits(value), 16, 'e')),
            Action::Time => {
                let seconds = if bits == 32 { i64::from(value as i32) } else { value as i64 };
                let text = self.io.time(seconds);
                self.left(text.unwrap_or_else(|| number::signed_digits(seconds, self.io.radix())), 24);
            }
            Action::Swapped(_) => self.convert(spec, value.swap_bytes() >> (64 - bits)),
            _ => self.convert(spec, value),
        }
    }

    fn convert(&mut self, spec: Option<&Spec>, value: u64) {
        if let Some((spec, Ok(field))) = spec.map(|spec| (spec, spec.convert(&Arg::Int(value), &*self.io))) {
            self.lines.field(&field, spec.fit());
        }
    }

    /// Text as one item, without padding.
    fn put(&mut self, text: &str) {
        self.left(text.to_string(), 0);
    }

    fn left(&mut self, body: String, width: usize) {
        self.lines.field(&Field { prefix: String::new(), body }, Fit { width, left: true, zeros: false });
    }

    /// `a`: not indented, as the heading is not.
    fn dot(&mut self) {
        self.lines.set_margin(0);
        address(self.lines, &*self.io, self.addr, self.symbolic);
        self.lines.set_margin(MARGIN);
        self.value = Some(self.addr);
    }

    fn instruction(&mut self, entry: &Letter) -> Result<(), FormatError> {
        if self.value_space {
            return Err(FormatError::NeedsMemory { letter: entry.letter });
        }
        let addr = self.addr;
        let error = |reason| FormatError::Read { addr, reason };
        let (text, length) = self.io.instruction(addr).map_err(error)?;
        if length == 0 {
            return Err(error("not an instruction".into()));
        }
        if entry.action == Action::AddressedInstruction {
            let word = self.read(4)?;
            self.lines.set_margin(0);
            self.put(&format!("{addr:x} {word:x}: {text}"));
            self.lines.newline();
            self.lines.set_margin(MARGIN);
        } else {
            self.put(&text);
            self.lines.newline();
        }
        self.advance(length);
        Ok(())
    }

    /// A little-endian value; of `=`, the low bytes of dot.
    fn read(&mut self, size: u8) -> Result<u64, FormatError> {
        let mut bytes = [0; 8];
        let size = usize::from(size.min(8));
        match self.value_space {
            true => bytes[..size].copy_from_slice(&self.addr.to_le_bytes()[..size]),
            false => {
                let addr = self.addr;
                self.io.read(addr, &mut bytes[..size]).map_err(|reason| FormatError::Read { addr, reason })?;
            }
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// A byte of a text; of `=`, the bytes of dot and then NUL.
    fn text_byte(&mut self, offset: u64) -> Result<u8, FormatError> {
        let mut byte = [0];
        match self.value_space {
            true => byte[0] = self.addr.to_le_bytes().get(offset as usize).copied().unwrap_or(0),
            false => {
                let addr = self.addr;
                self.io.read(addr, &mut byte).map_err(|reason| FormatError::Read { addr, reason })?;
            }
        }
        Ok(byte[0])
    }

    /// A string, and dot behind its NUL. What can be read of it is printed before an error is told.
    fn string(&mut self, escaped: bool, offset: &mut u64) -> Result<(), FormatError> {
        let mut bytes = Vec::new();
        let end = loop {
            if bytes.len() >= MAX_STRING {
                break Ok(());
            }
            match self.text_byte(*offset) {
                Err(error) => break Err(error),
                Ok(byte) => {
                    self.advance(1);
                    *offset += 1;
                    match byte {
                        0 => break Ok(()),
                        byte => bytes.push(byte),
                    }
                }
            }
        };
        // a long string is broken at the edge, from column 0 on
        self.lines.set_margin(0);
        match escaped {
            true => self.lines.text(&escape(&bytes)),
            false => self.lines.text(&crate::text::decode(&bytes)),
        }
        self.lines.set_margin(MARGIN);
        end
    }

    /// `j`: the bits, a bar under each that is set, and from the lowest up a line that names it.
    fn legend(&mut self, value: u64) {
        self.lines.text(&number::digits(value, 2));
        self.lines.newline();
        let Some(high) = value.checked_ilog2() else { return };
        let bars = |low: u32| (low..=high).rev().map(move |bit| if value >> bit & 1 == 1 { '|' } else { ' ' });
        self.lines.text(&bars(value.trailing_zeros()).collect::<String>());
        self.lines.newline();
        for bit in (0..=high).filter(|bit| value >> bit & 1 == 1) {
            let above: String = bars(bit + 1).collect();
            let arm = "-".repeat(bit as usize + 2);
            let pad = if bit < 10 && high >= 10 { " " } else { "" };
            let width = high as usize / 4 + 1;
            self.lines.text(&format!("{above}+{arm} bit {bit} {pad}mask 0x{:0width$x}", 1u64 << bit));
            self.lines.newline();
        }
    }
}

/// Bytes in C notation.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &byte in bytes {
        match byte {
            0 => out.push_str("\\0"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x0b => out.push_str("\\v"),
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out
}
