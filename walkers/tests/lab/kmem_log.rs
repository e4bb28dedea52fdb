//! The transaction log against the guest's own account of its allocations.

use super::{Dump, each_dump, log::lines};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};
use walkers::{
    kmem_log::{Kind, Log, Witness},
    slab,
};

/// Histories by buffer as ftrace's text tells them, newest first: microsecond and kind.
fn histories(text: &str) -> HashMap<u64, Vec<(u64, Kind)>> {
    let mut map: HashMap<u64, Vec<(u64, Kind)>> = HashMap::new();
    for line in lines(text) {
        let kind = match line.name.as_str() {
            "kmalloc" | "kmem_cache_alloc" | "kmalloc_node" | "kmem_cache_alloc_node" => Kind::Alloc,
            "kfree" | "kmem_cache_free" => Kind::Free,
            _ => continue,
        };
        let Some((_, rest)) = line.rest.split_once("ptr=") else { continue };
        let buffer = u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
        if buffer > 16 {
            map.entry(buffer).or_default().insert(0, (line.micros, kind));
        }
    }
    map
}

#[test]
fn each_buffers_history_is_that_of_the_trace() {
    each_dump(|dump| {
        let Some(text) = dump.truth("trace/trace.gz") else { return };
        let session = &dump.session;
        let start = Instant::now();
        let log = Log::of(session).unwrap();
        let took = start.elapsed();
        let last = lines(&text).last().map_or(0, |l| l.micros);
        let (mut buffers, mut lines) = (0, 0);
        for (buffer, want) in histories(&text) {
            let events = log.on(buffer).filter(|t| t.event.is_some());
            // tracing may have gone on
            let mine: Vec<_> =
                events.map(|t| ((t.time + 500) / 1000, t.kind)).filter(|(time, _)| *time <= last).collect();
            assert_eq!(mine, want, "{} {buffer:x}", dump.name);
            buffers += 1;
            lines += want.len();
        }
        let times: Vec<u64> = log.iter().map(|t| t.time).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{}: newest first", dump.name);
        let mut by_witness = BTreeMap::new();
        for t in log.iter() {
            *by_witness.entry(t.witness.name()).or_insert(0) += 1;
            assert_eq!(log.at(t.addr).map(|t| t.addr), Some(t.addr));
            assert_eq!(t.event.and_then(|e| log.at(e)), t.event.and(Some(t)));
        }
        eprintln!(
            "{}: {} records in {took:?}, {by_witness:?}; {buffers} buffers, {lines} lines equal; {:?}",
            dump.name,
            log.len(),
            session.notes.take()
        );
    });
}

#[test]
fn the_newest_record_agrees_with_the_objects_state() {
    each_dump(|dump| {
        let (session, log) = (&dump.session, Log::of(&dump.session).unwrap());
        let (mut agree, mut differ, mut silent) = (0, Vec::new(), 0);
        for t in log.last() {
            let Some(found) = slab::find(session, t.buffer).unwrap().filter(|f| f.offset == 0) else { continue };
            match (found.state, t.kind) {
                (slab::State::Allocated, Kind::Alloc) | (slab::State::Free, Kind::Free) => agree += 1,
                // without tracks, a freeing that left no event; or tracing was off by then
                _ if t.witness == Witness::Ftrace => silent += 1,
                other => differ.push((other, t.clone())),
            }
        }
        eprintln!("{}: {agree} agree, {silent} changed since in silence, {} differ", dump.name, differ.len());
        assert!(differ.is_empty(), "{}: {:#x?}", dump.name, differ.first());
    });
}

/// A cache and a stack.
type Site = (String, Vec<String>);

/// What `alloc_traces` and `free_traces` of debugfs say of a site: how many objects, and the age of the youngest record,
/// in ticks.
type Counts = BTreeMap<Site, (u64, u64)>;

fn debugfs(text: &str) -> Counts {
    let (mut counts, mut cache) = (Counts::new(), String::new());
    let mut open: Option<(u64, u64, Vec<String>)> = None;
    let mut close = |cache: &str, open: &mut Option<(u64, u64, Vec<String>)>| {
        if let Some((count, age, stack)) = open.take().filter(|(.., stack)| !stack.is_empty()) {
            let site = counts.entry((cache.to_owned(), stack)).or_insert((0, u64::MAX));
            *site = (site.0 + count, site.1.min(age));
        }
    };
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("==> ") {
            close(&cache, &mut open);
            cache = path.rsplit('/').nth(1).unwrap().to_owned();
        } else if let (Some(frame), Some((.., stack))) = (line.strip_prefix("        "), open.as_mut()) {
            let (symbol, offset) = frame.split_once('+').unwrap_or((frame, ""));
            stack.push(format!("{symbol}+{}", offset.split('/').next().unwrap()));
        } else {
            close(&cache, &mut open);
            let count = line.split_whitespace().next().and_then(|n| n.parse().ok());
            let age = line.split_once("age=").and_then(|(_, age)| age.split(['/', ' ']).next()?.parse().ok());
            open = count.map(|count| (count, age.unwrap_or(0), Vec::new()));
        }
    }
    close(&cache, &mut open);
    counts
}

fn frames(dump: &Dump, stack: &[u64]) -> Vec<String> {
    let name = |pc: &u64| match dump.session.symbols.by_addr(&dump.session, *pc) {
        Some(s) => format!("{}+{:#x}", s.name, pc - s.addr),
        None => format!("{pc:#x}"),
    };
    stack.iter().map(name).collect()
}

/// Records of an object that is allocated, by site: their times.
fn tracked(dump: &Dump, log: &Log, kind: Kind) -> BTreeMap<Site, Vec<u64>> {
    let session = &dump.session;
    let mut sites: BTreeMap<Site, Vec<u64>> = BTreeMap::new();
    let mut known: HashMap<Vec<u64>, Vec<String>> = HashMap::new();
    for t in log.iter().filter(|t| t.kind == kind) {
        let tracked = matches!(t.witness, Witness::Track | Witness::TrackAndFtrace);
        // debugfs looks at allocated objects only
        if !tracked || slab::find(session, t.buffer).unwrap().unwrap().state != slab::State::Allocated {
            continue;
        }
        let stack = t.stack(session).unwrap();
        let text = known.entry(stack.clone()).or_insert_with(|| frames(dump, &stack)).clone();
        sites.entry((t.cache(session).unwrap().unwrap(), text)).or_default().push(t.time);
    }
    sites
}

#[test]
fn stacks_are_those_of_debugfs() {
    each_dump(|dump| {
        let log = Log::of(&dump.session).unwrap();
        for (kind, file) in [(Kind::Alloc, "alloc_traces"), (Kind::Free, "free_traces")] {
            let text = dump.truth(&format!("slab/final.{file}")).or_else(|| dump.truth(&format!("slab/{file}")));
            let theirs = debugfs(&text.unwrap_or_default());
            if theirs.is_empty() {
                continue;
            }
            let mine = tracked(dump, &log, kind);
            // The guest went on. When it read a cache's file follows from the sites at which nothing changed: the time
            // of the youngest record there plus its age.
            let mut read: HashMap<&str, Vec<u64>> = HashMap::new();
            for (site, (count, age)) in &theirs {
                if let Some(times) = mine.get(site).filter(|times| times.len() as u64 == *count) {
                    read.entry(&site.0).or_default().push(times.iter().max().unwrap() + age * log.tick);
                }
            }
            let read: HashMap<&str, u64> = read
                .into_iter()
                .map(|(cache, mut times)| {
                    times.sort_unstable();
                    (cache, times[times.len() / 2])
                })
                .collect();
            let (mut equal, mut total, mut invented, mut old, mut freed) = (0, 0, 0, 0, 0);
            for (site, (count, _)) in &theirs {
                total += count;
                equal += mine.get(site).map_or(0, |times| times.len() as u64).min(*count);
            }
            for (site, times) in &mine {
                let Some(read) = read.get(&*site.0) else { continue };
                let before = times.iter().filter(|t| **t + 4 * log.tick < *read).count() as u64;
                let (said, _) = theirs.get(site).unwrap_or(&(0, 0));
                // A module's init code is freed after it ran. The kernel names its address by what lies there now.
                if site.1.iter().any(|frame| frame.starts_with("0x")) {
                    freed += before;
                    continue;
                }
                old += before;
                invented += before.saturating_sub(*said);
            }
            eprintln!(
                "{}: {file}: {equal} of {total} objects have the same stack ({} stacks); of {old} records older than the \
                 file {invented} are not in it, {freed} have frames in freed code",
                dump.name,
                theirs.len()
            );
            assert!(invented * 1000 <= old.max(10_000) && equal * 10 >= total * 9, "{} {file}", dump.name);
        }
    });
}
