//! What is hooked into the kernel's code: probes of tracepoints, kprobes, callbacks of ftrace.
//!
//! ```console
//! > ::walk tracepoint | ::where 'funcs != 0' | ::print struct tracepoint name ! head -n 1
//! name = __tpstrtab_sched_wakeup "sched_wakeup"
//! ```

use crate::{container, list};
use engine::{ViewEntry, prelude::*};

/// A tracepoint: `struct tracepoint` (include/linux/tracepoint-defs.h).
#[derive(View, Clone, Debug)]
#[ctype("tracepoint")]
pub struct Tracepoint {
    /// its address
    #[addr]
    pub addr: u64,
    name: u64,
    /// how often it is switched on
    #[field("key.key.enabled", "key.enabled")]
    pub enabled: i32,
    funcs: u64,
}

/// What a tracepoint calls: `struct tracepoint_func`.
#[derive(View, Clone, Debug)]
#[ctype("tracepoint_func")]
pub struct Probe {
    /// the function
    #[field("func")]
    pub function: u64,
    /// what it is given
    pub data: u64,
    /// those with more come first
    #[field("prio")]
    pub priority: i32,
}

/// More than any tracepoint or place in the code has.
const MAX: u64 = 1 << 12;

impl Tracepoint {
    /// Its name.
    pub fn name(&self, session: &Session) -> Result<String> {
        session.cstr(self.name, 128)
    }

    /// Its probes, in the order in which they are called.
    pub fn probes(&self, session: &Session) -> Result<Vec<Probe>> {
        let mut found = Vec::new();
        if self.funcs == 0 {
            return Ok(found);
        }
        let size = session.size_of("tracepoint_func")?;
        for i in 0..MAX {
            let probe: Probe = session.view(self.funcs.wrapping_add(i * size))?;
            if probe.function == 0 {
                break;
            }
            found.push(probe);
        }
        Ok(found)
    }
}

/// Visits every tracepoint: the kernel's, then those of modules.
pub fn tracepoints(session: &Session, visit: Visit<'_>) -> Result<()> {
    let ends =
        session.kernel_symbol("__start___tracepoints_ptrs").zip(session.kernel_symbol("__stop___tracepoints_ptrs"));
    let (start, end) = ends.ok_or_else(|| Error::Unavailable("no symbol `__start___tracepoints_ptrs`".into()))?;
    pointers(session, start, end.saturating_sub(start), visit)?;
    let (Some(table), Some(count)) =
        (session.place("module", "tracepoints_ptrs"), session.place("module", "num_tracepoints"))
    else {
        return Ok(());
    };
    for module in session.symbols.modules(session) {
        let read = |field: &engine::Field| {
            session.uint(module.addr.wrapping_add(field.bit_offset / 8), field.bits as usize / 8)
        };
        let (table, count) = (read(&table)?, read(&count)?);
        if count > 0 {
            let width = if relative(session, table) { 4 } else { 8 };
            pointers(session, table, count.min(1 << 20) * width, visit)?;
        }
    }
    Ok(())
}

/// Whether a table of pointers holds distances instead (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS): what it leads to then is a
/// tracepoint, whose name can be read.
fn relative(session: &Session, at: u64) -> bool {
    let target = session.u32(at).map(|distance| at.wrapping_add_signed((distance as i32).into()));
    target.and_then(|at| session.view::<Tracepoint>(at)?.name(session)).is_ok_and(|name| !name.is_empty())
}

fn pointers(session: &Session, start: u64, len: u64, visit: Visit<'_>) -> Result<()> {
    let relative = relative(session, start);
    let width = if relative { 4 } else { 8 };
    for i in 0..(len / width).min(1 << 20) {
        let at = start.wrapping_add(i * width);
        let target = match relative {
            true => at.wrapping_add_signed((session.u32(at)? as i32).into()),
            false => session.u64(at)?,
        };
        visit(target)?;
    }
    Ok(())
}

/// A kprobe: `struct kprobe` (include/linux/kprobes.h).
#[derive(View, Clone, Debug)]
#[ctype("kprobe")]
pub struct Kprobe {
    /// its address
    #[addr]
    pub addr: u64,
    /// where it is
    #[field("addr")]
    pub place: u64,
    /// called in front of the instruction
    pub pre_handler: u64,
    /// called behind it
    pub post_handler: u64,
    /// `KPROBE_FLAG_…`
    pub flags: u32,
    /// how often it was passed without being called
    pub nmissed: u64,
    list: At,
}

impl Kprobe {
    /// Whether its code is gone (`KPROBE_FLAG_GONE`).
    pub fn gone(&self) -> bool {
        self.flags & 1 != 0
    }
    /// Whether it is switched off (`KPROBE_FLAG_DISABLED`).
    pub fn disabled(&self) -> bool {
        self.flags & 2 != 0
    }
    /// Whether a jump takes the place of the breakpoint (`KPROBE_FLAG_OPTIMIZED`).
    pub fn optimized(&self) -> bool {
        self.flags & 4 != 0
    }
    /// Whether ftrace calls it (`KPROBE_FLAG_FTRACE`).
    pub fn ftrace(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// Visits every kprobe. Several at one place hang on one that stands for them, which is not shown.
pub fn kprobes(session: &Session, visit: Visit<'_>) -> Result<()> {
    /// `KPROBE_TABLE_SIZE`
    const LISTS: u64 = 64;
    let (link, more) = (session.offset("kprobe", "hlist")?, session.offset("kprobe", "list")?);
    let stands_for_many = session.kernel_symbol("aggr_pre_handler");
    container::hlist_table(session, session.symbol("kprobe_table")?, LISTS, link, &mut |at| {
        let probe: Kprobe = session.view(at)?;
        match Some(probe.pre_handler) == stands_for_many {
            true => list::list(session, probe.list.0, more, &mut *visit),
            false => visit(at),
        }
    })
}

/// Who is called by functions that are traced: `struct ftrace_ops` (include/linux/ftrace.h).
#[derive(View, Clone, Debug)]
#[ctype("ftrace_ops")]
pub struct Ops {
    /// its address
    #[addr]
    pub addr: u64,
    /// what is called
    #[field("func")]
    pub function: u64,
    /// `FTRACE_OPS_FL_…`
    pub flags: u64,
    func_hash: u64,
    /// what it is given
    pub private: u64,
    /// code that calls it and no other; 0 if there is none
    pub trampoline: u64,
}

/// More buckets, as a power of two, than ftrace gives a hash: `FTRACE_HASH_MAX_BITS` is 12 (kernel/trace/ftrace.c). Entries
/// are the functions of the kernel at most, some a bucket.
const MAX_BITS: u64 = 14;

/// `struct ftrace_hash` (kernel/trace/trace.h).
#[derive(View)]
#[ctype("ftrace_hash")]
struct Hash {
    size_bits: u64,
    buckets: u64,
    count: u64,
}

impl Ops {
    /// The functions that it is for, or, with `not`, for which it is not. None means all.
    pub fn functions(&self, session: &Session, not: bool) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        if self.func_hash == 0 {
            return Ok(found);
        }
        let member = if not { "notrace_hash" } else { "filter_hash" };
        let hash = session.u64(self.func_hash.wrapping_add(session.offset("ftrace_ops_hash", member)?))?;
        if hash == 0 {
            return Ok(found);
        }
        let (at, hash): (u64, Hash) = (hash, session.view(hash)?);
        if hash.size_bits > MAX_BITS || hash.count >> MAX_BITS > 64 {
            return Err(Error::Corrupt { addr: at, what: "ftrace hash of impossible size".into() });
        }
        if hash.count == 0 || hash.buckets == 0 {
            return Ok(found);
        }
        let (link, ip) = (session.offset("ftrace_func_entry", "hlist")?, session.offset("ftrace_func_entry", "ip")?);
        container::hlist_table(session, hash.buckets, 1 << hash.size_bits, link, &mut |entry| {
            found.push(session.u64(entry.wrapping_add(ip))?);
            Ok(())
        })?;
        found.sort_unstable();
        Ok(found)
    }
}

/// Visits everybody whom functions call that are traced.
pub fn ftrace_ops(session: &Session, visit: Visit<'_>) -> Result<()> {
    let missing = || Error::Unavailable("no symbol `ftrace_ops_list`".into());
    let first = session.u64(session.kernel_symbol("ftrace_ops_list").ok_or_else(missing)?)?;
    let end = session.kernel_symbol("ftrace_list_end");
    list::chain(session, first, session.offset("ftrace_ops", "next")?, &mut |at| match Some(at) == end {
        true => Ok(()),
        false => visit(at),
    })
}

macro_rules! walker {
    ($name:literal, $doc:literal, $walk:expr) => {
        WalkerEntry {
            name: $name,
            doc: $doc,
            item: concat!("struct ", $name),
            address: Address::None,
            walk: |cx, _, visit| $walk(cx, visit),
        }
    };
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    walker!("tracepoint", "walk the tracepoints of the kernel and its modules", tracepoints),
    walker!("kprobe", "walk the kprobes", kprobes),
    walker!("ftrace_ops", "walk those whom traced functions call", ftrace_ops),
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Tracepoint>(),
    ViewEntry::of::<Probe>(),
    ViewEntry::of::<Kprobe>(),
    ViewEntry::of::<Ops>(),
    ViewEntry::of::<Hash>(),
];
