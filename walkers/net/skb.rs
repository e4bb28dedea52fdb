//! Packets: `struct sk_buff`, and queues of them, `struct sk_buff_head` (include/linux/skbuff.h).
//!
//! ```console
//! > ::walk netlink | ::print -a struct sock sk_receive_queue | ::walk skb | ::count
//! COUNT
//!     0
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};

/// `struct sk_buff`.
#[derive(View, Clone, Debug)]
#[ctype("sk_buff")]
pub struct Skb {
    /// its address
    #[addr]
    pub addr: u64,
    /// bytes of data
    pub len: u32,
    /// those of them that are not behind `data`, but in pages
    pub data_len: u32,
    /// bytes of memory it takes
    pub truesize: u32,
    protocol: u16,
    /// the device it came from or goes to; in lists of TCP, something else
    pub dev: u64,
    /// the socket it belongs to
    pub sk: u64,
    /// the buffer
    pub head: u64,
    /// where its data begins
    pub data: u64,
    /// `refcount_t`
    pub users: u32,
}

impl Skb {
    /// `ETH_P_…`.
    pub fn protocol(&self) -> u16 {
        self.protocol.swap_bytes()
    }
}

/// Visits the packets of the queue whose `struct sk_buff_head` is at `head`: a ring like a `list_head`'s.
pub fn each(session: &Session, head: u64, visit: Visit<'_>) -> Result<()> {
    list::list(session, head, 0, visit)
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "skb",
    doc: "walk the packets in the queue whose struct sk_buff_head is at the address",
    item: "struct sk_buff",
    address: Address::Required,
    walk: |cx, at, visit| each(cx, at.map_or(0, |o| o.addr), visit),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Skb>()];
