//! Neighbours: `struct neighbour` (include/net/neighbour.h), what is known of hardware addresses: ARP's table, NDISC's.
//!
//! ```console
//! > ::walk neighbour | ::print struct neighbour nud_state
//! nud_state = 0x40
//! nud_state = 0x40
//! ```

use super::{ipv4, ipv6};
use crate::{container, list};
use engine::{ViewEntry, prelude::*};
use std::net::IpAddr;

/// `struct neigh_table`.
#[derive(View)]
#[ctype("neigh_table")]
struct Table {
    nht: u64,
}

/// `struct neigh_hash_table`.
#[derive(View)]
#[ctype("neigh_hash_table")]
struct Hash {
    /// `hash_heads`, of `hlist_head`s, since Linux 6.13 (f7f52738637f)
    #[field("hash_heads", "hash_buckets")]
    buckets: u64,
    hash_shift: u32,
}

/// `struct neighbour`.
#[derive(View, Clone, Debug)]
#[ctype("neighbour")]
pub struct Neighbour {
    /// its address
    #[addr]
    pub addr: u64,
    /// its device
    pub dev: u64,
    /// `NUD_…`
    #[field("nud_state")]
    pub state: u8,
    /// `NTF_…`
    pub flags: u32,
    /// `RTN_…`
    #[field("type")]
    pub kind: u8,
    /// the tick at which it last was known to be right
    pub confirmed: u64,
    #[field("tbl")]
    table: u64,
    ha: At,
    primary_key: At,
}

impl Neighbour {
    /// Whose hardware address it is.
    pub fn ip(&self, session: &Session) -> Result<IpAddr> {
        match session.u32(self.table.wrapping_add(session.offset("neigh_table", "key_len")?))? {
            4 => Ok(ipv4(session.u32(self.primary_key.0)?)),
            16 => ipv6(session, self.primary_key.0),
            len => Err(Error::Corrupt { addr: self.table, what: format!("table of keys of {len} bytes") }),
        }
    }

    /// The hardware address, of as many bytes as its device has.
    pub fn hardware(&self, session: &Session) -> Result<Vec<u8>> {
        /// `MAX_ADDR_LEN`
        const MAX: u8 = 32;
        let len = session.u8(self.dev.wrapping_add(session.offset("net_device", "addr_len")?))?;
        Ok(session.bytes(self.ha.0, len.min(MAX).into())?.to_vec())
    }
}

/// Visits every neighbour of every family.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    for name in ["arp_tbl", "nd_tbl"] {
        let Ok(table) = session.symbol(name) else { continue };
        let table: Table = session.view(table)?;
        let hash: Hash = session.view(table.nht)?;
        let count = 1u64.checked_shl(hash.hash_shift).unwrap_or(0);
        if session.has_member("neigh_hash_table", "hash_heads") {
            let node = session.offset("neighbour", "hash")?;
            container::buckets(session, list::Hlist::Plain, (hash.buckets, count, 8), node, visit)?;
            continue;
        }
        let next = session.offset("neighbour", "next")?;
        container::words(session, hash.buckets, count, 8, &mut |_, first| {
            list::chain(session, first, next, &mut *visit)
        })?;
    }
    Ok(())
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "neighbour",
    doc: "walk the neighbours whose hardware address is known or asked for, of IPv4 and IPv6",
    item: "struct neighbour",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Table>(), ViewEntry::of::<Hash>(), ViewEntry::of::<Neighbour>()];
