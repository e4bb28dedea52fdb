//! Types of global variables that a kernel's BTF does not tell.
//!
//! BTF has the per-CPU variables (not even those before Linux 6.0) and no other. What `init_task` or `super_blocks`
//! is declared as changes rarely, though. So kmdb brings a table of facts: for each name its C types, of the newest
//! kernel first, gathered from the DWARF of four Debian kernels (5.10, 6.1, 6.12, 7.2) by
//! `cargo run -p kmdb-debuginfo --example globals`, which also measures what such a table is worth for a kernel that
//! is not in it:
//!
//! | table of | kernel | data symbols known | of these right, but for an array's length |
//! |---|---|---|---|
//! | 6.12 | 7.2 | 87.7 % | 99.8 % |
//! | 6.1 | 6.12 | 65.2 % | 99.6 % |
//! | 6.12 | 6.1 | 92.1 % | 99.8 % |
//! | 5.10 | 7.2 | 51.5 % | 99.0 % |
//!
//! A fact may be too old or too new for the kernel at hand. So a type is only believed if the kernel has it at all
//! and an object of that size has room before the next symbol.

use std::io::Read;
use std::sync::OnceLock;

use crate::catalog::Types;
use crate::types::{Type, TypeId};

/// The table as text, packed. Nothing is unpacked before somebody asks.
static PACKED: &[u8] = include_bytes!("globals.db.zst");

/// What is kept unpacked.
static TABLE: OnceLock<Table> = OnceLock::new();

/// Names and C types of global variables.
pub struct Table {
    text: String,
}

impl Table {
    /// The table that is built in.
    pub fn built_in() -> &'static Table {
        TABLE.get_or_init(|| {
            let mut text = String::new();
            // It is part of the program, and a test unpacks it; if it were broken, nothing would be known.
            let read = zstd::stream::read::Decoder::new(PACKED).and_then(|mut d| d.read_to_string(&mut text));
            Table { text: read.map_or_else(|_| String::new(), |_| text) }
        })
    }

    /// A table of lines `name TAB type TAB type …`, sorted by name bytewise.
    pub fn new(text: String) -> Table {
        Table { text }
    }

    /// Candidates for the type of `name`, of the newest kernel first. An array's length is `[]` where kernels differ.
    pub fn candidates(&self, name: &str) -> Vec<&str> {
        let Some(line) = self.line(name) else { return Vec::new() };
        line.split('\t').skip(1).collect()
    }

    /// Bisects the text: lines are sorted.
    fn line(&self, name: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.text.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = self.text.get(..middle)?.rfind('\n').map_or(0, |at| at + 1).max(low);
            let end = self.text.get(start..)?.find('\n').map_or(self.text.len(), |at| start + at);
            let line = self.text.get(start..end)?;
            match line.split('\t').next().unwrap_or_default().cmp(name) {
                std::cmp::Ordering::Equal => return Some(line),
                std::cmp::Ordering::Less => low = end + 1,
                std::cmp::Ordering::Greater => high = start,
            }
        }
        None
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.text.lines().count()
    }

    /// Whether it knows no name.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The first candidate that `types` can resolve and that fits into `room` bytes, the distance from the variable to
    /// the next symbol (`None`: not known). An array that is too long is one whose length was configured: it comes back
    /// without a length.
    pub fn type_of(&self, types: &Types, name: &str, room: Option<u64>) -> Option<TypeId> {
        let fits = |id: TypeId| types.size_of(id).is_some_and(|size| room.is_none_or(|room| size <= room));
        self.candidates(name).into_iter().filter_map(|spelled| types.parse(spelled).ok()).find_map(|id| {
            if fits(id) {
                return Some(id);
            }
            let Type::Array { elem, count: Some(_) } = &*types.get(id)? else { return None };
            fits(*elem).then(|| types.array_of(*elem, None))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_built_in_table_is_sorted_and_knows_the_kernel() {
        let table = Table::built_in();
        assert!(table.len() > 20_000, "{}", table.len());
        let names: Vec<_> = table.text.lines().map(|l| l.split('\t').next().unwrap()).collect();
        assert!(names.is_sorted());
        assert_eq!(table.candidates("init_task"), ["struct task_struct"]);
        assert_eq!(table.candidates("super_blocks"), ["struct list_head"]);
        assert_eq!(table.candidates("file_systems"), ["struct hlist_head", "struct file_system_type *"]);
        assert!(table.candidates("").is_empty());
        assert!(table.candidates("zzzz").is_empty());
        assert!(names.iter().all(|name| !table.candidates(name).is_empty()));
    }

    #[test]
    fn what_does_not_fit_is_not_believed() {
        let table = Table::new("a\tlong\tint\nb\tlong [8]\nc\tstruct nowhere\tchar\n".into());
        let types = Types::new();
        let spelled = |name, room| table.type_of(&types, name, room).map(|id| types.spell(id));
        assert_eq!(spelled("a", None).as_deref(), Some("long"));
        assert_eq!(spelled("a", Some(4)).as_deref(), Some("int"));
        assert_eq!(spelled("a", Some(2)), None);
        assert_eq!(spelled("b", Some(64)).as_deref(), Some("long [8]"));
        assert_eq!(spelled("b", Some(32)).as_deref(), Some("long []"));
        assert_eq!(spelled("c", Some(8)).as_deref(), Some("char"));
        assert_eq!(spelled("d", None), None);
    }
}
