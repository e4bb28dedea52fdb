//! A symbol table together with symbols that it lacks and that were found out otherwise.
//!
//! A kernel built without CONFIG_KALLSYMS_ALL has only its functions in kallsyms. Where its variables are is then told
//! by VMCOREINFO, by BTF, or by the code that uses them.

use std::sync::Arc;

use crate::{Symbol, SymbolSource};

/// The table and what was added to it.
pub struct Added {
    table: Arc<dyn SymbolSource>,
    /// by address
    added: Vec<Symbol>,
}

impl Added {
    /// Adds to `table` those symbols whose names it does not have.
    pub fn new(table: Arc<dyn SymbolSource>, mut added: Vec<Symbol>) -> Added {
        added.retain(|symbol| table.by_name(&symbol.name).is_empty());
        added.sort_by(|a, b| (a.addr, &a.name).cmp(&(b.addr, &b.name)));
        added.dedup_by(|a, b| a.name == b.name);
        Added { table, added }
    }
}

impl SymbolSource for Added {
    fn origin(&self) -> &'static str {
        "kallsyms, and data found otherwise"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let found = self.table.by_name(name);
        if found.is_empty() { self.added.iter().filter(|s| s.name == name).cloned().collect() } else { found }
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let below = self.added.partition_point(|s| s.addr <= addr);
        let at = below.checked_sub(1).and_then(|i| self.added.get(i)).map_or(0, |s| s.addr);
        let first = self.added.partition_point(|s| s.addr < at);
        let covers = |s: &&Symbol| addr - s.addr < s.size.max(1);
        let added = self.added.get(first..below).unwrap_or_default().iter().find(covers);
        match (self.table.by_addr(addr), added) {
            (Some(known), Some(added)) if known.addr >= added.addr => Some(known),
            (_, Some(added)) => Some(added.clone()),
            (known, None) => known,
        }
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        let mut more = true;
        self.table.each(&mut |symbol| {
            more = visit(symbol);
            more
        });
        if more {
            self.added.iter().all(|symbol| visit(symbol.clone()));
        }
    }

    fn by_prefix(&self, prefix: &str, limit: usize) -> Vec<String> {
        let mut names = self.table.by_prefix(prefix, limit);
        let added = self.added.iter().filter(|s| s.name.starts_with(prefix)).map(|s| s.name.clone());
        names.extend(added.take(limit.saturating_sub(names.len())));
        names
    }

    fn len(&self) -> usize {
        self.table.len() + self.added.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SymbolKind;

    fn symbol(name: &str, addr: u64, size: u64) -> Symbol {
        Symbol { name: name.into(), addr, size, kind: SymbolKind::Data, letter: 'd', module: None }
    }

    struct Table(Vec<Symbol>);
    impl SymbolSource for Table {
        fn by_name(&self, name: &str) -> Vec<Symbol> {
            self.0.iter().filter(|s| s.name == name).cloned().collect()
        }
        fn by_addr(&self, addr: u64) -> Option<Symbol> {
            self.0.iter().rfind(|s| s.addr <= addr).cloned()
        }
        fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
            self.0.iter().all(|s| visit(s.clone()));
        }
        fn len(&self) -> usize {
            self.0.len()
        }
    }

    #[test]
    fn the_table_comes_first() {
        let table = Arc::new(Table(vec![symbol("_stext", 0x1000, 0), symbol("__start_once", 0x5000, 0)]));
        let found = Added::new(
            table,
            vec![symbol("jiffies", 0x5100, 8), symbol("_stext", 0x1, 8), symbol("jiffies_64", 0x5100, 8)],
        );
        assert_eq!(found.len(), 4);
        assert_eq!(found.by_name("_stext").first().map(|s| s.addr), Some(0x1000));
        let name = |addr| found.by_addr(addr).map(|s| s.name);
        assert_eq!(name(0x5104).as_deref(), Some("jiffies"));
        assert_eq!(name(0x5108).as_deref(), Some("__start_once"), "what was added covers no more than its size");
        assert_eq!(name(0x2000).as_deref(), Some("_stext"));
        assert_eq!(found.by_prefix("jiff", 9), ["jiffies", "jiffies_64"]);
    }
}
