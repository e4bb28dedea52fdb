//! Integers, characters and text: how bytes become the parts of a value.

use crate::ctree::{Text, Value};
use debuginfo::{Type, TypeId, Types};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest chain of typedefs that is looked through for a well-known name.
const MAX_CHAIN: usize = 64;

/// Before this many seconds a `time64_t` is more likely an uptime than a date (2001 Sep 9).
const FIRST_DATE: u64 = 1_000_000_000;

/// What an 8-bit integer type is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chars {
    /// `char`: text
    Plain,
    /// `unsigned char`: text or bytes, only a look can tell (`d_name.name` and MAC addresses)
    Octets,
}

/// Whether a type is a character. `u8` and its like are numbers.
pub fn chars(types: &Types, ty: TypeId) -> Option<Chars> {
    let mut at = ty;
    for _ in 0..MAX_CHAIN {
        match types.get(at).as_deref()? {
            Type::Qualified { to, .. } => at = *to,
            Type::Typedef { name, to } => match &**name {
                "u8" | "__u8" | "uint8_t" | "u_int8_t" | "s8" | "__s8" | "int8_t" => return None,
                _ => at = *to,
            },
            Type::Int { name, size: 1, .. } => {
                return match &**name {
                    "char" => Some(Chars::Plain),
                    "unsigned char" => Some(Chars::Octets),
                    _ => None,
                };
            }
            _ => return None,
        }
    }
    None
}

/// `bits` bits of little-endian `bytes`, from bit `bit` on. More than 64 are cut off.
pub fn extract(bytes: &[u8], bit: u8, bits: u32) -> u64 {
    let mut wide = [0; 16];
    let len = bytes.len().min(16);
    wide[..len].copy_from_slice(&bytes[..len]);
    let value = (u128::from_le_bytes(wide) >> (bit % 128)) as u64;
    mask(value, bits)
}

/// The low `bits` bits.
pub fn mask(value: u64, bits: u32) -> u64 {
    if bits >= 64 { value } else { value & ((1 << bits) - 1) }
}

/// `value` of `bits` bits as a signed number.
pub fn sign_extend(value: u64, bits: u32) -> i64 {
    match 64u32.checked_sub(bits) {
        Some(free @ 1..=63) => ((value << free) as i64) >> free,
        _ => value as i64,
    }
}

/// A value that an integer of this declared type stands for in people's notation: a date, an IPv4 address.
pub fn known(types: &Types, ty: TypeId, raw: u64) -> Option<Value> {
    let mut at = ty;
    for _ in 0..MAX_CHAIN {
        match types.get(at).as_deref()? {
            Type::Qualified { to, .. } => at = *to,
            Type::Typedef { name, to } => match &**name {
                "time_t" | "__kernel_old_time_t" if raw != 0 => return Some(Value::Known(date(raw as i64)?.into())),
                "time64_t" | "__kernel_time64_t" if (FIRST_DATE..1 << 40).contains(&raw) => {
                    return Some(Value::Known(date(raw as i64)?.into()));
                }
                "in_addr_t" => return Some(ipv4(raw as u32)),
                _ => at = *to,
            },
            _ => return None,
        }
    }
    None
}

/// Seconds since 1970 the way mdb writes them: `2024 Sep 28 17:51:18` (UTC). `None` if no calendar goes so far.
pub fn date(seconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    Some(time.strftime("%Y %b %e %H:%M:%S").to_string())
}

/// An IPv4 address that stands in memory in network order.
pub fn ipv4(raw: u32) -> Value {
    Value::Known(Ipv4Addr::from(raw.to_le_bytes()).to_string().into())
}

/// An IPv6 address.
pub fn ipv6(bytes: [u8; 16]) -> Value {
    Value::Known(Ipv6Addr::from(bytes).to_string().into())
}

/// Bytes as text, if they are text: UTF-8 without control characters.
pub fn printable(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|s| !s.chars().any(|c| c.is_control() || crate::text::stray(c).is_some()))
}

/// What a `char *` points at: `bytes` are at most `max` of it. Only text is shown.
pub fn pointed_text(bytes: &[u8], max: usize, chars: Chars) -> Option<Text> {
    let more = bytes.len() >= max;
    // the cut may go through a character
    let whole = if more { valid_prefix(bytes) } else { bytes };
    let text = printable(whole)?;
    // every zero byte is an empty string; only of a `char` it is likely meant as one
    (chars == Chars::Plain || !text.is_empty()).then(|| Text { text: text.into(), more })
}

/// An array of characters as a string, if it is one: text up to a NUL or to its end. An array that begins with a NUL is
/// none. `cut` says that the array goes on behind `bytes`.
pub fn array_text(bytes: &[u8], cut: bool, chars: Chars) -> Option<Text> {
    let end = bytes.iter().position(|b| *b == 0);
    let more = cut && end.is_none();
    let text = &bytes[..end.unwrap_or(bytes.len())];
    let text = printable(if more { valid_prefix(text) } else { text }).filter(|t| !t.is_empty())?;
    // behind the NUL of a string lies an older, longer one, behind a zero in binary data lie bytes
    let bytes_only = |rest: &[u8]| rest.iter().any(|b| *b != 0 && !(0x20..0x7f).contains(b));
    if chars == Chars::Octets && end.is_some_and(|e| bytes_only(&bytes[e..])) {
        return None;
    }
    Some(Text { text: text.into(), more })
}

/// Without the first bytes of a character that was cut.
fn valid_prefix(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(e) if e.error_len().is_none() => &bytes[..e.valid_up_to()],
        _ => bytes,
    }
}

/// A character as C writes it: `'a'`, `'\n'`, `'\377'`.
pub fn char_literal(c: u8) -> String {
    match c {
        0x07 => "'\\a'".into(),
        0x08 => "'\\b'".into(),
        b'\t' => "'\\t'".into(),
        b'\n' => "'\\n'".into(),
        0x0b => "'\\v'".into(),
        0x0c => "'\\f'".into(),
        b'\r' => "'\\r'".into(),
        b'\\' => "'\\\\'".into(),
        b'\'' => "'\\''".into(),
        0x20..0x7f => format!("'{}'", char::from(c)),
        0 => "'\\0'".into(),
        _ => format!("'\\{c:03o}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        assert_eq!(extract(&[0b1011_0100], 2, 3), 0b101);
        assert_eq!(extract(&[0xff; 9], 7, 64), u64::MAX);
        assert_eq!(extract(&[], 0, 8), 0);
        assert_eq!(sign_extend(0b101, 3), -3);
        assert_eq!(sign_extend(0xffff_ffff, 32), -1);
        assert_eq!(sign_extend(5, 64), 5);
        assert_eq!(sign_extend(5, 0), 5);
    }

    #[test]
    fn text_and_bytes() {
        let text = |b: &[u8], c| array_text(b, false, c).map(|t| t.text.to_string());
        assert_eq!(text(b"abc\0\x01", Chars::Plain).as_deref(), Some("abc"));
        assert_eq!(text(b"abc\0\x01", Chars::Octets), None);
        assert_eq!(text(b"abc\0older", Chars::Octets).as_deref(), Some("abc"));
        assert_eq!(text(b"RT\0\x124V", Chars::Octets), None, "a MAC address");
        assert_eq!(text(b"\0\0", Chars::Plain), None);
        assert_eq!(text("größe\0".as_bytes(), Chars::Octets).as_deref(), Some("größe"));
        assert_eq!(
            array_text("gr\u{f6}".as_bytes().split_at(3).0, true, Chars::Plain).map(|t| t.text),
            Some("gr".into())
        );
        assert_eq!(pointed_text(b"", 256, Chars::Octets), None);
        assert_eq!(pointed_text(b"\x1b[2J", 256, Chars::Plain), None);
    }

    #[test]
    fn characters() {
        for (c, literal) in [(b'a', "'a'"), (0, "'\\0'"), (b'\n', "'\\n'"), (0xff, "'\\377'"), (1, "'\\001'")] {
            assert_eq!(char_literal(c), literal);
        }
    }
}
