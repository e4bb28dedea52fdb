//! ftrace's ring buffer: the events that the kernel recorded, with their time in nanoseconds and their CPU.
//!
//! Every `struct trace_array` (the top one and each instance under tracefs) has a ring of pages for each CPU.
//! [`events`] merges them by time, as `cat trace` does, and shows each record to a visitor in place. What a record
//! means is asked of the dump: `ftrace_events` lists every event type with the offsets of its fields.
//!
//! ```console
//! > ::walk ring_buffer_event | ::count
//! COUNT
//! 12878
//! ```

pub(crate) mod comm;
pub(crate) mod ring;
pub(crate) mod types;

pub use comm::Comms;
pub use ring::{SubBuffer, Window};
pub use types::{EventField, EventType, EventTypes};

use crate::list;
use engine::ViewEntry;
use engine::prelude::*;
use ring::{Cursor, Shape};
use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

/// A tracer's buffer and how it is set up: `struct trace_array` (kernel/trace/trace.h).
#[derive(View, Clone, Debug)]
#[ctype("trace_array")]
pub struct TraceArray {
    /// its address
    #[addr]
    pub addr: u64,
    /// address of the instance's name; 0 for the top one
    #[field("name")]
    name_at: u64,
    /// its `struct trace_buffer`; both structs had other names before Linux 5.6 (13292494379f)
    #[field("array_buffer.buffer")]
    pub buffer: u64,
}

impl TraceArray {
    /// The instance's name under tracefs; `None` for the top one.
    pub fn name(&self, session: &Session) -> Option<String> {
        (self.name_at != 0).then(|| session.cstr(self.name_at, 256).unwrap_or_else(|_| "?".to_owned()))
    }
}

/// A ring for each CPU: `struct trace_buffer` (kernel/trace/ring_buffer.c).
#[derive(View)]
#[ctype("trace_buffer")]
struct Buffer {
    /// array of pointers, one a CPU
    buffers: u64,
    /// the function that tells the time
    clock: u64,
    /// log2 of pages in a sub-buffer, since Linux 6.8 (2808e31ec12e)
    subbuf_order: Option<u32>,
}

/// Every trace array, the top one first.
pub fn arrays(session: &Session) -> Result<Vec<TraceArray>> {
    let head = session
        .kernel_symbol("ftrace_trace_arrays")
        .ok_or_else(|| Error::Unavailable("this kernel has no ftrace (CONFIG_TRACING)".into()))?;
    let mut found = Vec::new();
    list::list(session, head, session.offset("trace_array", "list")?, &mut |addr| {
        match session.view::<TraceArray>(addr) {
            Ok(array) => found.push(array),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(addr, format!("trace array: {}", e.kind())),
        }
        Ok(())
    })?;
    // instances are added behind the top one, which is the one with no name
    found.sort_by_key(|array| array.name_at != 0);
    Ok(found)
}

/// Name of the function that stamps an array's events: `trace_clock_local`, `trace_clock_global`, ….
pub fn clock(session: &Session, array: &TraceArray) -> Result<String> {
    let buffer: Buffer = session.view(array.buffer)?;
    Ok(session.sym(buffer.clock))
}

/// One record of a ring, seen where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// address of its `struct ring_buffer_event`
    pub addr: u64,
    /// the CPU that wrote it
    pub cpu: u32,
    /// nanoseconds on the array's [`clock`]
    pub time: u64,
    /// number of its type
    pub kind: u16,
    /// the thread that ran then
    pub pid: i32,
    /// the record, from `struct trace_entry` on: what field offsets count from
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// The bytes of a field.
    pub fn bytes(&self, field: &EventField) -> Option<&'a [u8]> {
        self.data.get(field.offset..field.offset.checked_add(field.size)?)
    }

    /// The value of an integer field of up to 8 bytes, sign-extended if the field is signed.
    pub fn uint(&self, field: &EventField) -> Option<u64> {
        let bytes = self.bytes(field).filter(|b| (1..=8).contains(&b.len()))?;
        let mut wide = [0; 8];
        wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let value = u64::from_le_bytes(wide);
        let unused = 64 - 8 * bytes.len() as u32;
        Some(if field.signed { ((value << unused) as i64 >> unused) as u64 } else { value })
    }

    /// The bytes of a dynamic field (`__data_loc`, or `__rel_loc` since Linux 5.17), whose place and length are in the
    /// record itself: 16 bits each.
    pub fn dynamic(&self, field: &EventField) -> Option<&'a [u8]> {
        let word = self.uint(field)? as u32;
        let (mut start, len) = ((word & 0xffff) as usize, (word >> 16) as usize);
        if field.ctype.starts_with("__rel_loc") {
            start = start.checked_add(field.offset)?.checked_add(field.size)?;
        }
        self.data.get(start..start.checked_add(len)?)
    }

    /// The text of a `char` array or of a dynamic string.
    pub fn text(&self, field: &EventField) -> Option<String> {
        let bytes = if field.is_dynamic() { self.dynamic(field)? } else { self.bytes(field)? };
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(engine::text::decode(bytes.get(..end)?))
    }
}

/// Shows every event of an array to `visit`, oldest first; where two CPUs have the same time, the lower CPU's first.
/// Returns what each CPU's ring covers.
pub fn events(
    session: &Session,
    array: &TraceArray,
    visit: &mut dyn FnMut(&Event<'_>) -> Result<()>,
) -> Result<Vec<Window>> {
    let buffer: Buffer = session.view(array.buffer)?;
    let shape = Shape::of(session, buffer.subbuf_order.unwrap_or(0))?;
    let mut cursors = Vec::new();
    for (cpu, addr) in ring::per_cpu(session, buffer.buffers)? {
        match Cursor::open(session, &shape, cpu, addr) {
            Ok(cursor) => cursors.push(cursor),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(addr, format!("ring buffer of a CPU: {}", e.kind())),
        }
    }
    let mut queue = BinaryHeap::new();
    for (i, cursor) in cursors.iter_mut().enumerate() {
        queue.extend(cursor.advance(session, &shape)?.map(|time| Reverse((time, i))));
    }
    while let Some(Reverse((_, i))) = queue.pop() {
        let Some(cursor) = cursors.get_mut(i) else { continue };
        if let Some(event) = cursor.event(&shape) {
            visit(&event)?;
        }
        queue.extend(cursor.advance(session, &shape)?.map(|time| Reverse((time, i))));
    }
    Ok(cursors.into_iter().map(Cursor::window).collect())
}

/// The memory of an array's sub-buffers, and of its snapshot's: also what has been read, or not been written again.
pub fn pages(session: &Session, array: &TraceArray) -> Result<Vec<Range<u64>>> {
    // another name since Linux 7.0
    let places = ["snapshot_buffer.buffer", "max_buffer.buffer"];
    let snapshot =
        places.iter().find_map(|member| session.place("trace_array", member)).map(|field| field.bit_offset / 8);
    let snapshot = snapshot.and_then(|at| session.u64(array.addr.wrapping_add(at)).ok()).filter(|at| *at != 0);
    let mut found = Vec::new();
    for at in [Some(array.buffer), snapshot].into_iter().flatten() {
        let buffer: Buffer = session.view(at)?;
        let shape = Shape::of(session, buffer.subbuf_order.unwrap_or(0))?;
        for (_, ring) in ring::per_cpu(session, buffer.buffers)? {
            found.extend(ring::memory(session, &shape, ring)?);
        }
    }
    Ok(found)
}

fn walk_arrays(cx: &Cx<'_>, _: Option<Object>, visit: Visit<'_>) -> Result<()> {
    arrays(cx)?.iter().try_for_each(|array| visit(array.addr))
}

fn walk_events(cx: &Cx<'_>, at: Option<Object>, visit: Visit<'_>) -> Result<()> {
    let found = match at {
        Some(at) => vec![cx.view::<TraceArray>(at.addr)?],
        None => arrays(cx)?,
    };
    for array in &found {
        events(cx, array, &mut |event| visit(event.addr))?;
    }
    Ok(())
}

/// Walks trace arrays and their events.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "trace_array",
        doc: "walk ftrace's buffers: the top one, then each instance",
        item: "struct trace_array",
        address: Address::None,
        walk: walk_arrays,
    },
    WalkerEntry {
        name: "ring_buffer_event",
        doc: "walk the events of every trace array, or of the one at the address, oldest first",
        item: "struct ring_buffer_event",
        address: Address::Optional,
        walk: walk_events,
    },
];

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<TraceArray>(), ViewEntry::of::<Buffer>()];
