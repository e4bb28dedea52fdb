//! Whole files that somebody compressed: `vmcore.zst`, `.gz`, `.xz`, known by their first bytes, not by their names.
//!
//! Such a file has no index, so it is decompressed once, when it is opened: to memory if it is small, else to a
//! temporary file that has no name and is gone with the process. Memory dumps are mostly zeros; in the file those are
//! holes that take no space. What comes through a pipe is kept in the same way.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use bytes::Bytes;

use crate::source;

/// Up to this size the result is kept in memory.
const IN_MEMORY: usize = 256 << 20;
/// Bytes decompressed at a time; a part of it that is all zeros becomes a hole of the temporary file.
const STEP: usize = 64 << 10;

/// A compression that is used for whole files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    Zstd,
    Gzip,
    Xz,
}

impl Packing {
    /// By the file's first bytes.
    pub fn of(head: &[u8]) -> Option<Packing> {
        match head {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            // a skippable frame, which parallel compressors put first
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Packing::Zstd),
            [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
            _ => None,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Packing::Zstd => "zstd",
            Packing::Gzip => "gzip",
            Packing::Xz => "xz",
        }
    }

    fn reader<'a>(self, packed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        /// `zstd --long=31` is the longest that the tool can make.
        const LONGEST_WINDOW: u32 = 31;
        let packed = Cursor::new(packed);
        Ok(match self {
            Packing::Zstd => {
                let mut reader = zstd::stream::read::Decoder::with_buffer(packed)?;
                reader.window_log_max(LONGEST_WINDOW)?;
                Box::new(reader)
            }
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new(packed, true)),
        })
    }
}

/// The decompressed file, and what was wrong with it if it broke off in the middle.
pub(crate) fn unpack(packing: Packing, packed: &[u8]) -> Result<(Bytes, Option<String>), String> {
    let name = packing.name();
    let mut reader = packing.reader(packed).map_err(|e| format!("{name}: {e}"))?;
    let mut out = Sink::Memory(Vec::new());
    let mut buf = vec![0; STEP];
    let mut damage = None;
    loop {
        match fill(&mut *reader, &mut buf) {
            (0, None) => break,
            (n, error) => {
                out = out.write(&buf[..n]).map_err(|e| format!("{name}: {e}"))?;
                if let Some(error) = error {
                    damage = Some(format!("the {name} file breaks off or is damaged: {error}"));
                    break;
                }
            }
        }
    }
    let bytes = out.finish().map_err(|e| format!("{name}: {e}"))?;
    match damage {
        Some(damage) if bytes.is_empty() => Err(damage),
        damage => Ok((bytes, damage)),
    }
}

/// The first few bytes of the file that begins so, decompressed if it is compressed.
pub(crate) fn head(packed: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 32];
    let reader = Packing::of(packed).map(|packing| packing.reader(packed));
    let len = match reader {
        None => return packed.get(..packed.len().min(head.len())).unwrap_or_default().to_vec(),
        Some(Ok(mut reader)) => fill(&mut *reader, &mut head).0,
        Some(Err(_)) => 0,
    };
    head.truncate(len);
    head
}

/// All that comes out of `stream`, such as a pipe.
pub(crate) fn take_in(stream: &mut dyn Read) -> Result<Bytes, String> {
    let mut out = Sink::Memory(Vec::new());
    let mut buf = vec![0; STEP];
    loop {
        let (n, error) = fill(stream, &mut buf);
        if let Some(error) = error {
            return Err(error.to_string());
        }
        if n == 0 {
            return out.finish();
        }
        out = out.write(&buf[..n])?;
    }
}

/// Reads until `buf` is full, the end, or an error: how much there is, and the error.
fn fill(reader: &mut dyn Read, buf: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < buf.len() {
        match reader.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (done, Some(e)),
        }
    }
    (done, None)
}

/// Where the decompressed bytes go.
enum Sink {
    Memory(Vec<u8>),
    File { file: File, len: u64, room: u64 },
}

impl Sink {
    fn write(self, bytes: &[u8]) -> Result<Sink, String> {
        match self {
            Sink::Memory(mut vec) if vec.len() + bytes.len() <= IN_MEMORY => {
                vec.extend_from_slice(bytes);
                Ok(Sink::Memory(vec))
            }
            Sink::Memory(vec) => {
                let mut sink = Sink::file()?;
                for part in vec.chunks(STEP) {
                    sink = sink.write(part)?;
                }
                sink.write(bytes)
            }
            Sink::File { mut file, len, room } => {
                let len = len + bytes.len() as u64;
                // Zeros take no space, but a file of nothing else would grow forever.
                if len / 16 > room {
                    return Err(no_room(len));
                }
                let done = if bytes.iter().all(|&b| b == 0) {
                    file.seek(SeekFrom::Current(bytes.len() as i64)).map(|_| ())
                } else {
                    file.write_all(bytes)
                };
                match done {
                    Ok(()) => Ok(Sink::File { file, len, room }),
                    Err(e) if e.kind() == io::ErrorKind::StorageFull => Err(no_room(len)),
                    Err(e) => Err(e.to_string()),
                }
            }
        }
    }

    /// A nameless file in the directory for temporary files.
    fn file() -> Result<Sink, String> {
        let file = tempfile::tempfile().map_err(|e| format!("no temporary file to put it in: {e}"))?;
        let stat = rustix::fs::fstatvfs(&file).map_err(|e| format!("the temporary file: {e}"))?;
        Ok(Sink::File { file, len: 0, room: stat.f_bavail.saturating_mul(stat.f_frsize) })
    }

    fn finish(self) -> Result<Bytes, String> {
        match self {
            Sink::Memory(vec) => Ok(vec.into()),
            Sink::File { file, len, .. } => {
                file.set_len(len).and_then(|()| source::map(&file)).map_err(|e| format!("the temporary file: {e}"))
            }
        }
    }
}

fn no_room(len: u64) -> String {
    let dir = std::env::temp_dir();
    format!("{} MiB written to {}, and it is full: let TMPDIR name a directory with room", len >> 20, dir.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Zeros take no space, so the disk would not stop it.
    #[test]
    fn a_bomb_of_zeros_is_refused_before_it_is_a_file_of_any_size() {
        let mut sink = Sink::File { file: tempfile::tempfile().unwrap(), len: 0, room: 1 << 20 };
        let step = vec![0; STEP];
        let mut steps = 0u64;
        let why = loop {
            match sink.write(&step) {
                Ok(next) => sink = next,
                Err(why) => break why,
            }
            steps += 1;
            assert!(steps < 1000);
        };
        assert_eq!(steps * STEP as u64 / (16 << 20), 1);
        assert!(why.contains("16 MiB written") && why.contains("TMPDIR"), "{why}");
    }
}
