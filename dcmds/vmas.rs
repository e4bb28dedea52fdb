//! Mappings of processes: `::vmas`, which is `::pmap` as well.
//!
//! ```console
//! > 0t1::pid2task | ::vmas
//! ADDR                    START          END  RSS MODE OFFSET NAME
//! ff386d1d83e60998       400000       401000    4 r--p      0 /bin/busybox
//! ff386d1d83e60338       401000       585000 1360 r-xp   1000 /bin/busybox
//! ff386d1d83e60aa8       585000       5db000  344 r--p 185000 /bin/busybox
//! ff386d1d83e60bb8       5db000       5e2000   28 r--p 1da000 /bin/busybox
//! ff386d1d83e60cc8       5e2000       5e5000   12 rw-p 1e1000 /bin/busybox
//! ff386d1d83e60448       5e5000       5ec000   16 rw-p      0
//! ff386d1d83e60118      4e2b000      4e4d000  108 rw-p      0 [heap]
//! ff386d1d83e60ee8 7f99525aa000 7f99525ae000    0 r--p      0 [vvar]
//! ff386d1d83e60008 7f99525ae000 7f99525b0000    4 r-xp      0 [vdso]
//! ff386d1d83e60778 7ffe16d04000 7ffe16d25000   20 rw-p      0 [stack]
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    mm,
    super_block::SuperBlock,
    vma::{self, AddressSpace, Vma},
};

/// Show what a process has mapped, as /proc/PID/maps does: of the task, the struct mm_struct or the one
/// struct vm_area_struct at the address.
///
/// RSS is what of it is in memory, by the page tables. The vsyscall page, which belongs to no process, is not shown.
#[derive(Args)]
pub struct Vmas {}

/// A mapping.
#[derive(Row)]
struct VmaRow {
    /// address of the struct vm_area_struct
    addr: Object,
    /// process id, where a task was asked for
    #[hidden]
    pid: Option<i32>,
    /// first address
    start: Hex,
    /// the one behind the last
    end: Hex,
    /// in memory, in KiB
    #[heading("RSS")]
    rss: Result<u64>,
    /// read, write, execute; private or shared
    #[heading("MODE")]
    rights: String,
    /// where in the file it begins, in bytes
    offset: Hex,
    /// major and minor number of the file's device
    #[hidden]
    device: Result<String>,
    /// number of the file's inode
    #[hidden]
    inode: Result<u64>,
    /// the file, or what else it is
    name: Result<String>,
}

/// Whose mappings are shown.
struct Owner {
    pid: Option<i32>,
    space: AddressSpace,
    /// its page tables
    table: Result<Space>,
}

impl Owner {
    fn of(cx: &Cx<'_>, mm: u64, pid: Option<i32>) -> Result<Owner> {
        Ok(Owner { pid, space: cx.view(mm)?, table: mm::space(cx, mm) })
    }

    fn show(&self, cx: &Cx<'_>, addr: u64, out: &mut Out<'_>) -> Result<()> {
        let vma: Vma = match cx.view(addr) {
            Ok(vma) => vma,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                cx.notes.add(addr, format!("mapping: {}", e.kind()));
                return Ok(());
            }
        };
        let rss = match &self.table {
            Ok(table) => vma.resident(cx, *table).map(|bytes| bytes >> 10),
            Err(e) => Err(Error::Unavailable(e.kind())),
        };
        let device = vma.super_block(cx).and_then(|sb| match sb {
            0 => Ok("00:00".to_owned()),
            sb => cx.view::<SuperBlock>(sb).map(|sb| format!("{:02x}:{:02x}", sb.device().0, sb.device().1)),
        });
        out.row(VmaRow {
            addr: cx.object("vm_area_struct", addr),
            pid: self.pid,
            start: Hex(vma.start),
            end: Hex(vma.end),
            rss,
            rights: vma.rights(),
            offset: Hex(vma.offset(cx)),
            device,
            inode: vma.inode(cx),
            name: vma.name(cx, &self.space),
        })
    }
}

impl Dcmd for Vmas {
    const NAME: &'static str = "vmas";
    const ALIASES: &'static [&'static str] = &["pmap"];
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[VmaRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let at = at.ok_or_else(|| Error::Usage("::vmas needs a task, or a struct mm_struct".into()))?;
        let is = |name| at.ctype.is_some() && at.ctype == cx.struct_type(name);
        if is("vm_area_struct") {
            let mm = cx.u64(at.addr.wrapping_add(cx.offset("vm_area_struct", "vm_mm")?))?;
            return Owner::of(cx, mm, None)?.show(cx, at.addr, out);
        }
        let Some(mm) = vma::chosen(cx, at)? else {
            cx.notes.add(at.addr, "task without user memory: a kernel thread, or a process that has exited");
            return Ok(());
        };
        let pid = match is("mm_struct") {
            true => None,
            false => Some(cx.u32(at.addr.wrapping_add(cx.offset("task_struct", "tgid")?))? as i32),
        };
        let owner = Owner::of(cx, mm, pid)?;
        vma::each(cx, mm, &mut |vma| owner.show(cx, vma, out))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Vmas>()];
