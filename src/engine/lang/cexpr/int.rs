//! C integers: a value with a width and a sign, and the usual arithmetic conversions.
//!
//! Deviations from C: what C leaves undefined is defined. Overflow wraps; a shift out of range gives 0 (or all ones, right
//! of a negative number); a division by zero has no value.

use super::CBinary;

/// An integer of a C type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CInt {
    value: i128,
    bits: u32,
    signed: bool,
}

impl CInt {
    /// `value` cut to `bits` (1 to 64).
    pub fn new(value: i128, bits: u32, signed: bool) -> CInt {
        let bits = bits.clamp(1, 64);
        let unused = 128 - bits;
        let value = match signed {
            true => value << unused >> unused,
            false => ((value as u128) << unused >> unused) as i128,
        };
        CInt { value, bits, signed }
    }

    /// An unsigned 64-bit number: an address, a size.
    pub fn u64(value: u64) -> CInt {
        CInt::new(value.into(), 64, false)
    }

    /// A signed 64-bit number.
    pub fn i64(value: i64) -> CInt {
        CInt::new(value.into(), 64, true)
    }

    /// A truth value, C's `int`.
    pub fn bool(value: bool) -> CInt {
        CInt::new(value.into(), 32, true)
    }

    /// A literal: the first of C's types that holds it. Decimal ones are never `unsigned int`.
    pub(super) fn literal(value: u64, decimal: bool) -> CInt {
        let (bits, signed) = match 64 - value.leading_zeros() {
            0..=31 => (32, true),
            32 if !decimal => (32, false),
            32..=63 => (64, true),
            _ => (64, false),
        };
        CInt::new(value.into(), bits, signed)
    }

    /// The number.
    pub fn value(self) -> i128 {
        self.value
    }

    /// The number as 64 bits, sign extended.
    pub fn as_u64(self) -> u64 {
        self.value as u64
    }

    /// Width in bits.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// May it be negative?
    pub fn is_signed(self) -> bool {
        self.signed
    }

    /// Types below `int` become `int`.
    fn promoted(self) -> CInt {
        match self.bits < 32 {
            true => CInt::new(self.value, 32, true),
            false => self,
        }
    }

    pub(super) fn neg(self) -> CInt {
        let int = self.promoted();
        CInt::new(-int.value, int.bits, int.signed)
    }

    pub(super) fn not(self) -> CInt {
        let int = self.promoted();
        CInt::new(!int.value, int.bits, int.signed)
    }

    /// An arithmetic or comparison operator; none if it has no value (division by zero).
    pub(super) fn binary(self, op: CBinary, right: CInt) -> Option<CInt> {
        let (left, right) = (self.promoted(), right.promoted());
        if matches!(op, CBinary::Shl | CBinary::Shr) {
            return Some(left.shift(op, right.value));
        }
        // the wider type wins; of equal width the unsigned one
        let bits = left.bits.max(right.bits);
        let unsigned = [left, right].iter().any(|int| !int.signed && int.bits == bits);
        let (a, b) = (CInt::new(left.value, bits, !unsigned).value, CInt::new(right.value, bits, !unsigned).value);
        let value = match op {
            CBinary::BitOr => a | b,
            CBinary::BitXor => a ^ b,
            CBinary::BitAnd => a & b,
            CBinary::Add => a + b,
            CBinary::Sub => a - b,
            CBinary::Mul => a.wrapping_mul(b),
            CBinary::Div => a.checked_div(b)?,
            CBinary::Rem => a.checked_rem(b)?,
            CBinary::Eq => return Some(CInt::bool(a == b)),
            CBinary::Ne => return Some(CInt::bool(a != b)),
            CBinary::Lt => return Some(CInt::bool(a < b)),
            CBinary::Le => return Some(CInt::bool(a <= b)),
            CBinary::Gt => return Some(CInt::bool(a > b)),
            CBinary::Ge => return Some(CInt::bool(a >= b)),
            CBinary::And => return Some(CInt::bool(a != 0 && b != 0)),
            CBinary::Or => return Some(CInt::bool(a != 0 || b != 0)),
            CBinary::Shl | CBinary::Shr => return None,
        };
        Some(CInt::new(value, bits, !unsigned))
    }

    fn shift(self, op: CBinary, by: i128) -> CInt {
        let value = match (op, u32::try_from(by)) {
            (CBinary::Shl, Ok(by)) if by < self.bits => self.value << by,
            (CBinary::Shr, Ok(by)) if by < self.bits => self.value >> by,
            (CBinary::Shr, _) if self.value < 0 => -1,
            _ => 0,
        };
        CInt::new(value, self.bits, self.signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_those_of_c() {
        let int = |value: i128| CInt::new(value, 32, true);
        let uint = |value: i128| CInt::new(value, 32, false);
        let value = |a: CInt, op, b: CInt| a.binary(op, b).map(CInt::value);
        assert_eq!(value(uint(0xffffffff), CBinary::Eq, int(-1)), Some(1));
        assert_eq!(value(CInt::u64(u64::MAX), CBinary::Eq, int(-1)), Some(1));
        assert_eq!(value(CInt::u64(0xffffffff), CBinary::Eq, int(-1)), Some(0));
        assert_eq!(value(CInt::new(0xff, 8, false), CBinary::Eq, int(-1)), Some(0));
        assert_eq!(value(CInt::new(0xff, 8, true), CBinary::Eq, int(-1)), Some(1));
        assert_eq!(value(int(-1), CBinary::Lt, uint(1)), Some(0));
        assert_eq!(value(int(-7), CBinary::Div, int(2)), Some(-3));
        assert_eq!(value(int(-7), CBinary::Rem, int(2)), Some(-1));
        assert_eq!(value(int(1), CBinary::Div, int(0)), None);
        assert_eq!(value(CInt::i64(i64::MIN), CBinary::Div, int(-1)), Some(i64::MIN.into()));
        assert_eq!(value(uint(0), CBinary::Sub, int(1)), Some(0xffffffff));
        assert_eq!(value(int(i32::MAX.into()), CBinary::Add, int(1)), Some(i32::MIN.into()));
        assert_eq!(value(CInt::u64(u64::MAX), CBinary::Mul, CInt::u64(u64::MAX)), Some(1));
        assert_eq!(value(int(1), CBinary::Shl, int(31)), Some(i32::MIN.into()));
        assert_eq!(value(int(1), CBinary::Shl, int(32)), Some(0));
        assert_eq!(value(int(-1), CBinary::Shr, int(99)), Some(-1));
        assert_eq!(value(CInt::u64(1), CBinary::Shl, int(-1)), Some(0));
        assert_eq!(CInt::literal(0x80000000, true).bits(), 64);
        assert!(!CInt::literal(0x80000000, false).is_signed());
        assert_eq!(int(0).not().as_u64(), u64::MAX);
        assert_eq!(CInt::new(1, 1, false).neg().value(), -1);
    }
}
