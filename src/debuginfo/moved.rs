//! The symbols of a kernel's file, at the addresses where that kernel ran.

use crate::symbols::{Symbol, SymbolSource};

/// Addresses from here up are moved by KASLR; those below are offsets into the per-CPU area, or absolute values.
const KERNEL_HALF: u64 = 1 << 63;

/// A table of link addresses, moved.
pub struct Moved<S> {
    table: S,
    by: u64,
}

impl<S: SymbolSource> Moved<S> {
    /// `by` bytes up, modulo 2^64.
    pub fn new(table: S, by: u64) -> Moved<S> {
        Moved { table, by }
    }

    fn moved(&self, symbol: Symbol) -> Symbol {
        match symbol.addr {
            addr if addr >= KERNEL_HALF => Symbol { addr: addr.wrapping_add(self.by), ..symbol },
            _ => symbol,
        }
    }
}

impl<S: SymbolSource> SymbolSource for Moved<S> {
    fn origin(&self) -> &'static str {
        "kallsyms of the kernel's file"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        self.table.by_name(name).into_iter().map(|symbol| self.moved(symbol)).collect()
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        self.table.by_addr(addr.wrapping_sub(self.by)).map(|symbol| self.moved(symbol))
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        self.table.each(&mut |symbol| visit(self.moved(symbol)));
    }

    fn by_prefix(&self, prefix: &str, limit: usize) -> Vec<String> {
        self.table.by_prefix(prefix, limit)
    }

    fn len(&self) -> usize {
        self.table.len()
    }
}
