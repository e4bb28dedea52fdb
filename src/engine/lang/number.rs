//! Numbers as mdb reads and writes them.
//!
//! Reading: the default radix is 16 and can be set from 2 to 16; `0x` `0t` `0o` `0i` name radix 16, 10, 8, 2; `_` may
//! stand anywhere after the first digit. A wrong digit or more than 64 bits is an error, never a truncation.
//!
//! Writing: mdb's `%#r` family puts the prefix only where the value would be read wrongly without it: above 9 in hex and
//! decimal, above 7 in octal, above 1 in binary. Hence `8` but `0x28`, `sym+4` but `sym+0x24`.
//!
//! A negative number always has its prefix (`-0t4`), because mdb compares the two's complement.

/// Why a token is no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// nothing, or `_`, after the prefix
    #[error("a digit of base {radix} is missing")]
    NoDigits {
        /// byte offset in the token
        at: usize,
        /// the base
        radix: u32,
    },
    /// a character that the base does not have
    #[error("digit '{digit}' is not valid in base {radix}")]
    Digit {
        /// byte offset in the token
        at: usize,
        /// the character
        digit: char,
        /// the base
        radix: u32,
    },
    /// more than 64 bits
    #[error("specified value exceeds maximum immediate value (64 bits)")]
    TooLarge,
}

/// Reads a number with an optional prefix; `radix` is that of a number without one.
///
/// ```
/// use engine::lang::number::parse_number;
/// assert_eq!(parse_number("10", 16), Ok(0x10));
/// assert_eq!(parse_number("0t10", 16), Ok(10));
/// assert_eq!(parse_number("0xffff_8881", 10), Ok(0xffff8881));
/// ```
pub fn parse_number(token: &str, radix: u32) -> Result<u64, NumberError> {
    let (radix, skip) = prefix_radix(token).map_or((radix, 0), |radix| (radix, 2));
    parse_digits(&token[skip..], radix).map_err(|error| match error {
        NumberError::NoDigits { at, radix } => NumberError::NoDigits { at: at + skip, radix },
        NumberError::Digit { at, digit, radix } => NumberError::Digit { at: at + skip, digit, radix },
        NumberError::TooLarge => NumberError::TooLarge,
    })
}

/// The radix that the token's prefix names, if it has one.
pub fn prefix_radix(token: &str) -> Option<u32> {
    match token.as_bytes() {
        [b'0', b'x' | b'X', ..] => Some(16),
        [b'0', b't' | b'T', ..] => Some(10),
        [b'0', b'o' | b'O', ..] => Some(8),
        [b'0', b'i' | b'I', ..] => Some(2),
        _ => None,
    }
}

/// Reads digits and underscores of one radix (2 to 16).
pub fn parse_digits(digits: &str, radix: u32) -> Result<u64, NumberError> {
    let radix = radix.clamp(2, 16);
    if digits.is_empty() || digits.starts_with('_') {
        return Err(NumberError::NoDigits { at: 0, radix });
    }
    let mut value = Some(0u64);
    for (at, c) in digits.char_indices().filter(|&(_, c)| c != '_') {
        let digit = c.to_digit(radix).ok_or(NumberError::Digit { at, digit: c, radix })?;
        value = value.and_then(|v| v.checked_mul(radix.into())?.checked_add(digit.into()));
    }
    value.ok_or(NumberError::TooLarge)
}

/// The digits of `value` in `radix` (2 to 16), lower case, no prefix.
pub fn digits(mut value: u64, radix: u32) -> String {
    let radix = u64::from(radix.clamp(2, 16));
    let mut text = Vec::new();
    loop {
        text.push(char::from_digit((value % radix) as u32, 16).unwrap_or('?'));
        value /= radix;
        if value == 0 {
            return text.iter().rev().collect();
        }
    }
}

/// The prefix that `value` needs to be read back in any default radix, `""` if it is read the same in all.
pub fn prefix(value: u64, radix: u32) -> &'static str {
    match radix {
        16 if value > 9 => "0x",
        10 if value > 9 => "0t",
        8 if value > 7 => "0o",
        2 if value > 1 => "0i",
        _ => "",
    }
}

/// mdb's `%#lr`: digits, with the prefix only if the value is ambiguous without it.
///
/// ```
/// use engine::lang::number::unambiguous;
/// assert_eq!(unambiguous(8, 16), "8");
/// assert_eq!(unambiguous(0x28, 16), "0x28");
/// assert_eq!(unambiguous(42, 10), "0t42");
/// ```
pub fn unambiguous(value: u64, radix: u32) -> String {
    format!("{}{}", prefix(value, radix), digits(value, radix))
}

/// As [`unambiguous`], for a signed value: `3`, `0t42`, `-0t4`.
pub fn unambiguous_signed(value: i64, radix: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}{}", prefix(value as u64, radix), digits(value.unsigned_abs(), radix))
}

/// A signed value without a prefix, whatever the radix.
pub fn signed_digits(value: i64, radix: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", digits(value.unsigned_abs(), radix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_mdb_reads() {
        for (token, radix, value) in [
            ("0x123456789abcdef", 16, 0x123456789abcdef),
            ("0x123____456_789___abcd__ef", 16, 0x123456789abcdef),
            ("0x1_2_3_4_5_6_7_8_9_a_b_c_d_e_f____", 16, 0x123456789abcdef),
            ("badcafe", 16, 0xbadcafe),
            ("bad___ca_fe", 16, 195939070),
            ("0t23_24_25_26", 16, 23242526),
            ("0t123456", 16, 0x1e240),
            ("0t1________2_____________________3", 16, 123),
            ("555_5555", 10, 5555555),
            ("44_44_44_44_", 10, 44444444),
            ("0i100_0111", 16, 0x47),
            ("0i1__1__0______", 16, 6),
            ("100_0001__0001", 2, 0x411),
            ("1_____________0", 2, 2),
            ("0o775", 16, 0x1fd),
            ("0o7_7_5__", 16, 0x1fd),
            ("0o7______", 16, 7),
            ("0123_____456", 8, 0xa72e),
            ("000000___________1", 8, 1),
            ("0T10", 16, 10),
            ("0Xff", 16, 255),
            ("ffffffffffffffff", 16, u64::MAX),
            ("0t18446744073709551615", 16, u64::MAX),
        ] {
            assert_eq!(parse_number(token, radix), Ok(value), "{token}");
        }
    }

    #[test]
    fn refuses_what_mdb_refuses() {
        for token in [
            "0x_123",
            "0xzasdf",
            "0x1__p",
            "0i_",
            "0i__011",
            "0i12345",
            "0i0____3",
            "0t34___asdf",
            "0t_4",
            "0tp",
            "0tp__4",
            "0t4______p",
            "0o89",
            "0o7____89",
            "0o__324",
            "0x123456789abcdef123456789abcdef",
            "0x12___345678___9abcdef123456789_a_bcdef",
            "0x",
            "",
            "_",
            "10000000000000000",
        ] {
            assert!(parse_number(token, 16).is_err(), "{token}");
        }
        assert_eq!(parse_number("0x1__p", 16), Err(NumberError::Digit { at: 5, digit: 'p', radix: 16 }));
    }

    #[test]
    fn writes_the_prefix_only_where_it_is_needed() {
        for (value, radix, text) in [
            (0, 16, "0"),
            (9, 16, "9"),
            (10, 16, "0xa"),
            (0x28, 16, "0x28"),
            (9, 10, "9"),
            (42, 10, "0t42"),
            (7, 8, "7"),
            (8, 8, "0o10"),
            (1, 2, "1"),
            (2, 2, "0i10"),
            (100, 7, "202"),
            (u64::MAX, 16, "0xffffffffffffffff"),
        ] {
            assert_eq!(unambiguous(value, radix), text);
        }
        assert_eq!(unambiguous_signed(-4, 10), "-0t4");
        assert_eq!(unambiguous_signed(3, 10), "3");
        assert_eq!(unambiguous_signed(-42, 10), "-0t42");
        assert_eq!(unambiguous_signed(i64::MIN, 16), "-0x8000000000000000");
    }
}
