//! What DWARF knows of a program's functions: parameters by name, their types, what is returned.
//!
//! The types become the session's, so that members are found and values shown as the kernel's are.

use super::code::Code;
use engine::{
    Type,
    debuginfo::{SourceId, TypeId, TypeSource, dwarf::Dwarf, elf::DebugFile, find},
    modfiles::Own,
    prelude::*,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::SystemTime,
};

/// Debug information of a program, and how places in its file become addresses.
pub struct Typed {
    code: Code,
    dwarf: Arc<Dwarf>,
}

/// A parameter of a function.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// its name
    pub name: String,
    /// its type
    pub ctype: TypeId,
    /// which of the registers for arguments it is in; `None` for a number with a fraction, or what lies on the stack
    pub register: Option<usize>,
}

/// Of which session, which file, as it was when.
type Key = (usize, PathBuf, Option<SystemTime>);

/// Types cannot be taken away again, so each file's are added once.
static KNOWN: LazyLock<Mutex<HashMap<Key, Option<Arc<Typed>>>>> = LazyLock::new(Mutex::default);

impl Typed {
    /// What is known of a file; `None` if it has no debug information.
    pub fn of(cx: &Cx<'_>, file: &Path) -> Option<Arc<Typed>> {
        let changed = std::fs::metadata(file).and_then(|m| m.modified()).ok();
        let key = (std::ptr::from_ref(&cx.types).addr(), file.to_owned(), changed);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_insert_with(|| Typed::read(cx, file).map(Arc::new)).clone()
    }

    fn read(cx: &Cx<'_>, file: &Path) -> Option<Typed> {
        let code = Code::open(file)?;
        let debug = Arc::new(find::open(file, &[]).ok()?.best());
        let mut made = None;
        let add = |id: SourceId| {
            let dwarf = Arc::new(Dwarf::new(Arc::<DebugFile>::clone(&debug), id)?);
            made = Some(dwarf.clone());
            Ok::<Arc<dyn TypeSource>, engine::debuginfo::elf::Error>(Arc::new(Own(dwarf)))
        };
        cx.types.add(add).ok()?;
        Some(Typed { code, dwarf: made? })
    }

    /// The prototype of the function at a place of the file.
    fn prototype(&self, cx: &Cx<'_>, offset: u64) -> Option<Arc<Type>> {
        let ctype = self.dwarf.function_at(self.code.address(offset)?)?;
        cx.types.get(ctype).filter(|shape| matches!(**shape, Type::Func { .. }))
    }

    /// The parameters of the function that begins at a place of the file.
    pub fn parameters(&self, cx: &Cx<'_>, offset: u64) -> Vec<Parameter> {
        let Some(prototype) = self.prototype(cx, offset) else { return Vec::new() };
        let Type::Func { params, ret, .. } = &*prototype else { return Vec::new() };
        // a large struct that is returned takes the first register for its place
        let mut next = usize::from(!cfg!(target_arch = "aarch64") && registers(cx, *ret).is_none());
        let mut parameters = Vec::new();
        for param in params.iter() {
            let takes = registers(cx, param.ty);
            let register = takes.filter(|takes| *takes > 0).map(|_| next);
            next += takes.unwrap_or(0);
            parameters.push(Parameter { name: param.name.to_string(), ctype: param.ty, register });
        }
        parameters
    }

    /// What the function that begins at a place of the file returns.
    pub fn returned(&self, cx: &Cx<'_>, offset: u64) -> Option<TypeId> {
        match &*self.prototype(cx, offset)? {
            Type::Func { ret, .. } => Some(*ret),
            _ => None,
        }
    }
}

/// How many registers for whole numbers a value takes, by the calling conventions of both architectures; `None` if it
/// lies in memory.
fn registers(cx: &Cx<'_>, ctype: TypeId) -> Option<usize> {
    match cx.shape(ctype).as_deref() {
        Some(Type::Float { .. } | Type::Void) => Some(0),
        Some(Type::Struct { size, .. }) if *size > 16 => None,
        Some(Type::Struct { size, .. }) => Some(size.div_ceil(8) as usize),
        _ => Some(1),
    }
}
