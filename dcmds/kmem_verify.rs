//! Damage in slab memory: `::kmem_verify`.
//!
//! ```console
//! > ::kmem_verify -n kmalloc-32 -v
//! ADDR             FINDING       CACHE      OBJECT           STATE     BYTES VERDICT
//! ff2b352c105997c0 redzone-right kmalloc-32 ff2b352c105997a0 allocated     1 overflow: 1 byte written past the end of this object
//!                  expected 0xcc:
//!                  ff2b352c105997b0: 6b 6b 6b 6b 6b 6b 6b a5  cc cc cc cc cc cc cc cc  |kkkkkkk.........|
//!                  ff2b352c105997c0: 58 cc cc cc cc cc cc cc  71 69 97 45 16 9c d9 e7  |X.......qi.E....|
//!                                    ^^
//!                  ff2b352c105997d0: de 40 58 c0 ff ff ff ff  61 00 d2 03 01 00 00 00  |.@X.....a.......|
//!                  allocated by thread 276 on CPU 1, 7.256000000 s after boot
//!                      labmod`lab_alloc_node+0x5e
//!                      labmod`lab_open+0x14
//!                      labmod`lab_write+0x180
//!                      proc_reg_write+0x5a
//!                      vfs_write+0xf8
//!                      ksys_write+0x6f
//!                      do_syscall_64+0x87
//!                      entry_SYSCALL_64_after_hwframe+0x76
//! ```
//!
//! One row for each place that is damaged: what it is (FINDING), where (ADDR is the first bad byte), how many bytes
//! differ, and a judgement in words. Below it is who allocated the object and who freed it, where `slub_debug` kept
//! that, and the same for the neighbour that is suspected; with `-v` for both neighbours. Without `slub_debug` free
//! lists, counters and lists of slabs are checked. What SLUB itself reported in the kernel's log, and may have mended, is
//! told as well. Exit status 1 if there are findings.

use crate::history;
use engine::{cprint::path, debuginfo::find::hex, prelude::*};
use walkers::slab::{
    self, Slabs, State,
    verify::{self, Fences, Finding, Seen},
};

/// Check the slab caches for corruption: all, or the one at the address.
#[derive(Args)]
pub struct KmemVerify {
    /// only the cache of this name
    #[arg(short = 'n', value_name = "NAME")]
    name: Option<String>,
    /// show the damaged bytes, what is around them, and who allocated and freed the neighbours
    #[arg(short = 'v')]
    verbose: bool,
    /// one row for each cache: how much was checked, and how many findings there are
    #[arg(short = 's')]
    summary: bool,
}

/// Damage.
#[derive(Row)]
struct FindingRow {
    /// the first bad byte
    addr: Addr,
    /// what is damaged
    finding: &'static str,
    /// the cache
    cache: String,
    /// the object
    object: Option<Object>,
    /// what the free lists say of it
    state: Option<&'static str>,
    /// the first bad byte, from the start of the object
    #[hidden]
    offset: Option<i64>,
    /// bytes that differ
    bytes: u64,
    /// bytes from the first bad one to the last that the same write is seen to have reached
    #[hidden]
    reach: u64,
    /// how many places are damaged as well by the same cause: `-v` has them
    #[hidden]
    follows: u64,
    /// what probably happened
    verdict: String,
    /// what should be there
    #[hidden]
    expected: String,
    /// what is there, in hex, from the first bad byte to the last, at most 64
    #[hidden]
    found: String,
    /// address of the slab
    #[hidden]
    slab: Option<Addr>,
    /// the object whose user is suspected, if that is another
    #[hidden]
    suspect: Option<Addr>,
    /// who allocated and freed it
    #[detail]
    history: Vec<String>,
}

/// What was checked of a cache.
#[derive(Row)]
struct SummaryRow {
    /// the cache
    addr: Object,
    /// its name
    name: String,
    /// what is fenced, of `FZPU`: consistency checks, red zones, poison, records of users
    debug: String,
    /// slabs whose memory was compared
    slabs: u64,
    /// its objects
    objects: u64,
    /// slabs whose memory is not in the dump
    missing: u64,
    /// places that are damaged
    #[hidden]
    findings: u64,
    /// `clean`, or how many places are damaged
    integrity: String,
}

/// `clean`, `1 finding`, `2 findings`
fn integrity(found: u64) -> String {
    match found {
        0 => "clean".into(),
        1 => "1 finding".into(),
        _ => format!("{found} findings"),
    }
}

/// Bytes before and behind the damage that `-v` shows: whole lines of 16.
const AROUND: u64 = 16;

/// The lines of a dump round the damage, with the bad bytes marked by `^^` below.
fn marked(cx: &Cx<'_>, finding: &Finding) -> Vec<String> {
    let len = finding.found.len().max(1) as u64;
    let start = (finding.at & !0xf).saturating_sub(AROUND);
    let end = finding.at.saturating_add(len).next_multiple_of(16).saturating_add(AROUND);
    let mut lines = Vec::new();
    for line in (start..end).step_by(16) {
        let mut bytes = [0; 16];
        if cx.read(line, &mut bytes).is_err() {
            lines.push(format!("{line:016x}: not in the dump"));
            continue;
        }
        let hex: Vec<String> = bytes.chunks(8).map(|half| half.iter().map(|b| format!("{b:02x} ")).collect()).collect();
        let text: String = bytes.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
        lines.push(format!("{line:016x}: {} |{text}|", hex.join(" ")));
        let is_bad = |i: usize| (finding.at..finding.at + len).contains(&(line + i as u64));
        if (0..16).any(is_bad) {
            let mark = |i: usize| format!("{}{}", if is_bad(i) { "^^ " } else { "   " }, if i == 7 { " " } else { "" });
            let marks: String = (0..16).map(mark).collect();
            lines.push(format!("{:18}{}", "", marks.trim_end()));
        }
    }
    lines
}

impl KmemVerify {
    /// The object by its member: `in lab_node.stamped`.
    fn member(cx: &Cx<'_>, cache: &slab::Cache, finding: &Finding) -> Option<String> {
        let ctype = slab::names::object_type(cx, cache)?;
        let offset = finding.at.checked_sub(finding.object?)?;
        let (name, _) = path::member_at(&cx.types, ctype, offset)?;
        (!name.is_empty()).then(|| format!("the first bad byte is in {}.{name}", cx.types.spell(ctype)))
    }

    /// Who allocated and freed the object that a write went on into from another: the record of the first may be among what
    /// was written over.
    fn reached(cx: &Cx<'_>, finding: &Finding, out: &mut Vec<String>) -> Result<()> {
        let Some(last) = slab::find(cx, finding.end.saturating_sub(1))? else { return Ok(()) };
        if finding.end <= finding.at || finding.object.is_none_or(|object| last.object <= object) {
            return Ok(());
        }
        let mut tracks = Vec::new();
        history::tracks(cx, last.cache, last.object, last.state, &mut tracks)?;
        if !tracks.is_empty() {
            out.push(format!("the object that it reached, {:x}, {}:", last.object, last.state.name()));
            out.append(&mut tracks);
        }
        Ok(())
    }

    /// Who allocated and freed the objects on both sides, as far as that was recorded.
    fn neighbours(cx: &Cx<'_>, cache: &slab::Cache, finding: &Finding, out: &mut Vec<String>) -> Result<()> {
        let Some(object) = finding.object else { return Ok(()) };
        let size = u64::from(cache.size);
        for (side, at) in [("in front", object.wrapping_sub(size)), ("behind", object.wrapping_add(size))] {
            let Some(found) = slab::find(cx, at)?.filter(|found| found.cache == finding.cache) else { continue };
            let mut tracks = Vec::new();
            history::tracks(cx, found.cache, found.object, found.state, &mut tracks)?;
            if finding.suspect != Some(found.object) && !tracks.is_empty() {
                out.push(format!("the neighbour {side}, {:x}, {}:", found.object, found.state.name()));
                out.append(&mut tracks);
            }
        }
        Ok(())
    }

    fn show(&self, cx: &Cx<'_>, slabs: &Slabs, finding: &Finding, out: &mut Out<'_>) -> Result<()> {
        let Some(cache) = slabs.caches.get(finding.cache) else { return Ok(()) };
        let mut history = Vec::new();
        if self.verbose && !finding.found.is_empty() {
            history.push(format!("expected {}:", finding.expected));
            history.extend(marked(cx, finding));
        }
        if self.verbose {
            let row = |f: &Finding| format!("from it follows, at {:x}, {}: {}", f.at, f.kind.name(), f.verdict);
            history.extend(finding.follows.iter().map(row));
        }
        history.extend(KmemVerify::member(cx, cache, finding));
        if let (Some(object), Some(state)) = (finding.object, finding.state) {
            history::tracks(cx, finding.cache, object, state, &mut history)?;
        }
        if let Some(suspect) = finding.suspect {
            let state = slab::find(cx, suspect)?.map_or(State::Unknown, |found| found.state);
            let mut tracks = Vec::new();
            history::tracks(cx, finding.cache, suspect, state, &mut tracks)?;
            if !tracks.is_empty() {
                history.push(format!("the neighbour in front, {suspect:x}:"));
                history.append(&mut tracks);
            }
        }
        KmemVerify::reached(cx, finding, &mut history)?;
        if self.verbose {
            KmemVerify::neighbours(cx, cache, finding, &mut history)?;
        }
        cx.env.found();
        out.row(FindingRow {
            addr: Addr(finding.at),
            finding: finding.kind.name(),
            cache: cache.name().into(),
            object: finding.object.map(|addr| Object { addr, ctype: slab::names::object_type(cx, cache) }),
            state: finding.state.map(State::name),
            offset: finding.object.map(|object| finding.at.wrapping_sub(object) as i64),
            bytes: finding.differ as u64,
            reach: finding.end.wrapping_sub(finding.at),
            follows: finding.follows.len() as u64,
            verdict: finding.verdict.clone() + &history::follows(finding.follows.len(), self.verbose),
            expected: finding.expected.clone(),
            found: hex(&finding.found),
            slab: (finding.slab != 0).then_some(Addr(finding.slab)),
            suspect: finding.suspect.map(Addr),
            history,
        })
    }

    fn summarize(cx: &Cx<'_>, slabs: &Slabs, number: usize, found: u64, seen: Seen, out: &mut Out<'_>) -> Result<()> {
        let Some(cache) = slabs.caches.get(number) else { return Ok(()) };
        let names = slab::cache::flag_names(cx, cache.flags);
        let letters = [("CONSISTENCY_CHECKS", 'F'), ("RED_ZONE", 'Z'), ("POISON", 'P'), ("STORE_USER", 'U')];
        let debug: String =
            letters.iter().filter(|(name, _)| names.contains(name)).map(|(_, letter)| *letter).collect();
        if found > 0 {
            cx.env.found();
        }
        out.row(SummaryRow {
            addr: cx.object("kmem_cache", cache.addr),
            name: cache.name().into(),
            debug: if debug.is_empty() { "-".into() } else { debug },
            slabs: seen.slabs,
            objects: seen.objects,
            missing: seen.missing,
            findings: found,
            integrity: integrity(found),
        })
    }
}

impl Dcmd for KmemVerify {
    const NAME: &'static str = "kmem_verify";
    const ROWS: &'static [&'static engine::Schema] = &[FindingRow::SCHEMA, SummaryRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let slabs = Slabs::of(cx)?;
        let caches: Vec<usize> = match (&self.name, at) {
            (Some(name), _) => slabs.caches.named(name).collect(),
            (None, Some(at)) => vec![slabs.caches.expect(at.addr)?],
            (None, None) => (0..slabs.caches.len()).collect(),
        };
        if let (Some(name), true) = (&self.name, caches.is_empty()) {
            return Err(Error::Usage(format!("no slab cache is named `{name}`")).hint("`::kmem_cache` lists them"));
        }
        slabs.free_all(cx)?;
        let fences = Fences::of(cx)?;
        let (mut missing, mut of_slabs) = (0, Vec::new());
        for number in caches {
            let (findings, seen) = verify::verify(cx, &slabs, &fences, number)?;
            missing += seen.missing;
            if self.summary {
                KmemVerify::summarize(cx, &slabs, number, findings.len() as u64, seen, out)?;
            } else {
                let (later, now): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(verify::is_of_slabs);
                now.iter().try_for_each(|finding| self.show(cx, &slabs, finding, out))?;
                of_slabs.extend(later);
            }
        }
        let of_slabs = verify::gather_stolen(of_slabs);
        of_slabs.iter().try_for_each(|finding| self.show(cx, &slabs, finding, out))?;
        verify::note_missing(cx, missing);
        Ok(())
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<KmemVerify>()];
