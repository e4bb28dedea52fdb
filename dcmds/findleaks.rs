//! Memory that nobody can free any more: `::findleaks`.
//!
//! ```console
//! > ::findleaks
//! CACHE      LEAKED BUFCTL           CALLER
//! kmalloc-32      3 ff386d1d834219b0 labmod`lab_alloc_node+0x5e
//! lab_node        3 ff386d1d83ff6080 labmod`lab_alloc_node+0x1f
//! ------------------------------------------------------------------------
//! Total 6 buffers, 408 bytes
//! > ff386d1d83ff6080::walk leakbuf | ::print lab_node id
//! id = 0x2328
//! id = 0x2329
//! id = 0x232a
//! ```
//!
//! Whatever no root refers to, by any chain of references, is leaked: the objects of slab caches, allocations of whole
//! pages, and areas of vmalloc memory. Leaks from one cache by one call stack are one row, and the oldest of them, whose
//! record is named, speaks for all; the oldest row comes first. `::walk leak` and `::walk leakbuf` show the others.

use crate::history;
use engine::{IntoRow, Schema, prelude::*};
use std::{sync::Arc, time::Instant};
use walkers::refs::{Graph, Group, Kind, Leak, Leaks};
use walkers::slab::Caches;

/// Find memory that has leaked: allocated, and referred to by nothing.
///
/// With an address: only what was allocated through that function, or that line of code. What only looks leaked,
/// because what refers to it is no address, is left out. The answer is kept, and asked again comes at once.
#[derive(Args)]
pub struct Findleaks {
    /// also what is known to look leaked and not to be, with the reason
    #[arg(short = 'a')]
    all: bool,
    /// the allocation's stack, and the objects that only the leaked ones refer to
    #[arg(short = 'd')]
    detail: bool,
    /// look anew
    #[arg(short = 'f')]
    force: bool,
    /// tell how much was looked at
    #[arg(short = 'v')]
    verbose: bool,
}

/// What has leaked at one place.
#[derive(Row)]
struct LeakRow {
    /// name of the cache; else `[pages]`, `[vmalloc]` or `[percpu]`
    cache: String,
    /// how many objects
    leaked: u64,
    /// record of the oldest one's allocation; the object itself if there is none
    bufctl: Object,
    /// who allocated it
    caller: Option<String>,
    /// bytes of all
    #[hidden]
    bytes: u64,
    /// the oldest object
    #[hidden]
    buffer: Addr,
    /// when that was allocated, in ns
    #[hidden]
    timestamp: Option<Hex>,
    /// how many of them another leaked object refers to
    #[hidden]
    held: u64,
    /// why they are no leaks
    #[hidden]
    reason: Option<&'static str>,
    /// more about it
    #[detail]
    report: Vec<String>,
}

impl Findleaks {
    fn wanted(&self, cx: &Cx<'_>, group: &Group, at: Option<Object>) -> bool {
        let Some(leak) = group.oldest().filter(|leak| self.all || leak.reason.is_none()) else { return false };
        let Some(at) = at else { return true };
        let start = |addr: u64| cx.symbols.by_addr(cx, addr).map(|symbol| symbol.addr);
        let function = start(at.addr).filter(|start| *start == at.addr);
        let passes = |pc: &u64| *pc == at.addr || (function.is_some() && start(pc.wrapping_sub(1)) == function);
        leak.origin.stack.iter().chain(&leak.origin.caller).any(passes)
    }

    fn row(&self, cx: &Cx<'_>, group: &Group, leak: &Leak) -> Result<LeakRow> {
        let bufctl = match leak.origin.record {
            Some((addr, ctype)) => cx.object(ctype, addr),
            None => Object::untyped(leak.addr),
        };
        Ok(LeakRow {
            cache: cache(cx, leak)?,
            leaked: group.leaks.len() as u64,
            bufctl,
            caller: leak.origin.caller.map(|pc| cx.sym(pc)),
            bytes: group.bytes,
            buffer: Addr(leak.addr),
            timestamp: leak.origin.time.map(Hex),
            held: group.leaks.iter().filter(|leak| leak.held_by.is_some()).count() as u64,
            reason: leak.reason.map(|reason| reason.text),
            report: self.report(cx, group, leak),
        })
    }

    /// `kmalloc-32 leak: 3 buffers, 32 bytes each, 96 bytes total`, and what is known of the oldest.
    fn report(&self, cx: &Cx<'_>, group: &Group, leak: &Leak) -> Vec<String> {
        let mut lines: Vec<String> = leak.reason.iter().map(|reason| format!("no leak: {}", reason.text)).collect();
        if !self.detail {
            return lines;
        }
        let (cache, count) = (cache(cx, leak).unwrap_or_default(), buffers(group.leaks.len()));
        lines.push(format!("{cache} leak: {count}, {} bytes each, {} bytes total", leak.size, group.bytes));
        lines.push(format!("the oldest is {:x}", leak.addr));
        let origin = &leak.origin;
        if let Some(pid) = origin.pid {
            let (cpu, stack) = (origin.cpu.map(i64::from), Ok(origin.stack.clone()));
            history::report(cx, "allocated", pid.into(), cpu, origin.time, stack, &mut lines);
        }
        if let Some(holder) = leak.held_by {
            lines.push(format!("referred to by {holder:x}, which is leaked as well"));
        }
        lines
    }
}

fn cache(cx: &Cx<'_>, leak: &Leak) -> Result<String> {
    let caches = Caches::of(cx)?;
    let named = leak.cache.and_then(|number| caches.get(number)).map(|cache| cache.name().to_owned());
    Ok(named.unwrap_or_else(|| {
        match leak.kind {
            Kind::Area => "[vmalloc]",
            Kind::Percpu => "[percpu]",
            _ => "[pages]",
        }
        .to_owned()
    }))
}

/// `1 buffer`, `3 buffers`
fn buffers(count: usize) -> String {
    format!("{count} buffer{}", if count == 1 { "" } else { "s" })
}

/// The kernel's pages that nothing refers to, in one row: a forgotten page is one of them.
fn lone_pages(cx: &Cx<'_>, graph: &Graph) -> Option<LeakRow> {
    let (first, count) = (graph.lone_pages().next()?, graph.lone_pages().count() as u64);
    let reason =
        "no address refers to them: known by physical address, as page tables and buffers of devices are, or forgotten";
    Some(LeakRow {
        cache: "[lone pages]".into(),
        leaked: count,
        bufctl: Object::untyped(first),
        caller: None,
        bytes: count.saturating_mul(cx.target.page_size()),
        buffer: Addr(first),
        timestamp: None,
        held: 0,
        reason: Some(reason),
        report: vec![format!("not said to have leaked: {reason}"), "`::walk lonepage` shows them".into()],
    })
}

impl Dcmd for Findleaks {
    const NAME: &'static str = "findleaks";
    const ROWS: &'static [&'static Schema] = &[LeakRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let started = Instant::now();
        let graph = if self.force { Arc::new(Graph::build(cx)?) } else { Graph::of(cx)? };
        let leaks = if self.force { Arc::new(Leaks::find(cx, &graph)?) } else { Leaks::of(cx)? };
        let text = !out.piped;
        if cx.is_live() {
            cx.notes.once(0, "the kernel runs: what was moved or freed meanwhile may look leaked");
        }
        if self.verbose && text {
            let mut line = |what: &str, value: String| out.line(format!("findleaks: {what:>28} => {value}"));
            line("buffers", graph.objects.to_string())?;
            line("potential pointers", graph.words.to_string())?;
            line("pages without a reference", graph.lone_pages().count().to_string())?;
            line("elapsed wall time", format!("{:.3} seconds", started.elapsed().as_secs_f64()))?;
        }
        let (mut count, mut bytes) = (0, 0);
        for group in leaks.groups.iter().filter(|group| self.wanted(cx, group, at)) {
            let Some(leak) = group.oldest() else { continue };
            if leak.reason.is_none() {
                cx.env.found();
            }
            (count, bytes) = (count + group.leaks.len(), bytes + group.bytes);
            out.row(self.row(cx, group, leak)?)?;
        }
        if self.all && at.is_none() {
            lone_pages(cx, &graph).map_or(Ok(()), |row| out.row(row))?;
        }
        if text {
            match (count, at) {
                (0, None) => out.line("findleaks: no memory leaks detected")?,
                (0, Some(at)) => {
                    out.line(format!("findleaks: no memory leaks matching {} found", cx.sym(at.addr)))?;
                }
                _ => {
                    out.line("-".repeat(72))?;
                    out.line(format!("Total {}, {bytes} bytes", buffers(count)))?;
                }
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Findleaks>()];
