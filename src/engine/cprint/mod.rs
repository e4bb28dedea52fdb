//! The C printer: from a typed address to a [`Tree`], from a tree to text or JSON.
//!
//! | file | knows |
//! |---|---|
//! | `build` | structs, unions, arrays, holes: how a value is taken apart |
//! | `scalar` | integers, pointers, characters, enums: how the parts are read |
//! | `enums` | names of an enumeration's values, flags too |
//! | `text` | mdb's layout |
//! | `json` | the same for programs |
//! | [`path`] | `a.b->c[3].d`: from one object to another |
//!
//! A dump is hostile and types may be as well: a struct may contain itself and an array may claim 2^60 elements. A tree
//! has bounds on its depth, its nodes and the bytes it reads, and says where it stopped.

mod build;
pub mod enums;
mod json;
pub mod path;
pub mod scalar;
#[cfg(test)]
mod tests;
mod text;

pub use json::{integer, signed_integer, string};

use crate::{
    ctree::{Style, Tree},
    cx::Cx,
    error::{Error, Result},
    item::Object,
    session::Session,
};
use debuginfo::{Place, TypeId, Types};
use targets::Space;

/// What is to be taken into a tree.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// characters of an array that are shown as a string
    pub chars: u64,
    /// elements of other arrays
    pub elements: u64,
    /// levels of structs and arrays inside the value
    pub depth: u32,
    /// gaps between members are shown as members
    pub holes: bool,
    /// pointers are looked up in the symbol tables, and strings behind `char *` are read
    pub symbols: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { chars: 1024, elements: 32, depth: u32::MAX, holes: false, symbols: true }
    }
}

/// Where a tree's bytes come from.
pub trait Memory {
    /// Fills `buf` with what lies at `addr`.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()>;
    /// What a pointer found there points at: up to `max` bytes before a NUL.
    fn string(&self, addr: u64, max: usize) -> Result<Vec<u8>>;
    /// `symbol+0x1c`
    fn symbol(&self, addr: u64) -> Option<String>;
}

/// Memory of the target.
#[derive(Clone, Copy)]
pub struct SpaceMemory<'a> {
    /// the session
    pub session: &'a Session,
    /// where addresses lead
    pub space: Space,
    /// where pointers lead that are found there: what stands in physical memory points at virtual memory
    pub behind: Space,
}

impl<'a> SpaceMemory<'a> {
    /// Memory as the verbs and `::print` see it.
    pub fn current(cx: &Cx<'a>) -> SpaceMemory<'a> {
        let space = cx.env.space.get();
        SpaceMemory { session: cx.session, space, behind: space }
    }

    /// What pointers lead to.
    pub fn behind(self) -> SpaceMemory<'a> {
        SpaceMemory { space: self.behind, ..self }
    }

    /// Up to `max` bytes before a NUL; what lies before an unreadable page is kept.
    pub fn text(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < max {
            let at = addr.saturating_add(out.len() as u64);
            let mut buf = [0; 64];
            // a read that stays within 64 bytes never crosses into a page that is missing
            let len = (64 - (at % 64) as usize).min(max - out.len());
            match self.session.read_in(self.space, at, &mut buf[..len]) {
                Ok(()) => {}
                Err(e) if out.is_empty() || e.is_control() => return Err(e),
                Err(_) => break,
            }
            let end = buf[..len].iter().position(|b| *b == 0);
            out.extend_from_slice(&buf[..end.unwrap_or(len)]);
            if end.is_some() {
                break;
            }
        }
        Ok(out)
    }
}

impl Memory for SpaceMemory<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.session.read_in(self.space, addr, buf)
    }
    fn string(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        self.behind().text(addr, max)
    }
    fn symbol(&self, addr: u64) -> Option<String> {
        self.session.symbolize(addr)
    }
}

/// `::print -i`: the number itself is the data.
pub struct Immediate<'a> {
    /// the number
    pub value: u64,
    /// what pointers in it lead to
    pub behind: SpaceMemory<'a>,
}

impl Memory for Immediate<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = self.value.to_le_bytes();
        for (i, b) in buf.iter_mut().enumerate() {
            let at = addr.checked_add(i as u64).and_then(|at| usize::try_from(at).ok());
            *b = at
                .and_then(|at| bytes.get(at).copied())
                .ok_or_else(|| Error::Usage("an immediate value has 8 bytes; this type is larger".into()))?;
        }
        Ok(())
    }
    fn string(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        self.behind.string(addr, max)
    }
    fn symbol(&self, addr: u64) -> Option<String> {
        self.behind.symbol(addr)
    }
}

/// Where only the layout is wanted: every pointer leads to zero, from where offsets are counted.
pub struct Nowhere;

impl Memory for Nowhere {
    fn read(&self, _: u64, buf: &mut [u8]) -> Result<()> {
        buf.fill(0);
        Ok(())
    }
    fn string(&self, _: u64, _: usize) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn symbol(&self, _: u64) -> Option<String> {
        None
    }
}

/// The value of type `place.ty` at `addr`; of `place` only the type and the bits within the first byte matter.
///
/// What cannot be read is so marked in the tree; it is an error only if nothing can be read at all.
pub fn tree(
    types: &Types,
    memory: &dyn Memory,
    addr: u64,
    place: Place,
    limits: Limits,
    style: Style,
) -> Result<(Tree, bool)> {
    build::Builder::new(types, memory, limits, style).tree(addr, place)
}

/// The type of the symbol that begins exactly at `addr`.
pub fn type_at(session: &Session, addr: u64) -> Option<TypeId> {
    let symbol = session.symbols.by_addr(session, addr).filter(|s| s.addr == addr)?;
    session.type_of_symbol(&symbol)
}

/// The object with its type, guessed from the symbol there if it is not known.
pub fn typed(session: &Session, object: Object) -> Object {
    Object { ctype: object.ctype.or_else(|| type_at(session, object.addr)), ..object }
}
