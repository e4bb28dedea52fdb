//! What watches over memory in this kernel: `::kmem_debug`.
//!
//! ```console
//! > ::kmem_cache -n lab_ | ::kmem_debug
//! ADDR             NAME     DEBUG OBJSIZE BUFSIZE LEFT POINTER FILLED
//! ff386d1d857461c0 lab_node FZPU      104     200    8     112 yes
//! ```

use engine::{Schema, prelude::*};
use walkers::{
    kmem_debug,
    slab::{Caches, cache::flag_names},
};

/// Show which of the kernel's means against memory errors are on.
///
/// With the address of a slab cache: what is on for it.
#[derive(Args)]
pub struct KmemDebug {
    /// one row for each slab cache
    #[arg(short = 'c')]
    caches: bool,
}

/// One of them.
#[derive(Row)]
struct MeansRow {
    /// its name: mostly the boot option that turns it on
    name: &'static str,
    /// `on`, `off`, or `absent` if the kernel was built without
    state: &'static str,
    /// what it does
    what: &'static str,
    /// more of it
    detail: Option<String>,
}

/// What is on for a cache.
#[derive(Row)]
struct CacheRow {
    /// address of its struct kmem_cache
    addr: Object,
    /// its name
    name: String,
    /// as in the boot option: `F` consistency checks, `Z` red zones, `P` poison, `U` records of users, `T` trace
    debug: String,
    /// bytes that the user asked for
    objsize: u32,
    /// bytes from one object to the next
    bufsize: u32,
    /// bytes of red zone in front of each object
    left: u64,
    /// where in a free object the pointer to the next one is
    pointer: u32,
    /// whether free objects are filled, and not only the space around them
    filled: bool,
}

/// The letters of the boot option.
const LETTERS: [(&str, char); 5] =
    [("CONSISTENCY_CHECKS", 'F'), ("RED_ZONE", 'Z'), ("POISON", 'P'), ("STORE_USER", 'U'), ("TRACE", 'T')];

impl KmemDebug {
    fn cache(cx: &Cx<'_>, caches: &Caches, number: usize, out: &mut Out<'_>) -> Result<()> {
        let Some(cache) = caches.get(number) else { return Ok(()) };
        let names = flag_names(cx, cache.flags);
        let debug: String =
            LETTERS.iter().filter(|(name, _)| names.contains(name)).map(|(_, letter)| *letter).collect();
        out.row(CacheRow {
            addr: cx.object("kmem_cache", cache.addr),
            name: cache.name().to_owned(),
            debug: if debug.is_empty() { "-".into() } else { debug },
            objsize: cache.object_size,
            bufsize: cache.size,
            left: cache.left_pad(),
            pointer: cache.offset,
            filled: cache.flags & caches.flags.object_poison != 0,
        })
    }
}

impl Dcmd for KmemDebug {
    const NAME: &'static str = "kmem_debug";
    const ROWS: &'static [&'static Schema] = &[MeansRow::SCHEMA, CacheRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let caches = Caches::of(cx)?;
        if let Some(at) = at {
            return KmemDebug::cache(cx, &caches, caches.expect(at.addr)?, out);
        }
        if self.caches {
            return (0..caches.len()).try_for_each(|number| KmemDebug::cache(cx, &caches, number, out));
        }
        for means in kmem_debug::all(cx)? {
            out.row(MeansRow { name: means.name, state: means.state.name(), what: means.what, detail: means.detail })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<KmemDebug>()];
