//! Who was born to whom: `::ptree`.
//!
//! ```console
//! > 0t182::pid2task | ::ptree
//! ADDR             PID S NAME
//! ff2ee9c204218000   1 S init
//! ff2ee9c2048b4300 165 S   actors
//! ff2ee9c2053a8000 181 S     lab_child
//! ff2ee9c2053ac300 182 S       lab_grand1
//! ff2ee9c2053a2100 183 S         lab_grand2
//! ```

use engine::prelude::*;
use std::collections::{HashMap, HashSet};
use walkers::task::{self, Task};

/// Show the processes as a tree; with the address of a task, only those above and below it.
#[derive(Args)]
pub struct Ptree {
    /// show every thread
    #[arg(short = 't')]
    threads: bool,
    /// only those above: who it was born to
    #[arg(short = 'p')]
    parents: bool,
}

/// A process in its place.
#[derive(Row)]
struct PtreeRow {
    /// address of its task
    addr: Object,
    /// process id; of a thread its own
    pid: i32,
    /// what it is doing
    s: String,
    /// how deep it is in the tree
    #[hidden]
    depth: usize,
    /// its name, two columns further in than its parent's
    name: String,
}

/// All processes, each with its parent, a leader.
struct Tree {
    tasks: HashMap<u64, Task>,
    children: HashMap<u64, Vec<u64>>,
    /// in the order of their birth
    order: Vec<u64>,
}

impl Tree {
    fn read(cx: &Cx<'_>) -> Result<Tree> {
        let mut tree = Tree { tasks: HashMap::new(), children: HashMap::new(), order: Vec::new() };
        task::leaders(cx, &mut |leader| {
            match cx.view::<Task>(leader) {
                Ok(task) => {
                    tree.tasks.insert(leader, task);
                    tree.order.push(leader);
                }
                Err(e) if e.is_control() => return Err(e),
                Err(e) => cx.notes.add(leader, format!("task: {}", e.kind())),
            }
            Ok(())
        })?;
        for leader in &tree.order {
            if let Some(parent) = tree.parent(*leader) {
                tree.children.entry(parent).or_default().push(*leader);
            }
        }
        Ok(tree)
    }

    /// The leader of the process that a process was born to, if that is one of them.
    fn parent(&self, leader: u64) -> Option<u64> {
        let parent = self.tasks.get(&leader)?.real_parent;
        Some(parent).filter(|parent| *parent != leader && self.tasks.contains_key(parent))
    }

    /// A process and those above it, topmost first.
    fn line(&self, leader: u64) -> Vec<u64> {
        let (mut line, mut seen, mut at) = (Vec::new(), HashSet::new(), Some(leader));
        while let Some(leader) = at.filter(|at| seen.insert(*at)) {
            line.push(leader);
            at = self.parent(leader);
        }
        line.reverse();
        line
    }
}

impl Ptree {
    fn row(&self, cx: &Cx<'_>, tree: &Tree, leader: u64, depth: usize, out: &mut Out<'_>) -> Result<()> {
        let row = |task: &Task, depth: usize| PtreeRow {
            addr: cx.object("task_struct", task.addr),
            pid: task.pid,
            s: task.state().to_string(),
            depth,
            name: format!("{}{}", "  ".repeat(depth), task.name(cx)),
        };
        let Some(task) = tree.tasks.get(&leader) else { return Ok(()) };
        out.row(row(task, depth))?;
        if !self.threads {
            return Ok(());
        }
        task::threads_of(cx, leader, &mut |thread| match cx.view::<Task>(thread) {
            Ok(task) if thread != leader => out.row(row(&task, depth + 1)),
            Err(e) if e.is_control() => Err(e),
            _ => Ok(()),
        })
    }

    /// Shows what is below some processes, and them. Each has one parent, but a dump may have a circle of them.
    fn below(&self, cx: &Cx<'_>, tree: &Tree, from: Vec<(u64, usize)>, out: &mut Out<'_>) -> Result<HashSet<u64>> {
        let (mut waiting, mut seen) = (from, HashSet::new());
        waiting.reverse();
        while let Some((leader, depth)) = waiting.pop() {
            if !seen.insert(leader) {
                continue;
            }
            self.row(cx, tree, leader, depth, out)?;
            let below = tree.children.get(&leader).into_iter().flatten().rev();
            waiting.extend(below.map(|child| (*child, depth + 1)));
        }
        Ok(seen)
    }
}

impl Dcmd for Ptree {
    const NAME: &'static str = "ptree";
    const ROWS: &'static [&'static engine::Schema] = &[PtreeRow::SCHEMA];
    const PASSES: &'static str = "struct task_struct";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let tree = Tree::read(cx)?;
        let Some(at) = at else {
            let tops = tree.order.iter().filter(|leader| tree.parent(**leader).is_none());
            let seen = self.below(cx, &tree, tops.map(|leader| (*leader, 0)).collect(), out)?;
            // parents that are each other's
            for lost in tree.order.iter().filter(|leader| !seen.contains(leader)) {
                cx.notes.add(*lost, "process that is its own ancestor");
            }
            return Ok(());
        };
        let leader = cx.u64(at.addr.wrapping_add(cx.offset("task_struct", "group_leader")?))?;
        let line = tree.line(leader);
        let Some((own, above)) = line.split_last().filter(|_| tree.tasks.contains_key(&leader)) else {
            return Err(Error::Unavailable(format!("the task at {:#x} is not of any process that lives", at.addr)));
        };
        for (depth, leader) in above.iter().enumerate() {
            self.row(cx, &tree, *leader, depth, out)?;
        }
        match self.parents {
            true => self.row(cx, &tree, *own, above.len(), out),
            false => self.below(cx, &tree, vec![(*own, above.len())], out).map(|_| ()),
        }
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Ptree>()];
