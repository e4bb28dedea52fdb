//! `/proc/kallsyms`: the running kernel's symbols as text, `ffffffff81000000 T _text`. It is the second choice: the
//! kernel takes a tenth of a second to print it, and prints zeros to those who may not see addresses.

use std::collections::HashMap;

use crate::{Symbol, SymbolKind, SymbolSource};

/// The kernel's own symbols of a text, without modules'.
pub struct Listing {
    /// by address
    symbols: Vec<Symbol>,
    /// places in `symbols`, in order of address
    names: HashMap<String, Vec<u32>>,
}

impl Listing {
    /// Reads the text; the error says why it is of no use.
    pub fn parse(text: &str) -> Result<Listing, String> {
        let mut symbols: Vec<Symbol> = text.lines().filter_map(symbol).collect();
        if symbols.is_empty() {
            return Err("there are no kernel symbols in it".into());
        }
        if symbols.iter().all(|symbol| symbol.addr == 0) {
            return Err("all addresses in it are zero: they are hidden (kernel.kptr_restrict, CAP_SYSLOG)".into());
        }
        symbols.sort_by_key(|symbol| symbol.addr);
        let mut next = 0;
        for i in (0..symbols.len()).rev() {
            // the distance to the next symbol elsewhere
            let above = symbols.get(i + 1).map_or(0, |s| s.addr);
            if let Some(symbol) = symbols.get_mut(i) {
                if above != symbol.addr {
                    next = above;
                }
                symbol.size = next.saturating_sub(symbol.addr);
            }
        }
        let mut names: HashMap<String, Vec<u32>> = HashMap::new();
        for (symbol, i) in symbols.iter().zip(0..) {
            names.entry(symbol.name.clone()).or_default().push(i);
        }
        Ok(Listing { symbols, names })
    }
}

fn symbol(line: &str) -> Option<Symbol> {
    let mut fields = line.split_ascii_whitespace();
    let addr = u64::from_str_radix(fields.next()?, 16).ok()?;
    let letter = fields.next()?.chars().next()?;
    let name = fields.next()?.to_owned();
    // then the module it is of, in brackets
    if fields.next().is_some() {
        return None;
    }
    let kind = match letter.to_ascii_lowercase() {
        // small addresses are offsets into the per-CPU area
        'a' | 'd' if addr < 1 << 63 => SymbolKind::PerCpu,
        't' | 'w' => SymbolKind::Text,
        'd' | 'b' | 'r' | 'g' | 's' | 'v' => SymbolKind::Data,
        _ => SymbolKind::Other,
    };
    Some(Symbol { name, addr, size: 0, kind, letter, module: None })
}

impl SymbolSource for Listing {
    fn origin(&self) -> &'static str {
        "/proc/kallsyms"
    }

    fn by_name(&self, name: &str) -> Vec<Symbol> {
        let places = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        places.iter().filter_map(|i| self.symbols.get(*i as usize).cloned()).collect()
    }

    fn by_addr(&self, addr: u64) -> Option<Symbol> {
        let below = self.symbols.partition_point(|s| s.addr <= addr);
        let found = self.symbols.get(below.checked_sub(1)?)?;
        // behind the last symbol is nothing, and per-CPU offsets cover no addresses
        if found.addr < 1 << 63 || (below == self.symbols.len() && found.addr != addr) {
            return None;
        }
        let first = self.symbols.partition_point(|s| s.addr < found.addr);
        self.symbols.get(first).cloned()
    }

    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool) {
        self.symbols.iter().all(|symbol| visit(symbol.clone()));
    }

    fn len(&self) -> usize {
        self.symbols.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "0000000000000000 A fixed_percpu_data\n\
                        0000000000015018 A current_task\n\
                        ffffffff81000000 T _text\n\
                        ffffffff81000000 T _stext\n\
                        ffffffff81000040 t do_one\n\
                        ffffffff82000000 D init_task\n\
                        ffffffff83000000 B _end\n\
                        ffffffffc0001000 t lab_open\t[labmod]\n";

    #[test]
    fn a_listing_answers_as_a_table_does() {
        let table = Listing::parse(TEXT).unwrap();
        assert_eq!(table.len(), 7, "a module's symbol is not the kernel's");
        let stext = &table.by_name("_stext")[0];
        assert_eq!((stext.addr, stext.size, stext.kind), (0xffff_ffff_8100_0000, 0x40, SymbolKind::Text));
        assert_eq!(table.by_addr(0xffff_ffff_8100_0010).unwrap().name, "_text", "the first of its names");
        assert_eq!(table.by_addr(0xffff_ffff_8100_0041).unwrap().name, "do_one");
        assert_eq!(table.by_addr(0xffff_ffff_9000_0000), None);
        assert_eq!(table.by_addr(0x15019), None);
        assert_eq!(table.by_name("current_task")[0].kind, SymbolKind::PerCpu);
    }

    #[test]
    fn hidden_addresses_are_named_so() {
        let why = Listing::parse("0000000000000000 T _text\n0000000000000000 D init_task\n").err().unwrap();
        assert!(why.contains("kptr_restrict"), "{why}");
    }
}
