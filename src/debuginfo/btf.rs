//! BTF: the types that a kernel carries in itself, and each module on top of them.
//!
//! The blob is used where it lies. The first question makes an index of where each type starts (4 bytes a type), the
//! first question by name a hash of the names; a type is decoded when it is asked for. Format: the kernel's
//! Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
//!
//! BTF has the kernel's per-CPU variables, and its functions' prototypes, but no other variable's type.
//!
//! **Holes.** A missing page of strings loses names (they read `?`), one of types loses what lies in it
//! ([`Btf::lost`]). Where damage leaves no way to tell which types follow, those are lost too, and
//! [`Btf::damaged_after`] says from where on.

mod index;
mod record;

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::holes::{Holes, Patchy};
use crate::names::{NameHash, NameIndex};
use crate::types::{SourceId, Tag, Type, TypeId, TypeSource};
use index::Index;
use record::{Record, kind};

const MAGIC: u16 = 0xeb9f;

/// Longest name, with its NUL: the kernel takes no longer one (KSYM_NAME_LEN).
const NAME_LEN: usize = 512;

/// What stands for a name that lies in a hole or outside the strings.
pub(crate) const LOST: &str = "?";

/// Where a module's BTF continues its base's numbering: `start_id` and `start_str_off` of its `struct btf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// id of its first type
    pub id: u32,
    /// offset of its first string
    pub string: u32,
}

/// One BTF blob.
pub struct Btf {
    source: SourceId,
    bytes: Bytes,
    holes: Holes,
    types: Range<usize>,
    strings: Range<usize>,
    /// sizes of kinds, as the encoder describes them (`struct btf_layout`); empty in most kernels
    layout: Range<usize>,
    base: Option<Arc<Btf>>,
    start: Start,
    index: OnceLock<Index>,
    names: OnceLock<NameIndex>,
    enumerators: OnceLock<(Vec<(u32, u32)>, NameIndex)>,
    holed: OnceLock<bool>,
}

impl Btf {
    /// Reads the header of a kernel's own BTF. `source` is the number its [`TypeId`]s will bear.
    pub fn new(blob: impl Into<Patchy>, source: SourceId) -> Result<Btf, String> {
        Btf::parse(blob.into(), source, None, Start { id: 1, string: 0 })
    }

    /// Reads the header of BTF that continues `base`, as every module's does. `start` is where, if that is known from
    /// elsewhere; else it is right after the end of `base`.
    pub fn split(
        blob: impl Into<Patchy>,
        source: SourceId,
        base: Arc<Btf>,
        start: Option<Start>,
    ) -> Result<Btf, String> {
        let start = start.unwrap_or_else(|| base.end());
        if start.id < 1 {
            return Err("BTF cannot start at type 0, which is void".to_owned());
        }
        Btf::parse(blob.into(), source, Some(base), start)
    }

    fn parse(blob: Patchy, source: SourceId, base: Option<Arc<Btf>>, start: Start) -> Result<Btf, String> {
        let Patchy { bytes, holes } = blob;
        let word = |at| u32_at(&bytes, at).ok_or_else(|| format!("BTF of {} bytes has no header", bytes.len()));
        let first = word(0)?;
        if first as u16 != MAGIC {
            return Err(format!("not BTF: it starts with {:#x}", first as u16));
        }
        let version = (first >> 16) as u8;
        if version != 1 {
            return Err(format!("BTF version {version} is unknown"));
        }
        let header = word(4)? as usize;
        if header < 24 || holes.hit(0..24) {
            return Err(format!("BTF header of {header} bytes is damaged"));
        }
        // Sections are relative to the header's end. One that runs past the blob is cut: what is there is good.
        let section = |at: usize| -> Result<Range<usize>, String> {
            let from = header.saturating_add(word(at)? as usize).min(bytes.len());
            Ok(from..from.saturating_add(word(at + 4)? as usize).min(bytes.len()))
        };
        let (types, strings) = (section(8)?, section(16)?);
        let layout = if header >= 32 { section(24)? } else { 0..0 };
        let (index, names, enumerators, holed) = Default::default();
        Ok(Btf { source, bytes, holes, types, strings, layout, base, start, index, names, enumerators, holed })
    }

    /// Number of types of its own, with those that are [`lost`](Btf::lost) in holes between others.
    pub fn len(&self) -> usize {
        self.index().len()
    }

    /// Types that lie in holes; those behind [`damaged_after`](Btf::damaged_after) are not counted.
    pub fn lost(&self) -> usize {
        self.index().lost
    }

    /// Whether it has no types.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last id before damage hides where the next type starts; `None` if all types are there.
    pub fn damaged_after(&self) -> Option<u32> {
        self.index().damaged.then(|| self.end().id - 1)
    }

    /// What is missing or damaged, in a sentence; `None` if nothing is.
    pub fn damage(&self) -> Option<String> {
        let names: usize = self.holes.slice(self.strings.clone()).ranges().iter().map(|hole| hole.len()).sum();
        let mut parts = Vec::new();
        if self.lost() > 0 {
            parts.push(format!("{} of {} types are not in the dump", self.lost(), self.len()));
        }
        if let Some(last) = self.damaged_after() {
            parts.push(format!("the types behind number {last} cannot be told"));
        }
        if names > 0 {
            parts.push(format!("{names} bytes of names are not in the dump and read `{LOST}`"));
        }
        (!parts.is_empty()).then(|| format!("BTF: {}", parts.join("; ")))
    }

    /// Where BTF on top of this one starts.
    fn end(&self) -> Start {
        Start {
            id: self.start.id.saturating_add(self.len() as u32),
            string: self.start.string.saturating_add(self.strings.len() as u32),
        }
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::build(self))
    }

    /// The blob, this one or a base, that owns type `id`.
    fn owner(&self, id: u32) -> Option<&Btf> {
        let mut btf = self;
        while id < btf.start.id {
            btf = btf.base.as_deref()?;
        }
        Some(btf)
    }

    fn record(&self, id: u32) -> Option<(&Btf, Record)> {
        let owner = self.owner(id)?;
        Some((owner, owner.item((id - owner.start.id) as usize)?))
    }

    /// A type id of this blob, for the world.
    fn type_id(&self, id: u32) -> TypeId {
        match self.owner(id) {
            Some(owner) => TypeId { source: owner.source, local: id },
            None => TypeId::VOID,
        }
    }

    /// The name at a string offset; `None` for offset 0, which means no name.
    fn name(&self, offset: u32) -> Option<&[u8]> {
        let mut btf = self;
        while offset < btf.start.string {
            let Some(base) = btf.base.as_deref() else { return Some(LOST.as_bytes()) };
            btf = base;
        }
        if offset == 0 {
            return None;
        }
        Some(btf.own_name((offset - btf.start.string) as usize).unwrap_or(LOST.as_bytes()))
    }

    fn own_name(&self, offset: usize) -> Option<&[u8]> {
        let from = self.strings.start.checked_add(offset)?;
        let rest = self.bytes.get(from..self.strings.end.min(from.saturating_add(NAME_LEN)))?;
        let len = memchr::memchr(0, rest)?;
        // A name that ends where a hole begins may be half a name.
        if self.holes.hit(from..from + len + 1) {
            return None;
        }
        rest.get(..len)
    }

    fn text(&self, offset: u32) -> Option<Arc<str>> {
        self.name(offset).map(|name| String::from_utf8_lossy(name).into())
    }

    fn names(&self) -> &NameIndex {
        self.names.get_or_init(|| {
            NameIndex::build(self.len(), |item| {
                let record = self.item(item)?;
                (record.tag().is_some() || matches!(record.kind, kind::FUNC | kind::VAR))
                    .then(|| self.name(record.name).map(NameHash::of))?
            })
        })
    }

    /// A type by its place among the blob's own.
    fn item(&self, item: usize) -> Option<Record> {
        Record::read(self, self.index().get(item)?)
    }

    /// The blob's own types of that name, in order.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Record)> + 'a {
        self.names().candidates(name.as_bytes()).filter_map(move |item| {
            let record = self.item(item)?;
            (self.name(record.name) == Some(name.as_bytes())).then_some((self.start.id + item as u32, record))
        })
    }

    /// All enumerators as (type id, place in it), with their index.
    fn enumerators(&self) -> &(Vec<(u32, u32)>, NameIndex) {
        self.enumerators.get_or_init(|| {
            let mut all = Vec::new();
            for item in 0..self.len() {
                if let Some(record) = self.item(item).filter(Record::is_enum) {
                    all.extend((0..record.vlen).map(|nth| (self.start.id + item as u32, nth)));
                }
            }
            let index = NameIndex::build(all.len(), |i| {
                let &(id, nth) = all.get(i)?;
                self.name(self.record(id)?.1.enumerator(self, nth, false)?.0).map(NameHash::of)
            });
            (all, index)
        })
    }

    fn marks_signed(&self) -> bool {
        self.index().marks_signed || self.base.as_deref().is_some_and(Btf::marks_signed)
    }
}

impl Btf {
    /// The number by which the kernel knows a function of that name, to attach programs to it (`attach_btf_id`).
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.functions(name).next().map(|(id, _)| id)
    }

    /// The functions of that name that have a prototype.
    fn functions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Record)> + 'a {
        let is_proto = |id| self.record(id).is_some_and(|(_, r)| r.kind == kind::FUNC_PROTO);
        self.named(name).filter(move |(_, r)| r.kind == kind::FUNC && is_proto(r.arg))
    }

    /// The variables of a section, such as `.data..percpu`: name, distance from the section's start, bytes.
    pub fn variables(&self, section: &str) -> Vec<(String, u64, u64)> {
        let sections = (0..self.len()).filter_map(|item| self.item(item)).filter(|r| r.kind == kind::DATASEC);
        let mut out = Vec::new();
        for record in sections.filter(|r| self.name(r.name) == Some(section.as_bytes())) {
            for (id, offset, size) in record.placed(self) {
                let name = self.record(id).filter(|(_, r)| r.kind == kind::VAR).and_then(|(_, r)| self.name(r.name));
                out.extend(name.map(|n| (String::from_utf8_lossy(n).into_owned(), offset.into(), size.into())));
            }
        }
        out
    }
}

impl TypeSource for Btf {
    fn as_btf(self: Arc<Self>) -> Option<Arc<Btf>> {
        Some(self)
    }

    fn is_holed(&self) -> bool {
        *self.holed.get_or_init(|| self.damage().is_some())
    }

    /// What had the name still has it among the strings, unless those have a hole too.
    fn may_lack(&self, name: &str) -> bool {
        let holed = || !self.holes.slice(self.strings.clone()).is_empty();
        let spelled = [b"\0", name.as_bytes(), b"\0"].concat();
        let strings = || self.bytes.get(self.strings.clone()).unwrap_or_default();
        self.is_holed()
            && !self.named(name).any(|(_, record)| record.is_complete())
            && (holed() || memchr::memmem::find(strings(), &spelled).is_some())
    }

    fn get(&self, local: u32) -> Option<Type> {
        if local == 0 {
            return Some(Type::Void);
        }
        let (owner, record) = self.record(local)?;
        record.decode(owner)
    }

    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let mut found: Vec<_> = self.named(name).filter(|(_, r)| r.tag() == Some(tag)).collect();
        // Where files disagree about a name, the largest is most often the one meant.
        found.sort_by_key(|(id, r)| (!r.is_complete(), Reverse(r.size()), *id));
        found.into_iter().map(|(id, _)| self.type_id(id)).collect()
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        let (all, index) = self.enumerators();
        index.candidates(name.as_bytes()).find_map(|i| {
            let &(id, nth) = all.get(i)?;
            let (_, record) = self.record(id)?;
            let (at, value) = record.enumerator(self, nth, record.is_signed(self))?;
            (self.name(at) == Some(name.as_bytes())).then_some(value)
        })
    }

    fn variable(&self, name: &str) -> Option<TypeId> {
        self.named(name).find(|(_, r)| r.kind == kind::VAR).map(|(_, r)| self.type_id(r.arg))
    }

    fn function(&self, name: &str) -> Option<TypeId> {
        self.functions(name).next().map(|(_, r)| self.type_id(r.arg))
    }

    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        for record in (0..self.len()).filter_map(|item| self.item(item)) {
            let (Some(tag), Some(name)) = (record.tag(), self.name(record.name)) else { continue };
            if !visit(tag, &String::from_utf8_lossy(name)) {
                return;
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

#[cfg(test)]
mod tests;
