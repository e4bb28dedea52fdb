//! What names mean in a C expression: columns of the row, members of the object, enumerators, globals, memory.
//! A variable that is static in its file needs its module: ``vmlinux`state``.
//!
//! [`Question`] is what `::where`, `::sort` and their like ask of each item: an expression that is parsed once, whose
//! members are looked up once for each type, and that reads no more of an item than it needs.

use crate::{
    cprint::{SpaceMemory, enums, path, scalar},
    cx::Cx,
    error::{Error, Result},
    item::{Cell, Item, Object, Row},
    lang::cexpr::{self, CError, CExpr, CInt, CScope, CValue, Truth},
    names,
};
use debuginfo::{Place, Type, TypeId};
use std::{cell::RefCell, collections::HashMap};

/// Characters of a text that are compared.
const MAX_TEXT: u64 = 4096;

/// A C expression with what was found out about its names.
pub struct Question {
    text: String,
    expr: CExpr,
    cache: Cache,
}

/// What is the same for every item.
#[derive(Default)]
struct Cache {
    places: RefCell<HashMap<TypeId, HashMap<String, Option<Place>>>>,
    enumerators: RefCell<HashMap<String, Option<i64>>>,
    symbols: RefCell<HashMap<String, Option<Val>>>,
    types: RefCell<HashMap<String, Option<TypeId>>>,
}

impl Question {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Question> {
        let expr = cexpr::parse(text).map_err(|e| Error::from(e).nested_in(text))?;
        Ok(Question { text: text.to_owned(), expr, cache: Cache::default() })
    }

    /// Whether it is true of the item. What needs something unreadable is [`Truth::Unknown`].
    pub fn test(&self, cx: &Cx<'_>, item: &Item) -> Result<Truth> {
        let scope = self.scope(cx, item);
        cexpr::test(&self.expr, &scope).map_err(|e| self.error(&scope, e))
    }

    /// Its value for the item.
    pub fn value(&self, cx: &Cx<'_>, item: &Item) -> Result<Cell> {
        let scope = self.scope(cx, item);
        let wrong = |message| Error::Usage(format!("in `{}`: {message}", self.text));
        let value = match cexpr::eval(&self.expr, &scope).map_err(|e| self.error(&scope, e))? {
            CValue::Object(object) => match scope.text(&object) {
                Some(text) => text.map_err(wrong)?,
                None => scope.load(&object).map_err(wrong)?,
            },
            value => value,
        };
        Ok(match value {
            CValue::Int(int) if int.is_signed() => Cell::Int(int.as_u64() as i64),
            CValue::Int(int) => Cell::Uint(int.as_u64()),
            CValue::Str(text) => Cell::Str(text),
            CValue::Unreadable(why) => Cell::Unreadable(why),
            CValue::Null | CValue::Object(_) => Cell::Null,
        })
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn scope<'q, 'a>(&'q self, cx: &'q Cx<'a>, item: &'q Item) -> ItemScope<'q, 'a> {
        let row = if let Item::Row(row) = item { Some(row) } else { None };
        ItemScope { cx, row, object: item.object(), cache: &self.cache }
    }

    fn error(&self, scope: &ItemScope<'_, '_>, e: CError) -> Error {
        let hint = e.hint.or_else(|| scope.similar(self.text.get(e.span.clone()).unwrap_or_default()));
        Error::Value { span: e.span, message: e.message, hint, unreadable: None }.nested_in(&self.text)
    }
}

/// Something with an address and a type.
#[derive(Clone, Copy, Debug)]
enum Val {
    /// it stands in memory; the bit offset is below 8
    Place { addr: u64, place: Place },
    /// a pointer that stands nowhere: `&x`, a cast, `.`
    Pointer { to: u64, ctype: TypeId },
}

impl Val {
    fn whole(addr: u64, ty: TypeId) -> Val {
        Val::Place { addr, place: Place { ty, bit_offset: 0, bit_size: None } }
    }
}

type Found = Result<CValue<Val>, String>;

struct ItemScope<'q, 'a> {
    cx: &'q Cx<'a>,
    row: Option<&'q Row>,
    object: Option<Object>,
    cache: &'q Cache,
}

fn unreadable(e: &Error) -> CValue<Val> {
    CValue::Unreadable(e.kind())
}

impl ItemScope<'_, '_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.cx.read_in(self.cx.env.space.get(), addr, buf)
    }

    /// A member's place, looked up once for each type.
    fn place(&self, ty: TypeId, name: &str) -> Option<Place> {
        if let Some(known) = self.cache.places.borrow().get(&ty).and_then(|t| t.get(name)) {
            return *known;
        }
        let place = self.cx.types.member(ty, name);
        self.cache.places.borrow_mut().entry(ty).or_default().insert(name.to_owned(), place);
        place
    }

    fn ctype(&self, spelling: &str) -> Result<TypeId, String> {
        let known = self.cache.types.borrow().get(spelling).copied();
        let ty = known.unwrap_or_else(|| {
            let ty = self.cx.ctype(spelling).ok();
            self.cache.types.borrow_mut().insert(spelling.to_owned(), ty);
            ty
        });
        ty.ok_or_else(|| format!("no type `{spelling}`"))
    }

    /// Whether a name is that of a struct, with or without the `_struct` that some have.
    fn is_called(&self, ctype: TypeId, name: &str) -> bool {
        match self.cx.shape(ctype).as_deref() {
            Some(Type::Struct { name: Some(tag), .. }) => &**tag == name || tag.strip_suffix("_struct") == Some(name),
            _ => false,
        }
    }

    /// Where a pointer or an array leads, and the type of what is there; otherwise the text says what it is.
    fn target(&self, base: &Val) -> Result<Result<(u64, TypeId), CValue<Val>>, String> {
        let (addr, place) = match *base {
            Val::Pointer { to, ctype } => return Ok(Ok((to, ctype))),
            Val::Place { addr, place } => (addr, place),
        };
        match self.cx.shape(place.ty).as_deref() {
            Some(Type::Array { elem, .. }) => Ok(Ok((addr, *elem))),
            Some(Type::Pointer { to }) => {
                let mut buf = [0; 8];
                Ok(match self.read(addr, &mut buf) {
                    Ok(()) => Ok((u64::from_le_bytes(buf), *to)),
                    Err(e) => Err(unreadable(&e)),
                })
            }
            _ => Err(format!("`{}` is no pointer", self.cx.types.spell(place.ty))),
        }
    }

    fn cell(cell: &Cell) -> CValue<Val> {
        match cell {
            Cell::Null => CValue::Null,
            Cell::Addr(v) | Cell::Hex(v) | Cell::Uint(v) => CValue::Int(CInt::u64(*v)),
            Cell::Int(v) => CValue::Int(CInt::i64(*v)),
            Cell::Bool(v) => CValue::Int(CInt::bool(*v)),
            Cell::Str(text) => CValue::Str(text.clone()),
            Cell::Unreadable(why) => CValue::Unreadable(why.clone()),
            // a stack: `stack =~ "ext4_"` looks at all its frames
            Cell::List(cells) => {
                let texts: Vec<String> = cells
                    .iter()
                    .map(|c| match Self::cell(c) {
                        CValue::Str(text) => text,
                        CValue::Int(v) => format!("{:x}", v.as_u64()),
                        _ => String::new(),
                    })
                    .collect();
                CValue::Str(texts.join("\n"))
            }
        }
    }

    /// The columns and members whose names are near.
    fn similar(&self, name: &str) -> Option<String> {
        if self.symbol(name).is_some() {
            return None;
        }
        let name = name.rsplit(['.', '>']).next().unwrap_or(name).trim();
        let columns = self.row.into_iter().flat_map(|r| r.schema.columns.iter().map(|c| c.name.to_owned()));
        let members = self.object.and_then(|o| o.ctype).map(|t| self.cx.types.members(t)).unwrap_or_default();
        let all: Vec<String> = columns.chain(members.iter().map(|(n, _)| n.to_string())).collect();
        let near = names::did_you_mean(name, all.iter().map(String::as_str));
        near.or_else(|| {
            let columns: Vec<_> = self.row?.schema.columns.iter().map(|c| c.name).collect();
            Some(format!("the columns are {}", columns.join(", ")))
        })
    }

    /// Text up to its NUL, at most `max` bytes.
    fn string(&self, addr: u64, max: u64) -> CValue<Val> {
        match SpaceMemory::current(self.cx).text(addr, max.min(MAX_TEXT) as usize) {
            Ok(bytes) => CValue::Str(crate::text::decode(&bytes)),
            Err(e) => unreadable(&e),
        }
    }
}

impl CScope for ItemScope<'_, '_> {
    type Val = Val;

    fn this(&self) -> Found {
        match self.object {
            Some(Object { addr, ctype: Some(ctype) }) => Ok(CValue::Object(Val::Pointer { to: addr, ctype })),
            Some(Object { addr, ctype: None }) => Ok(CValue::Int(CInt::u64(addr))),
            None => Err("this row has no address".into()),
        }
    }

    fn name(&self, name: &str) -> Option<CValue<Val>> {
        if let Some(row) = self.row
            && let Some(i) = row.schema.columns.iter().position(|c| c.name == name)
        {
            return row.cells.get(i).map(Self::cell);
        }
        let Object { addr, ctype: Some(ctype) } = self.object? else { return None };
        match self.member(&Val::whole(addr, ctype), name, false) {
            Ok(found) => Some(found),
            // the item may be called by its type: `task->mm`, `dentry->d_name`
            Err(_) => self.is_called(ctype, name).then_some(CValue::Object(Val::Pointer { to: addr, ctype })),
        }
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        if let Some(known) = self.cache.enumerators.borrow().get(name) {
            return *known;
        }
        let value = self.cx.types.enumerator(name);
        self.cache.enumerators.borrow_mut().insert(name.to_owned(), value);
        value
    }

    fn symbol(&self, name: &str) -> Option<Val> {
        if let Some(known) = self.cache.symbols.borrow().get(name) {
            return *known;
        }
        let (module, bare) = name.split_once('`').map_or((None, name), |(m, n)| (Some(m), n));
        let addr = match module {
            Some(module) => self.cx.symbols.in_module(self.cx, module, bare),
            // a column or member that does not exist must not become some file's `state` or `count`
            None => {
                let found = self.cx.symbols.by_name(self.cx, bare);
                found.iter().find(|s| s.letter.is_ascii_uppercase()).map(|s| s.addr)
            }
        };
        // without a type it has at least an address
        let ctype = || match module {
            Some(module) if !matches!(module, "vmlinux" | "kernel") => self.cx.type_in_module(module, bare),
            _ => self.cx.type_of_global(bare),
        };
        let val = addr.map(|addr| Val::whole(addr, ctype().unwrap_or(TypeId::VOID)));
        self.cache.symbols.borrow_mut().insert(name.to_owned(), val);
        val
    }

    fn member(&self, base: &Val, name: &str, _arrow: bool) -> Found {
        let (addr, ty) = match *base {
            Val::Place { addr, place } if !matches!(self.cx.shape(place.ty).as_deref(), Some(Type::Pointer { .. })) => {
                (addr, place.ty)
            }
            _ => match self.target(base)? {
                Ok((0, _)) => return Ok(CValue::Unreadable("null pointer".into())),
                Ok(found) => found,
                Err(nothing) => return Ok(nothing),
            },
        };
        let inner = self.place(ty, name).ok_or_else(|| {
            let e = path::no_member(&self.cx.types, ty, name);
            e.to_string()
        })?;
        let addr = addr.wrapping_add(inner.bit_offset / 8);
        Ok(CValue::Object(Val::Place { addr, place: Place { bit_offset: inner.bit_offset % 8, ..inner } }))
    }

    fn index(&self, base: &Val, index: i128) -> Found {
        Ok(match self.target(base)? {
            Ok((addr, elem)) => {
                let size = self
                    .cx
                    .types
                    .size_of(elem)
                    .filter(|s| *s > 0)
                    .ok_or_else(|| format!("the size of `{}` is not known", self.cx.types.spell(elem)))?;
                CValue::Object(Val::whole(addr.wrapping_add((index as u64).wrapping_mul(size)), elem))
            }
            Err(nothing) => nothing,
        })
    }

    fn deref(&self, base: &Val) -> Found {
        Ok(match self.target(base)? {
            Ok((0, _)) => CValue::Unreadable("null pointer".into()),
            Ok((addr, ty)) => CValue::Object(Val::whole(addr, ty)),
            Err(nothing) => nothing,
        })
    }

    fn address_of(&self, base: &Val) -> Found {
        match *base {
            Val::Place { addr, place: Place { ty, bit_size: None, .. } } => {
                Ok(CValue::Object(Val::Pointer { to: addr, ctype: ty }))
            }
            Val::Place { .. } => Err("a bit-field has no address".into()),
            Val::Pointer { .. } => Err("a pointer that stands nowhere has no address".into()),
        }
    }

    fn load(&self, object: &Val) -> Found {
        let (addr, place) = match *object {
            Val::Pointer { to, .. } => return Ok(CValue::Int(CInt::u64(to))),
            Val::Place { addr, place } => (addr, place),
        };
        let (size, signed) = match self.cx.shape(place.ty).as_deref() {
            Some(Type::Int { size, signed, .. } | Type::Enum { size, signed, .. }) => (*size, *signed),
            Some(Type::Pointer { .. }) => (8, false),
            Some(Type::Array { .. } | Type::Func { .. }) => return Ok(CValue::Int(CInt::u64(addr))),
            Some(Type::Void) => return Err("its type is not known: cast its address, as in `*(int *)&symbol`".into()),
            _ => return Err(format!("`{}` is no number", self.cx.types.spell(place.ty))),
        };
        let bits = place.bit_size.unwrap_or(size.saturating_mul(8)).min(64);
        let bit = place.bit_offset as u8;
        let mut buf = [0; 9];
        let len = (u32::from(bit) + bits).div_ceil(8).min(9) as usize;
        Ok(match self.read(addr, &mut buf[..len]) {
            Ok(()) => CValue::Int(CInt::new(scalar::extract(&buf[..len], bit, bits).into(), bits, signed)),
            Err(e) => unreadable(&e),
        })
    }

    /// A `char` array, what a `char *` points at, an enumerator's name.
    fn text(&self, object: &Val) -> Option<Found> {
        let types = &self.cx.types;
        let (addr, place) = match *object {
            Val::Pointer { to, ctype } => {
                scalar::chars(types, ctype)?;
                return Some(Ok(if to == 0 { CValue::Null } else { self.string(to, MAX_TEXT) }));
            }
            Val::Place { addr, place } => (addr, place),
        };
        match &*self.cx.shape(place.ty)? {
            Type::Array { elem, count } => {
                scalar::chars(types, *elem)?;
                Some(Ok(self.string(addr, count.filter(|n| *n > 0).unwrap_or(MAX_TEXT))))
            }
            Type::Pointer { to } => {
                scalar::chars(types, *to)?;
                Some(match self.load(object) {
                    Ok(CValue::Int(v)) if v.value() == 0 => Ok(CValue::Null),
                    Ok(CValue::Int(v)) => Ok(self.string(v.as_u64(), MAX_TEXT)),
                    other => other,
                })
            }
            Type::Enum { values, .. } => Some(match self.load(object) {
                Ok(CValue::Int(v)) => Ok(enums::name(values, v.value() as i64).map_or(CValue::Null, CValue::Str)),
                other => other,
            }),
            _ => None,
        }
    }

    fn stride(&self, object: &Val) -> Option<u64> {
        let elem = match *object {
            Val::Pointer { ctype, .. } => ctype,
            Val::Place { place, .. } => match &*self.cx.shape(place.ty)? {
                Type::Pointer { to } => *to,
                Type::Array { elem, .. } => *elem,
                _ => return None,
            },
        };
        // as in GNU C, `void *` counts in bytes
        Some(self.cx.types.size_of(elem).filter(|s| *s > 0).unwrap_or(1))
    }

    fn sizeof(&self, ctype: &str) -> Result<u64, String> {
        let ty = self.ctype(ctype)?;
        self.cx.types.size_of(ty).ok_or_else(|| format!("`{ctype}` has no size"))
    }

    fn cast(&self, ctype: &str, value: CValue<Val>) -> Found {
        let ty = self.ctype(ctype)?;
        let value = match value {
            CValue::Object(object) => self.load(&object)?,
            value => value,
        };
        let CValue::Int(int) = value else { return Ok(value) };
        Ok(match self.cx.shape(ty).as_deref() {
            Some(Type::Pointer { to }) => CValue::Object(Val::Pointer { to: int.as_u64(), ctype: *to }),
            Some(Type::Int { boolean: true, .. }) => CValue::Int(CInt::bool(int.value() != 0)),
            Some(Type::Int { size, signed, .. } | Type::Enum { size, signed, .. }) => {
                CValue::Int(CInt::new(int.value(), size.saturating_mul(8), *signed))
            }
            _ => return Err(format!("a number cannot become a `{ctype}`")),
        })
    }
}
