//! Finds the tables by their shape, in kernels whose VMCOREINFO does not list them.
//!
//! The token table is the anchor: every digit is its own token, so it contains `0\0` `1\0` … `9\0`. Its index follows
//! and confirms it. The markers are the longest run of rising numbers before it, the names lie before those, the
//! symbols' count before the names. The addresses lie either before that count or after the index.

use std::ops::Range;

use super::Addresses;
use super::tables::{BLOCK_BYTES, GOOD, Values, word};
use crate::Reader;
use crate::holes::Patchy;

/// How much is searched for the anchor at a time.
const CHUNK: u64 = 1 << 20;

/// How far before the token table the names may start.
const REACH: u64 = 32 << 20;

pub(super) fn locate(reader: &dyn Reader, image: Range<u64>) -> Result<Addresses, String> {
    let mut why = "no token table in the kernel image".to_owned();
    let mut at = image.start;
    while at < image.end {
        let len = (CHUNK + 32).min(image.end - at);
        if let Ok(chunk) = Patchy::read(reader, at, len as usize) {
            for hit in memchr::memmem::find_iter(&chunk.bytes, b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0") {
                let Some(tokens) = token_table(reader, at + hit as u64, &image) else { continue };
                match tables(reader, &tokens, &image) {
                    Ok(found) => return Ok(found),
                    Err(reason) => why = reason,
                }
            }
        }
        at += CHUNK;
    }
    Err(why)
}

struct Tokens {
    table: u64,
    index: u64,
}

/// The token table around the token `0` at `zero`, if its index confirms it.
fn token_table(reader: &dyn Reader, zero: u64, image: &Range<u64>) -> Option<Tokens> {
    const AROUND: u64 = 16 << 10;
    let len = AROUND.min(image.end - zero) as usize;
    let after = Patchy::read(reader, zero, len).ok()?;
    // from token 0x30 on to the end of the last one
    let mut end = 0;
    let mut last = 0;
    for _ in usize::from(b'0')..256 {
        last = end;
        end += memchr::memchr(0, after.bytes.get(end..)?)? + 1;
    }
    let start = |index: usize, nth: usize| {
        let two = after.bytes.get(index + nth * 2..)?.first_chunk()?;
        Some(usize::from(u16::from_le_bytes(*two)))
    };
    [2, 4, 8].into_iter().find_map(|align| {
        let index = ((zero + end as u64).next_multiple_of(align) - zero) as usize;
        let starts = (0..256).map(|nth| start(index, nth)).collect::<Option<Vec<_>>>()?;
        let zero_at = *starts.get(usize::from(b'0'))?;
        let fits =
            starts.first() == Some(&0) && starts.is_sorted_by(|a, b| a < b) && starts.last() == Some(&(zero_at + last));
        fits.then_some(Tokens { table: zero.checked_sub(zero_at as u64)?, index: zero + index as u64 })
    })
}

/// Finds the other tables from the token table.
fn tables(reader: &dyn Reader, tokens: &Tokens, image: &Range<u64>) -> Result<Addresses, String> {
    let start = image.start.max(tokens.table.saturating_sub(REACH)).next_multiple_of(8);
    let before = tokens.table.checked_sub(start).ok_or("the token table is outside the image")?;
    let before = Patchy::read(reader, start, before as usize).map_err(|e| format!("kallsyms_names: {e}"))?.bytes;
    let markers = markers(&before).ok_or("no markers before the kallsyms token table")?;
    let (names, num_syms, count) = names(&before, markers).ok_or("no kallsyms names before their markers")?;
    let at = Addresses {
        names: Some(start + names as u64),
        num_syms: Some(start + num_syms as u64),
        token_table: Some(tokens.table),
        token_index: Some(tokens.index),
        ..Addresses::default()
    };
    let places = value_tables(&at, start + num_syms as u64, tokens.index + 512, count as u64);
    let scored = places.into_iter().filter_map(|place| {
        let (score, values) = Values::best(&place, reader, count)?;
        // what lies where a base would be is one only if it is needed
        let relative_base = place.relative_base.filter(|_| values.encoding.has_base());
        Some((score, Addresses { relative_base, ..place }))
    });
    // of equals the first: it has a base
    let best = scored.rev().max_by_key(|(score, _)| *score).filter(|(score, _)| *score >= GOOD);
    best.map(|(_, place)| place).ok_or_else(|| "no kallsyms addresses beside the names".to_owned())
}

/// Where the table of addresses may be: before the count of symbols or, since 6.4 (404bad70fcf7),
/// after the token index.
fn value_tables(at: &Addresses, num_syms: u64, after_index: u64, count: u64) -> Vec<Addresses> {
    let offsets = (count * 4).next_multiple_of(8);
    let mut out = Vec::new();
    if let Some(table) = num_syms.checked_sub(8 + offsets) {
        out.push(Addresses { offsets: Some(table), relative_base: Some(num_syms - 8), ..*at });
    }
    // Aligned to 8 or, since 7.x, to 4, as the index itself is. A table read one entry off would look just as good.
    let table = after_index.next_multiple_of(4);
    let base = (table + count * 4).next_multiple_of(8);
    out.push(Addresses { offsets: Some(table), relative_base: Some(base), ..*at });
    if let Some(table) = num_syms.checked_sub(count * 8) {
        out.push(Addresses { addresses: Some(table), ..*at });
    }
    out
}

/// Position and length of the longest run of numbers that rise from 0 as markers do.
fn markers(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut best, mut run, mut before) = ((0, 0), 0usize, 0u32);
    for (nth, four) in bytes.as_chunks().0.iter().enumerate() {
        let value = u32::from_le_bytes(*four);
        run = match value {
            0 => 1,
            _ if run > 0 && value.checked_sub(before).is_some_and(|step| BLOCK_BYTES.contains(&step)) => run + 1,
            _ => 0,
        };
        before = value;
        if run > best.1 {
            best = ((nth + 1 - run) * 4, run);
        }
    }
    (best.1 >= 4).then_some(best)
}

/// The names that the markers at `(position, length)` belong to: their position, that of their count, and the count.
fn names(bytes: &[u8], (markers, blocks): (usize, usize)) -> Option<(usize, usize, usize)> {
    let last = word(bytes, markers + (blocks - 1) * 4)? as usize;
    let latest = markers.checked_sub(last)?;
    let earliest = latest.saturating_sub(*BLOCK_BYTES.end() as usize + 8) & !3;
    (earliest..latest).step_by(4).find_map(|names| {
        [8, 4].into_iter().find_map(|back| {
            let num_syms = names.checked_sub(back)?;
            let count = word(bytes, num_syms)? as usize;
            (count.div_ceil(256) == blocks && obeys(bytes, names, markers, blocks)).then_some((names, num_syms, count))
        })
    })
}

/// Whether symbols from `names` on hit the first markers.
fn obeys(bytes: &[u8], names: usize, markers: usize, blocks: usize) -> bool {
    let mut at = names;
    for nth in 1..blocks.min(4) {
        for _ in 0..256 {
            let Some(&first) = bytes.get(at) else { return false };
            let len = match first & 0x80 {
                0 => 1 + usize::from(first),
                _ => 2 + (usize::from(first & 0x7f) | usize::from(bytes.get(at + 1).copied().unwrap_or(0)) << 7),
            };
            at += len;
        }
        if word(bytes, markers + nth * 4) != Some((at - names) as u32) {
            return false;
        }
    }
    true
}
