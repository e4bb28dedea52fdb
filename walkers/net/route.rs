//! Routes: IPv4's tables, each a trie of prefixes (net/ipv4/fib_trie.c), and IPv6's, each a tree of bits
//! (net/ipv6/ip6_fib.c).
//!
//! The trie has inner nodes that decide a few bits of an address at once and leaves with the routes of one address; a node
//! whose bits are not below its parent's, or whose key is not its place's, is left out and noted. A node of the tree knows
//! its parent; one that does not is left out.
//!
//! ```console
//! > ::walk fib_info | ::print struct fib_info fib_nhs | ::head -n 1
//! fib_nhs = 0x1
//! ```

use super::{ipv4, ipv6, namespaces};
use crate::{container, list};
use engine::{ViewEntry, prelude::*};
use std::net::{IpAddr, Ipv4Addr};

/// A way to the next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// the router; `None` if the network is at hand
    pub gateway: Option<IpAddr>,
    /// its `struct net_device`; 0 if it has none
    pub dev: u64,
}

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// its `struct fib_info` or `struct fib6_info`
    pub addr: u64,
    /// its namespace
    pub net: u64,
    /// number of its table: 254 main, 255 local
    pub table: u32,
    /// where it leads
    pub to: IpAddr,
    /// bits of that which count
    pub prefix: u32,
    /// `RTN_…`
    pub kind: u8,
    /// `RTPROT_…`
    pub protocol: u8,
    /// `RT_SCOPE_…`; IPv6 has none
    pub scope: Option<u8>,
    /// the less, the better
    pub metric: u32,
    /// the address that packets are sent from
    pub source: Option<IpAddr>,
    /// the ways, several if they are shared
    pub hops: Vec<Hop>,
}

/// A node of a trie: `struct key_vector`.
#[derive(View, Clone)]
#[ctype("key_vector")]
struct Node {
    key: u32,
    /// the lowest bit that it decides
    pos: u8,
    /// how many it decides; 0 of a leaf
    bits: u8,
    leaf: At,
}

/// `struct fib_alias`: one route of a leaf.
#[derive(View)]
#[ctype("fib_alias")]
struct Alias {
    #[field("fa_info")]
    info: u64,
    #[field("fa_type")]
    kind: u8,
    /// bits that do not count
    #[field("fa_slen")]
    slen: u8,
    tb_id: u32,
}

/// `struct fib_info`.
#[derive(View)]
#[ctype("fib_info")]
struct Info {
    #[field("fib_protocol")]
    protocol: u8,
    #[field("fib_scope")]
    scope: u8,
    #[field("fib_prefsrc")]
    source: u32,
    #[field("fib_priority")]
    metric: u32,
    #[field("fib_nhs")]
    hops: i32,
    nh: u64,
    fib_nh: At,
}

/// What both have of a next hop: `struct fib_nh_common`.
#[derive(View)]
#[ctype("fib_nh_common")]
struct Common {
    #[field("nhc_dev")]
    dev: u64,
    #[field("nhc_gw_family")]
    family: u8,
    #[field("nhc_gw")]
    gateway: At,
}

/// `struct nexthop`: a next hop that routes share.
#[derive(View)]
#[ctype("nexthop")]
struct Shared {
    is_group: bool,
    #[field("nh_info")]
    info: u64,
}

/// `struct fib6_info`.
#[derive(View)]
#[ctype("fib6_info")]
struct Info6 {
    #[field("fib6_dst.addr")]
    to: At,
    #[field("fib6_dst.plen")]
    prefix: i32,
    #[field("fib6_prefsrc.addr")]
    source: At,
    #[field("fib6_prefsrc.plen")]
    source_bits: i32,
    #[field("fib6_metric")]
    metric: u32,
    #[field("fib6_protocol")]
    protocol: u8,
    #[field("fib6_type")]
    kind: u8,
    nh: u64,
    fib6_nh: At,
}

/// `struct fib6_node`.
#[derive(View)]
#[ctype("fib6_node")]
struct Node6 {
    parent: u64,
    left: u64,
    right: u64,
    subtree: Option<u64>,
    leaf: u64,
    #[field("fn_flags")]
    flags: u16,
}

/// Bits of an IPv4 address.
const KEY: u8 = 32;
/// Bits that one node of a trie may decide: such a one has 16 million children.
const MAX_BITS: u8 = 24;
/// More ways than one route may have.
const MAX_HOPS: u64 = 256;
/// `FIB_TABLE_HASHSZ`, `FIB6_TABLE_HASHSZ`: 256 with CONFIG_IP_MULTIPLE_TABLES, else 2 and 1.
const TABLES: u64 = 256;
/// More tables than anybody has rules for.
const MOST_TABLES: usize = 1 << 16;
/// A node for every bit of an address, twice over: with source routing there are trees in the tree.
const MAX_DEPTH: u32 = 260;

type VisitRoute<'a> = &'a mut dyn FnMut(Route) -> Result<()>;

/// Shows every route of a namespace to `visit`: IPv4's, then IPv6's.
pub fn each_of(session: &Session, net: u64, visit: VisitRoute<'_>) -> Result<()> {
    let many = |table: &str| match session.has_member("net", table) {
        true => TABLES,
        false => 1,
    };
    let heads = |path: &str| -> Result<u64> { session.u64(net.wrapping_add(session.offset("net", path)?)) };
    let (table4, table6) = ("ipv4.fib_table_hash", "ipv6.fib_table_hash");
    // only kernels with many tables know the main one beside them
    let count = many("ipv4.fib_main");
    let count = if count == 1 { 2 } else { count };
    let tables = all_tables(session, heads(table4)?, count, session.offset("fib_table", "tb_hlist")?)?;
    for at in tables {
        trie(session, net, at, visit)?;
    }
    if !session.has_member("net", table6) || heads(table6)? == 0 {
        return Ok(());
    }
    let count = many("ipv6.fib6_local_tbl");
    let tables = all_tables(session, heads(table6)?, count, session.offset("fib6_table", "tb6_hlist")?)?;
    let null = session.place("net", "ipv6.fib6_null_entry").map(|f| session.u64(net.wrapping_add(f.bit_offset / 8)));
    let null = null.transpose()?.unwrap_or(0);
    for at in tables {
        let table = session.u32(at.wrapping_add(session.offset("fib6_table", "tb6_id")?))?;
        let root = at.wrapping_add(session.offset("fib6_table", "tb6_root")?);
        let tree = Tree { session, net, table, null };
        tree.node(root, None, 0, visit)?;
    }
    Ok(())
}

/// The tables that hang on `count` heads.
fn all_tables(session: &Session, heads: u64, count: u64, link: u64) -> Result<Vec<u64>> {
    let mut tables = Vec::new();
    let all = container::hlist_table(session, heads, count, link, &mut |at| {
        if tables.len() >= MOST_TABLES {
            session.notes.add(heads, "tables of routes without end");
            return Err(Error::Stop);
        }
        tables.push(at);
        Ok(())
    });
    match all {
        Ok(()) | Err(Error::Stop) => Ok(tables),
        Err(e) => Err(e),
    }
}

/// Shows every route of every namespace to `visit`.
pub fn each(session: &Session, visit: VisitRoute<'_>) -> Result<()> {
    namespaces(session, &mut |net| each_of(session, net, &mut *visit))
}

fn trie(session: &Session, net: u64, table: u64, visit: VisitRoute<'_>) -> Result<()> {
    let trie = session.u64(table.wrapping_add(session.offset("fib_table", "tb_data")?))?;
    let id = session.u32(table.wrapping_add(session.offset("fib_table", "tb_id")?))?;
    let root: Node = session.view(trie.wrapping_add(session.offset("trie", "kv")?))?;
    let child = session.u64(root.leaf.0)?;
    // as long as nobody has rules of their own, the tables main and local are one trie
    node(session, net, child, None, &mut |route| if route.table == id { visit(route) } else { Ok(()) })
}

/// Shows the routes below a node, given the bits that its place stands for: the key, and the first that is free.
fn node(session: &Session, net: u64, at: u64, place: Option<(u32, u8)>, visit: VisitRoute<'_>) -> Result<()> {
    if at == 0 {
        return Ok(());
    }
    let note = |what: &str| {
        session.notes.add(at, format!("node of a route trie {what}"));
        Ok(())
    };
    let node_: Node = match session.view(at) {
        Ok(node) => node,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => return note(&format!("that cannot be read: {}", e.kind())),
    };
    let above = place.map_or(KEY, |(_, pos)| pos);
    let bits = node_.bits;
    if place.is_some_and(|(key, pos)| u64::from(node_.key ^ key) >> pos != 0) {
        return note("that is not in its place");
    }
    if bits == 0 {
        return leaf(session, net, &node_, visit);
    }
    if bits > MAX_BITS || u16::from(node_.pos) + u16::from(bits) > u16::from(above) {
        return note("that decides bits which are not its own");
    }
    let children = node_.leaf.0;
    container::words(session, children, 1 << bits, 8, &mut |slot, child| {
        let index = slot.wrapping_sub(children) / 8;
        let key = node_.key | (index << node_.pos) as u32;
        node(session, net, child, Some((key, node_.pos)), &mut *visit)
    })
}

fn leaf(session: &Session, net: u64, node: &Node, visit: VisitRoute<'_>) -> Result<()> {
    let link = session.offset("fib_alias", "fa_list")?;
    list::hlist(session, list::Hlist::Plain, node.leaf.0, link, &mut |at| {
        let alias: Alias = session.view(at)?;
        match route(session, net, node.key, &alias) {
            Ok(route) => visit(route),
            Err(e) if e.is_control() => Err(e),
            Err(e) => {
                session.notes.add(alias.info, format!("route: {}", e.kind()));
                Ok(())
            }
        }
    })
}

fn route(session: &Session, net: u64, key: u32, alias: &Alias) -> Result<Route> {
    let info: Info = session.view(alias.info)?;
    let size = session.size_of("fib_nh")?;
    let mut hops = Vec::new();
    if info.nh != 0 {
        hops = shared(session, info.nh, 0)?;
    }
    for i in 0..u64::try_from(info.hops).unwrap_or(0).min(MAX_HOPS) {
        if info.nh == 0 {
            hops.push(hop(session, info.fib_nh.0.wrapping_add(i * size))?);
        }
    }
    Ok(Route {
        addr: alias.info,
        net,
        table: alias.tb_id,
        to: IpAddr::V4(Ipv4Addr::from(key)),
        prefix: u32::from(KEY.saturating_sub(alias.slen)),
        kind: alias.kind,
        protocol: info.protocol,
        scope: Some(info.scope),
        metric: info.metric,
        source: (info.source != 0).then(|| ipv4(info.source)),
        hops,
    })
}

/// A next hop, given its `struct fib_nh_common`.
fn hop(session: &Session, at: u64) -> Result<Hop> {
    const INET: u8 = 2;
    const INET6: u8 = 10;
    let common: Common = session.view(at)?;
    let gateway = match common.family {
        INET => Some(ipv4(session.u32(common.gateway.0)?)),
        INET6 => Some(ipv6(session, common.gateway.0)?),
        _ => None,
    };
    Ok(Hop { gateway, dev: common.dev })
}

/// The ways of a `struct nexthop`; those of a group, whose members are no groups.
fn shared(session: &Session, at: u64, depth: u32) -> Result<Vec<Hop>> {
    let nexthop: Shared = session.view(at)?;
    if !nexthop.is_group {
        return Ok(vec![hop(session, nexthop.info.wrapping_add(session.offset("nh_info", "fib_nhc")?))?]);
    }
    if depth > 0 {
        session.notes.add(at, "group of next hops in a group");
        return Ok(Vec::new());
    }
    let count = session.u16(nexthop.info.wrapping_add(session.offset("nh_group", "num_nh")?))?;
    let first = nexthop.info.wrapping_add(session.offset("nh_group", "nh_entries")?);
    let (size, nh) = (session.size_of("nh_grp_entry")?, session.offset("nh_grp_entry", "nh")?);
    let mut hops = Vec::new();
    for i in 0..u64::from(count).min(MAX_HOPS) {
        hops.extend(shared(session, session.u64(first.wrapping_add(i * size).wrapping_add(nh))?, depth + 1)?);
    }
    Ok(hops)
}

/// A tree of IPv6's routes.
struct Tree<'a> {
    session: &'a Session,
    net: u64,
    table: u32,
    /// the route that stands where there is none
    null: u64,
}

impl Tree<'_> {
    fn node(&self, at: u64, parent: Option<u64>, depth: u32, visit: VisitRoute<'_>) -> Result<()> {
        /// `RTN_RTINFO`: the node has routes of its own
        const HAS_ROUTES: u16 = 4;
        if at == 0 {
            return Ok(());
        }
        let note = |what: &str| {
            self.session.notes.add(at, format!("node of a route tree {what}"));
            Ok(())
        };
        let node: Node6 = match self.session.view(at) {
            Ok(node) => node,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => return note(&format!("that cannot be read: {}", e.kind())),
        };
        if parent.is_some_and(|parent| node.parent != parent) {
            return note("that does not point back at its parent");
        }
        if depth > MAX_DEPTH || (node.left != 0 && node.left == node.right) {
            return note("that is no tree's");
        }
        if node.flags & HAS_ROUTES != 0 {
            let next = self.session.offset("fib6_info", "fib6_next")?;
            list::chain(self.session, node.leaf, next, &mut |at| match self.route(at) {
                Ok(_) if at == self.null => Ok(()),
                Ok(route) => visit(route),
                Err(e) if e.is_control() => Err(e),
                Err(e) => {
                    self.session.notes.add(at, format!("route: {}", e.kind()));
                    Ok(())
                }
            })?;
        }
        for below in [node.subtree.unwrap_or(0), node.left, node.right] {
            self.node(below, Some(at), depth + 1, visit)?;
        }
        Ok(())
    }

    fn route(&self, at: u64) -> Result<Route> {
        let session = self.session;
        let info: Info6 = session.view(at)?;
        let hops = match info.nh {
            0 => vec![hop(session, info.fib6_nh.0)?],
            nh => shared(session, nh, 0)?,
        };
        let source = (info.source_bits > 0).then(|| ipv6(session, info.source.0)).transpose()?;
        Ok(Route {
            addr: at,
            net: self.net,
            table: self.table,
            to: ipv6(session, info.to.0)?,
            prefix: u32::try_from(info.prefix).unwrap_or(0),
            kind: info.kind,
            protocol: info.protocol,
            scope: None,
            metric: info.metric,
            source,
            hops,
        })
    }
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "fib_info",
        doc: "walk the routes of IPv4, or those of the struct net at the address",
        item: "struct fib_info",
        address: Address::Optional,
        walk: |cx, at, visit| routes(cx, at, visit, true),
    },
    WalkerEntry {
        name: "fib6_info",
        doc: "walk the routes of IPv6, or those of the struct net at the address",
        item: "struct fib6_info",
        address: Address::Optional,
        walk: |cx, at, visit| routes(cx, at, visit, false),
    },
];

fn routes(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>, v4: bool) -> Result<()> {
    let mut wanted = |route: Route| if route.to.is_ipv4() == v4 { visit(route.addr) } else { Ok(()) };
    match at {
        Some(net) => {
            let mut known = false;
            namespaces(cx, &mut |at| {
                known |= at == net.addr;
                Ok(())
            })?;
            if !known {
                return Err(
                    Error::Usage(format!("{:x} is no network namespace", net.addr)).hint("`::walk net` lists them")
                );
            }
            each_of(cx, net.addr, &mut wanted)
        }
        None => each(cx, &mut wanted),
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Node>(),
    ViewEntry::of::<Alias>(),
    ViewEntry::of::<Info>(),
    ViewEntry::of::<Common>(),
    ViewEntry::of::<Shared>(),
    ViewEntry::of::<Info6>(),
    ViewEntry::of::<Node6>(),
];
