//! Which of the kernel's means against memory errors are on: how it was built, and what it was booted with.

use crate::{kfence, slab};
use engine::prelude::*;

/// Whether one is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// it works
    On,
    /// it is there, and off
    Off,
    /// the kernel was built without it
    Absent,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            State::On => "on",
            State::Off => "off",
            State::Absent => "absent",
        }
    }

    fn built(there: bool) -> State {
        if there { State::On } else { State::Absent }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// what it is called: the option that turns it on
    pub name: &'static str,
    /// whether it is on
    pub state: State,
    /// what it does
    pub what: &'static str,
    /// more of it
    pub detail: Option<String>,
}

/// A `struct static_key`, which begins with the number of its users.
fn key(session: &Session, name: &str) -> State {
    match session.kernel_symbol(name).map(|at| session.u32(at)) {
        Some(Ok(count)) if count as i32 > 0 => State::On,
        Some(_) => State::Off,
        None => State::Absent,
    }
}

/// All of them.
pub fn all(session: &Session) -> Result<Vec<Means>> {
    let caches = slab::Caches::of(session)?;
    let with = |flag: u32| caches.iter().filter(|cache| cache.flags & flag != 0).count();
    let flags = [caches.flags.red_zone, caches.flags.poison, caches.flags.store_user];
    let debugged = caches.iter().filter(|cache| flags.iter().any(|flag| cache.flags & flag != 0)).count();
    let slub = match debugged {
        // SYSFS shows it with CONFIG_SLUB_DEBUG only
        0 if session.has_member("kmem_cache_node", "nr_slabs") => State::Off,
        0 => State::Absent,
        _ => State::On,
    };
    let counts = format!(
        "{debugged} of {} caches: {} with red zones, {} poisoned, {} with records of users",
        caches.len(),
        with(caches.flags.red_zone),
        with(caches.flags.poison),
        with(caches.flags.store_user)
    );
    let pool = kfence::Pool::of(session)?;
    let kfence = match &pool {
        Some(_) => State::On,
        None if session.kernel_symbol("__kfence_pool").is_some() => State::Off,
        None => State::Absent,
    };
    // software tags have a flag in the pointer, the generic kind a shadow; both add to the cache
    let kasan = State::built(session.has_struct("kasan_cache"));
    let mut out = vec![
        means("slub_debug", slub, "fences, fill and records of slab objects", (debugged > 0).then_some(counts)),
        means(
            "kfence",
            kfence,
            "samples allocations between guard pages",
            pool.map(|pool| format!("{} objects", pool.count)),
        ),
        means("kasan", kasan, "checks every access", None),
    ];
    let kmemleak = match session.kernel_symbol("kmemleak_enabled").map(|at| session.u32(at)) {
        Some(Ok(on)) if on != 0 => State::On,
        Some(_) => State::Off,
        None => State::Absent,
    };
    out.push(means("kmemleak", kmemleak, "looks for leaks", None));
    for (name, symbol, what) in [
        ("init_on_alloc", "init_on_alloc", "memory is zeroed when it is handed out"),
        ("init_on_free", "init_on_free", "memory is zeroed when it is given back"),
        ("page_poison", "_page_poisoning_enabled", "free pages are filled"),
        ("debug_pagealloc", "_debug_pagealloc_enabled", "free pages are unmapped"),
        ("debug_guardpage", "_debug_guardpage_enabled", "allocations of pages are fenced"),
        ("check_pages", "check_pages_enabled", "pages are checked when they change hands"),
        ("page_owner", "page_owner_inited", "records of who allocated each page"),
        ("mem_profiling", "mem_alloc_profiling_key", "counts allocations by place in the code"),
        ("hash_pointers", "filled_random_ptr_key", "the log shows hashes for addresses"),
    ] {
        out.push(means(name, key(session, symbol), what, None));
    }
    let random = State::built(session.has_member("kmem_cache", "random"));
    out.push(means("freelist_hardened", random, "pointers to free objects are mixed", None));
    let order = State::built(session.has_member("kmem_cache", "random_seq"));
    out.push(means("freelist_random", order, "free objects are in random order", None));
    let sheaves = caches.iter().filter(|cache| cache.sheaf_capacity.is_some_and(|n| n > 0)).count();
    if session.has_member("kmem_cache", "cpu_sheaves") {
        out.push(means(
            "sheaves",
            State::built(true),
            "CPUs keep free objects in arrays",
            Some(format!("{sheaves} caches")),
        ));
    }
    Ok(out)
}

fn means(name: &'static str, state: State, what: &'static str, detail: Option<String>) -> Means {
    Means { name, state, what, detail }
}
