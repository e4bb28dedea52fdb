//! C values: `::print`, and `::printf` for those who want it otherwise.
//!
//! ```console
//! > init_task::print comm pid
//! comm = [ "swapper/0" ]
//! pid = 0
//! > init_task::print -t tasks
//! struct list_head tasks = {
//!     struct list_head *tasks.next = 0xff2b352c013488f0
//!     struct list_head *tasks.prev = 0xff2b352c10b3aa70
//! }
//! > init_task::printf '%s has pid %d\n' comm pid
//! swapper/0 has pid 0
//! > ::print -at struct qstr
//! 0 struct qstr {
//!     0 union {...} <anon> {
//!         0 struct {...} <anon> {
//!             0 u32 hash
//!             4 u32 len
//!         }
//!         0 u64 hash_len
//!     }
//!     8 const unsigned char *name
//! }
//! ```
//!
//! In the middle of a pipe `::print` passes on what the member is: a pointer's or integer's value, the address of a
//! struct or array, each with its type.
//!
//! ```console
//! > ::walk task | ::head -2 | ::print real_parent | ::print comm
//! comm = [ "swapper/0" ]
//! comm = [ "swapper/0" ]
//! > ::walk dentry | ::head -2 | ::print d_name.name
//! d_name.name = 0xff2b352c0140c040 "dd"
//! d_name.name = 0xff2b352c0140c160 "cttyhack"
//! ```

use crate::words;
use engine::{
    Type, TypeId,
    cprint::{
        self, Immediate, Limits, Memory, Nowhere, SpaceMemory,
        path::{self, Found, Path},
        scalar,
    },
    ctree::{Radix, Style},
    debuginfo::Place,
    lang::printf::{Arg, Format},
    prelude::*,
};
use std::{cell::RefCell, rc::Rc};

/// Display the contents of an object.
///
/// Without an address only the layout of the type is shown. The type may be left out if it is known: of what a walker
/// yields, of a global variable, of what `::print` itself passed on. Then a first word that is a member of that type is
/// taken as one.
///
/// Members are written as in C: `a.b->c[3].d`, several of them if wanted; `.` and `->` mean the same, and an index is
/// an expression. `$[n]` stands for whatever member is n bytes into the object.
#[derive(Args)]
pub struct Print {
    /// show the address of each member; in the middle of a pipe, pass addresses on instead of values
    #[arg(short = 'a')]
    addresses: bool,
    /// show character arrays of any length
    #[arg(short = 'C')]
    all_chars: bool,
    /// characters of an array to show (1024)
    #[arg(short = 'c', value_name = "LIMIT")]
    chars: Option<ExprArg>,
    /// integers in decimal
    #[arg(short = 'd')]
    decimal: bool,
    /// show the holes in structs, with what they contain
    #[arg(short = 'h')]
    holes: bool,
    /// the address is not an address, but the data
    #[arg(short = 'i', conflicts_with = "physical")]
    immediate: bool,
    /// show arrays of any length
    #[arg(short = 'L')]
    all_elements: bool,
    /// elements of an array to show (32)
    #[arg(short = 'l', value_name = "LIMIT")]
    elements: Option<ExprArg>,
    /// show pointers as numbers, not as symbols
    #[arg(short = 'n')]
    numbers: bool,
    /// the address is a physical one
    #[arg(short = 'p')]
    physical: bool,
    /// levels of nested structs and arrays to show
    #[arg(short = 's', value_name = "DEPTH")]
    depth: Option<ExprArg>,
    /// show types
    #[arg(short = 't')]
    types: bool,
    /// show types and, of a typedef, the type behind it
    #[arg(short = 'T')]
    bases: bool,
    /// integers in hexadecimal, enums too
    #[arg(short = 'x')]
    hex: bool,
    /// the type, then the members to show
    #[arg(value_name = "TYPE MEMBER")]
    words: Vec<String>,
    /// the words, read for objects of one type
    #[arg(skip)]
    plan: RefCell<Option<Rc<Plan>>>,
}

/// What the words mean for an object of a given type.
struct Plan {
    /// the type of the object that the plan is for
    of: Option<TypeId>,
    /// the type as which it is shown
    ty: TypeId,
    parts: Vec<Part>,
    limits: Limits,
    style: Style,
}

/// What is shown of it.
enum Part {
    Whole,
    Path(Path, String),
    /// bytes from its start
    Offset(u64),
}

impl Dcmd for Print {
    const NAME: &'static str = "print";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let untyped_zero = at.is_some_and(|o| o.addr == 0 && o.ctype.is_none());
        let layout = !self.immediate && (at.is_none() || untyped_zero);
        let object = match at {
            Some(object) => object,
            None => Object::untyped(if self.immediate { cx.env.dot.get() } else { 0 }),
        };
        let plan = self.plan(cx, object, layout)?;
        let (memory, behind) = self.memory(cx, object, layout);
        let start = Found::start(if self.immediate { 0 } else { object.addr }, plan.ty);
        for part in &plan.parts {
            let (found, name) = part.find(cx, start, &*memory, &*behind)?;
            let memory = if found.followed { &*behind } else { &*memory };
            // `| ::head` shows what was printed; a stage that wants an address gets what mdb's pipe would pass on
            let passes = out.piped.then(|| self.value(cx, found, memory)).transpose()?;
            let (mut tree, cut) = cprint::tree(&cx.types, memory, found.addr, found.place, plan.limits, plan.style)?;
            if cut {
                cx.notes.add(found.addr, "a value too large to be shown as a whole");
            }
            tree.path = name;
            tree.passes = passes;
            out.item(Item::Tree(Box::new(tree)))?;
        }
        if !out.piped && !layout {
            cx.env.dot.set(object.addr.wrapping_add(cx.types.size_of(plan.ty).unwrap_or(0)));
            cx.env.increment.set(0);
        }
        Ok(())
    }
}

impl Print {
    /// Where the object's bytes come from, and those that its pointers lead to.
    fn memory<'a>(&self, cx: &Cx<'a>, object: Object, layout: bool) -> (Box<dyn Memory + 'a>, Box<dyn Memory + 'a>) {
        if layout {
            return (Box::new(Nowhere), Box::new(Nowhere));
        }
        let current = SpaceMemory::current(cx);
        match (self.immediate, self.physical) {
            (true, _) => (Box::new(Immediate { value: object.addr, behind: current }), Box::new(current)),
            (_, true) => {
                let physical = SpaceMemory { space: Space::Phys, ..current };
                (Box::new(physical), Box::new(physical.behind()))
            }
            _ => (Box::new(current), Box::new(current)),
        }
    }

    fn plan(&self, cx: &Cx<'_>, object: Object, layout: bool) -> Result<Rc<Plan>> {
        if let Some(plan) = self.plan.borrow().as_ref()
            && plan.of == object.ctype
            && (object.ctype.is_some() || !self.words.is_empty())
        {
            return Ok(plan.clone());
        }
        let plan = Rc::new(self.make_plan(cx, object, layout)?);
        *self.plan.borrow_mut() = Some(plan.clone());
        Ok(plan)
    }

    fn make_plan(&self, cx: &Cx<'_>, object: Object, layout: bool) -> Result<Plan> {
        // where there is no address, none has a symbol
        let known = match self.immediate || layout {
            true => object.ctype,
            false => cprint::typed(cx, object).ctype,
        };
        let radix = cx.env.radix.get();
        let (ty, members) = match known {
            Some(ty) if self.words.is_empty() || is_member(cx, ty, &self.words, radix) => (ty, &self.words[..]),
            None if self.words.is_empty() => {
                let what = format!("the type of what lies at {} is not known", cx.sym(object.addr));
                return Err(Error::Usage(what).hint("name it: `ADDR::print struct foo`"));
            }
            known => match words::take_type(cx, &self.words) {
                Ok((ty, _, rest)) => (ty, rest),
                // mdb's rule: what is no type is a member of the type that is known
                Err(e) => (known.ok_or_else(|| unknown_type(e, &self.words))?, &self.words[..]),
            },
        };
        let part = |word: &String| match word.as_bytes() {
            [b'0'..=b'9', ..] => Ok(Part::Offset(engine::pipeline::eval_text(cx, word)?)),
            _ => Ok(Part::Path(Path::parse(word, radix)?, word.clone())),
        };
        let parts = match members {
            [] => vec![Part::Whole],
            members => members.iter().map(part).collect::<Result<_>>()?,
        };
        let (limits, style) = (self.limits(cx)?, self.style(layout));
        Ok(Plan { of: object.ctype, ty, parts, limits, style })
    }

    fn limits(&self, cx: &Cx<'_>) -> Result<Limits> {
        let limit = |all: bool, given: &Option<ExprArg>, default| match (all, given) {
            (true, _) => Ok(u64::MAX),
            (_, Some(n)) => n.eval(cx),
            _ => Ok(default),
        };
        let options = &cx.env.options;
        Ok(Limits {
            chars: limit(self.all_chars, &self.chars, options.chars.get())?,
            elements: limit(self.all_elements, &self.elements, options.elements.get())?,
            depth: limit(false, &self.depth, u64::MAX)?.try_into().unwrap_or(u32::MAX),
            holes: self.holes,
            symbols: !self.numbers,
        })
    }

    fn style(&self, layout: bool) -> Style {
        let radix = match (self.hex, self.decimal) {
            (true, _) => Radix::Hex,
            (_, true) => Radix::Decimal,
            _ => Radix::Natural,
        };
        Style { types: self.types || self.bases, bases: self.bases, addresses: self.addresses, radix, layout }
    }

    /// What is passed on in the middle of a pipe.
    fn value(&self, cx: &Cx<'_>, found: Found, memory: &dyn Memory) -> Result<Object> {
        let whole = Object { addr: found.addr, ctype: Some(found.place.ty) };
        if self.addresses {
            return Ok(whole);
        }
        Ok(match number(cx, found, memory)? {
            Some((value, pointee)) => Object { addr: value, ctype: pointee },
            None => whole,
        })
    }
}

/// The error for a first word that is no type, where no type is known that it could be a member of.
fn unknown_type(error: Error, words: &[String]) -> Error {
    match words.first() {
        Some(word) if word.contains(['.', '>']) => {
            Error::Usage(format!("`{word}` is a member, but of what type is not known"))
                .hint(format!("`::print struct foo {word}`"))
        }
        _ => error,
    }
}

/// Whether the first word is a member of what is known to lie there, and so no type of the same name.
fn is_member(cx: &Cx<'_>, ty: TypeId, words: &[String], radix: u32) -> bool {
    let Some(first) = words.first().filter(|w| !matches!(w.as_str(), "struct" | "union" | "enum")) else {
        return false;
    };
    let target = match cx.shape(ty).as_deref() {
        Some(Type::Pointer { to }) => *to,
        _ => ty,
    };
    let name = first.trim_start_matches("->").trim_start_matches('.').split(['.', '[', '-']).next().unwrap_or_default();
    first.starts_with(|c: char| c.is_ascii_digit() || c == '[')
        || cx.types.member(target, name).is_some() && Path::parse(first, radix).is_ok()
}

impl Part {
    /// Where the part is, and what it is called.
    fn find(
        &self,
        cx: &Cx<'_>,
        start: Found,
        memory: &dyn Memory,
        behind: &dyn Memory,
    ) -> Result<(Found, Option<(String, &'static str)>)> {
        match self {
            Part::Whole => Ok((start, None)),
            Part::Path(path, text) => {
                let found = path.follow(cx, start, memory, behind)?;
                let open = matches!(cx.shape(found.place.ty).as_deref(), Some(Type::Struct { .. }));
                // `a[0].b` on a pointer is better read as `a->b`
                let name = match text.rfind('[').filter(|_| open && found.arrow) {
                    Some(cut) => (text[..cut].to_owned(), "->"),
                    None => (text.clone(), if open { "." } else { "" }),
                };
                Ok((found, Some(name)))
            }
            Part::Offset(offset) => {
                let (name, place) = path::member_at(&cx.types, start.place.ty, *offset).ok_or_else(|| {
                    let ctype = cx.types.spell(start.place.ty);
                    Error::Usage(format!("`{ctype}` has no byte {offset:#x}: it is not that large"))
                })?;
                let addr = start.addr.wrapping_add(place.bit_offset / 8);
                let place = Place { bit_offset: place.bit_offset % 8, ..place };
                Ok((Found { addr, place, ..start }, Some((name, "."))))
            }
        }
    }
}

/// The value of an integer, enum or pointer, zero-extended, and what a pointer points at.
fn number(cx: &Cx<'_>, found: Found, memory: &dyn Memory) -> Result<Option<(u64, Option<TypeId>)>> {
    let shape = cx.shape(found.place.ty);
    let (size, pointee) = match shape.as_deref() {
        Some(Type::Int { size, .. } | Type::Enum { size, .. }) => (*size, None),
        Some(Type::Pointer { to }) => (8, Some(*to)),
        _ => return Ok(None),
    };
    let bit = found.place.bit_offset as u8;
    let bits = found.place.bit_size.unwrap_or(size.saturating_mul(8)).min(64);
    let mut buf = [0; 9];
    let len = (u32::from(bit % 8) + bits).div_ceil(8) as usize;
    memory.read(found.addr, &mut buf[..len])?;
    let pointee = pointee.filter(|to| cx.types.size_of(*to).is_some());
    Ok(Some((scalar::extract(&buf[..len], bit, bits), pointee)))
}

/// Print members of an object in a format of your own.
///
/// The format is like C's: `%d` and `%u` decimal, `%x` hexadecimal, `%o` octal, `%r` in the default radix, `%p` a
/// pointer, `%a` an address as symbol and offset, `%A` the same or nothing, `%s` a string (a `char` array, a `char *`,
/// an enum's name), `%H` a size for people, `%I` and `%N` IP addresses, `%Y` a date. Between `%` and the letter may
/// stand `-`, `0` and a width, `?` for that of a pointer. Write `\n` where a line ends: what is printed for the next
/// object follows on.
///
/// The type may be left out if it is known. The member `.` is the address itself.
#[derive(Args)]
pub struct Printf {
    /// the format
    #[arg(value_name = "FORMAT")]
    format: String,
    /// the type, then a member for each `%`
    #[arg(value_name = "TYPE MEMBER", required = true)]
    words: Vec<String>,
    /// what was printed since the last newline
    #[arg(skip)]
    line: String,
}

impl Filter for Printf {
    const NAME: &'static str = "printf";
    const LINES: bool = false;

    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()> {
        let object = item.object().ok_or_else(|| {
            Error::Usage("::printf needs an address".into()).hint("`ADDR::printf '%d\\n' struct foo member`")
        })?;
        let usage = |e: engine::lang::printf::PrintfError| Error::Usage(e.to_string());
        let format = Format::parse_plain(&escapes(&self.format)).map_err(usage)?;
        let radix = cx.env.radix.get();
        let (ty, members) = match cprint::typed(cx, object).ctype {
            Some(ty) if self.words.first().is_some_and(|w| w == ".") || is_member(cx, ty, &self.words, radix) => {
                (ty, &self.words[..])
            }
            _ => words::take_type(cx, &self.words).map(|(ty, _, rest)| (ty, rest))?,
        };
        let edge = cx.env.options.autowrap.get().then(|| cx.env.width.get());
        let letters: Vec<char> = format.specs().map(|s| s.letter).collect();
        let memory = SpaceMemory::current(cx);
        let mut args = Vec::with_capacity(members.len());
        for (i, member) in members.iter().enumerate() {
            // too many or too few are refused by the format itself
            let letter = letters.get(i).copied().unwrap_or('x');
            args.push(match member.as_str() {
                "." => Arg::Int(object.addr),
                path => {
                    let start = Found::start(object.addr, ty);
                    let found = Path::parse(path, radix)?.follow(cx, start, &memory, &memory)?;
                    argument(cx, letter, path, found, &memory)?
                }
            });
        }
        self.line.push_str(
            &format.render_at(&args, &engine::scope::CxScope(cx), self.line.chars().count(), edge).map_err(usage)?,
        );
        while let Some((line, rest)) = self.line.split_once('\n') {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.line = rest;
            out.line(line)?;
        }
        if !out.piped {
            cx.env.dot.set(object.addr.wrapping_add(cx.types.size_of(ty).unwrap_or(0)));
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        match std::mem::take(&mut self.line) {
            rest if rest.is_empty() => Ok(()),
            rest => out.line(rest),
        }
    }
}

/// Longest string that `%s` prints.
const MAX_STRING: usize = 1024;

fn argument(cx: &Cx<'_>, letter: char, path: &str, found: Found, memory: &SpaceMemory<'_>) -> Result<Arg> {
    let shape = cx.shape(found.place.ty);
    let wrong = |needs: &str| {
        let ctype = cx.types.spell(found.place.ty);
        Error::Usage(format!("%{letter} needs {needs}; `{path}` is `{ctype}`"))
    };
    match (letter, shape.as_deref()) {
        ('s', Some(Type::Enum { values, .. })) => {
            let value = signed(cx, found, memory)?.unwrap_or(0);
            Ok(Arg::Str(engine::cprint::enums::name(values, value).unwrap_or_else(|| format!("<{value}>"))))
        }
        ('s', Some(Type::Pointer { .. })) => {
            let (to, _) = number(cx, found, memory)?.unwrap_or_default();
            Ok(Arg::Str(engine::text::decode(&memory.text(to, MAX_STRING)?)))
        }
        ('s', Some(Type::Array { elem, count })) => {
            if cx.types.size_of(*elem) != Some(1) {
                return Err(wrong("characters"));
            }
            // an array without a length ends in a NUL
            let most = count.filter(|n| *n > 0).unwrap_or(MAX_STRING as u64).min(MAX_STRING as u64) as usize;
            Ok(Arg::Str(engine::text::decode(&memory.text(found.addr, most)?)))
        }
        ('s', _) => Err(wrong("a string")),
        ('N', Some(Type::Struct { size: 16, .. })) => {
            let mut bytes = [0; 16];
            memory.read(found.addr, &mut bytes)?;
            Ok(Arg::Bytes(bytes))
        }
        ('I', Some(Type::Struct { size: 4, .. })) => {
            let mut bytes = [0; 4];
            memory.read(found.addr, &mut bytes)?;
            Ok(Arg::Int(u32::from_le_bytes(bytes).into()))
        }
        ('N', _) => Err(wrong("a `struct in6_addr`")),
        ('d' | 'q' | 'R' | 'Y', _) => {
            signed(cx, found, memory)?.map(|v| Arg::Int(v as u64)).ok_or_else(|| wrong("an integer"))
        }
        _ => Ok(Arg::Int(number(cx, found, memory)?.ok_or_else(|| wrong("an integer or pointer"))?.0)),
    }
}

/// As [`number`], sign-extended where the type is signed.
fn signed(cx: &Cx<'_>, found: Found, memory: &dyn Memory) -> Result<Option<i64>> {
    let Some((value, _)) = number(cx, found, memory)? else { return Ok(None) };
    Ok(Some(match cx.shape(found.place.ty).as_deref() {
        Some(Type::Int { size, signed: true, .. } | Type::Enum { size, signed: true, .. }) => {
            scalar::sign_extend(value, found.place.bit_size.unwrap_or(size * 8))
        }
        _ => value as i64,
    }))
}

/// `\n`, `\t`, `\\` of a format in single quotes, where the language leaves them as they are.
fn escapes(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => out.push(c),
            _ => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) if other != '\\' => out.extend(['\\', other]),
                _ => out.push('\\'),
            },
        }
    }
    out
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Print>(), DcmdEntry::filter::<Printf>()];
