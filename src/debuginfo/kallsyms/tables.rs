//! The tables themselves: names in tokens, and addresses in one of four encodings.

use std::ops::Range;

use bytes::Bytes;

use super::Addresses;
use crate::Reader;
use crate::holes::Patchy;

/// Symbols from one marker to the next.
const BLOCK: usize = 256;

/// Bytes that a block takes: at least a length and a token each; at most 130 on average.
pub(super) const BLOCK_BYTES: std::ops::RangeInclusive<u32> = 512..=256 * 130;

/// Longest symbol, with letter and NUL: KSYM_NAME_LEN + 1.
const TEXT_LEN: usize = 513;

/// A kernel with everything built in has half a million symbols.
const MAX_SYMBOLS: usize = 1 << 24;

/// The place of a block that is not known.
const UNKNOWN: u32 = u32::MAX;

/// An expanded symbol: `nm`'s letter, then the name.
pub(super) struct Text {
    bytes: [u8; TEXT_LEN],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: [0; TEXT_LEN], len: 0 }
    }
}

impl Text {
    pub(super) fn letter(&self) -> u8 {
        self.bytes[0]
    }

    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(1..self.len).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.len + part.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(part);
        self.len = end;
        Some(())
    }
}

/// `kallsyms_names` with what is needed to read it.
pub(super) struct Names {
    /// number of symbols
    pub count: usize,
    pub bytes: Patchy,
    /// where each block of 256 symbols starts in `bytes`
    blocks: Vec<u32>,
    table: Bytes,
    tokens: Vec<Range<usize>>,
}

impl Names {
    /// Also returns the address after the markers, if those were found.
    pub(super) fn open(at: &Addresses, reader: &dyn Reader) -> Result<(Names, Option<u64>), String> {
        let need = |address: Option<u64>, what: &str| address.ok_or_else(|| format!("{what} is not known"));
        let start = need(at.names, "kallsyms_names")?;
        let count = word(&reader.bytes(need(at.num_syms, "kallsyms_num_syms")?, 4)?, 0).unwrap_or(0) as usize;
        if count == 0 || count > MAX_SYMBOLS {
            return Err(format!("kallsyms claims to have {count} symbols"));
        }
        let (table, tokens) = tokens(
            reader,
            need(at.token_table, "kallsyms_token_table")?,
            need(at.token_index, "kallsyms_token_index")?,
        )?;
        // The names end before whichever table follows. No symbol takes more than 130 bytes on average.
        let others = [at.num_syms, at.token_table, at.token_index, at.offsets, at.relative_base, at.addresses];
        let next = others.into_iter().flatten().filter(|&other| other > start).min();
        let limit = count as u64 * 130;
        let len = next.map_or(limit, |next| (next - start).min(limit));
        let bytes = Patchy::read(reader, start, len as usize).map_err(|e| format!("kallsyms_names: {e}"))?;
        if count > bytes.bytes.len() / 2 {
            return Err(format!("kallsyms claims to have {count} symbols in {} bytes", bytes.bytes.len()));
        }
        let blocks = vec![UNKNOWN; count.div_ceil(BLOCK)];
        let mut names = Names { count, bytes, blocks, table, tokens };
        let markers = names.take_markers();
        names.walk_unknown_blocks();
        Ok((names, markers.map(|end| start + end as u64)))
    }

    /// Whether no page is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.holes.is_empty()
    }

    /// Finds the markers behind the names. Returns where they end.
    fn take_markers(&mut self) -> Option<usize> {
        let size = self.blocks.len() * 4;
        // They end where the token table starts, or where the by-name order does, both aligned to 8; the search is for
        // kernels that are laid out otherwise.
        let end = self.bytes.bytes.len();
        let direct = [0, (self.count * 3).next_multiple_of(8)].into_iter().flat_map(|back| {
            let last = end.checked_sub(back + size);
            (0..8).step_by(4).filter_map(move |pad| last?.checked_sub(pad))
        });
        let searched = std::iter::once_with(|| memchr::memmem::rfind(&self.bytes.bytes, &self.first_markers()?));
        let from = direct.chain(searched.flatten()).find(|&from| self.are_markers(from))?;
        for nth in 0..self.blocks.len() {
            self.blocks[nth] = self.marker(from, nth).unwrap_or(UNKNOWN);
        }
        Some(from + size)
    }

    fn marker(&self, from: usize, nth: usize) -> Option<u32> {
        let at = from + nth * 4;
        word(&self.bytes.bytes, at).filter(|_| !self.bytes.holes.hit(at..at + 4))
    }

    /// Whether what lies at `from` starts with 0 and rises as markers do.
    fn are_markers(&self, from: usize) -> bool {
        let known = (0..self.blocks.len()).filter_map(|nth| Some((nth, self.marker(from, nth)?)));
        let (mut before, mut seen) = (None, 0);
        for (nth, marker) in known {
            let fits = match before {
                _ if nth == 0 => marker == 0,
                Some((last, value)) if last + 1 == nth => {
                    marker.checked_sub(value).is_some_and(|step| BLOCK_BYTES.contains(&step))
                }
                _ => before.is_none_or(|(_, value)| marker > value),
            };
            if !fits || marker as usize >= from {
                return false;
            }
            before = Some((nth, marker));
            seen += 1;
        }
        seen * 2 >= self.blocks.len()
    }

    /// The first few markers as the names tell them.
    fn first_markers(&self) -> Option<Vec<u8>> {
        let mut out = vec![0u8; 4];
        let mut at = 0;
        for index in 1..=3 * BLOCK {
            at = self.entry(at)?.end;
            if index % BLOCK == 0 {
                out.extend((at as u32).to_le_bytes());
            }
        }
        Some(out)
    }

    /// Finds blocks whose marker is missing by walking the block before.
    fn walk_unknown_blocks(&mut self) {
        self.blocks[0] = 0;
        for nth in 1..self.blocks.len() {
            let (before, known) = (self.blocks[nth - 1], self.blocks[nth]);
            if known == UNKNOWN && before != UNKNOWN {
                let walked = (0..BLOCK).try_fold(before as usize, |at, _| Some(self.entry(at)?.end));
                self.blocks[nth] = walked.map_or(UNKNOWN, |at| at as u32);
            }
        }
    }

    /// Where the tokens of the symbol at a position lie. `None` if its length is missing or cannot be.
    fn entry(&self, at: usize) -> Option<Range<usize>> {
        let bytes = &self.bytes.bytes;
        let first = usize::from(*bytes.get(at)?);
        let (len, from) = match first & 0x80 {
            0 => (first, at + 1),
            _ => (first & 0x7f | usize::from(*bytes.get(at + 1)?) << 7, at + 2),
        };
        let end = from + len;
        (len > 0 && end <= bytes.len() && !self.bytes.holes.hit(at..from)).then_some(from..end)
    }

    fn position(&self, index: usize) -> Option<usize> {
        let start = self.blocks.get(index / BLOCK).copied().filter(|&at| at != UNKNOWN)?;
        (0..index % BLOCK).try_fold(start as usize, |at, _| Some(self.entry(at)?.end))
    }

    /// Expands one symbol by number.
    pub(super) fn expand<'t>(&self, index: usize, text: &'t mut Text) -> Option<&'t Text> {
        if index >= self.count {
            return None;
        }
        self.expand_at(self.position(index)?, text)
    }

    /// Expands the symbol at a position.
    pub(super) fn expand_at<'t>(&self, at: usize, text: &'t mut Text) -> Option<&'t Text> {
        let entry = self.entry(at)?;
        if self.bytes.holes.hit(entry.clone()) {
            return None;
        }
        text.len = 0;
        for &token in self.bytes.bytes.get(entry)? {
            text.push(self.table.get(self.tokens.get(usize::from(token))?.clone())?)?;
        }
        (text.len > 1).then_some(text)
    }

    /// Visits number and position of every symbol that can be reached, until `visit` returns false.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, usize) -> bool) {
        for (nth, &block) in self.blocks.iter().enumerate().filter(|(_, block)| **block != UNKNOWN) {
            let mut at = block as usize;
            for index in nth * BLOCK..((nth + 1) * BLOCK).min(self.count) {
                // what follows a damaged length, up to the next marker, is lost
                let Some(entry) = self.entry(at) else { break };
                if !self.bytes.holes.hit(entry.clone()) && !visit(index, at) {
                    return;
                }
                at = entry.end;
            }
        }
    }
}

/// Reads the token table: its bytes, and where in them each token lies.
fn tokens(reader: &dyn Reader, table: u64, index: u64) -> Result<(Bytes, Vec<Range<usize>>), String> {
    let index = reader.bytes(index, 512).map_err(|e| format!("kallsyms_token_index: {e}"))?;
    let starts: Vec<usize> = index.as_chunks().0.iter().map(|&two| usize::from(u16::from_le_bytes(two))).collect();
    let last = starts.last().copied().unwrap_or(0);
    if starts.first() != Some(&0) || !starts.is_sorted_by(|a, b| a < b) {
        return Err("kallsyms_token_index is damaged".to_owned());
    }
    // the last token is as long as it is, but no longer than a name
    let text = (1..=TEXT_LEN)
        .step_by(64)
        .map_while(|more| reader.bytes(table, last + more).ok())
        .find(|text| text.get(last..).is_some_and(|rest| rest.contains(&0)))
        .ok_or("kallsyms_token_table is damaged or missing")?;
    let token = |&start: &usize| {
        let len = memchr::memchr(0, text.get(start..)?)?;
        Some(start..start + len)
    };
    let tokens = starts.iter().map(token).collect::<Option<Vec<_>>>().ok_or("kallsyms_token_table is damaged")?;
    Ok((text, tokens))
}

/// How an entry of the table of addresses becomes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// below 0: `base - 1 - entry`; else itself, for per-CPU variables: x86 up to 6.14 (01157ddc58dc removed it)
    AbsolutePerCpu { base: u64 },
    /// `base` + entry, unsigned: other architectures, and x86 from 6.15 on
    Relative { base: u64 },
    /// address of the entry + entry: since 7.0 (a081b5789255)
    PcRelative { table: u64 },
    /// 8 bytes each, as they are
    Absolute,
}

impl Encoding {
    fn width(self) -> usize {
        if self == Encoding::Absolute { 8 } else { 4 }
    }

    pub(super) fn has_base(self) -> bool {
        matches!(self, Encoding::AbsolutePerCpu { .. } | Encoding::Relative { .. })
    }

    pub(super) fn absolute_per_cpu(self) -> bool {
        matches!(self, Encoding::AbsolutePerCpu { .. })
    }
}

/// The table of addresses.
pub(super) struct Values {
    bytes: Patchy,
    pub encoding: Encoding,
}

impl Values {
    /// Chooses the encoding that makes sense of the table, never by version: which one a kernel uses depends on its
    /// configuration and was changed more than once. Also returns the address after the table and its base.
    pub(super) fn open(at: &Addresses, reader: &dyn Reader, count: usize) -> Result<(Values, u64), String> {
        let (score, values) = Values::best(at, reader, count).ok_or("the kallsyms addresses are missing")?;
        if score < GOOD {
            return Err(format!("the kallsyms addresses make no sense: {score} of 1000 are plausible"));
        }
        let table = at.addresses.filter(|_| values.encoding == Encoding::Absolute).or(at.offsets).unwrap_or(0);
        let end = table + (count * values.encoding.width()) as u64;
        let base = at.relative_base.filter(|&base| base == end.next_multiple_of(8)).map(|base| base + 8);
        Ok((values, base.unwrap_or(end)))
    }

    /// The reading of the tables at `at` that makes most sense, with its score from 0 to 1000. Of equals the first:
    /// where there is a base, it is used.
    pub(super) fn best(at: &Addresses, reader: &dyn Reader, count: usize) -> Option<(u32, Values)> {
        let base = at.relative_base.and_then(|base| reader.bytes(base, 8).ok());
        let base = base.and_then(|b| Some(u64::from_le_bytes(*b.first_chunk()?)));
        let per_cpu = base.map(|base| Encoding::AbsolutePerCpu { base });
        let relative = base.map(|base| Encoding::Relative { base });
        let pc_relative = at.offsets.map(|table| Encoding::PcRelative { table });
        let offsets = at.offsets.and_then(|table| Patchy::read(reader, table, count * 4).ok());
        let addresses = at.addresses.and_then(|table| Patchy::read(reader, table, count * 8).ok());
        let coded = [per_cpu, relative, pc_relative].into_iter().flatten();
        let coded = coded.filter_map(|encoding| Some(Values { bytes: offsets.clone()?, encoding }));
        let all = coded.chain(addresses.map(|bytes| Values { bytes, encoding: Encoding::Absolute }));
        let image = at.names.unwrap_or(0);
        let mut scored: Vec<_> = all.map(|values| (values.score(count, image), values)).collect();
        scored.reverse();
        scored.into_iter().max_by_key(|(score, _)| *score)
    }

    /// How many in a thousand of a sample of neighbours are plausible and in order. `image` is any address in the
    /// kernel's image, which is less than 2 GiB long; what is not near it may be an offset into the per-CPU area.
    fn score(&self, count: usize, image: u64) -> u32 {
        const SAMPLES: usize = 512;
        let near = |a: u64| a.abs_diff(image) < 1 << 31;
        let plausible = |a: u64| near(a) || a < 1 << 31;
        let (mut good, mut in_image, mut all) = (0, 0, 0);
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for index in (0..count.saturating_sub(1)).step_by((count / SAMPLES).max(1)) {
            if let (Some(a), Some(b)) = (self.get(index), self.get(index + 1)) {
                all += 1;
                good += u32::from(plausible(a) && plausible(b) && a <= b);
                if near(a) {
                    in_image += 1;
                    (lowest, highest) = (lowest.min(a), highest.max(a));
                }
            }
        }
        // Any filling looks like relative addresses of symbols that are four bytes long; real ones have hundreds.
        let too_dense = highest.saturating_sub(lowest) < 16 * count as u64;
        // The tables lie behind the text and before the data. Offsets from a base that is lost, taken for such from
        // the entries, would have all of it behind the tables.
        let is_around = lowest < image && image < highest;
        if in_image * 2 < all || too_dense || !is_around { 0 } else { (good * 1000).checked_div(all).unwrap_or(0) }
    }

    /// Whether no page is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes.holes.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<u64> {
        let width = self.encoding.width();
        let at = index.checked_mul(width)?;
        let rest = self.bytes.bytes.get(at..).filter(|_| !self.bytes.holes.hit(at..at + width))?;
        let entry = || rest.first_chunk().map(|b| i32::from_le_bytes(*b));
        let add = |base: u64, offset: i64| base.wrapping_add_signed(offset);
        Some(match self.encoding {
            Encoding::Absolute => u64::from_le_bytes(*rest.first_chunk()?),
            Encoding::Relative { base } => add(base, i64::from(entry()? as u32)),
            Encoding::PcRelative { table } => add(table.wrapping_add(at as u64), i64::from(entry()?)),
            Encoding::AbsolutePerCpu { base } => match entry()? {
                offset @ 0.. => offset as u64,
                offset => add(base, -1 - i64::from(offset)),
            },
        })
    }

    /// The first index of `range` whose value fails `pred`, which must hold up to some point and no further. Values
    /// that are missing count as failing if no known one after them holds.
    pub(super) fn partition(&self, range: Range<usize>, pred: impl Fn(u64) -> bool) -> usize {
        let Range { start: mut low, end: mut high } = range;
        while low < high {
            let middle = low + (high - low) / 2;
            let known = (middle..high).find_map(|index| Some((index, self.get(index)?)));
            match known {
                Some((index, value)) if pred(value) => low = index + 1,
                _ => high = middle,
            }
        }
        low
    }
}

/// The least score of a table that is one.
pub(super) const GOOD: u32 = 900;

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
