//! Pages: descriptors (`struct page_desc`), and the codecs of their data.

use std::sync::Mutex;

use bytes::Buf;

use crate::error::Reason;

/// Bytes of a descriptor.
pub(super) const DESC: u64 = 24;

/// Where a page's data is.
#[derive(Clone, Copy)]
pub(super) struct Desc {
    pub off: u64,
    pub size: u32,
    pub flags: u32,
}

impl Desc {
    pub fn parse(mut bytes: &[u8]) -> Option<Desc> {
        let off = bytes.try_get_u64_le().ok()?;
        let size = bytes.try_get_u32_le().ok()?;
        let flags = bytes.try_get_u32_le().ok()?;
        Some(Desc { off, size, flags })
    }

    /// Whether the data is the page itself.
    pub fn is_raw(self) -> bool {
        self.flags & ANY == 0
    }
}

const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;
const ANY: u32 = ZLIB | LZO | SNAPPY | ZSTD;

/// Decompressors, which are costly to make, for as many threads as need one at a time.
#[derive(Default)]
pub(super) struct Codecs(Mutex<Vec<Codec>>);

struct Codec {
    zlib: flate2::Decompress,
    snappy: snap::raw::Decoder,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Codec {
    fn new() -> std::io::Result<Codec> {
        Ok(Codec {
            zlib: flate2::Decompress::new(true),
            snappy: snap::raw::Decoder::new(),
            zstd: zstd::bulk::Decompressor::new()?,
        })
    }

    /// The whole of `page` from `data`; the error is what the codec says.
    fn decompress(&mut self, flags: u32, data: &[u8], page: &mut [u8]) -> Result<(), String> {
        let len = match flags & ANY {
            ZLIB => {
                self.zlib.reset(true);
                let done = self.zlib.decompress(data, page, flate2::FlushDecompress::Finish);
                done.map(|_| self.zlib.total_out() as usize).map_err(|e| format!("zlib: {e}"))?
            }
            LZO => lzokay::decompress::decompress(data, page).map_err(|e| format!("lzo: {e}"))?,
            SNAPPY => self.snappy.decompress(data, page).map_err(|e| format!("snappy: {e}"))?,
            ZSTD => self.zstd.decompress_to_buffer(data, page).map_err(|e| format!("zstd: {e}"))?,
            flags => return Err(format!("unknown compression {flags:#x}")),
        };
        if len == page.len() { Ok(()) } else { Err(format!("{len} bytes instead of {}", page.len())) }
    }
}

impl Codecs {
    /// Fills `page` from `data`.
    pub fn decompress(&self, flags: u32, data: &[u8], page: &mut [u8]) -> Result<(), Reason> {
        let spare = self.0.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let mut codec = match spare {
            Some(codec) => codec,
            None => Codec::new().map_err(|e| Reason::Decompress(e.to_string()))?,
        };
        let done = codec.decompress(flags, data, page).map_err(Reason::Decompress);
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(codec);
        done
    }
}
