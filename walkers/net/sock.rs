//! Sockets: `struct sock` (include/net/sock.h), found where the kernel looks for them: in the hash tables of TCP, UDP and
//! raw sockets, of Unix, netlink and packet sockets.
//!
//! TCP's table of connections also has what is less than a `struct sock`: a connection that is being asked for (`struct
//! request_sock`) and one that is being forgotten (`struct inet_timewait_sock`). All begin with a `struct sock_common`,
//! whose state tells.
//!
//! ```console
//! > ::walk tcp | ::print struct sock_common skc_state skc_num | ::head -n 2
//! skc_state = 0xa
//! skc_num = 0x1e61
//! ```

use super::{ipv4, ipv6, namespaces, part};
use crate::{container, list, rhashtable};
use engine::{ViewEntry, prelude::*};
use std::{collections::BTreeSet, net::IpAddr};

/// What all sockets begin with: `struct sock_common`.
#[derive(View, Clone, Debug)]
#[ctype("sock_common")]
pub struct Common {
    /// its address
    #[addr]
    pub addr: u64,
    /// `AF_…`
    #[field("skc_family")]
    pub family: u16,
    /// `TCP_…`, used by other protocols as well
    #[field("skc_state")]
    pub state: u8,
    /// its namespace
    #[field("skc_net.net")]
    pub net: u64,
    /// its own port
    #[field("skc_num")]
    pub port: u16,
    #[field("skc_dport")]
    peer_port: u16,
    #[field("skc_daddr")]
    peer: u32,
    #[field("skc_rcv_saddr")]
    local: u32,
    #[field("skc_v6_daddr")]
    peer6: Option<At>,
    #[field("skc_v6_rcv_saddr")]
    local6: Option<At>,
    /// the device it is bound to; 0 if to none
    #[field("skc_bound_dev_if")]
    pub bound: i32,
}

/// `AF_INET6`.
pub const INET6: u16 = 10;

impl Common {
    /// Its own address and port, then its peer's.
    pub fn ends(&self, session: &Session) -> Result<[(IpAddr, u16); 2]> {
        let peer_port = u16::from_be_bytes(self.peer_port.to_le_bytes());
        match (self.family, self.local6, self.peer6) {
            (INET6, Some(local), Some(peer)) => {
                Ok([(ipv6(session, local.0)?, self.port), (ipv6(session, peer.0)?, peer_port)])
            }
            _ => Ok([(ipv4(self.local), self.port), (ipv4(self.peer), peer_port)]),
        }
    }
}

/// `struct sock`.
#[derive(View, Clone, Debug)]
#[ctype("sock")]
pub struct Sock {
    /// its address
    #[addr]
    pub addr: u64,
    /// `SOCK_…`
    #[field("sk_type")]
    pub kind: u16,
    /// `IPPROTO_…`, or what its family has instead
    #[field("sk_protocol")]
    pub protocol: u16,
    /// `struct socket`; 0 if no file has it any more
    #[field("sk_socket")]
    pub socket: u64,
    /// user who made it
    #[field("sk_uid.val")]
    pub uid: u32,
    /// bytes of memory that what was received takes
    #[field("sk_backlog.rmem_alloc")]
    pub rmem: u32,
    /// likewise what is to be sent; one more than that
    #[field("sk_wmem_alloc")]
    pub wmem: u32,
    /// most of that
    #[field("sk_rcvbuf")]
    pub rcvbuf: i32,
    /// most of that
    #[field("sk_sndbuf")]
    pub sndbuf: i32,
    /// of a listener, connections that wait to be accepted
    #[field("sk_ack_backlog")]
    pub backlog: u32,
    /// most of those
    #[field("sk_max_ack_backlog")]
    pub max_backlog: u32,
    /// packets received
    #[field("sk_receive_queue.qlen")]
    pub received: u32,
    /// packets to be sent
    #[field("sk_write_queue.qlen")]
    pub waiting: u32,
}

/// Bytes of a TCP connection that wait: `struct tcp_sock`.
#[derive(View)]
#[ctype("tcp_sock")]
struct Tcp {
    rcv_nxt: u32,
    copied_seq: u32,
    write_seq: u32,
    snd_una: u32,
}

/// `struct udp_sock`.
#[derive(View)]
#[ctype("udp_sock")]
struct Udp {
    forward_deficit: i32,
}

/// TCP's states (include/net/tcp_states.h).
pub const ESTABLISHED: u8 = 1;
/// What is being forgotten: an `inet_timewait_sock`.
pub const TIME_WAIT: u8 = 6;
/// A listener.
pub const LISTEN: u8 = 10;
/// What is being asked for: a `request_sock`.
pub const NEW_SYN_RECV: u8 = 12;

impl Common {
    /// Whether there is a whole `struct sock`.
    pub fn is_full(&self) -> bool {
        !matches!(self.state, TIME_WAIT | NEW_SYN_RECV)
    }
}

/// Bytes received that nobody has read, and bytes to be sent that nobody has acknowledged; of a listener, connections
/// that wait, and how many may. As /proc/net/tcp has them.
pub fn tcp_queues(session: &Session, common: &Common, sock: &Sock) -> Result<(u64, u64)> {
    if common.state == LISTEN {
        return Ok((sock.backlog.into(), 0));
    }
    let tcp: Tcp = session.view(sock.addr)?;
    // the peer's FIN counts as a byte, which nobody reads
    let unread = (tcp.rcv_nxt.wrapping_sub(tcp.copied_seq) as i32).max(0);
    Ok((unread as u64, tcp.write_seq.wrapping_sub(tcp.snd_una).into()))
}

/// Likewise, of memory that packets take, for UDP and its kin (`sk_rmem_alloc_get`, `sk_wmem_alloc_get`).
pub fn memory_queues(session: &Session, sock: &Sock, is_udp: bool) -> Result<(u64, u64)> {
    // what a reader has taken is given back in larger pieces
    let deficit = if is_udp { session.view::<Udp>(sock.addr)?.forward_deficit } else { 0 };
    Ok(((sock.rmem as i32).wrapping_sub(deficit).max(0) as u64, sock.wmem.saturating_sub(1).into()))
}

/// Number of the inode of a socket, as /proc/net shows it; 0 if no file has it.
pub fn inode(session: &Session, socket: u64) -> Result<u64> {
    if socket == 0 {
        return Ok(0);
    }
    let inode = session.offset("socket_alloc", "vfs_inode")?.wrapping_add(session.offset("inode", "i_ino")?);
    session.u64(socket.wrapping_sub(session.offset("socket_alloc", "socket")?).wrapping_add(inode))
}

/// The `struct file` of a socket; 0 if it has none.
pub fn file(session: &Session, socket: u64) -> Result<u64> {
    if socket == 0 {
        return Ok(0);
    }
    session.u64(socket.wrapping_add(session.offset("socket", "file")?))
}

/// More buckets than any table has.
const MAX_BUCKETS: u64 = 1 << 28;

/// TCP's tables: `struct inet_hashinfo`.
#[derive(View)]
#[ctype("inet_hashinfo")]
struct Tables {
    ehash: u64,
    ehash_mask: u32,
    lhash2: u64,
    lhash2_mask: u32,
}

/// UDP's: `struct udp_table`.
#[derive(View)]
#[ctype("udp_table")]
struct UdpTable {
    hash: u64,
    mask: u32,
}

/// The tables that a symbol and the namespaces name. Without any it is said whose sockets are not seen.
fn tables(session: &Session, symbol: &str, paths: &[&str]) -> Result<BTreeSet<u64>> {
    let mut found: BTreeSet<u64> = session.kernel_symbol(symbol).into_iter().collect();
    namespaces(session, &mut |net| {
        let mut at = Some((net, "net".to_owned()));
        for path in paths {
            at = at.and_then(|(at, ctype)| {
                let next = part(session, &ctype, at, path)?;
                let field = session.place(&ctype, path)?;
                Some((next, pointed(session, field.ctype)?))
            });
        }
        found.extend(at.map(|(at, _)| at));
        Ok(())
    })?;
    if found.is_empty() {
        unseen(session, symbol);
    }
    Ok(found)
}

fn unseen(session: &Session, symbol: &str) {
    session.notes.once(0, format!("no symbol `{symbol}`: the sockets that are found by it are not shown"));
}

/// The name of the struct that a type is, or points at.
fn pointed(session: &Session, ctype: engine::TypeId) -> Option<String> {
    let spelled = session.types.spell(session.types.strip(ctype));
    Some(spelled.trim_start_matches("const ").trim_start_matches("struct ").trim_end_matches([' ', '*']).to_owned())
}

/// An array of structs that each have the head of a list of sockets.
struct Buckets<'a> {
    session: &'a Session,
    ctype: &'a str,
    /// where the head is in one, and its kind
    head: (u64, list::Hlist),
    /// where the link is in a sock
    link: u64,
}

impl Buckets<'_> {
    fn each(&self, table: u64, count: u64, visit: Visit<'_>) -> Result<()> {
        // they are found by a hash's low bits
        if !count.is_power_of_two() {
            let what =
                format!("a table of sockets says that it has {count} buckets, which is no power of two: not shown");
            self.session.notes.add(table, what);
            return Ok(());
        }
        let size = self.session.size_of(self.ctype)?;
        let heads = (table.wrapping_add(self.head.0), count.min(MAX_BUCKETS), size);
        container::buckets(self.session, self.head.1, heads, self.link, visit)
    }
}

/// Visits TCP's sockets: listeners first, then connections, those that are none yet or no more as well.
pub fn tcp(session: &Session, visit: Visit<'_>) -> Result<()> {
    use list::Hlist::{Nulls, Plain};
    let node = session.offset("sock_common", "skc_nulls_node")?;
    // lists of their own until Linux 5.19 (cae3873c5b3a)
    let (head, link) = match session.place("inet_connection_sock", "icsk_listen_portaddr_node") {
        Some(field) => ((session.offset("inet_listen_hashbucket", "head")?, Plain), field.bit_offset / 8),
        None => ((session.offset("inet_listen_hashbucket", "nulls_head")?, Nulls), node),
    };
    let listeners = Buckets { session, ctype: "inet_listen_hashbucket", head, link };
    let head = (session.offset("inet_ehash_bucket", "chain")?, Nulls);
    let connections = Buckets { session, ctype: "inet_ehash_bucket", head, link: node };
    for at in tables(session, "tcp_hashinfo", &["ipv4.tcp_death_row", "hashinfo"])? {
        let table: Tables = session.view(at)?;
        if table.lhash2 != 0 {
            listeners.each(table.lhash2, u64::from(table.lhash2_mask) + 1, visit)?;
        }
        connections.each(table.ehash, u64::from(table.ehash_mask) + 1, visit)?;
    }
    Ok(())
}

/// Visits UDP's sockets that have a port.
pub fn udp(session: &Session, visit: Visit<'_>) -> Result<()> {
    let link = session.offset("sock_common", "skc_node")?;
    let head = (session.offset("udp_hslot", "head")?, list::Hlist::Plain);
    for at in tables(session, "udp_table", &["ipv4.udp_table"])? {
        let table: UdpTable = session.view(at)?;
        Buckets { session, ctype: "udp_hslot", head, link }.each(table.hash, u64::from(table.mask) + 1, visit)?;
    }
    Ok(())
}

/// Visits raw sockets, of IPv4 and IPv6.
pub fn raw(session: &Session, visit: Visit<'_>) -> Result<()> {
    let node = session.offset("sock_common", "skc_node")?;
    let Some(field) = session.place("raw_hashinfo", "ht") else { return Ok(()) };
    for name in ["raw_v4_hashinfo", "raw_v6_hashinfo"] {
        let Some(at) = session.kernel_symbol(name).or_else(|| session.symbol(name).ok()) else {
            // IPv6 may not be loaded
            if name.contains("v4") {
                unseen(session, name);
            }
            continue;
        };
        container::hlist_table(session, at.wrapping_add(field.bit_offset / 8), field.bits / 64, node, visit)?;
    }
    Ok(())
}

/// Visits packet sockets.
pub fn packet(session: &Session, visit: Visit<'_>) -> Result<()> {
    let node = session.offset("sock_common", "skc_node")?;
    namespaces(session, &mut |net| match part(session, "net", net, "packet.sklist") {
        Some(head) => list::hlist(session, list::Hlist::Plain, head, node, &mut *visit),
        None => Ok(()),
    })
}

/// Visits netlink sockets: of each protocol (`MAX_LINKS`) a hash table.
pub fn netlink(session: &Session, visit: Visit<'_>) -> Result<()> {
    const PROTOCOLS: u64 = 32;
    let first = session.u64(session.symbol("nl_table")?)?;
    let (size, hash) = (session.size_of("netlink_table")?, session.offset("netlink_table", "hash")?);
    for i in 0..PROTOCOLS {
        let at = first.wrapping_add(i * size).wrapping_add(hash);
        // a protocol that nobody registered has none
        if session.u64(at)? != 0 {
            rhashtable::each(session, at, visit)?;
        }
    }
    Ok(())
}

/// A netlink socket: `struct netlink_sock`.
#[derive(View, Clone, Debug)]
#[ctype("netlink_sock")]
pub struct Netlink {
    /// its own port
    pub portid: u32,
    /// its peer's
    pub dst_portid: u32,
}

/// A packet socket: `struct packet_sock`.
#[derive(View, Clone, Debug)]
#[ctype("packet_sock")]
pub struct Packet {
    /// number of its device; 0 for all
    pub ifindex: i32,
    num: u16,
}

impl Packet {
    /// `ETH_P_…`.
    pub fn protocol(&self) -> u16 {
        self.num.swap_bytes()
    }
}

macro_rules! walker {
    ($name:literal, $item:literal, $doc:literal, $walk:expr) => {
        WalkerEntry {
            name: $name,
            doc: $doc,
            item: $item,
            address: Address::None,
            walk: |cx, _, visit| $walk(cx, visit),
        }
    };
}

/// Walks them.
#[rustfmt::skip]
pub static WALKERS: &[WalkerEntry] = &[
    walker!("tcp", "struct sock", "walk TCP's sockets: listeners, connections, those half open or half gone", tcp),
    walker!("udp", "struct sock", "walk UDP's sockets", udp),
    walker!("raw", "struct sock", "walk raw sockets", raw),
    walker!("packet", "struct sock", "walk packet sockets", packet),
    walker!("netlink", "struct netlink_sock", "walk netlink sockets", netlink),
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Common>(),
    ViewEntry::of::<Sock>(),
    ViewEntry::of::<Tcp>(),
    ViewEntry::of::<Udp>(),
    ViewEntry::of::<Tables>(),
    ViewEntry::of::<UdpTable>(),
    ViewEntry::of::<Netlink>(),
    ViewEntry::of::<Packet>(),
];
