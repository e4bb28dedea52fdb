//! What a symbol is, wherever it came from: kallsyms, a module's symbol table, an ELF file.

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// code
    Text,
    /// initialised, read-only or zeroed data
    Data,
    /// an offset into the per-CPU area
    PerCpu,
    /// an absolute value, or something else
    Other,
}

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// as the kernel spells it
    pub name: String,
    /// virtual address after relocation (for [`SymbolKind::PerCpu`]: as kallsyms gives it)
    pub addr: u64,
    /// in bytes: what the source says, else the distance to the next symbol; 0 if neither is known
    pub size: u64,
    /// what it names
    pub kind: SymbolKind,
    /// `nm`'s letter: capital for global, small for local
    pub letter: char,
    /// the module it belongs to; `None` for the kernel proper
    pub module: Option<std::sync::Arc<str>>,
}

/// One table of symbols. Look-ups must not decode the whole table where the format allows it.
pub trait SymbolSource: Send + Sync {
    /// Where the table comes from, in a word or two.
    fn origin(&self) -> &'static str {
        "symbol table"
    }
    /// All symbols of that name, in address order.
    fn by_name(&self, name: &str) -> Vec<Symbol>;
    /// The symbol that covers `addr`: the last one at or below it, first alias first. `None` outside the table's range.
    fn by_addr(&self, addr: u64) -> Option<Symbol>;
    /// Visits every symbol in table order until `visit` returns false.
    fn each(&self, visit: &mut dyn FnMut(Symbol) -> bool);
    /// Names that begin with `prefix`, at most `limit`, in no order that matters.
    fn by_prefix(&self, prefix: &str, limit: usize) -> Vec<String> {
        let mut names = Vec::new();
        self.each(&mut |symbol| {
            if names.len() < limit && symbol.name.starts_with(prefix) {
                names.push(symbol.name);
            }
            names.len() < limit
        });
        names
    }
    /// Number of symbols.
    fn len(&self) -> usize;
    /// Whether the table has no symbols.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
