//! Locks in objects of known type: who holds them, and which of them share a cache line.

use super::{Graph, Node, ShapeId, What, score};
use crate::page::word;
use engine::{debuginfo::SymbolKind, prelude::*};
use rayon::prelude::*;
use std::collections::HashMap;

/// A lock that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// where it is
    pub addr: u64,
    /// what it is part of; `None` of a variable whose type is not known, and whose contents are those of a lock
    pub node: Option<Node>,
    /// and where in that
    pub offset: u64,
    /// `struct mutex`, …
    pub kind: &'static str,
    /// the `struct task_struct` that holds it
    pub owner: u64,
    /// it may be one of several readers, the one that came last
    pub reader: bool,
}

/// Locks that say who holds them: the structure, the member, the bits of it that are marks, and the mark of a reader
/// (kernel/locking/mutex.c, rwsem.c, rtmutex_common.h, spinlock_debug.c). The mark stays when the last reader leaves: only
/// `count` tells that there are any.
const OWNED: &[(&str, &[&str], u64, u64)] = &[
    ("struct mutex", &["owner.counter", "rtmutex.owner"], 7, 0),
    ("struct rw_semaphore", &["owner.counter"], 7, 1),
    ("struct rt_mutex_base", &["owner"], 1, 0),
    ("struct rt_mutex", &["owner", "rtmutex.owner"], 1, 0),
    ("struct raw_spinlock", &["owner"], 0, 0),
];
/// Locks whose words are written when they are taken, outermost first: what is inside one is part of it.
const LOCKS: &[&str] = &[
    "struct rw_semaphore",
    "struct mutex",
    "struct rt_mutex",
    "struct semaphore",
    "struct spinlock",
    "struct raw_spinlock",
];

/// Where in a structure the owner of a lock is.
struct Place {
    kind: &'static str,
    /// of the lock
    lock: u64,
    /// of the word that names the owner
    owner: u64,
    marks: u64,
    reader: u64,
    /// of the word that counts readers, in those that have some
    readers: Option<u64>,
}

/// `RWSEM_READER_SHIFT`: below are a writer's bit and marks.
const READERS: u32 = 8;

/// Where each structure has locks that say who holds them.
fn owned(session: &Session, graph: &Graph) -> HashMap<ShapeId, Vec<Place>> {
    let mut kinds = HashMap::new();
    for (kind, members, marks, reader) in OWNED {
        let name = kind.trim_start_matches("struct ");
        let owner = members.iter().find_map(|member| session.place(name, member)).map(|place| place.bit_offset / 8);
        let id = session.struct_type(name).and_then(|id| graph.shapes.find(session, id));
        let count = session.place(name, "count.counter").filter(|_| *reader != 0).map(|place| place.bit_offset / 8);
        if let Some((owner, id)) = owner.zip(id) {
            kinds.insert(id, (*kind, owner, *marks, *reader, count));
        }
    }
    let mut found: HashMap<ShapeId, Vec<Place>> = HashMap::new();
    for (id, shape) in graph.shapes.all() {
        let itself = kinds.get(&id).map(|kind| (0, kind));
        let inner = shape.inner.iter().filter_map(|inner| Some((inner, kinds.get(&inner.shape)?)));
        let inner = inner.flat_map(|(inner, kind)| {
            let size = graph.shapes.get(inner.shape).map_or(0, |s| s.size);
            (0..u64::from(inner.count)).map(move |i| (u64::from(inner.offset) + i * size, kind))
        });
        for (lock, (kind, owner, marks, reader, count)) in itself.into_iter().chain(inner) {
            let readers = count.map(|count| lock + count);
            let place = Place { kind, lock, owner: lock + owner, marks: *marks, reader: *reader, readers };
            let places = found.entry(id).or_default();
            // a real-time mutex inside a mutex is the same lock
            if !places.iter().any(|known| known.owner == place.owner) {
                places.push(place);
            }
        }
    }
    found
}

/// Every lock of an object or a global of known type that a task holds, or anyone. `is_task` says whether an address is a
/// task's: words that were never a lock may hold anything.
pub fn held(
    session: &Session,
    graph: &Graph,
    task: Option<u64>,
    is_task: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Vec<Held>> {
    let owned = owned(session, graph);
    let look = |node: Node| -> Result<Vec<Held>> {
        let Some(what @ (What::One(shape) | What::Many(shape))) = graph.what(node) else { return Ok(Vec::new()) };
        let Some(places) = owned.get(&shape) else { return Ok(Vec::new()) };
        let Some(bytes) = score::memory(session, graph, node)? else { return Ok(Vec::new()) };
        let stride = graph.shapes.get(shape).map_or(1, |s| s.size.max(1));
        let count = if matches!(what, What::Many(_)) { bytes.len() as u64 / stride } else { 1 };
        let start = graph.nodes.range(node).map_or(0, |(addr, _)| addr);
        let mut found = Vec::new();
        for i in 0..count {
            for place in places {
                let at = |place: u64| word(&bytes, (i * stride + place) as usize);
                let value = at(place.owner);
                let owner = value & !place.marks;
                if owner >> 63 == 0 || task.is_some_and(|task| task != owner) || !is_task(owner) {
                    continue;
                }
                let offset = i * stride + place.lock;
                let reader = place.reader != 0 && value & place.reader != 0;
                if reader && place.readers.is_some_and(|count| at(count) as i64 >> READERS == 0) {
                    continue;
                }
                found.push(Held { addr: start + offset, node: Some(node), offset, kind: place.kind, owner, reader });
            }
        }
        Ok(found)
    };
    let slabs: Vec<Vec<Held>> = (0..graph.nodes.slabs().all().len())
        .into_par_iter()
        .map(|slab| {
            session.interrupt.check()?;
            let mut found = Vec::new();
            for node in graph.nodes.of_slab(slab) {
                found.extend(look(node)?);
            }
            Ok(found)
        })
        .collect::<Result<_>>()?;
    let mut found: Vec<Held> = slabs.into_iter().flatten().collect();
    for (node, _) in graph.nodes.globals() {
        found.extend(look(node)?);
    }
    found.extend(of_modules(session, task, is_task)?);
    found.sort_by_key(|held| (held.addr, held.node.is_none()));
    // what was read through two types
    found.dedup_by_key(|held| held.addr);
    Ok(found)
}

/// Locks among the variables of modules, whose types only debug information tells: what has the size of a lock, names a
/// task as its owner, and has a list of waiters that closes.
fn of_modules(session: &Session, task: Option<u64>, is_task: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Held>> {
    let mut found = Vec::new();
    for (kind, members, marks, reader) in OWNED {
        let name = kind.trim_start_matches("struct ");
        let owner = members.iter().find_map(|member| session.place(name, member));
        let (Some(owner), Some(list), Ok(size)) = (owner, session.place(name, "wait_list"), session.size_of(name))
        else {
            continue;
        };
        let (owner, list) = (owner.bit_offset / 8, list.bit_offset / 8);
        let word = |addr: u64| session.u64(addr).unwrap_or(0);
        for table in session.symbols.modules(session).iter().filter_map(|m| m.symbols.as_ref()) {
            table.each(&mut |symbol| {
                if symbol.size == size && symbol.kind == SymbolKind::Data {
                    let (value, waiters) = (word(symbol.addr.wrapping_add(owner)), symbol.addr.wrapping_add(list));
                    let holder = value & !marks;
                    // a reader's mark outlives it
                    let wanted = task.is_none_or(|task| task == holder) && is_task(holder) && value & reader == 0;
                    if wanted && word(word(waiters).wrapping_add(8)) == waiters {
                        found.push(Held {
                            addr: symbol.addr,
                            node: None,
                            offset: 0,
                            kind,
                            owner: holder,
                            reader: false,
                        });
                    }
                }
                !session.interrupt.is_set()
            });
            session.interrupt.check()?;
        }
    }
    Ok(found)
}

/// Locks that share a cache line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// the structure
    pub shape: ShapeId,
    /// where in it the locks are that share a line with another
    pub locks: Vec<u64>,
    /// one behind the other, in an array
    pub array: bool,
    /// an object or a global that is so
    pub example: Node,
    /// how many are so
    pub count: u64,
}

/// Locks that share a line of `line` bytes: in one structure, or in an array of structures smaller than a line.
pub fn shared(session: &Session, graph: &Graph, line: u64) -> Result<Vec<Shared>> {
    let names: Vec<Option<usize>> =
        graph.shapes.all().map(|(_, shape)| LOCKS.iter().position(|lock| **lock == *shape.name)).collect();
    let is_lock = |shape: ShapeId| names.get(shape as usize).copied().flatten().is_some();
    let mut locks: HashMap<ShapeId, Vec<u64>> = HashMap::new();
    for (id, shape) in graph.shapes.all().filter(|(id, _)| !is_lock(*id)) {
        let mut end = 0;
        let mut inner: Vec<_> = shape.inner.iter().filter(|inner| is_lock(inner.shape)).collect();
        inner.sort_by_key(|inner| {
            (inner.offset, std::cmp::Reverse(graph.shapes.get(inner.shape).map_or(0, |s| s.size)))
        });
        for inner in inner.into_iter().filter(|inner| !in_union(shape, inner.offset)) {
            let (at, size) = (u64::from(inner.offset), graph.shapes.get(inner.shape).map_or(0, |s| s.size));
            if at >= end {
                locks.entry(id).or_default().push(at);
                end = at + size;
            }
        }
    }
    let mut found: HashMap<(ShapeId, bool, Vec<u64>), (Node, u64)> = HashMap::new();
    let globals = graph.nodes.globals().map(|(node, _)| node);
    for node in graph.objects().chain(globals) {
        session.interrupt.check()?;
        let Some(what @ (What::One(shape) | What::Many(shape))) = graph.what(node) else { continue };
        let (Some(offsets), Some((addr, len))) = (locks.get(&shape), graph.nodes.range(node)) else { continue };
        let size = graph.shapes.get(shape).map_or(1, |s| s.size.max(1));
        let array = matches!(what, What::Many(_)) && size < line && len >= 2 * size;
        let lines: Vec<u64> = offsets.iter().map(|offset| (addr + offset) / line).collect();
        let twice = |at: &u64| lines.iter().filter(|line| *line == at).count() > 1;
        let both = offsets.iter().zip(&lines).filter(|(_, line)| twice(line)).map(|(offset, _)| *offset);
        let sharing: Vec<u64> = if array { offsets.clone() } else { both.collect() };
        if !sharing.is_empty() {
            found.entry((shape, array, sharing)).or_insert((node, 0)).1 += 1;
        }
    }
    let mut found: Vec<Shared> = found
        .into_iter()
        .map(|((shape, array, locks), (example, count))| Shared { shape, locks, array, example, count })
        .collect();
    found.sort_by(|a, b| (b.array, b.count, a.shape, &a.locks).cmp(&(a.array, a.count, b.shape, &b.locks)));
    Ok(found)
}

/// Whether something else may be at a byte of a structure.
fn in_union(shape: &super::shapes::Shape, offset: u32) -> bool {
    shape.slots.iter().any(|slot| !slot.sure && slot.offset == offset)
}
