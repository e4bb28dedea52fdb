//! Locks in objects whose types are known: who holds them (`::findlocks`), and which share a cache line
//! (`::findfalse`).
//!
//! ```console
//! > ::findlocks
//! ffffffffc0574080 (labmod`lab_held) is owned by ff386d1d83e78040 (lab_holder)
//! ```
//!
//! What is a lock is asked of the types of all objects, those that nobody labelled among them: `typegraph.rs`.

use crate::{member, typegraph::place};
use engine::{IntoRow, Schema, cprint::path, prelude::*};
use std::collections::{HashMap, HashSet};
use walkers::{
    task::{self, Task},
    typegraph::{Graph, Kept, Node, locks},
};

/// Find the locks that a task holds, or any task, in objects of known type.
///
/// Mutexes, reader-writer semaphores, real-time mutexes, and, in kernels with CONFIG_DEBUG_SPINLOCK, spin locks. A
/// semaphore that readers hold names the one that came last, who may have left.
#[derive(Args)]
pub struct Findlocks {}

/// A lock.
#[derive(Row)]
struct LockRow {
    /// the lock
    #[hidden]
    lock: Object,
    /// the object that it is part of; none of a variable
    #[hidden]
    object: Option<Addr>,
    /// the member that it is
    #[hidden]
    member: String,
    /// who holds it
    #[hidden]
    owner: Object,
    /// it is held for reading, maybe by others
    #[hidden]
    reader: bool,
    /// the answer in words
    #[heading("")]
    text: String,
}

impl Dcmd for Findlocks {
    const NAME: &'static str = "findlocks";
    const ROWS: &'static [&'static Schema] = &[LockRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let kept = Kept::of(cx)?;
        let graph = kept.read();
        let mut tasks = HashSet::new();
        task::threads(cx, &mut |task| {
            tasks.insert(task);
            Ok(())
        })?;
        let wanted = at.map(|at| at.addr);
        if let Some(task) = wanted.filter(|task| !tasks.contains(task)) {
            return Err(Error::Usage(format!("{task:#x} is not the address of a task")).hint("`::ps` lists them"));
        }
        let mut rows = Vec::new();
        for held in locks::held(cx, &graph, wanted, &|addr| tasks.contains(&addr))? {
            let kind = || held.kind.to_owned();
            let member = held.node.map_or_else(kind, |node| lock(cx, &graph, node, held.offset as u32, held.kind));
            let object = held.node.filter(|node| graph.nodes.global(*node).is_none());
            let symbol = if object.is_none() { Some(cx.sym(held.addr)) } else { None };
            let who = cx.view::<Task>(held.owner).map_or_else(|_| String::new(), |t| format!(" ({})", t.name(cx)));
            let verb = if held.reader { "is held by readers, last" } else { "is owned by" };
            let text =
                format!("{:x} ({}) {verb} {:x}{who}", held.addr, symbol.unwrap_or_else(|| member.clone()), held.owner);
            let lock = cx.object(held.kind.trim_start_matches("struct "), held.addr);
            let object = object.and_then(|node| graph.nodes.range(node)).map(|(addr, _)| Addr(addr));
            let owner = cx.object("task_struct", held.owner);
            rows.push(LockRow { lock, object, member, owner, reader: held.reader, text });
        }
        drop(graph);
        rows.into_iter().try_for_each(|row| out.row(row))
    }
}

/// Find structures whose locks share a cache line: CPUs that take one slow down those that take the other.
#[derive(Args)]
pub struct Findfalse {
    /// bytes of a cache line
    #[arg(short = 'l', value_name = "BYTES", default_value_t = 64)]
    line: u64,
    /// show the locks too that share a line in one structure, not only those of arrays
    #[arg(short = 'v')]
    verbose: bool,
}

/// Locks that share a line.
#[derive(Row)]
struct FalseRow {
    /// where it is so
    addr: Object,
    /// the symbol there
    symbol: Option<String>,
    /// the structure
    #[heading("TYPE")]
    ctype: String,
    /// its bytes
    size: u64,
    /// bytes of the array, or of the object
    #[heading("TOTSIZE")]
    total: u64,
    /// how many objects are so, wherever in a line they begin
    count: u64,
    /// the locks; of those placements that the objects of a structure have, in the most common one
    locks: String,
}

/// A lock's name without what is inside of it: `i_lock` of `i_lock.rlock.raw_lock.val.counter`.
fn outside(name: &str) -> &str {
    let inside = ["rlock", "raw_lock", "val", "counter", "owner", "count"];
    match name.rsplit_once('.') {
        Some((lock, member)) if inside.contains(&member) => outside(lock),
        _ => name,
    }
}

impl Dcmd for Findfalse {
    const NAME: &'static str = "findfalse";
    const ROWS: &'static [&'static Schema] = &[FalseRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let line = self.line.max(8);
        let kept = Kept::of(cx)?;
        let graph = kept.read();
        let mut rows: Vec<FalseRow> = Vec::new();
        let mut told = HashMap::new();
        for shared in locks::shared(cx, &graph, line)?.into_iter().filter(|shared| shared.array || self.verbose) {
            // objects of one structure begin at several places of a line; the most common comes first
            if let Some(row) = told.get(&(shared.shape, shared.array)).and_then(|row: &usize| rows.get_mut(*row)) {
                row.count += shared.count;
                continue;
            }
            let (Some(shape), Some((addr, total))) =
                (graph.shapes.get(shared.shape), graph.nodes.range(shared.example))
            else {
                continue;
            };
            let name = |offset: &u64| match member::name(cx, Some(shape.ctype), *offset) {
                // the structure's name is in a column of its own
                Some(name) => {
                    name.split_once('.').map_or_else(|| "+0".to_owned(), |(_, member)| outside(member).to_owned())
                }
                None => member::plus(*offset as i64),
            };
            let names: Vec<String> = shared.locks.iter().map(name).collect();
            told.insert((shared.shape, shared.array), rows.len());
            rows.push(FalseRow {
                addr: Object { addr, ctype: Some(shape.ctype) },
                symbol: graph.nodes.global(shared.example).map(|_| cx.sym(addr)),
                ctype: shape.name.to_string(),
                size: shape.size,
                total,
                count: shared.count,
                locks: names.join(" "),
            });
        }
        drop(graph);
        rows.into_iter().try_for_each(|row| out.row(row))
    }
}

/// A lock by the member that it is: `struct inode.i_rwsem`.
fn lock(cx: &Cx<'_>, graph: &Graph, node: Node, offset: u32, kind: &str) -> String {
    let member = place(cx, graph, node, offset);
    let first = cx.struct_type(kind.trim_start_matches("struct ")).and_then(|id| path::member_at(&cx.types, id, 0));
    // the first member of the lock itself says nothing
    let inside = first.map(|(inside, _)| format!(".{inside}"));
    inside.and_then(|inside| member.strip_suffix(&inside)).map_or_else(|| member.clone(), str::to_owned)
}

/// This file's dcmds.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Findlocks>(), DcmdEntry::of::<Findfalse>()];
