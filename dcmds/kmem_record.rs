//! The transaction log of the running kernel: `::kmem_record` records calls of the slab allocator with their stacks, and
//! `::walk kmem_log`, `::bufctl`, `::allocdby`, `::freedby` then answer from that, as they do on a dump.
//!
//! ```console
//! > ::kmem_record -c dentry -d 2s
//! TRANSACTIONS ALLOCATIONS FREED DROPPED LOST SECONDS
//!          311         170   141       0    0 2.0
//! > ::walk kmem_log | ::bufctl | ::head -2
//! ADDR BUFADDR          TIMESTAMP   THREAD           OP    WITNESS CALLER
//!  137 ff35d6eb0c1a0300 4a92bd6a317 ff35d6eb04c80000 free  probe   __dentry_kill+0x11a
//!  136 ff35d6eb0c1a0300 4a92bd3c3f1 ff35d6eb04c80000 alloc probe   __d_alloc+0x28
//! ```

use crate::probe::{self, once::Once};
use engine::prelude::*;
use probes::recording::Hit;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use walkers::kmem_log::{
    Kind,
    recorded::{Recorder, Seen},
};

/// Record allocations and freeings of slab memory on the running kernel, with their stacks, for `::walk kmem_log`,
/// `::bufctl`, `::allocdby` and `::freedby`.
///
/// It ends on Ctrl-C, after -d, or with the command of -C; what was recorded before is forgotten then. The last -n
/// transactions are kept. Events are lost, and counted, where there are more than can be taken in: `-c` takes those of one
/// cache alone. An address of a record is its number here.
#[derive(Args)]
pub struct KmemRecord {
    /// only of this cache: `dentry`, `kmalloc-64`
    #[arg(short = 'c', value_name = "CACHE")]
    cache: Option<String>,
    /// only by this process
    #[arg(short = 'p', value_name = "PID")]
    pid: Option<ExprArg>,
    /// end after so long: `10s`, `500ms`, `2m`
    #[arg(short = 'd', value_name = "TIME", value_parser = probe::duration)]
    duration: Option<Duration>,
    /// run this command, record it alone, and end with it
    #[arg(short = 'C', value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// transactions that are kept, in decimal
    #[arg(short = 'n', value_name = "COUNT", default_value = "200000")]
    most: usize,
}

/// What was recorded.
#[derive(Row)]
struct RecordedRow {
    /// transactions that are kept
    transactions: u64,
    /// of them, memory that was handed out
    allocations: u64,
    /// of them, memory that was given back
    freed: u64,
    /// older ones that made room
    dropped: u64,
    /// those that found no room in a ring
    lost: u64,
    /// how long it took
    seconds: String,
}

/// A probe, and what it sees.
struct Call {
    probe: &'static str,
    kind: Kind,
    /// expressions for the memory, the caller, the bytes asked for and handed out
    values: &'static str,
    /// whether it is an error if there is none
    needed: bool,
}

/// Tracepoints of all caches. Those with a node went into the others in Linux 6.1 (11e9734bcb6a).
const ALL: &[Call] = &[
    call("t:kmem:kmem_cache_alloc", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", true),
    call("t:kmem:kmem_cache_alloc_node", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", false),
    call("t:kmem:kmalloc", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", true),
    call("t:kmem:kmalloc_node", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", false),
    call("t:kmem:kmem_cache_free", Kind::Free, "ptr call_site", true),
    call("t:kmem:kfree", Kind::Free, "ptr call_site", true),
];

/// What hands over the cache.
const ONE: &[Call] = &[
    call("rt:kmem_cache_alloc", Kind::Alloc, "ptr=arg1 call_site=arg0 s->object_size s->size", true),
    call("rt:kmem_cache_free", Kind::Free, "ptr=arg1 call_site=arg0", true),
];

/// The same before Linux 6.1 (2c1d697fb8ba), where tracepoints do not hand the cache over: the function does, whose call the
/// tracepoint belongs to that has the same caller in the same thread.
const ONE_BY_CALL: &[(&str, &str)] =
    &[("k:kmem_cache_alloc", "t:kmem:kmem_cache_alloc"), ("k:kmem_cache_alloc_node", "t:kmem:kmem_cache_alloc_node")];
const FREE_BY_CALL: &str = "k:kmem_cache_free";

/// What hands memory out by its size.
const SIZED: &[Call] = &[
    call("t:kmem:kmalloc", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", true),
    call("t:kmem:kmalloc_node", Kind::Alloc, "ptr call_site bytes_req bytes_alloc", false),
    call("t:kmem:kfree", Kind::Free, "ptr call_site", true),
];

const fn call(probe: &'static str, kind: Kind, values: &'static str, needed: bool) -> Call {
    Call { probe, kind, values, needed }
}

/// Bytes that a `kmalloc-…` cache hands out: `kmalloc-64`, `kmalloc-cg-2k`.
fn size(cache: &str) -> Option<u64> {
    let text = cache.strip_prefix("kmalloc-")?.rsplit('-').next()?;
    let (digits, unit) = text.strip_suffix('k').map_or((text, 1), |digits| (digits, 1024));
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl KmemRecord {
    /// The calls to look at, and the condition on allocations, or on all.
    fn calls(&self) -> (&'static [Call], Option<(String, bool)>) {
        match &self.cache {
            None => (ALL, None),
            Some(cache) => match size(cache) {
                Some(bytes) => (SIZED, Some((format!("bytes_alloc == {bytes}"), false))),
                None => (ONE, Some((format!("s->name == \"{}\"", cache.replace('"', "")), true))),
            },
        }
    }
}

impl Dcmd for KmemRecord {
    const NAME: &'static str = "kmem_record";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[RecordedRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (calls, condition) = self.calls();
        let mut once = Once::new(cx, self.pid.as_ref(), self.command.as_deref())?;
        let kinds = match (add(cx, &mut once, calls, condition.as_ref()), &condition) {
            (Err(e), Some((test, true))) if !e.is_control() => by_call(cx, &mut once, test).map_err(|_| e)?,
            (added, _) => added?,
        };
        let mut own = HashMap::new();
        let mut recorder = Recorder::new(self.most);
        // what is freed tells nothing of its cache: it counts if it was seen to be handed out
        let strangers = condition.is_some_and(|(_, all)| !all);
        let mut known = HashSet::new();
        let run = once.listen(cx, self.duration, &mut |hit| {
            let Some(mut seen) = seen(&hit, &kinds) else { return };
            leave_out(cx, &mut own, &mut seen.stack);
            let stranger = match seen.kind {
                Kind::Alloc if strangers => {
                    known.insert(seen.buffer);
                    false
                }
                Kind::Free if strangers => !known.remove(&seen.buffer),
                _ => false,
            };
            if !stranger && seen.buffer != 0 {
                recorder.push(seen);
            }
        })?;
        let recorded = recorder.keep(run.lost);
        let allocations = recorded.transactions.iter().filter(|t| t.kind == Kind::Alloc).count() as u64;
        let transactions = recorded.transactions.len() as u64;
        out.row(RecordedRow {
            transactions,
            allocations,
            freed: transactions - allocations,
            dropped: recorded.dropped,
            lost: recorded.lost,
            seconds: format!("{:.1}", run.time.as_secs_f64()),
        })
    }
}

/// Sets probes at calls, with a condition for allocations alone or for all.
fn add(cx: &Cx<'_>, once: &mut Once, calls: &[Call], condition: Option<&(String, bool)>) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for call in calls {
        let test = match condition {
            Some((test, all)) if *all || call.kind == Kind::Alloc => format!("::where {test} | "),
            _ => String::new(),
        };
        match once.add(cx, call.probe, &format!("{test}::print {} | ::stack -k", call.values)) {
            Ok(()) => kinds.push(call.kind),
            Err(e) if call.needed || e.is_control() => return Err(e),
            Err(_) => {}
        }
    }
    Ok(kinds)
}

/// Sets them at the functions that are given the cache.
fn by_call(cx: &Cx<'_>, once: &mut Once, test: &str) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for (function, point) in ONE_BY_CALL {
        let stages = "::print ptr call_site bytes_req bytes_alloc | ::stack -k";
        once.add_after(cx, (function, test), (point, "tid caller:call_site"), stages)?;
        kinds.push(Kind::Alloc);
    }
    once.add(cx, FREE_BY_CALL, &format!("::where {test} | ::print ptr=arg1 call_site=caller | ::stack -k"))?;
    kinds.push(Kind::Free);
    Ok(kinds)
}

/// Takes the probe's own frames off a stack. All stacks that begin alike have the same.
fn leave_out(cx: &Cx<'_>, known: &mut HashMap<u64, usize>, stack: &mut Vec<u64>) {
    let Some(first) = stack.first() else { return };
    let names = || stack.iter().map(|pc| engine::frame::name(cx, *pc, true));
    let own = *known.entry(*first).or_insert_with(|| probe::own_frames(names()));
    stack.drain(..own.min(stack.len()));
}

/// Reads a hit's values: the name of the thread, which stands in front, then numbers, then the stack.
fn seen(hit: &Hit, kinds: &[Kind]) -> Option<Seen> {
    const NAME: usize = 16;
    let words = hit.values.get(NAME..)?.as_chunks::<8>().0;
    let mut words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let kind = *kinds.get(usize::try_from(hit.id).ok()?)?;
    let (buffer, site) = (words.next()?, words.next()?);
    let bytes = match kind {
        Kind::Alloc => Some((words.next()?, words.next()?)),
        Kind::Free => None,
    };
    let stack = words.take_while(|pc| *pc != 0).collect();
    Some(Seen { kind, time: hit.time, thread: hit.tid, cpu: hit.cpu, buffer, site, bytes, stack })
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<KmemRecord>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_the_names_of_caches() {
        assert_eq!(
            ["kmalloc-64", "kmalloc-cg-2k", "kmalloc-rnd-05-96", "dentry"].map(size),
            [Some(64), Some(2048), Some(96), None]
        );
    }
}
