//! Hooks of the packet filter: `struct nf_hook_ops` (include/linux/netfilter.h), as packets meet them.
//!
//! A namespace has for each family (`struct netns_nf`) an array of pointers, one for each place in a packet's way, and a
//! device has one or two for what comes in and goes out. Each leads to a `struct nf_hook_entries`: a count, that many
//! pairs of a function and its argument in the order in which they are called, and behind them as many pointers to the
//! `struct nf_hook_ops` that they were made of (`nf_hook_entries_get_hook_ops()`).
//!
//! ```console
//! > ::walk nf_hook | ::print struct nf_hook_ops hook priority | ::head -n 4
//! hook = ipv4_conntrack_defrag
//! priority = 0xfffffe70
//! hook = nft_do_chain_inet
//! priority = 0xfffffed4
//! ```

use super::{devices, namespaces};
use engine::{Type, ViewEntry, prelude::*};

/// `struct nf_hook_ops`.
#[derive(View, Clone, Debug)]
#[ctype("nf_hook_ops")]
pub struct Ops {
    /// its address
    #[addr]
    pub addr: u64,
    /// what is called
    #[field("hook")]
    pub function: u64,
    /// the device whose packets are meant; 0: every device's
    pub dev: u64,
    /// what the function is given
    #[field("priv")]
    pub argument: u64,
    /// `NFPROTO_…`
    pub pf: u8,
    /// lowest first
    pub priority: i32,
}

#[derive(View)]
#[ctype("nf_hook_entries")]
struct Entries {
    #[field("num_hook_entries")]
    count: u16,
    hooks: At,
}

/// A chain of nftables: `struct nft_chain` (include/net/netfilter/nf_tables.h).
#[derive(View)]
#[ctype("nft_chain")]
struct Chain {
    table: u64,
    name: u64,
}

#[derive(View)]
#[ctype("nft_table")]
struct Table {
    name: u64,
}

/// A hook in its place.
#[derive(Clone, Debug)]
pub struct Hook {
    /// address of its `struct nf_hook_ops`
    pub ops: u64,
    /// the namespace: `struct net`
    pub net: u64,
    /// as nftables names it
    pub family: &'static str,
    /// where on a packet's way
    pub place: &'static str,
    /// the device that it is bound to, or 0
    pub device: u64,
    /// what is called, of the array that packets go through
    pub function: u64,
}

/// `NF_INET_…`, `NF_BR_…` (include/uapi/linux/netfilter.h, netfilter_bridge.h).
const PLACES: &[&str] = &["prerouting", "input", "forward", "output", "postrouting", "brouting"];
/// `NF_ARP_…` (include/uapi/linux/netfilter_arp.h).
const ARP_PLACES: &[&str] = &["input", "output", "forward"];
/// Members of `struct netns_nf`, families, and the names of their places.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    ("nf.hooks_ipv4", "ip", PLACES),
    ("nf.hooks_ipv6", "ip6", PLACES),
    ("nf.hooks_arp", "arp", ARP_PLACES),
    ("nf.hooks_bridge", "bridge", PLACES),
];
/// Members of `struct net_device`. The second came with Linux 5.16 (42df6e1d221d).
const OF_DEVICES: &[(&str, &str)] = &[("nf_hooks_ingress", "ingress"), ("nf_hooks_egress", "egress")];
/// `MAX_HOOK_COUNT` (net/netfilter/core.c).
const MAX_COUNT: u16 = 1024;

/// Shows every hook to `visit`, in the order in which packets meet those of a place.
pub fn each(session: &Session, visit: &mut dyn FnMut(Hook) -> Result<()>) -> Result<()> {
    if !session.has_struct("nf_hook_entries") {
        return Err(Error::Unavailable("this kernel has no packet filter: no `struct nf_hook_entries`".into()));
    }
    namespaces(session, &mut |net| {
        for (member, family, places) in FAMILIES {
            let Some(field) = session.place("net", member) else { continue };
            let Some(Type::Array { count: Some(count), .. }) = session.shape(field.ctype).as_deref().cloned() else {
                continue;
            };
            let first = net.wrapping_add(field.bit_offset / 8);
            for (index, place) in (0..count).zip(places.iter().copied()) {
                let hook = Hook { ops: 0, net, family, place, device: 0, function: 0 };
                array(session, first.wrapping_add(index * 8), &hook, visit)?;
            }
        }
        devices(session, net, &mut |device| {
            for (member, place) in OF_DEVICES {
                let Some(field) = session.place("net_device", member) else { continue };
                let hook = Hook { ops: 0, net, family: "netdev", place, device, function: 0 };
                array(session, device.wrapping_add(field.bit_offset / 8), &hook, visit)?;
            }
            Ok(())
        })
    })
}

/// The hooks of the array that the pointer at `at` leads to.
fn array(session: &Session, at: u64, like: &Hook, visit: &mut dyn FnMut(Hook) -> Result<()>) -> Result<()> {
    let found = match read(session, at) {
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            session.notes.add(at, format!("hooks of the packet filter: {}", e.kind()));
            return Ok(());
        }
        Ok(found) => found,
    };
    found.into_iter().try_for_each(|(ops, function)| visit(Hook { ops, function, ..like.clone() }))
}

/// Addresses of the `struct nf_hook_ops`, and the functions.
fn read(session: &Session, at: u64) -> Result<Vec<(u64, u64)>> {
    let array = session.u64(at)?;
    if array == 0 {
        return Ok(Vec::new());
    }
    let entries: Entries = session.view(array)?;
    if entries.count > MAX_COUNT {
        session.notes.add(array, "array with more hooks of the packet filter than there can be");
        return Ok(Vec::new());
    }
    let (size, function) = (session.size_of("nf_hook_entry")?, session.offset("nf_hook_entry", "hook")?);
    let all = entries.hooks.0.wrapping_add(size * u64::from(entries.count));
    let one = |i: u64| {
        let function = session.u64(entries.hooks.0.wrapping_add(i * size).wrapping_add(function))?;
        Ok((session.u64(all.wrapping_add(i * 8))?, function))
    };
    (0..entries.count.into()).map(one).collect()
}

impl Ops {
    /// Table and chain, if it is nftables that calls through this hook (`nft_do_chain…()`) and its types are known.
    pub fn chain(&self, session: &Session) -> Option<Result<(String, String)>> {
        /// `NFT_NAME_MAXLEN`
        const MAX_NAME: usize = 256;
        let symbol = session.symbols.by_addr(session, self.function)?;
        if !symbol.name.starts_with("nft_do_chain") || !session.has_struct("nft_chain") {
            return None;
        }
        let read = || {
            let chain: Chain = session.view(self.argument)?;
            let table: Table = session.view(chain.table)?;
            Ok((session.cstr(table.name, MAX_NAME)?, session.cstr(chain.name, MAX_NAME)?))
        };
        Some(read())
    }
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "nf_hook",
    doc: "walk the hooks of the packet filter, of every namespace",
    item: "struct nf_hook_ops",
    address: Address::None,
    walk: |cx, _, visit| each(cx, &mut |hook| visit(hook.ops)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Ops>(), ViewEntry::of::<Entries>(), ViewEntry::of::<Chain>(), ViewEntry::of::<Table>()];
