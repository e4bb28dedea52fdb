//! Swap areas: `struct swap_info_struct` (mm/swapfile.c).

use crate::file::File;
use engine::{ViewEntry, prelude::*};

/// `MAX_SWAPFILES` is at most this.
const MAX_AREAS: u64 = 32;
/// `SWP_USED`: the structure stands for an area; `SWP_WRITEOK`: pages may be swapped out to it. Never changed.
const USED: u64 = 1;
const WRITEOK: u64 = 2;
/// `SWAP_USAGE_COUNTER_MASK`: above it, since Linux 6.13 (b228386cf2be), is a flag.
const COUNT: u64 = (1 << 62) - 1;

/// A swap area.
#[derive(View, Clone, Debug)]
#[ctype("swap_info_struct")]
pub struct Swap {
    /// its address
    #[addr]
    pub addr: u64,
    flags: u64,
    #[field("prio")]
    priority: u16,
    /// pages that can be swapped out to it
    pub pages: u32,
    #[field("inuse_pages")]
    used: u64,
    /// the file or device, opened: `struct file`
    #[field("swap_file")]
    pub file: u64,
}

impl Swap {
    /// Those of higher priority are used first.
    pub fn priority(&self) -> i16 {
        self.priority as i16
    }

    /// Pages that are swapped out to it.
    pub fn used(&self) -> u64 {
        self.used & COUNT
    }

    /// Whether pages may be swapped out to it.
    pub fn is_on(&self) -> bool {
        self.flags & WRITEOK != 0
    }

    /// The file or device.
    pub fn path(&self, session: &Session) -> Result<String> {
        session.view::<File>(self.file)?.path(session)
    }

    /// `partition` or `file`, as in /proc/swaps.
    pub fn kind(&self, session: &Session) -> Result<&'static str> {
        // `S_IFMT` and `S_IFBLK` of stat(2)
        const FORMAT: u16 = 0o170_000;
        const BLOCK: u16 = 0o060_000;
        let inode = session.view::<File>(self.file)?.inode;
        let mode = session.u16(inode.wrapping_add(session.offset("inode", "i_mode")?))?;
        Ok(if mode & FORMAT == BLOCK { "partition" } else { "file" })
    }
}

/// The swap areas in use.
pub fn all(session: &Session) -> Result<Vec<Swap>> {
    // a kernel without CONFIG_SWAP has none
    let (Some(table), Some(count)) = (session.kernel_symbol("swap_info"), session.kernel_symbol("nr_swapfiles")) else {
        return Ok(Vec::new());
    };
    let count = u64::from(session.u32(count)?).min(MAX_AREAS);
    let mut out = Vec::new();
    for number in 0..count {
        let at = session.u64(table.wrapping_add(number * 8))?;
        match session.view::<Swap>(at) {
            Ok(area) if area.flags & USED != 0 => out.push(area),
            Ok(_) => {}
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("swap area: {}", e.kind())),
        }
    }
    Ok(out)
}

/// Walks swap areas.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "swap_info",
    doc: "walk the swap areas in use",
    item: "struct swap_info_struct",
    address: Address::None,
    walk: |cx, _, visit| all(cx)?.iter().try_for_each(|area| visit(area.addr)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Swap>()];
