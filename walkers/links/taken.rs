//! References that were taken and never put, told by that nobody has them.
//!
//! Whoever has a reference has the object's address. So all words in use that hold it are counted, and there may be more
//! of them than references, as of those who only look, but not fewer. A task that has ended is on no list any more, and
//! its memory is kept only by such references.

use super::{Finding, Kind, World, calls, dentries, files};
use crate::{
    refs::Graph,
    slab::{self, State},
    task,
};
use engine::prelude::*;
use std::collections::{HashMap, HashSet};

/// What is counted: the struct, the count, and how many bytes that has. A cache's objects are of that type if its name
/// says so. Each reference to one of these is kept as its plain address.
const COUNTED: &[(&str, &str)] =
    &[("pid", "count.refs.counter"), ("cred", "usage"), ("nsproxy", "count"), ("files_struct", "count.counter")];

/// Objects of one kind that are looked at; more say nothing new.
pub const MAX: usize = 1 << 20;

/// An object and its count.
#[derive(Clone, Copy)]
pub struct One {
    /// its address
    pub addr: u64,
    /// that of the count
    pub place: u64,
    /// how many references it says there are
    pub count: i64,
    /// its struct
    pub name: &'static str,
}

/// All of it, and the dentries that [`dentries`] suspects.
pub fn look(world: &World<'_>, dentries: &dentries::Suspects) -> Result<Vec<Finding>> {
    let session = world.session;
    if session.is_live() {
        return Ok(Vec::new());
    }
    let (mut all, mut kept) = (files::read(world)?, kept(world)?);
    for (name, member) in COUNTED {
        all.extend(read(world, name, member)?);
    }
    let weak = weak(world);
    // What slabs, variables and stacks hold accounts for most. Only for the rest all of memory is looked at, which takes
    // its time.
    let suspected: HashSet<u64> = [addrs(&all), addrs(&kept), dentries.addrs()].into_iter().flatten().collect();
    let known = known_holders(world, &suspected, &weak)?;
    let is_odd = |one: &One| one.count > known.get(&one.addr).copied().unwrap_or(0);
    all.retain(|one| is_odd(one) && !is_awaited(session, one));
    kept.retain(is_odd);
    files::leave_shared(world, &mut all)?;
    let are_dentries = !dentries.surplus(world, &known, |_| 1)?.is_empty();
    if all.is_empty() && kept.is_empty() && !are_dentries {
        return Ok(Vec::new());
    }
    let exact: HashSet<u64> = all.iter().filter(|one| one.name != files::NAME).map(|one| one.addr).collect();
    let mut asked: HashSet<u64> = all.iter().chain(&kept).map(|one| one.addr).collect();
    let of_dentries = if are_dentries { dentries.addrs() } else { HashSet::new() };
    asked.extend(&of_dentries);
    let whole = addrs(&kept);
    let graph = Graph::of(session)?;
    let held = led_to(session, &graph, &asked, |word, addr, to| {
        if exact.contains(&addr) || of_dentries.contains(&addr) {
            return Ok(addr == to);
        }
        let is_weak = slab::find(session, word)?.is_some_and(|f| weak.contains(&(f.cache, f.offset as u64)));
        let is_page = || graph.nodes.page_structs().contains(&word);
        Ok(!is_weak && !(whole.contains(&addr) && (is_page() || is_listed(world, addr, to)?)))
    })?;
    let mut out: Vec<Finding> = all.iter().filter_map(|one| counted(one, &held)).collect();
    out.extend(kept.iter().filter_map(|one| forgotten(session, one, &held)));
    if are_dentries {
        out.extend(dentries.surplus(world, &held, dentries::usual)?);
    }
    Ok(out)
}

/// Whether RCU has still to call the function that puts the last reference. It forgets the function when it calls it
/// (`rcu_do_batch` in kernel/rcu/tree.c), and until then only its own list leads there, somewhere into the object.
fn is_awaited(session: &Session, one: &One) -> bool {
    let place = session.offset(one.name, "rcu.func");
    place
        .and_then(|at| session.u64(one.addr.wrapping_add(at)))
        .is_ok_and(|function| calls::is_function(session, function))
}

/// What is wrong with an object whose references are held by so many words.
fn counted(one: &One, held: &HashMap<u64, i64>) -> Option<Finding> {
    let held = held.get(&one.addr).copied().unwrap_or(0);
    let more = one.count - held;
    let verdict = format!(
        "the count of this {} is {}, and {held} words lead to it: at least {more} references too many, taken and never put",
        one.name, one.count,
    );
    (more > 0).then_some(Finding { kind: Kind::Refcount, at: one.place, verdict, freed: None })
}

/// Likewise, with a task or an address space that no list of tasks leads to.
fn forgotten(session: &Session, one: &One, held: &HashMap<u64, i64>) -> Option<Finding> {
    let held = held.get(&one.addr).copied().unwrap_or(0);
    let what = match one.name {
        "task_struct" => {
            let comm = session.offset("task_struct", "comm");
            let name = comm.and_then(|at| session.cstr(one.addr.wrapping_add(at), 16));
            format!("{} has ended and is on no list any more", name.as_deref().unwrap_or("?"))
        }
        _ => "no task has this address space any more".into(),
    };
    let verdict =
        format!("{what}, its count is {}, and {held} words lead to it: a reference was taken and never put", one.count);
    (held < one.count).then_some(Finding { kind: Kind::Refcount, at: one.place, verdict, freed: None })
}

/// Where the words are that lead to something without a reference: the cache, and how far into its objects.
type Weak = HashSet<(usize, u64)>;

fn weak(world: &World<'_>) -> Weak {
    let place = |(cache, name, member): &(&str, &str, &str)| {
        Some((world.slabs.caches.named(cache).next()?, world.session.offset(name, member).ok()?))
    };
    WEAK.iter().filter_map(place).collect()
}

fn addrs(all: &[One]) -> HashSet<u64> {
    all.iter().map(|one| one.addr).collect()
}

/// The objects of a struct that are in use, with their counts.
fn read(world: &World<'_>, name: &'static str, member: &str) -> Result<Vec<One>> {
    let session = world.session;
    let (Some(place), Some(ctype)) = (session.place(name, member), session.struct_type(name)) else {
        return Ok(Vec::new());
    };
    let (offset, size) = (place.bit_offset / 8, (place.bits / 8) as usize);
    let mut all = Vec::new();
    for (number, cache) in world.slabs.caches.iter().enumerate() {
        if !cache.sound() || slab::names::object_type(session, cache) != Some(ctype) {
            continue;
        }
        let ended = world.slabs.each(session, number, State::Allocated, &mut |addr| {
            if all.len() == MAX {
                return Err(Error::Stop);
            }
            let at = addr.wrapping_add(offset);
            match session.uint(at, size) {
                Ok(value) => {
                    let count = if size == 4 { i64::from(value as i32) } else { value as i64 };
                    all.push(One { addr, place: at, count, name });
                    Ok(())
                }
                Err(e) if e.is_control() => Err(e),
                Err(_) => Ok(()),
            }
        });
        match ended {
            Ok(()) | Err(Error::Stop) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// How many words of slabs, variables, per-CPU memory and stacks hold each of these addresses, but those in the object
/// itself and those without a reference.
fn known_holders(world: &World<'_>, addrs: &HashSet<u64>, weak: &Weak) -> Result<HashMap<u64, i64>> {
    let mut found: HashMap<u64, i64> = HashMap::new();
    for (at, addr) in world.places_of(addrs, true)? {
        let place = slab::find(world.session, at)?;
        let is_weak =
            place.is_some_and(|place| place.object == addr || weak.contains(&(place.cache, place.offset as u64)));
        *found.entry(addr).or_default() += i64::from(!is_weak);
    }
    Ok(found)
}

/// How many words in use, but those in the object itself, lead anywhere into each of these objects and count: `counts` is
/// given where the word is, the object, and what the word leads to.
fn led_to(
    session: &Session,
    graph: &Graph,
    addrs: &HashSet<u64>,
    counts: impl Fn(u64, u64, u64) -> Result<bool>,
) -> Result<HashMap<u64, i64>> {
    let nodes: HashMap<u32, u64> = addrs.iter().filter_map(|addr| Some((graph.object_at(*addr)?, *addr))).collect();
    let mut found: HashMap<u64, i64> = HashMap::new();
    for (word, node) in graph.words_to(session, &|node| nodes.contains_key(&node), &|_| true)? {
        let own = graph.object_at(word) == Some(node);
        let (Some(addr), Ok(to)) = (nodes.get(&node).filter(|_| !own), session.u64(word)) else { continue };
        if counts(word, *addr, to)? {
            *found.entry(*addr).or_default() += 1;
        }
    }
    Ok(found)
}

/// `EXIT_DEAD`, of `exit_state` (include/linux/sched.h): nobody waits for it any more.
const EXIT_DEAD: u32 = 0x10;

/// Words that lead to a task, to what it maps into, or to a file, and are no references: the cache, the struct and the
/// member.
const WEAK: &[(&str, &str, &str)] = &[
    ("eventpoll_epi", "epitem", "ffd.file"),
    ("fasync_cache", "fasync_struct", "fa_file"),
    // in a union of its own since Linux 6.9 (4a22a3bda5dc)
    ("file_lock_cache", "file_lock", "fl_file"),
    ("file_lock_cache", "file_lock", "c.flc_file"),
    ("seq_file", "seq_file", "file"),
    ("task_struct", "task_struct", "last_wakee"),
    ("signal_cache", "signal_struct", "curr_target"),
    ("vm_area_struct", "vm_area_struct", "vm_mm"),
];
/// Members of a `struct mm_struct` that hang on lists of all address spaces, or that its own tree leads back to.
const LISTS: &[&str] = &["rss_stat", "mmlist", "lru_gen", "mm_mt", "mm_rb"];

/// The tasks and address spaces in use that no list of tasks leads to.
fn kept(world: &World<'_>) -> Result<Vec<One>> {
    let session = world.session;
    let (Some(usage), Some(count), Ok(exit)) = (
        session.place("task_struct", "usage.refs.counter"),
        session.place("mm_struct", "mm_count.counter"),
        session.offset("task_struct", "exit_state"),
    ) else {
        return Ok(Vec::new());
    };
    let Some(living) = living(world)? else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    for (name, count) in [("task_struct", usage), ("mm_struct", count)] {
        let Some(cache) = world.slabs.caches.named(name).next() else { continue };
        world.slabs.each(session, cache, State::Allocated, &mut |addr| {
            let place = addr.wrapping_add(count.bit_offset / 8);
            let (Ok(value), Ok(exit)) = (session.u32(place), session.u32(addr.wrapping_add(exit))) else {
                return Ok(());
            };
            let value = i64::from(value as i32);
            let ended = name == "mm_struct" || exit & EXIT_DEAD != 0;
            if ended && value > 0 && !living.contains(&addr) {
                kept.push(One { addr, place, count: value, name });
            }
            Ok(())
        })?;
    }
    Ok(kept)
}

/// The tasks that are on the lists, and the address spaces that they have; `None` if that cannot be told.
fn living(world: &World<'_>) -> Result<Option<HashSet<u64>>> {
    let session = world.session;
    let mut living = HashSet::new();
    let spaces: Vec<u64> =
        ["mm", "active_mm"].iter().filter_map(|member| session.offset("task_struct", member).ok()).collect();
    let mut add = |task: u64| {
        living.insert(task);
        for member in &spaces {
            living.extend(world.read::<1>(task.wrapping_add(*member))?.map(|[space]| space));
        }
        Ok(())
    };
    let walked = task::threads(session, &mut add)
        .and_then(|()| task::idle(session)?.into_iter().try_for_each(|(_, task)| add(task)));
    match walked {
        Ok(()) => Ok(Some(living)),
        Err(e) if e.is_control() => Err(e),
        // tasks that cannot be walked are noted where they are asked for
        Err(_) => Ok(None),
    }
}

/// Whether a word leads to where an address space merely hangs on a list.
fn is_listed(world: &World<'_>, addr: u64, to: u64) -> Result<bool> {
    let session = world.session;
    let is_space = |found: &slab::Found| world.slabs.caches.named("mm_struct").any(|cache| cache == found.cache);
    let (Some(ctype), Some(_)) = (session.struct_type("mm_struct"), slab::find(session, addr)?.filter(is_space)) else {
        return Ok(false);
    };
    let inside = engine::cprint::path::member_at(&session.types, ctype, to.wrapping_sub(addr));
    Ok(to != addr && inside.is_some_and(|(name, _)| LISTS.iter().any(|list| name.starts_with(list))))
}
