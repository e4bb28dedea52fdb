//! Raw physical memory: files of bytes that say nothing of themselves, such as QEMU's `pmemsave` writes, a file that
//! backs a guest's memory, or LiME's `raw` and `padded` formats.
//!
//! No first bytes tell such a file from any other, so one is read only if the user says where in physical memory its
//! bytes were: [`OpenOptions::raw`](crate::OpenOptions::raw). On a PC with more than some 3 GB memory goes on above a hole
//! for devices, at 4 GB, and in a file that holds memory alone one piece follows the other.

use crate::image::{Kind, Piece, Pieces};
use crate::kernel;
use crate::open::Opened;
use crate::source::Source;

/// A piece of a raw file: where in physical memory it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Physical address of its first byte.
    pub addr: u64,
    /// Bytes; `None` for all that are left of the file.
    pub len: Option<u64>,
}

impl Load {
    /// Reads `ADDR[+LENGTH][,…]`, the pieces of a file in its order; numbers as people write them, hex with `0x`.
    pub fn parse(text: &str) -> Result<Vec<Load>, String> {
        let number = |text: &str| {
            let value = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            value.map_err(|_| format!("`{text}` is no address: write 0x100000000, or in decimal 4294967296"))
        };
        let piece = |text: &str| match text.split_once('+') {
            Some((addr, len)) => Ok(Load { addr: number(addr)?, len: Some(number(len)?) }),
            None => Ok(Load { addr: number(text)?, len: None }),
        };
        let pieces: Vec<Load> = text.split(',').map(piece).collect::<Result<_, String>>()?;
        match pieces.iter().rev().skip(1).find(|piece| piece.len.is_none()) {
            Some(piece) => {
                Err(format!("only the last piece of a file may go without a length: {:#x}+LENGTH", piece.addr))
            }
            None => Ok(pieces),
        }
    }
}

/// Opens files of raw memory, each with its pieces; the error is what to tell the user.
pub(crate) fn open(files: &[(Source, Vec<Load>)]) -> Result<Opened, String> {
    let (mut claims, mut damage) = (Vec::new(), Vec::new());
    let mut start = 0u64;
    for (source, loads) in files {
        // that of a stream is what its records say, without bound
        if matches!(source, Source::Flat(_)) {
            return Err("a flattened dump, not raw memory: open it as it is".into());
        }
        let mut off = 0u64;
        for load in loads {
            let left = source.len().saturating_sub(off);
            let len = load.len.unwrap_or(left);
            let end = load.addr.checked_add(len).ok_or_else(|| format!("no memory is as high as {:#x}", load.addr))?;
            let there = len.min(left);
            claims.push(Piece { start: load.addr, end: load.addr + there, kind: Kind::File(start + off) });
            claims.push(Piece { start: load.addr + there, end, kind: Kind::Truncated });
            off = off.saturating_add(there);
        }
        if off < source.len() {
            damage.push(format!("the last {} bytes of a file have no address and are not used", source.len() - off));
        }
        start = start.saturating_add(source.len());
    }
    claims.retain(|piece| piece.start < piece.end);
    if claims.is_empty() {
        return Err("no raw memory: there is nothing in it".into());
    }
    let sources: Vec<Source> = files.iter().map(|(source, _)| source.clone()).collect();
    let image = Pieces::new(Source::chain(sources), claims);
    let arch = kernel::arch_of_memory(&image);
    let mut opened = Opened::new("raw memory".into(), arch, Box::new(image), Vec::new());
    opened.damage = damage;
    Ok(opened)
}

/// What to say of a file of no known format that may be raw memory: whether a kernel is in it, and how to say so.
pub(crate) fn hint(source: &Source) -> Option<String> {
    /// Bytes that are looked at: an error should not take long.
    const LOOK: u64 = 4 << 30;
    /// Smaller files hold no kernel.
    const LEAST: u64 = 4 << 20;
    if source.len() < LEAST || matches!(source, Source::Flat(_)) {
        return None;
    }
    // where the memory of arm64's virtual machines starts, and of some boards
    let usual = [0, 0x4000_0000, 0x8000_0000];
    let with = |addr: u64| {
        let claim = Piece { start: addr, end: addr + source.len().min(LOOK), kind: Kind::File(0) };
        Pieces::new(source.clone(), vec![claim])
    };
    let image = with(0);
    let note = kernel::notes_in_memory(&image).into_iter().next()?;
    let release: String = note.get("OSRELEASE").unwrap_or("?").chars().filter(|c| !c.is_control()).take(64).collect();
    let addr = usual.into_iter().find(|&addr| kernel::fits(&with(addr), &note));
    let way = match addr {
        Some(addr) => format!("`--load-address {addr:#x}` takes it for that"),
        None => {
            "`--load-address ADDR` takes it for that, ADDR being where in physical memory its first byte was".into()
        }
    };
    Some(format!("of no format that kmdb knows, but a Linux kernel ({release}) is in it: if it is raw memory, {way}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let all = |addr| Load { addr, len: None };
        assert_eq!(Load::parse("0").unwrap(), [all(0)]);
        assert_eq!(Load::parse("0x40000000").unwrap(), [all(1 << 30)]);
        let two = [Load { addr: 0, len: Some(0x8000_0000) }, all(1 << 32)];
        assert_eq!(Load::parse("0+0x80000000,4294967296").unwrap(), two);
        for wrong in ["", "x", "0x", "1+", "+1", "0,1", "-1", "0x1_0", "99999999999999999999"] {
            assert!(Load::parse(wrong).is_err(), "{wrong}");
        }
    }
}
