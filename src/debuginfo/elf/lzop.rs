//! Two containers of compressed blocks that kernels are packed with: `lzop`'s, and that of `lz4 -l`.
//!
//! Formats: the kernel's lib/decompress_unlzo.c and lib/decompress_unlz4.c.

use std::io::{self, Read};

/// What `lzop` files begin with.
pub(super) const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";

/// `lz4 -l` cuts its input in blocks of this size; `lzop` in smaller ones.
const BLOCK: usize = 8 << 20;

/// Unpacks block by block.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    kind: Kind,
    block: Vec<u8>,
    at: usize,
    /// the end was seen
    done: bool,
}

enum Kind {
    /// bytes of checksums behind the two sizes of a block
    Lzop { sums: usize },
    /// whether bytes that are no block are an error
    Lz4 { strict: bool },
}

impl<'a> Blocks<'a> {
    /// What follows the magic of `lz4 -l`.
    pub(super) fn lz4(data: &'a [u8], strict: bool) -> Blocks<'a> {
        Blocks {
            rest: data.get(4..).unwrap_or_default(),
            kind: Kind::Lz4 { strict },
            block: Vec::new(),
            at: 0,
            done: false,
        }
    }

    /// What follows the header of an `lzop` file.
    pub(super) fn lzop(data: &'a [u8]) -> Result<Blocks<'a>, String> {
        const FILTERED: u32 = 0x800;
        // checksums of a block: Adler and CRC, of the unpacked and of the packed bytes
        const SUMS: [u32; 4] = [0x1, 0x100, 0x2, 0x200];
        let mut rest = data.get(MAGIC.len()..).unwrap_or_default();
        let cut = || "cut off in its header".to_owned();
        let mut take = |len: usize| -> Result<u32, String> {
            let (head, tail) = rest.split_at_checked(len).ok_or_else(cut)?;
            rest = tail;
            Ok(head.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
        };
        let version = take(2)?;
        take(if version >= 0x940 { 4 } else { 2 })?; // of the library, and the least that is needed
        take(1)?; // method
        if version >= 0x940 {
            take(1)?; // level
        }
        let flags = take(4)?;
        if flags & FILTERED != 0 {
            take(4)?;
        }
        take(4)?; // mode
        take(4)?; // time
        if version >= 0x940 {
            take(4)?;
        }
        let name = take(1)?;
        for _ in 0..name {
            take(1)?;
        }
        take(4)?; // checksum of the header
        // the packed bytes' sums are there only if they are packed, which block() knows
        let sums = SUMS.iter().take(2).filter(|&&sum| flags & sum != 0).count() * 4;
        if flags & (SUMS[2] | SUMS[3]) != 0 {
            return Err("with checksums of packed blocks, which kernels do not have".into());
        }
        Ok(Blocks { rest, kind: Kind::Lzop { sums }, block: Vec::new(), at: 0, done: false })
    }

    /// Unpacks the next block. `None` at the end.
    fn block(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.kind {
            Kind::Lzop { sums } => {
                let Some(size) = self.take(4).map(be) else { return Err("cut off".into()) };
                if size == 0 {
                    return Ok(None);
                }
                let packed = self.take(4).map(be).ok_or("cut off")?;
                self.take(sums).ok_or("cut off")?;
                let data = self.take(packed).ok_or("cut off")?;
                if size > BLOCK || packed > size {
                    return Err(format!("a block of {size} bytes"));
                }
                if packed == size {
                    return Ok(Some(data.to_vec()));
                }
                let mut out = vec![0; size];
                let len = lzokay::decompress::decompress(data, &mut out).map_err(|e| format!("{e:?}"))?;
                (len == size).then_some(Some(out)).ok_or_else(|| "a block of another size".into())
            }
            Kind::Lz4 { strict } => {
                // files may be joined; the next one's magic stands where a size would
                while let Some(next) = self.rest.strip_prefix(&[0x02, 0x21, 0x4c, 0x18]) {
                    self.rest = next;
                }
                let head = self.rest;
                let Some(packed) = self.take(4).map(le) else { return Ok(None) };
                let data = match self.take(packed) {
                    Some(data) if packed > 0 => data,
                    // the size of all, which kernels have at the end
                    _ if !strict || head.len() == 4 => return Ok(None),
                    _ => return Err("cut off".into()),
                };
                let mut out = vec![0; BLOCK];
                let len = lz4_flex::block::decompress_into(data, &mut out).map_err(|e| e.to_string())?;
                out.truncate(len);
                Ok(Some(out))
            }
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

fn le(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

impl Read for Blocks<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !buf.is_empty() && !self.done {
            match self.block().map_err(io::Error::other)? {
                Some(block) => (self.block, self.at) = (block, 0),
                None => self.done = true,
            }
        }
        let from = self.block.get(self.at..).unwrap_or_default();
        let len = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        self.at += len;
        Ok(len)
    }
}
