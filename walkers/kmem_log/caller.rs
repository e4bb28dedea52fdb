//! Whom a transaction was made for: the first frame of its stack outside of the allocator.

use engine::Session;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Functions of the allocator, and helpers that only allocate what their caller asked for, by how their names start.
/// `_noprof` (since Linux 6.10) and numbered clones end them, so starts are what holds over kernels.
const ALLOCATOR: &[&str] = &[
    "___slab_alloc",
    "__do_kmalloc",
    "__kasan_",
    "__kfence_",
    "__kmalloc",
    "__kmem_cache_",
    "__kvmalloc",
    "__slab_",
    "alloc_slab_",
    "allocate_slab",
    "do_kmem_cache_",
    "do_slab_free",
    "kasan_",
    "kasprintf",
    "kcalloc",
    "kfence_",
    "kfree_bulk",
    "kfree_const",
    "kfree_rcu",
    "kfree_sensitive",
    "kmalloc",
    "kmem_cache_",
    "kmemdup",
    "krealloc",
    "kstrdup",
    "kstrndup",
    "kvasprintf",
    "kvfree",
    "kvmalloc",
    "kvrealloc",
    "kzalloc",
    "memdup_user",
    "mempool_",
    "set_track",
    "slab_alloc",
    "slab_free",
    "slab_post_alloc",
    "slab_pre_alloc",
    "stack_trace_save",
    "strndup_user",
    "vmemdup_user",
];

/// Whether a function's name is one of the allocator's.
fn of_allocator(name: &str) -> bool {
    matches!(name, "kfree" | "__kfree") || ALLOCATOR.iter().any(|start| name.starts_with(start))
}

/// Remembers of each return address whether it is in the allocator: a kernel has few that allocate.
#[derive(Default)]
pub struct Callers(Mutex<HashMap<u64, bool>>);

impl Callers {
    /// The first frame outside of the allocator, or the first of all if there is no such.
    pub fn first(&self, session: &Session, stack: &[u64]) -> Option<u64> {
        stack.iter().find(|pc| !self.inside(session, **pc)).or(stack.first()).copied()
    }

    fn inside(&self, session: &Session, pc: u64) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(pc).or_insert_with(|| {
            // the call is in front of the address that it returns to
            session.symbols.by_addr(session, pc.wrapping_sub(1)).is_some_and(|s| of_allocator(&s.name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::of_allocator;

    #[test]
    fn the_allocator_is_told_from_those_who_allocate() {
        for name in [
            "kmalloc_trace",
            "__kmalloc_node_track_caller",
            "krealloc_noprof",
            "kfree",
            "mempool_alloc",
            "kmem_cache_create_usercopy",
            "alloc_slab_obj_exts",
            "kvfree_rcu_bulk",
            "kmemdup_noprof",
            "kstrdup",
        ] {
            assert!(of_allocator(name), "{name}");
        }
        for name in [
            "__alloc_file",
            "__alloc_skb",
            "kfree_skb_reason",
            "slab_debug_trace_open",
            "d_alloc",
            "kernfs_new_node",
            "pcpu_get_vm_areas",
        ] {
            assert!(!of_allocator(name), "{name}");
        }
    }
}
