//! Losses said beside the answers that they may have changed.
//!
//! Part of a kernel's symbols or types may not be in the dump. A walker that asks whether this kernel has a structure
//! cannot tell "no" from "lost", and goes on as on a kernel that has it not. So whatever is asked for, not found, and
//! possibly lost is noted where it is asked for, for every walker and dcmd at once:
//!
//! ```text
//! > ::walk printk | ::count
//! COUNT
//!     0
//! note: not found, and maybe lost with the types that are not in the dump: `atomic_long_t`
//! ```
//!
//! So is memory: a read that fails because the dump lacks the page is noted by [`Session::read`](crate::Session::read),
//! and told if no other note tells of a loss.

use crate::{notes::Notes, session::Session};
use debuginfo::{Kallsyms, Missed, Symbol, SymbolSource, Types};
use std::{cell::Cell, sync::Arc};
use targets::{ReadError, Reason, Space};

const MEMORY: &str = "memory that was asked for is not in the dump";
const TYPES: &str = "not found, and maybe lost with the types that are not in the dump";
const SYMBOLS: &str = "not found, and maybe lost with the symbols that are not in the dump";

/// Notes what the types are asked for and may have lost.
pub fn watch_types(types: &Types, notes: &Notes) {
    let notes = notes.clone();
    types.tell_misses(move |missed| match missed {
        Missed::Name(name) => notes.name(TYPES, name),
        Missed::Node => notes.add(0, "a type that others are made of is not in the dump"),
        Missed::List => notes.once(0, "types that are not in the dump are left out"),
    });
}

thread_local! {
    /// Set while it is looked up what is RAM, which reads memory itself.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Notes a read that failed because the dump lacks the page, to be told if no other note tells of a loss. What is a
/// device's never was in a dump, and that programs' pages are not there is nothing new.
#[cold]
pub fn heed(session: &Session, e: &ReadError) {
    if !e.reason.is_loss() || matches!(e.space, Space::User(_)) || ASKING.replace(true) {
        return;
    }
    let is_ram = || match session.target.translate(e.space, e.addr) {
        Ok(place) => (session.registry.is_ram)(session, place.pa),
        // what leads there is not in the dump either
        Err(_) => true,
    };
    if e.reason != Reason::NotInDump || is_ram() {
        session.notes.quietly(e.addr, MEMORY);
    }
    ASKING.set(false);
}

/// Notes that a symbol was asked for where there is no table of them.
pub fn no_symbols(notes: &Notes, name: &str) {
    notes.name("there are no kernel symbols to look in", name);
}

/// A symbol table of which part is lost. Notes what it is asked for and may have lost.
pub struct Holed {
    table: Kallsyms,
    notes: Notes,
}

impl Holed {
    /// Watches over `table`.
    pub fn watch(table: Kallsyms, notes: Notes) -> Arc<dyn SymbolSource> {
        Arc::new(Holed { table, notes })
    }

    fn left_out(&self) {
        self.notes.once(0, "symbols that are not in the dump are left out");
    }
}

impl SymbolSource for Holed {
    fn origin(&self) -> &'static str {
        self.table.origin()
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let found = self.table.by_name(name);
        if found.is_empty() && self.table.may_lack(name) {
            self.notes.name(SYMBOLS, name);
        }
        found
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let found = self.table.by_addr(addr);
        if found.is_none() && self.table.spans(addr) {
            self.notes.add(addr, "the symbol of an address is not in the dump");
        }
        found
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        self.left_out();
        self.table.each(visit);
    }

    fn by_prefix(&self, prefix: &str, limit: usize) -> Vec<String> {
        self.left_out();
        self.table.by_prefix(prefix, limit)
    }

    fn len(&self) -> usize {
        self.table.len()
    }
}
