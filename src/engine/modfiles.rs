//! Debug files of modules (`NAME.ko.debug`, an unstripped `NAME.ko`): looked for when a question first needs one.
//!
//! A file is used only if its build-id is the one that the module has in the dump's memory. It gives the lines of the
//! module's code, the types of its variables, and its own types.

use crate::{
    open::{self, Sources},
    session::Session,
    symbols::Module,
};
use debuginfo::{
    Symbol, Tag, Type, TypeId, TypeSource,
    dwarf::Dwarf,
    elf::{DebugFile, Placement},
    find::{self, Search},
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, OnceLock},
};

/// How the kernel loaded a module.
#[derive(Debug, Default)]
pub struct Sections {
    /// address of each section by its name
    pub addresses: HashMap<String, u64>,
    /// of which build it is, in hex; `None` if the dump does not say
    pub build_id: Option<String>,
}

/// Where debug files of modules may be.
#[derive(Default)]
pub struct ModuleFiles {
    sources: Sources,
    search: OnceLock<Search>,
}

impl ModuleFiles {
    pub(crate) fn new(sources: &Sources) -> ModuleFiles {
        ModuleFiles { sources: sources.clone(), search: OnceLock::new() }
    }

    /// The module's file, if there is one of the right build. What will not do is noted.
    fn find(&self, session: &Session, module: &Module, build_id: Option<&str>) -> Option<DebugFile> {
        let named =
            self.sources.modules.iter().find(|path| find::module_name(path).is_some_and(|n| *n == *module.name));
        if let Some(path) = named {
            let mut warnings = Vec::new();
            let file = open::named(path, build_id, &self.sources, &mut warnings);
            warnings.into_iter().for_each(|why| session.notes.once(0, why));
            return file;
        }
        if !self.sources.search {
            return None;
        }
        let release = || {
            let release = session.target.info().release;
            Search::new(release.as_deref(), &self.sources.roots).with(self.sources.progress)
        };
        let found = self.search.get_or_init(release).module(&module.name, build_id);
        let good = found.file.filter(|file| found.verified && file.has_dwarf());
        // as of the kernel: see `KernelFiles::find`
        let telling = |why: &&find::Error| !self.sources.roots.is_empty() || matches!(why, find::Error::Remote { .. });
        if good.is_none() {
            found.rejected.iter().filter(telling).for_each(|why| session.notes.once(0, why.to_string()));
        }
        good
    }
}

impl Session {
    /// Whether a debug file that the user named is in use, and if not why not.
    pub fn use_module_file(&self, path: &Path) -> Result<(), String> {
        let name = find::module_name(path).unwrap_or_default();
        let Some(module) = self.symbols.modules(self).iter().find(|m| *m.name == *name) else {
            return Err(format!("{}: no module `{name}` is loaded", path.display()));
        };
        match self.module_dwarf(module) {
            Some(_) => Ok(()),
            None => Err(self.notes.take().join("; ")),
        }
    }

    /// Debug information of a module's own file, if there is one. Its types become the session's.
    pub fn module_dwarf<'a>(&self, module: &'a Module) -> Option<&'a Arc<Dwarf>> {
        if let Some(known) = module.dwarf.get() {
            return known.as_ref();
        }
        let sections = (self.registry.sections)(self, module);
        // an interrupted question is no answer to be kept
        if sections.as_ref().is_err_and(|e| e.is_control()) {
            return None;
        }
        let read = || {
            let build_id = sections.as_ref().ok().and_then(|s| s.build_id.as_deref());
            let file = self.module_files.find(self, module, build_id)?;
            let used = sections.as_ref().map_err(ToString::to_string).and_then(|sections| {
                let file = file.placed(Placement::Sections(sections.addresses.clone()));
                self.add_module_types(Arc::new(file)).map_err(|e| e.to_string())
            });
            used.map_err(|why| self.notes.once(module.addr, format!("debug file of {}: {why}", module.name))).ok()
        };
        module.dwarf.get_or_init(read).as_ref()
    }

    fn add_module_types(&self, file: Arc<DebugFile>) -> Result<Arc<Dwarf>, debuginfo::elf::Error> {
        let mut made = None;
        self.types.add(|id| {
            let dwarf = Arc::new(Dwarf::new(Arc::clone(&file), id)?);
            made = Some(Arc::clone(&dwarf));
            Ok::<Arc<dyn TypeSource>, debuginfo::elf::Error>(Arc::new(Own(dwarf)))
        })?;
        made.ok_or(debuginfo::elf::Error::Dwarf { path: file.path().to_owned(), why: "not added".into() })
    }

    /// Reads the debug files of the modules whose types are not known from elsewhere.
    pub(crate) fn add_missing_types(&self) {
        for module in self.symbols.modules(self).iter().filter(|m| !m.typed) {
            self.module_dwarf(module);
        }
    }

    /// The declared type of a variable, where it is known whose it is.
    pub fn type_of_symbol(&self, symbol: &Symbol) -> Option<TypeId> {
        match &symbol.module {
            None => self.type_of_global(&symbol.name),
            Some(module) => self.type_in_module(module, &symbol.name),
        }
    }

    /// The declared type of a module's variable.
    pub fn type_in_module(&self, module: &str, name: &str) -> Option<TypeId> {
        let module = self.symbols.modules(self).iter().find(|m| &*m.name == module)?;
        self.module_dwarf(module)?.variable(name)
    }
}

/// The types of a module or a program without its variables and functions: their names mean something only within it, and
/// must not give a type to what is called the same elsewhere.
pub struct Own(pub Arc<Dwarf>);

impl TypeSource for Own {
    fn get(&self, local: u32) -> Option<Type> {
        self.0.get(local)
    }
    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        self.0.find(tag, name)
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        self.0.enumerator(name)
    }
    fn variable(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn function(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        self.0.each_name(visit);
    }
}
