//! A table of what was counted, by keys of any length.
//!
//! Kernels before Linux 5.11 (c85d69135a91) take keys of no more than 512 bytes, and the path of a file may be longer; and
//! all of them hash every byte. So hits are counted under a digest of a long key, and a second table has the key itself.

use crate::{Error, Result, program::ENTRY};
use bpf::{Shape, Table};

/// Bytes of a digest: two numbers that are mixed in different ways, so that keys which share one do not share the other.
pub const DIGEST: usize = 16;

/// What was counted.
pub struct Counted {
    entries: Table,
    /// keys by their digests, where entries are kept by those
    keys: Option<Table>,
}

impl Counted {
    /// Makes a table for so many keys of so many bytes; of longer ones than `longest` it has digests.
    pub fn new(bytes: usize, keys: usize, longest: usize) -> Result<Counted> {
        let bytes = bytes.max(8);
        let refused = || Error::refused(format!("a table of {keys} keys of {bytes} bytes"));
        let apart = bytes > longest;
        let hashed = if apart { DIGEST } else { bytes };
        let entries = Table::new(Shape::PerCpuHash, hashed, ENTRY, keys).map_err(refused())?;
        let keys = apart.then(|| Table::new(Shape::Hash, DIGEST, bytes, keys).map_err(refused())).transpose()?;
        Ok(Counted { entries, keys })
    }

    /// The descriptors: of the entries, and of the keys where they are apart.
    pub fn fds(&self) -> (i32, Option<i32>) {
        (self.entries.fd(), self.keys.as_ref().map(Table::fd))
    }

    /// Visits every key with its entries, one for each CPU.
    pub fn each(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut missed = Ok(());
        let each = self.entries.each(|digest, entries| match &self.keys {
            None => visit(digest, entries),
            Some(keys) => match keys.get(digest) {
                Ok(Some(key)) => visit(&key, entries),
                // it is being made just now
                Ok(None) => {}
                Err(error) => missed = Err(error),
            },
        });
        each.and(missed).map_err(Error::refused("reading what was counted"))
    }
}
