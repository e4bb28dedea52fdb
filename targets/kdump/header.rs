//! The two headers of a kdump-compressed file (`struct disk_dump_header` and `struct kdump_sub_header` of
//! makedumpfile's diskdump_mod.h), versions 0 to 6, of both word sizes and byte orders.

use bytes::Bytes;

use crate::info::Uts;
use crate::mmu::Arch;
use crate::open;
use crate::order::{Fields, Order};
use crate::source::Source;

pub(crate) const MAGIC: &[u8] = b"KDUMP   ";
/// Where the six names of 65 bytes of `struct utsname` stand.
const UTS: std::ops::Range<usize> = 12..402;

/// What the headers say, of whatever version.
#[derive(Debug)]
pub(super) struct Header {
    pub arch: Arch,
    pub order: Order,
    pub version: u64,
    /// `struct utsname` as it is, which parts of one dump have in common
    pub uts: Bytes,
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
    pub eraseinfo: Option<(u64, u64)>,
}

/// Bits of `status`.
pub(super) const INCOMPLETE: u32 = 8;
const CODECS: [(u32, &str); 4] = [(1, "zlib"), (2, "lzo"), (4, "snappy"), (0x20, "zstd")];
/// The newest version there is; later ones would add fields at the end.
pub(super) const NEWEST: u64 = 6;

impl Header {
    /// How the pages are compressed, by name.
    pub fn codec(&self) -> Option<&'static str> {
        CODECS.iter().find(|(bit, _)| self.status & bit != 0).map(|&(_, name)| name)
    }

    /// The kernel's names.
    pub fn names(&self) -> Uts {
        let name = |i: usize| open::text(&self.uts.slice(i * 65..(i + 1) * 65));
        Uts {
            sysname: name(0),
            nodename: name(1),
            release: name(2),
            version: name(3),
            machine: name(4),
            domainname: name(5),
        }
    }

    pub fn read(source: &Source) -> Result<Header, String> {
        let cut = |what, from: u64, need: u64| {
            let (ends, end) = (source.len(), from.saturating_add(need));
            format!(
                "a kdump file cut off within its {what}, which ends at {end:#x}, the file at {ends:#x}: copy it again"
            )
        };
        let main = source.slice(0, 464).map_err(|_| cut("header", 0, 464))?;
        let order = order(&main)?;
        let mut header = main_header(&main, order).ok_or_else(|| cut("header", 0, 464))?;
        let len = sub_header_len(header.version, order, header.is_aligned());
        let sub = source.slice(header.block_size, len).map_err(|_| cut("second header", header.block_size, len))?;
        header.sub_header(sub).ok_or_else(|| cut("second header", header.block_size, len))?;
        Ok(header)
    }

    /// Whether 64-bit numbers have gaps before them: compilers put them at multiples of eight, but not on i386.
    fn is_aligned(&self) -> bool {
        !self.order.wide && self.arch != Arch::Other("i386")
    }

    /// Each version added fields at the end.
    fn sub_header(&mut self, bytes: Bytes) -> Option<()> {
        let (version, order) = (self.version, self.order);
        let mut f = Fields::new(bytes, order);
        f.word()?; // phys_base, which is in VMCOREINFO
        let level = f.u32()?;
        self.dump_level = (version >= 1).then_some(level);
        if version < 2 {
            return Some(());
        }
        let split = f.u32()? != 0;
        self.part = Some((f.word()?, f.word()?)).filter(|_| split);
        if version < 3 {
            return Some(());
        }
        let aligned = self.is_aligned();
        if aligned {
            f.skip(4)?;
        }
        let mut place = || {
            let place = (f.u64()?, f.word()?);
            if aligned {
                f.skip(4)?;
            }
            Some(Some(place).filter(|&(off, len)| off != 0 && len != 0))
        };
        self.vmcoreinfo = place()?;
        if version >= 4 {
            self.notes = place()?;
        }
        if version >= 5 {
            self.eraseinfo = place()?;
        }
        if version >= 6 {
            self.part = Some((f.u64()?, f.u64()?)).filter(|_| split);
            // A writer that knows nothing of the wide field leaves it zero.
            self.max_mapnr = Some(f.u64()?).filter(|&n| n != 0).unwrap_or(self.max_mapnr);
        }
        Some(())
    }
}

/// Bytes of the second header that a version has.
fn sub_header_len(version: u64, order: Order, aligned: bool) -> u64 {
    let until = |wide, narrow, packed| match (order.wide, aligned) {
        (true, _) => wide,
        (false, true) => narrow,
        (false, false) => packed,
    };
    match version {
        0 | 1 => until(16, 12, 12),
        2 => until(32, 20, 20),
        3 => until(48, 40, 32),
        4 => until(64, 56, 44),
        5 => until(80, 72, 56),
        _ => until(104, 96, 80),
    }
}

/// Byte order by the version, which is a small number, or the machine's name; the width of `long` by the machine's name.
fn order(main: &Bytes) -> Result<Order, String> {
    let version = main.get(8..12).unwrap_or_default();
    let small = |big_endian| Order { big_endian, wide: true }.number(version) <= 0xffff;
    let big_endian = match (small(false), small(true)) {
        // Version 0 looks alike in both.
        (true, true) => ["ppc", "ppc64", "s390", "s390x", "sparc64"].contains(&arch(main).name()),
        (true, false) => false,
        (false, true) => true,
        (false, false) => return Err(format!("a damaged kdump header: no version at offset 8, but {version:x?}")),
    };
    let narrow = ["i386", "arm", "ppc", "s390", "mips", "riscv32"];
    Ok(Order { big_endian, wide: !narrow.contains(&arch(main).name()) })
}

fn main_header(main: &Bytes, order: Order) -> Option<Header> {
    let version = order.number(main.get(8..12)?);
    // The time stamp is the first field that is aligned to the width of a long.
    let at = if order.wide { 408 } else { 404 };
    let mut f = Fields::new(main.slice(at..), order);
    let seconds = f.word()?;
    f.word()?; // microseconds
    let status = f.u32()?;
    let [block_size, sub_blocks, bitmap_blocks, max_mapnr] = [f.u32()?, f.u32()?, f.u32()?, f.u32()?].map(u64::from);
    Some(Header {
        arch: arch(main),
        order,
        version,
        uts: main.slice(UTS),
        block_size,
        bitmaps: (block_size * (1 + sub_blocks), block_size * bitmap_blocks),
        max_mapnr,
        written: (seconds > 0).then_some(seconds),
        status,
        dump_level: None,
        part: None,
        vmcoreinfo: None,
        notes: None,
        eraseinfo: None,
    })
}

/// By `utsname.machine`, the fifth of the names. A hypervisor leaves it empty, if it does not know it.
fn arch(main: &Bytes) -> Arch {
    let name = main.get(UTS.start + 4 * 65..UTS.start + 5 * 65).unwrap_or_default();
    Arch::from_name(name.split(|&b| b == 0).next().unwrap_or_default())
}
