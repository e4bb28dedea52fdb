//! The packet filter: `::netfilter`.
//!
//! ```console
//! > ::netfilter
//! ADDR             FAMILY HOOK        PRIO FUNCTION              CHAIN       DEVICE     NETNS
//! ffff8e3d06a4b000 ip     prerouting  -400 ipv4_conntrack_defrag                       4026531840
//! ```

use engine::{IntoRow, prelude::*};
use walkers::net::{
    self, Net,
    netfilter::{self, Hook, Ops},
};

/// Show what is hooked into the way of packets, as `nft list hooks` does: for each namespace, family and place the
/// functions in the order in which they are called.
///
/// Behind the functions of nftables stand table and chain.
#[derive(Args)]
pub struct Netfilter {
    /// only this family: ip, ip6, arp, bridge, netdev
    #[arg(short = 'f', value_name = "FAMILY")]
    family: Option<String>,
}

/// A hook.
#[derive(Row)]
struct HookRow {
    /// address of its struct nf_hook_ops
    addr: Object,
    /// the family of its packets; netdev: those of a device, whatever they are
    family: &'static str,
    /// where on their way
    hook: &'static str,
    /// the lowest is called first
    #[heading("PRIO")]
    priority: Result<i64>,
    /// what is called
    function: String,
    /// table and chain of nftables
    chain: Option<Result<String>>,
    /// the device that it is bound to
    device: Option<Result<String>>,
    /// number of its namespace
    #[heading("NETNS")]
    namespace: Result<u32>,
    /// address of its namespace's struct net
    #[hidden]
    net: Addr,
}

fn row(cx: &Cx<'_>, hook: &Hook) -> HookRow {
    let ops = cx.view::<Ops>(hook.ops);
    let chain = ops.as_ref().ok().and_then(|ops| ops.chain(cx));
    HookRow {
        addr: cx.object("nf_hook_ops", hook.ops),
        family: hook.family,
        hook: hook.place,
        priority: ops.map(|ops| ops.priority.into()),
        function: cx.sym(hook.function),
        chain: chain.map(|names| names.map(|(table, chain)| format!("{table} {chain}"))),
        device: net::device_name(cx, hook.device),
        namespace: cx.view::<Net>(hook.net).map(|net| net.inum),
        net: Addr(hook.net),
    }
}

impl Dcmd for Netfilter {
    const NAME: &'static str = "netfilter";
    const ALIASES: &'static [&'static str] = &["nfhooks"];
    const ADDRESS: Address = Address::Optional;
    const ROWS: &'static [&'static engine::Schema] = &[HookRow::SCHEMA];
    const PASSES: &'static str = "struct nf_hook_ops";

    /// With an address, of the struct net there.
    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        netfilter::each(cx, &mut |hook| {
            let wanted = self.family.as_deref().is_none_or(|family| family == hook.family);
            if wanted && at.is_none_or(|net| net.addr == hook.net) { out.row(row(cx, &hook)) } else { Ok(()) }
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Netfilter>()];
