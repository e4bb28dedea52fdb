//! Unix sockets: `struct unix_sock` (include/net/af_unix.h).
//!
//! They are in a table of each namespace since Linux 6.0 (cf21b355ccb3), in one of all before: `unix_socket_table`.
//!
//! ```console
//! > ::walk unix | ::count
//! COUNT
//!     6
//! ```

use super::{namespaces, part};
use crate::{container, list};
use engine::{ViewEntry, prelude::*};

/// `struct unix_sock`.
#[derive(View, Clone, Debug)]
#[ctype("unix_sock")]
pub struct Unix {
    /// its address
    #[addr]
    pub addr: u64,
    #[field("addr")]
    name: u64,
    /// the socket that it is connected to; 0 if to none
    pub peer: u64,
}

/// Longest name: `sizeof(struct sockaddr_un)` without the family.
const MAX_NAME: u32 = 108;

impl Unix {
    /// The name it is bound to, `@` in front of one that is no path; `None` if to none.
    pub fn name(&self, session: &Session) -> Result<Option<String>> {
        if self.name == 0 {
            return Ok(None);
        }
        let len = session.u32(self.name.wrapping_add(session.offset("unix_address", "len")?))?;
        let path = session.offset("unix_address", "name")?.wrapping_add(session.offset("sockaddr_un", "sun_path")?);
        // the family comes first
        let len = len.saturating_sub(2).min(MAX_NAME);
        let bytes = session.bytes(self.name.wrapping_add(path), len as usize)?;
        Ok(Some(match bytes.split_first() {
            Some((0, name)) => {
                format!("@{}", engine::text::decode(name).replace('\0', "@"))
            }
            _ => engine::text::decode(bytes.split(|b| *b == 0).next().unwrap_or_default()),
        }))
    }
}

/// Visits every Unix socket.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    let node = session.offset("sock_common", "skc_node")?;
    if let Some(table) = session.kernel_symbol("unix_socket_table") {
        /// `2 * UNIX_HASH_SIZE`
        const LISTS: u64 = 512;
        let object = Object { addr: table, ctype: session.type_of_global("unix_socket_table") };
        let count = container::extent(session, object, 8).unwrap_or(LISTS);
        return container::hlist_table(session, table, count, node, visit);
    }
    /// `UNIX_HASH_SIZE` since then: 256 for names, 256 for those without
    const LISTS: u64 = 512;
    namespaces(session, &mut |net| match part(session, "net", net, "unx.table.buckets") {
        Some(table) => container::buckets(session, list::Hlist::Plain, (table, LISTS, 8), node, &mut *visit),
        None => Ok(()),
    })
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "unix",
    doc: "walk Unix sockets",
    item: "struct unix_sock",
    address: Address::None,
    walk: |cx, _, visit| each(cx, visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Unix>()];
