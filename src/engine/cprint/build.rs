//! Takes a value apart: structs into members, arrays into elements, the rest into [`scalar`](super::scalar)s.
//!
//! Memory is read once for each outermost struct or array. If that fails, its parts are read one by one, so that a page
//! that is missing hides no more than what lies in it.

use super::{
    Limits, Memory, enums,
    scalar::{self, Chars},
};
use crate::{
    ctree::{HOLE, Node, Style, Text, Tree, Value},
    error::{Error, Result},
    item::Object,
};
use debuginfo::{Member, Place, Type, TypeId, Types};
use std::sync::Arc;

/// Deepest nesting that is followed: the kernel's own structs stay below 16, damaged types may contain themselves.
const MAX_LEVEL: u32 = 64;
/// Nodes of one tree. A value beyond that is no longer something to read.
const MAX_NODES: usize = 1 << 18;
/// Bytes that are read in one go.
const MAX_WINDOW: u64 = 1 << 20;
/// Bytes that the windows of one tree may have together.
const MAX_BYTES: u64 = 1 << 28;
/// How much of a string behind a pointer is shown.
const MAX_POINTED: usize = 256;

/// Where a value lies.
#[derive(Clone, Copy)]
struct Spot {
    addr: u64,
    /// first bit in the byte at `addr`
    bit: u8,
    /// width of a bit-field
    bits: Option<u32>,
}

impl Spot {
    fn whole(addr: u64) -> Spot {
        Spot { addr, bit: 0, bits: None }
    }

    fn new(base: u64, bit_offset: u64, bits: Option<u32>) -> Spot {
        Spot { addr: base.wrapping_add(bit_offset / 8), bit: (bit_offset % 8) as u8, bits }
    }
}

/// Bytes that were read ahead.
struct Window {
    base: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(addr.checked_sub(self.base)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

pub(super) struct Builder<'a> {
    types: &'a Types,
    memory: &'a dyn Memory,
    limits: Limits,
    style: Style,
    nodes: usize,
    bytes: u64,
    /// whether anything could be read
    any: bool,
    /// why the first thing that could not be read could not
    failed: Option<Error>,
    /// whether the tree was cut for its size
    cut: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(types: &'a Types, memory: &'a dyn Memory, limits: Limits, style: Style) -> Builder<'a> {
        let (nodes, bytes) = (MAX_NODES, MAX_BYTES);
        Builder { types, memory, limits, style, nodes, bytes, any: false, failed: None, cut: false }
    }

    /// The tree, and whether it was cut because it grew too large.
    pub(super) fn tree(mut self, addr: u64, place: Place) -> Result<(Tree, bool)> {
        let spot = Spot { addr, bit: (place.bit_offset % 8) as u8, bits: place.bit_size };
        let root = self.node("".into(), place.ty, spot, 0, None)?;
        if let Some(error) = self.failed.take().filter(|_| !self.any) {
            return Err(error);
        }
        let tree = Tree {
            passes: None,
            object: Object { addr, ctype: Some(place.ty) },
            ctype: self.types.spell(place.ty),
            path: None,
            root,
            style: self.style,
        };
        Ok((tree, self.cut))
    }

    fn node(&mut self, name: Arc<str>, ty: TypeId, at: Spot, level: u32, window: Option<&Window>) -> Result<Node> {
        self.nodes = self.nodes.saturating_sub(1);
        let spelled = self.style.types.then(|| self.spell(ty, at.bits).into());
        let value = self.value(ty, at, level, window)?;
        Ok(Node { name, addr: at.addr, bit: at.bit, bits: at.bits, ctype: ty, spelled, value })
    }

    /// `u32`, `u32 <<unsigned int>>`, `unsigned int:3`
    fn spell(&self, ty: TypeId, bits: Option<u32>) -> String {
        let mut text = self.types.spell(ty);
        if self.style.bases {
            let base = self.types.spell(self.types.strip(ty));
            if base != text && !base.contains("{...}") {
                text = format!("{text} <<{base}>>");
            }
        }
        if let Some(bits) = bits {
            text.push_str(&format!(":{bits}"));
        }
        text
    }

    fn value(&mut self, ty: TypeId, at: Spot, level: u32, window: Option<&Window>) -> Result<Value> {
        let Some((_, node)) = self.types.resolve(ty) else {
            return Ok(Value::Unreadable("its type cannot be decoded".into()));
        };
        match &*node {
            Type::Struct { .. } => self.structure(&node, at.addr, level, window),
            Type::Array { elem, count } => self.array(*elem, count.unwrap_or(0), at.addr, level, window),
            Type::Forward { .. } | Type::Void | Type::Typedef { .. } | Type::Qualified { .. } => Ok(Value::Declared),
            _ if self.style.layout => Ok(Value::Absent),
            Type::Func { .. } => Ok(self.pointer(at.addr, None)),
            _ => self.scalar(ty, &node, at, window),
        }
    }

    // ---- scalars --------------------------------------------------------------------------------------------------

    fn scalar(&mut self, ty: TypeId, node: &Type, at: Spot, window: Option<&Window>) -> Result<Value> {
        let size = match node {
            Type::Int { size, .. } | Type::Float { size, .. } | Type::Enum { size, .. } => *size,
            _ => 8,
        };
        let bits = at.bits.unwrap_or(size.saturating_mul(8));
        let len = (u32::from(at.bit).saturating_add(bits)).div_ceil(8) as usize;
        let mut buf = [0; 16];
        let Some(buf) = buf.get_mut(..len) else {
            return Ok(Value::Unreadable(format!("a value of {bits} bits").into()));
        };
        if let Err(e) = self.read(at.addr, buf, window) {
            return self.unreadable(e);
        }
        let raw = scalar::extract(buf, at.bit, bits);
        Ok(match node {
            Type::Int { .. } if bits > 64 => Value::Known(hex(buf)),
            Type::Int { signed, .. } => self.integer(ty, raw, bits, *signed, at),
            Type::Enum { values, signed, .. } => Value::Enum {
                value: if *signed { scalar::sign_extend(raw, bits) } else { raw as i64 },
                bits,
                name: enums::name(values, if *signed { scalar::sign_extend(raw, bits) } else { raw as i64 })
                    .map(String::into_boxed_str),
                flags: enums::is_flags(values),
            },
            Type::Float { .. } => match size {
                4 => Value::Float(f64::from(f32::from_bits(raw as u32))),
                8 => Value::Float(f64::from_bits(raw)),
                _ => Value::Known(hex(buf)),
            },
            Type::Pointer { to } => self.pointer(raw, Some(*to)),
            _ => Value::Declared,
        })
    }

    fn integer(&self, ty: TypeId, raw: u64, bits: u32, signed: bool, at: Spot) -> Value {
        // a bit-field as wide as an integer, and where one could be, is one
        let field = at.bits.is_some() && (at.bit != 0 || !matches!(bits, 8 | 16 | 32 | 64));
        if !field && bits == 8 && scalar::chars(self.types, ty) == Some(Chars::Plain) {
            return Value::Char(raw as u8);
        }
        let natural = self.style.radix == Default::default();
        let known = if natural && !field { scalar::known(self.types, ty, raw) } else { None };
        known.unwrap_or(Value::Int { raw, bits, signed, field })
    }

    fn pointer(&self, to: u64, pointee: Option<TypeId>) -> Value {
        let (mut symbol, mut text) = (None, None);
        if self.limits.symbols && to != 0 {
            // small numbers are offsets of per-CPU variables in the symbol table, but hardly in a pointer
            symbol = if to >> 63 == 1 { self.memory.symbol(to).map(String::into_boxed_str) } else { None };
            if let Some(chars) = pointee.and_then(|p| scalar::chars(self.types, p)) {
                text = self
                    .memory
                    .string(to, MAX_POINTED)
                    .ok()
                    .and_then(|bytes| scalar::pointed_text(&bytes, MAX_POINTED, chars));
                // literals have no symbols: what is found is only the last one before them
                symbol = symbol.filter(|s| text.is_none() || !s.contains('+'));
            }
        }
        Value::Pointer { to, symbol, text }
    }

    // ---- structs --------------------------------------------------------------------------------------------------

    fn structure(&mut self, node: &Type, addr: u64, level: u32, window: Option<&Window>) -> Result<Value> {
        let Type::Struct { name, members, size, union, .. } = node else { return Ok(Value::Declared) };
        if !self.style.layout
            && let Some(known) = self.address_family(name.as_deref(), addr, window)?
        {
            return Ok(known);
        }
        if level >= self.limits.depth || level >= MAX_LEVEL {
            return Ok(Value::StructBelow);
        }
        let own = self.window(addr, *size, window)?;
        let window = own.as_ref().or(window);
        let mut out = Vec::with_capacity(members.len().min(self.nodes));
        let mut end = 0;
        for (i, member) in members.iter().enumerate() {
            if self.nodes == 0 {
                self.cut = true;
                return Ok(Value::Struct { members: out, more: members.len() - i });
            }
            if self.limits.holes && !union && member.bit_offset > end {
                self.holes(addr, end, member.bit_offset, window, &mut out)?;
            }
            end = end.max(member.bit_offset.saturating_add(self.width(member)));
            let at = Spot::new(addr, member.bit_offset, member.bit_size);
            out.push(self.node(member.name.clone(), member.ty, at, level + 1, window)?);
        }
        let all = size.saturating_mul(8);
        if self.limits.holes && !union && end < all && !members.is_empty() {
            self.holes(addr, end, all, window, &mut out)?;
        }
        Ok(Value::Struct { members: out, more: 0 })
    }

    /// Width of a member in bits. Of a type without a size it is unknown, and no hole is behind it.
    fn width(&self, member: &Member) -> u64 {
        match member.bit_size {
            Some(bits) => bits.into(),
            None => self.types.size_of(member.ty).map_or(u64::MAX, |size| size.saturating_mul(8)),
        }
    }

    /// Gaps are shown with what they contain: padding is where leaked data hides. They are split where an integer ends.
    fn holes(&mut self, base: u64, from: u64, to: u64, window: Option<&Window>, out: &mut Vec<Node>) -> Result<()> {
        let mut from = from;
        while from < to && self.nodes > 0 {
            self.nodes -= 1;
            let end = if to - from > 64 { (from / 64 + 1) * 64 } else { to };
            let bits = (end - from) as u32;
            let field = !from.is_multiple_of(8) || !matches!(bits, 8 | 16 | 32 | 64);
            let at = Spot::new(base, from, field.then_some(bits));
            let mut buf = [0; 16];
            let buf = &mut buf[..(u32::from(at.bit) + bits).div_ceil(8) as usize];
            let value = if self.style.layout {
                Value::Absent
            } else {
                match self.read(at.addr, buf, window) {
                    Ok(()) => Value::Int { raw: scalar::extract(buf, at.bit, bits), bits, signed: false, field },
                    Err(e) => self.unreadable(e)?,
                }
            };
            let spelled = self.style.types.then(|| match field {
                true => "unsigned".into(),
                false => format!("uint{bits}_t").into(),
            });
            let (name, ctype) = (HOLE.into(), TypeId::VOID);
            out.push(Node { name, addr: at.addr, bit: at.bit, bits: at.bits, ctype, spelled, value });
            from = end;
        }
        Ok(())
    }

    /// `struct in_addr` and `struct in6_addr` are shown as people write them.
    fn address_family(&mut self, name: Option<&str>, addr: u64, window: Option<&Window>) -> Result<Option<Value>> {
        let mut buf = [0; 16];
        let len = match name {
            Some("in_addr") => 4,
            Some("in6_addr") => 16,
            _ => return Ok(None),
        };
        match self.read(addr, &mut buf[..len], window) {
            Ok(()) if len == 4 => Ok(Some(scalar::ipv4(u32::from_le_bytes([buf[0], buf[1], buf[2], buf[3]])))),
            Ok(()) => Ok(Some(scalar::ipv6(buf))),
            Err(e) => self.unreadable(e).map(Some),
        }
    }

    // ---- arrays ---------------------------------------------------------------------------------------------------

    fn array(&mut self, elem: TypeId, count: u64, addr: u64, level: u32, window: Option<&Window>) -> Result<Value> {
        if self.style.layout {
            return Ok(Value::Absent);
        }
        if level >= self.limits.depth || level >= MAX_LEVEL {
            return Ok(Value::ArrayBelow);
        }
        let Some(size) = self.types.size_of(elem) else {
            return Ok(Value::Unreadable("the size of its elements is not known".into()));
        };
        let kind = scalar::chars(self.types, elem);
        let own = self.window(addr, count.min(self.limits.elements).saturating_mul(size), window)?;
        let window = own.as_ref().or(window);
        if let Some(kind) = kind
            && let Some(text) = self.string(addr, count, kind, window)?
        {
            return Ok(Value::String(text));
        }
        let shown = count.min(self.limits.elements);
        let tall =
            matches!(self.types.resolve(elem), Some((_, n)) if matches!(*n, Type::Struct { .. } | Type::Array { .. }));
        let mut items = Vec::with_capacity(shown.min(self.nodes as u64) as usize);
        for i in 0..shown {
            if self.nodes == 0 {
                self.cut = true;
                break;
            }
            let at = Spot::whole(addr.wrapping_add(i.wrapping_mul(size)));
            let mut item = self.node("".into(), elem, at, level + 1, window)?;
            // an `unsigned char` that turned out to be no text is a number, and so is every other
            if !tall {
                item.spelled = None;
            }
            items.push(item);
        }
        let more = count - items.len() as u64;
        Ok(Value::Array { items, more, tall })
    }

    fn string(&mut self, addr: u64, count: u64, kind: Chars, window: Option<&Window>) -> Result<Option<Text>> {
        let len = count.min(self.limits.chars).min(MAX_WINDOW).min(self.bytes) as usize;
        self.bytes -= len as u64;
        let mut buf = vec![0; len];
        match self.read(addr, &mut buf, window) {
            Ok(()) => Ok(scalar::array_text(&buf, count > len as u64, kind)),
            // element by element, the part that is there will show
            Err(e) if e.is_control() => Err(e),
            Err(_) => Ok(None),
        }
    }

    // ---- memory ---------------------------------------------------------------------------------------------------

    /// Reads ahead, unless it was already or is too much. A failure here is no error: the parts will tell.
    fn window(&mut self, base: u64, size: u64, outer: Option<&Window>) -> Result<Option<Window>> {
        let covered = outer.is_some_and(|w| w.get(base, size.try_into().unwrap_or(usize::MAX)).is_some());
        if self.style.layout || covered || size <= 8 || size > MAX_WINDOW.min(self.bytes) {
            return Ok(None);
        }
        self.bytes -= size;
        let mut bytes = vec![0; size as usize];
        match self.memory.read(base, &mut bytes) {
            Ok(()) => Ok(Some(Window { base, bytes })),
            Err(e) if e.is_control() => Err(e),
            Err(_) => Ok(None),
        }
    }

    fn read(&mut self, addr: u64, buf: &mut [u8], window: Option<&Window>) -> Result<()> {
        match window.and_then(|w| w.get(addr, buf.len())) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => self.memory.read(addr, buf)?,
        }
        self.any = true;
        Ok(())
    }

    /// What could not be read stands in the tree with its reason, unless the user wants to stop.
    fn unreadable(&mut self, error: Error) -> Result<Value> {
        if error.is_control() {
            return Err(error);
        }
        let why = error.kind().into();
        self.failed.get_or_insert(error);
        Ok(Value::Unreadable(why))
    }
}

/// Little-endian bytes as one hexadecimal number.
fn hex(bytes: &[u8]) -> Box<str> {
    let digits: String = bytes.iter().rev().map(|b| format!("{b:02x}")).collect();
    match digits.trim_start_matches('0') {
        "" => "0".into(),
        digits => format!("0x{digits}").into(),
    }
}
