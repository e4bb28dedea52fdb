//! Types of globals: BTF has them for per-CPU variables only, so kmdb brings a table of names and C types.

use crate::session::Session;
use debuginfo::{TypeId, globals::Table};

/// The table's type for a global, if the kernel at hand has that type and it fits in front of the next symbol.
pub fn known_type(session: &Session, name: &str) -> Option<TypeId> {
    let symbol = session.symbols.kernel()?.by_name(name).into_iter().next()?;
    let room = Some(symbol.size).filter(|&size| size > 0);
    Table::built_in().type_of(&session.types, name, room)
}
