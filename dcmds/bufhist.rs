//! The life of a buffer, as every witness tells it: `::bufhist`.
//!
//! ```console
//! > ff386d1d83ff64b8::bufhist
//! TIME        EVENT WITNESS      THREAD CPU BUFFER           WHAT
//! 5.252557811 alloc track           162   0 ff386d1d83ff64b8 labmod`lab_alloc_node+0x1f
//! 5.360196892 free  track+ftrace    169   0 ff386d1d83ff64b8 labmod`lab_free_node+0x21
//! -           now   dump              -   - ff386d1d83ff64b8 104 bytes freed to lab_node
//! ```

use engine::{Schema, prelude::*};
use std::ops::Range;
use walkers::{
    dmesg,
    kmem_log::{Kind, Log, Transaction},
    page::PageMap,
    page_owner::Owners,
    slab::{self, Slabs, State},
    stackdepot,
};

/// Show everything that is known of a buffer, oldest first.
///
/// Witnesses are the object's own records (`slub_debug=U`), ftrace's ring, KFENCE, the owners of pages, and lines of the
/// kernel's log that name an address in it. TIME is that of the log, in seconds. The last row is what the buffer is now.
#[derive(Args)]
pub struct Bufhist {
    /// what happened to the neighbours of the object in its slab, too
    #[arg(short = 'n')]
    neighbours: bool,
    /// the stack of each
    #[arg(short = 'v')]
    verbose: bool,
}

/// Something that happened.
#[derive(Row)]
struct EventRow {
    /// when, in seconds; of what only ticks tell about, the start of the tick
    time: Option<String>,
    /// `alloc`, `free`, `log`, `now`
    event: &'static str,
    /// who saw it
    witness: &'static str,
    /// number of the thread
    thread: Option<u32>,
    /// the CPU
    cpu: Option<u32>,
    /// the buffer it happened to
    buffer: Object,
    /// who asked for it, or what is said
    what: String,
    /// address of the record
    #[hidden]
    record: Option<Addr>,
    /// the call stack
    #[detail]
    stack: Vec<String>,
}

/// A row and what it is sorted by.
type Timed = (u64, EventRow);

/// What is looked at.
struct Buffer {
    start: u64,
    bytes: u64,
    what: String,
}

impl Buffer {
    fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.bytes.max(1))
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// The buffer that an address lies in, as it is now.
fn buffer(cx: &Cx<'_>, log: &Log, addr: u64) -> Result<Buffer> {
    if let Some(found) = slab::find(cx, addr)? {
        let slabs = Slabs::of(cx)?;
        let cache = slabs.caches.get(found.cache);
        let (name, bytes) = cache.map_or(("?", 1), |cache| (cache.name(), u64::from(cache.object_size)));
        let state = match found.state {
            State::Allocated => "allocated from",
            State::Unknown => "of unknown state in",
            _ => "freed to",
        };
        return Ok(Buffer { start: found.object, bytes, what: format!("{bytes} bytes {state} {name}") });
    }
    let start = log.buffer_around(cx, addr)?.unwrap_or(addr);
    let bytes = log.on(start).find_map(|t| t.bytes).map_or(1, |(_, bytes)| bytes);
    Ok(Buffer { start, bytes, what: "in no slab".into() })
}

/// The objects in front of and behind one in its slab.
fn neighbours(cx: &Cx<'_>, object: u64) -> Result<Vec<u64>> {
    let slabs = Slabs::of(cx)?;
    let Some((_, slab)) = slabs.at(object) else { return Ok(Vec::new()) };
    let size = slabs.caches.get(slab.cache as usize).map_or(1, |cache| u64::from(cache.size).max(1));
    let all = slabs.object(slab, 0)..slabs.object(slab, slab.objects);
    let around = [object.wrapping_sub(size), object.wrapping_add(size)];
    Ok(around.into_iter().filter(|at| all.contains(at)).collect())
}

/// The addresses that a line names: its words of 16 hex digits.
fn addresses(line: &str) -> impl Iterator<Item = u64> + '_ {
    line.split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() == 16)
        .filter_map(|w| u64::from_str_radix(w, 16).ok())
}

impl Bufhist {
    fn frames(&self, cx: &Cx<'_>, stack: Result<Vec<u64>>) -> Vec<String> {
        match stack {
            _ if !self.verbose => Vec::new(),
            Ok(frames) => frames.into_iter().flat_map(|pc| engine::frame::frame(cx, pc, true)).collect(),
            Err(e) => vec![format!("stack unreadable: {}", e.kind())],
        }
    }

    fn transaction(&self, cx: &Cx<'_>, log: &Log, t: &Transaction) -> Result<Timed> {
        let time = log.local_time(cx, t);
        let row = EventRow {
            time: Some(seconds(time)),
            event: if t.kind == Kind::Alloc { "alloc" } else { "free" },
            witness: t.witness.name(),
            thread: Some(t.pid),
            cpu: t.cpu,
            buffer: Object::untyped(t.buffer),
            what: cx.sym(log.caller(cx, t)?),
            record: Some(Addr(t.addr)),
            stack: self.frames(cx, t.stack(cx)),
        };
        Ok((time, row))
    }

    /// What the owner of its page says.
    fn owner(&self, cx: &Cx<'_>, buffer: &Buffer) -> Result<Vec<Timed>> {
        let Some(owners) = Owners::of(cx)? else { return Ok(Vec::new()) };
        let map = PageMap::of(cx)?;
        let frame = map.frame_of_direct(buffer.start).or_else(|| map.frame_of(cx, buffer.start));
        let Some((owner, _)) = frame.map(|frame| owners.at(cx, frame)).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        let mut out = Vec::new();
        let events =
            [("alloc", owner.time, owner.handle, owner.pid), ("free", owner.free_time, owner.free_handle, None)];
        for (event, time, handle, pid) in events {
            if handle != 0 && time != Some(0) {
                let row = EventRow {
                    time: time.map(seconds),
                    event,
                    witness: "page_owner",
                    thread: pid.map(|pid| pid as u32),
                    cpu: None,
                    buffer: Object::untyped(buffer.start),
                    what: format!("its page, with {} in all", 1u64 << owner.order.min(32)),
                    record: Some(Addr(owner.addr)),
                    stack: self.frames(cx, stackdepot::stack(cx, handle)),
                };
                out.push((time.unwrap_or(0), row));
            }
        }
        Ok(out)
    }

    /// Lines of the kernel's log that name an address in it.
    fn lines(cx: &Cx<'_>, buffer: &Buffer) -> Result<Vec<Timed>> {
        let mut out = Vec::new();
        dmesg::records(cx, &mut |record| {
            let Ok(text) = &record.text else { return Ok(()) };
            for line in text.lines().filter(|line| addresses(line).any(|at| buffer.range().contains(&at))) {
                let row = EventRow {
                    time: Some(seconds(record.info.time)),
                    event: "log",
                    witness: "dmesg",
                    thread: None,
                    cpu: None,
                    buffer: Object::untyped(buffer.start),
                    what: line.trim().to_owned(),
                    record: Some(Addr(record.info.addr)),
                    stack: Vec::new(),
                };
                out.push((record.info.time, row));
            }
            Ok(())
        })?;
        Ok(out)
    }
}

impl Dcmd for Bufhist {
    const NAME: &'static str = "bufhist";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[EventRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Some(at) = at else { return Ok(()) };
        let log = Log::of(cx)?;
        let buffer = buffer(cx, &log, at.addr)?;
        let mut events: Vec<Timed> = Vec::new();
        let others = if self.neighbours { neighbours(cx, buffer.start)? } else { Vec::new() };
        for start in others.into_iter().chain([buffer.start]) {
            for transaction in log.on(start) {
                events.push(self.transaction(cx, &log, transaction)?);
            }
        }
        events.extend(self.owner(cx, &buffer)?);
        match Bufhist::lines(cx, &buffer) {
            Err(e) if e.is_control() => return Err(e),
            Err(e) => cx.notes.add(0, format!("the kernel's log: {}", e.kind())),
            Ok(lines) => events.extend(lines),
        }
        events.sort_by_key(|(time, row)| (*time, row.record.map(|at| at.0)));
        events.into_iter().try_for_each(|(_, row)| out.row(row))?;
        out.row(EventRow {
            time: None,
            event: "now",
            witness: "dump",
            thread: None,
            cpu: None,
            buffer: Object::untyped(buffer.start),
            what: buffer.what,
            record: None,
            stack: Vec::new(),
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Bufhist>()];
