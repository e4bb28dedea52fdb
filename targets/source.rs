//! The file as a row of bytes: what the format readers see, however the bytes are kept.
//!
//! A plain file is mapped, and every slice of it is a window on the mapping, not a copy. The mapping lives as long as
//! the last slice. A file that another program shortens while it is mapped kills the process (SIGBUS), as with every
//! program that maps files; a dump is not expected to change.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{OpenError, Reason};
use crate::flat::Flat;

/// Bytes by file offset.
#[derive(Clone)]
pub(crate) enum Source {
    /// All bytes in one piece: a mapped file, or a decompressed one in memory.
    Whole(Bytes),
    /// Spread over a flattened stream.
    Flat(Arc<Flat>),
}

impl Source {
    /// Maps the file.
    pub fn open(path: &Path) -> Result<Source, OpenError> {
        let io = |source| OpenError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(OpenError::Format { path: path.into(), why: "not a regular file".into() });
        }
        if meta.len() == 0 {
            return Err(OpenError::Format { path: path.into(), why: "the file is empty".into() });
        }
        map(&file).map(Source::Whole).map_err(io)
    }

    /// Bytes in all, as far as the format is concerned.
    pub fn len(&self) -> u64 {
        match self {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::Flat(flat) => flat.len(),
        }
    }

    /// `len` bytes at `off`, without a copy where they stand in one piece.
    pub fn slice(&self, off: u64, len: u64) -> Result<Bytes, Reason> {
        match self {
            Source::Whole(bytes) => {
                let (start, end) = window(off, len, bytes.len())?;
                Ok(bytes.slice(start..end))
            }
            Source::Flat(flat) => flat.slice(off, len),
        }
    }

    /// Fills `buf` from `off`.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> Result<(), Reason> {
        match self {
            Source::Whole(bytes) => {
                let (start, end) = window(off, buf.len() as u64, bytes.len())?;
                buf.copy_from_slice(&bytes[start..end]);
                Ok(())
            }
            Source::Flat(flat) => flat.read(off, buf),
        }
    }
}

/// The index range of `len` bytes at `off`, if the whole of it lies within `size`.
fn window(off: u64, len: u64, size: usize) -> Result<(usize, usize), Reason> {
    let end = off.checked_add(len).filter(|&end| end <= size as u64).ok_or(Reason::Truncated)?;
    Ok((off as usize, end as usize))
}

/// The file's mapping as shared bytes.
pub(crate) fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the mapping is private and read-only, and no Rust object but this `Bytes` looks at it. That nobody
    // shortens or rewrites the file meanwhile is the user's part, as said in the module's documentation.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
