//! Types of globals: BTF has them for per-CPU variables only, so kmdb brings a table of names and C types.

use crate::session::Session;
use debuginfo::TypeId;

/// The table's type for a global.
pub fn known_type(_: &Session, _: &str) -> Option<TypeId> {
    None
}
