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

/// Number of objects by cache and stack, as `alloc_traces` and `free_traces` of debugfs count them.
type Counts = BTreeMap<(String, Vec<String>), u64>;

fn debugfs(text: &str) -> Counts {
    let (mut counts, mut cache) = (Counts::new(), String::new());
    let mut open: Option<(u64, Vec<String>)> = None;
    let mut close = |cache: &str, open: &mut Option<(u64, Vec<String>)>| {
        if let Some((count, stack)) = open.take().filter(|(_, stack)| !stack.is_empty()) {
            *counts.entry((cache.to_owned(), stack)).or_default() += count;
        }
    };
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("==> ") {
            close(&cache, &mut open);
            cache = path.rsplit('/').nth(1).unwrap().to_owned();
        } else if let (Some(frame), Some((_, stack))) = (line.strip_prefix("        "), open.as_mut()) {
            let (symbol, offset) = frame.split_once('+').unwrap_or((frame, ""));
            stack.push(format!("{symbol}+{}", offset.split('/').next().unwrap()));
        } else {
            close(&cache, &mut open);
            open = line.split_whitespace().next().and_then(|n| n.parse().ok()).map(|n| (n, Vec::new()));
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

#[test]
fn stacks_are_those_of_debugfs() {
    each_dump(|dump| {
        let (session, log) = (&dump.session, Log::of(&dump.session).unwrap());
        for (kind, file) in [(Kind::Alloc, "alloc_traces"), (Kind::Free, "free_traces")] {
            let text = dump.truth(&format!("slab/final.{file}")).or_else(|| dump.truth(&format!("slab/{file}")));
            let theirs = debugfs(&text.unwrap_or_default());
            if theirs.is_empty() {
                continue;
            }
            let mut mine = Counts::new();
            let mut known: HashMap<Vec<u64>, Vec<String>> = HashMap::new();
            for t in log.iter().filter(|t| t.kind == kind) {
                let tracked = matches!(t.witness, Witness::Track | Witness::TrackAndFtrace);
                // debugfs looks at allocated objects only
                if !tracked || slab::find(session, t.buffer).unwrap().unwrap().state != slab::State::Allocated {
                    continue;
                }
                let stack = t.stack(session).unwrap();
                let text = known.entry(stack.clone()).or_insert_with(|| frames(dump, &stack)).clone();
                *mine.entry((t.cache(session).unwrap().unwrap(), text)).or_default() += 1;
            }
            let total: u64 = theirs.values().sum();
            let equal: u64 = theirs.iter().map(|(k, n)| *mine.get(k).unwrap_or(&0).min(n)).sum();
            let first = theirs.iter().find(|(k, n)| mine.get(*k).is_none_or(|m| m < n));
            eprintln!(
                "{}: {file}: {equal} of {total} objects have the same stack ({} stacks); first other: {first:?}",
                dump.name,
                theirs.len()
            );
            assert!(equal * 100 >= total * 95, "{} {file}", dump.name);
        }
    });
}
