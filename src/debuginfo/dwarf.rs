//! Types, variables and functions from DWARF 2 to 5.
//!
//! ```text
//! let dwarf = Dwarf::new(Arc::new(DebugFile::open("vmlinux")?), source)?;
//! dwarf.find(Tag::Struct, "task_struct");
//! dwarf.variables("init_task");                // where they are, too
//! dwarf.frames(0xffffffff81234567)?;           // function, file and line, inlined callers after it
//! ```
//!
//! A kernel has 200 MB of `.debug_info`. Nothing of it is read when a file is opened. The first look-up by name reads
//! the outermost entries of all units ([`index`]) and notes where each name is; an entry is decoded when somebody
//! asks for it ([`decode`]). The first look-up by address builds the table of [`lines`].
//!
//! **Invariant:** no entry is trusted. References may point anywhere, sizes may be anything, trees may be deep:
//! every walk is bounded by the bytes it reads, and every chain of references by a small number.

mod bounds;
mod copies;
mod decode;
mod index;
mod lines;
mod places;
mod units;
mod variables;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self_cell::self_cell;

use crate::elf::{DebugFile, Error};
use crate::types::{SourceId, Tag, Type, TypeId, TypeSource};
use index::{Index, Kind};
use units::{Sections, Units};

pub use copies::Inlined;
pub use lines::Frame;
pub use places::{Parameter, Place};
pub use variables::Variable;

/// The debug information of one file. `TypeId`s are offsets into `.debug_info` (then `.debug_types`, behind it).
pub struct Dwarf {
    file: Arc<DebugFile>,
    source: SourceId,
    data: OnceLock<Result<Data, Error>>,
    inner: Mutex<InnerArrays>,
    lists: places::Lists,
}

/// What is read out of the sections, beside the sections it points into.
struct Parsed<'a> {
    units: Units<'a>,
    index: OnceLock<Index<'a>>,
    lines: OnceLock<Result<lines::Lines<'a>, String>>,
}

self_cell!(
    struct Data {
        owner: Sections,
        #[not_covariant]
        dependent: Parsed,
    }
);

/// DWARF has one entry for `int a[2][3]`; our model has an array of arrays, whose inner ones need ids of their own.
#[derive(Default)]
struct InnerArrays {
    nodes: Vec<Type>,
    ids: HashMap<(u32, usize), u32>,
}

/// Ids of inner arrays count down from here.
const INNER_TOP: u32 = u32::MAX - 1;

/// Ids from here on are no offsets.
const INNER_BOTTOM: u32 = 0xf000_0000;

/// What a reference that leads nowhere becomes; there is never a type at it.
const BROKEN: u32 = u32::MAX;

impl Dwarf {
    /// The debug information of `file`, as the type source of that number. Reads nothing yet.
    pub fn new(file: Arc<DebugFile>, source: SourceId) -> Result<Dwarf, Error> {
        if !file.has_dwarf() {
            let hint = "the file was stripped, or built without CONFIG_DEBUG_INFO";
            return Err(Error::Missing { path: file.path().to_owned(), section: ".debug_info", hint });
        }
        Ok(Dwarf { file, source, data: OnceLock::new(), inner: Mutex::default(), lists: places::Lists::default() })
    }

    /// The file it is in.
    pub fn file(&self) -> &Arc<DebugFile> {
        &self.file
    }

    /// Reads what the first question needs, so that the question itself is fast. Worth a thread of its own.
    pub fn prepare(&self) -> Result<(), Error> {
        self.with(|parsed| self.index(parsed).damage.clone())?.map_or(Ok(()), |why| Err(self.error(why)))
    }

    fn error(&self, why: String) -> Error {
        Error::Dwarf { path: self.file.path().to_owned(), why }
    }

    fn with<T>(&self, ask: impl FnOnce(&Parsed<'_>) -> T) -> Result<T, Error> {
        let data = self.data.get_or_init(|| {
            let sections = Sections::load(&self.file)?;
            Data::try_new(sections, |sections| {
                let units = sections.units().map_err(|why| self.error(why))?;
                Ok(Parsed { units, index: OnceLock::new(), lines: OnceLock::new() })
            })
        });
        match data {
            Ok(data) => Ok(data.with_dependent(|_, parsed| ask(parsed))),
            Err(e) => Err(e.clone()),
        }
    }

    fn index<'p, 'a>(&self, parsed: &'p Parsed<'a>) -> &'p Index<'a> {
        parsed.index.get_or_init(|| Index::build(&parsed.units))
    }

    fn id(&self, local: u32) -> TypeId {
        TypeId { source: self.source, local }
    }

    fn inner_array(&self, local: u32) -> Option<Type> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.nodes.get(INNER_TOP.checked_sub(local)? as usize).cloned()
    }

    /// Id for dimension `dim` of the array at `die`.
    fn inner_id(&self, die: u32, dim: usize, node: Type) -> Option<TypeId> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&local) = inner.ids.get(&(die, dim)) {
            return Some(self.id(local));
        }
        let local = INNER_TOP.checked_sub(inner.nodes.len() as u32).filter(|&local| local >= INNER_BOTTOM)?;
        inner.nodes.push(node);
        inner.ids.insert((die, dim), local);
        Some(self.id(local))
    }

    /// Entries of that name, best first.
    fn named(&self, kind: Kind, name: &str) -> Vec<u32> {
        self.with(|parsed| self.index(parsed).find(kind, name.as_bytes())).unwrap_or_default()
    }
}

impl TypeSource for Dwarf {
    fn get(&self, local: u32) -> Option<Type> {
        if local >= INNER_BOTTOM {
            return self.inner_array(local);
        }
        self.with(|parsed| self.decode(&parsed.units, local)).ok().flatten()
    }

    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        self.named(Kind::from(tag), name).into_iter().map(|local| self.id(local)).collect()
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        self.with(|parsed| {
            let die = *self.index(parsed).find(Kind::Enumerator, name.as_bytes()).first()?;
            self.enumerator_value(&parsed.units, die)
        })
        .ok()
        .flatten()
    }

    fn variable(&self, name: &str) -> Option<TypeId> {
        self.variables(name).first().map(|v| v.ty)
    }

    fn function(&self, name: &str) -> Option<TypeId> {
        self.named(Kind::Function, name).first().map(|&local| self.id(local))
    }

    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        // An error is met again, and told, by whoever asks for a type.
        let _ = self.with(|parsed| self.index(parsed).each_type(visit));
    }
}

#[cfg(test)]
mod tests;
