//! Lists of what may be reclaimed: `struct list_lru` (mm/list_lru.c), one list for each NUMA node and, where it is
//! aware of them, each memory cgroup.
//!
//! ```console
//! > ::walk super_block | ::walk dentry_lru | ::count
//! COUNT
//!  7408
//! ```

use crate::{list, xarray};
use engine::{ViewEntry, prelude::*};

/// `struct list_lru`.
#[derive(View)]
#[ctype("list_lru")]
struct Lru {
    /// one `struct list_lru_node` for each node
    node: u64,
    memcg_aware: Option<bool>,
    /// from a cgroup's number to its `struct list_lru_memcg`, since Linux 5.18 (bbca91cca9a9)
    xa: Option<At>,
}

/// More than any kernel is built for: `MAX_NUMNODES` is 1 << CONFIG_NODES_SHIFT, at most 10.
const MAX_NODES: u64 = 1 << 10;
/// More than cgroups can be at once: their ids have 16 bits.
const MAX_CGROUPS: u64 = 1 << 16;

/// Visits the struct around each entry of all lists of the `struct list_lru` at `lru`. `link` is the offset of the
/// entry in its struct.
pub fn each(session: &Session, lru: u64, link: u64, visit: Visit<'_>) -> Result<()> {
    let view: Lru = session.view(lru)?;
    let nodes = nodes(session);
    let stride = session.size_of("list_lru_node")?;
    let head = session.offset("list_lru_node", "lru.list")?;
    for node in 0..nodes {
        let at = view.node.wrapping_add(node * stride);
        one(session, at.wrapping_add(head), link, visit)?;
        // one array of pointers for each node before Linux 5.18 (6a6b7b77cc0f)
        if let Some(memcg) = session.place("list_lru_node", "memcg_lrus").filter(|_| view.memcg_aware == Some(true)) {
            by_pointers(session, at.wrapping_add(memcg.bit_offset / 8), link, visit)?;
        }
    }
    if let Some(array) = view.xa.filter(|_| view.memcg_aware == Some(true)) {
        let (first, size) = (session.offset("list_lru_memcg", "node")?, session.size_of("list_lru_one")?);
        let head = first.wrapping_add(session.offset("list_lru_one", "list")?);
        xarray::each(session, array.0, &mut |_, cgroup| {
            (0..nodes).try_for_each(|node| one(session, cgroup.wrapping_add(head + node * size), link, visit))
        })?;
    }
    Ok(())
}

fn nodes(session: &Session) -> u64 {
    let count = session.kernel_symbol("nr_node_ids").and_then(|at| session.u32(at).ok());
    u64::from(count.unwrap_or(1)).clamp(1, MAX_NODES)
}

fn by_pointers(session: &Session, at: u64, link: u64, visit: Visit<'_>) -> Result<()> {
    let table = session.u64(at)?;
    let count = session.kernel_symbol("memcg_nr_cache_ids").and_then(|at| session.u32(at).ok()).unwrap_or(0);
    if table == 0 {
        return Ok(());
    }
    let table = table.wrapping_add(session.offset("list_lru_memcg", "lru")?);
    let head = session.offset("list_lru_one", "list")?;
    for slot in 0..u64::from(count).min(MAX_CGROUPS) {
        match session.u64(table.wrapping_add(slot * 8)) {
            Ok(0) => {}
            Ok(cgroup) => one(session, cgroup.wrapping_add(head), link, visit)?,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(table, format!("lists of a cgroup: {}", e.kind())),
        }
    }
    Ok(())
}

/// One list, whose head may be missing without harm to the others.
fn one(session: &Session, head: u64, link: u64, visit: Visit<'_>) -> Result<()> {
    match session.u64(head) {
        Ok(_) => list::list(session, head, link, visit),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(head, format!("list of what may be reclaimed: {}", e.kind()));
            Ok(())
        }
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Lru>()];
