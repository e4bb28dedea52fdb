//! The mappings of a process: `struct vm_area_struct` (include/linux/mm_types.h), one for each stretch of user addresses
//! with one kind of content and rights.
//!
//! An address space, `struct mm_struct`, holds them in a maple tree; before Linux 6.1 (763ecb035029) in a list and a
//! red-black tree.
//!
//! ```console
//! > 0t1::pid2task | ::walk vma | ::count
//! COUNT
//!    10
//! ```

use crate::{dentry::Dentry, file::File, maple};
use engine::{ViewEntry, prelude::*};

/// A mapping.
#[derive(View, Clone, Debug)]
#[ctype("vm_area_struct")]
pub struct Vma {
    /// its address
    #[addr]
    pub addr: u64,
    /// first user address
    #[field("vm_start")]
    pub start: u64,
    /// the one behind the last
    #[field("vm_end")]
    pub end: u64,
    /// the `struct mm_struct` it is of
    #[field("vm_mm")]
    pub mm: u64,
    /// `VM_…`
    #[field("vm_flags")]
    pub flags: u64,
    /// where in the file it begins, in pages
    #[field("vm_pgoff")]
    page: u64,
    /// `struct file`; 0 if none
    #[field("vm_file")]
    pub file: u64,
    #[field("vm_ops")]
    ops: u64,
    #[field("vm_private_data")]
    private: u64,
    /// in kernels that can name memory without a file (9a10064f5625, Linux 5.17)
    anon_name: Option<u64>,
}

/// What is read of an address space.
#[derive(View, Clone, Debug)]
#[ctype("mm_struct")]
pub struct AddressSpace {
    /// its address
    #[addr]
    pub addr: u64,
    /// mappings there are
    map_count: u32,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
}

/// `VM_…` (include/linux/mm.h): macros that never changed.
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXEC: u64 = 4;
const MAYSHARE: u64 = 0x80;

impl Vma {
    /// As in /proc/PID/maps: `rwxp`, with `s` at the end for what is shared.
    pub fn rights(&self) -> String {
        let set = |bit, letter| if self.flags & bit != 0 { letter } else { '-' };
        let shared = if self.flags & MAYSHARE != 0 { 's' } else { 'p' };
        [set(READ, 'r'), set(WRITE, 'w'), set(EXEC, 'x'), shared].iter().collect()
    }

    /// Where in the file it begins, in bytes; 0 without a file, as in /proc/PID/maps.
    pub fn offset(&self, session: &Session) -> u64 {
        if self.file == 0 { 0 } else { self.page.wrapping_mul(session.target.page_size()) }
    }

    /// The page of its file that a user address of it is in.
    pub fn page_of(&self, addr: u64, page_size: u64) -> u64 {
        self.page.wrapping_add(addr.wrapping_sub(self.start) / page_size.max(1))
    }

    /// Whether it is plain memory: of no file, and of nothing special.
    pub fn is_anonymous(&self) -> bool {
        self.file == 0 && self.ops == 0
    }

    /// The `struct vm_special_mapping` of what the kernel itself shows a process: the vDSO and its data.
    pub fn special(&self, session: &Session) -> Option<u64> {
        let own = self.ops != 0 && session.kernel_symbol("special_mapping_vmops") == Some(self.ops);
        own.then_some(self.private)
    }

    /// Whether what may be done is to read, write, execute.
    pub fn access(&self) -> (bool, bool, bool) {
        (self.flags & READ != 0, self.flags & WRITE != 0, self.flags & EXEC != 0)
    }

    /// The file's dentry; `None` without a file.
    fn dentry(&self, session: &Session) -> Result<Option<Dentry>> {
        if self.file == 0 {
            return Ok(None);
        }
        let file: File = session.view(self.file)?;
        session.view(file.dentry).map(Some)
    }

    /// The `struct super_block` that the file is on; 0 without a file.
    pub fn super_block(&self, session: &Session) -> Result<u64> {
        Ok(self.dentry(session)?.map_or(0, |dentry| dentry.super_block))
    }

    /// The number of the file's inode; 0 without a file.
    pub fn inode(&self, session: &Session) -> Result<u64> {
        match self.dentry(session)? {
            Some(dentry) if dentry.inode != 0 => {
                session.u64(dentry.inode.wrapping_add(session.offset("inode", "i_ino")?))
            }
            _ => Ok(0),
        }
    }

    /// What is mapped, as in the last column of /proc/PID/maps; empty for memory without a name.
    pub fn name(&self, session: &Session, space: &AddressSpace) -> Result<String> {
        if self.file != 0 {
            return session.view::<File>(self.file)?.path(session);
        }
        if let Some(special) = self.special(session) {
            let name = special.wrapping_add(session.offset("vm_special_mapping", "name")?);
            return session.cstr(session.u64(name)?, 64);
        }
        if self.start <= space.brk && self.end >= space.start_brk && space.brk != 0 {
            return Ok("[heap]".to_owned());
        }
        if self.start <= space.start_stack && self.end >= space.start_stack {
            return Ok("[stack]".to_owned());
        }
        match self.anon_name.filter(|name| *name != 0) {
            Some(name) => {
                let name = session.cstr(name.wrapping_add(session.offset("anon_vma_name", "name")?), 80)?;
                Ok(format!("[anon:{name}]"))
            }
            None => Ok(String::new()),
        }
    }

    /// Bytes of it that are in memory, by the page tables; the page of zeros counts as well.
    pub fn resident(&self, session: &Session, table: Space) -> Result<u64> {
        let mut bytes = 0u64;
        let Some(last) = self.end.checked_sub(1) else { return Ok(0) };
        let outcome =
            session.target.each_mapping(table, self.start..=last, &|| !session.interrupt.is_set(), &mut |mapping| {
                bytes = bytes.saturating_add(mapping.len);
                std::ops::ControlFlow::Continue(())
            });
        match outcome {
            Ok(outcome) if outcome.unreadable > 0 => {
                Err(Error::Unavailable(format!("{} page tables are not in the dump", outcome.unreadable)))
            }
            Ok(_) => Ok(bytes),
            Err(reason) => {
                let (space, addr) = (table, self.start);
                Err(engine::targets::ReadError { space, addr, reason }.into())
            }
        }
    }
}

/// The address space that an address means: a `struct mm_struct` itself, or that of a task; `None` for kernel threads.
pub fn chosen(session: &Session, at: Object) -> Result<Option<u64>> {
    if at.ctype.is_some() && at.ctype == session.struct_type("mm_struct") {
        return Ok(Some(at.addr));
    }
    let mm = session.u64(at.addr.wrapping_add(session.offset("task_struct", "mm")?))?;
    Ok(Some(mm).filter(|mm| *mm != 0))
}

/// Visits every mapping of the address space whose `struct mm_struct` is at `mm`, lowest first.
pub fn each(session: &Session, mm: u64, visit: Visit<'_>) -> Result<()> {
    let space: AddressSpace = session.view(mm).doing(|| format!("reading a struct mm_struct at {mm:#x}"))?;
    let (start, end, owner) =
        (session.offset(VMA, "vm_start")?, session.offset(VMA, "vm_end")?, session.offset(VMA, "vm_mm")?);
    let mut count = 0u32;
    if let Some(tree) = session.place("mm_struct", "mm_mt") {
        let word = |vma: u64, member: u64| session.u64(vma.wrapping_add(member));
        maple::each(session, mm.wrapping_add(tree.bit_offset / 8), &mut |first, last, vma| {
            count = count.saturating_add(1);
            match (word(vma, start), word(vma, end), word(vma, owner)) {
                (Ok(s), Ok(e), Ok(o)) if s == first && e == last.wrapping_add(1) && o == mm => {}
                (Ok(_), Ok(_), Ok(_)) => session.notes.add(vma, "mapping that is not what its tree has it for"),
                (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) if e.is_control() => return Err(e),
                (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => {
                    session.notes.add(vma, format!("mapping: {}", e.kind()));
                    return Ok(());
                }
            }
            visit(vma)
        })?;
    } else {
        let (mut at, mut behind) = (session.u64(mm.wrapping_add(session.offset("mm_struct", "mmap")?))?, 0);
        let next = session.offset(VMA, "vm_next")?;
        while at != 0 {
            let vma: Vma = match session.view(at) {
                Ok(vma) => vma,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    session.notes.add(at, format!("mapping: {}", e.kind()));
                    break;
                }
            };
            // they ascend: so the list ends
            if vma.mm != mm || vma.start < behind || vma.end <= vma.start {
                session.notes.add(at, "mapping out of order, or of another process");
                break;
            }
            count = count.saturating_add(1);
            visit(at)?;
            behind = vma.end;
            at = session.u64(at.wrapping_add(next))?;
        }
    }
    if count != space.map_count {
        session.notes.add(mm, format!("{count} mappings found, the kernel counted {}", space.map_count));
    }
    Ok(())
}

const VMA: &str = "vm_area_struct";

/// Walks mappings.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "vma",
    doc: "walk the mappings of the process whose task, or struct mm_struct, is at the address",
    item: "struct vm_area_struct",
    address: Address::Required,
    walk: |cx, at, visit| {
        let at = at.ok_or_else(|| Error::Usage("mappings are walked from a task or a struct mm_struct".into()))?;
        chosen(cx, at)?.map_or(Ok(()), |mm| each(cx, mm, visit))
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Vma>(), ViewEntry::of::<AddressSpace>()];
