//! Two symbol tables of one kernel: its own, which has functions only (CONFIG_KALLSYMS_ALL is not set), and a vmlinux's.
//!
//! Functions are named as the kernel names them itself, so that a stack reads as it would in its log: of several names of
//! one address the tables prefer different ones. All else comes from the vmlinux.

use std::sync::Arc;

use crate::symbols::{Symbol, SymbolKind, SymbolSource};

/// The two as one.
pub struct Joined {
    functions: Arc<dyn SymbolSource>,
    all: Arc<dyn SymbolSource>,
}

impl Joined {
    /// `functions` are preferred, `all` has them too.
    pub fn new(functions: Arc<dyn SymbolSource>, all: Arc<dyn SymbolSource>) -> Joined {
        Joined { functions, all }
    }

    /// Whether `functions` speaks for a symbol of `all`.
    fn is_function(&self, symbol: &Symbol) -> bool {
        symbol.kind == SymbolKind::Text && !self.functions.by_name(&symbol.name).is_empty()
    }
}

impl SymbolSource for Joined {
    fn origin(&self) -> &'static str {
        "kallsyms and vmlinux"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let found = self.functions.by_name(name);
        if found.is_empty() { self.all.by_name(name) } else { found }
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let symbol = self.all.by_addr(addr)?;
        let own = self.functions.by_addr(addr).filter(|own| own.addr == symbol.addr);
        Some(own.unwrap_or(symbol))
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        let mut more = true;
        self.functions.each(&mut |symbol| {
            more = visit(symbol);
            more
        });
        if more {
            self.all.each(&mut |symbol| self.is_function(&symbol) || visit(symbol));
        }
    }

    fn len(&self) -> usize {
        let mut len = 0;
        self.each(&mut |_| {
            len += 1;
            true
        });
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<(&'static str, u64, SymbolKind)>);

    impl Table {
        fn symbol(&(name, addr, kind): &(&str, u64, SymbolKind)) -> Symbol {
            Symbol { name: name.into(), addr, size: 16, kind, letter: 't', module: None }
        }
    }

    impl SymbolSource for Table {
        fn by_name(&self, name: &str) -> Vec<Symbol> {
            self.0.iter().filter(|s| s.0 == name).map(Table::symbol).collect()
        }
        fn by_addr(&self, addr: u64) -> Option<Symbol> {
            self.0.iter().find(|s| (s.1..s.1 + 16).contains(&addr)).map(Table::symbol)
        }
        fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
            self.0.iter().map(Table::symbol).all(visit);
        }
        fn len(&self) -> usize {
            self.0.len()
        }
    }

    #[test]
    fn functions_by_their_own_names_and_data_by_the_others() {
        use SymbolKind::{Data, Text};
        let own = Table(vec![("do_it", 16, Text), ("__do_it", 16, Text)]);
        let all = Table(vec![("__do_it", 16, Text), ("do_it", 16, Text), ("cold", 32, Text), ("state", 64, Data)]);
        let both = Joined::new(Arc::new(own), Arc::new(all));
        let at = |addr| both.by_addr(addr).map(|s| s.name);
        assert_eq!(
            [at(20), at(40), at(70), at(90)],
            [Some("do_it".into()), Some("cold".into()), Some("state".into()), None]
        );
        assert_eq!(both.by_name("state").len(), 1);
        let mut names = Vec::new();
        both.each(&mut |s| {
            names.push(s.name);
            true
        });
        assert_eq!(names, ["do_it", "__do_it", "cold", "state"]);
        assert_eq!(both.len(), 4);
    }
}
