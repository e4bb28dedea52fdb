//! The network: namespaces (`struct net`), devices, and their addresses. Sockets, routes and neighbours have files of
//! their own.
//!
//! ```console
//! > ::walk netdev | ::print struct net_device name
//! name = [ "lo" ]
//! name = [ "dummy0" ]
//! name = [ "lab_dummy0" ]
//! name = [ "veth0" ]
//! name = [ "lab_veth0" ]
//! name = [ "lo" ]
//! ```

pub mod neigh;
pub mod netfilter;
pub mod route;
pub mod skb;
pub mod sock;
pub mod unix;

use crate::{list, percpu::Percpu};
use engine::{Type, ViewEntry, prelude::*};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network namespace: `struct net` (include/net/net_namespace.h).
#[derive(View, Clone, Debug)]
#[ctype("net")]
pub struct Net {
    /// its address
    #[addr]
    pub addr: u64,
    /// number of its file in /proc/PID/ns
    #[field("ns.inum")]
    pub inum: u32,
    #[field("dev_base_head")]
    devices: At,
}

/// Visits every network namespace, the first one first.
pub fn namespaces(session: &Session, visit: Visit<'_>) -> Result<()> {
    let link = session.offset("net", "list")?;
    match session.kernel_symbol("net_namespace_list") {
        Some(head) => list::list(session, head, link, visit),
        // a kernel whose symbols are functions alone: at least the first, to which a pointer leads
        None => {
            session.notes.once(0, "no symbol `net_namespace_list`: only the first network namespace is known");
            visit(session.symbol("init_net")?)
        }
    }
}

/// A device: `struct net_device` (include/linux/netdevice.h).
#[derive(View, Clone, Debug)]
#[ctype("net_device")]
pub struct Device {
    /// its address
    #[addr]
    pub addr: u64,
    /// its name
    pub name: String,
    /// its number in its namespace
    pub ifindex: i32,
    /// `IFF_…`
    pub flags: u32,
    /// `IF_OPER_…`
    pub operstate: u32,
    /// `__LINK_STATE_…`
    pub state: u64,
    /// largest packet, in bytes
    pub mtu: u32,
    /// `ARPHRD_…`
    #[field("type")]
    pub kind: u16,
    addr_len: u8,
    dev_addr: u64,
    ip_ptr: u64,
    ip6_ptr: Option<u64>,
    /// `struct net_device_ops`
    pub netdev_ops: u64,
    #[field("nd_net.net")]
    /// its namespace
    pub net: u64,
    stats: At,
    lstats: Option<u64>,
    tstats: Option<u64>,
    dstats: Option<u64>,
    pcpu_stat_type: Option<u32>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// the address
    pub addr: IpAddr,
    /// bits of it that name the network
    pub prefix: u32,
}

/// `struct in_ifaddr` (include/linux/inetdevice.h).
#[derive(View)]
#[ctype("in_ifaddr")]
struct Address4 {
    #[field("ifa_next")]
    next: u64,
    #[field("ifa_local")]
    local: u32,
    #[field("ifa_prefixlen")]
    prefix: u8,
}

/// `struct inet6_ifaddr` (include/net/if_inet6.h).
#[derive(View)]
#[ctype("inet6_ifaddr")]
struct Address6 {
    #[field("addr")]
    at: At,
    #[field("prefix_len")]
    prefix: u32,
}

/// A word of network order, as it lies in memory.
pub fn ipv4(word: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(word.to_le_bytes()))
}

/// The `struct in6_addr` at an address.
pub fn ipv6(session: &Session, at: u64) -> Result<IpAddr> {
    let mut bytes = [0; 16];
    session.read(at, &mut bytes)?;
    Ok(IpAddr::V6(Ipv6Addr::from(bytes)))
}

/// More addresses than anyone gives a device; the lists have no way back that a loop would show at.
const MAX_ADDRESSES: usize = 1 << 16;

impl Device {
    /// Its hardware address.
    pub fn hardware(&self, session: &Session) -> Result<Vec<u8>> {
        /// `MAX_ADDR_LEN`
        const MAX: u8 = 32;
        if self.dev_addr == 0 {
            return Ok(Vec::new());
        }
        Ok(session.bytes(self.dev_addr, self.addr_len.min(MAX).into())?.to_vec())
    }

    /// Its addresses: IPv4's, then IPv6's.
    pub fn addresses(&self, session: &Session) -> Result<Vec<Interface>> {
        let mut found = Vec::new();
        if self.ip_ptr != 0 {
            let mut at = session.u64(self.ip_ptr.wrapping_add(session.offset("in_device", "ifa_list")?))?;
            while at != 0 && found.len() < MAX_ADDRESSES {
                let addr: Address4 = session.view(at)?;
                found.push(Interface { addr: ipv4(addr.local), prefix: addr.prefix.into() });
                at = addr.next;
            }
        }
        if let Some(at) = self.ip6_ptr.filter(|at| *at != 0) {
            let head = at.wrapping_add(session.offset("inet6_dev", "addr_list")?);
            list::list(session, head, session.offset("inet6_ifaddr", "if_list")?, &mut |at| {
                let addr: Address6 = session.view(at)?;
                found.push(Interface { addr: ipv6(session, addr.at.0)?, prefix: addr.prefix });
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// What a device has received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// packets received
    pub rx_packets: u64,
    /// bytes received
    pub rx_bytes: u64,
    /// packets sent
    pub tx_packets: u64,
    /// bytes sent
    pub tx_bytes: u64,
}

impl Traffic {
    fn add(&mut self, other: Traffic) {
        self.rx_packets = self.rx_packets.wrapping_add(other.rx_packets);
        self.rx_bytes = self.rx_bytes.wrapping_add(other.rx_bytes);
        self.tx_packets = self.tx_packets.wrapping_add(other.tx_packets);
        self.tx_bytes = self.tx_bytes.wrapping_add(other.tx_bytes);
    }

    fn read(session: &Session, ctype: &str, at: u64, rx: [&str; 2], tx: [&str; 2]) -> Result<Traffic> {
        let get = |name: &str| match session.place(ctype, name) {
            Some(field) => session.u64(at.wrapping_add(field.bit_offset / 8)),
            None => Ok(0),
        };
        Ok(Traffic { rx_packets: get(rx[0])?, rx_bytes: get(rx[1])?, tx_packets: get(tx[0])?, tx_bytes: get(tx[1])? })
    }
}

impl Device {
    /// What it has received and sent, of the counters that the core keeps for drivers: `stats`, and where the device has
    /// said so (`pcpu_stat_type`, since Linux 6.7, 34d21de99cea), a struct on each CPU. Drivers that count for
    /// themselves are not asked.
    pub fn traffic(&self, session: &Session) -> Result<Traffic> {
        let names = (["rx_packets", "rx_bytes"], ["tx_packets", "tx_bytes"]);
        let mut sum = Traffic::read(session, "net_device_stats", self.stats.0, names.0, names.1)?;
        let is = |name: &str| {
            let told = self.pcpu_stat_type.map(i64::from);
            told.is_some() && told == session.enumerator(name)
        };
        let (ctype, at, rx, tx) = if is("NETDEV_PCPU_STAT_LSTATS") || self.is_loopback(session) {
            // what goes out comes in again: counted once
            ("pcpu_lstats", self.lstats, ["packets", "bytes"], ["packets", "bytes"])
        } else if is("NETDEV_PCPU_STAT_TSTATS") {
            ("pcpu_sw_netstats", self.tstats, ["rx_packets", "rx_bytes"], ["tx_packets", "tx_bytes"])
        } else if is("NETDEV_PCPU_STAT_DSTATS") {
            ("pcpu_dstats", self.dstats, ["rx_packets", "rx_bytes"], ["tx_packets", "tx_bytes"])
        } else {
            return Ok(sum);
        };
        let Some(at) = at.filter(|at| *at != 0) else { return Ok(sum) };
        for (_, at) in Percpu::of(session)?.copies(at) {
            sum.add(Traffic::read(session, ctype, at, rx, tx)?);
        }
        if !self.is_loopback(session) && ctype == "pcpu_lstats" {
            (sum.rx_packets, sum.rx_bytes) = (0, 0);
        }
        Ok(sum)
    }

    fn is_loopback(&self, session: &Session) -> bool {
        session.symbols.by_addr(session, self.netdev_ops).is_some_and(|s| s.name == "loopback_ops")
    }
}

/// Visits the devices of a namespace, in the order in which they came.
pub fn devices(session: &Session, net: u64, visit: Visit<'_>) -> Result<()> {
    let net: Net = match session.view(net) {
        Ok(net) => net,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            session.notes.add(net, format!("network namespace: {}", e.kind()));
            return Ok(());
        }
    };
    list::list(session, net.devices.0, session.offset("net_device", "dev_list")?, visit)
}

/// The name of a device, if there is one.
pub fn device_name(session: &Session, at: u64) -> Option<Result<String>> {
    (at != 0).then(|| session.view::<Device>(at).map(|dev| dev.name))
}

/// A pointer member, or the address of one that is a struct: some parts of `struct net` have been both.
fn part(session: &Session, ctype: &str, at: u64, path: &str) -> Option<u64> {
    let field = session.place(ctype, path)?;
    let place = at.wrapping_add(field.bit_offset / 8);
    match session.shape(field.ctype).as_deref() {
        Some(Type::Pointer { .. }) => session.u64(place).ok().filter(|at| *at != 0),
        _ => Some(place),
    }
}

/// Walks namespaces and devices.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "net",
        doc: "walk the network namespaces",
        item: "struct net",
        address: Address::None,
        walk: |cx, _, visit| namespaces(cx, visit),
    },
    WalkerEntry {
        name: "netdev",
        doc: "walk the network devices, or those of the struct net at the address",
        item: "struct net_device",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(net) => devices(cx, net.addr, visit),
            None => namespaces(cx, &mut |net| devices(cx, net, &mut *visit)),
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Net>(), ViewEntry::of::<Device>(), ViewEntry::of::<Address4>(), ViewEntry::of::<Address6>()];
