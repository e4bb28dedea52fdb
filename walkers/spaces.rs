//! Every user address space, with a process that lives in it: whose is a user address, whose is a page table.

use crate::{
    mm, task,
    vma::{self, Vma},
};
use engine::{ViewEntry, prelude::*};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

/// A user address space.
#[derive(Debug)]
pub struct UserSpace {
    /// its `struct mm_struct`
    pub mm: u64,
    /// a process that lives in it: the first that was found
    pub task: u64,
    /// its mappings, by address, read when first needed
    mappings: OnceLock<Vec<(Range<u64>, u64)>>,
}

/// What of a task says where it lives.
#[derive(View)]
#[ctype("task_struct")]
struct Lives {
    mm: u64,
}

impl UserSpace {
    /// The `struct vm_area_struct` around a user address.
    pub fn mapping(&self, session: &Session, addr: u64) -> Result<Option<u64>> {
        let mappings = match self.mappings.get() {
            Some(known) => known,
            None => {
                let mut found = Vec::new();
                let read = vma::each(session, self.mm, &mut |at| {
                    let vma: Vma = session.view(at)?;
                    found.push((vma.start..vma.end, at));
                    Ok(())
                });
                match read {
                    Err(e) if !e.is_unreadable() => return Err(e),
                    Err(e) => session.notes.add(self.mm, format!("mappings of a process: {}", e.kind())),
                    Ok(()) => {}
                }
                found.sort_unstable_by_key(|(range, _)| range.start);
                self.mappings.get_or_init(|| found)
            }
        };
        let next = mappings.partition_point(|(range, _)| range.start <= addr);
        let found = next.checked_sub(1).and_then(|i| mappings.get(i)).filter(|(range, _)| range.contains(&addr));
        Ok(found.map(|(_, at)| *at))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct UserSpaces {
    spaces: Vec<UserSpace>,
    by_mm: HashMap<u64, usize>,
}

impl UserSpaces {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<UserSpaces>> {
        session.once(|| session.settle(|| UserSpaces::read(session)))
    }

    fn read(session: &Session) -> Result<UserSpaces> {
        let mut found = UserSpaces::default();
        task::leaders(session, &mut |task| {
            match session.view::<Lives>(task) {
                Ok(Lives { mm: 0 }) => {}
                Ok(Lives { mm }) if found.by_mm.contains_key(&mm) => {}
                Ok(Lives { mm }) => {
                    found.by_mm.insert(mm, found.spaces.len());
                    found.spaces.push(UserSpace { mm, task, mappings: OnceLock::new() });
                }
                Err(e) if e.is_unreadable() => session.notes.add(task, format!("task: {}", e.kind())),
                Err(e) => return Err(e),
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// All of them, in the order of the processes.
    pub fn all(&self) -> &[UserSpace] {
        &self.spaces
    }

    /// That of a `struct mm_struct`.
    pub fn of_mm(&self, mm: u64) -> Option<&UserSpace> {
        self.spaces.get(*self.by_mm.get(&mm)?)
    }

    /// That with this top page table.
    pub fn of_table(&self, session: &Session, space: Space) -> Option<&UserSpace> {
        self.spaces.iter().find(|s| mm::space(session, s.mm).is_ok_and(|found| found == space))
    }
}

/// Whose a page table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableOf {
    /// the `struct mm_struct`; `None`: the kernel's
    pub mm: Option<u64>,
    /// 1 for a table whose entries are pages
    pub level: u8,
    /// the first virtual address it translates
    pub va: u64,
}

/// Every page table, by page frame.
#[derive(Debug, Default)]
pub struct PageTables(HashMap<u64, TableOf>);

impl PageTables {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<PageTables>> {
        session.once(|| PageTables::read(session))
    }

    fn read(session: &Session) -> Result<PageTables> {
        let mut found = PageTables::default();
        let lost = found.add(session, Space::Kernel, 1 << 63, u64::MAX, None)?;
        let mut lost_of_users = 0;
        for space in UserSpaces::of(session)?.all() {
            match mm::space(session, space.mm) {
                Ok(tables) => lost_of_users += found.add(session, tables, 0, (1 << 63) - 1, Some(space.mm))?,
                Err(e) if e.is_unreadable() => session.notes.add(space.mm, format!("page tables: {}", e.kind())),
                Err(e) => return Err(e),
            }
        }
        if lost + lost_of_users > 0 {
            session.notes.once(0, format!("{} page tables are not in the dump", lost + lost_of_users));
        }
        Ok(found)
    }

    fn add(&mut self, session: &Session, space: Space, first: u64, last: u64, mm: Option<u64>) -> Result<u64> {
        let page = session.target.page_size().max(1);
        let lost = session
            .target
            .each_table(space, first..=last, &|| !session.interrupt.is_set(), &mut |table| {
                let whose = TableOf { mm, level: table.level, va: table.va };
                self.0.entry(table.pa / page).or_insert(whose);
            })
            .map_err(|reason| Error::Unavailable(format!("page tables: {reason}")))?;
        session.interrupt.check()?;
        Ok(lost)
    }

    /// Whose table is in a page frame.
    pub fn at(&self, frame: u64) -> Option<TableOf> {
        self.0.get(&frame).copied()
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Lives>()];
