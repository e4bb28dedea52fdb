//! One BTF type record: `struct btf_type` and what follows it.

use std::sync::Arc;

use super::{Btf, LOST, u32_at};
use crate::types::{EnumValue, Member, Tag, Type};

/// `BTF_KIND_*`
pub(super) mod kind {
    pub const INT: u8 = 1;
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FWD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNC: u8 = 12;
    pub const FUNC_PROTO: u8 = 13;
    pub const VAR: u8 = 14;
    pub const DATASEC: u8 = 15;
    pub const FLOAT: u8 = 16;
    pub const DECL_TAG: u8 = 17;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;
}

/// The fixed part of a type, and where its variable part lies.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub kind: u8,
    /// `kind_flag`: bit-fields in a struct, a union in a forward, signed values in an enum
    pub flag: bool,
    /// number of members, values or parameters
    pub vlen: u32,
    /// string offset of its name
    pub name: u32,
    /// its size or the type it refers to
    pub arg: u32,
    /// position of the variable part
    body: usize,
    /// position of the next record
    pub end: usize,
}

impl Record {
    /// Size of the fixed part.
    pub(super) const SIZE: usize = 12;

    /// Reads the record at a position of the blob; `None` if its kind is unknown or it runs past the type section.
    pub(super) fn read(btf: &Btf, at: usize) -> Option<Record> {
        let (name, info, arg) = (word(btf, at)?, word(btf, at + 4)?, word(btf, at + 8)?);
        // 7 bits of kind and 24 of length since 7.1; the bits that were added had to be zero before.
        let (kind, vlen) = ((info >> 24 & 0x7f) as u8, info & 0xff_ffff);
        let body = at + Record::SIZE;
        let end = body.checked_add(body_len(btf, kind, vlen as usize)?)?;
        (end <= btf.types.end).then_some(Record { kind, flag: info >> 31 != 0, vlen, name, arg, body, end })
    }

    pub(super) fn is_enum(&self) -> bool {
        matches!(self.kind, kind::ENUM | kind::ENUM64)
    }

    /// Of a section: the id, offset and size of each variable.
    pub(super) fn placed(self, btf: &Btf) -> impl Iterator<Item = (u32, u32, u32)> {
        (self.body..self.end)
            .step_by(12)
            .filter_map(|at| Some((word(btf, at)?, word(btf, at + 4)?, word(btf, at + 8)?)))
    }

    /// The namespace of its name, if it is a type with one.
    pub(super) fn tag(&self) -> Option<Tag> {
        Some(match self.kind {
            kind::STRUCT => Tag::Struct,
            kind::UNION => Tag::Union,
            kind::FWD if self.flag => Tag::Union,
            kind::FWD => Tag::Struct,
            kind::ENUM | kind::ENUM64 => Tag::Enum,
            kind::INT | kind::FLOAT | kind::TYPEDEF => Tag::Name,
            _ => return None,
        })
    }

    /// Whether it defines what it names. An enum without values is a declaration (there are no empty enums in C).
    pub(super) fn is_complete(&self) -> bool {
        self.kind != kind::FWD && !(self.is_enum() && self.vlen == 0)
    }

    /// Size in bytes of those that have one.
    pub(super) fn size(&self) -> u32 {
        match self.kind {
            kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::INT | kind::FLOAT => self.arg,
            _ => 0,
        }
    }

    /// Whether an enum's values are signed.
    pub(super) fn is_signed(&self, btf: &Btf) -> bool {
        if self.flag || btf.marks_signed() {
            return self.flag;
        }
        // Pahole before 1.24 wrote 32 bits and did not say. What is a little below zero, or the least of all, is
        // meant to be negative; what is far below is a mask or a magic number of an unsigned enum.
        let mut values = (0..self.vlen).filter_map(|nth| self.enumerator(btf, nth, true));
        values.any(|(_, value)| (-0x10000..0).contains(&value) || value == i64::from(i32::MIN))
    }

    /// String offset of the name, and value, of the `nth` enumerator.
    pub(super) fn enumerator(&self, btf: &Btf, nth: u32, signed: bool) -> Option<(u32, i64)> {
        let wide = self.kind == kind::ENUM64;
        let at = self.body + nth as usize * if wide { 12 } else { 8 };
        if nth >= self.vlen {
            return None;
        }
        let (name, low) = (word(btf, at)?, word(btf, at + 4)?);
        let value = match (wide, signed) {
            (true, _) => (u64::from(word(btf, at + 8)?) << 32 | u64::from(low)) as i64,
            (false, true) => i64::from(low as i32),
            (false, false) => i64::from(low),
        };
        Some((name, value))
    }

    /// The node this record describes; `None` for what is no type, and for one whose body is missing.
    pub(super) fn decode(&self, btf: &Btf) -> Option<Type> {
        if btf.holes.hit(self.body - Record::SIZE..self.end) {
            return None;
        }
        let to = btf.type_id(self.arg);
        let name = || btf.text(self.name);
        let must_name = || name().unwrap_or_else(|| "".into());
        let qualified = |qualifier: &str| Type::Qualified { qualifier: qualifier.into(), to };
        Some(match self.kind {
            kind::INT => self.int(btf, must_name())?,
            kind::FLOAT => Type::Float { name: must_name(), size: self.arg },
            kind::PTR => Type::Pointer { to },
            kind::ARRAY => {
                // BTF does not tell `[]` from `[0]`; the kernel means the same by both.
                let count = word(btf, self.body + 8)?;
                let elem = btf.type_id(word(btf, self.body)?);
                Type::Array { elem, count: (count > 0).then_some(u64::from(count)) }
            }
            kind::STRUCT | kind::UNION => Type::Struct {
                name: name(),
                size: u64::from(self.arg),
                union: self.kind == kind::UNION,
                members: self.members(btf)?,
            },
            kind::ENUM | kind::ENUM64 => match name() {
                Some(name) if self.vlen == 0 => Type::Forward { tag: Tag::Enum, name },
                name => self.enumeration(btf, name)?,
            },
            kind::FWD => Type::Forward { tag: self.tag()?, name: must_name() },
            kind::TYPEDEF => Type::Typedef { name: must_name(), to },
            kind::CONST => qualified("const"),
            kind::VOLATILE => qualified("volatile"),
            kind::RESTRICT => qualified("restrict"),
            // As the source spells them: `__user` is BTF_TYPE_TAG(user) (include/linux/compiler_types.h); with the
            // flag the tag is any attribute.
            kind::TYPE_TAG if self.flag => qualified(&format!("__attribute__(({}))", must_name())),
            kind::TYPE_TAG => qualified(&format!("__{}", must_name())),
            kind::FUNC_PROTO => self.prototype(btf)?,
            kind::FUNC => match btf.record(self.arg)? {
                (owner, proto) if proto.kind == kind::FUNC_PROTO => proto.decode(owner)?,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn int(&self, btf: &Btf, name: Arc<str>) -> Option<Type> {
        let encoding = word(btf, self.body)? >> 24;
        let boolean = encoding & 4 != 0;
        // pahole never sets the CHAR bit (2)
        let char = !boolean && self.arg == 1 && (encoding & 2 != 0 || name.contains("char"));
        Some(Type::Int { name, size: self.arg, signed: encoding & 1 != 0, char, boolean })
    }

    fn members(&self, btf: &Btf) -> Option<Arc<[Member]>> {
        let member = |at: usize| {
            let offset = word(btf, at + 8)?;
            let (bit_offset, bits) = if self.flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            Some(Member {
                name: btf.text(word(btf, at)?).unwrap_or_else(|| "".into()),
                ty: btf.type_id(word(btf, at + 4)?),
                bit_offset: u64::from(bit_offset),
                bit_size: (bits > 0).then_some(bits),
            })
        };
        self.elements(12).map(member).collect()
    }

    fn enumeration(&self, btf: &Btf, name: Option<Arc<str>>) -> Option<Type> {
        let signed = self.is_signed(btf);
        let value = |nth| {
            let (name, value) = self.enumerator(btf, nth, signed)?;
            Some(EnumValue { name: btf.text(name).unwrap_or_else(|| LOST.into()), value })
        };
        let values: Arc<[EnumValue]> = (0..self.vlen).map(value).collect::<Option<_>>()?;
        Some(Type::Enum { name, size: self.arg, signed, values })
    }

    fn prototype(&self, btf: &Btf) -> Option<Type> {
        let param = |at: usize| {
            let name = btf.text(word(btf, at)?).unwrap_or_else(|| "".into());
            Some(Member { name, ty: btf.type_id(word(btf, at + 4)?), bit_offset: 0, bit_size: None })
        };
        // `...` is a last parameter without name and type
        let last = self.end.checked_sub(8).filter(|_| self.vlen > 0);
        let variadic = last.is_some_and(|at| word(btf, at) == Some(0) && word(btf, at + 4) == Some(0));
        let count = self.vlen as usize - usize::from(variadic);
        let params = self.elements(8).take(count).map(param).collect::<Option<_>>()?;
        Some(Type::Func { ret: btf.type_id(self.arg), params, variadic })
    }

    /// Positions of the elements of the variable part.
    fn elements(&self, size: usize) -> impl Iterator<Item = usize> {
        (self.body..self.end).step_by(size)
    }
}

/// Bytes that follow the fixed part; `None` for a kind that neither we nor the blob's own layout table know.
fn body_len(btf: &Btf, kind: u8, vlen: usize) -> Option<usize> {
    Some(match kind {
        kind::PTR | kind::FWD | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
        kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT => 0,
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::ENUM | kind::FUNC_PROTO => 8 * vlen,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * vlen,
        0 => return None,
        _ => {
            let at = btf.layout.start + 4 * usize::from(kind);
            let &[info, elem] = btf.bytes.get(..btf.layout.end)?.get(at..)?.first_chunk()?;
            usize::from(info) + usize::from(elem) * vlen
        }
    })
}

fn word(btf: &Btf, at: usize) -> Option<u32> {
    u32_at(&btf.bytes, at)
}
