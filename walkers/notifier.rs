//! Chains of notifiers: who is told when something happens (include/linux/notifier.h).
//!
//! A chain is a list of `struct notifier_block`, those with the highest priority first. Its head is one of four structs,
//! by the lock it has; which one, the type of the variable tells, or, where that is not known, where in the first words a
//! pointer leads to blocks that could be a chain.
//!
//! ```console
//! > panic_notifier_list::walk notifier | ::print struct notifier_block notifier_call
//! notifier_call = trace_die_panic_handler
//! notifier_call = rcu_panic
//! notifier_call = hung_task_panic
//! notifier_call = dump_kernel_offset
//! notifier_call = led_trigger_panic_notifier
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};

/// `struct notifier_block`.
#[derive(View, Clone, Debug)]
#[ctype("notifier_block")]
pub struct Block {
    /// its address
    #[addr]
    pub addr: u64,
    /// what is called
    #[field("notifier_call")]
    pub function: u64,
    /// those with more come first
    pub priority: i32,
}

/// Heads of chains.
const HEADS: &[&str] = &["atomic_notifier_head", "blocking_notifier_head", "raw_notifier_head", "srcu_notifier_head"];

/// What the names of chains end in.
const ENDINGS: &[&str] =
    &["_notifier_list", "_notify_list", "_chain", "_chain_head", "_notifier_chain", "_notif_chain"];
/// A few that end otherwise.
const OTHERS: &[&str] = &["restart_handler_list", "task_exit_notifier", "munmap_notifier", "power_off_handler_list"];

/// The chains of the kernel and its modules, by the names of their variables.
pub fn chains(session: &Session) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    if let Some(kernel) = session.symbols.kernel() {
        kernel.each(&mut |symbol| {
            let named = ENDINGS.iter().any(|end| symbol.name.ends_with(end)) || OTHERS.contains(&symbol.name.as_str());
            let data = matches!(symbol.kind, engine::debuginfo::SymbolKind::Data);
            if named && data {
                found.push((symbol.name, symbol.addr));
            }
            true
        });
    }
    found.retain(|(_, at)| head(session, Object { addr: *at, ctype: None }).is_some());
    found.sort();
    found
}

/// Where the pointer to the first block of a chain is.
fn head(session: &Session, object: Object) -> Option<u64> {
    let at = |ctype: &str| Some(object.addr.wrapping_add(session.offset(ctype, "head").ok()?));
    if let Some(ctype) = object.ctype
        && let Some(head) = HEADS.iter().find(|head| session.struct_type(head) == Some(session.types.strip(ctype)))
    {
        return at(head);
    }
    let room = session.symbols.by_addr(session, object.addr).filter(|s| s.addr == object.addr).map_or(64, |s| s.size);
    let fits = |head: &&&str| session.size_of(head).is_ok_and(|size| size <= room);
    HEADS.iter().filter(fits).find_map(|head| at(head).filter(|at| is_chain(session, *at)))
}

/// Whether a pointer leads to a block: its function is one, and the next is none or a pointer.
fn is_chain(session: &Session, head: u64) -> bool {
    let Ok(first) = session.u64(head) else { return false };
    first >> 63 == 1 && is_block(session, first)
}

fn is_block(session: &Session, at: u64) -> bool {
    let Ok(block) = session.view::<Block>(at) else { return false };
    let symbol = session.symbols.by_addr(session, block.function);
    symbol.is_some_and(|s| s.addr == block.function && s.kind == engine::debuginfo::SymbolKind::Text)
}

/// Visits the blocks of the chain at an object.
pub fn each(session: &Session, object: Object, visit: Visit<'_>) -> Result<()> {
    let head = head(session, object).ok_or_else(|| {
        Error::Usage(format!("at {} is no head of a chain of notifiers, or an empty one", session.sym(object.addr)))
    })?;
    list::chain(session, session.u64(head)?, session.offset("notifier_block", "next")?, visit)
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "notifier",
    doc: "walk the notifiers of the chain whose head is at the address",
    item: "struct notifier_block",
    address: Address::Required,
    walk: |cx, at, visit| {
        let at = at.ok_or_else(|| Error::Usage("a chain of notifiers is walked from its head".into()))?;
        each(cx, engine::cprint::typed(cx, at), visit)
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Block>()];
