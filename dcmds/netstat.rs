//! Sockets: `::netstat`, which is `::sockets` as well, and `::skb`.
//!
//! ```console
//! > ::netstat -P tcp
//! ADDR             PROTO STATE  RECVQ SENDQ LOCAL           REMOTE          UID INODE      NETNS
//! ff3a288dc2eca840 tcp   LISTEN     1     0 127.0.0.1:7777  0.0.0.0:*         0   537 4026531840
//! ff3a288dc30b5640 tcp6  LISTEN     0     0 [::1]:7778      [::]:*            0   538 4026531840
//! ff3a288dc2ec8a40 tcp   ESTAB      0     0 127.0.0.1:41656 127.0.0.1:7777    0   540 4026531840
//! ff3a288dc2ecb240 tcp   ESTAB      0     0 127.0.0.1:7777  127.0.0.1:41668   0     0 4026531840
//! ff3a288dc2ec9440 tcp   ESTAB      0     0 127.0.0.1:41668 127.0.0.1:7777    0  3758 4026531840
//! ff3a288dc2ecbc40 tcp   ESTAB     14     0 127.0.0.1:7777  127.0.0.1:41656   0  3757 4026531840
//! ```

use engine::{IntoRow, prelude::*};
use std::net::IpAddr;
use walkers::{
    file::Holders,
    net::{
        self, Net,
        skb::Skb,
        sock::{self, Common, Netlink, Packet, Sock},
        unix::{self, Unix},
    },
    task::Task,
};

/// Show sockets: protocol, state, what waits in their queues, and both ends, of every network namespace.
///
/// Those of TCP and UDP that listen or are connected, and Unix sockets; with -a those of netlink, packet and raw sockets
/// too. Queues of TCP are bytes that nobody has read or acknowledged yet, of a listener how many connections wait; of
/// the others, memory that packets take.
#[derive(Args)]
pub struct Netstat {
    /// every family
    #[arg(short = 'a')]
    all: bool,
    /// only this family: inet, inet6, unix, netlink, packet
    #[arg(short = 'f', value_name = "FAMILY")]
    family: Option<String>,
    /// only this protocol: tcp, udp, raw, unix, netlink, packet
    #[arg(short = 'P', value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// only sockets that listen
    #[arg(short = 'l')]
    listening: bool,
    /// who has it: a row for each process and descriptor
    #[arg(short = 'p')]
    processes: bool,
}

/// A socket.
#[derive(Row)]
struct SockRow {
    /// address of its struct sock
    addr: Object,
    /// the protocol
    proto: String,
    /// its state
    state: &'static str,
    /// what was received and nobody has read, in bytes
    #[heading("RECVQ")]
    recv_queue: Option<Result<u64>>,
    /// what is to be sent, in bytes
    #[heading("SENDQ")]
    send_queue: Option<Result<u64>>,
    /// its own end
    local: Result<String>,
    /// its peer's
    remote: Result<String>,
    /// the user who made it
    uid: Option<u32>,
    /// number of its inode, as a process's files show it; 0 if no file has it
    inode: Option<Result<u64>>,
    /// number of its namespace
    #[heading("NETNS")]
    namespace: Result<u32>,
}

/// A socket, and a process that has it open.
#[derive(Row)]
struct OwnedRow {
    /// address of its struct sock
    addr: Object,
    /// the protocol
    proto: String,
    /// its state
    state: &'static str,
    /// its own end
    local: Result<String>,
    /// its peer's
    remote: Result<String>,
    /// the process; none if nobody has it under a descriptor: the kernel's own, or one that is not accepted yet
    pid: Option<i32>,
    /// the process's name
    name: Option<String>,
    /// the descriptor
    fd: Option<u32>,
    /// number of its inode
    inode: Option<u64>,
    /// number of its namespace
    #[heading("NETNS")]
    namespace: Result<u32>,
    /// address of the process's task
    #[hidden]
    task: Option<Object>,
}

/// `TCP_…` (include/net/tcp_states.h).
const STATES: &[&str] = &[
    "?",
    "ESTAB",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

fn state(number: u8) -> &'static str {
    STATES.get(usize::from(number)).unwrap_or(&"?")
}

/// An end as ss shows it; port 0 is any.
fn end((ip, port): (IpAddr, u16)) -> String {
    let port = if port == 0 { "*".to_owned() } else { port.to_string() };
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

impl Netstat {
    fn wants(&self, protocol: &str) -> bool {
        match (&self.protocol, &self.family) {
            (Some(asked), _) => asked == protocol,
            (None, Some(family)) => match family.as_str() {
                "inet" | "inet4" | "inet6" => matches!(protocol, "tcp" | "udp" | "raw"),
                family => family == protocol,
            },
            (None, None) => self.all || matches!(protocol, "tcp" | "udp" | "unix"),
        }
    }

    fn wants_family(&self, family: u16) -> bool {
        match self.family.as_deref() {
            Some("inet" | "inet4") => family != sock::INET6,
            Some("inet6") => family == sock::INET6,
            _ => true,
        }
    }

    fn inet(&self, cx: &Cx<'_>, proto: &str, at: u64, out: &mut Out<'_>) -> Result<()> {
        let Some(common) = readable(cx, at, cx.view::<Common>(at))? else { return Ok(()) };
        if !self.wants_family(common.family) || (self.listening && common.state != sock::LISTEN) {
            return Ok(());
        }
        let full = common.is_full().then(|| cx.view::<Sock>(at)).transpose();
        let Some(full) = readable(cx, at, full)? else { return Ok(()) };
        let queues = full.as_ref().map(|sock| match proto {
            "tcp" => sock::tcp_queues(cx, &common, sock),
            _ => sock::memory_queues(cx, sock, proto == "udp"),
        });
        let (received, waiting) = both(queues);
        let ends = common.ends(cx);
        let (local, remote) = match ends {
            Ok([local, remote]) => (Ok(end(local)), Ok(end(remote))),
            Err(e) => (Err(Error::Unavailable(e.kind())), Err(e)),
        };
        let six = if common.family == sock::INET6 { "6" } else { "" };
        let socket = full.as_ref().map_or(0, |sock| sock.socket);
        let row = SockRow {
            addr: cx.object(if full.is_some() { "sock" } else { "sock_common" }, at),
            proto: format!("{proto}{six}"),
            state: match (proto, common.state) {
                // a socket without a peer, of protocols that have no connections
                ("tcp", number) => state(number),
                (_, sock::ESTABLISHED) => "ESTAB",
                _ => "UNCONN",
            },
            recv_queue: received,
            send_queue: waiting,
            local,
            remote,
            uid: full.as_ref().map(|s| s.uid),
            inode: full.as_ref().map(|s| sock::inode(cx, s.socket)),
            namespace: namespace(cx, common.net),
        };
        self.show(cx, row, socket, out)
    }

    /// A socket's row, or one for each that has it open.
    fn show(&self, cx: &Cx<'_>, row: SockRow, socket: u64, out: &mut Out<'_>) -> Result<()> {
        if !self.processes {
            return out.row(row);
        }
        let holders = Holders::of(cx)?;
        let file = match sock::file(cx, socket) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                cx.notes.add(row.addr.addr, format!("socket's file: {}", e.kind()));
                0
            }
            Ok(file) => file,
        };
        let again = |text: &Result<String>| match text {
            Ok(text) => Ok(text.clone()),
            Err(e) => Err(Error::Unavailable(e.kind())),
        };
        let number = row.namespace.as_ref().ok().copied();
        let inode = row.inode.as_ref().and_then(|inode| inode.as_ref().ok()).copied();
        let one = |holder: Option<(u64, u32)>| {
            let task = holder.and_then(|(task, _)| cx.view::<Task>(task).ok());
            OwnedRow {
                addr: row.addr,
                proto: row.proto.clone(),
                state: row.state,
                local: again(&row.local),
                remote: again(&row.remote),
                pid: task.as_ref().map(|task| task.tgid),
                name: task.map(|task| task.comm),
                fd: holder.map(|(_, fd)| fd),
                inode,
                namespace: number.map_or_else(|| Err(Error::Unavailable("no namespace".into())), Ok),
                task: holder.map(|(task, _)| cx.object("task_struct", task)),
            }
        };
        match if file == 0 { &[] } else { holders.get(file) } {
            [] => out.row(one(None)),
            holders => holders.iter().try_for_each(|holder| out.row(one(Some(*holder)))),
        }
    }

    /// A socket of a family that has no addresses of the network.
    fn other(&self, cx: &Cx<'_>, proto: &str, at: u64, out: &mut Out<'_>) -> Result<()> {
        let Some(common) = readable(cx, at, cx.view::<Common>(at))? else { return Ok(()) };
        let Some(sock) = readable(cx, at, cx.view::<Sock>(at))? else { return Ok(()) };
        if self.listening && common.state != sock::LISTEN {
            return Ok(());
        }
        let (received, waiting) = both(Some(sock::memory_queues(cx, &sock, false)));
        let (local, remote) = match proto {
            "unix" => unix_ends(cx, at),
            "netlink" => netlink_ends(cx, at, sock.protocol),
            _ => (packet_end(cx, at), Ok(String::new())),
        };
        let row = SockRow {
            addr: cx.object("sock", at),
            proto: match (proto, sock.kind) {
                ("unix", 1) => "u_str".into(),
                ("unix", 2) => "u_dgr".into(),
                ("unix", 5) => "u_seq".into(),
                _ => proto.to_owned(),
            },
            state: match (proto, common.state) {
                ("unix", sock::LISTEN) => "LISTEN",
                (_, sock::ESTABLISHED) => "ESTAB",
                _ => "UNCONN",
            },
            recv_queue: match common.state {
                sock::LISTEN => Some(Ok(sock.backlog.into())),
                _ => received,
            },
            send_queue: waiting,
            local,
            remote,
            uid: Some(sock.uid),
            inode: Some(sock::inode(cx, sock.socket)),
            namespace: namespace(cx, common.net),
        };
        self.show(cx, row, sock.socket, out)
    }
}

type Queue = Option<Result<u64>>;

/// Both queues of a socket, or for both why they are not known.
fn both(queues: Option<Result<(u64, u64)>>) -> (Queue, Queue) {
    match queues {
        Some(Ok((received, waiting))) => (Some(Ok(received)), Some(Ok(waiting))),
        Some(Err(e)) => (Some(Err(Error::Unavailable(e.kind()))), Some(Err(e))),
        None => (None, None),
    }
}

/// What was read, or a note that it could not be.
fn readable<T>(cx: &Cx<'_>, at: u64, read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            cx.notes.add(at, format!("socket: {}", e.kind()));
            Ok(None)
        }
    }
}

fn namespace(cx: &Cx<'_>, net: u64) -> Result<u32> {
    Ok(cx.view::<Net>(net)?.inum)
}

/// A Unix socket's name, and its peer's.
fn unix_ends(cx: &Cx<'_>, at: u64) -> (Result<String>, Result<String>) {
    let name = |at: u64| cx.view::<Unix>(at)?.name(cx).map(Option::unwrap_or_default);
    let peer = cx.view::<Unix>(at).and_then(|unix| match unix.peer {
        0 => Ok(String::new()),
        peer => match name(peer)? {
            // without a name it is known by its inode's number
            unnamed if unnamed.is_empty() => Ok(format!("inode {}", sock::inode(cx, cx.view::<Sock>(peer)?.socket)?)),
            name => Ok(name),
        },
    });
    (name(at), peer)
}

/// Ports of a netlink socket, behind the name of its protocol.
fn netlink_ends(cx: &Cx<'_>, at: u64, protocol: u16) -> (Result<String>, Result<String>) {
    /// `NETLINK_…` (include/uapi/linux/netlink.h)
    const PROTOCOLS: &[&str] = &[
        "route",
        "unused",
        "usersock",
        "firewall",
        "sock_diag",
        "nflog",
        "xfrm",
        "selinux",
        "iscsi",
        "audit",
        "fiblookup",
        "connector",
        "netfilter",
        "ip6_fw",
        "dnrtmsg",
        "kobject_uevent",
        "generic",
        "",
        "scsitransport",
        "ecryptfs",
        "rdma",
        "crypto",
        "smc",
    ];
    let name = PROTOCOLS.get(usize::from(protocol)).map_or_else(|| protocol.to_string(), |n| (*n).to_owned());
    match cx.view::<Netlink>(at) {
        Ok(netlink) => (Ok(format!("{name}:{}", netlink.portid)), Ok(netlink.dst_portid.to_string())),
        Err(e) => (Err(Error::Unavailable(e.kind())), Ok(String::new())),
    }
}

/// What a packet socket takes: the protocol and the device.
fn packet_end(cx: &Cx<'_>, at: u64) -> Result<String> {
    let packet: Packet = cx.view(at)?;
    let device = if packet.ifindex == 0 { "*".to_owned() } else { packet.ifindex.to_string() };
    Ok(format!("{:#06x}:{device}", packet.protocol()))
}

impl Dcmd for Netstat {
    const NAME: &'static str = "netstat";
    const ALIASES: &'static [&'static str] = &["sockets", "ss"];
    const ADDRESS: Address = Address::Optional;
    const ROWS: &'static [&'static engine::Schema] = &[SockRow::SCHEMA, OwnedRow::SCHEMA];
    const PASSES: &'static str = "struct sock";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        // of one namespace, if its struct net was given
        let only = |at_sock: u64| -> Result<bool> {
            Ok(at.is_none_or(|net| cx.view::<Common>(at_sock).is_ok_and(|common| common.net == net.addr)))
        };
        type Each = fn(&Session, Visit<'_>) -> Result<()>;
        let inet: [(&str, Each); 3] = [("tcp", sock::tcp), ("udp", sock::udp), ("raw", sock::raw)];
        for (proto, each) in inet.into_iter().filter(|(proto, _)| self.wants(proto)) {
            each(cx, &mut |at| if only(at)? { self.inet(cx, proto, at, out) } else { Ok(()) })?;
        }
        let other: [(&str, Each); 3] = [("unix", unix::each), ("netlink", sock::netlink), ("packet", sock::packet)];
        for (proto, each) in other.into_iter().filter(|(proto, _)| self.wants(proto)) {
            each(cx, &mut |at| if only(at)? { self.other(cx, proto, at, out) } else { Ok(()) })?;
        }
        Ok(())
    }
}

/// Show packets: `struct sk_buff`. `ADDR::walk skb` finds those of a queue.
#[derive(Args)]
pub struct SkbDcmd {}

/// A packet.
#[derive(Row)]
struct SkbRow {
    /// address of its struct sk_buff
    addr: Object,
    /// bytes of data
    len: u32,
    /// those of them that are in pages
    paged: u32,
    /// bytes of memory that it takes
    truesize: u32,
    /// protocol: 800 is IPv4, 86dd IPv6, 806 ARP
    proto: Hex,
    /// who holds it
    users: u32,
    /// name of its device
    device: Option<Result<String>>,
    /// address of its socket
    sock: Option<Addr>,
    /// address of its data
    data: Addr,
}

impl Dcmd for SkbDcmd {
    const NAME: &'static str = "skb";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[SkbRow::SCHEMA];
    const PASSES: &'static str = "struct sk_buff";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let skb: Skb = cx.view(at.map_or(0, |o| o.addr))?;
        out.row(SkbRow {
            addr: cx.object("sk_buff", skb.addr),
            len: skb.len,
            paged: skb.data_len,
            truesize: skb.truesize,
            proto: Hex(skb.protocol().into()),
            users: skb.users,
            device: net::device_name(cx, skb.dev),
            sock: (skb.sk != 0).then_some(Addr(skb.sk)),
            data: Addr(skb.data),
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Netstat>(), DcmdEntry::of::<SkbDcmd>()];
