//! What the kernel itself has said about slab memory: SLUB's reports in its log (`slab_bug` in mm/slub.c).
//!
//! With `slub_debug=F` SLUB notices some sins when they are committed, says so, and mends or prevents them: a double
//! free is not carried out, an overwritten red zone is restored. Memory then tells nothing, and the log is all there is.

use super::{Finding, Kind};
use crate::{dmesg, slab::Slabs};
use engine::prelude::*;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    /// nanoseconds of the log's clock
    time: u64,
    /// address of the log's record
    record: u64,
    /// name of the cache
    cache: String,
    /// `Object already free`
    what: String,
    /// the object, if its address was not hashed
    object: Option<u64>,
}

/// Reports that are kept.
const MAX_REPORTS: usize = 1000;
/// Records after a report's first that may still tell its object.
const PATIENCE: u32 = 60;

/// The session's reports, oldest first; none if the log cannot be read, which is told where it is asked for.
fn all(session: &Session) -> Result<std::sync::Arc<Vec<Report>>> {
    session.once(|| {
        let (mut reports, mut patience) = (Vec::new(), 0);
        let read = dmesg::records(session, &mut |record| {
            let Ok(text) = &record.text else { return Ok(()) };
            for line in text.lines() {
                if let Some((cache, what)) = headline(line).filter(|_| reports.len() < MAX_REPORTS) {
                    let (time, record) = (record.info.time, record.info.addr);
                    reports.push(Report { time, record, cache: cache.into(), what, object: object(line) });
                    patience = PATIENCE;
                } else if let (Some(last), Some(object), 1..) = (reports.last_mut(), object(line), patience) {
                    last.object.get_or_insert(object);
                }
            }
            patience = patience.saturating_sub(1);
            Ok(())
        });
        match read {
            Err(e) if e.is_control() => Err(e),
            _ => Ok(reports),
        }
    })
}

/// `BUG kmalloc-64 (Tainted: G    B     ): Object already free`: the cache and what is said of it.
fn headline(line: &str) -> Option<(&str, String)> {
    if let Some((right, wrong)) = wrong_cache(line) {
        return Some((right, format!("freed to the wrong cache, {wrong}; the kernel put the object where it belongs")));
    }
    let (cache, rest) = line.strip_prefix("BUG ")?.split_once(" (")?;
    let (_, what) = rest.split_once("): ")?;
    Some((cache, meaning(what)))
}

/// The cache that an object is from, and the one that it was freed to:
/// `cache_from_obj: Wrong slab cache. zoo_b but object is from zoo_a`, since Linux 7.0
/// `kmem_cache_free(zoo_b, ffff8b6dc37220a0): object belongs to different cache zoo_a`.
fn wrong_cache(line: &str) -> Option<(&str, &str)> {
    if let Some((_, rest)) = line.split_once("Wrong slab cache. ") {
        let (wrong, right) = rest.split_once(" but object is from ")?;
        return Some((right.split_whitespace().next()?, wrong));
    }
    let (call, rest) = line.split_once("): object belongs to different cache ")?;
    let (wrong, _) = call.strip_prefix("kmem_cache_free(")?.split_once(", ")?;
    Some((rest.split_whitespace().next()?, wrong))
}

/// What a report says, with what it means.
fn meaning(what: &str) -> String {
    /// Words of a report, and the sin.
    const SINS: [(&str, &str); 9] = [
        ("already free", "double free; the kernel did not carry it out"),
        ("Right Redzone", "overflow; the kernel restored the bytes"),
        ("Left Redzone", "underflow, or overflow from the neighbour in front; the kernel restored the bytes"),
        ("kmalloc Redzone", "overflow past what kmalloc() was asked for; the kernel restored the bytes"),
        ("Poison overwritten", "use after free; the kernel restored the bytes"),
        (
            "nvalid object pointer",
            "an address that is no object's was freed, such as a member's; the kernel did not free it",
        ),
        ("remaining", "the cache was destroyed while objects of it were in use: they are lost"),
        ("padding", "overflow past the object's records; the kernel restored the bytes"),
        ("Free", "damaged list of free objects"),
    ];
    match SINS.iter().find(|(words, _)| what.contains(words)) {
        Some((_, sin)) => format!("{sin} ({what:?})"),
        None => format!("{what:?}"),
    }
}

/// `Object 0xffff8b6dc37220a0 @offset=160`, with `INFO: ` in front before Linux 5.12; or that of `wrong_cache`.
fn object(line: &str) -> Option<u64> {
    let address = match line.split_once("Object 0x") {
        Some((_, rest)) => rest.split_once(" @offset")?.0,
        None => line.strip_prefix("kmem_cache_free(")?.split_once(", ")?.1.split_once("): object")?.0,
    };
    // hashed ones have no upper half
    u64::from_str_radix(address, 16).ok().filter(|address| address >> 63 == 1)
}

/// What was said of one cache.
pub(super) fn of_cache(session: &Session, slabs: &Slabs, number: usize, out: &mut Vec<Finding>) -> Result<()> {
    let Some(cache) = slabs.caches.get(number) else { return Ok(()) };
    for report in all(session)?.iter().filter(|report| report.cache == cache.name()) {
        let home = report.object.and_then(|object| slabs.at(object));
        out.push(Finding {
            kind: Kind::Reported,
            cache: number,
            slab: home.map_or(0, |(_, slab)| slab.addr),
            object: report.object,
            state: match home.zip(report.object) {
                Some(((index, slab), object)) => {
                    let inside = object.wrapping_sub(slab.base) / u64::from(cache.size);
                    Some(slabs.free(session, number)?.state(index, u32::try_from(inside).unwrap_or(u32::MAX)))
                }
                None => None,
            },
            at: report.object.unwrap_or(report.record),
            expected: "no report in the log".into(),
            found: Vec::new(),
            differ: 0,
            end: report.object.unwrap_or(report.record),
            follows: Vec::new(),
            other: None,
            verdict: format!(
                "the kernel's log, {}.{:06} s: {}",
                report.time / NS,
                report.time % NS / 1000,
                report.what
            ),
            suspect: None,
        });
    }
    Ok(())
}

/// Nanoseconds of a second.
const NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_kernels_spell_them() {
        let (cache, what) =
            headline("BUG zoo_double (Tainted: G           OE     ): Object already free").unwrap_or_default();
        assert_eq!(cache, "zoo_double");
        assert!(what.starts_with("double free"), "{what}");
        let (cache, what) =
            headline("cache_from_obj: Wrong slab cache. zoo_b but object is from zoo_a").unwrap_or_default();
        assert_eq!(cache, "zoo_a");
        assert!(what.contains("zoo_b"), "{what}");
        let line = "kmem_cache_free(zoo_b, ffff8b6dc37220a0): object belongs to different cache zoo_a";
        let (cache, what) = headline(line).unwrap_or_default();
        assert_eq!((cache, object(line)), ("zoo_a", Some(0xffff_8b6d_c372_20a0)));
        assert!(what.contains("wrong cache, zoo_b"), "{what}");
        assert_eq!(headline("BUG: kernel NULL pointer dereference, address: 0000000000000000"), None);
        assert_eq!(object("Object 0xffff8b6dc37220a0 @offset=160 fp=0x0"), Some(0xffff_8b6d_c372_20a0));
        assert_eq!(object("INFO: Object 0x000000006cbd2a42 @offset=160"), None);
    }
}
