//! The files of a split dump (`makedumpfile --split`): each has all bitmaps, and the pages of a range of frames.

use std::ops::Range;

use super::header::Header;
use crate::source::Source;

/// A file and what its headers say.
pub(super) struct Member {
    /// as the user knows it
    pub name: String,
    pub source: Source,
    pub header: Header,
}

/// Whether the files are one dump; the error names the one that is not like the first.
pub(super) fn check(members: &[Member]) -> Result<(), String> {
    let [first, others @ ..] = members else { return Ok(()) };
    if others.is_empty() {
        return Ok(());
    }
    if let Some(whole) = members.iter().find(|m| m.header.part.is_none()) {
        return Err(format!("{} is a dump of its own, not a part of a split one: give it alone", whole.name));
    }
    for other in others {
        if let Some(what) = difference(first, other) {
            let (a, b) = (&first.name, &other.name);
            return Err(format!("{a} and {b} are parts of different dumps: {what}; leave one of them out"));
        }
    }
    // makedumpfile may leave the last parts without any page
    let has_pages = |m: &&Member| m.header.part.is_some_and(|(start, end)| start < end);
    let mut sorted: Vec<&Member> = members.iter().filter(has_pages).collect();
    sorted.sort_by_key(|m| m.header.part);
    for pair in sorted.windows(2) {
        let &[a, b] = pair else { continue };
        let (Some((start, end)), Some(next)) = (a.header.part, b.header.part) else { continue };
        if next == (start, end) {
            return Err(format!("{} and {} are the same part of the dump: leave one of them out", a.name, b.name));
        }
        if next.0 < end {
            return Err(format!(
                "{} and {} both have page frame {:#x}: they do not belong together",
                a.name, b.name, next.0
            ));
        }
    }
    Ok(())
}

/// What two parts of one dump cannot differ in.
fn difference(a: &Member, b: &Member) -> Option<&'static str> {
    let (left, right) = (&a.header, &b.header);
    let text = |m: &Member| m.header.vmcoreinfo.and_then(|(off, len)| m.source.slice(off, len).ok());
    let bits = |m: &Member| m.source.slice(m.header.bitmaps.0, m.header.bitmaps.1).ok();
    if left.uts != right.uts {
        return Some("their hosts or kernels differ");
    }
    let shape = |h: &Header| (h.version, h.order, h.block_size, h.max_mapnr, h.bitmaps);
    if shape(left) != shape(right) {
        return Some("their sizes of memory differ");
    }
    if text(a) != text(b) {
        return Some("their VMCOREINFO differs");
    }
    (bits(a) != bits(b)).then_some("their page bitmaps differ")
}

/// The page frames up to `end` that are in none of the `parts`, which are sorted.
pub(super) fn gaps(parts: impl Iterator<Item = Range<u64>>, end: u64) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    let mut at = 0;
    for part in parts.chain(std::iter::once(end..end)) {
        if at < part.start.min(end) {
            out.push(at..part.start.min(end));
        }
        at = at.max(part.end);
    }
    out
}
