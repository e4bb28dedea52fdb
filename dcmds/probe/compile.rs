//! From C expressions to what the kernel can compute at a hit.
//!
//! What cannot be done there is an [`Error`] that says why: regular expressions, globals, texts that are joined. The stage
//! that asked then runs behind the probe, as on a dump.

use super::{
    names::{Meaning, Names},
    path,
};
use engine::{
    Type,
    cprint::scalar,
    debuginfo::{Place, TypeId},
    lang::cexpr::{self, CBinary, CExpr, CKind, CUnary},
    prelude::*,
};
use probes::expr::{Binary, Int, Space as Whose, Test, Text, Unary, Value};

/// Compiles expressions for one source.
pub struct Compiler<'a> {
    cx: &'a Cx<'a>,
    names: &'a Names<'a>,
    /// bytes kept of a text
    text: u16,
}

/// As many members of a structure are shown.
const MOST_MEMBERS: usize = 32;

fn cannot<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Unavailable(why.into()))
}

impl<'a> Compiler<'a> {
    /// Texts are cut to so many bytes.
    pub fn new(cx: &'a Cx<'a>, names: &'a Names<'a>, text: u16) -> Compiler<'a> {
        Compiler { cx, names, text }
    }

    /// A value: what an event carries, or part of a key. Also says whether its numbers have a sign.
    pub fn value(&self, text: &str) -> Result<(Value, Looks)> {
        if let Some(of) = path::of(text) {
            let (whose, at, ctype) = self.place(self.meaning(&parse(of)?)?)?;
            return Ok((Value::Path(Box::new(path::way(self.cx, whose, at, ctype)?)), Looks::Path));
        }
        let expr = parse(text)?;
        self.value_of(self.meaning(&expr)?)
    }

    /// The members of a structure that can be read, each as it would be asked for; none if this is no structure.
    pub fn members(&self, text: &str) -> Result<Vec<String>> {
        let (Meaning::Memory { place, .. } | Meaning::Held { place, .. }) = self.meaning(&parse(text)?)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        self.named(place.ty, &mut names);
        let whole = match text.strip_prefix('*') {
            Some(pointer) if cexpr::parse(pointer).is_ok_and(|p| !matches!(p.kind, CKind::Binary(..))) => {
                format!("{pointer}->")
            }
            _ => format!("{text}."),
        };
        let all = names.into_iter().map(|name| format!("{whole}{name}"));
        Ok(all.filter(|member| self.value(member).is_ok()).take(MOST_MEMBERS).collect())
    }

    /// The names of a structure's members, and of those that stand in members without a name.
    fn named(&self, ctype: TypeId, names: &mut Vec<String>) {
        let Some(Type::Struct { members, .. }) = self.cx.shape(ctype).as_deref().cloned() else { return };
        for member in members.iter() {
            match &*member.name {
                "" if names.len() < MOST_MEMBERS => self.named(member.ty, names),
                "" => {}
                name => names.push(name.to_owned()),
            }
        }
    }

    /// A number, for histograms and sums.
    pub fn number(&self, text: &str) -> Result<Int> {
        let expr = parse(text)?;
        Ok(self.int(&expr)?.0)
    }

    /// A condition.
    pub fn test(&self, text: &str) -> Result<Test> {
        self.truth(&parse(text)?)
    }

    fn value_of(&self, meaning: Meaning) -> Result<(Value, Looks)> {
        match meaning {
            Meaning::Fraction { bits, size } => return Ok((Value::Int(bits), Looks::Fraction(size))),
            Meaning::Shown { int, looks } => return Ok((Value::Int(int), looks)),
            _ => {}
        }
        if let Meaning::Memory { whose, at, offset, place } = &meaning
            && let Some(Type::Float { size: size @ (4 | 8), .. }) = self.cx.shape(place.ty).as_deref()
        {
            let bits = Int::load(*whose, at.clone(), small(*offset)?, *size as u8, false);
            return Ok((Value::Int(bits), Looks::Fraction(*size)));
        }
        if let Some(text) = self.as_text(&meaning)? {
            let max = if matches!(text, Text::Comm | Text::Saved { .. }) { 16 } else { self.text };
            return Ok((Value::Text(text, max), Looks::Text));
        }
        let looks = match &meaning {
            Meaning::Pointer { ctype, .. } => Looks::Pointer(*ctype),
            Meaning::Syscall(_) => Looks::Syscall,
            Meaning::Code { whose: Whose::Kernel, .. } => Looks::KernelCode,
            Meaning::Code { .. } => Looks::UserCode,
            Meaning::Held { place, .. } | Meaning::Memory { place, .. } => match self.cx.shape(place.ty).as_deref() {
                Some(Type::Pointer { to }) => Looks::Pointer(*to),
                Some(Type::Enum { .. }) => Looks::Enum(place.ty),
                _ => Looks::Number,
            },
            _ => Looks::Number,
        };
        let (int, signed) = self.load(meaning)?;
        Ok((Value::Int(int), if signed && looks == Looks::Number { Looks::Signed } else { looks }))
    }

    fn truth(&self, expr: &CExpr) -> Result<Test> {
        match &expr.kind {
            CKind::Binary(CBinary::And, a, b) => Ok(Test::All(vec![self.truth(a)?, self.truth(b)?])),
            CKind::Binary(CBinary::Or, a, b) => Ok(Test::Any(vec![self.truth(a)?, self.truth(b)?])),
            CKind::Unary(CUnary::Not, a) => Ok(Test::Not(Box::new(self.truth(a)?))),
            CKind::Binary(op @ (CBinary::Eq | CBinary::Ne), a, b) => {
                if let Some(test) = self.text_test(a, b)? {
                    return Ok(if *op == CBinary::Eq { test } else { Test::Not(Box::new(test)) });
                }
                Ok(Test::Int(self.int(expr)?.0))
            }
            CKind::Match { text, regex, negated } => {
                let Some(with) = literal_prefix(regex.as_str()) else {
                    return cannot("of regular expressions only `^text` is compared in the kernel");
                };
                let Some(text) = self.as_text(&self.meaning(text)?)? else { return cannot("this is no text") };
                let test = Test::Text { text, with: with.into(), prefix: true };
                Ok(if *negated { Test::Not(Box::new(test)) } else { test })
            }
            _ => Ok(Test::Int(self.int(expr)?.0)),
        }
    }

    /// A comparison of a text with one that was written down.
    fn text_test(&self, a: &CExpr, b: &CExpr) -> Result<Option<Test>> {
        let (text, with) = match (&a.kind, &b.kind) {
            (CKind::Str(with), _) => (b, with),
            (_, CKind::Str(with)) => (a, with),
            _ => return Ok(None),
        };
        let meaning = self.meaning(text)?;
        if let Meaning::Syscall(int) = meaning {
            let Some(number) = super::syscalls::number(self.cx, with) else {
                return cannot(format!("there is no system call `{with}`"));
            };
            return Ok(Some(Test::Int(int.equals(number as i64))));
        }
        if let Some(value) = self.enumerator(&meaning, with) {
            return Ok(Some(Test::Int(self.load(meaning)?.0.equals(value))));
        }
        let Some(text) = self.as_text(&meaning)? else { return cannot("a number is compared with a text") };
        Ok(Some(Test::Text { text, with: with.clone().into_bytes(), prefix: false }))
    }

    fn meaning(&self, expr: &CExpr) -> Result<Meaning> {
        match &expr.kind {
            CKind::Int(int) => Ok(Meaning::Int { int: Int::Const(int.as_u64() as i64), signed: int.is_signed() }),
            CKind::Str(_) => Ok(Meaning::Literal),
            CKind::Null => Ok(Meaning::number(Int::Const(0))),
            CKind::Name(name) => self.name(name),
            CKind::Sizeof(ctype) => {
                let size = self.cx.size_of(ctype.trim_start_matches("struct "))?;
                Ok(Meaning::number(Int::Const(size as i64)))
            }
            CKind::Cast(ctype, inner) => self.cast(ctype, inner),
            CKind::Member { base, name, .. } => self.member(self.meaning(base)?, name),
            CKind::Index(base, index) => self.index(self.meaning(base)?, index),
            CKind::Unary(CUnary::Deref, base) => {
                let (whose, at, ctype) = self.target(self.meaning(base)?)?;
                Ok(Meaning::Memory { whose, at, offset: 0, place: whole(ctype) })
            }
            CKind::Unary(CUnary::AddressOf, of) => match self.meaning(of)? {
                Meaning::Memory { whose, at, offset, place } if place.bit_size.is_none() => {
                    Ok(Meaning::Pointer { whose, to: plus(at, offset), ctype: place.ty })
                }
                _ => cannot("this has no address"),
            },
            _ => {
                let (int, signed) = self.operation(expr)?;
                Ok(Meaning::Int { int, signed })
            }
        }
    }

    fn name(&self, name: &str) -> Result<Meaning> {
        if let Some(found) = self.names.find(name) {
            return Ok(found);
        }
        // ENOSPC is a macro, and no enumerator that debug information would know
        if let Some(number) = walkers::special::errno_number(name) {
            return Ok(Meaning::Int { int: Int::Const(number as i64), signed: true });
        }
        // the kernel's, else one of a program's
        if let Some(value) = self.cx.enumerator(name).or_else(|| self.cx.types.enumerator(name)) {
            return Ok(Meaning::Int { int: Int::Const(value), signed: true });
        }
        if matches!(name, "stack" | "kstack" | "ustack") {
            return cannot(format!(
                "`{name}` is a key of `::group`; `::stack -k` and `::stack -u` show it of each hit"
            ));
        }
        if self.names.is_untyped() {
            return cannot(format!(
                "there is no `{name}` here: this kernel tells nothing of its types (no BTF), so that arguments are numbers, \
                 `arg0` and on; `kmdb -k VMLINUX` takes them from the kernel's file with debug information"
            ));
        }
        if self.names.lacks_declaration() {
            return cannot(format!(
                "there is no `{name}` here: what this system call takes cannot be seen, neither in the kernel's memory nor in \
                 tracefs; `arg0` to `arg5` are its arguments"
            ));
        }
        let known: Vec<_> =
            self.names.all().into_iter().chain(super::names::COMMON.iter().map(|(n, _)| (*n).to_owned())).collect();
        let error = format!("there is no `{name}` here; there are {}", known.join(", "));
        cannot(match self.names.why_not() {
            Some(why) => format!("{error}: {why}"),
            None => error,
        })
    }

    /// Where a pointer or an array leads, and what is there.
    fn target(&self, meaning: Meaning) -> Result<(Whose, Int, TypeId)> {
        match meaning {
            Meaning::Pointer { whose, to, ctype } => Ok((whose, to, ctype)),
            Meaning::Missing(why) => cannot(why),
            Meaning::Held { ref words, place } => match self.cx.shape(place.ty).as_deref() {
                Some(Type::Pointer { to }) => Ok((self.names.whose(), self.held(words, place)?.0, *to)),
                _ => cannot(format!("`{}` is no pointer", self.cx.types.spell(place.ty))),
            },
            Meaning::Memory { whose, at, offset, place } => match self.cx.shape(place.ty).as_deref() {
                Some(Type::Array { elem, .. }) => Ok((whose, plus(at, offset), *elem)),
                Some(Type::Pointer { to }) => Ok((whose, Int::load(whose, at, small(offset)?, 8, false), *to)),
                _ => cannot(format!("`{}` is no pointer", self.cx.types.spell(place.ty))),
            },
            _ if self.cx.struct_type("task_struct").is_none() => cannot(
                "this is a number: this kernel tells nothing of its types (no BTF); `kmdb -k VMLINUX` takes them from the \
                 kernel's file with debug information",
            ),
            _ => cannot("this is no pointer whose type is known: cast it, as in `((struct foo *)arg0)->member`"),
        }
    }

    /// The address and the type of a structure, or of what a pointer leads to.
    fn place(&self, meaning: Meaning) -> Result<(Whose, Int, TypeId)> {
        match meaning {
            Meaning::Memory { whose, at, offset, place }
                if matches!(self.cx.shape(place.ty).as_deref(), Some(Type::Struct { .. })) =>
            {
                Ok((whose, plus(at, offset), self.cx.types.strip(place.ty)))
            }
            other => self.target(other).map(|(whose, at, ctype)| (whose, at, self.cx.types.strip(ctype))),
        }
    }

    fn member(&self, base: Meaning, name: &str) -> Result<Meaning> {
        if let Meaning::Held { words, place } = &base
            && matches!(self.cx.shape(place.ty).as_deref(), Some(Type::Struct { .. }))
        {
            let Some(member) = self.cx.types.member(place.ty, name) else {
                return cannot(self.cx.types.explain_member(place.ty, name));
            };
            let place = Place { bit_offset: place.bit_offset + member.bit_offset, ..member };
            return Ok(Meaning::Held { words: words.clone(), place });
        }
        let (whose, at, offset, ctype) = match base {
            Meaning::Memory { whose, at, offset, place }
                if matches!(self.cx.shape(place.ty).as_deref(), Some(Type::Struct { .. })) =>
            {
                (whose, at, offset, place.ty)
            }
            base => {
                let (whose, at, ctype) = self.target(base)?;
                (whose, at, 0, ctype)
            }
        };
        let place = self.cx.types.member(ctype, name);
        let Some(place) = place else { return cannot(self.cx.types.explain_member(ctype, name)) };
        let offset = offset.wrapping_add(place.bit_offset / 8);
        Ok(Meaning::Memory { whose, at, offset, place: Place { bit_offset: place.bit_offset % 8, ..place } })
    }

    fn index(&self, base: Meaning, index: &CExpr) -> Result<Meaning> {
        let (whose, at, elem) = self.target(base)?;
        let Some(size) = self.cx.types.size_of(elem).filter(|size| *size > 0) else {
            return cannot("the size of this is not known");
        };
        let (index, _) = self.int(index)?;
        let distance = Int::binary(Binary::Mul, index, Int::Const(size as i64));
        Ok(Meaning::Memory { whose, at: Int::binary(Binary::Add, at, distance), offset: 0, place: whole(elem) })
    }

    fn cast(&self, ctype: &str, inner: &CExpr) -> Result<Meaning> {
        let ty = self.cx.ctype(ctype)?;
        let whose = match self.meaning(inner)? {
            Meaning::Pointer { whose, .. } | Meaning::Memory { whose, .. } => whose,
            _ => self.names.whose(),
        };
        let (int, _) = self.int(inner)?;
        match self.cx.shape(ty).as_deref() {
            Some(Type::Pointer { to }) => Ok(Meaning::Pointer { whose, to: int, ctype: *to }),
            Some(Type::Int { size, signed, .. } | Type::Enum { size, signed, .. }) => {
                Ok(Meaning::Int { int: extended(int, size.saturating_mul(8), *signed), signed: *signed })
            }
            _ => cannot(format!("a number cannot become a `{ctype}`")),
        }
    }

    /// The value of that name in the enumeration that something is of.
    fn enumerator(&self, meaning: &Meaning, name: &str) -> Option<i64> {
        let (Meaning::Held { place, .. } | Meaning::Memory { place, .. }) = meaning else { return None };
        match &*self.cx.shape(place.ty)? {
            Type::Enum { values, .. } => values.iter().find(|v| *v.name == *name).map(|v| v.value),
            _ => None,
        }
    }

    /// One side of an operation: beside a value of an enumeration, names are its own.
    fn side(&self, expr: &CExpr, other: &CExpr) -> Result<(Int, bool)> {
        if let CKind::Name(name) = &expr.kind
            && self.names.find(name).is_none()
            && let Some(value) = self.enumerator(&self.meaning(other)?, name)
        {
            return Ok((Int::Const(value), true));
        }
        self.int(expr)
    }

    /// The number an expression stands for, and whether it has a sign.
    fn int(&self, expr: &CExpr) -> Result<(Int, bool)> {
        self.load(self.meaning(expr)?)
    }

    fn load(&self, meaning: Meaning) -> Result<(Int, bool)> {
        let (whose, at, offset, place) = match meaning {
            Meaning::Int { int, signed } => return Ok((int, signed)),
            Meaning::Pointer { to, .. } => return Ok((to, false)),
            Meaning::Syscall(int) | Meaning::Code { int, .. } | Meaning::Shown { int, .. } => return Ok((int, false)),
            Meaning::Missing(why) => return cannot(why),
            Meaning::Fraction { .. } => return cannot("numbers with a fraction are not computed with at the hit"),
            Meaning::Held { words, place } => return self.held(&words, place),
            Meaning::Text(Text::Memory { at, .. }) => return Ok((at, false)),
            Meaning::Text(_) | Meaning::Literal => return cannot("this is a text, and a number is needed"),
            Meaning::Memory { whose, at, offset, place } => (whose, at, offset, place),
        };
        let (size, signed) = match self.cx.shape(place.ty).as_deref() {
            Some(Type::Int { size, signed, .. } | Type::Enum { size, signed, .. }) => (*size, *signed),
            Some(Type::Pointer { .. }) => (8, false),
            Some(Type::Array { .. }) => return Ok((plus(at, offset), false)),
            Some(Type::Struct { .. }) => {
                return cannot(format!("`{}` is a structure: name a member of it", self.cx.types.spell(place.ty)));
            }
            _ => return cannot(format!("`{}` is no number", self.cx.types.spell(place.ty))),
        };
        let Some(bits) = place.bit_size else {
            return Ok((Int::load(whose, at, small(offset)?, size as u8, signed), signed));
        };
        // a bit field: the bytes that hold it, moved down and cut
        let shift = place.bit_offset as u32;
        let bytes = (shift + bits).div_ceil(8).next_power_of_two();
        if bytes > 8 {
            return cannot("this bit field lies across words");
        }
        let word = Int::load(whose, at, small(offset)?, bytes as u8, false);
        let moved = Int::binary(Binary::Shr, word, Int::Const(shift.into()));
        Ok((extended(moved, bits, signed), signed))
    }

    /// A number that is in registers, or a part of what is there.
    fn held(&self, words: &[Option<Int>], place: Place) -> Result<(Int, bool)> {
        let (size, signed) = match self.cx.shape(place.ty).as_deref() {
            Some(Type::Int { size, signed, .. } | Type::Enum { size, signed, .. }) => (*size, *signed),
            Some(Type::Pointer { .. }) => (8, false),
            Some(Type::Float { .. }) => return cannot("numbers with a fraction are not read"),
            _ => return cannot(format!("`{}` is in registers: ask for its members", self.cx.types.spell(place.ty))),
        };
        let (word, shift) = ((place.bit_offset / 64) as usize, place.bit_offset % 64);
        let bits = place.bit_size.unwrap_or_else(|| size.saturating_mul(8));
        let Some(Some(word)) = words.get(word).filter(|_| shift + u64::from(bits) <= 64) else {
            return cannot("this part is in no register that probes see");
        };
        let moved = match shift {
            0 => word.clone(),
            shift => Int::binary(Binary::Shr, word.clone(), Int::Const(shift as i64)),
        };
        Ok((extended(moved, bits, signed), signed))
    }

    fn operation(&self, expr: &CExpr) -> Result<(Int, bool)> {
        match &expr.kind {
            CKind::Unary(op, of) => {
                let (of, signed) = self.int(of)?;
                Ok(match op {
                    CUnary::Plus => (of, signed),
                    CUnary::Neg => (negated(of), true),
                    CUnary::BitNot => (Int::Unary(Unary::BitNot, Box::new(of)), signed),
                    CUnary::Not => (Int::Unary(Unary::Not, Box::new(of)), true),
                    CUnary::Deref | CUnary::AddressOf => return cannot("this cannot be computed here"),
                })
            }
            CKind::Binary(op, a, b) => {
                let ((a, a_signed), (b, b_signed)) = (self.side(a, b)?, self.side(b, a)?);
                // a constant takes the other side's kind, so that `ret == -1` means what it says
                let signed = (a_signed && (b_signed || is_constant(&b))) || (b_signed && is_constant(&a));
                let (op, result) = match op {
                    CBinary::Add => (Binary::Add, signed),
                    CBinary::Sub => (Binary::Sub, signed),
                    CBinary::Mul => (Binary::Mul, signed),
                    CBinary::Div | CBinary::Rem if signed => {
                        return cannot("numbers with a sign are not divided in the kernel");
                    }
                    CBinary::Div => (Binary::Div, false),
                    CBinary::Rem => (Binary::Rem, false),
                    CBinary::BitAnd => (Binary::And, signed),
                    CBinary::BitOr => (Binary::Or, signed),
                    CBinary::BitXor => (Binary::Xor, signed),
                    CBinary::Shl => (Binary::Shl, a_signed),
                    CBinary::Shr => (if a_signed { Binary::Sar } else { Binary::Shr }, a_signed),
                    CBinary::Eq => (Binary::Eq, true),
                    CBinary::Ne => (Binary::Ne, true),
                    CBinary::Lt => (Binary::Lt { signed }, true),
                    CBinary::Le => (Binary::Le { signed }, true),
                    CBinary::Gt => (Binary::Gt { signed }, true),
                    CBinary::Ge => (Binary::Ge { signed }, true),
                    CBinary::And => (Binary::LogicalAnd, true),
                    CBinary::Or => (Binary::LogicalOr, true),
                };
                Ok((Int::binary(op, a, b), result))
            }
            _ => cannot("this cannot be computed in the kernel"),
        }
    }

    /// The text an expression stands for: what is one, a `char` array, what a `char *` points at.
    fn as_text(&self, meaning: &Meaning) -> Result<Option<Text>> {
        let chars = |ctype| scalar::chars(&self.cx.types, ctype).is_some();
        Ok(match meaning {
            Meaning::Text(text) => Some(text.clone()),
            Meaning::Pointer { whose, to, ctype } if chars(*ctype) => {
                Some(Text::Memory { space: *whose, at: to.clone() })
            }
            Meaning::Held { words, place } => match self.cx.shape(place.ty).as_deref() {
                Some(Type::Pointer { to }) if chars(*to) => {
                    Some(Text::Memory { space: self.names.whose(), at: self.held(words, *place)?.0 })
                }
                _ => None,
            },
            Meaning::Memory { whose, at, offset, place } => match self.cx.shape(place.ty).as_deref() {
                Some(Type::Array { elem, .. }) if chars(*elem) => {
                    Some(Text::Memory { space: *whose, at: plus(at.clone(), *offset) })
                }
                Some(Type::Pointer { to }) if chars(*to) => {
                    Some(Text::Memory { space: *whose, at: Int::load(*whose, at.clone(), small(*offset)?, 8, false) })
                }
                _ => None,
            },
            _ => None,
        })
    }
}

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// a number without a sign
    Number,
    /// a number with one
    Signed,
    /// an address of that
    Pointer(TypeId),
    /// a value of that enumeration, which has a name
    Enum(TypeId),
    /// a number with a fraction, of so many bytes
    Fraction(u32),
    /// an address
    Address,
    /// an address of the kernel, by the symbol that it is of
    Symbol,
    /// the number of a device
    Device,
    /// an address of the network, its first byte in front
    Network,
    /// a text
    Text,
    /// an address of the kernel's code
    KernelCode,
    /// an address of the process's code
    UserCode,
    /// the number of a system call, which has a name
    Syscall,
    /// names that lead up to a root
    Path,
    /// a stack of the kernel
    KernelStack,
    /// a stack of the process
    UserStack,
}

fn parse(text: &str) -> Result<CExpr> {
    cexpr::parse(text).map_err(|e| Error::from(e).nested_in(text))
}

fn whole(ty: TypeId) -> Place {
    Place { ty, bit_offset: 0, bit_size: None }
}

fn small(offset: u64) -> Result<i32> {
    i32::try_from(offset).map_err(|_| Error::Unavailable("this member is too far from its start".into()))
}

fn plus(at: Int, offset: u64) -> Int {
    if offset == 0 { at } else { Int::binary(Binary::Add, at, Int::Const(offset as i64)) }
}

fn is_constant(int: &Int) -> bool {
    matches!(int, Int::Const(_))
}

fn negated(int: Int) -> Int {
    match int {
        Int::Const(value) => Int::Const(value.wrapping_neg()),
        int => Int::Unary(Unary::Neg, Box::new(int)),
    }
}

/// The low bits of a number, extended by their sign if they have one.
fn extended(int: Int, bits: u32, signed: bool) -> Int {
    if bits >= 64 {
        return int;
    }
    let shift = Int::Const((64 - bits).into());
    let up = Int::binary(Binary::Shl, int, shift.clone());
    Int::binary(if signed { Binary::Sar } else { Binary::Shr }, up, shift)
}

/// The text of `^text`, if the pattern is no more than that.
fn literal_prefix(pattern: &str) -> Option<&str> {
    let text = pattern.strip_prefix('^')?;
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/ :,@%".contains(&b)).then_some(text)
}
