//! Compressed sections and files, with bounds on what they may expand to.
//!
//! zstd comes from the C library: it takes a third of the time of the Rust one on a kernel's debug sections.

use std::io::Read;

/// Deflate cannot do better than 1032:1; debug sections are at 2:1 to 10:1. What claims more is damaged.
const MAX_RATIO: u64 = 1032;

/// A whole vmlinux packs 4:1 to 12:1.
const MAX_FILE_RATIO: u64 = 128;

/// Small inputs may expand to this much whatever the ratio.
const SLACK: u64 = 1 << 20;

/// A format of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Zlib,
    Gzip,
    Xz,
    Zstd,
}

impl Codec {
    /// How a whole file is packed, by its magic.
    pub(super) fn sniff(data: &[u8]) -> Option<Codec> {
        match data {
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Codec::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// How a section is packed.
    pub(super) fn of_section(format: object::CompressionFormat) -> object::Result<Option<Codec>> {
        Ok(match format {
            object::CompressionFormat::Zlib => Some(Codec::Zlib),
            object::CompressionFormat::Zstandard => Some(Codec::Zstd),
            _ => None,
        })
    }

    /// Unpacks a section whose header says that it expands to `size` bytes.
    pub(super) fn section(self, data: &[u8], size: u64) -> Result<Vec<u8>, String> {
        if size > limit(data, MAX_RATIO) {
            return Err(format!("{} bytes claim to expand to {size}", data.len()));
        }
        let mut out = Vec::new();
        let capacity = usize::try_from(size).map_err(|e| e.to_string())?;
        out.try_reserve_exact(capacity).map_err(|e| e.to_string())?;
        match self {
            // one call into a buffer of the exact size is the fastest way for both
            Codec::Zlib => {
                let mut inflate = flate2::Decompress::new(true);
                inflate.decompress_vec(data, &mut out, flate2::FlushDecompress::Finish).map_err(|e| e.to_string())?;
            }
            Codec::Zstd => {
                let mut inflate = zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?;
                inflate.decompress_to_buffer(data, &mut out).map_err(|e| e.to_string())?;
            }
            Codec::Gzip | Codec::Xz => return Err("not a compression of sections".into()),
        }
        if out.len() != capacity {
            return Err(format!("expands to {} bytes instead of {size}", out.len()));
        }
        Ok(out)
    }

    /// Unpacks a whole file.
    pub(super) fn whole_file(self, data: &[u8]) -> Result<Vec<u8>, String> {
        let mut reader: Box<dyn Read + '_> = match self {
            Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(data)),
            Codec::Zlib => Box::new(flate2::read::ZlibDecoder::new(data)),
            Codec::Xz => Box::new(lzma_rust2::XzReader::new(data, true)),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::new(data).map_err(|e| e.to_string())?),
        };
        let limit = limit(data, MAX_FILE_RATIO);
        let mut out = Vec::new();
        reader.by_ref().take(limit).read_to_end(&mut out).map_err(|e| format!("{self:?} data: {e}"))?;
        match reader.read(&mut [0]) {
            Ok(0) => Ok(out),
            Ok(_) => Err(format!("expands to more than {limit} bytes")),
            Err(e) => Err(format!("{self:?} data: {e}")),
        }
    }
}

fn limit(data: &[u8], ratio: u64) -> u64 {
    (data.len() as u64).saturating_mul(ratio).max(SLACK)
}
