//! What a pointer should lead to by its type, and what it does lead to by the cache of the object there.
//!
//! A `struct inode *` may lead to any object that has a `struct inode` at that place, such as `struct ext4_inode_info`; and
//! to one that begins as it does, as all sockets begin with a `struct sock_common`. The head of a ring is another kind of
//! thing than what is on it, and begins with a pointer to that: nothing is said of it.

use super::World;
use crate::slab::names;
use engine::{Type, TypeId, prelude::*};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

/// A member that is a pointer.
#[derive(Clone, Debug)]
pub struct Pointer {
    /// offset in the struct, in bytes
    pub offset: u64,
    /// `f_path.dentry`
    pub name: String,
    /// what it leads to, if that is a struct
    pub to: Option<Pointee>,
}

/// A struct that is pointed to.
#[derive(Clone, Debug)]
pub struct Pointee {
    /// its name
    pub name: String,
    /// the names of all structs that it begins with, its own among them
    begins: HashSet<String>,
}

/// Structs that the kernel allocates from a cache of their own, and never has as a part of another.
const ALONE: &[&str] = &[
    "anon_vma",
    "cred",
    "dentry",
    "files_struct",
    "fs_struct",
    "mm_struct",
    "nsproxy",
    "pid",
    "sighand_struct",
    "signal_struct",
    "task_struct",
    "vm_area_struct",
];
/// Members without a reference to what they point to, which may be gone, and something else in its place.
const WEAK: &[&str] = &["last_wakee", "curr_target"];
/// Structs in structs that are followed.
const MAX_DEPTH: usize = 8;

impl Pointer {
    /// A pointer to a type at a place of a struct.
    pub fn new(session: &Session, offset: u64, name: &str, to: TypeId) -> Pointer {
        let to = match session.types.resolve(to).as_ref().map(|(_, shape)| &**shape) {
            Some(Type::Struct { union: false, name: Some(own), members, .. })
                if !members.is_empty() && !WEAK.contains(&name) =>
            {
                let mut begins = HashSet::new();
                starting(session, to, 0, MAX_DEPTH, &mut |shape| {
                    if let Type::Struct { name: Some(name), .. } = shape {
                        begins.insert(name.to_string());
                    }
                });
                Some(Pointee { name: own.to_string(), begins })
            }
            _ => None,
        };
        Pointer { offset, name: name.to_owned(), to }
    }

    /// Whether what it points to has a cache of its own.
    pub fn is_alone(&self) -> bool {
        self.to.as_ref().is_some_and(|to| ALONE.contains(&&*to.name))
    }
}

/// Shows every type that starts `offset` bytes into another, itself, its members and theirs.
fn starting(session: &Session, ctype: TypeId, offset: u64, depth: usize, visit: &mut dyn FnMut(&Type)) {
    let Some((id, shape)) = session.types.resolve(ctype) else { return };
    if offset == 0 {
        visit(&shape);
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    match &*shape {
        Type::Struct { members, .. } => {
            for member in members.iter().filter(|member| member.bit_size.is_none()) {
                let Some(inside) = offset.checked_sub(member.bit_offset / 8) else { continue };
                if inside == 0 || session.types.size_of(member.ty).is_some_and(|size| inside < size) {
                    starting(session, member.ty, inside, depth, visit);
                }
            }
        }
        Type::Array { elem, .. } => {
            let size = session.types.size_of(*elem).unwrap_or(0);
            if session.types.size_of(id).is_some_and(|whole| offset < whole) && size > 0 {
                starting(session, *elem, offset % size, depth, visit);
            }
        }
        _ => {}
    }
}

/// Whether what is there is what is pointed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// it is
    Same,
    /// it is not
    Other,
    /// it lies in an object of which nothing is known
    Stranger,
    /// nothing can be said: it lies in no slab, or is the head of a ring
    Unknown,
}

/// A pointer, and what was found of the objects that it leads to.
pub struct Fits<'a> {
    /// the member
    pub pointer: &'a Pointer,
    world: &'a World<'a>,
    /// by the cache, and how far into its objects
    known: Mutex<HashMap<(usize, u64), Fit>>,
}

impl<'a> Fits<'a> {
    /// Of one member.
    pub fn of(world: &'a World<'a>, pointer: &'a Pointer) -> Fits<'a> {
        Fits { pointer, world, known: Mutex::default() }
    }

    /// Whether a word leads to what it should.
    pub fn fit(&self, word: u64) -> Fit {
        let Some(to) = self.pointer.to.as_ref().filter(|_| super::is_pointer(word)) else { return Fit::Unknown };
        let Some((_, slab, _, object)) = self.world.slabs.belongs(word) else { return Fit::Unknown };
        let (cache, Some(inside)) = (slab.cache as usize, word.checked_sub(object)) else { return Fit::Unknown };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry((cache, inside)).or_insert_with(|| self.judge(to, cache, inside))
    }

    fn judge(&self, to: &Pointee, cache: usize, inside: u64) -> Fit {
        let session = self.world.session;
        let Some(ctype) = names::type_of_cache(session, cache) else { return Fit::Stranger };
        let (Some(size), Some(cache)) = (session.types.size_of(ctype), self.world.slabs.caches.get(cache)) else {
            return Fit::Unknown;
        };
        // some objects have more behind their struct
        if inside >= size {
            return Fit::Unknown;
        }
        // a type that only fits in is a guess
        let is_sure = size.next_multiple_of(8) == u64::from(cache.object_size).next_multiple_of(8)
            || session.struct_type(cache.name()) == Some(ctype);
        let (mut same, mut ring) = (false, false);
        starting(session, ctype, inside, MAX_DEPTH, &mut |shape| match shape {
            Type::Struct { name: Some(name), .. } => same |= to.begins.contains(&**name),
            Type::Pointer { to: next } => {
                if let Some(Type::Struct { name: Some(name), .. }) =
                    session.types.resolve(*next).as_ref().map(|(_, shape)| &**shape)
                {
                    ring |= **name == *to.name;
                }
            }
            _ => {}
        });
        match (same, ring) {
            (true, _) => Fit::Same,
            (false, false) if is_sure => Fit::Other,
            (false, _) => Fit::Unknown,
        }
    }
}
