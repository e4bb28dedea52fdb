//! Word of what was asked for, is not found, and may be lost.
//!
//! Whether a kernel has a struct or a member is asked all the time, and most often "no" means that this kernel has it not.
//! Where part of the types is not in the dump it may also mean that the answer at hand lacks something: whoever told
//! [`Types::tell_misses`](super::Types::tell_misses) where to is told.

use std::sync::{Arc, OnceLock};

use crate::btf::LOST;
use crate::types::{Type, TypeSource};

/// What was missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed<'a> {
    /// a type, an enumerator or a member of that name
    Name(&'a str),
    /// a type that another one refers to
    Node,
    /// some of all names, which were asked for
    List,
}

type Told = Box<dyn Fn(Missed<'_>) + Send + Sync>;

/// Tells of misses, once there is somebody to tell.
#[derive(Default)]
pub(super) struct Misses(OnceLock<Told>);

impl Misses {
    pub(super) fn tell(&self, told: Told) {
        // whoever came first is still there
        let _ = self.0.set(told);
    }

    /// `name` is in none of the sources.
    pub(super) fn name(&self, sources: &[Arc<dyn TypeSource>], name: &str) {
        let Some(told) = self.0.get() else { return };
        if is_none(sources) || sources.iter().any(|source| source.may_lack(name)) {
            told(Missed::Name(name));
        }
    }

    /// A struct has no member of that name.
    pub(super) fn member(&self, node: &Type, name: &str) {
        let (Some(told), Type::Struct { members, .. }) = (self.0.get(), node) else { return };
        if members.iter().any(|member| &*member.name == LOST) {
            told(Missed::Name(name));
        }
    }

    /// A type could not be decoded.
    pub(super) fn node(&self, source: &dyn TypeSource) {
        if let Some(told) = self.0.get().filter(|_| source.is_holed()) {
            told(Missed::Node);
        }
    }

    /// All names were asked for.
    pub(super) fn list(&self, sources: &[Arc<dyn TypeSource>]) {
        let Some(told) = self.0.get() else { return };
        if is_none(sources) || sources.iter().any(|source| source.is_holed()) {
            told(Missed::List);
        }
    }
}

/// Whether nothing knows the kernel's types. What a user made does not stand for them.
fn is_none(sources: &[Arc<dyn TypeSource>]) -> bool {
    !sources.iter().any(|source| source.is_of_target())
}
