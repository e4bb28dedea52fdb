//! The kernel's own image: its segments, by the symbols that the linker script sets (vmlinux.lds.S).

use engine::{Result, Session};
use std::{ops::Range, sync::Arc};

/// Segments: the symbols at their ends, and what they hold. The first that fits counts.
const SEGMENTS: &[(&str, &str, &str)] = &[
    ("_stext", "_etext", "text segment"),
    ("__start_rodata", "__end_rodata", "read-only data"),
    ("__init_begin", "__init_end", "init memory, which is freed after boot"),
    ("_sdata", "_edata", "data segment"),
    ("__bss_start", "__bss_stop", "bss"),
    ("_text", "_end", "image"),
];

struct Segments(Vec<(Range<u64>, &'static str)>);

impl Segments {
    fn of(session: &Session) -> Result<Arc<Segments>> {
        session.once(|| {
            let range = |(start, end, name): &(&str, &str, &'static str)| {
                Some((session.kernel_symbol(start)?..session.kernel_symbol(end)?, *name))
            };
            Ok(Segments(SEGMENTS.iter().filter_map(range).collect()))
        })
    }
}

/// The segment of the kernel's image that an address lies in.
pub fn segment(session: &Session, addr: u64) -> Option<&'static str> {
    let segments = Segments::of(session).ok()?;
    segments.0.iter().find(|(range, _)| range.contains(&addr)).map(|(_, name)| *name)
}
