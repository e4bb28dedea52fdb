//! What DWARF knows of a program's functions: parameters by name, their types, where each is, what is returned.
//!
//! The types become the session's, so that members are found and values shown as the kernel's are. Where a parameter is is
//! what its location says. A function that was compiled without optimisation says where parameters are put once it runs;
//! where it begins they are still where the calling convention has them.

use super::{code::Code, join};
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
#[derive(Clone, Debug)]
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
        if !entry {
            return found.iter().map(|one| Parameter::inside(one, Whose::User)).collect();
        }
        let conventional = self.conventional(cx, at, &found);
        let place = |(one, usual): (&dwarf::Parameter, Held)| {
            let held = match &one.place {
                // of an argument that lies on the caller's stack it is true from the beginning
                dwarf::Place::Frame(offset) if *offset >= 0 => frame(*offset).map(Held::Memory),
                dwarf::Place::Frame(_) | dwarf::Place::Unknown | dwarf::Place::Memory(..) => None,
                place => Some(held(place, Whose::User)),
            };
            Parameter { name: one.name.clone(), ctype: one.ty, held: held.unwrap_or(usual) }
        };
        found.iter().zip(conventional).map(place).collect()
    }

    /// What the function that begins at a place of the file returns.
    pub fn returned(&self, cx: &Cx<'_>, offset: u64) -> Option<Parameter> {
        let prototype = self.dwarf.function_at(self.code.address(offset)?)?;
        let Type::Func { ret, .. } = &*cx.types.get(prototype)? else { return None };
        let register = |index| Some(Int::context(source::result(index)?, 8, false));
        let held = match classes(cx, *ret) {
            None if cfg!(target_arch = "aarch64") => Held::Nowhere("was put where the caller wanted it".into()),
            None => Held::Memory(register(0)?),
            Some(classes) if classes == [Class::Fraction] => Held::Nowhere(FRACTION.into()),
            Some(classes) => {
                let mut wholes = 0..;
                Held::Words(
                    classes
                        .iter()
                        .map(|class| match class {
                            Class::Whole => register(wholes.next()?),
                            Class::Fraction => None,
                        })
                        .collect(),
                )
            }
        };
        Some(Parameter { name: "retval".into(), ctype: *ret, held })
    }

    /// Where parameters are by the calling convention, where a function begins (System V ABI for x86-64, 3.2.3; procedure
    /// call standard for the Arm 64-bit architecture, 6.8). Rust has its own for what has parts.
    fn conventional(&self, cx: &Cx<'_>, at: u64, parameters: &[dwarf::Parameter]) -> Vec<Held> {
        let arm = cfg!(target_arch = "aarch64");
        let returned = self.dwarf.function_at(at).and_then(|prototype| cx.types.get(prototype));
        let large = matches!(returned.as_deref(), Some(Type::Func { ret, .. }) if classes(cx, *ret).is_none());
        // a large value that is returned takes the first register for its place
        let (mut next, mut fractions, mut stack) = (usize::from(!arm && large), 0, 0i64);
        let (most, rust) = (if arm { 8 } else { 6 }, self.dwarf.is_rust(at));
        let mut own_rules = false;
        let mut place = |ty: TypeId| {
            let word = |index| Some(Int::context(source::argument(index)?, 8, false));
            own_rules |= rust && matches!(cx.shape(ty).as_deref(), Some(Type::Struct { .. }));
            if own_rules {
                return Held::Nowhere("is where Rust's own rules put it, which this does not know".into());
            }
            let (bytes, classes) = (cx.types.size_of(ty).unwrap_or(8), classes(cx, ty));
            let wholes =
                classes.as_ref().map_or(usize::from(arm), |c| c.iter().filter(|c| **c == Class::Whole).count());
            let others = classes.as_ref().map_or(0, |c| c.iter().filter(|c| **c == Class::Fraction).count());
            let in_memory = classes.is_none() && !arm;
            if in_memory || next + wholes > most || fractions + others > 8 {
                let here = frame(stack);
                stack += bytes.next_multiple_of(8) as i64;
                return here.map_or_else(|| Held::Nowhere("lies on the stack".into()), Held::Memory);
            }
            let first = next;
            (next, fractions) = (next + wholes, fractions + others);
            let fraction = || Held::Nowhere(FRACTION.into());
            match classes {
                Some(classes) if classes == [Class::Fraction] => fraction(),
                Some(classes) => {
                    let mut words = first..next;
                    let word = |class: &Class| (*class == Class::Whole).then(|| words.next()).flatten().and_then(word);
                    Held::Words(classes.iter().map(word).collect())
                }
                // larger ones are copied, and the address of the copy is handed over
                None => word(first).map_or_else(fraction, Held::Memory),
            }
        };
        parameters.iter().map(|one| place(one.ty)).collect()
    }
}

/// Why what the compiler did not keep is not shown.
pub const GONE: &str = "was optimised away: it is nowhere at this instruction";
/// Why what a function was called with is not shown when it returns.
const FORGOTTEN: &str = "did not come in registers of its own, and what lay elsewhere is not kept until the return";
const FRACTION: &str = "is a number with a fraction, whose register is not seen by probes";

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

/// So many bytes behind where the stack stood in front of the call, where a function begins.
fn frame(offset: i64) -> Option<Int> {
    let at = source::frame(false)?;
    Some(if offset == 0 { at } else { Int::binary(Binary::Add, at, Int::Const(offset)) })
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

/// What kind of register eight bytes of a value take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Whole,
    Fraction,
}

/// The registers that a value takes; `None` if it lies in memory.
fn classes(cx: &Cx<'_>, ctype: TypeId) -> Option<Vec<Class>> {
    match cx.shape(ctype).as_deref() {
        Some(Type::Void) => Some(Vec::new()),
        Some(Type::Float { .. }) => Some(vec![Class::Fraction]),
        Some(Type::Struct { size, .. }) if *size > 16 => None,
        Some(Type::Struct { size, .. }) => {
            let mut words = vec![Class::Fraction; size.div_ceil(8) as usize];
            fill(cx, ctype, 0, &mut words, 0);
            // there only what is all fractions of one kind goes into their registers
            if cfg!(target_arch = "aarch64") && words.contains(&Class::Whole) {
                words.fill(Class::Whole);
            }
            Some(words)
        }
        _ => Some(vec![Class::Whole]),
    }
}

/// Marks the words in which something lies that is no fraction.
fn fill(cx: &Cx<'_>, ctype: TypeId, bits: u64, words: &mut [Class], depth: u8) {
    match cx.shape(ctype).as_deref() {
        Some(Type::Float { .. }) => {}
        Some(Type::Struct { members, .. }) if depth < 8 => {
            members.iter().take(64).for_each(|member| fill(cx, member.ty, bits + member.bit_offset, words, depth + 1));
        }
        Some(Type::Array { elem, count: Some(count) }) if depth < 8 => {
            let size = cx.types.size_of(*elem).unwrap_or(8) * 8;
            (0..(*count).min(16)).for_each(|i| fill(cx, *elem, bits + i * size, words, depth + 1));
        }
        _ => {
            if let Some(word) = words.get_mut((bits / 64) as usize) {
                *word = Class::Whole;
            }
        }
    }
}
