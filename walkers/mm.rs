//! User address spaces: `struct mm_struct`.

use engine::{ViewEntry, prelude::*};

/// What is read of a `struct task_struct` here.
#[derive(View)]
#[ctype("task_struct")]
struct Owner {
    /// 0 in kernel threads
    mm: u64,
}

/// What is read of a `struct mm_struct` (include/linux/mm_types.h).
#[derive(View)]
#[ctype("mm_struct")]
struct Mm {
    /// virtual address of the top page table
    pgd: u64,
}

/// The address space of a task; `None` for kernel threads, which have none.
///
/// With page table isolation the kernel's copy of the table is taken: it maps user memory too.
pub fn space_of(session: &Session, task: u64) -> Result<Option<Space>> {
    let Owner { mm } = session.view(task)?;
    if mm == 0 { Ok(None) } else { space(session, mm).map(Some) }
}

/// The address space whose `struct mm_struct` is at `mm`.
pub fn space(session: &Session, mm: u64) -> Result<Space> {
    let Mm { pgd } = session.view(mm)?;
    let table = session.target.translate(Space::Kernel, pgd).map_err(|reason| engine::targets::ReadError {
        space: Space::Kernel,
        addr: pgd,
        reason,
    })?;
    Ok(Space::User(table.pa))
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Owner>(), ViewEntry::of::<Mm>()];
