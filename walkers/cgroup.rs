//! Control groups: `struct cgroup` (include/linux/cgroup-defs.h). A tree for each hierarchy: one of version 2, and one for
//! each set of controllers that is mounted the old way.
//!
//! ```console
//! > ::walk cgroup | ::count
//! COUNT
//!     4
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};
use std::collections::HashSet;

/// A control group.
#[derive(View, Clone, Debug)]
#[ctype("cgroup")]
pub struct Cgroup {
    /// its address
    #[addr]
    pub addr: u64,
    /// its directory, `struct kernfs_node`
    #[field("kn")]
    node: u64,
    /// its hierarchy, `struct cgroup_root`
    pub root: u64,
    /// the group it is in; 0 at the top: a `struct cgroup_subsys_state`, with which a `struct cgroup` begins
    #[field("self.parent")]
    pub parent: u64,
    #[field("self.children")]
    children: At,
    /// sets of tasks that are in it: `struct cgrp_cset_link`
    cset_links: At,
    /// `CGRP_…`
    pub flags: u64,
}

/// A hierarchy.
#[derive(View, Clone, Debug)]
#[ctype("cgroup_root")]
pub struct Root {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number; 0 for version 2
    #[field("hierarchy_id")]
    pub id: u32,
    #[field("subsys_mask")]
    controllers: u64,
    /// the name it was given when mounted, empty mostly
    pub name: String,
    #[field("cgrp")]
    top: At,
}

/// `struct kernfs_node` (include/linux/kernfs.h), a directory of cgroupfs.
#[derive(View)]
#[ctype("kernfs_node")]
struct Node {
    /// since Linux 6.15 (633488947ef6) under the longer name
    #[field("__parent", "parent")]
    parent: u64,
    name: u64,
    id: u64,
}

/// Longer paths than the kernel has.
const MAX_DEPTH: usize = 512;
/// As many controllers as a mask has bits.
const MAX_CONTROLLERS: u32 = 32;

impl Cgroup {
    /// Its path in its hierarchy, as in /proc/PID/cgroup.
    pub fn path(&self, session: &Session) -> Result<String> {
        let mut parts = Vec::new();
        let mut at = self.node;
        loop {
            let node: Node = session.view(at)?;
            if node.parent == 0 {
                break;
            }
            parts.push(session.cstr(node.name, 256)?);
            at = node.parent;
            if parts.len() > MAX_DEPTH {
                return Err(Error::Corrupt { addr: self.node, what: "cgroup whose parents do not end".into() });
            }
        }
        parts.push(String::new());
        parts.reverse();
        Ok(if parts.len() == 1 { "/".to_owned() } else { parts.join("/") })
    }

    /// The number of its directory, by which cgroupfs and bpf know it.
    pub fn id(&self, session: &Session) -> Result<u64> {
        Ok(session.view::<Node>(self.node)?.id)
    }

    /// How many threads are in it, those in groups below not counted; the leaders that have exited, whose other threads
    /// live, neither.
    pub fn threads(&self, session: &Session) -> Result<u64> {
        let mut count = 0u64;
        let (link, cset, tasks) = (
            session.offset("cgrp_cset_link", "cset_link")?,
            session.offset("cgrp_cset_link", "cset")?,
            session.offset("css_set", "nr_tasks")?,
        );
        list::list(session, self.cset_links.0, link, &mut |at| {
            let set = session.u64(at.wrapping_add(cset))?;
            count += u64::from(session.u32(set.wrapping_add(tasks))?);
            Ok(())
        })?;
        Ok(count)
    }
}

impl Root {
    /// Whether it is that of version 2.
    pub fn is_unified(&self) -> bool {
        self.id == 0
    }

    /// Its controllers, as /proc/PID/cgroup names them; none of version 2, where every group has its own.
    pub fn controllers(&self, session: &Session) -> Vec<String> {
        if self.is_unified() {
            return Vec::new();
        }
        let mut names: Vec<String> = (0..MAX_CONTROLLERS)
            .filter(|bit| self.controllers >> bit & 1 == 1)
            .map(|bit| controller(session, bit).unwrap_or_else(|| bit.to_string()))
            .collect();
        if !self.name.is_empty() {
            names.push(format!("name={}", self.name));
        }
        names
    }
}

/// The old name of a controller by its number, from `cgroup_subsys`, an array of pointers.
fn controller(session: &Session, number: u32) -> Option<String> {
    let at = session.kernel_symbol("cgroup_subsys")?.wrapping_add(8 * u64::from(number));
    let subsys = session.u64(at).ok()?;
    let name = session.u64(subsys.wrapping_add(session.offset("cgroup_subsys", "legacy_name").ok()?)).ok()?;
    session.cstr(name, 32).ok()
}

/// The groups of a task, one for each hierarchy: highest number first, version 2 last, as in /proc/PID/cgroup.
pub fn of_task(session: &Session, task: u64) -> Result<Vec<u64>> {
    let set = session.u64(task.wrapping_add(session.offset("task_struct", "cgroups")?))?;
    let mut found = Vec::new();
    let mut add = |cgroup: u64| {
        let root = session.view::<Cgroup>(cgroup).and_then(|view| session.view::<Root>(view.root));
        match root {
            Ok(root) => found.push((root.id, cgroup)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(cgroup, format!("cgroup: {}", e.kind())),
        }
        Ok(())
    };
    let (link, cgrp) = (session.offset("cgrp_cset_link", "cgrp_link")?, session.offset("cgrp_cset_link", "cgrp")?);
    let head = set.wrapping_add(session.offset("css_set", "cgrp_links")?);
    list::list(session, head, link, &mut |at| add(session.u64(at.wrapping_add(cgrp))?))?;
    found.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    found.dedup();
    Ok(found.into_iter().map(|(_, cgroup)| cgroup).collect())
}

/// Visits every hierarchy: version 2 and those that are mounted. The first task is in each, should their list not be
/// known.
pub fn roots(session: &Session, visit: Visit<'_>) -> Result<()> {
    let link = session.offset("cgroup_root", "root_list")?;
    match session.kernel_symbol("cgroup_roots") {
        Some(head) => list::list(session, head, link, visit),
        None => of_task(session, session.symbol("init_task")?)?
            .into_iter()
            .try_for_each(|cgroup| visit(session.view::<Cgroup>(cgroup)?.root)),
    }
}

/// Visits a group and all below it, parents first.
pub fn below(session: &Session, top: u64, visit: Visit<'_>) -> Result<()> {
    let sibling = session.offset("cgroup_subsys_state", "sibling")?;
    let (mut waiting, mut seen) = (vec![top], HashSet::new());
    while let Some(cgroup) = waiting.pop() {
        if !seen.insert(cgroup) {
            session.notes.add(cgroup, "cgroup that is its own descendant");
            continue;
        }
        visit(cgroup)?;
        let first = waiting.len();
        let listed = session.view::<Cgroup>(cgroup).and_then(|view| {
            list::list(session, view.children.0, sibling, &mut |child| {
                waiting.push(child);
                Ok(())
            })
        });
        match listed {
            Err(e) if e.is_unreadable() => session.notes.add(cgroup, format!("cgroup: {}", e.kind())),
            result => result?,
        }
        if let Some(new) = waiting.get_mut(first..) {
            new.reverse();
        }
    }
    Ok(())
}

/// Visits every group of every hierarchy.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    roots(session, &mut |root| {
        let root: Root = session.view(root)?;
        below(session, root.top.0, visit)
    })
}

/// Walks groups.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "cgroup",
    doc: "walk the control groups: the struct cgroup at the address and all below it, or all",
    item: "struct cgroup",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(at) => below(cx, at.addr, visit),
        None => each(cx, visit),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Cgroup>(), ViewEntry::of::<Root>(), ViewEntry::of::<Node>()];
