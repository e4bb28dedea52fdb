//! The two headers of a kdump-compressed file (`struct disk_dump_header` and `struct kdump_sub_header` of
//! makedumpfile's diskdump_mod.h), versions 1 to 6.

use bytes::{Buf, Bytes};

use crate::mmu::Arch;
use crate::source::Source;

pub(crate) const MAGIC: &[u8] = b"KDUMP   ";

/// What the headers say, of whatever version.
#[derive(Debug)]
pub(super) struct Header {
    pub arch: Arch,
    pub block_size: u64,
    /// Offset of the bitmaps, and their bytes together.
    pub bitmaps: (u64, u64),
    /// Page frames that the bitmaps speak of.
    pub max_mapnr: u64,
    /// When the dump was written, in seconds since 1970.
    pub written: Option<u64>,
    /// How pages are compressed, and whether the dump is whole.
    pub status: u32,
    pub dump_level: Option<u32>,
    /// The page frames whose data this part of a split dump has.
    pub part: Option<(u64, u64)>,
    pub vmcoreinfo: Option<(u64, u64)>,
    pub notes: Option<(u64, u64)>,
}

/// Bits of `status`.
pub(super) const INCOMPLETE: u32 = 8;
const CODECS: [(u32, &str); 4] = [(1, "zlib"), (2, "lzo"), (4, "snappy"), (0x20, "zstd")];

impl Header {
    /// How the pages are compressed, by name.
    pub fn codec(&self) -> Option<&'static str> {
        CODECS.iter().find(|(bit, _)| self.status & bit != 0).map(|&(_, name)| name)
    }

    pub fn read(source: &Source) -> Result<Header, String> {
        let main = source.slice(0, 464).map_err(|_| "a kdump file cut off within its header")?;
        let arch = arch(&main)?;
        let mut field = main.slice(8..);
        let version = field.get_i32_le();
        if !(1..=6).contains(&version) {
            return Err(format!("a kdump file of version {version}; kmdb knows 1 to 6"));
        }
        let mut field = main.slice(408..);
        let seconds = field.get_u64_le();
        field.advance(8); // microseconds
        let status = field.get_u32_le();
        let block_size = u64::from(field.get_u32_le());
        let sub_blocks = u64::from(field.get_u32_le());
        let bitmap_blocks = u64::from(field.get_u32_le());
        let max_mapnr = u64::from(field.get_u32_le());
        if !arch.has_pages_of(block_size) {
            return Err(format!("a kdump file of {block_size}-byte blocks, which is no page size of {}", arch.name()));
        }
        let bitmaps = (block_size * (1 + sub_blocks), block_size * bitmap_blocks);
        let mut header = Header {
            arch,
            block_size,
            bitmaps,
            max_mapnr,
            written: (seconds > 0).then_some(seconds),
            status,
            dump_level: None,
            part: None,
            vmcoreinfo: None,
            notes: None,
        };
        let sub = source.slice(block_size, 104).map_err(|_| "a kdump file cut off within its second header")?;
        header.sub_header(version, sub).ok_or("a damaged kdump header")?;
        Ok(header)
    }

    /// Each version added fields at the end.
    fn sub_header(&mut self, version: i32, mut field: Bytes) -> Option<()> {
        field.try_get_i64_le().ok()?; // phys_base, which is in VMCOREINFO
        self.dump_level = Some(field.try_get_u32_le().ok()?);
        let split = field.try_get_u32_le().ok()?;
        let mut pair = || Some((field.try_get_u64_le().ok()?, field.try_get_u64_le().ok()?));
        let part = pair()?;
        let vmcoreinfo = pair()?;
        let notes = pair()?;
        pair()?; // eraseinfo
        let part64 = pair()?;
        let max_mapnr = field.try_get_u64_le().ok()?;
        if version >= 2 && split != 0 {
            self.part = Some(if version >= 6 { part64 } else { part });
        }
        if version >= 3 {
            self.vmcoreinfo = Some(vmcoreinfo).filter(|&(off, len)| off != 0 && len != 0);
        }
        if version >= 4 {
            self.notes = Some(notes).filter(|&(off, len)| off != 0 && len != 0);
        }
        if version >= 6 {
            self.max_mapnr = max_mapnr;
        }
        Some(())
    }
}

/// By `utsname.machine`, the fifth name of 65 bytes behind signature and version. A hypervisor leaves it empty, if it
/// does not know it.
fn arch(main: &Bytes) -> Result<Arch, String> {
    const AT: usize = 12 + 4 * 65;
    let name = main.get(AT..AT + 65).unwrap_or_default();
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    Arch::from_name(name).ok_or_else(|| {
        let name = String::from_utf8_lossy(name).escape_default().to_string();
        format!("a kdump file of machine \"{name}\", which kmdb does not know (it reads x86_64 and aarch64)")
    })
}
