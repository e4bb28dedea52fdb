//! From a debugging information entry to a [`Type`].

use std::ops::ControlFlow;
use std::sync::Arc;

use gimli::{AttributeValue, DwAt, Reader, RunTimeEndian, Section};

use super::units::{Entry, Unit, Units, Value};
use super::{BROKEN, Dwarf};
use crate::types::{EnumValue, Member, Tag, Type, TypeId};

/// References followed to find a size or a definition.
const MAX_CHAIN: usize = 32;

/// C has no limit, the kernel stays below 5.
const MAX_DIMENSIONS: usize = 16;

/// Larger numbers of bytes are damage: no C object has them.
const MAX_SIZE: u64 = 1 << 40;

impl Dwarf {
    pub(super) fn decode(&self, units: &Units<'_>, local: u32) -> Option<Type> {
        let mut local = local;
        for _ in 0..MAX_CHAIN {
            let (unit, entry) = units.entry(local)?;
            let target = |name| entry.get(name).and_then(|value| units.target(unit, value));
            // a declaration of what stands in a type unit
            match target(gimli::DW_AT_signature) {
                Some(next) if next != local => local = next,
                _ => return self.node(units, unit, &entry),
            }
        }
        None
    }

    fn node<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<Type> {
        let name = || units.name(unit, entry).map(text);
        let to = || self.type_of(units, unit, entry);
        let qualified = |qualifier: &str| Type::Qualified { qualifier: qualifier.into(), to: to() };
        Some(match entry.tag {
            gimli::DW_TAG_base_type => base_type(name()?, entry)?,
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type
            | gimli::DW_TAG_ptr_to_member_type => Type::Pointer { to: to() },
            gimli::DW_TAG_const_type => qualified("const"),
            gimli::DW_TAG_volatile_type => qualified("volatile"),
            gimli::DW_TAG_restrict_type => qualified("restrict"),
            gimli::DW_TAG_atomic_type => qualified("_Atomic"),
            gimli::DW_TAG_packed_type | gimli::DW_TAG_immutable_type | gimli::DW_TAG_shared_type => qualified(""),
            gimli::DW_TAG_typedef => Type::Typedef { name: name()?, to: to() },
            gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => self.compound(units, unit, entry, false)?,
            gimli::DW_TAG_union_type => self.compound(units, unit, entry, true)?,
            gimli::DW_TAG_enumeration_type => enumeration(units, unit, entry)?,
            gimli::DW_TAG_array_type => self.array(units, entry, to())?,
            gimli::DW_TAG_subroutine_type | gimli::DW_TAG_subprogram => self.func(units, unit, entry),
            gimli::DW_TAG_unspecified_type => Type::Void,
            _ => return None,
        })
    }

    /// The type that `DW_AT_type` names; without one it is `void`.
    pub(super) fn type_of<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> TypeId {
        match units.inherited(unit, entry, gimli::DW_AT_type) {
            None => TypeId::VOID,
            Some((unit, value)) => self.id(units.target(unit, value).unwrap_or(BROKEN)),
        }
    }

    fn compound<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>, union: bool) -> Option<Type> {
        let name = units.name(unit, entry).map(text);
        if entry.flag(gimli::DW_AT_declaration) {
            return Some(Type::Forward { tag: if union { Tag::Union } else { Tag::Struct }, name: name? });
        }
        let mut members = Vec::new();
        units.children(entry.local, |child| {
            let is_static = child.flag(gimli::DW_AT_external) || child.flag(gimli::DW_AT_declaration);
            if matches!(child.tag, gimli::DW_TAG_member | gimli::DW_TAG_inheritance) && !is_static {
                members.push(Member {
                    name: units.name(unit, child).map(text).unwrap_or_default(),
                    ty: self.type_of(units, unit, child),
                    bit_offset: bit_offset(units, unit, child).unwrap_or(0),
                    bit_size: child.number(gimli::DW_AT_bit_size).map(|bits| bits.min(u64::from(u32::MAX)) as u32),
                });
            }
            ControlFlow::Continue(())
        });
        Some(Type::Struct { name, size: size(entry)?, union, members: members.into() })
    }

    /// One entry with a child per dimension.
    fn array(&self, units: &Units<'_>, entry: &Entry<'_>, elem: TypeId) -> Option<Type> {
        let mut counts = Vec::new();
        units.children(entry.local, |child| {
            if matches!(child.tag, gimli::DW_TAG_subrange_type | gimli::DW_TAG_enumeration_type) {
                counts.push(count(child));
            }
            if counts.len() < MAX_DIMENSIONS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let outer = counts.first().copied().flatten();
        let mut elem = elem;
        for (dim, &count) in counts.iter().enumerate().skip(1).rev() {
            elem = self.inner_id(entry.local, dim, Type::Array { elem, count })?;
        }
        Some(Type::Array { elem, count: outer })
    }

    fn func<'a>(&self, units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Type {
        let (mut params, mut variadic) = (Vec::new(), false);
        units.children(entry.local, |child| {
            match child.tag {
                gimli::DW_TAG_formal_parameter => params.push(Member {
                    name: units.name(unit, child).map(text).unwrap_or_default(),
                    ty: self.type_of(units, unit, child),
                    bit_offset: 0,
                    bit_size: None,
                }),
                gimli::DW_TAG_unspecified_parameters => variadic = true,
                // the body: parameters stand before it
                gimli::DW_TAG_variable
                | gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_inlined_subroutine
                | gimli::DW_TAG_call_site
                | gimli::DW_TAG_GNU_call_site => return ControlFlow::Break(()),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        Type::Func { ret: self.type_of(units, unit, entry), params: params.into(), variadic }
    }

    /// The value of the enumerator at `local`.
    pub(super) fn enumerator_value(&self, units: &Units<'_>, local: u32) -> Option<i64> {
        let (_, entry) = units.entry(local)?;
        constant(entry.get(gimli::DW_AT_const_value)?, None)
    }
}

/// A name as text. The kernel's are ASCII; what is not UTF-8 is damage and shown as such.
pub(super) fn text(name: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(name).into()
}

fn size(entry: &Entry<'_>) -> Option<u64> {
    let bits = || entry.number(gimli::DW_AT_bit_size).map(|bits| bits.div_ceil(8));
    entry.number(gimli::DW_AT_byte_size).or_else(bits).filter(|&size| size <= MAX_SIZE)
}

fn base_type(name: Arc<str>, entry: &Entry<'_>) -> Option<Type> {
    let Some(AttributeValue::Encoding(encoding)) = entry.get(gimli::DW_AT_encoding) else { return None };
    let size = u32::try_from(size(entry)?).ok()?;
    Some(match encoding {
        gimli::DW_ATE_float | gimli::DW_ATE_complex_float | gimli::DW_ATE_decimal_float => Type::Float { name, size },
        _ => Type::Int {
            name,
            size,
            signed: matches!(encoding, gimli::DW_ATE_signed | gimli::DW_ATE_signed_char | gimli::DW_ATE_signed_fixed),
            char: matches!(encoding, gimli::DW_ATE_signed_char | gimli::DW_ATE_unsigned_char),
            boolean: encoding == gimli::DW_ATE_boolean,
        },
    })
}

fn enumeration<'a>(units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<Type> {
    let name = units.name(unit, entry).map(text);
    if entry.flag(gimli::DW_AT_declaration) {
        return Some(Type::Forward { tag: Tag::Enum, name: name? });
    }
    let size = match size(entry) {
        Some(size) => size,
        None => type_size(units, unit, entry)?,
    };
    // GCC names the integer type behind an enum; older ones leave it to the values
    let declared = units.inherited(unit, entry, gimli::DW_AT_type).and_then(|(unit, value)| {
        let (_, base) = units.entry(units.target(unit, value)?)?;
        match base.get(gimli::DW_AT_encoding)? {
            AttributeValue::Encoding(e) => Some(matches!(e, gimli::DW_ATE_signed | gimli::DW_ATE_signed_char)),
            _ => None,
        }
    });
    let mut values = Vec::new();
    units.children(entry.local, |child| {
        if child.tag == gimli::DW_TAG_enumerator
            && let Some(value) = child.get(gimli::DW_AT_const_value)
            && let Some(value) = constant(value, declared.filter(|&signed| signed).map(|_| size))
        {
            values.push(EnumValue { name: units.name(unit, child).map(text).unwrap_or_default(), value });
        }
        ControlFlow::Continue(())
    });
    let signed = declared.unwrap_or_else(|| values.iter().any(|v| v.value < 0));
    Some(Type::Enum { name, size: u32::try_from(size).ok()?, signed, values: values.into() })
}

/// A constant's value. A fixed-size form does not tell its sign; it fills a `signed` type of the same size only if it
/// is negative.
fn constant(value: Value<'_>, signed: Option<u64>) -> Option<i64> {
    Some(match (value, signed) {
        (AttributeValue::Data1(v), Some(1)) => i64::from(v as i8),
        (AttributeValue::Data2(v), Some(2)) => i64::from(v as i16),
        (AttributeValue::Data4(v), Some(4)) => i64::from(v as i32),
        (AttributeValue::Sdata(v), _) => v,
        (value, _) => value.udata_value()? as i64,
    })
}

/// Number of elements a dimension has.
fn count(range: &Entry<'_>) -> Option<u64> {
    if let Some(count) = range.number(gimli::DW_AT_count) {
        return Some(count);
    }
    match range.get(gimli::DW_AT_upper_bound)? {
        // `[0]` by compilers that write the last index, -1, in the width of an `unsigned int`
        AttributeValue::Data4(u32::MAX) => Some(0),
        AttributeValue::Sdata(last) => Some(last.wrapping_add(1) as u64),
        last => Some(last.udata_value()?.wrapping_add(1)),
    }
}

/// Where a member begins, in bits.
fn bit_offset<'a>(units: &Units<'a>, unit: &Unit<'a>, member: &Entry<'a>) -> Option<u64> {
    if let Some(bits) = member.number(gimli::DW_AT_data_bit_offset) {
        return Some(bits);
    }
    let start = match member.get(gimli::DW_AT_data_member_location) {
        None => 0,
        // DWARF 2: an expression that adds to the struct's address
        Some(AttributeValue::Exprloc(expr)) => match expr.operations(unit.header.encoding()).next() {
            Ok(Some(gimli::Operation::PlusConstant { value })) => value,
            _ => return None,
        },
        Some(value) => value.udata_value()?,
    };
    let bits = start.checked_mul(8)?;
    let Some(from_top) = number(member, gimli::DW_AT_bit_offset) else { return Some(bits) };
    // DWARF 2 and 3 count a bit-field's place from the top bit of its storage unit
    if units.dwarf.debug_info.reader().endian() == RunTimeEndian::Big {
        return bits.checked_add_signed(from_top);
    }
    let storage = match member.number(gimli::DW_AT_byte_size) {
        Some(size) => size,
        None => type_size(units, unit, member)?,
    };
    let width = member.number(gimli::DW_AT_bit_size)?;
    bits.checked_add(storage.checked_mul(8)?)?.checked_sub(width)?.checked_add_signed(from_top.checked_neg()?)
}

/// A number that may be negative.
fn number(entry: &Entry<'_>, name: DwAt) -> Option<i64> {
    match entry.get(name)? {
        AttributeValue::Sdata(v) => Some(v),
        value => value.udata_value().and_then(|v| i64::try_from(v).ok()),
    }
}

/// Size of the type of `entry`, through typedefs and qualifiers.
fn type_size<'a>(units: &Units<'a>, unit: &Unit<'a>, entry: &Entry<'a>) -> Option<u64> {
    let (mut unit, mut value) = units.inherited(unit, entry, gimli::DW_AT_type)?;
    for _ in 0..MAX_CHAIN {
        let (next, entry) = units.entry(units.target(unit, value)?)?;
        if let Some(size) = size(&entry) {
            return Some(size);
        }
        (unit, value) = (next, entry.get(gimli::DW_AT_type)?);
    }
    None
}
