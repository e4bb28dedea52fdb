//! The kernel's other generic containers: `plist`, `klist`, `kfifo`, tables of `hlist`s, `idr`, `ida`, bitmaps, interval
//! trees. Lists, trees and arrays of pointers have files of their own, [`crate::list`], [`crate::rbtree`],
//! [`crate::xarray`], [`crate::maple`], [`crate::rhashtable`].
//!
//! Some hold links that lie inside of the elements, as lists do; others hold pointers to them, as xarrays do. What a
//! walker yields, [`of`] tells, so that `::walk` can be asked for the elements with their type:
//!
//! ```console
//! > cgrp_dfl_root::print -a cgrp.self.children | ::walk list struct cgroup_subsys_state sibling | ::print id
//! id = 0
//! > cgroup_hierarchy_idr::walk idr struct cgroup_root | ::print hierarchy_id
//! hierarchy_id = 0
//! > __cpu_online_mask::walk bitmap
//! 0x0
//! 0x1
//! ```

use crate::{list, rbtree, xarray};
use engine::{ViewEntry, prelude::*};

/// What a container's walker yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    /// the address of a link, which lies in the element
    Links,
    /// the address of an element
    Elements,
    /// numbers
    Numbers,
}

/// What the walker of that name yields, if it is one of a generic container.
pub fn of(walker: &str) -> Option<Yields> {
    Some(match walker {
        "list" | "hlist" | "hlist_bl" | "hlist_nulls" | "llist" | "plist" | "klist" | "hlist_table" | "rbtree"
        | "interval_tree" => Yields::Links,
        "xarray" | "radix_tree" | "idr" | "maple_tree" | "rhashtable" | "rhltable" | "kfifo" | "percpu" => {
            Yields::Elements
        }
        "bitmap" | "ida" => Yields::Numbers,
        _ => return None,
    })
}

/// More bits, or heads of lists, than any kernel has in one array.
const MAX_COUNT: u64 = 1 << 32;
/// Bytes of an array that are read at once: a page, or a part of one.
const PAGE: u64 = 4096;

/// Visits every bit that is set, of `bits` bits at `at` (`unsigned long[]`, include/linux/bitmap.h).
pub fn bitmap(session: &Session, at: u64, bits: u64, visit: Visit<'_>) -> Result<()> {
    words(session, at, bits.min(MAX_COUNT).div_ceil(64), 8, &mut |place, word| {
        let first = place.wrapping_sub(at) * 8;
        let set = (0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| first + bit);
        set.take_while(|bit| *bit < bits).try_for_each(&mut *visit)
    })
}

/// Shows a word of each of `count` structs of `stride` bytes to `visit`, with its address; `at` is the first one's. A
/// page that cannot be read is noted.
pub fn words(
    session: &Session,
    at: u64,
    count: u64,
    stride: u64,
    visit: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let mut page = (0, bytes::Bytes::new());
    for i in 0..count.min(MAX_COUNT) {
        let place = at.wrapping_add(i.wrapping_mul(stride));
        let (from, offset) = (place & !(PAGE - 1), (place & (PAGE - 1)) as usize);
        if from != page.0 {
            page = (from, session.bytes(from, PAGE as usize).or_else(|e| unread(session, from, e))?);
        }
        let word = page.1.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        word.map_or(Ok(()), |word| visit(place, word))?;
    }
    Ok(())
}

fn unread(session: &Session, page: u64, e: Error) -> Result<bytes::Bytes> {
    if e.is_control() {
        return Err(e);
    }
    session.notes.add(page, format!("array: {}", e.kind()));
    Ok(bytes::Bytes::new())
}

/// Visits the struct around each entry of a table of `count` `struct hlist_head`s (include/linux/hashtable.h).
pub fn hlist_table(session: &Session, at: u64, count: u64, offset: u64, visit: Visit<'_>) -> Result<()> {
    buckets(session, list::Hlist::Plain, (at, count, 8), offset, visit)
}

/// Likewise where each head is in a struct: the address of the first head, how many there are, and the struct's size.
pub fn buckets(
    session: &Session,
    kind: list::Hlist,
    (at, count, stride): (u64, u64, u64),
    offset: u64,
    visit: Visit<'_>,
) -> Result<()> {
    words(session, at, count, stride, &mut |head, first| {
        let empty = match kind {
            list::Hlist::Plain => first == 0,
            list::Hlist::Locked => first & !1 == 0,
            list::Hlist::Nulls => first & 1 == 1 || first == 0,
        };
        if empty { Ok(()) } else { list::hlist(session, kind, head, offset, visit) }
    })
}

/// How many elements of `size` bytes there are at an object: by its type, or by where the next symbol is.
pub fn extent(session: &Session, object: Object, size: u64) -> Option<u64> {
    let typed = object.ctype.and_then(|ctype| session.types.size_of(ctype)).filter(|bytes| *bytes >= size);
    let symbol = || session.symbols.by_addr(session, object.addr).filter(|s| s.addr == object.addr && s.size >= size);
    Some(typed.or_else(|| symbol().map(|s| s.size))? / size)
}

/// Bits of the bitmap at an object. Of a `struct cpumask` only those count that are a CPU's (`nr_cpu_ids`).
pub fn bits(session: &Session, object: Object) -> Option<u64> {
    let bits = extent(session, object, 8)?.saturating_mul(64);
    let is_mask = object.ctype.is_some_and(|t| session.types.spell(t).contains("cpumask"));
    let cpus = is_mask.then(|| session.u32(session.kernel_symbol("nr_cpu_ids")?).ok().map(u64::from)).flatten();
    Some(cpus.map_or(bits, |cpus| bits.min(cpus)))
}

/// A queue in a ring: `struct __kfifo` (include/linux/kfifo.h), which every typed one begins with.
#[derive(View)]
#[ctype("__kfifo")]
struct Fifo {
    #[field("in")]
    end: u32,
    #[field("out")]
    start: u32,
    mask: u32,
    esize: u32,
    data: u64,
}

/// Visits each element that waits in a kfifo, the oldest first.
pub fn kfifo(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    let fifo: Fifo = session.view(at)?;
    let waiting = fifo.end.wrapping_sub(fifo.start);
    if u64::from(waiting) > u64::from(fifo.mask) + 1 {
        session.notes.add(at, "kfifo that holds more than it has room for");
        return Ok(());
    }
    (0..waiting).try_for_each(|i| {
        let slot = u64::from(fifo.start.wrapping_add(i) & fifo.mask);
        visit(fifo.data.wrapping_add(slot * u64::from(fifo.esize)))
    })
}

/// Shows every pointer of a `struct idr` to `visit`, with its id.
pub fn idr(session: &Session, at: u64, visit: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let base = u64::from(session.u32(at.wrapping_add(session.offset("idr", "idr_base")?))?);
    let tree = at.wrapping_add(session.offset("idr", "idr_rt")?);
    xarray::each(session, tree, &mut |index, entry| visit(index.wrapping_add(base), entry))
}

/// Visits every id that a `struct ida` has given out. An entry stands for 1024 ids (`IDA_BITMAP_BITS`): the lowest 62
/// may be bits of the entry itself.
pub fn ida(session: &Session, at: u64, visit: Visit<'_>) -> Result<()> {
    const IDS: u64 = 1024;
    let tree = at.wrapping_add(session.offset("ida", "xa")?);
    xarray::each(session, tree, &mut |index, entry| {
        let first = index.wrapping_mul(IDS);
        if entry & 1 == 1 {
            let set = (0..63).filter(|bit| entry >> 1 >> bit & 1 == 1);
            return set.map(|bit| first + bit).try_for_each(&mut *visit);
        }
        bitmap(session, entry, IDS, &mut |bit| visit(first + bit))
    })
}

/// An interval: `struct interval_tree_node` (include/linux/interval_tree.h).
#[derive(View)]
#[ctype("interval_tree_node")]
struct Interval {
    start: u64,
    last: u64,
    #[field("__subtree_last")]
    below: u64,
}

/// Visits the nodes of an interval tree, in the order of where they start. An interval that ends before it starts is
/// noted, as is one that reaches beyond what its own subtree is said to (`__subtree_last`). If most are like that, the tree
/// is one of those that keep their intervals elsewhere (`INTERVAL_TREE_DEFINE()`, as a file's mappings do), and none is.
fn intervals(session: &Session, root: u64, visit: Visit<'_>) -> Result<()> {
    let (mut odd, mut seen) = (Vec::new(), 0);
    let walked = rbtree::each(session, root, &mut |at| {
        seen += 1;
        match session.view::<Interval>(at) {
            Ok(node) if node.last < node.start => odd.push((at, "interval that ends before it starts")),
            Ok(node) if node.below < node.last => odd.push((at, "interval that ends behind the end of its subtree")),
            Err(e) if e.is_control() => return Err(e),
            _ => {}
        }
        visit(at)
    });
    if odd.len() * 2 < seen {
        odd.into_iter().for_each(|(at, what)| session.notes.add(at, what));
    }
    walked
}

fn needed(at: Option<Object>) -> Result<Object> {
    at.ok_or_else(|| Error::Usage("a container is walked from its own address".into()))
}

fn counted(cx: &Cx<'_>, at: Option<Object>, count: impl Fn(&Session, Object) -> Option<u64>) -> Result<(u64, u64)> {
    let object = engine::cprint::typed(cx, needed(at)?);
    let count = count(cx, object).ok_or_else(|| {
        Error::Usage(format!("nothing tells how large the container at {} is", cx.sym(object.addr)))
            .hint("`ADDR::walk NAME COUNT`")
    })?;
    Ok((object.addr, count))
}

macro_rules! walker {
    ($name:literal, $item:literal, $doc:literal, $walk:expr) => {
        WalkerEntry { name: $name, doc: $doc, item: $item, address: Address::Required, walk: $walk }
    };
}

/// Walks them.
#[rustfmt::skip]
pub static WALKERS: &[WalkerEntry] = &[
    walker!("plist", "struct plist_node", "walk the nodes of the struct plist_head at the address, by priority",
        |cx, at, visit| {
            let link = cx.offset("plist_node", "node_list")?;
            list::list(cx, needed(at)?.addr.wrapping_add(cx.offset("plist_head", "node_list")?), link, visit)
        }),
    walker!("klist", "struct klist_node", "walk the nodes of the struct klist at the address",
        |cx, at, visit| {
            let link = cx.offset("klist_node", "n_node")?;
            list::list(cx, needed(at)?.addr.wrapping_add(cx.offset("klist", "k_list")?), link, visit)
        }),
    walker!("kfifo", "", "walk the elements that wait in the kfifo at the address, the oldest first",
        |cx, at, visit| kfifo(cx, needed(at)?.addr, visit)),
    walker!("idr", "", "walk the pointers that the struct idr at the address holds, in the order of their ids",
        |cx, at, visit| idr(cx, needed(at)?.addr, &mut |_, entry| visit(entry))),
    walker!("radix_tree", "", "walk the entries of the radix tree at the address (a struct xarray), in order",
        |cx, at, visit| xarray::each(cx, needed(at)?.addr, &mut |_, entry| visit(entry))),
    walker!("ida", "", "walk the ids that the struct ida at the address has given out",
        |cx, at, visit| ida(cx, needed(at)?.addr, visit)),
    walker!("interval_tree", "struct interval_tree_node",
        "walk the nodes of the interval tree whose root is at the address, in the order of where they start",
        |cx, at, visit| intervals(cx, needed(at)?.addr, visit)),
    walker!("hlist_table", "struct hlist_node", "walk the entries of the array of struct hlist_head at the address",
        |cx, at, visit| {
            let (addr, count) = counted(cx, at, |session, object| extent(session, object, 8))?;
            hlist_table(cx, addr, count, 0, visit)
        }),
    walker!("bitmap", "", "walk the numbers of the bits that are set in the bitmap at the address",
        |cx, at, visit| {
            let (addr, count) = counted(cx, at, bits)?;
            bitmap(cx, addr, count, visit)
        }),
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Fifo>(), ViewEntry::of::<Interval>()];
