//! The kernel's own image: its segments, by the symbols that the linker script sets (vmlinux.lds.S).

use engine::Session;

/// Segments: the symbols at their ends, and what they hold. The first that fits counts.
const SEGMENTS: &[(&str, &str, &str)] = &[
    ("_stext", "_etext", "text segment"),
    ("__start_rodata", "__end_rodata", "read-only data"),
    ("__init_begin", "__init_end", "init memory, which is freed after boot"),
    ("_sdata", "_edata", "data segment"),
    ("__bss_start", "__bss_stop", "bss"),
    ("_text", "_end", "image"),
];

/// The segment of the kernel's image that an address lies in.
pub fn segment(session: &Session, addr: u64) -> Option<&'static str> {
    let within = |(start, end, _): &&(&str, &str, &str)| {
        let (start, end) = (session.kernel_symbol(start), session.kernel_symbol(end));
        start.zip(end).is_some_and(|(start, end)| (start..end).contains(&addr))
    };
    SEGMENTS.iter().find(within).map(|(_, _, name)| *name)
}
