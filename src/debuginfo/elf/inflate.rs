//! Compressed sections, files and kernels, with bounds on what they may expand to.
//!
//! zstd comes from the C library: it takes a third of the time of the Rust one on a kernel's debug sections.

use std::io::Read;

use super::lzop;

/// Deflate cannot do better than 1032:1; debug sections are at 2:1 to 10:1. What claims more is damaged.
const MAX_RATIO: u64 = 1032;

/// A whole vmlinux packs 4:1 to 12:1.
const MAX_FILE_RATIO: u64 = 128;

/// Small inputs may expand to this much whatever the ratio.
const SLACK: u64 = 1 << 20;

/// Memory for the dictionary of LZMA, in KiB: `xz -9` wants 64 MiB, some kernels 128 MiB.
const LZMA_MEMORY: u32 = 300 << 10;

/// A format of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Zlib,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    Lzma,
    /// the frames that `lz4` writes
    Lz4,
    /// those that `lz4 -l` writes, and kernels are packed with
    Lz4Legacy,
    /// what `lzop` writes
    Lzo,
}

impl Codec {
    /// How data is packed, by its magic.
    pub(crate) fn sniff(data: &[u8]) -> Option<Codec> {
        match data {
            [0x1f, 0x8b, ..] => Some(Codec::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Codec::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Codec::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Codec::Bzip2),
            // no magic but the usual properties (lc=3, lp=0, pb=2) and a dictionary of whole KiB
            [0x5d, 0, 0, _, _, ..] => Some(Codec::Lzma),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Codec::Lz4),
            [0x02, 0x21, 0x4c, 0x18, ..] => Some(Codec::Lz4Legacy),
            _ if data.starts_with(lzop::MAGIC) => Some(Codec::Lzo),
            _ => None,
        }
    }

    /// As it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Zlib => "zlib",
            Codec::Gzip => "gzip",
            Codec::Xz => "xz",
            Codec::Zstd => "zstd",
            Codec::Bzip2 => "bzip2",
            Codec::Lzma => "lzma",
            Codec::Lz4 | Codec::Lz4Legacy => "lz4",
            Codec::Lzo => "lzo",
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
            _ => return Err("not a compression of sections".into()),
        }
        if out.len() != capacity {
            return Err(format!("expands to {} bytes instead of {size}", out.len()));
        }
        Ok(out)
    }

    /// Unpacks a whole file.
    pub(crate) fn whole_file(self, data: &[u8]) -> Result<Vec<u8>, String> {
        let limit = limit(data, MAX_FILE_RATIO);
        let mut out = Vec::new();
        let mut reader = self.reader(data, true)?;
        reader.by_ref().take(limit).read_to_end(&mut out).map_err(|e| self.broken(&e))?;
        match reader.read(&mut [0]) {
            Ok(0) => Ok(out),
            Ok(_) => Err(format!("expands to more than {limit} bytes")),
            Err(e) => Err(self.broken(&e)),
        }
    }

    /// Unpacks one stream and does not mind what follows it.
    pub(crate) fn stream(self, data: &[u8]) -> Result<Vec<u8>, String> {
        let limit = limit(data, MAX_FILE_RATIO);
        let mut out = Vec::new();
        let read = self.reader(data, false)?.take(limit + 1).read_to_end(&mut out);
        match read {
            Err(e) => Err(self.broken(&e)),
            Ok(_) if out.len() as u64 > limit => Err(format!("expands to more than {limit} bytes")),
            Ok(_) => Ok(out),
        }
    }

    /// The first bytes of what is packed, at most `len`, as far as they can be had.
    pub(crate) fn head(self, data: &[u8], len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if let Ok(reader) = self.reader(data, false) {
            // what was read before an error counts
            let _ = reader.take(len as u64).read_to_end(&mut out);
        }
        out
    }

    fn broken(self, why: &dyn std::fmt::Display) -> String {
        format!("{} data: {why}", self.name())
    }

    /// With `all` the data must be streams of this kind up to its end; else what follows the first one is not read.
    fn reader<'a>(self, data: &'a [u8], all: bool) -> Result<Box<dyn Read + 'a>, String> {
        let broken = |e: std::io::Error| self.broken(&e);
        Ok(match self {
            Codec::Gzip if all => Box::new(flate2::read::MultiGzDecoder::new(data)),
            Codec::Gzip => Box::new(flate2::read::GzDecoder::new(data)),
            Codec::Zlib => Box::new(flate2::read::ZlibDecoder::new(data)),
            Codec::Xz => Box::new(lzma_rust2::XzReader::new(data, all)),
            Codec::Zstd if all => Box::new(zstd::stream::read::Decoder::new(data).map_err(broken)?),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::new(data).map_err(broken)?.single_frame()),
            Codec::Bzip2 if all => Box::new(bzip2::read::MultiBzDecoder::new(data)),
            Codec::Bzip2 => Box::new(bzip2::read::BzDecoder::new(data)),
            Codec::Lzma => Box::new(lzma_rust2::LzmaReader::new_mem_limit(data, LZMA_MEMORY, None).map_err(broken)?),
            Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(data)),
            Codec::Lz4Legacy => Box::new(lzop::Blocks::lz4(data, all)),
            Codec::Lzo => Box::new(lzop::Blocks::lzop(data).map_err(|why| self.broken(&why))?),
        })
    }
}

fn limit(data: &[u8], ratio: u64) -> u64 {
    (data.len() as u64).saturating_mul(ratio).max(SLACK)
}
