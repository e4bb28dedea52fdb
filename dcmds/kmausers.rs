//! Who has the memory: `::kmausers`, `::page_owner`.
//!
//! ```console
//! > ::kmausers -e -f lab_node | ::head -n 2
//! ADDR             SIZE THREAD CACHE    CALLER
//! ff386d1d83ff60d0  104    165 lab_node labmod`lab_alloc_node+0x1f
//! ff386d1d83ff63f0  104    161 lab_node labmod`lab_alloc_node+0x1f
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    alloc_tag::Tag,
    kmem_log::Log,
    page_owner::{Owner, Owners},
    pageinfo::Pages,
    slab::Caches,
    stackdepot,
    task::Pids,
    users::{self, Allocation, Site, Source, User, Wish},
};

/// Show who has allocated the memory that is in use: the bytes that each caller holds, most first.
///
/// Known from the records of slab objects (`slub_debug=U`); else from the kernel's own count by place in the code (Linux
/// 6.10, `sysctl.vm.mem_profiling`); else from the owners of pages (`page_owner=on`); else from what the transaction log
/// saw allocated and not freed. Users of less than 8192 bytes in less than 100 allocations are left out.
///
/// With an address: only allocations that hold it. The words are names of slab caches.
#[derive(Args)]
pub struct Kmausers {
    /// small users too
    #[arg(short = 'e')]
    everyone: bool,
    /// show each allocation
    #[arg(short = 'f')]
    full: bool,
    /// where to look, whatever else there is
    #[arg(short = 'w', value_name = "WITNESS", value_parser = ["tracks", "tags", "pages", "log"])]
    witness: Option<String>,
    /// only these caches
    #[arg(value_name = "CACHE")]
    caches: Vec<String>,
}

/// What one stack holds.
#[derive(Row)]
struct UserRow {
    /// bytes of all its allocations
    bytes: u64,
    /// how many they are
    count: u64,
    /// bytes of each
    size: Option<u64>,
    /// the first frame outside of the allocator, or the place in the code
    caller: String,
    /// the call stack
    #[detail]
    stack: Vec<String>,
}

/// An allocation.
#[derive(Row)]
struct AllocationRow {
    /// where it is: an object, or a struct page
    addr: Object,
    /// its bytes
    size: Option<u64>,
    /// the task that asked, or its number if it is gone
    thread: Cell,
    /// the slab cache
    cache: Option<String>,
    /// the first frame outside of the allocator
    caller: String,
}

/// mdb leaves out who has less of both.
const FEW_BYTES: u64 = 8192;
const FEW: u64 = 100;

/// `mm/slub.c:4321 func`, with the module in front
fn place(tag: &Tag) -> String {
    let module = tag.module.as_ref().map(|name| format!("{name}`")).unwrap_or_default();
    format!("{module}{} ({}:{})", tag.function, tag.file, tag.line)
}

impl Kmausers {
    fn source(&self, cx: &Cx<'_>) -> Result<Source> {
        match self.witness.as_deref() {
            Some("tracks") => Ok(Source::Tracks),
            Some("tags") => Ok(Source::Tags),
            Some("pages") => Ok(Source::PageOwner),
            Some(_) => Ok(Source::Log),
            None => users::best(cx),
        }
    }

    fn wish(&self, cx: &Cx<'_>, at: Option<Object>) -> Result<Wish> {
        let mut wish = Wish { holds: at.map(|at| at.addr), each: self.full || at.is_some(), ..Wish::default() };
        let caches = Caches::of(cx)?;
        for name in &self.caches {
            let before = wish.caches.len();
            wish.caches.extend(caches.named(name));
            if wish.caches.len() == before {
                return Err(Error::Usage(format!("no slab cache is named `{name}`")).hint("`::kmem_cache` lists them"));
            }
        }
        Ok(wish)
    }

    fn caller(cx: &Cx<'_>, log: &Log, user: &User) -> String {
        match &user.site {
            Site::Tag(tag) => place(tag),
            Site::Stack(frames) => log.outside(cx, frames).map_or_else(|| "?".into(), |pc| cx.sym(pc)),
        }
    }

    fn each(&self, cx: &Cx<'_>, user: &User, caller: &str, out: &mut Out<'_>) -> Result<()> {
        let (pids, caches) = (Pids::of(cx)?, Caches::of(cx)?);
        for Allocation { addr, pid, cache } in &user.each {
            let ctype = if cache.is_none() { "page" } else { "" };
            out.row(AllocationRow {
                addr: cx.object(ctype, *addr),
                size: user.size,
                thread: pids.get(*pid).map_or(Cell::Int((*pid).into()), Cell::Addr),
                cache: cache.and_then(|number| caches.get(number)).map(|cache| cache.name().to_owned()),
                caller: caller.to_owned(),
            })?;
        }
        Ok(())
    }
}

impl Dcmd for Kmausers {
    const NAME: &'static str = "kmausers";
    const ROWS: &'static [&'static Schema] = &[UserRow::SCHEMA, AllocationRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (source, wish) = (self.source(cx)?, self.wish(cx, at)?);
        let log = Log::of(cx)?;
        for user in users::users(cx, source, &wish)? {
            if user.bytes < FEW_BYTES && user.count < FEW && !self.everyone && at.is_none() {
                continue;
            }
            let caller = Kmausers::caller(cx, &log, &user);
            if wish.each && !user.each.is_empty() {
                self.each(cx, &user, &caller, out)?;
                continue;
            }
            let stack = match &user.site {
                Site::Stack(frames) => frames.iter().flat_map(|pc| engine::frame::frame(cx, *pc, true)).collect(),
                Site::Tag(_) => Vec::new(),
            };
            out.row(UserRow { bytes: user.bytes, count: user.count, size: user.size, caller, stack })?;
        }
        Ok(())
    }
}

// ---- ::page_owner -------------------------------------------------------------------------------------------------

/// Show who allocated a page, and who freed it, where the kernel keeps that (`page_owner=on`).
///
/// The address is that of a struct page, or any that the kernel has mapped.
#[derive(Args)]
pub struct PageOwner {}

/// A page's owner.
#[derive(Row)]
struct OwnerRow {
    /// address of the struct page
    addr: Object,
    /// two to this power pages were allocated
    order: u16,
    /// whether they still are
    allocated: bool,
    /// the thread that allocated
    pid: Option<i32>,
    /// its name
    comm: Option<String>,
    /// what was asked for: `GFP_…`
    gfp: Hex,
    /// when it was allocated, in ns
    #[hidden]
    time: Option<u64>,
    /// when it was freed, in ns
    #[hidden]
    freed: Option<u64>,
    /// the call stacks
    #[detail]
    stacks: Vec<String>,
}

/// The stacks of an owner, as lines.
pub fn stacks(cx: &Cx<'_>, owner: &Owner) -> Vec<String> {
    let mut lines = Vec::new();
    for (verb, handle) in [("allocated by", owner.handle), ("freed by", owner.free_handle)] {
        if handle == 0 {
            continue;
        }
        lines.push(verb.to_owned());
        match stackdepot::stack(cx, handle) {
            Ok(frames) => lines.extend(
                frames.into_iter().flat_map(|pc| engine::frame::frame(cx, pc, true)).map(|line| format!("    {line}")),
            ),
            Err(e) => lines.push(format!("    stack unreadable: {}", e.kind())),
        }
    }
    lines
}

impl Dcmd for PageOwner {
    const NAME: &'static str = "page_owner";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[OwnerRow::SCHEMA];
    const PASSES: &'static str = "struct page";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Some(at) = at else { return Ok(()) };
        let owners = Owners::of(cx)?
            .ok_or_else(|| Error::Unavailable("the kernel keeps no page owners (page_owner=on)".into()))?;
        let pages = Pages::of(cx)?;
        let page = pages.find(cx, at.addr).ok_or_else(|| Error::Usage(format!("{:#x} is no page", at.addr)))?;
        let frame = pages.map.frame(page).unwrap_or(0);
        let Some((owner, allocated)) = owners.at(cx, frame)? else {
            cx.notes.add(page, "page whose owner was not recorded");
            return Ok(());
        };
        out.row(OwnerRow {
            addr: cx.object("page", page),
            order: owner.order,
            allocated,
            pid: owner.pid,
            stacks: stacks(cx, &owner),
            gfp: Hex(owner.gfp.into()),
            time: owner.time,
            freed: owner.free_time.filter(|ns| *ns != 0),
            comm: owner.comm,
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Kmausers>(), DcmdEntry::of::<PageOwner>()];
