//! What DWARF knows of a program's functions: parameters by name, their types, where each is, what is returned.
//!
//! The types become the session's, so that members are found and values shown as the kernel's are. Where a parameter is is
//! what its location says. A function that was compiled without optimisation says where parameters are put once it runs;
//! where it begins they are still where the calling convention has them.

use super::{code::Code, convention, join};
use engine::{
    Type,
    debuginfo::{
        SourceId, TypeId, TypeSource,
        dwarf::{self, Dwarf, Inlined},
        elf::DebugFile,
        find,
    },
    modfiles::Own,
    prelude::*,
};
use probes::{
    expr::{Binary, Int, Space as Whose},
    source,
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

/// A parameter of a function, or what it returns.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// its name
    pub name: String,
    /// its type
    pub ctype: TypeId,
    /// where it is
    pub held: Held,
}

/// Where a value is at a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// in registers, eight bytes of it in each; none for a part that is elsewhere
    Words(Vec<Option<Int>>),
    /// in memory
    Memory(Int),
    /// where nothing reads it, and why
    Nowhere(String),
}

/// Of which session, which file, as it was when.
type Key = (usize, PathBuf, Option<SystemTime>);

/// Types cannot be taken away again, so each file's are added once.
static KNOWN: LazyLock<Mutex<HashMap<Key, Option<Arc<Typed>>>>> = LazyLock::new(Mutex::default);
/// The copies of a function, which take a look at all of a file's debug information, by file and name.
#[allow(clippy::type_complexity)]
static COPIES: LazyLock<Mutex<HashMap<(PathBuf, String), Arc<Vec<Inlined>>>>> = LazyLock::new(Mutex::default);

/// Where a function was inlined.
pub fn copies(dwarf: &Dwarf, name: &str) -> Arc<Vec<Inlined>> {
    let key = (dwarf.file().path().to_owned(), name.to_owned());
    let mut known = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(key).or_insert_with(|| Arc::new(dwarf.inlined(name))).clone()
}

/// Why a number with a fraction is not shown.
pub fn no_fraction(name: &str) -> String {
    format!("`{name}` is a number with a fraction, and the registers that those are in are not seen by probes")
}

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

    /// Whether a look at all of it takes no time that anybody would notice.
    pub fn is_small(&self) -> bool {
        const SMALL: u64 = 16 << 20;
        std::fs::metadata(self.dwarf.file().path()).is_ok_and(|m| m.len() <= SMALL)
    }

    /// Where a function was inlined.
    pub fn copies(&self, name: &str) -> Arc<Vec<Inlined>> {
        copies(&self.dwarf, name)
    }

    /// The parameters of a copy of a function that begins at a place of the file. Its name is `NAME [inlined in …]`.
    pub fn inlined(&self, site: &str, offset: u64) -> Vec<Parameter> {
        let (name, at) = (site.split(" [").next().unwrap_or(site), self.code.address(offset));
        let copies = self.copies(name);
        let copy = copies.iter().find(|copy| copy.at == at);
        copy.map(|copy| copy.parameters.iter().map(|one| Parameter::inside(one, Whose::User)).collect())
            .unwrap_or_default()
    }

    /// The parameters of a function at a place of the file; `entry` says that it begins there.
    pub fn parameters(&self, cx: &Cx<'_>, offset: u64, entry: bool) -> Vec<Parameter> {
        let Some(at) = self.code.address(offset) else { return Vec::new() };
        let Some(found) = self.dwarf.parameters_at(at) else { return Vec::new() };
        match entry {
            true => at_entry(cx, &self.dwarf, at, &found, Whose::User),
            false => found.iter().map(|one| Parameter::inside(one, Whose::User)).collect(),
        }
    }

    /// What the function that begins at a place of the file returns.
    pub fn returned(&self, cx: &Cx<'_>, offset: u64) -> Option<Parameter> {
        let prototype = self.dwarf.function_at(self.code.address(offset)?)?;
        let Type::Func { ret, .. } = &*cx.types.get(prototype)? else { return None };
        Some(Parameter { name: "retval".into(), ctype: *ret, held: convention::returned(cx, *ret) })
    }
}

/// The parameters where a function begins: where its debug information has them, or else the calling convention.
pub fn at_entry(cx: &Cx<'_>, dwarf: &Dwarf, at: u64, found: &[dwarf::Parameter], whose: Whose) -> Vec<Parameter> {
    let prototype = dwarf.function_at(at).and_then(|prototype| cx.types.get(prototype));
    let returned = match prototype.as_deref() {
        Some(Type::Func { ret, .. }) => Some(*ret),
        _ => None,
    };
    let types: Vec<_> = found.iter().map(|one| one.ty).collect();
    let conventional = convention::parameters(cx, returned, &types, dwarf.is_rust(at));
    let place = |(one, usual): (&dwarf::Parameter, Held)| {
        let held = match &one.place {
            // of an argument that lies on the caller's stack it is true from the beginning
            dwarf::Place::Frame(offset) if *offset >= 0 => convention::frame(*offset).map(Held::Memory),
            dwarf::Place::Frame(_) | dwarf::Place::Unknown | dwarf::Place::Memory(..) => None,
            place => Some(held(place, whose)),
        };
        Parameter { name: one.name.clone(), ctype: one.ty, held: held.unwrap_or(usual) }
    };
    found.iter().zip(conventional).map(place).collect()
}

/// Why what the compiler did not keep is not shown.
pub const GONE: &str = "was optimised away: it is nowhere at this instruction";
/// Why what a function was called with is not shown when it returns.
const FORGOTTEN: &str = "did not come in registers of its own, and what lay elsewhere is not kept until the return";
/// Why a number with a fraction is not shown.
pub const FRACTION: &str = "is a number with a fraction, whose register is not seen by probes";

impl Parameter {
    /// A parameter at an instruction inside a function.
    pub fn inside(parameter: &dwarf::Parameter, whose: Whose) -> Parameter {
        let held = held(&parameter.place, whose);
        Parameter { name: parameter.name.clone(), ctype: parameter.ty, held }
    }

    /// The parameter when the function returns: what came in registers was kept at the call, and no more.
    pub fn left(self) -> Parameter {
        let registers: Vec<_> = (0..join::ARGUMENTS).map(source::argument).collect();
        let kept = |word: Option<Int>| {
            let Some(Int::Context { offset, .. }) = word else { return None };
            join::argument(registers.iter().position(|register| *register == Some(offset))?)
        };
        let held = match self.held {
            Held::Words(words) => match words.into_iter().map(kept).collect::<Option<Vec<_>>>() {
                Some(words) => Held::Words(words.into_iter().map(Some).collect()),
                None => Held::Nowhere(FORGOTTEN.into()),
            },
            Held::Memory(_) => Held::Nowhere(FORGOTTEN.into()),
            nowhere @ Held::Nowhere(_) => nowhere,
        };
        Parameter { held, ..self }
    }
}

fn held(place: &dwarf::Place, whose: Whose) -> Held {
    use dwarf::Place;
    let register = |number: u16| source::dwarf_register(number).map(|at| Int::context(at, 8, false));
    let sum = |number: u16, offset: i64| match offset {
        0 => register(number),
        offset => Some(Int::binary(Binary::Add, register(number)?, Int::Const(offset))),
    };
    let or = |held: Option<Held>| held.unwrap_or_else(|| Held::Nowhere(FRACTION.into()));
    match place {
        Place::Register(number) => or(register(*number).map(|word| Held::Words(vec![Some(word)]))),
        Place::Sum(number, offset) => or(sum(*number, *offset).map(|word| Held::Words(vec![Some(word)]))),
        Place::Memory(number, offset) => or(sum(*number, *offset).map(Held::Memory)),
        Place::Constant(value) => Held::Words(vec![Some(Int::Const(*value as i64))]),
        Place::Pieces(pieces) => joined(pieces, whose),
        Place::Gone => Held::Nowhere(GONE.into()),
        Place::Frame(_) => Held::Nowhere("lies in the function's frame, whose place is not known at a hit".into()),
        Place::Unknown => Held::Nowhere("is where only several steps lead, which a probe does not take".into()),
    }
}

/// Words of parts that lie in several places.
fn joined(pieces: &[(u64, dwarf::Place)], whose: Whose) -> Held {
    let mut words: Vec<Option<Int>> = Vec::new();
    let mut at = 0u64;
    for (bytes, place) in pieces {
        let part = match held(place, whose) {
            Held::Words(mut words) => words.pop().flatten(),
            Held::Memory(from) if matches!(bytes, 1 | 2 | 4 | 8) => {
                Some(Int::load(whose, from, 0, *bytes as u8, false))
            }
            _ => None,
        };
        let (word, shift) = ((at / 8) as usize, at % 8 * 8);
        if *bytes > 8 || shift + bytes * 8 > 64 {
            return Held::Nowhere("is in pieces that do not fit registers".into());
        }
        let cut = part.map(|part| {
            let mask = if *bytes == 8 { None } else { Some((1i64 << (bytes * 8)) - 1) };
            let low =
                mask.map_or_else(|| part.clone(), |mask| Int::binary(Binary::And, part.clone(), Int::Const(mask)));
            if shift == 0 { low } else { Int::binary(Binary::Shl, low, Int::Const(shift as i64)) }
        });
        match words.get_mut(word) {
            Some(before) => *before = before.take().zip(cut).map(|(a, b)| Int::binary(Binary::Or, a, b)),
            None => words.push(cut),
        }
        at += bytes;
    }
    Held::Words(words)
}
