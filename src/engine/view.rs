//! Views: kernel structures read by member name into small Rust structs.
//!
//! ```ignore
//! /// Who touched an object last: `struct track` (mm/slub.c).
//! #[derive(View)]
//! #[ctype("track")]
//! pub struct Track { #[addr] pub at: u64, pub cpu: u32, pub pid: u32, pub handle: Option<u32> }
//!
//! let track: Track = cx.view(addr)?;
//! ```
//!
//! Where the members lie is asked of the target's types once per session. A missing member is an error that names the
//! struct; a missing `Option` member is `None`.

use crate::{
    error::{Doing, Error, Result},
    session::Session,
};
use debuginfo::{Tag, Type, TypeId, Types};
use std::sync::Arc;

/// A field of a view: the member paths that may hold it, newest spelling first.
#[derive(Debug)]
pub struct FieldSpec {
    /// `state`, `event.type`, `mem[0].base`
    pub paths: &'static [&'static str],
    /// whether the C struct may lack it
    pub optional: bool,
}

/// A Rust struct filled from a C struct of the target. Derived.
pub trait View: Sized + 'static {
    /// Names of the C struct (or union), newest first, without `struct`.
    const CTYPES: &'static [&'static str];
    /// Its fields.
    const FIELDS: &'static [FieldSpec];
    /// Decodes the fields.
    fn from_fields(fields: &FieldReader<'_>) -> Result<Self>;
}

/// Where the fields of one view lie in this target.
#[derive(Debug)]
pub struct Layout {
    /// the C struct that was found
    pub ctype: TypeId,
    /// its size in bytes
    pub size: u64,
    /// one for each field; `None` if optional and absent
    pub fields: Vec<Option<Field>>,
    /// byte range of the struct that holds all fields
    span: (u64, u64),
}

/// Where one field lies.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// from the start of the struct, in bits
    pub bit_offset: u64,
    /// width in bits
    pub bits: u64,
    /// sign-extend
    pub signed: bool,
    /// its type
    pub ctype: TypeId,
}

impl Field {
    /// A member by its path in a type.
    pub fn find(types: &Types, ctype: TypeId, path: &str) -> Option<Field> {
        let place = types.member(ctype, path)?;
        let bits = match place.bit_size {
            Some(bits) => u64::from(bits),
            None => types.size_of(place.ty).unwrap_or(0).saturating_mul(8),
        };
        let signed = match types.resolve(place.ty).as_ref().map(|(_, node)| &**node) {
            Some(Type::Int { signed, .. } | Type::Enum { signed, .. }) => *signed,
            _ => false,
        };
        Some(Field { bit_offset: place.bit_offset, bits, signed, ctype: place.ty })
    }
}

/// A struct or union, by the first of several names that exists.
pub fn any_struct(types: &Types, names: &[&str]) -> Result<TypeId> {
    let find =
        |name: &&str| [Tag::Struct, Tag::Union].iter().find_map(|tag| types.find_own(*tag, name).first().copied());
    names
        .iter()
        .find_map(find)
        .ok_or_else(|| Error::NoType(format!("struct {}", names.first().copied().unwrap_or_default())))
}

/// A view as data, so that a test can resolve every view against the types of every kernel.
pub struct ViewEntry {
    /// name of the Rust struct
    pub name: fn() -> &'static str,
    /// names of the C struct
    pub ctypes: &'static [&'static str],
    /// its fields
    pub fields: &'static [FieldSpec],
}

impl ViewEntry {
    /// The entry of a view.
    pub const fn of<V: View>() -> ViewEntry {
        ViewEntry { name: std::any::type_name::<V>, ctypes: V::CTYPES, fields: V::FIELDS }
    }
}

/// A struct wider than this is read field by field, so that a view of three members of a `task_struct` costs little.
const WHOLE: u64 = 512;

impl Layout {
    /// Asks a kernel's types for the layout of a view.
    pub fn resolve(types: &Types, ctypes: &[&str], specs: &[FieldSpec]) -> Result<Layout> {
        let ctype = any_struct(types, ctypes)?;
        let size = types.size_of(ctype).unwrap_or(0);
        let mut fields = Vec::with_capacity(specs.len());
        let mut span = (u64::MAX, 0u64);
        for spec in specs {
            let field = spec.paths.iter().find_map(|path| Field::find(types, ctype, path));
            match field {
                Some(f) => {
                    span.0 = span.0.min(f.bit_offset / 8);
                    span.1 = span.1.max(f.bit_offset.saturating_add(f.bits).div_ceil(8));
                }
                None if spec.optional => {}
                None => {
                    return Err(Error::NoMember {
                        ctype: types.spell(ctype),
                        members: spec.paths.iter().map(|s| (*s).to_owned()).collect(),
                    });
                }
            }
            fields.push(field);
        }
        if span.0 > span.1 {
            span = (0, 0);
        }
        Ok(Layout { ctype, size, fields, span })
    }
}

/// Hands a view its fields.
pub struct FieldReader<'a> {
    session: &'a Session,
    layout: &'a Layout,
    addr: u64,
    /// the bytes of `layout.span`, if read in one go
    bytes: Option<&'a [u8]>,
}

impl<'a> FieldReader<'a> {
    /// Reads the view at `addr`.
    pub fn load<V: View>(session: &'a Session, layout: &'a Layout, addr: u64) -> Result<V> {
        let len = layout.span.1 - layout.span.0;
        if len > WHOLE {
            return V::from_fields(&FieldReader { session, layout, addr, bytes: None });
        }
        let mut buf = [0; WHOLE as usize];
        let buf = &mut buf[..len as usize];
        session
            .read(addr.wrapping_add(layout.span.0), buf)
            .doing(|| format!("reading {} at {addr:#x}", session.types.spell(layout.ctype)))?;
        V::from_fields(&FieldReader { session, layout, addr, bytes: Some(buf) })
    }

    /// Decodes the view from `bytes`, which start at the struct's own start.
    pub fn decode<V: View>(session: &'a Session, layout: &'a Layout, addr: u64, bytes: &'a [u8]) -> Result<V> {
        let (lo, hi) = (layout.span.0 as usize, layout.span.1 as usize);
        let Some(bytes) = bytes.get(lo..hi) else {
            return Err(Error::Corrupt { addr, what: "structure cut short".into() });
        };
        V::from_fields(&FieldReader { session, layout, addr, bytes: Some(bytes) })
    }

    /// The address of the struct.
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// The value of field `index`.
    pub fn get<T: FromField>(&self, index: usize) -> Result<T> {
        T::from_field(self, self.layout.fields.get(index).copied().flatten())
    }

    /// The session, for fields that point elsewhere.
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// Address of a field.
    pub fn field_addr(&self, field: &Field) -> u64 {
        self.addr.wrapping_add(field.bit_offset / 8)
    }

    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self.bytes {
            Some(bytes) => {
                let at = (offset - self.layout.span.0) as usize;
                let src = at.checked_add(buf.len()).and_then(|end| bytes.get(at..end));
                let src = src.ok_or(Error::Corrupt { addr: self.addr, what: "field outside its structure".into() })?;
                buf.copy_from_slice(src);
                Ok(())
            }
            None => self
                .session
                .read(self.addr.wrapping_add(offset), buf)
                .doing(|| format!("reading {} at {:#x}", self.session.types.spell(self.layout.ctype), self.addr)),
        }
    }

    fn integer(&self, field: &Field) -> Result<u64> {
        let (byte, shift) = (field.bit_offset / 8, field.bit_offset % 8);
        let len = ((shift + field.bits).div_ceil(8) as usize).min(16);
        let mut buf = [0; 16];
        self.fill(byte, &mut buf[..len])?;
        let bits = field.bits.min(64) as u32;
        let wide = (u128::from_le_bytes(buf) >> shift) as u64;
        let value = if bits == 64 { wide } else { wide & ((1 << bits) - 1) };
        let sign = field.signed && bits > 0 && bits < 64 && value >> (bits - 1) & 1 == 1;
        Ok(if sign { value | (!0 << bits) } else { value })
    }
}

/// A Rust type that a field can have.
pub trait FromField: Sized {
    /// Whether the C struct may lack the member.
    const OPTIONAL: bool = false;
    /// Decodes it. `field` is `None` only for optional types.
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self>;
}

fn required(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Field> {
    field.ok_or_else(|| Error::NoMember { ctype: reader.session.types.spell(reader.layout.ctype), members: vec![] })
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl FromField for $t {
            fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
                Ok(reader.integer(&required(reader, field)?)? as $t)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i32, i64);

impl FromField for bool {
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        Ok(reader.integer(&required(reader, field)?)? != 0)
    }
}

/// A `char` array's text up to its NUL, or the string a `char *` points at (at most 4 KiB).
impl FromField for String {
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        let field = required(reader, field)?;
        if matches!(reader.session.shape(field.ctype).as_deref(), Some(Type::Pointer { .. })) {
            return reader.session.cstr(reader.integer(&field)?, 4096);
        }
        let mut buf = vec![0; (field.bits / 8).min(4096) as usize];
        reader.fill(field.bit_offset / 8, &mut buf)?;
        let end = buf.iter().position(|b| *b == 0).unwrap_or(buf.len());
        Ok(crate::text::decode(&buf[..end]))
    }
}

impl<const N: usize> FromField for [u64; N] {
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        let field = required(reader, field)?;
        let n = N.min((field.bits / 64) as usize);
        let mut buf = vec![0; n * 8];
        reader.fill(field.bit_offset / 8, &mut buf)?;
        let mut out = [0; N];
        for (v, b) in out.iter_mut().zip(buf.chunks_exact(8)) {
            *v = u64::from_le_bytes(b.try_into().unwrap_or_default());
        }
        Ok(out)
    }
}

/// The address of a member instead of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub u64);
impl FromField for At {
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        Ok(At(reader.field_addr(&required(reader, field)?)))
    }
}

impl<T: FromField> FromField for Option<T> {
    const OPTIONAL: bool = true;
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        field.map(|f| T::from_field(reader, Some(f))).transpose()
    }
}

/// A field whose failure shall not fail the whole view.
impl<T: FromField> FromField for Result<T> {
    const OPTIONAL: bool = T::OPTIONAL;
    fn from_field(reader: &FieldReader<'_>, field: Option<Field>) -> Result<Self> {
        match T::from_field(reader, field) {
            Err(e) if e.is_control() => Err(e),
            r => Ok(r),
        }
    }
}

/// A view's layout, shared.
pub type SharedLayout = Arc<Layout>;
