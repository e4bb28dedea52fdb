//! Bytes: `::dump`, a hexadecimal dump in paragraphs of 16.
//!
//! ```console
//! > linux_banner::dump -l 20
//!                    \/ 1 2 3  4 5 6 7  8 9 a b  c d e f  v123456789abcdef
//! ffffffffb1b529e0:  4c696e75 78207665 7273696f 6e20362e  Linux version 6.
//! ffffffffb1b529f0:  31322e31 31372b64 65623132 2d636c6f  12.117+deb12-clo
//! > linux_banner+6::dump -l 8
//!                     0 1 2 3  4 5\/ 7  8 9 a b  c d e f  012345v789abcdef
//! ffffffffb1b529e0:  4c696e75 78207665 7273696f 6e20362e  Linux version 6.
//! ```
//!
//! The heading's `\/` and `v` stand over the byte that was asked for.

use engine::prelude::*;

/// Bytes of a paragraph.
const PARAGRAPH: u64 = 16;

/// Dump memory in hexadecimal.
///
/// `ADDR,N::dump` dumps N bytes, as `-l` does. Lines are whole: they begin at a multiple of 16 and end at one, unless
/// -t, -u or -r say otherwise. Numbers are in the default radix.
#[derive(Args)]
pub struct Dump {
    /// turn the bytes of each group round, as little-endian numbers are read
    #[arg(short = 'e')]
    endian: bool,
    /// bytes of a group (4), a power of two
    #[arg(short = 'g', value_name = "BYTES")]
    group: Option<ExprArg>,
    /// bytes to dump
    #[arg(short = 'l', value_name = "BYTES")]
    length: Option<ExprArg>,
    /// the address is a physical one
    #[arg(short = 'p')]
    physical: bool,
    /// no characters
    #[arg(short = 'q')]
    quiet: bool,
    /// count addresses from the start
    #[arg(short = 'r')]
    relative: bool,
    /// show lines that repeat the one before as a single `*`
    #[arg(short = 's')]
    squeeze: bool,
    /// show no byte that was not asked for
    #[arg(short = 't')]
    trim: bool,
    /// begin lines at the address, not at a multiple of 16
    #[arg(short = 'u')]
    unaligned: bool,
    /// addresses in full width
    #[arg(short = 'v')]
    verbose: bool,
    /// paragraphs in a line (1 to 16)
    #[arg(short = 'w', value_name = "PARAGRAPHS")]
    width: Option<ExprArg>,
}

/// The shape of a dump.
#[derive(Clone, Copy, Debug)]
struct Shape {
    group: usize,
    width: usize,
    /// digits of an address
    pad: usize,
    ascii: bool,
    endian: bool,
}

impl Dcmd for Dump {
    const NAME: &'static str = "dump";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let value = |arg: &Option<ExprArg>, default| arg.as_ref().map_or(Ok(default), |a| a.eval(cx));
        let start = at.map_or(cx.env.dot.get(), |o| o.addr);
        let count = cx.env.count.get();
        let length = value(&self.length, count)?;
        let paragraphs = value(&self.width, 1)?;
        if !(1..=16).contains(&paragraphs) {
            return Err(Error::Usage("-w takes 1 to 16 paragraphs".into()));
        }
        let width = paragraphs * PARAGRAPH;
        // mdb's rule: a group that does not fit is one of four
        let group =
            Some(value(&self.group, 4)?).filter(|g| g.is_power_of_two() && width.is_multiple_of(*g)).unwrap_or(4);
        // never beyond the end of the address space
        let mut length = length.min((u64::MAX - start).saturating_add(1));
        if self.endian && self.trim {
            length -= length % group;
        }
        let aligned = !(self.relative || self.unaligned || self.endian);
        let before = if aligned { start % PARAGRAPH } else { 0 };
        let shape = Shape {
            group: group as usize,
            width: width as usize,
            pad: self.pad(start, length),
            ascii: !(self.quiet || self.endian),
            endian: self.endian,
        };
        if !self.endian {
            let label = if self.relative { 0 } else { start % PARAGRAPH };
            out.line(shape.heading(label as usize, aligned))?;
        }
        let space = if self.physical { Space::Phys } else { cx.env.space.get() };
        self.lines(cx, space, start, before, length, shape, out)?;
        cx.env.dot.set(start.wrapping_add(length));
        cx.env.increment.set(0);
        // the count was the length
        if count > 1 { Err(Error::Stop) } else { Ok(()) }
    }
}

impl Dump {
    /// Digits of the highest address.
    fn pad(&self, start: u64, length: u64) -> usize {
        if self.verbose {
            return 16;
        }
        let last = if length > 1 || (start != 0 && length == 1) { length - 1 } else { length };
        let highest = if self.relative { last } else { start.saturating_add(last) };
        (64 - highest.leading_zeros()).div_ceil(4) as usize
    }

    #[allow(clippy::too_many_arguments)]
    fn lines(
        &self,
        cx: &Cx<'_>,
        space: Space,
        start: u64,
        before: u64,
        length: u64,
        shape: Shape,
        out: &mut Out<'_>,
    ) -> Result<()> {
        let (base, total, width) = (start - before, length.saturating_add(before), shape.width as u64);
        let (mut last, mut skipping) = (Vec::new(), false);
        let mut from = 0;
        while from < total {
            let addr = base.wrapping_add(from);
            let is_last = total - from <= width;
            // bytes at the end that are not wanted or do not exist
            let beyond = (width - 1).saturating_sub(u64::MAX - addr);
            let right = if is_last && self.trim { width - (total - from) } else { 0 }.max(beyond);
            let left = if from == 0 && self.trim { before } else { 0 };
            let (bytes, failed) = read_line(cx, space, addr, left..width - right)?;
            // what lies before the first byte that was asked for may be missing
            let missing = |i: u64| bytes.get(i as usize).copied().flatten().is_none();
            let asked = before.saturating_sub(from);
            let first = (left..width).find(|i| !missing(*i)).filter(|i| *i <= asked.max(left));
            let end = first.map_or(left, |f| (f..width).find(|i| missing(*i)).unwrap_or(width));
            let whole = first == Some(0) && end == width;
            if first.is_some() {
                let squeezed = self.squeeze && whole && !is_last && bytes == last;
                if !squeezed {
                    out.line(shape.line(if self.relative { from } else { addr }, &bytes))?;
                } else if !skipping {
                    out.line("*")?;
                }
                skipping = squeezed;
            }
            if let Some(e) = failed.filter(|_| from.saturating_add(end) < total) {
                return Err(e);
            }
            last = if whole { bytes } else { Vec::new() };
            from = from.saturating_add(width);
        }
        Ok(())
    }
}

/// Smallest unit that a dump may hold or lack.
const PAGE: u64 = 4096;

/// One line's bytes; those outside `wanted` and those that cannot be read are `None`. The error is that of the first
/// that cannot.
fn read_line(
    cx: &Cx<'_>,
    space: Space,
    addr: u64,
    wanted: std::ops::Range<u64>,
) -> Result<(Vec<Option<u8>>, Option<Error>)> {
    let mut bytes = vec![None; wanted.end.max(wanted.start) as usize];
    let mut failed = None;
    let mut at = wanted.start;
    while at < wanted.end {
        let here = addr.wrapping_add(at);
        let len = (PAGE - here % PAGE).min(wanted.end - at);
        let mut buf = vec![0; len as usize];
        match cx.read_in(space, here, &mut buf) {
            Ok(()) => {
                for (slot, b) in bytes.iter_mut().skip(at as usize).zip(buf) {
                    *slot = Some(b);
                }
            }
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                failed.get_or_insert(e);
            }
        }
        at += len;
    }
    Ok((bytes, failed))
}

impl Shape {
    /// What stands before the byte at `i`: groups are set apart, and groups of one in eights.
    fn gap(&self, i: usize) -> &'static str {
        match (i % self.group, self.group) {
            (0, 1) if i > 0 && i.is_multiple_of(8) => "  ",
            (0, _) => " ",
            _ => "",
        }
    }

    /// Columns are numbered by the low digit of their address; the one asked for is marked.
    fn heading(&self, offset: usize, aligned: bool) -> String {
        let mut text = format!("{:1$}  ", "", self.pad);
        let digit = |i: usize| (i + if aligned { 0 } else { offset }) & 0xf;
        let marked = |i: usize| aligned && i == offset;
        for i in 0..self.width {
            text.push_str(self.gap(i));
            text.push_str(&if marked(i) { "\\/".to_owned() } else { format!("{:2x}", digit(i)) });
        }
        if self.ascii {
            text.push_str("  ");
            text.extend((0..self.width).map(|i| if marked(i) { 'v' } else { hex_digit(digit(i)) }));
        }
        text
    }

    fn line(&self, addr: u64, bytes: &[Option<u8>]) -> String {
        let mut text = format!("{addr:00$x}: ", self.pad);
        let at = |i: usize| bytes.get(i).copied().flatten();
        for i in 0..self.width {
            text.push_str(self.gap(i));
            let from = if self.endian { i / self.group * self.group + self.group - 1 - i % self.group } else { i };
            text.push_str(&at(from).map_or_else(|| "  ".to_owned(), |b| format!("{b:02x}")));
        }
        if self.ascii {
            text.push_str("  ");
            text.extend((0..self.width).map(|i| match at(i) {
                None => ' ',
                Some(b @ b' '..=b'~') => char::from(b),
                Some(_) => '.',
            }));
        }
        text.trim_end().to_owned()
    }
}

fn hex_digit(v: usize) -> char {
    char::from_digit(v as u32, 16).unwrap_or('?')
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Dump>()];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Shape = Shape { group: 4, width: 16, pad: 4, ascii: true, endian: false };

    #[test]
    fn headings_mark_the_byte() {
        assert_eq!(PLAIN.heading(0, true), "       \\/ 1 2 3  4 5 6 7  8 9 a b  c d e f  v123456789abcdef");
        assert_eq!(PLAIN.heading(5, true), "        0 1 2 3  4\\/ 6 7  8 9 a b  c d e f  01234v6789abcdef");
        assert_eq!(PLAIN.heading(5, false), "        5 6 7 8  9 a b c  d e f 0  1 2 3 4  56789abcdef01234");
        let bytes = Shape { group: 1, ascii: false, ..PLAIN };
        assert_eq!(bytes.heading(0, true), "       \\/  1  2  3  4  5  6  7   8  9  a  b  c  d  e  f");
    }

    #[test]
    fn lines() {
        let bytes: Vec<_> = (0x5c..0x6c).map(Some).collect();
        assert_eq!(PLAIN.line(0x40, &bytes), "0040:  5c5d5e5f 60616263 64656667 68696a6b  \\]^_`abcdefghijk");
        let endian = Shape { endian: true, ascii: false, ..PLAIN };
        assert_eq!(endian.line(0x40, &bytes), "0040:  5f5e5d5c 63626160 67666564 6b6a6968");
        let some: Vec<_> = (0..16).map(|i| (2..6).contains(&i).then_some(0x41 + i)).collect();
        assert_eq!(PLAIN.line(0, &some), format!("0000:      4344 4546{:26}CDEF", ""));
    }
}
