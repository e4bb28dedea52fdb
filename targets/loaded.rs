//! A kernel that does not run: the memory that its own file describes, at the addresses where it was linked.
//!
//! There are no page tables and no physical memory, so these "physical" addresses are the virtual ones.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::error::Reason;
use crate::image::{Fault, Image, Missing};

/// A kernel's file, as whoever understood it describes it.
#[derive(Clone, Debug, Default)]
pub struct KernelFile {
    /// The file.
    pub path: PathBuf,
    /// What kind of file it is, for people.
    pub format: String,
    /// `e_machine` of ELF.
    pub machine: u16,
    /// Bytes of the file.
    pub file_size: u64,
    /// What `uname -r` would say.
    pub release: Option<String>,
    /// In hex.
    pub build_id: Option<String>,
    /// Its memory: address, bytes, and the length in memory, which zeros fill up. Sorted and disjoint.
    pub pieces: Vec<(u64, Bytes, u64)>,
}

/// The memory of a kernel's file.
pub(crate) struct Loaded {
    pieces: Vec<(u64, Bytes, u64)>,
}

impl Loaded {
    pub fn new(mut pieces: Vec<(u64, Bytes, u64)>) -> Loaded {
        pieces.sort_by_key(|(start, ..)| *start);
        pieces.retain(|(start, _, size)| start.checked_add(*size).is_some());
        Loaded { pieces }
    }

    /// From the first address to the last.
    pub fn range(&self) -> Range<u64> {
        self.pieces.first().map_or(0, |p| p.0)..self.pieces.last().map_or(0, |p| p.0 + p.2)
    }

    fn at(&self, va: u64) -> Result<&(u64, Bytes, u64), u64> {
        let next = self.pieces.partition_point(|(start, ..)| *start <= va);
        match next.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some(piece) if va - piece.0 < piece.2 => Ok(piece),
            _ => Err(self.pieces.get(next).map_or(u64::MAX - va, |p| p.0 - va).max(1)),
        }
    }

    fn piece(&self, va: u64) -> Result<&(u64, Bytes, u64), Fault> {
        self.at(va).map_err(|_| Fault { pa: va, reason: Reason::NotInFile })
    }
}

impl Image for Loaded {
    fn read(&self, mut va: u64, mut buf: &mut [u8]) -> Result<(), Fault> {
        while !buf.is_empty() {
            let (start, bytes, size) = self.piece(va)?;
            let inside = va - start;
            let (now, rest) = buf.split_at_mut((buf.len() as u64).min(size - inside) as usize);
            let known = bytes.get(inside as usize..).unwrap_or_default();
            let (from, zeros) = now.split_at_mut(known.len().min(now.len()));
            from.copy_from_slice(&known[..from.len()]);
            zeros.fill(0);
            va = va.wrapping_add((from.len() + zeros.len()) as u64);
            buf = rest;
        }
        Ok(())
    }

    fn bytes(&self, va: u64, len: usize) -> Result<Bytes, Fault> {
        let (start, bytes, _) = self.piece(va)?;
        let inside = (va - start) as usize;
        match inside.checked_add(len).filter(|&end| end <= bytes.len()) {
            Some(end) => Ok(bytes.slice(inside..end)),
            None => crate::image::copied(self, va, len),
        }
    }

    fn state(&self, va: u64) -> (Option<Reason>, u64) {
        match self.at(va) {
            Ok((start, _, size)) => (None, size - (va - start)),
            Err(gap) => (Some(Reason::NotInFile), gap),
        }
    }

    /// None: these are no physical addresses.
    fn ranges(&self) -> &[Range<u64>] {
        &[]
    }

    fn missing(&self) -> Missing {
        Missing::default()
    }
}
