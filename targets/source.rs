//! The file as a row of bytes: what the format readers see, however the bytes are kept.
//!
//! A plain file is mapped, and every slice of it is a window on the mapping, not a copy; `mapped` tells what happens if
//! the file changes meanwhile. Standard input (`-`), a pipe or a socket is copied to a temporary file first, since
//! reading a dump means jumping about in it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{OpenError, Reason};
use crate::flat::Flat;
use crate::mapped::{Mapped, window};
use crate::open;
use crate::unpack;

/// The name by which standard input is opened.
pub(crate) const STDIN: &str = "-";

/// Bytes by file offset.
#[derive(Clone)]
pub(crate) enum Source {
    /// All bytes in memory: a file that was decompressed, or came through a pipe.
    Whole(Bytes),
    /// A file.
    File(Arc<Mapped>),
    /// Spread over a flattened stream.
    Flat(Arc<Flat>),
    /// Several files, one behind the other.
    Chain(Arc<[Source]>),
}

impl Source {
    /// Maps the file, or takes in what comes through a pipe.
    pub fn open(path: &Path) -> Result<Source, OpenError> {
        let is_stdin = path == Path::new(STDIN);
        let path = if is_stdin { Path::new("standard input") } else { path };
        let io = |source| OpenError::Io { path: path.into(), source };
        let bad = |why: &str| OpenError::Format { path: path.into(), why: why.into() };
        let mut file = match is_stdin {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(io)?,
            false => File::open(path).map_err(io)?,
        };
        let meta = file.metadata().map_err(io)?;
        let kind = meta.file_type();
        let len = match () {
            () if kind.is_fifo() || kind.is_socket() => {
                return spool(file).map_err(|why| OpenError::Format { path: path.into(), why });
            }
            // a dump that was written straight to a partition
            () if kind.is_block_device() => file.seek(SeekFrom::End(0)).map_err(io)?,
            () if kind.is_file() => meta.len(),
            () if kind.is_dir() => return Err(bad("a directory: name the dump in it")),
            () => return Err(bad("a device, not a file: for the running kernel there is `kmdb -k`")),
        };
        if len == 0 {
            return Err(bad("the file is empty"));
        }
        Mapped::new(file, len).map(|mapped| Source::File(Arc::new(mapped))).map_err(io)
    }

    /// Several files as one.
    pub fn chain(mut sources: Vec<Source>) -> Source {
        match (sources.pop(), sources.is_empty()) {
            (Some(only), true) => only,
            (last, _) => Source::Chain(sources.into_iter().chain(last).collect()),
        }
    }

    /// Bytes in all, as far as the format is concerned.
    pub fn len(&self) -> u64 {
        match self {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::File(file) => file.len(),
            Source::Flat(flat) => flat.len(),
            Source::Chain(parts) => parts.iter().map(Source::len).fold(0, u64::saturating_add),
        }
    }

    /// `len` bytes at `off`, without a copy where they stand in one piece.
    pub fn slice(&self, off: u64, len: u64) -> Result<Bytes, Reason> {
        match self {
            Source::Whole(bytes) => {
                let (start, end) = window(off, len, self.len())?;
                Ok(bytes.slice(start..end))
            }
            Source::File(file) => file.slice(off, len),
            Source::Flat(flat) => flat.slice(off, len),
            Source::Chain(parts) => {
                let (part, inside) = find(parts, off).ok_or(Reason::Truncated)?;
                if part.len() - inside >= len {
                    return part.slice(inside, len);
                }
                if len > self.len() {
                    return Err(Reason::Truncated);
                }
                let mut copy = vec![0; len as usize];
                self.read(off, &mut copy)?;
                Ok(copy.into())
            }
        }
    }

    /// Fills `buf` from `off`.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> Result<(), Reason> {
        match self {
            Source::Whole(bytes) => {
                let (start, end) = window(off, buf.len() as u64, self.len())?;
                buf.copy_from_slice(bytes.get(start..end).ok_or(Reason::Truncated)?);
                Ok(())
            }
            Source::File(file) => file.read(off, buf),
            Source::Flat(flat) => flat.read(off, buf),
            Source::Chain(parts) => {
                let mut done = 0;
                while done < buf.len() {
                    let (part, inside) = find(parts, off.saturating_add(done as u64)).ok_or(Reason::Truncated)?;
                    let now = (part.len() - inside).min((buf.len() - done) as u64) as usize;
                    part.read(inside, &mut buf[done..done + now])?;
                    done += now;
                }
                Ok(())
            }
        }
    }

    /// What `f` makes of `len` bytes at `off`: without a reference count as a slice has, and asked once more if the
    /// file broke under it.
    pub fn with<T>(&self, off: u64, len: u64, mut f: impl FnMut(&[u8]) -> T) -> Result<T, Reason> {
        match self {
            Source::Whole(bytes) => {
                let (start, end) = window(off, len, self.len())?;
                Ok(f(bytes.get(start..end).ok_or(Reason::Truncated)?))
            }
            Source::File(file) => file.with(off, len, f),
            Source::Flat(_) | Source::Chain(_) => self.slice(off, len).map(|bytes| f(&bytes)),
        }
    }

    /// Lets go of mapped pages if there are more than `most` bytes of them.
    pub fn let_go(&self, most: u64) {
        match self {
            Source::Whole(_) | Source::Flat(_) => {}
            Source::File(file) => file.let_go(most),
            Source::Chain(parts) => parts.iter().for_each(|part| part.let_go(most)),
        }
    }

    /// What happened to the file since it was opened.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Source::Whole(_) => None,
            Source::File(file) => file.trouble(),
            Source::Flat(flat) => flat.stream().trouble(),
            Source::Chain(parts) => parts.iter().find_map(Source::trouble),
        }
    }
}

/// The part that has offset `off` of the whole, and its offset in the part.
fn find(parts: &[Source], mut off: u64) -> Option<(&Source, u64)> {
    for part in parts {
        match off.checked_sub(part.len()) {
            Some(behind) => off = behind,
            None => return Some((part, off)),
        }
    }
    None
}

/// All that comes through a pipe, if it begins like a dump: whatever else there may be has no end.
fn spool(mut pipe: File) -> Result<Source, String> {
    const HEAD: u64 = 128 << 10;
    let mut head = Vec::new();
    pipe.by_ref().take(HEAD).read_to_end(&mut head).map_err(|e| e.to_string())?;
    if head.is_empty() {
        return Err("nothing came through the pipe".into());
    }
    if !open::is_dump_head(&unpack::head(&head)) {
        return Err("what comes through the pipe does not begin like a dump".into());
    }
    let bytes = unpack::take_in(&mut io::Cursor::new(head).chain(pipe))?;
    Ok(Source::Whole(bytes))
}

/// The mapping of a file that only this process can reach.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the mapping is private and read-only, and the file has no name by which anybody else could change it.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
