//! How a machine writes numbers: which byte is first, and how wide a `long` is.

use bytes::{Buf, Bytes};

/// Byte order and word size of the machine that a dump is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The most significant byte comes first.
    pub big_endian: bool,
    /// Addresses and `long` have 64 bits, otherwise 32.
    pub wide: bool,
}

impl Order {
    /// That of x86-64 and arm64.
    pub const LITTLE_64: Order = Order { big_endian: false, wide: true };

    /// A number of up to eight bytes.
    pub(crate) fn number(self, bytes: &[u8]) -> u64 {
        let shift = |number, &byte| number << 8 | u64::from(byte);
        if self.big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    }

    /// Bytes of a `long`.
    pub(crate) fn word(self) -> usize {
        if self.wide { 8 } else { 4 }
    }
}

/// Fields of a structure, one after the other. Behind the end there is nothing.
pub(crate) struct Fields {
    bytes: Bytes,
    order: Order,
}

impl Fields {
    pub fn new(bytes: Bytes, order: Order) -> Fields {
        Fields { bytes, order }
    }

    /// The next `len` bytes as a number.
    fn take(&mut self, len: usize) -> Option<u64> {
        let number = self.bytes.get(..len).map(|bytes| self.order.number(bytes))?;
        self.bytes.advance(len);
        Some(number)
    }

    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.bytes.get(..len)?;
        self.bytes.advance(len);
        Some(())
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|n| n as u16)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|n| n as u32)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)
    }

    /// An `unsigned long`.
    pub fn word(&mut self) -> Option<u64> {
        self.take(self.order.word())
    }
}
