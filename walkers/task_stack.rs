//! Kernel stacks: which task's stack an address lies in.

use crate::task;
use engine::{ViewEntry, prelude::*};
use std::{ops::Range, sync::Arc};

/// A task's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// its addresses
    pub range: Range<u64>,
    /// the `struct task_struct`
    pub task: u64,
    /// where the stack ends now; `None` of a task that runs, whose stack pointer is in a register
    pub sp: Option<u64>,
}

/// What of a task says where its stack is.
#[derive(View)]
#[ctype("task_struct")]
struct Owner {
    stack: u64,
    #[field("thread.sp", "thread.cpu_context.sp")]
    sp: Option<u64>,
    on_cpu: Option<i32>,
    /// what maps the stack, with CONFIG_VMAP_STACK
    stack_vm_area: Option<u64>,
}

/// `THREAD_SIZE` without KASAN, where nothing better is known; a page if that is larger. It is a macro: it can be told by
/// the size of `union thread_union`, which not every kernel's types have, or by how much memory is mapped for a stack.
const THREAD_SIZE: u64 = 1 << 14;
/// Larger than any stack.
const MAX_SIZE: u64 = 1 << 20;

impl Owner {
    fn mapped_bytes(&self, session: &Session) -> Option<u64> {
        let area = self.stack_vm_area.filter(|at| *at != 0)?;
        let pages = session.u32(area.wrapping_add(session.offset("vm_struct", "nr_pages").ok()?)).ok()?;
        let bytes = u64::from(pages) * session.target.page_size();
        (bytes.is_power_of_two() && bytes <= MAX_SIZE).then_some(bytes)
    }
}

/// Every task's stack.
#[derive(Debug, Default)]
pub struct Stacks {
    stacks: Vec<Stack>,
    size: u64,
}

impl Stacks {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<Stacks>> {
        session.once(|| session.settle(|| Stacks::read(session)))
    }

    fn read(session: &Session) -> Result<Stacks> {
        let mut size = session.size_of("thread_union").ok();
        let mut stacks = Vec::new();
        task::threads(session, &mut |task| {
            match session.view::<Owner>(task) {
                Ok(owner) if owner.stack != 0 => {
                    let sp = owner.sp.filter(|_| owner.on_cpu == Some(0));
                    size = size.or_else(|| owner.mapped_bytes(session));
                    stacks.push(Stack { range: owner.stack..owner.stack, task, sp });
                }
                Ok(_) => {}
                Err(e) if e.is_unreadable() => session.notes.add(task, format!("stack of a task: {}", e.kind())),
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
        let size = size.filter(|size| *size > 0).unwrap_or(THREAD_SIZE.max(session.target.page_size()));
        for stack in &mut stacks {
            stack.range.end = stack.range.start.saturating_add(size);
        }
        stacks.sort_unstable_by_key(|s| s.range.start);
        Ok(Stacks { stacks, size })
    }

    /// Bytes of each: `THREAD_SIZE`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Them all, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.iter()
    }

    /// Their addresses.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.stacks.iter().map(|stack| stack.range.clone())
    }

    /// The stack that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&Stack> {
        let next = self.stacks.partition_point(|s| s.range.start <= addr);
        self.stacks.get(next.checked_sub(1)?).filter(|s| s.range.contains(&addr))
    }
}

/// The views of this file, for the test that holds them against kernels.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Owner>()];
