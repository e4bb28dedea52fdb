//! A table of what was counted, by keys of any length.
//!
//! Kernels before Linux 5.11 (c85d69135a91) take keys of no more than 512 bytes, and the path of a file may be longer; and
//! all of them hash every byte. So hits are counted under a digest of a long key, and a second table has the key itself.
//!
//! A table of the kernel's is reached by a call, which hashes and compares. In front of it each CPU has a few [`Seats`] in its own
//! memory, which the program reaches itself: a key that comes again takes the one that is its by its number, if nobody sits
//! there, and keeps it. What is counted there and in the table is added when it is read.

use crate::{Error, Result, program::ENTRY, recording::Limits};
use bpf::{Shape, Table};
use std::collections::HashMap;

/// Bytes of a digest: two numbers that are mixed in different ways, so that keys which share one do not share the other.
pub const DIGEST: usize = 16;

/// What was counted.
pub struct Counted {
    entries: Table,
    /// keys by their digests, where entries are kept by those
    keys: Option<Table>,
    /// what is reached sooner
    pub(crate) seats: Seats,
}

/// Entries in a CPU's memory, each behind the key, or digest, whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seats {
    /// where the first is, in bytes
    pub(crate) at: usize,
    /// how many there are, as a power of two
    pub(crate) bits: u32,
    /// bytes of a key, or of its digest
    pub(crate) key: usize,
}

impl Seats {
    /// More would not fit the memory that a program may have on a CPU.
    const MOST_BYTES: usize = 16 << 10;
    const MOST_BITS: u32 = 8;

    /// For so many keys. Where many programs share the room for keys, each has fewer seats than its own share of it.
    fn new(at: usize, key: usize, keys: usize, share: usize) -> Seats {
        const OF_A_SHARE: usize = 16;
        let fit = Seats::MOST_BYTES / (key + ENTRY);
        let seats = fit.min(keys).min(share / OF_A_SHARE).max(1);
        Seats { at, bits: Seats::MOST_BITS.min(seats.ilog2()), key }
    }

    /// Bytes of one.
    pub(crate) fn size(self) -> usize {
        self.key + ENTRY
    }

    /// Bytes of all.
    pub(crate) fn room(self) -> usize {
        self.size() << self.bits
    }

    /// The entries of those that are taken, by keys; `cpu` is the memory of one.
    fn taken(self, cpu: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = cpu.get(self.at..self.at + self.room()).unwrap_or_default();
        let seats = all.chunks_exact(self.size()).map(move |seat| seat.split_at(self.key));
        seats.filter(|(_, entry)| entry.iter().take(8).any(|byte| *byte != 0))
    }
}

impl Counted {
    /// Makes a table for so many keys of so many bytes; of those that are longer than the limit it has digests. Its seats
    /// begin at `at`.
    pub fn new(bytes: usize, keys: usize, limits: &Limits, at: usize) -> Result<Counted> {
        let bytes = bytes.max(8);
        let refused = || Error::refused(format!("a table of {keys} keys of {bytes} bytes"));
        let apart = bytes > limits.longest_key;
        let hashed = if apart { DIGEST } else { bytes };
        let seats = Seats::new(at, hashed, keys, limits.keys);
        let entries = Table::new(Shape::PerCpuHash, hashed, ENTRY, keys).map_err(refused())?;
        let keys = apart.then(|| Table::new(Shape::Hash, DIGEST, bytes, keys).map_err(refused())).transpose()?;
        Ok(Counted { entries, keys, seats })
    }

    /// The descriptors: of the entries, and of the keys where they are apart.
    pub fn fds(&self) -> (i32, Option<i32>) {
        (self.entries.fd(), self.keys.as_ref().map(Table::fd))
    }

    /// Visits every key with its entries, of which each CPU has one or two; `cpus` is the memory of each.
    pub fn each<'a>(&self, cpus: impl Iterator<Item = &'a [u8]>, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut seats: HashMap<&[u8], Vec<u8>> = HashMap::new();
        for (key, entry) in cpus.flat_map(|cpu| self.seats.taken(cpu)) {
            seats.entry(key).or_default().extend(entry);
        }
        let mut missed = Ok(());
        let each = self.entries.each(|hashed, entries| {
            let entries = [entries, seats.get(hashed).map_or(&[][..], Vec::as_slice)].concat();
            match &self.keys {
                None => visit(hashed, &entries),
                Some(keys) => match keys.get(hashed) {
                    Ok(Some(key)) => visit(&key, &entries),
                    // it is being made just now
                    Ok(None) => {}
                    Err(error) => missed = Err(error),
                },
            }
        });
        each.and(missed).map_err(Error::refused("reading what was counted"))
    }
}
