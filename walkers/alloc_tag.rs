//! Allocation profiling: a tag for each place in the code that allocates, with what is allocated there now
//! (CONFIG_MEM_ALLOC_PROFILING, since Linux 6.10; lib/alloc_tag.c).
//!
//! The tags of the kernel and of each module are an array in a section of their own; `alloc_tag_cttype` has them all.
//! Counting is off unless `sysctl.vm.mem_profiling` is set.

use crate::{percpu::Percpu, xarray};
use engine::{ViewEntry, prelude::*};
use std::ops::Range;

/// More tags than a kernel and its modules have.
const MAX_TAGS: u64 = 1 << 20;

/// A place that allocates: `struct alloc_tag`, which begins with a `struct codetag`.
#[derive(View, Clone, Debug)]
#[ctype("alloc_tag")]
struct Raw {
    #[addr]
    addr: u64,
    #[field("ct.lineno")]
    line: u32,
    #[field("ct.modname")]
    module: u64,
    #[field("ct.function")]
    function: u64,
    #[field("ct.filename")]
    file: u64,
    counters: u64,
}

/// What each CPU counts: `struct alloc_tag_counters`.
#[derive(View)]
#[ctype("alloc_tag_counters")]
struct Counters {
    bytes: u64,
    calls: u64,
}

/// A place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// address of its `struct alloc_tag`
    pub addr: u64,
    /// the function
    pub function: String,
    /// the source file
    pub file: String,
    /// the line
    pub line: u32,
    /// the module, if it is one's
    pub module: Option<String>,
}

/// The tags of the kernel, or of a module: `struct codetag_module`.
#[derive(View)]
#[ctype("codetag_module")]
struct Section {
    #[field("range.start")]
    start: u64,
    #[field("range.end", "range.stop")]
    end: u64,
}

/// Whether the kernel has such counters and counts.
pub fn is_on(session: &Session) -> bool {
    // a static key, which is 1 or more while it is on
    let key = session.kernel_symbol("mem_alloc_profiling_key");
    key.is_some_and(|at| session.u32(at).is_ok_and(|count| count as i32 > 0))
}

/// Shows each tag to `visit`, with the bytes that are allocated there, and by how many calls.
pub fn each(session: &Session, visit: &mut dyn FnMut(Tag, u64, u64) -> Result<()>) -> Result<()> {
    if !is_on(session) {
        return Err(Error::Unavailable(
            "the kernel does not count allocations by place (sysctl.vm.mem_profiling)".into(),
        ));
    }
    let size = session.size_of("alloc_tag")?.max(1);
    let mut left = MAX_TAGS;
    for section in sections(session)? {
        let count = (section.end.saturating_sub(section.start) / size).min(left);
        left -= count;
        for number in 0..count {
            let at = section.start + number * size;
            match read(session, at) {
                Ok((tag, bytes, calls)) => visit(tag, bytes, calls)?,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(at, format!("allocation tag: {}", e.kind())),
            }
        }
    }
    Ok(())
}

/// The arrays of tags: what the type of tag registered, or the kernel's alone.
fn sections(session: &Session) -> Result<Vec<Range<u64>>> {
    if let (Some(at), Ok(tree)) =
        (session.kernel_symbol("alloc_tag_cttype"), session.offset("codetag_type", "mod_idr.idr_rt"))
    {
        let mut out = Vec::new();
        let kind = session.u64(at)?;
        if kind != 0 {
            xarray::each(session, kind.wrapping_add(tree), &mut |_, at| {
                let section: Section = session.view(at)?;
                out.push(section.start..section.end);
                Ok(())
            })?;
            return Ok(out);
        }
    }
    let (start, end) = (session.symbol("__start_alloc_tags")?, session.symbol("__stop_alloc_tags")?);
    Ok(std::iter::once(start..end).collect())
}

fn read(session: &Session, at: u64) -> Result<(Tag, u64, u64)> {
    let raw: Raw = session.view(at)?;
    let (mut bytes, mut calls) = (0u64, 0u64);
    // a tag that never allocated may have no counters yet
    if raw.counters != 0 {
        for (_, at) in Percpu::of(session)?.copies(raw.counters) {
            let counters: Counters = session.view(at)?;
            bytes = bytes.wrapping_add(counters.bytes);
            calls = calls.wrapping_add(counters.calls);
        }
    }
    let text = |at: u64| session.cstr(at, 256);
    let module = if raw.module == 0 { None } else { Some(text(raw.module)?) };
    let tag = Tag { addr: raw.addr, function: text(raw.function)?, file: text(raw.file)?, line: raw.line, module };
    Ok((tag, bytes, calls))
}

/// Walks tags.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "alloc_tag",
    doc: "walk the places in the code that allocate, where the kernel counts what",
    item: "struct alloc_tag",
    address: Address::None,
    walk: |cx, _, visit| each(cx, &mut |tag, _, _| visit(tag.addr)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Raw>(), ViewEntry::of::<Counters>(), ViewEntry::of::<Section>()];
