//! What has leaked, and who allocated it.
//!
//! Who allocated an object is asked of its own record (`slub_debug=U`), of KFENCE's, and of ftrace's `kmem` events, the
//! first that knows. Leaks of one cache by one call stack are one group, of which the oldest speaks for all.

use super::{
    Graph,
    known::{self, Reason},
    nodes::Kind,
};
use crate::{
    clock::Clocks,
    kfence,
    kmem_log::{self, caller::Callers},
    slab::{self, Which},
    total::Total,
    vmalloc,
};
use engine::prelude::*;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// An object that nothing refers to, but perhaps other such objects.
#[derive(Clone, Debug)]
pub struct Leak {
    /// its number; of per-CPU memory, which has none, the highest
    pub node: u32,
    /// its address
    pub addr: u64,
    /// its bytes
    pub size: u64,
    /// what it is
    pub kind: Kind,
    /// number of its cache
    pub cache: Option<usize>,
    /// another leaked object, one that refers to it
    pub held_by: Option<u64>,
    /// who allocated it
    pub origin: Origin,
    /// why it is none, if that is known
    pub reason: Option<&'static Reason>,
}

/// Who allocated an object, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// address of the record that says so, and the type of that
    pub record: Option<(u64, &'static str)>,
    /// the code that it was allocated for
    pub caller: Option<u64>,
    /// call stack, innermost first
    pub stack: Vec<u64>,
    /// in which thread
    pub pid: Option<u32>,
    /// on which CPU
    pub cpu: Option<u32>,
    /// when, in ns
    pub time: Option<u64>,
}

/// Leaks of one kind, from one place.
#[derive(Clone, Debug)]
pub struct Group {
    /// the oldest first
    pub leaks: Vec<Leak>,
    /// their bytes together
    pub bytes: u64,
}

impl Group {
    /// The oldest.
    pub fn oldest(&self) -> Option<&Leak> {
        self.leaks.first()
    }
}

/// All that has leaked.
pub struct Leaks {
    /// the oldest first; groups of objects that only look leaked are among them
    pub groups: Vec<Group>,
    /// by address of an object and of its record: the group
    places: HashMap<u64, usize>,
}

impl Leaks {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Leaks>> {
        session.once(|| Leaks::find(session, &*Graph::of(session)?))
    }

    /// What has leaked from what can be reached.
    pub fn find(session: &Session, graph: &Graph) -> Result<Leaks> {
        let (mut leaks, mut holders) = (unreached(session, graph)?, HashMap::new());
        leaks.iter_mut().for_each(|leak| leak.cache = graph.cache_of(session, leak));
        let edges = edges(session, graph, &leaks)?;
        for (from, to) in leaks.iter().filter_map(|leak| Some((leak.addr, edges.get(&leak.node)?))) {
            to.iter().for_each(|to| _ = holders.entry(*to).or_insert(from));
        }
        leaks.iter_mut().for_each(|leak| leak.held_by = holders.get(&leak.node).copied());
        origins(session, &mut leaks)?;
        known::explain(session, &mut leaks, &edges)?;
        let mut groups: BTreeMap<_, Vec<Leak>> = BTreeMap::new();
        for leak in leaks {
            let which = match leak.kind {
                Kind::Slab(_) | Kind::Kfence => (0, leak.cache.unwrap_or(usize::MAX) as u64),
                Kind::Pages(_) | Kind::Kernel => (1, leak.size),
                Kind::Area => (2, leak.origin.caller.unwrap_or(0)),
                Kind::Percpu => (3, leak.size),
            };
            let reason = leak.reason.map(|reason| reason.text);
            let key = (which, leak.origin.stack.clone(), leak.origin.caller, reason);
            groups.entry(key).or_default().push(leak);
        }
        let mut groups: Vec<Group> = groups.into_values().map(group).collect();
        groups.sort_by_key(|g| g.oldest().map(|leak| (leak.origin.time.unwrap_or(u64::MAX), leak.addr)));
        let mut places = HashMap::new();
        for (i, leak) in groups.iter().enumerate().flat_map(|(i, g)| g.leaks.iter().map(move |leak| (i, leak))) {
            places.insert(leak.addr, i);
            places.extend(leak.origin.record.map(|(at, _)| (at, i)));
        }
        Ok(Leaks { groups, places })
    }

    /// The group that an object belongs to, by its address or by that of its record.
    pub fn group_at(&self, addr: u64) -> Option<&Group> {
        self.groups.get(*self.places.get(&addr)?)
    }
}

fn group(mut leaks: Vec<Leak>) -> Group {
    leaks.sort_by_key(|leak| (leak.origin.time.unwrap_or(u64::MAX), leak.addr));
    let bytes = leaks.iter().map(|leak| leak.size).total();
    Group { leaks, bytes }
}

impl Graph {
    fn cache_of(&self, session: &Session, leak: &Leak) -> Option<usize> {
        match leak.kind {
            Kind::Slab(cache) => Some(cache as usize),
            Kind::Kfence => slab::find(session, leak.addr).ok()?.map(|found| found.cache),
            _ => None,
        }
    }
}

/// Every object that was looked for and not reached.
fn unreached(session: &Session, graph: &Graph) -> Result<Vec<Leak>> {
    let mut found = Vec::new();
    for block in graph.nodes.blocks() {
        session.interrupt.check()?;
        if matches!(block.kind, Kind::Kernel | Kind::Pages(false)) || graph.book.is_record(block) {
            continue;
        }
        for node in (block.first..block.end()).filter(|node| !graph.done.has(*node)) {
            let mut leak = Leak {
                node,
                addr: block.object(node),
                size: block.size,
                kind: block.kind,
                cache: None,
                held_by: None,
                origin: Origin::default(),
                reason: None,
            };
            if block.kind == Kind::Kfence
                && let Some(pool) = kfence::Pool::of(session)?
                && let Some(record) = pool.index(leak.addr).and_then(|index| pool.record(session, index).ok())
            {
                (leak.addr, leak.size) = (record.addr, record.size);
            }
            found.push(leak);
        }
    }
    found.extend(graph.percpu.lost().map(|lost| Leak {
        node: u32::MAX,
        addr: lost.addr,
        size: lost.bytes,
        kind: Kind::Percpu,
        cache: None,
        held_by: None,
        origin: Origin::default(),
        reason: None,
    }));
    Ok(found)
}

/// Of each leak the others that it refers to, by their numbers.
pub(super) type Edges = HashMap<u32, Vec<u32>>;

fn edges(session: &Session, graph: &Graph, leaks: &[Leak]) -> Result<Edges> {
    let mut edges = Edges::new();
    for leak in leaks {
        let Some(block) = graph.nodes.block(leak.node) else { continue };
        let mut found = Vec::new();
        graph.scanner(session).block(block, &[leak.node], &mut |node, _| {
            if node != leak.node && !graph.done.has(node) {
                found.push(node);
            }
        })?;
        if !found.is_empty() {
            edges.insert(leak.node, found);
        }
    }
    Ok(edges)
}

/// Finds out who allocated each.
fn origins(session: &Session, leaks: &mut [Leak]) -> Result<()> {
    let callers = Callers::default();
    for leak in leaks.iter_mut() {
        let origin = match (leak.kind, leak.cache) {
            (Kind::Slab(_), Some(cache)) => tracked(session, cache, leak.addr, &callers),
            (Kind::Kfence, _) => held(session, leak.addr, &callers),
            (Kind::Area, _) => area(session, leak.addr),
            _ => Ok(None),
        };
        match origin {
            Ok(origin) => leak.origin = origin.unwrap_or_default(),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(leak.addr, format!("who allocated a leaked object: {}", e.kind())),
        }
    }
    if leaks.iter().all(|leak| leak.origin.record.is_some()) {
        return Ok(());
    }
    // a kernel without tracing, or a ring that cannot be read, saw nothing
    let seen = kmem_log::seen_by_ring(session).or_else(|e| if e.is_control() { Err(e) } else { Ok(HashMap::new()) })?;
    for leak in leaks.iter_mut().filter(|leak| leak.origin.record.is_none()) {
        if let Some(event) = seen.get(&leak.addr) {
            leak.origin = Origin {
                record: Some((event.addr, event.ctype())),
                caller: leak.origin.caller.or(Some(event.site)),
                stack: Vec::new(),
                pid: Some(event.pid),
                cpu: event.cpu,
                time: Some(event.time),
            };
        }
    }
    Ok(())
}

fn tracked(session: &Session, cache: usize, object: u64, callers: &Callers) -> Result<Option<Origin>> {
    let Some(track) = slab::track(session, cache, object, Which::Alloc)? else { return Ok(None) };
    // a stack that is lost leaves the rest
    let stack = track.stack(session).or_else(|e| if e.is_control() { Err(e) } else { Ok(Vec::new()) })?;
    Ok(Some(Origin {
        record: Some((track.addr, "track")),
        caller: Some(callers.first(session, &stack).unwrap_or(track.caller)),
        stack,
        pid: Some(track.pid),
        cpu: Some(track.cpu),
        time: Clocks::of(session).ok().map(|clocks| clocks.monotonic(track.when)),
    }))
}

fn held(session: &Session, object: u64, callers: &Callers) -> Result<Option<Origin>> {
    let Some(pool) = kfence::Pool::of(session)? else { return Ok(None) };
    let Some(index) = pool.index(object) else { return Ok(None) };
    let record = pool.record(session, index)?;
    let track = record.allocated_by(session)?;
    Ok(Some(Origin {
        record: Some((record.at, "kfence_metadata")),
        caller: callers.first(session, &track.stack),
        pid: u32::try_from(track.pid).ok(),
        cpu: track.cpu.and_then(|cpu| u32::try_from(cpu).ok()),
        time: track.time,
        stack: track.stack,
    }))
}

/// `vmalloc()` notes only who called it.
fn area(session: &Session, addr: u64) -> Result<Option<Origin>> {
    let areas = vmalloc::Areas::of(session)?;
    let made = areas.at(addr).map(|area| area.made(session)).transpose()?.flatten();
    Ok(made.map(|made| Origin { caller: Some(made.caller), ..Origin::default() }))
}

/// The leaks of the group that a leak, given by its own address or that of its record, belongs to; without one, all.
fn walk(cx: &Cx<'_>, at: Option<Object>, visit: &mut dyn FnMut(&Leak) -> Result<()>) -> Result<()> {
    let leaks = Leaks::of(cx)?;
    let Some(at) = at else {
        let real = leaks.groups.iter().flat_map(|group| &group.leaks).filter(|leak| leak.reason.is_none());
        return real.into_iter().try_for_each(visit);
    };
    let group = leaks.group_at(at.addr).ok_or_else(|| {
        Error::Usage(format!("{:x} is no leaked object, nor the record of one", at.addr))
            .hint("`::findleaks` names them")
    })?;
    group.leaks.iter().try_for_each(visit)
}

/// Walks leaks.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "leak",
        doc: "walk the records of all leaks that were allocated like the one at the address, oldest first; of one without \
              a record, its address",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| walk(cx, at, &mut |leak| visit(leak.origin.record.map_or(leak.addr, |(at, _)| at))),
    },
    WalkerEntry {
        name: "leakbuf",
        doc: "walk all leaked objects that were allocated like the one at the address, or whose record is there, oldest \
              first",
        item: "",
        address: Address::Optional,
        walk: |cx, at, visit| walk(cx, at, &mut |leak| visit(leak.addr)),
    },
    WalkerEntry {
        name: "lonepage",
        doc: "walk the pages that the kernel allocated, each by itself, and that no address refers to: those of devices, \
              and forgotten ones",
        item: "",
        address: Address::None,
        walk: |cx, _, visit| Graph::of(cx)?.lone_pages().try_for_each(visit),
    },
];
