//! Slab memory: the kernel's own counters, drgn's objects, and the tracks that the guest's debugfs showed.

use super::{Dump, each_dump};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};
use walkers::{
    kfence,
    slab::{self, Slabs, State, Which},
};

/// The objects of a cache that are in some state, without those that KFENCE holds.
fn objects(dump: &Dump, slabs: &Slabs, cache: usize, state: State) -> BTreeSet<u64> {
    let pool = kfence::Pool::of(&dump.session).unwrap().map_or(0..0, |pool| pool.range());
    let mut found = BTreeSet::new();
    slabs
        .each(&dump.session, cache, state, &mut |object| {
            if !pool.contains(&object) {
                assert!(found.insert(object), "{}: {object:x} twice", dump.name);
            }
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn every_slab_that_the_kernel_counts_is_found_and_sound() {
    each_dump(|dump| {
        let slabs = Slabs::of(&dump.session).unwrap();
        for (number, cache) in slabs.caches.iter().enumerate() {
            let name = format!("{}: {}", dump.name, cache.name());
            let nodes = cache.nodes(&dump.session).unwrap();
            let counted: u64 = nodes.iter().filter_map(|n| n.nr_slabs).sum();
            let objects: u64 = nodes.iter().filter_map(|n| n.total_objects).sum();
            let free = slabs.free(&dump.session, number).unwrap();
            assert_eq!(slabs.of_cache(number).len() as u64, counted, "{name}");
            assert_eq!(free.counts.total, objects, "{name}");
            assert_eq!(free.counts.allocated, free.counts.in_use, "{name}");
            assert_eq!(free.counts.unknown, 0, "{name}");
            assert!(free.faults.is_empty(), "{name}: {:?}", free.faults);
        }
        assert_eq!(dump.session.notes.take(), Vec::<String>::new(), "{}", dump.name);
    });
}

#[test]
fn the_allocated_objects_are_drgns() {
    each_dump(|dump| {
        let Some(text) = oracle(&dump.truth.with_file_name("oracle/slab-objects.zst")) else { return };
        let slabs = Slabs::of(&dump.session).unwrap();
        let mut drgn: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        let mut cache = "";
        for line in text.lines() {
            match line.strip_prefix("= ") {
                Some(name) => cache = name,
                None => assert!(drgn.entry(cache).or_default().insert(u64::from_str_radix(line, 16).unwrap())),
            }
        }
        let mut count = 0;
        for (number, cache) in slabs.caches.iter().enumerate() {
            let mut ours = objects(dump, &slabs, number, State::Allocated);
            // drgn takes what waits for a grace period for allocated
            ours.extend(objects(dump, &slabs, number, State::RcuPending));
            let theirs = drgn.remove(cache.name()).unwrap_or_default();
            assert_eq!(ours, theirs, "{}: {}", dump.name, cache.name());
            count += ours.len();
        }
        assert!(count > 30_000, "{}: {count}", dump.name);
    });
}

/// An oracle's file, unpacked.
fn oracle(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    Some(String::from_utf8(zstd::stream::decode_all(file).unwrap()).unwrap())
}

#[test]
fn an_address_finds_its_object_again() {
    each_dump(|dump| {
        let slabs = Slabs::of(&dump.session).unwrap();
        let mut count = 0;
        for (number, cache) in slabs.caches.iter().enumerate() {
            for state in [State::Allocated, State::Free] {
                for object in objects(dump, &slabs, number, state) {
                    let last = u64::from(cache.size) - 1 - cache.left_pad();
                    for addr in [object, object + last, object - cache.left_pad()] {
                        let found = slab::find(&dump.session, addr).unwrap().unwrap();
                        assert_eq!((found.cache, found.object, found.state), (number, object, state), "{}", dump.name);
                        assert_eq!(found.offset, addr.wrapping_sub(object) as i64);
                    }
                    count += 1;
                }
            }
        }
        assert!(count > 30_000, "{}: {count}", dump.name);
    });
}

#[test]
fn every_track_has_a_stack_and_is_its_objects() {
    each_dump(|dump| {
        let mut count = 0;
        let mut stacks = HashMap::new();
        slab::each_track(&dump.session, &mut |_, track| {
            let known = track.handle().is_some_and(|handle| stacks.insert(handle, ()).is_some());
            if !known {
                let stack = track.stack(&dump.session)?;
                assert!(!stack.is_empty(), "{}: {track:x?}", dump.name);
            }
            count += 1;
            if count % 64 == 0 {
                let (found, which) = slab::object_of_track(&dump.session, track.addr + 4)?.unwrap();
                assert_eq!((found.object, which), (track.object, track.which), "{}", dump.name);
                let again = slab::track(&dump.session, track.cache, track.object, track.which)?;
                assert_eq!(again.as_ref(), Some(&track));
            }
            Ok(())
        })
        .unwrap();
        let debug = dump.truth("cmdline").is_some_and(|line| line.contains("slub_debug"));
        assert!(!debug || count > 30_000, "{}: {count} tracks", dump.name);
    });
}

/// How many objects of a cache have a stack, given by its frames (`symbol+0x12`), the caller alone before Linux 5.16.
type Traces = HashMap<(String, Vec<String>), u64>;

/// Reads the `alloc_traces` of all caches, each under its head `==> …/CACHE/alloc_traces <==`.
fn alloc_traces(text: &str) -> Traces {
    let frame = |text: &str| text.split('/').next().unwrap().to_owned();
    let mut out = Traces::new();
    let (mut cache, mut count, mut stack, mut head) = (String::new(), 0, Vec::new(), false);
    for line in text.lines().chain([""]) {
        // a module's name may follow a symbol
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with('[')).collect();
        let number: Option<u64> = words.first().and_then(|word| word.parse().ok());
        if line.starts_with("==> ") || words.is_empty() || number.is_some() {
            if count > 0 {
                *out.entry((cache.clone(), std::mem::take(&mut stack))).or_default() += count;
            }
            count = number.unwrap_or(0);
        }
        match (line.strip_prefix("==> "), &words[..]) {
            (Some(path), _) => cache = path.rsplit('/').nth(1).unwrap().to_owned(),
            (None, [_, caller, ..]) if number.is_some() => {
                stack = vec![frame(caller)];
                head = true;
            }
            (None, [one]) if count > 0 => {
                // the stack begins with the caller, whom its head names already
                if std::mem::take(&mut head) {
                    stack.clear();
                }
                stack.push(frame(one));
            }
            _ => {}
        }
    }
    out
}

#[test]
fn the_tracks_are_those_of_debugfs() {
    each_dump(|dump| {
        let texts = ["slab/final.alloc_traces", "slab/alloc_traces"];
        let Some(text) = texts.iter().find_map(|name| dump.truth(name)) else { return };
        let theirs = alloc_traces(&text);
        let all: u64 = theirs.values().sum();
        if all == 0 {
            return;
        }
        let slabs = Slabs::of(&dump.session).unwrap();
        let mut ours = Traces::new();
        slab::each_track(&dump.session, &mut |state, track| {
            if state == State::Allocated && track.which == Which::Alloc {
                let name = slabs.caches.get(track.cache).unwrap().name().to_owned();
                let stack = match track.handle() {
                    Some(_) => track.stack(&dump.session)?.into_iter().map(|frame| text_of(dump, frame)).collect(),
                    None => vec![text_of(dump, track.caller)],
                };
                *ours.entry((name, stack)).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
        let same: u64 = theirs.iter().map(|(key, count)| *count.min(ours.get(key).unwrap_or(&0))).sum();
        eprintln!("{}: {same} of {all} tracks are those of debugfs", dump.name);
        // the guest did something between its look at debugfs and the dump; and frames may lie where a module was since
        assert!(same * 100 >= all * 99, "{}: {same} of {all}", dump.name);
    });
}

/// `symbol+0x12`, as `%pS` has it but for the size.
fn text_of(dump: &Dump, addr: u64) -> String {
    match dump.session.symbols.by_addr(&dump.session, addr) {
        Some(symbol) => format!("{}+{:#x}", symbol.name, addr - symbol.addr),
        None => format!("{addr:#x}"),
    }
}
