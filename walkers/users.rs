//! Who has memory: what is allocated, summed up by the call stacks that asked for it.
//!
//! A kernel may know that in several ways; each is a [`Source`].

use crate::{
    alloc_tag::{self, Tag},
    kmem_log::Log,
    page_owner,
    slab::{self, Slabs, State, Which},
};
use engine::prelude::*;
use rayon::prelude::*;
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

/// Where it is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// records of slab objects (`slub_debug=U`)
    Tracks,
    /// counters in the code (CONFIG_MEM_ALLOC_PROFILING)
    Tags,
    /// records of pages (`page_owner=on`)
    PageOwner,
    /// the transaction log, as far as it reaches back
    Log,
}

/// An allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// where it is: an object, or a `struct page`
    pub addr: u64,
    /// the thread that asked
    pub pid: i32,
    /// the slab cache, by its number
    pub cache: Option<usize>,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// a call stack, innermost first
    Stack(Vec<u64>),
    /// a place in the code
    Tag(Tag),
}

/// Allocations of one size from one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// who asked
    pub site: Site,
    /// bytes of each; `None` where only the sum is known
    pub size: Option<u64>,
    /// how many
    pub count: u64,
    /// bytes of all
    pub bytes: u64,
    /// each of them, if that was wished for
    pub each: Vec<Allocation>,
}

/// What of it is wanted.
#[derive(Debug, Default)]
pub struct Wish {
    /// only these caches; all, if there are none
    pub caches: HashSet<usize>,
    /// only what holds this address
    pub holds: Option<u64>,
    /// remember each allocation
    pub each: bool,
}

impl Wish {
    fn wants(&self, addr: u64, bytes: u64) -> bool {
        self.holds.is_none_or(|at| at >= addr && at - addr < bytes)
    }
}

/// The best source that there is.
pub fn best(session: &Session) -> Result<Source> {
    let caches = slab::Caches::of(session)?;
    if caches.iter().any(|cache| cache.flags & caches.flags.store_user != 0) {
        return Ok(Source::Tracks);
    }
    if alloc_tag::is_on(session) {
        return Ok(Source::Tags);
    }
    if page_owner::Owners::of(session)?.is_some() {
        return Ok(Source::PageOwner);
    }
    Ok(Source::Log)
}

/// Sums up, what has most bytes first.
pub fn users(session: &Session, source: Source, wish: &Wish) -> Result<Vec<User>> {
    let mut users = match source {
        Source::Tracks => tracks(session, wish)?,
        Source::Tags => tags(session)?,
        Source::PageOwner => pages(session, wish)?,
        Source::Log => log(session, wish)?,
    };
    users.sort_by_cached_key(|user| (Reverse(user.bytes), user.count, format!("{:?}", user.site)));
    Ok(users)
}

/// Sums, by stack and size.
#[derive(Default)]
struct Sums(HashMap<(Key, u64), (u64, u64, Vec<Allocation>)>);

/// What stands for a stack while it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Handle(u32),
    Frames(Vec<u64>),
}

impl Sums {
    fn add(&mut self, key: Key, size: u64, bytes: u64, allocation: Option<Allocation>) {
        let sum = self.0.entry((key, size)).or_default();
        sum.0 += 1;
        sum.1 = sum.1.saturating_add(bytes);
        sum.2.extend(allocation);
    }

    fn merge(mut self, other: Sums) -> Sums {
        for (key, (count, bytes, each)) in other.0 {
            let sum = self.0.entry(key).or_default();
            sum.0 += count;
            sum.1 = sum.1.saturating_add(bytes);
            sum.2.extend(each);
        }
        self
    }

    fn users(self, stack: impl Fn(u32) -> Result<Vec<u64>>) -> Result<Vec<User>> {
        let mut out = Vec::new();
        for ((key, size), (count, bytes, mut each)) in self.0 {
            let frames = match key {
                Key::Frames(frames) => frames,
                Key::Handle(handle) => match stack(handle) {
                    Err(e) if e.is_control() => return Err(e),
                    // without its stack the sum is still right
                    frames => frames.unwrap_or_default(),
                },
            };
            each.sort_by_key(|a| a.addr);
            out.push(User { site: Site::Stack(frames), size: Some(size), count, bytes, each });
        }
        Ok(out)
    }
}

/// By the records of slab objects.
fn tracks(session: &Session, wish: &Wish) -> Result<Vec<User>> {
    let slabs = Slabs::of(session)?;
    let wanted: Vec<usize> =
        (0..slabs.caches.len()).filter(|i| wish.caches.is_empty() || wish.caches.contains(i)).collect();
    let sums = |cache: usize| -> Result<Sums> {
        let mut sums = Sums::default();
        let size = slabs.caches.get(cache).map_or(0, |cache| u64::from(cache.object_size));
        slab::each_track_of(session, cache, &mut |state, track| {
            if state == State::Allocated && track.which == Which::Alloc && wish.wants(track.object, size) {
                let key = match track.handle() {
                    Some(handle) => Key::Handle(handle),
                    None => Key::Frames(track.stack(session)?),
                };
                let each = || Allocation { addr: track.object, pid: track.pid as i32, cache: Some(cache) };
                sums.add(key, size, size, wish.each.then(each));
            }
            Ok(())
        })?;
        Ok(sums)
    };
    let all = wanted.into_par_iter().map(sums).try_reduce(Sums::default, |a, b| Ok(a.merge(b)))?;
    all.users(|handle| crate::stackdepot::stack(session, handle))
}

/// By the counters in the code.
fn tags(session: &Session) -> Result<Vec<User>> {
    let mut out = Vec::new();
    alloc_tag::each(session, &mut |tag, bytes, count| {
        if bytes > 0 || count > 0 {
            out.push(User { site: Site::Tag(tag), size: None, count, bytes, each: Vec::new() });
        }
        Ok(())
    })?;
    Ok(out)
}

/// By the records of pages.
fn pages(session: &Session, wish: &Wish) -> Result<Vec<User>> {
    let owners = page_owner::Owners::of(session)?;
    let owners = owners.ok_or_else(|| Error::Unavailable("the kernel keeps no page owners (page_owner=on)".into()))?;
    let mut sums = Sums::default();
    let page = session.target.page_size();
    owners.each(session, &mut |addr, owner| {
        let bytes = page.checked_shl(owner.order.into()).unwrap_or(0);
        if wish.wants(addr, 1) {
            let each = || Allocation { addr, pid: owner.pid.unwrap_or(0), cache: None };
            sums.add(Key::Handle(owner.handle), bytes, bytes, wish.each.then(each));
        }
        Ok(())
    })?;
    sums.users(|handle| crate::stackdepot::stack(session, handle))
}

/// By the transaction log: what it saw allocated and nobody saw freed.
fn log(session: &Session, wish: &Wish) -> Result<Vec<User>> {
    let log = Log::of(session)?;
    log.caveats(session);
    let mut sums = Sums::default();
    for transaction in log.allocated(session) {
        let transaction = transaction?;
        let found = slab::find(session, transaction.buffer)?;
        let cache = found.map(|found| found.cache);
        if !wish.caches.is_empty() && cache.is_none_or(|cache| !wish.caches.contains(&cache)) {
            continue;
        }
        let caches = slab::Caches::of(session)?;
        let size = cache.and_then(|number| caches.get(number)).map(|cache| u64::from(cache.object_size));
        let size = size.or(transaction.bytes.map(|(_, bytes)| bytes)).unwrap_or(0);
        if wish.wants(transaction.buffer, size) {
            let stack = transaction.stack(session)?;
            let stack = if stack.is_empty() { vec![transaction.site] } else { stack };
            let each = || Allocation { addr: transaction.buffer, pid: transaction.pid as i32, cache };
            sums.add(Key::Frames(stack), size, size, wish.each.then(each));
        }
    }
    sums.users(|_| Ok(Vec::new()))
}
