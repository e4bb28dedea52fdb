//! All symbols of a session: the kernel's own table, then every module's, loaded when first needed.

use crate::{lost, notes::Noted, session::Session};
use debuginfo::{Symbol, SymbolKind, SymbolSource, dwarf::Dwarf};
use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A loaded module, as the walker room finds it.
#[derive(Default)]
pub struct Module {
    /// its name
    pub name: Arc<str>,
    /// address of its `struct module`
    pub addr: u64,
    /// memory it occupies
    pub ranges: Vec<Range<u64>>,
    /// its symbol table; `None` if it could not be read
    pub symbols: Option<Box<dyn SymbolSource>>,
    /// whether the kernel has BTF of it
    pub typed: bool,
    /// what its debug file says, once that was looked for: see [`Session::module_dwarf`]
    pub dwarf: OnceLock<Option<Arc<Dwarf>>>,
}

/// Every symbol table of a session.
#[derive(Default)]
pub struct Symbols {
    kernel: Option<Arc<dyn SymbolSource>>,
    modules: Loaded,
    private: RwLock<BTreeMap<String, Symbol>>,
    distance: AtomicU64,
}

/// The modules as they were when they were looked at. A running kernel loads and unloads some: then they are looked at
/// anew, while what was known before stays where it is for those who still hold it.
#[derive(Default)]
struct Loaded {
    /// with what was noted when they were looked for
    modules: OnceLock<(Vec<Module>, Noted)>,
    /// what the target said of which modules there are
    stamp: OnceLock<u64>,
    next: OnceLock<Box<Loaded>>,
}

impl Loaded {
    fn latest(&self) -> &Loaded {
        let mut latest = self;
        while let Some(next) = latest.next.get() {
            latest = next;
        }
        latest
    }
}

thread_local! {
    /// Set while this thread loads modules: what the loader itself asks must be answered by the kernel alone.
    static LOADING: Cell<bool> = const { Cell::new(false) };
}

impl Symbols {
    /// Symbols with the kernel's table, if there is one.
    pub fn new(kernel: Option<Arc<dyn SymbolSource>>) -> Symbols {
        Symbols { kernel, ..Symbols::default() }
    }

    /// The kernel's own table.
    pub fn kernel(&self) -> Option<&Arc<dyn SymbolSource>> {
        self.kernel.as_ref()
    }

    /// How far from its start a symbol still names an address; 0, mdb's smart mode: as far as the symbol reaches.
    pub fn distance(&self) -> u64 {
        self.distance.load(Ordering::Relaxed)
    }

    /// Sets the [`distance`](Self::distance).
    pub fn set_distance(&self, bytes: u64) {
        self.distance.store(bytes, Ordering::Relaxed);
    }

    /// Names an address, as `::nmadd` does.
    pub fn add_private(&self, name: &str, addr: u64, size: u64, kind: SymbolKind) {
        // the letter of a global symbol that is absolute
        let symbol = Symbol { name: name.to_owned(), addr, size, kind, letter: 'A', module: None };
        self.private.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), symbol);
    }

    /// Forgets a private name; false if there was none.
    pub fn remove_private(&self, name: &str) -> bool {
        self.private.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// The private names.
    pub fn private(&self) -> Vec<Symbol> {
        self.private.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The loaded modules.
    pub fn modules(&self, session: &Session) -> &[Module] {
        let latest = self.modules.latest();
        if let Some((found, noted)) = latest.modules.get() {
            session.notes.again(noted);
            return found;
        }
        if LOADING.replace(true) {
            return &[];
        }
        let before = session.notes.snapshot();
        let loaded = (session.registry.modules)(session);
        LOADING.set(false);
        // what Ctrl-C cut short must not be taken for the whole by the commands to come
        match session.interrupt.is_set() {
            true => &[],
            false => &latest.modules.get_or_init(|| (loaded, session.notes.since(&before))).0,
        }
    }

    /// Looks at the modules anew when next asked if `stamp`, which says which ones are loaded, is not as before.
    pub(crate) fn renew(&self, stamp: u64) {
        let latest = self.modules.latest();
        if *latest.stamp.get_or_init(|| stamp) != stamp {
            let next = Box::new(Loaded { stamp: stamp.into(), ..Loaded::default() });
            // one thread runs commands; were there others, one of them would have done the same
            let _ = latest.next.set(next);
        }
    }

    /// Address of a symbol of the kernel proper.
    pub fn kernel_address(&self, name: &str) -> Option<u64> {
        Some(self.kernel.as_ref()?.by_name(name).first()?.addr)
    }

    /// Address of a symbol: private names, the kernel, then modules in load order.
    pub fn address(&self, session: &Session, name: &str) -> Option<u64> {
        self.by_name(session, name).first().map(|s| s.addr)
    }

    /// All symbols of a name.
    pub fn by_name(&self, session: &Session, name: &str) -> Vec<Symbol> {
        if let Some(own) = self.private.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return vec![own.clone()];
        }
        let mut found = self.kernel.as_ref().map(|k| k.by_name(name)).unwrap_or_default();
        if self.kernel.is_none() {
            lost::no_symbols(&session.notes, name);
        }
        if found.is_empty() {
            for table in self.modules(session).iter().filter_map(|m| m.symbols.as_ref()) {
                found.extend(table.by_name(name));
            }
        }
        found
    }

    /// A symbol of one module; `vmlinux` and `kernel` mean the kernel proper.
    pub fn in_module(&self, session: &Session, module: &str, name: &str) -> Option<u64> {
        if matches!(module, "vmlinux" | "kernel") {
            return self.kernel_address(name);
        }
        let module = self.modules(session).iter().find(|m| &*m.name == module)?;
        Some(module.symbols.as_ref()?.by_name(name).first()?.addr)
    }

    /// The symbol that covers an address.
    pub fn by_addr(&self, session: &Session, addr: u64) -> Option<Symbol> {
        let found = self.covering(session, addr)?;
        let distance = self.distance();
        (distance == 0 || addr.wrapping_sub(found.addr) < distance).then_some(found)
    }

    fn covering(&self, session: &Session, addr: u64) -> Option<Symbol> {
        let private = self.private.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = private.values().find(|s| addr >= s.addr && addr - s.addr < s.size.max(1)) {
            return Some(own.clone());
        }
        drop(private);
        if let Some(found) = self.kernel.as_ref().and_then(|k| k.by_addr(addr)) {
            return Some(found);
        }
        let module = self.module_at(session, addr)?;
        module.symbols.as_ref()?.by_addr(addr).filter(|s| s.addr <= addr)
    }

    /// The module whose memory an address is in.
    pub fn module_at(&self, session: &Session, addr: u64) -> Option<&Module> {
        // user addresses are never a module's
        if addr < 1 << 63 {
            return None;
        }
        self.modules(session).iter().find(|m| m.ranges.iter().any(|r| r.contains(&addr)))
    }

    /// `symbol+0x1c`, ``module`symbol+0x1c``.
    pub fn format(&self, session: &Session, addr: u64) -> Option<String> {
        Some(spell(&self.by_addr(session, addr)?, addr))
    }
}

/// An address by a symbol below it: `symbol+0x1c`, ``module`symbol+0x1c``.
pub(crate) fn spell(symbol: &Symbol, addr: u64) -> String {
    let mut text = match &symbol.module {
        Some(module) => format!("{module}`{}", symbol.name),
        None => symbol.name.clone(),
    };
    let offset = addr.wrapping_sub(symbol.addr);
    if offset != 0 {
        // mdb's rule: a prefix only where the digits could be misread
        text.push_str(&if offset > 9 { format!("+{offset:#x}") } else { format!("+{offset}") });
    }
    text
}
