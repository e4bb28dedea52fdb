//! Where, in a struct, its tree nodes, reference counts, queues, wait queues, pointers and plain numbers are: asked of the types, through members of
//! members.
//!
//! What is in a union is left out: nothing says which of its members is alive.

use super::{arrays, kinds::Pointer};
use engine::{Type, TypeId, prelude::*};

/// A member that is a number or a pointer.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// `va_start`, `range.start`
    pub name: String,
    /// offset in the struct, in bytes
    pub offset: u64,
    /// bytes
    pub size: u64,
    signed: bool,
    pointer: bool,
}

impl Scalar {
    /// Its value in an object; 0 if that is too short.
    pub fn of(&self, object: &[u8]) -> i128 {
        let (from, size) = (self.offset as usize, (self.size as usize).min(8));
        let mut bytes = [0; 8];
        if let (Some(to), Some(part)) = (bytes.get_mut(..size), object.get(from..from.saturating_add(size))) {
            to.copy_from_slice(part);
        }
        let value = u64::from_le_bytes(bytes);
        let shift = 64 - 8 * size as u32;
        if self.signed { i128::from(((value << shift) as i64) >> shift) } else { i128::from(value) }
    }

    /// A value of it as people write it.
    pub fn text(&self, value: i128) -> String {
        if self.pointer || value > 1 << 32 { format!("{value:#x}") } else { value.to_string() }
    }
}

/// Offsets in a struct, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// of each `struct rb_node`
    pub nodes: Vec<u64>,
    /// of each `refcount_t`
    pub counts: Vec<u64>,
    /// of each `struct sk_buff_head`
    pub queues: Vec<u64>,
    /// of the list in each `wait_queue_head_t`
    pub waits: Vec<u64>,
    /// each pointer
    pub pointers: Vec<Pointer>,
    /// of each pointer to a function, or to a table of some (`struct file_operations`), with its name
    pub calls: Vec<(u64, String)>,
    /// it is a node of an xarray
    pub array: Option<arrays::Shape>,
    /// if it has nodes of trees: its numbers and pointers, but for those in the nodes
    pub scalars: Vec<Scalar>,
}

/// Whether what a pointer leads to is a function, or a struct of them by its name.
fn is_called(session: &Session, to: TypeId) -> bool {
    match session.types.resolve(to).as_ref().map(|(_, shape)| &**shape) {
        Some(Type::Func { .. }) => true,
        Some(Type::Struct { name: Some(name), .. }) => name.ends_with("_operations") || name.ends_with("_ops"),
        _ => false,
    }
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
        places.add(session, ctype, (0, ""), MAX_DEPTH);
        if places.nodes.is_empty() {
            places.scalars.clear();
        }
        if session.struct_type("xa_node") == Some(ctype) {
            places.array = arrays::Shape::of(session);
        }
        places
    }

    fn add(&mut self, session: &Session, ctype: TypeId, (base, path): (u64, &str), depth: usize) {
        let Some((_, shape)) = session.types.resolve(ctype) else { return };
        match &*shape {
            Type::Struct { union: false, name, members, .. } => match name.as_deref() {
                Some("rb_node") => self.nodes.push(base),
                Some("refcount_struct") => self.counts.push(base),
                // their links are told of by themselves
                Some("list_head" | "hlist_head" | "hlist_node" | "hlist_nulls_node" | "llist_node") => {}
                // kfree_rcu() puts a number where the function is
                Some("callback_head") => {}
                // what a program does with signals is in its own memory
                Some("sigaction") => {}
                Some("sk_buff_head") => self.queues.push(base),
                Some("wait_queue_head") if self.waits.len() < MAX_PLACES => {
                    let head = session.offset("wait_queue_head", "head").ok();
                    self.waits.extend(head.map(|head| base.saturating_add(head)));
                }
                _ if depth > 0 && self.nodes.len() + self.counts.len() < MAX_PLACES => {
                    for member in members.iter().filter(|member| member.bit_size.is_none()) {
                        let name = &*member.name;
                        let path = if path.is_empty() || name.is_empty() {
                            format!("{path}{name}")
                        } else {
                            format!("{path}.{name}")
                        };
                        self.add(session, member.ty, (base.saturating_add(member.bit_offset / 8), &path), depth - 1);
                    }
                }
                _ => {}
            },
            Type::Array { elem, count: Some(count) } if depth > 0 => {
                let Some(size) = session.types.size_of(*elem) else { return };
                for i in 0..(*count).min(MAX_ELEMENTS) {
                    let path = format!("{path}[{i}]");
                    self.add(session, *elem, (base.saturating_add(i.saturating_mul(size)), &path), depth - 1);
                }
            }
            Type::Int { size, signed, .. } => self.scalar(path, base, (*size).into(), *signed, false),
            Type::Pointer { to } => {
                if self.calls.len() < MAX_PLACES && is_called(session, *to) {
                    self.calls.push((base, path.to_owned()));
                }
                if self.pointers.len() < MAX_PLACES {
                    self.pointers.push(Pointer::new(session, base, path, *to));
                }
                self.scalar(path, base, 8, false, true);
            }
            _ => {}
        }
    }

    fn scalar(&mut self, path: &str, offset: u64, size: u64, signed: bool, pointer: bool) {
        if self.scalars.len() < MAX_PLACES && matches!(size, 2 | 4 | 8) {
            self.scalars.push(Scalar { name: path.to_owned(), offset, size, signed, pointer });
        }
    }
}
