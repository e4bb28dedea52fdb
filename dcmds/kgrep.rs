//! Who holds this value: `::kgrep`.
//!
//! ```console
//! > ff2b352c10565bc0::kgrep
//! 0xff2b352c10599df0
//! > ff2b352c10565bc0::kgrep | ::whatis
//! ff2b352c10599df0 is ff2b352c10599de0+10, allocated from kmalloc-32
//!                  allocated by thread 279 on CPU 1, 7.288000000 s after boot
//!                      labmod`lab_open+0x2d
//!                      labmod`lab_write+0x180
//!                      proc_reg_write+0x5a
//!                      vfs_write+0xf8
//!                      ksys_write+0x6f
//!                      do_syscall_64+0x87
//!                      entry_SYSCALL_64_after_hwframe+0x76
//! ```
//!
//! All memory that the kernel maps is searched, each page once: at its address in the kernel's image, in a module, in
//! vmalloc memory, or else in the direct map. Values that a pipe brings are looked for together, in one pass.

use engine::prelude::*;
use regex::bytes::{Regex, RegexBuilder};
use std::{ops::RangeInclusive, sync::Arc};
use walkers::{
    search::{self, Area, Pattern},
    sieve::Sieve,
};

/// Search memory for a value, a text or a pattern.
///
/// `ADDR::kgrep` finds the words that have the value ADDR; behind a pipe, those that have any of the values.
#[derive(Args)]
pub struct Kgrep {
    /// show what was found beside where
    #[arg(short = 'v')]
    verbose: bool,
    /// also values up to so much larger: pointers into an object of that size
    #[arg(short = 'd', value_name = "DIST", conflicts_with_all = ["mask", "inverse"])]
    dist: Option<ExprArg>,
    /// compare only these bits
    #[arg(short = 'm', value_name = "MASK", conflicts_with = "inverse")]
    mask: Option<ExprArg>,
    /// compare all bits but these
    #[arg(short = 'M', value_name = "INVMASK")]
    inverse: Option<ExprArg>,
    /// from this address on
    #[arg(short = 'a', value_name = "MIN")]
    min: Option<ExprArg>,
    /// up to this address
    #[arg(short = 'A', value_name = "MAX")]
    max: Option<ExprArg>,
    /// size of the values in bytes: 1, 2, 4 or 8
    #[arg(short = 's', value_name = "SIZE")]
    size: Option<ExprArg>,
    /// search physical memory, and answer physical addresses
    #[arg(short = 'p')]
    physical: bool,
    /// search for a text
    #[arg(short = 't', value_name = "TEXT", conflicts_with_all = ["bytes", "regex"])]
    text: Option<String>,
    /// search for bytes in hex; `..` stands for any byte
    #[arg(short = 'b', value_name = "BYTES", conflicts_with = "regex")]
    bytes: Option<String>,
    /// search for a regular expression over bytes
    #[arg(short = 'r', value_name = "REGEX")]
    regex: Option<String>,
    #[arg(skip)]
    values: Vec<u64>,
}

/// A place.
#[derive(Row)]
struct KgrepRow {
    /// where it is
    addr: Object,
    /// what is there: the value, or the bytes as text
    value: Cell,
}

/// Values of one size, aligned.
struct Words {
    size: usize,
    /// sorted ranges of values, both ends included, after `mask`
    wanted: Vec<(u64, u64)>,
    mask: u64,
    /// what most words fail, where there are many values, and by how much they are moved for it
    sieve: Option<(u32, Sieve)>,
}

/// A sieve for ranges of that length: values that differ only in the low bits that are moved out are one to it, so that a
/// range touches two of its steps at most.
fn sieve(wanted: &[(u64, u64)], dist: u64) -> Option<(u32, Sieve)> {
    /// Fewer values are quicker found by themselves.
    const LEAST: usize = 5;
    let shift = u64::BITS - dist.leading_zeros();
    let steps = wanted.iter().flat_map(|(low, high)| [low >> shift, high >> shift]);
    (wanted.len() >= LEAST && shift <= 40).then(|| (shift, Sieve::of(steps, wanted.len())))
}

impl Words {
    fn new(size: usize, mask: u64, dist: u64, values: &[u64]) -> Words {
        let mut wanted: Vec<(u64, u64)> =
            values.iter().map(|value| (value & mask, (value & mask).saturating_add(dist))).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let sieve = sieve(&wanted, dist);
        Words { size, wanted, mask, sieve }
    }

    fn is(&self, word: u64) -> bool {
        let word = word & self.mask;
        // ranges may overlap, but all have one length
        let next = self.wanted.partition_point(|(low, _)| *low <= word);
        next.checked_sub(1).and_then(|i| self.wanted.get(i)).is_some_and(|(_, high)| word <= *high)
    }

    /// The bits that all wanted values have in common, and what they are.
    fn common(&self) -> (u64, u64) {
        let first = self.wanted.first().map_or(0, |range| range.0);
        let differ = self.wanted.iter().fold(0, |all, (low, high)| all | (low ^ first) | (high ^ first));
        // a range has all values between its ends: all bits below the highest that differs
        let common = self.mask & !(u64::MAX.checked_shr(differ.leading_zeros()).unwrap_or(0));
        (common, first & common)
    }

    fn scan<const N: usize>(&self, bytes: &[u8], decode: impl Fn([u8; N]) -> u64, found: &mut Vec<usize>) {
        if self.wanted.is_empty() {
            return;
        }
        let (words, _) = bytes.as_chunks::<N>();
        near(words, &decode, self.common(), &mut |start, block| {
            let passes =
                |word: u64| self.sieve.as_ref().is_none_or(|(shift, sieve)| sieve.passes((word & self.mask) >> shift));
            for (i, word) in block.iter().enumerate() {
                let word = decode(*word);
                if passes(word) && self.is(word) {
                    found.push((start + i) * N);
                }
            }
        });
    }
}

/// Shows `visit` the blocks in which a word agrees with the wanted in the bits that these have in common: most blocks
/// have none, which is quickly seen, and twice as quickly by a CPU that compares four words at once.
#[multiversion::multiversion(targets("x86_64+avx2"))]
fn near<const N: usize>(
    words: &[[u8; N]],
    decode: &impl Fn([u8; N]) -> u64,
    (mask, want): (u64, u64),
    visit: &mut impl FnMut(usize, &[[u8; N]]),
) {
    const BLOCK: usize = 64;
    for (i, block) in words.chunks(BLOCK).enumerate() {
        if block.iter().fold(false, |any, word| any | (decode(*word) & mask == want)) {
            visit(i * BLOCK, block);
        }
    }
}

impl Pattern for Words {
    fn find(&self, bytes: &[u8], len: usize, found: &mut Vec<usize>) {
        let bytes = bytes.get(..len).unwrap_or(bytes);
        match self.size {
            1 => self.scan::<1>(bytes, |[b]| b.into(), found),
            2 => self.scan(bytes, |b| u16::from_le_bytes(b).into(), found),
            4 => self.scan(bytes, |b| u32::from_le_bytes(b).into(), found),
            _ => self.scan(bytes, u64::from_le_bytes, found),
        }
    }
}

/// Bytes by a regular expression, texts and patterns of bytes among them.
struct Bytes {
    regex: Regex,
    overlap: usize,
}

impl Pattern for Bytes {
    fn find(&self, bytes: &[u8], len: usize, found: &mut Vec<usize>) {
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| self.regex.find(rest)) {
            let start = from + at.start();
            if start >= len {
                break;
            }
            found.push(start);
            from = start + 1;
        }
    }

    fn overlap(&self) -> usize {
        self.overlap
    }
}

/// Bytes that a regular expression's finding may reach into the next piece.
const REACH: usize = 256;
/// Bytes of a text that `-v` shows.
const SHOWN: usize = 64;

fn regex(pattern: &str) -> Result<Regex> {
    RegexBuilder::new(pattern).unicode(false).build().map_err(|e| Error::Usage(format!("::kgrep: {e}")))
}

/// `de ad .. ef` as a regular expression.
fn hex(text: &str) -> Result<(String, usize)> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bad = || {
        Error::Usage(format!("::kgrep: `{text}` is no row of bytes")).hint("two hex digits a byte: `-b 'de ad .. ef'`")
    };
    let pairs = digits.chunks(2).map(|pair| match pair {
        ['.', '.'] => Some("(?s:.)".to_owned()),
        [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => Some(format!("\\x{a}{b}")),
        _ => None,
    });
    let pairs = pairs.collect::<Option<Vec<_>>>().filter(|pairs| !pairs.is_empty()).ok_or_else(bad)?;
    Ok((pairs.concat(), pairs.len()))
}

impl Kgrep {
    /// The pattern, if it is one of bytes.
    fn by_bytes(&self) -> Result<Option<Bytes>> {
        let (pattern, overlap) = match (&self.text, &self.bytes, &self.regex) {
            (Some(text), ..) if text.is_empty() => {
                return Err(Error::Usage("::kgrep: an empty text is everywhere".into()));
            }
            (Some(text), ..) => (regex::escape(text), text.len() - 1),
            (_, Some(bytes), _) => {
                let (pattern, len) = hex(bytes)?;
                (pattern, len - 1)
            }
            (.., Some(pattern)) => (pattern.clone(), REACH),
            _ => return Ok(None),
        };
        let regex = regex(&pattern)?;
        if regex.is_match(b"") {
            return Err(Error::Usage("::kgrep: that matches nothing at all, which is everywhere".into()));
        }
        Ok(Some(Bytes { regex, overlap }))
    }

    fn words(&self, cx: &Cx<'_>) -> Result<Words> {
        let value = |arg: &Option<ExprArg>| arg.as_ref().map(|arg| arg.eval(cx)).transpose();
        let size = value(&self.size)?.unwrap_or(8);
        if ![1, 2, 4, 8].contains(&size) {
            return Err(Error::Usage(format!("::kgrep -s {size:x}: values have 1, 2, 4 or 8 bytes")));
        }
        let width = u64::MAX >> (64 - 8 * size);
        let mask = value(&self.mask)?.or(value(&self.inverse)?.map(|mask| !mask)).unwrap_or(u64::MAX) & width;
        if let Some(large) = self.values.iter().find(|value| **value & !width != 0) {
            return Err(Error::Usage(format!("::kgrep -s {size}: {large:x} does not fit into {size} bytes")));
        }
        Ok(Words::new(size as usize, mask, value(&self.dist)?.unwrap_or(0), &self.values))
    }

    fn range(&self, cx: &Cx<'_>) -> Result<RangeInclusive<u64>> {
        let value = |arg: &Option<ExprArg>| arg.as_ref().map(|arg| arg.eval(cx)).transpose();
        Ok(value(&self.min)?.unwrap_or(0)..=value(&self.max)?.unwrap_or(u64::MAX))
    }

    /// What is at a place.
    fn value(cx: &Cx<'_>, space: Space, addr: u64, words: Option<usize>) -> Cell {
        let mut buf = [0; SHOWN];
        let read = |buf: &mut [u8]| cx.read_in(space, addr, buf);
        match words {
            Some(size) => match read(&mut buf[..size]) {
                Ok(()) => Cell::Hex(buf[..size].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))),
                Err(e) => Cell::Unreadable(e.kind()),
            },
            None => {
                // as much as is there
                let len = (1..=SHOWN).rev().find(|len| read(&mut buf[..*len]).is_ok()).unwrap_or(0);
                let text = buf[..len].split(|byte| *byte == 0).next().unwrap_or_default();
                Cell::Str(String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}

impl Gather for Kgrep {
    const NAME: &'static str = "kgrep";
    const ROWS: &'static [&'static engine::Schema] = &[KgrepRow::SCHEMA];

    fn take(&mut self, _: &Cx<'_>, at: Object, _: bool) -> Result<()> {
        // an address with a count is the same again and again
        if self.values.last() != Some(&at.addr) {
            self.values.push(at.addr);
        }
        Ok(())
    }

    fn answer(&mut self, cx: &Cx<'_>, alone: bool, out: &mut Out<'_>) -> Result<()> {
        let bytes = self.by_bytes()?;
        if alone && bytes.is_none() {
            return Err(Error::Usage("::kgrep needs a value".into())
                .hint("`ADDR::kgrep`, `… | ::kgrep`, or a text: `::kgrep -t TEXT`"));
        }
        let words = if bytes.is_none() { Some(self.words(cx)?) } else { None };
        let pattern: &dyn Pattern = match (&bytes, &words) {
            (Some(bytes), _) => bytes,
            (None, Some(words)) => words,
            (None, None) => return Ok(()),
        };
        let (area, space) = match self.physical {
            true => (Arc::new(Area::physical(cx)?), Space::Phys),
            false => (Area::mapped(cx)?, Space::Kernel),
        };
        let size = words.as_ref().map(|words| words.size);
        // with one value there is nothing to tell
        let tell = self.verbose
            || self.values.len() != 1
            || self.dist.is_some()
            || self.mask.is_some()
            || self.inverse.is_some();
        let searched = search::search(cx, &area, &self.range(cx)?, pattern, &mut |addr| {
            let object = Object::untyped(addr);
            if out.piped || !tell {
                return out.object(object);
            }
            out.row(KgrepRow { addr: object, value: Kgrep::value(cx, space, addr, size) })
        })?;
        if searched.bytes == 0 && searched.missing == 0 {
            cx.notes.add(0, "nothing was searched: no memory is mapped in that range");
        }
        if searched.missing > 0 {
            cx.notes.add(0, format!("{} bytes of memory are not in the dump and were not searched", searched.missing));
        }
        if area.lost_tables > 0 {
            cx.notes.add(
                0,
                format!(
                    "{} page tables are not in the dump: what they map was searched in the direct map only",
                    area.lost_tables
                ),
            );
        }
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::gather::<Kgrep>()];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(pattern: &dyn Pattern, bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        pattern.find(bytes, bytes.len(), &mut found);
        found
    }

    #[test]
    fn words_are_found_by_value_range_and_mask() {
        let memory: Vec<u8> = [5u64, 0x1000, 0x1008, 0x2000, 0x1005].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(find(&Words::new(8, u64::MAX, 0, &[0x1000]), &memory), [8]);
        assert_eq!(find(&Words::new(8, u64::MAX, 0, &[0x2000, 5, 7]), &memory), [0, 24]);
        assert_eq!(find(&Words::new(8, u64::MAX, 8, &[0x1000]), &memory), [8, 16, 32]);
        assert_eq!(find(&Words::new(8, 0xfff, 0, &[5]), &memory), [0, 32]);
        assert_eq!(find(&Words::new(4, u64::MAX, 0, &[0x1000]), &memory), [8]);
        assert_eq!(find(&Words::new(1, 0xff, 0, &[5]), &memory), [0, 32]);
        assert!(find(&Words::new(8, u64::MAX, 0, &[]), &memory).is_empty());
    }

    #[test]
    fn bytes_are_found_and_keep_to_their_piece() {
        let (pattern, len) = hex("61 .. 63").unwrap();
        let bytes = Bytes { regex: regex(&pattern).unwrap(), overlap: len - 1 };
        assert_eq!(find(&bytes, b"abcaxc\xff\x61\n\x63"), [0, 3, 7]);
        let mut found = Vec::new();
        bytes.find(b"xxabc", 2, &mut found);
        assert!(found.is_empty());
        bytes.find(b"xxabc", 3, &mut found);
        assert_eq!(found, [2]);
        assert!(hex("6").is_err() && hex("xx").is_err() && hex("").is_err());
    }
}
