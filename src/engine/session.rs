//! The session: a target, its symbols and its types, joined. Immutable once open, shared by all threads.
//!
//! Nothing is decoded when a session opens: every table is found or built by the first question that needs it.

use crate::{
    error::{Error, Result},
    interrupt::Interrupt,
    item::Object,
    kernelfile::Used,
    lost,
    modfiles::ModuleFiles,
    notes::{Noted, Notes},
    registry::Registry,
    symbols::Symbols,
    view::{Field, FieldReader, Layout, View, any_struct},
};
use bytes::Bytes;
use debuginfo::{EnumValue, SymbolKind, Tag, Type, TypeId, Types, dwarf::Dwarf};
use std::{
    any::{Any, TypeId as RustType},
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use targets::{CpuRegs, ReadError, Space, Target};

/// A target with its meaning.
pub struct Session {
    /// bytes and registers
    pub target: Arc<Target>,
    /// C types
    pub types: Types,
    /// symbols
    pub symbols: Symbols,
    /// debug information of the kernel's own file, if there is one: lines, inlined frames
    pub dwarf: Option<Arc<Dwarf>>,
    /// the kernel's files that are in use
    pub files: Vec<Used>,
    /// where that of modules may be
    pub module_files: ModuleFiles,
    /// all dcmds and walkers
    pub registry: &'static Registry,
    /// Ctrl-C
    pub interrupt: Interrupt,
    /// what the running command could not use
    pub notes: Notes,
    cache: Mutex<HashMap<RustType, Kept>>,
}

impl Session {
    /// Joins a target with what is known of its meaning.
    pub fn new(target: Arc<Target>, types: Types, symbols: Symbols, registry: &'static Registry) -> Session {
        Session {
            target,
            types,
            symbols,
            dwarf: None,
            files: Vec::new(),
            module_files: ModuleFiles::default(),
            registry,
            interrupt: Interrupt::default(),
            notes: Notes::default(),
            cache: Mutex::default(),
        }
    }

    // ---- memory -------------------------------------------------------------------------------------------------

    /// Fills `buf` from kernel memory.
    #[inline]
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.interrupt.check()?;
        self.heed(self.target.read(Space::Kernel, addr, buf))
    }

    /// Fills `buf` from any space.
    pub fn read_in(&self, space: Space, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.interrupt.check()?;
        self.heed(self.target.read(space, addr, buf))
    }

    /// The bytes at `addr`, without a copy where the dump allows it.
    pub fn bytes(&self, addr: u64, len: usize) -> Result<Bytes> {
        self.interrupt.check()?;
        self.heed(self.target.bytes(Space::Kernel, addr, len))
    }

    /// Notes what the dump lacks, for answers that say nothing of it themselves.
    #[inline]
    fn heed<T>(&self, read: Result<T, ReadError>) -> Result<T> {
        read.map_err(|e| {
            lost::heed(self, &e);
            Error::Read(e)
        })
    }

    /// A little-endian integer of 1 to 8 bytes.
    #[inline]
    pub fn uint(&self, addr: u64, size: usize) -> Result<u64> {
        let mut buf = [0; 8];
        let size = size.min(8);
        self.read(addr, &mut buf[..size])?;
        Ok(u64::from_le_bytes(buf))
    }

    /// A byte.
    pub fn u8(&self, addr: u64) -> Result<u8> {
        Ok(self.uint(addr, 1)? as u8)
    }
    /// Two bytes.
    pub fn u16(&self, addr: u64) -> Result<u16> {
        Ok(self.uint(addr, 2)? as u16)
    }
    /// Four bytes.
    pub fn u32(&self, addr: u64) -> Result<u32> {
        Ok(self.uint(addr, 4)? as u32)
    }
    /// Eight bytes: a `long`, a pointer.
    #[inline]
    pub fn u64(&self, addr: u64) -> Result<u64> {
        self.uint(addr, 8)
    }

    /// A NUL-terminated string of at most `max` bytes; what lies before an unreadable page is kept.
    pub fn cstr(&self, addr: u64, max: usize) -> Result<String> {
        let mut out = Vec::new();
        let mut at = addr;
        while out.len() < max {
            // never cross a page in one read: the next one may be missing
            let mut buf = [0; 64];
            let len = (64 - (at % 64) as usize).min(max - out.len());
            match self.read(at, &mut buf[..len]) {
                Ok(()) => {}
                Err(e) if out.is_empty() || e.is_control() => return Err(e),
                Err(_) => break,
            }
            if let Some(end) = buf[..len].iter().position(|b| *b == 0) {
                out.extend_from_slice(&buf[..end]);
                break;
            }
            out.extend_from_slice(&buf[..len]);
            let Some(next) = at.checked_add(len as u64) else { break };
            at = next;
        }
        Ok(crate::text::decode(&out))
    }

    /// The registers that `<rip` means: of the CPU that crashed.
    pub fn registers(&self) -> Option<&CpuRegs> {
        let cpus = self.target.cpus();
        cpus.get((self.registry.crash_cpu)(self)).or_else(|| cpus.first())
    }

    // ---- symbols ------------------------------------------------------------------------------------------------

    /// The address of a symbol: of the kernel first, then of any module.
    pub fn symbol(&self, name: &str) -> Result<u64> {
        self.symbols.address(self, name).ok_or_else(|| Error::NoSymbol(name.to_owned()))
    }

    /// The address of a symbol of the kernel proper, if there is one. Never loads modules.
    pub fn kernel_symbol(&self, name: &str) -> Option<u64> {
        if self.symbols.kernel().is_none() {
            lost::no_symbols(&self.notes, name);
        }
        self.symbols.kernel_address(name)
    }

    /// `symbol+0x1c` (``module`symbol+0x1c`` in modules), or `None` if nothing covers the address.
    pub fn symbolize(&self, addr: u64) -> Option<String> {
        self.symbols.format(self, addr)
    }

    /// Like [`Session::symbolize`], or the plain number.
    pub fn sym(&self, addr: u64) -> String {
        self.symbolize(addr).unwrap_or_else(|| format!("{addr:#x}"))
    }

    /// The debug information that covers a code address.
    pub fn dwarf_at(&self, addr: u64) -> Option<&Dwarf> {
        if self.symbols.kernel().is_some_and(|kernel| kernel.by_addr(addr).is_some()) {
            return self.dwarf.as_deref();
        }
        let module = self.symbols.module_at(self, addr)?;
        self.module_dwarf(module).map(Arc::as_ref)
    }

    /// The source file of the code at an address, if debug information tells.
    pub fn source_file(&self, addr: u64) -> Option<String> {
        self.dwarf_at(addr)?.frames(addr).ok()?.pop()?.file
    }

    // ---- types --------------------------------------------------------------------------------------------------

    /// A type by its C spelling: the kernel's, or else a module's.
    pub fn ctype(&self, spelling: &str) -> Result<TypeId> {
        let known = self.types.parse(spelling).or_else(|_| {
            // loading the modules adds their types
            self.symbols.modules(self);
            self.types.parse(spelling)
        });
        let known = known.or_else(|_| {
            self.add_missing_types();
            self.types.parse(spelling)
        });
        known.map_err(|_| Error::NoType(spelling.to_owned()))
    }

    /// A struct or union by name, the first of several names that exists.
    pub fn any_type(&self, names: &[&str]) -> Result<TypeId> {
        any_struct(&self.types, names)
    }

    /// A struct or union by name.
    pub fn struct_type(&self, name: &str) -> Option<TypeId> {
        any_struct(&self.types, &[name]).ok()
    }

    /// Whether there is a struct or union of that name.
    pub fn has_struct(&self, name: &str) -> bool {
        self.struct_type(name).is_some()
    }

    /// A member of a struct by its path, if the struct and the member exist.
    pub fn place(&self, ctype: &str, path: &str) -> Option<Field> {
        self.field(self.struct_type(ctype)?, path)
    }

    /// Whether a struct has a member.
    pub fn has_member(&self, ctype: &str, path: &str) -> bool {
        self.place(ctype, path).is_some()
    }

    /// Byte offset of a member.
    pub fn offset(&self, ctype: &str, path: &str) -> Result<u64> {
        let id = self.struct_type(ctype).ok_or_else(|| Error::NoType(format!("struct {ctype}")))?;
        self.field(id, path)
            .map(|f| f.bit_offset / 8)
            .ok_or_else(|| Error::NoMember { ctype: self.types.spell(id), members: vec![path.to_owned()] })
    }

    /// Size of a struct in bytes.
    pub fn size_of(&self, ctype: &str) -> Result<u64> {
        self.struct_type(ctype)
            .and_then(|id| self.types.size_of(id))
            .ok_or_else(|| Error::NoType(format!("struct {ctype}")))
    }

    /// Value of an enumerator.
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.types.enumerator_own(name)
    }

    /// The names and values of an enum, in its order; none if there is no such enum.
    pub fn enumerators(&self, name: &str) -> Vec<EnumValue> {
        let found = self.types.find_own(Tag::Enum, name).into_iter().find_map(|id| self.shape(id));
        match found.as_deref() {
            Some(Type::Enum { values, .. }) => values.to_vec(),
            _ => Vec::new(),
        }
    }

    /// A member by its path in a type.
    pub fn field(&self, ctype: TypeId, path: &str) -> Option<Field> {
        Field::find(&self.types, ctype, path)
    }

    /// What a type is, below typedefs and qualifiers.
    pub fn shape(&self, ctype: TypeId) -> Option<Arc<Type>> {
        self.types.resolve(ctype).map(|(_, node)| node)
    }

    /// The declared type of a global variable: from BTF or DWARF, else from the table of well-known globals, if the
    /// type that table names exists here and fits in front of the next symbol. If the kernel has no such variable, that
    /// of a module.
    pub fn type_of_global(&self, name: &str) -> Option<TypeId> {
        self.types.variable(name).or_else(|| crate::globals::known_type(self, name)).or_else(|| {
            let symbol = self.symbols.by_name(self, name).into_iter().next()?;
            // BTF has no other variables
            if symbol.kind == SymbolKind::PerCpu {
                self.types.miss_variable(name);
            }
            self.type_in_module(&symbol.module?, name)
        })
    }

    /// A typed address.
    pub fn object(&self, ctype: &str, addr: u64) -> Object {
        Object { addr, ctype: self.struct_type(ctype) }
    }

    /// Where the fields of a view lie: resolved once per session.
    pub fn layout<V: View>(&self) -> Result<Arc<Layout>> {
        if let Some(found) = self.cached::<LayoutOf<V>>() {
            return Ok(found.0.clone());
        }
        let before = self.notes.snapshot();
        let layout = Arc::new(Layout::resolve(&self.types, V::CTYPES, V::FIELDS)?);
        let noted = self.notes.since(&before);
        Ok(self.keep(LayoutOf::<V>(layout, std::marker::PhantomData), noted).0.clone())
    }

    /// Reads a view.
    pub fn view<V: View>(&self, addr: u64) -> Result<V> {
        FieldReader::load(self, &*self.layout::<V>()?, addr)
    }

    // ---- a running kernel -----------------------------------------------------------------------------------------

    /// Whether the target is a running kernel, which changes while it is read.
    pub fn is_live(&self) -> bool {
        self.target.is_live().is_some()
    }

    /// Called before each command. On a running kernel forgets what the last one read, and what was made of it.
    pub fn begin(&self) {
        if let Some(stamp) = self.target.refresh() {
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.symbols.renew(stamp);
        }
    }

    /// Forgets what was made of memory, and what was noted: symbols have been found that nobody knew of before.
    pub(crate) fn forget(&mut self) {
        self.cache.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.notes.take();
    }

    /// Makes something out of memory. On a running kernel tries again, a few times, when it failed or met something to
    /// note: more often than not that was a change in the middle of it.
    pub fn settle<T>(&self, mut make: impl FnMut() -> Result<T>) -> Result<T> {
        const TRIES: u32 = 3;
        for _ in 1..TRIES {
            if !self.is_live() {
                break;
            }
            let before = self.notes.snapshot();
            let result = make();
            let sound = match &result {
                Ok(_) => self.notes.snapshot() == before,
                Err(e) => e.is_control(),
            };
            if sound {
                return result;
            }
            self.notes.restore(before);
            self.target.refresh();
        }
        make()
    }

    // ---- what walkers keep --------------------------------------------------------------------------------------

    /// A value made once per session by whoever needs it first, such as an index of all slabs. What was noted while it
    /// was made is noted for each command that uses it: it is as incomplete for the second as for the first.
    pub fn once<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        match self.cached::<T>() {
            Some(found) => Ok(found),
            // made outside the lock: making it may need other values
            None => {
                let before = self.notes.snapshot();
                let value = make()?;
                // nor is half of one kept, made from reads that Ctrl-C cut short
                self.interrupt.check()?;
                Ok(self.keep(value, self.notes.since(&before)))
            }
        }
    }

    /// Such a value if somebody has needed it.
    pub fn kept<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.cached()
    }

    fn cached<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = cache.get(&RustType::of::<T>())?;
        self.notes.again(&kept.noted);
        kept.value.clone().downcast().ok()
    }

    fn keep<T: Any + Send + Sync>(&self, value: T, noted: Noted) -> Arc<T> {
        let value = Arc::new(value);
        let kept = Kept { value: value.clone(), noted };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(RustType::of::<T>(), kept);
        value
    }
}

/// A value that the session keeps, and what was noted when it was made.
struct Kept {
    value: Arc<dyn Any + Send + Sync>,
    noted: Noted,
}

struct LayoutOf<V>(Arc<Layout>, std::marker::PhantomData<fn() -> V>);
