//! What probably happened, told from the bytes that are where they should not be.

use super::{Finding, Kind};
use crate::slab;
use engine::Session;

/// Where in a fence the damage is.
pub(super) struct Shape {
    /// first and last bad byte
    pub first: usize,
    pub last: usize,
    /// bytes of the fence
    pub len: usize,
    /// what they should be
    pub value: u8,
}

/// Damage to a fence, and the object whose user is suspected if that is another one: the neighbour in front.
pub(super) fn fence(
    session: &Session,
    kind: Kind,
    shape: &Shape,
    found: &[u8],
    count: usize,
    neighbour: Option<u64>,
) -> (String, Option<u64>) {
    if let Some(bit) = flipped(found, count, shape.value) {
        return (bit, None);
    }
    let what = looks(session, found);
    let bytes = plural(count);
    let (text, suspect) = match kind {
        Kind::RightRedzone | Kind::Tail if shape.first == 0 => {
            (format!("overflow: {bytes} written past the end of this object"), None)
        }
        Kind::LeftRedzone if shape.last + 1 == shape.len && shape.first > 0 => {
            (format!("underflow: {bytes} written in front of this object"), None)
        }
        Kind::LeftRedzone if shape.first == 0 => match neighbour {
            Some(_) => (format!("overflow from the neighbour in front: {bytes} reach up to here"), neighbour),
            None => (format!("{bytes} written at the start of the slab, in front of its first object"), None),
        },
        Kind::Padding if shape.first == 0 => (format!("overflow: {bytes} written past the object's records"), None),
        Kind::SlabPadding if shape.first == 0 => {
            (format!("overflow: {bytes} written past the slab's last object"), None)
        }
        _ => (format!("wild write: {bytes}, {} behind the start of the fence", shape.first), None),
    };
    (format!("{text}{what}"), suspect)
}

/// A write that went on behind the fence, or the free object, that it hit first: so many bytes, as far as `place`.
pub(super) fn reach(session: &Session, finding: &Finding, bytes: &str, place: &str) -> String {
    let object = finding.object.unwrap_or(finding.at);
    let text = match finding.kind {
        Kind::RightRedzone | Kind::Tail if finding.verdict.starts_with("overflow") => {
            format!("overflow: {bytes} written past the end of this object")
        }
        Kind::LeftRedzone if finding.verdict.starts_with("overflow") => {
            format!("overflow from the neighbour in front: {bytes}")
        }
        Kind::Poison => {
            format!("use after free: {bytes} written {:#x} into the object", finding.at.wrapping_sub(object))
        }
        _ => format!("wild write: {bytes}"),
    };
    format!("{text}{place}{}", looks(session, &finding.found))
}

/// A write into a free object.
pub(super) fn poison(session: &Session, offset: u64, found: &[u8], count: usize, value: u8) -> String {
    flipped(found, count, value).unwrap_or_else(|| {
        format!("use after free: {} written {offset:#x} into the object{}", plural(count), looks(session, found))
    })
}

fn plural(count: usize) -> String {
    if count == 1 { "1 byte".into() } else { format!("{count} bytes") }
}

/// One byte of which one bit is wrong.
fn flipped(found: &[u8], count: usize, value: u8) -> Option<String> {
    let wrong = found.first()? ^ value;
    (count == 1 && found.len() == 1 && wrong.is_power_of_two())
        .then(|| format!("bit flip: bit {} is wrong, and nothing else", wrong.trailing_zeros()))
}

/// ` (text "…")`, ` (a pointer to …)`, or nothing.
pub(crate) fn looks(session: &Session, found: &[u8]) -> String {
    if let Some(pointer) =
        found.chunks_exact(8).find_map(|word| pointer(session, u64::from_le_bytes(word.try_into().ok()?)))
    {
        return format!(" ({pointer})");
    }
    match text(found) {
        Some(text) => format!(" (text {text:?})"),
        None => String::new(),
    }
}

/// Whether all bytes of a word are the same, as in what fills memory that nobody has used yet.
pub(crate) fn is_filled(word: u64) -> bool {
    word.to_le_bytes().windows(2).all(|two| matches!(two, [one, other] if one == other))
}

/// At least four characters that print.
pub(crate) fn text(found: &[u8]) -> Option<String> {
    let run: Vec<u8> = found.iter().copied().take_while(|b| (0x20..0x7f).contains(b)).collect();
    let whole = run.len() == found.len() || found.get(run.len()) == Some(&0);
    (run.len() >= 4 && whole).then(|| String::from_utf8_lossy(&run).into_owned())
}

/// What an address points to, if it is one of the kernel's.
pub(crate) fn pointer(session: &Session, word: u64) -> Option<String> {
    if word >> 47 != 0x1_ffff && word >> 56 != 0xff {
        return None;
    }
    if let Some(symbol) = session.symbolize(word) {
        return Some(format!("a pointer to {symbol}"));
    }
    let found = slab::find(session, word).ok().flatten()?;
    let caches = slab::Caches::of(session).ok()?;
    Some(format!("a pointer to a {} object, {word:x}", caches.get(found.cache)?.name()))
}

/// An object whose overflow reaches as far as some text in the next one.
pub(crate) struct Front {
    /// the object in front
    pub object: u64,
    /// its own last bytes are text as well, and not only all those from the next object's first on
    sure: bool,
}

impl Front {
    /// In words.
    pub fn text(&self) -> String {
        let probably = if self.sure { "" } else { "from the object's first byte on: probably " };
        format!("{probably}an overflow from the neighbour in front, {:x}", self.object)
    }
}

/// Where text at `at` has come from, if it runs on from the start of its object.
pub(crate) fn from_front(session: &Session, at: u64) -> Option<Front> {
    /// Bytes in front of the object that are looked at.
    const BEFORE: u64 = 8;
    /// Longer runs are not looked at.
    const MAX_RUN: u64 = 1 << 16;
    let found = slab::find(session, at).ok().flatten()?;
    let inside = u64::try_from(found.offset).ok().filter(|inside| *inside < MAX_RUN)?;
    let bytes = session.bytes(found.object.checked_sub(BEFORE)?, (BEFORE + inside + 8) as usize).ok()?;
    let size = u64::from(slab::Caches::of(session).ok()?.get(found.cache)?.size);
    let front = slab::find(session, found.object.checked_sub(size)?).ok().flatten()?;
    let (before, own) = bytes.split_at_checked(BEFORE as usize)?;
    let is_text = |bytes: &[u8]| bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    (front.cache == found.cache && is_text(own)).then(|| Front { object: front.object, sure: is_text(before) })
}

/// `ERR_PTR()`s are above: `MAX_ERRNO` is 4095 (include/linux/err.h).
const ERRORS: u64 = 0xffff_ffff_ffff_f000;

/// What a word of memory looks like: an error that was taken for a pointer, a pattern that the kernel fills memory with, text, or a pointer. `None` if like
/// nothing.
pub(crate) fn describe(session: &Session, word: u64) -> Option<String> {
    /// Bytes that fill memory, and what it is then (include/linux/poison.h).
    const FILLED: [(u8, &str); 4] = [
        (0x6b, "the poison of freed memory (0x6b)"),
        (0x5a, "the poison of padding (0x5a)"),
        (0xbb, "the red zone of a free object (0xbb)"),
        (0xcc, "the red zone of an allocated object (0xcc)"),
    ];
    if word > ERRORS {
        return Some(format!("an error pointer, {}", word as i64));
    }
    let bytes = word.to_le_bytes();
    let filled = FILLED.iter().find(|(byte, _)| bytes.iter().filter(|b| *b == byte).count() >= 7);
    filled
        .map(|(_, what)| (*what).to_owned())
        .or_else(|| text(&bytes).map(|text| format!("text {text:?}")))
        .or_else(|| pointer(session, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bits_and_text_are_recognised() {
        assert!(flipped(&[0xcd], 1, 0xcc).is_some());
        assert!(flipped(&[0x58], 1, 0xcc).is_none());
        assert!(flipped(&[0xcd, 0xcd], 2, 0xcc).is_none());
        assert_eq!(text(b"hello\0\x01"), Some("hello".into()));
        assert_eq!(text(b"hi\0"), None);
        assert_eq!(text(b"hello\x01"), None);
    }
}
