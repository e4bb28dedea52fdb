//! Member paths: `a.b->c[3].d`, from one object to another.
//!
//! A pointer is followed wherever the path goes on behind it, so `.` and `->` are the same, and both may be left out at
//! the start. An index is an expression in the default radix.

use super::Memory;
use crate::{
    cx::Cx,
    error::{Error, Result},
    lang::ast::Expr,
    names, pipeline,
};
use debuginfo::{Place, Type, TypeId, Types};

/// Deepest nesting of structs and arrays that an offset is resolved through.
const MAX_DEPTH: usize = 64;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(Expr),
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// address of the first byte
    pub addr: u64,
    /// what is there; `bit_offset` counts from that byte and is below 8
    pub place: Place,
    /// whether a pointer was followed: then the address is a virtual one, wherever the path began
    pub followed: bool,
    /// the path's last step was `[0]` on a pointer: its members are better joined with `->`
    pub arrow: bool,
}

impl Found {
    /// The object a path begins at.
    pub fn start(addr: u64, ty: TypeId) -> Found {
        Found { addr, place: Place { ty, bit_offset: 0, bit_size: None }, followed: false, arrow: false }
    }
}

impl Path {
    /// Parses a path; `radix` is that of numbers in an index.
    pub fn parse(text: &str, radix: u32) -> Result<Path> {
        let wrong = |what: &str| {
            Error::Usage(format!("`{text}` is no member path: {what}"))
                .hint("a path is like `d_name.name` or `a->b[3].c`")
        };
        let (mut steps, mut rest) = (Vec::new(), text.trim());
        rest = rest.strip_prefix("->").or(rest.strip_prefix('.')).unwrap_or(rest);
        loop {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            match name {
                "" if steps.is_empty() && after.starts_with('[') => {}
                "" => return Err(wrong("a member's name is missing")),
                _ => steps.push(Step::Member(name.to_owned())),
            }
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, after) = inner.split_once(']').ok_or_else(|| wrong("no `]`"))?;
                steps.push(Step::Index(crate::lang::parse_expr(index, radix)?.node));
                rest = after;
            }
            if rest.is_empty() {
                return Ok(Path { steps });
            }
            rest = rest
                .strip_prefix("->")
                .or(rest.strip_prefix('.'))
                .ok_or_else(|| wrong(&format!("`{rest}` does not belong there")))?;
        }
    }

    /// Follows the path from `start`, which lies in `memory`; what pointers lead to lies `behind`.
    pub fn follow(&self, cx: &Cx<'_>, start: Found, memory: &dyn Memory, behind: &dyn Memory) -> Result<Found> {
        let mut at = start;
        let mut named = false;
        for step in &self.steps {
            at.arrow = false;
            let (bare, shape) = cx.types.resolve(at.place.ty).ok_or_else(|| untyped(&cx.types, at.place.ty))?;
            match (step, &*shape) {
                (Step::Member(name), _) => {
                    let outer = match &*shape {
                        Type::Pointer { to } => {
                            at = deref(at, *to, if at.followed { behind } else { memory })?;
                            *to
                        }
                        _ => bare,
                    };
                    let inner = cx.types.member(outer, name).ok_or_else(|| no_member(&cx.types, outer, name))?;
                    at.addr = at.addr.wrapping_add(inner.bit_offset / 8);
                    at.place = Place { bit_offset: inner.bit_offset % 8, ..inner };
                    named = true;
                }
                (Step::Index(index), Type::Array { elem, count }) => {
                    let index = pipeline::eval(cx, index)?;
                    if let Some(count) = count.filter(|n| *n != 0 && index >= *n) {
                        let what = format!("index {index:#x} is outside of array bounds [0 .. {:#x}]", count - 1);
                        cx.notes.add(at.addr, what);
                    }
                    at = element(&cx.types, at, *elem, index)?;
                }
                (Step::Index(index), Type::Pointer { to }) => {
                    let index = pipeline::eval(cx, index)?;
                    at = element(&cx.types, deref(at, *to, if at.followed { behind } else { memory })?, *to, index)?;
                    at.arrow = index == 0 && named;
                }
                (Step::Index(_), _) => {
                    let ctype = cx.types.spell(at.place.ty);
                    return Err(Error::Usage(format!("`{ctype}` is neither an array nor a pointer: it has no index")));
                }
            }
        }
        Ok(at)
    }
}

fn deref(at: Found, to: TypeId, memory: &dyn Memory) -> Result<Found> {
    let mut buf = [0; 8];
    memory.read(at.addr, &mut buf)?;
    Ok(Found { followed: true, ..Found::start(u64::from_le_bytes(buf), to) })
}

fn element(types: &Types, at: Found, elem: TypeId, index: u64) -> Result<Found> {
    let size = types.size_of(elem).ok_or_else(|| untyped(types, elem))?;
    let addr = at.addr.wrapping_add(index.wrapping_mul(size));
    Ok(Found { followed: at.followed, ..Found::start(addr, elem) })
}

fn untyped(types: &Types, ty: TypeId) -> Error {
    Error::Unavailable(format!("the layout of `{}` is not known", types.spell(ty)))
}

/// The error for a member that a type does not have, with the nearest names.
pub fn no_member(types: &Types, ty: TypeId, name: &str) -> Error {
    let ctype = types.spell(ty);
    let members = types.members(ty);
    if members.is_empty() {
        return Error::Usage(format!("`{ctype}` is no struct or union: it has no member `{name}`"));
    }
    let error = Error::NoMember { ctype, members: vec![name.to_owned()] };
    let hint = names::did_you_mean(name, members.iter().map(|(n, _)| &**n));
    error.hint(hint.unwrap_or_else(|| format!("`::print {}` shows its members", types.spell(types.strip(ty)))))
}

/// The innermost member of `ty` that lies at byte `offset`, with its path: how `::print` shows an offset and how an
/// address inside a struct is named. The place counts from the start of `ty`.
pub fn member_at(types: &Types, ty: TypeId, offset: u64) -> Option<(String, Place)> {
    let (mut path, mut at) = (String::new(), Place { ty, bit_offset: 0, bit_size: None });
    let wanted = offset.checked_mul(8)?;
    for _ in 0..MAX_DEPTH {
        let left = wanted.checked_sub(at.bit_offset)?;
        let (_, shape) = types.resolve(at.ty)?;
        match &*shape {
            Type::Struct { members, .. } => {
                let covers = |m: &&debuginfo::Member| {
                    let bits = m.bit_size.map_or_else(|| types.size_of(m.ty).unwrap_or(0).saturating_mul(8), u64::from);
                    // a bit-field is meant by the byte that it begins in
                    let begin = if m.bit_size.is_some() { m.bit_offset / 8 * 8 } else { m.bit_offset };
                    begin <= left && left < m.bit_offset.saturating_add(bits)
                };
                let Some(m) = members.iter().find(covers) else { break };
                if !m.name.is_empty() {
                    path.push_str(if path.is_empty() { "" } else { "." });
                    path.push_str(&m.name);
                }
                at = Place { ty: m.ty, bit_offset: at.bit_offset.checked_add(m.bit_offset)?, bit_size: m.bit_size };
            }
            Type::Array { elem, .. } => {
                let bits = types.size_of(*elem)?.checked_mul(8).filter(|b| *b > 0)?;
                let index = left / bits;
                path.push_str(&format!("[{index}]"));
                at = Place { ty: *elem, bit_offset: at.bit_offset.checked_add(index * bits)?, bit_size: None };
            }
            _ => break,
        }
    }
    (offset < types.size_of(ty)?).then_some((path, at))
}
