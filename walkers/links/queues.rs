//! Queues of packets, `struct sk_buff_head`: each counts its packets, and each packet's data lie in its buffer.

use super::{Finding, Kind, World, is_pointer};
use crate::slab::{self, State};
use engine::{ViewEntry, prelude::*};

/// More packets than any queue has.
const MAX_PACKETS: u64 = 1 << 20;

/// Queues of a `struct sock`.
const OF_SOCK: [&str; 3] = ["sk_receive_queue", "sk_write_queue", "sk_error_queue"];

/// The queues of all sockets. Many kinds of `struct sock` have caches that are merged with others, and do not tell their
/// type: but all have a `struct socket`.
pub fn of_sockets(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let mut out = Vec::new();
    let (Some(cache), Ok(member)) =
        (world.slabs.caches.named("sock_inode_cache").next(), session.offset("socket_alloc", "socket.sk"))
    else {
        return Ok(out);
    };
    let queues: Vec<u64> = OF_SOCK.iter().filter_map(|queue| session.offset("sock", queue).ok()).collect();
    world.slabs.each(session, cache, State::Allocated, &mut |socket| {
        let sock = world.read::<1>(socket.wrapping_add(member))?.map_or(0, |[sock]| sock);
        if is_pointer(sock) && slab::find(session, sock)?.is_some_and(|found| found.state == State::Allocated) {
            for queue in &queues {
                out.extend(self::queue(world, sock.wrapping_add(*queue))?);
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// What is wrong with the queue at `at`.
pub fn queue(world: &World<'_>, at: u64) -> Result<Option<Finding>> {
    let session = world.session;
    let (Ok(count), Ok(lock)) = (session.offset("sk_buff_head", "qlen"), session.offset("sk_buff_head", "lock")) else {
        return Ok(None);
    };
    let read = |member: u64| session.u32(at.wrapping_add(member));
    // one that is being changed is locked
    let (Ok(counted), Ok(0)) = (read(count), read(lock)) else { return Ok(None) };
    let (mut entry, mut length) = (at, 0);
    loop {
        let Some([next, _]) = world.read::<2>(entry)?.filter(|[next, _]| is_pointer(*next)) else { return Ok(None) };
        let Some([_, back]) = world.read::<2>(next)? else { return Ok(None) };
        // a link that nobody answers is told of by itself
        if back != entry || length > MAX_PACKETS {
            return Ok(None);
        }
        if next == at {
            break;
        }
        if let Some(finding) = packet(session, next)? {
            return Ok(Some(finding));
        }
        (entry, length) = (next, length + 1);
    }
    let verdict = || format!("the queue counts {counted} packets, it has {length}");
    Ok((u64::from(counted) != length).then(|| Finding {
        kind: Kind::Queue,
        at: at.wrapping_add(count),
        verdict: verdict(),
        freed: None,
    }))
}

/// What of a `struct sk_buff` says where its data are. Its `tail` and `end` count from `head` on 64-bit machines
/// (NET_SKBUFF_DATA_USES_OFFSET).
#[derive(View)]
#[ctype("sk_buff")]
struct Packet {
    #[addr]
    addr: u64,
    head: u64,
    data: u64,
    tail: u32,
    end: u32,
}

/// A packet whose data lie outside its buffer.
fn packet(session: &Session, at: u64) -> Result<Option<Finding>> {
    let packet: Packet = match session.view(at) {
        Ok(packet) => packet,
        Err(e) if e.is_control() => return Err(e),
        Err(_) => return Ok(None),
    };
    let data = packet.data.wrapping_sub(packet.head);
    let (member, what) = match (u64::from(packet.tail), u64::from(packet.end)) {
        (tail, end) if tail > end => ("tail", format!("the data end at {tail:#x} of a buffer of {end:#x} bytes")),
        (_, end) if data > end => ("data", format!("the data begin at {:x}, outside the buffer", packet.data)),
        (_, end) => return fragments(session, packet.head.wrapping_add(end)),
    };
    let at = packet.addr.wrapping_add(session.offset("sk_buff", member)?);
    Ok(Some(Finding { kind: Kind::Queue, at, verdict: format!("a packet in a queue: {what}"), freed: None }))
}

/// `struct skb_shared_info`, behind a packet's buffer, if it counts more fragments than it has room for.
fn fragments(session: &Session, at: u64) -> Result<Option<Finding>> {
    let (Some(count), Some(frags)) =
        (session.place("skb_shared_info", "nr_frags"), session.place("skb_shared_info", "frags"))
    else {
        return Ok(None);
    };
    let Some(one) = session.place("skb_shared_info", "frags[0]") else { return Ok(None) };
    let at = at.wrapping_add(count.bit_offset / 8);
    let value = match session.u8(at) {
        Ok(value) => u64::from(value),
        Err(e) if e.is_control() => return Err(e),
        Err(_) => return Ok(None),
    };
    let room = frags.bits.checked_div(one.bits).unwrap_or(0);
    let verdict = || format!("a packet in a queue counts {value} fragments, there is room for {room}");
    Ok((room > 0 && value > room).then(|| Finding { kind: Kind::Queue, at, verdict: verdict(), freed: None }))
}

/// The views of this file, for the test that holds them against kernels.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Packet>()];
