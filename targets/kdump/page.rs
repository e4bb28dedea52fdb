//! Pages: descriptors (`struct page_desc`), and the codecs of their data.

use std::cell::RefCell;

use crate::order::Order;

/// Bytes of a descriptor.
pub(super) const DESC: u64 = 24;

/// Where a page's data is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Desc {
    pub off: u64,
    pub size: u32,
    pub flags: u32,
}

impl Desc {
    pub fn parse(bytes: &[u8], order: Order) -> Option<Desc> {
        let field = |from, to| bytes.get(from..to).map(|bytes| order.number(bytes));
        Some(Desc { off: field(0, 8)?, size: field(8, 12)? as u32, flags: field(12, 16)? as u32 })
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

/// Decompressors, which are costly to make.
struct Codec {
    zlib: flate2::Decompress,
    snappy: snap::raw::Decoder,
    zstd: zstd::bulk::Decompressor<'static>,
}

thread_local! {
    static CODEC: RefCell<Option<Codec>> = const { RefCell::new(None) };
}

impl Codec {
    fn new() -> std::io::Result<Codec> {
        Ok(Codec {
            zlib: flate2::Decompress::new(true),
            snappy: snap::raw::Decoder::new(),
            zstd: zstd::bulk::Decompressor::new()?,
        })
    }

    /// The whole of `page` from `data`; the error is what the codec says. No codec writes more than a page, whatever
    /// the data announces.
    fn decompress(&mut self, flags: u32, data: &[u8], page: &mut [u8]) -> Result<(), String> {
        let len = match flags & ANY {
            0 => {
                let len = data.len().min(page.len());
                page[..len].copy_from_slice(&data[..len]);
                len
            }
            ZLIB => {
                self.zlib.reset(true);
                let done = self.zlib.decompress(data, page, flate2::FlushDecompress::Finish);
                match done.map_err(|e| format!("zlib: {e}"))? {
                    flate2::Status::StreamEnd => self.zlib.total_out() as usize,
                    _ => return Err("zlib: the data goes on behind the page, or breaks off".into()),
                }
            }
            LZO => lzokay::decompress::decompress(data, page).map_err(|e| format!("lzo: {e}"))?,
            SNAPPY => self.snappy.decompress(data, page).map_err(|e| format!("snappy: {e}"))?,
            ZSTD => self.zstd.decompress_to_buffer(data, page).map_err(|e| format!("zstd: {e}"))?,
            flags => return Err(format!("unknown compression {flags:#x}")),
        };
        if len == page.len() { Ok(()) } else { Err(format!("{len} bytes instead of {}", page.len())) }
    }
}

/// Fills `page` from `data`.
pub(super) fn decompress(flags: u32, data: &[u8], page: &mut [u8]) -> Result<(), String> {
    CODEC.with_borrow_mut(|codec| {
        if codec.is_none() {
            *codec = Some(Codec::new().map_err(|e| e.to_string())?);
        }
        match codec {
            Some(codec) => codec.decompress(flags, data, page),
            None => Err("no decompressor".into()),
        }
    })
}
