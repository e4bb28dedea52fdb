//! The network's devices, neighbours and routes: `::netdev`, `::arp`, `::routes`.
//!
//! ```console
//! > ::arp -a
//! ADDR             IP      HARDWARE          STATE DEVICE
//! ff3a288dc2f9e200 0.0.0.0 00:00:00:00:00:00 NOARP lo
//! ff3a288dc2f99400 ff02::2 33:33:00:00:00:02 NOARP lab_dummy0
//! ```

use engine::{IntoRow, prelude::*};
use walkers::net::{
    self, Device, Net, Traffic,
    neigh::{self, Neighbour},
    route::{self, Route},
};

/// Show the network devices of every namespace with their addresses, as `ip addr` does.
///
/// With the address of a `struct net`, those of that namespace; of a `struct net_device`, that one.
#[derive(Args)]
pub struct Netdev {}

/// A device.
#[derive(Row)]
struct DeviceRow {
    /// address of its struct net_device
    addr: Object,
    /// its number in its namespace
    ifindex: i32,
    /// its name
    name: String,
    /// largest packet, in bytes
    mtu: u32,
    /// up or down, as the link is (`operstate`)
    state: &'static str,
    /// UP, BROADCAST, LOOPBACK, …
    flags: String,
    /// its hardware address
    hardware: Result<String>,
    /// packets received, as far as the network's core counts them
    #[hidden]
    rx_packets: Result<u64>,
    /// bytes received, likewise
    #[hidden]
    rx_bytes: Result<u64>,
    /// packets sent, likewise
    #[hidden]
    tx_packets: Result<u64>,
    /// bytes sent, likewise
    #[hidden]
    tx_bytes: Result<u64>,
    /// its addresses, each with the length of its network's prefix
    addresses: Result<String>,
    /// number of its namespace
    #[heading("NETNS")]
    namespace: Result<u32>,
}

/// `IFF_…` (include/uapi/linux/if.h).
const FLAGS: &[(u32, &str)] = &[
    (1, "UP"),
    (1 << 1, "BROADCAST"),
    (1 << 2, "DEBUG"),
    (1 << 3, "LOOPBACK"),
    (1 << 4, "POINTOPOINT"),
    (1 << 5, "NOTRAILERS"),
    (1 << 7, "NOARP"),
    (1 << 8, "PROMISC"),
    (1 << 9, "ALLMULTI"),
    (1 << 10, "MASTER"),
    (1 << 11, "SLAVE"),
    (1 << 12, "MULTICAST"),
    (1 << 13, "PORTSEL"),
    (1 << 14, "AUTOMEDIA"),
    (1 << 15, "DYNAMIC"),
];

/// `IF_OPER_…`, as RFC 2863 and sysfs spell them.
const STATES: &[&str] = &["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

fn words(bits: u64, names: &[(u32, &str)]) -> String {
    let set = names.iter().filter(|(bit, _)| bits & u64::from(*bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn hardware(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

fn inum(cx: &Cx<'_>, net: u64) -> Result<u32> {
    Ok(cx.view::<Net>(net)?.inum)
}

fn device(cx: &Cx<'_>, at: u64, out: &mut Out<'_>) -> Result<()> {
    let dev: Device = match cx.view(at) {
        Ok(dev) => dev,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            cx.notes.add(at, format!("network device: {}", e.kind()));
            return Ok(());
        }
    };
    let addresses = dev
        .addresses(cx)
        .map(|all| all.iter().map(|a| format!("{}/{}", a.addr, a.prefix)).collect::<Vec<_>>().join(", "));
    let traffic = dev.traffic(cx);
    let counted = |of: fn(&Traffic) -> u64| traffic.as_ref().map(of).map_err(|e| Error::Unavailable(e.kind()));
    out.row(DeviceRow {
        addr: cx.object("net_device", at),
        ifindex: dev.ifindex,
        mtu: dev.mtu,
        state: STATES.get(dev.operstate as usize).unwrap_or(&"?"),
        flags: words(dev.flags.into(), FLAGS),
        hardware: dev.hardware(cx).map(|bytes| hardware(&bytes)),
        rx_packets: counted(|t| t.rx_packets),
        rx_bytes: counted(|t| t.rx_bytes),
        tx_packets: counted(|t| t.tx_packets),
        tx_bytes: counted(|t| t.tx_bytes),
        addresses,
        namespace: inum(cx, dev.net),
        name: dev.name,
    })
}

fn is(cx: &Cx<'_>, at: Option<Object>, name: &str) -> bool {
    at.is_some_and(|o| o.ctype.is_some() && o.ctype == cx.struct_type(name))
}

impl Dcmd for Netdev {
    const NAME: &'static str = "netdev";
    const ALIASES: &'static [&'static str] = &["ifconfig"];
    const ROWS: &'static [&'static engine::Schema] = &[DeviceRow::SCHEMA];
    const PASSES: &'static str = "struct net_device";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(dev) if is(cx, at, "net_device") => device(cx, dev.addr, out),
            Some(net) => net::devices(cx, net.addr, &mut |at| device(cx, at, out)),
            None => net::namespaces(cx, &mut |net| net::devices(cx, net, &mut |at| device(cx, at, out))),
        }
    }
}

/// Show the neighbours: which hardware address an IP address has, of ARP and of IPv6's neighbour discovery.
///
/// Those of no use to anybody, that the kernel keeps for its own packets to itself, are left out, unless -a is given.
#[derive(Args)]
pub struct Arp {
    /// all of them
    #[arg(short = 'a')]
    all: bool,
}

/// A neighbour.
#[derive(Row)]
struct NeighbourRow {
    /// address of its struct neighbour
    addr: Object,
    /// its IP address
    ip: Result<String>,
    /// its hardware address, if that is known
    hardware: Result<String>,
    /// REACHABLE, STALE, FAILED, PERMANENT, …
    state: String,
    /// name of the device behind which it is
    device: Option<Result<String>>,
}

/// `NUD_…` (include/uapi/linux/neighbour.h).
const NUD: &[(u32, &str)] = &[
    (1, "INCOMPLETE"),
    (2, "REACHABLE"),
    (4, "STALE"),
    (8, "DELAY"),
    (0x10, "PROBE"),
    (0x20, "FAILED"),
    (0x40, "NOARP"),
    (0x80, "PERMANENT"),
];
const NOARP: u8 = 0x40;

impl Dcmd for Arp {
    const NAME: &'static str = "arp";
    const ALIASES: &'static [&'static str] = &["neigh"];
    const ROWS: &'static [&'static engine::Schema] = &[NeighbourRow::SCHEMA];
    const PASSES: &'static str = "struct neighbour";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| {
            let neighbour: Neighbour = match cx.view(at) {
                Ok(neighbour) => neighbour,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(at, format!("neighbour: {}", e.kind()));
                    return Ok(());
                }
            };
            if neighbour.state & NOARP != 0 && !self.all {
                return Ok(());
            }
            out.row(NeighbourRow {
                addr: cx.object("neighbour", at),
                ip: neighbour.ip(cx).map(|ip| ip.to_string()),
                hardware: neighbour.hardware(cx).map(|bytes| hardware(&bytes)),
                state: match neighbour.state {
                    0 => "NONE".to_owned(),
                    state => words(state.into(), NUD),
                },
                device: net::device_name(cx, neighbour.dev),
            })
        };
        match at {
            Some(one) => show(one.addr),
            None => neigh::each(cx, &mut show),
        }
    }
}

/// Show the routes of every namespace, as `ip route` does, or of the `struct net` at the address.
///
/// Those to the machine's own addresses (table local, and IPv6's to its own) are left out, unless -a is given.
#[derive(Args)]
pub struct Routes {
    /// all tables
    #[arg(short = 'a')]
    all: bool,
    /// only IPv4's
    #[arg(short = '4')]
    v4: bool,
    /// only IPv6's
    #[arg(short = '6')]
    v6: bool,
}

/// A route.
#[derive(Row)]
struct RouteRow {
    /// address of its struct fib_info or fib6_info
    addr: Object,
    /// where it leads
    to: String,
    /// the router, several if the route has several ways; none if the network is at hand
    via: Option<String>,
    /// the device
    dev: Option<Result<String>>,
    /// the address that packets are sent from
    source: Option<String>,
    /// the less, the better
    metric: u32,
    /// unicast, local, broadcast, blackhole, …
    #[heading("TYPE")]
    kind: Cell,
    /// who made it: kernel, boot, static, ra, …
    proto: Cell,
    /// how far away it is
    scope: Option<Cell>,
    /// main, local, default, or the number of the table
    table: Cell,
    /// number of its namespace
    #[heading("NETNS")]
    namespace: Result<u32>,
}

/// `RTN_…` (include/uapi/linux/rtnetlink.h).
const KINDS: &[&str] = &[
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "xresolve",
];
/// `RTPROT_…`, those that the kernel gives itself or iproute2 has a name for.
const PROTOCOLS: &[(u8, &str)] = &[
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (9, "ra"),
    (16, "dhcp"),
    (186, "bgp"),
    (188, "ospf"),
];
/// `RT_SCOPE_…`.
const SCOPES: &[(u8, &str)] = &[(0, "global"), (200, "site"), (253, "link"), (254, "host"), (255, "nowhere")];
const LOCAL: u32 = 255;
const RTN_LOCAL: u8 = 2;

fn named(value: u8, names: &[(u8, &str)]) -> Cell {
    let name = names.iter().find(|(known, _)| *known == value);
    name.map_or(Cell::Uint(value.into()), |(_, name)| Cell::Str((*name).to_owned()))
}

/// Names of the devices that a route's ways use.
fn devices(cx: &Cx<'_>, route: &Route) -> Option<Result<String>> {
    let names: Result<Vec<String>> = route.hops.iter().filter_map(|hop| net::device_name(cx, hop.dev)).collect();
    match names {
        Ok(names) => (!names.is_empty()).then(|| Ok(names.join(", "))),
        Err(e) => Some(Err(e)),
    }
}

impl Routes {
    fn show(&self, cx: &Cx<'_>, route: Route, out: &mut Out<'_>) -> Result<()> {
        let other = if route.to.is_ipv4() { self.v6 } else { self.v4 };
        let own = route.table == LOCAL || (route.to.is_ipv6() && route.kind == RTN_LOCAL);
        if (other && !(self.v4 && self.v6)) || (own && !self.all) {
            return Ok(());
        }
        let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(", "));
        out.row(RouteRow {
            addr: cx.object(if route.to.is_ipv4() { "fib_info" } else { "fib6_info" }, route.addr),
            to: match route.prefix {
                0 => "default".to_owned(),
                prefix => format!("{}/{prefix}", route.to),
            },
            via: list(route.hops.iter().filter_map(|hop| Some(hop.gateway?.to_string())).collect()),
            dev: devices(cx, &route),
            source: route.source.map(|ip| ip.to_string()),
            metric: route.metric,
            kind: match KINDS.get(usize::from(route.kind)) {
                Some(name) => Cell::Str((*name).to_owned()),
                None => Cell::Uint(route.kind.into()),
            },
            proto: named(route.protocol, PROTOCOLS),
            scope: route.scope.map(|scope| named(scope, SCOPES)),
            table: match route.table {
                253 => Cell::Str("default".into()),
                254 => Cell::Str("main".into()),
                LOCAL => Cell::Str("local".into()),
                other => Cell::Uint(other.into()),
            },
            namespace: inum(cx, route.net),
        })
    }
}

impl Dcmd for Routes {
    const NAME: &'static str = "routes";
    const ALIASES: &'static [&'static str] = &["route"];
    const ROWS: &'static [&'static engine::Schema] = &[RouteRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(net) => route::each_of(cx, net.addr, &mut |route| self.show(cx, route, out)),
            None => route::each(cx, &mut |route| self.show(cx, route, out)),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Netdev>(), DcmdEntry::of::<Arp>(), DcmdEntry::of::<Routes>()];
