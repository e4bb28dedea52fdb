//! Objects that look leaked and are not: what refers to them is no address of theirs.
//!
//! Each is known by its type, never by its address or by where it was allocated. What the kernel's own leak detector is
//! told to ignore (`kmemleak_ignore()`, `kmemleak_not_leak()`) is where to look for more of them.

use super::leaks::{Edges, Leak};
use engine::{ViewEntry, prelude::*};
use std::collections::HashMap;

/// Why an object that nothing refers to is no leak.
#[derive(Debug)]
pub struct Reason {
    /// in words
    pub text: &'static str,
    /// whether an object is of this kind
    is: fn(&Session, &Leak) -> Result<bool>,
}

/// All that is known.
static REASONS: &[Reason] = &[
    Reason {
        text: "header of an empty sysctl directory, which is there for good: nobody keeps its address",
        is: is_sysctl_directory,
    },
    Reason {
        text: "header of the kernel's own sysctl tables, which are there for good: nobody keeps its address",
        is: is_sysctl_base,
    },
];

/// Gives each leak that is none its reason, and the same to all that such objects refer to.
pub(super) fn explain(session: &Session, leaks: &mut [Leak], edges: &Edges) -> Result<()> {
    let mut known: HashMap<u32, &'static Reason> = HashMap::new();
    for leak in leaks.iter() {
        for reason in REASONS {
            match (reason.is)(session, leak) {
                Ok(true) => _ = known.insert(leak.node, reason),
                Err(e) if e.is_control() => return Err(e),
                // without the types, or the bytes, it is not known
                Ok(false) | Err(_) => {}
            }
        }
    }
    let mut open: Vec<(u32, &'static Reason)> = known.iter().map(|(node, reason)| (*node, *reason)).collect();
    while let Some((node, reason)) = open.pop() {
        for to in edges.get(&node).into_iter().flatten() {
            known.entry(*to).or_insert_with(|| {
                open.push((*to, reason));
                reason
            });
        }
    }
    leaks.iter_mut().for_each(|leak| leak.reason = known.get(&leak.node).copied());
    Ok(())
}

/// `struct ctl_table_header` (include/linux/sysctl.h): a table of sysctls that was registered.
#[derive(View)]
#[ctype("ctl_table_header")]
struct SysctlHeader {
    ctl_table_arg: u64,
    root: u64,
    set: u64,
    parent: u64,
}

/// A header with sysctls is in the tree of its directory. One without is in none: `fs/binfmt_misc` and `user` exist only
/// so that others may add to them or mount there, and their headers are forgotten (fs/proc/proc_sysctl.c).
fn is_sysctl_directory(session: &Session, leak: &Leak) -> Result<bool> {
    let (size, set) = (session.size_of("ctl_table_header")?, session.offset("ctl_table_root", "default_set")?);
    if leak.size < size {
        return Ok(false);
    }
    let header: SysctlHeader = session.view(leak.addr)?;
    // `&root->default_set` is what the kernel's own tables are registered in
    let root = header.root >> 63 == 1 && header.set == header.root.wrapping_add(set);
    Ok(root && header.parent != 0)
}

/// In older kernels (to about Linux 6.4) a tree of tables could be registered at once: then the header is one of its own, with
/// pointers to those of the tables behind it, and the kernel's own is forgotten (`sysctl_init_bases`). One of a module
/// would be a leak: its table is not in the kernel's image.
fn is_sysctl_base(session: &Session, leak: &Leak) -> Result<bool> {
    let size = session.size_of("ctl_table_header")?;
    if leak.size < size + 8 {
        return Ok(false);
    }
    let header: SysctlHeader = session.view(leak.addr)?;
    let own = session.target.kernel_layout().is_ok_and(|layout| layout.image.contains(&header.ctl_table_arg));
    if !own || header.root != 0 || header.parent != 0 {
        return Ok(false);
    }
    let first: SysctlHeader = session.view(session.u64(leak.addr.wrapping_add(size))?)?;
    Ok(first.set == first.root.wrapping_add(session.offset("ctl_table_root", "default_set")?))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<SysctlHeader>()];
