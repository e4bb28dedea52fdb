//! A C value as a tree: what `::print` shows and what JSON says.

use crate::item::Object;

/// A value, its name in the containing value, and its type.
#[derive(Clone, Debug)]
pub struct Tree {
    /// where it lies and what it is
    pub object: Object,
}

impl Tree {
    /// The value as text.
    pub fn to_text(&self) -> String {
        format!("{:#x}", self.object.addr)
    }
}
