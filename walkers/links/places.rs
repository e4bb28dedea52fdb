//! Where, in a struct, its tree nodes and reference counts are: asked of the types, through members of members.
//!
//! What is in a union is left out: nothing says which of its members is alive.

use super::arrays;
use engine::{Type, TypeId, prelude::*};

/// Offsets in a struct, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// of each `struct rb_node`
    pub nodes: Vec<u64>,
    /// of each `refcount_t`
    pub counts: Vec<u64>,
    /// it is a node of an xarray
    pub array: Option<arrays::Shape>,
}

/// Structs in structs that are followed.
const MAX_DEPTH: usize = 8;
/// Elements of an array that are followed.
const MAX_ELEMENTS: u64 = 16;
/// Places of one struct that are kept.
const MAX_PLACES: usize = 256;

impl Places {
    /// Those of a type.
    pub fn of(session: &Session, ctype: TypeId) -> Places {
        let mut places = Places::default();
        places.add(session, ctype, 0, MAX_DEPTH);
        if session.struct_type("xa_node") == Some(ctype) {
            places.array = arrays::Shape::of(session);
        }
        places
    }

    fn add(&mut self, session: &Session, ctype: TypeId, base: u64, depth: usize) {
        let Some((_, shape)) = session.types.resolve(ctype) else { return };
        match &*shape {
            Type::Struct { union: false, name, members, .. } => match name.as_deref() {
                Some("rb_node") => self.nodes.push(base),
                Some("refcount_struct") => self.counts.push(base),
                _ if depth > 0 && self.nodes.len() + self.counts.len() < MAX_PLACES => {
                    for member in members.iter().filter(|member| member.bit_size.is_none()) {
                        self.add(session, member.ty, base.saturating_add(member.bit_offset / 8), depth - 1);
                    }
                }
                _ => {}
            },
            Type::Array { elem, count: Some(count) } if depth > 0 => {
                let Some(size) = session.types.size_of(*elem) else { return };
                for i in 0..(*count).min(MAX_ELEMENTS) {
                    self.add(session, *elem, base.saturating_add(i.saturating_mul(size)), depth - 1);
                }
            }
            _ => {}
        }
    }
}
