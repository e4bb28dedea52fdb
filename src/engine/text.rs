//! Text of a dump: bytes that should be UTF-8 and need not be, in a `String` that loses none of them.
//!
//! A byte that belongs to no character of UTF-8 becomes a character of its own, U+10FF00 plus the byte: the last 128
//! code points of a private plane. A genuine character from there is taken apart into its bytes in the same way, so
//! that [`decode`] and [`encode`] are each other's inverse whatever the bytes are. Tables show a stray byte as `\xNN`,
//! JSON says `{"text": …, "bytes": …}`; nothing else needs to know.

use std::borrow::Cow;

/// What is added to a stray byte.
const STRAY: u32 = 0x10_ff00;

/// The bytes as text.
///
/// ```
/// use engine::text::{decode, encode};
/// let text = decode(b"caf\xc3\xa9 \xff");
/// assert_eq!(text.chars().filter_map(engine::text::stray).collect::<Vec<_>>(), [0xff]);
/// assert_eq!(&*encode(&text), b"caf\xc3\xa9 \xff");
/// ```
pub fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_stray) => text.to_owned(),
        _ => decode_each(bytes),
    }
}

fn decode_each(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    let put = |out: &mut String, byte: u8| out.extend(char::from_u32(STRAY + u32::from(byte)));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_stray(c) {
                true => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| put(&mut out, byte)),
                false => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| put(&mut out, *byte));
    }
    out
}

/// The bytes that a text was made of.
pub fn encode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(is_stray) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match stray(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// The byte that a character stands for, if it is a stray one's.
pub fn stray(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).checked_sub(STRAY)?).ok().filter(|byte| *byte >= 0x80)
}

fn is_stray(c: char) -> bool {
    stray(c).is_some()
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, is_stray};

    #[test]
    fn no_byte_is_lost() {
        for bytes in [
            &b""[..],
            b"plain",
            "größe €".as_bytes(),
            b"\xff\xfe\x80",
            b"cut \xe2\x82",
            b"\xed\xa0\x80 a surrogate",
            // genuine characters of the plane that stray bytes are kept in
            "\u{10ff80}\u{10ffff}\u{10ff7f}".as_bytes(),
            b"\xf4\x8f\xbf\xbf\xff",
        ] {
            assert_eq!(&*encode(&decode(bytes)), bytes);
        }
        for pair in 0..=u16::MAX {
            let bytes = pair.to_be_bytes();
            assert_eq!(&*encode(&decode(&bytes)), bytes);
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(decode("näme \u{1f600}".as_bytes()), "näme \u{1f600}");
        assert_eq!(decode(b"a\xffb").chars().filter(|c| is_stray(*c)).count(), 1);
    }
}
