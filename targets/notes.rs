//! ELF notes: `{name size, desc size, type}`, name, desc, each padded to four bytes.
//!
//! Dumps use them for registers (`CORE`/NT_PRSTATUS, and `QEMU`), and for `VMCOREINFO`.

use bytes::{Buf, Bytes};

use crate::order::Order;

/// One note.
pub(crate) struct Note {
    /// the owner, without its trailing NUL
    pub name: Bytes,
    /// what the owner means by it
    pub kind: u32,
    /// the payload
    pub desc: Bytes,
}

/// The notes in `bytes`. Ends at the first that is damaged: what follows it cannot be found.
pub(crate) fn parse(bytes: Bytes) -> impl Iterator<Item = Note> {
    parse_in(bytes, Order::LITTLE_64)
}

/// The notes of a machine with this byte order.
pub(crate) fn parse_in(mut bytes: Bytes, order: Order) -> impl Iterator<Item = Note> {
    std::iter::from_fn(move || {
        let mut number = || {
            let number = order.number(bytes.get(..4)?);
            bytes.advance(4);
            Some(number as u32)
        };
        let (name_len, desc_len, kind) = (number()? as usize, number()? as usize, number()?);
        if name_len == 0 && desc_len == 0 {
            return None; // the kernel ends a CPU's crash_notes so, and pads with zeros
        }
        let mut name = take(&mut bytes, name_len)?;
        while name.last() == Some(&0) {
            name.truncate(name.len() - 1);
        }
        let desc = take(&mut bytes, desc_len)?;
        Some(Note { name, kind, desc })
    })
}

/// Splits off `len` bytes and skips the padding behind them, of which the last note may have none.
fn take(bytes: &mut Bytes, len: usize) -> Option<Bytes> {
    if len > bytes.len() {
        return None;
    }
    let head = bytes.split_to(len);
    bytes.advance((len.next_multiple_of(4) - len).min(bytes.len()));
    Some(head)
}
